//! [`Condvar`]: waiting for a condition on what a mutex guards.
//!
//! # Invariants
//!
//! 1. A waiter joins the queue before it unlocks its mutex. Whoever changes the condition under that mutex later
//!    therefore finds it in the queue: no wake-up is lost.
//! 2. `waiting` is the length of the queue as of its lock's last holder; read without the lock it tells only that nobody can
//!    have to be woken: a waiter whose condition the caller has just changed is counted, by invariant 1 and the order of the mutex.
//!
//! # Blocking
//!
//! A wait holds the queue's lock while it unlocks the mutex, and so may take the mutex's queue lock under its own.
//!
//! In race mode a notify orders just the goroutines that it wakes after itself.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use raddle_sched::{Rt, WaitReason, enter};

use super::deadline::{self, NEVER};
use super::events;
use super::mutex::MutexGuard;
use super::queue::{Outcome, WaitQueue, Waiter, with_deadline};
use super::raw_mutex::RawMutex;

/// A condition variable: goroutines wait on it for a change of what a [`Mutex`](super::Mutex) guards.
///
/// A wait never ends without a notify (or its time-out), yet the condition must be looked at again after it: another
/// goroutine may have had the mutex in between. [`wait_while`](Condvar::wait_while) does so.
///
/// **Blocking**: the waits park the calling goroutine; on a plain thread they block that thread.
///
/// **Happens-before**: a notify happens before the waits that it ends return; the mutex orders as always.
///
/// # Examples
///
/// ```
/// use raddle::sync::{Condvar, Mutex};
///
/// static READY: Mutex<bool> = Mutex::new(false);
/// static CHANGED: Condvar = Condvar::new();
///
/// std::thread::scope(|s| {
///     s.spawn(|| {
///         *READY.lock() = true;
///         CHANGED.notify_one();
///     });
///     let mut ready = READY.lock();
///     CHANGED.wait_while(&mut ready, |ready| !*ready);
///     assert!(*ready);
/// });
/// ```
#[derive(Default)]
pub struct Condvar {
    waiting: AtomicUsize,
    queue: WaitQueue,
}

/// Whether a timed wait ended because its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Returns whether the time was up before a notify came.
    #[must_use]
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// Returns a condition variable that nobody waits on.
    #[must_use]
    pub const fn new() -> Condvar {
        Condvar {
            waiting: AtomicUsize::new(0),
            queue: WaitQueue::new(),
        }
    }

    /// Unlocks the mutex, waits for a notify, and locks the mutex again.
    ///
    /// **Blocking**: parks the goroutine.
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_raw(MutexGuard::raw(guard), NEVER, Location::caller());
    }

    /// Waits until `condition` is false: looks at it first, and again after every notify.
    ///
    /// **Blocking**: parks the goroutine.
    #[track_caller]
    pub fn wait_while<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) {
        while condition(&mut **guard) {
            self.wait(guard);
        }
    }

    /// As [`wait`](Condvar::wait), for at most `timeout`.
    ///
    /// **Blocking**: parks the goroutine, also beyond the time-out while another holds the mutex.
    #[track_caller]
    pub fn wait_timeout<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        self.wait_raw(
            MutexGuard::raw(guard),
            deadline::after(timeout),
            Location::caller(),
        )
    }

    /// As [`wait`](Condvar::wait), until `deadline` at most.
    ///
    /// **Blocking**: parks the goroutine, also beyond the deadline while another holds the mutex.
    #[track_caller]
    pub fn wait_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        self.wait_raw(
            MutexGuard::raw(guard),
            deadline::at(deadline),
            Location::caller(),
        )
    }

    /// As [`wait_while`](Condvar::wait_while), for at most `timeout` in all. The result says whether the condition
    /// still held when the time was up.
    ///
    /// **Blocking**: parks the goroutine, also beyond the time-out while another holds the mutex.
    #[track_caller]
    pub fn wait_while_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        condition: impl FnMut(&mut T) -> bool,
        timeout: Duration,
    ) -> WaitTimeoutResult {
        self.wait_while_ns(guard, condition, deadline::after(timeout))
    }

    /// As [`wait_while`](Condvar::wait_while), until `deadline` at most. The result says whether the condition
    /// still held then.
    ///
    /// **Blocking**: parks the goroutine, also beyond the deadline while another holds the mutex.
    #[track_caller]
    pub fn wait_while_until<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        condition: impl FnMut(&mut T) -> bool,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        self.wait_while_ns(guard, condition, deadline::at(deadline))
    }

    #[track_caller]
    fn wait_while_ns<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        deadline_ns: u64,
    ) -> WaitTimeoutResult {
        let mut late = false;
        while condition(&mut **guard) {
            if late {
                return WaitTimeoutResult(true);
            }
            late = self
                .wait_raw(MutexGuard::raw(guard), deadline_ns, Location::caller())
                .timed_out();
        }
        WaitTimeoutResult(false)
    }

    /// Ends the wait that began first. Returns whether there was one.
    ///
    /// The caller need not hold the mutex, but must have changed the condition under it.
    #[inline]
    pub fn notify_one(&self) -> bool {
        self.waiting.load(Relaxed) != 0 && self.notify(1) != 0
    }

    /// Ends all waits. Returns how many there were.
    ///
    /// The caller need not hold the mutex, but must have changed the condition under it.
    #[inline]
    pub fn notify_all(&self) -> usize {
        if self.waiting.load(Relaxed) == 0 {
            0
        } else {
            self.notify(usize::MAX)
        }
    }

    #[cold]
    #[inline(never)]
    fn notify(&self, at_most: usize) -> usize {
        let rt = enter();
        let queue = self.queue.hold(&rt);
        let mut woken = super::queue::WakeList::new();
        let mut n = 0;
        while n < at_most {
            let Some(w) = queue.take_front(0, Outcome::Granted) else {
                break;
            };
            woken.push(w);
            n += 1;
        }
        self.count(-(n as isize));
        if n != 0 {
            events::release(events::addr(self));
            // SAFETY: taken off the queue, and made ready below.
            woken.each(|g| unsafe { events::acquire_for(g, events::addr(self)) });
        }
        drop(queue);
        woken.ready_all(&rt);
        n
    }

    /// Adds to the count of waiters, under the queue's lock.
    fn count(&self, by: isize) {
        self.waiting
            .store(self.waiting.load(Relaxed).wrapping_add_signed(by), Relaxed);
    }

    #[inline(never)]
    fn wait_raw(
        &self,
        mutex: &RawMutex,
        deadline_ns: u64,
        at: &'static Location<'static>,
    ) -> WaitTimeoutResult {
        let outcome = {
            let rt = enter();
            let w = Waiter::new(&rt, &self.queue);
            if deadline_ns == NEVER {
                self.wait_queued(&rt, &w, mutex, at)
            } else {
                with_deadline(&rt, &w, deadline_ns, || {
                    self.wait_queued(&rt, &w, mutex, at)
                })
            }
        };
        mutex.lock_at(at);
        WaitTimeoutResult(outcome == Outcome::TimedOut)
    }

    /// Joins the queue, unlocks the mutex and parks.
    fn wait_queued(
        &self,
        rt: &Rt,
        w: &Waiter,
        mutex: &RawMutex,
        at: &'static Location<'static>,
    ) -> Outcome {
        let queue = self.queue.hold(rt);
        if w.expired() {
            drop(queue);
            // SAFETY: the caller's guard stands for the held mutex, which is locked again before the guard is used.
            unsafe { mutex.unlock() };
            return Outcome::TimedOut;
        }
        // SAFETY: `w` was made for this queue, and parks below.
        unsafe { queue.push_back(0, w) };
        self.count(1);
        // SAFETY: as above.
        unsafe { mutex.unlock() };
        let outcome = queue.park(rt, w, WaitReason::CondWait, at);
        if outcome == Outcome::TimedOut {
            let _queue = self.queue.hold(rt);
            self.count(-1);
        }
        outcome
    }
}

impl Drop for Condvar {
    #[inline]
    fn drop(&mut self) {
        events::gone(events::addr(self), size_of::<Self>());
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
