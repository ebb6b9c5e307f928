//! The runtime about itself.

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
