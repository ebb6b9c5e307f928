//! What the collector asks of the scheduler above it: to stop everything, to show where pointers may be, to let everything go on.
//!
//! The scheduler implements it and hands it over at boot; a test implements it over a few vectors, and needs no scheduler.
//!
//! # Invariants
//!
//! 1. Between [`World::stop`] and [`World::start`] no code of the program runs but the collector's: every other thread of the
//!    process stands still in a signal handler, outside the allocator's busy sections.
//! 2. The roots are complete: a pointer that is in none of them, nor in a live manual object, nor in an object reachable from
//!    them, will never be used.

use std::ops::Range;
use std::sync::OnceLock;

/// The world as the collector sees it.
///
/// # Safety
///
/// The implementation keeps the module's invariants: the collector frees what it was not shown. Whoever has one may call all of it, and
/// with that stop the process for good, or let it run in the midst of a cycle: it is for the collector, and for who tests it.
pub unsafe trait World: Sync {
    /// Stops the program: all threads but the caller and `collectors`. Returns when every one stands still.
    ///
    /// # Errors
    ///
    /// A thread cannot be stopped; then all run on. Some block the signal for a moment only (one that starts a process): it is
    /// worth trying again.
    ///
    /// # Blocking
    ///
    /// Blocks the OS thread. Whoever stopped the world starts it, from the same thread, which takes no signals meanwhile; a
    /// second caller waits. Whoever waits for the collector meanwhile must be outside busy sections.
    fn stop(&self, collectors: &[i32]) -> Result<(), Unstoppable>;

    /// Shows each range of addresses that may hold pointers: registers and stacks of threads and goroutines, thread-local
    /// blocks, statics. With the world stopped; must not allocate.
    fn each_root(&self, show: &mut dyn FnMut(Range<usize>));

    /// Lets the program go on.
    fn start(&self);

    /// The calling thread was asked to stop while it was busy, and is not busy any more: stops until the world starts.
    fn stop_self(&self);

    /// The caller is about to allocate a collected object, outside busy sections: the place for a goroutine that has run too long to
    /// wait for its turn. A program that allocates in a loop and calls nothing else of the runtime would keep a thread for
    /// each of its goroutines.
    fn safepoint(&self) {}

    /// How many threads may mark at once.
    fn parallelism(&self) -> usize;

    /// What every thread has of the program's static thread-locals, in bytes: the C library puts
    /// them on its stack.
    fn thread_local_bytes(&self) -> usize {
        0
    }

    /// The calling thread is one of the collector's, and lives as long as the process. It takes no signals from here on.
    fn thread_started(&self);
}

/// Why the world cannot be stopped: a thread blocks the signal for that, or they cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unstoppable {
    /// Its number, as the kernel has it; 0: the threads cannot be listed, for want of `/proc` or of a file descriptor.
    pub tid: i32,
}

static WORLD: OnceLock<&'static dyn World> = OnceLock::new();

/// Hands the world over: once, before the first goroutine runs. A second call has no effect.
pub fn install_world(world: &'static dyn World) {
    let _ = WORLD.set(world);
    if raddle_race::enabled() {
        crate::heap::watch();
    }
}

/// The world, once it is there.
pub(crate) fn get() -> Option<&'static dyn World> {
    WORLD.get().copied()
}
