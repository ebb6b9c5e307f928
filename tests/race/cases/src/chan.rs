//! Channels: what a send, a receive and a close order, and what they do not.

use std::time::Duration;

use raddle::chan::{bounded, select, unbounded};
use raddle::time::sleep;

use crate::support::*;

pub fn no_race_chan_sync() {
    let v = var(0);
    let c = chan(0);
    beside(
        move || {
            *v.at() = 1;
            c.send(0);
        },
        || {
            c.recv();
            *v.at() = 2;
        },
    );
}

pub fn no_race_chan_sync_rev() {
    let v = var(0);
    let c = chan(0);
    beside(
        move || {
            c.send(0);
            *v.at() = 2;
        },
        || {
            *v.at() = 1;
            c.recv();
        },
    );
}

pub fn no_race_chan_async() {
    let v = var(0);
    let c = chan(10);
    beside(
        move || {
            *v.at() = 1;
            c.send(0);
        },
        || {
            c.recv();
            *v.at() = 2;
        },
    );
}

pub fn race_chan_async_rev() {
    let v = var(0);
    let c = chan(10);
    beside(
        move || {
            c.send(0);
            *v.at() = 1; //~ race
        },
        || {
            *v.at() = 2; //~ race
            c.recv();
        },
    );
}

/// The three ways to notice that a channel was closed.
fn close_then(cap: usize, notice: impl FnOnce(&'static Chan<i32>)) {
    let v = var(0);
    let c = chan(cap);
    beside(
        move || {
            *v.at() = 1;
            c.close();
        },
        || {
            notice(c);
            *v.at() = 2;
        },
    );
}

pub fn no_race_chan_async_close_recv() {
    close_then(10, |c| assert!(c.rx.recv().is_err()));
}

pub fn no_race_chan_async_close_recv2() {
    close_then(10, |c| {
        select! { recv(c.rx) -> v => assert!(v.is_err()) }
    });
}

pub fn no_race_chan_async_close_recv3() {
    close_then(10, |c| c.rx.iter().for_each(drop));
}

pub fn no_race_chan_sync_close_recv() {
    close_then(0, |c| assert!(c.rx.recv().is_err()));
}

pub fn no_race_chan_sync_close_recv2() {
    close_then(0, |c| {
        select! { recv(c.rx) -> v => assert!(v.is_err()) }
    });
}

pub fn no_race_chan_sync_close_recv3() {
    close_then(0, |c| c.rx.iter().for_each(drop));
}

pub fn race_chan_sync_close_send() {
    let v = var(0);
    let c = chan(0);
    beside(
        move || {
            *v.at() = 1; //~ race
            c.close(); //~ race channel
        },
        || {
            c.send(0); //~ race channel
            *v.at() = 2; //~ race
        },
    );
}

pub fn race_chan_async_close_send() {
    let v = var(0);
    let c = chan(10);
    beside(
        move || {
            *v.at() = 1; //~ race
            c.close(); //~ race channel
        },
        || {
            while c.send(0) {} //~ race channel
            *v.at() = 2; //~ race
        },
    );
}

pub fn race_chan_close_close() {
    let (v1, v2) = (var(0), var(0));
    let c = chan::<i32>(0);
    both(
        move || {
            *v1.at() = 1; //~ race one
            if !c.close() {
                //~ race channel
                *v2.at() = 2; //~ race two
            }
        },
        move || {
            *v2.at() = 1; //~ race two
            if !c.close() {
                //~ race channel
                *v1.at() = 2; //~ race one
            }
        },
    );
}

pub fn race_chan_send_len() {
    let v = var(0);
    let c = chan(10);
    beside(
        move || {
            *v.at() = 1; //~ race
            c.send(1);
        },
        || {
            while c.len() == 0 {
                yield_now();
            }
            *v.at() = 2; //~ race
        },
    );
}

pub fn race_chan_recv_len() {
    let v = var(0);
    let c = chan(10);
    c.send(1);
    beside(
        move || {
            *v.at() = 1; //~ race
            c.recv();
        },
        || {
            while c.len() != 0 {
                yield_now();
            }
            *v.at() = 2; //~ race
        },
    );
}

pub fn race_chan_send_send() {
    let (v1, v2) = (var(0), var(0));
    let c = chan(1);
    both(
        move || {
            *v1.at() = 1; //~ race one
            if !c.try_send(1) {
                *v2.at() = 2; //~ race two
            }
        },
        move || {
            *v2.at() = 1; //~ race two
            if !c.try_send(1) {
                *v1.at() = 2; //~ race one
            }
        },
    );
}

pub fn no_race_chan_ptr() {
    let c = chan::<Box<i32>>(0);
    beside(
        move || {
            c.send(Box::new(1));
        },
        || {
            let mut m = c.recv().unwrap();
            *m = 2;
            read(m);
        },
    );
}

pub fn race_chan_wrong_send() {
    let (v1, v2) = (var(0), var(0));
    let c = chan(2);
    let a = go(move || {
        *v1.at() = 1; //~ race one
        c.send(1);
    });
    let b = go(move || {
        *v2.at() = 2; //~ race two
        c.send(2);
    });
    if c.recv() == Some(1) {
        *v2.at() = 3; //~ race two
        here(());
    } else {
        *v1.at() = 3; //~ race one
        here(());
    }
    a.join().unwrap();
    b.join().unwrap();
}

pub fn race_chan_wrong_close() {
    let (v1, v2) = (var(0), var(0));
    let c = chan(1);
    let a = go(move || {
        *v1.at() = 1; //~ race one
        c.send(1); //~ race channel
    });
    let b = go(move || {
        sleep(Duration::from_millis(3));
        *v2.at() = 2; //~ race two
        c.close(); //~ race channel
    });
    sleep(Duration::from_millis(6));
    if c.recv().is_some() {
        *v2.at() = 2; //~ race two
        here(());
    } else {
        *v1.at() = 2; //~ race one
        here(());
    }
    a.join().unwrap();
    b.join().unwrap();
}

pub fn race_chan_send_close() {
    let c = chan(1);
    both(
        move || {
            c.send(1); //~ race
        },
        move || {
            sleep(Duration::from_millis(3));
            c.close(); //~ race
        },
    );
}

pub fn race_chan_send_select_close() {
    let c = chan(1);
    let c1 = chan::<i32>(0);
    both(
        move || {
            sleep(Duration::from_millis(3));
            select! { //~ race
                send(c.tx, 1) -> _ => {} //~ race
                recv(c1.rx) -> _ => {}
            }
        },
        move || {
            c.close(); //~ race
        },
    );
}

pub fn race_select_read_write_async() {
    let x = var(0);
    let (c1, c2, c3) = (chan(10), chan(10), chan(0));
    c2.send(1);
    beside(
        move || {
            select! {
                send(c1.tx, *x.at()) -> _ => {} //~ race
                send(c3.tx, 1) -> _ => {}
            }
        },
        || {
            select! {
                recv(c2.rx) -> v => *x.at() = v.unwrap(), //~ race
                send(c3.tx, 1) -> _ => {}
            }
        },
    );
}

pub fn race_select_read_write_sync() {
    let x = var(0);
    let (c1, c2, c3) = (chan(0), chan(0), chan(0));
    let receiver = go(move || {
        c1.recv();
    });
    let sender = go(move || {
        c2.send(1);
    });
    beside(
        move || {
            select! {
                send(c1.tx, *x.at()) -> _ => {} //~ race
                send(c3.tx, 1) -> _ => {}
            }
        },
        || {
            select! {
                recv(c2.rx) -> v => *x.at() = v.unwrap(), //~ race
                send(c3.tx, 1) -> _ => {}
            }
        },
    );
    receiver.join().unwrap();
    sender.join().unwrap();
}

pub fn no_race_select_read_write_async() {
    let x = var(0);
    let (c1, c2) = (chan(0), chan(0));
    beside(
        move || {
            select! {
                send(c1.tx, *x.at()) -> _ => {}
                send(c2.tx, 1) -> _ => {}
            }
        },
        || {
            select! {
                recv(c1.rx) -> v => *x.at() = v.unwrap(),
                send(c2.tx, 1) -> _ => {}
            }
        },
    );
}

pub fn race_chan_read_write_async() {
    let x = var(0);
    let (c1, c2) = (chan(10), chan(10));
    c2.send(10);
    beside(
        move || {
            c1.send(*x.at()); //~ race
        },
        || *x.at() = c2.recv().unwrap(), //~ race
    );
}

pub fn race_chan_read_write_sync() {
    let x = var(0);
    let (c1, c2) = (chan(0), chan(0));
    let receiver = go(move || {
        c1.recv();
    });
    let sender = go(move || {
        c2.send(10);
    });
    beside(
        move || {
            c1.send(*x.at()); //~ race
        },
        || *x.at() = c2.recv().unwrap(), //~ race
    );
    receiver.join().unwrap();
    sender.join().unwrap();
}

pub fn no_race_chan_read_write_async() {
    let x = var(0);
    let c1 = chan(10);
    beside(
        move || {
            c1.send(*x.at());
        },
        || *x.at() = c1.recv().unwrap(),
    );
}

pub fn no_race_producer_consumer_unbuffered() {
    struct Task {
        f: Box<dyn FnOnce() + Send>,
        done: &'static Chan<bool>,
    }
    let queue = chan::<Task>(0);
    let x = var(0);
    let done = chan(1);
    beside(
        move || {
            let task = queue.recv().unwrap();
            (task.f)();
            task.done.send(true);
        },
        || {
            let f = Box::new(move || *x.at() = 1);
            queue.send(Task { f, done });
            done.recv();
            read(*x.at());
        },
    );
}

pub fn race_chan_itself_send() {
    let c = var(chan(10));
    let other = chan(20);
    beside(
        move || {
            c.at().send(0); //~ race
        },
        || *c.at() = other, //~ race
    );
}

pub fn race_chan_itself_recv() {
    let c = var(chan(10));
    let other = chan(20);
    c.at().send(1);
    then(
        move || {
            c.at().recv(); //~ race
        },
        || *c.at() = other, //~ race
    );
}

pub fn race_chan_itself_nil() {
    let c = var(Some(chan(10)));
    then(
        move || {
            c.at().map(|c| c.send(0)); //~ race
        },
        || *c.at() = None, //~ race
    );
}

pub fn race_chan_itself_close() {
    let c = var(chan::<i32>(0));
    let other = chan(0);
    beside(
        move || {
            c.at().close(); //~ race
        },
        || *c.at() = other, //~ race
    );
}

pub fn race_chan_itself_len() {
    let c = var(chan::<i32>(0));
    let other = chan(0);
    beside(
        move || {
            read(c.at().len()); //~ race
        },
        || *c.at() = other, //~ race
    );
}

pub fn race_chan_itself_cap() {
    let c = var(chan::<i32>(0));
    let other = chan(0);
    beside(
        move || {
            read(c.at().cap()); //~ race
        },
        || *c.at() = other, //~ race
    );
}

pub fn no_race_chan_close_len() {
    let c = chan::<i32>(10);
    both(
        move || {
            read(c.len());
        },
        move || {
            c.close();
        },
    );
}

pub fn no_race_chan_close_cap() {
    let c = chan::<i32>(10);
    both(
        move || {
            read(c.cap());
        },
        move || {
            c.close();
        },
    );
}

pub fn race_chan_close_send() {
    let c = chan(10);
    beside(
        move || {
            c.close(); //~ race
        },
        || {
            c.send(0); //~ race
        },
    );
}

pub fn no_race_chan_mutex() {
    let mtx = chan(1);
    let data = var(0);
    let locked = move |value| {
        mtx.send(());
        *data.at() = value;
        mtx.recv();
    };
    beside(move || locked(42), || locked(43));
}

pub fn no_race_select_mutex() {
    let mtx = chan(1);
    let aux = chan::<bool>(0);
    let data = var(0);
    let locked = move |value| {
        select! {
            send(mtx.tx, ()) -> _ => {}
            recv(aux.rx) -> _ => {}
        }
        *data.at() = value;
        select! {
            recv(mtx.rx) -> _ => {}
            recv(aux.rx) -> _ => {}
        }
    };
    beside(move || locked(42), || locked(43));
}

pub fn race_chan_sem() {
    let mtx = chan(2);
    let data = var(0);
    let locked = move |value| {
        mtx.send(true);
        *data.at() = value; //~ race
        mtx.recv();
    };
    beside(move || locked(42), || locked(43));
}

pub fn no_race_chan_wait_group() {
    const N: usize = 10;
    let chan_wg = chan(N / 2);
    let data = var([0; N]);
    let all: Vec<_> = (0..N)
        .map(|i| {
            chan_wg.send(true);
            go(move || {
                data.at()[i] = 42;
                chan_wg.recv();
            })
        })
        .collect();
    for _ in 0..N / 2 {
        chan_wg.send(true);
    }
    for i in 0..N {
        read(data.at()[i]);
    }
    all.into_iter().for_each(|g| g.join().unwrap());
}

pub fn no_race_blocked_send_sync() {
    let c = chan::<Option<Box<i32>>>(1);
    c.send(None);
    beside(
        move || {
            c.send(Some(Box::new(42)));
        },
        || {
            sleep(Duration::from_millis(2));
            c.recv();
            assert_eq!(c.recv(), Some(Some(Box::new(42))));
        },
    );
}

pub fn no_race_blocked_select_send_sync() {
    let c = chan::<Option<Box<i32>>>(1);
    c.send(None);
    beside(
        move || {
            c.send(Some(Box::new(42)));
        },
        || {
            sleep(Duration::from_millis(2));
            c.recv();
            let never = chan::<i32>(0);
            select! {
                recv(c.rx) -> p => assert_eq!(p, Ok(Some(Box::new(42)))),
                recv(never.rx) -> _ => {}
            }
        },
    );
}

pub fn no_race_close_happens_before_read() {
    for _ in 0..100 {
        let loc = var(0);
        let (write, done) = (chan::<()>(0), chan::<()>(0));
        let reader = go(move || {
            select! {
                recv(write.rx) -> _ => {
                    read(*loc.at());
                }
                default => {}
            }
            done.close();
        });
        let writer = go(move || {
            *loc.at() = 1;
            write.close();
        });
        done.recv();
        reader.join().unwrap();
        writer.join().unwrap();
    }
}

pub fn no_race_elem_size0() {
    let (x, y) = (var(0), var(0));
    let c = chan(2);
    c.send(());
    c.send(());
    let a = go(move || {
        *x.at() += 1;
        c.recv();
    });
    let b = go(move || {
        *y.at() += 1;
        c.recv();
    });
    c.send(());
    c.send(());
    *x.at() += 1;
    *y.at() += 1;
    a.join().unwrap();
    b.join().unwrap();
}

/// Two goroutines, of which the second sends after the first, and who receives when both have: what the detector knows of their order is what
/// messages without bytes tell it.
fn send_units(
    to: fn() -> (Sender<()>, Receiver<()>),
    receive: impl FnOnce(Receiver<()>, [Var; 2]),
) {
    let vars = [var(0), var(0)];
    let (tx, rx) = to();
    let turn = leak(Turn::new());
    let senders = [0, 1].map(|i| {
        let tx = tx.clone();
        go(move || {
            turn.wait(i as u32);
            *vars[i].at() = 1; //~ race
            tx.send(()).unwrap();
            turn.set(i as u32 + 1);
        })
    });
    turn.wait(2);
    receive(rx, vars);
    for sender in senders {
        sender.join().unwrap();
    }
}

type Var = &'static Racy<i32>;

fn receive_both(rx: Receiver<()>, [x, y]: [Var; 2]) {
    rx.recv().unwrap();
    rx.recv().unwrap();
    read(*x.at() + *y.at());
}

fn receive_one(rx: Receiver<()>, [x, y]: [Var; 2]) {
    rx.recv().unwrap();
    read(*x.at());
    read(*y.at()); //~ race
}

pub fn no_race_units_unbounded() {
    send_units(unbounded, receive_both);
}

pub fn race_units_unbounded() {
    send_units(unbounded, receive_one);
}

pub fn no_race_units_bounded() {
    send_units(|| bounded(2), receive_both);
}

pub fn race_units_bounded() {
    send_units(|| bounded(2), receive_one);
}
