//! Thread control blocks as the collector sees them: where they lie, and what hangs on them.
//!
//! # Invariants
//!
//! 1. What is read here belongs to stopped threads and to goroutines that nobody runs. A stopped thread may have been changing it:
//!    words are read one by one, and what leads to memory is checked against what the dynamic linker says first.
//! 2. Nothing here allocates or takes a lock, but for [`layout`].

use super::block::{Block, DTV};
use super::glibc::Glibc;
use super::image;
use super::keys::{GROUP_BYTES, GROUPS};
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
    /// Where it has the table of groups of `pthread_setspecific` values.
    specific: Option<usize>,
    /// Where it has the byte that says whether there is any such value.
    specific_used: Option<usize>,
    /// The number of modules with static storage: a process with no more has nothing in its dtvs. 0 where it was not counted yet.
    static_modules: usize,
}

/// The thread-local storage of a loaded module, as its file describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModuleTls {
    /// Its number, from 1: the index in each thread's table.
    pub(crate) number: usize,
    /// Its size, in bytes.
    pub(crate) bytes: usize,
    /// Its alignment, in bytes.
    pub(crate) align: usize,
}

/// What is assumed of a glibc that does not say: more than any has.
const GUESS: Layout = Layout {
    below: 64 << 10,
    above: 8 << 10,
    stack: None,
    specific: None,
    specific_used: None,
    static_modules: 0,
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
        specific_used: setup.template.specific_used,
        // Not counted anew for a collection: that starts a thread, which may fail just then.
        static_modules: image::known().map_or(0, |image| image.modules.len()),
        ..of_glibc(&setup.glibc)
    }
}

fn of_glibc(glibc: &Glibc) -> Layout {
    Layout {
        below: glibc.static_bytes - glibc.tcb_bytes,
        above: glibc.tcb_bytes,
        specific: Some(glibc.specific),
        ..GUESS
    }
}

/// The thread pointer of the OS thread's own block, if `tp` is active on it.
///
/// Also right in the few instructions of `create` in which a thread tries a new block on: `enter` names the owner first.
pub(crate) fn own(tp: usize) -> usize {
    match setup() {
        Some(setup) if mode() != TlsMode::Thread && stack::contains(tp) => {
            // SAFETY: blocks in slots are those that `create` made, and an active one names its owner.
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
        self.specific.is_some()
    }

    /// The stack of the thread whose own block is at `tp`, with the block; none for the main thread.
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

    /// Shows what hangs on the block at `tp`: storage of opened libraries, and values of later
    /// keys. `modules` are those with thread-local storage.
    pub(crate) fn each_outside(
        &self,
        tp: usize,
        modules: &[ModuleTls],
        show: &mut dyn FnMut(Range<usize>),
    ) {
        if modules.len() > self.static_modules {
            each_opened(tp, modules, show);
        }
        let Some(specific) = self.specific else {
            return;
        };
        if let Some(used) = self.specific_used
            // SAFETY: the probe found a flag of that type there.
            && unsafe { Block::at_address(tp).read::<u8>(used as isize) } == 0
        {
            return;
        }
        // Group 0 is in the block.
        for group in 1..GROUPS {
            let at = specific + group * size_of::<usize>();
            // SAFETY: the table in a complete block.
            let values: usize = unsafe { Block::at_address(tp).read(at as isize) };
            if values != 0 {
                show(values..values + GROUP_BYTES);
            }
        }
    }
}

/// Shows the storage of libraries that were opened while the program ran, which is allocated at first use.
fn each_opened(tp: usize, modules: &[ModuleTls], show: &mut dyn FnMut(Range<usize>)) {
    /// As in `life::free_dynamic`.
    type Entry = [usize; 2];
    // SAFETY: part of the fixed head of every block.
    let dtv: *const Entry = unsafe { Block::at_address(tp).read(DTV) };
    if dtv.is_null() {
        return;
    }
    // SAFETY: the entry before the first holds the number of modules that have one.
    let [known, _] = unsafe { dtv.wrapping_sub(1).read() };
    for module in modules.iter().filter(|module| module.number <= known) {
        // SAFETY: the modules are numbered from 1, and this one has an entry.
        let [start, allocation] = unsafe { dtv.wrapping_add(module.number).read() };
        let is_allocated = allocation != 0 && start != usize::MAX;
        // Allocated with room to align it. A word that is no such address was being changed, before anything was stored there.
        if is_allocated && start.wrapping_sub(allocation) < module.align.max(stack::PAGE_BYTES) {
            show(start..start + module.bytes);
        }
    }
}
