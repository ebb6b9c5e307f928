//! What a goroutine does after its access does not make the detector forget where that was. Ours: Go's suite has nothing of the kind.

use std::hint::black_box;
use std::sync::Mutex;

use crate::support::*;

#[inline(never)]
fn write(x: &Racy<u64>) {
    *x.at() = 1; //~ race
}

/// A goroutine writes, and then does what `then` says.
fn then(then: fn()) {
    let (x, turn) = (var(0), leak(Turn::new()));
    let writer = go(move || {
        write(x);
        then();
        turn.set(1);
    });
    while turn.get() == 0 {
        yield_now();
    }
    read(*x.at()); //~ race
    writer.join().unwrap();
}

pub fn race_before_strings_are_made() {
    then(|| (0..500).for_each(|i| drop(black_box(format!("{i} {}", 3 * i)))));
}

pub fn race_before_locks_are_taken() {
    then(|| {
        let lock = Mutex::new(0);
        (0..500).for_each(|i| *lock.lock().unwrap() += i);
    });
}

pub fn race_before_messages_are_sent() {
    then(|| {
        let (sender, receiver) = raddle::chan::bounded(1);
        for i in 0..1000 {
            sender.send(i).unwrap();
            assert_eq!(receiver.recv(), Ok(i));
        }
    });
}

pub fn race_before_memory_is_allocated() {
    then(|| (0..2000).for_each(|i| drop(black_box(vec![i; 3]))));
}

/// More than any history has room for.
pub fn race_before_a_hundred_thousand_messages() {
    then(|| {
        let (sender, receiver) = raddle::chan::bounded(1);
        for i in 0..100_000 {
            sender.send(i).unwrap();
            assert_eq!(receiver.recv(), Ok(i));
        }
    });
}

/// The write is a thousand calls deep, and all return.
pub fn race_before_a_thousand_returns() {
    #[inline(never)]
    fn deep(x: &Racy<u64>, n: u64) -> u64 {
        if n == 0 {
            write(x);
            return 0;
        }
        let below = deep(x, n - 1);
        black_box(below + 1)
    }
    let (x, turn) = (var(0), leak(Turn::new()));
    let writer = go(move || {
        assert_eq!(deep(x, 1000), 1000);
        turn.set(1);
    });
    while turn.get() == 0 {
        yield_now();
    }
    read(*x.at()); //~ race
    writer.join().unwrap();
}
