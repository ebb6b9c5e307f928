//! Stopping the world, and changing the number of Ps.
//!
//! The stopper runs as a blocking call: without a P. It takes every P away from its holder, and then owns them all:
//!
//! 1. It raises `stopping`. From now on nobody gets an idle P, and every M that comes by the scheduler leaves its P here.
//! 2. It takes the idle Ps, and those whose Ms are in blocking calls or that signal handlers left behind.
//! 3. It signals the Ms that still hold one (`signal`), and waits, again and again, until it has all.
//!
//! Goroutines in user code run on, without a P; they queue at their next runtime call. Stopped are the Ps, not the threads.
//!
//! # Invariants
//!
//! 1. One stopper at a time (`Sched::stopper`).
//! 2. `resize` is the one place where a P's race context and its cache of the heap are made and destroyed; it runs with all
//!    Ps Stopped.
//!
//! # References
//!
//! Go `runtime/proc.go`, `stopTheWorldWithSema`, `procresize`.

use crate::p::{P, Status};
use crate::sched::{MAX_PROCS, Sched, sched};
use crate::sys::Note;
use crate::{boot, signal};
use raddle_race::ProcCtx;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Wakes the stopper when a P is left to it.
static LEFT: Note = Note::new();
/// How long the stopper waits before it signals again.
const AGAIN: Duration = Duration::from_micros(200);

/// The number of Ps: how many goroutines run at once.
#[must_use]
pub fn procs() -> usize {
    boot::ensure();
    sched().procs()
}

/// Sets the number of Ps while the program runs. Returns the number before.
///
/// # Panics
///
/// If `n` is 0 or above [`MAX_PROCS`].
///
/// # Blocking
///
/// Stops the world: takes the P from every goroutine for some tens of microseconds. Parks the caller meanwhile.
#[track_caller]
pub fn set_procs(n: usize) -> usize {
    assert!(
        (1..=MAX_PROCS).contains(&n),
        "the number of procs must be 1 to {MAX_PROCS}, not {n}"
    );
    boot::ensure();
    crate::blocking(|| {
        let s = sched();
        let _one = s.stopper.lock();
        let before = s.procs();
        if n != before {
            stop_world(s);
            resize(s, n, None);
            start_world(s);
        }
        before
    })
}

/// A holder leaves its P, which is nobody's then.
pub(crate) fn stopped(p: &P) {
    p.set_status(Status::Stopped);
    // SAFETY: a static.
    unsafe { Note::wake(&raw const LEFT) };
}

fn stop_world(s: &'static Sched) {
    s.stopping.store(true, Ordering::SeqCst);
    loop {
        s.take_all_idle_ps();
        let mut running = 0;
        for p in s.each_p() {
            let _ = p.take_from(Status::Syscall, Status::Stopped)
                || p.take_from(Status::HandOff, Status::Stopped);
            if p.status() != Status::Stopped {
                running += 1;
            }
        }
        if running == 0 {
            return;
        }
        for m in s.all_ms.lock().iter().filter(|m| m.p().is_some()) {
            signal::preempt(m);
        }
        LEFT.sleep(Some(AGAIN));
    }
}

/// Makes the Ps number `n`, with the world stopped. `first` is the race context that P 0 takes at boot.
pub(crate) fn resize(s: &'static Sched, n: usize, mut first: Option<ProcCtx>) {
    let before = s.procs();
    for i in before..n {
        let p = s.p(i).unwrap_or_else(|| {
            let p = Box::leak(Box::new(P::new(i as u32, s.seed as u32)));
            s.set_p(i, p);
            p
        });
        if raddle_race::enabled() {
            p.race
                .set(Some(first.take().unwrap_or_else(raddle_race::proc_create)));
        }
        p.heap.set(Some(raddle_alloc::cache_create()));
        p.set_status(Status::Stopped);
    }
    for i in n..before {
        let p = s.p(i).expect("it took part");
        while let Some(g) = p.take_next().or_else(|| p.deque.pop().map(|q| q.0)) {
            s.injector.push(crate::p::Queued(g));
        }
        p.timers
            .move_all(&s.p(0).expect("there is always a P").timers);
        let free = p.drain_free();
        s.free.lock().append(free);
        // SAFETY: the P is stopped, and ours.
        unsafe { p.stacks.drain() };
        if let Some(ctx) = p.race.take() {
            // SAFETY: the P is stopped, and has it no more.
            unsafe { raddle_race::proc_destroy(ctx) };
        }
        if let Some(cache) = p.heap.take() {
            // SAFETY: the P is stopped: whoever had it uses the cache of another, or its thread's own.
            unsafe { raddle_alloc::cache_destroy(cache) };
        }
        p.set_status(Status::Dead);
    }
    s.set_procs_count(n);
}

/// Lets all Ps run again.
pub(crate) fn start_world(s: &'static Sched) {
    let ps: Vec<_> = s.each_p().collect();
    s.stopping.store(false, Ordering::SeqCst);
    for p in ps {
        p.set_status(Status::Running);
        if p.has_work() {
            s.start_m(p, false);
        } else {
            s.give_up_p(p, false);
        }
    }
    // Somebody looks at the global queue and the timers.
    s.wake_if_needed(crate::sched::Wake::ForQueue);
}
