//! The mutex, one behaviour a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{Background, LONG, in_background, until};
use crate::sync::{MappedMutexGuard, Mutex, MutexGuard};

#[test]
fn guards_exclude_each_other() {
    let n = Arc::new(Mutex::new((0_u64, 0_u64)));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let n = n.clone();
            in_background(move || {
                for _ in 0..20_000 {
                    let mut n = n.lock();
                    assert_eq!(n.0, n.1);
                    n.0 += 1;
                    n.1 += 1;
                }
            })
        })
        .collect();
    threads.into_iter().for_each(Background::join);
    assert_eq!(*n.lock(), (160_000, 160_000));
}

#[test]
fn try_lock_never_waits() {
    let m = Mutex::new(1);
    let held = m.try_lock().expect("free");
    assert!(m.try_lock().is_none());
    assert!(m.is_locked());
    drop(held);
    assert!(!m.is_locked());
    assert!(m.try_lock().is_some());
}

#[test]
fn try_lock_passes_waiters_by() {
    let m = Arc::new(Mutex::new(0));
    let held = m.lock();
    let other = m.clone();
    let waiter = in_background(move || *other.lock() += 1);
    drop(held);
    until(|| m.try_lock().is_some());
    waiter.join();
    assert_eq!(*m.lock(), 1);
}

#[test]
fn timed_lock_gives_up() {
    let m = Mutex::new(());
    let held = m.lock();
    let start = Instant::now();
    assert!(m.try_lock_for(Duration::from_millis(5)).is_none());
    assert!(start.elapsed() >= Duration::from_millis(5));
    assert!(m.try_lock_for(Duration::ZERO).is_none());
    assert!(m.try_lock_until(start).is_none());
    drop(held);
    assert!(
        m.try_lock_until(start).is_some(),
        "a free mutex needs no time"
    );
    assert!(m.try_lock_for(Duration::MAX).is_some());
}

#[test]
fn timed_lock_is_woken_by_unlock() {
    let m = Arc::new(Mutex::new(0));
    let held = m.lock();
    let other = m.clone();
    let waiter = in_background(move || *other.try_lock_for(LONG).expect("in time") += 1);
    drop(held);
    waiter.join();
    assert_eq!(*m.lock(), 1);
}

#[test]
fn a_mutex_works_on_after_its_waiters_gave_up() {
    let m = Arc::new(Mutex::new(0));
    let held = m.lock();
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let m = m.clone();
            in_background(move || assert!(m.try_lock_for(Duration::from_millis(1)).is_none()))
        })
        .collect();
    waiters.into_iter().for_each(Background::join);
    drop(held);
    *m.lock() += 1;
    assert_eq!(*m.try_lock().expect("free"), 1);
}

#[test]
fn a_panic_unlocks_and_does_not_poison() {
    let m = Arc::new(Mutex::new(1));
    let other = m.clone();
    let panicked = in_background(move || {
        let mut m = other.lock();
        *m = 2;
        panic!("with the lock held");
    });
    assert!(panicked.try_join().is_none());
    assert_eq!(*m.lock(), 2);
}

#[test]
fn a_waiter_that_always_loses_is_handed_the_mutex() {
    // The hog gives the mutex back for an instant only, and would win every competition.
    let m = Arc::new(Mutex::new(()));
    let stop = Arc::new(AtomicBool::new(false));
    let hog = {
        let (m, stop) = (m.clone(), stop.clone());
        in_background(move || {
            while !stop.load(Relaxed) {
                let _held = m.lock();
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(200) {}
            }
        })
    };
    for _ in 0..10 {
        drop(m.try_lock_for(LONG).expect("not starved"));
    }
    stop.store(true, Relaxed);
    hog.join();
}

#[test]
fn unlock_fair_hands_over() {
    let m = Arc::new(Mutex::new(0));
    let mut held = m.lock();
    let other = m.clone();
    let waiter = in_background(move || {
        for _ in 0..100 {
            let mut n = other.lock();
            *n += 1;
            MutexGuard::unlock_fair(n);
        }
    });
    while *held < 100 {
        MutexGuard::unlock_fair(held);
        held = m.lock();
    }
    drop(held);
    waiter.join();
}

#[test]
fn unlocked_locks_again_also_after_a_panic() {
    let m = Mutex::new(0);
    let mut held = m.lock();
    MutexGuard::unlocked(&mut held, || *m.lock() = 1);
    assert_eq!(*held, 1);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        MutexGuard::unlocked(&mut held, || panic!("unlocked"));
    }));
    assert!(caught.is_err());
    assert!(m.try_lock().is_none());
    *held = 2;
    drop(held);
    assert_eq!(m.into_inner(), 2);
}

#[test]
fn mapped_guards_hold_the_lock() {
    let m = Mutex::new((1, [2, 3]));
    let part = MappedMutexGuard::map(MutexGuard::map(m.lock(), |v| &mut v.1), |v| &mut v[1]);
    assert_eq!(*part, 3);
    assert!(m.try_lock().is_none());
    drop(part);
    let whole = MutexGuard::try_map(m.lock(), |_| None::<&mut i32>).expect_err("no part");
    assert_eq!(whole.0, 1);
    drop(whole);
    let mut first = MutexGuard::try_map(m.lock(), |v| Some(&mut v.0)).expect("a part");
    *first = 9;
    drop(first);
    assert_eq!(m.lock().0, 9);
}

#[test]
fn a_panic_in_map_unlocks() {
    let m = Mutex::new(1);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(MutexGuard::map(m.lock(), |_| -> &mut i32 {
            panic!("no part")
        }));
    }));
    assert!(caught.is_err());
    assert!(m.try_lock().is_some());
}

#[test]
fn data_may_be_unsized_and_formatted() {
    let m: Box<Mutex<[u8]>> = Box::new(Mutex::new([1, 2, 3]));
    m.lock()[0] = 7;
    assert_eq!(format!("{m:?}"), "Mutex { data: [7, 2, 3] }");
    let held = m.lock();
    assert_eq!(format!("{m:?}"), "Mutex { data: <locked> }");
    assert_eq!(format!("{held:?}"), "[7, 2, 3]");
    drop(held);
    let mut m = Mutex::from(5);
    *m.get_mut() += 1;
    assert_eq!(format!("{}", m.lock()), "6");
    assert_eq!(Mutex::<u8>::default().into_inner(), 0);
}

#[test]
fn data_is_dropped_once() {
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let n = Arc::new(AtomicUsize::new(0));
    drop(Mutex::new(Count(n.clone())));
    let m = Mutex::new(Count(n.clone()));
    drop(m.lock());
    drop(m.into_inner());
    assert_eq!(n.load(Relaxed), 2);
}

#[test]
fn memory_may_go_once_the_last_lock_is_given_back() {
    // Each round the last of two holders frees the mutex while the other may still be inside its unlock.
    for _ in 0..5_000 {
        let m = Box::into_raw(Box::new(Mutex::new(2)));
        let addr = m.expose_provenance();
        let leave = move || {
            let m: *mut Mutex<i32> = std::ptr::with_exposed_provenance_mut(addr);
            // SAFETY: freed only by the holder that finds itself the last one.
            let mut left = unsafe { &*m }.lock();
            *left -= 1;
            let last = *left == 0;
            drop(left);
            if last {
                // SAFETY: the other holder has given the mutex back, and does not come again.
                drop(unsafe { Box::from_raw(m) });
            }
        };
        let other = in_background(leave);
        leave();
        other.join();
    }
}

super::on_goroutines! {
    guards_exclude_each_other
    try_lock_never_waits
    try_lock_passes_waiters_by
    timed_lock_gives_up
    timed_lock_is_woken_by_unlock
    a_mutex_works_on_after_its_waiters_gave_up
    a_panic_unlocks_and_does_not_poison
    a_waiter_that_always_loses_is_handed_the_mutex
    unlock_fair_hands_over
    unlocked_locks_again_also_after_a_panic
    mapped_guards_hold_the_lock
    a_panic_in_map_unlocks
    data_may_be_unsized_and_formatted
    data_is_dropped_once
    memory_may_go_once_the_last_lock_is_given_back
}
