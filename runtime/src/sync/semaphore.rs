//! [`Semaphore`]: a number of permits, handed out in the order of asking.
//!
//! # States
//!
//! One word: the free permits, and a bit `QUEUED` for "somebody may wait".
//!
//! # Invariants
//!
//! 1. `QUEUED` changes only under the queue's lock, and is set while the queue is not empty. While it is set permits are
//!    taken only under that lock, from the front of the queue: who asks for many is not starved by those who ask for few.
//! 2. A waiter that is granted has its permits already taken off the word.
//!
//! # Memory ordering
//!
//! `release: Release on the word` ⇄ `acquire: Acquire on the word`; a grant goes by the queue's lock and `Rt::ready`.
//!
//! # References
//!
//! golang.org/x/sync/semaphore, whose order of service this is.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use raddle_sched::{Rt, WaitReason, enter, now_ns};

use super::deadline::{self, NEVER};
use super::events;
use super::queue::{Held, Outcome, WaitQueue, Waiter, WakeList, with_deadline};

const QUEUED: usize = 1;
/// One permit in the word.
const ONE: usize = 2;

/// A number of permits, of which goroutines acquire some and give them back.
///
/// Permits are handed out in the order of asking: one that asks for many makes those behind it wait, and does not starve.
///
/// **Blocking**: the `acquire`s park the calling goroutine; on a plain thread they block that thread.
///
/// **Happens-before**: giving permits back happens before an acquire that needed them returns.
///
/// # Examples
///
/// ```
/// use raddle::sync::Semaphore;
///
/// let seats = Semaphore::new(3);
/// let two = seats.acquire(2);
/// assert!(seats.try_acquire(2).is_none());
/// drop(two);
/// assert_eq!(seats.available_permits(), 3);
/// ```
#[derive(Default)]
pub struct Semaphore {
    word: AtomicUsize,
    queue: WaitQueue,
}

impl Semaphore {
    /// The greatest number of permits.
    pub const MAX_PERMITS: usize = usize::MAX / ONE / 2;

    /// Returns a semaphore with `permits` free permits.
    ///
    /// # Panics
    ///
    /// If there are more than [`Semaphore::MAX_PERMITS`].
    #[must_use]
    #[track_caller]
    pub const fn new(permits: usize) -> Semaphore {
        assert!(
            permits <= Self::MAX_PERMITS,
            "a semaphore cannot have more than Semaphore::MAX_PERMITS permits"
        );
        Semaphore {
            word: AtomicUsize::new(permits * ONE),
            queue: WaitQueue::new(),
        }
    }

    /// Acquires `n` permits, waiting for them as long as it takes.
    ///
    /// Asking for more than there are waits until [`release`](Semaphore::release) has added them.
    ///
    /// **Blocking**: parks the goroutine until the permits are free and its turn has come.
    #[track_caller]
    pub fn acquire(&self, n: usize) -> SemaphorePermit<'_> {
        self.acquire_ns(n, NEVER);
        SemaphorePermit { semaphore: self, n }
    }

    /// Acquires `n` permits if they are free and nobody waits.
    pub fn try_acquire(&self, n: usize) -> Option<SemaphorePermit<'_>> {
        if !self.try_take(n) {
            return None;
        }
        events::acquire(events::addr(self));
        Some(SemaphorePermit { semaphore: self, n })
    }

    /// Acquires `n` permits, waiting at most `timeout`.
    ///
    /// **Blocking**: as [`acquire`](Semaphore::acquire).
    #[track_caller]
    pub fn try_acquire_for(&self, n: usize, timeout: Duration) -> Option<SemaphorePermit<'_>> {
        self.acquire_ns(n, deadline::after(timeout))
            .then(|| SemaphorePermit { semaphore: self, n })
    }

    /// Acquires `n` permits, waiting until `deadline` at most.
    ///
    /// **Blocking**: as [`acquire`](Semaphore::acquire).
    #[track_caller]
    pub fn try_acquire_until(&self, n: usize, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        self.acquire_ns(n, deadline::at(deadline))
            .then(|| SemaphorePermit { semaphore: self, n })
    }

    /// Adds `n` permits: those of forgotten [`SemaphorePermit`]s, or new ones.
    ///
    /// # Panics
    ///
    /// If there were more than [`Semaphore::MAX_PERMITS`].
    #[track_caller]
    pub fn release(&self, n: usize) {
        events::release_merge(events::addr(self));
        let mut word = self.word.load(Relaxed);
        loop {
            assert!(
                n <= Self::MAX_PERMITS && word / ONE + n <= Self::MAX_PERMITS,
                "semaphore released too often: it would have more than Semaphore::MAX_PERMITS permits"
            );
            if word & QUEUED != 0 {
                if self.release_queued(n) {
                    return;
                }
                word = self.word.load(Relaxed);
                continue;
            }
            match self
                .word
                .compare_exchange_weak(word, word + n * ONE, Release, Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Returns the number of free permits just now: out of date at once.
    pub fn available_permits(&self) -> usize {
        self.word.load(Relaxed) / ONE
    }

    #[track_caller]
    fn acquire_ns(&self, n: usize, deadline_ns: u64) -> bool {
        let got = self.try_take(n) || self.acquire_slow(n, deadline_ns, Location::caller());
        if got {
            events::acquire(events::addr(self));
        }
        got
    }

    /// Takes `n` permits if they are free and nobody waits.
    fn try_take(&self, n: usize) -> bool {
        let mut word = self.word.load(Relaxed);
        while word & QUEUED == 0 && word / ONE >= n {
            match self
                .word
                .compare_exchange_weak(word, word - n * ONE, Acquire, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[cold]
    #[inline(never)]
    fn acquire_slow(&self, n: usize, deadline_ns: u64, at: &'static Location<'static>) -> bool {
        if deadline_ns == NEVER {
            let rt = enter();
            let w = Waiter::new(&rt, &self.queue);
            return self.acquire_queued(&rt, &w, n, at);
        }
        if deadline_ns <= now_ns() {
            return false;
        }
        let rt = enter();
        let w = Waiter::new(&rt, &self.queue);
        with_deadline(&rt, &w, deadline_ns, || self.acquire_queued(&rt, &w, n, at))
    }

    fn acquire_queued(
        &self,
        rt: &Rt,
        w: &Waiter,
        n: usize,
        at: &'static Location<'static>,
    ) -> bool {
        let queue = self.queue.hold(rt);
        let first = queue.is_empty(0);
        let mut word = self.word.load(Relaxed);
        loop {
            let (next, order) = if first && word / ONE >= n {
                // Nobody waits: QUEUED, if set, was left behind by one that gave up.
                ((word & !QUEUED) - n * ONE, Acquire)
            } else if w.expired() {
                return false;
            } else {
                (word | QUEUED, Relaxed)
            };
            match self.word.compare_exchange_weak(word, next, order, Relaxed) {
                Ok(_) if next & QUEUED == 0 => return true,
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        w.want.set(n);
        // SAFETY: `w` was made for this queue, and parks below.
        unsafe { queue.push_back(0, w) };
        if queue.park(rt, w, WaitReason::SemAcquire, at) == Outcome::Granted {
            return true;
        }
        // Those behind it may ask for less.
        let queue = self.queue.hold(rt);
        if let Some(woken) = self.serve(queue, 0) {
            woken.ready_all(rt);
        }
        false
    }

    /// As `serve`, and wakes who was served. False: nobody waits, or there are too many permits; the caller looks again.
    #[cold]
    #[inline(never)]
    fn release_queued(&self, n: usize) -> bool {
        let rt = enter();
        let queue = self.queue.hold(&rt);
        let served = self.serve(queue, n);
        served.map(|woken| woken.ready_all(&rt)).is_some()
    }

    /// Adds `n` permits, and takes off the queue those at its front that have enough now. Gives the lock back. None, and
    /// nothing added, if nobody waits, or if there would be too many permits.
    ///
    /// Once they are added, the last touch is the lock with waiters in the queue or in hand: so where there are none it is
    /// for the caller to add them, with the lock free.
    fn serve(&self, queue: Held<'_, 1>, n: usize) -> Option<WakeList> {
        // Acquire: who is served is ordered, through this thread, after all whose permits it gets.
        let word = self.word.load(Acquire);
        if word & QUEUED == 0 {
            return None;
        }
        // While it is set the word changes under the lock only.
        let mut free = word / ONE + n;
        if free > Self::MAX_PERMITS {
            return None;
        }
        if queue.is_empty(0) {
            self.word.store(word & !QUEUED, Release);
            return None;
        }
        let mut woken = WakeList::new();
        while let Some(front) = queue.front(0).filter(|w| w.want.get() <= free) {
            free -= front.want.get();
            if let Some(w) = queue.take_front(0, Outcome::Granted) {
                woken.push(w);
            }
        }
        let queued = if queue.is_empty(0) { 0 } else { QUEUED };
        self.word.store((free * ONE) | queued, Release);
        Some(woken)
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        events::gone(events::addr(self), size_of::<Self>());
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available_permits", &self.available_permits())
            .finish()
    }
}

/// Some permits of a [`Semaphore`], given back when dropped, by whichever goroutine.
#[derive(Debug)]
#[must_use = "the permits are given back as soon as this is dropped"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    n: usize,
}

impl<'a> SemaphorePermit<'a> {
    /// Returns how many permits these are.
    #[must_use]
    pub fn num_permits(&self) -> usize {
        self.n
    }

    /// Does not give the permits back: that is for [`Semaphore::release`], if at all.
    pub fn forget(mut self) {
        self.n = 0;
    }

    /// Takes `n` permits off these, if they are so many.
    pub fn split(&mut self, n: usize) -> Option<SemaphorePermit<'a>> {
        self.n = self.n.checked_sub(n)?;
        Some(SemaphorePermit {
            semaphore: self.semaphore,
            n,
        })
    }

    /// Adds the permits of `other` to these.
    ///
    /// # Panics
    ///
    /// If they belong to another semaphore.
    #[track_caller]
    pub fn merge(&mut self, mut other: SemaphorePermit<'a>) {
        assert!(
            std::ptr::eq(self.semaphore, other.semaphore),
            "permits of two different semaphores cannot be merged"
        );
        self.n += std::mem::take(&mut other.n);
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        if self.n != 0 {
            self.semaphore.release(self.n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ONE, QUEUED, Relaxed, Semaphore};

    /// Two releases that both saw room for one permit come to the lock.
    #[test]
    fn the_limit_holds_under_the_lock() {
        let semaphore = Semaphore::new(Semaphore::MAX_PERMITS);
        semaphore.word.fetch_or(QUEUED, Relaxed);
        assert!(!semaphore.release_queued(1));
        assert_eq!(semaphore.available_permits(), Semaphore::MAX_PERMITS);
        semaphore.word.fetch_sub(ONE, Relaxed);
        semaphore.release(1);
        assert_eq!(
            semaphore.word.load(Relaxed),
            Semaphore::MAX_PERMITS * ONE,
            "the mark that was left behind is gone"
        );
    }
}
