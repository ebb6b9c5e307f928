//! What it costs to start goroutines, few and very many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use raddle::chan::{self, Sender};
use raddle::sync::WaitGroup;

use crate::meter::{Meter, Sample};

/// Goroutines that only end, waited for a thousand at a time.
pub fn spawn_join(n: usize) -> Sample {
    let group = Arc::new(WaitGroup::new());
    let meter = Meter::start();
    for i in 1..=n {
        group.add(1);
        let member = Arc::clone(&group);
        raddle::go(move || member.done());
        if i % 1000 == 0 {
            group.wait();
        }
    }
    group.wait();
    meter.stop()
}

/// One goroutine after the other, each sends one message over the same channel.
pub fn spawn_seq(n: usize) -> Sample {
    let (tx, rx) = chan::bounded(0);
    let meter = Meter::start();
    for _ in 0..n {
        let tx = tx.clone();
        raddle::go(move || tx.send(()).unwrap());
        rx.recv().unwrap();
    }
    meter.stop()
}

/// fib(20) with a goroutine and a channel for each left call: 10,945 of them.
pub fn fib_spawn(n: usize) -> Sample {
    let meter = Meter::start();
    for _ in 0..n {
        assert_eq!(fib(20), 6765);
    }
    meter.stop()
}

fn fib(n: u32) -> u32 {
    if n < 2 {
        return n;
    }
    let (tx, rx) = chan::bounded(1);
    raddle::go(move || tx.send(fib(n - 1)).unwrap());
    let right = fib(n - 2);
    rx.recv().unwrap() + right
}

/// All n alive at once, each parked on the same channel until it is closed.
pub fn million(n: usize) -> Sample {
    /// What they share, by one counted pointer each.
    struct Crowd {
        begun: AtomicUsize,
        all_begun: chan::Sender<()>,
        gate: chan::Receiver<()>,
        group: WaitGroup,
    }
    let (all, all_begun) = chan::bounded(1);
    let (gate, gate_opens) = chan::bounded(0);
    let crowd = Arc::new(Crowd {
        begun: AtomicUsize::new(0),
        all_begun: all,
        gate: gate_opens,
        group: WaitGroup::new(),
    });
    crowd.group.add(n as isize);
    let meter = Meter::start();
    for _ in 0..n {
        let crowd = crowd.clone();
        raddle::go(move || {
            if crowd.begun.fetch_add(1, Ordering::AcqRel) + 1 == n {
                crowd.all_begun.send(()).unwrap();
            }
            crowd.gate.recv().unwrap_err();
            crowd.group.done();
        });
    }
    all_begun.recv().unwrap();
    let started = meter.elapsed();
    gate.close();
    crowd.group.wait();
    meter.stop().with_ms("started_ms", started).with_total()
}

/// A tree of goroutines, ten below each, with n leaves that send their number up.
pub fn skynet(n: usize) -> Sample {
    assert!(n == 10usize.pow(n.ilog10()), "skynet needs a power of 10");
    let (tx, rx) = chan::bounded(0);
    let meter = Meter::start();
    raddle::go(move || skynet_node(tx, 0, n));
    let sum = rx.recv().unwrap();
    let sample = meter.stop();
    assert_eq!(sum, n * (n - 1) / 2);
    sample
}

fn skynet_node(up: Sender<usize>, first: usize, leaves: usize) {
    if leaves == 1 {
        return up.send(first).unwrap();
    }
    let (tx, rx) = chan::bounded(0);
    for child in 0..10 {
        let tx = tx.clone();
        raddle::go(move || skynet_node(tx, first + child * (leaves / 10), leaves / 10));
    }
    up.send((0..10).map(|_| rx.recv().unwrap()).sum()).unwrap();
}
