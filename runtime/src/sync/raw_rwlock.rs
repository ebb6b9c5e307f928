//! The reader-writer lock without its data: a word, and a queue with a lane for readers and one for writers.
//!
//! # States
//!
//! | bits of the word | meaning |
//! | --- | --- |
//! | `WRITER` | a writer holds the lock |
//! | `QUEUED` | somebody may be in the queue; clear: nobody is |
//! | `WOKEN` | one writer has been woken and competes |
//! | the rest | readers that hold the lock, in units of `READER` |
//!
//! Writers are preferred, yet nobody starves, as in Go:
//!
//! - a reader that comes while anybody waits, waits too;
//! - a writer's unlock lets in all waiting readers at once; only when there are none does it wake the oldest writer, which competes with
//!   whoever comes by until it is starving (as in the mutex);
//! - the last reader's unlock hands the lock to the oldest writer.
//!
//! # Invariants
//!
//! 1. `QUEUED` changes only under the queue's lock, and is set while a lane is not empty.
//! 2. `WOKEN` is set only by a writer, in the step that frees the lock, and cleared only by the woken writer: in the step
//!    that takes the lock, or in one that sees it held.
//! 3. Readers are in the queue only while a writer holds the lock, waits, or is awake and competes; a
//!    writer that gives up calls `settle`, which lets them in if it was the last one.
//! 4. While one thread holds the write lock, or the last read lock with `QUEUED` set, and the queue's lock, and `WOKEN` is clear,
//!    nobody else changes the word. With the write lock and the queue's lock held, `WOKEN` does not change either.
//!
//! # Memory ordering
//!
//! `unlock: Release on the word` ⇄ `lock: Acquire on the word`. Reader unlocks are read-modify-writes, so the writer that
//! follows the last of them acquires from all. A hand-over goes by the queue's lock and `Rt::ready`.
//!
//! As in the mutex, an unlock's last touch is the step that frees the word, or the queue's lock with waiters in it or in hand.
//!
//! In race mode the address of the word is the readers' sync object and that of the queue the writers'.
//!
//! # Blocking
//!
//! `read` and `write` park the goroutine. The fast paths are one compare-and-swap each, and do not enter the runtime.
//!
//! # Why not
//!
//! `fetch_sub` for a reader's unlock: the last reader would touch the queue after it has given up its right to the lock.
//!
//! # References
//!
//! Go `sync/rwmutex.go`.

use std::panic::Location;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use raddle_sched::{Rt, WaitReason, enter, now_ns};

use super::deadline::NEVER;
use super::events;
use super::queue::{Held, Outcome, WaitQueue, Waiter, with_deadline};
use super::raw_mutex::STARVING_NS;
use super::spin::Spin;

const WRITER: u32 = 1;
const QUEUED: u32 = 2;
const WOKEN: u32 = 4;
const READER: u32 = 8;
/// Who holds the lock.
const HOLDERS: u32 = !(QUEUED | WOKEN);
/// Beyond this a new reader is refused: far from overflow, whatever is under way on other CPUs.
const MAX_READERS: u32 = u32::MAX / READER / 2;

/// Lanes of the queue.
const READERS: usize = 0;
const WRITERS: usize = 1;

#[derive(Debug, Default)]
pub(crate) struct RawRwLock {
    word: AtomicU32,
    queue: WaitQueue<2>,
}

impl RawRwLock {
    pub(crate) const fn new() -> RawRwLock {
        RawRwLock {
            word: AtomicU32::new(0),
            queue: WaitQueue::new(),
        }
    }

    #[inline]
    #[track_caller]
    pub(crate) fn read(&self) {
        if !self.try_read_once() {
            self.read_contended(NEVER, Location::caller());
        }
        self.acquired_read();
    }

    #[inline]
    #[track_caller]
    pub(crate) fn read_until(&self, deadline_ns: u64) -> bool {
        let got = self.try_read_once() || self.read_contended(deadline_ns, Location::caller());
        if got {
            self.acquired_read();
        }
        got
    }

    #[inline]
    #[track_caller]
    pub(crate) fn try_read(&self) -> bool {
        let got = self.try_read_once() || self.try_read_again();
        if got {
            self.acquired_read();
        }
        got
    }

    #[inline]
    #[track_caller]
    pub(crate) fn write(&self) {
        if self
            .word
            .compare_exchange(0, WRITER, Acquire, Relaxed)
            .is_err()
        {
            self.write_contended(NEVER, Location::caller());
        }
        self.acquired_write();
    }

    #[inline]
    #[track_caller]
    pub(crate) fn write_until(&self, deadline_ns: u64) -> bool {
        let got = self
            .word
            .compare_exchange(0, WRITER, Acquire, Relaxed)
            .is_ok()
            || self.write_contended(deadline_ns, Location::caller());
        if got {
            self.acquired_write();
        }
        got
    }

    #[inline]
    pub(crate) fn try_write(&self) -> bool {
        let got = self
            .word
            .compare_exchange(0, WRITER, Acquire, Relaxed)
            .is_ok()
            || self.try_write_again();
        if got {
            self.acquired_write();
        }
        got
    }

    /// Whether anybody holds the lock just now.
    pub(crate) fn is_locked(&self) -> bool {
        self.word.load(Relaxed) & HOLDERS != 0
    }

    /// Whether a writer holds the lock just now.
    pub(crate) fn is_locked_exclusive(&self) -> bool {
        self.word.load(Relaxed) & WRITER != 0
    }

    /// Gives a read lock back.
    ///
    /// # Safety
    ///
    /// The caller holds one.
    #[inline]
    pub(crate) unsafe fn unlock_read(&self) {
        events::release_merge(self.writers_sync());
        let word = self.word.load(Relaxed);
        if word & QUEUED != 0
            || self
                .word
                .compare_exchange_weak(word, word - READER, Release, Relaxed)
                .is_err()
        {
            self.unlock_read_contended();
        }
    }

    /// Gives the write lock back.
    ///
    /// # Safety
    ///
    /// The caller holds it.
    #[inline]
    pub(crate) unsafe fn unlock_write(&self) {
        events::release(self.readers_sync());
        if self
            .word
            .compare_exchange(WRITER, 0, Release, Relaxed)
            .is_err()
        {
            self.unlock_write_contended();
        }
    }

    /// Turns the write lock into a read lock, and lets waiting readers in.
    ///
    /// # Safety
    ///
    /// The caller holds the write lock.
    pub(crate) unsafe fn downgrade(&self) {
        events::release(self.readers_sync());
        let mut word = self.word.load(Relaxed);
        while word & QUEUED == 0 {
            let next = word - WRITER + READER;
            match self
                .word
                .compare_exchange_weak(word, next, Release, Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        let rt = enter();
        let queue = self.queue.hold(&rt);
        let (woken_readers, n) = queue.take_all(READERS, Outcome::Granted);
        // Under the write lock and the queue's lock the word is still, by invariant 4.
        let woken = self.word.load(Relaxed) & WOKEN;
        self.word
            .store(readers(n + 1) | queued(&queue) | woken, Release);
        drop(queue);
        woken_readers.ready_all(&rt);
    }

    fn readers_sync(&self) -> usize {
        events::addr(&self.word)
    }

    fn writers_sync(&self) -> usize {
        events::addr(&self.queue)
    }

    #[inline]
    fn acquired_read(&self) {
        events::acquire(self.readers_sync());
    }

    #[inline]
    fn acquired_write(&self) {
        events::acquire(self.readers_sync());
        events::acquire(self.writers_sync());
    }

    #[inline]
    fn try_read_once(&self) -> bool {
        let word = self.word.load(Relaxed);
        word & (WRITER | QUEUED) == 0
            && word / READER < MAX_READERS
            && self
                .word
                .compare_exchange_weak(word, word + READER, Acquire, Relaxed)
                .is_ok()
    }

    #[cold]
    #[track_caller]
    fn try_read_again(&self) -> bool {
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
    fn try_write_again(&self) -> bool {
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
    fn read_contended(&self, deadline_ns: u64, at: &'static Location<'static>) -> bool {
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
    fn write_contended(&self, deadline_ns: u64, at: &'static Location<'static>) -> bool {
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

    /// Lets waiting readers in if no writer keeps them out any more: called by a writer that gave up.
    fn settle(&self, rt: &Rt, queue: Held<'_, 2>) {
        if !queue.is_empty(WRITERS) || queue.is_empty(READERS) {
            return;
        }
        // A read lock in the name of the first reader keeps writers out while the others are counted.
        let mut word = self.word.load(Relaxed);
        loop {
            if word & WRITER != 0 {
                return;
            }
            match self
                .word
                .compare_exchange_weak(word, word + READER, Acquire, Relaxed)
            {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        let (woken_readers, n) = queue.take_all(READERS, Outcome::Granted);
        self.word.fetch_add(readers(n - 1), Relaxed);
        self.word.fetch_and(!QUEUED, Relaxed);
        drop(queue);
        woken_readers.ready_all(rt);
    }

    #[cold]
    #[inline(never)]
    fn unlock_read_contended(&self) {
        let hands_over = |word: u32| word & (QUEUED | WOKEN) == QUEUED && word / READER == 1;
        loop {
            let word = self.word.load(Relaxed);
            if !hands_over(word) {
                let next = word - READER;
                if self
                    .word
                    .compare_exchange_weak(word, next, Release, Relaxed)
                    .is_ok()
                {
                    return;
                }
                continue;
            }
            let rt = enter();
            let queue = self.queue.hold(&rt);
            // Acquire: the writer is ordered after all earlier readers through this thread.
            if !hands_over(self.word.load(Acquire)) {
                continue;
            }
            // By invariant 4 the word is READER | QUEUED, and still.
            if let Some(writer) = queue.take_front(WRITERS, Outcome::Granted) {
                self.word.store(WRITER | queued(&queue), Release);
                drop(queue);
                writer.ready(&rt);
                return;
            }
            let (woken_readers, n) = queue.take_all(READERS, Outcome::Granted);
            if n > 0 {
                self.word.store(readers(n), Release);
                drop(queue);
                woken_readers.ready_all(&rt);
                return;
            }
            self.word.store(READER, Relaxed);
        }
    }

    #[cold]
    #[inline(never)]
    fn unlock_write_contended(&self) {
        loop {
            let word = self.word.load(Relaxed);
            if word & QUEUED == 0 {
                if self
                    .word
                    .compare_exchange_weak(word, word & !WRITER, Release, Relaxed)
                    .is_ok()
                {
                    return;
                }
                continue;
            }
            let rt = enter();
            let queue = self.queue.hold(&rt);
            // Under the write lock and the queue's lock the word is still, by invariant 4.
            let woken = self.word.load(Relaxed) & WOKEN;
            let (woken_readers, n) = queue.take_all(READERS, Outcome::Granted);
            if n > 0 {
                self.word
                    .store(readers(n) | queued(&queue) | woken, Release);
                drop(queue);
                woken_readers.ready_all(&rt);
                return;
            }
            let Some(front) = queue.front(WRITERS) else {
                self.word.store(WRITER | woken, Relaxed);
                continue;
            };
            if woken != 0 {
                self.word.store(WOKEN | QUEUED, Release);
                return;
            }
            let hand_over = front.starving.get();
            let outcome = if hand_over {
                Outcome::Granted
            } else {
                Outcome::Woken
            };
            let Some(writer) = queue.take_front(WRITERS, outcome) else {
                continue;
            };
            let holder = if hand_over { WRITER } else { WOKEN };
            self.word.store(holder | queued(&queue), Release);
            drop(queue);
            writer.ready(&rt);
            return;
        }
    }
}

/// `n` read locks in the word.
fn readers(n: usize) -> u32 {
    n as u32 * READER
}

/// `QUEUED` if anybody waits.
fn queued(queue: &Held<'_, 2>) -> u32 {
    if queue.is_empty(READERS) && queue.is_empty(WRITERS) {
        0
    } else {
        QUEUED
    }
}

#[track_caller]
fn check_readers(word: u32) {
    assert!(
        word / READER < MAX_READERS,
        "too many read locks at once: {MAX_READERS} are held; were guards leaked by mem::forget?"
    );
}
