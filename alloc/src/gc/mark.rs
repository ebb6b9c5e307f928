//! Marking: from the roots to all that they reach, by several threads at once, with the world stopped.
//!
//! # What is a pointer
//!
//! Any word, at any address (`words`), whose value is an address inside an allocated object of a collected kind, be it its first byte,
//! its last, or in between.
//! Marking sets the object's bit; if it is scanned it becomes work, once, for whoever set the bit.
//!
//! # The path of a word
//!
//! A range is scanned in pieces, each of which goes on for a word into the next: a handle that lies across the border is seen.
//!
//! Nearly every step misses the cache, so each is begun some words before it is needed. A word that lies in the arena
//! goes into `pending` while its span is prefetched; when it comes out its mark is set, and the object becomes work. Work that
//! is popped goes into `near` while its first bytes are prefetched; when it comes out it is scanned. Both are short rings.
//!
//! # Overflow
//!
//! An object for which there is no room, in the stack or in the pool, stays marked and unscanned; its span remembers. When all other work is
//! done, a further phase scans all marked objects of such spans again. Each such phase begins with empty stacks, and only
//! an object that it marked can overflow again; marks are never taken back, so there are at most as many phases as objects.
//!
//! # Invariants
//!
//! 1. The world is stopped and all magazines are empty: an object is allocated exactly if its `free` bit is 0.
//! 2. All spans are swept: at the start no object is marked.
//! 3. Every marked object of a scanned kind has been scanned, is work, or is in a span that has `overflowed`.
//!
//! # Memory ordering
//!
//! Marks: Relaxed; who sets the bit first is decided by the read-modify-write, and what the objects hold was ordered by the stop. The pool
//! orders the rest.
//!
//! # References
//!
//! C.-Y. Cher, A. Hosking, T. Vitek, "Software prefetching for mark-sweep garbage collection" (ASPLOS 2004); Go `runtime/mgcmark.go` (oblets).

use super::object::Kind;
use super::queue::{ITEMS, POOL, Work};
use super::words::{Filter, Words};
use super::{config, finalize, roots};
use crate::arena::{self, CHUNK_PAGES, START};
use crate::class::{LARGE, PAGE, PAGE_BITS};
use crate::span::{Place, Span};
use crate::world::World;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

/// Pieces of work that a thread's own stack holds.
const STACK: usize = 2048;
/// Length of the rings.
const PENDING: usize = 16;
const NEAR: usize = 8;
/// Longer objects, and roots, are scanned in pieces of so many bytes, which several threads may share.
const PIECE: usize = 128 << 10;
const WORD: usize = size_of::<usize>();

/// Chunks of the span table that were handed out in this phase.
static NEXT_CHUNK: AtomicUsize = AtomicUsize::new(0);
/// A span has overflowed since this was cleared.
static OVERFLOWED: AtomicBool = AtomicBool::new(false);
/// This phase scans overflowed spans, not roots.
static IS_RESCAN: AtomicBool = AtomicBool::new(false);

/// What a thread did, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Collected objects marked.
    pub(super) live: usize,
    /// Roots scanned, manual objects included.
    pub(super) roots: usize,
    /// Live manual objects.
    pub(super) manual: usize,
}

static LIVE: AtomicUsize = AtomicUsize::new(0);
static ROOTS: AtomicUsize = AtomicUsize::new(0);
static MANUAL: AtomicUsize = AtomicUsize::new(0);

/// Sets a phase up; the caller then begins it in the pool.
pub(super) fn prepare(is_rescan: bool) {
    NEXT_CHUNK.store(0, Relaxed);
    IS_RESCAN.store(is_rescan, Relaxed);
}

/// Whether another phase must scan what found no room; forgets it.
pub(super) fn take_overflowed() -> bool {
    OVERFLOWED.swap(false, Relaxed)
}

/// What all threads did since the last call.
pub(super) fn take_tally() -> Tally {
    Tally {
        live: LIVE.swap(0, Relaxed),
        roots: ROOTS.swap(0, Relaxed),
        manual: MANUAL.swap(0, Relaxed),
    }
}

/// The collected, allocated object around an address: its span and its index.
#[inline(always)]
pub(super) fn candidate(span: &Span, addr: usize) -> Option<usize> {
    if span.kind() == Kind::Manual || span.place() == Place::Idle {
        return None;
    }
    let index = span.index_of(addr);
    span.is_allocated(index).then_some(index)
}

/// The object stays marked and unscanned for now.
#[cold]
fn overflow(span: &Span) {
    span.overflowed.store(true, Relaxed);
    OVERFLOWED.store(true, Relaxed);
}

/// One thread's share of the marking.
pub(super) struct Marker {
    stack: [Work; STACK],
    len: usize,
    /// The stack's capacity; less than [`STACK`] in tests.
    capacity: usize,
    pending: [(*const Span, usize); PENDING],
    pending_at: usize,
    near: [Work; NEAR],
    near_from: usize,
    near_len: usize,
    filter: Filter,
    tally: Tally,
}

#[inline(always)]
pub(super) fn prefetch<T>(at: *const T) {
    // SAFETY: a prefetch of any address is harmless.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

impl Marker {
    pub(super) fn new() -> Self {
        Self {
            stack: [Work::default(); STACK],
            len: 0,
            capacity: config::mark_stack_limit().unwrap_or(STACK).clamp(1, STACK),
            pending: [(ptr::null(), 0); PENDING],
            pending_at: 0,
            near: [Work::default(); NEAR],
            near_from: 0,
            near_len: 0,
            filter: Filter::new(arena::pages() << PAGE_BITS),
            tally: Tally::default(),
        }
    }

    /// Does this thread's share of a phase that it has joined. `world`: for the thread that shows the roots.
    pub(super) fn run(&mut self, world: Option<&dyn World>) {
        let is_rescan = IS_RESCAN.load(Relaxed);
        if let Some(world) = world
            && !is_rescan
        {
            world.each_root(&mut |range| self.root(range));
            roots::each(&mut |range| self.root(range));
            finalize::each_queued(&mut |object| self.pointer(object));
        }
        let chunks = arena::pages() / CHUNK_PAGES;
        loop {
            let chunk = NEXT_CHUNK.fetch_add(1, Relaxed);
            if chunk >= chunks {
                break;
            }
            if is_rescan {
                self.rescan(chunk);
            } else {
                self.manual_objects(chunk);
            }
        }
        loop {
            self.drain();
            let Some(buffer) = POOL.get() else { break };
            let n = buffer.len.min(self.capacity);
            self.stack[..n].copy_from_slice(&buffer.items[..n]);
            debug_assert!(n == buffer.len, "a limited stack has no buffers");
            self.len = n;
            buffer.len = 0;
            POOL.recycle(buffer);
        }
        LIVE.fetch_add(self.tally.live, Relaxed);
        ROOTS.fetch_add(self.tally.roots, Relaxed);
        MANUAL.fetch_add(self.tally.manual, Relaxed);
        self.tally = Tally::default();
    }

    /// Memory that may hold pointers, of any length, anywhere.
    fn root(&mut self, range: Range<usize>) {
        let end = range.end & !(WORD - 1);
        let mut at = range.start.next_multiple_of(WORD);
        self.tally.roots += end.saturating_sub(at);
        while at < end {
            let bytes = (end - at).min(PIECE + WORD);
            self.push_root(Work::words(at, bytes / WORD));
            at += PIECE;
        }
    }

    /// Roots are never left for later: makes room instead.
    fn push_root(&mut self, work: Work) {
        if !self.push(work) {
            self.drain();
            self.push(work);
        }
    }

    /// Live manual objects are roots.
    fn manual_objects(&mut self, chunk: usize) {
        each_span_from(chunk, |span| {
            if span.kind() != Kind::Manual {
                return;
            }
            let before = self.tally.roots;
            if span.is_large() {
                self.tally.roots += span.size();
                self.push_root(Work::rest_of_span(span.start()));
            } else {
                for word in 0..span.words() {
                    let mut live = span.valid_bits(word) & !span.free[word].load(Relaxed);
                    // Neighbours are one range.
                    while live != 0 {
                        let from = live.trailing_zeros() as usize;
                        let n = (live >> from).trailing_ones() as usize;
                        let start = span.address_of(word * 64 + from);
                        self.root(start..start + n * span.size());
                        live &= !(u64::MAX >> (64 - n) << from);
                    }
                }
            }
            self.tally.manual += self.tally.roots - before;
        });
    }

    /// Scans what was marked in spans that overflowed.
    fn rescan(&mut self, chunk: usize) {
        each_span_from(chunk, |span| {
            if !span.overflowed.swap(false, Relaxed) || span.kind() == Kind::Manual {
                return;
            }
            for word in 0..span.words() {
                let mut marked = span.mark[word].load(Relaxed);
                while marked != 0 {
                    let index = word * 64 + marked.trailing_zeros() as usize;
                    // Room is made: else an object that overflowed again would be scanned again, and so on.
                    self.push_root(object_work(span, index));
                    marked &= marked - 1;
                }
            }
        });
    }

    /// Scans until this thread has no work left.
    fn drain(&mut self) {
        loop {
            while self.near_len < NEAR && self.len > 0 {
                self.len -= 1;
                let work = self.stack[self.len];
                prefetch(ptr::without_provenance::<u8>(work.start()));
                self.near[(self.near_from + self.near_len) % NEAR] = work;
                self.near_len += 1;
            }
            if self.near_len == 0 {
                if self.settle() {
                    continue;
                }
                return;
            }
            let work = self.near[self.near_from];
            self.near_from = (self.near_from + 1) % NEAR;
            self.near_len -= 1;
            match work.len() {
                0 => self.scan_rest(work.start()),
                words => self.scan(work.start(), words),
            }
            if POOL.is_hungry() && self.len > 0 {
                self.share();
            }
        }
    }

    /// Marks what is pending. Returns whether that made work.
    fn settle(&mut self) -> bool {
        for i in 0..PENDING {
            let (span, addr) = std::mem::replace(&mut self.pending[i], (ptr::null(), 0));
            // SAFETY: null or a span, as `pointer` found it.
            if let Some(span) = unsafe { span.as_ref() } {
                self.mark(span, addr);
            }
        }
        self.len > 0
    }

    /// Looks at every window of a root or of an allocated object, aligned.
    #[inline(always)]
    fn scan(&mut self, start: usize, words: usize) {
        /// Up to so many, one after the other is fastest.
        const FEW: usize = 8;
        let (first, filter) = (ptr::with_exposed_provenance::<usize>(start), self.filter);
        // SAFETY: any value is valid, and nobody writes while the world stands.
        if words > FEW || !unsafe { filter.is_plain(first, words) } {
            return self.scan_many(start, words);
        }
        for i in 0..words {
            // SAFETY: as above.
            let word = unsafe { first.wrapping_add(i).read() };
            if filter.accepts(word) {
                self.pointer(word);
            }
        }
    }

    #[inline(never)]
    fn scan_many(&mut self, start: usize, words: usize) {
        // SAFETY: as in `scan`.
        let mut words = unsafe { Words::of(start, words * WORD) };
        let filter = self.filter;
        while let Some(word) = words.next(&filter) {
            self.pointer(word);
        }
    }

    /// Scans a piece of a large object, and leaves the rest to whoever comes.
    fn scan_rest(&mut self, start: usize) {
        let Some(span) = arena::span_of(start) else {
            return;
        };
        let end = span.start() + span.pages() * PAGE;
        let mut at = start;
        while at < end {
            let next = (at + PIECE).min(end);
            let is_left = next < end && self.push(Work::rest_of_span(next));
            self.scan(at, ((next + WORD).min(end) - at) / WORD);
            if is_left {
                return;
            }
            at = next;
        }
    }

    /// Looks at an address inside the used arena.
    #[inline(always)]
    fn pointer(&mut self, addr: usize) {
        let Some(span) = arena::span_of_page((addr - START) >> PAGE_BITS) else {
            return;
        };
        prefetch(span);
        let place = &mut self.pending[self.pending_at % PENDING];
        self.pending_at = self.pending_at.wrapping_add(1);
        let (span, addr) = std::mem::replace(place, (span, addr));
        // SAFETY: null or a span.
        if let Some(span) = unsafe { span.as_ref() } {
            self.mark(span, addr);
        }
    }

    #[inline(always)]
    fn mark(&mut self, span: &'static Span, addr: usize) {
        let Some(index) = candidate(span, addr) else {
            return;
        };
        if !span.set_mark(index) {
            return;
        }
        self.tally.live += span.size();
        if span.kind() != Kind::NoScan && !self.push(object_work(span, index)) {
            overflow(span);
        }
    }

    /// False: there is no room, here or in the pool.
    #[inline(always)]
    fn push(&mut self, work: Work) -> bool {
        if self.len == self.capacity && !self.spill() {
            return false;
        }
        self.stack[self.len] = work;
        self.len += 1;
        true
    }

    /// Moves the older part of a full stack to the pool.
    #[cold]
    fn spill(&mut self) -> bool {
        self.give(ITEMS.min(self.len))
    }

    /// Gives half of the work to those that have none.
    #[cold]
    fn share(&mut self) {
        self.give(self.len.div_ceil(2).min(ITEMS));
    }

    fn give(&mut self, n: usize) -> bool {
        let Some(buffer) = POOL.empty() else {
            return false;
        };
        buffer.items[..n].copy_from_slice(&self.stack[..n]);
        buffer.len = n;
        POOL.put(buffer);
        self.stack.copy_within(n..self.len, 0);
        self.len -= n;
        true
    }
}

/// Each span that begins in a chunk.
fn each_span_from(chunk: usize, mut f: impl FnMut(&'static Span)) {
    let (mut page, end) = (chunk * CHUNK_PAGES, (chunk + 1) * CHUNK_PAGES);
    while page < end {
        let span = arena::span_of_page(page);
        // Idle runs are named at their ends only, and an entry may be out of date where nothing is in use.
        match span.filter(|span| span.place() != Place::Idle) {
            Some(span) if span.first_page() == page => {
                f(span);
                page += span.pages().max(1);
            }
            _ => page += 1,
        }
    }
}

/// Each span. The world is stopped.
pub(super) fn each_span(mut f: impl FnMut(&'static Span)) {
    for chunk in 0..arena::pages() / CHUNK_PAGES {
        each_span_from(chunk, &mut f);
    }
}

/// The object as work.
#[inline(always)]
pub(super) fn object_work(span: &Span, index: usize) -> Work {
    match span.class() {
        LARGE => Work::rest_of_span(span.start()),
        _ => Work::words(span.address_of(index), span.size() / WORD),
    }
}
