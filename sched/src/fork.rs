//! `fork`: the child has the thread that forked and no other, and of the goroutines the one that
//! forked.
//!
//! # What a child may do
//!
//! Whatever the program may do. The goroutine (or plain thread) that forked goes on, with its
//! thread-locals, and the scheduler begins anew around it when it is first needed: with as many Ps,
//! with threads of its own, and a queue in which there is nothing. A child that only calls `exec`
//! or `exit` never pays for that.
//!
//! All other goroutines are *lost*, as other threads are: their memory stays as it is, and so does
//! what they borrowed out, but they never run. A lock that one held stays locked. One that waits in
//! a channel still stands in the queue there, and a message that is handed to it is lost with it.
//! Timers of the parent never fire in the child, and can be armed anew.
//!
//! # States of the scheduler
//!
//! ```text
//!   SCHED: one  -- fork, in the child -->  SCHED: null, OLD: one  -- revive -->  SCHED: another, OLD: one
//! ```
//!
//! # Invariants
//!
//! 1. While a thread forks it holds every lock of [`each_lock`], so what these guard is whole in
//!    the child. Locks that a scheduler has in itself are not among them: the child gets another
//!    scheduler. Nor are locks of channels.
//! 2. `SAVED` belongs to whoever holds `stop`'s lock, in the parent and in the child.
//! 3. What the runtime makes once, at a first use, it makes at boot, or under a lock of
//!    [`each_lock`], or where two threads may do it at once: never in a `Once` or a `OnceLock`, at
//!    which a child would wait for a thread that it does not have.
//! 4. A goroutine that was alive at a fork has, in the child, a lower `G::forks` than the
//!    scheduler, unless it is the one that forked. The scheduler's loop runs none whose number
//!    differs.
//!
//! # The thread control block
//!
//! glibc's child takes all stacks of threads but that of the active block for free memory. On a
//! goroutine that would be the very stack of the M that it runs on, and the next thread would be
//! started there. So between the two handlers the M's own block is the active one. That is done in
//! the handlers, and not in a function of ours in the place of `fork`, since `daemon`, `forkpty`
//! and others call glibc's from within.
//!
//! # Order
//!
//! Handlers before a fork run last registered first, those after it first registered first. The
//! heap's are registered before ours: it can be used in all of ours. What the program registered
//! before the scheduler booted runs between ours, where the runtime cannot be used.
//!
//! # Locks
//!
//! In rank order: `stop`'s, `REVIVING`, the list of Gs, then those of [`each_lock`] in its order,
//! then the heap's.
//!
//! glibc does not give the dynamic linker's lock anew to a child. The runtime takes it, by
//! `dl_iterate_phdr`, under a lock of [`each_lock`] only. Who else is inside it at that moment, in
//! `dlopen` or while a backtrace is being printed, leaves it locked in the child, where the next new
//! stack waits for it.
//!
//! # Blocking
//!
//! A fork waits for a collection that has stopped the world.
//!
//! # Why not
//!
//! - *Goroutines that wait go on in the child*: what they do to the world outside would be done
//!   twice.
//! - *The old scheduler made good*: other threads were anywhere in its queues, and lock-free
//!   structures are not made to lose a party half way.
//! - *A walk over all Gs, to mark them lost*: the child would copy every page of them, for an
//!   `exec`.
//! - *Only `exec` and `_exit` in a child*, as Go has it: `daemon` could not be used, nor Rust's
//!   `pre_exec`, which allocates.
//!
//! # References
//!
//! glibc `posix/fork.c`, `nptl/nptl-stack.c` (`__nptl_reclaim_stacks`); POSIX.1-2024, `fork`,
//! `pthread_atfork`.

use crate::g::G;
use crate::m::{ATTN_PREEMPT, M};
use crate::p::Status;
use crate::sched::{self, Sched};
use crate::sys::{Lock, Mutex};
use crate::{on_big_stack, resize, rt, signal, stack, stop, sysmon, thread, tls};
use crossbeam_deque::Worker;
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// How many forks lie between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// In a child: the scheduler of the process that forked, in its state of then.
static OLD: AtomicPtr<Sched> = AtomicPtr::new(ptr::null_mut());
/// In a child: the M that forked, if it was one.
static SURVIVOR: AtomicPtr<M> = AtomicPtr::new(ptr::null_mut());
static REVIVING: Mutex<()> = Mutex::new(());

static SAVED: Saved = Saved(UnsafeCell::new(None));

struct Saved(UnsafeCell<Option<Forking>>);

// SAFETY: invariant 2.
unsafe impl Sync for Saved {}

/// What a fork notes before it happens.
struct Forking {
    /// The block of the goroutine that forks.
    block: Option<tls::Block>,
    /// What was current on that block.
    current: *const G,
    /// The signals that were blocked.
    blocked: libc::sigset_t,
    on_main_thread: bool,
}

/// How many forks lie between the first process of the program and this one: 0 but in a child of
/// `fork`.
///
/// A function that finds another number at its end than at its beginning has forked meanwhile, and
/// is in the child.
#[must_use]
#[inline]
pub fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Installs the handlers, at boot.
pub(crate) fn install() {
    // crossbeam-epoch makes what its threads share at the first steal, under a `Once`: a child would
    // wait there for the thread that was at it.
    let _ = Worker::<()>::new_fifo().stealer().steal();
    // The heap's come first.
    let _ = raddle_alloc::this_thread();
    // SAFETY: the functions have the type asked for.
    unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
}

/// The schedulers whose timers' locks somebody may yet take: this process's, and that of the
/// process it was forked from.
fn each_sched() -> impl Iterator<Item = &'static Sched> {
    // SAFETY: null, or a scheduler, which is never freed.
    let old = unsafe { OLD.load(Ordering::Relaxed).as_ref() };
    old.into_iter().chain(sched::loaded())
}

/// In rank order, after `stop`'s. `ps` tells how many Ps of a scheduler there are to be locked, or
/// were.
fn each_lock(ps: fn(&Sched) -> usize, mut f: impl FnMut(&Lock)) {
    f(REVIVING.raw());
    for s in each_sched() {
        f(s.regions_lock());
        for p in (0..ps(s)).map_while(|i| s.p(i)) {
            f(p.timers.raw_lock());
        }
    }
    thread::each_lock(&mut f);
    stack::each_lock(&mut f);
    tls::each_lock(&mut f);
}

extern "C" fn before() {
    let current = rt::current();
    stop::lock_out();
    each_lock(Sched::note_ps, Lock::lock);
    // A handler of the program's would find the thread's own thread-locals.
    let blocked = signal::block_all();
    let on_main_thread = stop::is_main_thread();
    let block = tls::leave_for_own();
    let forking = Forking {
        block,
        current,
        blocked,
        on_main_thread,
    };
    // SAFETY: invariant 2.
    unsafe { *SAVED.0.get() = Some(forking) };
}

extern "C" fn in_parent() {
    // SAFETY: invariant 2.
    let Some(saved) = (unsafe { &mut *SAVED.0.get() }).take() else {
        return;
    };
    unlock_all();
    come_back(&saved, None);
}

extern "C" fn in_child() {
    // SAFETY: invariant 2.
    let Some(saved) = (unsafe { &mut *SAVED.0.get() }).take() else {
        return;
    };
    // SAFETY: no preconditions.
    let tid = unsafe { libc::gettid() };
    FORKS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: null or this thread's M; Ms are never freed. The thread's own block is active, which
    // names it.
    let m = unsafe { rt::this_m().as_ref() };
    // SAFETY: null or the G of this thread or goroutine.
    let current = unsafe { saved.current.as_ref() };
    // In a blocking call a thread G stands for the goroutine.
    // SAFETY: null or a G; Gs are never freed.
    let blocks = m.and_then(|m| unsafe { m.in_blocking.get().as_ref() });
    for g in current.into_iter().chain(blocks) {
        g.forks.set(forks() as u16);
        // Nobody is watched here.
        g.race.set(None);
    }
    if let Some(m) = m {
        m.tid.store(tid, Ordering::Relaxed);
        m.set_p(None);
        m.next_p.store(ptr::null_mut(), Ordering::Relaxed);
        m.preempt.store(false, Ordering::Relaxed);
        m.attention.fetch_and(!ATTN_PREEMPT, Ordering::Relaxed);
    }
    SURVIVOR.store(
        m.map_or(ptr::null_mut(), |m| ptr::from_ref(m).cast_mut()),
        Ordering::Relaxed,
    );
    stop::begin_child(saved.on_main_thread.then_some(tid));
    thread::begin_child();
    sysmon::begin_child();
    // First, while the same locks are found.
    unlock_all();
    if let Some(old) = sched::take() {
        for p in (0..old.noted_ps()).filter_map(|i| old.p(i)) {
            // A blocking call of before does not get it back.
            p.set_status(Status::Dead);
        }
        OLD.store(ptr::from_ref(old).cast_mut(), Ordering::Relaxed);
    }
    come_back(&saved, Some(tid));
    raddle_race::set_current(None);
    if let Some(m) = m
        && m.depth() > 0
    {
        // It forked inside the runtime, where it has a P.
        let s = sched::sched();
        s.take_idle_p().into_iter().for_each(|p| s.attach(m, p));
    }
}

fn unlock_all() {
    // SAFETY: `before` took them.
    each_lock(Sched::noted_ps, |lock| unsafe { lock.unlock() });
    // SAFETY: as above.
    unsafe { stop::let_in() };
}

/// Back to the goroutine's block, whose thread is `tid` now, if that is another.
fn come_back(saved: &Forking, tid: Option<i32>) {
    if let Some(block) = saved.block {
        // SAFETY: it was the active one before `leave_for_own`.
        unsafe { tls::come_back(block, tid) };
    }
    signal::block_only(&saved.blocked);
}

/// Whether this process is a child in which nothing of the scheduler's has been used yet.
pub(crate) fn is_asleep() -> bool {
    !OLD.load(Ordering::Relaxed).is_null() && sched::loaded().is_none()
}

/// The scheduler of a child, at its first use.
///
/// # Blocking
///
/// Starts a thread.
#[cold]
#[inline(never)]
pub(crate) fn revive() -> &'static Sched {
    unsafe fn call(place: *mut ()) {
        // SAFETY: `revive` passed its own.
        unsafe { *place.cast::<Option<&'static Sched>>() = Some(begin_anew()) };
    }
    let mut s: Option<&'static Sched> = None;
    // A scheduler is larger than the smallest stack.
    // SAFETY: it neither parks nor unwinds.
    unsafe { on_big_stack(call, (&raw mut s).cast()) };
    s.expect("it was made")
}

fn begin_anew() -> &'static Sched {
    let _one = REVIVING.lock();
    if let Some(s) = sched::loaded() {
        return s;
    }
    // SAFETY: null, or a scheduler, which is never freed.
    let Some(old) = (unsafe { OLD.load(Ordering::Relaxed).as_ref() }) else {
        crate::throw("the scheduler is used before it has booted");
    };
    // SAFETY: null or an M; Ms are never freed.
    let survivor = unsafe { SURVIVOR.load(Ordering::Relaxed).as_ref() };
    let s = Sched::after(old, survivor);
    resize::resize(s, old.procs(), None);
    for p in s.each_p() {
        let _ = s.give_up_p(p, false);
    }
    sched::publish(s);
    sysmon::start();
    s
}
