//! The channel: one object for all element types, and its operations under the lock.
//!
//! # States
//!
//! Open, then closed, for good. [`Chan::close`], the last sender's end and the last receiver's end all close. On a closed
//! channel sends fail; receives first drain the buffer. When the last receiver ends, what is buffered is dropped.
//!
//! # Invariants
//!
//! 1. Everything but `len`, `closed`, `reserved` and the counts is touched under `lock` only. These are written under it
//!    (the counts aside) and may be read without, as hints and for `len()` and the like.
//! 2. Peers wait for receiving only if the buffer is empty; peers wait for sending only if `len + reserved == cap`;
//!    nobody waits on a closed channel. Both may wait at once only while all places are reserved and empty.
//! 3. The buffer is first in, first out, and so are both queues: a new element goes to the longest waiting receiver
//!    straight from the sender's stack; a place that becomes free goes to the longest waiting sender.
//! 4. `reserved` places belong to sends that a select has chosen and not yet completed; they hold no element yet.
//! 5. After the last receiver's end the buffer belongs to it alone: the channel is closed, so nobody adds or takes.
//!
//! # No lost wake-up
//!
//! A side that must wait links its waiter under the lock, after it has looked at the state, and the lock is released by
//! `park` only when its goroutine can be made ready. Each change that could end a wait is made under the same lock and looks
//! at the queue in the same section. So the change comes before the look, and the waiter does not wait; or it finds the
//! waiter linked, wakes it, and `ready` finds a parked goroutine.
//!
//! # Memory ordering
//!
//! The lock orders all but the hints. `closed: store Release` ⇄ `load Acquire` in the hints. A hint that says "empty" (or
//! "full") reads `len` first (Acquire), then `closed`: closing is for good, so if the later load finds the channel open, it was
//! open when `len` was read, and the answer was true at that moment.
//!
//! # Blocking
//!
//! The lock blocks the OS thread for a few dozen instructions. Under it there is no allocation (an unbounded
//! buffer that shrinks frees a block now and then), no code of the user's (drops run outside), no timer. Wake-ups come after it is released, but for observers and meetings, which are rare. Only
//! closing holds it for longer: for a few loads and stores for each who waits.
//!
//! # Parts
//!
//! `poll`: under the lock; `block`: with waiting; `grant`: the two-step sends of selects; `end`: closing and freeing. Time limits are
//! in `alarm`, selects in `select`.
//!
//! # References
//!
//! Go's `runtime/chan.go` for hand-off and queues; the deviation is the `reserved` count and the meeting with a promise, by which a
//! select's send needs its value only once it has been chosen, as in crossbeam-channel.

mod block;
mod end;
mod grant;
mod poll;

pub(crate) use grant::Grant;

use crate::clock::Clock;
use crate::elem::Elem;
use crate::list::List;
use crate::lock::SpinLock;
use crate::ring::Ring;
use crate::waiter::{WaitQueue, Waiter};
use raddle_sched::{GRef, Rt};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Where messages are kept or come from.
#[derive(Debug)]
pub(crate) enum Body {
    /// Bounded, with room for at least one.
    Ring(Ring),
    /// Bounded by zero: peers meet.
    Zero,
    /// Unbounded.
    List(List),
    /// The clock (`after`, `at`, `tick`): no senders, and waits are sleeps.
    Clock(Clock),
    /// No message ever.
    Never,
}

/// A channel of any element type.
///
/// The fields are in the order of their use: a meeting without a buffer touches the first two or three cache lines only. Not
/// aligned to them: an aligned allocation costs more than the line it might save.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Chan {
    lock: SpinLock,
    closed: AtomicBool,
    recvq: WaitQueue,
    sendq: WaitQueue,
    len: AtomicUsize,
    elem: Elem,
    reserved: AtomicUsize,
    body: Body,
    pub(crate) senders: AtomicUsize,
    pub(crate) receivers: AtomicUsize,
    /// One side's handles are all gone: the other side's last one frees the channel.
    pub(crate) orphaned: AtomicBool,
}

// SAFETY: the lock and the atomics guard every field, by invariant 1; elements cross threads only through handles that
// require `T: Send`.
unsafe impl Sync for Chan {}

/// What an operation under the lock came to.
#[derive(Debug)]
pub(crate) enum Polled<'a> {
    /// The element was moved. Make the goroutine ready after unlocking.
    Done(Option<GRef>),
    /// For a receive: a select's send was taken off its queue, its value is yet to come.
    Promise(&'a Waiter),
    /// The channel is closed (and, for a receive, empty).
    Closed,
    /// It would have to wait.
    Wait,
    /// The buffer needs a block: unlock, allocate, start again.
    NeedBlock,
}

/// What is asked of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Send,
    Recv,
}

impl Chan {
    pub(crate) const fn new(body: Body, elem: Elem) -> Self {
        Self {
            lock: SpinLock::new(),
            closed: AtomicBool::new(false),
            recvq: WaitQueue::new(),
            sendq: WaitQueue::new(),
            len: AtomicUsize::new(0),
            elem,
            reserved: AtomicUsize::new(0),
            body,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            orphaned: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn elem(&self) -> &Elem {
        &self.elem
    }

    #[inline]
    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    #[inline]
    pub(crate) fn clock(&self) -> Option<&Clock> {
        match &self.body {
            Body::Clock(clock) => Some(clock),
            _ => None,
        }
    }

    /// Whether waiters are linked here: not on clocks, nor where nothing ever happens.
    #[inline]
    pub(crate) fn has_queues(&self) -> bool {
        !matches!(self.body, Body::Clock(_) | Body::Never)
    }

    #[inline]
    pub(crate) fn queue(&self, op: Op) -> &WaitQueue {
        match op {
            Op::Send => &self.sendq,
            Op::Recv => &self.recvq,
        }
    }

    #[inline]
    pub(crate) fn lock(&self) {
        self.lock.lock();
    }

    /// # Safety
    ///
    /// The caller holds the lock.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: by the contract.
        unsafe { self.lock.unlock() }
    }

    /// Unlocks, then wakes the peer that an operation finished.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, and the sole right to wake `g`.
    #[inline(always)]
    pub(crate) unsafe fn unlock_and_ready(&self, rt: &Rt, g: Option<GRef>) {
        // SAFETY: by the contract.
        unsafe { self.unlock() };
        if let Some(g) = g {
            // SAFETY: by the contract.
            unsafe { rt.ready(g) }
        }
    }

    // What can be told without the lock.

    #[inline(never)]
    pub(crate) fn len(&self) -> usize {
        match &self.body {
            Body::Clock(clock) => usize::from(clock.is_due()),
            _ => self.len.load(Ordering::Acquire),
        }
    }

    #[inline(never)]
    pub(crate) fn capacity(&self) -> Option<usize> {
        match &self.body {
            Body::Ring(ring) => Some(ring.cap()),
            Body::Zero | Body::Never => Some(0),
            Body::Clock(_) => Some(1),
            Body::List(_) => None,
        }
    }

    #[inline(never)]
    pub(crate) fn is_full(&self) -> bool {
        match &self.body {
            Body::Ring(ring) => {
                self.len.load(Ordering::Acquire) + self.reserved.load(Ordering::Relaxed)
                    >= ring.cap()
            }
            Body::Zero | Body::Never => true,
            Body::Clock(clock) => clock.is_due(),
            Body::List(_) => false,
        }
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) // pairs with `close`
    }

    /// Whether a send, tried at some moment of this call, would have had to wait (see "Memory ordering").
    #[inline]
    pub(crate) fn send_would_wait(&self) -> bool {
        let full = match &self.body {
            Body::Ring(ring) => self.len.load(Ordering::Acquire) == ring.cap(),
            Body::List(_) => false,
            _ => self.recvq.looks_empty(),
        };
        full && !self.is_closed()
    }

    /// Whether a receive, tried at some moment of this call, would have had to wait (see "Memory ordering").
    #[inline]
    pub(crate) fn recv_would_wait(&self) -> bool {
        match &self.body {
            Body::Clock(clock) => !clock.is_due(),
            Body::Zero => self.sendq.looks_empty() && !self.is_closed(),
            _ => self.len.load(Ordering::Acquire) == 0 && !self.is_closed(),
        }
    }
}

/// Releases a parked goroutine's channel.
///
/// # Safety
///
/// `chan` is a [`Chan`] whose lock the parked goroutine took.
pub(crate) unsafe fn unlock_chan(chan: *mut ()) {
    // SAFETY: the parked goroutine keeps the channel alive until it has been woken, which takes this lock.
    let chan = unsafe { &*chan.cast::<Chan>() };
    // SAFETY: by the contract.
    unsafe { chan.unlock() }
}
