//! Interface seam of the scheduler for the crates above (bodies: OS threads only; the scheduler replaces them).
#![allow(missing_docs, unused_variables, clippy::all, clippy::undocumented_unsafe_blocks, reason = "seam")]
use crate::WaitReason;
use raddle_race::GoCtx;
use std::alloc::Layout;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A goroutine, or an OS thread that uses the runtime (a "thread G"). Valid as long as it can be parked or running:
/// a waiter that holds a `GRef` in a wait list removes itself before its goroutine ends.
#[derive(Clone, Copy, Debug)]
pub struct GRef(&'static Dummy);
#[derive(Debug)]
#[allow(missing_docs)]
struct Dummy { state: AtomicU32, claim: AtomicU32, id: u64 }

impl PartialEq for GRef { fn eq(&self, o: &Self) -> bool { std::ptr::eq(self.0, o.0) } }
impl Eq for GRef {}
impl GRef {
    /// The goroutine's id; thread Gs have ids of their own.
    pub fn id(self) -> u64 { self.0.id }
    pub fn is_goroutine(self) -> bool { false }
    /// Its race context: Some exactly in race mode.
    pub fn race_ctx(self) -> Option<GoCtx> { None }
    /// For waits with several possible wakers (select, time-outs): the waiter resets the claim before it publishes itself
    /// anywhere; each would-be waker must win `try_claim` before it may touch the waiter's data or ready it.
    pub fn claim_reset(self) { self.0.claim.store(0, Ordering::Relaxed) }
    pub fn try_claim(self) -> bool {
        self.0.claim.load(Ordering::Relaxed) == 0
            && self.0.claim.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// Runs in the scheduler after the goroutine is off its stack: releases what guards the wait (typically a `Lock`). After it
/// has released the last thing that keeps wakers away it must not touch the parked goroutine's memory again.
pub type UnlockFn = unsafe fn(*mut ());

/// Between `enter()` and its drop the goroutine keeps its P: it is inside the runtime. Locks (`Lock`) may be held only inside.
/// Cheap (a few ns), nestable, not Send.
#[derive(Debug)]
pub struct Rt { g: GRef, _no_send: PhantomData<*mut ()> }

thread_local! { static ME: Cell<Option<GRef>> = const { Cell::new(None) }; }

pub fn enter() -> Rt {
    let g = ME.get().unwrap_or_else(|| {
        static IDS: AtomicU64 = AtomicU64::new(1 << 40);
        let g = GRef(Box::leak(Box::new(Dummy { state: AtomicU32::new(1), claim: AtomicU32::new(0), id: IDS.fetch_add(1, Ordering::Relaxed) })));
        ME.set(Some(g));
        g
    });
    Rt { g, _no_send: PhantomData }
}

impl Rt {
    /// The calling goroutine or thread G. Inside a timer callback there is none: panics.
    pub fn g(&self) -> GRef { self.g }

    /// Parks the caller until `ready`: a goroutine leaves its M, a plain thread blocks. `unlock(arg)` runs once the caller
    /// can be made ready. Returns after exactly one `ready`. `at` is shown in deadlock reports.
    ///
    /// # Safety
    /// `unlock(arg)` must be callable from another stack of the same thread.
    pub unsafe fn park(&self, reason: WaitReason, at: &'static Location<'static>, unlock: UnlockFn, arg: *mut ()) {
        let s = &self.g.0.state;
        s.store(2, Ordering::Relaxed);
        unsafe { unlock(arg) };
        while s.load(Ordering::Acquire) == 2 {
            crate::sys::futex::wait(s, 2, None);
        }
    }

    /// Makes a parked goroutine runnable: it runs next on this P, inheriting the time slice.
    /// Never parks, takes no lock of the caller's, may be called with `Lock`s held and from timer callbacks.
    ///
    /// # Safety
    /// The caller holds the sole right to wake `g` (it took it off a wait list under its lock, or won its claim), once per park.
    pub unsafe fn ready(&self, g: GRef) {
        let s = &g.0.state as *const AtomicU32;
        unsafe { (*s).store(1, Ordering::Release) };
        crate::sys::futex::wake(s, 1);
    }
}

/// Gives the P to others; the caller goes to the tail of the global queue. On a plain thread: `std::thread::yield_now`.
pub fn yield_now() { std::thread::yield_now() }
/// Parks the caller for `ns` nanoseconds.
#[track_caller]
pub fn sleep_ns(ns: u64) { std::thread::sleep(std::time::Duration::from_nanos(ns)) }

/// A callback of a timer that fired: runs in the scheduler on an M's own stack, under the lock of the heap the timer is in. It
/// may `ready`, take channel `Lock`s and `spawn`; it must not park, nor start or stop timers. `seq` is what `start` was given.
pub type TimerFn = unsafe fn(rt: &Rt, arg: *mut (), seq: usize);

/// A timer, kept at one address while armed (it is a node of a P's timer heap).
#[derive(Debug)]
pub struct Timer { f: TimerFn, arg: *mut () }
unsafe impl Send for Timer {}
unsafe impl Sync for Timer {}
impl Timer {
    pub const fn new(f: TimerFn, arg: *mut ()) -> Timer { Timer { f, arg } }
    /// Arms (or re-arms) the timer: fires at `when_ns` (`now_ns` clock), then every `period_ns` unless 0.
    /// Returns whether it was armed before. No channel `Lock` may be held.
    /// # Safety
    /// The timer stays at its address, valid, until `stop` has returned or (one-shot) it has fired.
    pub unsafe fn start(&self, rt: &Rt, when_ns: u64, period_ns: u64, seq: usize) -> bool { false }
    /// Disarms. Returns whether it was armed. On return the callback is not running and will not run. No channel `Lock` may be held.
    pub fn stop(&self, rt: &Rt) -> bool { false }
}

/// Runs `f(arg)` on the M's own (big) stack with the P given up: for system calls and foreign code that block.
/// The typed shell is `blocking(|| ...)`. On a plain thread: a direct call.
pub fn blocking<R>(f: impl FnOnce() -> R) -> R { f() }

/// What `spawn` needs beside the closure.
#[derive(Clone, Debug)]
pub struct SpawnOptions {
    pub name: Option<Arc<str>>,
    /// Bytes; 0: the default (256 KiB of address space).
    pub stack_size: usize,
    pub at: &'static Location<'static>,
}
/// What runs: `entry(data)` on the new goroutine's stack, where the `layout` bytes at `data` have been moved;
/// then, after the goroutine's thread-local destructors, `fini(rt, fini_arg)` in the scheduler (may `ready`; must not park).
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub data: *const u8,
    pub layout: Layout,
    pub entry: unsafe fn(*mut u8),
    pub fini: unsafe fn(&Rt, *mut ()),
    pub fini_arg: *mut (),
}
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError { OutOfMemory, StackTooLarge(usize), TooManyMappings }
impl Rt {
    /// # Safety: `task` is as described; on Ok its data has been moved from.
    pub unsafe fn spawn(&self, task: &Task, options: &SpawnOptions) -> Result<u64, SpawnError> { unimplemented!() }
}
/// Id and name of the calling goroutine, None on a plain thread.
pub fn current_goroutine() -> Option<(u64, Option<Arc<str>>)> { None }
pub fn procs() -> usize { 1 }
pub fn set_procs(n: usize) {}
pub fn num_goroutines() -> usize { 0 }
pub fn lock_os_thread() {}
pub fn unlock_os_thread() {}
/// Boot options; boot happens once per process, by the first `run`/`go`.
#[derive(Clone, Debug, Default)]
pub struct BootOptions { pub procs: usize, pub debug: String, pub seed: u64 }
/// Starts the scheduler if it is not running: idempotent, thread-safe.
pub fn boot(options: &BootOptions) {}
/// "fsbase", "arch_prctl" or "thread".
pub fn tls_mode() -> &'static str { "thread" }

