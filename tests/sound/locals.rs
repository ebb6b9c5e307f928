//! Thread-locals that are large, aligned to more than a page, full of handles, or with destructors
//! that use the runtime: each goroutine has its own, whole, on whatever stack it was given.
//!
//! A goroutine's static thread-locals lie above its stack, in the same piece of address space. They
//! are large in this program, so a stack that was made without a look at them would lie under them.

use std::cell::{Cell, RefCell};
use std::env;
use std::hint::black_box;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raddle::chan;
use raddle::gc::{self, Gc};
use raddle::{Builder, JoinHandle};

use crate::process;

/// More than the smallest stacks have in all.
const BYTES: usize = 96 << 10;
const HANDLES: usize = 1 << 10;
const PAGES_4: usize = 16 << 10;

#[repr(align(16384))]
struct Aligned(Cell<u64>);

thread_local! {
    static BIG: [Cell<u8>; BYTES] = const { [const { Cell::new(0) }; BYTES] };
    static ALIGNED: Aligned = const { Aligned(Cell::new(3)) };
    static TABLE: [Cell<Option<Gc<u64>>>; HANDLES] = const { [const { Cell::new(None) }; HANDLES] };
    static SHARED: Rc<Cell<u64>> = Rc::new(Cell::new(7));
}

const INSIDE: &str = "RADDLE_TEST_INSIDE";
const LIMIT: Duration = Duration::from_secs(120);

/// Runs `body` in processes of its own: at 1, 2 and 8 Ps, race mode off and on, with small stacks
/// and with those of the default size.
#[track_caller]
fn everywhere(name: &str, body: fn()) {
    if env::var_os(INSIDE).is_some() {
        return raddle::run(body);
    }
    for procs in ["1", "2", "8"] {
        for race in ["0", "1"] {
            for stack in ["16K", "256K"] {
                let program = env::current_exe().expect("this program has a path");
                let mut command = Command::new(program);
                command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
                command
                    .env(INSIDE, "1")
                    .env("RADDLE_PROCS", procs)
                    .env("RADDLE_RACE", race)
                    .env("RADDLE_STACK", stack);
                let outcome = process::run(&mut command, LIMIT);
                assert!(
                    outcome.status.success() && outcome.stdout.contains("1 passed"),
                    "procs {procs}, race {race}, stack {stack}: {outcome}"
                );
            }
        }
    }
}

/// Goroutines on stacks of many sizes, the default among them.
fn on_all_stacks<T: Send + 'static>(
    each: usize,
    f: impl Fn(usize) -> T + Clone + Send + 'static,
) -> Vec<JoinHandle<T>> {
    let sizes = [1, 16 << 10, 20 << 10, 64 << 10, 128 << 10, 1 << 20];
    (0..each * (sizes.len() + 1))
        .map(|i| {
            let f = f.clone();
            match sizes.get(i % (sizes.len() + 1)) {
                Some(&size) => Builder::new().stack_size(size).spawn(move || f(i)).unwrap(),
                None => raddle::go(move || f(i)),
            }
        })
        .collect()
}

fn join_all<T>(handles: Vec<JoinHandle<T>>) -> Vec<T> {
    handles.into_iter().map(|h| h.join().unwrap()).collect()
}

/// A few KiB of frames, each full of a value of its own.
#[inline(never)]
fn use_the_stack(depth: u8, value: u8) {
    let frame = black_box([value ^ depth; 200]);
    if depth > 0 {
        use_the_stack(depth - 1, value);
    }
    assert!(frame.iter().all(|byte| *byte == value ^ depth));
}

#[test]
fn large_ones_lie_beside_the_stack() {
    everywhere("locals::large_ones_lie_beside_the_stack", || {
        let weave = |i: usize| {
            let own = i as u8 + 1;
            BIG.with(|big| {
                assert!(big.iter().all(|byte| byte.get() == 0), "it begins as new");
                big.iter().for_each(|byte| byte.set(own));
            });
            for _ in 0..3 {
                use_the_stack(8, own);
                raddle::yield_now();
                BIG.with(|big| assert!(big.iter().all(|byte| byte.get() == own)));
            }
        };
        // Twice: the second time on stacks that were used before.
        for _ in 0..2 {
            join_all(on_all_stacks(3, weave));
        }
    });
}

/// Recurses until so much of the stack is in use.
#[inline(never)]
fn use_bytes(bytes: usize, from: usize) {
    let frame = black_box([1_u8; 200]);
    let here = frame.as_ptr().addr();
    if from - here < bytes {
        use_bytes(bytes, from);
    }
    assert!(frame.iter().all(|byte| *byte == 1));
}

#[test]
fn a_stack_is_as_large_as_was_asked_for() {
    everywhere("locals::a_stack_is_as_large_as_was_asked_for", || {
        /// The guard page, what small thread-locals may take, and the frames above and below.
        const REST: usize = 16 << 10;
        for size in [32 << 10, 64 << 10, 128 << 10, 256 << 10, 2 << 20] {
            let dive = move || {
                BIG.with(|big| big.iter().for_each(|byte| byte.set(9)));
                let top = black_box(0_u8);
                use_bytes(size - REST, std::ptr::from_ref(&top).addr());
                BIG.with(|big| assert!(big.iter().all(|byte| byte.get() == 9)));
            };
            let goroutine = Builder::new().stack_size(size).spawn(dive);
            goroutine.unwrap().join().unwrap();
        }
    });
}

#[test]
fn aligned_ones_are_aligned_on_every_stack() {
    everywhere("locals::aligned_ones_are_aligned_on_every_stack", || {
        let check = |i: usize| {
            ALIGNED.with(|aligned| {
                assert_eq!(std::ptr::from_ref(aligned).addr() % PAGES_4, 0);
                assert_eq!(aligned.0.replace(i as u64), 3);
                use_the_stack(8, i as u8);
                raddle::yield_now();
                assert_eq!(aligned.0.get(), i as u64);
            });
        };
        join_all(on_all_stacks(6, check));
        join_all(on_all_stacks(6, check));
    });
}

#[test]
fn handles_in_them_keep_their_objects() {
    everywhere("locals::handles_in_them_keep_their_objects", || {
        let (tx, rx) = chan::bounded::<()>(0);
        let keep = move |i: usize| {
            TABLE.with(|table| {
                for (n, place) in table.iter().enumerate() {
                    place.set(Some(Gc::new((i * HANDLES + n) as u64)));
                }
            });
            // Some are parked while others collect, some run, and some are in a call that blocks.
            match i % 3 {
                0 => assert!(rx.recv().is_err()),
                1 => gc::collect(),
                _ => raddle::blocking(gc::collect),
            }
            (0..200).for_each(|n| _ = black_box(Gc::new(u64::MAX - n)));
            TABLE.with(|table| {
                for (n, place) in table.iter().enumerate() {
                    assert_eq!(*place.get().unwrap(), (i * HANDLES + n) as u64);
                }
            });
        };
        let all = on_all_stacks(2, keep);
        gc::collect();
        drop(tx);
        join_all(all);
    });
}

#[test]
fn their_handles_outlive_no_goroutine() {
    everywhere("locals::their_handles_outlive_no_goroutine", || {
        struct Counts(Arc<AtomicUsize>);
        impl Drop for Counts {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        thread_local!(static LAST: RefCell<Vec<Gc<Counts>>> = const { RefCell::new(Vec::new()) });
        let dropped = Arc::new(AtomicUsize::new(0));
        let counts = dropped.clone();
        let all = on_all_stacks(4, move |_| {
            LAST.with_borrow_mut(|last| last.push(Gc::new(Counts(counts.clone()))));
            raddle::yield_now();
        });
        let made = all.len();
        join_all(all);
        // Not all, since one may still look as if it were reached.
        while dropped.load(Ordering::Relaxed) < made / 2 {
            gc::collect();
            raddle::yield_now();
        }
    });
}

#[test]
fn counts_are_the_goroutines_own() {
    everywhere("locals::counts_are_the_goroutines_own", || {
        let count = |i: usize| {
            let own = SHARED.with(Rc::clone);
            own.set(i as u64);
            for _ in 0..20 {
                let more: Vec<_> = (0..30).map(|_| own.clone()).collect();
                raddle::yield_now();
                assert_eq!(Rc::strong_count(&own), 32);
                drop(more);
                assert_eq!(SHARED.with(|shared| shared.get()), i as u64);
            }
            Rc::strong_count(&own)
        };
        assert!(
            join_all(on_all_stacks(4, count))
                .iter()
                .all(|count| *count == 2)
        );
    });
}

#[test]
fn destructors_may_wait_and_use_other_locals() {
    everywhere("locals::destructors_may_wait_and_use_other_locals", || {
        struct Tells(Cell<Option<chan::Sender<u64>>>);
        impl Drop for Tells {
            fn drop(&mut self) {
                let Some(tx) = self.0.take() else { return };
                raddle::yield_now();
                use_the_stack(4, 9);
                let sum: u64 = BIG.with(|big| big.iter().map(|byte| u64::from(byte.get())).sum());
                raddle::yield_now();
                tx.send(sum).unwrap();
            }
        }
        thread_local!(static TELLS: Tells = const { Tells(Cell::new(None)) });
        let (tx, rx) = chan::bounded(0);
        let all = on_all_stacks(2, move |i| {
            TELLS.with(|tells| tells.0.set(Some(tx.clone())));
            BIG.with(|big| big[i].set(i as u8));
        });
        let count = all.len() as u64;
        assert_eq!(rx.iter().sum::<u64>(), (0..count).sum());
        join_all(all);
    });
}

#[test]
fn plain_threads_and_blocking_calls_have_room_too() {
    everywhere(
        "locals::plain_threads_and_blocking_calls_have_room_too",
        || {
            let fill = |own: u8| {
                BIG.with(|big| {
                    big.iter().for_each(|byte| byte.set(own));
                    use_the_stack(100, own);
                    assert!(big.iter().all(|byte| byte.get() == own));
                });
            };
            let all = on_all_stacks(1, move |i| {
                raddle::blocking(|| fill(i as u8));
                std::thread::spawn(move || fill(i as u8 + 100))
                    .join()
                    .unwrap();
                BIG.with(|big| assert!(big.iter().all(|byte| byte.get() == i as u8)));
            });
            join_all(all);
        },
    );
}
