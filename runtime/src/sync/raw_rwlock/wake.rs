//! Giving the lock up when others wait for it. The protocol is in the parent's header.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use raddle_sched::{Rt, enter};

use super::{QUEUED, READER, READERS, RawRwLock, WOKEN, WRITER, WRITERS};
use crate::sync::queue::{Held, Outcome};

impl RawRwLock {
    /// Lets waiting readers in if no writer keeps them out any more: called by a writer that gave up.
    pub(super) fn settle(&self, rt: &Rt, queue: Held<'_, 2>) {
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
    pub(super) fn unlock_read_contended(&self) {
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
    pub(super) fn unlock_write_contended(&self) {
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

    /// Turns the write lock into a read lock with waiters in the queue.
    #[cold]
    #[inline(never)]
    pub(super) fn downgrade_contended(&self) {
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
}

/// `n` read locks in the word.
pub(super) fn readers(n: usize) -> u32 {
    n as u32 * READER
}

/// `QUEUED` if anybody waits.
pub(super) fn queued(queue: &Held<'_, 2>) -> u32 {
    if queue.is_empty(READERS) && queue.is_empty(WRITERS) {
        0
    } else {
        QUEUED
    }
}
