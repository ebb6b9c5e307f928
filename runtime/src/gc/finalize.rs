//! Values with a destructor: their headers, and whether a value may be used.
//!
//! The life of such a value, who drops it, and what a destructor may save, is decided by
//! [`raddle_alloc::gc`] (there `finalize` and `search`). Here a handle asks before it is followed.
//!
//! # Invariants
//!
//! 1. A value is dropped only by the finalizer goroutine, which got it from [`next_to_drop`]; once.
//! 2. When an object comes to wait for its destructor, no reference to its value, or to what that
//!    owns, exists: it would be borrowed through a handle that lies in its place until then
//!    (`place::pin`), and keeps the object. A reference that is made later is made after [`check`]
//!    or [`is_there`]: these find the state `LIVE`, or make it so first, or refuse. So the drop has
//!    the value to itself.
//!
//! # Memory ordering
//!
//! The load of the state is Relaxed. `LIVE` is left only while the world is stopped, and the stop
//! orders all: a thread that loads `LIVE` has not seen a later stop, or the state became `LIVE` again
//! after it. The value that it reads then was ordered with it by whatever gave it the handle, or, if
//! it is the one that saves the object, by the stop. What was done with the value before it was lost
//! comes before its drop by the stop, too.
//!
//! [`next_to_drop`]: raddle_alloc::gc::next_to_drop

use std::mem::needs_drop;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Relaxed, Release};

use raddle_alloc::gc::{Header, State, save, state};

use super::place::Place;

/// Writes all that lies in front of the `len` values of a new object; returns the place of the first
/// value. What the alignment leaves free behind the header is zeroed: the collector would take what
/// is left there of an older object for handles.
///
/// # Safety
///
/// `object` is an object of the caller's own, for so many values.
#[inline(always)]
pub(super) unsafe fn begin<T>(object: NonNull<u8>, len: usize) -> NonNull<T> {
    if needs_drop::<T>() {
        let header = Header {
            drop: drop_values::<T>,
            state: State::new(state::INITIALISING),
            len,
            next: AtomicPtr::new(ptr::null_mut()),
        };
        // SAFETY: by the contract it is aligned for a header, and has room for one.
        unsafe { object.cast::<Header>().write(header) };
        // SAFETY: the values lie behind the header.
        let gap = unsafe { object.byte_add(size_of::<Header>()) };
        // SAFETY: up to the first value.
        unsafe { gap.write_bytes(0, Place::<T>::OFFSET - size_of::<Header>()) };
    }
    // SAFETY: within the object, by the layout.
    unsafe { object.byte_add(Place::<T>::OFFSET) }.cast()
}

/// Puts an object whose values need drop into a state. The values are whole before it is `LIVE`:
/// a child of `fork` may be born between any two stores, without the thread that makes them.
///
/// # Safety
///
/// `first` is the address of the first value of a collected object, whose header is written.
#[inline(always)]
pub(super) unsafe fn becomes<T>(first: NonNull<T>, state: u32) {
    if needs_drop::<T>() {
        // SAFETY: by the contract.
        let header = unsafe { Place::<T>::header_of(first) };
        header.state.store(state, Release);
    }
}

/// Drops the values of an object: `Header::drop`.
///
/// # Safety
///
/// The header is of an object with values of type `T`, and the caller has them to itself, by invariant 1.
unsafe fn drop_values<T>(header: *mut Header) {
    // SAFETY: the header is there as long as the object.
    let len = unsafe { (*header).len };
    // SAFETY: the values lie this far behind it, in the same object.
    let first = unsafe { header.byte_add(Place::<T>::OFFSET) }.cast::<T>();
    // SAFETY: they were all made, and by the contract nobody else has them.
    unsafe { ptr::slice_from_raw_parts_mut(first, len).drop_in_place() };
}

/// Panics if the value at `value` has been dropped; saves it if it was about to be.
///
/// # Safety
///
/// `value` is the address of the first value of a collected object with `T`s.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn check<T>(value: NonNull<T>) {
    if needs_drop::<T>() {
        // SAFETY: by the contract.
        let header = unsafe { Place::<T>::header_of(value) };
        if header.state.load(Relaxed) != state::LIVE && !save(header) {
            dropped();
        }
    }
}

/// Whether the value at `value` may be used; saves it if it was about to be dropped.
///
/// # Safety
///
/// As [`check`].
#[inline]
pub(super) unsafe fn is_there<T>(value: NonNull<T>) -> bool {
    if !needs_drop::<T>() {
        return true;
    }
    // SAFETY: by the contract.
    let header = unsafe { Place::<T>::header_of(value) };
    header.state.load(Relaxed) == state::LIVE || save(header)
}

#[cold]
#[inline(never)]
#[track_caller]
fn dropped() -> ! {
    panic!(
        "this collected value has been dropped: nothing but other garbage reached it. A destructor in a cycle asks \
         Gc::get first"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C, align(256))]
    struct Object([u8; 512]);

    #[repr(align(256))]
    struct Aligned;
    impl Drop for Aligned {
        fn drop(&mut self) {}
    }

    #[test]
    fn what_the_alignment_leaves_free_is_zero() {
        let mut object = Object([0xaa; 512]);
        let start = NonNull::from(&mut object).cast::<u8>();
        // SAFETY: ours, aligned, and large enough for two values.
        let first = unsafe { begin::<Aligned>(start, 2) };
        assert_eq!(first.addr().get() - start.addr().get(), 256);
        assert_eq!(object.0[size_of::<Header>()..256], [0; 224]);
        assert_eq!(object.0[256..], [0xaa; 256]);
    }
}
