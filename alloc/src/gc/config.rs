//! What the runtime sets at boot: traces, stress, and limits for tests.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering::*};

/// What freed memory is filled with, where it is.
pub(crate) const POISON: u8 = 0xdb;

/// Switches of the collector.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// Write a line to stderr for every cycle.
    pub trace: bool,
    /// Collect at every so many allocations, and fill freed memory with a pattern; 0: do not. Once on, allocation stays slow.
    pub stress_every: u32,
    /// How many entries a marking thread's stack has, with no other to spill to. `None`: as many as it takes.
    pub mark_stack_limit: Option<usize>,
}

/// Functions of the floor above that the collector's thread calls after a cycle, with the world running.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// There are spans to sweep ([`sweep_some`](super::sweep_some)).
    pub wake_sweeper: fn(),
    /// There are objects to drop ([`next_to_drop`](super::next_to_drop)).
    pub wake_finalizer: fn(),
}

static TRACE: AtomicBool = AtomicBool::new(false);
static STRESS_EVERY: AtomicU32 = AtomicU32::new(0);
static POISONS: AtomicBool = AtomicBool::new(cfg!(debug_assertions));
static MARK_STACK_LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Null, or the hooks. Not a `OnceLock`: a child of `fork` would wait for a thread that was just
/// setting it.
static HOOKS: AtomicPtr<Hooks> = AtomicPtr::new(ptr::null_mut());

/// Sets the switches, from the next allocation and the next cycle on.
pub fn configure(config: Config) {
    TRACE.store(config.trace, Relaxed);
    STRESS_EVERY.store(config.stress_every, Relaxed);
    MARK_STACK_LIMIT.store(config.mark_stack_limit.unwrap_or(usize::MAX), Relaxed);
    if config.stress_every != 0 {
        POISONS.store(true, Relaxed);
        crate::heap::watch();
    }
}

/// Installs the hooks, in the place of those before.
pub fn install_hooks(hooks: &'static Hooks) {
    HOOKS.store(ptr::from_ref(hooks).cast_mut(), Release); // pairs with `hooks`
}

pub(super) fn hooks() -> Option<&'static Hooks> {
    // SAFETY: null, or what `install_hooks` was given, which lives for ever and is only read.
    unsafe { HOOKS.load(Acquire).as_ref() }
}

pub(super) fn traces() -> bool {
    TRACE.load(Relaxed)
}

#[inline(always)]
pub(super) fn stress_every() -> u32 {
    STRESS_EVERY.load(Relaxed)
}

pub(super) fn mark_stack_limit() -> Option<usize> {
    Some(MARK_STACK_LIMIT.load(Relaxed)).filter(|&n| n != usize::MAX)
}

/// Whether freed memory is filled with [`POISON`].
pub(crate) fn poisons() -> bool {
    POISONS.load(Relaxed)
}
