//! Sweeping: dead objects back to the free bits, span by span, while the program runs.
//!
//! # States
//!
//! After marking every collected span is Unswept. Whoever needs one takes it out of its list, in place Out: nobody
//! allocates in it, and nobody but the sweeper frees collected objects. Swept, it goes to its central list, or to the page heap.
//!
//! # Invariants
//!
//! 1. An unswept span has no object in a magazine: the collector emptied all, and refills come from swept spans only.
//! 2. `LEFT` is the number of spans that are in an unswept list or being swept. The next cycle begins when it is 0, so a mark is of the
//!    cycle whose bits it is in.
//! 3. The detector hears of a dead object before its place can be taken again, and outside busy sections.
//!
//! # Memory ordering
//!
//! `sweep: fetch_sub Release LEFT` ⇄ `finish: load Acquire LEFT`: the marks are clear before the next cycle sets any.
//!
//! # Blocking
//!
//! Neither parks nor blocks, but for the central's lock; [`finish`] blocks the collector's thread.

use super::object::{COLLECTED, Kind};
use super::{config, stats};
use crate::class::LARGE;
use crate::futex;
use crate::span::{Place, Span, WORDS};
use crate::thread::{busy, this_thread};
use crate::{arena, central, pages};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};

static LEFT: AtomicU32 = AtomicU32::new(0);
/// A fork lost spans that other threads were sweeping.
static LOST: AtomicBool = AtomicBool::new(false);
/// Where [`sweep_some`] goes on, among the collected centrals.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Marking is over: all collected spans are to be swept. With the world stopped.
pub(super) fn begin() {
    let spans: usize = central::collected()
        .map(|central| central.all_unswept())
        .sum();
    LEFT.store(u32::try_from(spans).unwrap_or(u32::MAX), Release);
    if LOST.load(Relaxed) {
        clear_lost();
    }
}

/// Sweeps what is left, and waits for those who are at it. The collector's thread, before it stops the world.
pub(super) fn finish() {
    for central in central::collected() {
        while let Some(span) = next(central) {
            sweep(span);
        }
    }
    loop {
        let left = LEFT.load(Acquire); // pairs with sweep: the marks
        if left == 0 {
            return;
        }
        futex::wait(&LEFT, left, None);
    }
}

/// In a child of `fork`: the spans that other threads were sweeping are lost, since nobody will. Their marks must not be taken for those of a
/// later cycle. With all locks held, and no other thread.
pub(crate) fn after_fork() {
    if LEFT.load(Relaxed) == 0 {
        return;
    }
    let listed: usize = central::collected()
        // SAFETY: the lock is held by the caller of the handler, and nobody else is there.
        .map(|central| unsafe { central.count_unswept() })
        .sum();
    if LEFT.swap(listed as u32, Relaxed) == listed as u32 {
        return;
    }
    LOST.store(true, Relaxed);
    clear_lost();
}

/// Clears the marks of spans that were lost at a fork: nobody sweeps them, and an object that looked marked would not be scanned.
fn clear_lost() {
    let spans = (0..arena::pages()).filter_map(arena::span_of_page);
    for span in spans.filter(|span| span.place() == Place::Out) {
        span.mark.iter().for_each(|word| word.store(0, Relaxed));
    }
}

fn next(central: &central::Central) -> Option<&'static Span> {
    busy(this_thread(), || central.next_unswept())
}

/// Sweeps at most `spans` spans. Returns whether there may be more to do.
///
/// **Blocking**: neither parks the goroutine nor blocks the thread; some microseconds for each span.
pub fn sweep_some(spans: usize) -> bool {
    let mut to_do = spans;
    let centrals = central::collected().count();
    while to_do > 0 && LEFT.load(Relaxed) > 0 {
        let from = NEXT.load(Relaxed);
        let found = (from..from + centrals).find_map(|i| {
            let i = i % centrals;
            Some((i, next(central::collected().nth(i)?)?))
        });
        let Some((i, span)) = found else { return false };
        NEXT.store(i, Relaxed);
        sweep(span);
        to_do -= 1;
    }
    LEFT.load(Relaxed) > 0
}

/// Sweeps spans of large objects, until `size` bytes came free or all are swept.
pub(crate) fn make_room(size: usize) {
    let mut freed = 0;
    for kind in COLLECTED {
        while freed < size
            && LEFT.load(Relaxed) > 0
            && let Some(span) = next(central::of(kind, LARGE))
        {
            freed += sweep(span);
        }
    }
}

/// Frees the dead objects of a span in place Out, and gives it to its central or to the page heap. Returns the bytes freed.
///
/// To be called outside busy sections, and only for a span that came from an unswept list.
pub(crate) fn sweep(span: &'static Span) -> usize {
    let started = crate::now_ns();
    let mut dead = [0; WORDS];
    let mut objects = 0;
    let words = span.words();
    for (word, dead) in dead[..words].iter_mut().enumerate() {
        let allocated = span.valid_bits(word) & !span.free[word].load(Relaxed);
        *dead = allocated & !span.mark[word].load(Relaxed);
        objects += dead.count_ones() as usize;
    }
    if raddle_race::enabled() || config::poisons() {
        for (word, &dead) in dead[..words].iter().enumerate() {
            each_bit(dead, |bit| bury(span, word * 64 + bit));
        }
    }
    let bytes = objects * span.size();
    busy(this_thread(), || {
        for (word, &dead) in dead[..words].iter().enumerate() {
            span.mark[word].store(0, Relaxed);
            if dead != 0 {
                let _ = span.give(word, dead);
            }
        }
        let spare = central::of(span.kind(), span.class()).put(span, false);
        let now = crate::now_ns();
        if let Some(span) = spare {
            pages::give(span, now);
        }
        stats::count_swept(objects, bytes, now - started);
        if LEFT.fetch_sub(1, Release) == 1 {
            futex::wake(&LEFT, 1);
        }
    });
    bytes
}

/// What becomes of a dead object's memory besides being free.
fn bury(span: &Span, index: usize) {
    let (start, size) = (span.address_of(index), span.size());
    if raddle_race::enabled() {
        raddle_race::swept(start, size);
    }
    if config::poisons() {
        // SAFETY: dead: nobody uses it, and its span is ours.
        unsafe { arena::pointer(start).write_bytes(config::POISON, size) };
    }
}

fn each_bit(mut bits: u64, mut f: impl FnMut(usize)) {
    while bits != 0 {
        f(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

const _: () = assert!(
    Kind::Manual as usize == 0,
    "collected kinds follow the manual one"
);
