//! A goroutine's recent past: compressed events from which the stack of a *previous* access is rebuilt, and that of the present one,
//! where there is no other.
//!
//! # States
//! nothing recorded yet → a first ring of 512 bytes → a small one of 2 KiB → parts of 32 KiB (`parts`), each when the one before is full. What is in
//! a ring moves to the front of what comes next, so a million parked goroutines that did little cost 512 bytes each. A busy goroutine has as many parts
//! as `history_size` says: by default what it needs for 64 K accesses, and the calls among them. When the budget of all parts is used up,
//! the oldest of all is taken, which is that of a goroutine that has long done nothing; where there is none either, the older half of a
//! ring or part makes room for the next.
//!
//! Each ring or part begins with a *base*: the epoch and the call stack at that point, whole up to a quarter of the room, the innermost frames of a deeper
//! one. So it can be read by itself. An event never straddles two.
//!
//! What is given up leaves its lines behind (`lines`): a stack is lost, but not where the access was.
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
//! there is no room. A return right after its call takes the call's word back instead. Without a ring the cursor stands on a word of its
//! own that fills at once.
//!
//! # The landmark
//! Who asks for the callers at each of many events (allocations) sets a landmark after the event and remembers them; the next time only
//! what came since is looked at. It stands after an access, so what is before it stays (invariant 4), and goes with its ring or part.
//!
//! # Invariants
//! 1. Only the goroutine's own thread writes; the owner of a report reads at any time, and holds `parts::lock` meanwhile.
//! 2. Between events `pos < end`: there is room for one word.
//! 3. A ring's size is in its pointer (the lowest two bits), so that no reader pairs one ring with another's size; rings stay
//!    mapped for ever, whoever has them.
//! 4. What stands before an access stays where it is, but under `parts::lock`: only the newest words are taken back.
//!
//! # Memory ordering
//! `put: words, then pos Release` ⇄ `find: pos Acquire, then words`. Everything else that a reader needs changes under `parts::lock`, but for the
//! first ring's coming and a ring's going, when a goroutine begins and when it is forgotten: the reader looks at the pointer again.
//!
//! # Why not
//! One large ring for each: what is to be taken from who is idle must be something that he does not write any more. The lines in the shadow, beside the
//! cells: a third word there would cost each goroutine a page more, and each access a line of the cache.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*, fence};

use crate::cell::{Cell, FLAG_SHIFT, FLAGS, Want};
use crate::lines::{self, Lines};
use crate::mem::Kind;
use crate::parts::{self, Chain, Part, Removed};
use crate::{Pc, proc};

/// Bytes of a goroutine's first ring.
pub(crate) const FIRST_BYTES: usize = 512;
/// Bytes of a small ring.
pub(crate) const SMALL_BYTES: usize = 2048;
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

/// What a ring is; the tag of its pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Class {
    First,
    Small,
    /// The newest of the goroutine's parts.
    Part,
}

/// Bits of a ring's pointer that are its class.
const CLASS: usize = 3;

impl Class {
    /// Words in all.
    fn words(self) -> usize {
        match self {
            Class::First => FIRST_BYTES / size_of::<Word>(),
            Class::Small => SMALL_BYTES / size_of::<Word>(),
            Class::Part => parts::WORDS,
        }
    }
}

type Word = AtomicU64;

/// A ring, or null, with its class in the lowest bits (invariant 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ring(*mut Word);

impl Ring {
    fn tagged(memory: *mut Word, class: Class) -> Ring {
        Ring(memory.map_addr(|a| a | class as usize))
    }

    fn first() -> Ring {
        Ring::tagged(proc::take(Kind::FirstRing).cast().as_ptr(), Class::First)
    }

    fn small() -> Ring {
        Ring::tagged(proc::take(Kind::SmallRing).cast().as_ptr(), Class::Small)
    }

    fn of_part(part: &'static Part) -> Ring {
        Ring::tagged(part.words.as_ptr().cast_mut(), Class::Part)
    }

    fn class(self) -> Class {
        match self.0.addr() & CLASS {
            0 => Class::First,
            1 => Class::Small,
            _ => Class::Part,
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

    /// How many words are before `pos`; None where it is elsewhere.
    fn words_before(self, pos: *const Word) -> Option<usize> {
        let bytes = pos.addr().checked_sub(self.memory()?.addr().get())?;
        Some(bytes / size_of::<Word>()).filter(|words| *words <= self.class().words())
    }

    /// Gives back a ring that is no part.
    fn give(self) {
        let kind = match self.class() {
            Class::First => Kind::FirstRing,
            _ => Kind::SmallRing,
        };
        if let Some(memory) = self.memory() {
            proc::give(kind, memory.cast());
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
    /// A place after an access in this ring, whose callers somebody remembers; null: none.
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

    /// Where the ring or part ends that the cursor is in.
    #[inline]
    pub(crate) fn end_of_ring(&self) -> usize {
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
        // SAFETY: callers stay in the stub or the ring that the cursor is in: mapped for ever, or `self`.
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

    /// The words of this ring or part so far.
    fn so_far(&self, history: &History) -> &[Word] {
        let ring = history.own_ring();
        match ring.words_before(self.pos.load(Relaxed)) {
            Some(at) => &ring.words()[..at],
            None => &self.stub[1..1 + usize::from(self.room() == 0)],
        }
    }

    /// The callers, innermost first, as many as there is room for; returns how many.
    pub(crate) fn callers(&self, history: &History, to: &mut [Pc]) -> usize {
        if self.pos.load(Relaxed).is_null() {
            return 0;
        }
        let words = self.so_far(history);
        callers_before(words.len(), |i| words[i].load(Relaxed), to).0
    }

    /// The callers that a look at the newest few words finds, for who asks often.
    pub(crate) fn near_callers(&self, history: &History, to: &mut [Pc]) -> usize {
        if self.pos.load(Relaxed).is_null() {
            return 0;
        }
        let words = self.so_far(history);
        let near = &words[words.len().saturating_sub(NEAR)..];
        callers_before(near.len(), |i| near[i].load(Relaxed), to).0
    }

    /// The ring or part has no room, or there is none: goes on elsewhere.
    #[cold]
    pub(crate) fn turn(&self, history: &History, template: u64) {
        let ring = history.own_ring();
        match ring.memory() {
            Some(_) => self.turn_ring(history, ring, template),
            None => self.begin_ring(history, template),
        }
    }

    /// The goroutine gets its first ring.
    pub(crate) fn begin_ring(&self, history: &History, template: u64) {
        let mut frames = [Pc::NONE; 1];
        let count = self.callers(history, &mut frames);
        let first = Ring::first();
        history.ring.store(first.0, Release);
        let words = first.words();
        self.go_to(words.as_ptr(), words.len());
        self.put(&[mark_of(template) | BASE]);
        frames[..count].iter().for_each(|pc| self.put(&[pc.bits()]));
    }

    /// Apart from [`begin_ring`](Self::begin_ring): most goroutines never come here, and their stacks stay small.
    #[inline(never)]
    fn turn_ring(&self, history: &History, ring: Ring, template: u64) {
        match ring.class() {
            Class::First => self.grow(history, ring, Ring::small()),
            Class::Small => match history.take_part() {
                Some(part) => self.grow(history, ring, Ring::of_part(part)),
                None => self.slide(history, ring),
            },
            Class::Part => match history.take_part() {
                Some(part) => self.go_on(history, part, template),
                None => self.slide(history, ring),
            },
        }
    }

    /// Goes on in another part. It begins with the epoch and the whole stack.
    fn go_on(&self, history: &History, part: &'static Part, template: u64) {
        for n in 0..self.room() {
            self.word(n as isize).store(0, Relaxed);
        }
        let words = self.so_far(history);
        let (mark, rest) = part.words.split_at(1);
        let base = &rest[..parts::WORDS / 4];
        mark[0].store(mark_of(template) | BASE, Relaxed);
        let mut count = 0;
        each_caller(
            words.len(),
            |i| words[i].load(Relaxed),
            |pc| {
                base[count].store(pc.bits(), Relaxed);
                count += 1;
                count < base.len()
            },
        );
        for i in 0..count / 2 {
            let (inner, outer) = (&base[i], &base[count - 1 - i]);
            let pc = inner.swap(outer.load(Relaxed), Relaxed);
            outer.store(pc, Relaxed);
        }
        let held = parts::lock();
        history.parts.append(part, &held);
        history.ring.store(Ring::of_part(part).0, Release);
        self.go_to(&raw const part.words[1 + count], parts::WORDS - 1 - count);
    }

    /// Moves a full ring, in order, to the front of a larger one.
    fn grow(&self, history: &History, old: Ring, new: Ring) {
        for (from, to) in self.so_far(history).iter().zip(new.words()) {
            to.store(from.load(Relaxed), Relaxed);
        }
        let moved = self.so_far(history).len();
        let held = parts::lock();
        if let Class::Part = new.class() {
            history.parts.append(part_of(new), &held);
        }
        history.ring.store(new.0, Release);
        self.go_to(&raw const new.words()[moved], new.words().len() - moved);
        drop(held);
        old.give();
    }

    /// Gives up the older half of a ring.
    fn slide(&self, history: &History, ring: Ring) {
        const MAX_BASE: usize = 64;
        let (words, end) = (ring.words(), self.so_far(history).len());
        let word = |i: usize| words[i].load(Relaxed);
        let is_operand = |i: usize| word(i) >> TAG_SHIFT == OPERAND;
        let mut middle = end / 2;
        while is_operand(middle - 1) {
            middle += 1;
        }
        keep_lines(&words[..middle]);
        let mark = (0..middle).rev().find(|i| word(*i) >> TAG_SHIFT == MARK);
        let mark = mark.map_or(0, word) | BASE;
        let mut frames = [Pc::NONE; MAX_BASE];
        let most = MAX_BASE.min(words.len() / 4);
        let (count, _) = callers_before(middle, word, &mut frames[..most]);

        let _held = parts::lock();
        let base = frames[..count].iter().rev().map(|pc| pc.bits());
        let kept = [mark]
            .into_iter()
            .chain(base)
            .chain((middle..end).map(word));
        let mut len = 0;
        for (to, word) in words.iter().zip(kept) {
            to.store(word, Relaxed);
            len += 1;
        }
        self.go_to(&raw const words[len], words.len() - len);
    }
}

/// The part that a ring is.
fn part_of(ring: Ring) -> &'static Part {
    debug_assert!(ring.class() == Class::Part);
    let words = ring.0.map_addr(|a| a & !CLASS);
    // SAFETY: made by `Ring::of_part` from a part, which begins with its words and stays mapped.
    unsafe { &*words.cast::<Part>() }
}

/// Words that are looked at for who asks often.
const NEAR: usize = 192;

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
    /// Where the ring is a part, that and those before it.
    parts: Chain,
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

    /// Gives all memory back, and keeps the lines of what was in it.
    pub(crate) fn release(&self) {
        if self.own_ring().class() == Class::Part {
            give_parts(self.take_parts());
        } else {
            Ring(self.ring.swap(ptr::null_mut(), AcqRel)).give();
        }
    }

    /// A part for what comes next.
    fn take_part(&self) -> Option<&'static Part> {
        self.parts.take(|used| keep_lines(&used.words))
    }

    /// Takes a long history away, when the goroutine is over; for [`give_parts`].
    pub(crate) fn take_parts(&self) -> Removed {
        let held = parts::lock();
        self.ring.store(ptr::null_mut(), Release);
        self.parts.remove_all(&held)
    }

    /// How many parts there are, for the goroutine's own thread, or when it is over.
    pub(crate) fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// The ring, for the goroutine's own thread, or when it is over.
    fn own_ring(&self) -> Ring {
        Ring(self.ring.load(Relaxed))
    }

    /// Finds the newest access that `want` describes. Any thread, any time.
    pub(crate) fn find(&self, want: Want) -> Option<Found> {
        let held = parts::lock();
        let ring = Ring(self.ring.load(Acquire));
        let len = ring.words_before(self.pos()).unwrap_or(0);
        let newest = &ring.words()[..len];
        // The first of the chain is the newest once more.
        let full = self.parts.newest_first(&held).skip(1);
        let mut all = [newest].into_iter().chain(full.map(|part| &part.words[..]));
        let found = all.find_map(|words| search(words, want));
        fence(Acquire); // what was read is from before the pointer is looked at
        found.filter(|_| self.ring.load(Relaxed) == ring.0)
    }

    /// Where the goroutine stands, or stood at its end.
    fn pos(&self) -> *const Word {
        // SAFETY: null, or a cursor in a context, which stays mapped; its fields are atomic.
        let live = unsafe { self.live.load(Acquire).as_ref() };
        let pos = live.map_or(ptr::null_mut(), |cursor| cursor.pos.load(Acquire));
        match pos.is_null() {
            true => self.last.load(Acquire),
            false => pos,
        }
    }
}

/// Gives back what [`History::take_parts`] took, and keeps the lines.
pub(crate) fn give_parts(parts: Removed) {
    parts.give(|part| keep_lines(&part.words));
}

/// The callers at the `end`th of some words: innermost first, as many as there is room for, and up to a base. Returns how many, and
/// how many returns there are for whose calls the words do not go back far enough.
#[inline]
fn callers_before(end: usize, word: impl Fn(usize) -> u64, to: &mut [Pc]) -> (usize, usize) {
    let mut count = 0;
    let left = each_caller(end, word, |pc| match to.get_mut(count) {
        Some(place) => {
            *place = pc;
            count += 1;
            true
        }
        None => false,
    });
    (count, left)
}

/// The same, one by one, until `found` has enough. Returns how many returns there are for whose calls the words do not go back far enough.
#[inline]
fn each_caller(
    end: usize,
    word: impl Fn(usize) -> u64,
    mut found: impl FnMut(Pc) -> bool,
) -> usize {
    const AT_ONCE: usize = 4;
    let mut left = 0usize;
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
            0 if word != 0 && !found(Pc::from_bits(word)) => break,
            _ => {}
        }
    }
    left
}

/// Keeps the lines of what is given up: some words from a base on. Most accesses are not among the cells of their bytes any more, which takes some
/// forty instructions to find out: `lines` says how often that may be.
fn keep_lines(words: &[Word]) {
    lines::if_in_time(|lines| keep_lines_in(lines, words));
}

fn keep_lines_in(lines: Lines, words: &[Word]) {
    const ADDR: u64 = (1 << ADDR_BITS) - 1;
    let mut at = 0;
    let mut rest = words.iter().map(|word| word.load(Relaxed));
    while let Some(word) = rest.next() {
        if word >> TAG_SHIFT == MARK {
            at = Cell::template((word >> 45 & 0xff) as u32, word & ((1 << 45) - 1));
        }
        if word < OPERAND << TAG_SHIFT {
            continue;
        }
        let Some(head) = rest.next() else { return };
        let operand = word ^ OPERAND << TAG_SHIFT;
        // Without a size in it, the operand was a large size itself, and another comes before the access.
        let (addr, size, head) = match operand >> ADDR_BITS {
            0 => (head & ADDR, operand, rest.next().unwrap_or(0)),
            size => (operand & ADDR, size, head),
        };
        let (addr, size) = (addr as usize, size as usize);
        let who = at | flags_of(head);
        if size > 8 || head & ALLOCATION != 0 || lines::is_there(addr, who) {
            let line = lines::Line {
                pc: Pc::from_bits(head),
                allocation: head & ALLOCATION != 0,
            };
            lines.keep(addr, size, who, line);
        }
    }
}

/// A cell's flags, of an access.
fn flags_of(word: u64) -> u64 {
    word >> EVENT_FLAGS << FLAG_SHIFT & FLAGS
}

/// Looks through some words that begin with a base, backwards: the newest match in the right epoch.
fn search(words: &[Word], want: Want) -> Option<Found> {
    let mut newest = None;
    for i in (0..words.len()).rev() {
        let word = words[i].load(Relaxed);
        match word >> TAG_SHIFT {
            ACCESS if newest.is_none() => {
                newest = access_at(words, i)
                    .filter(|(addr, size)| want.matches(*addr, *size, flags_of(word)))
                    .map(|access| (i, access))
            }
            MARK => {
                let here = (word >> 45 & 0xff, word & ((1 << 45) - 1));
                if here == (want.slot, want.epoch)
                    && let Some((i, (addr, size))) = newest
                {
                    let mut frames = [Pc::NONE; FRAMES];
                    let word = |i: usize| words[i].load(Relaxed);
                    frames[0] = Pc::from_bits(word(i));
                    let count = 1 + callers_before(i, word, &mut frames[1..]).0;
                    let allocation = word(i) & ALLOCATION != 0;
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
fn access_at(words: &[Word], i: usize) -> Option<(usize, usize)> {
    let operand = |back: usize| {
        let word = words.get(i.checked_sub(back)?)?.load(Relaxed);
        (word >> TAG_SHIFT == OPERAND).then_some(word & ((1 << TAG_SHIFT) - 1))
    };
    let at = operand(1)?;
    let size = match at >> ADDR_BITS {
        0 => operand(2)?,
        size => size,
    };
    Some(((at & ((1 << ADDR_BITS) - 1)) as usize, size as usize))
}
