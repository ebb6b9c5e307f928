//! The wait group, one behaviour a test; those known from Go keep their name.

use std::sync::Arc;

use super::{Background, in_background, panic_text};
use crate::sync::WaitGroup;
use crate::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};

#[test]
fn wait_group() {
    let (wg1, wg2) = (Arc::new(WaitGroup::new()), Arc::new(WaitGroup::new()));
    for _ in 0..8 {
        let n = 16;
        wg1.add(n);
        wg2.add(n);
        let exited = Arc::new(AtomicUsize::new(0));
        for _ in 0..n {
            let (wg1, wg2, exited) = (wg1.clone(), wg2.clone(), exited.clone());
            in_background(move || {
                wg1.done();
                wg2.wait();
                exited.fetch_add(1, AcqRel);
            });
        }
        wg1.wait();
        for _ in 0..n {
            assert_eq!(exited.load(Acquire), 0, "wg2 released too soon");
            wg2.done();
        }
        super::until(|| exited.load(Acquire) == n as usize);
    }
}

#[test]
fn wait_group_misuse() {
    let wg = WaitGroup::new();
    wg.add(1);
    wg.done();
    assert!(panic_text(|| wg.done()).contains("negative wait group counter"));
    wg.wait();
    wg.add(i32::MAX as isize);
    assert!(panic_text(|| wg.add(1)).contains("overflow"));
    assert!(panic_text(|| wg.add(isize::MAX)).contains("does not fit"));
    wg.add(-(i32::MAX as isize));
    wg.wait();
}

/// Whatever the moment at which an add or a done too many comes, nobody is left asleep.
#[test]
fn misuse_leaves_nobody_asleep() {
    for round in 0..1_000 {
        let wg = Arc::new(WaitGroup::new());
        wg.add(1);
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let wg = wg.clone();
                in_background(move || wg.wait())
            })
            .collect();
        let other = wg.clone();
        let done = in_background(move || other.done());
        let misuse = std::panic::AssertUnwindSafe(&wg);
        if round % 2 == 0 {
            if std::panic::catch_unwind(|| misuse.add(1)).is_ok() {
                wg.done();
            }
        } else if std::panic::catch_unwind(|| misuse.done()).is_ok() {
            // It came first: the other one was too many.
            assert!(done.try_join().is_none());
            waiters.into_iter().for_each(Background::join);
            continue;
        }
        done.join();
        waiters.into_iter().for_each(Background::join);
    }
}

/// The waiter's first action frees what the last `done` used.
#[test]
fn wait_group_race() {
    for _ in 0..2_000 {
        let shared = Arc::new((WaitGroup::new(), AtomicUsize::new(0)));
        shared.0.add(2);
        for _ in 0..2 {
            let shared = shared.clone();
            in_background(move || {
                shared.1.fetch_add(1, AcqRel);
                shared.0.done();
            });
        }
        shared.0.wait();
        assert_eq!(shared.1.load(Acquire), 2);
    }
}

#[test]
fn every_waiter_returns() {
    let wg = Arc::new(WaitGroup::new());
    wg.add(1);
    let waiters: Vec<_> = (0..6)
        .map(|_| {
            let wg = wg.clone();
            in_background(move || wg.wait())
        })
        .collect();
    wg.done();
    waiters.into_iter().for_each(Background::join);
    assert_eq!(format!("{wg:?}"), "WaitGroup { counter: 0, waiters: 0 }");
}

#[test]
fn tokens_count_while_they_live() {
    let wg = Arc::new(WaitGroup::new());
    let other = wg.clone();
    let panicked = in_background(move || {
        let _token = other.token();
        panic!("with a token");
    });
    assert!(panicked.try_join().is_none());
    wg.wait();
    let token = wg.token();
    assert!(format!("{wg:?}").contains("counter: 1"));
    drop(token);
    wg.wait();
}

super::on_goroutines! {
    wait_group
    wait_group_misuse
    wait_group_race
    misuse_leaves_nobody_asleep
    every_waiter_returns
    tokens_count_while_they_live
}
