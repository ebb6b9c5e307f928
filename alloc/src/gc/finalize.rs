//! Destructors: which dead objects have one to run, and in which order.
//!
//! After marking, a [`Kind::Finalized`] object that is allocated, live by its state and not marked is queued, and marked with all
//! that it reaches: the destructor may use it. The finalizer takes it from the queue and runs the destructor; in a later
//! cycle the object is found dead in state `DROPPED`, and goes.
//!
//! # Order
//!
//! An object comes before those that it reaches, whatever lies between: an owner's destructor runs before those of what it owns. On a cycle
//! that cannot hold; one of its objects begins, as if nothing led to it. It is the reverse post-order of a depth-first search over the
//! dead. If the search runs out of memory, objects that it does not enter come in any order.
//!
//! A destructor may use what its object reaches, and even save it: then what *that* reaches has to stay too, and no destructor behind it in
//! the queue is certain to be due. Those of `FIRST` objects are: no other search came to what theirs found, so nothing that is
//! saved leads to them. So every cycle gets on, and one in which nothing is saved is the only one that is needed.
//!
//! # Invariants
//!
//! 1. Objects in the queue are roots.
//! 2. The queue changes under its lock, in busy sections, or with the world stopped.
//! 3. Only the coordinator's thread searches; no other marks meanwhile.

use super::mark::{self, candidate};
use super::object::{Header, Kind, header, state};
use super::{config, stats};
use crate::futex::{Lock, Locked};
use crate::span::Span;
use crate::thread::{busy, this_thread};
use crate::{arena, central};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering::*};

/// Objects linked by their headers.
struct List {
    first: *mut Header,
    last: *mut Header,
}

impl List {
    const fn new() -> Self {
        Self {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
        }
    }

    fn push_front(&mut self, object: &Header) {
        object.next.store(self.first, Relaxed);
        let object = ptr::from_ref(object).cast_mut();
        if self.first.is_null() {
            self.last = object;
        }
        self.first = object;
    }

    fn append(&mut self, other: List) {
        if other.first.is_null() {
            return;
        }
        // SAFETY: null, or the last object of the queue, which is live.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.store(other.first, Relaxed),
            None => self.first = other.first,
        }
        self.last = other.last;
    }

    /// The searches are over: gives their objects the states that the finalizer knows. Each search's are in a row, and where it
    /// began is in front of them.
    fn settle(&self) {
        let mut start: Option<&Header> = None;
        let mut at = self.first;
        // SAFETY: null or in the list, hence live.
        while let Some(object) = unsafe { at.as_ref() } {
            let found = object.state.load(Relaxed);
            object.state.store(state::QUEUED, Relaxed);
            if found & START != 0 {
                object.state.store(state::FIRST, Relaxed);
                start = Some(object);
            }
            if found & CROSSED != 0
                && let Some(start) = start
            {
                start.state.store(state::QUEUED, Relaxed);
            }
            at = object.next.load(Relaxed);
        }
    }

    fn pop(&mut self) -> Option<NonNull<Header>> {
        let first = NonNull::new(self.first)?;
        // SAFETY: in the queue, hence live.
        let next = unsafe { first.as_ref() }
            .next
            .swap(ptr::null_mut(), Relaxed);
        self.first = next;
        if next.is_null() {
            self.last = ptr::null_mut();
        }
        Some(first)
    }
}

// SAFETY: the objects of a list belong to the collector, whichever thread that is.
unsafe impl Send for List {}

static QUEUE: Locked<List> = Locked::new(List::new());

/// Takes the next object whose destructor is to run, in state `QUEUED` or `FIRST`, unless the program has made it `LIVE` again. The caller
/// makes it `DROPPED` and runs `drop`, and meanwhile holds the object.
///
/// **Blocking**: neither parks the goroutine nor blocks the thread.
///
/// # Safety
///
/// The caller is the finalizer: the destructor of what it takes will not run unless it runs it, and the memory goes all the same.
pub unsafe fn next_finalizable() -> Option<NonNull<Header>> {
    let next = busy(this_thread(), || QUEUE.with(List::pop));
    next.inspect(|_| stats::count_finalized())
}

/// The queue's lock, for `fork`.
pub(super) fn lock() -> &'static Lock {
    QUEUE.lock()
}

/// Whether there is one.
pub(super) fn has_queued() -> bool {
    busy(this_thread(), || QUEUE.with(|list| !list.first.is_null()))
}

/// The queue, as roots; the world is stopped.
pub(super) fn each_queued(show: &mut dyn FnMut(usize)) {
    let mut at = QUEUE.with(|list| list.first);
    // SAFETY: null or in the queue, hence live.
    while let Some(object) = unsafe { at.as_ref() } {
        show(at.addr());
        at = object.next.load(Relaxed);
    }
}

/// Queues the dead objects that have destructors, and marks what they reach. Returns the bytes it marked, and whether it queued any. Where memory
/// ran out, spans have overflowed.
pub(super) fn queue_dead() -> (usize, bool) {
    let mut search = Search {
        path: Path::new(),
        found: List::new(),
        marked: 0,
        number: 0,
    };
    for central in central::of_kind(Kind::Finalized) {
        central.each_swept(|span| {
            for word in 0..span.words() {
                let allocated = span.valid_bits(word) & !span.free[word].load(Relaxed);
                let mut dead = allocated & !span.mark[word].load(Relaxed);
                while dead != 0 {
                    let index = word * 64 + dead.trailing_zeros() as usize;
                    if header(span.address_of(index)).state.load(Relaxed) == state::LIVE {
                        search.from(span, index);
                    }
                    // The search may have marked others.
                    dead &= dead - 1;
                    dead &= !span.mark[word].load(Relaxed);
                }
            }
        });
    }
    search.found.settle();
    let has_any = !search.found.first.is_null();
    QUEUE.with(|list| list.append(search.found));
    (search.marked, has_any)
}

/// A search over dead objects.
struct Search {
    path: Path,
    /// In reverse post-order.
    found: List,
    marked: usize,
    /// How many starts there were.
    number: u32,
}

/// The state of an object while there are searches: found by the one of this number (modulo 2^24: a mistake costs a cycle) ...
const FOUND: u32 = 1 << 31;
const NUMBER: u32 = (1 << 24) - 1;
/// ... which began there ...
const START: u32 = 1 << 30;
/// ... and another came across it.
const CROSSED: u32 = 1 << 29;

/// An object on the path from where the search began to where it is.
#[derive(Clone, Copy)]
struct Step {
    /// Its address; 0: it has no destructor to be queued.
    object: usize,
    /// What is still to be scanned.
    at: usize,
    end: usize,
}

impl Search {
    fn from(&mut self, span: &Span, index: usize) {
        self.number = self.number.wrapping_add(1) & NUMBER;
        let found = FOUND | self.number;
        self.enter(span, index, found | START);
        while let Some(step) = self.path.last() {
            match next_dead(step, found) {
                Some((span, index)) => self.enter(span, index, found),
                None => {
                    let object = step.object;
                    self.path.pop();
                    if object != 0 {
                        self.found.push_front(header(object));
                    }
                }
            }
        }
    }

    /// Marks an object and goes on from there.
    fn enter(&mut self, span: &Span, index: usize, found: u32) {
        if !span.set_mark(index) {
            return;
        }
        self.marked += span.size();
        let start = span.address_of(index);
        let kind = span.kind();
        if kind == Kind::NoScan {
            return;
        }
        let is_queued = kind == Kind::Finalized && header(start).take_live(found);
        let step = Step {
            object: if is_queued { start } else { 0 },
            at: start,
            end: start + span.size(),
        };
        if !self.path.push(step) {
            mark::overflow(span);
            if is_queued {
                self.found.push_front(header(start));
            }
        }
    }
}

/// Goes on with a step, to the next unmarked object that it leads to. What another search has found is crossed.
fn next_dead(step: &mut Step, found: u32) -> Option<(&'static Span, usize)> {
    while step.at < step.end {
        // SAFETY: a word of an allocated object; the world stands.
        let word = unsafe { &*ptr::with_exposed_provenance::<AtomicUsize>(step.at) }.load(Relaxed);
        step.at += size_of::<usize>();
        if let Some(span) = arena::span_of(word)
            && let Some(index) = candidate(span, word)
        {
            if !span.is_marked(index) {
                return Some((span, index));
            }
            if span.kind() == Kind::Finalized {
                let state = &header(span.address_of(index)).state;
                let now = state.load(Relaxed);
                if now & FOUND != 0 && (now ^ found) & NUMBER != 0 {
                    state.store(now | CROSSED, Relaxed);
                }
            }
        }
    }
    None
}

/// A stack in memory of its own, which grows as long as the kernel gives some.
struct Path {
    steps: *mut Step,
    len: usize,
    capacity: usize,
    limit: usize,
}

impl Path {
    /// Room for so many at first: 96 KiB.
    const FIRST: usize = 4096;

    fn new() -> Self {
        Self {
            steps: ptr::null_mut(),
            len: 0,
            capacity: 0,
            limit: config::mark_stack_limit().unwrap_or(usize::MAX),
        }
    }

    fn last(&mut self) -> Option<&mut Step> {
        let last = self.len.checked_sub(1)?;
        // SAFETY: below `len`, hence inside the mapping and written.
        Some(unsafe { &mut *self.steps.wrapping_add(last) })
    }

    fn pop(&mut self) {
        self.len -= 1;
    }

    fn push(&mut self, step: Step) -> bool {
        if self.len >= self.limit || (self.len == self.capacity && !self.grow()) {
            return false;
        }
        // SAFETY: below the capacity.
        unsafe { self.steps.wrapping_add(self.len).write(step) };
        self.len += 1;
        true
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let bytes = self.capacity * size_of::<Step>();
        if bytes == 0 {
            let Some(at) = crate::meta::map(Self::FIRST * size_of::<Step>()) else {
                return false;
            };
            self.steps = at.cast().as_ptr();
            self.capacity = Self::FIRST;
            return true;
        }
        // SAFETY: the whole of our mapping; nothing points into it.
        let at = unsafe { raddle_race::sys::remap(self.steps.cast(), bytes, 2 * bytes) };
        if at == libc::MAP_FAILED {
            return false;
        }
        self.steps = at.cast();
        self.capacity *= 2;
        true
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: our mapping, used no more.
            unsafe {
                raddle_race::sys::unmap(self.steps.cast(), self.capacity * size_of::<Step>())
            };
        }
    }
}
