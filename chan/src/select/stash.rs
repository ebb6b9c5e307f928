//! Where a select keeps the message it received until the user asks for it.
//!
//! # Invariants
//!
//! 1. A slot stays in place while the stash does: parked, a select gives its address to senders. It is moved only between
//!    the selection and its completion, when nobody else knows it.
//! 2. Memory is allocated with no lock held, and only for elements that do not fit in line.

use crate::elem::Elem;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::MaybeUninit;
use std::ptr;

/// 64 bytes, aligned to 16.
type Inline = [u128; 4];

/// Room for one element of any type.
#[derive(Debug)]
pub(crate) struct Stash {
    inline: MaybeUninit<Inline>,
    heap: *mut u8,
    layout: Layout,
}

impl Stash {
    pub(crate) const fn new() -> Self {
        Self {
            inline: MaybeUninit::uninit(),
            heap: ptr::null_mut(),
            layout: Layout::new::<()>(),
        }
    }

    fn fits_inline(elem: &Elem) -> bool {
        elem.size() <= size_of::<Inline>() && elem.align() <= align_of::<Inline>()
    }

    /// Makes room for an `elem`, while the stash is empty.
    #[inline]
    pub(crate) fn reserve(&mut self, elem: &Elem) {
        if !Self::fits_inline(elem) {
            self.grow(elem);
        }
    }

    #[cold]
    fn grow(&mut self, elem: &Elem) {
        let size = elem.size().max(self.layout.size());
        let align = elem.align().max(self.layout.align());
        if size == self.layout.size() && align == self.layout.align() && !self.heap.is_null() {
            return;
        }
        let layout =
            Layout::from_size_align(size.max(1), align).expect("an element fits in memory");
        self.free();
        // SAFETY: the size is not zero.
        self.heap = unsafe { alloc(layout) };
        if self.heap.is_null() {
            handle_alloc_error(layout);
        }
        self.layout = layout;
    }

    /// The slot for an `elem`, for which room was made.
    #[inline]
    pub(crate) fn slot(&mut self, elem: &Elem) -> *mut u8 {
        if Self::fits_inline(elem) {
            self.inline.as_mut_ptr().cast()
        } else {
            self.heap
        }
    }

    fn free(&mut self) {
        if !self.heap.is_null() {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.heap, self.layout) };
            self.heap = ptr::null_mut();
        }
    }
}

impl Drop for Stash {
    #[inline]
    fn drop(&mut self) {
        if !self.heap.is_null() {
            self.free();
        }
    }
}
