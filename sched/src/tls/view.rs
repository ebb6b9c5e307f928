//! Thread control blocks as the collector sees them: where they lie. What hangs on them is memory
//! of the C library's heap, and shown as such.
//!
//! # Invariants
//!
//! 1. Nothing here allocates or takes a lock, but for [`layout`].

use super::block::Block;
use super::glibc::Glibc;
use super::life::block_addr;
use super::switch::mode;
use super::{TlsMode, setup};
use crate::stack;
use std::ops::Range;

/// How a block lies around its thread pointer, on this glibc.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// What may be used below the thread pointer: the static storage, with its reserve, in bytes.
    pub(crate) below: usize,
    /// What is above: `struct pthread`, in bytes.
    pub(crate) above: usize,
    /// Where `struct pthread` has the lowest address of the thread's stack, which its size follows.
    stack: Option<usize>,
    /// Where it has the number of the thread.
    tid: usize,
    /// The alignment of `struct pthread` on a stack that glibc made, in bytes.
    align: usize,
    /// Whether glibc said so: else blocks are smaller than this says.
    is_exact: bool,
}

/// What is assumed of a glibc that does not say: more than any has.
const GUESS: Layout = Layout {
    below: 64 << 10,
    above: 8 << 10,
    stack: None,
    tid: 0,
    align: 64,
    is_exact: false,
};

/// Asks glibc.
///
/// # Blocking
///
/// Takes the dynamic linker's lock for a moment: not for a stopped world.
pub(crate) fn layout() -> Layout {
    let Some(setup) = setup() else {
        return Glibc::find().map_or(GUESS, |glibc| of_glibc(&glibc));
    };
    Layout {
        stack: Some(setup.template.stack),
        ..of_glibc(&setup.glibc)
    }
}

fn of_glibc(glibc: &Glibc) -> Layout {
    Layout {
        below: glibc.static_bytes - glibc.tcb_bytes,
        above: glibc.tcb_bytes,
        stack: None,
        tid: glibc.tid,
        align: glibc.align,
        is_exact: true,
    }
}

/// The thread pointer of the OS thread's own block, if `tp` is active on it.
///
/// Also right in the few instructions of `create` in which a thread tries a new block on: `enter`
/// names the owner first.
pub(crate) fn own(tp: usize) -> usize {
    match setup() {
        Some(setup) if mode() != TlsMode::Thread && stack::contains(tp) => {
            // SAFETY: blocks in slots are those that `create` made, and an active one names its
            // owner.
            let own: Block = unsafe { Block::at_address(tp).read(setup.glibc.owner() as isize) };
            own.address()
        }
        _ => tp,
    }
}

/// The thread pointer of the block at the top of a slot.
pub(crate) fn at_top(slot: &stack::Slot) -> Option<usize> {
    setup().map(|setup| block_addr(&setup.glibc, slot.top()))
}

impl Layout {
    /// Whether glibc said so: else blocks are smaller than this says.
    pub(crate) fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// The stack of the thread whose own block is at `tp`, with the block; none for the main
    /// thread.
    pub(crate) fn stack_of(&self, tp: usize) -> Option<Range<usize>> {
        let at = self.stack? as isize;
        let block = Block::at_address(tp);
        // SAFETY: the probe found the stack's lowest address there.
        let base: usize = unsafe { block.read(at) };
        // SAFETY: and its size behind it.
        let bytes: usize = unsafe { block.read(at + 8) };
        // glibc says of the main thread's that it begins at 0.
        let range = base..base.checked_add(bytes)?;
        (base != 0 && range.contains(&tp)).then_some(range)
    }

    /// The part of a mapping that is the stack of a thread that has ended, which glibc keeps for
    /// the next: all below `struct pthread`, where the thread's result is until somebody joins it.
    ///
    /// `copy` copies what is at an address, if it can be read. What glibc keeps names itself in
    /// four places; nobody else has that at the end of a mapping.
    pub(crate) fn idle_stack(
        &self,
        mapping: &Range<usize>,
        copy: impl Fn(usize, &mut [u8]) -> bool,
    ) -> Option<Range<usize>> {
        /// Where it has its own address, twice (`tcbhead_t`).
        const SELF: [usize; 2] = [0x00, 0x10];
        let block = mapping.end.checked_sub(self.above)? & !(self.align - 1);
        let mut bytes = [0; stack::PAGE_BYTES];
        let bytes = bytes.get_mut(..self.above)?;
        if block < mapping.start || !copy(block, bytes) {
            return None;
        }
        let word = |at: usize| {
            bytes
                .get(at..)?
                .first_chunk()
                .map(|w| usize::from_ne_bytes(*w))
        };
        if !SELF.into_iter().all(|at| word(at) == Some(block)) {
            return None;
        }
        let base = word(self.stack?)?;
        let is_whole = word(self.stack? + size_of::<usize>()) == mapping.end.checked_sub(base);
        // The kernel makes it 0 when the thread is gone, and glibc -1 when somebody has joined it.
        let has_ended = word(self.tid)? as i32 <= 0;
        (base <= mapping.start && is_whole && has_ended).then_some(mapping.start..block)
    }
}
