//! [`Slice`]: collected values in a row.
//!
//! # Invariants
//!
//! 1. An empty slice has a dangling pointer and no object. Any other has the address of the first value of a collected object
//!    made for `len` values of type `T`; all are initialised before the first handle exists.
//! 2. While the address is in memory or registers that the collector looks at, the object stays.

use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;
use std::panic::Location;
use std::ptr::{self, NonNull};

use bytemuck::Zeroable;
use raddle_alloc::gc::{Kind, state};

use super::finalize;
use super::no_pointers::NoPointers;
use super::place::{self, Place};

/// A pointer to collected values in a row: what [`Gc`](super::Gc) is for one value. Its length is fixed; it derefs to `[T]`.
///
/// # Panics
///
/// Following it panics as with [`Gc`](super::Gc). Making one panics if it is larger than `isize::MAX` bytes; out of memory ends the
/// process, as with `Vec`.
///
/// **Blocking**: making one blocks the thread while a collection runs, if one is due.
///
/// # Examples
///
/// ```
/// use raddle::gc::Slice;
///
/// let squares = Slice::from_fn(5, |i| i * i);
/// let sum = raddle::go(move || squares.iter().sum::<usize>());
/// assert_eq!(squares[4], 16);
/// assert_eq!(sum.join().unwrap(), 30);
/// ```
// Aligned by name, so that rustc refuses it as a field of a `repr(packed)` type.
#[repr(align(8))]
pub struct Slice<T> {
    first: NonNull<T>,
    len: usize,
    _values: PhantomData<T>,
}

impl<T> Clone for Slice<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<T> {}

// SAFETY: a handle gives shared references (T: Sync), and the values may be dropped on another thread (T: Send).
unsafe impl<T: Send + Sync> Send for Slice<T> {}
// SAFETY: as above: a shared handle can be copied.
unsafe impl<T: Send + Sync> Sync for Slice<T> {}

impl<T> Slice<T> {
    /// Returns an empty slice, which takes no memory.
    #[must_use]
    pub const fn empty() -> Self {
        Slice {
            first: NonNull::dangling(),
            len: 0,
            _values: PhantomData,
        }
    }

    /// Makes `len` values by calling `make` with 0, 1, 2, ...
    ///
    /// `Send`, because values with a destructor are dropped on another goroutine than their maker's.
    ///
    /// # Panics
    ///
    /// A panic of `make` goes on in the caller, when the values made so far have been dropped.
    #[track_caller]
    pub fn from_fn(len: usize, mut make: impl FnMut(usize) -> T) -> Self
    where
        T: Send + 'static,
    {
        let at = Location::caller();
        if len == 0 {
            return Self::empty();
        }
        let first = Self::object(len, Place::<T>::KIND, false, at);
        let mut made = Made { first, len: 0 };
        place::pin(&made);
        while made.len < len {
            let value = make(made.len);
            // SAFETY: within the object, which has room for `len`.
            let place = unsafe { first.add(made.len) };
            // SAFETY: as above, and nobody else has it.
            unsafe { place.write(value) };
            made.len += 1;
        }
        made.done()
    }

    /// Copies numbers, or other values that hold no handles, to an object that the collector does not look into.
    ///
    /// # Examples
    ///
    /// ```
    /// let text = raddle::gc::Slice::copy_from_slice(b"warp and weft");
    /// assert_eq!(&text[..4], b"warp");
    /// ```
    #[must_use]
    #[track_caller]
    pub fn copy_from_slice(values: &[T]) -> Self
    where
        T: NoPointers + Copy + Send + 'static,
    {
        if values.is_empty() {
            return Self::empty();
        }
        let first = Self::object(values.len(), Kind::NoScan, false, Location::caller());
        let len = values.len();
        let made = Made { first, len };
        place::pin(&made);
        // SAFETY: the object has room for as many, and is new.
        unsafe { first.copy_from_nonoverlapping(NonNull::from(values).cast(), len) };
        made.done()
    }

    /// Makes `len` zeros, of a type for which that is a value, in an object that the collector does not look into: atomic
    /// numbers, say.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::gc::Slice;
    /// use raddle::sync::atomic::{AtomicU32, Ordering};
    ///
    /// let counts = Slice::<AtomicU32>::zeroed(1000);
    /// raddle::go(move || counts[7].fetch_add(1, Ordering::Relaxed)).join().unwrap();
    /// assert_eq!(counts[7].load(Ordering::Relaxed), 1);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn zeroed(len: usize) -> Self
    where
        T: NoPointers + Zeroable + Send + 'static,
    {
        if len == 0 {
            return Self::empty();
        }
        let at = Location::caller();
        let first = Self::object(len, Place::<T>::KIND_NO_POINTERS, true, at);
        Made { first, len }.done()
    }

    /// An object for `len` values, at least one; returns the place of the first.
    fn object(len: usize, kind: Kind, zeroed: bool, at: &'static Location<'static>) -> NonNull<T> {
        let layout = Place::<T>::layout(len).unwrap_or_else(|| too_large(len, size_of::<T>()));
        let allocate = if zeroed {
            place::allocate_zeroed
        } else {
            place::allocate
        };
        let object = allocate(layout, kind, at);
        // SAFETY: the object is ours, by the layout for `len` values.
        unsafe { finalize::begin(object, len) }
    }

    /// Whether both are the same slice: one address and one length.
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        ptr::eq(Self::as_ptr(this), Self::as_ptr(other))
    }

    /// The address of the values. It keeps them alive as long as it is kept as an address.
    #[must_use]
    pub fn as_ptr(this: &Self) -> *const [T] {
        ptr::slice_from_raw_parts(this.first.as_ptr(), this.len)
    }

    /// The values, or `None` if they have been dropped: as [`Gc::get`](super::Gc::get).
    #[must_use]
    pub fn get_all(this: &Self) -> Option<&[T]> {
        place::pin(this);
        // SAFETY: by invariant 1.
        let there = this.len == 0 || unsafe { finalize::is_there(this.first) };
        // SAFETY: as in `deref`.
        there.then(|| unsafe { &*Self::as_ptr(this) })
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn too_large(len: usize, size: usize) -> ! {
    panic!("capacity overflow: a slice of {len} values of {size} bytes is larger than any memory")
}

impl<T> Deref for Slice<T> {
    type Target = [T];

    #[inline(always)]
    #[track_caller]
    fn deref(&self) -> &[T] {
        place::pin(self);
        if Place::<T>::FINALIZED && self.len != 0 {
            // SAFETY: by invariant 1.
            unsafe { finalize::check(self.first) };
        }
        // SAFETY: by invariant 1 they are initialised, they are not dropped, and by 2 stay as long as `self`; nobody has them
        // mutably.
        unsafe { &*Self::as_ptr(self) }
    }
}

/// Values that are being made, in an object that nobody else has. If the maker panics, they are dropped here and now.
struct Made<T> {
    first: NonNull<T>,
    len: usize,
}

impl<T> Made<T> {
    /// All are made.
    fn done(self) -> Slice<T> {
        let Made { first, len } = *mem::ManuallyDrop::new(self);
        // SAFETY: `object` has written the header.
        unsafe { finalize::becomes(first, state::LIVE) };
        Slice {
            first,
            len,
            _values: PhantomData,
        }
    }
}

impl<T> Drop for Made<T> {
    fn drop(&mut self) {
        // SAFETY: `object` has written the header.
        unsafe { finalize::becomes(self.first, state::DROPPED) };
        let made = NonNull::slice_from_raw_parts(self.first, self.len);
        // SAFETY: so many are made, and no handle to them exists.
        unsafe { made.drop_in_place() };
    }
}
