//! [`Barrier`]: goroutines that go on together.
//!
//! # Invariants
//!
//! 1. Under the queue's lock, `n - 1` at most wait: the `n`th lets them all go instead of joining them.
//!
//! In race mode everyone who arrives releases on the barrier, the first of a round in place of what earlier
//! rounds left there, and the last one orders all others after it: rounds are not ordered by the barrier itself.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;

use raddle_sched::{WaitReason, enter};

use super::events;
use super::queue::{Outcome, WaitQueue, Waiter};

/// Lets goroutines go on only once `n` of them have arrived, round after round.
///
/// **Blocking**: [`wait`](Barrier::wait) parks all but the last goroutine of a round; on a plain thread it blocks that
/// thread.
///
/// **Happens-before**: every arrival happens before every return of its round.
///
/// # Examples
///
/// ```
/// use raddle::sync::Barrier;
///
/// let barrier = Barrier::new(3);
/// let leaders = std::thread::scope(|s| {
///     let threads: Vec<_> = (0..3).map(|_| s.spawn(|| barrier.wait().is_leader())).collect();
///     threads.into_iter().map(|t| t.join().unwrap()).filter(|&l| l).count()
/// });
/// assert_eq!(leaders, 1);
/// ```
pub struct Barrier {
    n: usize,
    /// How many wait: guarded by the queue's lock.
    waiting: Cell<usize>,
    queue: WaitQueue,
}

// SAFETY: `waiting` is touched under the queue's lock only.
unsafe impl Sync for Barrier {}
impl std::panic::RefUnwindSafe for Barrier {}

/// Whether a goroutine was the one that opened a [`Barrier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Returns true for exactly one goroutine of a round: the last to arrive.
    #[must_use]
    pub fn is_leader(self) -> bool {
        self.0
    }
}

impl Barrier {
    /// Returns a barrier for `n` goroutines; one for 0 or 1 stops nobody.
    #[must_use]
    pub const fn new(n: usize) -> Barrier {
        Barrier {
            n,
            waiting: Cell::new(0),
            queue: WaitQueue::new(),
        }
    }

    /// Waits until `n` goroutines have called this in the same round.
    ///
    /// **Blocking**: parks the goroutine unless it is the last.
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        self.wait_at(Location::caller())
    }

    #[inline(never)]
    fn wait_at(&self, at: &'static Location<'static>) -> BarrierWaitResult {
        let rt = enter();
        let sync = events::addr(self);
        let queue = self.queue.hold(&rt);
        let waiting = self.waiting.get();
        if waiting == 0 {
            events::release(sync);
        } else {
            events::release_merge(sync);
        }
        if waiting + 1 >= self.n {
            let (woken, _) = queue.take_all(0, Outcome::Granted);
            self.waiting.set(0);
            events::acquire(sync);
            // SAFETY: taken off the queue, and made ready below.
            woken.each(|g| unsafe { events::acquire_for(g, sync) });
            drop(queue);
            woken.ready_all(&rt);
            return BarrierWaitResult(true);
        }
        self.waiting.set(waiting + 1);
        let w = Waiter::new(&rt, &self.queue);
        // SAFETY: `w` was made for this queue, and parks on the next line.
        unsafe { queue.push_back(0, &w) };
        queue.park(&rt, &w, WaitReason::BarrierWait, at);
        BarrierWaitResult(false)
    }
}

impl Drop for Barrier {
    #[inline]
    fn drop(&mut self) {
        events::gone(events::addr(self), size_of::<Self>());
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("n", &self.n)
            .finish_non_exhaustive()
    }
}
