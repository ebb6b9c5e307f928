//! Into the runtime and out of it; parking and making ready.
//!
//! Every runtime call of a goroutine runs between [`enter`] and the drop of its guard. Inside, the goroutine keeps its M's P
//! (unless it parks); outside, the signal handler may take the P away from a goroutine that ran too long, and the next
//! `enter` queues for one.
//!
//! # Invariants
//!
//! 1. The thread-local `CURRENT` of a goroutine's own block names its G for its whole life. With thread-bound thread-locals
//!    the M sets it at each switch.
//! 2. M and P are read through the G, afresh after every point that may switch.
//! 3. A goroutine leaves its stack, and comes back, at depth 1: with one guard alive, that of the call that waits. `suspend`
//!    ends the program where there are more, so a program cannot hold a guard of its own over a wait. And since the one
//!    guard then takes note of the M on which it came back, no guard changes the depth of an M that its goroutine has left.
//! 4. In race mode the detector counts the guards too: what instrumented code of std does for the runtime, from `enter` to the drop, is
//!    not the program's. The guards of the scheduler itself and of a goroutine's birth are not counted: no context is current there yet.
//!
//! # Park and ready
//!
//! A goroutine parks by suspending to g0 with the *unlock callback*; g0 marks it Waiting and runs the callback when it is
//! off its stack. So whoever finds it in a wait list, having taken the lock that the callback gave back, may run it at once:
//! no window in which a wake-up meets a goroutine still on its stack. `state::tests` checks the order of the two steps with loom.
//!
//! # Blocking
//!
//! `enter` of a goroutine that lost its P parks it until it has one. `ready` never blocks.

use crate::arch::ControlWords;
use crate::g::{AfterFn, G, GRef};
use crate::m::{ATTN_INJECT, ATTN_PREEMPT, M};
use crate::p::Queued;
use crate::sched::{Wake, sched};
use crate::wait::WaitReason;
use crate::{spawn, thread, tls};
use raddle_race::GoCtx;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::Ordering;

/// Runs in the scheduler once the caller of [`Rt::park`] is off its stack, and releases what guards the wait.
///
/// When it has released the last thing that keeps wakers away, the goroutine may be running elsewhere: it must not touch
/// its memory again.
pub type UnlockFn = unsafe fn(*mut ());

thread_local! {
    static CURRENT: Cell<*const G> = const { Cell::new(ptr::null()) };
    static THIS_M: Cell<*const M> = const { Cell::new(ptr::null()) };
}

/// The G of the caller, null on g0 and on threads that have not used the runtime.
///
/// Never inlined: with thread-bound thread-locals an address that the caller keeps over a switch is another thread's.
#[inline(never)]
pub(crate) fn current() -> *const G {
    CURRENT.get()
}

/// Names the G of the caller's thread-local block.
#[inline(never)]
pub(crate) fn set_current(g: *const G) {
    CURRENT.set(g);
}

#[inline(never)]
pub(crate) fn set_this_m(m: *const M) {
    THIS_M.set(m);
}

/// The M of the calling thread, null if the thread is not one. Async-signal-safe.
#[inline(never)]
pub(crate) fn this_m() -> *const M {
    // SAFETY: null or a G; Gs are never freed.
    match unsafe { CURRENT.get().as_ref() } {
        Some(g) if !g.m.get().is_null() => g.m.get(),
        _ => THIS_M.get(),
    }
}

/// The caller is inside the runtime as long as this lives. See [`enter`].
///
/// It belongs to the goroutine or thread that entered, and cannot be sent to another.
#[derive(Debug)]
pub struct Rt {
    g: Option<&'static G>,
    /// Where it runs; null on a plain thread (invariant 3).
    m: Cell<*const M>,
    /// In race mode: who has gone inside, for the detector.
    race: Option<GoCtx>,
    _not_send: PhantomData<*mut ()>,
}

/// Enters the runtime: until the guard is dropped the calling goroutine keeps its P, and may hold [`Lock`](crate::Lock)s.
///
/// A few nanoseconds; calls nest. Works on plain OS threads and, for timer callbacks, in the scheduler itself.
///
/// A goroutine must not wait with a guard alive but that of the waiting call: the program then ends by SIGABRT, and says so.
/// Inside it can be neither preempted nor stopped by [`set_procs`](crate::set_procs): a guard is for a few instructions.
///
/// # Blocking
///
/// A goroutine that lost its P for running too long waits here for its turn.
#[inline]
#[must_use]
pub fn enter() -> Rt {
    // SAFETY: null or a G; Gs are never freed.
    let Some(g) = (unsafe { current().as_ref() }) else {
        return enter_slow();
    };
    let rt = Rt {
        g: Some(g),
        m: Cell::new(g.m.get()),
        race: race_enter(),
        _not_send: PhantomData,
    };
    if let Some(m) = rt.m() {
        m.set_depth(m.depth() + 1);
        if m.p().is_none() {
            rt.queue_for_p();
        }
    }
    rt
}

#[cold]
fn enter_slow() -> Rt {
    let m = THIS_M.get();
    // SAFETY: null or this thread's M; Ms are never freed.
    if let Some(m) = unsafe { m.as_ref() } {
        return Rt::on_g0(m);
    }
    Rt {
        g: Some(thread::thread_g()),
        m: Cell::new(ptr::null()),
        race: race_enter(),
        _not_send: PhantomData,
    }
}

/// Tells the detector that what compiled code does from here on is not the program's.
#[inline]
fn race_enter() -> Option<GoCtx> {
    if raddle_race::enabled() {
        // SAFETY: the guard ends what it begins, on the goroutine or thread that it belongs to.
        unsafe { raddle_race::runtime_enter() }
    } else {
        None
    }
}

impl Rt {
    /// The scheduler's own guard.
    pub(crate) fn on_g0(m: &'static M) -> Rt {
        m.set_depth(m.depth() + 1);
        Rt {
            g: None,
            m: Cell::new(m),
            race: None,
            _not_send: PhantomData,
        }
    }

    /// The guard that a goroutine is born with: it is resumed as if inside the runtime.
    pub(crate) fn resumed(g: &'static G) -> Rt {
        Rt {
            g: Some(g),
            m: Cell::new(g.m.get()),
            race: None,
            _not_send: PhantomData,
        }
    }

    /// The calling goroutine or thread.
    ///
    /// # Panics
    ///
    /// In a timer callback, where there is none.
    #[must_use]
    #[inline]
    pub fn g(&self) -> GRef {
        GRef::new(self.g.expect("the scheduler itself cannot wait"))
    }

    /// The M that runs the caller now; none on a plain thread.
    #[inline]
    pub(crate) fn m(&self) -> Option<&'static M> {
        // SAFETY: null or an M; Ms are never freed.
        unsafe { self.m.get().as_ref() }
    }

    /// Parks the caller until [`ready`](Self::ready): a goroutine leaves its M, which runs others; a plain thread blocks.
    /// `unlock(arg)` runs when it can be made ready. `at` is the place that the deadlock report names.
    ///
    /// # Safety
    ///
    /// `unlock(arg)` may run on another stack of the same thread, and exactly one `ready` follows it.
    ///
    /// The program ends here, with a message, if another guard of the goroutine is alive.
    ///
    /// # Panics
    ///
    /// In a timer callback.
    pub unsafe fn park(
        &self,
        reason: WaitReason,
        at: &'static Location<'static>,
        unlock: UnlockFn,
        arg: *mut (),
    ) {
        let g = self.g().get();
        g.set_wait(reason, at);
        if g.is_thread {
            // SAFETY: by the contract.
            unsafe { thread::park(g, unlock, arg) };
        } else {
            g.unlock.set(Some(unlock));
            self.suspend(after_park, arg);
        }
    }

    /// Makes a parked goroutine runnable: the next on this P, in the rest of this time slice. Wakes a plain thread.
    ///
    /// Never parks and takes no lock that a caller may hold: it may be called with [`Lock`](crate::Lock)s held and from
    /// timer callbacks.
    ///
    /// # Safety
    ///
    /// The caller has the sole right to wake `g`, which is parked or about to be: it took it off a wait list under the lock
    /// that `unlock` gives back, or won its claim while the waiter's data was published. Once per park.
    #[inline]
    pub unsafe fn ready(&self, g: GRef) {
        let g = g.get();
        if g.is_thread {
            g.thread_ready();
            return;
        }
        g.state.transition_to_ready();
        self.make_next(g, Wake::ForNext);
    }

    /// Queues a runnable G: next on this P, or for all where there is no P.
    #[inline]
    pub(crate) fn make_next(&self, g: &'static G, wake: Wake) {
        match self.m().and_then(M::p) {
            Some(p) => {
                let wake = if p.put_next(g) { Wake::ForQueue } else { wake };
                sched().wake_if_needed(wake);
            }
            None => sched().inject(g),
        }
    }

    /// Leaves the goroutine's stack; g0 then runs `after`. Returns when the goroutine is resumed, perhaps on another M.
    pub(crate) fn suspend(&self, after: AfterFn, arg: *mut ()) {
        let g = self.g.expect("only a goroutine has a stack to leave");
        let m = self.m().expect("a running goroutine has an M");
        if m.depth() != 1 {
            waits_inside();
        }
        g.after.set(Some((after, arg)));
        let kept = keep_panicking_thread(g, m);
        let words = ControlWords::in_force();
        loop {
            g.parked.leaves();
            // SAFETY: the coroutine runs on this stack, so its yielder lives.
            unsafe { &*g.yielder.get() }.suspend(());
            // SAFETY: they were in force above.
            unsafe { words.restore() };
            if !g.dump.get() {
                break;
            }
            crate::deadlock::capture_own_stack();
        }
        self.m.set(g.m.get());
        if kept {
            release_thread(g, M::of(g));
        }
    }

    #[cold]
    fn queue_for_p(&self) {
        let m = self.m().expect("only a goroutine loses its P");
        m.attention.fetch_and(!ATTN_PREEMPT, Ordering::Relaxed);
        if let Some(p) = sched().take_idle_p() {
            sched().attach(m, p);
        } else {
            self.suspend(after_yield, ptr::null_mut());
        }
    }

    #[cold]
    fn leave_slow(&self, m: &'static M) {
        let attention = m.attention.load(Ordering::Relaxed);
        let tired = attention & ATTN_PREEMPT != 0;
        let unlucky = attention & ATTN_INJECT != 0
            && m.p()
                .is_some_and(|p| p.random() % sched().inject_every() == 0);
        if (tired || unlucky) && self.g.is_some() {
            m.attention.fetch_and(!ATTN_PREEMPT, Ordering::Relaxed);
            self.suspend(after_yield, ptr::null_mut());
        }
    }
}

/// Another guard is alive. No panic: what guards the wait is held, and the waiter is known to others.
#[cold]
fn waits_inside() -> ! {
    crate::throw("a goroutine waits while a guard of raddle_sched::enter() is alive further out")
}

impl Drop for Rt {
    #[inline]
    fn drop(&mut self) {
        let race = self.race.take();
        let Some(m) = self.m() else {
            race.into_iter().for_each(raddle_race::runtime_exit);
            return;
        };
        if m.depth() == 1 && m.attention.load(Ordering::Relaxed) != 0 {
            // Still inside: it may suspend here, and comes back on another M.
            self.leave_slow(m);
        }
        let m = self.m().expect("it had one above");
        m.set_depth(m.depth() - 1);
        race.into_iter().for_each(raddle_race::runtime_exit);
    }
}

/// With thread-bound thread-locals the count of panics that std keeps is the thread's, and so is
/// its note that a panic hook runs: a goroutine that waits while it panics, in a hook or in a
/// destructor, keeps its thread until it is back, and no other goroutine finds these there. Returns
/// whether it does.
#[inline]
fn keep_panicking_thread(g: &G, m: &M) -> bool {
    let keeps = tls::mode() == tls::TlsMode::Thread && std::thread::panicking();
    if keeps {
        keep_thread(g, m);
    }
    keeps
}

/// The caller waits: Waiting first, then the guard of its wait is given back.
unsafe fn after_park(_m: &'static M, g: &'static G, arg: *mut ()) {
    let unlock = g.unlock.take().expect("park sets it");
    g.waits();
    // SAFETY: by the contract of `park`. From here on `g` may run elsewhere.
    unsafe { unlock(arg) };
}

/// The caller goes to the tail of the global queue: behind everything that waits.
pub(crate) unsafe fn after_yield(_m: &'static M, g: &'static G, _arg: *mut ()) {
    g.yields();
    sched().inject(g);
}

/// The caller goes to the tail of its P's queue, or, while others wait in the global queue, to the
/// tail of that.
unsafe fn after_yield_local(m: &'static M, g: &'static G, _arg: *mut ()) {
    g.yields();
    match m.p() {
        // Wakes nobody: the queue is one longer, and this P takes one off it right now. Behind what
        // waits in the global one, too: from there a P with work of its own takes one in dozens of
        // turns.
        Some(_) if !sched().injector.is_empty() => sched().injector.push(Queued(g)),
        Some(p) => p.push(g),
        None => sched().inject(g),
    }
}

/// A goroutine that has run too long, and is outside the runtime, waits for its turn here. For all others: nothing.
#[inline]
pub(crate) fn let_others_run() {
    // SAFETY: null or a G; Gs are never freed.
    let Some(g) = (unsafe { current().as_ref() }) else {
        return;
    };
    // SAFETY: null or an M; Ms are never freed.
    let Some(m) = (unsafe { g.m.get().as_ref() }) else {
        return;
    };
    if m.p().is_none() || m.attention.load(Ordering::Relaxed) != 0 {
        drop(enter());
    }
}

/// Lets others run: the calling goroutine goes behind all that are ready on its P, and behind all
/// that are for any P. If none is, and nothing else waits to be done, it returns at once.
///
/// On a plain OS thread: [`std::thread::yield_now`].
///
/// # Blocking
///
/// Parks the goroutine until its next turn. No happens-before edge.
pub fn yield_now() {
    let rt = enter();
    match rt.m() {
        Some(m) => {
            if m.p().is_none_or(|p| sched().wants_turn(p)) {
                rt.suspend(after_yield_local, ptr::null_mut());
            }
        }
        None => std::thread::yield_now(),
    }
}

/// Keeps the calling goroutine on its present OS thread, and others off it, until [`unlock_os_thread`] was called as often.
///
/// For foreign code that depends on the thread, or changes it: its signal mask, its CPUs, its credentials, its namespaces.
/// A goroutine that ends before it has unlocked takes the thread with it, so such changes never come to another. The
/// runtime starts no thread from a locked one, since the new thread would inherit them.
///
/// The process's first thread is never one of those that run goroutines. On a plain OS thread: nothing.
///
/// # What belongs to the goroutine, what to the thread
///
/// A goroutine that waits may go on on another thread. With it go its stack and registers, its
/// thread-locals, `errno` among them, and the control words of the floating-point units: rounding,
/// precision, which exceptions trap, denormals as zeros. A new goroutine begins with the defaults.
///
/// What the kernel or the processor keeps for a thread stays with the thread, as in Go: the signal
/// mask and the alternate signal stack, the number that `gettid` gives, priority, affinity, user
/// ids and capabilities set by a bare system call, namespaces, seccomp filters, the robust list and
/// the registration for restartable sequences, memory protection keys (`pkey_set`), timer slack;
/// and the floating-point *status*, so that `fetestexcept` after a wait may tell of another
/// goroutine's arithmetic. Between this call and its counterpart the thread is the goroutine's
/// alone, with all of that.
pub fn lock_os_thread() {
    let rt = enter();
    if let (Some(g), Some(m)) = (rt.g, rt.m()) {
        keep_thread(g, m);
    }
}

fn keep_thread(g: &G, m: &M) {
    g.locked_m.set(m);
    m.locked_g.set(g);
    m.locks.set(m.locks.get() + 1);
}

/// Undoes one [`keep_thread`].
fn release_thread(g: &G, m: &M) {
    m.locks.set(m.locks.get() - 1);
    if m.locks.get() == 0 {
        spawn::unlock_thread(g, m);
    }
}

/// Ends one [`lock_os_thread`]. Without one: nothing.
pub fn unlock_os_thread() {
    let rt = enter();
    if let (Some(g), Some(m)) = (rt.g, rt.m())
        && m.locks.get() > 0
    {
        release_thread(g, m);
    }
}

/// How thread-locals are bound: `"fsbase"` or `"arch_prctl"` (they follow the goroutine), or
/// `"thread"`: they stay with the OS thread, where safe code is unsound, and only if that was asked
/// for by name.
#[must_use]
pub fn tls_mode() -> &'static str {
    crate::boot::ensure();
    tls::mode().as_str()
}
