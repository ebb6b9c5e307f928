//! The semaphore, one behaviour a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::{Background, LONG, in_background, panic_text, until};
use crate::sync::Semaphore;

#[test]
fn permits_are_counted() {
    let s = Semaphore::new(3);
    let a = s.acquire(1);
    let mut b = s.try_acquire(2).expect("free");
    assert!(s.try_acquire(1).is_none());
    assert!(s.try_acquire(0).is_some());
    drop(a);
    assert_eq!(s.available_permits(), 1);
    let c = b.split(1).expect("it is two");
    assert!(b.split(2).is_none());
    assert_eq!((b.num_permits(), c.num_permits()), (1, 1));
    b.merge(c);
    b.forget();
    assert_eq!(s.available_permits(), 1);
    s.release(2);
    assert_eq!(format!("{s:?}"), "Semaphore { available_permits: 3 }");
}

#[test]
fn misuse_panics() {
    let s = Semaphore::new(Semaphore::MAX_PERMITS);
    assert!(panic_text(|| s.release(1)).contains("released too often"));
    assert!(panic_text(|| s.release(usize::MAX)).contains("released too often"));
    let other = Semaphore::new(1);
    let both = panic_text(|| s.acquire(1).merge(other.acquire(1)));
    assert!(both.contains("two different semaphores"));
    assert_eq!(
        (s.available_permits(), other.available_permits()),
        (Semaphore::MAX_PERMITS, 1)
    );
}

#[test]
fn never_more_inside_than_permits() {
    let s = Arc::new((Semaphore::new(3), AtomicUsize::new(0)));
    let threads: Vec<_> = (0..8_usize)
        .map(|i| {
            let s = s.clone();
            in_background(move || {
                for k in 0..4_000 {
                    let n = 1 + (i + k) % 3;
                    let timed = (i + k) % 5 == 0;
                    let permit = if timed {
                        s.0.try_acquire_for(n, Duration::from_micros(20))
                    } else {
                        Some(s.0.acquire(n))
                    };
                    if permit.is_some() {
                        assert!(s.1.fetch_add(n, SeqCst) + n <= 3);
                        s.1.fetch_sub(n, SeqCst);
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(Background::join);
    assert_eq!(s.0.available_permits(), 3);
    assert!(s.0.try_acquire(3).is_some());
}

#[test]
fn a_big_request_is_not_starved_by_small_ones() {
    let s = Arc::new(Semaphore::new(2));
    let one = s.acquire(1);
    let other = s.clone();
    let big = in_background(move || drop(other.acquire(2)));
    // One permit is free, but the big request is first.
    until(|| s.try_acquire(1).is_none());
    let other = s.clone();
    let small = in_background(move || drop(other.acquire(1)));
    drop(one);
    big.join();
    small.join();
}

#[test]
fn one_that_gives_up_lets_those_behind_it_go() {
    let s = Arc::new(Semaphore::new(2));
    let one = s.acquire(1);
    let other = s.clone();
    let big = in_background(move || {
        assert!(
            other
                .try_acquire_for(2, Duration::from_millis(20))
                .is_none()
        )
    });
    let other = s.clone();
    let small = in_background(move || drop(other.acquire(1)));
    small.join();
    big.join();
    assert!(s.try_acquire_until(2, Instant::now()).is_none());
    drop(one);
    assert!(s.try_acquire_for(2, LONG).is_some());
}

#[test]
fn release_serves_many_at_once() {
    let s = Arc::new(Semaphore::new(0));
    let threads: Vec<_> = (0..5)
        .map(|_| {
            let s = s.clone();
            in_background(move || s.acquire(2).forget())
        })
        .collect();
    s.release(10);
    threads.into_iter().for_each(Background::join);
    assert_eq!(s.available_permits(), 0);
}

super::on_goroutines! {
    permits_are_counted
    misuse_panics
    never_more_inside_than_permits
    a_big_request_is_not_starved_by_small_ones
    one_that_gives_up_lets_those_behind_it_go
    release_serves_many_at_once
}
