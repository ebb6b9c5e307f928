//! Which destructors run, and in which order, against an exact account of random graphs.
//!
//! It has a `main` of its own, as `gc` has. Addresses are hidden from the collector, so that the test
//! decides what is reachable. There are no values: the test itself is the finalizer, and does what a
//! destructor may do.

mod world;

use raddle_alloc::Heap;
use raddle_alloc::gc::{self, Header, Kind, State, state};
use std::sync::atomic::{AtomicPtr, Ordering::*};
use world::{Hidden, Random, Roots, collect_all, new};

#[global_allocator]
static HEAP: Heap = Heap;

unsafe fn no_drop(_: *mut Header) {}

fn new_finalized(bytes: usize) -> Hidden {
    let object = new(size_of::<Header>() + bytes, Kind::Finalized);
    let header = Header {
        drop: no_drop,
        state: State::new(state::LIVE),
        len: 0,
        next: AtomicPtr::default(),
    };
    // SAFETY: fresh, and so large.
    unsafe { object.get().cast::<Header>().write(header) };
    object
}

/// The header of an object that is there.
fn header(object: Hidden) -> &'static Header {
    // SAFETY: the callers' objects are of the kind that has one.
    unsafe { &*object.get().cast::<Header>() }
}

fn state_of(object: Hidden) -> u32 {
    header(object).state.load(Relaxed)
}

fn next() -> Option<Hidden> {
    // SAFETY: the test is the finalizer.
    let next = unsafe { gc::next_to_drop() }?;
    let next = Hidden::new(next.as_ptr().cast());
    assert_eq!(state_of(next), state::DROPPED);
    Some(next)
}

/// Runs all destructors; in their order.
fn finalize() -> Vec<Hidden> {
    std::iter::from_fn(next).collect()
}

const VALUE: usize = size_of::<Header>() / 8;

/// Has one destructor save an object: the next cycle looks for those that come first.
fn save_one() {
    let [saver, saved] = [(); 2].map(|()| new_finalized(8));
    saver.set(VALUE, !saved.0);
    collect_all();
    assert_eq!(next(), Some(saver));
    assert!(gc::save(header(saved)));
    assert_eq!(next(), None);
    assert_eq!(state_of(saved), state::LIVE);
}

fn owners_are_finalised_before_what_they_own_and_freed_a_cycle_later() {
    for limit in [None, Some(100)] {
        gc::configure(gc::Config {
            mark_stack_limit: limit,
            ..world::POISONED
        });
        // A chain through plain objects, allocated in a mixed order.
        const N: usize = 20;
        let mut random = Random(77);
        let mut owners: Vec<_> = (0..N).map(|_| new_finalized(16)).collect();
        for i in (1..N).rev() {
            owners.swap(i, random.below(i + 1));
        }
        for i in 1..N {
            let between = new(32, Kind::Scan);
            owners[i - 1].set(VALUE + 1, !between.0);
            between.set(2, !owners[i].0);
        }
        let weak = Hidden::new(gc::weak_new(owners[3].get()).cast());
        let mut roots = Roots::new(2);
        roots.set(0, !owners[0].0);
        roots.set(1, !weak.0);
        collect_all();
        assert_eq!(finalize(), []);
        roots.set(0, 0);
        let before = gc::stats();
        collect_all();
        assert_eq!(gc::stats().objects_freed, before.objects_freed);
        // SAFETY: the root holds the cell.
        assert!(unsafe { gc::weak_get(weak.get().cast()) }.is_null());
        // Still queued: they stay, and are not queued twice.
        collect_all();
        assert!(owners.iter().all(|owner| owner.is_there()));
        assert_eq!(finalize(), owners);
        assert_eq!(gc::stats().finalized - before.finalized, N as u64);
        collect_all();
        assert_eq!(finalize(), []);
        assert!(!owners.iter().any(|owner| owner.is_there()));
        assert_eq!(
            gc::stats().objects_freed - before.objects_freed,
            2 * N as u64 - 1
        );
    }
}

fn cycles_are_finalised_once_each_whatever_the_memory() {
    for (limit, n) in [(None, 5000), (Some(1), 100), (Some(10), 100)] {
        gc::configure(gc::Config {
            mark_stack_limit: limit,
            ..world::POISONED
        });
        let mut random = Random(99);
        let all: Vec<_> = (0..n).map(|_| new_finalized(24)).collect();
        for object in &all {
            let plain = new(40, Kind::Scan);
            plain.set(4, !all[random.below(n)].0);
            object.set(VALUE, !plain.0);
            object.set(VALUE + 1, !all[random.below(n)].0 + 7);
        }
        let before = gc::stats().objects_freed;
        let mut order = Vec::new();
        let mut cycles = 0;
        while order.len() < n {
            collect_all();
            let more = finalize();
            // The first may learn that there is no memory.
            assert!(!more.is_empty() || cycles == 0, "every cycle gets on");
            assert!(limit.is_some() || more.len() == n);
            order.extend(more);
            cycles += 1;
        }
        order.sort_by_key(|object| object.0);
        order.dedup();
        assert_eq!(order.len(), n);
        collect_all();
        assert_eq!(gc::stats().objects_freed - before, 2 * n as u64);
    }
}

fn only_what_no_other_leads_to_is_first() {
    let is_first = |object: Hidden| match state_of(object) {
        state::FIRST => true,
        state::QUEUED => false,
        other => panic!("not queued but {other}"),
    };
    save_one();
    let [a, b, c, d, e, f, g, loner] = [(); 8].map(|()| new_finalized(8));
    // A chain, a ring, and two that share a third.
    let links = [(a, b), (c, d), (d, c), (e, f), (g, f)];
    for (from, to) in links {
        from.set(VALUE, !to.0);
    }
    // One that is reached through another's object, in either order of the search.
    let [h, i, k, l] = [(); 4].map(|()| new_finalized(16));
    for (owner, other) in [(h, i), (l, k)] {
        let shared = new(16, Kind::Scan);
        owner.set(VALUE, !shared.0);
        other.set(VALUE, !shared.0);
        shared.set(1, !other.0);
    }
    collect_all();
    for object in [a, e, g, loner, h, l] {
        assert!(is_first(object));
    }
    for object in [b, f, i, k] {
        assert!(!is_first(object));
    }
    assert!(is_first(c) != is_first(d));
    // And the one that was saved.
    assert_eq!(finalize().len(), 13);
    collect_all();
    assert_eq!(finalize(), []);
}

/// A depth-first search from `s` comes to `x` first, which leads back to where it came from.
fn an_object_comes_before_what_it_reaches_by_way_of_a_cycle() {
    let plain = new(24, Kind::Scan);
    let [s, x, z] = [(); 3].map(|()| new_finalized(8));
    for (from, word, to) in [
        (s, VALUE, plain),
        (plain, 0, x),
        (plain, 1, z),
        (x, VALUE, plain),
    ] {
        from.set(word, !to.0);
    }
    collect_all();
    assert_eq!(finalize(), [s, x, z]);
    collect_all();
    assert!(![s, x, z, plain].iter().any(|object| object.is_there()));
}

fn an_object_may_be_resurrected_and_one_without_a_value_just_goes() {
    let mut roots = Roots::new(1);
    let object = new_finalized(8);
    let child = new(16, Kind::Scan);
    object.set(VALUE, !child.0);
    collect_all();
    // The destructor stores its object.
    roots.set(0, !object.0);
    assert_eq!(finalize(), [object]);
    collect_all();
    assert!(object.is_there() && child.is_there());
    roots.set(0, 0);
    collect_all();
    assert_eq!(finalize(), []);
    assert!(!object.is_there() && !child.is_there());

    let bare = new(64, Kind::Finalized);
    collect_all();
    assert_eq!(finalize(), []);
    assert!(!bare.is_there());
}

/// An object of the model.
struct Node {
    at: Hidden,
    kind: Kind,
    words: usize,
    /// Word to node.
    edges: Vec<(usize, usize)>,
    /// Its destructor has run.
    dropped: bool,
    /// The last cycle that found it dead and `LIVE`.
    found: Option<usize>,
    /// Something that was saved since leads to it.
    saved: bool,
    /// It came to the queue, and may still be there, if it was saved.
    in_queue: bool,
}

/// What each object reaches, itself included.
type Reach = Vec<Vec<bool>>;

/// A graph, what destructors did to it, and what each cycle found.
struct Model {
    nodes: Vec<Node>,
    roots: Roots,
    rooted: [Option<usize>; ROOTS],
    /// Cells and their targets; a cell's root has the same place behind the others.
    weak: [Option<(Hidden, usize)>; ROOTS],
    cycles: Vec<Reach>,
    random: Random,
    /// What destructors do.
    style: Style,
    dropped: usize,
    /// Something was saved.
    saves: bool,
}

const ROOTS: usize = 6;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    /// Nothing with other objects.
    Alone,
    /// Follow all that they lead to.
    FollowAll,
    /// Walk about, store what they find, make weak pointers.
    Wild,
}

impl Model {
    fn new(seed: u64, n: usize, style: Style) -> Self {
        let mut random = Random(seed);
        // From lists to dense graphs, with any share of destructors.
        let degree = 1 + random.below(3);
        let (finalized, backwards) = (20 + random.below(60), random.below(40));
        let mut nodes: Vec<Node> = Vec::new();
        for _ in 0..n {
            let words = match random.below(40) {
                0 => 6000,
                _ => 2 + random.below(8),
            };
            let (kind, at) = match random.below(100) {
                p if p < finalized => (Kind::Finalized, new_finalized(words * 8)),
                p if p < 95 => (Kind::Scan, new(words * 8, Kind::Scan)),
                _ => (Kind::NoScan, new(words * 8, Kind::NoScan)),
            };
            nodes.push(Node {
                at,
                kind,
                words,
                edges: Vec::new(),
                dropped: false,
                found: None,
                saved: false,
                in_queue: false,
            });
        }
        // The order of the addresses tells nothing.
        for i in (1..n).rev() {
            nodes.swap(i, random.below(i + 1));
        }
        let mut model = Self {
            nodes,
            roots: Roots::new(2 * ROOTS),
            rooted: [None; ROOTS],
            weak: [None; ROOTS],
            cycles: Vec::new(),
            random,
            style,
            dropped: 0,
            saves: false,
        };
        for from in 0..n {
            for _ in 0..degree {
                let to = match model.random.below(100) {
                    p if p < backwards => model.random.below(n),
                    _ => (from + 1 + model.random.below(8)).min(n - 1),
                };
                model.link(from, to);
            }
        }
        model
    }

    fn link(&mut self, from: usize, to: usize) {
        let target = !self.nodes[to].at.0;
        let inside = self.random.below(self.nodes[to].words * 8);
        let word = self.random.below(self.nodes[from].words);
        let node = &mut self.nodes[from];
        let before = match node.kind {
            Kind::Finalized => VALUE,
            _ => 0,
        };
        node.at.set(before + word, target + inside);
        node.edges.retain(|edge| edge.0 != word);
        if node.kind != Kind::NoScan {
            node.edges.push((word, to));
        }
    }

    fn root(&mut self, root: usize, to: Option<usize>) {
        self.rooted[root] = to;
        let value = to.map_or(0, |to| !self.nodes[to].at.0);
        self.roots.set(root, value);
    }

    /// The number of an object.
    fn number(&self, object: Hidden) -> usize {
        let found = self.nodes.iter().position(|node| node.at == object);
        found.expect("it is one of the model's")
    }

    /// What some objects lead to. Nobody can look into those that were dropped, and what only they
    /// lead to may go; but it need not, where marking scans them.
    fn reach(&self, from: impl IntoIterator<Item = usize>, by_dropped: bool) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        let mut stack: Vec<usize> = from.into_iter().collect();
        while let Some(at) = stack.pop() {
            let is_passed = by_dropped || !self.nodes[at].dropped;
            if !std::mem::replace(&mut reached[at], true) && is_passed {
                stack.extend(self.nodes[at].edges.iter().map(|edge| edge.1));
            }
        }
        reached
    }

    fn is_waiting(&self, i: usize) -> bool {
        let node = &self.nodes[i];
        node.kind == Kind::Finalized
            && !node.dropped
            && matches!(state_of(node.at), state::QUEUED | state::FIRST)
    }

    fn collect(&mut self) {
        let n = self.nodes.len();
        let rooted = || self.rooted.iter().flatten().copied();
        let was_waiting: Vec<bool> = (0..n).map(|i| self.is_waiting(i)).collect();
        let waiting = (0..n).filter(|&i| was_waiting[i]);
        let is_live = self.reach(rooted().chain(waiting), false);
        let in_queue = (0..n).filter(|&i| self.nodes[i].in_queue);
        let may_be_live = self.reach(rooted().chain(in_queue), true);
        let reach = (0..n).map(|i| self.reach([i], false)).collect();
        // SAFETY: a root holds the cell.
        let is_empty = |cell: Hidden| unsafe { gc::weak_get(cell.get().cast()) }.is_null();
        let was_empty = self
            .weak
            .map(|weak| weak.is_none_or(|(cell, _)| is_empty(cell)));
        collect_all();
        for (weak, was_empty) in self.weak.iter().zip(was_empty) {
            if let Some((cell, target)) = weak {
                let is_empty = is_empty(*cell);
                assert!(!was_empty || is_empty);
                assert!(was_empty || !is_empty || !is_live[*target]);
                assert!(is_empty || may_be_live[*target]);
            }
        }
        for i in 0..n {
            let is_queued = self.is_waiting(i) && !was_waiting[i];
            let node = &mut self.nodes[i];
            if node.kind != Kind::Finalized || node.dropped {
                continue;
            }
            assert!(!is_queued || !is_live[i], "a live object was queued");
            if is_queued || !may_be_live[i] {
                node.found = Some(self.cycles.len());
                node.saved = false;
            }
            node.in_queue |= is_queued;
        }
        self.cycles.push(reach);
    }

    /// Has the next destructor run. False: there is none.
    fn drop_next(&mut self) -> bool {
        let Some(object) = next() else {
            self.nodes.iter_mut().for_each(|node| node.in_queue = false);
            return false;
        };
        let d = self.number(object);
        let node = &mut self.nodes[d];
        assert!(!std::mem::replace(&mut node.dropped, true), "dropped twice");
        node.in_queue = false;
        assert!(!node.saved, "something that was saved leads to it");
        let cycle = node.found.expect("it was reachable");
        self.dropped += 1;
        // Whatever leads to it and was found dead with it was dropped before.
        let reach = &self.cycles[cycle];
        for (x, node) in self.nodes.iter().enumerate() {
            if node.found == Some(cycle) && reach[x][d] && !reach[d][x] {
                assert!(
                    node.dropped,
                    "an object that leads to it was not dropped before"
                );
            }
        }
        match self.style {
            Style::Alone => {}
            Style::FollowAll => {
                let edges = std::mem::take(&mut self.nodes[d].edges);
                for (_, to) in &edges {
                    self.follow(*to);
                }
                self.nodes[d].edges = edges;
            }
            Style::Wild => {
                for _ in 0..self.random.below(4) {
                    self.walk(Some(d));
                }
            }
        }
        true
    }

    /// As a handle is followed. False: it panics.
    fn follow(&mut self, to: usize) -> bool {
        if self.nodes[to].kind != Kind::Finalized {
            return true;
        }
        let was_waiting = self.is_waiting(to);
        let is_there = gc::save(header(self.nodes[to].at));
        assert_eq!(is_there, !self.nodes[to].dropped);
        if was_waiting && is_there {
            self.saves = true;
            let reached = self.reach([to], false);
            for (node, reached) in self.nodes.iter_mut().zip(reached) {
                node.saved |= reached;
            }
        }
        is_there
    }

    /// A walk from an object that is being dropped, or from what is reachable, which stores what it
    /// meets in roots, weak pointers and objects.
    fn walk(&mut self, from: Option<usize>) {
        let root = self.random.below(ROOTS);
        let weak = self.weak[root].filter(|_| self.random.below(3) == 0);
        let start = match (from, weak) {
            (_, Some((cell, target))) => {
                // SAFETY: a root holds the cell.
                let got = unsafe { gc::weak_get(cell.get().cast()) };
                (!got.is_null() && self.follow(target)).then_some(target)
            }
            (Some(d), None) => Some(d),
            (None, None) => self.rooted[root].filter(|&to| self.follow(to)),
        };
        let Some(mut here) = start else { return };
        for _ in 0..self.random.below(6) {
            let edges = &self.nodes[here].edges;
            if edges.is_empty() {
                return;
            }
            let to = edges[self.random.below(edges.len())].1;
            // Here is a handle to it. It may be stored without being followed.
            let place = self.random.below(ROOTS);
            match self.random.below(12) {
                0 => self.root(place, Some(to)),
                1 if self.nodes[to].kind != Kind::NoScan => {
                    let cell = Hidden::new(gc::weak_new(self.nodes[to].at.get()).cast());
                    self.roots.set(ROOTS + place, !cell.0);
                    self.weak[place] = Some((cell, to));
                }
                2 => self.link(here, to),
                3 => self.root(place, None),
                4 => {
                    if let Some(other) = self.rooted[place].filter(|&other| self.follow(other)) {
                        self.link(other, to);
                    }
                }
                _ => {}
            }
            if !self.follow(to) {
                return;
            }
            here = to;
        }
    }

    /// Each object of the last cycle that only its own cycle leads to was dropped, or another of that
    /// cycle, whatever was saved.
    fn check_sources(&self) {
        let cycle = self.cycles.len() - 1;
        let reach = &self.cycles[cycle];
        let found: Vec<usize> = (0..self.nodes.len())
            .filter(|&i| self.nodes[i].found == Some(cycle))
            .collect();
        for &x in &found {
            let same = |y: usize| reach[x][y] && reach[y][x];
            let is_source = found.iter().all(|&y| !reach[y][x] || same(y));
            let any_dropped = || found.iter().any(|&y| same(y) && self.nodes[y].dropped);
            assert!(!is_source || any_dropped(), "a source was not dropped");
        }
    }

    fn finalized(&self) -> usize {
        let is_finalized = |node: &&Node| node.kind == Kind::Finalized;
        self.nodes.iter().filter(is_finalized).count()
    }

    /// All that is left is dropped, by destructors that save nothing.
    fn end(mut self, limit: Option<usize>) {
        self.style = Style::Alone;
        // The present batch may have a saved object.
        while self.drop_next() {}
        for i in 0..ROOTS {
            self.root(i, None);
            self.roots.set(ROOTS + i, 0);
            self.weak[i] = None;
        }
        let mut cycles = 0;
        while self.dropped < self.finalized() {
            let before = self.dropped;
            self.collect();
            while self.drop_next() {}
            // The first may learn that there is no memory.
            let may_learn = limit.is_some() && cycles == 0;
            assert!(self.dropped > before || may_learn, "every cycle gets on");
            cycles += 1;
        }
        assert!(cycles <= 1 || limit.is_some());
        collect_all();
        assert_eq!(next(), None);
        assert!(!self.nodes.iter().any(|node| node.at.is_there()));
    }
}

/// Destructors that do all they may, cycles between them, any memory for the search.
fn what_is_saved_stays_and_the_rest_is_dropped_in_order() {
    gc::set_percent(None);
    let limits = [None, None, Some(0), Some(1), Some(3), Some(30)];
    for seed in 1..=SEEDS {
        let limit = limits[seed as usize % limits.len()];
        gc::configure(gc::Config {
            mark_stack_limit: limit,
            ..world::POISONED
        });
        let n = 3 + seed as usize * 7 % 90;
        let mut model = Model::new(seed * 0x9e37_79b9, n, Style::Wild);
        for root in 0..ROOTS {
            let to = model.random.below(n);
            model.root(root, Some(to));
        }
        for _ in 0..6 {
            model.walk(None);
            let root = model.random.below(ROOTS);
            model.root(root, None);
            model.collect();
            while model.drop_next() {
                if model.random.below(4) == 0 {
                    model.walk(None);
                }
                if model.random.below(8) == 0 {
                    model.collect();
                }
                if model.random.below(20) == 0 {
                    break;
                }
            }
            let live = model.reach(model.rooted.iter().flatten().copied(), false);
            for (node, live) in model.nodes.iter().zip(live) {
                assert!(!live || node.at.is_there());
            }
        }
        model.end(limit);
    }
    gc::set_percent(Some(100));
}

/// Destructors that follow all their handles: as many cycles as the longest path has objects, and not more.
fn what_nothing_leads_to_is_dropped_whatever_was_saved() {
    gc::set_percent(None);
    for seed in 1..=SEEDS {
        let n = 3 + seed as usize * 7 % 90;
        let mut model = Model::new(seed * 0x2545_f491, n, Style::FollowAll);
        while model.dropped < model.finalized() {
            let saved_before = std::mem::take(&mut model.saves);
            model.collect();
            while model.drop_next() {}
            if saved_before {
                model.check_sources();
            }
        }
        model.end(None);
    }
    gc::set_percent(Some(100));
}

const SEEDS: u64 = 400;

fn main() {
    let all: &[(&str, fn())] = &[
        (
            "owners_are_finalised_before_what_they_own_and_freed_a_cycle_later",
            owners_are_finalised_before_what_they_own_and_freed_a_cycle_later,
        ),
        (
            "cycles_are_finalised_once_each_whatever_the_memory",
            cycles_are_finalised_once_each_whatever_the_memory,
        ),
        (
            "only_what_no_other_leads_to_is_first",
            only_what_no_other_leads_to_is_first,
        ),
        (
            "an_object_comes_before_what_it_reaches_by_way_of_a_cycle",
            an_object_comes_before_what_it_reaches_by_way_of_a_cycle,
        ),
        (
            "an_object_may_be_resurrected_and_one_without_a_value_just_goes",
            an_object_may_be_resurrected_and_one_without_a_value_just_goes,
        ),
        (
            "what_is_saved_stays_and_the_rest_is_dropped_in_order",
            what_is_saved_stays_and_the_rest_is_dropped_in_order,
        ),
        (
            "what_nothing_leads_to_is_dropped_whatever_was_saved",
            what_nothing_leads_to_is_dropped_whatever_was_saved,
        ),
    ];
    world::run_each(all);
}
