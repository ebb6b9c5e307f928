//! Once, and the cells made of it, one behaviour a test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Background, in_background, panic_text, until};
use crate::sync::{Lazy, Once, OnceCell};

#[test]
fn runs_once_and_all_see_it_done() {
    for _ in 0..200 {
        let once = Arc::new((Once::new(), AtomicUsize::new(0)));
        let threads: Vec<_> = (0..6)
            .map(|_| {
                let once = once.clone();
                in_background(move || {
                    once.0.call_once(|| {
                        crate::yield_now();
                        once.1.fetch_add(1, Relaxed);
                    });
                    assert_eq!(once.1.load(Relaxed), 1);
                    assert!(once.0.is_completed());
                })
            })
            .collect();
        threads.into_iter().for_each(Background::join);
    }
}

#[test]
fn a_panic_lets_the_next_caller_run() {
    let once = Arc::new(Once::new());
    let inside = Arc::new(crate::sync::Barrier::new(2));
    let (o, b) = (once.clone(), inside.clone());
    let panicking = in_background(move || {
        o.call_once(|| {
            b.wait();
            panic!("inside");
        });
    });
    let other = once.clone();
    inside.wait();
    let ran = Arc::new(AtomicUsize::new(0));
    let n = ran.clone();
    let waiter = in_background(move || {
        other.call_once(|| {
            n.fetch_add(1, Relaxed);
        });
    });
    assert!(panicking.try_join().is_none());
    waiter.join();
    assert_eq!(ran.load(Relaxed), 1);
    assert_eq!(format!("{once:?}"), "Once { state: done }");
}

#[test]
fn wait_waits_for_another() {
    let once = Arc::new(Once::new());
    let other = once.clone();
    let waiter = in_background(move || {
        other.wait();
        assert!(other.is_completed());
    });
    let failed = catch_unwind(AssertUnwindSafe(|| once.call_once(|| panic!("not yet"))));
    assert!(failed.is_err());
    once.call_once(|| {});
    waiter.join();
}

#[test]
fn cells_keep_the_first_value() {
    let cell = OnceCell::new();
    assert_eq!(cell.get(), None);
    assert_eq!(format!("{cell:?}"), "OnceCell(<unset>)");
    assert_eq!(cell.get_or_try_init(|| Err::<i32, _>("no")), Err("no"));
    assert_eq!(cell.set(1), Ok(()));
    assert_eq!(cell.set(2), Err(2));
    assert_eq!(*cell.get_or_init(|| 3), 1);
    assert_eq!(cell.get_or_try_init(|| Err::<i32, _>("no")), Ok(&1));
    assert_eq!(cell.clone(), cell);
    assert_eq!(format!("{cell:?}"), "OnceCell(1)");
    let mut cell = cell;
    *cell.get_mut().expect("set") = 4;
    assert_eq!(cell.take(), Some(4));
    assert_eq!(cell.get(), None);
    assert_eq!(cell.set(5), Ok(()));
    assert_eq!(cell.into_inner(), Some(5));
    assert_eq!(OnceCell::<u8>::default().into_inner(), None);
}

#[test]
fn cells_are_dropped_once_and_only_if_set() {
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let n = Arc::new(AtomicUsize::new(0));
    drop(OnceCell::<Count>::new());
    drop(OnceCell::from(Count(n.clone())));
    drop(OnceCell::from(Count(n.clone())).into_inner());
    assert_eq!(n.load(Relaxed), 2);
}

#[test]
fn cells_wait_for_another() {
    let cell = Arc::new(OnceCell::new());
    let other = cell.clone();
    let waiter = in_background(move || assert_eq!(*other.wait(), 7));
    cell.set(7).expect("empty");
    waiter.join();
}

#[test]
fn one_initialisation_fails_and_a_waiting_one_goes_on() {
    let cell = Arc::new(OnceCell::new());
    let waiting = Arc::new(AtomicUsize::new(0));
    let (other, flag) = (cell.clone(), waiting.clone());
    let mut waiter = None;
    let failed = cell.get_or_try_init(|| {
        waiter = Some(in_background(move || {
            flag.store(1, Relaxed);
            assert_eq!(*other.get_or_init(|| 2), 2);
        }));
        until(|| waiting.load(Relaxed) == 1);
        Err::<i32, ()>(())
    });
    assert_eq!(failed, Err(()));
    waiter.expect("started").join();
    assert_eq!(cell.get(), Some(&2));
}

#[test]
fn lazy_is_made_on_first_use() {
    let made = Arc::new(AtomicUsize::new(0));
    let n = made.clone();
    let lazy = Arc::new(Lazy::new(move || n.fetch_add(1, Relaxed) + 10));
    assert_eq!(Lazy::get(&lazy), None);
    assert_eq!(made.load(Relaxed), 0);
    let users: Vec<_> = (0..4)
        .map(|_| {
            let lazy = lazy.clone();
            in_background(move || assert_eq!(**lazy, 10))
        })
        .collect();
    users.into_iter().for_each(Background::join);
    assert_eq!(Lazy::get(&lazy), Some(&10));
    assert_eq!(*Lazy::<u8>::default(), 0);
}

#[test]
fn lazy_says_that_it_failed() {
    let lazy: Lazy<i32> = Lazy::new(|| panic!("first"));
    assert_eq!(
        panic_text(AssertUnwindSafe(|| _ = Lazy::force(&lazy))),
        "first"
    );
    let again = panic_text(AssertUnwindSafe(|| _ = Lazy::force(&lazy)));
    assert!(again.contains("has panicked before"), "{again}");
    assert_eq!(format!("{lazy:?}"), "Lazy(<not made>)");
}

super::on_goroutines! {
    runs_once_and_all_see_it_done
    a_panic_lets_the_next_caller_run
    wait_waits_for_another
    cells_keep_the_first_value
    cells_are_dropped_once_and_only_if_set
    cells_wait_for_another
    one_initialisation_fails_and_a_waiting_one_goes_on
    lazy_is_made_on_first_use
    lazy_says_that_it_failed
}
