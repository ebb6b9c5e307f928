//! The atomics of the files that are model-checked: loom's under `--cfg loom`, else the standard ones.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, fence};
