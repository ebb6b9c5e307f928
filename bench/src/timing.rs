//! What it costs to sleep, and to set timers.

use std::sync::Arc;
use std::time::Duration;

use raddle::sync::WaitGroup;
use raddle::time::{self, Timer};

use crate::meter::{Meter, Sample};

/// n goroutines sleep 100 ms at once.
pub fn sleepers(n: usize) -> Sample {
    let group = Arc::new(WaitGroup::new());
    group.add(n as isize);
    let meter = Meter::start();
    for _ in 0..n {
        let member = group.clone();
        raddle::go(move || {
            time::sleep(Duration::from_millis(100));
            member.done();
        });
    }
    group.wait();
    meter.stop().with_total()
}

/// Arms a thousand timers 10 to 11 s ahead and cancels them, again and again; an operation is both.
pub fn timers(n: usize) -> Sample {
    let mut armed = Vec::with_capacity(1000);
    let meter = Meter::start();
    for i in 0..n {
        let spread_ms = (i * 7919 % 1000) as u64;
        armed.push(Timer::new(Duration::from_millis(10_000 + spread_ms)));
        if armed.len() == 1000 || i + 1 == n {
            assert!(armed.drain(..).all(|timer| timer.stop()));
        }
    }
    meter.stop()
}

/// A hundred goroutines sleep 1 ms again and again; 10,000 ns an operation would be perfect.
pub fn timer_fire(n: usize) -> Sample {
    let group = Arc::new(WaitGroup::new());
    group.add(100);
    let meter = Meter::start();
    for _ in 0..100 {
        let member = group.clone();
        raddle::go(move || {
            for _ in 0..n / 100 {
                time::sleep(Duration::from_millis(1));
            }
            member.done();
        });
    }
    group.wait();
    meter.stop()
}
