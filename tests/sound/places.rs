//! Handles in places where a collector may not look: other stacks, other heaps, odd addresses. Each
//! is the only one that leads to its object, and the object is there all the same.

use crate::garbage::{clear_stack, collect_and_reuse, deep};
use allocator_api2::alloc::System;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use raddle::gc::{Atomic, Gc, Slice, Weak};
use raddle::{chan, sync};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

type Object = [u64; 8];

/// Room on another stack for what the tests do there, in bytes.
const SEGMENT: usize = 256 << 10;

fn object() -> Gc<Object> {
    deep(&|| Gc::new([7; 8]))
}

#[track_caller]
fn assert_there(gc: Gc<Object>) {
    assert_eq!(*gc, [7; 8], "the object is gone");
}

/// Collects, from here and while others run.
fn collect() {
    for _ in 0..3 {
        collect_and_reuse();
    }
}

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Packed<T: Copy>(u8, T);

#[derive(Clone, Copy)]
#[repr(C, packed(2))]
struct PackedTwo<T: Copy>(u16, T, u8);

#[test]
fn a_generic_packed_type_takes_a_handle_to_an_odd_address() {
    raddle::run(|| {
        let on_heap: Vec<Packed<Gc<Object>>> = (0..100).map(|i| Packed(i, object())).collect();
        let nested = Box::new(Packed(1, PackedTwo(2, object(), 3)));
        let on_stack = black_box([Packed(1, object()), Packed(2, object())]);
        let collected = deep(&|| Gc::new(Packed(1, Gc::new([7; 8]))));
        let with_more = deep(&|| Gc::new((7_u64, Packed(1, Gc::new([7; 8])))));
        let in_slice = deep(&|| Slice::from_fn(5000, |_| Packed(1, Gc::new([7; 8]))));
        // A byte of it lies in the next piece of a large object, wherever pieces begin.
        let large = deep(&|| {
            let mut all = vec![0_u8; 0];
            all.resize(3, 0);
            Slice::from_fn(60_000, |i| PackedTwo(i as u16, Gc::new([7; 8]), all[i % 3]))
        });
        collect();
        on_heap.iter().for_each(|packed| assert_there(packed.1));
        assert_there(nested.1.1);
        black_box(&on_stack)
            .iter()
            .for_each(|packed| assert_there(packed.1));
        assert_there(collected.1);
        assert_there(with_more.1.1);
        in_slice.iter().for_each(|packed| assert_there(packed.1));
        large.iter().for_each(|packed| assert_there(packed.1));
        assert_eq!({ on_heap[3].0 }, 3);
    });
}

#[test]
fn all_handles_may_lie_at_odd_addresses() {
    raddle::run(|| {
        let slices: Vec<_> = (0..50)
            .map(|i| Packed(i, deep(&|| Slice::from_fn(8, |_| 7_u64))))
            .collect();
        let kept = object();
        let weak: Vec<Packed<Weak<Object>>> = (0..50)
            .map(|i| Packed(i, deep(&|| Gc::downgrade(&kept))))
            .collect();
        collect();
        assert!(slices.iter().all(|packed| *{ packed.1 } == [7; 8]));
        weak.iter()
            .for_each(|packed| assert_there({ packed.1 }.upgrade().expect("`kept` leads to it")));
        assert_there(kept);
    });
}

#[test]
fn on_the_stack_of_a_coroutine_of_the_programs_own() {
    raddle::run(|| {
        let body = |yielder: &Yielder<(), ()>, ()| {
            let gc = object();
            yielder.suspend(());
            assert_there(gc);
        };
        let mut all: Vec<_> = (0..10).map(|_| Coroutine::new(body)).collect();
        for coroutine in &mut all {
            assert!(matches!(coroutine.resume(()), CoroutineResult::Yield(())));
        }
        clear_stack();
        collect();
        for mut coroutine in all {
            assert!(matches!(coroutine.resume(()), CoroutineResult::Return(())));
        }
    });
}

#[test]
fn below_a_coroutine_that_waits_on_a_goroutine() {
    raddle::run(|| {
        let (go_on, wait) = chan::bounded::<()>(0);
        let (ready, is_ready) = chan::bounded::<()>(0);
        let goroutine = raddle::go(move || {
            let below = object();
            let mut coroutine = Coroutine::new(move |_: &Yielder<(), ()>, ()| {
                let inside = object();
                ready.send(()).unwrap();
                wait.recv().unwrap();
                assert_there(inside);
            });
            coroutine.resume(());
            assert_there(below);
        });
        is_ready.recv().unwrap();
        collect();
        go_on.send(()).unwrap();
        goroutine.join().unwrap();
    });
}

/// Calls `wait` on the third of three stacks, with a handle on each.
fn on_other_stacks(wait: impl FnOnce()) {
    let first = object();
    stacker::grow(SEGMENT, || {
        let second = object();
        stacker::grow(SEGMENT, || {
            let third = object();
            wait();
            assert_there(third);
        });
        assert_there(second);
    });
    assert_there(first);
}

#[test]
fn below_and_on_a_stack_that_a_goroutine_went_to() {
    raddle::run(|| {
        for procs in [1, 2, 8] {
            raddle::set_procs(procs);
            let (go_on, wait) = chan::bounded::<()>(0);
            let (ready, is_ready) = chan::unbounded::<()>();
            let parked = (0..4).map(|_| {
                let (ready, wait) = (ready.clone(), wait.clone());
                raddle::go(move || {
                    on_other_stacks(|| {
                        ready.send(()).unwrap();
                        wait.recv().unwrap();
                    })
                })
            });
            let (ready, wait) = (ready.clone(), wait.clone());
            let blocked = raddle::go({
                let (ready, wait) = (ready.clone(), wait.clone());
                move || {
                    on_other_stacks(|| {
                        raddle::blocking(move || {
                            ready.send(()).unwrap();
                            wait.recv().unwrap();
                        })
                    })
                }
            });
            let thread = thread::spawn({
                let (ready, wait) = (ready.clone(), wait.clone());
                move || {
                    on_other_stacks(|| {
                        ready.send(()).unwrap();
                        wait.recv().unwrap();
                    })
                }
            });
            let spins = raddle::go(move || {
                on_other_stacks(|| {
                    ready.send(()).unwrap();
                    while wait.try_recv().is_err() {
                        std::hint::spin_loop();
                    }
                })
            });
            let parked: Vec<_> = parked.collect();
            for _ in 0..7 {
                is_ready.recv().unwrap();
            }
            collect();
            drop(ready_all(go_on));
            parked
                .into_iter()
                .for_each(|goroutine| goroutine.join().unwrap());
            blocked.join().unwrap();
            spins.join().unwrap();
            thread.join().unwrap();
        }
    });
}

/// Lets seven go on.
fn ready_all(go_on: chan::Sender<()>) -> chan::Sender<()> {
    for _ in 0..7 {
        go_on.send(()).unwrap();
    }
    go_on
}

#[test]
fn a_panic_leaves_another_stack() {
    raddle::run(|| {
        let below = object();
        let panicked = raddle::go(move || {
            let below = object();
            let caught = std::panic::catch_unwind(|| {
                stacker::grow(SEGMENT, || -> () {
                    let here = object();
                    collect();
                    assert_there(here);
                    std::panic::resume_unwind(Box::new(here));
                })
            });
            assert_there(below);
            collect();
            assert_there(*caught.unwrap_err().downcast().unwrap());
        });
        panicked.join().unwrap();
        assert_there(below);
    });
}

#[test]
fn in_the_heap_of_the_c_library() {
    raddle::run(|| {
        let mut small = allocator_api2::vec::Vec::new_in(System);
        for _ in 0..100 {
            small.push(allocator_api2::boxed::Box::new_in(object(), System));
        }
        // More than malloc takes from its heap: a mapping of its own.
        let mut large = allocator_api2::vec::Vec::with_capacity_in(100_000, System);
        large.resize(50_000, None);
        large[49_999] = Some(object());
        let odd = allocator_api2::boxed::Box::new_in(Packed(1, object()), System);
        let elsewhere = thread::spawn(|| allocator_api2::boxed::Box::new_in(object(), System));
        let elsewhere = elsewhere.join().unwrap();
        collect();
        small.iter().for_each(|gc| assert_there(**gc));
        assert_there(large[49_999].unwrap());
        assert_there(odd.1);
        assert_there(*elsewhere);
    });
}

#[test]
fn in_thread_locals_of_threads_and_goroutines() {
    thread_local! {
        static PLAIN: Cell<Option<Gc<Object>>> = const { Cell::new(None) };
        static WITH_DESTRUCTOR: Keeps = const { Keeps(Cell::new(None)) };
    }
    struct Keeps(Cell<Option<Gc<Object>>>);
    impl Drop for Keeps {
        fn drop(&mut self) {
            assert_there(self.0.get().unwrap());
        }
    }
    fn keep(ready: chan::Sender<()>, wait: chan::Receiver<()>) {
        PLAIN.set(Some(object()));
        WITH_DESTRUCTOR.with(|keeps| keeps.0.set(Some(object())));
        ready.send(()).unwrap();
        wait.recv().unwrap();
        assert_there(PLAIN.get().unwrap());
    }
    raddle::run(|| {
        let (go_on, wait) = chan::bounded::<()>(0);
        let (ready, is_ready) = chan::unbounded::<()>();
        let goroutine = raddle::go({
            let (ready, wait) = (ready.clone(), wait.clone());
            || keep(ready, wait)
        });
        let thread = thread::spawn(|| keep(ready, wait));
        is_ready.recv().unwrap();
        is_ready.recv().unwrap();
        collect();
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        goroutine.join().unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn on_its_way_from_one_goroutine_to_another() {
    raddle::run(|| {
        raddle::set_procs(1);
        let (tx, rx) = chan::bounded(4);
        tx.send(object()).unwrap();
        let (direct, received) = chan::bounded(0);
        let sender = raddle::go(move || direct.send(object()).unwrap());
        let not_begun = {
            let gc = object();
            raddle::go(move || assert_there(gc))
        };
        let done = raddle::go(object);
        let atomic = Box::new(Atomic::new(Some(object())));
        let locked = sync::Mutex::new(Some(object()));
        raddle::yield_now();
        clear_stack();
        collect();
        assert_there(rx.recv().unwrap());
        assert_there(received.recv().unwrap());
        sender.join().unwrap();
        not_begun.join().unwrap();
        assert_there(done.join().unwrap());
        assert_there(atomic.load(SeqCst).unwrap());
        assert_there(locked.lock().unwrap());
    });
}
