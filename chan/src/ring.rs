//! The buffer of a bounded channel: a ring of element slots, fixed in size.
//!
//! # Invariants
//!
//! 1. Everything here is touched under the channel's lock only.
//! 2. The `len` elements from `head` on (wrapping) are owned by the ring; `tail` is the slot after them.
//! 3. `len + reserved <= cap`, where `len` and `reserved` are kept by the channel.
//!
//! Indices wrap by comparison, not by division.

use crate::elem::Elem;
use crate::hooks;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// A ring of `cap` slots.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: NonNull<u8>,
    cap: usize,
    head: Cell<usize>,
    tail: Cell<usize>,
}

impl Ring {
    /// An empty ring.
    ///
    /// # Panics
    ///
    /// If `cap` elements are more than an address space can hold.
    pub(crate) fn new(cap: usize, elem: &Elem) -> Self {
        let slots = match Self::layout(cap, elem) {
            // Nothing to allocate: any aligned address serves slots without bytes.
            layout if layout.size() == 0 => {
                NonNull::new(ptr::without_provenance_mut(layout.align()))
            }
            // SAFETY: the layout has a size.
            layout => NonNull::new(unsafe { alloc(layout) }),
        };
        let slots = slots.unwrap_or_else(|| handle_alloc_error(Self::layout(cap, elem)));
        Self {
            slots,
            cap,
            head: Cell::new(0),
            tail: Cell::new(0),
        }
    }

    fn layout(cap: usize, elem: &Elem) -> Layout {
        elem.stride()
            .checked_mul(cap)
            .and_then(|bytes| Layout::from_size_align(bytes, elem.align()).ok())
            .unwrap_or_else(|| {
                panic!("a channel of {cap} messages of {} bytes does not fit in memory: choose a smaller capacity", elem.size())
            })
    }

    #[inline]
    pub(crate) fn cap(&self) -> usize {
        self.cap
    }

    #[inline]
    fn slot(&self, index: usize, elem: &Elem) -> *mut u8 {
        debug_assert!(index < self.cap);
        // SAFETY: the index is below `cap`, so the slot lies in the allocation.
        unsafe { self.slots.as_ptr().add(index * elem.stride()) }
    }

    #[inline]
    fn after(&self, index: usize) -> usize {
        if index + 1 == self.cap { 0 } else { index + 1 }
    }

    /// Where the next element goes.
    #[inline]
    pub(crate) fn tail_slot(&self, elem: &Elem) -> *mut u8 {
        self.slot(self.tail.get(), elem)
    }

    /// Where the oldest element is.
    #[inline]
    pub(crate) fn head_slot(&self, elem: &Elem) -> *mut u8 {
        self.slot(self.head.get(), elem)
    }

    /// The tail slot has been filled.
    #[inline]
    pub(crate) fn advance_tail(&self) {
        self.tail.set(self.after(self.tail.get()));
    }

    /// The head slot has been emptied.
    #[inline]
    pub(crate) fn advance_head(&self) {
        self.head.set(self.after(self.head.get()));
    }

    /// Frees the slots, not what is in them.
    ///
    /// # Safety
    ///
    /// The ring was made with the same `elem` and is not used afterwards.
    pub(crate) unsafe fn free(&self, elem: &Elem) {
        let layout = Self::layout(self.cap, elem);
        if layout.size() != 0 {
            hooks::new_life(self.slots.as_ptr(), layout.size());
            // SAFETY: allocated by `new` with this layout.
            unsafe { dealloc(self.slots.as_ptr(), layout) }
        }
    }
}
