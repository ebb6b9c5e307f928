//! How values lie in a collected object, and getting one.
//!
//! # Invariants
//!
//! 1. Values that need no drop start at the object's first byte. Others lie behind a [`Header`], at
//!    [`Place::OFFSET`]: the first multiple of their alignment that leaves room for it.
//! 2. An object has at least one byte behind that offset, also for values without size: a pointer
//!    to a value always points *into* its object, never to the end of it, which is the start of the
//!    next.
//! 3. A value that may contain a handle lies in an object that is scanned. A handle is a whole
//!    word, so a type that is smaller has none. Alignment tells nothing: a generic `repr(packed)`
//!    type may hold a handle at any address.
//! 4. From the moment a handle is borrowed until the last use of anything that was borrowed through
//!    it, the handle is in memory that the collector looks at: see [`pin`].
//!
//! # Why a borrow keeps its object
//!
//! The optimiser owes the collector nothing. From a borrowed `&[u8]` it may keep `address - d` for
//! the length of a loop, which points before the object, or the address of its end, or nothing but
//! an index into another array. So what is borrowed is never what keeps the object: the *handle*
//! is, in the place where it was borrowed. The argument has three steps.
//!
//! *The place holds the handle as long as the borrow lives.* That is Rust's own rule. `deref` takes
//! `&'a self` and returns `&'a T`; a handle has no interior mutability, so for all of `'a` nobody
//! moves, overwrites or frees the place.
//!
//! *The machine's memory agrees with Rust's.* [`pin`] passes the place's address to an `asm!` block
//! that may read and write memory and may keep the address. From there on the place has escaped:
//! - it is in memory: a handle that was in a register is stored before the block, which may read
//!   it, and the store is never dead;
//! - it keeps its value: no later store to the place, and no end of the place's storage
//!   (`StorageDead`, `lifetime.end`, the return of its function, `dealloc`), moves up over a load
//!   through the borrow. To LLVM such a load may read the place itself. What could tell it
//!   otherwise is `noalias`, which is on references that are parameters; and the scope of such a
//!   parameter lies within the borrow, in a callee;
//! - a stack slot is not shared with another variable before its storage ends;
//! - a heap allocation that the place lies in is not elided, since its address is known elsewhere.
//!
//! A loop without a call needs nothing more: the place is constant memory while the loop runs,
//! whichever registers it uses, and another thread that stops the world finds the handle there.
//!
//! *The collector looks at the place.* It is on a stack, in a static or thread-local, in the memory
//! of `Box` and its kin, in memory that a program mapped, or in a collected object; and that object
//! is borrowed too, through a handle in another place.
//!
//! Before its first borrow a handle is a value of which the compiler needs the bits, since it will
//! store them in a place, or pass them on. It keeps them in a register or a stack slot, both of
//! which are roots. Where a constructor fills an object in a loop that the optimiser may rewrite,
//! the handle to be is pinned first.
//!
//! `tests/sound/` tries this on many loop shapes, at every level of optimisation and kind of
//! link-time optimisation, and `.ci/run borrows` looks at the machine code.

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

    /// How far behind the object's start the values begin. Alignments are powers of two, so the
    /// larger of the header's size, which is one too, and the alignment is a multiple of both.
    pub(super) const OFFSET: usize = match (Self::FINALIZED, align_of::<T>()) {
        (false, _) => 0,
        (true, align) if align > size_of::<Header>() => align,
        (true, _) => size_of::<Header>(),
    };

    /// The kind of object for values that may contain handles.
    pub(super) const KIND: Kind = if Self::FINALIZED {
        Kind::Finalized
    } else if size_of::<T>() < size_of::<usize>() {
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
        // SAFETY: by the contract and invariant 1, the header lies this far in front, in the same
        // object.
        let header = unsafe { value.byte_sub(Self::OFFSET) }.cast::<Header>();
        // SAFETY: it was written when the object was made; only its atomics ever change.
        unsafe { header.as_ref() }
    }
}

/// Keeps the handle in its place, in memory, for as long as it is borrowed: step two of "Why a
/// borrow keeps its object".
///
/// No instruction comes of it but the store of a handle that was in a register. To the optimiser it
/// is a barrier: loads and stores that others could see do not move over it.
#[inline(always)]
pub(super) fn pin<H>(handle: &H) {
    // SAFETY: no instructions. Without `readonly`, `nomem` or `pure`: what is not believed to write
    // may not keep an address, and then the place would be dead behind this line.
    unsafe { asm!("/* {} */", in(reg) &raw const *handle, options(nostack, preserves_flags)) };
}

/// Gets an object. The contents are undefined.
#[inline]
pub(super) fn allocate(layout: Layout, kind: Kind, at: &'static Location<'static>) -> NonNull<u8> {
    background::ensure();
    let object = gc::allocate(layout, kind, Pc::at(at));
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
    let object = gc::allocate_zeroed(layout, kind, Pc::at(at));
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
        // A packed generic type has no alignment to tell by.
        assert_eq!(Place::<[u32; 3]>::KIND, Kind::Scan);
        assert_eq!(Place::<[u8; 8]>::KIND, Kind::Scan);
        assert_eq!(Place::<[u8; 7]>::KIND, Kind::NoScan);
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
