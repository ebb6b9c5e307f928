//! Starting goroutines, and what comes of them.

use std::any::Any;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use raddle::chan;
use raddle::sync::WaitGroup;

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| Some(panic.downcast_ref::<String>()?))
        .expect("a string")
}

/// Adds one when it is dropped.
struct CountsDrops(Arc<AtomicUsize>);

impl Drop for CountsDrops {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn join_gives_the_result() {
    let handles: Vec<_> = (0..100).map(|i| raddle::go(move || i * 2)).collect();
    for (i, handle) in handles.into_iter().enumerate() {
        assert_eq!(handle.join().unwrap(), i * 2);
    }
}

pub(crate) fn join_gives_the_panic() {
    let error = raddle::go(|| panic!("number {}", 7)).join().unwrap_err();
    assert!(error.is_panic() && !error.is_exit());
    assert_eq!(error.to_string(), "the goroutine panicked: number 7");
    assert_eq!(message(&*error.into_panic()), "number 7");
}

pub(crate) fn a_panic_of_any_type_comes_out() {
    let error = raddle::go(|| panic_any(41_u8)).join().unwrap_err();
    assert_eq!(*error.into_panic().downcast::<u8>().unwrap(), 41);
}

pub(crate) fn exit_runs_destructors_and_shows_in_join() {
    let drops = Arc::new(AtomicUsize::new(0));
    let counts = CountsDrops(drops.clone());
    let error = raddle::go(move || {
        let _kept_until_the_end = counts;
        raddle::exit();
    });
    let error = error.join().unwrap_err();
    assert!(error.is_exit() && !error.is_panic());
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

pub(crate) fn exit_is_not_a_panic_for_a_scope() {
    raddle::scope(|s| {
        s.go(|| raddle::exit());
    });
}

pub(crate) fn scope_lends_and_waits() {
    let mut numbers = [0; 100];
    raddle::scope(|s| {
        for (i, number) in numbers.iter_mut().enumerate() {
            s.go(move || {
                raddle::yield_now();
                *number = i;
            });
        }
    });
    assert!(numbers.iter().copied().eq(0..100));
}

pub(crate) fn scope_passes_a_panic_on() {
    let ended = AtomicUsize::new(0);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        raddle::scope(|s| {
            s.go(|| panic!("one of us"));
            s.go(|| {
                (0..100).for_each(|_| raddle::yield_now());
                ended.fetch_add(1, Ordering::Relaxed);
            });
        });
    }));
    assert!(panic.is_err());
    assert_eq!(
        ended.load(Ordering::Relaxed),
        1,
        "the scope waits for all of them first"
    );
}

pub(crate) fn scope_handles_give_results() {
    let text = String::from("lent");
    let (length, panic) = raddle::scope(|s| {
        let length = s.go(|| text.len());
        let panic = s.go(|| panic!("taken by join"));
        (length.join().unwrap(), panic.join().unwrap_err())
    });
    assert_eq!(length, 4);
    assert_eq!(message(&*panic.into_panic()), "taken by join");
}

pub(crate) fn scopes_nest() {
    let count = AtomicUsize::new(0);
    raddle::scope(|outer| {
        for _ in 0..5 {
            outer.go(|| {
                raddle::scope(|inner| {
                    for _ in 0..5 {
                        inner.go(|| count.fetch_add(1, Ordering::Relaxed));
                    }
                });
            });
        }
    });
    assert_eq!(count.into_inner(), 25);
}

pub(crate) fn names_and_ids_are_the_goroutines_own() {
    let builder = || raddle::Builder::new().name("weaver");
    let named = builder()
        .spawn(|| raddle::current().map(|me| (me.id(), me.name().map(String::from))))
        .unwrap();
    let id = named.id();
    assert_eq!(named.name(), Some("weaver"));
    assert_eq!(named.join().unwrap(), Some((id, Some("weaver".into()))));

    let unnamed = raddle::go(|| raddle::current().unwrap().name().map(String::from));
    assert_eq!(unnamed.name(), None);
    assert_eq!(unnamed.join().unwrap(), None);

    let handles: Vec<_> = (0..100)
        .map(|_| raddle::go(|| raddle::current().unwrap().id()))
        .collect();
    let ids: HashSet<_> = handles
        .into_iter()
        .map(|handle| handle.join().unwrap())
        .collect();
    assert_eq!(ids.len(), 100);
}

pub(crate) fn is_finished_turns_true() {
    let (tx, rx) = chan::bounded(0);
    let handle = raddle::go(move || rx.recv().unwrap());
    assert!(!handle.is_finished());
    tx.send(()).unwrap();
    while !handle.is_finished() {
        raddle::yield_now();
    }
    handle.join().unwrap();
}

pub(crate) fn a_dropped_handle_detaches() {
    let (tx, rx) = chan::bounded(0);
    drop(raddle::go(move || tx.send(5).unwrap()));
    assert_eq!(rx.recv(), Ok(5));
}

pub(crate) fn the_result_of_a_detached_goroutine_is_dropped() {
    let drops = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let counts = CountsDrops(drops.clone());
        drop(raddle::go(move || counts));
    }
    while drops.load(Ordering::Relaxed) < 100 {
        raddle::yield_now();
    }
    let counts = CountsDrops(drops.clone());
    drop(raddle::go(move || counts).join().unwrap());
    assert_eq!(drops.load(Ordering::Relaxed), 101);
}

pub(crate) fn big_closures_and_results_arrive_whole() {
    for size_matters in 0..3 {
        let big: [u64; 512] = std::array::from_fn(|i| i as u64 + size_matters);
        let back = raddle::go(move || {
            raddle::yield_now();
            big.map(|n| n * 2)
        });
        assert!(
            back.join()
                .unwrap()
                .iter()
                .copied()
                .eq((0..512).map(|i| (i + size_matters) * 2))
        );
    }
}

pub(crate) fn a_big_stack_holds_a_deep_recursion() {
    fn descend(depth: usize) -> usize {
        let frame = std::hint::black_box([depth; 32]);
        if depth == 0 {
            0
        } else {
            descend(depth - 1) + frame[31] / depth
        }
    }
    let handle = raddle::Builder::new()
        .stack_size(64 << 20)
        .spawn(|| descend(50_000))
        .unwrap();
    assert_eq!(handle.join().unwrap(), 50_000);
}

pub(crate) fn ten_thousand_are_alive_at_once() {
    const COUNT: usize = 10_000;
    let (gate, opens) = chan::bounded::<()>(0);
    let begun = Arc::new(WaitGroup::new());
    begun.add(COUNT as isize);
    let handles: Vec<_> = (0..COUNT)
        .map(|i| {
            let (begun, opens) = (begun.clone(), opens.clone());
            raddle::go(move || {
                begun.done();
                assert!(opens.recv().is_err());
                i
            })
        })
        .collect();
    begun.wait();
    assert!(raddle::num_goroutines() > COUNT);
    gate.close();
    assert_eq!(
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .sum::<usize>(),
        COUNT * (COUNT - 1) / 2
    );
}

pub(crate) fn goroutines_start_goroutines() {
    fn count(depth: u32) -> u32 {
        if depth == 0 {
            return 1;
        }
        let (left, right) = (
            raddle::go(move || count(depth - 1)),
            raddle::go(move || count(depth - 1)),
        );
        left.join().unwrap() + right.join().unwrap()
    }
    assert_eq!(count(9), 512);
}

pub(crate) fn run_nests() {
    let outer = raddle::current().unwrap().id();
    let text = String::from("lent");
    let (inner, length) = raddle::run(|| (raddle::current().unwrap().id(), text.len()));
    assert_ne!(inner, outer);
    assert_eq!(length, 4);
}

pub(crate) fn run_works_from_several_threads_at_once() {
    let threads: Vec<_> = (0..4)
        .map(|i| {
            thread::spawn(move || {
                (0..20)
                    .map(|_| raddle::run(|| raddle::go(move || i).join().unwrap()))
                    .sum::<usize>()
            })
        })
        .collect();
    for (i, thread) in threads.into_iter().enumerate() {
        assert_eq!(raddle::blocking(|| thread.join().unwrap()), 20 * i);
    }
}

pub(crate) fn run_passes_a_panic_on() {
    let panic = catch_unwind(|| raddle::run(|| panic!("out of run")));
    assert_eq!(message(&*panic.unwrap_err()), "out of run");
}

pub(crate) fn num_goroutines_counts_the_living() {
    let before = raddle::num_goroutines();
    let (gate, opens) = chan::bounded::<()>(0);
    let handles: Vec<_> = (0..10)
        .map(|_| {
            let opens = opens.clone();
            raddle::go(move || assert!(opens.recv().is_err()))
        })
        .collect();
    assert_eq!(raddle::num_goroutines(), before + 10);
    gate.close();
    handles
        .into_iter()
        .for_each(|handle| handle.join().unwrap());
    while raddle::num_goroutines() > before {
        raddle::yield_now();
    }
}

/// A lock of std's orders what they do with the buffer, which race mode does not see here. As with `println`.
pub(crate) fn all_may_write_to_one_buffer() {
    let output = Arc::new(Mutex::new(None));
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let output = Arc::clone(&output);
            raddle::go(move || {
                for line in 0..3 {
                    let mut output = output.lock().unwrap();
                    let output = output.get_or_insert_with(|| {
                        BufWriter::new(File::options().write(true).open("/dev/null").unwrap())
                    });
                    writeln!(output, "goroutine {n}, line {line}").unwrap();
                    output.flush().unwrap();
                }
            })
        })
        .collect();
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
}
