//! The wait queue under every blocking primitive: goroutines in the order in which they came.
//!
//! A [`WaitQueue`] is a lock and `N` lanes; a lane is a circular list of [`Waiter`]s. A waiter lies on the stack of the
//! goroutine that waits, so that waiting allocates nothing. The primitive keeps a state word of its own; what links the
//! two is said in each primitive's header.
//!
//! # States
//!
//! | `Waiter` | on a lane | parked | who may leave the state |
//! | --- | --- | --- | --- |
//! | fresh | no | no | its goroutine, by `push_*` under the queue's lock |
//! | linked | yes | yes, as soon as the lock is free | whoever takes it off its lane under the lock |
//! | taken | no | yes | whoever took it off, by `Rt::ready` |
//!
//! The taker leaves an [`Outcome`] before it readies the goroutine.
//!
//! # Invariants
//!
//! 1. The fields of lanes and of linked waiters are read and written only under the queue's lock.
//! 2. A linked waiter's goroutine is parked or about to be, with the lock held until it is: its stack, and what it
//!    borrows, stay where they are until somebody readies it.
//! 3. A taken waiter belongs to its taker until `ready`; nobody else touches it, its goroutine included.
//! 4. A waiter with a timer outlives the timer: [`with_deadline`] stops it before it returns.
//!
//! Invariants 2 and 3 are also what keeps a primitive's memory valid while an unlock is under way: an unlock that has
//! taken a waiter may touch the primitive until it readies that waiter, which borrows it.
//!
//! # Memory ordering
//!
//! The lock orders the lanes. `Rt::ready` ⇄ the return of `Rt::park` makes the taker's writes visible to the waiter.
//!
//! # Blocking
//!
//! The lock blocks the OS thread for a few instructions; `park` parks the goroutine. Lock order: the heap of a timer,
//! a condition variable's queue, any other queue. No code of the user runs under it.
//!
//! # Why not
//!
//! - A global table keyed by address (parking_lot, Go's semaphores): primitives of one word, but unrelated locks
//!   share buckets, and a lock with a hundred thousand waiters slows its neighbours.
//! - `GRef::try_claim` between timer and waker: a waiter here is on one lane only, whose lock already decides who
//!   takes it off. A claim is for waits that are in several queues.

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr;

use raddle_sched::{GRef, Lock, Rt, Timer, WaitReason};

/// How a wait ended: left by whoever took the waiter off its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What was waited for is the waiter's.
    Granted,
    /// It may be had: the waiter must compete for it.
    Woken,
    /// The deadline came first.
    TimedOut,
}

/// One goroutine's wait.
pub(crate) struct Waiter {
    next: Cell<*const Waiter>,
    prev: Cell<*const Waiter>,
    /// The lane this waiter is on; null when on none.
    lane: Cell<*const Lane>,
    lock: *const Lock,
    g: GRef,
    /// What it needs, in the primitive's own terms.
    pub(crate) want: Cell<usize>,
    /// It has lost too often: the next release must hand over instead of letting others in.
    pub(crate) starving: Cell<bool>,
    outcome: Cell<Outcome>,
    expired: Cell<bool>,
}

impl Waiter {
    /// A wait of the calling goroutine on `queue`.
    pub(crate) fn new<const N: usize>(rt: &Rt, queue: &WaitQueue<N>) -> Waiter {
        Waiter {
            next: Cell::new(ptr::null()),
            prev: Cell::new(ptr::null()),
            lane: Cell::new(ptr::null()),
            lock: &raw const queue.lock,
            g: rt.g(),
            want: Cell::new(0),
            starving: Cell::new(false),
            outcome: Cell::new(Outcome::Woken),
            expired: Cell::new(false),
        }
    }

    /// Whether the deadline has passed. Asked under the queue's lock.
    pub(crate) fn expired(&self) -> bool {
        self.expired.get()
    }
}

/// The waiters of one kind: a circular list, of which the head is the oldest.
struct Lane {
    head: Cell<*const Waiter>,
}

impl Lane {
    fn link_back(&self, w: &Waiter) {
        let head = self.head.get();
        if head.is_null() {
            w.next.set(w);
            w.prev.set(w);
            self.head.set(w);
        } else {
            // SAFETY: a linked waiter is valid, by invariant 2.
            let head = unsafe { &*head };
            let tail_ptr = head.prev.get();
            // SAFETY: as above.
            let tail = unsafe { &*tail_ptr };
            w.next.set(head);
            w.prev.set(tail_ptr);
            tail.next.set(w);
            head.prev.set(w);
        }
        w.lane.set(self);
    }

    fn link_front(&self, w: &Waiter) {
        // In a circle the front is the back, seen from the next head.
        self.link_back(w);
        self.head.set(w);
    }

    fn unlink(&self, w: &Waiter) {
        let (next, prev) = (w.next.get(), w.prev.get());
        if ptr::eq(next, w) {
            self.head.set(ptr::null());
        } else {
            // SAFETY: a linked waiter's neighbours are linked, so valid by invariant 2.
            unsafe { &*next }.prev.set(prev);
            // SAFETY: as above.
            unsafe { &*prev }.next.set(next);
            if ptr::eq(self.head.get(), w) {
                self.head.set(next);
            }
        }
        w.next.set(ptr::null());
        w.lane.set(ptr::null());
    }
}

/// A lock and `N` lanes of waiters.
pub(crate) struct WaitQueue<const N: usize = 1> {
    lock: Lock,
    lanes: [Lane; N],
}

// SAFETY: the lanes are touched under the lock only, by invariant 1.
unsafe impl<const N: usize> Send for WaitQueue<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for WaitQueue<N> {}

// No panic can leave a queue half changed: no code of the user runs while it is held.
impl<const N: usize> std::panic::RefUnwindSafe for WaitQueue<N> {}

impl<const N: usize> WaitQueue<N> {
    pub(crate) const fn new() -> Self {
        WaitQueue {
            lock: Lock::new(),
            lanes: [const {
                Lane {
                    head: Cell::new(ptr::null()),
                }
            }; N],
        }
    }

    /// Takes the queue's lock. `_rt` shows that the caller is inside the runtime, as the lock demands.
    pub(crate) fn hold<'q>(&'q self, _rt: &Rt) -> Held<'q, N> {
        self.lock.lock();
        Held { queue: self }
    }
}

impl<const N: usize> Default for WaitQueue<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for WaitQueue<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitQueue").finish_non_exhaustive()
    }
}

/// A wait queue whose lock the caller holds. Dropping it gives the lock back.
pub(crate) struct Held<'q, const N: usize> {
    queue: &'q WaitQueue<N>,
}

impl<const N: usize> Held<'_, N> {
    fn lane(&self, lane: usize) -> &Lane {
        &self.queue.lanes[lane]
    }

    /// Whether nobody waits on `lane`.
    pub(crate) fn is_empty(&self, lane: usize) -> bool {
        self.lane(lane).head.get().is_null()
    }

    /// Appends `w` to `lane`.
    ///
    /// # Safety
    ///
    /// `w` is fresh, made for this queue, and the caller parks by [`Held::park`] before it gives the lock back.
    pub(crate) unsafe fn push_back(&self, lane: usize, w: &Waiter) {
        self.lane(lane).link_back(w);
    }

    /// Puts `w` before all others on `lane`.
    ///
    /// # Safety
    ///
    /// As for [`Held::push_back`].
    pub(crate) unsafe fn push_front(&self, lane: usize, w: &Waiter) {
        self.lane(lane).link_front(w);
    }

    /// The oldest waiter of `lane`.
    pub(crate) fn front(&self, lane: usize) -> Option<&Waiter> {
        let head = self.lane(lane).head.get();
        // SAFETY: null, or linked and so valid while the lock is held, by invariant 2.
        unsafe { head.as_ref() }
    }

    /// Takes the oldest waiter of `lane` off, to be woken with `outcome`.
    pub(crate) fn take_front(&self, lane: usize, outcome: Outcome) -> Option<Taken> {
        let w = self.front(lane)?;
        self.lane(lane).unlink(w);
        w.outcome.set(outcome);
        Some(Taken { waiter: w })
    }

    /// Takes every waiter of `lane` off, and tells how many they were.
    pub(crate) fn take_all(&self, lane: usize, outcome: Outcome) -> (WakeList, usize) {
        let (mut list, mut n) = (WakeList::new(), 0);
        while let Some(w) = self.take_front(lane, outcome) {
            list.push(w);
            n += 1;
        }
        (list, n)
    }

    /// Parks the calling goroutine, whose waiter is on a lane, and gives the lock back once it is off its stack.
    /// Returns how the wait ended, without the lock.
    pub(crate) fn park(
        self,
        rt: &Rt,
        w: &Waiter,
        reason: WaitReason,
        at: &'static Location<'static>,
    ) -> Outcome {
        let held = ManuallyDrop::new(self);
        let lock = ptr::from_ref(&held.queue.lock).cast_mut().cast::<()>();
        // SAFETY: `release` may run on any stack; the waiter's taker readies this goroutine exactly once.
        unsafe { rt.park(reason, at, release, lock) };
        w.outcome.get()
    }
}

impl<const N: usize> Drop for Held<'_, N> {
    fn drop(&mut self) {
        // SAFETY: `self` stands for the held lock.
        unsafe { self.queue.lock.unlock() };
    }
}

/// Gives back the lock that a parking goroutine held.
unsafe fn release(lock: *mut ()) {
    // SAFETY: called by `park` with the queue's lock; the goroutine's waiter borrows the queue, and so keeps it valid
    // until the lock is free.
    let lock = unsafe { &*lock.cast::<Lock>() };
    // SAFETY: held since before `park`.
    unsafe { lock.unlock() };
}

/// A waiter that is off its lane and must be readied.
#[must_use = "a taken waiter sleeps until it is readied"]
pub(crate) struct Taken {
    waiter: *const Waiter,
}

impl Taken {
    /// The waiter, still parked.
    pub(crate) fn waiter(&self) -> &Waiter {
        // SAFETY: taken and not yet readied: valid by invariant 3.
        unsafe { &*self.waiter }
    }

    /// Makes the goroutine runnable. Best called after the queue's lock is free: it may run at once.
    pub(crate) fn ready(self, rt: &Rt) {
        let g = self.waiter().g;
        // SAFETY: whoever takes a waiter has the sole right to wake it, and `self` is used up.
        unsafe { rt.ready(g) };
    }
}

/// Taken waiters, to be readied together in the order in which they were taken.
#[must_use = "taken waiters sleep until they are readied"]
pub(crate) struct WakeList {
    head: *const Waiter,
    tail: *const Waiter,
}

impl WakeList {
    pub(crate) const fn new() -> WakeList {
        WakeList {
            head: ptr::null(),
            tail: ptr::null(),
        }
    }

    /// Adds a waiter at the end.
    pub(crate) fn push(&mut self, taken: Taken) {
        taken.waiter().next.set(ptr::null());
        if self.tail.is_null() {
            self.head = taken.waiter;
        } else {
            // SAFETY: taken and not yet readied: valid by invariant 3.
            unsafe { &*self.tail }.next.set(taken.waiter);
        }
        self.tail = taken.waiter;
    }

    /// Adds all waiters of `other` at the end.
    pub(crate) fn append(&mut self, other: WakeList) {
        if self.tail.is_null() {
            *self = other;
        } else if !other.head.is_null() {
            // SAFETY: as in `push`.
            unsafe { &*self.tail }.next.set(other.head);
            self.tail = other.tail;
        }
    }

    /// Calls `f` with each goroutine on the list.
    pub(crate) fn each(&self, mut f: impl FnMut(GRef)) {
        let mut w = self.head;
        // SAFETY: every waiter of the list is taken and not yet readied: valid by invariant 3.
        while let Some(waiter) = unsafe { w.as_ref() } {
            f(waiter.g);
            w = waiter.next.get();
        }
    }

    /// Makes all of them runnable.
    pub(crate) fn ready_all(self, rt: &Rt) {
        let mut w = self.head;
        // SAFETY: as in `each`; what is needed of a waiter is read before it is readied.
        while let Some(waiter) = unsafe { w.as_ref() } {
            w = waiter.next.get();
            // SAFETY: as in `Taken::ready`.
            unsafe { rt.ready(waiter.g) };
        }
    }
}

/// Runs `body` with a timer that ends the wait of `w` at `deadline_ns` (`now_ns` clock): a linked waiter is taken off
/// and readied as [`Outcome::TimedOut`], and any later attempt finds it [`Waiter::expired`].
pub(crate) fn with_deadline<R>(
    rt: &Rt,
    w: &Waiter,
    deadline_ns: u64,
    body: impl FnOnce() -> R,
) -> R {
    struct Stop<'a>(&'a Timer, &'a Rt);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.stop(self.1);
        }
    }
    if deadline_ns == u64::MAX {
        return body();
    }
    let timer = Timer::new(expire, ptr::from_ref(w).cast_mut().cast());
    // SAFETY: the timer stays in this frame until `Stop` has stopped it.
    unsafe { timer.start(rt, deadline_ns, 0, 0) };
    let _stop = Stop(&timer, rt);
    body()
}

/// The timer's callback: ends the wait, or remembers that it is over before it began.
unsafe fn expire(rt: &Rt, w: *mut (), _seq: usize) {
    // SAFETY: the waiter outlives its timer, by invariant 4.
    let w = unsafe { &*w.cast::<Waiter>() };
    // SAFETY: the waiter borrows its queue.
    let lock = unsafe { &*w.lock };
    lock.lock();
    w.expired.set(true);
    let lane = w.lane.get();
    let linked = !lane.is_null();
    if linked {
        // SAFETY: a linked waiter's lane is valid.
        unsafe { &*lane }.unlink(w);
        w.outcome.set(Outcome::TimedOut);
    }
    let g = w.g;
    // SAFETY: taken above.
    unsafe { lock.unlock() };
    if linked {
        // SAFETY: this callback took the waiter off its lane.
        unsafe { rt.ready(g) };
    }
}
