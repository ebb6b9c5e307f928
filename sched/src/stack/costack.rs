//! The part of a slot that a coroutine runs on, as corosensei wants to see it.

use super::Slot;
use corosensei::stack::{Stack, StackPointer};

/// A borrowed stack: from just above a slot's guard page up to whatever lies at its top.
///
/// It does not own the slot: dropping it frees nothing.
#[derive(Debug)]
pub(crate) struct CoStack {
    base: StackPointer,
    limit: StackPointer,
}

impl CoStack {
    /// Returns the stack of `slot` below `top`, rounded down to 16 bytes.
    ///
    /// # Safety
    /// The caller holds `slot` for as long as the coroutine lives, and nobody uses the memory
    /// from the slot's base to `top` otherwise.
    ///
    /// # Panics
    /// If `top` is not inside the slot.
    pub(crate) unsafe fn new(slot: &Slot, top: usize) -> Self {
        let top = top & !15;
        assert!(
            top > slot.base() && top <= slot.top(),
            "the stack's top lies outside its slot"
        );
        let pointer = |at| StackPointer::new(at).expect("a slot is not at address zero");
        Self {
            base: pointer(top),
            limit: pointer(slot.guard()),
        }
    }
}

// SAFETY: `base` is aligned to 16 (new rounds down), the memory between is mapped for reading and
// writing down to the guard page that ends at the slot's base (stack invariant 2), and the limit
// names the lowest address including the guard, as the trait demands.
unsafe impl Stack for CoStack {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}
