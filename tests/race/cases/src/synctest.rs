//! Goroutines that belong together: Go's bubbles with a time of their own; a scope here.

use std::time::Duration;

use raddle::time::{after_func, sleep};

use crate::support::*;

pub fn race_synctest_goroutines_exit() {
    let x = Racy::new(0);
    let f = || *x.at() = 1; //~ race
    raddle::scope(|s| {
        s.go(f);
        s.go(f);
    });
}

pub fn no_race_synctest_goroutines_exit() {
    let x = Racy::new(0);
    let f = || *x.at() = 1;
    raddle::scope(|s| s.go(f).join().unwrap());
    raddle::scope(|s| {
        s.go(f);
    });
    *x.at() = 2;
}

pub fn race_synctest_goroutines_recv() {
    let x = Racy::new(0);
    let ch = chan::<()>(0);
    let f = || {
        *x.at() = 1; //~ race
        ch.recv();
    };
    raddle::scope(|s| {
        s.go(f);
        s.go(f);
        ch.close();
    });
}

pub fn race_synctest_goroutines_unblocked() {
    let x = Racy::new(0);
    let ch = chan::<()>(0);
    let f = || {
        ch.recv();
        *x.at() = 1; //~ race
    };
    raddle::scope(|s| {
        s.go(f);
        s.go(f);
        ch.close();
    });
}

pub fn race_synctest_goroutines_sleep() {
    let x = Racy::new(0);
    let f = |before, after| {
        sleep(Duration::from_millis(before));
        *x.at() = 1; //~ race
        sleep(Duration::from_millis(after));
    };
    raddle::scope(|s| {
        s.go(move || f(1, 2));
        s.go(move || f(2, 1));
    });
}

pub fn race_synctest_timers() {
    let x = var(0);
    let done = leak(raddle::sync::WaitGroup::new());
    done.add(2);
    let f = move || {
        *x.at() = 1; //~ race
        done.done();
    };
    let _timers = [1, 2].map(|ms| after_func(Duration::from_millis(ms), f));
    done.wait();
}
