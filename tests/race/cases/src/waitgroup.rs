//! The wait group, and its misuse: an add that no order puts before the wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use raddle::sync::WaitGroup;
use raddle::time::sleep;

use crate::support::*;

fn group() -> &'static WaitGroup {
    leak(WaitGroup::new())
}

pub fn no_race_wait_group() {
    let x = var(0);
    let wg = group();
    for i in 0..1 {
        wg.add(1);
        go(move || {
            *x.at() = i;
            wg.done();
        });
    }
    wg.wait();
}

pub fn race_wait_group() {
    let x = var(0);
    let wg = group();
    for i in 0..2 {
        wg.add(1);
        go(move || {
            *x.at() = i; //~ race
            wg.done();
        });
    }
    wg.wait();
}

pub fn no_race_wait_group2() {
    let x = var(0);
    let wg = group();
    wg.add(1);
    go(move || {
        *x.at() = 1;
        wg.done();
    });
    wg.wait();
    *x.at() = 2;
}

pub fn race_wait_group_as_mutex() {
    let x = var(0);
    let wg = group();
    let turn = leak(Turn::new());
    both(
        move || {
            wg.wait(); //~ race group
            turn.set(1);
            turn.wait(2);
            wg.add(1); //~ race group
            *x.at() = 1; //~ race
            wg.done();
        },
        move || {
            turn.wait(1);
            wg.wait(); //~ race group
            turn.set(2);
            wg.add(1); //~ race group
            *x.at() = 2; //~ race
            wg.done();
        },
    );
}

pub fn race_wait_group_wrong_wait() {
    let x = var(0);
    let wg = group();
    let member = move |value| {
        wg.add(1); //~ race group
        yield_now();
        *x.at() = value; //~ race
        wg.done();
    };
    let (a, b) = (go(move || member(1)), go(move || member(2)));
    wg.wait(); //~ race group
    a.join().unwrap();
    b.join().unwrap();
}

pub fn race_wait_group_wrong_add() {
    let wg = group();
    let turn = leak(Turn::new());
    let members = [0, 1].map(|n| {
        go(move || {
            turn.wait(n);
            wg.add(1); //~ race
            turn.set(n + 1);
            sleep(Duration::from_millis(4));
            wg.done();
        })
    });
    turn.wait(2);
    wg.wait(); //~ race
    members.into_iter().for_each(|g| g.join().unwrap());
}

pub fn no_race_wait_group_multiple_wait() {
    let wg = group();
    let waiters = [0, 1].map(|_| go(|| wg.wait()));
    wg.wait();
    waiters.into_iter().for_each(|g| g.join().unwrap());
}

pub fn no_race_wait_group_multiple_wait2() {
    let wg = group();
    wg.add(2);
    let waiters = [0, 1].map(|_| {
        go(|| {
            wg.done();
            wg.wait();
        })
    });
    wg.wait();
    waiters.into_iter().for_each(|g| g.join().unwrap());
}

pub fn no_race_wait_group_multiple_wait3() {
    const N: usize = 3;
    let data = var([0; N]);
    let wg = group();
    wg.add(N as isize);
    for i in 0..N {
        go(move || {
            data.at()[i] = 42;
            wg.done();
        });
    }
    let waiters: Vec<_> = (0..N)
        .map(|_| {
            go(move || {
                wg.wait();
                for i in 0..N {
                    read(data.at()[i]);
                }
            })
        })
        .collect();
    waiters.into_iter().for_each(|g| g.join().unwrap());
}

pub fn race_wait_group2() {
    let x = var(0);
    let wg = group();
    wg.add(2);
    go(move || {
        *x.at() = 1; //~ race
        wg.done();
    });
    go(move || {
        *x.at() = 2; //~ race
        wg.done();
    });
    wg.wait();
}

pub fn no_race_wait_group_panic_recover() {
    let x = var(0);
    let wg = group();
    *x.at() = 1;
    let caught = catch_unwind(AssertUnwindSafe(|| wg.add(-1)));
    assert!(caught.is_err());
    *x.at() = 2;
}

pub fn no_race_wait_group_panic_recover2() {
    let x = var(0);
    let wg = group();
    let ch = chan(1);
    go(move || {
        *x.at() = 1;
        let caught = catch_unwind(AssertUnwindSafe(|| wg.add(-1)));
        assert!(caught.is_err());
        go(move || {
            *x.at() = 2;
            ch.send(true);
        });
    });
    ch.recv();
}

pub fn no_race_wait_group_transitive() {
    let (x, y) = (var(0), var(0));
    let wg = group();
    wg.add(2);
    let turn = leak(Turn::new());
    go(move || {
        *x.at() = 42;
        wg.done();
        turn.set(1);
    });
    go(move || {
        turn.wait(1);
        *y.at() = 42;
        wg.done();
    });
    wg.wait();
    read(*x.at());
    read(*y.at());
}

fn add_three(wg: &'static WaitGroup, data: &'static Racy<[i32; 3]>) {
    wg.add(3);
    for i in 0..3 {
        go(move || {
            data.at()[i] += 1;
            wg.done();
        });
    }
}

fn touch_three(data: &'static Racy<[i32; 3]>) {
    for i in 0..3 {
        data.at()[i] += 1;
    }
}

pub fn no_race_wait_group_reuse() {
    let (wg, data) = (group(), var([0; 3]));
    for _ in 0..3 {
        add_three(wg, data);
        wg.wait();
        touch_three(data);
    }
}

pub fn no_race_wait_group_reuse2() {
    let (wg, data) = (group(), var([0; 3]));
    for _ in 0..3 {
        add_three(wg, data);
        beside(
            move || {
                wg.wait();
                touch_three(data);
            },
            || wg.wait(),
        );
        touch_three(data);
    }
}

/// The wait of one round is not ordered before the add of the next.
pub fn race_wait_group_reuse() {
    let wg = group();
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let turn = leak(Turn::new());
            wg.add(1); //~ race
            go(move || {
                turn.wait(1);
                wg.done();
            });
            let waiter = go(move || {
                wg.wait(); //~ race
                turn.set(2);
            });
            sleep(Duration::from_millis(2));
            turn.set(1);
            turn.wait(2);
            waiter
        })
        .collect();
    waiters.into_iter().for_each(|g| g.join().unwrap());
}

pub fn no_race_wait_group_concurrent_add() {
    let wg = group();
    let waiting = chan(4);
    for _ in 0..4 {
        go(move || {
            wg.add(1);
            waiting.send(true);
            wg.done();
        });
    }
    for _ in 0..4 {
        waiting.recv();
    }
    wg.wait();
}
