//! Safe programs whose blocks go from thread to thread, on mimalloc: `race-allocators NAME` runs
//! one, `race-allocators` alone lists them. None of them has a data race.

use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const ALL: [(&str, fn()); 4] = [
    (
        "blocks_are_freed_by_another_thread",
        blocks_are_freed_by_another_thread,
    ),
    ("blocks_grow", blocks_grow),
    ("threads_come_and_go", threads_come_and_go),
    (
        "the_last_of_many_handles_frees",
        the_last_of_many_handles_frees,
    ),
];

fn main() {
    let Some(wanted) = std::env::args().nth(1) else {
        ALL.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let Some((_, case)) = ALL.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("no case `{wanted}`; without an argument all are listed");
        std::process::exit(2);
    };
    case();
}

/// Many threads at once.
fn each_of(threads: usize, work: impl Fn(usize) + Sync) {
    let begin = Barrier::new(threads);
    thread::scope(|scope| {
        for n in 0..threads {
            let (work, begin) = (&work, &begin);
            scope.spawn(move || {
                begin.wait();
                work(n);
            });
        }
    });
}

/// What a thread frees that did not make it is given to a third.
fn blocks_are_freed_by_another_thread() {
    each_of(4, |n| {
        let (give, take) = mpsc::channel::<Vec<u8>>();
        let sum = thread::spawn(move || take.into_iter().map(|bytes| bytes.len()).sum::<usize>());
        for i in 0..500 {
            give.send(vec![n as u8; i % 700 + 1]).expect("it is taken");
            let zeroed = vec![0u64; i % 90 + 1];
            assert!(zeroed.iter().all(|word| *word == 0));
        }
        drop(give);
        assert!(sum.join().expect("it ends") > 100_000);
    });
}

/// Blocks are given another size, in place and elsewhere, with and without the bytes at their ends.
fn blocks_grow() {
    let all = Mutex::new(Vec::new());
    each_of(4, |n| {
        for round in 0..50 {
            let mut grows = Vec::new();
            (0..round * 20).for_each(|i| grows.push(i + n));
            grows.shrink_to_fit();
            let mut text = String::new();
            (0..round).for_each(|_| text.push_str("so and so many"));
            let mut all = all.lock().expect("nobody panics");
            all.push((grows, text));
            if all.len() > 10 {
                all.swap_remove(round % 7);
            }
        }
    });
}

/// A thread's own blocks are used again by those that come after it.
fn threads_come_and_go() {
    for _ in 0..10 {
        each_of(3, |n| {
            let boxes: Vec<_> = (0..200).map(|i| Box::new([i; 16])).collect();
            assert_eq!(boxes[n][15], n);
        });
    }
}

/// The counts order it after all uses.
fn the_last_of_many_handles_frees() {
    for _ in 0..50 {
        let shared = Arc::new((vec![1u64; 50], String::from("shared")));
        let handles: Vec<_> = (0..4).map(|_| shared.clone()).collect();
        drop(shared);
        let handles = Mutex::new(handles);
        each_of(4, |n| {
            let mine = handles.lock().expect("nobody panics").pop();
            let mine = mine.expect("there are as many");
            assert_eq!(mine.0[n] as usize + mine.1.len(), 7);
        });
    }
}
