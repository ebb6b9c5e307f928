//! Threads that allocate without end, and look whether what they keep is as they left it.

use super::{Random, scan_my_stack};
use raddle_alloc::gc::{self, Kind};
use raddle_race::Pc;
use std::alloc::Layout;
use std::ptr;

/// Threads make lists, keep some on their stacks and in the heap, and check them.
pub(crate) fn churn(threads: usize, rounds: usize) {
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
        let end = if words == 3 { 3 } else { tag };
        for (word, value) in [(0, first.addr()), (1, tag), (2, words), (words - 1, end)] {
            // SAFETY: fresh, and so large.
            unsafe { node.wrapping_add(word).write(value) };
        }
        first = node;
    }
    first
}

fn check_list(mut node: *mut usize) {
    while !node.is_null() {
        // SAFETY: reached from a list that is kept.
        let word = |i| unsafe { node.wrapping_add(i).read() };
        let (next, tag, words) = (word(0), word(1), word(2));
        assert!(
            (3..50_000).contains(&words),
            "a live object was overwritten"
        );
        let end = word(words - 1);
        assert!(end == tag || words == 3);
        node = ptr::with_exposed_provenance_mut(next);
    }
}
