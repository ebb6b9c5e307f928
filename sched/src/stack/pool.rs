//! The global pool of one class: idle slots, and the making of fresh ones.
//!
//! # States
//! A slot is, in this order: *unprepared* (address space in a slab) → *ready* (guarded, its top
//! page perhaps populated, never used) → in use ⇄ *warm* (idle, keeps its pages and its thread
//! control block) → *bare* (idle, pages given back, guard kept) → in use.
//!
//! # Invariants
//! 1. A slot is in at most one list of its pool, or in use, or in the hands of a function here.
//! 2. Ready and bare slots read as zeros above their guard; every slot but unprepared ones has it.
//! 3. `warm` grows and shrinks at its end only, but for `trim`: its front is the longest idle.
//!
//! # Blocking
//! One mutex per class, held for pushes and pops, never over a system call of a batch: fresh slots
//! are prepared by whoever needs one, in parallel. Only the reservation of a slab holds it.

use super::class::Class;
use super::{PAGE_BYTES, Slot, StackError, guard, slab};
use crate::sys::{Lock, Mutex};
use std::ops::Range;

/// The most fresh slots prepared at once. Beyond 32 the gain per slot is lost in the noise.
const LARGEST_BATCH: usize = 32;

/// The pool of one class.
#[derive(Debug)]
pub(super) struct Pool {
    lists: Mutex<Lists>,
}

/// Slots by the address of their guard page.
#[derive(Debug)]
struct Lists {
    warm: Vec<usize>,
    bare: Vec<usize>,
    ready: Vec<usize>,
    unprepared: Vec<Range<usize>>,
    /// Doubles with each batch up to [`LARGEST_BATCH`], so a small program prepares little.
    batch: usize,
    last_slab_bytes: usize,
    /// The fewest warm slots since the last `trim`: so many were idle all the time.
    low: usize,
}

impl Pool {
    pub(super) const fn new() -> Self {
        Self {
            lists: Mutex::new(Lists {
                warm: Vec::new(),
                bare: Vec::new(),
                ready: Vec::new(),
                unprepared: Vec::new(),
                batch: 1,
                last_slab_bytes: 0,
                low: 0,
            }),
        }
    }

    /// The lock, for `fork`.
    pub(super) fn lock(&self) -> &Lock {
        self.lists.raw()
    }

    /// Takes a slot: the newest warm one, else a bare, a ready, or a fresh one.
    pub(super) fn alloc(&self, class: Class) -> Result<Slot, StackError> {
        let mut lists = self.lists.lock();
        if let Some(at) = lists.warm.pop() {
            lists.low = lists.low.min(lists.warm.len());
            return Ok(Slot::at(at, class, false));
        }
        if let Some(at) = lists.bare.pop().or_else(|| lists.ready.pop()) {
            return Ok(Slot::at(at, class, true));
        }
        let range = lists.take_unprepared(class)?;
        drop(lists);
        self.prepare(class, range)
    }

    /// Takes up to `max` warm slots, the newest first.
    pub(super) fn alloc_warm(&self, class: Class, max: usize, each: &mut dyn FnMut(Slot)) -> usize {
        let mut lists = self.lists.lock();
        let keep = lists.warm.len().saturating_sub(max);
        lists.low = lists.low.min(keep);
        let taken = lists.warm.drain(keep..).rev();
        taken.map(|at| each(Slot::at(at, class, false))).count()
    }

    /// Takes a batch of fresh slots, at least one.
    pub(super) fn alloc_fresh(
        &self,
        class: Class,
        each: &mut dyn FnMut(Slot),
    ) -> Result<usize, StackError> {
        each(self.alloc(class)?);
        let mut lists = self.lists.lock();
        let keep = lists.ready.len().saturating_sub(LARGEST_BATCH);
        let taken = lists.ready.drain(keep..).rev();
        Ok(1 + taken.map(|at| each(Slot::at(at, class, true))).count())
    }

    /// Guards the slots of `range`, keeps them as ready, and takes one.
    fn prepare(&self, class: Class, range: Range<usize>) -> Result<Slot, StackError> {
        let mut guards = [0; LARGEST_BATCH];
        let count = range.len() / class.bytes();
        for (page, at) in guards.iter_mut().zip(range.clone().step_by(class.bytes())) {
            *page = at;
        }
        let guards = &guards[..count];
        let guarded = match guard::install(guards) {
            Ok(guarded) => guarded,
            Err(error) => {
                self.lists.lock().unprepared.push(range);
                return Err(error);
            }
        };
        let guards = &guards[..guarded];
        if guarded > 1 {
            let mut tops = [0; LARGEST_BATCH];
            for (top, at) in tops.iter_mut().zip(guards) {
                *top = at + class.bytes() - PAGE_BYTES;
            }
            guard::populate(&tops[..guarded]);
        }
        let mut lists = self.lists.lock();
        let rest = range.start + guarded * class.bytes()..range.end;
        if !rest.is_empty() {
            lists.unprepared.push(rest);
        }
        // Lowest address last, so that it is taken first: neighbours share page tables.
        lists.ready.extend(guards[1..].iter().rev());
        Ok(Slot::at(guards[0], class, true))
    }

    /// Puts slots of this class back as the newest warm ones. Returns how many.
    pub(super) fn free(&self, slots: impl Iterator<Item = Slot>) -> usize {
        let mut lists = self.lists.lock();
        let before = lists.warm.len();
        lists.warm.extend(slots.map(|slot| slot.guard()));
        lists.warm.len() - before
    }

    /// Takes the longest idle of the slots that were idle since the last call: all but `keep`, at most `max`.
    fn take_excess(&self, keep: usize, max: usize) -> Vec<usize> {
        let mut lists = self.lists.lock();
        let excess = lists.low.saturating_sub(keep).min(max);
        let taken = lists.warm.drain(..excess).collect();
        lists.low = lists.warm.len();
        taken
    }

    /// Makes the longest idle slots bare: all but `keep` of those idle since the last call, at most `max`.
    pub(super) fn trim(&self, class: Class, keep: usize, max: usize, strip: &mut dyn FnMut(Slot)) {
        for at in self.take_excess(keep, max) {
            let slot = Slot::at(at, class, false);
            strip(slot);
            let discarded = guard::discard(slot.base(), slot.top() - slot.base());
            assert!(
                discarded.is_ok(),
                "madvise(MADV_DONTNEED) refused a goroutine stack"
            );
            self.lists.lock().bare.push(at);
        }
    }
}

impl Lists {
    /// Takes the next batch of unprepared slots, from a new slab if there is none.
    fn take_unprepared(&mut self, class: Class) -> Result<Range<usize>, StackError> {
        if self.unprepared.is_empty() {
            let bytes = slab::next_bytes(class, self.last_slab_bytes);
            let range = slab::reserve(class, bytes)?;
            self.last_slab_bytes = range.len();
            self.unprepared.push(range);
        }
        let range = self.unprepared.last_mut().expect("a range was just pushed");
        let bytes = range.len().min(self.batch * class.bytes());
        let taken = range.start..range.start + bytes;
        range.start = taken.end;
        if range.start == range.end {
            self.unprepared.pop();
        }
        self.batch = (self.batch * 2).min(LARGEST_BATCH);
        Ok(taken)
    }
}
