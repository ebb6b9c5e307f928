//! Time: sleeping, moments that come on channels, functions that run later.

mod core;
mod sleep;
mod timer;

#[cfg(test)]
mod tests;

pub use raddle_chan::{after, at, tick};
pub use sleep::{sleep, sleep_until};
pub use std::time::{Duration, Instant};
pub use timer::{Ticker, Timer, after_func};
