//! How often a sync object changed: who loads its value without the object's lock looks here before and after.
//!
//! # States
//! Even: at rest. Odd: its holder is about to change, or has changed, the value at the address, and the clock is not that value's yet.
//!
//! # Invariants
//! 1. Only who holds the object's lock writes, and the number grows.
//! 2. Each clock belongs to one even number: who knew all of the clock at that number knows all of it as long as the number is there.
//!
//! # Memory ordering
//! `begin: store Relaxed, before the atomic operation (Release or more)` ⇄ `is_still: load, after the atomic load (Acquire or more)`:
//! who read the new value sees the odd number, or a later one. `end: store Release` ⇄ `now: load Acquire`. The model below checks
//! this; compiled code's operations are always SeqCst (`abi/atomic.rs`).

use std::sync::atomic::Ordering::*;

#[cfg(loom)]
use loom::sync::atomic::AtomicU64;
#[cfg(not(loom))]
use std::sync::atomic::AtomicU64;

/// See the header.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// The number, for its writer.
    fn own(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// A change begins, unless one has.
    pub(crate) fn begin(&self) {
        self.0.store(self.own() | 1, Relaxed);
    }

    /// The change, if one has begun, is over.
    pub(crate) fn end(&self) {
        let count = self.own();
        if count & 1 != 0 {
            self.0.store(count + 1, Release);
        }
    }

    /// What was known of the object is no more.
    pub(crate) fn forget(&self) {
        self.0.store(self.own() + 2, Release);
    }

    /// The numbers before and after the change that has begun; both the present one if none has.
    pub(crate) fn around(&self) -> (u64, u64) {
        let count = self.own();
        (count & !1, (count + 1) & !1)
    }

    /// The number, for who does not hold the lock.
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// Whether nothing changed since [`now`](Self::now) returned `count`. After an atomic load.
    pub(crate) fn is_still(&self, count: u64) -> bool {
        self.0.load(Acquire) == count
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    /// A sync object: its lock holds the clock, which is the newest released value here.
    struct Object {
        count: Count,
        clock: Mutex<u64>,
        value: AtomicU64,
    }

    impl Object {
        /// A release store, as `atomic::by` does it.
        fn release(&self, value: u64) {
            let mut clock = self.clock.lock().unwrap();
            self.count.begin();
            self.value.store(value, SeqCst);
            *clock = value;
            self.count.end();
        }

        /// An acquire load by who knows the clock `knows`, and at which count; returns the value, and what is known then.
        fn acquire(&self, known: &mut (u64, u64)) -> u64 {
            let count = self.count.now();
            if count == known.0 {
                let value = self.value.load(SeqCst);
                if self.count.is_still(count) {
                    return value;
                }
            }
            let clock = self.clock.lock().unwrap();
            *known = (self.count.around().0, *clock);
            self.value.load(SeqCst)
        }
    }

    #[test]
    fn who_reads_a_value_knows_its_clock() {
        loom::model(|| {
            let object = Arc::new(Object {
                count: Count(AtomicU64::new(0)),
                clock: Mutex::new(0),
                value: AtomicU64::new(0),
            });
            let writer = object.clone();
            let writer = thread::spawn(move || {
                writer.release(1);
                writer.release(2);
            });
            let mut known = (0, 0);
            for _ in 0..2 {
                let value = object.acquire(&mut known);
                assert!(known.1 >= value, "read {value}, knows {}", known.1);
            }
            writer.join().unwrap();
        });
    }
}
