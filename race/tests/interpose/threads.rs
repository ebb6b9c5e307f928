//! Creation, joining and the end of threads.

use super::*;
use std::ffi::c_void;
use std::ptr;
use std::thread::spawn;

#[test]
fn creation_and_join_order_a_thread() {
    let detector = Detector::take();
    let data = memory(8);
    write(data);
    spawn(move || write(data)).join().unwrap();
    write(data);
    assert_eq!(detector.races(), 0);
}

#[test]
fn a_thread_races_with_its_creator() {
    let detector = Detector::take();
    let data = memory(16);
    let thread = spawn(move || {
        write(data);
        write(data + 8);
    });
    write(data);
    thread.join().unwrap();
    write(data + 8);
    assert_eq!(detector.races(), 1);
}

#[test]
fn two_threads_race() {
    let detector = Detector::take();
    let data = memory(8);
    let threads = [(); 2].map(|()| spawn(move || write(data)));
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(detector.races(), 1);
}

#[test]
fn a_detached_thread_is_ordered_with_nobody() {
    let detector = Detector::take();
    let data = memory(8);
    static DONE: AtomicUsize = AtomicUsize::new(0);
    write(data);
    drop(spawn(move || {
        write(data);
        DONE.store(1, Release);
    }));
    wait_until(&DONE, 1);
    write(data);
    assert_eq!(detector.races(), 1);
}

/// The context outlives thread-locals and the destructors of keys, also those that ask to be called again.
#[test]
fn destructors_are_the_threads() {
    let detector = Detector::take();
    struct AtEnd(usize);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            write(self.0);
        }
    }
    thread_local!(static AT_END: Cell<Option<AtEnd>> = const { Cell::new(None) });
    unsafe extern "C" fn at_end(addr: *mut c_void) {
        write(addr.addr());
        static AGAIN: AtomicUsize = AtomicUsize::new(0);
        if AGAIN.fetch_add(1, Relaxed) == 0 {
            // SAFETY: the key exists.
            unsafe { libc::pthread_setspecific(KEY.load(Relaxed) as u32, addr) };
        }
    }
    static KEY: AtomicUsize = AtomicUsize::new(0);
    let mut key = 0;
    assert_eq!(
        // SAFETY: a place for the key, and a destructor of the right type.
        unsafe { libc::pthread_key_create(&mut key, Some(at_end)) },
        0
    );
    KEY.store(key as usize, Relaxed);
    let data = memory(16);
    let live = || {
        spawn(move || {
            AT_END.set(Some(AtEnd(data)));
            // SAFETY: the key exists.
            unsafe { libc::pthread_setspecific(key, ptr::without_provenance(data + 8)) };
        })
    };
    live().join().unwrap();
    write(data);
    write(data + 8);
    assert_eq!(detector.races(), 0, "join comes after destructors");
    let thread = live();
    write(data);
    write(data + 8);
    thread.join().unwrap();
    assert_eq!(detector.races(), 2, "destructors count");
}

#[test]
fn tryjoin_orders_when_it_succeeds() {
    let detector = Detector::take();
    static GO: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn body(data: *mut c_void) -> *mut c_void {
        wait_until(&GO, 1);
        write(data.addr());
        data
    }
    let data = memory(8);
    let mut thread = 0;
    let arg = ptr::without_provenance_mut(data);
    assert_eq!(
        // SAFETY: the routine has the right type.
        unsafe { libc::pthread_create(&mut thread, ptr::null(), body, arg) },
        0
    );
    unsafe extern "C" {
        fn pthread_tryjoin_np(thread: libc::pthread_t, result: *mut *mut c_void) -> i32;
    }
    let mut result = ptr::null_mut();
    // SAFETY: the thread is not joined yet.
    let mut join = || unsafe { pthread_tryjoin_np(thread, &mut result) };
    assert_eq!(join(), libc::EBUSY);
    GO.store(1, Release);
    while join() != 0 {}
    assert_eq!(result, arg);
    write(data);
    assert_eq!(detector.races(), 0);
}

/// More threads than slots, all alive at once: the later ones leave no marks, and nothing is false.
#[test]
fn three_hundred_threads_at_once() {
    let detector = Detector::take();
    let data = memory(8 * 300);
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    let threads: Vec<_> = (0..300)
        .map(|i| {
            write(data + 8 * i);
            spawn(move || {
                ALIVE.fetch_add(1, AcqRel);
                write(data + 8 * i);
                wait_until(&ALIVE, 300);
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    (0..300).for_each(|i| write(data + 8 * i));
    assert_eq!(detector.races(), 0);
}

/// Thousands of threads, a few at a time, on stacks and under handles that are used again.
#[test]
fn stacks_and_handles_are_used_again() {
    let detector = Detector::take();
    let start = || {
        spawn(|| {
            let local = 0u64;
            let on_stack = ptr::from_ref(&local).addr();
            write(on_stack);
            spawn(move || read(on_stack)).join().unwrap();
        })
    };
    for _ in 0..300 {
        let joined = [(); 4].map(|()| start());
        drop(start());
        joined.into_iter().for_each(|t| t.join().unwrap());
    }
    assert_eq!(detector.races(), 0);
}

#[test]
fn ids_are_the_hosts_and_end_with_the_thread() {
    let _detector = Detector::take();
    let id = spawn(|| {
        // SAFETY: the context is not used.
        let (_, id) = unsafe { race::thread_attach() };
        assert!(race::thread_running(id));
        id
    });
    let id = id.join().unwrap();
    assert!(id >= race::FIRST_THREAD_ID);
    assert!(!race::thread_running(id));
}

#[test]
fn a_thread_that_is_waited_for_keeps_its_name() {
    let _detector = Detector::take();
    let name_of = |id| {
        let mut name = None;
        race::thread_name(id, &mut |its| name = Some(its.to_owned()));
        name
    };
    let thread = std::thread::Builder::new().name("waited for".into());
    let thread = thread.spawn(move || {
        // SAFETY: the context is not used.
        let (_, id) = unsafe { race::thread_attach() };
        // Whoever made it is on its way into `join` or there: both ways it is known.
        for _ in 0..1000 {
            assert!(race::thread_running(id));
            assert_eq!(name_of(id).as_deref(), Some("waited for"));
            // SAFETY: no preconditions.
            let me = unsafe { libc::pthread_self() };
            assert_eq!(race::thread_with_handle(me), Some(id));
        }
        id
    });
    let id = thread.unwrap().join().unwrap();
    assert_eq!(name_of(id), None);
}

#[test]
fn a_thread_has_the_whole_of_its_own_name_and_of_no_other() {
    const LONG: &str = "a thread with a name of more than the kernel's 15 bytes";
    let _detector = Detector::take();
    let my_name = || {
        // SAFETY: the context is not used.
        let (_, id) = unsafe { race::thread_attach() };
        let mut name = None;
        race::thread_name(id, &mut |its| name = Some(its.to_owned()));
        name
    };
    let thread = std::thread::Builder::new().name(LONG.into());
    let thread = thread.spawn(move || {
        assert_eq!(my_name().as_deref(), Some(LONG));
        // The kernel gives the child its creator's name.
        assert_eq!(spawn(my_name).join().unwrap(), None);
        // SAFETY: no preconditions.
        let me = unsafe { libc::pthread_self() };
        // SAFETY: the own thread, and a C string.
        unsafe { libc::pthread_setname_np(me, c"another".as_ptr()) };
        assert_eq!(my_name().as_deref(), Some("another"));
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn what_is_created_unwatched_is_not_watched() {
    let _detector = Detector::take();
    let thread = race::unwatched(|| spawn(|| !race::has_current()));
    assert!(thread.join().unwrap());
    assert!(race::has_current());
}

#[test]
fn c11_threads_are_watched() {
    unsafe extern "C-unwind" {
        fn thrd_create(
            thread: *mut libc::pthread_t,
            routine: extern "C-unwind" fn(*mut c_void) -> i32,
            arg: *mut c_void,
        ) -> i32;
        fn thrd_join(thread: libc::pthread_t, result: *mut i32) -> i32;
        fn thrd_exit(result: i32) -> !;
        fn thrd_detach(thread: libc::pthread_t) -> i32;
    }
    extern "C-unwind" fn body(data: *mut c_void) -> i32 {
        write(data.addr());
        DONE.fetch_add(1, Release);
        -7
    }
    extern "C-unwind" fn leaves(data: *mut c_void) -> i32 {
        write(data.addr());
        // SAFETY: nothing is to be dropped.
        unsafe { thrd_exit(5) }
    }
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let detector = Detector::take();
    let (data, mut thread, mut result) = (memory(16), 0, 0);
    let arg = ptr::without_provenance_mut(data);
    for (routine, expected) in [(body as extern "C-unwind" fn(_) -> _, -7), (leaves, 5)] {
        write(data);
        // SAFETY: a place for the thread, and a routine of the right type.
        assert_eq!(unsafe { thrd_create(&mut thread, routine, arg) }, 0);
        // SAFETY: a thread that nobody else joins.
        assert_eq!(unsafe { thrd_join(thread, &mut result) }, 0);
        assert_eq!(result, expected);
        write(data);
    }
    assert_eq!(detector.races(), 0, "creation and join");
    let arg = ptr::without_provenance_mut(data + 8);
    // SAFETY: a place for the thread, and a routine of the right type.
    assert_eq!(unsafe { thrd_create(&mut thread, body, arg) }, 0);
    // SAFETY: a thread that nobody joins.
    assert_eq!(unsafe { thrd_detach(thread) }, 0);
    wait_until(&DONE, 2);
    write(data + 8);
    assert_eq!(detector.races(), 1, "a detached one");
}
