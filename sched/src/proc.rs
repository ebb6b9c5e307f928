//! The scheduler's loop: what an M does on its own stack (g0).
//!
//! # Order of the search
//!
//! 1. Timers of this P that are due; not at once again, if there are many and something else to do.
//! 2. Every 61st turn the global queue first, so that two goroutines that keep each other busy cannot starve it.
//! 3. `runnext`: what the last goroutine made ready, in the rest of its time slice.
//! 4. The local queue, then the global one.
//! 5. Other Ps, as a spinner: half of a queue, timers that are due, and at last a `runnext` that stays where it is.
//! 6. Give the P up, look again (`idle` says why), sleep: until the next timer, if no other M does that.
//!
//! # Invariants
//!
//! 1. On g0 the depth `M::in_rt` is at least 1: the signal handler leaves the P alone.
//! 2. A spinning M has a P and is counted in the idle word; it stops being one before it runs a goroutine.
//! 3. Between `tls::enter` and `tls::leave` nothing on g0 may use a thread-local: there is only the switch itself.

use crate::g::{Co, G};
use crate::m::{ATTN_PREEMPT, M};
use crate::p::{P, Queued, Status};
use crate::rt::Rt;
use crate::sched::{Sched, sched};
use crate::{bind, clock, resize, rt, tls};
use crossbeam_deque::Steal;
use std::ptr;
use std::sync::atomic::Ordering;

/// How often the global queue comes first: a prime, so that it falls in step with no pattern of the program (as in Go).
const GLOBAL_FIRST: u32 = 61;
/// How often a spinner goes round the other Ps.
const STEAL_ROUNDS: u32 = 4;
/// How often it naps over busy `runnext`s before it gives up.
const NAP_ROUNDS: u32 = 20;

/// The life of an M.
pub(crate) fn m_main(m: &'static M) {
    rt::set_this_m(m);
    m.begin_on_this_thread();
    crate::signal::prepare_thread(m);
    // SAFETY: null or a P; Ps are never freed.
    if let Some(p) = unsafe { m.next_p.swap(ptr::null_mut(), Ordering::Acquire).as_ref() } {
        sched().attach(m, p);
    }
    while schedule(m) {}
    end(sched(), m);
}

/// The goroutine that was locked to the thread has ended, and what it did to the thread (its signal mask, its place among the
/// CPUs, its namespaces) must not be the next one's. As in Go the thread ends too; unlike there it is never the process's first,
/// which is no M.
fn end(s: &'static Sched, m: &'static M) {
    m.locked_g.set(ptr::null());
    if let Some(p) = m.p() {
        m.set_p(None);
        s.hand_off(p);
    }
    crate::signal::leave_thread(m);
    // Handlers on this thread find no M from here on.
    rt::set_this_m(ptr::null());
    s.keep_ended_m(m);
}

/// One turn. False: it was the last one of this thread.
fn schedule(m: &'static M) -> bool {
    let s = sched();
    // SAFETY: null or a G; Gs are never freed.
    if let Some(g) = unsafe { m.locked_g.get().as_ref() } {
        if m.is_over.get() {
            return false;
        }
        wait_locked(s, m);
        execute(m, g, true);
        return true;
    }
    let Some(p) = m.p() else {
        s.stop_m(m, None);
        return true;
    };
    let Some((g, new_turn)) = find_runnable(s, m, p) else {
        return true;
    };
    if m.spinning.replace(false) && s.idle.stop_spin() {
        // It was the last spinner and found work: where there was some there may be more.
        s.wake_if_needed(crate::sched::Wake::ForQueue);
    }
    if g.forks.get() != s.forks {
        // Lost at a fork (`fork`, invariant 4): somebody in the child found it in a queue of waiters.
        return true;
    }
    // SAFETY: null or an M; Ms are never freed.
    match unsafe { g.locked_m.get().as_ref() } {
        Some(owner) if !ptr::eq(owner, m) => run_on_its_m(m, owner),
        _ => execute(m, g, new_turn),
    }
    true
}

/// The M's goroutine is locked to it: without that one it has nothing to do. Gives its P away and waits for both.
fn wait_locked(s: &Sched, m: &'static M) {
    if let Some(p) = m.p() {
        m.set_p(None);
        s.hand_off(p);
    }
    s.locked_ms.fetch_add(1, Ordering::SeqCst);
    loop {
        m.note.sleep(None);
        // SAFETY: null or a P; Ps are never freed.
        if let Some(p) = unsafe { m.next_p.swap(ptr::null_mut(), Ordering::Acquire).as_ref() } {
            s.locked_ms.fetch_sub(1, Ordering::SeqCst);
            s.attach(m, p);
            return;
        }
    }
}

/// Hands this M's P to the M that a runnable goroutine is locked to.
fn run_on_its_m(m: &'static M, owner: &'static M) {
    let p = m.must_p();
    m.set_p(None);
    owner.spinning.set(false);
    owner
        .next_p
        .store(ptr::from_ref(p).cast_mut(), Ordering::Release);
    // SAFETY: Ms are never freed.
    unsafe { crate::sys::Note::wake(&raw const owner.note) };
}

/// Runs `g` until it leaves its stack, then does what it asked for.
fn execute(m: &'static M, g: &'static G, new_turn: bool) {
    let p = m.must_p();
    if g.stack.get().is_none() {
        bind::bind_late(g, p);
    }
    g.runs_on(m);
    // Both counters: only the holder writes.
    p.switches.store(
        p.switches.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
    if new_turn {
        p.tick.store(
            p.tick.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
        // What was meant for the last goroutine is not meant for this one.
        if m.attention.load(Ordering::Relaxed) & ATTN_PREEMPT != 0 {
            m.attention.fetch_and(!ATTN_PREEMPT, Ordering::Relaxed);
        }
    }
    if raddle_race::enabled()
        && let Some(ctx) = g.race.get()
    {
        raddle_race::switch_in(ctx);
    }
    // A goroutine is resumed as if inside the runtime: at depth 1, as g0 is.
    debug_assert_eq!(m.depth(), 1);
    switch_to(m, g);
    // One that ended may have left guards behind.
    m.set_depth(1);
    if raddle_race::enabled()
        && let Some(ctx) = g.race.get()
    {
        raddle_race::switch_out(ctx);
    }
    let (after, arg) = g
        .after
        .take()
        .expect("a goroutine leaves its stack for a reason");
    // SAFETY: `suspend` and the end of a goroutine set it for this moment.
    unsafe { after(m, g, arg) };
}

/// The switch itself: no thread-local is used in here (invariant 3), hence never inlined.
#[inline(never)]
pub(crate) fn switch_to(m: &M, g: &'static G) {
    let block = g.stack.get().expect("it was bound before").block;
    // SAFETY: `bind` has written the coroutine; a Running G belongs to this M.
    let co: &mut Co = unsafe { &mut *g.co.get().cast() };
    let thread_bound = tls::mode() == tls::TlsMode::Thread;
    if thread_bound {
        rt::set_current(g);
        raddle_race::set_current(g.race.get());
    }
    let moved = g.last_m.replace(m.id()) != m.id();
    if moved && let Some(slot) = g.heap_slot.get() {
        // SAFETY: the goroutine's own block, which runs on this thread from here.
        unsafe { slot.set(m.must_heap()) };
    }
    if thread_bound && let Some(ctx) = g.race.get() {
        // The thread's variables are those of all its goroutines: each finds what the last one left.
        raddle_race::acquire_g(ctx, ptr::from_ref(m).addr());
    }
    // SAFETY: the block is the goroutine's own, which runs from here.
    unsafe { tls::enter(block, m.tid.load(Ordering::Relaxed), moved) };
    co.resume(());
    // SAFETY: back on this M's stack.
    unsafe { tls::leave(m.block.get()) };
    if thread_bound {
        if let Some(ctx) = g.race.get() {
            raddle_race::release_g(ctx, ptr::from_ref(m).addr());
        }
        rt::set_current(ptr::null());
        raddle_race::set_current(None);
    }
}

/// The next goroutine, and whether its turn is a new one. None: look again from the start, perhaps without a P.
fn find_runnable(s: &'static Sched, m: &'static M, p: &'static P) -> Option<(&'static G, bool)> {
    if s.stopping.load(Ordering::SeqCst) {
        m.set_p(None);
        stop_spinning(s, m);
        resize::stopped(p);
        return None;
    }
    look_after_timers(s, m, p);
    let tick = p.tick.load(Ordering::Relaxed);
    if tick.is_multiple_of(GLOBAL_FIRST)
        && let Some(g) = take_global(s, p, 1)
    {
        return Some((g, true));
    }
    if let Some(g) = p.take_next() {
        return Some((g, false));
    }
    if let Some(Queued(g)) = p.deque.pop() {
        return Some((g, true));
    }
    if let Some(g) = take_global(s, p, s.injector.len() / s.procs() + 1) {
        return Some((g, true));
    }
    if m.spinning.get() || s.idle.start_spin_if_few(s.procs() as u32) {
        m.spinning.set(true);
        if let Some(g) = spin(s, m, p) {
            return Some((g, true));
        }
    }
    go_idle(s, m, p);
    None
}

fn stop_spinning(s: &Sched, m: &M) {
    if m.spinning.replace(false) {
        s.idle.stop_spin();
    }
}

/// Takes one G off the global queue, and up to `limit` in all into the local one.
fn take_global(s: &Sched, p: &P, limit: usize) -> Option<&'static G> {
    loop {
        match s.injector.steal_batch_with_limit_and_pop(&p.deque, limit) {
            Steal::Success(Queued(g)) => return Some(g),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

/// Goes round the other Ps.
fn spin(s: &'static Sched, m: &'static M, p: &'static P) -> Option<&'static G> {
    for _ in 0..STEAL_ROUNDS {
        for victim in others(s, p) {
            if s.stopping.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(g) = steal_half(victim, p) {
                return Some(g);
            }
        }
        if let Some(g) = take_global(s, p, 1) {
            return Some(g);
        }
        std::hint::spin_loop();
    }
    for victim in others(s, p) {
        run_due_timers(victim, m);
    }
    if let Some(g) = p.take_next() {
        return Some(g);
    }
    steal_next(s, m, p)
}

/// Takes a `runnext` that stays where it is because its P is busy with something else.
fn steal_next(s: &'static Sched, m: &'static M, p: &'static P) -> Option<&'static G> {
    for nap in 0..NAP_ROUNDS {
        let busy = others(s, p).find(|victim| !victim.runnext.load(Ordering::Relaxed).is_null())?;
        let switches = busy.switches.load(Ordering::Relaxed);
        s.nap(m, nap);
        if s.stopping.load(Ordering::Relaxed) {
            return None;
        }
        if busy.switches.load(Ordering::Relaxed) == switches
            && let Some(g) = busy.take_next()
        {
            return Some(g);
        }
        if let Some(g) = others(s, p)
            .find_map(|victim| steal_half(victim, p))
            .or_else(|| take_global(s, p, 1))
        {
            return Some(g);
        }
    }
    None
}

/// The other Ps, from a place that differs from P to P and from turn to turn.
fn others(s: &'static Sched, p: &'static P) -> impl Iterator<Item = &'static P> {
    let n = s.procs();
    let start = p.id as usize + 1;
    (0..n)
        .filter_map(move |i| s.p((start + i) % n))
        .filter(move |other| !ptr::eq(*other, p))
}

fn steal_half(victim: &P, p: &P) -> Option<&'static G> {
    // A few tries: another thief is at work here, and the next victim may be free.
    for _ in 0..4 {
        match victim.stealer.steal_batch_and_pop(&p.deque) {
            Steal::Success(Queued(g)) => return Some(g),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
    None
}

/// Before a goroutine's turn: runs the timers of this P that are due.
///
/// A hundred tickers with short periods are all due again at the next turn. So that the turns of goroutines are not mostly
/// theirs, it then leaves timers alone for as long as it was busy with them, while there is something else to run.
#[inline]
fn look_after_timers(s: &Sched, m: &'static M, p: &P) {
    /// So few take less time than it takes to measure it.
    const FEW: usize = 8;
    if p.timers.next_when() == u64::MAX {
        return;
    }
    let now = clock::read_ns();
    let rests = now < p.timers_rest_until.get() && (p.has_work() || !s.injector.is_empty());
    if rests || p.timers.next_when() > now {
        return;
    }
    if p.timers.run_due(now, &Rt::on_g0(m)) > FEW {
        let end = clock::read_ns();
        p.timers_rest_until.set(end + end.saturating_sub(now));
    }
    // What they made ready waits for its turn. As the next to run, in a time slice that goes on for ever, the goroutines of a
    // ticker whose period is shorter than what it takes to run one would let no other run.
    if let Some(g) = p.take_next() {
        p.push(g);
    }
}

/// Runs the timers of `owner` that are due; what they make ready goes to `m`'s P.
fn run_due_timers(owner: &P, m: &'static M) {
    if owner.timers.next_when() == u64::MAX {
        return;
    }
    let now = clock::read_ns();
    if owner.timers.next_when() <= now {
        owner.timers.run_due(now, &Rt::on_g0(m));
    }
}

/// Gives the P up, looks again, and sleeps.
fn go_idle(s: &'static Sched, m: &'static M, p: &'static P) {
    // First, since from then on another M may have the P.
    m.set_p(None);
    if !s.give_up_p(p, true) {
        // Work came, or the world stops: the P is still ours.
        m.set_p(Some(p));
        return;
    }
    if m.spinning.replace(false) {
        s.idle.stop_spin();
    } else {
        s.idle.look_again();
    }
    if (s.any_work() || s.next_timer() <= clock::read_ns())
        && let Some(p) = s.take_idle_p()
    {
        s.attach(m, p);
        s.idle.start_spin();
        m.spinning.set(true);
        return;
    }
    let deadline = keep_timers(s);
    s.stop_m(m, deadline);
    if let Some(deadline) = deadline {
        let _ = s.keeper_until.compare_exchange(
            deadline,
            u64::MAX,
            Ordering::SeqCst,
            Ordering::Relaxed,
        );
    }
    if m.p().is_none()
        && let Some(p) = s.take_idle_p()
    {
        s.attach(m, p);
        s.idle.start_spin();
        m.spinning.set(true);
    }
}

/// Whether this M is to sleep until the next timer only: no other sleeps as short.
///
/// Store then check again: a timer that is armed meanwhile either is seen here, or its arming sees this deadline (both
/// SeqCst) and wakes somebody if it is too late.
fn keep_timers(s: &Sched) -> Option<u64> {
    let mut when = s.next_timer();
    loop {
        let kept = s.keeper_until.load(Ordering::SeqCst);
        if when == u64::MAX || when >= kept {
            return None;
        }
        if s.keeper_until
            .compare_exchange(kept, when, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            continue;
        }
        let again = s.next_timer();
        if again >= when {
            return Some(when);
        }
        when = again;
    }
}

/// The M's goroutine enters a blocking call: its P can be taken by others from now on.
pub(crate) fn enter_syscall(m: &M, g: &G) -> &'static P {
    let p = m.must_p();
    g.state.transition_to_syscall();
    m.set_p(None);
    p.syscall_tick.store(
        p.syscall_tick.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
    p.set_status(Status::Syscall);
    p
}

/// The blocking call is over: takes the same P back, or another that is idle. False: there is none.
pub(crate) fn exit_syscall(m: &M, g: &G, p: &'static P) -> bool {
    g.state.transition_from_syscall();
    if p.take_from(Status::Syscall, Status::Running) {
        m.set_p(Some(p));
        return true;
    }
    match sched().take_idle_p() {
        Some(p) => {
            sched().attach(m, p);
            true
        }
        None => false,
    }
}
