//! The runtime about itself.

/// How thread-locals are bound: `"fsbase"` or `"arch_prctl"` (each goroutine has its own), or `"thread"` (those of the OS
/// thread that runs it at the moment; where the C library lacks what the others need).
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
