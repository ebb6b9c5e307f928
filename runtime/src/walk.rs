//! The caller's real stack, cheap enough for every allocation in race mode.
//!
//! Walking by the unwind tables costs a hundred nanoseconds a frame. But a program mostly allocates where it allocated before,
//! so short walks are remembered, by the address at which they began: for each frame, where its return address lies and
//! what it is. If all of them still lie where they lay, it is the same stack, and no table is read: some fifty
//! nanoseconds in all.
//!
//! # States
//!
//! An entry's `version`: 0, empty; odd, being written; even, valid.
//!
//! # Invariants
//!
//! 1. The addresses of a valid entry lie above the one where its walk began, on the same goroutine's stack. They are read only by a
//!    walk that begins at that very address: so they lie on the reader's own stack, in frames that are live or were. Threads'
//!    walks are not remembered: their stacks are unmapped when they end, and others come to lie there.
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
/// Frames that are asked for at each allocation.
const SHORTER: usize = 16;
const ENTRIES: usize = 1024;
/// Bytes in which the code of `outermost_frame` surely ends: it is a call and little else.
const OUTERMOST_BYTES: usize = 256;

/// A return address, and where it lies.
#[derive(Clone, Copy)]
struct Return {
    at: usize,
    to: usize,
}

const NOWHERE: Return = Return { at: 0, to: 0 };

struct Entry {
    version: AtomicU32,
    count: AtomicU32,
    /// Where the walk was to end, if the stack went so far.
    limit: AtomicU32,
    start: AtomicUsize,
    /// `at` and `to` of each frame.
    words: [[AtomicUsize; 2]; SHORT],
}

impl Entry {
    const fn new() -> Entry {
        Entry {
            version: AtomicU32::new(0),
            count: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            start: AtomicUsize::new(0),
            words: [const { [const { AtomicUsize::new(0) }; 2] }; SHORT],
        }
    }

    /// The walk of `limit` frames that began at `start`, if this entry is of one, or of a longer one.
    fn recall(&self, start: usize, limit: usize, frames: &mut [Return]) -> Option<usize> {
        let version = self.version.load(Acquire);
        if version == 0 || version & 1 != 0 || self.start.load(Relaxed) != start {
            return None;
        }
        if (self.limit.load(Relaxed) as usize) < limit {
            return None;
        }
        let count = (self.count.load(Relaxed) as usize).min(limit);
        for (frame, [at, to]) in frames.iter_mut().zip(&self.words[..count]) {
            (frame.at, frame.to) = (at.load(Relaxed), to.load(Relaxed));
        }
        fence(Acquire);
        (self.version.load(Relaxed) == version).then_some(count)
    }

    /// Keeps a walk in place of the one that is here, unless someone else is just doing so.
    fn remember(&self, start: usize, limit: usize, frames: &[Return]) {
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
        self.start.store(start, Relaxed);
        self.count.store(frames.len() as u32, Relaxed);
        self.limit.store(limit as u32, Relaxed);
        for (frame, [at, to]) in frames.iter().zip(&self.words) {
            at.store(frame.at, Relaxed);
            to.store(frame.to, Relaxed);
        }
        self.version.store(writing.wrapping_add(1).max(2), Release);
    }
}

static WALKS: [Entry; ENTRIES] = [const { Entry::new() }; ENTRIES];

/// The two entries that a walk from `start` may be in.
fn entries(start: usize) -> [&'static Entry; 2] {
    let hash = (start >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    [hash, hash ^ 1].map(|i| &WALKS[i % ENTRIES])
}

/// The return addresses of the calling thread, innermost first, as far as the goroutine's own code goes and there is room. Returns
/// how many.
#[inline(never)]
pub(crate) fn current_stack(stack: &mut [Pc]) -> usize {
    let local = 0_u8;
    // An address in this frame: the callers' return addresses lie above it, the unwinder's own below.
    let start = black_box(&raw const local).addr();
    if stack.len() > SHORT {
        let mut count = 0;
        walk(start, &mut |frame| {
            stack[count] = Pc::code(frame.to);
            count += 1;
            count < stack.len()
        });
        return count;
    }
    match stack.len() {
        ..=SHORTER => known_stack::<SHORTER>(start, stack),
        _ => known_stack::<SHORT>(start, stack),
    }
}

/// [`current_stack`] of at most `MOST` frames, from `start` on.
fn known_stack<const MOST: usize>(start: usize, stack: &mut [Pc]) -> usize {
    let limit = stack.len();
    let mut frames = [NOWHERE; MOST];
    let known = entries(start).into_iter().find_map(|entry| {
        entry
            .recall(start, limit, &mut frames)
            .filter(|&n| are_there(&frames[..n]))
    });
    let count = known.unwrap_or_else(|| {
        let mut count = 0;
        walk(start, &mut |frame| {
            frames[count] = frame;
            count += 1;
            count < limit
        });
        let frames = &frames[..count];
        // They are not where a signal handler was entered.
        if raddle_sched::on_goroutine_stack() && are_there(frames) {
            let [first, second] = entries(start);
            let older = first.version.load(Relaxed) > second.version.load(Relaxed);
            (if older { second } else { first }).remember(start, limit, frames);
        }
        count
    });
    for (pc, frame) in stack.iter_mut().zip(&frames[..count]) {
        *pc = Pc::code(frame.to);
    }
    count
}

/// Whether each return address lies where it is said to lie, on the caller's own stack.
fn are_there(frames: &[Return]) -> bool {
    frames.iter().all(|frame| {
        let at = std::ptr::with_exposed_provenance::<usize>(frame.at);
        // SAFETY: an aligned word of the own stack, above the current frame, by invariant 1 or because a walk has just been
        // there. Volatile: the word is another function's.
        unsafe { at.read_volatile() == frame.to }
    })
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
            at: sp.wrapping_sub(size_of::<usize>()),
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

    /// What is remembered is what a walk finds, again and again, from changing depths and callers.
    #[test]
    fn a_remembered_walk_is_the_same_walk() {
        let check = || {
            let (mut short, mut long) = ([Pc::NONE; SHORT], [Pc::NONE; 64]);
            let short_count = current_stack(&mut short);
            let long_count = current_stack(&mut long);
            assert_eq!(short_count, long_count.min(SHORT));
            // All but the innermost, which is this closure, at two places.
            assert_eq!(short[1..short_count], long[1..short_count]);
        };
        for round in 0..200 {
            recurse(round % 7, &mut || check());
            if round % 2 == 0 {
                recurse(round % 5, &mut || recurse(round % 3, &mut || check()));
            }
        }
    }

    #[test]
    fn goroutines_on_recycled_stacks_have_their_own() {
        crate::run(|| {
            for i in 0..200_usize {
                let stack = move || {
                    let mut stack = [Pc::NONE; SHORT];
                    let mut count = 0;
                    recurse(i % 4, &mut || count = current_stack(&mut stack));
                    count
                };
                let goroutine = crate::go(stack);
                assert!(goroutine.join().expect("no panic") > i % 4);
            }
        });
    }
}
