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

/// What is locked while it is disabled hides no race.
pub fn race_under_locks_that_do_not_count() {
    let (x, lock) = (var(0), leak(Mutex::new(())));
    let locked = move |change: fn(i32) -> i32| {
        raddle::race::disable();
        let held = lock.lock();
        *x.at() = change(*x.at()); //~ race
        drop(held);
        raddle::race::enable();
    };
    both(move || locked(|x| x + 1), move || locked(|x| x + 2));
}

/// Disabled twice, enabled twice: it counts again.
pub fn no_race_once_locks_count_again() {
    let (x, lock) = (var(0), leak(Mutex::new(())));
    let locked = move || {
        raddle::race::disable();
        raddle::race::disable();
        raddle::race::enable();
        raddle::race::enable();
        let held = lock.lock();
        *x.at() += 1;
        drop(held);
    };
    both(locked, locked);
}

pub fn race_under_a_semaphore_that_orders_nothing() {
    use raddle::race::{sem_acquire, sem_release};
    let (x, one) = (var(0), leak(raddle::sync::Semaphore::new(1)));
    let guarded = move || {
        sem_acquire(one);
        *x.at() = 1; //~ race
        sem_release(one);
    };
    both(guarded, guarded);
}

pub fn no_race_where_accesses_are_ignored() {
    let x = var(0);
    both(
        move || {
            let ignored = raddle::race::ignore_accesses();
            *x.at() = 1;
            drop(ignored);
        },
        move || *x.at() = 2,
    );
}

/// A hand-made exchange, each side of which orders the other.
pub fn no_race_release_acquire() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let (x, turn) = (var(0), leak(AtomicUsize::new(0)));
    let take_turns = move |mine: usize| {
        for n in 0..10 {
            while turn.load(SeqCst) != 2 * n + mine {
                yield_now();
            }
            raddle::race::release_acquire(x.ptr());
            *x.at() += 1;
            raddle::race::release_acquire(x.ptr());
            turn.fetch_add(1, SeqCst);
        }
    };
    both(move || take_turns(0), move || take_turns(1));
}
