//! The reader-writer lock, one behaviour a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use super::{Background, LONG, in_background, until};
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

#[test]
fn readers_share_and_writers_exclude() {
    let lock = RwLock::new(1);
    let (a, b) = (lock.read(), lock.read());
    assert_eq!(*a + *b, 2);
    assert!(lock.try_write().is_none());
    assert!(lock.is_locked() && !lock.is_locked_exclusive());
    drop((a, b));
    let mut w = lock.write();
    *w = 2;
    assert!(lock.try_read().is_none() && lock.try_write().is_none());
    assert!(lock.is_locked_exclusive());
    drop(w);
    assert_eq!(*lock.try_read().expect("free"), 2);
}

#[test]
fn a_waiting_writer_keeps_new_readers_out() {
    let lock = Arc::new(RwLock::new(0));
    let first = lock.read();
    let other = lock.clone();
    let writer = in_background(move || *other.write() = 1);
    until(|| lock.try_read().is_none());
    let other = lock.clone();
    let reader = in_background(move || assert_eq!(*other.read(), 1, "came after the writer"));
    drop(first);
    writer.join();
    reader.join();
}

#[test]
fn a_writers_unlock_lets_all_readers_in() {
    // All readers must be inside at once, else their barrier never opens.
    let lock = Arc::new(RwLock::new(()));
    let held = lock.write();
    let barrier = Arc::new(crate::sync::Barrier::new(5));
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let (lock, barrier) = (lock.clone(), barrier.clone());
            in_background(move || {
                let _held = lock.read();
                barrier.wait();
            })
        })
        .collect();
    drop(held);
    readers.into_iter().for_each(Background::join);
}

#[test]
fn timed_locks_give_up() {
    let lock = RwLock::new(());
    let r = lock.read();
    assert!(lock.try_write_for(Duration::from_millis(2)).is_none());
    assert!(lock.try_read_for(Duration::ZERO).is_some());
    drop(r);
    let w = lock.write();
    assert!(lock.try_read_for(Duration::from_millis(2)).is_none());
    assert!(lock.try_write_for(Duration::ZERO).is_none());
    assert!(lock.try_read_until(std::time::Instant::now()).is_none());
    assert!(lock.try_write_until(std::time::Instant::now()).is_none());
    drop(w);
    assert!(lock.try_write_for(LONG).is_some());
    assert!(lock.try_read_for(Duration::MAX).is_some());
}

#[test]
fn a_writer_that_gives_up_lets_readers_in() {
    let lock = Arc::new(RwLock::new(()));
    let first = lock.read();
    let other = lock.clone();
    let writer = in_background(move || {
        assert!(other.try_write_for(Duration::from_millis(20)).is_none());
    });
    // Comes in at once or, behind the writer, when that gives up: in any case with the first read lock held.
    let other = lock.clone();
    let reader = in_background(move || drop(other.read()));
    reader.join();
    writer.join();
    drop(first);
    assert!(lock.try_write().is_some());
}

#[test]
fn a_reader_that_gives_up_is_not_counted() {
    let lock = Arc::new(RwLock::new(()));
    let held = lock.write();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let lock = lock.clone();
            in_background(move || {
                assert!(lock.try_read_for(Duration::from_millis(1)).is_none());
            })
        })
        .collect();
    readers.into_iter().for_each(Background::join);
    drop(held);
    assert!(lock.try_write().is_some());
    assert!(lock.try_read().is_some());
}

#[test]
fn downgrade_lets_readers_in_and_no_writer() {
    let lock = Arc::new(RwLock::new(0));
    let mut w = lock.write();
    *w = 1;
    let other = lock.clone();
    let writer = in_background(move || *other.write() = 2);
    let entered = Arc::new(AtomicBool::new(false));
    let (other, flag) = (lock.clone(), entered.clone());
    let reader = in_background(move || {
        drop(other.read());
        flag.store(true, SeqCst);
    });
    let r = RwLockWriteGuard::downgrade(w);
    assert_eq!(*r, 1);
    assert!(lock.try_write().is_none());
    drop(r);
    writer.join();
    reader.join();
    assert_eq!(*lock.read(), 2);
}

#[test]
fn neither_side_starves() {
    let lock = Arc::new(RwLock::new(0_u64));
    let stop = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..3)
        .map(|_| {
            let (lock, stop) = (lock.clone(), stop.clone());
            in_background(move || {
                while !stop.load(Relaxed) {
                    std::hint::black_box(*lock.read());
                }
            })
        })
        .collect();
    for _ in 0..200 {
        *lock.try_write_for(LONG).expect("the writer is not starved") += 1;
    }
    stop.store(true, Relaxed);
    hogs.into_iter().for_each(Background::join);

    let stop = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..3)
        .map(|_| {
            let (lock, stop) = (lock.clone(), stop.clone());
            in_background(move || {
                while !stop.load(Relaxed) {
                    *lock.write() += 1;
                }
            })
        })
        .collect();
    for _ in 0..200 {
        drop(lock.try_read_for(LONG).expect("the reader is not starved"));
    }
    stop.store(true, Relaxed);
    hogs.into_iter().for_each(Background::join);
}

#[test]
fn a_panic_unlocks_and_does_not_poison() {
    let lock = Arc::new(RwLock::new(1));
    for write in [false, true] {
        let lock = lock.clone();
        let panicked = in_background(move || {
            if write {
                let _w = lock.write();
                panic!("with the write lock held");
            }
            let _r = lock.read();
            panic!("with a read lock held");
        });
        assert!(panicked.try_join().is_none());
    }
    assert_eq!(*lock.write(), 1);
}

#[test]
fn mapped_guards_hold_the_lock() {
    let lock = RwLock::new((1, 2));
    let r = RwLockReadGuard::map(lock.read(), |v| &v.0);
    assert!(lock.try_write().is_none());
    assert_eq!(*r, 1);
    drop(r);
    let mut w = RwLockWriteGuard::map(lock.write(), |v| &mut v.1);
    assert!(lock.try_read().is_none());
    *w = 3;
    drop(w);
    let whole = RwLockReadGuard::try_map(lock.read(), |_| None::<&u8>).expect_err("no part");
    assert_eq!(*whole, (1, 3));
    drop(whole);
    assert!(RwLockWriteGuard::try_map(lock.write(), |v| Some(&mut v.0)).is_ok());
    assert_eq!(lock.into_inner(), (1, 3));
}

#[test]
fn data_may_be_unsized_and_formatted() {
    let lock: Arc<RwLock<[u8]>> = Arc::new(RwLock::new([1, 2]));
    assert_eq!(format!("{lock:?}"), "RwLock { data: [1, 2] }");
    let _w = lock.write();
    assert_eq!(format!("{lock:?}"), "RwLock { data: <locked> }");
    let mut lock = RwLock::from(1);
    *lock.get_mut() = 4;
    assert_eq!(RwLock::<u8>::default().into_inner(), 0);
    assert_eq!(format!("{}", lock.read()), "4");
}

/// Go's `HammerRWMutex`: the number of readers and writers inside is always legal.
#[test]
fn hammer() {
    let lock = Arc::new(RwLock::new(()));
    let inside = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..8)
        .map(|i| {
            let (lock, inside) = (lock.clone(), inside.clone());
            in_background(move || {
                for k in 0..4_000 {
                    if (k + i) % 8 == 0 {
                        let _w = lock.write();
                        assert_eq!(inside.fetch_add(10_000, SeqCst), 0);
                        inside.fetch_sub(10_000, SeqCst);
                    } else {
                        let _r = lock.read();
                        assert!(inside.fetch_add(1, SeqCst) < 10_000);
                        inside.fetch_sub(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(Background::join);
}

super::on_goroutines! {
    readers_share_and_writers_exclude
    a_waiting_writer_keeps_new_readers_out
    a_writers_unlock_lets_all_readers_in
    timed_locks_give_up
    a_writer_that_gives_up_lets_readers_in
    a_reader_that_gives_up_is_not_counted
    downgrade_lets_readers_in_and_no_writer
    neither_side_starves
    a_panic_unlocks_and_does_not_poison
    mapped_guards_hold_the_lock
    data_may_be_unsized_and_formatted
    hammer
}
