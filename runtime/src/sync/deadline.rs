//! Deadlines: `std::time`'s types in the scheduler's clock.

use std::time::{Duration, Instant};

use raddle_sched::now_ns;

/// No deadline: so far off that no timer is needed.
pub(crate) const NEVER: u64 = u64::MAX;

/// The moment `timeout` from now, in nanoseconds of the scheduler's clock.
pub(crate) fn after(timeout: Duration) -> u64 {
    let ns = u64::try_from(timeout.as_nanos()).unwrap_or(NEVER);
    now_ns().saturating_add(ns)
}

/// `deadline` in nanoseconds of the scheduler's clock; a past one is now.
pub(crate) fn at(deadline: Instant) -> u64 {
    after(deadline.saturating_duration_since(Instant::now()))
}
