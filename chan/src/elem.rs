//! What the core knows of an element type: its size, its place in a buffer, and how to drop one.
//!
//! # Invariants
//!
//! 1. Moving an element is copying its bytes: whoever copied them out owns the element, the source is then only memory.
//! 2. `size` is a multiple of `align`, as Rust's layouts are, so every slot of a buffer that starts aligned is aligned.

use raddle_race::carry;
use std::alloc::Layout;
use std::mem::{MaybeUninit, needs_drop};
use std::ptr;

/// Where a message lies in the frame of a typed shell while the core works on it. Moves into and out of it are not watched: only the
/// runtime knows the place.
pub(crate) struct Slot<T>(MaybeUninit<T>);

impl<T> Slot<T> {
    #[inline(always)]
    pub(crate) fn empty() -> Self {
        Self(MaybeUninit::uninit())
    }

    #[inline(always)]
    pub(crate) fn fill(&mut self, msg: T) -> *mut u8 {
        // SAFETY: the place is ours.
        unsafe { carry::put(self.0.as_mut_ptr(), msg) };
        self.place()
    }

    #[inline(always)]
    pub(crate) fn place(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    /// Takes the message out.
    ///
    /// # Safety
    ///
    /// There is one.
    #[inline(always)]
    pub(crate) unsafe fn take(&mut self) -> T {
        // SAFETY: by the contract; the place is ours.
        unsafe { carry::take(self.0.as_ptr()) }
    }
}

/// What the typed shell tells of an element type: a constant, so the shell passes one address.
#[derive(Debug)]
pub(crate) struct ElemType {
    layout: Layout,
    drop: Option<unsafe fn(*mut u8)>,
}

impl ElemType {
    #[inline(always)]
    pub(crate) fn of<T>() -> &'static Self {
        const {
            &Self {
                layout: Layout::new::<T>(),
                drop: if needs_drop::<T>() {
                    Some(drop_erased::<T>)
                } else {
                    None
                },
            }
        }
    }
}

/// The description of an element type, shared by all the operations of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elem {
    size: usize,
    align: usize,
    drop: Option<unsafe fn(*mut u8)>,
}

/// Drops the `T` at `value`.
unsafe fn drop_erased<T>(value: *mut u8) {
    // SAFETY: the caller hands over an owned, aligned element of the type that this instance was made for.
    unsafe { ptr::drop_in_place(value.cast::<T>()) }
}

impl Elem {
    /// For a channel that never has an element.
    pub(crate) const NOTHING: Elem = Elem {
        size: 0,
        align: 1,
        drop: None,
    };

    pub(crate) fn of(&ElemType { layout, drop }: &ElemType) -> Self {
        Self {
            size: layout.size(),
            align: layout.align(),
            drop,
        }
    }

    /// Bytes of one element, and from one slot of a buffer to the next.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Alignment of a buffer of elements.
    #[inline]
    pub(crate) fn align(&self) -> usize {
        self.align
    }

    /// Whether dropping an element does anything.
    #[inline]
    pub(crate) fn needs_drop(&self) -> bool {
        self.drop.is_some()
    }

    /// Moves one element. The common sizes are a load and a store; the branch on the size is the same for the whole life of
    /// a channel.
    ///
    /// # Safety
    ///
    /// `src` is valid for reads and `dst` for writes of one element, they do not overlap, and the source is not used
    /// as an element afterwards.
    #[inline(always)]
    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "one operation, compiled for seven lengths"
    )]
    pub(crate) unsafe fn move_one(&self, src: *const u8, dst: *mut u8) {
        // SAFETY: by the contract; the length of each copy is `size`.
        unsafe {
            match self.size {
                8 => ptr::copy_nonoverlapping(src, dst, 8),
                4 => ptr::copy_nonoverlapping(src, dst, 4),
                0 => {}
                16 => ptr::copy_nonoverlapping(src, dst, 16),
                1 => ptr::copy_nonoverlapping(src, dst, 1),
                2 => ptr::copy_nonoverlapping(src, dst, 2),
                n => ptr::copy_nonoverlapping(src, dst, n),
            }
        }
    }

    /// Drops an element in place. Runs the user's code: never under a lock, never inside the runtime.
    ///
    /// # Safety
    ///
    /// `value` points to an owned element, which is not used afterwards.
    pub(crate) unsafe fn drop_one(&self, value: *mut u8) {
        if let Some(drop) = self.drop {
            // SAFETY: by the contract, and `drop` was made for this element type.
            unsafe { drop(value) }
        }
    }
}
