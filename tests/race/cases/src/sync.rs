//! Condition variables, functions that run later, stacks of creation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use raddle::sync::{Condvar, Mutex};
use raddle::time::after_func;

use crate::support::*;

pub fn no_race_cond() {
    let (condition, cond) = (leak(Mutex::new(0)), leak(Condvar::new()));
    let x = var(0);
    beside(
        move || {
            *x.at() = 1;
            let mut condition = condition.lock();
            *condition = 1;
            cond.notify_one();
        },
        || {
            let mut condition = condition.lock();
            while *condition != 1 {
                cond.wait(&mut condition);
            }
            drop(condition);
            *x.at() = 2;
        },
    );
}

pub fn race_cond() {
    let (condition, cond) = (leak(Mutex::new(0)), leak(Condvar::new()));
    let x = var(0);
    let turn = leak(Turn::new());
    beside(
        move || {
            *x.at() = 1;
            let mut held = condition.lock();
            *held = 1;
            cond.notify_one();
            drop(held);
            turn.wait(1);
            let _held = condition.lock();
            *x.at() = 3; //~ race
        },
        || {
            let mut condition = condition.lock();
            while *condition != 1 {
                cond.wait(&mut condition);
            }
            drop(condition);
            turn.set(1);
            *x.at() = 2; //~ race
        },
    );
}

pub fn race_announce_threads() {
    let x = var(0);
    let done = chan(7);
    let one = move || {
        *x.at() = 1; //~ race
        done.send(());
    };
    let g = move || {
        for _ in 0..2 {
            go(one);
            done.send(());
        }
    };
    let f = move || {
        *x.at() = 1; //~ race
        go(g);
        go(one);
        *x.at() = 2; //~ race
        done.send(());
    };
    go(move || {
        *x.at() = 1; //~ race
        *x.at() = 2; //~ race
        go(f);
        done.send(());
    });
    for _ in 0..7 {
        done.recv();
    }
}

pub fn no_race_after_func1() {
    let i = var(2);
    let c = chan(0);
    fn step(i: &'static Racy<i32>, c: &'static Chan<bool>) {
        *i.at() -= 1;
        if *i.at() >= 0 {
            std::mem::forget(after_func(Duration::ZERO, move || step(i, c)));
        } else {
            c.send(true);
        }
    }
    let _timer = after_func(Duration::ZERO, move || step(i, c));
    c.recv();
}

pub fn no_race_after_func2() {
    let x = var(0);
    let timer = after_func(Duration::from_nanos(10), move || *x.at() = 1);
    timer.stop();
}

pub fn no_race_after_func3() {
    let x = var(0);
    let c = chan(1);
    let _timer = after_func(Duration::from_millis(1), move || {
        *x.at() = 1;
        c.send(true);
    });
    c.recv();
}

pub fn race_after_func3() {
    let x = var(0);
    let c = chan(2);
    let _timers = [1, 2].map(|ms| {
        after_func(Duration::from_millis(ms), move || {
            *x.at() = 1; //~ race
            c.send(true);
        })
    });
    c.recv();
    c.recv();
}

pub fn race_goroutine_creation_stack() {
    let x = var(0);
    let ch = chan(1);
    let f1 = move || {
        *x.at() = 1; //~ race
        ch.send(true);
    };
    let f2 = move || drop(go(f1));
    let f3 = move || drop(go(f2));
    let f4 = move || drop(go(f3));
    go(f4);
    *x.at() = 2; //~ race
    ch.recv();
}

/// There is no null lock, but one whose holder panicked.
pub fn no_race_nil_mutex_crash() {
    let mutex = leak(Mutex::new(0));
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _held = mutex.lock();
        panic!("with the lock held");
    }));
    assert!(caught.is_err());
    *mutex.lock() += 1;
}
