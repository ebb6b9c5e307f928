//! Locks and what else makes goroutines wait for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raddle::sync::{Barrier, Condvar, Mutex, Once, OnceCell, RwLock, Semaphore, WaitGroup, atomic};

const SHORT: Duration = Duration::from_millis(5);

pub(crate) fn mutex_excludes() {
    let count = Mutex::new(0_u64);
    raddle::scope(|s| {
        for _ in 0..8 {
            s.go(|| {
                for i in 0..500 {
                    let mut count = count.lock();
                    let before = *count;
                    if i % 50 == 0 {
                        raddle::yield_now(); // held over a park
                    }
                    *count = before + 1;
                }
            });
        }
    });
    assert_eq!(count.into_inner(), 4000);
}

pub(crate) fn try_lock_and_timeouts() {
    let lock = Mutex::new(());
    let held = lock.lock();
    assert!(lock.is_locked());
    raddle::scope(|s| {
        s.go(|| {
            assert!(lock.try_lock().is_none());
            assert!(lock.try_lock_for(SHORT).is_none());
        });
    });
    drop(held);
    assert!(lock.try_lock().is_some());
    assert!(lock.try_lock_for(SHORT).is_some());
}

pub(crate) fn rwlock_admits_readers_together() {
    let lock = RwLock::new((0_u64, 0_u64));
    let together = Barrier::new(4);
    raddle::scope(|s| {
        for _ in 0..4 {
            s.go(|| {
                let both = lock.read();
                together.wait(); // all four hold it at once
                assert_eq!(both.0, both.1);
                assert!(lock.try_write().is_none());
            });
        }
    });
    raddle::scope(|s| {
        for _ in 0..4 {
            s.go(|| {
                for _ in 0..200 {
                    let mut both = lock.write();
                    both.0 += 1;
                    raddle::yield_now();
                    both.1 += 1;
                }
            });
            s.go(|| {
                for _ in 0..200 {
                    let both = lock.read();
                    assert_eq!(both.0, both.1);
                }
            });
        }
    });
    assert_eq!(lock.into_inner(), (800, 800));
}

pub(crate) fn condvar_hands_over() {
    // Whose turn it is goes round; each waits for its own.
    let (turn, changed) = (Mutex::new(0), Condvar::new());
    raddle::scope(|s| {
        for me in 0..5 {
            let (turn, changed) = (&turn, &changed);
            s.go(move || {
                for _ in 0..50 {
                    let mut turn = turn.lock();
                    changed.wait_while(&mut turn, |turn| *turn % 5 != me);
                    *turn += 1;
                    changed.notify_all();
                }
            });
        }
    });
    assert_eq!(turn.into_inner(), 250);
}

pub(crate) fn condvar_times_out() {
    let (lock, never) = (Mutex::new(()), Condvar::new());
    let mut guard = lock.lock();
    assert!(never.wait_timeout(&mut guard, SHORT).timed_out());
    assert!(lock.try_lock().is_none(), "it holds the lock again");
    assert!(!never.notify_one());
}

pub(crate) fn once_runs_once() {
    let (once, runs) = (Once::new(), AtomicUsize::new(0));
    raddle::scope(|s| {
        for _ in 0..10 {
            s.go(|| {
                once.call_once(|| {
                    (0..5).for_each(|_| raddle::yield_now());
                    runs.fetch_add(1, Ordering::Relaxed);
                });
                assert_eq!(runs.load(Ordering::Relaxed), 1);
            });
        }
    });
    assert!(once.is_completed());
}

pub(crate) fn once_cell_is_set_once() {
    let cell = OnceCell::new();
    raddle::scope(|s| {
        for _ in 0..10 {
            s.go(|| {
                let made = cell.get_or_init(|| {
                    raddle::yield_now();
                    Box::new(5)
                });
                assert_eq!(**made, 5);
            });
        }
    });
    assert_eq!(cell.set(Box::new(6)), Err(Box::new(6)));
}

pub(crate) fn wait_group_waits_for_all() {
    let (group, ended) = (Arc::new(WaitGroup::new()), Arc::new(AtomicUsize::new(0)));
    for round in 1..=20 {
        for _ in 0..10 {
            group.add(1);
            let (group, ended) = (group.clone(), ended.clone());
            raddle::go(move || {
                raddle::yield_now();
                ended.fetch_add(1, Ordering::Relaxed);
                group.done();
            });
        }
        group.wait();
        assert_eq!(ended.load(Ordering::Relaxed), round * 10);
    }
}

pub(crate) fn barrier_releases_together_with_one_leader() {
    const PARTIES: usize = 6;
    let (barrier, arrived, leaders) = (
        Barrier::new(PARTIES),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    raddle::scope(|s| {
        for _ in 0..PARTIES {
            s.go(|| {
                for round in 1..=50 {
                    arrived.fetch_add(1, Ordering::Relaxed);
                    if barrier.wait().is_leader() {
                        leaders.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(arrived.load(Ordering::Relaxed) >= round * PARTIES);
                }
            });
        }
    });
    assert_eq!(leaders.into_inner(), 50);
}

pub(crate) fn semaphore_bounds() {
    let (semaphore, inside) = (Semaphore::new(3), AtomicUsize::new(0));
    raddle::scope(|s| {
        for _ in 0..12 {
            s.go(|| {
                for _ in 0..50 {
                    let _permit = semaphore.acquire(1);
                    assert!(inside.fetch_add(1, Ordering::Relaxed) < 3);
                    raddle::yield_now();
                    inside.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(semaphore.available_permits(), 3);
    let all = semaphore.acquire(3);
    assert!(semaphore.try_acquire(1).is_none());
    assert!(semaphore.try_acquire_for(1, SHORT).is_none());
    drop(all);
    assert!(semaphore.try_acquire(1).is_some());
}

pub(crate) fn a_lock_is_free_again_after_a_panic() {
    let lock = Arc::new(Mutex::new(1));
    let panicking = {
        let lock = lock.clone();
        raddle::go(move || {
            let mut value = lock.lock();
            *value = 2;
            panic!("with the lock held");
        })
    };
    assert!(panicking.join().unwrap_err().is_panic());
    assert_eq!(*lock.lock(), 2);
}

pub(crate) fn atomics_count() {
    let count = atomic::AtomicU64::new(0);
    raddle::scope(|s| {
        for _ in 0..8 {
            s.go(|| {
                for _ in 0..1000 {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(count.load(Ordering::SeqCst), 8000);
}
