//! [`Atomic`]: a place for a handle, which many may change.
//!
//! # Invariants
//!
//! 1. The pointer is null or from [`Gc::into_raw`].
//!
//! # Memory ordering
//!
//! A handle must not arrive before its value, so every store is at least a release and every load at least an acquire. The
//! detector is told of the orders that are used, not of those that were asked for.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

use super::handle::Gc;
use crate::sync::atomic::AtomicPtr;

/// A place for a handle or nothing, which goroutines load and store at once: what makes graphs of collected values that change.
///
/// The interface is that of std's atomics, with `Option<Gc<T>>` for the value. There is no way to get a handle without the value
/// behind it, whatever order is asked for: `Relaxed` counts as `Acquire`, `Release`, or both.
///
/// An exchange that compares is safe from the ABA problem as long as the caller holds the handle that it compares with: no other
/// value can come to lie at its address.
///
/// **Blocking**: never.
///
/// **Happens-before**: a store, with all before it, happens before a load that gives its handle.
///
/// # Examples
///
/// ```
/// use raddle::gc::{Atomic, Gc};
/// use std::sync::atomic::Ordering;
///
/// /// A stack on which any goroutine may push.
/// struct Stack(Atomic<Node>);
/// struct Node {
///     value: u32,
///     below: Option<Gc<Node>>,
/// }
///
/// impl Stack {
///     fn push(&self, value: u32) {
///         let mut below = self.0.load(Ordering::Acquire);
///         loop {
///             let node = Gc::new(Node { value, below });
///             match self.0.compare_exchange(below, Some(node), Ordering::AcqRel, Ordering::Acquire) {
///                 Ok(_) => return,
///                 Err(now) => below = now,
///             }
///         }
///     }
/// }
///
/// let stack = Stack(Atomic::null());
/// stack.push(1);
/// stack.push(2);
/// let top = stack.0.load(Ordering::Acquire).unwrap();
/// assert_eq!((top.value, top.below.unwrap().value), (2, 1));
/// ```
// Aligned by name, so that rustc refuses it as a field of a `repr(packed)` type.
#[repr(align(8))]
pub struct Atomic<T> {
    ptr: AtomicPtr<T>,
    _handle: PhantomData<Gc<T>>,
}

// SAFETY: a place for a handle, no more.
unsafe impl<T> Send for Atomic<T> where Gc<T>: Send {}
// SAFETY: whoever shares it can take handles out and put some in.
unsafe impl<T> Sync for Atomic<T> where Gc<T>: Send {}

impl<T> Atomic<T> {
    /// Returns a place with `handle` in it.
    #[must_use]
    pub fn new(handle: Option<Gc<T>>) -> Self {
        Self::with(to_ptr(handle))
    }

    /// Returns an empty place, in a static too.
    #[must_use]
    pub const fn null() -> Self {
        Self::with(ptr::null_mut())
    }

    const fn with(ptr: *mut T) -> Self {
        Atomic {
            ptr: AtomicPtr::new(ptr),
            _handle: PhantomData,
        }
    }

    /// Loads the handle.
    ///
    /// # Panics
    ///
    /// If `order` is `Release` or `AcqRel`.
    #[inline]
    #[track_caller]
    pub fn load(&self, order: Ordering) -> Option<Gc<T>> {
        to_handle(self.ptr.load(for_load(order)))
    }

    /// Stores `handle`.
    ///
    /// # Panics
    ///
    /// If `order` is `Acquire` or `AcqRel`.
    #[inline]
    #[track_caller]
    pub fn store(&self, handle: Option<Gc<T>>, order: Ordering) {
        self.ptr.store(to_ptr(handle), for_store(order));
    }

    /// Stores `handle`, and returns the one before.
    #[inline]
    #[track_caller]
    pub fn swap(&self, handle: Option<Gc<T>>, order: Ordering) -> Option<Gc<T>> {
        to_handle(self.ptr.swap(to_ptr(handle), for_both(order)))
    }

    /// Stores `new` if `current` is there: the same object, not an equal value. Returns what was there.
    ///
    /// # Errors
    ///
    /// What is there, if it is another.
    ///
    /// # Panics
    ///
    /// If `failure` is `Release` or `AcqRel`.
    #[inline]
    #[track_caller]
    pub fn compare_exchange(
        &self,
        current: Option<Gc<T>>,
        new: Option<Gc<T>>,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Option<Gc<T>>, Option<Gc<T>>> {
        let (success, failure) = (for_both(success), for_load(failure));
        match self
            .ptr
            .compare_exchange(to_ptr(current), to_ptr(new), success, failure)
        {
            Ok(before) => Ok(to_handle(before)),
            Err(now) => Err(to_handle(now)),
        }
    }

    /// Returns the handle: an owner needs no atomic operation.
    #[must_use]
    pub fn into_inner(self) -> Option<Gc<T>> {
        to_handle(self.ptr.into_inner())
    }
}

fn to_ptr<T>(handle: Option<Gc<T>>) -> *mut T {
    handle.map_or(ptr::null_mut(), |gc| gc.into_raw().as_ptr())
}

fn to_handle<T>(ptr: *mut T) -> Option<Gc<T>> {
    // SAFETY: by invariant 1; its object is there, since the address was in a place that is reached, and is in the caller's
    // registers now.
    NonNull::new(ptr).map(|ptr| unsafe { Gc::from_raw(ptr) })
}

/// At least acquire. Orders that a load refuses stay, to be refused.
const fn for_load(order: Ordering) -> Ordering {
    match order {
        Relaxed => Acquire,
        order => order,
    }
}

/// At least release. Orders that a store refuses stay, to be refused.
const fn for_store(order: Ordering) -> Ordering {
    match order {
        Relaxed => Release,
        order => order,
    }
}

/// Acquire and release at least.
const fn for_both(order: Ordering) -> Ordering {
    match order {
        SeqCst => SeqCst,
        _ => AcqRel,
    }
}

impl<T> Default for Atomic<T> {
    fn default() -> Self {
        Self::null()
    }
}

impl<T> From<Option<Gc<T>>> for Atomic<T> {
    fn from(handle: Option<Gc<T>>) -> Self {
        Self::new(handle)
    }
}

impl<T> From<Gc<T>> for Atomic<T> {
    fn from(handle: Gc<T>) -> Self {
        Self::new(Some(handle))
    }
}

impl<T> fmt::Debug for Atomic<T> {
    /// The address only: values that change may form cycles.
    #[track_caller]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Atomic({:p})", self.ptr.load(Acquire))
    }
}
