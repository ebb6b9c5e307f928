//! Sleeping and timers. No case depends on how late a timer is, only on what it may not do: fire early, twice, or never.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raddle::chan;
use raddle::sync::{Mutex, WaitGroup};
use raddle::time::{self, Ticker, Timer};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn sleep_is_never_short() {
    for time in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_micros(300),
        SHORT,
    ] {
        let start = Instant::now();
        time::sleep(time);
        assert!(start.elapsed() >= time);
    }
}

pub(crate) fn sleepers_wake_in_order_of_their_deadlines() {
    // Far enough apart for a busy machine; nobody may be woken before its own time in any case.
    let woken = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    raddle::scope(|s| {
        for i in [3_u32, 1, 2, 0] {
            let woken = woken.clone();
            s.go(move || {
                time::sleep(i * 10 * SHORT);
                woken.lock().push((i, start.elapsed()));
            });
        }
    });
    assert!(
        woken
            .lock()
            .iter()
            .all(|&(i, slept)| slept >= i * 10 * SHORT)
    );
    assert_eq!(woken.lock().len(), 4);
}

pub(crate) fn a_stopped_timer_does_not_fire() {
    let timer = Timer::new(LONG);
    assert!(timer.stop());
    assert!(!timer.stop());

    // Stopped in time or not: each function runs once, or never if `stop` said that it had not begun.
    let fired = Arc::new(AtomicUsize::new(0));
    let mut stopped = 0;
    for round in 0..200 {
        let fired = fired.clone();
        let timer = time::after_func(Duration::from_micros(round), move || {
            fired.fetch_add(1, Ordering::Relaxed);
        });
        raddle::yield_now();
        stopped += usize::from(timer.stop());
    }
    while fired.load(Ordering::Relaxed) + stopped < 200 {
        raddle::yield_now();
    }
    time::sleep(SHORT);
    assert_eq!(fired.load(Ordering::Relaxed) + stopped, 200);
}

pub(crate) fn a_reset_timer_fires_once() {
    let timer = Timer::new(LONG);
    let start = Instant::now();
    assert!(timer.reset(SHORT));
    timer.c().recv().unwrap();
    assert!(start.elapsed() >= SHORT);
    assert!(timer.c().recv_timeout(SHORT).is_err());
    assert!(!timer.reset(SHORT));
    timer.c().recv().unwrap();
}

pub(crate) fn after_func_runs_on_a_goroutine() {
    let (tx, rx) = chan::bounded(0);
    let start = Instant::now();
    let _timer = time::after_func(SHORT, move || {
        raddle::yield_now(); // a goroutine may park, a timer's callback may not
        tx.send(raddle::current().is_some()).unwrap();
    });
    assert_eq!(rx.recv(), Ok(true));
    assert!(start.elapsed() >= SHORT);
}

pub(crate) fn a_ticker_ticks() {
    let start = Instant::now();
    let ticker = Ticker::new(SHORT);
    for _ in 0..5 {
        ticker.c().recv().unwrap();
    }
    assert!(start.elapsed() >= 5 * SHORT);
    ticker.stop();
}

/// Each tick readies a goroutine, and running it takes longer than the period.
pub(crate) fn a_ticker_of_a_microsecond_lets_others_run() {
    let ticker = Ticker::new(Duration::from_micros(1));
    let others: Vec<_> = (0..4)
        .map(|_| raddle::go(|| (0..100).for_each(|_| raddle::yield_now())))
        .collect();
    ticker.c().recv().unwrap();
    others.into_iter().for_each(|other| other.join().unwrap());
    ticker.stop();
}

/// What needs turns of its own, and turns of others.
fn others_get_on(rounds: usize) {
    for round in 0..rounds {
        let others: Vec<_> = (0..20)
            .map(|i| {
                raddle::go(move || {
                    raddle::yield_now();
                    i
                })
            })
            .collect();
        for (i, other) in others.into_iter().enumerate() {
            assert_eq!(other.join().unwrap(), i);
        }
        let (tx, rx) = chan::bounded(0);
        raddle::go(move || tx.send(round).unwrap());
        assert_eq!(rx.recv(), Ok(round));
    }
    time::sleep(Duration::from_millis(1));
    raddle::blocking(|| ());
    let procs = raddle::set_procs(3);
    raddle::set_procs(procs);
}

const NANOSECOND: Duration = Duration::from_nanos(1);

/// All are due again whenever somebody looks. Each is received from, or sleeps again, as often as it gets its turn.
pub(crate) fn fifty_timers_of_a_nanosecond_starve_nobody() {
    let over = Arc::new(AtomicBool::new(false));
    let again_and_again = |f: fn(&dyn Fn() -> bool)| {
        let handles = (0..50).map(|_| {
            let over = over.clone();
            raddle::go(move || f(&|| over.load(Ordering::Relaxed)))
        });
        let handles: Vec<_> = handles.collect();
        others_get_on(10);
        over.store(true, Ordering::Relaxed);
        handles.into_iter().for_each(|h| h.join().unwrap());
        over.store(false, Ordering::Relaxed);
    };
    again_and_again(|over| {
        let ticker = Ticker::new(NANOSECOND);
        while !over() {
            ticker.c().recv().unwrap();
        }
    });
    again_and_again(|over| {
        while !over() {
            time::sleep(NANOSECOND);
        }
    });
    again_and_again(|over| {
        while !over() {
            chan::after(NANOSECOND).recv().unwrap();
        }
    });
}

/// When the timers of a P were run before each turn of a goroutine, nearly all turns went to those of tickers: for each goroutine that
/// waited for its turn all timers were run.
pub(crate) fn thousands_of_tickers_of_a_nanosecond_starve_nobody() {
    // Each firing is a goroutine, which costs far more where races are watched for.
    let count = if raddle::race::enabled() { 200 } else { 3000 };
    let tickers: Vec<_> = (0..count).map(|_| Ticker::new(NANOSECOND)).collect();
    others_get_on(15);
    drop(tickers);
}

pub(crate) fn many_sleep_at_once() {
    let count = if cfg!(debug_assertions) {
        5_000
    } else {
        100_000
    };
    let group = Arc::new(WaitGroup::new());
    group.add(count);
    let start = Instant::now();
    for i in 0..count as u64 {
        let group = group.clone();
        raddle::go(move || {
            let time = Duration::from_millis(20 + i % 50);
            time::sleep(time);
            assert!(start.elapsed() >= time);
            group.done();
        });
    }
    group.wait();
}
