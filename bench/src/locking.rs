//! What it costs to yield, and to lock.

use std::sync::Arc;

use raddle::sync::{Mutex, WaitGroup};

use crate::meter::{Meter, Sample};

/// One goroutine that yields to nobody.
pub fn yield1(n: usize) -> Sample {
    let meter = Meter::start();
    for _ in 0..n {
        raddle::yield_now();
    }
    meter.stop()
}

/// Two goroutines that yield n times in all.
pub fn yield2(n: usize) -> Sample {
    let group = Arc::new(WaitGroup::new());
    group.add(2);
    let meter = Meter::start();
    for _ in 0..2 {
        let member = group.clone();
        raddle::go(move || {
            for _ in 0..n / 2 {
                raddle::yield_now();
            }
            member.done();
        });
    }
    group.wait();
    meter.stop()
}

/// Nobody else wants the lock.
pub fn mutex_uncontended(n: usize) -> Sample {
    let mutex = Mutex::new(());
    let meter = Meter::start();
    for _ in 0..n {
        drop(mutex.lock());
    }
    meter.stop()
}

/// Four goroutines for each P want the lock.
pub fn mutex_contended(n: usize) -> Sample {
    let goroutines = raddle::procs() * 4;
    let count = Arc::new(Mutex::new(0usize));
    let group = Arc::new(WaitGroup::new());
    group.add(goroutines as isize);
    let meter = Meter::start();
    for _ in 0..goroutines {
        let (count, member) = (count.clone(), group.clone());
        raddle::go(move || {
            for _ in 0..n / goroutines {
                *count.lock() += 1;
            }
            member.done();
        });
    }
    group.wait();
    let sample = meter.stop();
    assert_eq!(*count.lock(), n / goroutines * goroutines);
    sample
}
