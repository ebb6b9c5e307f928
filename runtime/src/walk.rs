//! The caller's real stack, cheap enough for every allocation in race mode.
//!
//! Walking by the unwind tables costs a hundred nanoseconds a frame. But a program mostly allocates
//! where it allocated before, so short walks are remembered, by how deep on the goroutine's stack
//! they began: for each frame, how far above that place its return address lies, and what it is. If
//! all of them lie there, it is the same stack, whoever's it is now, and no table is read: some
//! twenty nanoseconds in all.
//!
//! # States
//!
//! An entry's `version`: 0, empty; odd, being written; even, valid.
//!
//! # Invariants
//!
//! 1. A walk that begins `depth` bytes below the top of a goroutine's stack reads nothing from
//!    there on, whatever an entry has: no further up than the stack goes. Threads' walks are not
//!    remembered: where their stacks end is not known.
//!
//! # Memory ordering
//!
//! A sequence lock: `remember: compare_exchange odd, fence Release, the words, store even Release` ⇄ `recall: load Acquire, the
//! words, fence Acquire, load`.
//!
//! # Blocking
//!
//! Takes no lock and no memory: it may run inside an allocation. The unwinder, libgcc's, finds its tables through glibc's
//! `_dl_find_object`, which takes none either; the lock that `backtrace::trace` takes, whose first use allocates, is left out.
//!
//! # Why not
//!
//! Frame pointers: Rust's own libraries are built without. A cache of unwind rules by code address (framehop): it needs every module's
//! tables parsed beforehand, and a frame's cost still adds up.

use crate::goroutine::outermost_frame;
use raddle_race::Pc;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*, fence};

/// Frames of a walk that is remembered.
const SHORT: usize = 32;
const ENTRIES: usize = 1024;
/// Entries that a walk may be in.
const WAYS: usize = 4;
/// Bytes in which the code of `outermost_frame` surely ends: it is a call and little else.
const OUTERMOST_BYTES: usize = 256;

/// A return address, and how far above the start of the walk it lies.
#[derive(Clone, Copy)]
struct Return {
    above: usize,
    to: usize,
}

struct Entry {
    version: AtomicU32,
    count: AtomicU32,
    /// Where the walk was to end, if the stack went so far.
    limit: AtomicU32,
    /// Of the start, below the stack's top.
    depth: AtomicUsize,
    /// `above` and `to` of each frame.
    words: [[AtomicUsize; 2]; SHORT],
}

impl Entry {
    const fn new() -> Entry {
        Entry {
            version: AtomicU32::new(0),
            count: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            depth: AtomicUsize::new(0),
            words: [const { [const { AtomicUsize::new(0) }; 2] }; SHORT],
        }
    }

    /// The walk from `start`, as deep on its stack, if this entry is of one so long or longer, and
    /// its return addresses all lie there. Writes them to `stack` and says how many.
    fn recall(&self, start: usize, depth: usize, stack: &mut [Pc]) -> Option<usize> {
        let version = self.version.load(Acquire);
        if version == 0 || version & 1 != 0 || self.depth.load(Relaxed) != depth {
            return None;
        }
        if (self.limit.load(Relaxed) as usize) < stack.len() {
            return None;
        }
        let count = (self.count.load(Relaxed) as usize).min(stack.len());
        for (pc, [above, to]) in stack.iter_mut().zip(&self.words[..count]) {
            let (above, to) = (above.load(Relaxed), to.load(Relaxed));
            if above >= depth {
                return None; // it is being written
            }
            let at = std::ptr::with_exposed_provenance::<usize>(start + above);
            // SAFETY: an aligned word of the own stack, between the start of the walk and the top
            // (invariant 1). Volatile: it is another function's.
            if unsafe { at.read_volatile() } != to {
                return None;
            }
            *pc = Pc::code(to);
        }
        fence(Acquire);
        (self.version.load(Relaxed) == version).then_some(count)
    }

    /// Keeps a walk in place of the one that is here, unless someone else is just doing so.
    fn remember(&self, depth: usize, limit: usize, frames: &[Return]) {
        let version = self.version.load(Relaxed);
        let writing = version | 1;
        if version == writing
            || self
                .version
                .compare_exchange(version, writing, Relaxed, Relaxed)
                .is_err()
        {
            return;
        }
        fence(Release); // who sees a word below sees the odd version
        self.depth.store(depth, Relaxed);
        self.count.store(frames.len() as u32, Relaxed);
        self.limit.store(limit as u32, Relaxed);
        for (frame, [above, to]) in frames.iter().zip(&self.words) {
            above.store(frame.above, Relaxed);
            to.store(frame.to, Relaxed);
        }
        self.version.store(writing.wrapping_add(1).max(2), Release);
    }
}

static WALKS: [Entry; ENTRIES] = [const { Entry::new() }; ENTRIES];

/// The entries that a walk from so deep may be in.
fn entries(depth: usize) -> &'static [Entry] {
    let hash = (depth >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let first = hash % (ENTRIES / WAYS) * WAYS;
    &WALKS[first..first + WAYS]
}

/// The return addresses of the calling thread, innermost first, as far as the goroutine's own code goes and there is room. Returns
/// how many.
#[inline(never)]
pub(crate) fn current_stack(stack: &mut [Pc]) -> usize {
    let local = 0_usize;
    // An address in this frame: the callers' return addresses lie above it, the unwinder's own below.
    let start = black_box(&raw const local).addr();
    let depth = match stack.len() {
        ..=SHORT => raddle_sched::depth_on_goroutine_stack(start),
        _ => None,
    };
    let Some(depth) = depth else {
        let mut count = 0;
        walk(start, &mut |frame| {
            stack[count] = Pc::code(frame.to);
            count += 1;
            count < stack.len()
        });
        return count;
    };
    let mut entries = entries(depth).iter();
    let known = entries.find_map(|entry| entry.recall(start, depth, stack));
    known.unwrap_or_else(|| walk_and_remember(start, depth, stack))
}

#[cold]
#[inline(never)]
fn walk_and_remember(start: usize, depth: usize, stack: &mut [Pc]) -> usize {
    let mut frames = [Return { above: 0, to: 0 }; SHORT];
    let mut count = 0;
    walk(start, &mut |frame| {
        frames[count] = frame;
        stack[count] = Pc::code(frame.to);
        count += 1;
        count < stack.len()
    });
    // The place of one that has been there for longest: it is the one that was changed least often.
    if let Some(oldest) = entries(depth)
        .iter()
        .min_by_key(|e| e.version.load(Relaxed))
    {
        oldest.remember(depth, stack.len(), &frames[..count]);
    }
    count
}

/// Walks by the unwind tables, from the caller of the function in whose frame `start` is, until `each` returns false.
fn walk(start: usize, each: &mut dyn FnMut(Return) -> bool) {
    let end = outermost_frame as *const () as usize;
    let mut step = |frame: &backtrace::Frame| {
        let (to, sp) = (frame.ip() as usize, frame.sp() as usize);
        if sp <= start {
            return true;
        }
        // Looking the start of a function up costs as much as a step: only where it may be the one.
        if to.wrapping_sub(end) < OUTERMOST_BYTES && frame.symbol_address() as usize == end {
            return false;
        }
        // A call pushes the return address just below where the stack pointer is after the return.
        each(Return {
            above: sp - size_of::<usize>() - start,
            to,
        })
    };
    // SAFETY: the lock is for platforms whose unwinder is not thread-safe; libgcc's is.
    unsafe { backtrace::trace_unsynchronized(&mut step) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn recurse(depth: usize, f: &mut dyn FnMut()) {
        match depth {
            0 => f(),
            _ => recurse(depth - 1, f),
        }
        black_box(());
    }

    /// What is remembered is what a walk finds.
    fn check() {
        let (mut short, mut long) = ([Pc::NONE; SHORT], [Pc::NONE; SHORT + 1]);
        let short_count = current_stack(&mut short);
        let long_count = current_stack(&mut long);
        assert_eq!(short_count, long_count.min(SHORT));
        // All but the innermost, which is this function, at two places.
        assert_eq!(short[1..short_count], long[1..short_count]);
    }

    fn check_at_depths() {
        for round in 0..200 {
            recurse(round % 7, &mut check);
            if round % 2 == 0 {
                recurse(round % 5, &mut || recurse(round % 3, &mut check));
            }
        }
    }

    #[test]
    fn a_remembered_walk_is_the_same_walk() {
        check_at_depths();
        crate::run(check_at_depths);
    }

    /// They find at their first walk what others have left, from as deep and by other ways.
    #[test]
    fn a_walk_is_the_same_for_all_goroutines() {
        crate::run(|| {
            for i in 0..200_usize {
                let goroutine = match i % 3 {
                    0 => crate::go(move || recurse(i % 4, &mut check)),
                    1 => crate::go(move || recurse(i % 4, &mut || recurse(0, &mut check))),
                    _ => crate::go(check_at_depths),
                };
                goroutine.join().expect("no panic");
            }
        });
    }
}
