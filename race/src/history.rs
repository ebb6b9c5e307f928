//! A goroutine's recent past: a ring of compressed events from which the stack of a *previous* access is rebuilt.
//!
//! # States
//! no ring (nothing recorded yet) → a small ring of 2 KiB → a large one (`history_size`) when the small one is full
//! and the budget for large ones allows. 100,000 parked goroutines that did little cost 2 KiB each.
//!
//! A ring is two halves. Each half begins with a *base*: the epoch and the innermost frames of the call stack at that
//! point, so a half can be replayed by itself. An event never straddles halves.
//!
//! | word | bits 61.. | payload |
//! | --- | --- | --- |
//! | filler | 0 | |
//! | mark | 1 | slot (8), epoch (45): what follows happened there; bit 60: a base begins, the stack is empty |
//! | enter | 2 | pc (48) |
//! | exit | 3 | |
//! | access | 4 | flags (52..56), pc; second word: size (48..64), address (0..48) |
//! | range | 5 | flags, pc; second word: address; third word: size |
//!
//! # Invariants
//! 1. Only the goroutine's own thread writes; the owner of a report reads at any time.
//! 2. `pos` and `end` count words since the record began; the word at count `i` lies at `i % (2 * half)`.
//! 3. A ring's size is in its pointer (bit 0: large), so that no reader pairs one ring with another's size; rings stay
//!    mapped for ever, whoever has them.
//!
//! # Memory ordering
//! A sequence lock by halves. `turn: store end, fence Release, then the words of the new half` ⇄ `copy: load words,
//! fence Acquire, load end`: who read a word of the new half sees the new `end`, and knows the older half as lost.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*, fence};

use crate::cell::{FLAG_SHIFT, FLAGS, Want};
use crate::mem::{self, Kind};
use crate::{Pc, proc, state};

/// Bytes of a small ring.
pub(crate) const SMALL_BYTES: usize = 2048;
const SMALL_HALF: u64 = SMALL_BYTES as u64 / 16;
/// Bytes of all large rings together, at most.
const LARGE_BUDGET: usize = 512 << 20;
/// Frames that a rebuilt stack may have.
pub(crate) const FRAMES: usize = 64;

const MARK: u64 = 1;
/// In a mark: a base begins.
const BASE: u64 = 1 << 60;
const ENTER: u64 = 2;
const EXIT: u64 = 3;
const ACCESS: u64 = 4;
const RANGE: u64 = 5;
const TAG_SHIFT: u32 = 61;
/// Flag bits of an event, where `cell` has its own below.
const EVENT_FLAGS: u32 = 52;
/// The event made the block that it covers.
const ALLOCATION: u64 = 1 << 60;

static LARGE_IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a large ring: 512 accesses of two words, times two to the `history_size`.
pub(crate) fn large_bytes() -> usize {
    8192 << state::config().history_size
}

/// Tag of a large ring's pointer.
const LARGE: usize = 1;

/// A ring, or null, with its size in bit 0 (invariant 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ring(*mut AtomicU64);

impl Ring {
    /// Words of each half.
    fn half(self) -> u64 {
        if self.is_large() {
            large_bytes() as u64 / 16
        } else {
            SMALL_HALF
        }
    }

    fn is_large(self) -> bool {
        self.0.addr() & LARGE != 0
    }

    fn memory(self) -> Option<NonNull<AtomicU64>> {
        NonNull::new(self.0.map_addr(|a| a & !LARGE))
    }

    /// The word at count `i`.
    fn word(self, i: u64) -> &'static AtomicU64 {
        let Some(base) = self.memory() else {
            mem::fatal("a history has no ring")
        };
        let at = base.as_ptr().wrapping_add((i % (2 * self.half())) as usize);
        // SAFETY: inside the ring, whose size is its own (invariant 3); mapped for ever, and every word is atomic.
        unsafe { &*at }
    }

    fn give(self) {
        let kind = if self.is_large() {
            LARGE_IN_USE.fetch_sub(large_bytes(), Relaxed);
            Kind::LargeRing
        } else {
            Kind::SmallRing
        };
        if let Some(memory) = self.memory() {
            proc::give(kind, memory.cast());
        }
    }
}

/// See the header.
#[derive(Debug)]
pub(crate) struct History {
    /// A [`Ring`].
    ring: AtomicPtr<AtomicU64>,
    pos: AtomicU64,
    /// Count at which the current half ends.
    end: AtomicU64,
}

/// The state that a base repeats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now<'a> {
    /// Slot and epoch, as in a cell's template.
    pub(crate) slot: u64,
    pub(crate) epoch: u64,
    /// Outermost first.
    pub(crate) frames: &'a [u64],
}

impl Now<'_> {
    fn mark(&self) -> u64 {
        MARK << TAG_SHIFT | self.slot << 45 | self.epoch
    }
}

/// A rebuilt access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Innermost first; the access's own place is the first.
    pub(crate) frames: [Pc; FRAMES],
    pub(crate) count: usize,
    pub(crate) addr: usize,
    pub(crate) size: usize,
    pub(crate) allocation: bool,
}

impl History {
    /// A new life, without a ring.
    pub(crate) fn reset(&self) {
        self.release();
        self.pos.store(0, Relaxed);
        self.end.store(0, Relaxed);
    }

    /// Gives the ring back.
    pub(crate) fn release(&self) {
        Ring(self.ring.swap(std::ptr::null_mut(), AcqRel)).give();
    }

    /// Lets go of a large ring, when the goroutine is over.
    pub(crate) fn release_if_long(&self) {
        if self.own_ring().is_large() {
            self.release();
        }
    }

    /// The ring, for the goroutine's own thread, or when it is over.
    fn own_ring(&self) -> Ring {
        Ring(self.ring.load(Relaxed))
    }

    /// Epoch or slot changed.
    pub(crate) fn mark(&self, now: Now<'_>) {
        self.push(&[now.mark()], now);
    }

    /// An access; `flags` are a cell's.
    pub(crate) fn access(
        &self,
        now: Now<'_>,
        addr: usize,
        size: usize,
        flags: u64,
        allocation: bool,
        pc: Pc,
    ) {
        let flags =
            (flags & FLAGS) >> FLAG_SHIFT << EVENT_FLAGS | if allocation { ALLOCATION } else { 0 };
        let head = |tag: u64| tag << TAG_SHIFT | flags | pc.bits();
        match u16::try_from(size) {
            Ok(small) => self.push(&[head(ACCESS), u64::from(small) << 48 | addr as u64], now),
            Err(_) => self.push(&[head(RANGE), addr as u64, size as u64], now),
        }
    }

    /// A call at `pc`; `now` is the state before it.
    pub(crate) fn enter(&self, now: Now<'_>, pc: Pc) {
        self.push(&[ENTER << TAG_SHIFT | pc.bits()], now);
    }

    /// A return; `now` is the state before it. An entry that recorded nothing since is taken back instead.
    pub(crate) fn exit(&self, now: Now<'_>) {
        let (pos, ring) = (self.pos.load(Relaxed), self.own_ring());
        let base = now.frames.len() as u64 + 2;
        if pos % ring.half() > base
            && ring.word(pos - 1).load(Relaxed) >> TAG_SHIFT == ENTER
            && !is_operand(ring, pos - 1)
        {
            self.pos.store(pos - 1, Release);
        } else {
            self.push(&[EXIT << TAG_SHIFT], now);
        }
    }

    fn push(&self, words: &[u64], now: Now<'_>) {
        let mut pos = self.pos.load(Relaxed);
        if pos + words.len() as u64 > self.end.load(Relaxed) {
            pos = self.turn(pos, now);
        }
        self.put(pos, words);
    }

    fn put(&self, pos: u64, words: &[u64]) {
        let ring = self.own_ring();
        for (i, word) in words.iter().enumerate() {
            ring.word(pos + i as u64).store(*word, Relaxed);
        }
        self.pos.store(pos + words.len() as u64, Release);
    }

    /// The current half is full, or there is no ring: returns where to go on.
    #[cold]
    fn turn(&self, pos: u64, now: Now<'_>) -> u64 {
        let end = self.end.load(Relaxed);
        if end == 0 {
            self.ring
                .store(proc::take(Kind::SmallRing).cast().as_ptr(), Release);
        }
        for i in pos..end {
            self.put(i, &[0]);
        }
        let half = self.own_ring().half();
        if end == 2 * SMALL_HALF && half == SMALL_HALF && self.grow() {
            return end;
        }
        self.end.store(end + half, Relaxed);
        self.pos.store(end, Relaxed);
        fence(Release); // pairs with the fence in `copy`
        self.put(end, &[now.mark() | BASE]);
        let kept = now.frames.len().min(half as usize / 4);
        for pc in &now.frames[now.frames.len() - kept..] {
            self.put(self.pos.load(Relaxed), &[ENTER << TAG_SHIFT | pc]);
        }
        self.pos.load(Relaxed)
    }

    /// Moves a full small ring, in order, to the front of a large one.
    fn grow(&self) -> bool {
        let bytes = large_bytes();
        if LARGE_IN_USE.fetch_add(bytes, Relaxed) + bytes > LARGE_BUDGET {
            LARGE_IN_USE.fetch_sub(bytes, Relaxed);
            return false;
        }
        let old = self.own_ring();
        let memory: NonNull<AtomicU64> = proc::take(Kind::LargeRing).cast();
        let new = Ring(memory.as_ptr().map_addr(|a| a | LARGE));
        for i in 0..2 * SMALL_HALF {
            let word = old.word(i).load(Relaxed);
            new.word(i).store(word, Relaxed);
        }
        self.ring.store(new.0, Release);
        self.end.store(new.half(), Relaxed);
        old.give(); // a reader may still copy from it: it looks at `ring` afterwards and begins again
        true
    }

    /// Finds the newest access that `want` describes. Any thread, any time.
    pub(crate) fn find(&self, want: Want) -> Option<Found> {
        let bytes = large_bytes();
        let scratch = mem::map(bytes);
        let mut found = None;
        // Bounded: a goroutine that keeps growing or turning between the loads loses its history to us.
        for _ in 0..16 {
            if let Some((older, newer)) = self.copy(scratch.cast(), bytes / 8) {
                // SAFETY: `scratch` has `bytes`, `copy` filled the two parts, which follow each other.
                let words = unsafe {
                    std::slice::from_raw_parts(scratch.cast::<u64>().as_ptr(), older + newer)
                };
                found = replay(&words[older..], want).or_else(|| replay(&words[..older], want));
                break;
            }
        }
        // SAFETY: mapped above; no slice of it is left.
        unsafe { mem::unmap(scratch, bytes) };
        found
    }

    /// Copies the older half and the part of the newer one that is written; their lengths, or None when disturbed.
    fn copy(&self, to: NonNull<u64>, room: usize) -> Option<(usize, usize)> {
        let pos = self.pos.load(Acquire);
        let ring = Ring(self.ring.load(Acquire));
        let half = ring.half();
        if ring.memory().is_none() || pos == 0 {
            return Some((0, 0));
        }
        debug_assert!(2 * half <= room as u64, "the scratch memory takes any ring");
        // With a ring newer than `pos` the parts may be wrong, but are no larger; `moved` or `end` tells below.
        let newer = (pos - 1) / half * half;
        let older = newer.saturating_sub(half);
        for i in older..pos {
            let word = ring.word(i).load(Relaxed);
            let at = to.as_ptr().wrapping_add((i - older) as usize);
            // SAFETY: at most two halves, which fit in `room`.
            unsafe { at.write(word) };
        }
        fence(Acquire); // pairs with the fence in `turn`
        let moved = self.ring.load(Relaxed) != ring.0;
        if moved || self.end.load(Relaxed) > newer + half {
            return None;
        }
        Some(((newer - older) as usize, (pos - newer) as usize))
    }
}

/// Whether the word at `i` is an event's second or third, whose value may look like any tag.
fn is_operand(ring: Ring, i: u64) -> bool {
    let tag = |back: u64| ring.word(i - back).load(Relaxed) >> TAG_SHIFT;
    tag(1) == ACCESS || tag(1) == RANGE || tag(2) == RANGE
}

/// Replays one half; the last match wins.
fn replay(words: &[u64], want: Want) -> Option<Found> {
    let mut stack = [Pc::NONE; FRAMES];
    let mut depth = 0usize;
    let mut here = (u64::MAX, 0);
    let mut found = None;
    let mut i = 0;
    while let Some(&word) = words.get(i) {
        i += 1;
        let pc = Pc::from_bits(word);
        let operand = |n: usize| words.get(i + n).copied();
        let (addr, size) = match word >> TAG_SHIFT {
            MARK => {
                here = (word >> 45 & 0xff, word & ((1 << 45) - 1));
                if word & BASE != 0 {
                    depth = 0;
                }
                continue;
            }
            ENTER => {
                if let Some(place) = stack.get_mut(depth) {
                    *place = pc;
                }
                depth += 1;
                continue;
            }
            EXIT => {
                depth = depth.saturating_sub(1);
                continue;
            }
            ACCESS => {
                let Some(at) = operand(0) else { break };
                i += 1;
                ((at & ((1 << 48) - 1)) as usize, (at >> 48) as usize)
            }
            RANGE => {
                let (Some(addr), Some(size)) = (operand(0), operand(1)) else {
                    break;
                };
                i += 2;
                (addr as usize, size as usize)
            }
            _ => continue,
        };
        let flags = (word >> EVENT_FLAGS << FLAG_SHIFT) & FLAGS;
        if here == (want.slot, want.epoch) && want.matches(addr, size, flags) {
            let mut frames = [Pc::NONE; FRAMES];
            frames[0] = pc;
            let known = depth.min(FRAMES);
            let count = (known + 1).min(FRAMES);
            for (place, pc) in frames[1..count].iter_mut().zip(stack[..known].iter().rev()) {
                *place = *pc;
            }
            found = Some(Found {
                frames,
                count,
                addr,
                size,
                allocation: word & ALLOCATION != 0,
            });
        }
    }
    found
}
