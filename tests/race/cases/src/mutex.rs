//! The mutex.

use raddle::sync::Mutex;

use crate::support::*;

pub fn no_race_mutex() {
    let mu = leak(Mutex::new(()));
    let x = var(0i16);
    both(
        move || {
            let _held = mu.lock();
            *x.at() = 1;
        },
        move || {
            let held = mu.lock();
            *x.at() = 2;
            drop(held);
        },
    );
}

pub fn race_mutex() {
    let mu = leak(Mutex::new(()));
    let x = var(0i16);
    // The second goroutine would be ordered after the first by the lock, were it not for the turn that the first keeps.
    let turn = leak(Turn::new());
    both(
        move || {
            *x.at() = 1; //~ race
            turn.set(1);
            turn.wait(2);
            drop(mu.lock());
        },
        move || {
            turn.wait(1);
            *x.at() = 2; //~ race
            turn.set(2);
            drop(mu.lock());
        },
    );
}

pub fn race_mutex2() {
    let (mu1, mu2) = (leak(Mutex::new(())), leak(Mutex::new(())));
    let x = var(0i8);
    both(
        move || {
            let _held = mu1.lock();
            *x.at() = 1; //~ race
        },
        move || {
            let _held = mu2.lock();
            *x.at() = 2; //~ race
        },
    );
}

pub fn no_race_mutex_pure_happens_before() {
    let written = leak(Mutex::new(false));
    let x = var(0i16);
    both(
        move || {
            *x.at() = 1;
            *written.lock() = true;
        },
        move || {
            while !*written.lock() {
                yield_now();
            }
            *x.at() = 1;
        },
    );
}

/// A lock that another goroutine releases.
pub fn no_race_mutex_semaphore() {
    let mu = leak(Mutex::new(()));
    let x = var(0);
    let held = Smuggled(mu.lock());
    both(
        move || {
            let held = held.take();
            *x.at() = 1;
            drop(held);
        },
        move || {
            let _held = mu.lock();
            *x.at() = 2;
        },
    );
}

pub fn no_race_mutex_example_from_html() {
    let l = leak(Mutex::new(()));
    let a = var("");
    let held = Smuggled(l.lock());
    beside(
        move || {
            let held = held.take();
            *a.at() = "hello, world";
            drop(held);
        },
        || {
            let _held = l.lock();
            read(*a.at());
        },
    );
}

/// Through std's mutex, whose word is ordinary memory.
pub fn race_mutex_overwrite() {
    let mu = var(std::sync::Mutex::new(()));
    beside(
        move || *mu.at() = std::sync::Mutex::new(()), //~ race
        || drop(mu.at().lock()),                      //~ race
    );
}
