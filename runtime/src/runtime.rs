//! The runtime about itself.
//!
//! # Children of `fork`
//!
//! `fork`, and what calls it (`daemon`, `forkpty`, [`Command::pre_exec`](std::os::unix::process::CommandExt::pre_exec)), may
//! be called from goroutines, from [`blocking`](crate::blocking) and from plain threads. The child has the thread that
//! forked, and of the goroutines the one that forked, with its thread-locals. It may do whatever the program may:
//!
//! - call `exec`, `_exit` or `exit`, with all `atexit` handlers; return from main, or panic: the exit status is the same as in
//!   the parent;
//! - allocate, collect, run destructors of collected values;
//! - start goroutines and threads, use channels, locks and timers that it makes, sleep, block, change the number of Ps;
//! - fork again.
//!
//! The scheduler begins anew, with threads of its own, when the child first needs it. A child that only calls `exec` has no
//! cost by it.
//!
//! How it ends: the goroutine that `#[raddle::main]` or [`run`](crate::run) started ends the child where it ends: with the
//! status of main, 0 after `run`, whose caller is in the parent, or 101 after a panic. A child that another goroutine made
//! ends with status 0 when its last goroutine and its last thread have ended, as a process does whose last thread ends.
//! Where all that are left wait for ever there is a deadlock, which is reported.
//!
//! All other goroutines are lost to the child, as threads are. Their memory stays as it is and what it keeps alive is kept,
//! but they do not run, so
//!
//! - a lock that one held stays locked, std's own included: it takes one to print, and one as a thread begins, as
//!   it ends, and in [`process::exit`](std::process::exit);
//! - one that waits in a channel still stands in the queue there, and a message that is handed to it is lost with it;
//! - nobody who joins one comes back, nor out of a [`scope`](crate::scope()) in which one was started;
//! - timers, tickers and `after` channels of the parent do not fire in the child; they can be set anew.
//!
//! `vfork` and `_Fork` are as in any program: their child may only call `exec`, `_exit` and what a signal handler may. A child
//! of the bare system call is no child that the runtime knows. In race mode a child is not watched.

pub use raddle_sched::StackStats;

/// How thread-locals are bound: `"fsbase"` or `"arch_prctl"` (each goroutine has its own), or `"thread"` (those of the OS
/// thread that runs it at the moment).
///
/// In `"thread"` safe code is unsound: a thread-local's `Rc` that is kept over a wait is counted by
/// two threads at once, a borrow of a thread-local outlives its thread. It is for tests of the
/// runtime, is chosen by `RADDLE_DEBUG=notls` alone, and says so on standard error when the program
/// starts. Where the C library or the kernel lacks what the others need, the program ends with
/// status 2 and the reason.
///
/// # Examples
///
/// ```
/// assert!(["fsbase", "arch_prctl", "thread"].contains(&raddle::runtime::tls_mode()));
/// ```
#[must_use]
pub fn tls_mode() -> &'static str {
    crate::boot::ensure();
    raddle_sched::tls_mode()
}

/// What the stacks of the process's goroutines cost in address space.
///
/// # Examples
///
/// ```
/// raddle::run(|| assert!(raddle::runtime::stack_stats().slots_in_use >= 1));
/// ```
#[must_use]
pub fn stack_stats() -> StackStats {
    raddle_sched::stack_stats()
}
