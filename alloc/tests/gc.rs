//! The collector against precise models of small heaps.
//!
//! It has a `main` of its own: the test harness keeps memory with old addresses in it, which a collector that scans conservatively
//! takes for pointers now and then. Here nothing in the process does, since all freed memory is filled.

mod world;

use raddle_alloc::Heap;
use raddle_alloc::gc::{self, Kind};
use std::ptr;
use world::{Hidden, Random, Roots, collect_all, new, set_workers};

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
    ];
    world::run_each(all);
}
