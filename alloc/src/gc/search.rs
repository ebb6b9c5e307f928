//! The search over dead objects: which of them have a destructor to run, and in which order.
//!
//! # The graph
//!
//! Its vertices are the collected objects that are allocated and that marking did not reach. There
//! is an edge from one to another if the first has a word, at any address, that looks like an address
//! in the second, whatever their kinds and sizes are. Objects that nobody can look into have no edges: those that
//! are not scanned, and those whose values were dropped, or never made. Objects that wait for their
//! destructors since an earlier cycle are roots of the marking, so they are not in the graph, and
//! neither is anything that they lead to.
//!
//! The search enters the graph at each `LIVE` object of [`Kind::Finalized`] that it has not come
//! across before: at a *start*. It marks all that it reaches, since a destructor may use it, and
//! queues those of them that are `LIVE` and have a destructor.
//!
//! # The order
//!
//! The queue is in a topological order of the strongly connected components. So an object comes
//! before those that it reaches, whatever the path leads through, unless they reach it too. The
//! components come from Tarjan's algorithm, which completes a component after all that can be
//! reached from it; each completed one is put in front of the queue. A depth-first search alone is
//! not enough: its reverse post-order puts `z` before `x` in `s -> a -> x -> a -> z`.
//!
//! Objects of one component are in the order in which the search came to them.
//!
//! # Sources
//!
//! A *source* is a start that no object reaches but those of its own component. It gets the state
//! `FIRST`, the others get `QUEUED`; `finalize` says what this is good for. A start is never reached
//! by what an earlier one reaches, or it would not have become a start. So a second search, over the
//! same graph, tells exactly: it enters at the starts again, the last one first, and a start that it
//! has come across before its turn is reached by a later one, which is not in its component. The
//! last start is always a source.
//!
//! The second search is for programs whose destructors save objects. Others do without it, and then
//! all is `QUEUED`.
//!
//! # Bits and numbers
//!
//! While the search is on, two bits of the span tell what is known of an object:
//!
//! | free | mark | |
//! | --- | --- | --- |
//! | 0 | 0 | allocated, not reached yet |
//! | 0 | 1 | settled: reached by marking, or by the search, and of no interest to it any more |
//! | 1 | 0 | free |
//! | 1 | 1 | found by the first search; the second turns it into settled, or, without it, the end of its component |
//!
//! Tarjan's algorithm needs the number of each object whose component is not complete. It takes the
//! place of a word of the object (the header's link, or the first), which is kept in the entry of
//! that number meanwhile. A word is a number if the entry says so. No memory is needed for each
//! object of the heap, and none is touched that the search does not read anyway.
//!
//! # When there is no memory
//!
//! The stack of entries grows as long as the kernel gives memory. If it cannot grow, what the start
//! leads to is *kept*: it is settled and stays `LIVE`, and what earlier starts had found of it is
//! not queued either. That goes by a traversal in bounded memory, which walks the spans again where
//! it had no room ([`Span::overflowed`]). What is left of the queue is still in order: nothing of it
//! is reached by what was kept. If the last start was kept, it is queued alone: it is a source all
//! the same. So each cycle gets on.
//!
//! Without the second search nothing tells which objects earlier starts had found. Then nothing is
//! queued at all, and cycles have a second search until there is enough memory.
//!
//! # Invariants
//!
//! 1. The world is stopped and all magazines are empty; only the coordinator's thread is here.
//! 2. Before and after, no object is both free and marked, and every word of an object is in its place.
//! 3. All that a settled object leads to is settled or, during the first search, found.
//!
//! # References
//!
//! R. Tarjan, "Depth-first search and linear graph algorithms" (1972). P. Briggs and L. Torczon, "An
//! efficient representation for sparse sets" (1993), for numbers that prove themselves.

use super::config;
use super::finalize::List;
use super::mark;
use super::object::{Header, Kind, header, state};
use super::words::{self, Filter};
use crate::class::PAGE_BITS;
use crate::span::{Place, Span};
use crate::{arena, central};
use std::mem::offset_of;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

/// The state of a queued object while the search is on.
const FOUND: u32 = 1 << 31;
/// The search began there.
const START: u32 = 1 << 30;
/// So many entries before one is taken back its object is prefetched.
const AHEAD: usize = 8;
/// The parent of an object at which the search began.
const NONE: u32 = u32::MAX;

/// The last search had too little memory.
static WAS_SHORT: AtomicBool = AtomicBool::new(false);

/// Finds the dead objects that have destructors and are `LIVE`, and marks what they reach. Returns
/// them in their order, and the bytes that were marked. `wants_sources`: with a second search.
pub(super) fn dead(wants_sources: bool) -> (List, usize) {
    let mut search = Search {
        filter: Filter::new(arena::pages() << PAGE_BITS),
        entries: Entries::new(),
        found: List::new(),
        marked: 0,
        overflowed: false,
        wants_sources: wants_sources || WAS_SHORT.load(Relaxed),
        is_short: false,
    };
    let mut kept = None;
    for central in central::of_kind(Kind::Finalized) {
        central.each_swept(|span| {
            for word in 0..span.words() {
                let allocated = span.valid_bits(word) & !span.free[word].load(Relaxed);
                let mut dead = allocated & !span.mark[word].load(Relaxed);
                while dead != 0 {
                    let index = word * 64 + dead.trailing_zeros() as usize;
                    let object = header(span.address_of(index));
                    if object.state.load(Relaxed) == state::LIVE {
                        let is_found = search.from(span, index);
                        kept = (!is_found).then_some(object);
                    }
                    // The search may have marked others.
                    dead &= dead - 1;
                    dead &= !span.mark[word].load(Relaxed);
                }
            }
        });
    }
    WAS_SHORT.store(search.is_short, Relaxed);
    search.give_states();
    let mut found = search.found;
    if let Some(last_start) = kept
        && search.wants_sources
    {
        last_start.state.store(state::FIRST, Relaxed);
        found.push_front(last_start);
    }
    (found, search.marked)
}

/// What the two bits of an object say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// There is no object.
    Free,
    NotYet,
    Found,
    Settled,
}

impl Seen {
    fn of(span: &Span, index: usize) -> Self {
        let (word, bit) = (index / 64, 1 << (index % 64));
        let is_free = span.free[word].load(Relaxed) & bit != 0;
        match (is_free, span.is_marked(index)) {
            (false, false) => Self::NotYet,
            (false, true) => Self::Settled,
            (true, false) => Self::Free,
            (true, true) => Self::Found,
        }
    }

    fn set_found(span: &Span, index: usize) {
        span.set_mark(index);
        span.free[index / 64].fetch_or(1 << (index % 64), Relaxed);
    }

    fn set_settled(span: &Span, index: usize) {
        span.set_mark(index);
        span.free[index / 64].fetch_and(!(1 << (index % 64)), Relaxed);
    }
}

/// Whether nobody can look into an object.
fn is_leaf(span: &Span, index: usize) -> bool {
    match span.kind() {
        Kind::NoScan => true,
        Kind::Finalized => {
            let state = header(span.address_of(index)).state.load(Relaxed);
            matches!(state, state::INITIALISING | state::DROPPED)
        }
        _ => false,
    }
}

/// The collected object around an address, whatever its bits are.
fn around(addr: usize) -> Option<(&'static Span, usize)> {
    let span = arena::span_of(addr)?;
    if span.kind() == Kind::Manual || span.place() == Place::Idle {
        return None;
    }
    let index = span.index_of(addr);
    (index < span.objects()).then_some((span, index))
}

/// The words of an object that are scanned. A header has none: its link is the queue's.
fn words_of(span: &Span, index: usize) -> Range<usize> {
    let object = span.address_of(index);
    let header = match span.kind() {
        Kind::Finalized => size_of::<Header>(),
        _ => 0,
    };
    object + header..object + span.size()
}

/// Where an object's number is while it has one.
fn place_of_number(span: &Span, index: usize) -> usize {
    let object = span.address_of(index);
    match span.kind() {
        Kind::Finalized => object + offset_of!(Header, next),
        _ => object,
    }
}

/// Takes words of an object from `at` on, a byte address, until one is an address inside the arena.
/// The word at `place` is hidden by a number: `covered` belongs there.
fn next_address(
    filter: &Filter,
    at: &mut usize,
    end: usize,
    [place, covered]: [usize; 2],
) -> Option<usize> {
    const WORD: usize = size_of::<usize>();
    let value = |at: usize| match at {
        _ if at == end => 0,
        _ if at == place => covered,
        _ => word(at).load(Relaxed),
    };
    while *at < end {
        let first = *at & !(WORD - 1);
        let words = [value(first), value(first + WORD)];
        // Those that begin in the first word, from where we are on.
        let windows = filter.pair(words) & (u32::MAX << (*at - first)) & ((1 << WORD) - 1);
        if windows == 0 {
            *at = first + WORD;
            continue;
        }
        let window = windows.trailing_zeros();
        *at = first + window as usize + 1;
        return Some(words::window(words, window));
    }
    None
}

/// A word of an object.
fn word(at: usize) -> &'static AtomicUsize {
    // SAFETY: the callers pass an aligned address in an allocated object; any value is valid, and
    // nobody else touches it while the world stands.
    unsafe { &*ptr::with_exposed_provenance::<AtomicUsize>(at) }
}

/// An object whose component is not complete; its number is its place in the stack. In the second
/// search: one that is being scanned.
#[derive(Clone, Copy)]
struct Entry {
    /// Where the number is in the object,
    place: usize,
    /// and the word that belongs there.
    word: usize,
    /// What is still to be scanned: from a byte to the object's end.
    at: usize,
    end: usize,
    /// From where the search came.
    parent: u32,
    /// The lowest number that is known to be in the same component.
    low: u32,
}

struct Search {
    filter: Filter,
    entries: Entries,
    /// The objects that are to be queued, in order.
    found: List,
    marked: usize,
    /// Some span has overflowed.
    overflowed: bool,
    /// There will be a second search.
    wants_sources: bool,
    /// There was too little memory.
    is_short: bool,
}

impl Search {
    /// The first search, from a start. False: there was no memory for it, and the start is kept.
    fn from(&mut self, span: &'static Span, index: usize) -> bool {
        if !self.gives_up() && self.search(span, index).is_some() {
            return true;
        }
        self.is_short = true;
        while self.entries.len > 0 {
            self.restore();
        }
        self.settle(span, index, true);
        false
    }

    /// Nothing can be queued any more.
    fn gives_up(&self) -> bool {
        self.is_short && !self.wants_sources
    }

    /// Tarjan's algorithm. None: there was no memory.
    fn search(&mut self, span: &'static Span, index: usize) -> Option<()> {
        self.enter(span, index, NONE)?;
        header(span.address_of(index))
            .state
            .store(FOUND | START, Relaxed);
        let mut here = 0;
        loop {
            if let Some((span, index)) = self.next(here) {
                here = self.enter(span, index, here)?;
                continue;
            }
            let Entry { parent, low, .. } = self.entries.get()[here as usize];
            if low == here {
                self.complete(here);
            }
            if parent == NONE {
                return Some(());
            }
            let parent_low = &mut self.entries.get()[parent as usize].low;
            *parent_low = low.min(*parent_low);
            here = parent;
        }
    }

    /// Finds an object, and goes on from there. Returns its number.
    fn enter(&mut self, span: &Span, index: usize, parent: u32) -> Option<u32> {
        let place = place_of_number(span, index);
        let Range { start: at, end } = words_of(span, index);
        let number = u32::try_from(self.entries.len).ok().filter(|&n| n < NONE)?;
        self.entries.push(Entry {
            place,
            word: word(place).load(Relaxed),
            at,
            end,
            parent,
            low: number,
        })?;
        word(place).store(number as usize, Relaxed);
        Seen::set_found(span, index);
        self.marked += span.size();
        if span.kind() == Kind::Finalized {
            // It was `LIVE`: those that wait are marked, and the others are leaves.
            header(span.address_of(index)).state.store(FOUND, Relaxed);
        }
        Some(number)
    }

    /// Goes on with an object, to the next one that it leads to and that is to be entered.
    fn next(&mut self, here: u32) -> Option<(&'static Span, usize)> {
        let entries = self.entries.get();
        let Entry {
            place,
            word: covered,
            mut at,
            end,
            mut low,
            ..
        } = entries[here as usize];
        let mut next = None;
        while next.is_none() {
            let Some(addr) = next_address(&self.filter, &mut at, end, [place, covered]) else {
                break;
            };
            let Some((span, index)) = around(addr) else {
                continue;
            };
            match Seen::of(span, index) {
                Seen::NotYet if is_leaf(span, index) => {
                    Seen::set_settled(span, index);
                    self.marked += span.size();
                }
                Seen::NotYet => next = Some((span, index)),
                Seen::Found => {
                    let place = place_of_number(span, index);
                    let number = word(place).load(Relaxed);
                    // Else its component is complete, and the word is its own.
                    if entries.get(number).is_some_and(|e| e.place == place) {
                        low = low.min(number as u32);
                    }
                }
                Seen::Free | Seen::Settled => {}
            }
        }
        let entry = &mut entries[here as usize];
        (entry.at, entry.low) = (at, low);
        next
    }

    /// The objects from a number on are a component.
    fn complete(&mut self, root: u32) {
        while self.entries.len > root as usize {
            let place = self.restore();
            let Some((span, index)) = around(place) else {
                continue;
            };
            if !self.wants_sources {
                Seen::set_settled(span, index);
            }
            if span.kind() == Kind::Finalized {
                self.found.push_front(header(span.address_of(index)));
            }
        }
    }

    /// Takes the last entry back, and its object's number out. Returns an address in the object.
    fn restore(&mut self) -> usize {
        let entry = self.entries.pop();
        if let Some(soon) = self.entries.get().iter().nth_back(AHEAD) {
            mark::prefetch(ptr::without_provenance::<u8>(soon.place));
        }
        word(entry.place).store(entry.word, Relaxed);
        entry.place
    }

    /// The second search, if there is one: gives what was found its state, and takes out what was
    /// kept.
    fn give_states(&mut self) {
        let mut all = std::mem::replace(&mut self.found, List::new());
        while let Some(object) = all.pop() {
            // SAFETY: it is in the list, hence there.
            let object: &Header = unsafe { object.as_ref() };
            let state = object.state.load(Relaxed);
            if self.gives_up() {
                object.state.store(state::LIVE, Relaxed);
            }
            if self.gives_up() || state == state::LIVE {
                continue;
            }
            let is_source = self.wants_sources && state & START != 0 && self.is_source(object);
            let state = match is_source {
                true => state::FIRST,
                false => state::QUEUED,
            };
            object.state.store(state, Relaxed);
            self.found.push_back(object);
        }
    }

    /// Goes on with the second search at a start. Returns whether it is a source.
    fn is_source(&mut self, start: &Header) -> bool {
        let Some((span, index)) = around(ptr::from_ref(start).addr()) else {
            return false;
        };
        let is_source = Seen::of(span, index) == Seen::Found;
        self.settle(span, index, false);
        is_source
    }

    /// Settles an object and all that it leads to. If it is `kept`, nothing of that is queued.
    fn settle(&mut self, span: &'static Span, index: usize, kept: bool) {
        self.settle_one(span, index, kept);
        self.drain(kept);
        while std::mem::take(&mut self.overflowed) {
            mark::each_span(|span| {
                if span.kind() == Kind::Manual || !span.overflowed.swap(false, Relaxed) {
                    return;
                }
                for index in 0..span.objects() {
                    if Seen::of(span, index) == Seen::Settled && !is_leaf(span, index) {
                        self.scan(words_of(span, index), kept);
                    }
                }
            });
        }
    }

    /// Settles what some words lead to, without an entry for them.
    fn scan(&mut self, words: Range<usize>, kept: bool) {
        let mut at = words.start;
        while let Some(addr) = next_address(&self.filter, &mut at, words.end, [0, 0]) {
            if let Some((span, index)) = around(addr) {
                self.settle_one(span, index, kept);
                self.drain(kept);
            }
        }
    }

    fn drain(&mut self, kept: bool) {
        while let Some(entry) = self.entries.get().last_mut() {
            let Some(addr) = next_address(&self.filter, &mut entry.at, entry.end, [0, 0]) else {
                self.entries.pop();
                continue;
            };
            if let Some((span, index)) = around(addr) {
                self.settle_one(span, index, kept);
            }
        }
    }

    /// Settles one object; if that is news, what it leads to is to be settled too.
    fn settle_one(&mut self, span: &'static Span, index: usize, kept: bool) {
        match Seen::of(span, index) {
            Seen::Free | Seen::Settled => return,
            Seen::Found => {}
            Seen::NotYet => self.marked += span.size(),
        }
        Seen::set_settled(span, index);
        if is_leaf(span, index) {
            return;
        }
        if kept && span.kind() == Kind::Finalized {
            let state = &header(span.address_of(index)).state;
            if state.load(Relaxed) & FOUND != 0 {
                state.store(state::LIVE, Relaxed);
            }
        }
        let Range { start: at, end } = words_of(span, index);
        let entry = Entry {
            place: 0,
            word: 0,
            at,
            end,
            parent: NONE,
            low: 0,
        };
        if self.entries.push(entry).is_none() {
            span.overflowed.store(true, Relaxed);
            self.overflowed = true;
        }
    }
}

/// A stack in memory of its own, which grows as long as the kernel gives some.
struct Entries {
    first: *mut Entry,
    len: usize,
    capacity: usize,
    limit: usize,
}

impl Entries {
    /// Room for so many at first: 160 KiB.
    const FIRST: usize = 4096;

    fn new() -> Self {
        Self {
            first: ptr::null_mut(),
            len: 0,
            capacity: 0,
            limit: config::mark_stack_limit().unwrap_or(usize::MAX),
        }
    }

    fn get(&mut self) -> &mut [Entry] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: so many were written, in our mapping.
        unsafe { std::slice::from_raw_parts_mut(self.first, self.len) }
    }

    /// Takes the last one off; there is one.
    fn pop(&mut self) -> Entry {
        self.len -= 1;
        // SAFETY: it was written, in our mapping.
        unsafe { self.first.wrapping_add(self.len).read() }
    }

    fn push(&mut self, entry: Entry) -> Option<()> {
        if self.len >= self.limit || (self.len == self.capacity && !self.grow()) {
            return None;
        }
        // SAFETY: below the capacity.
        unsafe { self.first.wrapping_add(self.len).write(entry) };
        self.len += 1;
        Some(())
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let bytes = self.capacity * size_of::<Entry>();
        let wanted = (2 * bytes).max(Self::FIRST * size_of::<Entry>());
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let at = match bytes {
            // SAFETY: a fresh mapping touches nothing that exists.
            0 => unsafe { raddle_race::sys::map(ptr::null_mut(), wanted, protection, flags) },
            // SAFETY: the whole of our mapping; nothing points into it.
            _ => unsafe { raddle_race::sys::remap(self.first.cast(), bytes, wanted) },
        };
        if at == libc::MAP_FAILED {
            return false;
        }
        self.first = at.cast();
        self.capacity = wanted / size_of::<Entry>();
        true
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: our mapping, used no more.
            unsafe {
                raddle_race::sys::unmap(self.first.cast(), self.capacity * size_of::<Entry>())
            };
        }
    }
}
