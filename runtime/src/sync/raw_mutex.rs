//! The mutex without its data: a word, and a queue for those who lose.
//!
//! # States
//!
//! | bit of the word | meaning |
//! | --- | --- |
//! | `LOCKED` | somebody holds the mutex |
//! | `QUEUED` | somebody may be in the queue; clear: nobody is |
//! | `WOKEN` | one waiter has been woken and competes: no need to wake another |
//!
//! An unlock does not hand over: it frees the mutex and wakes the oldest waiter, which competes with whoever comes by.
//! That keeps a short critical section short when many want it, for whoever runs may go on. A waiter that has lost for
//! more than [`STARVING_NS`] is handed the mutex by the next unlock, so that none waits for ever.
//!
//! # Invariants
//!
//! 1. `QUEUED` changes only under the queue's lock, and is set while the queue is not empty.
//! 2. `WOKEN` is set only by the holder, in the step that frees the mutex, and cleared only by the woken waiter:
//!    in the step that takes the mutex, or in one that sees it held. So whoever holds it then will see `WOKEN` clear.
//! 3. While one thread holds the mutex and the queue's lock, and `WOKEN` is clear, nobody else changes the word. (Who tries to
//!    lock it sets `LOCKED`, which is set.)
//!
//! No wake-up is lost: a waiter queues in a step that sees `LOCKED` and sets `QUEUED`; the holder's unlock either comes
//! before that step, which then fails, or sees `QUEUED`. It wakes one waiter unless one is awake already, and that one
//! takes the mutex, whose unlock is again such a step, or finds it held, and goes back to the queue.
//!
//! # Memory ordering
//!
//! `unlock: Release on the word` ⇄ `lock: Acquire on the word`. A hand-over goes by the queue's lock and `Rt::ready`.
//!
//! The last touch of an unlock is either the step that frees the word, or the queue's lock with a waiter in hand that
//! borrows the mutex: another thread may free the mutex's memory as soon as it has locked and unlocked it.
//!
//! # Blocking
//!
//! `lock` parks the goroutine. The fast paths are one atomic instruction each, and do not enter the runtime.
//!
//! # References
//!
//! Go `internal/sync/mutex.go` (its starving mode is a mode of the mutex; here each starving waiter is handed the
//! mutex on its own); parking_lot `raw_mutex.rs`.

use std::panic::Location;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use raddle_sched::{Rt, WaitReason, enter, now_ns};

use super::deadline::NEVER;
use super::events;
use super::queue::{Outcome, WaitQueue, Waiter, with_deadline};
use super::spin::Spin;

const LOCKED: u32 = 1;
const QUEUED: u32 = 2;
const WOKEN: u32 = 4;

/// How long a waiter may lose before it is handed the lock.
pub(super) const STARVING_NS: u64 = 1_000_000;

#[derive(Debug, Default)]
pub(crate) struct RawMutex {
    word: AtomicU32,
    queue: WaitQueue,
}

impl RawMutex {
    pub(crate) const fn new() -> RawMutex {
        RawMutex {
            word: AtomicU32::new(0),
            queue: WaitQueue::new(),
        }
    }

    #[track_caller]
    pub(crate) fn lock(&self) {
        self.lock_at(Location::caller());
    }

    /// As `lock`, on behalf of the code at `at`.
    pub(crate) fn lock_at(&self, at: &'static Location<'static>) {
        if !self.take() {
            self.lock_contended(at);
        }
        events::acquire(events::addr(self));
    }

    pub(crate) fn try_lock(&self) -> bool {
        let locked = !self.is_locked() && self.take();
        if locked {
            events::acquire(events::addr(self));
        }
        locked
    }

    #[track_caller]
    pub(crate) fn lock_until(&self, deadline_ns: u64) -> bool {
        let locked = self.take() || self.lock_timed(deadline_ns, Location::caller());
        if locked {
            events::acquire(events::addr(self));
        }
        locked
    }

    /// Whether somebody holds the mutex just now.
    pub(crate) fn is_locked(&self) -> bool {
        self.word.load(Relaxed) & LOCKED != 0
    }

    /// Gives the mutex back.
    ///
    /// # Safety
    ///
    /// The caller holds it.
    pub(crate) unsafe fn unlock(&self) {
        events::release(events::addr(self));
        if let Err(word) = self.word.compare_exchange(LOCKED, 0, Release, Relaxed) {
            self.unlock_contended(word);
        }
    }

    /// Gives the mutex back, to the oldest waiter if there is one.
    ///
    /// # Safety
    ///
    /// The caller holds it.
    pub(crate) unsafe fn unlock_fair(&self) {
        events::release(events::addr(self));
        if self
            .word
            .compare_exchange(LOCKED, 0, Release, Relaxed)
            .is_err()
        {
            self.unlock_waking(true);
        }
    }

    /// Takes the mutex if it is free, past those who wait: one instruction, whatever the other bits are.
    fn take(&self) -> bool {
        self.word.fetch_or(LOCKED, Acquire) & LOCKED == 0
    }

    #[cold]
    #[inline(never)]
    fn lock_contended(&self, at: &'static Location<'static>) {
        if self.spin(0) {
            return;
        }
        let rt = enter();
        let w = Waiter::new(&rt, &self.queue);
        self.lock_queued(&rt, &w, at);
    }

    #[cold]
    #[inline(never)]
    fn lock_timed(&self, deadline_ns: u64, at: &'static Location<'static>) -> bool {
        if self.spin(0) {
            return true;
        }
        if deadline_ns != NEVER && deadline_ns <= now_ns() {
            return false;
        }
        let rt = enter();
        let w = Waiter::new(&rt, &self.queue);
        with_deadline(&rt, &w, deadline_ns, || self.lock_queued(&rt, &w, at))
    }

    /// Tries for a moment to take the mutex, clearing the bits in `clear` with the step that takes it.
    fn spin(&self, clear: u32) -> bool {
        let mut spin = Spin::new();
        loop {
            let word = self.word.load(Relaxed);
            if word & LOCKED == 0 {
                let taken = (word | LOCKED) & !clear;
                if self
                    .word
                    .compare_exchange_weak(word, taken, Acquire, Relaxed)
                    .is_ok()
                {
                    return true;
                }
            } else if !spin.again() {
                return false;
            }
        }
    }

    /// Queues until the mutex is the caller's. False: the deadline came first.
    fn lock_queued(&self, rt: &Rt, w: &Waiter, at: &'static Location<'static>) -> bool {
        // WOKEN while it is this waiter that was woken.
        let mut mine = 0;
        let mut since = 0;
        loop {
            let queue = self.queue.hold(rt);
            let mut word = self.word.load(Relaxed);
            loop {
                let (next, order) = match word & LOCKED {
                    0 => ((word | LOCKED) & !mine, Acquire),
                    _ if w.expired() => (word & !mine, Relaxed),
                    _ => ((word | QUEUED) & !mine, Relaxed),
                };
                match self.word.compare_exchange_weak(word, next, order, Relaxed) {
                    Ok(_) if word & LOCKED == 0 => return true,
                    Ok(_) if w.expired() => return false,
                    Ok(_) => break,
                    Err(now) => word = now,
                }
            }
            if mine == 0 {
                since = now_ns();
                // SAFETY: `w` was made for this queue, and parks below.
                unsafe { queue.push_back(0, w) };
            } else {
                w.starving.set(now_ns() - since > STARVING_NS);
                // SAFETY: as above; it was taken off before it was woken.
                unsafe { queue.push_front(0, w) };
            }
            match queue.park(rt, w, WaitReason::MutexLock, at) {
                Outcome::Granted => return true,
                // QUEUED may stay behind with an empty queue; the next unlock sees to it.
                Outcome::TimedOut => return false,
                Outcome::Woken => mine = WOKEN,
            }
            if self.spin(mine) {
                return true;
            }
        }
    }

    /// Mostly a waiter is awake already, and need not be woken: apart, for the sake of a small frame.
    #[cold]
    #[inline(never)]
    fn unlock_contended(&self, word: u32) {
        let woken = word & WOKEN != 0;
        if !woken
            || self
                .word
                .compare_exchange(word, word & !LOCKED, Release, Relaxed)
                .is_err()
        {
            self.unlock_waking(false);
        }
    }

    #[cold]
    #[inline(never)]
    fn unlock_waking(&self, fair: bool) {
        loop {
            let word = self.word.load(Relaxed);
            if word & QUEUED == 0 || (word & WOKEN != 0 && !fair) {
                if self
                    .word
                    .compare_exchange_weak(word, word & !LOCKED, Release, Relaxed)
                    .is_ok()
                {
                    return;
                }
                continue;
            }
            let rt = enter();
            let queue = self.queue.hold(&rt);
            let Some(front) = queue.front(0) else {
                self.word.fetch_and(!QUEUED, Relaxed);
                continue;
            };
            let hand_over = fair || front.starving.get();
            let outcome = if hand_over {
                Outcome::Granted
            } else {
                Outcome::Woken
            };
            let Some(taken) = queue.take_front(0, outcome) else {
                continue;
            };
            let emptied = queue.is_empty(0);
            if hand_over {
                // The mutex stays locked, in the name of the waiter.
                if emptied {
                    self.word.fetch_and(!QUEUED, Relaxed);
                }
            } else {
                // By invariant 3 the word is LOCKED | QUEUED.
                let next = if emptied { WOKEN } else { WOKEN | QUEUED };
                self.word.store(next, Release);
            }
            drop(queue);
            taken.ready(&rt);
            return;
        }
    }
}

impl Drop for RawMutex {
    fn drop(&mut self) {
        events::gone(events::addr(self), size_of::<Self>());
    }
}
