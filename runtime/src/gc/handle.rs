//! [`Gc`]: a pointer to a collected value.
//!
//! # Invariants
//!
//! 1. The pointer is the address of the first and only value of a collected object made for `T`; the value is initialised
//!    before the first handle exists.
//! 2. While the address is in memory or registers that the collector looks at, the object stays.

use std::marker::PhantomData;
use std::mem::needs_drop;
use std::ops::Deref;
use std::panic::Location;
use std::ptr::NonNull;

use raddle_alloc::gc::{Kind, state};

use super::finalize;
use super::no_pointers::NoPointers;
use super::place::{self, Place};
use super::weak::Weak;

/// A pointer to a collected value: `Copy`, shared by any number of goroutines and threads, never dangling.
///
/// The value lives as long as something reaches it; see the [module](super) for what does, and for values with a destructor.
/// There is no way to a `&mut T`: for values that change use a lock, an atomic, an [`Atomic`](super::Atomic) for handles. What
/// belongs to the handle and not to the value is an associated function: `Gc::ptr_eq(&a, &b)`.
///
/// Comparing, hashing and formatting go through to the value, as with `Box` and `Arc`.
///
/// # Panics
///
/// Following a handle to a value that has been dropped panics. Only destructors, and who is given a handle by one, can meet
/// such a value: everywhere else a handle keeps its value alive.
///
/// # Happens-before
///
/// None by itself.
///
/// # Examples
///
/// ```
/// use raddle::gc::Gc;
///
/// let words = Gc::new(vec!["warp", "weft"]);
/// let length = raddle::go(move || words.len()); // a copy goes along
/// assert_eq!(words[0], "warp");
/// assert_eq!(length.join().unwrap(), 2);
/// ```
// Aligned by name, so that rustc refuses it as a field of a `repr(packed)` type.
#[repr(align(8))]
pub struct Gc<T>(NonNull<T>, PhantomData<T>);

impl<T> Clone for Gc<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Gc<T> {}

// SAFETY: a handle gives shared references (T: Sync), and the value may be dropped on another thread (T: Send), as with `Arc`.
unsafe impl<T: Send + Sync> Send for Gc<T> {}
// SAFETY: as above: a shared handle can be copied.
unsafe impl<T: Send + Sync> Sync for Gc<T> {}

impl<T> Gc<T> {
    /// Moves `value` to a collected object.
    ///
    /// `Send`, because a value with a destructor is dropped on another goroutine than its maker's. For a value that is not
    /// `Send` and has no destructor there is [`new_local`](Self::new_local).
    ///
    /// # Panics
    ///
    /// If Raddle's heap is not the process's global allocator (the feature `global-allocator` is off, and the program has
    /// not installed [`raddle::Heap`](crate::Heap) itself): handles in a `Box` would not be seen. Out of memory ends the process,
    /// as with `Box`.
    ///
    /// # Blocking
    ///
    /// Blocks the thread while a collection runs, if one is due.
    ///
    /// # Examples
    ///
    /// ```
    /// let n = raddle::gc::Gc::new(7);
    /// assert_eq!(*n + 1, 8);
    /// ```
    #[inline]
    #[track_caller]
    pub fn new(value: T) -> Self
    where
        T: Send + 'static,
    {
        Self::make(value, Place::<T>::KIND, Location::caller())
    }

    /// Moves a value that is not `Send` to a collected object. It must have no destructor: nothing will run on another goroutine.
    ///
    /// The handle is not `Send` either. Panics, blocks and ends as [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// let count = raddle::gc::Gc::new_local(Cell::new(1));
    /// count.set(count.get() + 1);
    /// assert_eq!(count.get(), 2);
    /// ```
    ///
    /// A destructor is refused when the program is compiled:
    ///
    /// ```compile_fail
    /// raddle::gc::Gc::new_local(std::rc::Rc::new(1));
    /// ```
    #[inline]
    #[track_caller]
    pub fn new_local(value: T) -> Self
    where
        T: 'static,
    {
        const {
            assert!(
                !needs_drop::<T>(),
                "Gc::new_local is for types without a destructor: destructors run on the finalizer goroutine, which takes \
                 Send. Use Gc::new"
            );
        }
        Self::make(value, Place::<T>::KIND, Location::caller())
    }

    /// Moves a value that holds no handles to a collected object that the collector does not look into.
    ///
    /// Cheaper to collect, and numbers in it keep nothing alive by chance. Panics, blocks and ends as [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// let image = raddle::gc::Gc::new_no_pointers([0_u64; 1000]);
    /// assert_eq!(image.len(), 1000);
    /// ```
    #[inline]
    #[track_caller]
    pub fn new_no_pointers(value: T) -> Self
    where
        T: NoPointers + Send + 'static,
    {
        Self::make(value, Place::<T>::KIND_NO_POINTERS, Location::caller())
    }

    /// Makes a value that holds a [`Weak`] to itself.
    ///
    /// Until `make` has returned [`Weak::upgrade`] gives `None`. If it panics there is no value, and nothing is dropped.
    /// Blocks and ends as [`new`](Self::new).
    ///
    /// # Happens-before
    ///
    /// What `make` did happens before an upgrade that gives the handle.
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::gc::{Gc, Weak};
    ///
    /// struct Node {
    ///     me: Weak<Node>,
    /// }
    /// let node = Gc::new_cyclic(|me| Node { me: *me });
    /// assert!(Gc::ptr_eq(&node.me.upgrade().unwrap(), &node));
    /// ```
    #[track_caller]
    pub fn new_cyclic(make: impl FnOnce(&Weak<T>) -> T) -> Self
    where
        T: Send + 'static,
    {
        let at = Location::caller();
        let weak = Weak::unset();
        let gc = Self::make(make(&weak), Place::<T>::KIND, at);
        weak.set(gc);
        gc
    }

    #[inline]
    fn make(value: T, kind: Kind, at: &'static Location<'static>) -> Self {
        let object = place::allocate(Place::<T>::ONE, kind, at);
        // SAFETY: the object is ours, by the layout for one value.
        let place = unsafe { finalize::begin::<T>(object, 1) };
        let gc = Gc(place, PhantomData);
        place::pin(&gc);
        // SAFETY: as above.
        unsafe { place.write(value) };
        // SAFETY: the header is written above.
        unsafe { finalize::becomes(place, state::LIVE) };
        gc
    }

    /// Whether both are handles to the same value.
    #[must_use]
    #[inline]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.0 == other.0
    }

    /// The address of the value. It keeps the value alive as long as it is kept as an address.
    #[must_use]
    #[inline]
    pub fn as_ptr(this: &Self) -> *const T {
        this.0.as_ptr()
    }

    /// Returns a pointer that does not keep the value alive. It is a small collected object itself; its copies share it.
    ///
    /// Blocks and ends as [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// use raddle::gc::Gc;
    ///
    /// let gc = Gc::new(1);
    /// let weak = Gc::downgrade(&gc);
    /// assert_eq!(weak.upgrade(), Some(gc));
    /// ```
    #[must_use]
    pub fn downgrade(this: &Self) -> Weak<T> {
        Weak::to(*this)
    }

    /// The value, or `None` if it has been dropped: for destructors, which may meet such a value in a cycle.
    #[must_use]
    #[inline]
    pub fn get(this: &Self) -> Option<&T> {
        place::pin(this);
        // SAFETY: by invariant 1.
        if !unsafe { finalize::is_there(this.0) } {
            return None;
        }
        // SAFETY: it is initialised, not dropped, and by invariant 2 stays as long as `this`; nobody has it mutably.
        Some(unsafe { this.0.as_ref() })
    }

    /// A handle from the address that [`into_raw`](Self::into_raw) gave.
    ///
    /// # Safety
    ///
    /// `value` is from `into_raw` of a handle of this type, and its object is still there.
    #[inline]
    pub(super) unsafe fn from_raw(value: NonNull<T>) -> Self {
        Gc(value, PhantomData)
    }

    #[inline]
    pub(super) fn into_raw(self) -> NonNull<T> {
        self.0
    }
}

impl<T> Deref for Gc<T> {
    type Target = T;

    #[inline(always)]
    #[track_caller]
    fn deref(&self) -> &T {
        place::pin(self);
        // SAFETY: by invariant 1.
        unsafe { finalize::check(self.0) };
        // SAFETY: it is initialised, not dropped, and by invariant 2 stays as long as `self`; nobody has it mutably.
        unsafe { self.0.as_ref() }
    }
}
