//! Goroutine stacks: *slots* of reserved address space, committed by touch, with a guard below.
//!
//! In reading order: `class` (sizes), `slab` (address space), `guard` (guard pages), `pool`
//! (idle and fresh slots), `costack` (a slot as corosensei's stack), `error`.
//!
//! # Invariants
//! 1. A slot belongs to one holder at a time: to whom [`alloc`] gave it, until [`free`].
//! 2. Its lowest page is a guard for as long as the process lives, and no other page is.
//!
//! # Blocking
//! [`alloc`], [`free`] and [`trim`] take a mutex of the class for a moment and may make system
//! calls; they are the cold path below the per-P caches. [`owner_of_guard`] is async-signal-safe.
//!
//! # Measured
//! Per slot, at 256 KiB spacing, half a million and a million slots, Linux 6.18 on a virtual
//! machine whose memory the host had already committed (a cold host adds 5 to 10 us per page):
//!
//! | step | one call each | batches of 32 |
//! | --- | --- | --- |
//! | guard | 0.48 to 0.87 us | 0.34 to 0.47 us |
//! | populate the top page | 1.2 us | 1.1 us |
//! | first touch of it instead | 2.2 to 3.9 us | |
//! | give the pages of an idle slot back | 2.4 us | |
//!
//! So fresh slots are made in batches, guarded and their top page populated, 1.4 us in all instead
//! of 3 to 4; batches of 8 have most of the gain, beyond 32 there is none. Batches double with use,
//! so that at most as much is prepared as was used. Page tables cost 512 bytes a slot, and a
//! million slots 48 mappings.
//!
//! # Why not
//! A larger share of populated pages: a goroutine that only parks touches the top page alone.

mod class;
mod costack;
mod error;
mod guard;
mod pool;
mod slab;

pub(crate) use class::{DEFAULT_BYTES, MAX_BYTES, MIN_BYTES};
pub(crate) use costack::CoStack;
pub use error::StackError;
pub(crate) use guard::{force_mprotect_guards, guards_may_run_out};

use crate::sys::Lock;
use class::Class;
use pool::Pool;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The size of a page, in bytes: fixed on x86-64.
pub(crate) const PAGE_BYTES: usize = 4096;

static POOLS: [Pool; class::COUNT] = [const { Pool::new() }; class::COUNT];
/// Slots given out and not put back. A statistic, so Relaxed.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// A stack slot: where it is, and whether it is fresh.
///
/// A plain descriptor: copying it copies no right to the memory (invariant 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    guard: usize,
    class: Class,
    /// The memory reads as zeros and holds no thread control block.
    pub(crate) fresh: bool,
}

impl Slot {
    fn at(guard: usize, class: Class, fresh: bool) -> Self {
        Self {
            guard,
            class,
            fresh,
        }
    }

    /// Returns the slot as one that has held a goroutine.
    pub(crate) fn used(self) -> Self {
        Self {
            fresh: false,
            ..self
        }
    }

    /// Returns the address of the guard page, the lowest of the slot.
    pub(crate) fn guard(&self) -> usize {
        self.guard
    }

    /// Returns the lowest usable address, just above the guard page.
    pub(crate) fn base(&self) -> usize {
        self.guard + PAGE_BYTES
    }

    /// Returns the end of the slot: the address just above its highest byte.
    pub(crate) fn top(&self) -> usize {
        self.guard + self.class.bytes()
    }

    /// Returns the size of the whole slot, guard included, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.class.bytes()
    }
}

/// What the stacks of the process cost in address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StackStats {
    /// Slots in use or idle in a cache or pool: those ever given out and those prepared.
    pub slots_reserved: usize,
    /// Slots given out and not put back.
    pub slots_in_use: usize,
    /// Address space of all slabs, in bytes. Committed memory is far less.
    pub bytes_reserved: usize,
}

/// Allocates a slot of at least `stack_size` bytes, guard included.
///
/// # Errors
/// Where `stack_size` is beyond 2 GiB, or address space or guard pages have run out.
pub(crate) fn alloc(stack_size: usize) -> Result<Slot, StackError> {
    let class = class_for(stack_size)?;
    let slot = POOLS[class.index()].alloc(class)?;
    IN_USE.fetch_add(1, Relaxed);
    Ok(slot)
}

/// Takes up to `max` idle slots of the class for `stack_size` at once, each with the block of its last goroutine.
pub(crate) fn alloc_warm(stack_size: usize, max: usize, mut each: impl FnMut(Slot)) {
    if let Some(class) = Class::for_bytes(stack_size) {
        let taken = POOLS[class.index()].alloc_warm(class, max, &mut each);
        IN_USE.fetch_add(taken, Relaxed);
    }
}

/// Takes a batch of slots of the class for `stack_size`, at least one: what [`alloc`] would give, and fresh ones that were
/// prepared together with it.
pub(crate) fn alloc_batch(stack_size: usize, mut each: impl FnMut(Slot)) -> Result<(), StackError> {
    let class = class_for(stack_size)?;
    let taken = POOLS[class.index()].alloc_fresh(class, &mut each)?;
    IN_USE.fetch_add(taken, Relaxed);
    Ok(())
}

/// Returns the size of the slot that [`alloc`] gives for `stack_size`, in bytes.
pub(crate) fn slot_bytes(stack_size: usize) -> Result<usize, StackError> {
    class_for(stack_size).map(Class::bytes)
}

fn class_for(stack_size: usize) -> Result<Class, StackError> {
    Class::for_bytes(stack_size).ok_or(StackError::TooLarge {
        asked: stack_size,
        max: class::MAX_BYTES,
    })
}

/// Puts slots of one class back into the global pool; the last becomes the newest.
///
/// Their memory and thread control block stay as they are until [`trim`].
pub(crate) fn free(slots: impl Iterator<Item = Slot>) {
    let mut slots = slots.peekable();
    if let Some(first) = slots.peek() {
        let freed = POOLS[first.class.index()].free(slots);
        IN_USE.fetch_sub(freed, Relaxed);
    }
}

/// Gives back the pages of slots that were idle since the last call, longest idle first: per class all but `keep`, and at
/// most `max`, since each costs a system call.
///
/// `strip` is called with each such slot before its pages go, to release what hangs on its
/// thread control block. Its guard stays.
pub(crate) fn trim(keep: usize, max: usize, mut strip: impl FnMut(Slot)) {
    for class in Class::all() {
        POOLS[class.index()].trim(class, keep, max, &mut strip);
    }
}

/// Returns the slot whose guard page `addr` lies in. Async-signal-safe.
pub(crate) fn owner_of_guard(addr: usize) -> Option<Slot> {
    slot_of(addr).filter(|slot| addr - slot.guard() < PAGE_BYTES)
}

/// Returns the slot that `addr` lies in. Async-signal-safe.
pub(crate) fn slot_of(addr: usize) -> Option<Slot> {
    let slab = slab::slab_of(addr)?;
    let into_slot = (addr - slab.range.start) % slab.class.bytes();
    Some(Slot::at(addr - into_slot, slab.class, false))
}

/// Returns whether `addr` lies in any slot. Async-signal-safe.
pub(crate) fn contains(addr: usize) -> bool {
    slab::slab_of(addr).is_some()
}

/// Shows the address ranges of all slots. Async-signal-safe.
pub(crate) fn each_range(mut show: impl FnMut(Range<usize>)) {
    slab::all().for_each(|slab| show(slab.range.clone()));
}

/// The locks, for `fork`.
pub(crate) fn each_lock(f: &mut dyn FnMut(&Lock)) {
    POOLS.iter().for_each(|pool| f(pool.lock()));
}

/// Returns what the stacks of the process cost.
pub fn stats() -> StackStats {
    StackStats {
        slots_reserved: guard::guards(),
        slots_in_use: IN_USE.load(Relaxed),
        bytes_reserved: slab::reserved_bytes(),
    }
}

#[cfg(test)]
mod tests;
