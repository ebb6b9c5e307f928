//! How the floors above come by a [`GoCtx`].
//!
//! A context belongs to one goroutine, and nothing but the scheduler's order keeps two threads from
//! using it at once (`ctx`, invariant 1). So whoever has one has promised to keep that order: the
//! functions here, which give contexts out, are unsafe, and those that take one are not. Where
//! there is no context there is nothing to break: all other functions of the crate are safe
//! whatever they are told.

use crate::goroutine;
use crate::host::Host;
use crate::options::Options;
use crate::proc::{self, ProcCtx};
use crate::{GoCtx, Pc, interpose, state};

/// Starts the detector, and gives the contexts of the main goroutine (id 1) and of the first P.
///
/// Once per process: a later call returns the first call's contexts and changes nothing. Call it
/// before the program has other threads, and before the heap announces memory.
///
/// # Safety
/// The contexts are used as the crate's rules say ("Use"): each by one thread at a time, and not
/// after its end.
///
/// # Panics
/// When the suppressions file, which `Options::parse` could read, is gone.
///
/// # Blocking
/// Maps memory and reads the suppressions file.
pub unsafe fn init(options: Options, host: &'static Host) -> (GoCtx, ProcCtx) {
    state::init(options, host)
}

/// The calling thread's current context: whose events these are.
///
/// # Safety
/// It is used as the crate's rules say, by the calling goroutine or thread.
#[inline]
#[must_use]
pub unsafe fn current() -> Option<GoCtx> {
    crate::current::current()
}

/// Whether the calling thread has a context: whether what it does is anybody's event.
#[inline]
#[must_use]
pub fn has_current() -> bool {
    crate::current::current().is_some()
}

/// A new goroutine, ordered after what `parent` has done so far; without a parent, after everything
/// so far.
///
/// # Safety
/// The context is used as the crate's rules say: by one thread at a time, until
/// [`go_end`](crate::go_end).
///
/// # Happens-before
/// The parent's past happens before the child's start.
#[must_use]
pub unsafe fn go_start(parent: Option<GoCtx>, goid: u64, pc: Pc) -> GoCtx {
    goroutine::go_start(parent, goid, pc)
}

/// A new goroutine that no goroutine starts, such as a timer's: ordered after nothing until it
/// acquires. Its id is 0 until it calls [`set_goid`](crate::set_goid); `pc` is the place that
/// stands for its start in reports.
///
/// # Safety
/// As [`go_start`].
///
/// # Happens-before
/// None.
#[must_use]
pub unsafe fn go_start_orphan(pc: Pc) -> GoCtx {
    goroutine::go_start_orphan(pc)
}

/// The goroutine has a name, which reports know also after its end: its first 64 bytes.
///
/// # Safety
/// It has not ended.
pub unsafe fn set_name(ctx: GoCtx, name: &str) {
    goroutine::set_name(ctx, name);
}

/// A context for an OS thread that the runtime did not make: ordered after everything so far.
///
/// # Safety
/// As [`go_start`].
#[must_use]
pub unsafe fn thread_start(goid: u64) -> GoCtx {
    goroutine::thread_start(goid)
}

/// The calling plain thread's context and id. A thread without one gets it here, ordered after
/// everything so far, and keeps it until it ends.
///
/// # Safety
/// It is used as the crate's rules say, and not ended: the detector does that.
///
/// # Happens-before
/// What the thread does happens before its join returns.
pub unsafe fn thread_attach() -> (GoCtx, u64) {
    interpose::thread_attach()
}

/// The goroutine goes into the runtime: until [`runtime_exit`](crate::runtime_exit), what compiled
/// code does is not the program's. Calls nest. Returns whose event it was, for the exit.
///
/// # Safety
/// It is used as the crate's rules say, by the calling goroutine or thread.
#[inline]
pub unsafe fn runtime_enter() -> Option<GoCtx> {
    goroutine::runtime_enter()
}

/// Ends the context of a P that no thread holds; its caches go back to the global pools.
///
/// # Safety
/// Nobody uses it, or will again.
///
/// # Blocking
/// Spins while another thread is inside an event with this P, a few dozen instructions.
pub unsafe fn proc_destroy(p: ProcCtx) {
    proc::proc_destroy(p);
}
