//! [`Slice`]: Go's slices, views of an array that goroutines may share without a lock.
//!
//! # Invariants
//!
//! 1. `start + len <= start + cap <= array.len()`.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::panic::Location;
use std::string::FromUtf8Error;
use std::sync::Arc;

use super::slice_array::Array;
use super::value::Value;
use crate::sync::events;

/// A slice as in Go: a view (start, length, capacity) of an array that other slices may view too.
///
/// Cloning a slice copies the view and shares the elements. [`push`](Slice::push) and [`append`](Slice::append) write
/// behind the slice's end if the capacity allows, where another slice of the same array may see it, and otherwise move to a
/// new array. Elements may be read and written by any goroutine, and must not be without order: race mode reports it.
/// The view itself belongs to whoever owns the `Slice`.
///
/// **Blocking**: never.
///
/// **Happens-before**: none.
///
/// # Examples
///
/// ```
/// use raddle::shared::Slice;
///
/// let mut a = Slice::from(vec![1, 2, 3, 4]);
/// let b = a.slice(1..3);
/// b.set(0, 20);
/// assert_eq!(a.get(1), 20);
/// a.push(5);
/// a.set(1, 2);
/// assert_eq!((a.to_vec(), b.get(0)), (vec![1, 2, 3, 4, 5], 20));
/// ```
pub struct Slice<T: Value> {
    array: Arc<Array<T>>,
    start: usize,
    len: usize,
    cap: usize,
}

impl<T: Value> Slice<T> {
    /// Returns an empty slice without capacity.
    #[must_use]
    #[track_caller]
    pub fn new() -> Slice<T> {
        Slice::from_vec(Vec::new(), Location::caller())
    }

    /// Returns a slice of `len` default elements, with room for `cap`.
    ///
    /// # Panics
    ///
    /// If `cap` is less than `len`.
    #[must_use]
    #[track_caller]
    pub fn make(len: usize, cap: usize) -> Slice<T>
    where
        T: Default,
    {
        assert!(
            len <= cap,
            "slice capacity {cap} is less than its length {len}"
        );
        let mut elements = Vec::with_capacity(cap);
        elements.resize_with(cap, T::default);
        let mut slice = Slice::from_vec(elements, Location::caller());
        slice.len = len;
        slice
    }

    fn from_vec(elements: Vec<T>, at: &'static Location<'static>) -> Slice<T> {
        let len = elements.len();
        Slice {
            array: Arc::new(Array::new(elements, at)),
            start: 0,
            len,
            cap: len,
        }
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how many elements there can be before an append needs a new array.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.cap
    }

    /// Returns whether both slices start at the same element of the same array.
    #[must_use]
    pub fn ptr_eq(&self, other: &Slice<T>) -> bool {
        Arc::ptr_eq(&self.array, &other.array) && self.start == other.start
    }

    /// Reads element `i`.
    ///
    /// # Panics
    ///
    /// If there is no such element.
    #[inline]
    #[track_caller]
    pub fn get(&self, i: usize) -> T {
        self.check(i);
        events::read(self.addr(i), size_of::<T>(), Location::caller());
        self.array.load(self.start + i)
    }

    /// Writes element `i`.
    ///
    /// # Panics
    ///
    /// If there is no such element.
    #[inline]
    #[track_caller]
    pub fn set(&self, i: usize, value: T) {
        self.check(i);
        events::write(self.addr(i), size_of::<T>(), Location::caller());
        self.array.store(self.start + i, value);
    }

    /// Reads element `i` and writes what `f` makes of it: two accesses, not one.
    ///
    /// # Panics
    ///
    /// If there is no such element.
    #[inline]
    #[track_caller]
    pub fn update(&self, i: usize, f: impl FnOnce(T) -> T) {
        self.set(i, f(self.get(i)));
    }

    /// Returns the slice of the elements in `range`, which may reach up to the capacity.
    ///
    /// # Panics
    ///
    /// If the range ends before it starts, or beyond the capacity.
    #[must_use]
    #[track_caller]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Slice<T> {
        let from = match range.start_bound() {
            Bound::Included(&n) => Some(n),
            Bound::Excluded(&n) => n.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let to = match range.end_bound() {
            Bound::Included(&n) => n.checked_add(1),
            Bound::Excluded(&n) => Some(n),
            Bound::Unbounded => Some(self.len),
        };
        let (Some(from), Some(to)) = (from, to) else {
            panic!(
                "slice range up to usize::MAX and beyond is out of bounds of capacity {}",
                self.cap
            );
        };
        assert!(
            from <= to && to <= self.cap,
            "slice range {from}..{to} is out of bounds of capacity {}",
            self.cap
        );
        Slice {
            array: self.array.clone(),
            start: self.start + from,
            len: to - from,
            cap: self.cap - from,
        }
    }

    /// Appends one element.
    #[track_caller]
    pub fn push(&mut self, value: T)
    where
        T: Default,
    {
        self.append(&[value]);
    }

    /// Appends `values`: behind the end if the capacity allows, else in a new array of at least twice the size.
    ///
    /// # Panics
    ///
    /// If there were more than `usize::MAX` elements, which can be of size 0 only.
    #[track_caller]
    pub fn append(&mut self, values: &[T])
    where
        T: Default,
    {
        let at = Location::caller();
        // Only elements without a size can be so many.
        let len = self.len.checked_add(values.len());
        let len = len.expect("a slice cannot have more than usize::MAX elements");
        if len > self.cap {
            self.grow(len, at);
        }
        events::write(self.addr(self.len), size_of_val(values), at);
        for (i, &value) in values.iter().enumerate() {
            self.array.store(self.start + self.len + i, value);
        }
        self.len = len;
    }

    /// Moves to a new array with room for `len` elements.
    #[cold]
    fn grow(&mut self, len: usize, at: &'static Location<'static>)
    where
        T: Default,
    {
        // Not the vector's capacity, which is without bound if elements have no size.
        let cap = len.max(self.cap.saturating_mul(2));
        let mut elements = Vec::with_capacity(cap);
        self.copy_to(&mut elements, at);
        elements.resize_with(cap, T::default);
        let old_len = self.len;
        *self = Slice::from_vec(elements, at);
        self.len = old_len;
    }

    /// Copies elements from `source`, as many as both slices have, and returns their number. They may overlap.
    #[track_caller]
    pub fn copy_from(&self, source: &Slice<T>) -> usize {
        let at = Location::caller();
        let n = self.len.min(source.len);
        events::read(source.addr(0), n * size_of::<T>(), at);
        events::write(self.addr(0), n * size_of::<T>(), at);
        let copy = |i: usize| {
            self.array
                .store(self.start + i, source.array.load(source.start + i))
        };
        // The copy must not overtake itself where the target lies behind the source in the same array.
        if self.start > source.start {
            (0..n).rev().for_each(copy);
        } else {
            (0..n).for_each(copy);
        }
        n
    }

    /// Returns the elements.
    #[must_use]
    #[track_caller]
    pub fn to_vec(&self) -> Vec<T> {
        let mut elements = Vec::with_capacity(self.len);
        self.copy_to(&mut elements, Location::caller());
        elements
    }

    /// Returns the elements one by one, each read when its turn comes.
    #[track_caller]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        let at = Location::caller();
        (0..self.len).map(move |i| {
            events::read(self.addr(i), size_of::<T>(), at);
            self.array.load(self.start + i)
        })
    }

    fn copy_to(&self, elements: &mut Vec<T>, at: &'static Location<'static>) {
        events::read(self.addr(0), self.len * size_of::<T>(), at);
        elements.extend((0..self.len).map(|i| self.array.load(self.start + i)));
    }

    fn addr(&self, i: usize) -> usize {
        self.array.addr(self.start + i)
    }

    #[inline]
    #[track_caller]
    fn check(&self, i: usize) {
        assert!(
            i < self.len,
            "index {i} is out of bounds of a slice of length {}",
            self.len
        );
        debug_assert!(self.start + self.cap <= self.array.len());
    }
}

impl Slice<u8> {
    /// Returns the bytes as text.
    ///
    /// # Errors
    ///
    /// If they are not UTF-8; the error has the bytes.
    #[track_caller]
    pub fn to_utf8(&self) -> Result<String, FromUtf8Error> {
        String::from_utf8(self.to_vec())
    }
}

impl<T: Value> Clone for Slice<T> {
    /// Copies the view; the elements are shared.
    fn clone(&self) -> Slice<T> {
        Slice {
            array: self.array.clone(),
            start: self.start,
            len: self.len,
            cap: self.cap,
        }
    }
}

impl<T: Value> Default for Slice<T> {
    #[track_caller]
    fn default() -> Slice<T> {
        Slice::new()
    }
}

impl<T: Value> From<Vec<T>> for Slice<T> {
    #[track_caller]
    fn from(elements: Vec<T>) -> Slice<T> {
        Slice::from_vec(elements, Location::caller())
    }
}

impl<T: Value> From<&[T]> for Slice<T> {
    #[track_caller]
    fn from(elements: &[T]) -> Slice<T> {
        Slice::from_vec(elements.to_vec(), Location::caller())
    }
}

impl<T: Value> FromIterator<T> for Slice<T> {
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Slice<T> {
        Slice::from_vec(elements.into_iter().collect(), Location::caller())
    }
}

impl<T: Value + fmt::Debug> fmt::Debug for Slice<T> {
    #[track_caller]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
