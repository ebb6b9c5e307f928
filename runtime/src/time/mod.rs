//! Time: sleeping, and functions that run later.

mod after_func;
mod sleep;

#[cfg(test)]
mod tests;

pub use after_func::{Timer, after_func};
pub use sleep::{sleep, sleep_until};
pub use std::time::{Duration, Instant};
