//! Stopping every thread of the process for the collector, and showing it where pointers may be:
//! [`World`] for the scheduler.
//!
//! In reading order: `halt` (how a thread stands still), `stopper` (how all are brought to),
//! `tasks` (which there are), `mappings` (the memory of the process), `libc_code`, `roots`; `buf`
//! is what they note things in, `file` how they read.
//!
//! # Order of a stop
//!
//! 1. Take what a stopped thread must not hold and we use: `ONE`, which keeps a second stopper and
//!    `fork` away, and the list of Gs. Open the files. Nothing is allocated from here to the start.
//! 2. Signal all threads until every one stands still in its handler.
//! 3. Note what is not to be shown with the mappings.
//!
//! # Invariants
//!
//! 1. `NOTES` is used by whoever holds `ONE`, which goes from `stop` to `start` with the caller.
//! 2. Between `stop` and `start` the caller takes no signal: it would stop itself. Nor do the
//!    collector's other threads, ever.
//!
//! # Locks
//!
//! In rank order: `ONE`, the list of Gs. Whoever waits for a collection must hold neither, and must
//! let its P be taken away, so not be inside the runtime or busy.
//!
//! # fork
//!
//! No stop is on while a thread forks (`fork` sees to it), so the child is born with the world
//! running, and the list of Gs free. A stop in the child works and finds its one thread; the
//! goroutines of the parent are as they stood. What they keep alive is kept.
//!
//! # Why not
//!
//! - *Locking out `set_procs`*: nothing here looks at the Ps, and whoever holds that lock waits for
//!   Ps of goroutines that may wait for this collection.
//! - *A flag that threads poll*: foreign code does not.
//! - *`membarrier`, `ptrace`*: the first does not stop, the second needs another process.
//!
//! # References
//!
//! Go `runtime/signal_unix.go` (the signal, and why this one); bdwgc `pthread_stop_world.c`.

mod buf;
mod file;
mod halt;
mod libc_code;
mod mappings;
mod roots;
mod stopper;
mod tasks;

pub(crate) use halt::{arrive, generation};

use crate::regions::Regions;
use crate::sched::sched;
use crate::sys::thread::StackEnd;
use crate::sys::{Lock, MutexGuard};
use crate::{clock, rt, signal, thread, tls};
use buf::Buf;
use halt::Stopped;
use mappings::Mappings;
use raddle_alloc::{Unstoppable, World};
use roots::{Fixed, Roots};
use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};
use tasks::Tasks;

static ONE: Lock = Lock::new();
static WORLD: Threads = Threads(UnsafeCell::new(Notes {
    stopped: Buf::new(),
    listed: Buf::new(),
    kernels: Buf::new(),
    sps: Buf::new(),
    aside: Buf::new(),
    collectors: Buf::new(),
    now: None,
    since: 0,
}));
static FIXED: OnceLock<(Fixed, usize)> = OnceLock::new();
/// The collector's threads.
static STOPPED_NS: AtomicU64 = AtomicU64::new(0);
static COLLECTORS: AtomicU32 = AtomicU32::new(0);
/// The thread whose stack is the one that the kernel made; 0: it is not here, as in most children
/// of `fork`.
static MAIN_THREAD: AtomicI32 = AtomicI32::new(0);

/// All threads of the process, with their goroutines.
struct Threads(UnsafeCell<Notes>);

// SAFETY: by invariant 1 one thread at a time looks inside.
unsafe impl Sync for Threads {}

/// What a stop notes.
struct Notes {
    stopped: Buf<Stopped>,
    listed: Buf<i32>,
    /// Threads of the kernel's own.
    kernels: Buf<i32>,
    sps: Buf<usize>,
    /// What is not shown with the mappings, sorted.
    aside: Buf<(usize, usize)>,
    /// The number and the stack of each thread of the collector's, those of the process that this
    /// one was forked from included.
    collectors: Buf<(i32, (usize, usize))>,
    now: Option<Now>,
    /// When the stop was begun.
    since: u64,
}

/// What lives from stop to start.
struct Now {
    mappings: Mappings,
    layout: tls::Layout,
    regions: MutexGuard<'static, Regions>,
    /// The signals that the caller blocked before.
    blocked: libc::sigset_t,
}

/// The world, for the collector.
///
/// It may be driven without one, as tests do.
///
/// # Safety
///
/// The caller uses it as the collector does: on a thread that has called `thread_started`, starts
/// what it has stopped, and does nothing meanwhile that needs another thread.
#[must_use]
pub unsafe fn world() -> &'static dyn World {
    crate::boot::ensure();
    &WORLD
}

/// Hands the world to the collector, at boot.
pub(crate) fn install() {
    unsafe extern "C" {
        /// The stack pointer with which the process began.
        static __libc_stack_end: usize;
    }
    // SAFETY: the dynamic linker set it before the program began.
    let main_top = unsafe { __libc_stack_end };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let libc = libc_code::range();
    let fixed = Fixed {
        main_top,
        libc_start: libc.start,
        libc_end: libc.end,
    };
    FIXED.get_or_init(|| (fixed, cpus));
    // SAFETY: no preconditions.
    MAIN_THREAD.store(unsafe { libc::getpid() }, Relaxed);
    raddle_alloc::install_world(&WORLD);
}

/// How long the world has been stopped so far, in nanoseconds: time in which no goroutine ran.
pub(crate) fn stopped_ns() -> u64 {
    STOPPED_NS.load(Relaxed)
}

/// The number of the collector's threads.
pub(crate) fn collectors() -> u32 {
    COLLECTORS.load(Relaxed)
}

/// Keeps stops away: waits for one that is on. For `fork`.
pub(crate) fn lock_out() {
    ONE.lock();
}

/// Ends [`lock_out`].
///
/// # Safety
///
/// The caller called it.
pub(crate) unsafe fn let_in() {
    // SAFETY: `lock_out` took it.
    unsafe { ONE.unlock() };
}

/// Whether the caller is the thread with which the process began.
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: no preconditions.
    MAIN_THREAD.load(Relaxed) == unsafe { libc::gettid() }
}

/// A child of `fork` begins; `main_thread` is the number of its thread, if that stands on the main
/// thread's stack.
pub(crate) fn begin_child(main_thread: Option<i32>) {
    MAIN_THREAD.store(main_thread.unwrap_or(0), Relaxed);
    COLLECTORS.store(0, Relaxed);
    stopper::begin_child();
}

// SAFETY: the parts of this module say how every thread is stopped and everything is shown.
unsafe impl World for Threads {
    fn stop(&self, collectors: &[i32]) -> Result<(), Unstoppable> {
        ONE.lock();
        // SAFETY: invariant 1.
        let notes = unsafe { &mut *self.0.get() };
        notes.since = clock::read_ns();
        notes.stop(collectors).map_err(|tid| {
            // SAFETY: taken above.
            unsafe { ONE.unlock() };
            Unstoppable { tid }
        })
    }

    fn each_root(&self, show: &mut dyn FnMut(Range<usize>)) {
        // SAFETY: invariant 1: the caller has stopped the world.
        let notes = unsafe { &*self.0.get() };
        let (Some(now), Some((fixed, _))) = (&notes.now, FIXED.get()) else {
            return;
        };
        let roots = now.roots(fixed, &notes.stopped);
        roots.each(now.regions.all(), &notes.sps, &notes.aside, show);
    }

    fn start(&self) {
        // SAFETY: invariant 1.
        let notes = unsafe { &mut *self.0.get() };
        let now = notes.now.take();
        STOPPED_NS.fetch_add(clock::read_ns().saturating_sub(notes.since), Relaxed);
        halt::end();
        let blocked = now.map(|now| now.blocked);
        // SAFETY: `stop` took it.
        unsafe { ONE.unlock() };
        if let Some(blocked) = blocked {
            signal::block_only(&blocked);
        }
    }

    fn stop_self(&self) {
        if halt::is_on() {
            // SAFETY: no preconditions.
            signal::send(unsafe { libc::gettid() });
        }
    }

    #[inline]
    fn safepoint(&self) {
        rt::let_others_run();
    }

    fn parallelism(&self) -> usize {
        let cpus = FIXED.get().map_or(1, |(_, cpus)| *cpus);
        sched().procs().min(cpus)
    }

    fn thread_local_bytes(&self) -> usize {
        tls::static_bytes()
    }

    fn thread_started(&self) {
        signal::block_all();
        thread::begin_unwatched();
        COLLECTORS.fetch_add(1, Relaxed);
        ONE.lock();
        // SAFETY: invariant 1.
        unsafe { &mut *self.0.get() }.note_caller();
        // SAFETY: taken above.
        unsafe { ONE.unlock() };
    }
}

impl Notes {
    /// Notes the stack of the calling thread, which is one of the collector's. Returns its number.
    fn note_caller(&mut self) -> i32 {
        // SAFETY: no preconditions.
        let tid = unsafe { libc::gettid() };
        if self.collectors.iter().all(|&(noted, _)| noted != tid) {
            let StackEnd { lowest, bytes, .. } = crate::sys::thread::stack_end();
            self.collectors
                .push((tid, (lowest, lowest.saturating_add(bytes))));
        }
        tid
    }

    /// Err: the thread that does not come, or 0 if the threads cannot be listed.
    fn stop(&mut self, collectors: &[i32]) -> Result<(), i32> {
        let tasks = Tasks::open().ok_or(0)?;
        let mappings = Mappings::open().ok_or(0)?;
        let layout = tls::layout();
        let regions = sched().regions();
        signal::keep_handler();
        let caller = self.note_caller();
        let blocked = signal::block_all();
        let Notes {
            stopped,
            listed,
            kernels,
            sps,
            aside,
            collectors: own,
            now,
            ..
        } = self;
        if let Err(tid) = stopper::stop_all(&tasks, caller, collectors, stopped, listed, kernels) {
            signal::block_only(&blocked);
            return Err(tid);
        }
        roots::sort_sps(stopped, sps);
        let now = now.insert(Now {
            mappings,
            layout,
            regions,
            blocked,
        });
        aside.clear();
        let is_here = |tid| tid == caller || collectors.contains(&tid);
        for &(_, (start, end)) in own.iter().filter(|(tid, _)| is_here(*tid)) {
            roots::push_pages(start..end, aside);
        }
        if let Some((fixed, _)) = FIXED.get() {
            now.roots(fixed, stopped).set_aside(&now.regions, aside);
        }
        Ok(())
    }
}

impl Now {
    fn roots<'a>(&'a self, fixed: &Fixed, stopped: &'a [Stopped]) -> Roots<'a> {
        Roots {
            layout: self.layout,
            fixed: *fixed,
            mappings: &self.mappings,
            stopped,
            main_thread: MAIN_THREAD.load(Relaxed),
        }
    }
}
