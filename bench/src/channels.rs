//! What it costs to pass values between goroutines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raddle::chan;
use raddle::sync::WaitGroup;

use crate::meter::{Meter, Sample};

/// There and back over two unbuffered channels.
pub fn pingpong(n: usize) -> Sample {
    let (ping, pings) = chan::bounded(0);
    let (pong, pongs) = chan::bounded(0);
    raddle::go(move || pings.iter().for_each(|ball| pong.send(ball).unwrap()));
    let meter = Meter::start();
    for ball in 0..n {
        ping.send(ball).unwrap();
        assert!(pongs.recv() == Ok(ball));
    }
    meter.stop()
}

/// The same with a deadline, never reached, on both receives.
pub fn recv_timeout(n: usize) -> Sample {
    const LIMIT: Duration = Duration::from_secs(1);
    let (ping, pings) = chan::bounded(0);
    let (pong, pongs) = chan::bounded(0);
    raddle::go(move || {
        while let Ok(ball) = pings.recv_timeout(LIMIT) {
            pong.send(ball).unwrap();
        }
    });
    let meter = Meter::start();
    for ball in 0..n {
        ping.send(ball).unwrap();
        assert!(pongs.recv_timeout(LIMIT) == Ok(ball));
    }
    meter.stop()
}

/// One producer, one consumer, room for 128.
pub fn buffered(n: usize) -> Sample {
    let (tx, rx) = chan::bounded(128);
    let meter = Meter::start();
    raddle::go(move || (0..n).for_each(|i| tx.send(i).unwrap()));
    let sum: usize = rx.iter().sum();
    let sample = meter.stop();
    assert_eq!(sum, n * (n - 1) / 2);
    sample
}

/// Send and receive in one goroutine: no switch.
pub fn buffered_local(n: usize) -> Sample {
    let (tx, rx) = chan::bounded(1);
    let meter = Meter::start();
    for i in 0..n {
        tx.send(i).unwrap();
        assert!(rx.recv() == Ok(i));
    }
    meter.stop()
}

/// Select over two channels of which one is ready.
pub fn select2(n: usize) -> Sample {
    let (tx, rx) = chan::bounded(1);
    let (_quiet, never) = chan::bounded::<usize>(1);
    let meter = Meter::start();
    for i in 0..n {
        tx.send(i).unwrap();
        raddle::select! {
            recv(rx) -> value => assert!(value == Ok(i)),
            recv(never) -> _ => unreachable!("nobody sends"),
        }
    }
    meter.stop()
}

/// Four producers, four consumers, room for 64.
pub fn mpmc(n: usize) -> Sample {
    let (tx, rx) = chan::bounded(64);
    let received = Arc::new(AtomicUsize::new(0));
    let consumers = Arc::new(WaitGroup::new());
    consumers.add(4);
    let meter = Meter::start();
    for _ in 0..4 {
        let tx = tx.clone();
        raddle::go(move || (0..n / 4).for_each(|i| tx.send(i).unwrap()));
    }
    drop(tx);
    for _ in 0..4 {
        let (rx, received, consumers) = (rx.clone(), received.clone(), consumers.clone());
        raddle::go(move || {
            received.fetch_add(rx.iter().count(), Ordering::Relaxed);
            consumers.done();
        });
    }
    consumers.wait();
    let sample = meter.stop();
    assert_eq!(received.load(Ordering::Relaxed), n / 4 * 4);
    sample
}

/// One message through a chain of a thousand goroutines; an operation is a hop.
pub fn ring(n: usize) -> Sample {
    const LENGTH: usize = 1000;
    let (first, mut last) = chan::bounded(0);
    for _ in 0..LENGTH {
        let (tx, rx) = chan::bounded(0);
        raddle::go(move || last.iter().for_each(|message| tx.send(message).unwrap()));
        last = rx;
    }
    let meter = Meter::start();
    for message in (0..n).step_by(LENGTH) {
        first.send(message).unwrap();
        assert!(last.recv() == Ok(message));
    }
    meter.stop()
}
