//! Who runs when, and on which thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::{hint, panic};

use raddle::chan;

/// Raises the flag when it is dropped, so that a case that fails does not leave its hogs running.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn a_tight_loop_does_not_starve_others() {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Flag(stop.clone());
    let hogs: Vec<_> = (0..2 * raddle::procs())
        .map(|_| {
            let stop = stop.clone();
            raddle::go(move || {
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            })
        })
        .collect();
    // Each round needs a P several times, and the hogs have all of them.
    for round in 0..5 {
        let (tx, rx) = chan::bounded(0);
        raddle::go(move || tx.send(round).unwrap());
        assert_eq!(rx.recv(), Ok(round));
    }
    drop(flag);
    hogs.into_iter().for_each(|hog| hog.join().unwrap());
}

pub(crate) fn a_call_that_blocks_the_thread_does_not_starve_others() {
    let blocked: Vec<_> = (0..raddle::procs())
        .map(|_| {
            let (tx, rx) = mpsc::channel();
            (tx, raddle::go(move || rx.recv().unwrap()))
        })
        .collect();
    for _ in 0..3 {
        raddle::yield_now();
    }
    for (i, (tx, handle)) in blocked.into_iter().enumerate() {
        tx.send(i).unwrap();
        assert_eq!(handle.join().unwrap(), i);
    }
}

pub(crate) fn blocking_gives_the_p_up() {
    let calls = 2 * raddle::procs();
    let (begun_tx, begun) = mpsc::channel();
    let (replies, handles): (Vec<_>, Vec<_>) = (0..calls)
        .map(|_| {
            let (tx, rx) = mpsc::channel();
            let begun = begun_tx.clone();
            let call = move || {
                begun.send(()).unwrap();
                rx.recv().unwrap()
            };
            (tx, raddle::go(move || raddle::blocking(call)))
        })
        .unzip();
    // All of them are inside a call that blocks, and we still run.
    (0..calls).for_each(|_| raddle::blocking(|| begun.recv().unwrap()));
    replies.iter().for_each(|reply| reply.send(3).unwrap());
    handles
        .into_iter()
        .for_each(|handle| assert_eq!(handle.join().unwrap(), 3));
}

pub(crate) fn blocking_returns_and_unwinds() {
    let text = String::from("lent");
    assert_eq!(raddle::blocking(|| text.len()), 4);
    let caught = panic::catch_unwind(|| raddle::blocking(|| panic!("from inside")));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"from inside"));
    assert_eq!(raddle::blocking(|| raddle::blocking(|| 1) + 1), 2);
}

pub(crate) fn yield_lets_others_run() {
    let turns = Arc::new(AtomicUsize::new(0));
    let other = {
        let turns = turns.clone();
        raddle::go(move || {
            (0..100).for_each(|_| {
                turns.fetch_add(1, Ordering::Relaxed);
                raddle::yield_now();
            })
        })
    };
    while turns.load(Ordering::Relaxed) < 100 {
        raddle::yield_now();
    }
    other.join().unwrap();
}

fn thread_number() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Far more goroutines than a P's own queue has room for, so that most wait in the global one.
pub(crate) fn yield_passes_nobody() {
    const CROWD: usize = 1000;
    raddle::set_procs(1);
    let (begins, turned) = (AtomicBool::new(false), AtomicUsize::new(0));
    raddle::scope(|scope| {
        for _ in 0..CROWD {
            scope.go(|| {
                while !begins.load(Ordering::Acquire) {
                    raddle::yield_now();
                }
                turned.fetch_add(1, Ordering::Relaxed);
                (0..5).for_each(|_| raddle::yield_now());
                assert_eq!(turned.load(Ordering::Relaxed), CROWD);
            });
        }
        begins.store(true, Ordering::Release);
    });
}

pub(crate) fn a_locked_goroutine_stays_on_its_thread() {
    raddle::scope(|s| {
        for _ in 0..4 {
            s.go(|| {
                raddle::lock_os_thread();
                raddle::lock_os_thread();
                let thread = thread_number();
                for _ in 0..50 {
                    raddle::yield_now();
                    assert_eq!(thread_number(), thread);
                }
                raddle::unlock_os_thread();
                raddle::yield_now();
                assert_eq!(thread_number(), thread, "locked twice, unlocked once");
                raddle::unlock_os_thread();
                raddle::yield_now();
            });
            s.go(|| (0..200).for_each(|_| raddle::yield_now()));
        }
    });
}

/// Blocks the signal on the calling thread, or asks whether it is blocked there.
fn signal_is_blocked(block_it: bool) -> bool {
    // SAFETY: all zeros is a valid set to fill.
    let (mut set, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
    if block_it {
        // SAFETY: a set of ours, and a signal.
        unsafe { libc::sigaddset(&mut set, libc::SIGUSR2) };
    }
    // SAFETY: both sets are ours.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before) };
    // SAFETY: filled above.
    unsafe { libc::sigismember(&before, libc::SIGUSR2) == 1 }
}

/// Goroutines on so many threads at once.
fn on_how_many_threads_the_signal_is_blocked(threads: usize) -> usize {
    let all_here = Arc::new(std::sync::Barrier::new(threads));
    let handles: Vec<_> = (0..threads)
        .map(|_| {
            let all_here = all_here.clone();
            let call = move || {
                all_here.wait();
                signal_is_blocked(false)
            };
            raddle::go(move || raddle::blocking(call))
        })
        .collect();
    let is_blocked = handles.into_iter().map(|handle| handle.join().unwrap());
    is_blocked.filter(|is_blocked| *is_blocked).count()
}

/// What a goroutine does to a thread that it has locked comes to no other: neither on that thread, which ends with it, nor on those
/// that had to be started while it ran.
pub(crate) fn a_thread_ends_with_the_goroutine_that_locked_it() {
    for round in 0..20 {
        let locked = raddle::go(move || {
            raddle::lock_os_thread();
            raddle::lock_os_thread();
            assert!(!signal_is_blocked(true));
            assert_eq!(on_how_many_threads_the_signal_is_blocked(3 + round), 0);
            assert!(signal_is_blocked(false));
            match round % 4 {
                0 => raddle::exit(),
                1 => panic::resume_unwind(Box::new("unwound")),
                2 => raddle::unlock_os_thread(),
                _ => {}
            }
        });
        let ended = locked.join();
        let is_unwound = |error: raddle::JoinError| {
            error.is_exit() || *error.into_panic().downcast::<&str>().unwrap() == "unwound"
        };
        assert!(ended.is_ok() != (round % 4 < 2) && ended.err().is_none_or(is_unwound));
        assert_eq!(on_how_many_threads_the_signal_is_blocked(3 + round), 0);
    }
    // Where the threads do not end, there are hundreds by now.
    for _ in 0..300 {
        raddle::go(raddle::lock_os_thread).join().unwrap();
    }
    while std::fs::read_dir("/proc/self/task").unwrap().count() > 100 {
        raddle::yield_now();
    }
}

pub(crate) fn a_locked_goroutine_talks_to_others() {
    let (ping, pings) = chan::bounded::<u32>(0);
    let (pong, pongs) = chan::bounded(0);
    let locked = raddle::go(move || {
        raddle::lock_os_thread();
        let thread = thread_number();
        for ball in pings {
            assert_eq!(thread_number(), thread);
            pong.send(ball + 1).unwrap();
        }
        // It ends locked: its thread ends with it.
    });
    for ball in 0..100 {
        ping.send(ball).unwrap();
        assert_eq!(pongs.recv(), Ok(ball + 1));
    }
    drop(ping);
    locked.join().unwrap();
}

pub(crate) fn procs_change_under_load() {
    let before = raddle::procs();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Flag(stop.clone());
    let players: Vec<_> = (0..8)
        .map(|_| {
            let (ping, pings) = chan::bounded::<u64>(0);
            let (pong, pongs) = chan::bounded::<u64>(0);
            raddle::go(move || pings.iter().for_each(|ball| pong.send(ball + 1).unwrap()));
            let stop = stop.clone();
            raddle::go(move || {
                let mut ball = 0;
                while !stop.load(Ordering::Relaxed) {
                    ping.send(ball).unwrap();
                    assert_eq!(pongs.recv(), Ok(ball + 1));
                    ball += 1;
                }
            })
        })
        .collect();
    for round in 0..30 {
        let procs = [1, 8, 2, 5, 3][round % 5];
        raddle::set_procs(procs);
        assert_eq!(raddle::procs(), procs);
        (0..10).for_each(|_| raddle::yield_now());
    }
    raddle::set_procs(before);
    drop(flag);
    players
        .into_iter()
        .for_each(|player| player.join().unwrap());
}

pub(crate) fn procs_says_what_was_set() {
    let asked: usize = std::env::var("RADDLE_PROCS").unwrap().parse().unwrap();
    assert_eq!(raddle::procs(), asked);
    raddle::set_procs(3);
    assert_eq!(raddle::procs(), 3);
    raddle::go(|| assert_eq!(raddle::procs(), 3))
        .join()
        .unwrap();
}
