//! [`Weak`]: a pointer that does not keep its value alive.
//!
//! # Invariants
//!
//! 1. The cell is a collected object of its own, which the collector does not look into: it holds the address of the value, or null.
//! 2. The collector empties it, with the world stopped, when it has found the value unreachable, before any
//!    destructor runs; nobody fills it again.
//!
//! # Memory ordering
//!
//! `set: Release` ⇄ `get: Acquire`, in the cell: the value is whole for whoever gets its address out.

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use raddle_alloc::gc::{self, WeakCell};

use super::handle::Gc;
use super::{background, finalize};
use crate::sync::events;

/// A pointer that does not keep its value alive. `Copy`, as [`Gc`] is.
///
/// It gives the value as long as something else reaches it. Once the collector has found that nothing does, it gives `None`,
/// for ever; for a value with a destructor that is before the destructor runs.
///
/// **Blocking**: none, but in [`Gc::downgrade`], which allocates.
///
/// # Examples
///
/// ```
/// use raddle::gc::{Gc, Weak};
///
/// let gc = Gc::new(String::from("weft"));
/// let weak: Weak<String> = Gc::downgrade(&gc);
/// assert_eq!(weak.upgrade().unwrap().as_str(), "weft");
/// assert!(Weak::<String>::new().upgrade().is_none());
/// # raddle::gc::keep_alive(&gc);
/// ```
// Aligned by name, so that rustc refuses it as a field of a `repr(packed)` type.
#[repr(align(8))]
pub struct Weak<T> {
    cell: Option<NonNull<WeakCell>>,
    _value: PhantomData<Gc<T>>,
}

impl<T> Clone for Weak<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Weak<T> {}

// SAFETY: it gives handles, and nothing else; the cell is atomic.
unsafe impl<T> Send for Weak<T> where Gc<T>: Send {}
// SAFETY: as above.
unsafe impl<T> Sync for Weak<T> where Gc<T>: Send {}

impl<T> Weak<T> {
    /// Returns one that points to nothing.
    #[must_use]
    pub const fn new() -> Self {
        Weak {
            cell: None,
            _value: PhantomData,
        }
    }

    /// One that will be set later.
    pub(super) fn unset() -> Self {
        Self::with_target(ptr::null_mut())
    }

    pub(super) fn to(gc: Gc<T>) -> Self {
        Self::with_target(gc.into_raw().as_ptr().cast())
    }

    fn with_target(target: *mut u8) -> Self {
        background::ensure();
        let cell = NonNull::new(gc::weak_new(target));
        Weak {
            cell: Some(cell.unwrap_or_else(|| handle_alloc_error(Layout::new::<WeakCell>()))),
            _value: PhantomData,
        }
    }

    /// Gives it its value, once.
    pub(super) fn set(self, gc: Gc<T>) {
        let Some(cell) = self.cell else { return };
        events::release(cell.addr().get());
        // SAFETY: the cell lives as long as this handle; by invariant 1 it takes the address of a value.
        unsafe { gc::weak_set(cell.as_ptr(), gc.into_raw().as_ptr().cast()) };
    }

    /// Returns the value, if it has not been found unreachable.
    ///
    /// # Happens-before
    ///
    /// For a `Weak` from [`Gc::new_cyclic`]: the making of the value happens before this returns it.
    #[must_use]
    pub fn upgrade(&self) -> Option<Gc<T>> {
        let cell = self.cell?;
        // SAFETY: the cell lives as long as this handle.
        let value = unsafe { gc::weak_get(cell.as_ptr()) };
        let value = NonNull::new(value)?.cast::<T>();
        events::acquire(cell.addr().get());
        // SAFETY: by invariant 1 the address of a `T` in a collected object, and it is there.
        let there = unsafe { finalize::is_there(value) };
        // SAFETY: as above.
        there.then(|| unsafe { Gc::from_raw(value) })
    }

    /// Whether both come from the same [`Gc::downgrade`] or [`Gc::new_cyclic`], or both from [`new`](Self::new), or point to the
    /// same value that is still there.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        let target = |weak: &Self| {
            // SAFETY: the cell lives as long as the handle.
            weak.cell.map_or(ptr::null_mut(), |cell| unsafe {
                gc::weak_get(cell.as_ptr())
            })
        };
        self.cell == other.cell || (!target(self).is_null() && target(self) == target(other))
    }
}

impl<T> Default for Weak<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Weak<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(Weak)")
    }
}
