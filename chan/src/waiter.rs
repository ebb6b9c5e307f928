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

    fn claim(&self) -> bool {
        self.mode & CLAIM == 0 || self.g.try_claim()
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
            if waiter.claim() {
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
            if waiter.claim() {
                return Some(waiter);
            }
        }
        None
    }

    /// Whether an observer may be in the queue.
    #[inline]
    pub(crate) fn has_observers(&self) -> bool {
        self.observers.get() != 0
    }
}
