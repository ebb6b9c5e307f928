//! The buffer of a bounded channel: a ring of element slots, fixed in size.
//!
//! # Invariants
//!
//! 1. Everything here is touched under the channel's lock only.
//! 2. The `len` elements from `head` on (wrapping) are owned by the ring; `tail` is the slot after them.
//! 3. `len + reserved <= cap`, where `len` and `reserved` are kept by the channel.
//!
//! In race mode each slot has a baton, which lies behind all the slots.
//!
//! Indices wrap by comparison, not by division.

use crate::elem::Elem;
use crate::hooks;
use raddle_race::Baton;
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::slice;

/// A ring of `cap` slots.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: NonNull<u8>,
    /// Only if it was made in race mode.
    batons: Option<NonNull<Baton>>,
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
        let has_batons = raddle_race::enabled();
        let (layout, batons_at) = Self::layout(cap, elem, has_batons);
        let slots = match layout.size() {
            // Nothing to allocate: any aligned address serves slots without bytes.
            0 => NonNull::new(ptr::without_provenance_mut(layout.align())),
            // SAFETY: the layout has a size.
            _ if has_batons => NonNull::new(unsafe { alloc_zeroed(layout) }),
            // SAFETY: as above.
            _ => NonNull::new(unsafe { alloc(layout) }),
        };
        let slots = slots.unwrap_or_else(|| handle_alloc_error(layout));
        Self {
            slots,
            // SAFETY: the layout has room for as many batons as slots from there on, and zeros are new ones.
            batons: has_batons.then(|| unsafe { slots.add(batons_at) }.cast()),
            cap,
            head: Cell::new(0),
            tail: Cell::new(0),
        }
    }

    /// And where the batons are, if there are any.
    fn layout(cap: usize, elem: &Elem, has_batons: bool) -> (Layout, usize) {
        let batons = Layout::array::<Baton>(if has_batons { cap } else { 0 }).ok();
        elem.size()
            .checked_mul(cap)
            .and_then(|bytes| Layout::from_size_align(bytes, elem.align()).ok())
            .and_then(|slots| slots.extend(batons?).ok())
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
        unsafe { self.slots.as_ptr().add(index * elem.size()) }
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

    fn baton(&self, index: usize) -> Option<NonNull<Baton>> {
        // SAFETY: the index is below `cap`, so the baton lies in the allocation.
        self.batons.map(|all| unsafe { all.add(index) })
    }

    /// The baton of the slot where the next element goes.
    #[inline]
    pub(crate) fn tail_baton(&self) -> Option<NonNull<Baton>> {
        self.baton(self.tail.get())
    }

    /// The baton of the slot where the oldest element is.
    #[inline]
    pub(crate) fn head_baton(&self) -> Option<NonNull<Baton>> {
        self.baton(self.head.get())
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
        // SAFETY: by the contract nobody else uses them.
        let batons = self
            .batons
            .map(|all| unsafe { slice::from_raw_parts_mut(all.as_ptr(), self.cap) });
        hooks::slots_end(batons);
        let (layout, _) = Self::layout(self.cap, elem, self.batons.is_some());
        if layout.size() != 0 {
            hooks::new_life(self.slots.as_ptr(), layout.size());
            // SAFETY: allocated by `new` with this layout.
            unsafe { dealloc(self.slots.as_ptr(), layout) }
        }
    }
}
