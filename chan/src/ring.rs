//! The buffer of a bounded channel: a ring of element slots, fixed in size.
//!
//! # Invariants
//!
//! 1. Everything here is touched under the channel's lock only.
//! 2. The `len` elements from `head` on (wrapping) are owned by the ring; `tail` is the slot after them.
//! 3. `len + reserved <= cap`, where `len` and `reserved` are kept by the channel.
//!
//! 4. In race mode each slot has a baton. A few batons lie behind all the slots, many in memory of
//!    their own; the first `batons_made` of them are there, the others are bytes. A slot is filled
//!    before it is emptied, and the slots are filled in turn, so the next one to be made is the
//!    next to be used.
//!
//! Memory is touched as it is used, batons included: a channel of any capacity costs what is sent
//! through it. More than [`MOST_BATONS`] slots share batons, which makes an order of messages that
//! lie so far apart: it can hide a race between them, and cannot make one up.
//!
//! Indices wrap by comparison, not by division.

use crate::elem::Elem;
use crate::hooks;
use raddle_race::Baton;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::slice;

/// Batons of a ring, at most. A power of two.
const MOST_BATONS: usize = 1 << 20;
/// Those that lie behind the slots, at most: a page. The heap shows what it allocates to the
/// detector as a whole, which touches as much memory again.
const FEW_BATONS: usize = 512;

/// A ring of `cap` slots.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: NonNull<u8>,
    /// Only if it was made in race mode.
    batons: Option<NonNull<Baton>>,
    batons_made: Cell<usize>,
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
            _ => NonNull::new(unsafe { alloc(layout) }),
        };
        let slots = slots.unwrap_or_else(|| handle_alloc_error(layout));
        Self {
            slots,
            batons: has_batons.then(|| match cap {
                // SAFETY: inside the layout, where the batons' room begins.
                ..=FEW_BATONS => unsafe { slots.add(batons_at) }.cast(),
                _ => raddle_race::map_batons(cap.min(MOST_BATONS)),
            }),
            batons_made: Cell::new(0),
            cap,
            head: Cell::new(0),
            tail: Cell::new(0),
        }
    }

    /// And where the batons are, if there are few.
    fn layout(cap: usize, elem: &Elem, has_batons: bool) -> (Layout, usize) {
        let batons = if has_batons && cap <= FEW_BATONS {
            cap
        } else {
            0
        };
        let batons = Layout::array::<Baton>(batons).ok();
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
        let all = self.batons?;
        let index = index & (MOST_BATONS - 1);
        // SAFETY: the index is below `cap` and below `MOST_BATONS`, so the baton lies in its
        // memory.
        let baton = unsafe { all.add(index) };
        if index >= self.batons_made.get() {
            debug_assert_eq!(index, self.batons_made.get());
            // SAFETY: as above; nothing is there yet.
            unsafe { baton.write(Baton::default()) };
            self.batons_made.set(index + 1);
        }
        Some(baton)
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
        // SAFETY: so many have been made, and by the contract nobody else uses them.
        let batons = self
            .batons
            .map(|all| unsafe { slice::from_raw_parts_mut(all.as_ptr(), self.batons_made.get()) });
        hooks::slots_end(batons);
        if let Some(batons) = self.batons
            && self.cap > FEW_BATONS
        {
            // SAFETY: mapped by `new`, and ended just now.
            unsafe { raddle_race::unmap_batons(batons, self.cap.min(MOST_BATONS)) };
        }
        let (layout, _) = Self::layout(self.cap, elem, self.batons.is_some());
        if layout.size() != 0 {
            hooks::new_life(self.slots.as_ptr(), layout.size());
            // SAFETY: allocated by `new` with this layout.
            unsafe { dealloc(self.slots.as_ptr(), layout) }
        }
    }
}
