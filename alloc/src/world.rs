//! What a collector asks of the scheduler above it: to stop everything, to show where pointers may be, to let everything go on.
//!
//! The scheduler implements it and hands it over at boot; a test implements it over a few vectors, and needs no scheduler.
//!
//! # Invariants
//!
//! 1. Between [`World::stop`] and [`World::start`] no code of the program runs but the caller's: every thread of the process is
//!    stopped where it was, or blocks in a call that touches no memory of the heap.
//! 2. The roots are complete: a pointer that is in none of them, nor in an object reachable from them, will never be used.

use std::ops::Range;

/// The world as the collector sees it.
pub trait World: Sync {
    /// Stops the program. Returns when every thread stands still.
    ///
    /// # Blocking
    ///
    /// Blocks the OS thread. One caller at a time; a second waits for the first's `start`.
    fn stop(&self);

    /// Shows each range of addresses that may hold pointers: registers and stacks of threads and goroutines, thread-local
    /// blocks, statics. To be called with the world stopped.
    fn each_root(&self, show: &mut dyn FnMut(Range<usize>));

    /// Lets the program go on.
    fn start(&self);
}
