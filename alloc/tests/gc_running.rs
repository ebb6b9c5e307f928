//! The collector while the program runs: threads that allocate and sweep, growth, limits, stress.

mod world;

use raddle_alloc::Heap;
use raddle_alloc::gc::{self, Config, Kind};
use raddle_race::Pc;
use std::alloc::Layout;
use world::churn::churn;
use world::{Roots, collect_all, exclusive, new};

#[global_allocator]
static HEAP: Heap = Heap;

#[test]
fn threads_allocate_while_others_sweep_and_memory_stays_bounded() {
    let _guard = exclusive(Config::default());
    let before = gc::stats();
    churn(4, 3000);
    let after = gc::stats();
    // Some hundred MiB, and a goal of at most some ten.
    assert!(after.cycles > before.cycles + 1);
    assert!(after.bytes_freed > before.bytes_freed);
    assert!(
        after.in_use_bytes < before.in_use_bytes + (64 << 20),
        "{after:?}"
    );
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
    roots.set(0, 0);
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

#[test]
fn a_thread_that_cannot_be_stopped_costs_the_cycle_and_nothing_else() {
    let _guard = exclusive(Config::default());
    let object = new(64, Kind::Scan);
    let given_up = gc::stats().given_up;
    world::refuse(true);
    gc::collect();
    world::refuse(false);
    assert_eq!(gc::stats().given_up, given_up + 1);
    assert!(object.is_there());
    let cycles = gc::stats().cycles;
    gc::collect();
    assert_eq!(gc::stats().cycles, cycles + 1);
}

#[test]
fn an_impossible_object_is_refused_and_the_heap_goes_on() {
    let _guard = exclusive(Config::default());
    let layout = Layout::from_size_align(1 << 46, 8).unwrap();
    for kind in [Kind::Manual, Kind::Scan, Kind::NoScan] {
        assert!(gc::allocate(layout, kind, Pc::NONE).is_null());
        assert!(gc::allocate_zeroed(layout, kind, Pc::NONE).is_null());
    }
    assert!(new(64, Kind::Scan).is_there());
}

#[test]
fn a_child_of_fork_allocates_and_collects() {
    let _guard = exclusive(Config::default());
    for _ in 0..10_000 {
        new(100, Kind::Scan);
    }
    // Its spans are not swept yet.
    gc::collect();
    // SAFETY: the child uses the heap, which is made for it, and ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let freed = gc::stats().objects_freed;
        let kept = vec![1u8; 100_000];
        for _ in 0..10_000 {
            new(100, Kind::Scan);
        }
        collect_all();
        // A word somewhere may look like a pointer to one or another.
        let done = gc::stats().objects_freed - freed >= 19_900 && kept.iter().all(|b| *b == 1);
        // SAFETY: ends the process without running what is the parent's.
        unsafe { libc::_exit(if done { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: a place for the status of our child.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0);
}
