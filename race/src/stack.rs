//! A goroutine's shadow call stack: the return places that `func_enter` announced.
//!
//! # States
//! no block; a small block of [`SMALL`] frames; a large one of [`LARGE`]. Deeper calls are counted, not stored, so a
//! report shows the outermost [`LARGE`] frames and the access itself.
//!
//! # Invariants
//! 1. `base` is null with `cap == 0`, or a block of `cap` words that this stack owns.

use std::ptr::NonNull;

use crate::Pc;
use crate::mem::Kind;
use crate::proc;

/// Frames of a small block.
pub(crate) const SMALL: usize = 64;
/// Frames of a large block.
pub(crate) const LARGE: usize = 4096;

/// See the header.
#[derive(Debug)]
pub(crate) struct ShadowStack {
    base: *mut u64,
    cap: usize,
    depth: usize,
}

impl ShadowStack {
    /// No frames, no block.
    pub(crate) const EMPTY: ShadowStack = ShadowStack {
        base: std::ptr::null_mut(),
        cap: 0,
        depth: 0,
    };

    /// A call at `pc`.
    pub(crate) fn push(&mut self, pc: Pc) {
        if self.depth == self.cap {
            self.grow();
        }
        if self.depth < self.cap {
            let place = self.base.wrapping_add(self.depth);
            // SAFETY: by invariant 1 the place is inside the block.
            unsafe { place.write(pc.bits()) };
        }
        self.depth += 1;
    }

    /// The innermost call returned; false when there was none.
    pub(crate) fn pop(&mut self) -> bool {
        if self.depth == 0 {
            return false;
        }
        self.depth -= 1;
        true
    }

    /// The stored frames, outermost first.
    pub(crate) fn frames(&self) -> &[u64] {
        if self.base.is_null() {
            return &[];
        }
        // SAFETY: by invariant 1; the first `depth` words were written.
        unsafe { std::slice::from_raw_parts(self.base, self.depth.min(self.cap)) }
    }

    #[cold]
    fn grow(&mut self) {
        let (kind, cap) = match self.cap {
            0 => (Kind::SmallStack, SMALL),
            SMALL => (Kind::LargeStack, LARGE),
            _ => return,
        };
        let bigger: *mut u64 = proc::take(kind).cast().as_ptr();
        // SAFETY: a fresh block of `cap` words, larger than what is copied, distinct from the old one.
        unsafe {
            std::ptr::copy_nonoverlapping(self.frames().as_ptr(), bigger, self.frames().len())
        };
        self.give_block();
        self.base = bigger;
        self.cap = cap;
    }

    fn give_block(&mut self) {
        if let Some(base) = NonNull::new(self.base) {
            proc::give(
                if self.cap == SMALL {
                    Kind::SmallStack
                } else {
                    Kind::LargeStack
                },
                base.cast(),
            );
        }
    }

    /// Gives the block back.
    pub(crate) fn release(&mut self) {
        self.give_block();
        *self = ShadowStack::EMPTY;
    }
}
