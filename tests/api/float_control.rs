//! The control words of the floating-point units are the goroutine's: what it sets is in force for
//! it alone, over every kind of wait, and a new goroutine begins with the defaults.
//!
//! Rust code that computes under other words than the defaults is not defined; these cases compute
//! nothing between setting and resetting them.

use std::arch::asm;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use raddle::chan;

/// The control bits of MXCSR, and the x87 control word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Words(u32, u16);

const DEFAULT: Words = Words(0x1f80, 0x037f);
/// Round up and to double precision; flush to zero.
const UP: Words = Words(0xdf80, 0x0a7f);
/// Round down; denormals are zeros; the x87 in single precision.
const DOWN: Words = Words(0x3fc0, 0x047f);

fn get() -> Words {
    let (mut mxcsr, mut x87) = (0_u32, 0_u16);
    // SAFETY: two stores to variables of their sizes.
    unsafe {
        asm!("stmxcsr [{}]", "fnstcw [{}]", in(reg) &raw mut mxcsr, in(reg) &raw mut x87, options(nostack));
    }
    Words(mxcsr & !0x3f, x87)
}

fn set(words: Words) {
    // SAFETY: valid words, under which nothing traps. No arithmetic comes before `reset`.
    unsafe {
        asm!("ldmxcsr [{}]", "fldcw [{}]", in(reg) &raw const words.0, in(reg) &raw const words.1, options(nostack));
    }
}

/// Runs `wait` under `words`, and has goroutines with other words run meanwhile.
#[track_caller]
fn keeps(words: Words, wait: impl FnOnce()) {
    set(words);
    wait();
    let after = get();
    set(DEFAULT);
    assert_eq!(after, words);
}

/// Waits for a goroutine that begins with the defaults, and leaves others.
fn meet_another() {
    let (tx, rx) = chan::bounded(0);
    raddle::go(move || {
        let first = get();
        set(DOWN);
        raddle::yield_now();
        let later = get();
        set(DEFAULT);
        assert_eq!((first, later), (DEFAULT, DOWN));
        set(DOWN);
        tx.send(()).unwrap();
        // It ends with words of its own in force.
    });
    rx.recv().unwrap();
}

pub(crate) fn a_wait_keeps_them() {
    keeps(UP, meet_another);
    keeps(UP, || {
        for _ in 0..10 {
            meet_another();
            raddle::yield_now();
        }
    });
    keeps(UP, || {
        raddle::go(meet_another).join().unwrap();
        raddle::time::sleep(Duration::from_millis(2));
    });
    assert_eq!(get(), DEFAULT);
}

pub(crate) fn a_new_goroutine_begins_with_the_defaults() {
    for _ in 0..100 {
        set(UP);
        let handle = raddle::go(get);
        let found = handle.join();
        set(DEFAULT);
        assert_eq!(found.unwrap(), DEFAULT);
    }
}

pub(crate) fn a_crowd_keeps_them_apart() {
    raddle::scope(|s| {
        for i in 0..30 {
            s.go(move || {
                let own = [DEFAULT, UP, DOWN][i % 3];
                for _ in 0..50 {
                    keeps(own, raddle::yield_now);
                    keeps(own, meet_another);
                }
            });
        }
    });
}

pub(crate) fn a_blocking_call_runs_with_them() {
    keeps(UP, || {
        let (inside, left) = raddle::blocking(|| {
            let inside = get();
            set(DOWN);
            (inside, get())
        });
        // What a function leaves behind is its caller's.
        let after = get();
        set(UP);
        assert_eq!((inside, left, after), (UP, DOWN, DOWN));
    });
    // Longer than the right to run is left to a call that blocks.
    keeps(UP, || {
        let (tx, rx) = chan::bounded(0);
        let busy = raddle::go(move || {
            rx.recv().unwrap();
            meet_another();
        });
        raddle::blocking(|| {
            tx.send(()).unwrap();
            thread::sleep(Duration::from_millis(1));
        });
        busy.join().unwrap();
    });
}

pub(crate) fn a_locked_thread_keeps_them() {
    raddle::go(|| {
        raddle::lock_os_thread();
        keeps(UP, || (0..20).for_each(|_| meet_another()));
        raddle::unlock_os_thread();
    })
    .join()
    .unwrap();
}

/// The loop never enters the runtime: its goroutine runs on without the right to, and waits for it
/// at the next call.
pub(crate) fn a_tight_loop_that_lost_its_turn_keeps_them() {
    static SEEN: AtomicBool = AtomicBool::new(false);
    let others: Vec<_> = (0..raddle::procs())
        .map(|_| {
            raddle::go(|| {
                set(DOWN);
                SEEN.store(true, Ordering::Release);
                raddle::yield_now();
                set(DEFAULT);
            })
        })
        .collect();
    keeps(UP, || {
        while !SEEN.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        raddle::yield_now();
    });
    others.into_iter().for_each(|other| other.join().unwrap());
}

pub(crate) fn a_plain_threads_words_stay_with_it() {
    let thread = thread::spawn(|| {
        set(UP);
        // The main goroutine of a `run` is a new one.
        let inside = raddle::run(get);
        let (tx, rx) = chan::bounded(0);
        raddle::go(move || {
            set(DOWN);
            tx.send(()).unwrap();
        });
        rx.recv().unwrap();
        let after = get();
        set(DEFAULT);
        assert_eq!((inside, after), (DEFAULT, UP));
    });
    raddle::blocking(|| thread.join()).unwrap();
}
