//! The buffer of an unbounded channel: a list of blocks of element slots.
//!
//! # Invariants
//!
//! 1. Everything but `new_block`, `free_block` is touched under the channel's lock only.
//! 2. Elements lie from (`head`, `head_index`) to (`tail`, `tail_index`); blocks in between are full. `tail` is null
//!    exactly if no block has been installed, or all were taken back.
//! 3. At most `SPARES` emptied blocks are kept for reuse; a queue that stays short allocates nothing any more.
//! 4. In race mode each slot has a baton, behind all the slots of its block: a new one unless the slot is filled.
//!
//! # Blocking
//!
//! `push` never allocates: it says that it needs a block, and the channel allocates one with its lock released, so that a
//! goroutine that waits for memory holds up nobody.

use crate::elem::Elem;
use crate::hooks;
use raddle_race::Baton;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Emptied blocks that are kept.
const SPARES: usize = 2;
/// Bytes of a block, about: below the size that allocators hand to the system, above where the link's share matters.
const BLOCK_BYTES: usize = 1024;

/// The start of a block; the slots follow it, aligned.
#[derive(Debug)]
pub(crate) struct Block {
    next: Cell<*mut Block>,
}

/// The list of blocks.
#[derive(Debug)]
pub(crate) struct List {
    head: Cell<*mut Block>,
    head_index: Cell<usize>,
    tail: Cell<*mut Block>,
    tail_index: Cell<usize>,
    spare: Cell<*mut Block>,
    spares: Cell<usize>,
    per_block: usize,
    /// Made in race mode.
    has_batons: bool,
}

impl List {
    pub(crate) fn new(elem: &Elem) -> Self {
        let per_block = match elem.size() {
            0 => BLOCK_BYTES,
            size => ((BLOCK_BYTES - size_of::<Block>()) / size).max(4),
        };
        Self {
            head: Cell::new(ptr::null_mut()),
            head_index: Cell::new(0),
            tail: Cell::new(ptr::null_mut()),
            tail_index: Cell::new(per_block),
            spare: Cell::new(ptr::null_mut()),
            spares: Cell::new(0),
            per_block,
            has_batons: raddle_race::enabled(),
        }
    }

    /// Of a block, and where its batons are.
    fn layout(&self, elem: &Elem) -> (Layout, usize) {
        let batons = if self.has_batons { self.per_block } else { 0 };
        Layout::array::<u8>(elem.size() * self.per_block)
            .and_then(|slots| slots.align_to(elem.align()))
            .and_then(|slots| Layout::new::<Block>().extend(slots))
            .and_then(|(block, _)| block.extend(Layout::array::<Baton>(batons)?))
            .expect("four elements fit in memory, since one does many times over")
    }

    /// A fresh block, linked nowhere. Allocates: not under the lock.
    pub(crate) fn new_block(&self, elem: &Elem) -> *mut Block {
        let (layout, batons_at) = self.layout(elem);
        // SAFETY: the layout has the header's size at least.
        let block = unsafe { alloc(layout) }.cast::<Block>();
        if block.is_null() {
            handle_alloc_error(layout);
        }
        let batons = block.wrapping_byte_add(batons_at).cast::<u8>();
        // SAFETY: the end of the allocation. Zeros are new batons.
        unsafe { batons.write_bytes(0, layout.size() - batons_at) };
        hooks::new_life(block.cast(), layout.size());
        // SAFETY: freshly allocated, aligned for a block.
        unsafe {
            block.write(Block {
                next: Cell::new(ptr::null_mut()),
            })
        };
        block
    }

    /// Frees a block that is linked nowhere; null is fine. Not under the lock.
    ///
    /// # Safety
    ///
    /// The block came from `new_block` of this list and is not used afterwards.
    pub(crate) unsafe fn free_block(&self, block: *mut Block, elem: &Elem) {
        if !block.is_null() {
            let (layout, _) = self.layout(elem);
            hooks::new_life(block.cast(), layout.size());
            // SAFETY: allocated with this layout.
            unsafe { dealloc(block.cast(), layout) }
        }
    }

    fn slot(&self, block: *mut Block, index: usize, elem: &Elem) -> *mut u8 {
        let first = size_of::<Block>().next_multiple_of(elem.align());
        // SAFETY: `index` is below `per_block`, so the slot lies in the block.
        unsafe { block.cast::<u8>().add(first + index * elem.size()) }
    }

    fn baton(&self, block: *mut Block, index: usize, elem: &Elem) -> Option<NonNull<Baton>> {
        if !self.has_batons {
            return None;
        }
        let (_, at) = self.layout(elem);
        let first = block.wrapping_byte_add(at).cast::<Baton>();
        NonNull::new(first.wrapping_add(index))
    }

    fn next(block: *mut Block) -> *mut Block {
        // SAFETY: callers pass linked blocks, which are valid.
        unsafe { (*block).next.get() }
    }

    fn set_next(block: *mut Block, next: *mut Block) {
        // SAFETY: as for `next`.
        unsafe { (*block).next.set(next) }
    }

    /// Keeps a block for reuse, or gives it back to be freed.
    pub(crate) fn keep(&self, block: *mut Block) -> *mut Block {
        if self.spares.get() == SPARES {
            return block;
        }
        self.spares.set(self.spares.get() + 1);
        Self::set_next(block, self.spare.replace(block));
        ptr::null_mut()
    }

    fn take_spare(&self) -> *mut Block {
        let block = self.spare.get();
        if !block.is_null() {
            self.spares.set(self.spares.get() - 1);
            self.spare.set(Self::next(block));
            Self::set_next(block, ptr::null_mut());
        }
        block
    }

    /// The slot for the next element, which counts as filled from here on, and its baton; None: a block is needed (`keep` one, try again).
    pub(crate) fn push(&self, elem: &Elem) -> Option<(*mut u8, Option<NonNull<Baton>>)> {
        if self.tail_index.get() == self.per_block {
            let block = self.take_spare();
            if block.is_null() {
                return None;
            }
            match self.tail.replace(block) {
                tail if tail.is_null() => {
                    self.head.set(block);
                    self.head_index.set(0);
                }
                tail => Self::set_next(tail, block),
            }
            self.tail_index.set(0);
        }
        let index = self.tail_index.get();
        self.tail_index.set(index + 1);
        let block = self.tail.get();
        let baton = self.baton(block, index, elem);
        Some((self.slot(block, index, elem), baton))
    }

    /// The slot of the oldest element, which the caller knows to exist, and its baton.
    pub(crate) fn front(&self, elem: &Elem) -> (*mut u8, Option<NonNull<Baton>>) {
        let (block, index) = (self.head.get(), self.head_index.get());
        let baton = self.baton(block, index, elem);
        (self.slot(block, index, elem), baton)
    }

    /// The front slot has been emptied. Returns a block to free, or null.
    pub(crate) fn pop(&self) -> *mut Block {
        let index = self.head_index.get() + 1;
        self.head_index.set(index);
        if index < self.per_block {
            return ptr::null_mut();
        }
        let block = self.head.get();
        if block == self.tail.get() {
            // Empty, and the block is used up: start it anew. `tail_index == per_block` held, by invariant 2.
            self.head_index.set(0);
            self.tail_index.set(0);
            return ptr::null_mut();
        }
        self.head.set(Self::next(block));
        self.head_index.set(0);
        self.keep(block)
    }

    /// Frees every block, not what is in them.
    ///
    /// # Safety
    ///
    /// The list was made with the same `elem`, is empty, and is not used afterwards.
    pub(crate) unsafe fn free(&self, elem: &Elem) {
        for list in [&self.head, &self.spare] {
            let mut block = list.replace(ptr::null_mut());
            while !block.is_null() {
                let next = Self::next(block);
                // SAFETY: the list owns the block.
                unsafe { self.free_block(block, elem) };
                block = next;
            }
        }
    }
}
