//! The atomics of the words that are model-checked: loom's under `--cfg loom`, else the standard ones.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Between two SeqCst operations of one thread, where it matters that they are in the one order of all such: nothing.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) fn in_seqcst_order() {}

/// loom takes SeqCst operations for AcqRel ones, and orders fences only.
#[cfg(loom)]
pub(crate) fn in_seqcst_order() {
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
}
