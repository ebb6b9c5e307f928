//! A clock that costs one load, for the ages in reports.
//!
//! Those that read the real clock anyway (timers, sysmon, an M that wakes up) set it. It is late by at most sysmon's period
//! while anything runs.

use std::sync::atomic::{AtomicU64, Ordering};

static COARSE_NS: AtomicU64 = AtomicU64::new(0);

/// The monotonic clock as of its last reading by anyone.
pub(crate) fn coarse_ns() -> u64 {
    COARSE_NS.load(Ordering::Relaxed)
}

/// Reads the monotonic clock and lets the others know.
pub(crate) fn read_ns() -> u64 {
    let now = crate::sys::now_ns();
    // A late store may set it back by a moment; ages do not mind.
    COARSE_NS.store(now, Ordering::Relaxed);
    now
}
