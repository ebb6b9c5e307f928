//! The condition variable, one behaviour a test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Background, LONG, in_background, until};
use crate::sync::{Condvar, Mutex};

/// A condition variable, and how many wait on it and have been woken.
#[derive(Default)]
struct Pair {
    state: Mutex<(usize, usize)>,
    cond: Condvar,
}

fn waiter(pair: &Arc<Pair>) -> Background {
    let pair = pair.clone();
    in_background(move || {
        let mut state = pair.state.lock();
        state.0 += 1;
        pair.cond.wait(&mut state);
        state.1 += 1;
    })
}

#[test]
fn notify_without_waiters_is_lost() {
    let pair = Pair::default();
    assert!(!pair.cond.notify_one());
    assert_eq!(pair.cond.notify_all(), 0);
    let mut state = pair.state.lock();
    assert!(
        pair.cond
            .wait_timeout(&mut state, Duration::from_millis(1))
            .timed_out()
    );
}

#[test]
fn notify_one_wakes_exactly_one_in_order() {
    let pair = Arc::new(Pair::default());
    let mut waiters = Vec::new();
    for n in 0..3 {
        waiters.push(waiter(&pair));
        until(|| pair.state.lock().0 == n + 1);
    }
    for (n, waiter) in waiters.into_iter().enumerate() {
        assert!(pair.cond.notify_one());
        waiter.join();
        assert_eq!(pair.state.lock().1, n + 1);
    }
    assert!(!pair.cond.notify_one());
}

#[test]
fn notify_all_wakes_all() {
    let pair = Arc::new(Pair::default());
    let waiters: Vec<_> = (0..5).map(|_| waiter(&pair)).collect();
    until(|| pair.state.lock().0 == 5);
    assert_eq!(pair.cond.notify_all(), 5);
    waiters.into_iter().for_each(Background::join);
    assert_eq!(pair.state.lock().1, 5);
}

#[test]
fn a_notified_waiter_is_ahead_of_its_time_out() {
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let other = pair.clone();
    let waiter = in_background(move || {
        let mut go = other.0.lock();
        let late = other.1.wait_while_for(&mut go, |go| !*go, LONG);
        assert!(!late.timed_out() && *go);
    });
    *pair.0.lock() = true;
    pair.1.notify_all();
    waiter.join();
}

#[test]
fn time_outs_keep_the_mutex_and_leave_the_queue() {
    let m = Mutex::new(1);
    let cond = Condvar::new();
    let mut held = m.lock();
    let start = Instant::now();
    assert!(
        cond.wait_timeout(&mut held, Duration::from_millis(3))
            .timed_out()
    );
    assert!(start.elapsed() >= Duration::from_millis(3));
    assert!(cond.wait_until(&mut held, start).timed_out());
    assert!(
        cond.wait_while_until(&mut held, |v| *v == 1, Instant::now())
            .timed_out()
    );
    assert!(
        !cond
            .wait_while_until(&mut held, |v| *v == 2, Instant::now())
            .timed_out()
    );
    assert!(m.try_lock().is_none());
    assert!(!cond.notify_one());
    *held = 2;
}

#[test]
fn wait_while_looks_first() {
    let m = Mutex::new(1);
    Condvar::new().wait_while(&mut m.lock(), |v| *v != 1);
}

/// Two sides take turns: every notify must arrive.
#[test]
fn no_wake_up_is_lost() {
    let pair = Arc::new((Mutex::new(0_u32), Condvar::new()));
    let side = |parity: u32| {
        let pair = pair.clone();
        in_background(move || {
            for _ in 0..5_000 {
                let mut n = pair.0.lock();
                pair.1.wait_while(&mut n, |n| *n % 2 != parity);
                *n += 1;
                drop(n);
                pair.1.notify_one();
            }
        })
    };
    let (a, b) = (side(0), side(1));
    a.join();
    b.join();
    assert_eq!(*pair.0.lock(), 10_000);
}

super::on_goroutines! {
    notify_without_waiters_is_lost
    notify_one_wakes_exactly_one_in_order
    notify_all_wakes_all
    a_notified_waiter_is_ahead_of_its_time_out
    time_outs_keep_the_mutex_and_leave_the_queue
    wait_while_looks_first
    no_wake_up_is_lost
}
