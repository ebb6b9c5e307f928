//! Getting the lock when it is not to be had at once. The protocol is in the parent's header.

use std::panic::Location;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use raddle_sched::{Rt, WaitReason, enter, now_ns};

use super::wake::queued;
use super::{HOLDERS, MAX_READERS, QUEUED, READER, READERS, RawRwLock, WOKEN, WRITER, WRITERS};
use crate::sync::deadline::NEVER;
use crate::sync::queue::{Held, Outcome, Waiter, with_deadline};
use crate::sync::raw_mutex::STARVING_NS;
use crate::sync::spin::Spin;

impl RawRwLock {
    #[cold]
    #[track_caller]
    pub(super) fn try_read_again(&self) -> bool {
        let mut word = self.word.load(Relaxed);
        while word & (WRITER | QUEUED) == 0 {
            check_readers(word);
            match self
                .word
                .compare_exchange_weak(word, word + READER, Acquire, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        // A waiter that timed out may have left QUEUED behind: see before refusing.
        if word & (WRITER | QUEUED) == QUEUED {
            let rt = enter();
            let queue = self.queue.hold(&rt);
            if self.admit_reader(&queue) {
                return true;
            }
        }
        false
    }

    #[cold]
    pub(super) fn try_write_again(&self) -> bool {
        let mut word = self.word.load(Relaxed);
        while word & HOLDERS == 0 {
            match self
                .word
                .compare_exchange_weak(word, word | WRITER, Acquire, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) fn read_contended(&self, deadline_ns: u64, at: &'static Location<'static>) -> bool {
        if self.try_read_again() {
            return true;
        }
        if deadline_ns == NEVER {
            let rt = enter();
            let w = Waiter::new(&rt, &self.queue);
            return self.read_queued(&rt, &w, at);
        }
        if deadline_ns <= now_ns() {
            return false;
        }
        let rt = enter();
        let w = Waiter::new(&rt, &self.queue);
        with_deadline(&rt, &w, deadline_ns, || self.read_queued(&rt, &w, at))
    }

    /// Takes a read lock if no writer holds the lock and nobody waits for it. Called with the queue's lock held, and so
    /// able to tell a true `QUEUED` from one that was left behind.
    fn admit_reader(&self, queue: &Held<'_, 2>) -> bool {
        let nobody_waits = queued(queue) == 0;
        let mut word = self.word.load(Relaxed);
        while word & WRITER == 0 && nobody_waits {
            match self
                .word
                .compare_exchange_weak(word, (word & !QUEUED) + READER, Acquire, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    fn read_queued(&self, rt: &Rt, w: &Waiter, at: &'static Location<'static>) -> bool {
        let queue = self.queue.hold(rt);
        loop {
            if self.admit_reader(&queue) {
                return true;
            }
            if w.expired() {
                return false;
            }
            // Seen in one step with the mark: the lock is a writer's, or somebody waits already.
            let word = self.word.load(Relaxed);
            if (word & WRITER != 0 || queued(&queue) != 0)
                && self
                    .word
                    .compare_exchange_weak(word, word | QUEUED, Relaxed, Relaxed)
                    .is_ok()
            {
                break;
            }
        }
        // SAFETY: `w` was made for this queue, and parks below.
        unsafe { queue.push_back(READERS, w) };
        queue.park(rt, w, WaitReason::RwLockRead, at) == Outcome::Granted
    }

    #[cold]
    #[inline(never)]
    pub(super) fn write_contended(&self, deadline_ns: u64, at: &'static Location<'static>) -> bool {
        if self.spin(0) {
            return true;
        }
        if deadline_ns == NEVER {
            let rt = enter();
            let w = Waiter::new(&rt, &self.queue);
            return self.write_queued(&rt, &w, at);
        }
        if deadline_ns <= now_ns() {
            return false;
        }
        let rt = enter();
        let w = Waiter::new(&rt, &self.queue);
        with_deadline(&rt, &w, deadline_ns, || self.write_queued(&rt, &w, at))
    }

    /// Tries for a moment to take the lock for writing, clearing the bits in `clear` with the step that takes it.
    fn spin(&self, clear: u32) -> bool {
        let mut spin = Spin::new();
        loop {
            let word = self.word.load(Relaxed);
            if word & HOLDERS == 0 {
                let taken = (word | WRITER) & !clear;
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

    fn write_queued(&self, rt: &Rt, w: &Waiter, at: &'static Location<'static>) -> bool {
        // WOKEN while it is this writer that was woken.
        let mut mine = 0;
        let mut since = 0;
        loop {
            let queue = self.queue.hold(rt);
            let mut word = self.word.load(Relaxed);
            loop {
                let (next, order) = match word & HOLDERS {
                    0 => ((word | WRITER) & !mine, Acquire),
                    _ if w.expired() => (word & !mine, Relaxed),
                    _ => ((word | QUEUED) & !mine, Relaxed),
                };
                match self.word.compare_exchange_weak(word, next, order, Relaxed) {
                    Ok(_) if word & HOLDERS == 0 => return true,
                    Ok(_) if w.expired() => {
                        self.settle(rt, queue);
                        return false;
                    }
                    Ok(_) => break,
                    Err(now) => word = now,
                }
            }
            if mine == 0 {
                since = now_ns();
                // SAFETY: `w` was made for this queue, and parks below.
                unsafe { queue.push_back(WRITERS, w) };
            } else {
                w.starving.set(now_ns() - since > STARVING_NS);
                // SAFETY: as above; it was taken off before it was woken.
                unsafe { queue.push_front(WRITERS, w) };
            }
            match queue.park(rt, w, WaitReason::RwLockWrite, at) {
                Outcome::Granted => return true,
                Outcome::Woken => mine = WOKEN,
                Outcome::TimedOut => {
                    self.settle(rt, self.queue.hold(rt));
                    return false;
                }
            }
            if self.spin(mine) {
                return true;
            }
        }
    }
}

#[track_caller]
fn check_readers(word: u32) {
    assert!(
        word / READER < MAX_READERS,
        "too many read locks at once: {MAX_READERS} are held; were guards leaked by mem::forget?"
    );
}
