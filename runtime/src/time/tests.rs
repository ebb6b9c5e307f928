//! Sleeping and timers, one behaviour a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{Ticker, Timer, after_func, sleep, sleep_until};

/// Long beyond anything that a correct run needs.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn sleeps_are_long_enough() {
    let start = Instant::now();
    sleep(Duration::from_millis(3));
    sleep(Duration::ZERO);
    sleep_until(start + Duration::from_millis(6));
    assert!(start.elapsed() >= Duration::from_millis(6));
    sleep_until(start);
}

#[test]
fn a_function_runs_later_and_again_after_reset() {
    let (tx, rx) = mpsc::channel();
    let start = Instant::now();
    let timer = after_func(Duration::from_millis(2), move || {
        tx.send(()).expect("the test listens")
    });
    rx.recv_timeout(LONG).expect("it runs");
    assert!(start.elapsed() >= Duration::from_millis(2));
    assert!(!timer.stop(), "it has fired");
    for _ in 0..3 {
        assert!(!timer.reset(Duration::ZERO));
        rx.recv_timeout(LONG).expect("it runs again");
    }
    assert!(rx.try_recv().is_err());
}

#[test]
fn a_stopped_function_does_not_run_and_is_dropped() {
    let ran = Arc::new(AtomicUsize::new(0));
    let n = ran.clone();
    let timer = after_func(LONG, move || {
        n.fetch_add(1, SeqCst);
    });
    assert!(timer.reset(LONG * 2), "it was running");
    assert!(timer.stop());
    assert!(!timer.stop());
    assert!(!timer.reset(LONG), "it was stopped");
    assert!(timer.clone().stop());
    drop(timer);
    assert_eq!((Arc::strong_count(&ran), ran.load(SeqCst)), (1, 0));
}

#[test]
fn dropping_the_handle_stops_nothing_and_nothing_is_leaked() {
    let alive = Arc::new(());
    let (tx, rx) = mpsc::channel();
    let held = alive.clone();
    drop(after_func(Duration::from_millis(1), move || {
        let _held = &held;
        let _ = tx.send(());
    }));
    rx.recv_timeout(LONG).expect("it runs");
    // The sender goes with the function.
    assert_eq!(
        rx.recv_timeout(LONG),
        Err(mpsc::RecvTimeoutError::Disconnected)
    );
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn a_panic_ends_its_goroutine_only() {
    let (tx, rx) = mpsc::channel();
    let timer = after_func(Duration::ZERO, move || {
        let _ = tx.send(());
        panic!("in a timer's function");
    });
    rx.recv_timeout(LONG).expect("it runs");
    timer.reset(Duration::ZERO);
    rx.recv_timeout(LONG).expect("it runs again");
}

#[test]
fn destructors_that_panic_end_their_goroutine_only() {
    /// As a payload, and as something captured.
    struct Bomb(mpsc::Sender<()>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            let _ = self.0.send(());
            panic!("in a destructor");
        }
    }
    let (tx, rx) = mpsc::channel();
    let captured = Bomb(tx);
    let alone = Arc::new(AtomicUsize::new(0));
    let is_alone = alone.clone();
    drop(after_func(Duration::ZERO, move || {
        // The last count is to be the goroutine's.
        while is_alone.load(SeqCst) == 0 {
            crate::yield_now();
        }
        std::panic::panic_any(Bomb(captured.0.clone()));
    }));
    alone.store(1, SeqCst);
    for _ in 0..2 {
        rx.recv_timeout(LONG).expect("it is dropped");
    }
    // Both are behind us once the goroutine's last sender is.
    assert_eq!(
        rx.recv_timeout(LONG),
        Err(mpsc::RecvTimeoutError::Disconnected)
    );
}

/// Stops, resets and firings at once: each firing runs once, and the last one counts.
#[test]
fn resets_race_with_firing() {
    let runs = Arc::new(AtomicUsize::new(0));
    let n = runs.clone();
    let timer = after_func(LONG, move || {
        n.fetch_add(1, SeqCst);
    });
    let mut armed = 1;
    let mut prevented = 0;
    for i in 0..2_000_u64 {
        prevented += usize::from(if i % 3 == 0 { timer.stop() } else { false });
        prevented += usize::from(timer.reset(Duration::from_micros(i % 40)));
        armed += 1;
    }
    prevented += usize::from(timer.stop());
    let start = Instant::now();
    while runs.load(SeqCst) < armed - prevented {
        assert!(start.elapsed() < LONG, "a firing was lost");
        std::thread::yield_now();
    }
    assert_eq!(runs.load(SeqCst), armed - prevented);
}

#[test]
fn a_timer_sends_one_moment() {
    let start = Instant::now();
    let timer = Timer::new(Duration::from_millis(2));
    let when = timer.c().recv().expect("open");
    assert!(when >= start + Duration::from_millis(2));
    assert!(!timer.stop(), "its moment was received");
    assert!(timer.c().try_recv().is_err());
    assert!(!timer.reset(Duration::ZERO));
    timer.c().recv().expect("open");
}

/// Go 1.23: after stop and reset no stale moment is received, whatever was under way.
#[test]
fn no_moment_from_before_a_stop_or_reset() {
    let timer = Timer::new(Duration::ZERO);
    for i in 0..1_000_u64 {
        let received = i % 3 == 0 && timer.c().recv().is_ok();
        assert_eq!(timer.stop(), !received, "round {i}");
        assert!(timer.c().try_recv().is_err());
        assert!(!timer.reset(LONG));
        assert!(timer.c().try_recv().is_err());
        assert!(timer.reset(Duration::from_micros(i % 20)));
    }
}

#[test]
fn a_function_timer_sends_nothing() {
    let timer = after_func(Duration::ZERO, || {});
    assert!(timer.c().recv_timeout(Duration::from_millis(1)).is_err());
    assert!(format!("{timer:?}").contains("tests.rs"));
}

#[test]
fn a_ticker_ticks_until_it_is_stopped_or_dropped() {
    let start = Instant::now();
    let ticker = Ticker::new(Duration::from_millis(1));
    for n in 1..=5 {
        let when = ticker.c().recv().expect("open");
        assert!(when >= start + Duration::from_millis(n));
    }
    ticker.stop();
    assert!(ticker.c().recv_timeout(Duration::from_millis(3)).is_err());
    ticker.reset(Duration::from_micros(100));
    ticker.c().recv().expect("open");
    let c = ticker.c().clone();
    drop(ticker);
    // The last sender goes with the last goroutine of a firing, if one is under way.
    assert!(c.recv_timeout(LONG).is_err());
}

#[test]
#[should_panic(expected = "a ticker needs a period above zero")]
fn a_ticker_needs_a_period() {
    drop(Ticker::new(Duration::ZERO));
}
