//! A goroutine's recent past: a ring of compressed events from which the stack of a *previous* access is rebuilt, and that of
//! the present one, where there is no other.
//!
//! # States
//! no ring (nothing recorded yet) → a first ring of 512 bytes → a small one of 2 KiB → a large one (`history_size`), each when the one before is
//! full, the last if the budget for large ones allows. A million parked goroutines that did little cost 512 bytes each.
//!
//! A ring is two halves, the first ring one: it is never begun anew. Each half begins with a *base*: the epoch and the innermost frames of the call stack at that
//! point, so a half can be read by itself. An event never straddles halves.
//!
//! | word | bits 61.. | payload |
//! | --- | --- | --- |
//! | filler | 0 | nothing: the word is 0 |
//! | enter | 0 | pc (48), not 0 |
//! | mark | 4 | slot (8), epoch (45): what follows happened there; bit 60: a base begins, the stack is empty |
//! | exit | 5 | |
//! | access | 6 | flags (52..56), pc |
//! | operand | 7 | before its access: address (48) and size (13); a size of 0: the one before that is the size |
//!
//! Every word tells what it is, and an access comes after its operands: the ring is read backwards, from the newest event. That finds the
//! newest access first and its callers after it: those that were entered and not left.
//!
//! # The inlined part
//! A call and a return are recorded by code of their own (`abi`), which knows [`Cursor`]: store the word, move on, and come here when
//! the half is full. A return right after its call takes the call's word back instead. Without a ring the cursor stands on a word of its
//! own that fills at once.
//!
//! # The landmark
//! Who asks for the callers at each of many events (allocations) sets a landmark after the event and remembers them; the next time only
//! what came since is looked at. It stands after an access, so what is before it stays (invariant 4), and goes with its half.
//!
//! # Invariants
//! 1. Only the goroutine's own thread writes; the owner of a report reads at any time.
//! 2. Between events `pos < end`: there is room for one word.
//! 3. A ring's size is in its pointer (the lowest two bits), so that no reader pairs one ring with another's size; rings stay
//!    mapped for ever, whoever has them.
//! 4. What stands before an access is not changed until its half is begun anew: only the newest words are taken back.
//!
//! # Memory ordering
//! A sequence lock by halves. `turn: count a turn, fence Release, then the words of the new half` ⇄ `copy: load words,
//! fence Acquire, load the turns`: who read a word of the new half sees the new count, and knows its copy as lost.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*, fence};

use crate::cell::{FLAG_SHIFT, FLAGS, Want};
use crate::mem::{self, Kind};
use crate::{Pc, proc, state};

/// Bytes of a goroutine's first ring.
pub(crate) const FIRST_BYTES: usize = 512;
/// Bytes of a small ring.
pub(crate) const SMALL_BYTES: usize = 2048;
/// Bytes of all large rings together, at most.
const LARGE_BUDGET: usize = 512 << 20;
/// Frames that a rebuilt stack may have.
pub(crate) const FRAMES: usize = 64;

const MARK: u64 = 4;
/// In a mark: a base begins.
const BASE: u64 = 1 << 60;
const EXIT: u64 = 5;
const ACCESS: u64 = 6;
const OPERAND: u64 = 7;
const TAG_SHIFT: u32 = 61;
/// Flag bits of an event, where `cell` has its own below.
const EVENT_FLAGS: u32 = 52;
/// The event made the block that it covers.
const ALLOCATION: u64 = 1 << 60;
const ADDR_BITS: u32 = 48;
/// Words of an access, at most.
const ACCESS_WORDS: usize = 3;
/// Sizes from here on have an operand of their own.
const LARGE_SIZE: usize = 1 << 13;

static LARGE_IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a large ring: 512 accesses of two words, times two to the `history_size`.
pub(crate) fn large_bytes() -> usize {
    8192 << state::config().history_size
}

/// How large a ring is; the tag of its pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Class {
    First,
    Small,
    Large,
}

/// Bits of a ring's pointer that are its class.
const CLASS: usize = 3;

impl Class {
    /// Words in all.
    fn words(self) -> usize {
        let bytes = match self {
            Class::First => FIRST_BYTES,
            Class::Small => SMALL_BYTES,
            Class::Large => large_bytes(),
        };
        bytes / size_of::<Word>()
    }

    fn kind(self) -> Kind {
        match self {
            Class::First => Kind::FirstRing,
            Class::Small => Kind::SmallRing,
            Class::Large => Kind::LargeRing,
        }
    }
}

type Word = AtomicU64;

/// A ring, or null, with its class in the lowest bits (invariant 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ring(*mut Word);

impl Ring {
    fn new(class: Class) -> Ring {
        let memory: NonNull<Word> = proc::take(class.kind()).cast();
        Ring(memory.as_ptr().map_addr(|a| a | class as usize))
    }

    fn class(self) -> Class {
        match self.0.addr() & CLASS {
            0 => Class::First,
            1 => Class::Small,
            _ => Class::Large,
        }
    }

    /// Words of each half.
    fn half(self) -> usize {
        match self.class() {
            Class::First => Class::First.words(),
            class => class.words() / 2,
        }
    }

    fn memory(self) -> Option<NonNull<Word>> {
        NonNull::new(self.0.map_addr(|a| a & !CLASS))
    }

    /// The words of the ring; none without one.
    fn words(self) -> &'static [Word] {
        match self.memory() {
            // SAFETY: the ring's size is its own (invariant 3), it is mapped for ever, and every word is atomic.
            Some(base) => unsafe {
                NonNull::slice_from_raw_parts(base, self.class().words()).as_ref()
            },
            None => &[],
        }
    }

    fn give(self) {
        if self.class() == Class::Large {
            LARGE_IN_USE.fetch_sub(large_bytes(), Relaxed);
        }
        if let Some(memory) = self.memory() {
            proc::give(self.class().kind(), memory.cast());
        }
    }
}

/// Where a goroutine writes next.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Cursor {
    /// Null: nothing is recorded.
    pos: AtomicPtr<Word>,
    end: AtomicPtr<Word>,
    /// Stands for a ring until there is one; the first word ends every look backwards.
    stub: [Word; 2],
    /// A place after an access in this half, whose callers somebody remembers; null: none.
    landmark: AtomicPtr<Word>,
}

impl Cursor {
    /// That of who records nothing.
    pub(crate) const fn off() -> Cursor {
        Cursor {
            pos: AtomicPtr::new(ptr::null_mut()),
            end: AtomicPtr::new(ptr::null_mut()),
            stub: [const { Word::new(0) }; 2],
            landmark: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A goroutine begins, whose past will be in `history`.
    pub(crate) fn begin(&self, history: &History) {
        self.stub[1].store(0, Relaxed);
        self.go_to(&raw const self.stub[1], 1);
        history.live.store(ptr::from_ref(self).cast_mut(), Release);
    }

    /// The goroutine is over.
    pub(crate) fn end(&self, history: &History) {
        history.last.store(self.pos.load(Relaxed), Relaxed);
        history.live.store(ptr::null_mut(), Release);
        self.pos.store(ptr::null_mut(), Relaxed);
    }

    fn go_to(&self, pos: *const Word, room: usize) {
        self.landmark.store(ptr::null_mut(), Relaxed);
        self.end.store(pos.wrapping_add(room).cast_mut(), Relaxed);
        self.pos.store(pos.cast_mut(), Release);
    }

    /// Where the half ends that the cursor is in.
    #[inline]
    pub(crate) fn end_of_half(&self) -> usize {
        self.end.load(Relaxed).addr()
    }

    /// An access has just been recorded, whose callers the caller remembers.
    #[inline]
    pub(crate) fn set_landmark(&self) {
        self.landmark.store(self.pos.load(Relaxed), Relaxed);
    }

    /// What has become of the landmark's callers: new ones, innermost first, and how many of the old have returned. The number of new
    /// ones and of those that are gone; None where there is no landmark, or it is too far away. What comes before it has not changed
    /// (invariant 4).
    #[inline]
    pub(crate) fn callers_since_landmark(&self, to: &mut [Pc]) -> Option<(usize, usize)> {
        let mark = self.landmark.load(Relaxed);
        let words = (self.pos.load(Relaxed).addr()).wrapping_sub(mark.addr()) / size_of::<Word>();
        if mark.is_null() || words > NEAR {
            return None;
        }
        let start = -(words as isize);
        let word = |i: usize| self.word(start + i as isize).load(Relaxed);
        Some(callers_before(words, word, to))
    }

    /// The `n`th word from here.
    fn word(&self, n: isize) -> &Word {
        let at = self.pos.load(Relaxed).wrapping_offset(n);
        // SAFETY: callers stay in the stub or the half that the cursor is in: mapped for ever, or `self`.
        unsafe { &*at }
    }

    #[inline]
    fn room(&self) -> usize {
        (self.end.load(Relaxed).addr() - self.pos.load(Relaxed).addr()) / size_of::<Word>()
    }

    /// Room for a mark and any access.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.room() > 1 + ACCESS_WORDS
    }

    #[inline(always)]
    fn put(&self, words: &[u64]) {
        for (n, word) in words.iter().enumerate() {
            self.word(n as isize).store(*word, Relaxed);
        }
        let next = self.pos.load(Relaxed).wrapping_add(words.len());
        self.pos.store(next, Release);
    }

    #[inline(always)]
    fn push(&self, history: &History, template: u64, words: &[u64]) {
        if self.room() <= words.len() {
            self.turn(history, template);
        }
        self.put(words);
    }

    /// A call at `pc`.
    pub(crate) fn enter(&self, history: &History, template: u64, pc: Pc) {
        if !pc.is_none() {
            self.push(history, template, &[pc.bits()]);
        }
    }

    /// The innermost call returned. One that recorded nothing since is cancelled.
    pub(crate) fn exit(&self, history: &History, template: u64) {
        let before = self.word(-1);
        if before.load(Relaxed) as i64 > 0 {
            self.pos.store(ptr::from_ref(before).cast_mut(), Release);
        } else if !self.is_on_stub() {
            self.push(history, template, &[EXIT << TAG_SHIFT]);
        }
    }

    /// Epoch or slot changed; there is room (`has_room`).
    #[inline(always)]
    pub(crate) fn mark(&self, template: u64) {
        self.put(&[mark_of(template)]);
    }

    /// An access; `flags` are a cell's. There is room.
    #[inline(always)]
    pub(crate) fn access(&self, event: Event) {
        let Event {
            addr,
            size,
            flags,
            allocation,
            pc,
        } = event;
        let head = ACCESS << TAG_SHIFT
            | if allocation { ALLOCATION } else { 0 }
            | flags >> FLAG_SHIFT << EVENT_FLAGS
            | pc.bits();
        let addr = OPERAND << TAG_SHIFT | addr as u64 & ((1 << ADDR_BITS) - 1);
        if size < LARGE_SIZE {
            self.put(&[addr | (size as u64) << ADDR_BITS, head]);
        } else {
            let size = OPERAND << TAG_SHIFT | size as u64;
            self.put(&[size, addr, head]);
        }
    }

    fn is_on_stub(&self) -> bool {
        self.end.load(Relaxed).cast_const() == (&raw const self.stub[1]).wrapping_add(1)
    }

    /// The words of this half so far.
    fn half(&self, history: &History) -> &[Word] {
        let ring = history.own_ring();
        let words = ring.words();
        let Some(base) = words.first() else {
            return &self.stub[1..1 + usize::from(self.room() == 0)];
        };
        let at = (self.pos.load(Relaxed).addr() - ptr::from_ref(base).addr()) / size_of::<Word>();
        // The position after the last word of a half belongs to that half.
        let start = at.saturating_sub(1) / ring.half() * ring.half();
        &words[start..at]
    }

    /// The callers, innermost first, as many as there is room for; returns how many.
    pub(crate) fn callers(&self, history: &History, to: &mut [Pc]) -> usize {
        if self.pos.load(Relaxed).is_null() {
            return 0;
        }
        let half = self.half(history);
        callers_before(half.len(), |i| half[i].load(Relaxed), to).0
    }

    /// The callers that a look at the newest few words finds, for who asks often.
    pub(crate) fn near_callers(&self, history: &History, to: &mut [Pc]) -> usize {
        if self.pos.load(Relaxed).is_null() {
            return 0;
        }
        let half = self.half(history);
        let near = &half[half.len().saturating_sub(NEAR)..];
        callers_before(near.len(), |i| near[i].load(Relaxed), to).0
    }

    /// The current half has no room, or there is no ring: goes on elsewhere.
    #[cold]
    pub(crate) fn turn(&self, history: &History, template: u64) {
        let ring = history.own_ring();
        match ring.memory() {
            Some(base) => self.turn_ring(history, ring, base, template),
            None => self.begin_ring(history, template),
        }
    }

    /// The goroutine gets its first ring.
    pub(crate) fn begin_ring(&self, history: &History, template: u64) {
        let mut frames = [Pc::NONE; 1];
        let count = self.callers(history, &mut frames);
        let first = Ring::new(Class::First);
        history.turns.store(0, Relaxed);
        history.ring.store(first.0, Release);
        self.go_to(first.words().as_ptr(), first.half());
        self.begin_half(template, &frames[..count]);
    }

    /// Apart from [`begin_ring`](Self::begin_ring): most goroutines never come here, and their stacks stay small.
    #[inline(never)]
    fn turn_ring(&self, history: &History, ring: Ring, base: NonNull<Word>, template: u64) {
        for n in 0..self.room() {
            self.word(n as isize).store(0, Relaxed);
        }
        let is_last = self.end.load(Relaxed) == base.as_ptr().wrapping_add(ring.words().len());
        if is_last && self.grow(history, ring) {
            return;
        }
        let half = ring.half();
        let mut frames = [Pc::NONE; MAX_BASE];
        let kept = frames.len().min(half / 4);
        let count = self.callers(history, &mut frames[..kept]);
        let turns = history.turns.load(Relaxed);
        history.turns.store(turns + 1, Relaxed);
        fence(Release); // pairs with the fence in `copy`
        let next = if is_last { 0 } else { half };
        self.go_to(base.as_ptr().wrapping_add(next), half);
        self.begin_half(template, &frames[..count]);
    }

    /// Writes the base of a half.
    fn begin_half(&self, template: u64, frames: &[Pc]) {
        self.put(&[mark_of(template) | BASE]);
        for pc in frames.iter().rev() {
            self.put(&[pc.bits()]);
        }
    }

    /// Moves a full ring, in order, to the front of one of the next class.
    fn grow(&self, history: &History, old: Ring) -> bool {
        let class = match old.class() {
            Class::First => Class::Small,
            Class::Small => Class::Large,
            Class::Large => return false,
        };
        if class == Class::Large {
            let bytes = large_bytes();
            if LARGE_IN_USE.fetch_add(bytes, Relaxed) + bytes > LARGE_BUDGET {
                LARGE_IN_USE.fetch_sub(bytes, Relaxed);
                return false;
            }
        }
        let new = Ring::new(class);
        for (from, to) in old.words().iter().zip(new.words()) {
            to.store(from.load(Relaxed), Relaxed);
        }
        // A reader that sees the new ring with the old position begins again.
        history.turns.store(0, Relaxed);
        history.ring.store(new.0, Release);
        let moved = old.words().len();
        self.go_to(&raw const new.words()[moved], new.half() - moved);
        old.give(); // a reader may still copy from it: it looks at `ring` afterwards and begins again
        true
    }
}

/// Words that are looked at for who asks often.
const NEAR: usize = 192;

/// Frames that a base keeps, at most.
const MAX_BASE: usize = 256;
const _: () = assert!(
    8192 / 2 > SMALL_BYTES && SMALL_BYTES / 2 > FIRST_BYTES,
    "a half takes a ring of the class before"
);

/// One access, for the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) addr: usize,
    pub(crate) size: usize,
    /// A cell's.
    pub(crate) flags: u64,
    pub(crate) allocation: bool,
    pub(crate) pc: Pc,
}

fn mark_of(template: u64) -> u64 {
    let at = crate::cell::Cell(template);
    MARK << TAG_SHIFT | (at.slot() as u64) << 45 | at.epoch()
}

/// See the header.
#[derive(Debug)]
pub(crate) struct History {
    /// A [`Ring`].
    ring: AtomicPtr<Word>,
    /// The cursor of the goroutine, as long as it lives,
    live: AtomicPtr<Cursor>,
    /// and where it stood at the end.
    last: AtomicPtr<Word>,
    /// How often the other half of this ring was begun.
    turns: AtomicU64,
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
        self.live.store(ptr::null_mut(), Relaxed);
        self.last.store(ptr::null_mut(), Relaxed);
    }

    /// Gives the ring back.
    pub(crate) fn release(&self) {
        Ring(self.ring.swap(ptr::null_mut(), AcqRel)).give();
    }

    /// Lets go of a large ring, when the goroutine is over.
    pub(crate) fn release_if_long(&self) {
        if self.own_ring().class() == Class::Large {
            self.release();
        }
    }

    /// The ring, for the goroutine's own thread, or when it is over.
    fn own_ring(&self) -> Ring {
        Ring(self.ring.load(Relaxed))
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
                found = search(&words[older..], want).or_else(|| search(&words[..older], want));
                break;
            }
        }
        // SAFETY: mapped above; no slice of it is left.
        unsafe { mem::unmap(scratch, bytes) };
        found
    }

    /// Copies the older half and the part of the newer one that is written; their lengths, or None when disturbed.
    fn copy(&self, to: NonNull<u64>, room: usize) -> Option<(usize, usize)> {
        let turns = self.turns.load(Acquire);
        let ring = Ring(self.ring.load(Acquire));
        let Some(base) = ring.memory() else {
            return Some((0, 0));
        };
        // SAFETY: null, or a cursor in a context, which stays mapped; its fields are atomic.
        let pos = match unsafe { self.live.load(Acquire).as_ref() } {
            Some(cursor) => cursor.pos.load(Acquire),
            None => self.last.load(Acquire),
        };
        let half = ring.half();
        // A position in another ring, or none: the goroutine has just moved on.
        let at = pos.addr().checked_sub(base.as_ptr().addr())? / size_of::<Word>();
        if at > 2 * half || 2 * half > room {
            return None;
        }
        let start = at.saturating_sub(1) / half * half;
        let other = half - start;
        let older = if turns == 0 {
            0..0
        } else {
            other..other + half
        };
        let lengths = (older.len(), at - start);
        for (n, i) in older.chain(start..at).enumerate() {
            let word = ring.words()[i].load(Relaxed);
            // SAFETY: at most two halves, which fit in `room`.
            unsafe { to.as_ptr().wrapping_add(n).write(word) };
        }
        fence(Acquire); // pairs with the fence in `turn`
        let moved = self.ring.load(Relaxed) != ring.0 || self.turns.load(Relaxed) != turns;
        (!moved).then_some(lengths)
    }
}

/// The callers at the `end`th of some words: innermost first, as many as there is room for, and up to a base. Returns how many, and
/// how many returns there are for whose calls the words do not go back far enough.
#[inline]
fn callers_before(end: usize, word: impl Fn(usize) -> u64, to: &mut [Pc]) -> (usize, usize) {
    const AT_ONCE: usize = 4;
    let (mut count, mut left) = (0, 0usize);
    let mut end = end;
    while end > 0 {
        // Most are accesses and their operands, all of whose tags have the bits of both.
        if end >= AT_ONCE
            && (1..=AT_ONCE).fold(!0, |all, n| all & word(end - n)) >= ACCESS << TAG_SHIFT
        {
            end -= AT_ONCE;
            continue;
        }
        end -= 1;
        let word = word(end);
        match word >> TAG_SHIFT {
            EXIT => left += 1,
            MARK if word & BASE != 0 => break,
            0 if word != 0 && left > 0 => left -= 1,
            0 if word != 0 => match to.get_mut(count) {
                Some(place) => {
                    *place = Pc::from_bits(word);
                    count += 1;
                }
                None => break,
            },
            _ => {}
        }
    }
    (count, left)
}

/// Looks through one half, backwards: the newest match in the right epoch.
fn search(words: &[u64], want: Want) -> Option<Found> {
    let mut newest = None;
    for i in (0..words.len()).rev() {
        let word = words[i];
        match word >> TAG_SHIFT {
            ACCESS if newest.is_none() => {
                newest = access_at(words, i)
                    .filter(|(addr, size)| {
                        want.matches(*addr, *size, word >> EVENT_FLAGS << FLAG_SHIFT & FLAGS)
                    })
                    .map(|access| (i, access))
            }
            MARK => {
                let here = (word >> 45 & 0xff, word & ((1 << 45) - 1));
                if here == (want.slot, want.epoch)
                    && let Some((i, (addr, size))) = newest
                {
                    let mut frames = [Pc::NONE; FRAMES];
                    frames[0] = Pc::from_bits(words[i]);
                    let count = 1 + callers_before(i, |n| words[n], &mut frames[1..]).0;
                    let allocation = words[i] & ALLOCATION != 0;
                    return Some(Found {
                        frames,
                        count,
                        addr,
                        size,
                        allocation,
                    });
                }
                newest = None;
            }
            _ => {}
        }
    }
    None
}

/// Address and size of the access at `i`.
fn access_at(words: &[u64], i: usize) -> Option<(usize, usize)> {
    let operand = |back: usize| {
        let word = *words.get(i.checked_sub(back)?)?;
        (word >> TAG_SHIFT == OPERAND).then_some(word & ((1 << TAG_SHIFT) - 1))
    };
    let at = operand(1)?;
    let size = match at >> ADDR_BITS {
        0 => operand(2)?,
        size => size,
    };
    Some(((at & ((1 << ADDR_BITS) - 1)) as usize, size as usize))
}
