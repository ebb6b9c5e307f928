//! The page heap: free runs of pages, found by size, merged with their neighbours, given back to the kernel when long idle.
//!
//! # States
//!
//! A free run is a [`Span`] in place Idle, in the bin of its length. The arena's table names it at its first and its last page, where its
//! neighbours look when they become free, and nothing in between. Its memory is resident or, with `is_zero`, untouched.
//!
//! # Invariants
//!
//! 1. All of this changes under the one lock. System calls are made outside it, with the run in question in place Out.
//! 2. Two neighbouring runs that are both Idle differ in `is_zero`. Resident runs serve first, so that a program's memory does not creep
//!    over all that is mapped; only when neither sort has a run that is long enough are unlike neighbours merged too.
//!
//! # Bins
//!
//! Lengths below 8 pages have a bin each, longer ones eight to a doubling, and a bit set says which bins have runs: a run that
//! is long enough is found in constant time, and is at most an eighth too long before it is split.
//!
//! # References
//!
//! M. Masmano et al., "TLSF: a new dynamic memory allocator for real-time systems" (two-level segregated fit); Go `runtime/mheap.go`.

use crate::arena;
use crate::class::{self, LARGE, PAGE};
use crate::futex::{Lock, Locked};
use crate::gc::{self, Kind};
use crate::meta::Pool;
use crate::span::{List, Place, Span};
use std::sync::atomic::{AtomicUsize, Ordering::*};

const BINS: usize = 256;
/// Runs of the request's own bin that are tried before a longer bin.
const TRIES: usize = 8;
/// Runs idle for so long are given back to the kernel.
const IDLE_NS: u64 = 1_000_000_000;
/// Objects of so many bytes are as if mapped on their own: too much to keep, their memory goes back at once.
const HUGE: usize = 32 << 20;
/// What one [`scavenge`] gives back at most, in bytes: some milliseconds.
const SCAVENGE_BYTES: usize = 16 << 20;
/// And how many runs it looks at under the lock.
const SCAVENGE_LOOKS: usize = 1024;

pub(crate) static SPANS: Pool<Span> = Pool::new();
static HEAP: Locked<Bins> = Locked::new(Bins {
    sorts: [const {
        Sort {
            lists: [const { List::new() }; BINS],
            occupied: [0; BINS / 64],
        }
    }; 2],
});
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static RELEASED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of spans in use.
pub(crate) fn in_use_bytes() -> usize {
    IN_USE.load(Relaxed)
}

/// Bytes of idle runs whose memory the kernel has, or was never touched.
pub(crate) fn released_bytes() -> usize {
    RELEASED.load(Relaxed)
}

/// The lock, for `fork`.
pub(crate) fn lock() -> &'static Lock {
    HEAP.lock()
}

/// Runs that are resident, and those that are zero.
struct Bins {
    sorts: [Sort; 2],
}

struct Sort {
    lists: [List; BINS],
    occupied: [u64; BINS / 64],
}

/// The bin of runs of `pages` pages.
fn bin_of(pages: usize) -> usize {
    if pages < 8 {
        return pages;
    }
    let log = pages.ilog2() as usize;
    8 + (log - 3) * 8 + ((pages >> (log - 3)) & 7)
}

/// The first bin all of whose runs have `pages` pages.
fn bin_above(pages: usize) -> usize {
    match pages {
        0..8 => pages,
        _ => bin_of(pages + (1 << (pages.ilog2() - 3)) - 1),
    }
}

impl Sort {
    fn push(&mut self, run: &'static Span) {
        let bin = bin_of(run.pages());
        self.lists[bin].push_front(run);
        self.occupied[bin / 64] |= 1 << (bin % 64);
    }

    fn remove(&mut self, run: &'static Span) {
        let bin = bin_of(run.pages());
        self.lists[bin].remove(run);
        if self.lists[bin].first().is_none() {
            self.occupied[bin / 64] &= !(1 << (bin % 64));
        }
    }

    fn find(&self, pages: usize) -> Option<&'static Span> {
        let own = bin_of(pages);
        let above = bin_above(pages);
        // A run of the arena's length has a bin: what has none does not exist.
        let own_list = self.lists.get(own)?;
        if own != above
            && let Some(run) = own_list.iter().take(TRIES).find(|run| run.pages() >= pages)
        {
            return Some(run);
        }
        let mut word = above / 64;
        let mut bits = self.occupied.get(word)? & (!0 << (above % 64));
        while bits == 0 {
            word += 1;
            bits = *self.occupied.get(word)?;
        }
        self.lists[word * 64 + bits.trailing_zeros() as usize].first()
    }
}

impl Bins {
    fn sort_of(&mut self, run: &Span) -> &mut Sort {
        &mut self.sorts[usize::from(run.is_zero.load(Relaxed))]
    }

    /// Puts a run in its bin, merged with idle neighbours of its sort, or of `any`.
    fn insert(&mut self, mut run: &'static Span, any: bool) {
        let fits = |run: &Span, other: &&'static Span| {
            let same = run.is_zero.load(Relaxed) == other.is_zero.load(Relaxed);
            other.place() == Place::Idle && (same || any)
        };
        if run.first_page() > 0
            && let Some(before) = arena::span_of_page(run.first_page() - 1)
            && fits(run, &before)
        {
            run = self.merge(before, run);
        }
        let end = run.first_page() + run.pages();
        if end < arena::pages()
            && let Some(after) = arena::span_of_page(end)
            && fits(run, &after)
        {
            run = self.merge(run, after);
        }
        run.set_place(Place::Idle);
        arena::set(run.first_page(), 1, run);
        arena::set(run.first_page() + run.pages() - 1, 1, run);
        self.sort_of(run).push(run);
        if run.is_zero.load(Relaxed) {
            RELEASED.fetch_add(run.pages() * PAGE, Relaxed);
        }
    }

    /// Takes an idle run out of its bin. Its neighbours cannot merge with it any more.
    fn remove(&mut self, run: &'static Span) {
        self.sort_of(run).remove(run);
        run.set_place(Place::Out);
        if run.is_zero.load(Relaxed) {
            RELEASED.fetch_sub(run.pages() * PAGE, Relaxed);
        }
    }

    /// One run of two neighbours, of which one is idle and in its bin.
    fn merge(&mut self, low: &'static Span, high: &'static Span) -> &'static Span {
        let (kept, gone) = if low.place() == Place::Idle {
            self.remove(low);
            (low, high)
        } else {
            self.remove(high);
            (low, high)
        };
        for run in [low, high] {
            arena::set(run.first_page(), 1, std::ptr::null());
            arena::set(run.first_page() + run.pages() - 1, 1, std::ptr::null());
        }
        let zero = low.is_zero.load(Relaxed) && high.is_zero.load(Relaxed);
        kept.is_zero.store(zero, Relaxed);
        let since = low
            .idle_since
            .load(Relaxed)
            .max(high.idle_since.load(Relaxed));
        kept.idle_since.store(since, Relaxed);
        kept.set_range(low.start(), low.pages() + high.pages());
        gone.set_place(Place::Out);
        // SAFETY: in no list and no entry of the table.
        unsafe { SPANS.give(gone) };
        kept
    }

    /// A run of at least `pages` pages, still in its bin.
    fn find(&mut self, pages: usize) -> Option<&'static Span> {
        let found = self.sorts.iter().find_map(|sort| sort.find(pages));
        if found.is_some() || !self.merge_unlike() {
            return found;
        }
        self.sorts.iter().find_map(|sort| sort.find(pages))
    }

    /// Merges zero runs with resident neighbours. Returns whether there were any zero ones.
    #[cold]
    fn merge_unlike(&mut self) -> bool {
        let mut zero = List::new();
        for bin in 0..BINS {
            while let Some(run) = self.sorts[1].lists[bin].first() {
                self.remove(run);
                zero.push_front(run);
            }
        }
        let any = zero.first().is_some();
        while let Some(run) = zero.pop() {
            self.insert(run, true);
        }
        any
    }

    /// Cuts `pages` pages off the low end of a run in place Out; the rest becomes idle, if it can be described.
    fn split(&mut self, run: &'static Span, pages: usize) {
        let rest = run.pages() - pages;
        if rest == 0 {
            return;
        }
        let Some(high) = SPANS.take() else { return };
        high.set_range(run.start() + pages * PAGE, rest);
        high.is_zero.store(run.is_zero.load(Relaxed), Relaxed);
        high.idle_since.store(run.idle_since.load(Relaxed), Relaxed);
        high.set_place(Place::Out);
        run.set_range(run.start(), pages);
        self.insert(high, false);
    }

    /// Takes `pages` pages at a multiple of `align` pages.
    fn take(&mut self, pages: usize, align: usize) -> Option<&'static Span> {
        let wanted = pages.checked_add(align - 1)?;
        let run = match self.find(wanted) {
            Some(run) => run,
            None => {
                self.grow(wanted)?;
                self.find(wanted)?
            }
        };
        self.remove(run);
        // Of the address: the arena begins at no multiple of the largest alignments.
        let first = run.start() / PAGE;
        let front = first.next_multiple_of(align) - first;
        if front == 0 {
            self.split(run, pages);
            return Some(run);
        }
        let Some(low) = SPANS.take() else {
            self.insert(run, false);
            return None;
        };
        low.set_range(run.start(), front);
        low.is_zero.store(run.is_zero.load(Relaxed), Relaxed);
        low.idle_since.store(run.idle_since.load(Relaxed), Relaxed);
        low.set_place(Place::Out);
        run.set_range(run.start() + front * PAGE, run.pages() - front);
        self.split(run, pages);
        self.insert(low, false);
        Some(run)
    }

    /// Maps more of the arena, as an idle run of at least `pages` pages.
    #[cold]
    fn grow(&mut self, pages: usize) -> Option<()> {
        let run = SPANS.take()?;
        let Some((start, bytes)) = arena::grow(pages.checked_mul(PAGE)?) else {
            // SAFETY: fresh from the pool.
            unsafe { SPANS.give(run) };
            return None;
        };
        run.set_range(start, bytes / PAGE);
        run.is_zero.store(true, Relaxed);
        run.idle_since.store(0, Relaxed);
        run.set_place(Place::Out);
        self.insert(run, false);
        Some(())
    }
}

/// Takes a span of `pages` pages at a multiple of `align` pages (a power of two), cut for `class` and `kind`, in place Out.
/// None: out of memory.
pub(crate) fn take(pages: usize, align: usize, class: usize, kind: Kind) -> Option<&'static Span> {
    let span = HEAP.with(|bins| bins.take(pages, align))?;
    span.cut(class, kind);
    if kind == Kind::Finalized && !span.is_zero.load(Relaxed) {
        gc::format((0..span.objects()).map(|index| span.address_of(index)));
    }
    arena::set(span.first_page(), span.pages(), span);
    IN_USE.fetch_add(span.pages() * PAGE, Relaxed);
    Some(span)
}

/// Takes a span for a class of small objects.
pub(crate) fn take_small(class: usize, kind: Kind) -> Option<&'static Span> {
    take(class::TABLE[class].pages as usize, 1, class, kind)
}

/// Gives a span back, in place Out, with nothing alive in it.
pub(crate) fn give(span: &'static Span, now_ns: u64) {
    let bytes = span.pages() * PAGE;
    IN_USE.fetch_sub(bytes, Relaxed);
    arena::set(span.first_page(), span.pages(), std::ptr::null());
    let huge = bytes >= HUGE;
    let is_zero = huge && arena::release(span.start(), bytes);
    span.is_zero.store(is_zero, Relaxed);
    span.idle_since.store(now_ns, Relaxed);
    HEAP.with(|bins| bins.insert(span, false));
}

/// Makes a large span longer, to `pages` pages, if what lies behind it is free. Returns whether it did.
pub(crate) fn extend(span: &'static Span, pages: usize) -> bool {
    debug_assert!(span.is_large());
    let (before, first) = (span.pages(), span.first_page());
    let end = first + before;
    let done = HEAP.with(|bins| {
        let more = pages - before;
        if end == arena::pages() && bins.grow(more).is_none() {
            return false;
        }
        let next = (end < arena::pages())
            .then(|| arena::span_of_page(end))
            .flatten();
        let Some(next) = next.filter(|n| n.place() == Place::Idle && n.pages() >= more) else {
            return false;
        };
        bins.remove(next);
        bins.split(next, more);
        let taken = next.pages();
        arena::set(end, taken, span);
        span.set_range(span.start(), before + taken);
        // SAFETY: in no list, and the table names `span` for its pages.
        unsafe { SPANS.give(next) };
        true
    });
    if done {
        span.cut(LARGE, span.kind());
        IN_USE.fetch_add((span.pages() - before) * PAGE, Relaxed);
    }
    done
}

/// Makes a large span shorter.
pub(crate) fn shrink(span: &'static Span, pages: usize, now_ns: u64) {
    debug_assert!(span.is_large() && pages < span.pages());
    let Some(tail) = SPANS.take() else { return };
    tail.set_range(span.start() + pages * PAGE, span.pages() - pages);
    tail.set_place(Place::Out);
    span.set_range(span.start(), pages);
    span.cut(LARGE, span.kind());
    give(tail, now_ns);
}

/// Gives memory back to the kernel that has been idle for a second: some MiB at a time. Returns whether there is more to do, now or later.
///
/// Called about ten times a second.
pub(crate) fn scavenge(now_ns: u64) -> bool {
    let mut left = SCAVENGE_BYTES;
    loop {
        let mut waiting = false;
        let run = HEAP.with(|bins| {
            let longest_first = bins.sorts[0].lists.iter().rev().flat_map(List::iter);
            let run = longest_first.take(SCAVENGE_LOOKS).find(|run| {
                let due = now_ns.saturating_sub(run.idle_since.load(Relaxed)) >= IDLE_NS;
                waiting |= !due;
                due
            });
            run.inspect(|run| bins.remove(run))
        });
        let Some(run) = run else { return waiting };
        let bytes = run.pages() * PAGE;
        let is_zero = arena::release(run.start(), bytes);
        run.is_zero.store(is_zero, Relaxed);
        // Locked memory stays: not to be tried again at once.
        run.idle_since.store(now_ns, Relaxed);
        HEAP.with(|bins| bins.insert(run, false));
        if bytes >= left {
            return true;
        }
        left -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_above_has_only_runs_that_are_long_enough() {
        for pages in 1..100_000usize {
            let above = bin_above(pages);
            assert!(bin_of(pages) <= above && above <= bin_of(pages) + 1);
            if bin_of(pages) == above {
                assert!(pages == 1 || bin_of(pages - 1) < above);
            }
        }
        assert!(bin_of(1 << 28) < BINS);
    }

    /// A child of `fork` may find any of them taken by a thread that is not there.
    #[test]
    fn places_for_objects_with_destructors_have_no_values() {
        use crate::gc::{Header, state};
        const _: () = assert!(state::INITIALISING == 0, "as fresh memory reads");
        const PAGES: usize = 3;
        let class = class::of_size(64);
        let used = take(PAGES, 1, LARGE, Kind::Manual).unwrap();
        let words = arena::pointer(used.start()).cast::<u32>();
        for i in 0..PAGES * PAGE / size_of::<u32>() {
            // SAFETY: in the span, which nobody else has.
            unsafe { words.wrapping_add(i).write(state::LIVE) };
        }
        let start = used.start();
        give(used, 1);
        // Those that are recycled, that span's among them, and fresh ones.
        let spans: Vec<_> = (0..2000)
            .map(|_| take(1, 1, class, Kind::Finalized).unwrap())
            .collect();
        assert!(spans.iter().any(|span| span.start() == start));
        for span in spans {
            for place in (0..span.objects()).map(|i| span.address_of(i)) {
                // SAFETY: a place of the kind.
                let state = unsafe { &(*arena::pointer(place).cast::<Header>()).state };
                assert_eq!(state.load(Relaxed), state::INITIALISING);
            }
            give(span, 1);
        }
    }

    #[test]
    fn runs_are_split_and_merged_again() {
        let spans: Vec<_> = (1..50)
            .map(|i| take(i, 1, LARGE, Kind::Manual).unwrap())
            .collect();
        for (i, span) in spans.iter().enumerate() {
            assert_eq!(span.pages(), i + 1);
            for page in 0..span.pages() {
                let at = span.start() + page * PAGE + 17;
                assert!(std::ptr::eq(arena::span_of(at).unwrap(), *span));
            }
        }
        let (even, odd): (Vec<_>, Vec<_>) = spans.iter().partition(|s| s.pages() % 2 == 0);
        let ends: Vec<_> = spans.iter().map(|s| s.start() + 1).collect();
        even.into_iter().chain(odd).for_each(|span| give(span, 1));
        let gone = |at: &usize| arena::span_of(*at).is_none_or(|s| s.place() == Place::Idle);
        assert!(ends.iter().all(gone));
        let again = take(1000, 64, LARGE, Kind::Manual).unwrap();
        assert_eq!(again.first_page() % 64, 0);
        assert!(!extend(again, 1 << 40));
        shrink(again, 10, 1);
        assert!(extend(again, 900));
        assert_eq!(again.size(), again.pages() * PAGE);
        give(again, 1);
    }
}
