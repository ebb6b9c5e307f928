//! Sleeping.

use std::time::{Duration, Instant};

/// Parks the calling goroutine for at least `duration`; on a plain thread it blocks that thread.
///
/// A sleeping goroutine costs its stack and an entry in a heap of timers, no thread.
///
/// # Examples
///
/// ```
/// use raddle::time::{self, Duration, Instant};
///
/// let start = Instant::now();
/// time::sleep(Duration::from_millis(1));
/// assert!(start.elapsed() >= Duration::from_millis(1));
/// ```
#[track_caller]
pub fn sleep(duration: Duration) {
    crate::boot::ensure();
    raddle_sched::sleep_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

/// Parks the calling goroutine until `deadline` at least; on a plain thread it blocks that thread. Returns at once if the
/// deadline has passed.
#[track_caller]
pub fn sleep_until(deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        sleep(left);
    }
}
