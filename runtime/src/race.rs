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
use std::panic::Location;

use crate::sync::Semaphore;

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

/// A [`release`] and an [`acquire`] in one step: everything the caller did so far comes before what
/// follows the next `acquire` of the same address, and the caller's next step after what others
/// released there.
#[inline]
pub fn release_acquire<T: ?Sized>(object: *const T) {
    on(|| core::release_acquire(object.addr()));
}

/// Tells of a read of `*object` that the detector cannot see by itself.
#[inline]
#[track_caller]
pub fn read<T>(object: *const T) {
    read_range(object, size_of::<T>());
}

/// Tells of a write of `*object` that the detector cannot see by itself.
#[inline]
#[track_caller]
pub fn write<T>(object: *const T) {
    write_range(object, size_of::<T>());
}

/// Tells of a read of `bytes` bytes from `start`.
///
/// Only bytes that a process can have count: what would lie behind the end of the address space does
/// not. It costs by the number of bytes.
#[inline]
#[track_caller]
pub fn read_range<T>(start: *const T, bytes: usize) {
    let pc = Pc::here();
    on(|| core::read_range(start.addr(), bytes, pc));
}

/// Tells of a write of `bytes` bytes from `start`, as [`read_range`] does of a read.
#[inline]
#[track_caller]
pub fn write_range<T>(start: *const T, bytes: usize) {
    let pc = Pc::here();
    on(|| core::write_range(start.addr(), bytes, pc));
}

/// As [`read_range`], of code at `at` that was called at `caller`: reports show both places.
#[inline]
pub fn read_range_pc<T>(start: *const T, bytes: usize, caller: Place, at: Place) {
    on(|| core::read_range_pc(start.addr(), bytes, Pc::at(caller), Pc::at(at)));
}

/// As [`write_range`], of code at `at` that was called at `caller`: reports show both places.
#[inline]
pub fn write_range_pc<T>(start: *const T, bytes: usize, caller: Place, at: Place) {
    on(|| core::write_range_pc(start.addr(), bytes, Pc::at(caller), Pc::at(at)));
}

/// As [`read`], of code at `at` that was called at `caller`: reports show both places.
#[inline]
pub fn read_pc<T>(object: *const T, caller: Place, at: Place) {
    read_range_pc(object, size_of::<T>(), caller, at);
}

/// As [`write()`], of code at `at` that was called at `caller`: reports show both places.
#[inline]
pub fn write_pc<T>(object: *const T, caller: Place, at: Place) {
    write_range_pc(object, size_of::<T>(), caller, at);
}

/// A place in the source.
pub type Place = &'static Location<'static>;

/// From here on what the caller does orders nothing for the detector, until as many calls of
/// [`enable`]: for code whose locks are not to hide a race. Its accesses are watched.
///
/// A goroutine that ends takes its calls with it.
pub fn disable() {
    on(core::ignore_sync_begin);
}

/// Ends one [`disable`] of the caller's.
///
/// # Panics
///
/// In race mode: without one.
#[track_caller]
pub fn enable() {
    on(core::ignore_sync_end);
}

/// From here to the drop of the guard the caller's accesses are not watched. What it does orders as
/// ever. Guards nest.
pub fn ignore_accesses() -> AccessesIgnored {
    on(core::ignore_begin);
    AccessesIgnored(PhantomData)
}

/// Takes a permit of a semaphore that orders nothing for the detector: with [`sem_release`], a lock for
/// checks and logs, which is not to hide the races of what it guards by accident.
///
/// **Blocking**: parks the goroutine until there is a permit.
///
/// **Happens-before**: in truth, as [`Semaphore::acquire`]; for the detector, none.
pub fn sem_acquire(semaphore: &Semaphore) {
    disable();
    semaphore.acquire(1).forget();
    enable();
}

/// Gives a permit back that [`sem_acquire`] took; or one more.
///
/// **Blocking**: neither parks the goroutine nor blocks the thread.
///
/// **Happens-before**: as [`sem_acquire`].
pub fn sem_release(semaphore: &Semaphore) {
    disable();
    semaphore.release(1);
    enable();
}

#[inline]
fn on(event: impl FnOnce()) {
    if core::enabled() {
        event();
    }
}

/// See [`ignore_accesses`].
#[must_use = "accesses are watched again when it is dropped"]
#[derive(Debug)]
pub struct AccessesIgnored(PhantomData<*mut ()>);

impl Drop for AccessesIgnored {
    fn drop(&mut self) {
        on(core::ignore_end);
    }
}
