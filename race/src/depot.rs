//! The depot: stacks of allocations, frees, creations and typed events, each kept once, so that a
//! record needs one word for its stack.
//!
//! # States
//! One mapping of [`BYTES`], made at the first use and touched from the front: a table of buckets, then entries. An entry
//! is written once and never changes or goes: a head word (next entry of the bucket, number of frames), then its frames,
//! innermost first. An entry is named by the index of its head word, which a [`Pc`] can hold. When the depot is full, or a
//! stack has but one frame, the innermost frame stands for the stack.
//!
//! # Invariants
//! 1. Indices in buckets and head words are 0 or of entries that are written.
//!
//! # Memory ordering
//! `intern: bucket store Release, after the entry` ⇄ `find: bucket load Acquire`. An entry's next was published before it.
//!
//! # Blocking
//! Looking up takes no lock; a new stack takes one spin lock for two dozen stores. No allocation.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use crate::Pc;
use crate::mem::{self, SpinLock};

/// Frames kept of a stack of announced calls.
pub(crate) const FRAMES: usize = 16;
/// Frames kept of a real stack, on which the detector's own, the runtime's and std's come first.
pub(crate) const MOST: usize = 32;
/// The same of an allocation or free without a place, of which there are many: a detector that is
/// optimised has few frames of its own.
pub(crate) const MOST_OF_HEAP: usize = if cfg!(debug_assertions) { MOST } else { FRAMES };
/// All of the depot: about a quarter of a million stacks.
const BYTES: usize = 32 << 20;
const WORDS: usize = BYTES / 8;
const BUCKETS: usize = 1 << 15;
/// In a head word, above the next entry's index: the number of frames.
const COUNT_SHIFT: u32 = 32;

/// The mapping, as an address: it is never unmapped.
static MEMORY: OnceLock<usize> = OnceLock::new();
static ADDING: SpinLock = SpinLock::new();
/// Words in use; changes under `ADDING`.
static USED: AtomicUsize = AtomicUsize::new(BUCKETS);

#[inline]
fn words() -> &'static [AtomicU64] {
    let base = *MEMORY.get_or_init(|| mem::map_for_ever(BYTES).expose_provenance().get());
    let base: *const AtomicU64 = std::ptr::with_exposed_provenance(base);
    // SAFETY: the mapping, which stays; every word of it is an atomic.
    unsafe { std::slice::from_raw_parts(base, WORDS) }
}

/// A sum, whose parts do not wait for each other: allocations ask for it.
fn bucket_of(frames: &[Pc]) -> usize {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let part = |(i, pc): (usize, &Pc)| {
        pc.bits()
            .wrapping_mul(GOLDEN.wrapping_mul(2 * i as u64 + 1))
    };
    let sum = frames
        .iter()
        .enumerate()
        .map(part)
        .fold(0, u64::wrapping_add);
    (sum >> 40) as usize % BUCKETS
}

fn is(entry: usize, head: u64, frames: &[Pc]) -> bool {
    let kept = &words()[entry + 1..];
    let mut both = frames.iter().zip(kept);
    (head >> COUNT_SHIFT) as usize == frames.len()
        && both.all(|(pc, word)| word.load(Relaxed) == pc.bits())
}

/// The entry with these frames, in the chain that begins at `entry`.
fn find(mut entry: usize, frames: &[Pc]) -> Option<usize> {
    while entry != 0 {
        let head = words()[entry].load(Relaxed);
        if is(entry, head, frames) {
            return Some(entry);
        }
        entry = head as u32 as usize;
    }
    None
}

/// The place that stands for all of `frames`, innermost first, of which the first [`MOST`] count.
pub(crate) fn intern(frames: &[Pc]) -> Pc {
    let frames = &frames[..frames.len().min(MOST)];
    let (&[innermost, _, ..], bucket) = (frames, &words()[bucket_of(frames)]) else {
        return frames.first().copied().unwrap_or(Pc::NONE);
    };
    if let Some(entry) = find(bucket.load(Acquire) as usize, frames) {
        return Pc::stack(entry as u32);
    }
    let _held = ADDING.lock();
    let first = bucket.load(Relaxed);
    if let Some(entry) = find(first as usize, frames) {
        return Pc::stack(entry as u32);
    }
    let entry = USED.load(Relaxed);
    if entry + 1 + frames.len() > WORDS {
        return innermost;
    }
    USED.store(entry + 1 + frames.len(), Relaxed);
    words()[entry].store((frames.len() as u64) << COUNT_SHIFT | first, Relaxed);
    for (i, pc) in frames.iter().enumerate() {
        words()[entry + 1 + i].store(pc.bits(), Relaxed);
    }
    bucket.store(entry as u64, Release); // pairs with the load in the look-up above
    Pc::stack(entry as u32)
}

/// The words of an entry's frames, innermost first.
fn kept(entry: u32) -> &'static [AtomicU64] {
    let entry = entry as usize;
    let count = words()[entry].load(Relaxed) >> COUNT_SHIFT;
    &words()[entry + 1..][..count as usize]
}

/// The frames of an entry, innermost first, and their number.
pub(crate) fn frames(entry: u32) -> ([Pc; MOST], usize) {
    let mut frames = [Pc::NONE; MOST];
    let (count, _) = copy(Pc::stack(entry), 0, &mut frames);
    (frames, count)
}

/// Of the frames that a place stands for, innermost first, those after the first `skipped` go to `to`, as many as there is room for.
/// Returns how many, and how many the place stands for.
pub(crate) fn copy(pc: Pc, skipped: usize, to: &mut [Pc]) -> (usize, usize) {
    let own = [AtomicU64::new(pc.bits())];
    let kept = match pc.stack_entry() {
        Some(entry) => kept(entry),
        None => &own[..usize::from(!pc.is_none())],
    };
    let frames = &kept[skipped.min(kept.len())..];
    for (pc, word) in to.iter_mut().zip(frames) {
        *pc = Pc::from_bits(word.load(Relaxed));
    }
    (frames.len().min(to.len()), kept.len())
}

/// The place itself, or the innermost frame of the stack that it stands for.
pub(crate) fn innermost(pc: Pc) -> Pc {
    let mut first = [pc];
    copy(pc, 0, &mut first);
    first[0]
}

/// Bytes in use.
pub(crate) fn bytes() -> usize {
    (USED.load(Relaxed) - BUCKETS) * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(from: usize, frames: usize) -> Vec<Pc> {
        (0..frames).map(|i| Pc::code(from + 8 * i)).collect()
    }

    #[test]
    fn equal_stacks_are_one() {
        let a = intern(&stack(0x51_0000, 5));
        let used = bytes();
        assert_eq!(a, intern(&stack(0x51_0000, 5)));
        assert_eq!(intern(&stack(0x51_0000, 5)), a);
        assert_ne!(a, intern(&stack(0x51_0000, 4)));
        assert_ne!(a, intern(&stack(0x51_0008, 5)));
        assert!(bytes() > used);
        let (frames, count) = frames(a.stack_entry().expect("a stack"));
        assert_eq!(frames[..count], stack(0x51_0000, 5));
    }

    #[test]
    fn short_stacks_are_places_and_long_ones_are_cut() {
        assert_eq!(intern(&[]), Pc::NONE);
        assert_eq!(intern(&stack(0x52_0000, 1)), Pc::code(0x52_0000));
        let long = intern(&stack(0x52_0000, 40));
        assert_eq!(long, intern(&stack(0x52_0000, MOST)));
    }

    #[test]
    fn threads_agree_on_the_entries() {
        let all = || {
            (0..2000)
                .map(|i| intern(&stack(0x53_0000 + 64 * i, 3)))
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(all)).collect();
        let here = all();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), here);
        }
        let entries: std::collections::HashSet<_> = here.iter().map(|pc| pc.bits()).collect();
        assert_eq!(entries.len(), 2000);
    }
}
