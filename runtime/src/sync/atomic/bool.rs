//! The atomic boolean.

use std::fmt;
use std::panic::Location;
use std::sync::atomic as std_atomic;
use std::sync::atomic::Ordering;

use raddle_race::AtomicOp;

use super::watch::watched;

/// An atomic `bool`, known to the race detector by its declared orders.
///
/// The interface and the layout are those of `std::sync::atomic::AtomicBool`.
///
/// # Examples
///
/// ```
/// use raddle::sync::atomic::{AtomicBool, Ordering};
///
/// static STOP: AtomicBool = AtomicBool::new(false);
/// assert!(!STOP.swap(true, Ordering::Relaxed));
/// ```
#[derive(Default)]
#[repr(transparent)]
pub struct AtomicBool(std_atomic::AtomicBool);

impl AtomicBool {
    /// Returns an atomic with `value` inside.
    #[must_use]
    pub const fn new(value: bool) -> Self {
        Self(std_atomic::AtomicBool::new(value))
    }

    /// Returns the atomic at `ptr`.
    ///
    /// # Safety
    ///
    /// As for `std`: `ptr` is aligned, valid for reads and writes for all of `'a`, and meanwhile
    /// accessed by atomic operations only wherever another goroutine may access it.
    pub const unsafe fn from_ptr<'a>(ptr: *mut bool) -> &'a Self {
        // SAFETY: by the contract; the type is transparent over the value.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns the value: an exclusive reference needs no atomic operation.
    pub fn get_mut(&mut self) -> &mut bool {
        self.0.get_mut()
    }

    /// Returns the value.
    pub const fn into_inner(self) -> bool {
        self.0.into_inner()
    }

    /// Returns a pointer to the value.
    pub const fn as_ptr(&self) -> *mut bool {
        self.0.as_ptr()
    }

    /// Loads the value.
    ///
    /// # Panics
    ///
    /// If `order` is `Release` or `AcqRel`.
    #[inline(always)]
    #[track_caller]
    pub fn load(&self, order: Ordering) -> bool {
        self.watch(AtomicOp::Load(order), Location::caller(), |a| a.load(order))
    }

    /// Stores `value`.
    ///
    /// # Panics
    ///
    /// If `order` is `Acquire` or `AcqRel`.
    #[inline(always)]
    #[track_caller]
    pub fn store(&self, value: bool, order: Ordering) {
        self.watch(AtomicOp::Store(order), Location::caller(), |a| {
            a.store(value, order)
        });
    }

    /// Stores `value`, and returns the one before.
    #[inline(always)]
    #[track_caller]
    pub fn swap(&self, value: bool, order: Ordering) -> bool {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.swap(value, order)
        })
    }

    /// Stores `new` if the value is `current`.
    ///
    /// # Errors
    ///
    /// The value, if it is another.
    ///
    /// # Panics
    ///
    /// If `failure` is `Release` or `AcqRel`.
    #[inline(always)]
    #[track_caller]
    pub fn compare_exchange(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        watched(
            self.as_ptr().addr(),
            size_of::<Self>(),
            AtomicOp::CompareExchange(success, failure),
            Location::caller(),
            || self.0.compare_exchange(current, new, success, failure),
            Result::is_ok,
        )
    }

    /// As `compare_exchange`, but may fail even if the value is `current`.
    ///
    /// # Errors
    ///
    /// The value found.
    ///
    /// # Panics
    ///
    /// If `failure` is `Release` or `AcqRel`.
    #[inline(always)]
    #[track_caller]
    pub fn compare_exchange_weak(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        watched(
            self.as_ptr().addr(),
            size_of::<Self>(),
            AtomicOp::CompareExchange(success, failure),
            Location::caller(),
            || self.0.compare_exchange_weak(current, new, success, failure),
            Result::is_ok,
        )
    }

    /// Stores what `f` makes of the value, trying again when another was faster, until `f` returns `None`.
    ///
    /// # Errors
    ///
    /// The value for which `f` returned `None`. Otherwise the result is the value before.
    #[inline]
    #[track_caller]
    pub fn try_update(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        mut f: impl FnMut(bool) -> Option<bool>,
    ) -> Result<bool, bool> {
        let mut value = self.load(fetch_order);
        while let Some(next) = f(value) {
            match self.compare_exchange_weak(value, next, set_order, fetch_order) {
                Ok(before) => return Ok(before),
                Err(now) => value = now,
            }
        }
        Err(value)
    }

    /// As `try_update`, under its older name.
    ///
    /// # Errors
    ///
    /// The value for which `f` returned `None`.
    #[inline]
    #[track_caller]
    pub fn fetch_update(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        f: impl FnMut(bool) -> Option<bool>,
    ) -> Result<bool, bool> {
        self.try_update(set_order, fetch_order, f)
    }

    /// Stores what `f` makes of the value, trying again when another was faster. Returns the value before.
    #[inline]
    #[track_caller]
    pub fn update(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        mut f: impl FnMut(bool) -> bool,
    ) -> bool {
        let mut value = self.load(fetch_order);
        loop {
            match self.compare_exchange_weak(value, f(value), set_order, fetch_order) {
                Ok(before) => return before,
                Err(now) => value = now,
            }
        }
    }

    /// Runs an operation that writes unless it is a load.
    #[inline(always)]
    fn watch<R>(
        &self,
        kind: AtomicOp,
        at: &'static Location<'static>,
        op: impl Fn(&std_atomic::AtomicBool) -> R,
    ) -> R {
        watched(
            self.as_ptr().addr(),
            size_of::<Self>(),
            kind,
            at,
            || op(&self.0),
            |_| true,
        )
    }

    /// Stores the "and" with `value`. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_and(&self, value: bool, order: Ordering) -> bool {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_and(value, order)
        })
    }

    /// Stores the "nand" with `value`. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_nand(&self, value: bool, order: Ordering) -> bool {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_nand(value, order)
        })
    }

    /// Stores the "or" with `value`. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_or(&self, value: bool, order: Ordering) -> bool {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_or(value, order)
        })
    }

    /// Stores the "exclusive or" with `value`. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_xor(&self, value: bool, order: Ordering) -> bool {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_xor(value, order)
        })
    }

    /// Stores the opposite. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_not(&self, order: Ordering) -> bool {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_not(order)
        })
    }
}

impl From<bool> for AtomicBool {
    fn from(value: bool) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for AtomicBool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
