//! Select: it is the chosen case that orders.

use raddle::chan::select;

use crate::support::*;

pub fn no_race_select1() {
    let x = var(0);
    let (c, c1) = (chan(0), chan(0));
    beside(
        move || {
            *x.at() = 1;
            select! {
                send(c.tx, true) -> _ => {}
                send(c1.tx, true) -> _ => {}
            }
        },
        || {
            select! {
                recv(c.rx) -> _ => {}
                recv(c1.rx) -> _ => {}
            }
            *x.at() = 2;
        },
    );
}

pub fn no_race_select2() {
    let x = var(0);
    let (c, c1) = (chan::<bool>(0), chan::<bool>(0));
    beside(
        move || {
            select! {
                recv(c.rx) -> _ => {}
                recv(c1.rx) -> _ => {}
            }
            *x.at() = 1;
        },
        || {
            *x.at() = 2;
            c.close();
            yield_now();
        },
    );
}

pub fn no_race_select3() {
    let x = var(0);
    let (c, c1) = (chan(10), chan::<bool>(0));
    beside(
        move || {
            *x.at() = 1;
            select! {
                send(c.tx, true) -> _ => {}
                recv(c1.rx) -> _ => {}
            }
        },
        || {
            c.recv();
            *x.at() = 2;
        },
    );
}

pub fn no_race_select4() {
    struct Task {
        f: Box<dyn FnOnce() + Send>,
        done: &'static Chan<bool>,
    }
    let queue = chan::<Task>(0);
    let dummy = chan::<bool>(0);
    let x = var(0);
    let done = chan(1);
    beside(
        move || {
            while let Some(task) = queue.recv() {
                (task.f)();
                task.done.send(true);
            }
        },
        || {
            let f = Box::new(move || *x.at() = 1);
            select! {
                send(queue.tx, Task { f, done }) -> _ => {}
                recv(dummy.rx) -> _ => {}
            }
            select! {
                recv(done.rx) -> _ => {}
                recv(dummy.rx) -> _ => {}
            }
            read(*x.at());
            queue.close();
        },
    );
}

pub fn no_race_select5() {
    for (by_select, yields) in [(true, true), (true, false), (false, true), (false, false)] {
        let x = var(0);
        let (ch, c1) = (chan(0), chan::<bool>(0));
        both(
            move || {
                if yields {
                    yield_now();
                }
                *x.at() = 1;
                if by_select {
                    select! {
                        send(ch.tx, true) -> _ => {}
                        recv(c1.rx) -> _ => {}
                    }
                } else {
                    ch.send(true);
                }
            },
            move || {
                if by_select {
                    select! {
                        recv(ch.rx) -> _ => {}
                        recv(c1.rx) -> _ => {}
                    }
                } else {
                    ch.recv();
                }
                *x.at() = 1;
            },
        );
    }
}

pub fn race_select1() {
    let x = var(0);
    let (c, c1) = (chan(0), chan(0));
    let receiver = go(move || {
        c.recv();
        c.recv();
    });
    let f = move || {
        select! {
            send(c.tx, true) -> _ => {}
            send(c1.tx, true) -> _ => {}
        }
        *x.at() = 1; //~ race
    };
    both(f, f);
    receiver.join().unwrap();
}

pub fn race_select2() {
    let x = var(0);
    let (c, c1) = (chan::<bool>(0), chan::<bool>(0));
    beside(
        move || {
            *x.at() = 1; //~ race
            select! {
                recv(c.rx) -> _ => {}
                recv(c1.rx) -> _ => {}
            }
        },
        || {
            c.close();
            *x.at() = 2; //~ race
        },
    );
}

pub fn race_select3() {
    let x = var(0);
    let (c, c1) = (chan(0), chan(0));
    beside(
        move || {
            *x.at() = 1; //~ race
            select! {
                send(c.tx, true) -> _ => {}
                send(c1.tx, true) -> _ => {}
            }
        },
        || {
            *x.at() = 2; //~ race
            select! { recv(c.rx) -> _ => {} }
        },
    );
}

pub fn race_select4() {
    let x = var(0);
    let never = chan::<bool>(0);
    beside(
        move || {
            select! {
                recv(never.rx) -> _ => {}
                default => *x.at() = 2, //~ race
            }
        },
        || {
            read(*x.at()); //~ race
        },
    );
}

pub fn race_select5() {
    let (x, y) = (var(0), var(0));
    let (c1, c2) = (chan(1), chan(0));
    beside(
        move || {
            select! {
                send(c1.tx, true) -> _ => {
                    *x.at() = 1; //~ race
                    here(());
                }
                send(c2.tx, true) -> _ => *y.at() = 1,
            }
        },
        || {
            read(*x.at()); //~ race
            read(*y.at());
        },
    );
}
