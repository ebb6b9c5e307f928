//! The cycle: who asks for one, the thread that runs it, and its steps.
//!
//! # Threads
//!
//! A coordinator (`raddle-gc`), started by whoever first needs a cycle, and helpers, which it starts when the world has more than one CPU. They live as
//! long as the process. A child of `fork` has none; it starts its own when it needs one.
//!
//! # Steps
//!
//! 1. Finish sweeping, and reserve memory for the marking.
//! 2. Stop the world; empty all magazines, so that the free bits tell what is allocated.
//! 3. Mark, clear weak cells, queue destructors and mark what they need.
//! 4. Hand all collected spans to the sweeper, plan the next cycle, start the world.
//!
//! # Invariants
//!
//! 1. From the stop to the start the collector neither allocates from the heap, nor takes a lock that the program may hold, nor calls the
//!    detector.
//! 2. `BEGUN` is counted before a cycle's roots are looked at, `DONE` after the world runs again: who waits until `DONE` has passed what `BEGUN`
//!    was at the call has seen a cycle that began after it.
//!
//! # Memory ordering
//!
//! `ask: fetch_max Release REQUESTED, wake` ⇄ `coordinator: load Acquire REQUESTED, wait`. `coordinator: store Release DONE, wake` ⇄
//! `wait_until: load Acquire DONE`: what the cycle left behind.
//!
//! # Blocking
//!
//! A requester blocks its OS thread on a futex, outside busy sections, where it can be stopped.

use super::pacer::{self, Measured};
use super::queue::POOL;
use super::stats::{self, Round, Times};
use super::{config, finalize, mark, sweep, weak};
use crate::futex;
use crate::thread::{busy, this_thread};
use crate::world::{self, World};
use crate::{cache, pages};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::*};
use std::time::Duration;

/// The most threads that mark.
const MAX_WORKERS: usize = 64;
/// How long who waits for another to start the coordinator sleeps at most.
const RETRY: Duration = Duration::from_millis(10);
/// Stack of a collector's thread, in bytes: its own stack of work is the most of what it needs.
/// Thread-locals come on top.
const STACK_BYTES: usize = 512 << 10;

static REQUESTED: AtomicU32 = AtomicU32::new(0);
static BEGUN: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
/// The process whose coordinator was started,
static OWNER: AtomicU32 = AtomicU32::new(0);
/// and that in which some thread is at it, or 0.
static STARTING: AtomicU32 = AtomicU32::new(0);

/// Whether `a` comes after `b`; both wrap.
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

fn ask(cycle: u32) {
    let mut now = REQUESTED.load(Relaxed);
    while is_after(cycle, now) {
        match REQUESTED.compare_exchange_weak(now, cycle, Release, Relaxed) {
            Ok(_) => return futex::wake(&REQUESTED, 1),
            Err(other) => now = other,
        }
    }
}

fn wait_until(cycle: u32) {
    loop {
        let done = DONE.load(Acquire); // pairs with the coordinator
        if !is_after(cycle, done) {
            return;
        }
        futex::wait(&DONE, done, None);
    }
}

/// Collects: marks all that is live, and queues the destructors of what is not. Sweeping goes on afterwards.
///
/// Returns whether there was a cycle: not before the scheduler has booted, and not while a thread blocks the collector's signal.
///
/// **Blocking**: blocks the OS thread until marking is done.
pub(super) fn collect() -> bool {
    if !is_started() {
        return false;
    }
    let given_up = stats::stats().given_up;
    let cycle = BEGUN.load(Acquire).wrapping_add(1);
    ask(cycle);
    wait_until(cycle);
    stats::stats().given_up == given_up
}

/// Waits for the end of a cycle, one that runs already included.
#[cold]
pub(super) fn wait_for_one() {
    if is_started() {
        let cycle = DONE.load(Acquire).wrapping_add(1);
        ask(cycle);
        wait_until(cycle);
    }
}

/// Asks for a cycle, and does not wait. Nothing happens if the coordinator was not started: here it cannot be, since the caller may
/// hold any lock.
#[cold]
pub(super) fn request() {
    ask(DONE.load(Relaxed).wrapping_add(1));
}

/// Whether a cycle has been asked for, or is at work: it may end in a destructor that wakes somebody.
///
/// **Blocking**: none. For the scheduler, before it says that nothing can run any more.
#[must_use]
pub fn is_pending() -> bool {
    OWNER.load(Acquire) != 0 && is_after(REQUESTED.load(Acquire), DONE.load(Acquire))
}

/// In a child of `fork`: there is no coordinator, and whoever asked for the cycles that are asked for is not here either.
pub(super) fn after_fork() {
    OWNER.store(0, Relaxed);
    STARTING.store(0, Relaxed);
    REQUESTED.store(DONE.load(Relaxed), Relaxed);
}

/// Whether there is a coordinator; starts it, if there is a world. To be called where the caller may allocate and block.
pub(super) fn is_started() -> bool {
    let Some(world) = world::get() else {
        return false;
    };
    let process = std::process::id();
    loop {
        let owner = OWNER.load(Acquire); // pairs with the store below
        if owner == process {
            return true;
        }
        let starting = STARTING.load(Relaxed);
        if starting == process {
            futex::wait(&STARTING, process, Some(RETRY));
            continue;
        }
        // Not a lock: after a fork nobody may be there to give it back.
        let is_ours = STARTING.compare_exchange(starting, process, Relaxed, Relaxed);
        if is_ours.is_ok() {
            let started = spawn("raddle-gc", world, coordinator);
            if started {
                OWNER.store(process, Release);
            } else {
                pacer::given_up();
            }
            STARTING.store(0, Relaxed);
            futex::wake(&STARTING, i32::MAX);
            return started;
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    world: &'static dyn World,
    f: impl FnOnce(&'static dyn World) -> T + Send + 'static,
) -> bool {
    let builder = std::thread::Builder::new()
        .name(name.into())
        .stack_size(STACK_BYTES + world.thread_local_bytes());
    let thread = raddle_race::unwatched(|| builder.spawn(move || f(world)));
    static WARNED: AtomicBool = AtomicBool::new(false);
    if thread.is_err() && !WARNED.swap(true, Relaxed) {
        stats::warn_no_thread();
    }
    thread.is_ok()
}

/// What every thread of the collector does first.
fn enter(world: &dyn World) {
    // A handler of the program must not run here while the world stands.
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: a place for the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    for fault in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGABRT,
    ] {
        // SAFETY: the set was filled above.
        unsafe { libc::sigdelset(all.as_mut_ptr(), fault) };
    }
    // SAFETY: a set, and no place for the one before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()) };
    let _ = this_thread();
    world.thread_started();
}

/// The helpers, as the coordinator knows them.
struct Crew {
    tids: [i32; MAX_WORKERS],
    helpers: usize,
}

/// The phase that helpers should join.
static PHASE: AtomicU32 = AtomicU32::new(0);
/// The helper that was started last says its number.
static HELPER: AtomicI32 = AtomicI32::new(0);
static HELPER_READY: AtomicU32 = AtomicU32::new(0);

impl Crew {
    /// Has a helper for every CPU but one.
    fn fill(&mut self, world: &'static dyn World) {
        let wanted = world.parallelism().clamp(1, MAX_WORKERS) - 1;
        while self.helpers < wanted {
            let seen = HELPER_READY.load(Relaxed);
            if !spawn("raddle-gc-mark", world, helper) {
                return;
            }
            // It must be known before the world is stopped, or it would be.
            while HELPER_READY.load(Acquire) == seen {
                futex::wait(&HELPER_READY, seen, None);
            }
            self.tids[self.helpers] = HELPER.load(Relaxed);
            self.helpers += 1;
        }
    }

    /// Runs a phase of marking on all threads.
    fn mark(&self, world: &dyn World, is_rescan: bool) {
        mark::prepare(is_rescan);
        let phase = POOL.begin();
        if self.helpers > 0 {
            PHASE.store(phase, Release); // pairs with helper: what was prepared
            futex::wake(&PHASE, i32::MAX);
        }
        mark::Marker::new().run(Some(world));
        POOL.finish();
    }

    /// Marks until nothing has overflowed.
    fn mark_all(&self, world: &dyn World) {
        self.mark(world, false);
        while mark::take_overflowed() {
            self.mark(world, true);
        }
    }
}

fn helper(world: &'static dyn World) {
    enter(world);
    let mut seen = PHASE.load(Relaxed);
    // SAFETY: no preconditions.
    HELPER.store(unsafe { libc::gettid() }, Relaxed);
    HELPER_READY.fetch_add(1, Release);
    futex::wake(&HELPER_READY, 1);
    loop {
        while PHASE.load(Acquire) == seen {
            futex::wait(&PHASE, seen, None);
        }
        seen = PHASE.load(Acquire);
        if POOL.join(seen) {
            mark::Marker::new().run(None);
            POOL.leave();
        }
    }
}

fn coordinator(world: &'static dyn World) {
    enter(world);
    let began = crate::now_ns();
    let mut crew = Crew {
        tids: [0; MAX_WORKERS],
        helpers: 0,
    };
    let mut warned = None;
    let mut freed_before = 0;
    loop {
        let done = DONE.load(Relaxed);
        let requested = REQUESTED.load(Acquire); // pairs with ask
        if !is_after(requested, done) {
            futex::wait(&REQUESTED, requested, None);
            continue;
        }
        let number = done.wrapping_add(1);
        BEGUN.store(number, Release);
        sweep::finish();
        let freed = stats::objects_freed();
        crew.fill(world);
        POOL.reserve(pages::in_use_bytes(), config::mark_stack_limit().is_some());
        let before = pacer::heap_bytes();
        match cycle(world, &crew) {
            Ok((times, found)) => {
                let count = stats::count_cycle(times);
                if config::traces() {
                    let round = Round {
                        before,
                        found,
                        workers: 1 + crew.helpers,
                        freed: freed - freed_before,
                        began,
                    };
                    stats::trace(count, times, round);
                }
                freed_before = freed;
            }
            Err(tid) => {
                stats::count_given_up();
                pacer::given_up();
                if warned.replace(tid) != Some(tid) {
                    match tid {
                        0 => stats::warn_no_list(),
                        tid => stats::warn_unstoppable(tid),
                    }
                }
            }
        }
        DONE.store(number, Release); // pairs with wait_until
        futex::wake(&DONE, i32::MAX);
        if let Some(hooks) = config::hooks() {
            (hooks.wake_sweeper)();
            if finalize::has_queued() {
                (hooks.wake_finalizer)();
            }
        }
    }
}

/// One cycle; all is swept. Err: this thread cannot be stopped.
fn cycle(world: &dyn World, crew: &Crew) -> Result<(Times, Measured), i32> {
    let asked = crate::now_ns();
    // A watched access takes locks of the detector, whose holder may stand.
    debug_assert!(!raddle_race::has_current());
    world
        .stop(&crew.tids[..crew.helpers])
        .map_err(|unstoppable| unstoppable.tid)?;
    let stopped = crate::now_ns();
    busy(this_thread(), || {
        for cache in cache::all() {
            // SAFETY: the world is stopped, outside busy sections.
            unsafe { cache.flush() };
        }
    });
    crew.mark_all(world);
    let marked = crate::now_ns();
    weak::clear_dead();
    let for_destructors = finalize::queue_dead();
    weak::unlink_dead();
    let queued = crate::now_ns();
    let tally = mark::take_tally();
    let found = Measured {
        live: tally.live + for_destructors,
        roots: tally.roots,
        manual: tally.manual,
        in_use: pages::in_use_bytes(),
    };
    sweep::begin();
    pacer::finished(found);
    world.start();
    let times = Times {
        asked,
        stopped,
        marked,
        queued,
        started: crate::now_ns(),
    };
    Ok((times, found))
}
