//! The lock of many readers or one writer.

use raddle::sync::{Mutex, RwLock};

use crate::support::*;

pub fn race_mutex_rw_mutex() {
    let mu1 = leak(Mutex::new(()));
    let mu2 = leak(RwLock::new(()));
    let x = var(0i16);
    both(
        move || {
            let _held = mu1.lock();
            *x.at() = 1; //~ race
        },
        move || {
            let _held = mu2.write();
            *x.at() = 2; //~ race
        },
    );
}

pub fn no_race_rw_mutex() {
    let mu = leak(RwLock::new(()));
    let (x, y) = (var(0i64), var(1i64));
    both(
        move || {
            let _held = mu.write();
            *x.at() = 2;
        },
        move || {
            let _held = mu.read();
            *y.at() = *x.at();
        },
    );
}

pub fn race_rw_mutex_multiple_readers() {
    let mu = leak(RwLock::new(()));
    let (x, y) = (var(0i64), var(1i64));
    let writer = go(move || {
        let _held = mu.write();
        *x.at() = 2;
    });
    let readers = [1, 2, 3].map(|n| {
        go(move || {
            let _held = mu.read();
            *y.at() = *x.at() + n; //~ race
        })
    });
    readers.into_iter().for_each(|g| g.join().unwrap());
    writer.join().unwrap();
}

pub fn no_race_rw_mutex_multiple_readers() {
    let mu = leak(RwLock::new(()));
    let x = var(0i64);
    let writer = go(move || {
        let _held = mu.write();
        *x.at() = 2;
    });
    let readers = [1, 2, 3].map(|n| {
        go(move || {
            let _held = mu.read();
            read(*x.at() + n);
        })
    });
    readers.into_iter().for_each(|g| g.join().unwrap());
    writer.join().unwrap();
}

pub fn no_race_rw_mutex_transitive() {
    let mu = leak(RwLock::new(()));
    let x = var(0i64);
    let turn = leak(Turn::new());
    let readers = [0, 1].map(|n| {
        go(move || {
            turn.wait(n);
            let held = mu.read();
            read(*x.at());
            drop(held);
            turn.set(n + 1);
        })
    });
    turn.wait(2);
    let held = mu.write();
    *x.at() = 42;
    drop(held);
    readers.into_iter().for_each(|g| g.join().unwrap());
}
