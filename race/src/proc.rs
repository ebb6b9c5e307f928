//! Per-P caches of the detector's objects, in front of the global pools.
//!
//! # Invariants
//! 1. A P's lists are touched only by whoever set `busy`. The scheduler may take a P from a thread that is inside an
//!    event (system monitor, hog break-up), so "my P" is no exclusion by itself; who finds it busy, or has no P (the
//!    sweeper, a foreign thread), goes to the global pool.
//!
//! # Memory ordering
//! `enter: swap Acquire` pairs with `leave: store Release`: the lists as the last user left them.
//!
//! # Blocking
//! Neither parks nor allocates from the heap; the global pools spin for a batch of at most 32 objects.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::*};

use crate::clock::{Clock, Far, GapList};
use crate::mem::{KINDS, Kind, List, Node, Pool};
use crate::{ctx::Ctx, history, parts, record::Record, state, sync::SyncObject};

static POOLS: [Pool; KINDS] = [const { Pool::new() }; KINDS];

/// Objects moved between a cache and its pool at a time, and half of what a cache keeps. Big ones move one by one.
const BATCH: u32 = 32;

/// A P's race context: caches of sync objects, clocks and history blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct ProcCtx(NonNull<Proc>);

// SAFETY: the lists behind the pointer are guarded by `busy` (invariant 1), and a `Proc` stays mapped for ever.
unsafe impl Send for ProcCtx {}
// SAFETY: as above.
unsafe impl Sync for ProcCtx {}

/// What a [`ProcCtx`] points to.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Proc {
    link: AtomicPtr<Node>,
    busy: AtomicBool,
    lists: [List; KINDS],
}

impl ProcCtx {
    fn proc(self) -> &'static Proc {
        // SAFETY: made by `proc_create` from the pool of `Proc`s, whose memory stays mapped; all fields are atomics.
        unsafe { self.0.as_ref() }
    }

    /// The context as a word, to be kept in a word-sized field.
    pub fn into_raw(self) -> NonNull<()> {
        self.0.cast()
    }

    /// The context back from [`ProcCtx::into_raw`].
    ///
    /// # Safety
    /// `raw` came from `into_raw`.
    pub unsafe fn from_raw(raw: NonNull<()>) -> ProcCtx {
        ProcCtx(raw.cast())
    }
}

impl Proc {
    fn enter(&self) -> Option<Entered<'_>> {
        // Lazily: a guard made for nothing would free what another holds when it is dropped.
        (!self.busy.swap(true, Acquire)).then(|| Entered(self))
    }
}

struct Entered<'a>(&'a Proc);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Release); // pairs with the swap in `enter`
    }
}

fn size_of_kind(kind: Kind) -> usize {
    match kind {
        Kind::Sync => size_of::<SyncObject>(),
        Kind::Clock => size_of::<Clock>(),
        Kind::FarClock => size_of::<Far>(),
        Kind::GapList => size_of::<GapList>().next_multiple_of(64),
        Kind::FirstRing => history::FIRST_BYTES,
        Kind::SmallRing => history::SMALL_BYTES,
        Kind::Part => parts::BYTES,
        Kind::Record => size_of::<Record>(),
        Kind::Ctx => size_of::<Ctx>().next_multiple_of(64),
        Kind::Proc => size_of::<Proc>().next_multiple_of(64),
    }
}

/// Kinds that are many and small enough to cache per P.
fn is_cached(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Sync
            | Kind::Clock
            | Kind::GapList
            | Kind::FirstRing
            | Kind::SmallRing
            | Kind::Record
            | Kind::Ctx
    )
}

fn fresh(kind: Kind) -> fn(NonNull<u8>, usize) {
    match kind {
        Kind::Sync => crate::sync::number,
        _ => |_, _| {},
    }
}

/// Takes an object: zeroed, or as its last owner left it but for its first word.
pub(crate) fn take(kind: Kind) -> NonNull<u8> {
    let (pool, size) = (&POOLS[kind as usize], size_of_kind(kind));
    if is_cached(kind)
        && let Some(p) = (state::host().current_proc)()
        && let Some(entered) = p.proc().enter()
    {
        let list = &entered.0.lists[kind as usize];
        if list.len() == 0 {
            pool.take_many(size, BATCH, list, fresh(kind));
        }
        if let Some(node) = list.pop() {
            return node.cast();
        }
    }
    pool.take(size, fresh(kind)).cast()
}

/// Gives an object back. Nobody may refer to it, but for the stale readers that its type allows.
pub(crate) fn give(kind: Kind, object: NonNull<u8>) {
    let pool = &POOLS[kind as usize];
    if is_cached(kind)
        && let Some(p) = (state::host().current_proc)()
        && let Some(entered) = p.proc().enter()
    {
        let list = &entered.0.lists[kind as usize];
        list.push(object.cast());
        if list.len() > 2 * BATCH {
            pool.give_many(list, BATCH);
        }
        return;
    }
    pool.give(object.cast());
}

/// Objects of a kind that were ever carved: what the kind has cost.
pub(crate) fn carved(kind: Kind) -> usize {
    POOLS[kind as usize].carved()
}

/// Makes the context of a new P.
///
/// # Blocking
/// Neither parks nor allocates from the heap.
pub fn proc_create() -> ProcCtx {
    // A recycled Proc's lists are empty and `busy` false: `proc_destroy` left them so; a fresh one is all zeroes.
    ProcCtx(take(Kind::Proc).cast())
}

/// Ends the context of a P that no thread holds; its caches go back to the global pools.
///
/// # Blocking
/// Spins while another thread is inside an event with this P, a few dozen instructions.
pub(crate) fn proc_destroy(p: ProcCtx) {
    let proc = p.proc();
    let entered = loop {
        match proc.enter() {
            Some(entered) => break entered,
            None => crate::mem::yield_thread(),
        }
    };
    for (list, pool) in proc.lists.iter().zip(&POOLS) {
        pool.give_many(list, u32::MAX);
    }
    drop(entered);
    POOLS[Kind::Proc as usize].give(p.0.cast());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_a_p_busy_leaves_it_busy() {
        let p = proc_create();
        let first = p.proc().enter();
        assert!(first.is_some());
        assert!(p.proc().enter().is_none());
        assert!(p.proc().enter().is_none(), "the refused one freed the P");
        drop(first);
        assert!(p.proc().enter().is_some());
        proc_destroy(p);
    }
}
