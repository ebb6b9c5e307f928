//! Atomic types with the interface of `std::sync::atomic`, known to the race detector.
//!
//! Each operation is `std`'s own behind one predictable branch. In race mode it is reported by its declared order:
//! acquire and release make edges, `SeqCst` counts as both, `Relaxed` makes none; a plain access that is unordered with
//! an atomic one is a race. (`std`'s own atomics are seen in code that `cargo raddle` has compiled.)

mod bool;
mod int;
mod ptr;
mod watch;

pub use self::bool::AtomicBool;
pub use int::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize,
};
pub use ptr::AtomicPtr;
pub use std::sync::atomic::{Ordering, compiler_fence};
pub use watch::fence;
