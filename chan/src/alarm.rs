//! Waits with a time limit: a timer on the waiting goroutine's stack.
//!
//! # Invariants
//!
//! 1. `fired` and `armed` are touched under `lock` only. The timer's callback sets `fired`, and wakes the goroutine only if it
//!    finds `armed` and wins the goroutine's claim. The goroutine sets `armed` only if it does not find `fired`, and then
//!    parks with `lock` held until it can be made ready: whoever comes second sees the first, so no wake-up is lost, none
//!    reaches a goroutine that is not parked.
//! 2. The alarm outlives its timer's callback: [`Alarm::with`] stops the timer, which waits for a running callback, before it returns.
//! 3. Lock order: timer heap, then alarm; channels, then alarm. A timer is started and stopped with no lock held.

use crate::core::{Chan, Op, Polled};
use crate::hooks;
use crate::lock::SpinLock;
use crate::waiter::{CLAIM, Outcome, Waiter};
use raddle_sched::{GRef, Rt, Timer, WaitReason, enter, now_ns};
use std::cell::Cell;
use std::panic::Location;
use std::ptr;

/// What a timer rings.
#[derive(Debug)]
pub(crate) struct Alarm {
    lock: SpinLock,
    fired: Cell<bool>,
    armed: Cell<bool>,
    g: GRef,
}

impl Alarm {
    /// Calls `f` with an alarm that rings at `when_ns`. The goroutine's claim is fresh when `f` begins.
    pub(crate) fn with<R>(rt: &Rt, when_ns: u64, f: impl FnOnce(&Alarm) -> R) -> R {
        let g = rt.g();
        // SAFETY: the caller's own. The last wait has stopped its timer, and unlinked its waiters under their locks.
        unsafe { g.claim_reset() };
        let alarm = Alarm {
            lock: SpinLock::new(),
            fired: Cell::new(false),
            armed: Cell::new(false),
            g,
        };
        let timer = Timer::new(ring, ptr::from_ref(&alarm).cast_mut().cast());
        /// Stops the timer on every way out (invariant 2).
        struct Stop<'a>(&'a Timer, &'a Rt);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.stop(self.1);
            }
        }
        let _stop = Stop(&timer, rt);
        // SAFETY: timer and alarm stay in place until `_stop` has stopped the timer.
        unsafe { timer.start(rt, when_ns, 0, 0) };
        f(&alarm)
    }

    /// Gets ready to park. False: the time is up already. True: the alarm is locked, and `park` must release it.
    pub(crate) fn arm(&self) -> bool {
        self.lock.lock();
        if self.fired.get() {
            // SAFETY: locked above.
            unsafe { self.lock.unlock() };
            return false;
        }
        self.armed.set(true);
        true
    }

    /// Lets the armed alarm ring: part of `park`'s unlocking.
    ///
    /// # Safety
    ///
    /// The alarm is locked by `arm`.
    pub(crate) unsafe fn release(&self) {
        // SAFETY: by the contract.
        unsafe { self.lock.unlock() }
    }

    /// Parks until the alarm rings.
    pub(crate) fn sleep(
        rt: &Rt,
        until_ns: u64,
        reason: WaitReason,
        at: &'static Location<'static>,
    ) {
        Alarm::with(rt, until_ns, |alarm| {
            if alarm.arm() {
                // SAFETY: the alarm's lock is ours to release, from any stack; it is the last thing that holds wakers off.
                unsafe {
                    rt.park(
                        reason,
                        at,
                        release_alarm,
                        ptr::from_ref(alarm).cast_mut().cast(),
                    )
                };
            }
        });
    }
}

/// The timer's callback.
unsafe fn ring(rt: &Rt, alarm: *mut (), _seq: usize) {
    // SAFETY: valid while the callback runs, by invariant 2.
    let alarm = unsafe { &*alarm.cast::<Alarm>() };
    alarm.lock.lock();
    alarm.fired.set(true);
    let g = alarm.g;
    // SAFETY: armed for the wait that `Alarm::with` opened, which ends only after this callback (invariant 2); it is made
    // ready below.
    let wake = alarm.armed.get() && unsafe { g.try_claim() };
    // SAFETY: locked above.
    unsafe { alarm.lock.unlock() };
    if wake {
        // SAFETY: the claim is won; the goroutine is parked, by invariant 1.
        unsafe { rt.ready(g) }
    }
}

unsafe fn release_alarm(alarm: *mut ()) {
    // SAFETY: `Alarm::sleep` passed its alarm, which stays until the goroutine is woken.
    let alarm = unsafe { &*alarm.cast::<Alarm>() };
    // SAFETY: locked by `arm`.
    unsafe { alarm.release() }
}

/// What a goroutine that parks with a time limit leaves to be unlocked.
struct Locked<'a> {
    alarm: &'a Alarm,
    chan: &'a Chan,
}

unsafe fn unlock_both(locked: *mut ()) {
    // SAFETY: `wait_until` passed it. It stays in place until the channel is unlocked: woken by the alarm before that, the
    // goroutine still has to lock the channel to unlink itself.
    let locked = unsafe { &*locked.cast::<Locked<'_>>() };
    let chan = locked.chan;
    // SAFETY: locked by `arm`.
    unsafe { locked.alarm.release() };
    // SAFETY: locked by `wait_until`'s caller.
    unsafe { chan.unlock() }
}

/// Parks for ever, holding nothing: a wait that only the end of the program ends.
pub(crate) fn park_forever(rt: &Rt, at: &'static Location<'static>) -> ! {
    unsafe fn nothing(_: *mut ()) {}
    loop {
        // SAFETY: there is nothing to unlock.
        unsafe { rt.park(WaitReason::Forever, at, nothing, ptr::null_mut()) }
    }
}

impl Chan {
    /// Sends the element at `src`, waiting until `deadline_ns` at most. `Done`, `Closed`, or `Waiting`: the time is up.
    ///
    /// # Safety
    ///
    /// `src` is an owned element, moved from exactly if the result is `Done`.
    pub(crate) unsafe fn send_until(
        &self,
        src: *const u8,
        deadline_ns: u64,
        at: &'static Location<'static>,
    ) -> Outcome {
        let rt = enter();
        hooks::send_begins(self, &rt, at);
        // SAFETY: `src` by the contract.
        unsafe { self.transfer_until(&rt, Op::Send, src.cast_mut(), deadline_ns, at) }
    }

    /// Receives an element into `dst`, waiting until `deadline_ns` at most (None: for ever). `Done`, `Closed`, or `Waiting`: the
    /// time is up.
    ///
    /// # Safety
    ///
    /// `dst` is valid for writing one element, and holds one exactly if the result is `Done`.
    pub(crate) unsafe fn recv_until(
        &self,
        dst: *mut u8,
        deadline_ns: Option<u64>,
        at: &'static Location<'static>,
    ) -> Outcome {
        match deadline_ns {
            // SAFETY: `dst` by the contract.
            _ if !self.has_queues() => unsafe { self.recv_clock(dst, deadline_ns, at) },
            // SAFETY: as above.
            Some(deadline_ns) => unsafe {
                self.transfer_until(&enter(), Op::Recv, dst, deadline_ns, at)
            },
            // SAFETY: as above.
            None if unsafe { self.recv(dst, at) } => Outcome::Done,
            None => Outcome::Closed,
        }
    }

    /// Receives from a clock, or from nothing.
    unsafe fn recv_clock(
        &self,
        dst: *mut u8,
        deadline_ns: Option<u64>,
        at: &'static Location<'static>,
    ) -> Outcome {
        let rt = enter();
        loop {
            // SAFETY: `dst` by the caller's contract; clocks need no lock.
            match unsafe { self.poll_recv(&rt, dst) } {
                Polled::Done(_) => return Outcome::Done,
                Polled::Closed => return Outcome::Closed,
                _ => {}
            }
            if deadline_ns.is_some_and(|deadline| now_ns() >= deadline) {
                return Outcome::Waiting;
            }
            let tick = self.clock().and_then(|clock| clock.next_ns());
            match tick.into_iter().chain(deadline_ns).min() {
                Some(until) => Alarm::sleep(&rt, until, WaitReason::ChanReceive, at),
                None => park_forever(&rt, at),
            }
        }
    }

    /// Tries `op` on the element at `slot`. None: it would have to wait, and the lock is still held.
    unsafe fn try_locked(
        &self,
        rt: &Rt,
        op: Op,
        slot: *mut u8,
        at: &'static Location<'static>,
    ) -> Option<Outcome> {
        loop {
            self.lock();
            let polled = match op {
                // SAFETY: locked; the slot by the caller's contract.
                Op::Send => unsafe { self.poll_send(rt, slot) },
                // SAFETY: as above.
                Op::Recv => unsafe { self.poll_recv(rt, slot) },
            };
            match polled {
                Polled::Done(g) => {
                    // SAFETY: locked; `g` was taken off its list.
                    unsafe { self.unlock_and_ready(rt, g) };
                    return Some(Outcome::Done);
                }
                Polled::Closed => {
                    // SAFETY: locked.
                    unsafe { self.unlock() };
                    hooks::finds_closed(self);
                    return Some(Outcome::Closed);
                }
                Polled::Promise(w) => {
                    // The peer has been chosen and its value is on the way: wait for it whatever the time limit.
                    // SAFETY: locked, and unlocked by the call.
                    if unsafe { self.await_promise(rt, w, slot, at) } {
                        return Some(Outcome::Done);
                    }
                }
                // SAFETY: locked, and unlocked by the call.
                Polled::NeedBlock => unsafe { self.add_block() },
                Polled::Wait => return None,
            }
        }
    }

    /// `op` without a wait. `Done`, `Closed`, or `Waiting`: it would have had to wait.
    ///
    /// # Safety
    ///
    /// As for [`Chan::send`] or [`Chan::recv`].
    pub(crate) unsafe fn try_transfer(
        &self,
        op: Op,
        slot: *mut u8,
        at: &'static Location<'static>,
    ) -> Outcome {
        let rt = match op {
            Op::Send => {
                let rt = enter();
                hooks::send_begins(self, &rt, at);
                if self.send_would_wait() {
                    return Outcome::Waiting;
                }
                rt
            }
            Op::Recv if self.recv_would_wait() => return Outcome::Waiting,
            Op::Recv => enter(),
        };
        // SAFETY: the slot by the contract.
        match unsafe { self.try_locked(&rt, op, slot, at) } {
            Some(outcome) => outcome,
            None => {
                // SAFETY: `try_locked` left it locked.
                unsafe { self.unlock() };
                Outcome::Waiting
            }
        }
    }

    unsafe fn transfer_until(
        &self,
        rt: &Rt,
        op: Op,
        slot: *mut u8,
        deadline_ns: u64,
        at: &'static Location<'static>,
    ) -> Outcome {
        loop {
            // First without the timer, which most calls do not need.
            // SAFETY: the slot by the caller's contract.
            if let Some(outcome) = unsafe { self.try_locked(rt, op, slot, at) } {
                return outcome;
            }
            // SAFETY: `try_locked` left it locked. The timer is not to be started with a lock held.
            unsafe { self.unlock() };
            if now_ns() >= deadline_ns {
                return Outcome::Waiting;
            }
            let outcome = Alarm::with(rt, deadline_ns, |alarm| {
                // SAFETY: the slot by the caller's contract.
                match unsafe { self.try_locked(rt, op, slot, at) } {
                    Some(outcome) => outcome,
                    // SAFETY: `try_locked` left it locked, and the call unlocks.
                    None => unsafe { self.wait_until(rt, alarm, op, slot, at) },
                }
            });
            if outcome != Outcome::Retry {
                return outcome;
            }
        }
    }

    /// Links a waiter and parks until it is finished or the alarm rings. The lock is released on the way.
    unsafe fn wait_until(
        &self,
        rt: &Rt,
        alarm: &Alarm,
        op: Op,
        slot: *mut u8,
        at: &'static Location<'static>,
    ) -> Outcome {
        if !alarm.arm() {
            // SAFETY: locked by the caller.
            unsafe { self.unlock() };
            return Outcome::Waiting;
        }
        let w = Waiter::new(rt.g(), slot, CLAIM);
        // SAFETY: locked by the caller; unlinked below, under the lock, if nobody took the waiter off.
        unsafe { self.queue(op).push(&w) };
        // SAFETY: locked by the caller.
        unsafe { self.notify_opposite(rt, op) };
        let reason = match op {
            Op::Send => WaitReason::ChanSend,
            Op::Recv => WaitReason::ChanReceive,
        };
        let locked = Locked { alarm, chan: self };
        // SAFETY: both locks are ours to release, from any stack.
        unsafe {
            rt.park(
                reason,
                at,
                unlock_both,
                ptr::from_ref(&locked).cast_mut().cast(),
            )
        };
        match w.outcome() {
            // The alarm won the claim, so nobody else touches the outcome; but the waiter may still be linked.
            Outcome::Waiting => {
                self.lock();
                // SAFETY: locked; linked here or not at all.
                unsafe { self.queue(op).remove(&w) };
                // SAFETY: locked.
                unsafe { self.unlock() };
            }
            Outcome::Closed => hooks::finds_closed(self),
            _ => {}
        }
        w.outcome()
    }
}
