//! [`WaitGroup`]: waiting for a number of goroutines to finish.
//!
//! # States
//!
//! One word: the counter in the upper half, the number of waiters in the lower one.
//!
//! # Invariants
//!
//! 1. The number of waiters grows only under the queue's lock, in a step that sees the counter above 0, and the waiter is in the queue
//!    before the lock is free. So who takes the counter to 0 and sees waiters finds them all in the queue.
//! 2. While waiters are counted and the counter is 0, only the one who took it there changes the word: anything else is misuse, and
//!    panics without a trace in the word. So nobody is left asleep by it.
//! 3. The counter is never below 0, nor wraps: a change that would take it there is not made.
//!
//! # Memory ordering
//!
//! `done: AcqRel on the word` ⇄ `wait: Acquire on the word`, or by the queue's lock and `Rt::ready`.
//!
//! # Why not
//!
//! `fetch_add`, and repair after misuse: until the repair others would see a counter that never was, and wait for it. The
//! loop costs the same where nobody else changes the word.
//!
//! # References
//!
//! Go `sync/waitgroup.go`, whose misuse checks and race model these are.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use raddle_sched::{WaitReason, enter};

use super::events;
use super::queue::{Outcome, WaitQueue, Waiter};

const ONE: u64 = 1 << 32;
const WAITERS: u64 = ONE - 1;

/// Waits for a number of goroutines to finish.
///
/// [`add`](WaitGroup::add) before each goroutine is started, [`done`](WaitGroup::done) at its end, and [`wait`](WaitGroup::wait) until all
/// are done. [`token`](WaitGroup::token) does the first two by its life, also when the goroutine panics.
///
/// A group may be used again once all waits have returned.
///
/// **Blocking**: only [`wait`](WaitGroup::wait) parks the calling goroutine; on a plain thread it blocks that thread.
///
/// **Happens-before**: every `done` happens before the waits that it lets return.
///
/// # Examples
///
/// ```
/// use raddle::sync::WaitGroup;
///
/// static DONE: WaitGroup = WaitGroup::new();
///
/// for _ in 0..3 {
///     let token = DONE.token();
///     std::thread::spawn(move || drop(token));
/// }
/// DONE.wait();
/// ```
#[derive(Default)]
pub struct WaitGroup {
    word: AtomicU64,
    queue: WaitQueue,
}

impl WaitGroup {
    /// Returns a group whose counter is 0.
    #[must_use]
    pub const fn new() -> WaitGroup {
        WaitGroup {
            word: AtomicU64::new(0),
            queue: WaitQueue::new(),
        }
    }

    /// Adds `delta`, which may be negative, to the counter; at 0 all waits return.
    ///
    /// The `add` that takes the counter up from 0 must happen before the wait that is to count it.
    ///
    /// # Panics
    ///
    /// If the counter would go below 0 or above 2^31 - 1, or if the group is added to while waits are being ended.
    #[track_caller]
    pub fn add(&self, delta: isize) {
        let Ok(delta) = i32::try_from(delta) else {
            panic!("wait group counter out of range: add({delta}) does not fit in 32 bits");
        };
        if delta < 0 {
            events::release_merge(events::addr(self));
        }
        let mut word = self.word.load(Relaxed);
        let next = loop {
            let next = match ((word >> 32) as i32).checked_add(delta) {
                Some(counter) if counter >= 0 => ((counter as u64) << 32) | (word & WAITERS),
                _ => out_of_range(delta),
            };
            if delta > 0 && word >> 32 == 0 && word != 0 {
                self.first_add(Location::caller());
                panic!(
                    "wait group misuse: add called while waits are being ended; add before wait, or wait until they return"
                );
            }
            match self.word.compare_exchange_weak(word, next, AcqRel, Relaxed) {
                Ok(_) => break next,
                Err(now) => word = now,
            }
        };
        if delta > 0 && word >> 32 == 0 {
            self.first_add(Location::caller());
        }
        if delta < 0 && next >> 32 == 0 && next != 0 {
            self.end_waits();
        }
    }

    /// The first add must be ordered before the wait: it reads what the first waiter writes.
    fn first_add(&self, at: &'static Location<'static>) {
        events::read(self.race_word(), 4, at);
    }

    /// Takes 1 off the counter; at 0 all waits return.
    ///
    /// # Panics
    ///
    /// If the counter is 0.
    #[track_caller]
    pub fn done(&self) {
        self.add(-1);
    }

    /// Adds 1 to the counter, for as long as the token lives.
    #[track_caller]
    pub fn token(&self) -> WaitGroupToken<'_> {
        self.add(1);
        WaitGroupToken { group: self }
    }

    /// Waits until the counter is 0.
    ///
    /// **Blocking**: parks the goroutine while the counter is above 0.
    #[track_caller]
    pub fn wait(&self) {
        if self.word.load(Acquire) >> 32 != 0 {
            self.wait_queued(Location::caller());
        }
        events::acquire(events::addr(self));
    }

    #[cold]
    #[inline(never)]
    fn wait_queued(&self, at: &'static Location<'static>) {
        let rt = enter();
        let queue = self.queue.hold(&rt);
        let mut word = self.word.load(Acquire);
        loop {
            if word >> 32 == 0 {
                return;
            }
            match self
                .word
                .compare_exchange_weak(word, word + 1, Acquire, Acquire)
            {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if word & WAITERS == 0 {
            // Only the first waiter writes: waits need no order among themselves.
            events::write(self.race_word(), 4, at);
        }
        let w = Waiter::new(&rt, &self.queue);
        // SAFETY: `w` was made for this queue, and parks on the next line.
        unsafe { queue.push_back(0, &w) };
        queue.park(&rt, &w, WaitReason::WaitGroupWait, at);
    }

    #[cold]
    #[inline(never)]
    fn end_waits(&self) {
        let rt = enter();
        let queue = self.queue.hold(&rt);
        // By invariant 2 nobody else changes the word now, and by 1 all that it counts are in the queue.
        self.word.store(0, Release);
        let (woken, _) = queue.take_all(0, Outcome::Granted);
        drop(queue);
        woken.ready_all(&rt);
    }

    /// The word that stands for "the counter's first add and the first wait are in order" in race mode.
    fn race_word(&self) -> usize {
        events::addr(&self.queue)
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        events::gone(events::addr(self), size_of::<Self>());
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Relaxed);
        f.debug_struct("WaitGroup")
            .field("counter", &((word >> 32) as i32))
            .field("waiters", &(word & WAITERS))
            .finish()
    }
}

#[cold]
#[track_caller]
fn out_of_range(delta: i32) -> ! {
    if delta > 0 {
        panic!(
            "wait group counter overflow: add({delta}) takes it above {}",
            i32::MAX
        );
    }
    panic!("negative wait group counter: more done than added");
}

/// One of those a [`WaitGroup`] waits for: dropping it is [`WaitGroup::done`].
#[derive(Debug)]
#[must_use = "the token counts only while it lives"]
pub struct WaitGroupToken<'a> {
    group: &'a WaitGroup,
}

impl Drop for WaitGroupToken<'_> {
    fn drop(&mut self) {
        self.group.done();
    }
}

#[cfg(test)]
mod tests {
    use super::{ONE, Relaxed, WaitGroup};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// In the middle of ending waits, and otherwise.
    #[test]
    fn misuse_leaves_the_word_alone() {
        let group = WaitGroup::new();
        for (word, deltas) in [
            (2, &[1, -1][..]),
            (0, &[-1]),
            (ONE + 1, &[-2, i32::MAX as isize, i32::MIN as isize]),
        ] {
            group.word.store(word, Relaxed);
            for &delta in deltas {
                assert!(catch_unwind(AssertUnwindSafe(|| group.add(delta))).is_err());
                assert_eq!(group.word.load(Relaxed), word, "add({delta})");
            }
        }
        group.word.store(2, Relaxed);
        group.add(0);
        assert_eq!(group.word.load(Relaxed), 2, "that is for who took it to 0");
    }
}
