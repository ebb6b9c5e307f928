//! Locks of the C library.

use super::*;
use std::mem::MaybeUninit;
use std::thread::spawn;

/// A C object that threads share.
struct Shared<T>(MaybeUninit<T>);
// SAFETY: C objects that are made to be shared.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Zeros, which is how these begin.
    fn leak() -> &'static Shared<T> {
        Box::leak(Box::new(Shared(MaybeUninit::zeroed())))
    }

    fn get(&self) -> *mut T {
        self.0.as_ptr().cast_mut()
    }
}

/// Four threads do `f` many times with a word of memory.
fn four(f: impl Fn(usize) + Copy + Send + 'static) -> usize {
    let detector = Detector::take();
    let data = memory(8);
    let threads = [(); 4].map(|()| spawn(move || (0..200).for_each(|_| f(data))));
    threads.into_iter().for_each(|t| t.join().unwrap());
    detector.races()
}

#[test]
fn a_mutex_orders() {
    let lock = Shared::<libc::pthread_mutex_t>::leak();
    let locked = move |data| {
        // SAFETY: a mutex.
        assert_eq!(unsafe { libc::pthread_mutex_lock(lock.get()) }, 0);
        write(data);
        // SAFETY: locked above.
        unsafe { libc::pthread_mutex_unlock(lock.get()) };
    };
    assert_eq!(four(locked), 0);
}

#[test]
fn a_read_write_lock_orders_writers_with_all() {
    let lock = Shared::<libc::pthread_rwlock_t>::leak();
    let locked = move |data| {
        // SAFETY: a lock.
        assert_eq!(unsafe { libc::pthread_rwlock_rdlock(lock.get()) }, 0);
        read(data);
        // SAFETY: locked above.
        unsafe { libc::pthread_rwlock_unlock(lock.get()) };
        // SAFETY: a lock.
        assert_eq!(unsafe { libc::pthread_rwlock_wrlock(lock.get()) }, 0);
        write(data);
        // SAFETY: locked above.
        unsafe { libc::pthread_rwlock_unlock(lock.get()) };
    };
    assert_eq!(four(locked), 0);
}

#[test]
fn readers_are_not_ordered() {
    let detector = Detector::take();
    let lock = Shared::<libc::pthread_rwlock_t>::leak();
    let data = memory(8);
    let threads = [(); 2].map(|()| {
        spawn(move || {
            // SAFETY: a lock.
            assert_eq!(unsafe { libc::pthread_rwlock_rdlock(lock.get()) }, 0);
            write(data);
            // SAFETY: locked above.
            unsafe { libc::pthread_rwlock_unlock(lock.get()) };
        })
    });
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(detector.races(), 1);
}

#[test]
fn a_semaphore_and_a_condition_order() {
    let detector = Detector::take();
    let (semaphore, data) = (Shared::<libc::sem_t>::leak(), memory(8));
    // SAFETY: room for it.
    unsafe { libc::sem_init(semaphore.get(), 0, 0) };
    let thread = spawn(move || {
        write(data);
        // SAFETY: a semaphore.
        unsafe { libc::sem_post(semaphore.get()) };
    });
    // SAFETY: a semaphore.
    unsafe { libc::sem_wait(semaphore.get()) };
    write(data);
    thread.join().unwrap();

    let (lock, condition) = (
        Shared::<libc::pthread_mutex_t>::leak(),
        Shared::<libc::pthread_cond_t>::leak(),
    );
    static READY: AtomicUsize = AtomicUsize::new(0);
    let thread = spawn(move || {
        // SAFETY: a mutex.
        unsafe { libc::pthread_mutex_lock(lock.get()) };
        write(data);
        READY.store(1, Relaxed);
        // SAFETY: a condition variable.
        unsafe { libc::pthread_cond_signal(condition.get()) };
        // SAFETY: locked above.
        unsafe { libc::pthread_mutex_unlock(lock.get()) };
    });
    // SAFETY: a mutex.
    unsafe { libc::pthread_mutex_lock(lock.get()) };
    while READY.load(Relaxed) == 0 {
        // SAFETY: with the mutex locked.
        unsafe { libc::pthread_cond_wait(condition.get(), lock.get()) };
    }
    write(data);
    // SAFETY: locked above.
    unsafe { libc::pthread_mutex_unlock(lock.get()) };
    thread.join().unwrap();
    assert_eq!(detector.races(), 0);
}

#[test]
fn once_orders_every_caller() {
    unsafe extern "C" {
        fn pthread_once(control: *mut i32, routine: extern "C" fn()) -> i32;
    }
    static DATA: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn routine() {
        write(DATA.load(Relaxed));
    }
    let detector = Detector::take();
    DATA.store(memory(8), Relaxed);
    let control = Shared::<i32>::leak();
    let threads = [(); 4].map(|()| {
        spawn(move || {
            // SAFETY: a control word and its routine.
            unsafe { pthread_once(control.get(), routine) };
            read(DATA.load(Relaxed));
        })
    });
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(detector.races(), 0);
}

#[test]
fn a_barrier_orders_those_who_meet() {
    let detector = Detector::take();
    let barrier = Shared::<libc::pthread_barrier_t>::leak();
    // SAFETY: room for it.
    unsafe { libc::pthread_barrier_init(barrier.get(), std::ptr::null(), 3) };
    let data = memory(24);
    let threads = [0, 8, 16].map(|mine| {
        spawn(move || {
            for _ in 0..20 {
                write(data + mine);
                // SAFETY: a barrier.
                unsafe { libc::pthread_barrier_wait(barrier.get()) };
                [0, 8, 16].iter().for_each(|at| read(data + at));
                // SAFETY: a barrier.
                unsafe { libc::pthread_barrier_wait(barrier.get()) };
            }
        })
    });
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(detector.races(), 0);
}

unsafe extern "C" {
    fn pthread_mutexattr_setrobust(attr: *mut libc::pthread_mutexattr_t, robust: i32) -> i32;
    fn pthread_mutex_consistent(mutex: *mut libc::pthread_mutex_t) -> i32;
    fn mtx_init(mutex: *mut libc::pthread_mutex_t, kind: i32) -> i32;
    fn mtx_lock(mutex: *mut libc::pthread_mutex_t) -> i32;
    fn mtx_unlock(mutex: *mut libc::pthread_mutex_t) -> i32;
    fn cnd_wait(condition: *mut libc::pthread_cond_t, mutex: *mut libc::pthread_mutex_t) -> i32;
    fn cnd_signal(condition: *mut libc::pthread_cond_t) -> i32;
    fn call_once(control: *mut i32, routine: extern "C" fn());
    fn flockfile(file: *mut libc::FILE);
    fn ftrylockfile(file: *mut libc::FILE) -> i32;
    fn funlockfile(file: *mut libc::FILE);
    fn printf(format: *const i8, ...) -> i32;
    fn fprintf(file: *mut libc::FILE, format: *const i8, ...) -> i32;
}

/// A mutex of a kind, robust or not, and whether it gives its priority on.
fn mutex_of(kind: i32, robust: i32, protocol: i32) -> &'static Shared<libc::pthread_mutex_t> {
    let mut attr = MaybeUninit::zeroed();
    let mutex = Shared::<libc::pthread_mutex_t>::leak();
    // SAFETY: room for them.
    unsafe { libc::pthread_mutexattr_init(attr.as_mut_ptr()) };
    // SAFETY: initialised.
    let attr = unsafe { attr.assume_init_mut() };
    // SAFETY: initialised.
    assert_eq!(unsafe { libc::pthread_mutexattr_settype(attr, kind) }, 0);
    // SAFETY: initialised.
    assert_eq!(unsafe { pthread_mutexattr_setrobust(attr, robust) }, 0);
    assert_eq!(
        // SAFETY: initialised.
        unsafe { libc::pthread_mutexattr_setprotocol(attr, protocol) },
        0
    );
    // SAFETY: room for it.
    assert_eq!(unsafe { libc::pthread_mutex_init(mutex.get(), attr) }, 0);
    mutex
}

#[test]
fn mutexes_of_every_kind_order() {
    let kinds = [
        libc::PTHREAD_MUTEX_NORMAL,
        libc::PTHREAD_MUTEX_RECURSIVE,
        libc::PTHREAD_MUTEX_ERRORCHECK,
        libc::PTHREAD_MUTEX_ADAPTIVE_NP,
    ];
    for kind in kinds {
        for (robust, protocol) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let lock = mutex_of(kind, robust, protocol);
            let locked = move |data| {
                // SAFETY: a mutex.
                assert_eq!(unsafe { libc::pthread_mutex_lock(lock.get()) }, 0);
                write(data);
                // SAFETY: locked above.
                assert_eq!(unsafe { libc::pthread_mutex_unlock(lock.get()) }, 0);
            };
            assert_eq!(four(locked), 0, "{kind} {robust} {protocol}");
        }
    }
}

/// Who does not have the mutex cannot give it back: the next owner is ordered after the last one still.
#[test]
fn an_unlock_that_fails_releases_nothing() {
    let kinds = [
        (libc::PTHREAD_MUTEX_ERRORCHECK, 0, 0),
        (libc::PTHREAD_MUTEX_RECURSIVE, 0, 0),
        (libc::PTHREAD_MUTEX_NORMAL, 1, 0),
        (libc::PTHREAD_MUTEX_NORMAL, 0, 1),
    ];
    for (kind, robust, protocol) in kinds {
        let detector = Detector::take();
        let lock = mutex_of(kind, robust, protocol);
        let data = memory(8);
        let step: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
        let locked = move || {
            // SAFETY: a mutex.
            assert_eq!(unsafe { libc::pthread_mutex_lock(lock.get()) }, 0);
            write(data);
            // SAFETY: locked above.
            assert_eq!(unsafe { libc::pthread_mutex_unlock(lock.get()) }, 0);
        };
        let other = spawn(move || {
            wait_until(step, 1);
            // SAFETY: a mutex.
            let error = unsafe { libc::pthread_mutex_unlock(lock.get()) };
            assert_eq!(error, libc::EPERM);
            if kind == libc::PTHREAD_MUTEX_ERRORCHECK {
                let condition = Shared::<libc::pthread_cond_t>::leak();
                // SAFETY: a condition variable, and a mutex that it cannot give back.
                let error = unsafe { libc::pthread_cond_wait(condition.get(), lock.get()) };
                assert_eq!(error, libc::EPERM);
            }
            step.store(2, Release);
        });
        let owner = spawn(move || {
            locked();
            step.store(1, Release);
        });
        wait_until(step, 2);
        locked();
        [other, owner].into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(detector.races(), 0, "{kind} {robust} {protocol}");
    }
}

#[test]
fn who_gets_the_mutex_of_a_dead_owner_is_ordered_after_it() {
    for protocol in [0, 1] {
        let detector = Detector::take();
        let locks = [(); 3].map(|()| mutex_of(libc::PTHREAD_MUTEX_NORMAL, 1, protocol));
        let data = memory(24);
        let at = [0, 8, 16].map(|at| data + at);
        let owner = spawn(move || {
            for (lock, at) in locks.iter().zip(at) {
                // SAFETY: a mutex.
                assert_eq!(unsafe { libc::pthread_mutex_lock(lock.get()) }, 0);
                write(at);
            }
        });
        wait_until_over(&owner);
        for (lock, at) in locks.iter().zip(at) {
            // SAFETY: a mutex.
            let error = unsafe { libc::pthread_mutex_lock(lock.get()) };
            assert_eq!(error, libc::EOWNERDEAD);
            write(at);
            // SAFETY: the caller has it.
            assert_eq!(unsafe { pthread_mutex_consistent(lock.get()) }, 0);
            // SAFETY: the caller has it.
            assert_eq!(unsafe { libc::pthread_mutex_unlock(lock.get()) }, 0);
        }
        assert_eq!(detector.races(), 0);
        owner.join().unwrap();
    }
}

#[test]
fn c11_locks_order() {
    let lock = Shared::<libc::pthread_mutex_t>::leak();
    // SAFETY: room for it.
    assert_eq!(unsafe { mtx_init(lock.get(), 0) }, 0);
    let locked = move |data| {
        // SAFETY: a mutex.
        assert_eq!(unsafe { mtx_lock(lock.get()) }, 0);
        write(data);
        // SAFETY: locked above.
        assert_eq!(unsafe { mtx_unlock(lock.get()) }, 0);
    };
    assert_eq!(four(locked), 0);

    let detector = Detector::take();
    let (condition, data) = (Shared::<libc::pthread_cond_t>::leak(), memory(8));
    static READY: AtomicUsize = AtomicUsize::new(0);
    let thread = spawn(move || {
        // SAFETY: a mutex.
        unsafe { mtx_lock(lock.get()) };
        write(data);
        READY.store(1, Relaxed);
        // SAFETY: a condition variable.
        unsafe { cnd_signal(condition.get()) };
        // SAFETY: locked above.
        unsafe { mtx_unlock(lock.get()) };
    });
    // SAFETY: a mutex.
    unsafe { mtx_lock(lock.get()) };
    while READY.load(Relaxed) == 0 {
        // SAFETY: with the mutex locked.
        unsafe { cnd_wait(condition.get(), lock.get()) };
    }
    write(data);
    // SAFETY: locked above.
    unsafe { mtx_unlock(lock.get()) };
    thread.join().unwrap();

    static DATA: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn routine() {
        write(DATA.load(Relaxed));
    }
    DATA.store(memory(8), Relaxed);
    let control = Shared::<i32>::leak();
    let threads = [(); 4].map(|()| {
        spawn(move || {
            // SAFETY: a flag and its routine.
            unsafe { call_once(control.get(), routine) };
            read(DATA.load(Relaxed));
        })
    });
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(detector.races(), 0);
}

/// A stream of its own, in a temporary file.
fn stream() -> *mut libc::FILE {
    // SAFETY: no preconditions.
    let stream = unsafe { libc::tmpfile() };
    assert!(!stream.is_null());
    stream
}

#[test]
fn the_lock_of_a_stream_orders() {
    let stream = stream().expose_provenance();
    let get = move || std::ptr::with_exposed_provenance_mut::<libc::FILE>(stream);
    let locked = move |data| {
        // SAFETY: a stream.
        unsafe { flockfile(get()) };
        write(data);
        // SAFETY: locked above.
        unsafe { funlockfile(get()) };
    };
    assert_eq!(four(locked), 0);
    let tried = move |data| {
        // SAFETY: a stream.
        while unsafe { ftrylockfile(get()) } != 0 {
            std::thread::yield_now();
        }
        write(data);
        // SAFETY: locked above.
        unsafe { funlockfile(get()) };
    };
    assert_eq!(four(tried), 0);
    // SAFETY: the test's own stream.
    unsafe { libc::fclose(get()) };
}

/// One writes to a stream, another one learns of it by a call that takes the stream's lock.
#[test]
fn calls_that_take_the_lock_of_a_stream_order() {
    type Write = fn(*mut libc::FILE);
    let writes: [Write; 4] = [
        |f| {
            // SAFETY: a stream.
            assert!(unsafe { libc::fputs(c"12345".as_ptr(), f) } >= 0);
        },
        |f| {
            let text = c"12345".as_ptr();
            // SAFETY: a stream, and five bytes.
            assert_eq!(unsafe { libc::fwrite(text.cast(), 1, 5, f) }, 5);
        },
        |f| {
            let (format, text) = (c"%d%s%.0f".as_ptr(), c"34".as_ptr());
            // SAFETY: a stream, and what the format asks for.
            assert_eq!(unsafe { fprintf(f, format, 12, text, 5.0) }, 5);
        },
        // As many arguments as lie on the stack.
        |f| {
            let (a, b, none) = (c"1".as_ptr(), c"2".as_ptr(), c"".as_ptr());
            let format = c"%s%s%d%.0f%s%.0f%s%s".as_ptr();
            // SAFETY: a stream, and what the format asks for.
            let n = unsafe { fprintf(f, format, a, b, 3, 4.0, none, 5.0, none, none) };
            assert_eq!(n, 5);
        },
    ];
    for write_it in writes {
        let detector = Detector::take();
        let data = memory(8);
        let stream = stream().expose_provenance();
        let get = move || std::ptr::with_exposed_provenance_mut::<libc::FILE>(stream);
        let thread = spawn(move || {
            write(data);
            write_it(get());
        });
        // SAFETY: a stream.
        while unsafe { libc::ftell(get()) } < 5 {
            std::thread::yield_now();
        }
        write(data);
        thread.join().unwrap();
        assert_eq!(detector.races(), 0);
        // SAFETY: a stream.
        unsafe { libc::rewind(get()) };
        let mut text = [0_i8; 8];
        // SAFETY: a stream, and room for what is in it.
        assert!(!unsafe { libc::fgets(text.as_mut_ptr(), 8, get()) }.is_null());
        assert_eq!(text.map(i8::cast_unsigned), *b"12345\0\0\0");
        // SAFETY: the test's own stream.
        unsafe { libc::fclose(get()) };
    }
    // SAFETY: a format without arguments.
    assert_eq!(unsafe { printf(c"".as_ptr()) }, 0);
}
