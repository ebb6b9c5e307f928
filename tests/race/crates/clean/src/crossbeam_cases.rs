//! crossbeam: channels, deques, queues, epochs and the rest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::atomic::AtomicCell;
use crossbeam::channel::{bounded, select, tick, unbounded};
use crossbeam::deque::{Injector, Steal, Worker};
use crossbeam::epoch::{self, Atomic, Owned};
use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::sync::{Parker, ShardedLock, WaitGroup};
use crossbeam::thread;

pub const ALL: &[(&str, fn())] = &[
    ("crossbeam_channels", channels),
    ("crossbeam_select", selecting),
    ("crossbeam_deque", deque),
    ("crossbeam_injector", injector),
    ("crossbeam_epoch", epochs),
    ("crossbeam_queues", queues),
    ("crossbeam_atomic_cell", atomic_cell),
    ("crossbeam_sync", sync),
];

fn channels() {
    for cap in [Some(0), Some(1), Some(8), None] {
        let (tx, rx) = cap.map_or_else(unbounded, bounded);
        thread::scope(|s| {
            for n in 0..2 {
                let tx = tx.clone();
                s.spawn(move |_| (0..100).for_each(|i| tx.send(vec![n, i]).unwrap()));
            }
            drop(tx);
            let other = rx.clone();
            let taken = s.spawn(move |_| other.iter().map(|v| v[1]).sum::<i32>());
            let ours: i32 = rx.iter().map(|v| v[1]).sum();
            assert_eq!(ours + taken.join().unwrap(), 99 * 100);
        })
        .unwrap();
    }
}

fn selecting() {
    let (a, ra) = bounded::<Box<i32>>(0);
    let (b, rb) = bounded::<Box<i32>>(1);
    let ticks = tick(Duration::from_millis(1));
    thread::scope(|s| {
        s.spawn(|_| (0..50).for_each(|i| a.send(Box::new(i)).unwrap()));
        s.spawn(|_| (0..50).for_each(|i| b.send(Box::new(i)).unwrap()));
        let mut sum = 0;
        let mut left = 100;
        while left > 0 {
            select! {
                recv(ra) -> v => { sum += *v.unwrap(); left -= 1 }
                recv(rb) -> v => { sum += *v.unwrap(); left -= 1 }
                recv(ticks) -> _ => {}
            }
        }
        assert_eq!(sum, 2 * 49 * 25);
    })
    .unwrap();
}

fn deque() {
    let worker = Worker::<Box<usize>>::new_lifo();
    let stealer = worker.stealer();
    let sum = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|_| {
                let mut empty = 0;
                while empty < 1000 {
                    match stealer.steal() {
                        Steal::Success(v) => drop(sum.fetch_add(*v, Ordering::Relaxed)),
                        _ => empty += 1,
                    }
                }
            });
        }
        for i in 0..500usize {
            worker.push(Box::new(i));
            if i % 3 == 0
                && let Some(v) = worker.pop()
            {
                sum.fetch_add(*v, Ordering::Relaxed);
            }
        }
    })
    .unwrap();
    while let Some(v) = worker.pop() {
        sum.fetch_add(*v, Ordering::Relaxed);
    }
    assert_eq!(sum.into_inner(), 500 * 499 / 2);
}

fn injector() {
    let all = Injector::new();
    let sum = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|_| (0..200usize).for_each(|i| all.push(Box::new(i))));
            s.spawn(|_| {
                let local = Worker::new_fifo();
                for _ in 0..300 {
                    if let Steal::Success(v) = all.steal_batch_and_pop(&local) {
                        sum.fetch_add(*v, Ordering::Relaxed);
                    }
                    while let Some(v) = local.pop() {
                        sum.fetch_add(*v, Ordering::Relaxed);
                    }
                }
            });
        }
    })
    .unwrap();
    while let Steal::Success(v) = all.steal() {
        sum.fetch_add(*v, Ordering::Relaxed);
    }
    assert_eq!(sum.into_inner(), 2 * 200 * 199 / 2);
}

fn epochs() {
    let shared = Atomic::new(vec![0usize; 4]);
    thread::scope(|s| {
        for n in 0..3 {
            let shared = &shared;
            s.spawn(move |_| {
                for i in 0..200 {
                    let guard = epoch::pin();
                    let old =
                        shared.swap(Owned::new(vec![n, i, n + i, 1]), Ordering::AcqRel, &guard);
                    // SAFETY: swapped out, by us alone, and pinned.
                    assert_eq!(unsafe { old.deref() }.len(), 4);
                    // SAFETY: nobody finds it any more.
                    unsafe { guard.defer_destroy(old) };
                    // SAFETY: pinned, and never null.
                    let now = unsafe { shared.load(Ordering::Acquire, &guard).deref() };
                    assert!(now.len() == 4 && now[3] <= 1);
                }
            });
        }
    })
    .unwrap();
    // SAFETY: nobody else is left.
    drop(unsafe { shared.into_owned() });
}

fn queues() {
    let (array, seg) = (ArrayQueue::new(4), SegQueue::new());
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|_| {
                for i in 0..200 {
                    seg.push(Box::new(i));
                    let _ = array.push(Box::new(i));
                }
            });
            s.spawn(|_| {
                for _ in 0..200 {
                    std::hint::black_box(seg.pop().map(|b| *b));
                    std::hint::black_box(array.pop().map(|b| *b));
                }
            });
        }
    })
    .unwrap();
}

fn atomic_cell() {
    let (small, large) = (AtomicCell::new(0u64), AtomicCell::new([0u64; 4]));
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|_| {
                for i in 0..200 {
                    small.fetch_add(1);
                    large.store([i; 4]);
                    let v = large.load();
                    assert!(v.iter().all(|x| *x == v[0]));
                }
            });
        }
    })
    .unwrap();
    assert_eq!(small.load(), 400);
}

fn sync() {
    let lock = ShardedLock::new(vec![0]);
    let parker = Parker::new();
    let unparker = parker.unparker().clone();
    let wg = WaitGroup::new();
    thread::scope(|s| {
        for i in 0..3 {
            let wg = wg.clone();
            let lock = &lock;
            s.spawn(move |_| {
                lock.write().unwrap().push(i);
                std::hint::black_box(lock.read().unwrap().len());
                drop(wg);
            });
        }
        s.spawn(move |_| unparker.unpark());
        parker.park();
        wg.wait();
        assert_eq!(lock.read().unwrap().len(), 4);
    })
    .unwrap();
}
