//! The atomic pointer.

use std::fmt;
use std::panic::Location;
use std::sync::atomic as std_atomic;
use std::sync::atomic::Ordering;

use raddle_race::AtomicOp;

use super::watch::watched;

/// An atomic pointer, known to the race detector by its declared orders.
///
/// The interface and the layout are those of `std::sync::atomic::AtomicPtr`.
///
/// # Examples
///
/// ```
/// use raddle::sync::atomic::{AtomicPtr, Ordering};
///
/// let mut value = 7;
/// let ptr = AtomicPtr::new(&mut value);
/// assert!(!ptr.swap(std::ptr::null_mut(), Ordering::AcqRel).is_null());
/// ```
#[repr(transparent)]
pub struct AtomicPtr<T>(std_atomic::AtomicPtr<T>);

impl<T> AtomicPtr<T> {
    /// Returns an atomic with `value` inside.
    #[must_use]
    pub const fn new(value: *mut T) -> Self {
        Self(std_atomic::AtomicPtr::new(value))
    }

    /// Returns the atomic at `ptr`.
    ///
    /// # Safety
    ///
    /// As for `std`: `ptr` is aligned, valid for reads and writes for all of `'a`, and meanwhile
    /// accessed by atomic operations only wherever another goroutine may access it.
    pub const unsafe fn from_ptr<'a>(ptr: *mut *mut T) -> &'a Self {
        // SAFETY: by the contract; the type is transparent over the value.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns the value: an exclusive reference needs no atomic operation.
    pub fn get_mut(&mut self) -> &mut *mut T {
        self.0.get_mut()
    }

    /// Returns the value.
    pub const fn into_inner(self) -> *mut T {
        self.0.into_inner()
    }

    /// Returns a pointer to the value.
    pub const fn as_ptr(&self) -> *mut *mut T {
        self.0.as_ptr()
    }

    /// Loads the value.
    ///
    /// # Panics
    ///
    /// If `order` is `Release` or `AcqRel`.
    #[inline(always)]
    #[track_caller]
    pub fn load(&self, order: Ordering) -> *mut T {
        self.watch(AtomicOp::Load(order), Location::caller(), |a| a.load(order))
    }

    /// Stores `value`.
    ///
    /// # Panics
    ///
    /// If `order` is `Acquire` or `AcqRel`.
    #[inline(always)]
    #[track_caller]
    pub fn store(&self, value: *mut T, order: Ordering) {
        self.watch(AtomicOp::Store(order), Location::caller(), |a| {
            a.store(value, order)
        });
    }

    /// Stores `value`, and returns the one before.
    #[inline(always)]
    #[track_caller]
    pub fn swap(&self, value: *mut T, order: Ordering) -> *mut T {
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
        current: *mut T,
        new: *mut T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut T, *mut T> {
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
        current: *mut T,
        new: *mut T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut T, *mut T> {
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
        mut f: impl FnMut(*mut T) -> Option<*mut T>,
    ) -> Result<*mut T, *mut T> {
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
        f: impl FnMut(*mut T) -> Option<*mut T>,
    ) -> Result<*mut T, *mut T> {
        self.try_update(set_order, fetch_order, f)
    }

    /// Stores what `f` makes of the value, trying again when another was faster. Returns the value before.
    #[inline]
    #[track_caller]
    pub fn update(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        mut f: impl FnMut(*mut T) -> *mut T,
    ) -> *mut T {
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
        op: impl Fn(&std_atomic::AtomicPtr<T>) -> R,
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

    /// Moves the pointer up by `count` values, wrapping around. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_ptr_add(&self, count: usize, order: Ordering) -> *mut T {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_ptr_add(count, order)
        })
    }

    /// Moves the pointer down by `count` values, wrapping around. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_ptr_sub(&self, count: usize, order: Ordering) -> *mut T {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_ptr_sub(count, order)
        })
    }

    /// Moves the pointer up by `count` bytes, wrapping around. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_byte_add(&self, count: usize, order: Ordering) -> *mut T {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_byte_add(count, order)
        })
    }

    /// Moves the pointer down by `count` bytes, wrapping around. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_byte_sub(&self, count: usize, order: Ordering) -> *mut T {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_byte_sub(count, order)
        })
    }

    /// Sets the address to its bitwise "or" with `bits`. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_or(&self, bits: usize, order: Ordering) -> *mut T {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_or(bits, order)
        })
    }

    /// Sets the address to its bitwise "and" with `bits`. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_and(&self, bits: usize, order: Ordering) -> *mut T {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_and(bits, order)
        })
    }

    /// Sets the address to its bitwise "exclusive or" with `bits`. Returns the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_xor(&self, bits: usize, order: Ordering) -> *mut T {
        self.watch(AtomicOp::Rmw(order), Location::caller(), |a| {
            a.fetch_xor(bits, order)
        })
    }
}

impl<T> Default for AtomicPtr<T> {
    fn default() -> Self {
        Self::new(std::ptr::null_mut())
    }
}

impl<T> From<*mut T> for AtomicPtr<T> {
    fn from(value: *mut T) -> Self {
        Self::new(value)
    }
}

impl<T> fmt::Debug for AtomicPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> fmt::Pointer for AtomicPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Pointer::fmt(&self.0, f)
    }
}
