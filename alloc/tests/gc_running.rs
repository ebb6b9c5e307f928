//! The collector while the program runs: threads that allocate and sweep, growth, limits, stress.

mod world;

use raddle_alloc::Heap;
use raddle_alloc::gc::{self, Config, Kind};
use raddle_race::Pc;
use std::alloc::Layout;
use std::ptr;
use world::{Random, Roots, collect_all, exclusive, new, scan_my_stack};

#[global_allocator]
static HEAP: Heap = Heap;

/// Threads make lists, keep some on their stacks and in the heap, and check them.
fn churn(threads: usize, rounds: usize) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                scan_my_stack(|| {
                    let mut random = Random(thread as u64 + 1);
                    let mut kept: Vec<*mut usize> = vec![ptr::null_mut(); 32];
                    for round in 0..rounds {
                        let list = make_list(&mut random, thread << 32 | round);
                        let i = random.below(kept.len());
                        check_list(kept[i]);
                        kept[i] = list;
                        check_list(kept[random.below(kept.len())]);
                    }
                });
            });
        }
    });
}

/// A list of nodes: next, tag, a copy of the tag at the end, and a number of words between.
#[inline(never)]
fn make_list(random: &mut Random, tag: usize) -> *mut usize {
    let mut first: *mut usize = ptr::null_mut();
    for _ in 0..random.below(50) {
        let words = match random.below(200) {
            0 => 3 + random.below(40_000),
            _ => 4 + random.below(60),
        };
        let layout = Layout::array::<usize>(words).unwrap();
        let node = gc::allocate(layout, Kind::Scan, Pc::NONE).cast::<usize>();
        assert!(!node.is_null());
        // SAFETY: fresh, and so large.
        unsafe {
            node.write(first.addr());
            node.add(1).write(tag);
            node.add(2).write(words);
            node.add(words - 1).write(if words == 3 { 3 } else { tag });
        }
        first = node;
    }
    first
}

fn check_list(mut node: *mut usize) {
    while !node.is_null() {
        // SAFETY: reached from a list that is kept.
        let (next, tag, words) = unsafe { (node.read(), node.add(1).read(), node.add(2).read()) };
        assert!(
            (3..50_000).contains(&words),
            "a live object was overwritten"
        );
        // SAFETY: as above.
        let end = unsafe { node.add(words - 1).read() };
        assert!(end == tag || words == 3);
        node = ptr::with_exposed_provenance_mut(next);
    }
}

#[test]
fn threads_allocate_while_others_sweep_and_memory_stays_bounded() {
    let _guard = exclusive(Config::default());
    let before = gc::stats();
    churn(4, 3000);
    let after = gc::stats();
    assert!(after.cycles > before.cycles + 5);
    assert!(after.bytes_freed > before.bytes_freed);
    assert!(after.in_use_bytes < 64 << 20, "{after:?}");
    let pauses: u64 = after.pauses.iter().sum();
    assert_eq!(pauses, after.cycles);
    assert!(after.pause_max_ns <= after.pause_total_ns);
}

#[test]
fn a_loop_that_keeps_nothing_needs_no_more_than_the_goal() {
    let _guard = exclusive(Config::default());
    for bytes in [16, 100, 5000, 300_000] {
        let in_use = gc::stats().in_use_bytes;
        let mut most = 0;
        for _ in 0..(64 << 20) / bytes {
            new(bytes, Kind::Scan);
            most = most.max(gc::stats().in_use_bytes);
        }
        assert!(most < in_use + (16 << 20), "{bytes}: {most}");
        collect_all();
    }
}

#[test]
fn a_memory_limit_is_kept_or_refused() {
    let _guard = exclusive(Config::default());
    let mut roots = Roots::new(1);
    let percent = gc::set_percent(Some(1000));
    let big = new(40 << 20, Kind::NoScan);
    roots.set(0, !big.0);
    let refused = gc::set_memory_limit(Some(20 << 20)).unwrap_err();
    assert_eq!(refused.limit, 20 << 20);
    assert!(refused.live >= 40 << 20);
    assert!(
        refused
            .to_string()
            .contains("a memory limit of 20971520 bytes")
    );
    assert_eq!(gc::set_memory_limit(Some(60 << 20)), Ok(None));
    let mut most = 0;
    for _ in 0..100_000 {
        new(4000, Kind::NoScan);
        most = most.max(gc::stats().in_use_bytes);
    }
    assert!(most < 70 << 20, "{most}");
    assert_eq!(gc::set_memory_limit(None), Ok(Some(60 << 20)));
    assert_eq!(gc::set_percent(percent), Some(1000));
    assert!(big.is_there());
}

#[test]
fn manual_growth_past_the_limit_asks_for_a_cycle() {
    let _guard = exclusive(Config::default());
    collect_all();
    let limit = gc::stats().in_use_bytes + (8 << 20);
    assert_eq!(gc::set_memory_limit(Some(limit)), Ok(None));
    let cycles = gc::stats().cycles;
    let mut kept = Vec::new();
    while gc::stats().cycles == cycles {
        kept.push(vec![1u8; 100_000]);
        std::thread::yield_now();
        assert!(kept.len() < 100_000);
    }
    assert!(gc::stats().in_use_bytes > limit);
    assert_eq!(gc::set_memory_limit(None), Ok(Some(limit)));
}
