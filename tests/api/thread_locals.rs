//! A goroutine is a thread as far as Rust can tell: `thread_local!`, panics and `thread::current()` are its own and
//! follow it from one OS thread to another.
//!
//! Where the thread-local mode is "thread" they cannot follow. There a goroutine is held only to what it keeps from one
//! park to the next: `wander` stays put, and `follows()` guards what more is asked elsewhere.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use raddle::chan;

/// Whether thread-locals are the goroutine's.
pub(crate) fn follows() -> bool {
    raddle::runtime::tls_mode() != "thread"
}

/// Parks `rounds` times, in ways that often end on another OS thread.
fn wander(rounds: usize) {
    if follows() {
        for _ in 0..rounds {
            let (tx, rx) = chan::bounded(0);
            raddle::go(move || tx.send(()).unwrap());
            rx.recv().unwrap();
            raddle::yield_now();
        }
    }
}

pub(crate) fn values_survive_a_park_inside_with() {
    thread_local! {
        static PLAIN: Cell<u64> = const { Cell::new(0) };
        static LAZY: RefCell<Vec<u64>> = RefCell::new(Vec::with_capacity(1));
    }
    let weave = |me: u64| {
        PLAIN.with(|plain| {
            plain.set(me);
            LAZY.with(|lazy| {
                let address = std::ptr::from_ref(lazy).addr();
                for round in 0..20 {
                    lazy.borrow_mut().push(me + round);
                    wander(1);
                    assert_eq!(plain.get(), me);
                    assert_eq!(LAZY.with(|lazy| std::ptr::from_ref(lazy).addr()), address);
                    assert_eq!(lazy.borrow().last(), Some(&(me + round)));
                }
            });
        });
    };
    raddle::scope(|s| {
        for me in 1..50 {
            s.go(move || weave(me * 1000));
        }
    });
}

pub(crate) fn a_park_inside_a_drop_while_unwinding_keeps_the_panic_count() {
    struct Wanders;
    impl Drop for Wanders {
        fn drop(&mut self) {
            assert!(thread::panicking());
            wander(5);
            assert!(thread::panicking(), "the panic count stayed behind");
            // A second panic, caught, within the first.
            let caught = catch_unwind(|| panic!("inner"));
            assert!(caught.is_err());
            wander(2);
            assert!(thread::panicking());
        }
    }
    let unwind = || {
        for _ in 0..3 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _wanders = Wanders;
                panic!("outer");
            }));
            assert!(caught.is_err());
            assert!(!thread::panicking(), "another goroutine's panic came along");
            wander(2);
            assert!(!thread::panicking());
        }
    };
    raddle::scope(|s| {
        for _ in 0..16 {
            s.go(unwind);
        }
    });
}

pub(crate) fn the_thread_id_stays_and_is_the_goroutines_own() {
    let handles: Vec<_> = (0..50)
        .map(|_| {
            raddle::go(|| {
                let id = thread::current().id();
                for _ in 0..10 {
                    wander(1);
                    assert_eq!(thread::current().id(), id);
                }
                id
            })
        })
        .collect();
    let ids: HashSet<_> = handles
        .into_iter()
        .map(|handle| handle.join().unwrap())
        .collect();
    if follows() {
        assert_eq!(ids.len(), 50);
    }
}

pub(crate) fn destructors_run_before_join_returns() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    thread_local!(static LAST: RefCell<Option<Counts>> = const { RefCell::new(None) });

    let drops = Arc::new(AtomicUsize::new(0));
    for round in 1..=100 {
        let counts = Counts(drops.clone());
        let handle = raddle::go(move || {
            LAST.set(Some(counts));
            wander(1);
        });
        handle.join().unwrap();
        if follows() {
            assert_eq!(drops.load(Ordering::Relaxed), round);
        }
    }
}

pub(crate) fn a_fresh_goroutine_finds_fresh_values() {
    thread_local!(static VISITS: Cell<u32> = const { Cell::new(0) });
    for _ in 0..200 {
        let visits = raddle::go(|| VISITS.replace(VISITS.get() + 1))
            .join()
            .unwrap();
        if follows() {
            assert_eq!(visits, 0, "a recycled goroutine kept the old one's value");
        }
    }
}

/// The address of `errno` is a thread-local's, and the optimiser keeps it over a park. That is right where it follows the
/// goroutine; where it does not, a release build reads another thread's here: one more reason for `wander` to stay put.
pub(crate) fn errno_is_read_where_the_call_was_made() {
    fn fail(rounds: usize, call: impl Fn() -> i32, expected: i32) {
        for _ in 0..rounds {
            assert_eq!(call(), -1);
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(expected));
            wander(1);
        }
    }
    fn close_nothing() -> i32 {
        // SAFETY: no descriptor has a negative number, so nothing is closed.
        unsafe { libc::close(-1) }
    }
    fn go_nowhere() -> i32 {
        // SAFETY: a null path is refused, not read.
        unsafe { libc::chdir(std::ptr::null()) }
    }
    raddle::scope(|s| {
        for _ in 0..8 {
            s.go(|| fail(100, close_nothing, libc::EBADF));
            s.go(|| fail(100, go_nowhere, libc::EFAULT));
        }
    });
}

pub(crate) fn os_threads_start_and_end_inside() {
    raddle::scope(|s| {
        for i in 0..8 {
            s.go(move || {
                let thread = thread::spawn(move || {
                    thread_local!(static OWN: Cell<usize> = const { Cell::new(7) });
                    OWN.replace(i)
                });
                assert_eq!(raddle::blocking(|| thread.join().unwrap()), 7);
                wander(3);
            });
        }
    });
}
