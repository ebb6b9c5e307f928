//! Tests of what begins and ends: heap blocks, goroutines, sync objects, stacks, P contexts.

use crate::ctx::GoCtx;
use crate::goroutine::{go_end, go_start, go_start_orphan, set_goid, thread_start};
use crate::testing::{self, fresh_memory, fresh_pc, on, take_races};
use crate::{Pc, acquire, free, malloc, read, release, shadow, stats, swept, write};

fn two() -> (testing::Detector, GoCtx, GoCtx) {
    let detector = testing::detector();
    let main = go_start(None, 1, fresh_pc());
    let other = on(main, || go_start(Some(main), 2, fresh_pc()));
    (detector, main, other)
}

#[test]
fn an_orphan_is_ordered_after_what_it_acquires_only() {
    let (_d, a, b) = two();
    let (released, later, sync) = (fresh_memory(64), fresh_memory(64), fresh_memory(64));
    on(a, || {
        write(released, 8, fresh_pc());
        release(sync);
        write(later, 8, fresh_pc());
    });
    let orphan = go_start_orphan(fresh_pc());
    on(orphan, || {
        set_goid(7);
        acquire(sync);
        write(released, 8, fresh_pc());
    });
    assert_eq!(orphan.get().record().goid(), 7);
    assert!(take_races().is_empty());
    on(orphan, || write(later, 8, fresh_pc()));
    assert_eq!(take_races(), [later]);
    go_end(orphan);
    go_end(a);
    go_end(b);
}

#[test]
fn an_unordered_access_to_a_fresh_block_is_a_race() {
    let (_d, a, b) = two();
    let block = fresh_memory(64);
    on(a, || malloc(block, 64, fresh_pc()));
    on(b, || read(block + 40, 8, fresh_pc()));
    assert_eq!(take_races(), [block + 40]);
    go_end(a);
    go_end(b);
}

#[test]
fn a_free_is_not_ordered_before_a_snapshot_of_everything_that_came_before_it() {
    let (_d, a, b) = two();
    let block = fresh_memory(64);
    on(a, || malloc(block, 64, fresh_pc()));
    let thread = thread_start(9);
    on(a, || free(block, 64, fresh_pc()));
    on(thread, || read(block + 16, 8, fresh_pc()));
    assert_eq!(take_races(), [block + 16]);
    go_end(thread);
    go_end(a);
    go_end(b);
}

#[test]
fn a_block_is_not_ordered_before_a_snapshot_of_everything_that_came_before_it() {
    let (_d, a, b) = two();
    let block = fresh_memory(64);
    let thread = thread_start(9);
    on(a, || malloc(block, 64, fresh_pc()));
    on(thread, || read(block + 16, 8, fresh_pc()));
    assert_eq!(take_races(), [block + 16]);
    go_end(thread);
    go_end(a);
    go_end(b);
}

#[test]
fn a_freed_block_races_with_unordered_use_and_a_new_block_starts_clean() {
    let (_d, a, b) = two();
    let block = fresh_memory(64);
    on(b, || write(block, 8, fresh_pc()));
    on(a, || free(block, 64, fresh_pc()));
    assert!(
        take_races().is_empty(),
        "earlier accesses are not checked against the free"
    );
    on(b, || read(block + 16, 8, fresh_pc()));
    assert_eq!(take_races(), [block + 16]);
    on(a, || malloc(block, 64, fresh_pc()));
    on(a, || write(block + 24, 8, fresh_pc()));
    assert!(take_races().is_empty());
    on(a, || release(block + 64));
    on(b, || {
        acquire(block + 64);
        write(block, 8, fresh_pc());
    });
    assert!(take_races().is_empty());
    go_end(a);
    go_end(b);
}

#[test]
fn a_sync_object_dies_with_its_memory() {
    let (_d, a, b) = two();
    let (block, data) = (fresh_memory(64), fresh_memory(64));
    on(a, || {
        write(data, 8, fresh_pc());
        release(block + 8);
        free(block, 64, fresh_pc());
        malloc(block, 64, fresh_pc());
    });
    on(b, || {
        acquire(block + 8);
        read(data, 8, fresh_pc());
    });
    assert_eq!(
        take_races(),
        [data],
        "the new object at the old address orders nothing"
    );
    go_end(a);
    go_end(b);
}

#[test]
fn the_sweeper_frees_without_a_goroutine() {
    let (_d, a, b) = two();
    let block = fresh_memory(64);
    on(a, || {
        write(block, 8, fresh_pc());
        release(block + 8);
    });
    free(block, 64, fresh_pc());
    on(b, || write(block, 8, fresh_pc()));
    assert!(take_races().is_empty());
    go_end(a);
    go_end(b);
}

#[test]
fn a_swept_block_is_freed_by_nobody_whoever_sweeps() {
    let (_d, a, b) = two();
    let block = fresh_memory(4096);
    let before = stats().sync_objects;
    for _ in 0..200 {
        on(a, || {
            malloc(block, 4000, fresh_pc());
            release(block + 808);
            swept(block, 4000);
        });
        assert_eq!(crate::sync::block_at(block), None);
        on(b, || {
            malloc(block, 4000, fresh_pc());
            write(block, 8, fresh_pc());
            write(block + 3992, 8, fresh_pc());
            swept(block, 4000);
        });
    }
    assert!(take_races().is_empty());
    assert!(
        stats().sync_objects <= before + 32,
        "objects are used again"
    );
    go_end(a);
    go_end(b);
}

#[test]
fn who_made_a_freed_block_is_known_until_its_memory_is_used_again() {
    let (_d, a, b) = two();
    let block = fresh_memory(256);
    let (made, other) = (fresh_pc(), fresh_pc());
    let size_and_place = |at| crate::sync::block_at(at).map(|r| (r.size, r.made_at));
    for size in [8, 5, 64, 100] {
        on(a, || malloc(block, size, made));
        on(b, || free(block, size, fresh_pc()));
        assert_eq!(size_and_place(block), Some((size, made)));
        on(b, || malloc(block, 32, other));
        assert_eq!(size_and_place(block), Some((32, other)));
    }
    on(b, || free(block, 32, fresh_pc()));
    on(a, || malloc(block - 16, 64, made));
    assert_eq!(size_and_place(block), None, "inside a new block");
    on(a, || {
        malloc(block + 128, 64, made);
        release(block + 128);
        free(block + 128, 64, fresh_pc());
    });
    assert_eq!(size_and_place(block + 128), Some((64, made)));
    on(a, || malloc(block + 128, 64, other));
    crate::clear_shadow(block + 128, 8);
    assert_eq!(
        size_and_place(block + 128),
        Some((64, other)),
        "what was in it has ended"
    );
    swept(block - 16, 272);
    go_end(a);
    go_end(b);
}

#[test]
fn the_record_of_a_small_block_goes_with_it() {
    let (_d, a, b) = two();
    let block = fresh_memory(64);
    let place = |at| crate::sync::block_at(at).map(|r| r.made_at);
    for _ in 0..3 {
        let pcs = [fresh_pc(), fresh_pc(), fresh_pc()];
        on(a, || malloc(block, 4, pcs[0]));
        assert_eq!(place(block), Some(pcs[0]));
        swept(block, 4);
        assert_eq!(place(block), None);
        on(a, || malloc(block, 4, pcs[1]));
        on(b, || malloc(block + 4, 4, pcs[2]));
        assert_eq!(
            [place(block), place(block + 4)],
            [Some(pcs[1]), Some(pcs[2])]
        );
        on(b, || free(block, 4, fresh_pc()));
        swept(block + 4, 4);
        assert_eq!([place(block), place(block + 4)], [Some(pcs[1]), None]);
        on(a, || malloc(block, 4, pcs[2]));
        assert_eq!(place(block), Some(pcs[2]));
        swept(block, 8);
        assert_eq!(place(block), None);
    }
    go_end(a);
    go_end(b);
}

#[test]
fn the_rest_of_the_last_eight_bytes_goes_with_an_aligned_object() {
    let (_d, a, b) = two();
    let block = fresh_memory(64);
    on(b, || write(block, 16, fresh_pc()));
    on(a, || {
        crate::malloc_aligned(block, 5, fresh_pc());
        write(block, 8, fresh_pc());
    });
    assert!(take_races().is_empty(), "what was there is forgotten");
    let size = crate::sync::block_at(block).map(|record| record.size);
    assert_eq!(size, Some(5));
    on(a, || write(block + 8, 1, fresh_pc()));
    assert_eq!(take_races(), [block + 8], "and nothing more");
    on(a, || crate::free_aligned(block, 5, fresh_pc()));
    on(b, || read(block, 1, fresh_pc()));
    assert_eq!(take_races(), [block]);
    go_end(a);
    go_end(b);
}

#[test]
fn the_record_of_a_block_of_whole_pages_is_the_newest() {
    let (_d, a, b) = two();
    let block = fresh_memory(5 << 12).next_multiple_of(1 << 12);
    let before = stats().sync_objects;
    for _ in 0..100 {
        let made = fresh_pc();
        on(a, || malloc(block, 2 << 12, made));
        on(a, || release(block));
        on(b, || free(block, 2 << 12, fresh_pc()));
        let record = crate::sync::block_at(block).expect("a block");
        assert_eq!((record.made_at, record.goid), (made, 1));
    }
    assert!(
        stats().sync_objects <= before + 32,
        "places are taken again"
    );
    assert!(
        crate::pages::is_marked_with(block, crate::pages::RECORDS),
        "reports look there"
    );
    malloc(block, 2 << 12, fresh_pc());
    assert_eq!(
        crate::sync::block_at(block),
        None,
        "made by who is not watched"
    );
    go_end(a);
    go_end(b);
}

#[test]
fn an_allocation_s_callers_are_those_that_have_not_returned() {
    let (_d, a, b) = two();
    let (block, data) = (fresh_memory(64), fresh_memory(64));
    let calls: Vec<_> = (0..40).map(|_| fresh_pc()).collect();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize % below
    };
    let mut stack: Vec<Pc> = Vec::new();
    crate::switch_in(a);
    for round in 0..20_000 {
        // Long ways up and down, so that stacks are cut, and come to an end.
        let down = if round / 200 % 2 == 0 { 3 } else { 6 };
        for _ in 0..random(5) {
            match random(8) {
                n if n < down && !stack.is_empty() => {
                    stack.pop();
                    crate::func_exit();
                }
                7 => write(data + 8 * random(8), 8, fresh_pc()),
                _ => {
                    stack.push(calls[random(calls.len())]);
                    crate::func_enter(stack[stack.len() - 1]);
                }
            }
        }
        let own = if random(4) == 0 { calls[0] } else { Pc::NONE };
        if own.is_none() && stack.is_empty() {
            continue;
        }
        let mut near = [Pc::NONE; crate::depot::FRAMES];
        let near = a.get().near_callers(&mut near);
        malloc(block, 8, own);
        let frames = stack.iter().rev().copied();
        let own = (!own.is_none()).then_some(own);
        let least = own.iter().count() + near;
        let expected: Vec<_> = own.into_iter().chain(frames).collect();
        let made_at = crate::sync::block_at(block).expect("a block").made_at;
        let mut frames = [Pc::NONE; crate::depot::FRAMES];
        let (count, _) = crate::depot::copy(made_at, 0, &mut frames);
        assert!(count >= least.min(frames.len()), "round {round}");
        assert_eq!(frames[..count], expected[..count], "round {round}");
    }
    crate::switch_out(a);
    go_end(a);
    go_end(b);
}

#[test]
fn a_block_is_marked_to_the_byte() {
    let (_d, a, b) = two();
    let memory = fresh_memory(5 << 12).next_multiple_of(1 << 12);
    for (from, size) in [
        (0, 4000),
        (4093, 9),
        (2, 3),
        (7, 8192),
        (4096, 4096),
        (16, 8),
        (1, 7),
        (3, 8),
    ] {
        for is_free in [false, true] {
            crate::clear_shadow(memory, 4 << 12);
            on(a, || {
                if is_free {
                    free(memory + from, size, fresh_pc());
                } else {
                    malloc(memory + from, size, fresh_pc());
                }
            });
            let end = from + size;
            let near = |at: usize| {
                [
                    at.saturating_sub(9),
                    at.saturating_sub(1),
                    at,
                    at + 1,
                    at + 8,
                ]
            };
            let mut said = std::collections::HashSet::new();
            for at in near(from).into_iter().chain(near(end)) {
                on(b, || read(memory + at, 1, fresh_pc()));
                // A byte's race is said once.
                let is_race = (from..end).contains(&at) && said.insert(at);
                let expected: Vec<_> = is_race.then_some(memory + at).into_iter().collect();
                assert_eq!(take_races(), expected, "{from} {size} {at}");
            }
        }
    }
    crate::clear_shadow(memory, 4 << 12);
    go_end(a);
    go_end(b);
}

/// Bytes of the cells of `size` bytes at `addr` that are in memory.
fn resident(addr: usize, size: usize) -> usize {
    const PAGE: usize = 4096;
    let plane = shadow::PLANE_A + (addr & shadow::FOLD) * 2;
    let (from, to) = (plane & !(PAGE - 1), plane + 2 * size);
    let mut pages = vec![0; (to - from).div_ceil(PAGE)];
    let at = std::ptr::with_exposed_provenance_mut(from);
    // SAFETY: a byte of answer for each page; nothing of theirs is touched.
    let error = unsafe { libc::mincore(at, to - from, pages.as_mut_ptr()) };
    assert_eq!(error, 0);
    PAGE * pages.iter().filter(|&&page| page & 1 != 0).count()
}

#[test]
fn a_large_block_costs_no_cells_until_it_is_touched() {
    const SIZE: usize = 64 << 20;
    let (_d, a, b) = two();
    let block = fresh_memory(SIZE + 4096) + 1000;
    let at = |n: usize| block + n * (SIZE / 100);
    on(a, || malloc(block, SIZE, fresh_pc()));
    assert!(resident(block, SIZE) < 64 << 10);
    // Unordered with the allocation, in the first page, between, and in the last.
    let places = [block, at(1) + 3, at(50), block + SIZE - 1];
    on(b, || places.map(|place| read(place, 1, fresh_pc())));
    assert_eq!(take_races(), places);
    assert!(resident(block, SIZE) < 128 << 10);

    on(a, || {
        (0..100).for_each(|n| write(at(n), 8, fresh_pc()));
        crate::write_range(at(60), SIZE / 10, fresh_pc());
    });
    take_races();
    assert!(resident(block, SIZE) > SIZE / 10);
    on(a, || free(block, SIZE, fresh_pc()));
    assert!(resident(block, SIZE) < 8 << 20);
    // A granule's race is said once.
    let places = [block + 16, at(1) + 40, at(65), block + SIZE - 20];
    on(b, || places.map(|place| read(place, 1, fresh_pc())));
    assert_eq!(take_races(), places);
    go_end(a);
    go_end(b);
}

#[test]
fn a_large_block_is_marked_to_the_byte() {
    const SIZE: usize = 40_000;
    let (_d, a, b) = two();
    let memory = fresh_memory(SIZE + 2048);
    for (from, to) in [(1003, 1001), (1024, 1024), (1000, 1)] {
        let (block, end) = (memory + from, memory + SIZE + to);
        on(b, || {
            write(block - 1, 1, fresh_pc());
            write(end, 1, fresh_pc());
        });
        on(a, || {
            malloc(block, end - block, fresh_pc());
            // What is beside it is another's still.
            write(block - 1, 1, fresh_pc());
            write(end, 1, fresh_pc());
        });
        assert_eq!(take_races(), [block - 1, end]);
        // Other memory in the middle: a stack, a mapping, a smaller block.
        let hole = memory + 20_001;
        on(a, || crate::clear_shadow(hole, 3000));
        on(b, || malloc(hole + 3000, 100, fresh_pc()));
        on(b, || {
            for clean in [hole, hole + 1500, hole + 2999, hole + 3000, hole + 3099] {
                write(clean, 1, fresh_pc());
            }
        });
        assert!(take_races().is_empty());
        on(b, || {
            write(hole - 1, 1, fresh_pc());
            write(hole + 3100, 1, fresh_pc());
        });
        assert_eq!(take_races(), [hole - 1, hole + 3100]);
        on(a, || crate::clear_shadow(memory, SIZE + 2048));
    }
    go_end(a);
    go_end(b);
}

#[test]
fn a_new_block_forgets_the_second_plane_too() {
    let (_d, a, b) = two();
    let block = fresh_memory(1 << 14).next_multiple_of(1 << 12);
    let all: Vec<_> = (0..4)
        .map(|i| on(a, || go_start(Some(a), 20 + i, fresh_pc())))
        .collect();
    let fill = || {
        for g in &all {
            on(*g, || read(block + 512, 8, fresh_pc()));
        }
    };
    for begin in [
        |block| malloc(block, 4000, Pc::code(0x10)),
        |block| free(block, 8192, Pc::code(0x18)),
    ] {
        fill();
        on(a, || begin(block));
        on(a, || release(block + 8192));
        on(b, || {
            acquire(block + 8192);
            write(block + 512, 8, fresh_pc());
        });
        assert!(take_races().is_empty());
        crate::clear_shadow(block, 8200);
    }
    fill();
    swept(block, 8192);
    on(b, || {
        malloc(block, 8192, fresh_pc());
        write(block + 512, 8, fresh_pc());
    });
    assert!(take_races().is_empty());
    go_end(a);
    go_end(b);
    all.into_iter().for_each(go_end);
}

#[test]
fn an_allocation_without_a_place_is_where_its_callers_are() {
    let (_d, a, b) = two();
    let block = fresh_memory(64);
    let calls = [fresh_pc(), fresh_pc()];
    on(a, || {
        calls.into_iter().for_each(crate::func_enter);
        malloc(block, 64, Pc::NONE);
        calls.iter().for_each(|_| crate::func_exit());
    });
    let made_at = crate::sync::block_at(block).expect("a block").made_at;
    let (frames, count) = crate::depot::frames(made_at.stack_entry().expect("a stack"));
    assert_eq!(frames[..count], [calls[1], calls[0]]);
    go_end(a);
    go_end(b);
}

#[test]
fn a_cleared_stack_has_no_past() {
    let (_d, a, b) = two();
    let stack = fresh_memory(4096);
    on(a, || write(stack + 100, 8, fresh_pc()));
    crate::clear_shadow(stack, 4096);
    on(b, || write(stack + 100, 8, fresh_pc()));
    assert!(take_races().is_empty());
    go_end(a);
    go_end(b);
}

#[test]
fn memory_of_sync_objects_and_goroutines_returns() {
    let (_d, main, other) = two();
    let block = fresh_memory(8 * 1024);
    let round = |n: u64| {
        on(main, || malloc(block, 8 * 1024, fresh_pc()));
        for i in 0..100 {
            let g = on(main, || go_start(Some(main), 10 + n * 100 + i, fresh_pc()));
            on(g, || {
                crate::func_enter(fresh_pc());
                write(block + 8 * i as usize, 8, fresh_pc());
                release(block + 64 * i as usize);
            });
            go_end(g);
        }
        on(main, || free(block, 8 * 1024, fresh_pc()));
    };
    // Ended goroutines' records wait in a queue of fixed length: fill it first.
    (0..12).for_each(&round);
    let before = stats();
    (12..112).for_each(&round);
    let after = stats();
    assert_eq!(before.contexts, after.contexts);
    assert_eq!(before.sync_objects, after.sync_objects);
    assert_eq!(before.clocks, after.clocks);
    go_end(main);
    go_end(other);
}

#[test]
fn a_block_made_again_without_a_free_replaces_the_old() {
    let (_d, a, b) = two();
    let block = fresh_memory(64);
    on(a, || malloc(block, 64, fresh_pc()));
    let before = stats().sync_objects;
    for _ in 0..1000 {
        on(a, || malloc(block, 64, fresh_pc()));
    }
    assert_eq!(stats().sync_objects, before);
    on(b, || malloc(block, 32, fresh_pc()));
    let record = crate::sync::block_at(block).expect("a block");
    assert_eq!((record.size, record.goid), (32, 2));
    go_end(a);
    go_end(b);
}

#[test]
fn clearing_leaves_no_mark_and_the_neighbours_alone() {
    let (_d, a, b) = two();
    let memory = fresh_memory(4 << 20);
    let edges = [0, 4088, 4096, 8184, 8192, 1 << 20, (3 << 20) - 8, 3 << 20];
    on(a, || edges.map(|at| write(memory + at, 8, fresh_pc())));
    crate::clear_shadow(memory + 4096, (3 << 20) - 4096);
    on(b, || edges.map(|at| write(memory + at, 8, fresh_pc())));
    let expected = [0, 4088, 3 << 20].map(|at| memory + at);
    assert_eq!(take_races(), expected);
    go_end(a);
    go_end(b);
}

#[test]
fn a_goroutine_context_is_small() {
    let (_d, main, other) = two();
    let context = size_of::<crate::ctx::Ctx>()
        + size_of::<crate::record::Record>()
        + crate::history::SMALL_BYTES;
    assert!(context < 6 * 1024, "{context} bytes");
    go_end(main);
    go_end(other);
}

#[test]
fn two_objects_in_one_granule_are_two() {
    let (_d, a, b) = two();
    let (memory, data) = (fresh_memory(64), fresh_memory(64));
    on(a, || {
        write(data, 8, fresh_pc());
        release(memory);
    });
    on(b, || {
        acquire(memory + 4);
        read(data, 8, fresh_pc());
    });
    assert_eq!(take_races(), [data]);
    go_end(a);
    go_end(b);
}

#[test]
fn a_small_object_dies_without_its_neighbours() {
    let (_d, a, b) = two();
    let (memory, data) = (fresh_memory(64), fresh_memory(64));
    let before = stats().sync_objects;
    for round in 0..200 {
        let data = data + 8 * (round % 2);
        on(a, || {
            write(data, 8, fresh_pc());
            write(memory, 4, fresh_pc());
            release(memory); // a four-byte object
            malloc(memory + 4, 4, fresh_pc()); // and its neighbour
            release(memory + 4);
        });
        crate::clear_shadow(memory + 4, 4);
        on(b, || {
            acquire(memory + 4); // a new one, of which nothing is known
            write(memory + 4, 4, fresh_pc());
            acquire(memory);
            read(data, 8, fresh_pc());
            write(memory, 4, fresh_pc());
            release(memory);
        });
        on(a, || {
            acquire(memory);
            free(memory + 4, 4, fresh_pc());
        });
        assert!(take_races().is_empty(), "round {round}");
    }
    assert!(
        stats().sync_objects <= before + 32,
        "vacant places are taken again"
    );
    on(a, || write(memory, 4, fresh_pc()));
    on(b, || read(memory, 1, fresh_pc()));
    assert_eq!(take_races(), [memory]);
    go_end(a);
    go_end(b);
}

#[test]
fn ignored_accesses_and_synchronisation_do_not_count() {
    let (_d, a, b) = two();
    let data = fresh_memory(64);
    on(a, || {
        crate::ignore_begin();
        write(data, 8, fresh_pc());
        crate::ignore_end();
        write(data + 8, 8, fresh_pc());
        crate::ignore_sync_begin();
        release(data + 32);
        crate::ignore_sync_end();
    });
    on(b, || {
        acquire(data + 32);
        write(data, 8, fresh_pc());
        assert!(take_races().is_empty());
        write(data + 8, 8, fresh_pc());
        assert_eq!(take_races(), [data + 8]);
    });
    go_end(a);
    go_end(b);
}

#[test]
fn a_foreign_thread_and_the_finalizer_come_after_everything() {
    let (_d, a, b) = two();
    let data = fresh_memory(64);
    on(a, || write(data, 8, fresh_pc()));
    let thread = thread_start(77);
    on(thread, || write(data, 8, fresh_pc()));
    crate::finalizer_goroutine(b);
    on(b, || write(data, 8, fresh_pc()));
    assert!(take_races().is_empty());
    on(a, || write(data, 8, fresh_pc()));
    assert_eq!(take_races(), [data]);
    for g in [a, b, thread] {
        go_end(g);
    }
}

#[test]
fn a_foreign_thread_is_not_ordered_with_what_comes_later_in_a_running_epoch() {
    let (_d, a, b) = two();
    let data = fresh_memory(64);
    crate::switch_in(a);
    write(data, 8, fresh_pc());
    let thread = thread_start(77);
    write(data + 8, 8, fresh_pc());
    on(thread, || {
        write(data, 8, fresh_pc());
        write(data + 8, 8, fresh_pc());
    });
    crate::switch_out(a);
    assert_eq!(take_races(), [data + 8]);
    for g in [a, b, thread] {
        go_end(g);
    }
}

#[test]
fn the_program_s_own_memory_is_watched() {
    static GLOBAL: u64 = 1;
    let (_d, a, b) = two();
    let (boxed, local) = (Box::new(1u64), 1u64);
    let places = [&raw const GLOBAL, &raw const *boxed, &raw const local].map(|p| p.addr());
    for place in places {
        on(a, || write(place, 8, fresh_pc()));
        on(b, || read(place, 8, fresh_pc()));
        assert_eq!(take_races(), [place]);
        crate::clear_shadow(place, 8);
        on(b, || write(place, 8, fresh_pc()));
        assert!(take_races().is_empty());
    }
    go_end(a);
    go_end(b);
}

#[test]
fn the_gap_of_a_reused_slot_is_not_hidden_from_the_next_acquirer() {
    let (_d, a, b) = two();
    crate::slot::set_limit(1);
    let (data, lock) = (fresh_memory(64), fresh_memory(64));
    let c = on(a, || go_start(Some(a), 3, fresh_pc()));
    on(a, || write(data, 8, fresh_pc()));
    on(b, || release(lock)); // takes the slot from `a` without an edge
    on(c, || {
        acquire(lock); // knows the slot up to `b`'s epoch, but not `a`'s
        read(data, 8, fresh_pc());
    });
    assert_eq!(take_races(), [data]);
    crate::slot::set_limit(crate::clock::SLOTS);
    for g in [a, b, c] {
        go_end(g);
    }
}

#[test]
fn what_a_parked_goroutine_released_does_not_cover_what_it_does_next() {
    let (_d, a, b) = two();
    let (data, lock) = (fresh_memory(64), fresh_memory(64));
    on(a, || write(data, 8, fresh_pc()));
    crate::release_g(a, lock);
    on(a, || write(data + 8, 8, fresh_pc()));
    on(b, || {
        acquire(lock);
        write(data, 8, fresh_pc());
        assert!(take_races().is_empty());
        write(data + 8, 8, fresh_pc());
    });
    assert_eq!(take_races(), [data + 8]);
    for g in [a, b] {
        go_end(g);
    }
}
