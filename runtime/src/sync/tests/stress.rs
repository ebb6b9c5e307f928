//! Everything at once, from a seed: `RADDLE_SEED=n` replays one.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::{Background, in_background};
use crate::sync::{Condvar, Mutex, RwLock};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn maybe_yield(&mut self) {
        if self.below(8) == 0 {
            crate::yield_now();
        }
    }
}

fn seed() -> u64 {
    let seed = match std::env::var("RADDLE_SEED") {
        Ok(text) => text.parse().expect("RADDLE_SEED must be a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    println!("RADDLE_SEED={seed}");
    seed | 1
}

#[test]
fn mutexes_with_and_without_time_outs() {
    let seed = seed();
    let m = Arc::new(Mutex::new(0_u64));
    let threads: Vec<_> = (0..6_u64)
        .map(|i| {
            let m = m.clone();
            in_background(move || {
                let mut random = Random(seed.wrapping_add(i * 2));
                let mut mine = 0;
                for _ in 0..5_000 {
                    let guard = match random.below(4) {
                        0 => m.try_lock(),
                        1 => m.try_lock_for(Duration::from_micros(random.below(50))),
                        _ => Some(m.lock()),
                    };
                    let Some(mut n) = guard else { continue };
                    let seen = *n;
                    random.maybe_yield();
                    *n = seen + 1;
                    mine += 1;
                }
                mine
            })
        })
        .collect();
    let sum: u64 = threads.into_iter().map(Background::join).sum();
    assert_eq!(*m.lock(), sum);
    assert!(m.try_lock().is_some());
}

#[test]
fn rwlocks_with_and_without_time_outs() {
    let seed = seed();
    let lock = Arc::new(RwLock::new((0_u64, 0_u64)));
    let threads: Vec<_> = (0..6_u64)
        .map(|i| {
            let lock = lock.clone();
            in_background(move || {
                let mut random = Random(seed.wrapping_add(i * 2));
                for _ in 0..5_000 {
                    let time = Duration::from_micros(random.below(50));
                    if random.below(3) == 0 {
                        let guard = match random.below(4) {
                            0 => lock.try_write(),
                            1 => lock.try_write_for(time),
                            _ => Some(lock.write()),
                        };
                        let Some(mut w) = guard else { continue };
                        w.0 += 1;
                        random.maybe_yield();
                        w.1 += 1;
                        if random.below(2) == 0 {
                            let r = crate::sync::RwLockWriteGuard::downgrade(w);
                            assert_eq!(r.0, r.1);
                        }
                    } else {
                        let guard = match random.below(4) {
                            0 => lock.try_read(),
                            1 => lock.try_read_for(time),
                            _ => Some(lock.read()),
                        };
                        let Some(r) = guard else { continue };
                        let first = r.0;
                        random.maybe_yield();
                        assert_eq!((first, first), *r);
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(Background::join);
    assert!(lock.try_write().is_some());
    assert!(lock.try_read().is_some());
}

/// A bounded buffer of two condition variables: everything put in comes out once.
#[test]
fn condvars_with_and_without_time_outs() {
    #[derive(Default)]
    struct Buffer {
        items: Mutex<Vec<u64>>,
        room: Condvar,
        filled: Condvar,
    }
    let seed = seed();
    let buffer = Arc::new(Buffer::default());
    let taken = Arc::new(Mutex::new(0_u64));
    let threads: Vec<_> = (0..6_u64)
        .map(|i| {
            let (buffer, taken) = (buffer.clone(), taken.clone());
            in_background(move || {
                let mut random = Random(seed.wrapping_add(i * 2));
                for k in 1..=3_000 {
                    let mut items = buffer.items.lock();
                    let (cond, other) = if i % 2 == 0 {
                        (&buffer.room, &buffer.filled)
                    } else {
                        (&buffer.filled, &buffer.room)
                    };
                    let blocked = |items: &mut Vec<u64>| {
                        if i % 2 == 0 {
                            items.len() == 2
                        } else {
                            items.is_empty()
                        }
                    };
                    while blocked(&mut items) {
                        if random.below(2) == 0 {
                            cond.wait(&mut items);
                        } else {
                            cond.wait_timeout(&mut items, Duration::from_micros(random.below(50)));
                        }
                    }
                    if i % 2 == 0 {
                        items.push(k);
                    } else {
                        let item = items.pop().expect("not empty");
                        *taken.lock() += item;
                    }
                    drop(items);
                    random.maybe_yield();
                    other.notify_one();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(Background::join);
    assert_eq!(*taken.lock(), 3 * 3_000 * 3_001 / 2);
}

super::on_goroutines! {
    mutexes_with_and_without_time_outs
    rwlocks_with_and_without_time_outs
    condvars_with_and_without_time_outs
}
