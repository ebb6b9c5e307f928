//! Timers: what comes before the start, or the reset, comes before the firing.

use std::time::Duration;

use raddle::time::{Ticker, Timer, after_func};

use crate::support::*;

const SOON: Duration = Duration::from_nanos(1);
const HOUR: Duration = Duration::from_secs(3600);

pub fn no_race_after_func() {
    let v = var(0);
    let c = chan(0);
    *v.at() = 2;
    let _timer = after_func(SOON, move || {
        *v.at() = 1;
        c.send(0);
    });
    c.recv();
    *v.at() = 3;
}

pub fn no_race_after_func_reset() {
    let v = var(0);
    let c = chan(0);
    let timer = after_func(HOUR, move || {
        *v.at() = 1;
        c.send(0);
    });
    timer.stop();
    *v.at() = 2;
    timer.reset(SOON);
    c.recv();
    *v.at() = 3;
}

/// Waits for what a timer or ticker sends, then touches `v`.
fn on_tick(ticks: Receiver<std::time::Instant>, v: &'static Racy<i32>, c: &'static Chan<i32>) {
    go(move || {
        ticks.recv().unwrap();
        *v.at() = 1;
        c.send(0);
    });
}

pub fn no_race_timer() {
    let (v, c) = (var(0), chan(0));
    *v.at() = 2;
    let timer = Timer::new(SOON);
    on_tick(timer.c().clone(), v, c);
    c.recv();
    *v.at() = 3;
}

pub fn no_race_timer_reset() {
    let (v, c) = (var(0), chan(0));
    let timer = Timer::new(HOUR);
    on_tick(timer.c().clone(), v, c);
    timer.stop();
    *v.at() = 2;
    timer.reset(SOON);
    c.recv();
    *v.at() = 3;
}

pub fn no_race_ticker() {
    let (v, c) = (var(0), chan(0));
    *v.at() = 2;
    let ticker = Ticker::new(Duration::from_micros(1));
    on_tick(ticker.c().clone(), v, c);
    c.recv();
    *v.at() = 3;
}

pub fn no_race_ticker_reset() {
    let (v, c) = (var(0), chan(0));
    let ticker = Ticker::new(HOUR);
    on_tick(ticker.c().clone(), v, c);
    ticker.stop();
    *v.at() = 2;
    ticker.reset(Duration::from_micros(1));
    c.recv();
    *v.at() = 3;
}

pub fn race_ticker_reset_late() {
    let (v, c) = (var(0), chan(0));
    let ticker = Ticker::new(Duration::from_micros(1));
    go(move || {
        ticker.c().recv().unwrap();
        *v.at() = 1; //~ race
        c.send(0);
    });
    *v.at() = 2; //~ race
    c.recv();
}
