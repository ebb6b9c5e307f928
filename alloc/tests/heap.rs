//! The heap as the global allocator of a program: this one.

use raddle_alloc::{Heap, find_object, heap_stats};
use std::alloc::{GlobalAlloc, Layout};
use std::collections::HashMap;
use std::sync::mpsc;

#[global_allocator]
static HEAP: Heap = Heap;

/// A small random generator: xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// An object with a pattern of its own in it.
struct Filled {
    at: *mut u8,
    layout: Layout,
    with: u8,
}

// SAFETY: the object belongs to its `Filled`.
unsafe impl Send for Filled {}

impl Filled {
    fn new(layout: Layout, with: u8, zeroed: bool) -> Filled {
        let at = if zeroed {
            // SAFETY: the layouts of this test are not empty.
            unsafe { HEAP.alloc_zeroed(layout) }
        } else {
            // SAFETY: as above.
            unsafe { HEAP.alloc(layout) }
        };
        assert!(!at.is_null());
        assert_eq!(at.addr() % layout.align(), 0, "{layout:?}");
        let new = Filled { at, layout, with };
        assert!(!zeroed || new.bytes().iter().all(|b| *b == 0));
        // SAFETY: ours, and so large.
        unsafe { at.write_bytes(with, layout.size()) };
        let object = find_object(at.addr() + layout.size() / 2).expect("an object");
        assert_eq!(object.start, at.addr());
        assert!(object.size >= layout.size());
        new
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: ours, initialised, and so large.
        unsafe { std::slice::from_raw_parts(self.at, self.layout.size()) }
    }

    fn check(&self) {
        assert!(
            self.bytes().iter().all(|b| *b == self.with),
            "{:?}",
            self.layout
        );
    }

    fn resize(&mut self, size: usize) {
        self.check();
        // SAFETY: ours; the size is not 0.
        self.at = unsafe { HEAP.realloc(self.at, self.layout, size) };
        assert!(!self.at.is_null());
        let kept = self.layout.size().min(size);
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        assert_eq!(self.at.addr() % self.layout.align(), 0);
        assert!(self.bytes()[..kept].iter().all(|b| *b == self.with));
        // SAFETY: as above.
        unsafe { self.at.write_bytes(self.with, size) };
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        self.check();
        // SAFETY: allocated with that layout, and ours.
        unsafe { HEAP.dealloc(self.at, self.layout) };
    }
}

fn any_layout(random: &mut Random) -> Layout {
    let size = 1 + match random.below(20) {
        0 => random.below(3 << 20),
        1..4 => random.below(100_000),
        4..10 => random.below(2000),
        _ => random.below(200),
    };
    let align = match random.below(10) {
        0 => 1 << random.below(17),
        _ => 1 << random.below(5),
    };
    Layout::from_size_align(size, align).unwrap()
}

fn mix(seed: u64, rounds: usize, mut hand_over: impl FnMut(Filled) -> Option<Filled>) {
    let mut random = Random(seed);
    let mut live: Vec<Filled> = Vec::new();
    for round in 0..rounds {
        match random.below(10) {
            0..5 => {
                let zeroed = random.below(3) == 0;
                live.push(Filled::new(any_layout(&mut random), round as u8, zeroed));
            }
            5 if !live.is_empty() => {
                let i = random.below(live.len());
                let size = any_layout(&mut random).size();
                live[i].resize(size);
            }
            6 if !live.is_empty() => {
                let i = random.below(live.len());
                let object = live.swap_remove(i);
                live.extend(hand_over(object));
            }
            _ if !live.is_empty() => {
                let i = random.below(live.len());
                live.swap_remove(i);
            }
            _ => {}
        }
        if live.len() > 300 {
            live.truncate(100);
        }
    }
}

#[test]
fn objects_of_all_sizes_and_alignments_keep_their_bytes() {
    mix(0x1234_5678, 20_000, Some);
}

#[test]
fn objects_pass_between_threads() {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel()).unzip();
    std::thread::scope(|scope| {
        for (i, receiver) in receivers.into_iter().enumerate() {
            let to: mpsc::Sender<Filled> = senders[(i + 1) % 4].clone();
            scope.spawn(move || {
                mix(77 + i as u64, 10_000, |object| {
                    let _ = to.send(object);
                    receiver.try_recv().ok()
                });
                drop(to);
                receiver.try_iter().for_each(drop);
            });
        }
        drop(senders);
    });
}

#[test]
fn threads_that_end_give_their_cache_back() {
    for round in 0..300 {
        let kept = std::thread::spawn(move || {
            let many: Vec<_> = (0..100).map(|i| vec![i as u8; 10 + round]).collect();
            many.into_iter().nth(50).unwrap()
        });
        assert!(kept.join().unwrap().iter().all(|b| *b == 50));
    }
    assert!(heap_stats().in_use < 64 << 20, "{:?}", heap_stats());
}

#[test]
fn what_was_freed_is_used_again() {
    let mut peak = 0;
    for round in 0..50 {
        let map: HashMap<usize, String> = (0..20_000).map(|i| (i, format!("{i}"))).collect();
        assert_eq!(map[&777], "777");
        let in_use = heap_stats().in_use;
        if round == 5 {
            peak = in_use;
        }
        assert!(
            round <= 5 || in_use < peak * 2 + (16 << 20),
            "{peak} {in_use}"
        );
    }
}

#[test]
fn a_vector_grows_and_shrinks_over_the_limit_of_small_objects() {
    let mut v = Vec::new();
    for i in 0..3_000_000u32 {
        v.push(i);
    }
    v.truncate(1000);
    v.shrink_to_fit();
    assert!(v.iter().zip(0..).all(|(a, b)| *a == b));
}

#[test]
fn an_impossible_size_is_refused() {
    let layout = Layout::from_size_align(1 << 50, 8).unwrap();
    // SAFETY: the layout is not empty.
    assert!(unsafe { HEAP.alloc(layout) }.is_null());
    // SAFETY: as above.
    assert!(unsafe { HEAP.alloc_zeroed(layout) }.is_null());
    let mut v: Vec<u8> = Vec::new();
    assert!(v.try_reserve(1 << 50).is_err());
    // SAFETY: as above.
    let small = unsafe { HEAP.alloc(Layout::new::<u64>()) };
    // SAFETY: ours.
    assert!(unsafe { HEAP.realloc(small, Layout::new::<u64>(), 1 << 50) }.is_null());
    // SAFETY: a failed realloc leaves the object alone.
    unsafe { HEAP.dealloc(small, Layout::new::<u64>()) };
}

#[test]
fn nothing_is_found_where_nothing_is() {
    for addr in [0, 1, 0x01d3_0000_0000 - 1, 0x0300_0000_0000, usize::MAX] {
        assert_eq!(find_object(addr), None);
    }
    let local = 1;
    assert_eq!(find_object((&raw const local).addr()), None);
    let huge = vec![1u8; 50 << 20];
    let inside = find_object(huge.as_ptr().addr() + (49 << 20)).unwrap();
    assert_eq!(inside.start, huge.as_ptr().addr());
    let at = huge.as_ptr().addr();
    drop(huge);
    assert_eq!(find_object(at), None);
}
