//! Plain OS threads use everything that goroutines use; they block where a goroutine parks.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use raddle::chan;
use raddle::sync::{Mutex, WaitGroup};

/// Waits for an OS thread without holding a P.
fn join<T>(thread: thread::JoinHandle<T>) -> T {
    raddle::blocking(|| thread.join().unwrap())
}

pub(crate) fn os_threads_send_and_receive() {
    for capacity in [0, 4] {
        let (ping, pings) = chan::bounded::<u32>(capacity);
        let (pong, pongs) = chan::bounded(capacity);
        let echo =
            thread::spawn(move || pings.iter().for_each(|ball| pong.send(ball + 1).unwrap()));
        for ball in 0..500 {
            ping.send(ball).unwrap();
            assert_eq!(pongs.recv(), Ok(ball + 1));
        }
        drop(ping);
        join(echo);
    }
    // Both ends on plain threads.
    let (tx, rx) = chan::bounded(0);
    let sender = thread::spawn(move || (0..500).for_each(|i| tx.send(i).unwrap()));
    let receiver = thread::spawn(move || rx.iter().eq(0..500));
    join(sender);
    assert!(join(receiver));
}

pub(crate) fn os_threads_lock_with_goroutines() {
    let count = Arc::new(Mutex::new(0));
    let add = |count: Arc<Mutex<u32>>| (0..500).for_each(|_| *count.lock() += 1);
    let threads: Vec<_> = (0..4)
        .map(|_| count.clone())
        .map(|count| thread::spawn(move || add(count)))
        .collect();
    let goroutines: Vec<_> = (0..4)
        .map(|_| count.clone())
        .map(|count| raddle::go(move || add(count)))
        .collect();
    threads.into_iter().for_each(join);
    goroutines
        .into_iter()
        .for_each(|goroutine| goroutine.join().unwrap());
    assert_eq!(*count.lock(), 4000);
}

pub(crate) fn os_threads_start_and_join_goroutines() {
    let thread = thread::spawn(|| {
        assert!(raddle::current().is_none());
        let handles: Vec<_> = (0..100).map(|i| raddle::go(move || i)).collect();
        let sum: u32 = handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .sum();
        let mut lent = [0; 10];
        raddle::scope(|s| lent.iter_mut().for_each(|n| drop(s.go(|| *n = 1))));
        sum + lent.iter().sum::<u32>()
    });
    assert_eq!(join(thread), 4960);
}

pub(crate) fn os_threads_select_and_sleep() {
    let (tx, rx) = chan::bounded(0);
    let (quiet_tx, quiet) = chan::bounded::<()>(0);
    let thread = thread::spawn(move || {
        raddle::time::sleep(Duration::from_millis(1));
        let mut sum = 0;
        loop {
            raddle::select! {
                recv(rx) -> value => match value {
                    Ok(value) => sum += value,
                    Err(_) => break sum,
                },
                recv(quiet) -> _ => unreachable!("nobody sends"),
                default(Duration::from_secs(3600)) => unreachable!("the sender is there"),
            }
        }
    });
    (0..100).for_each(|i| tx.send(i).unwrap());
    drop(tx);
    assert_eq!(join(thread), 4950);
    drop(quiet_tx);
}

pub(crate) fn os_threads_wait_in_wait_groups() {
    let group = Arc::new(WaitGroup::new());
    group.add(10);
    let waiter = {
        let group = group.clone();
        thread::spawn(move || group.wait())
    };
    for _ in 0..10 {
        let group = group.clone();
        raddle::go(move || {
            raddle::yield_now();
            group.done();
        });
    }
    join(waiter);
}
