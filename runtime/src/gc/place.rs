//! How values lie in a collected object, and getting one.
//!
//! # Invariants
//!
//! 1. Values that need no drop start at the object's first byte. Others lie behind a [`Header`], at [`Place::OFFSET`]: the
//!    first multiple of their alignment that leaves room for it.
//! 2. An object has at least one byte behind that offset, also for values without size: a pointer to a value always points
//!    *into* its object, never to the end of it, which is the start of the next.
//!    Nor does the end of a slice, where the object is not scanned.
//! 3. A value that may contain a handle lies in an object that is scanned. A handle is a whole word at a multiple of eight,
//!    so types that are smaller, or aligned to less, have none (`repr(packed)` apart, which the module's text excludes).

use std::alloc::{Layout, handle_alloc_error};
use std::arch::asm;
use std::marker::PhantomData;
use std::mem::needs_drop;
use std::panic::Location;
use std::ptr::NonNull;

use raddle_alloc::gc::{self, Header, Kind};
use raddle_race::Pc;

use super::background;

/// The place of values of type `T` in an object.
pub(super) struct Place<T>(PhantomData<T>);

impl<T> Place<T> {
    /// Whether the values need to be dropped, and so lie behind a header.
    pub(super) const FINALIZED: bool = needs_drop::<T>();

    /// How far behind the object's start the values begin. Alignments are powers of two, so the larger of the header's size,
    /// which is one too, and the alignment is a multiple of both.
    pub(super) const OFFSET: usize = match (Self::FINALIZED, align_of::<T>()) {
        (false, _) => 0,
        (true, align) if align > size_of::<Header>() => align,
        (true, _) => size_of::<Header>(),
    };

    /// The kind of object for values that may contain handles.
    pub(super) const KIND: Kind = if Self::FINALIZED {
        Kind::Finalized
    } else if size_of::<T>() < size_of::<usize>() || align_of::<T>() < align_of::<usize>() {
        // By invariant 3.
        Kind::NoScan
    } else {
        Kind::Scan
    };

    /// The kind of object for values without handles.
    pub(super) const KIND_NO_POINTERS: Kind = if Self::FINALIZED {
        Kind::Finalized
    } else {
        Kind::NoScan
    };

    /// The layout of an object with one value.
    pub(super) const ONE: Layout = match Self::layout(1) {
        Some(layout) => layout,
        None => panic!("a value with its header is larger than isize::MAX bytes"),
    };

    /// The layout of an object with `len` values; `None` if it is larger than `isize::MAX` bytes.
    pub(super) const fn layout(len: usize) -> Option<Layout> {
        let Some(values) = size_of::<T>().checked_mul(len) else {
            return None;
        };
        // By invariant 2.
        let Some(size) = Self::OFFSET.checked_add(if values == 0 { 1 } else { values }) else {
            return None;
        };
        let align = if Self::FINALIZED && align_of::<T>() < align_of::<Header>() {
            align_of::<Header>()
        } else {
            align_of::<T>()
        };
        match Layout::from_size_align(size, align) {
            Ok(layout) => Some(layout),
            Err(_) => None,
        }
    }

    /// The header of the object whose first value is at `value`.
    ///
    /// # Safety
    ///
    /// `T` needs drop, and `value` is the address of the first value of a collected object.
    #[inline(always)]
    pub(super) unsafe fn header_of<'a>(value: NonNull<T>) -> &'a Header {
        // SAFETY: by the contract and invariant 1, the header lies this far in front, in the same object.
        let header = unsafe { value.byte_sub(Self::OFFSET) }.cast::<Header>();
        // SAFETY: it was written when the object was made; only its atomics ever change.
        unsafe { header.as_ref() }
    }
}

/// Keeps a handle where it is for as long as it is borrowed.
///
/// What is borrowed through it may be memory of another owner, as the text of a `Gc<String>` is: its address keeps the owner's object
/// alive by no means, so the handle must not be forgotten before the borrow ends, or the destructor would run under it. The compiler has
/// to believe that the handle's address is known elsewhere from here on; then it stays in its place until that is dead, which it cannot be
/// while it is borrowed. No instruction comes of it but the store of a handle that was in a register.
#[inline(always)]
pub(super) fn pin<T, H>(handle: &H) {
    if !matches!(Place::<T>::KIND, Kind::NoScan) {
        // SAFETY: no instructions. That memory is changed is what the compiler must believe: else the address would be forgotten.
        unsafe { asm!("/* {} */", in(reg) &raw const *handle, options(nostack, preserves_flags)) };
    }
}

/// One byte more for objects that are not scanned.
///
/// A loop over a slice may be compiled to one that has only the address behind the last value, and counts up to it: that must not be the
/// next object's. To objects of the other kinds a handle leads as long as they are borrowed (`pin`).
#[inline]
fn with_end(layout: Layout, kind: Kind) -> Layout {
    if !matches!(kind, Kind::NoScan) {
        return layout;
    }
    // A layout that cannot be longer is of no object.
    Layout::from_size_align(layout.size() + 1, layout.align()).unwrap_or(layout)
}

/// Gets an object. The contents are undefined.
#[inline]
pub(super) fn allocate(layout: Layout, kind: Kind, at: &'static Location<'static>) -> NonNull<u8> {
    background::ensure();
    let object = gc::allocate(with_end(layout, kind), kind, Pc::at(at));
    got(object, layout)
}

/// Gets an object that is all zeros.
#[inline]
pub(super) fn allocate_zeroed(
    layout: Layout,
    kind: Kind,
    at: &'static Location<'static>,
) -> NonNull<u8> {
    background::ensure();
    let object = gc::allocate_zeroed(with_end(layout, kind), kind, Pc::at(at));
    got(object, layout)
}

#[inline(always)]
fn got(object: *mut u8, layout: Layout) -> NonNull<u8> {
    NonNull::new(object).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(4096))]
    struct Page;
    impl Drop for Page {
        fn drop(&mut self) {}
    }

    #[test]
    fn values_lie_behind_the_header_if_they_need_drop() {
        assert_eq!(Place::<u64>::OFFSET, 0);
        assert_eq!(Place::<String>::OFFSET, 32);
        assert_eq!(Place::<Page>::OFFSET, 4096);
        assert_eq!(Place::<String>::ONE.size(), 32 + 24);
        assert_eq!(Place::<Page>::ONE.align(), 4096);
        assert_eq!(Place::<Page>::ONE.size(), 4097);
    }

    #[test]
    fn the_end_of_a_slice_is_in_its_object() {
        for len in [1, 8, 16, 4096, 64 << 10, 1 << 20] {
            let bytes = crate::gc::Slice::<u8>::zeroed(len);
            let range = bytes.as_ptr_range();
            let object = raddle_alloc::find_object(range.end.addr()).expect("an object");
            assert_eq!(object.start, range.start.addr());
        }
    }

    #[test]
    fn no_value_lies_at_the_end_of_its_object() {
        struct Nothing;
        impl Drop for Nothing {
            fn drop(&mut self) {}
        }
        assert_eq!(Place::<()>::ONE.size(), 1);
        assert_eq!(Place::<Nothing>::ONE.size(), 33);
        assert_eq!(Place::<Nothing>::layout(1000).map(|l| l.size()), Some(33));
    }

    #[test]
    fn only_what_can_hold_a_handle_is_scanned() {
        assert_eq!(Place::<&u8>::KIND, Kind::Scan);
        assert_eq!(Place::<[usize; 3]>::KIND, Kind::Scan);
        assert_eq!(Place::<[u32; 3]>::KIND, Kind::NoScan);
        assert_eq!(Place::<u8>::KIND, Kind::NoScan);
        assert_eq!(Place::<()>::KIND, Kind::NoScan);
        assert_eq!(Place::<String>::KIND, Kind::Finalized);
        assert_eq!(Place::<usize>::KIND_NO_POINTERS, Kind::NoScan);
    }

    #[test]
    fn sizes_that_overflow_are_none() {
        assert!(Place::<u64>::layout(usize::MAX / 8).is_none());
        assert!(Place::<u64>::layout(usize::MAX).is_none());
        assert!(Place::<u8>::layout(isize::MAX as usize).is_some());
        assert!(Place::<String>::layout(isize::MAX as usize / 24).is_none());
        assert!(Place::<()>::layout(usize::MAX).is_some());
    }
}
