//! The parts of long histories: blocks of 32 KiB, each goroutine's in the order of its time, and all that are full in the order of their age.
//!
//! # States of a part
//! free (in the pool) → a goroutine's newest, which it writes → full, and in the queue of ages → taken: for what a goroutine does next, or
//! given back with all others of its goroutine.
//!
//! A goroutine has as many as `history_size` says, and then takes its own oldest again. All together have a budget; when that is used up, who needs
//! another takes the oldest of all: that of a goroutine that has long done nothing, if there is one. What stands in a part that is taken is
//! given up but for the lines (`lines`).
//!
//! # Invariants
//! 1. Links and lengths change under [`lock`] only; while somebody has it, no part goes from one state to another, and full ones do not change.
//! 2. All of a chain's parts but the newest are full and in the queue, in the chain's order: the oldest of all is the oldest of its chain.
//! 3. Parts stay mapped for ever.
//!
//! # Blocking
//! A spin lock: for a few dozen instructions once in 4,000 words, and for as long as a report looks through a history, a fraction of a millisecond.

use std::mem::offset_of;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::mem::{Kind, SpinGuard, SpinLock};
use crate::{proc, state};

/// Bytes of a part.
pub(crate) const BYTES: usize = 32 << 10;
/// Words of a part that hold events.
pub(crate) const WORDS: usize = (BYTES - size_of::<Links>()) / size_of::<AtomicU64>();
/// Parts in use, at most: 64 MiB x 2^`history_size`, so what a hundred goroutines need to have all
/// that they may have. More busy ones than that are given the latest of all; without such an end a
/// thousand of them would be seen to grow for minutes, up to a gigabyte.
fn budget() -> usize {
    ((64 << 20) / BYTES) << state::config().history_size
}

/// A part. In the pool its first word is a link.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Part {
    pub(crate) words: [AtomicU64; WORDS],
    links: Links,
}

const _: () = assert!(size_of::<Part>() == BYTES && offset_of!(Part, words) == 0);

#[derive(Debug)]
struct Links {
    /// In the chain.
    older: AtomicPtr<Part>,
    newer: AtomicPtr<Part>,
    /// In the queue: the next older and the next younger of all.
    before: AtomicPtr<Part>,
    after: AtomicPtr<Part>,
    /// Of a full part.
    chain: AtomicPtr<Chain>,
}

/// A goroutine's parts.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    oldest: AtomicPtr<Part>,
    newest: AtomicPtr<Part>,
    len: AtomicUsize,
}

/// All full parts.
struct Ages {
    lock: SpinLock,
    first: AtomicPtr<Part>,
    last: AtomicPtr<Part>,
    /// Parts that are not in the pool.
    in_use: AtomicUsize,
}

static AGES: Ages = Ages {
    lock: SpinLock::new(),
    first: AtomicPtr::new(ptr::null_mut()),
    last: AtomicPtr::new(ptr::null_mut()),
    in_use: AtomicUsize::new(0),
};

/// Parts that a goroutine may have: the newest, and others for 32 K x 2^`history_size` accesses of two words and what stands between them.
fn most() -> usize {
    (17 << state::config().history_size) + 1
}

/// Holds all parts as they are.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "given back when dropped")] SpinGuard<'static>);

/// Holds all parts as they are.
pub(crate) fn lock() -> Held {
    Held(AGES.lock.lock())
}

fn part(p: &AtomicPtr<Part>) -> Option<&'static Part> {
    // SAFETY: null, or a part, which stays mapped (invariant 3); its fields are atomic.
    unsafe { p.load(Relaxed).as_ref() }
}

fn set(p: &AtomicPtr<Part>, to: Option<&'static Part>) {
    p.store(address(to), Relaxed);
}

fn address(part: Option<&'static Part>) -> *mut Part {
    part.map_or(ptr::null_mut(), |part| ptr::from_ref(part).cast_mut())
}

impl Ages {
    fn push(&self, new: &'static Part, _held: &Held) {
        let last = part(&self.last);
        set(&new.links.before, last);
        set(&new.links.after, None);
        set(
            last.map_or(&self.first, |last| &last.links.after),
            Some(new),
        );
        set(&self.last, Some(new));
    }

    fn remove(&self, old: &'static Part, _held: &Held) {
        let (before, after) = (part(&old.links.before), part(&old.links.after));
        set(before.map_or(&self.first, |b| &b.links.after), after);
        set(after.map_or(&self.last, |a| &a.links.before), before);
    }
}

impl Chain {
    /// Number of parts.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// The parts, newest first.
    pub(crate) fn newest_first(&self, _held: &Held) -> impl Iterator<Item = &'static Part> {
        std::iter::successors(part(&self.newest), |p| part(&p.links.older))
    }

    /// A part for what the goroutine does next; when it has been used, `last_look` sees what is in it. None: the budget is used up, and there is no full
    /// part.
    pub(crate) fn take(&self, last_look: impl FnOnce(&'static Part)) -> Option<&'static Part> {
        let held = lock();
        let oldest = if self.len() >= most() {
            Some(self.remove_oldest(&held)?)
        } else if AGES.in_use.load(Relaxed) >= budget() {
            let oldest = part(&AGES.first)?;
            // SAFETY: of a full part, which is in a chain (invariant 2); that is in a record, which stays mapped.
            let chain = unsafe { oldest.links.chain.load(Relaxed).as_ref() }?;
            Some(chain.remove_oldest(&held)?)
        } else {
            AGES.in_use.fetch_add(1, Relaxed);
            None
        };
        drop(held);
        Some(match oldest {
            Some(part) => {
                last_look(part);
                part
            }
            None => fresh(),
        })
    }

    /// Takes the oldest part away, if it is full.
    fn remove_oldest(&self, held: &Held) -> Option<&'static Part> {
        let oldest = part(&self.oldest)?;
        let next = part(&oldest.links.newer)?;
        AGES.remove(oldest, held);
        set(&next.links.older, None);
        set(&self.oldest, Some(next));
        self.len.store(self.len() - 1, Relaxed);
        Some(oldest)
    }

    /// The newest part is full, and the next one is this.
    pub(crate) fn append(&self, next: &'static Part, held: &Held) {
        let full = part(&self.newest);
        set(&next.links.older, full);
        set(&next.links.newer, None);
        match full {
            Some(full) => {
                set(&full.links.newer, Some(next));
                let chain = ptr::from_ref(self).cast_mut();
                full.links.chain.store(chain, Relaxed);
                AGES.push(full, held);
            }
            None => set(&self.oldest, Some(next)),
        }
        set(&self.newest, Some(next));
        self.len.store(self.len() + 1, Relaxed);
    }

    /// Takes all parts away.
    pub(crate) fn remove_all(&self, held: &Held) -> Removed {
        let mut rest = part(&self.oldest);
        let removed = Removed(rest);
        while let Some(p) = rest {
            rest = part(&p.links.newer);
            if rest.is_some() {
                AGES.remove(p, held);
            }
        }
        set(&self.oldest, None);
        set(&self.newest, None);
        self.len.store(0, Relaxed);
        removed
    }
}

/// Parts that were taken from a goroutine, oldest first.
#[derive(Debug)]
pub(crate) struct Removed(Option<&'static Part>);

impl Removed {
    /// Gives them back, when `last_look` has seen each.
    pub(crate) fn give(self, last_look: impl Fn(&'static Part)) {
        let mut rest = self.0;
        while let Some(p) = rest {
            rest = part(&p.links.newer);
            last_look(p);
            give(p);
        }
    }
}

/// Gives back a part that is in no chain.
fn give(part: &'static Part) {
    proc::give(Kind::Part, NonNull::from(part).cast());
    AGES.in_use.fetch_sub(1, Relaxed);
}

fn fresh() -> &'static Part {
    let p: NonNull<Part> = proc::take(Kind::Part).cast();
    // SAFETY: an object of the pool of parts, which stays mapped; all bit patterns are valid, and every field is atomic.
    unsafe { p.as_ref() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::detector;

    fn of(chain: &Chain) -> Vec<*const Part> {
        chain.newest_first(&lock()).map(ptr::from_ref).collect()
    }

    /// A part for the chain, and whether it was in use.
    fn add(chain: &Chain) -> (*const Part, bool) {
        let mut was_used = false;
        let part = chain.take(|_| was_used = true).expect("a part");
        chain.append(part, &lock());
        (part, was_used)
    }

    #[test]
    fn a_chain_keeps_its_newest_parts() {
        let _d = detector();
        let chain = Chain::default();
        let mut expected = Vec::new();
        for round in 0..2 * most() {
            let oldest = (round >= most()).then(|| expected.pop().expect("parts"));
            let (part, was_used) = add(&chain);
            assert_eq!(was_used, oldest.is_some());
            assert!(oldest.is_none_or(|oldest| oldest == part));
            expected.insert(0, part);
            assert_eq!(of(&chain), expected);
        }
        let before = AGES.in_use.load(Relaxed);
        chain.remove_all(&lock()).give(|_| {});
        assert_eq!((of(&chain).len(), chain.len()), (0, 0));
        assert_eq!(AGES.in_use.load(Relaxed), before - most());
    }

    #[test]
    fn when_the_budget_is_used_up_the_oldest_of_all_is_taken() {
        let _d = detector();
        let before = AGES.in_use.swap(budget(), Relaxed);
        // Other tests' are older.
        while Chain::default().take(|_| {}).is_some() {}
        AGES.in_use.store(before, Relaxed);
        let [idle, busy] = [Chain::default(), Chain::default()];
        (0..3).for_each(|_| assert!(!add(&idle).1));
        let of_idle = of(&idle);
        assert!(!add(&busy).1);
        let before = AGES.in_use.swap(budget(), Relaxed);
        for left in [2, 1] {
            assert_eq!(add(&busy).0, of_idle[left]);
            assert_eq!(of(&idle), of_idle[..left]);
        }
        // What the idle one would write next stays its own.
        let own = *of(&busy).last().expect("parts");
        assert_eq!(add(&busy).0, own);
        assert_eq!((idle.len(), busy.len()), (1, 3));
        AGES.in_use.store(before, Relaxed);
        for chain in [&idle, &busy] {
            chain.remove_all(&lock()).give(|_| {});
        }
    }
}
