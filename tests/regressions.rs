//! Bugs that were found once, each with what it did.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{ptr, thread};

/// A thread that blocks all signals started Ms that could not be preempted: `set_procs` waited for the end of a hog.
#[test]
fn a_hog_is_broken_up_on_a_thread_made_by_one_that_blocks_signals() {
    let signals_blocked = || {
        // SAFETY: all zeros is a valid set to fill.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `all` is ours.
        unsafe { libc::sigfillset(&mut all) };
        // SAFETY: changes the mask of this thread only.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &all, ptr::null_mut()) };
        raddle::run(|| {
            let stop = AtomicBool::new(false);
            raddle::scope(|s| {
                for _ in 0..4 {
                    s.go(|| {
                        while !stop.load(Ordering::Relaxed) {
                            std::hint::spin_loop()
                        }
                    });
                }
                let before = raddle::set_procs(3);
                raddle::set_procs(before);
                stop.store(true, Ordering::Relaxed);
            });
        });
    };
    thread::spawn(signals_blocked).join().unwrap();
}

/// `exit` in a closure given to `run` left its thread waiting for ever, with no word.
#[test]
fn exit_in_run_is_a_panic_of_run() {
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        raddle::run(|| -> () { raddle::exit() })
    }));
    let message = unwound.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("exit()"), "{message}");
}

/// Inside `blocking` a goroutine was nobody: `current` gave nothing, and `exit` said that it was on a plain thread.
#[test]
fn a_goroutine_is_itself_in_a_blocking_call() {
    raddle::run(|| {
        let name = raddle::blocking(|| raddle::current().unwrap().name().map(String::from));
        assert_eq!(name.as_deref(), Some("main"));
        let left = raddle::go(|| raddle::blocking(|| raddle::exit())).join();
        assert!(left.unwrap_err().is_exit());
    });
}
