//! The collector against precise models of small heaps.
//!
//! It has a `main` of its own: the test harness keeps memory with old addresses in it, which a collector that scans conservatively
//! takes for pointers now and then. Here nothing in the process does, since all freed memory is filled.

mod world;

use raddle_alloc::Heap;
use raddle_alloc::gc::{self, Header, Kind, state};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::*};
use world::{Hidden, Random, Roots, collect_all, exclusive, new, set_workers};

#[global_allocator]
static HEAP: Heap = Heap;

/// The model's object.
struct Node {
    at: Hidden,
    words: usize,
    kind: Kind,
    /// Word to node.
    edges: Vec<(usize, usize)>,
    alive: bool,
}

/// A graph whose reachability is known.
struct Model {
    nodes: Vec<Node>,
    roots: Roots,
    rooted: Vec<Option<usize>>,
    random: Random,
}

const MAGIC: usize = 0x5ead_beef_0000_0000;

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            nodes: Vec::new(),
            roots: Roots::new(16),
            rooted: vec![None; 16],
            random: Random(seed),
        }
    }

    fn add(&mut self) {
        let random = &mut self.random;
        let words = match random.below(100) {
            0 => 10_000 + random.below(60_000),
            1..5 => 100 + random.below(8_000),
            _ => 2 + random.below(40),
        };
        let kind = match random.below(4) {
            0 => Kind::NoScan,
            _ => Kind::Scan,
        };
        let at = new(words * 8, kind);
        at.set(0, MAGIC + self.nodes.len());
        self.nodes.push(Node {
            at,
            words,
            kind,
            edges: Vec::new(),
            alive: true,
        });
    }

    /// An address in a living node: often its first, sometimes any other.
    fn address_in(&mut self, node: usize) -> usize {
        let inside = match self.random.below(3) {
            0 => self.random.below(self.nodes[node].words * 8),
            _ => 0,
        };
        !self.nodes[node].at.0 + inside
    }

    fn living(&mut self) -> Option<usize> {
        (0..20)
            .map(|_| self.random.below(self.nodes.len()))
            .find(|&i| self.nodes[i].alive)
    }

    fn link(&mut self) {
        let (Some(from), Some(to)) = (self.living(), self.living()) else {
            return;
        };
        let word = 1 + self.random.below(self.nodes[from].words - 1);
        let value = self.address_in(to);
        let node = &mut self.nodes[from];
        node.at.set(word, value);
        node.edges.retain(|edge| edge.0 != word);
        if node.kind == Kind::Scan {
            node.edges.push((word, to));
        }
    }

    fn root(&mut self) {
        let i = self.random.below(self.rooted.len());
        self.rooted[i] = match self.random.below(3) {
            0 => None,
            _ => self.living(),
        };
        let value = self.rooted[i].map_or(0, |node| self.address_in(node));
        self.roots.set(i, value);
    }

    /// Collects, and compares with what the model knows.
    fn check(&mut self) {
        let mut reached = vec![false; self.nodes.len()];
        let mut stack: Vec<usize> = self.rooted.iter().flatten().copied().collect();
        while let Some(node) = stack.pop() {
            if !std::mem::replace(&mut reached[node], true) {
                stack.extend(self.nodes[node].edges.iter().map(|edge| edge.1));
            }
        }
        let before = gc::stats().objects_freed;
        collect_all();
        let freed = gc::stats().objects_freed - before;
        let mut expected = 0;
        for (i, node) in self.nodes.iter_mut().enumerate() {
            if !node.alive {
                continue;
            }
            if reached[i] {
                assert!(node.at.is_there(), "a reachable object was freed");
                assert_eq!(node.at.word(0), MAGIC + i);
            } else {
                assert!(!node.at.is_there(), "an unreachable object was kept");
                node.alive = false;
                expected += 1;
            }
        }
        assert_eq!(freed, expected);
    }
}

fn run_model(seed: u64, rounds: usize, limit: Option<usize>) {
    gc::configure(gc::Config {
        mark_stack_limit: limit,
        ..world::POISONED
    });
    let percent = gc::set_percent(None);
    // What the model before left behind.
    collect_all();
    let mut model = Model::new(seed);
    for _ in 0..rounds {
        for _ in 0..300 {
            model.add();
        }
        for _ in 0..1500 {
            model.link();
        }
        for _ in 0..8 {
            model.root();
        }
        model.check();
    }
    gc::set_percent(percent);
}

fn exactly_the_unreachable_is_freed() {
    for seed in 1..=8 {
        set_workers(1 + seed as usize % 3);
        run_model(seed * 0x9e37_79b9, 8, None);
    }
}

fn a_tiny_mark_stack_overflows_safely() {
    for (seed, limit) in [(11, 1), (12, 2), (13, 7), (14, 64)] {
        run_model(seed * 0x9e37_79b9, 5, Some(limit));
    }
}

fn long_lists_and_wide_objects_are_marked() {
    let percent = gc::set_percent(None);
    let mut roots = Roots::new(1);
    for limit in [None, Some(3)] {
        gc::configure(gc::Config {
            mark_stack_limit: limit,
            ..world::POISONED
        });
        const N: usize = 200_000;
        // A list, a table of all its items, and a table of tables.
        let table = new(N * 8, Kind::Scan);
        let mut last = 0;
        for i in 0..N {
            let item = new(24, Kind::Scan);
            item.set(0, last);
            last = !item.0;
            table.set(i, last);
        }
        roots.set(0, last);
        let before = gc::stats().objects_freed;
        collect_all();
        assert_eq!(gc::stats().objects_freed - before, 1, "the table goes");
        assert!(gc::stats().live_bytes >= N * 24);
        roots.set(0, 0);
        collect_all();
        assert_eq!(gc::stats().objects_freed - before, 1 + N as u64);

        let table = new(N * 8, Kind::Scan);
        for i in 0..N {
            table.set(i, !new(24, Kind::Scan).0);
        }
        roots.set(0, !table.0 + N * 8 - 1);
        let before = gc::stats().objects_freed;
        collect_all();
        assert_eq!(gc::stats().objects_freed, before);
        roots.set(0, 0);
        collect_all();
        assert_eq!(gc::stats().objects_freed - before, 1 + N as u64);
    }
    gc::set_percent(percent);
}

fn what_is_not_scanned_keeps_nothing_alive_and_added_roots_do() {
    let mut roots = Roots::new(1);
    let holder = new(64, Kind::NoScan);
    let held = new(64, Kind::Scan);
    holder.set(3, !held.0);
    roots.set(0, !holder.0);
    collect_all();
    assert!(holder.is_there() && !held.is_there());

    // SAFETY: plain memory of our own, until it is unmapped.
    let map = unsafe {
        libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    let range = map.addr()..map.addr() + 4096;
    let held = new(64, Kind::Scan);
    // SAFETY: inside the mapping.
    unsafe {
        map.cast::<usize>()
            .wrapping_add(511)
            .write_volatile(!held.0 + 63)
    };
    // SAFETY: mapped until it is removed.
    unsafe { gc::add_root(range.clone()) };
    collect_all();
    assert!(held.is_there());
    // SAFETY: nothing in it is used any more.
    unsafe { gc::remove_root(range) };
    collect_all();
    assert!(!held.is_there());
    // SAFETY: mapped above.
    unsafe { libc::munmap(map, 4096) };
}

fn weak_pointers_are_cleared_when_the_target_dies() {
    let mut roots = Roots::new(4);
    let target = new(48, Kind::Scan);
    roots.set(0, !target.0);
    let cell = Hidden::new(gc::weak_new(target.get().wrapping_add(5)).cast());
    roots.set(1, !cell.0);
    let forgotten = Hidden::new(gc::weak_new(target.get()).cast());
    let empty = Hidden::new(gc::weak_new(ptr::null_mut()).cast());
    roots.set(2, !empty.0);
    // SAFETY: the roots hold the cells.
    let get = |cell: Hidden| unsafe { gc::weak_get(cell.get().cast()) };
    collect_all();
    assert_eq!(get(cell), target.get().wrapping_add(5));
    assert!(get(empty).is_null());
    assert!(
        !forgotten.is_there(),
        "a cell that nobody has is garbage itself"
    );
    // SAFETY: the roots hold both.
    unsafe { gc::weak_set(empty.get().cast(), target.get()) };
    collect_all();
    assert_eq!(get(empty), target.get());
    roots.set(0, 0);
    collect_all();
    assert!(!target.is_there());
    assert!(get(cell).is_null() && get(empty).is_null());
    assert!(cell.is_there());
}

unsafe fn no_drop(_: *mut Header) {}

fn new_finalized(bytes: usize) -> Hidden {
    let object = new(size_of::<Header>() + bytes, Kind::Finalized);
    let header = Header {
        drop: no_drop,
        state: AtomicU32::new(state::LIVE),
        len: 0,
        next: AtomicPtr::default(),
    };
    // SAFETY: fresh, and so large.
    unsafe { object.get().cast::<Header>().write(header) };
    object
}

/// Runs all destructors; in their order.
fn finalize() -> Vec<Hidden> {
    let mut order = Vec::new();
    // SAFETY: the test is the finalizer.
    while let Some(header) = unsafe { gc::next_finalizable() } {
        // SAFETY: ours until it is dropped.
        let state = unsafe { &header.as_ref().state };
        let before = state.swap(state::DROPPED, Relaxed);
        assert!(matches!(before, state::QUEUED | state::FIRST));
        order.push(Hidden::new(header.as_ptr().cast()));
    }
    order
}

const VALUE: usize = size_of::<Header>() / 8;

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
    for limit in [None, Some(1), Some(10)] {
        gc::configure(gc::Config {
            mark_stack_limit: limit,
            ..world::POISONED
        });
        const N: usize = 5000;
        let mut random = Random(99);
        let all: Vec<_> = (0..N).map(|_| new_finalized(24)).collect();
        for object in &all {
            let plain = new(40, Kind::Scan);
            plain.set(4, !all[random.below(N)].0);
            object.set(VALUE, !plain.0);
            object.set(VALUE + 1, !all[random.below(N)].0 + 7);
        }
        let before = gc::stats().objects_freed;
        collect_all();
        let mut order = finalize();
        assert_eq!(order.len(), N);
        order.sort_by_key(|object| object.0);
        order.dedup();
        assert_eq!(order.len(), N);
        collect_all();
        assert_eq!(gc::stats().objects_freed - before, 2 * N as u64);
    }
}

fn only_what_no_other_leads_to_is_first() {
    let is_first = |object: Hidden| {
        // SAFETY: queued objects are there.
        let header = unsafe { &*object.get().cast::<Header>() };
        match header.state.load(Relaxed) {
            state::FIRST => true,
            state::QUEUED => false,
            other => panic!("not queued but {other}"),
        }
    };
    let [a, b, c, d, e, f, g, loner] = [(); 8].map(|()| new_finalized(8));
    // A chain, a ring, and two that share a third.
    let links = [(a, b), (c, d), (d, c), (e, f), (g, f)];
    for (from, to) in links {
        from.set(VALUE, !to.0);
    }
    collect_all();
    assert!(is_first(loner));
    assert!(is_first(a) && !is_first(b));
    assert!(is_first(c) != is_first(d));
    assert!(!is_first(f) && (is_first(e) || is_first(g)));
    assert_eq!(finalize().len(), 8);
    collect_all();
    assert_eq!(finalize(), []);
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

fn main() {
    let all: &[(&str, fn())] = &[
        (
            "exactly_the_unreachable_is_freed",
            exactly_the_unreachable_is_freed,
        ),
        (
            "a_tiny_mark_stack_overflows_safely",
            a_tiny_mark_stack_overflows_safely,
        ),
        (
            "long_lists_and_wide_objects_are_marked",
            long_lists_and_wide_objects_are_marked,
        ),
        (
            "what_is_not_scanned_keeps_nothing_alive_and_added_roots_do",
            what_is_not_scanned_keeps_nothing_alive_and_added_roots_do,
        ),
        (
            "weak_pointers_are_cleared_when_the_target_dies",
            weak_pointers_are_cleared_when_the_target_dies,
        ),
        (
            "only_what_no_other_leads_to_is_first",
            only_what_no_other_leads_to_is_first,
        ),
        (
            "owners_are_finalised_before_what_they_own_and_freed_a_cycle_later",
            owners_are_finalised_before_what_they_own_and_freed_a_cycle_later,
        ),
        (
            "cycles_are_finalised_once_each_whatever_the_memory",
            cycles_are_finalised_once_each_whatever_the_memory,
        ),
        (
            "an_object_may_be_resurrected_and_one_without_a_value_just_goes",
            an_object_may_be_resurrected_and_one_without_a_value_just_goes,
        ),
    ];
    // A filter, as the harness has it; its options do not apply.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    for (name, test) in all {
        if filter.as_ref().is_none_or(|filter| name.contains(filter)) {
            println!("test {name}");
            let _guard = exclusive(world::POISONED);
            test();
        }
    }
}
