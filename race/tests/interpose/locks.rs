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
