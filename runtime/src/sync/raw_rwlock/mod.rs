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

mod wait;
mod wake;

use std::panic::Location;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::deadline::NEVER;
use super::events;
use super::queue::WaitQueue;

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

    #[track_caller]
    pub(crate) fn read(&self) {
        if !self.try_read_once() {
            self.read_contended(NEVER, Location::caller());
        }
        self.acquired_read();
    }

    #[track_caller]
    pub(crate) fn read_until(&self, deadline_ns: u64) -> bool {
        let got = self.try_read_once() || self.read_contended(deadline_ns, Location::caller());
        if got {
            self.acquired_read();
        }
        got
    }

    #[track_caller]
    pub(crate) fn try_read(&self) -> bool {
        let got = self.try_read_once() || self.try_read_again();
        if got {
            self.acquired_read();
        }
        got
    }

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
        self.downgrade_contended();
    }

    fn readers_sync(&self) -> usize {
        events::addr(&self.word)
    }

    fn writers_sync(&self) -> usize {
        events::addr(&self.queue)
    }

    fn acquired_read(&self) {
        events::acquire(self.readers_sync());
    }

    fn acquired_write(&self) {
        events::acquire(self.readers_sync());
        events::acquire(self.writers_sync());
    }

    fn try_read_once(&self) -> bool {
        let word = self.word.load(Relaxed);
        word & (WRITER | QUEUED) == 0
            && word / READER < MAX_READERS
            && self
                .word
                .compare_exchange_weak(word, word + READER, Acquire, Relaxed)
                .is_ok()
    }
}

impl Drop for RawRwLock {
    fn drop(&mut self) {
        events::gone(events::addr(self), size_of::<Self>());
    }
}
