//! The array under [`Slice`](super::Slice)s: a fixed number of elements that goroutines share without a lock.

use std::cell::UnsafeCell;
use std::panic::{Location, RefUnwindSafe};

use super::value::{self, Value};
use crate::sync::events;

/// The elements. They are touched by [`Array::load`] and [`Array::store`] only once the array is shared.
pub(super) struct Array<T: Value> {
    elements: Box<[UnsafeCell<T>]>,
}

// SAFETY: shared access is by relaxed atomics only, and a `Value` may be sent.
unsafe impl<T: Value> Sync for Array<T> {}
impl<T: Value> RefUnwindSafe for Array<T> {}

impl<T: Value> Array<T> {
    pub(super) fn new(elements: Vec<T>, at: &'static Location<'static>) -> Array<T> {
        let array = Array {
            elements: elements.into_iter().map(UnsafeCell::new).collect(),
        };
        events::born(array.addr(0), array.bytes(), at);
        array
    }

    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    /// The address of element `i`.
    pub(super) fn addr(&self, i: usize) -> usize {
        self.elements.as_ptr().wrapping_add(i).addr()
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.elements)
    }

    /// Copies element `i` out. The caller has told the detector.
    #[inline]
    #[track_caller]
    pub(super) fn load(&self, i: usize) -> T {
        // SAFETY: initialised, and shared by `load` and `store` only.
        unsafe { value::load(self.elements[i].get()) }
    }

    /// Copies `value` into element `i`. The caller has told the detector.
    #[inline]
    pub(super) fn store(&self, i: usize, value: T) {
        // SAFETY: as in `load`.
        unsafe { value::store(self.elements[i].get(), value) };
    }
}

impl<T: Value> Drop for Array<T> {
    fn drop(&mut self) {
        events::gone(self.addr(0), self.bytes());
    }
}
