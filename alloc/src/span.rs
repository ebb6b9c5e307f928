//! A span: a run of pages, cut into objects of one size and kind, or free.
//!
//! # States
//!
//! | `place` | where it is | who may change it |
//! | --- | --- | --- |
//! | Idle | in the page heap, free | the page heap, under its lock |
//! | Out | with one thread, which makes, sweeps or frees it | that thread |
//! | Partial | in its central list: may have free objects | the central lock's holder |
//! | Full | has no free object; of a collected kind: in the list of full spans | the central lock's holder |
//! | Unswept | of a collected kind: not looked at since the last marking | the central lock's holder |
//!
//! | bit in `free` | object |
//! | --- | --- |
//! | 1 | free |
//! | 0 | allocated, or in a magazine; behind the last object |
//!
//! # Invariants
//!
//! 1. A `Span` is never unmapped, but recycled; all its fields are atomic. Who looks one up by an address must hold a live
//!    object there, or stop at what it reads (the collector, reports).
//! 2. Bits of `free` are cleared under the central lock of the span's kind and class only; anyone may set those of objects that it owns.
//! 3. `free_count` is at most the number of bits set: they are set before it is added to, and it is subtracted from before they
//!    are cleared. So when it is `objects`, every object is free, and nobody will touch the bits again. It can be below zero for
//!    a moment, modulo 2^32: when a bit that was set is taken before its setter has counted it.
//! 4. `start`, `pages`, `kind`, `class` and what follows from them change in places Idle and Out only.
//!
//! # Memory ordering
//!
//! `give: fetch_or SeqCst free, load SeqCst place` ⇄ `central: store SeqCst place, load SeqCst free`: either the freer sees that
//! the span left the list and puts it back, or the one that took it off sees the bit. The object's memory goes from the freer to the next
//! owner by the same words. The models below check this.

use crate::class::{self, LARGE, MAX_OBJECTS, PAGE};
use crate::gc::Kind;
use crate::meta::Pooled;
use crate::sync::{AtomicU8, AtomicU32, AtomicU64, in_seqcst_order};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};

/// Words of bits.
pub(crate) const WORDS: usize = MAX_OBJECTS / 64;

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Place {
    Idle = 0,
    Out = 1,
    Partial = 2,
    Full = 3,
    Unswept = 4,
}

/// See the module's head.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Span {
    /// The next in whatever list it is in. Under that list's lock.
    pub(crate) next: AtomicPtr<Span>,
    pub(crate) previous: AtomicPtr<Span>,
    start: AtomicUsize,
    /// Bytes of an object.
    size: AtomicUsize,
    magic: AtomicU64,
    pages: AtomicU32,
    objects: AtomicU32,
    free_count: AtomicU32,
    class: AtomicU8,
    kind: AtomicU8,
    place: AtomicU8,
    /// Idle: its memory reads as zeros. Out, large: it did when it was taken.
    pub(crate) is_zero: AtomicBool,
    /// Idle: when it became so, in nanoseconds.
    pub(crate) idle_since: AtomicU64,
    /// Where the next search for a free object begins. Under the central lock.
    hint: AtomicU32,
    /// The marker ran out of room: marked objects in here may not have been scanned.
    pub(crate) overflowed: AtomicBool,
    pub(crate) free: [AtomicU64; WORDS],
    pub(crate) mark: [AtomicU64; WORDS],
}

// SAFETY: atomics are valid when zero; `next` is the first word.
unsafe impl Pooled for Span {}

impl Span {
    pub(crate) fn start(&self) -> usize {
        self.start.load(Relaxed)
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages.load(Relaxed) as usize
    }

    /// The number of its first page.
    pub(crate) fn first_page(&self) -> usize {
        crate::arena::page_at(self.start())
    }

    /// Bytes of an object: of the whole span for a large one.
    pub(crate) fn size(&self) -> usize {
        self.size.load(Relaxed)
    }

    pub(crate) fn objects(&self) -> usize {
        self.objects.load(Relaxed) as usize
    }

    pub(crate) fn class(&self) -> usize {
        usize::from(self.class.load(Relaxed))
    }

    pub(crate) fn is_large(&self) -> bool {
        self.class() == LARGE
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.kind.load(Relaxed) {
            1 => Kind::Scan,
            2 => Kind::NoScan,
            3 => Kind::Finalized,
            _ => Kind::Manual,
        }
    }

    pub(crate) fn place(&self) -> Place {
        match self.place.load(SeqCst) {
            1 => Place::Out,
            2 => Place::Partial,
            3 => Place::Full,
            4 => Place::Unswept,
            _ => Place::Idle,
        }
    }

    pub(crate) fn set_place(&self, place: Place) {
        self.place.store(place as u8, SeqCst);
        in_seqcst_order();
    }

    /// Makes it cover these pages, in place Idle or Out.
    pub(crate) fn set_range(&self, start: usize, pages: usize) {
        self.start.store(start, Relaxed);
        self.pages.store(pages as u32, Relaxed);
    }

    /// Cuts it, in place Out, into objects of `class`, all free; [`LARGE`]: into one, allocated.
    pub(crate) fn cut(&self, class: usize, kind: Kind) {
        let (size, objects, magic) = match class::TABLE.get(class) {
            Some(c) => (c.size as usize, c.objects as usize, c.magic),
            // Every offset is in object 0.
            None => (self.pages() * PAGE, 1, 0),
        };
        self.size.store(size, Relaxed);
        self.objects.store(objects as u32, Relaxed);
        self.magic.store(magic, Relaxed);
        self.class.store(class as u8, Relaxed);
        self.kind.store(kind as u8, Relaxed);
        self.hint.store(0, Relaxed);
        self.overflowed.store(false, Relaxed);
        let free = if class == LARGE { 0 } else { objects };
        for (i, (free_word, mark)) in self.free.iter().zip(&self.mark).enumerate() {
            free_word.store(first_bits(free.saturating_sub(64 * i)), Relaxed);
            mark.store(0, Relaxed);
        }
        self.free_count.store(free as u32, Relaxed);
    }

    /// The bits of `word` that stand for objects.
    pub(crate) fn valid_bits(&self, word: usize) -> u64 {
        first_bits(self.objects().saturating_sub(64 * word))
    }

    /// Words that have any.
    pub(crate) fn words(&self) -> usize {
        self.objects().div_ceil(64)
    }

    /// The index of the object around an address in the span; the tail behind the last gives [`objects`](Self::objects) or more.
    #[inline]
    pub(crate) fn index_of(&self, addr: usize) -> usize {
        // Wrapping: who has no object there may meet a span that has moved meanwhile (invariant 1).
        let offset = addr.wrapping_sub(self.start()) as u64;
        // A large span's magic is 0, so its offsets, which may be beyond 2^20, give 0.
        (offset.wrapping_mul(self.magic.load(Relaxed)) >> 40) as usize
    }

    /// The address of object `index`.
    #[inline]
    pub(crate) fn address_of(&self, index: usize) -> usize {
        self.start() + index * self.size()
    }

    /// Whether the object is allocated, as far as magazines are empty.
    pub(crate) fn is_allocated(&self, index: usize) -> bool {
        index < self.objects() && self.free[index / 64].load(Relaxed) & (1 << (index % 64)) == 0
    }

    /// Frees the objects of `bits`, which the caller owns. Returns whether all of the span is free now.
    ///
    /// Ends the process on a double free.
    pub(crate) fn give(&self, word: usize, bits: u64) -> bool {
        let before = self.free[word].fetch_or(bits, SeqCst);
        in_seqcst_order();
        if before & bits != 0 {
            let index = word * 64 + (before & bits).trailing_zeros() as usize;
            double_free(self.address_of(index));
        }
        self.count_free(bits.count_ones())
    }

    /// Counts objects whose bits were set. Returns whether all of the span is free now.
    fn count_free(&self, objects: u32) -> bool {
        let before = self.free_count.fetch_add(objects, AcqRel);
        // Wrapping: by invariant 3 it may have been below zero.
        before.wrapping_add(objects) == self.objects() as u32
    }

    /// Whether all of it is free. To be called under the central lock.
    pub(crate) fn is_all_free(&self) -> bool {
        self.free_count.load(Acquire) == self.objects() as u32
    }

    /// Whether any object is free.
    pub(crate) fn has_free(&self) -> bool {
        self.free[..self.words()]
            .iter()
            .any(|word| word.load(SeqCst) != 0)
    }

    /// Takes free objects of one word, as many as `out` has room for: writes their addresses, the lowest last. Returns how
    /// many; 0: the span has none. Under the central lock.
    pub(crate) fn take(&self, out: &mut [usize]) -> usize {
        let words = self.words();
        let hint = self.hint.load(Relaxed) as usize;
        let Some(word) = (0..words)
            .map(|i| (hint + i) % words)
            .find(|&word| self.free[word].load(Relaxed) != 0)
        else {
            return 0;
        };
        self.hint.store(word as u32, Relaxed);
        // Only we clear bits (invariant 2), so those seen stay set.
        let free = self.free[word].load(Relaxed);
        let n = (free.count_ones() as usize).min(out.len());
        let (start, size) = (self.address_of(word * 64), self.size());
        let mut left = free;
        for place in out[..n].iter_mut().rev() {
            *place = start + left.trailing_zeros() as usize * size;
            left &= left - 1;
        }
        self.free_count.fetch_sub(n as u32, Relaxed);
        self.free[word].fetch_and(!(free ^ left), AcqRel); // with give: the objects' memory
        n
    }

    /// Marks the object. True if it was not marked.
    #[inline]
    pub(crate) fn set_mark(&self, index: usize) -> bool {
        let (word, bit) = (&self.mark[index / 64], 1 << (index % 64));
        word.load(Relaxed) & bit == 0 && word.fetch_or(bit, Relaxed) & bit == 0
    }

    /// Whether the object is marked.
    pub(crate) fn is_marked(&self, index: usize) -> bool {
        self.mark[index / 64].load(Relaxed) & (1 << (index % 64)) != 0
    }
}

/// The lowest `n` bits; all, if there are more.
fn first_bits(n: usize) -> u64 {
    if n >= 64 { !0 } else { (1 << n) - 1 }
}

#[cold]
fn double_free(addr: usize) -> ! {
    crate::fatal_at("an object was freed twice, at ", addr)
}

/// A list of spans, linked by their own fields. Its owner's lock guards both.
#[derive(Debug)]
pub(crate) struct List {
    head: *const Span,
    tail: *const Span,
}

// SAFETY: spans are never unmapped, and the links are their list's owner's.
unsafe impl Send for List {}

impl List {
    pub(crate) const fn new() -> Self {
        Self {
            head: ptr::null(),
            tail: ptr::null(),
        }
    }

    pub(crate) fn first(&self) -> Option<&'static Span> {
        // SAFETY: null, or a span that was pushed; spans are never unmapped.
        unsafe { self.head.as_ref() }
    }

    pub(crate) fn push_front(&mut self, span: &'static Span) {
        span.previous.store(ptr::null_mut(), Relaxed);
        span.next.store(self.head.cast_mut(), Relaxed);
        match self.first() {
            Some(first) => first
                .previous
                .store(ptr::from_ref(span).cast_mut(), Relaxed),
            None => self.tail = span,
        }
        self.head = span;
    }

    pub(crate) fn remove(&mut self, span: &Span) {
        let (next, previous) = (span.next.load(Relaxed), span.previous.load(Relaxed));
        // SAFETY: null, or the neighbour in this list.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.next.store(next, Relaxed),
            None => self.head = next,
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            Some(next) => next.previous.store(previous, Relaxed),
            None => self.tail = previous,
        }
    }

    pub(crate) fn pop(&mut self) -> Option<&'static Span> {
        let first = self.first()?;
        self.remove(first);
        Some(first)
    }

    /// Moves all of `other` behind its own.
    pub(crate) fn append(&mut self, other: &mut List) {
        let other = std::mem::replace(other, List::new());
        let Some(first) = other.first() else { return };
        // SAFETY: null, or a span of this list.
        match unsafe { self.tail.as_ref() } {
            Some(tail) => {
                tail.next.store(other.head.cast_mut(), Relaxed);
                first.previous.store(self.tail.cast_mut(), Relaxed);
            }
            None => self.head = other.head,
        }
        self.tail = other.tail;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static Span> + use<> {
        // SAFETY: null, or the next in the list.
        std::iter::successors(self.first(), |span| unsafe {
            span.next.load(Relaxed).as_ref()
        })
    }
}

#[cfg(test)]
impl Span {
    /// A manual span of two objects, both allocated.
    fn model() -> Span {
        Span {
            next: AtomicPtr::new(ptr::null_mut()),
            previous: AtomicPtr::new(ptr::null_mut()),
            start: AtomicUsize::new(0),
            size: AtomicUsize::new(8),
            magic: AtomicU64::new(class::magic(8)),
            pages: AtomicU32::new(1),
            objects: AtomicU32::new(2),
            free_count: AtomicU32::new(0),
            class: AtomicU8::new(0),
            kind: AtomicU8::new(0),
            place: AtomicU8::new(Place::Partial as u8),
            is_zero: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            hint: AtomicU32::new(0),
            overflowed: AtomicBool::new(false),
            free: std::array::from_fn(|_| AtomicU64::new(0)),
            mark: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The steps of [`Span::give`], with a taker between them that has seen the bit and not the count.
    #[test]
    fn an_object_may_be_taken_before_it_was_counted_as_free() {
        let span = Span::model();
        span.free[0].fetch_or(1, SeqCst);
        assert_eq!(span.take(&mut [0; 2]), 1);
        assert!(!span.is_all_free());
        assert!(!span.count_free(1));
        assert!(!span.is_all_free() && !span.has_free());
        assert!(!span.give(0, 0b10) && span.give(0, 0b01));
        assert!(span.is_all_free());
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::{Arc, Mutex};

    /// A span, and whether it is in the central list, under the list's lock.
    struct Central(Span, Mutex<bool>);

    // SAFETY: as a span's.
    unsafe impl Sync for Central {}
    // SAFETY: as above.
    unsafe impl Send for Central {}

    impl Central {
        /// `central::give`, for one object; returns whether it was the last.
        fn give(&self, index: usize) -> bool {
            let all_free = self.0.give(0, 1 << index);
            if self.0.place() == Place::Full {
                let mut listed = self.1.lock().unwrap();
                if self.0.place() == Place::Full && self.0.has_free() {
                    assert!(!*listed);
                    self.0.set_place(Place::Partial);
                    *listed = true;
                }
            }
            all_free
        }

        /// `Central::refill`, of a span that has nothing free at first.
        fn refill(&self) -> usize {
            let mut listed = self.1.lock().unwrap();
            let taken = self.0.take(&mut [0; 2]);
            if taken == 0 {
                self.0.set_place(Place::Full);
                *listed = self.0.has_free();
                if *listed {
                    self.0.set_place(Place::Partial);
                }
            }
            taken
        }
    }

    /// Whatever way a span leaves the list while its objects are freed, it is in the list at the end if any is free.
    #[test]
    fn a_span_with_free_objects_is_listed() {
        loom::model(|| {
            let central = Arc::new(Central(Span::model(), Mutex::new(true)));
            let freers: Vec<_> = (0..2)
                .map(|i| {
                    let central = central.clone();
                    loom::thread::spawn(move || central.give(i))
                })
                .collect();
            let taken = central.refill();
            let last = freers.into_iter().map(|f| f.join().unwrap());
            let last = last.filter(|last| *last).count();
            assert!(*central.1.lock().unwrap() || taken == 2);
            // One that comes last is told so, unless some were taken again before.
            assert!(last <= 1 && (taken > 0 || last == 1));
        });
    }
}
