//! Who waits on a channel: nodes on the waiting goroutines' own stacks, and the first-in-first-out queues of them.
//!
//! # Invariants
//!
//! 1. A queue and every linked waiter's fields are touched only under the lock of the queue's channel.
//! 2. A linked waiter's goroutine is parked, or is inside the runtime and takes the channel's lock before its frame ends;
//!    it unlinks what is still linked before it returns. So a linked node is valid memory to whoever holds the lock.
//! 3. A waiter with [`CLAIM`] has several possible wakers (the other cases of a select, a timer). Who wins
//!    [`GRef::try_claim`] is the only one that may write its outcome, touch its slot and ready its goroutine. The others
//!    unlink the node and pass on. A waiter without it belongs to whoever unlinked it.
//! 4. A waiter that was unlinked and won stays valid until its goroutine is made ready: that one is the winner's last touch.
//!    Until then its `next` is the winner's, to remember it by ([`Taken`]).
//!
//! # Memory ordering
//!
//! `head` is atomic only so that it can be looked at without the lock, as a hint ([`WaitQueue::looks_empty`]); everything
//! else is ordered by the lock, and the outcome by `ready` ⇄ the return of `park`.

use raddle_sched::GRef;
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Several wakers are possible: win the claim first (invariant 3).
pub(crate) const CLAIM: u8 = 1;
/// A send of a select: it has no value yet, it brings one once it has been chosen.
pub(crate) const PROMISE: u8 = 2;
/// Only wants to know that the operation would not wait (`Select::ready`): takes part in no transfer.
pub(crate) const OBSERVE: u8 = 4;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not yet, or by the timer.
    Waiting,
    /// The element was moved.
    Done,
    /// The channel was closed.
    Closed,
    /// The peer gave the meeting up: start again.
    Retry,
    /// For a promise: a place in the buffer is reserved.
    Reserved,
    /// For a promise: `slot` is the parked receiver's [`Waiter`].
    Peer,
    /// For an observer: try now.
    Ready,
}

/// One wait of one goroutine on one channel.
#[derive(Debug)]
pub(crate) struct Waiter {
    next: Cell<*const Waiter>,
    prev: Cell<*const Waiter>,
    /// Where the element is (send), where it goes (receive), or the peer (a promise that was met).
    slot: Cell<*mut u8>,
    g: GRef,
    mode: u8,
    linked: Cell<bool>,
    outcome: Cell<Outcome>,
}

impl Waiter {
    pub(crate) fn new(g: GRef, slot: *mut u8, mode: u8) -> Self {
        Self {
            next: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
            slot: Cell::new(slot),
            g,
            mode,
            linked: Cell::new(false),
            outcome: Cell::new(Outcome::Waiting),
        }
    }

    #[inline]
    pub(crate) fn g(&self) -> GRef {
        self.g
    }

    #[inline]
    pub(crate) fn slot(&self) -> *mut u8 {
        self.slot.get()
    }

    #[inline]
    pub(crate) fn is_promise(&self) -> bool {
        self.mode & PROMISE != 0
    }

    #[inline]
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome.get()
    }

    /// Ends the wait, by its winner (invariant 3).
    #[inline]
    pub(crate) fn finish(&self, outcome: Outcome) {
        self.outcome.set(outcome);
    }

    /// Ends a promise by a meeting with the parked receiver `peer`.
    pub(crate) fn meet(&self, peer: &Waiter) {
        self.slot.set(ptr::from_ref(peer).cast_mut().cast());
        self.outcome.set(Outcome::Peer);
    }

    /// Wins the wait (invariant 3).
    ///
    /// # Safety
    ///
    /// The caller holds the lock of the queue that the waiter is or was just linked in, and makes the goroutine ready if it wins.
    unsafe fn claim(&self) -> bool {
        // SAFETY: a linked waiter's goroutine cannot have gone on to another wait (invariant 2); the rest by the contract.
        self.mode & CLAIM == 0 || unsafe { self.g.try_claim() }
    }
}

/// A first-in-first-out queue of waiters.
#[derive(Debug)]
pub(crate) struct WaitQueue {
    head: AtomicPtr<Waiter>,
    tail: Cell<*const Waiter>,
    observers: Cell<usize>,
}

impl WaitQueue {
    pub(crate) const fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
            tail: Cell::new(ptr::null()),
            observers: Cell::new(0),
        }
    }

    /// Whether nobody waited at some moment during the call. Exact under the lock, a hint without it.
    #[inline]
    pub(crate) fn looks_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null() // a hint: decided again under the lock
    }

    /// Whether somebody waits who takes part in transfers (their claim may be lost already).
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock.
    pub(crate) unsafe fn has_peer(&self) -> bool {
        let mut w: *const Waiter = self.head.load(Ordering::Relaxed);
        // SAFETY: linked nodes are valid under the lock, by invariant 2.
        while let Some(waiter) = unsafe { w.as_ref() } {
            if waiter.mode & OBSERVE == 0 {
                return true;
            }
            w = waiter.next.get();
        }
        false
    }

    /// Appends `w`.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock; `w` is linked nowhere and fulfils invariant 2 from here on.
    pub(crate) unsafe fn push(&self, w: &Waiter) {
        let tail = self.tail.replace(w);
        w.prev.set(tail);
        w.next.set(ptr::null());
        w.linked.set(true);
        if w.mode & OBSERVE != 0 {
            self.observers.set(self.observers.get() + 1);
        }
        // SAFETY: the tail is linked, hence valid by invariant 2.
        match unsafe { tail.as_ref() } {
            Some(tail) => tail.next.set(w),
            None => self
                .head
                .store(ptr::from_ref(w).cast_mut(), Ordering::Relaxed),
        }
    }

    /// Takes `w` out if it is still in.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock, and `w` is linked in this queue or in none.
    pub(crate) unsafe fn remove(&self, w: &Waiter) {
        if !w.linked.replace(false) {
            return;
        }
        if w.mode & OBSERVE != 0 {
            self.observers.set(self.observers.get() - 1);
        }
        let (prev, next) = (w.prev.get(), w.next.get());
        // SAFETY: neighbours of a linked node are linked, hence valid by invariant 2.
        match unsafe { prev.as_ref() } {
            Some(prev) => prev.next.set(next),
            None => self.head.store(next.cast_mut(), Ordering::Relaxed),
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            Some(next) => next.prev.set(prev),
            None => self.tail.set(prev),
        }
    }

    /// Takes out the longest waiting peer whose claim can be won. The caller decides its outcome and readies it.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock. The result is valid until its goroutine is made ready.
    #[inline]
    pub(crate) unsafe fn take_peer<'a>(&self) -> Option<&'a Waiter> {
        if self.looks_empty() {
            return None;
        }
        // SAFETY: the caller's lock.
        unsafe { self.take(OBSERVE) }
    }

    /// Takes out the longest waiting one of any kind whose claim can be won.
    ///
    /// # Safety
    ///
    /// As for [`WaitQueue::take_peer`].
    pub(crate) unsafe fn take_any<'a>(&self) -> Option<&'a Waiter> {
        // SAFETY: the caller's lock.
        unsafe { self.take(0) }
    }

    unsafe fn take<'a>(&self, skip: u8) -> Option<&'a Waiter> {
        let mut w: *const Waiter = self.head.load(Ordering::Relaxed);
        // SAFETY: linked nodes are valid under the lock, by invariant 2.
        while let Some(waiter) = unsafe { w.as_ref() } {
            w = waiter.next.get();
            if waiter.mode & skip != 0 {
                continue;
            }
            // SAFETY: the caller holds the lock and the node is in this queue.
            unsafe { self.remove(waiter) };
            // SAFETY: the caller's lock, with which the waiter was linked until here; the caller readies it.
            if unsafe { waiter.claim() } {
                return Some(waiter);
            }
        }
        None
    }

    /// Takes out an observer whose claim can be won.
    ///
    /// # Safety
    ///
    /// As for [`WaitQueue::take_peer`].
    pub(crate) unsafe fn take_observer<'a>(&self) -> Option<&'a Waiter> {
        if self.observers.get() == 0 {
            return None;
        }
        let mut w: *const Waiter = self.head.load(Ordering::Relaxed);
        // SAFETY: linked nodes are valid under the lock, by invariant 2.
        while let Some(waiter) = unsafe { w.as_ref() } {
            w = waiter.next.get();
            if waiter.mode & OBSERVE == 0 {
                continue;
            }
            // SAFETY: the caller holds the lock and the node is in this queue.
            unsafe { self.remove(waiter) };
            // SAFETY: the caller's lock, with which the waiter was linked until here; the caller readies it.
            if unsafe { waiter.claim() } {
                return Some(waiter);
            }
        }
        None
    }

    /// How many are in the queue.
    ///
    /// # Safety
    ///
    /// The caller holds the channel's lock.
    #[cfg(test)]
    pub(crate) unsafe fn count(&self) -> usize {
        let mut w: *const Waiter = self.head.load(Ordering::Relaxed);
        let mut n = 0;
        // SAFETY: linked nodes are valid under the lock, by invariant 2.
        while let Some(waiter) = unsafe { w.as_ref() } {
            w = waiter.next.get();
            n += 1;
        }
        n
    }

    /// Whether an observer may be in the queue.
    #[inline]
    pub(crate) fn has_observers(&self) -> bool {
        self.observers.get() != 0
    }
}

/// Waiters that were taken out of their queues and won, to be made ready once the lock is free, in the order of their taking.
///
/// It holds any number of them and needs no memory: they are chained by their own `next`.
#[derive(Debug, Default)]
pub(crate) struct Taken<'a> {
    head: Option<&'a Waiter>,
    tail: Option<&'a Waiter>,
}

impl<'a> Taken<'a> {
    /// Appends `w`, which the caller has taken out and won.
    pub(crate) fn push(&mut self, w: &'a Waiter) {
        w.next.set(ptr::null());
        match self.tail.replace(w) {
            Some(tail) => tail.next.set(w),
            None => self.head = Some(w),
        }
    }
}

impl<'a> Iterator for Taken<'a> {
    type Item = &'a Waiter;

    /// Takes off the first one. It is not touched by the chain any more, so it can be made ready.
    fn next(&mut self) -> Option<&'a Waiter> {
        let w = self.head?;
        // SAFETY: null, or the next one of the chain, which is valid until it is made ready (invariant 4).
        self.head = unsafe { w.next.get().as_ref() };
        if self.head.is_none() {
            self.tail = None;
        }
        Some(w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_sched::enter;

    #[test]
    fn the_taken_keep_their_order_and_leave_out_lost_claims() {
        let rt = enter();
        let g = rt.g();
        // SAFETY: the calling thread's own, which does not wait here.
        unsafe { g.claim_reset() };
        let queue = WaitQueue::new();
        // One goroutine stands in for several; of its two waiters with a claim only one can be won.
        let waiters =
            [0, CLAIM, 0, CLAIM | OBSERVE, 0].map(|mode| Waiter::new(g, ptr::null_mut(), mode));
        for w in &waiters {
            // SAFETY: nobody else knows the queue.
            unsafe { queue.push(w) };
        }
        let mut taken = Taken::default();
        // SAFETY: as above.
        while let Some(w) = unsafe { queue.take_any() } {
            taken.push(w);
        }
        let got: Vec<*const Waiter> = taken.map(ptr::from_ref).collect();
        let want: Vec<*const Waiter> = [0, 1, 2, 4].map(|i| ptr::from_ref(&waiters[i])).into();
        assert_eq!(got, want);
        assert!(queue.looks_empty() && !queue.has_observers());
        assert!(!waiters.iter().any(|w| w.linked.get()));
    }
}
