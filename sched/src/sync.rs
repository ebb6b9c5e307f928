//! The atomics of the files that are model-checked: loom's under `--cfg loom`, else the standard ones.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, fence};

/// The word as the kernel's futex calls want it.
#[cfg(not(loom))]
pub(crate) fn futex_word(word: &AtomicU32) -> &std::sync::atomic::AtomicU32 {
    word
}

/// The word as the kernel's futex calls want it: a model has no kernel.
#[cfg(loom)]
pub(crate) fn futex_word(_word: &AtomicU32) -> &std::sync::atomic::AtomicU32 {
    unreachable!("a model does not sleep in the kernel")
}
