//! What `GlobalAlloc` promises at its edges.

use raddle_alloc::Heap;
use std::alloc::{GlobalAlloc, Layout};

#[global_allocator]
static HEAP: Heap = Heap;

#[test]
fn a_size_beyond_any_memory_is_refused() {
    for log in 44..63 {
        for more in [0, 8192, (1usize << log) / 8 + 8192] {
            let layout = Layout::from_size_align((1usize << log) + more, 8).unwrap();
            // SAFETY: the size is not 0.
            let at = unsafe { HEAP.alloc(layout) };
            assert!(at.is_null(), "2^{log} + {more}");
        }
    }
}

#[test]
fn alignments_beyond_any_page_are_kept() {
    for log in 12..34 {
        let layout = Layout::from_size_align(1, 1 << log).unwrap();
        // SAFETY: the size is not 0.
        let at = unsafe { HEAP.alloc(layout) };
        assert!(at.addr().is_multiple_of(1 << log), "2^{log}: {at:p}");
        if !at.is_null() {
            // SAFETY: allocated above.
            unsafe { HEAP.dealloc(at, layout) };
        }
    }
}
