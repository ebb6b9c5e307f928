//! Litmus tests: small programs whose verdict the language's memory model gives, fences above all.
//!
//! Two or three goroutines on one OS thread; the order of the calls is the interleaving, each load reads the latest store.

use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

use crate::atomic::load_known;
use crate::ctx::GoCtx;
use crate::goroutine::{go_end, go_start};
use crate::testing::{self, fresh_memory, fresh_pc, on, take_races};
use crate::{AtomicOp, atomic, clock, slot};

struct Scene {
    goroutines: Vec<GoCtx>,
    memory: usize,
    _detector: testing::Detector,
}

impl Scene {
    fn new() -> Scene {
        let _detector = testing::detector();
        let main = go_start(None, 1, fresh_pc());
        let others = (2..5).map(|id| on(main, || go_start(Some(main), id, fresh_pc())));
        let goroutines = others.chain([main]).collect();
        Scene {
            goroutines,
            memory: fresh_memory(256),
            _detector,
        }
    }
    fn data(&self) -> usize {
        self.memory
    }
    fn flag(&self) -> usize {
        self.memory + 64
    }
    fn write(&self, g: usize) {
        on(self.goroutines[g], || {
            crate::write(self.data(), 8, fresh_pc())
        });
    }
    fn read(&self, g: usize) {
        on(self.goroutines[g], || {
            crate::read(self.data(), 8, fresh_pc())
        });
    }
    fn atomic(&self, g: usize, op: AtomicOp, wrote: bool) {
        on(self.goroutines[g], || {
            atomic(self.flag(), 4, op, fresh_pc(), &mut || wrote)
        });
    }
    /// As compiled code does it: says whether it took the short way.
    fn load(&self, g: usize, order: Ordering) -> bool {
        let at = self.flag();
        let is_known = on(self.goroutines[g], || {
            let c = self.goroutines[g].get();
            load_known(c, at, 4, order, fresh_pc(), || ()).is_some()
        });
        if !is_known {
            self.atomic(g, AtomicOp::Load(order), false);
        }
        is_known
    }
    fn store(&self, g: usize, order: Ordering) {
        self.atomic(g, AtomicOp::Store(order), true);
    }
    fn fence(&self, g: usize, order: Ordering) {
        on(self.goroutines[g], || crate::fence(order));
    }
    /// Whether the data, and the flag, raced.
    fn verdict(self) -> (bool, bool) {
        let races = take_races();
        for g in &self.goroutines {
            go_end(*g);
        }
        (races.contains(&self.data()), races.contains(&self.flag()))
    }
}

/// Message passing: write, store | load, read.
fn message(store: Ordering, load: Ordering, fences: [Option<Ordering>; 2]) -> bool {
    let s = Scene::new();
    s.write(0);
    fences[0].inspect(|f| s.fence(0, *f));
    s.store(0, store);
    s.load(1, load);
    fences[1].inspect(|f| s.fence(1, *f));
    s.read(1);
    s.verdict().0
}

#[test]
fn message_passing_by_orders() {
    for (store, load, race) in [
        (Release, Acquire, false),
        (SeqCst, SeqCst, false),
        (Release, SeqCst, false),
        (Relaxed, Acquire, true),
        (Release, Relaxed, true),
        (Relaxed, Relaxed, true),
        (Relaxed, SeqCst, true),
    ] {
        assert_eq!(
            message(store, load, [None, None]),
            race,
            "{store:?} {load:?}"
        );
    }
}

#[test]
fn message_passing_by_fences() {
    for (store, load, fences, race) in [
        (Relaxed, Relaxed, [Some(Release), Some(Acquire)], false),
        (Relaxed, Relaxed, [Some(SeqCst), Some(SeqCst)], false),
        (Relaxed, Relaxed, [Some(AcqRel), Some(AcqRel)], false),
        (Relaxed, Acquire, [Some(Release), None], false),
        (Release, Relaxed, [None, Some(Acquire)], false),
        (Relaxed, Relaxed, [Some(Acquire), Some(Acquire)], true),
        (Relaxed, Relaxed, [Some(Release), Some(Release)], true),
        (Relaxed, Relaxed, [Some(Release), None], true),
        (Relaxed, Relaxed, [None, Some(Acquire)], true),
    ] {
        assert_eq!(
            message(store, load, fences),
            race,
            "{store:?} {load:?} {fences:?}"
        );
    }
}

#[test]
fn a_write_after_the_release_fence_is_not_published() {
    let s = Scene::new();
    s.fence(0, Release);
    s.write(0);
    s.store(0, Relaxed);
    s.load(1, Acquire);
    s.read(1);
    assert!(s.verdict().0);
}

#[test]
fn a_load_after_the_acquire_fence_gives_nothing() {
    let s = Scene::new();
    s.write(0);
    s.store(0, Release);
    s.fence(1, Acquire);
    s.load(1, Relaxed);
    s.read(1);
    assert!(s.verdict().0);
}

#[test]
fn what_spins_by_relaxed_loads_waits_for_nobody() {
    let s = Scene::new();
    s.store(0, Release);
    assert!(!s.load(1, Relaxed));
    assert!(s.load(1, Relaxed), "the same once more");
    assert!(!s.load(1, Acquire), "which is more than a fence would know");
    assert!(s.load(1, Acquire));
    s.write(0);
    s.store(0, Release);
    assert!(!s.load(1, Relaxed), "another store");
    assert!(s.load(1, Relaxed));
    s.fence(1, Acquire);
    s.read(1);
    assert!(!s.verdict().0);
}

#[test]
fn a_store_after_the_last_relaxed_load_is_not_seen() {
    let s = Scene::new();
    s.store(0, Release);
    s.load(1, Relaxed);
    s.load(1, Relaxed);
    s.write(0);
    s.store(0, Release);
    s.fence(1, Acquire);
    s.read(1);
    assert!(s.verdict().0);
}

#[test]
fn a_read_modify_write_carries_a_release_sequence_on() {
    let s = Scene::new();
    s.write(0);
    s.store(0, Release);
    s.atomic(1, AtomicOp::Rmw(Relaxed), true);
    s.load(2, Acquire);
    s.read(2);
    assert!(!s.verdict().0);
}

#[test]
fn a_plain_relaxed_store_ends_a_release_sequence() {
    // C++20: also one by the releasing goroutine itself.
    for storer in [0, 1] {
        let s = Scene::new();
        s.write(0);
        s.store(0, Release);
        s.store(storer, Relaxed);
        s.load(2, Acquire);
        s.read(2);
        assert!(s.verdict().0, "store by {storer}");
    }
}

#[test]
fn a_failed_compare_exchange_neither_releases_nor_acquires_beyond_its_failure_order() {
    let s = Scene::new();
    s.write(0);
    s.atomic(0, AtomicOp::CompareExchange(AcqRel, Relaxed), false);
    s.load(1, Acquire);
    s.read(1);
    assert!(s.verdict().0, "did not release");

    for (failure, race) in [(Relaxed, true), (Acquire, false)] {
        let s = Scene::new();
        s.write(0);
        s.store(0, Release);
        s.atomic(1, AtomicOp::CompareExchange(AcqRel, failure), false);
        s.read(1);
        assert_eq!(s.verdict().0, race, "{failure:?}");
    }
}

#[test]
fn plain_and_atomic_accesses_race_and_two_atomic_ones_never() {
    let s = Scene::new();
    s.store(0, Relaxed);
    s.store(1, Relaxed);
    s.load(2, Relaxed);
    assert!(!s.verdict().1);

    let s = Scene::new();
    s.store(0, SeqCst);
    on(s.goroutines[1], || crate::read(s.flag(), 4, fresh_pc()));
    assert!(s.verdict().1, "plain read with atomic write");

    let s = Scene::new();
    s.load(0, SeqCst);
    on(s.goroutines[1], || crate::read(s.flag(), 4, fresh_pc()));
    assert!(!s.verdict().1, "two reads");

    let s = Scene::new();
    s.load(0, SeqCst);
    on(s.goroutines[1], || crate::write(s.flag(), 4, fresh_pc()));
    assert!(s.verdict().1, "plain write with atomic read");
}

#[test]
fn the_initialising_write_is_ordered_before_the_load_that_acquires_it() {
    let s = Scene::new();
    on(s.goroutines[0], || crate::write(s.flag(), 4, fresh_pc()));
    s.store(0, Release);
    s.load(1, Acquire);
    assert!(!s.verdict().1);
}

#[test]
fn without_a_free_slot_synchronisation_counts_and_accesses_are_checked() {
    let s = Scene::new();
    let [a, b, c] = [s.goroutines[0], s.goroutines[1], s.goroutines[2]];
    crate::switch_in(a);
    crate::write(s.data(), 8, fresh_pc());
    slot::set_limit(0);
    // `b` gets no slot: its racing read is seen.
    on(b, || crate::read(s.data(), 8, fresh_pc()));
    assert_eq!(take_races(), [s.data()]);
    // An edge through `b` reaches `c`.
    let (free, lock) = (s.memory + 128, s.memory + 136);
    crate::set_current(a);
    crate::write(free, 8, fresh_pc());
    crate::release(lock);
    on(b, || {
        crate::acquire(lock);
        crate::release(lock);
    });
    slot::set_limit(clock::SLOTS);
    on(c, || {
        crate::acquire(lock);
        crate::write(free, 8, fresh_pc());
    });
    crate::switch_out(a);
    assert!(take_races().is_empty());
    s.verdict();
}

#[test]
fn a_worn_out_slot_is_retired_and_nothing_is_lost() {
    let s = Scene::new();
    slot::set_limit(slot::used() + 1);
    let fresh = slot::used();
    on(s.goroutines[0], || {
        crate::write(s.data(), 8, fresh_pc());
        // Whatever slot it has now, the next releases wear it out.
        slot::exhaust(s.goroutines[0].get());
        crate::write(s.data() + 8, 8, fresh_pc());
        crate::release(s.memory + 128);
        crate::write(s.data() + 16, 8, fresh_pc());
    });
    assert!(slot::used() <= fresh + 1);
    on(s.goroutines[1], || {
        crate::acquire(s.memory + 128);
        crate::read(s.data(), 8, fresh_pc());
        crate::read(s.data() + 8, 8, fresh_pc());
        assert!(take_races().is_empty(), "released");
        crate::read(s.data() + 16, 8, fresh_pc());
        assert_eq!(take_races(), [s.data() + 16]);
    });
    slot::set_limit(clock::SLOTS);
    s.verdict();
}
