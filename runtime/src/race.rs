//! The race detector, for programs and libraries that have something to tell it.
//!
//! Channels, locks, goroutines and the types of [`shared`](crate::shared) tell it all by themselves. These calls are for code
//! that synchronises or shares memory in ways of its own. Without race mode each is one predictable branch.
//!
//! # Examples
//!
//! A hand-made one-shot flag that orders what came before `set` before what comes after a successful `is_set`:
//!
//! ```
//! use std::sync::atomic::{AtomicBool, Ordering};
//!
//! struct Flag(AtomicBool);
//! impl Flag {
//!     fn set(&self) {
//!         raddle::race::release(&self.0);
//!         self.0.store(true, Ordering::Release);
//!     }
//!     fn is_set(&self) -> bool {
//!         let set = self.0.load(Ordering::Acquire);
//!         if set {
//!             raddle::race::acquire(&self.0);
//!         }
//!         set
//!     }
//! }
//! # let f = Flag(AtomicBool::new(false)); f.set(); assert!(f.is_set());
//! ```

use raddle_race::{self as core, Pc};
use std::marker::PhantomData;

/// Whether the program runs in race mode.
#[must_use]
#[inline]
pub fn enabled() -> bool {
    core::enabled()
}

/// The number of races reported so far.
#[must_use]
pub fn errors() -> usize {
    if enabled() { core::errors() } else { 0 }
}

/// Orders after the caller's next step all that came before a [`release`] or [`release_merge`] of the same address.
#[inline]
pub fn acquire<T: ?Sized>(object: *const T) {
    on(|| core::acquire(object.addr()));
}

/// Everything the caller did so far comes before what follows an [`acquire`] of the same address. What others released
/// there before is forgotten, unless it was acquired by the caller.
#[inline]
pub fn release<T: ?Sized>(object: *const T) {
    on(|| core::release(object.addr()));
}

/// As [`release`], keeping what others released.
#[inline]
pub fn release_merge<T: ?Sized>(object: *const T) {
    on(|| core::release_merge(object.addr()));
}

/// Tells of a read of `*object` that the detector cannot see by itself.
#[inline]
#[track_caller]
pub fn read<T>(object: *const T) {
    let pc = Pc::here();
    on(|| core::read_range(object.addr(), size_of::<T>(), pc));
}

/// Tells of a write of `*object` that the detector cannot see by itself.
#[inline]
#[track_caller]
pub fn write<T>(object: *const T) {
    let pc = Pc::here();
    on(|| core::write_range(object.addr(), size_of::<T>(), pc));
}

/// Tells of a read of `bytes` bytes from `start`.
#[inline]
#[track_caller]
pub fn read_range<T>(start: *const T, bytes: usize) {
    let pc = Pc::here();
    on(|| core::read_range(start.addr(), bytes, pc));
}

/// Tells of a write of `bytes` bytes from `start`.
#[inline]
#[track_caller]
pub fn write_range<T>(start: *const T, bytes: usize) {
    let pc = Pc::here();
    on(|| core::write_range(start.addr(), bytes, pc));
}

/// From here to the drop of the guard the caller's accesses are not watched. Guards nest.
#[must_use]
pub fn disable() -> Disabled {
    on(core::ignore_begin);
    Disabled(PhantomData)
}

#[inline]
fn on(event: impl FnOnce()) {
    if core::enabled() {
        event();
    }
}

/// See [`disable`].
#[derive(Debug)]
pub struct Disabled(PhantomData<*mut ()>);

impl Drop for Disabled {
    fn drop(&mut self) {
        on(core::ignore_end);
    }
}
