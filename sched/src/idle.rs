//! Who looks for work: the word that counts idle Ps and spinning Ms, and the protocol that loses no wake-up.
//!
//! Work is found by Ms that *spin*: they have a P, no goroutine, and go round all the queues. We want enough of them that
//! new work is taken up at once, and no more, since every one burns a processor.
//!
//! - Making work ready wakes one M as a spinner, unless one spins already or no P is idle.
//! - A spinner that finds work stops spinning; if it was the last, it wakes another, since where there was work there may be more.
//! - An M that finds none gives its P up, stops spinning if it did, and then *looks again*.
//!
//! # States
//!
//! | bits | meaning |
//! | --- | --- |
//! | 0..16 | idle Ps |
//! | 16..32 | spinning Ms |
//!
//! # Memory ordering: why no wake-up is lost
//!
//! The submitter and whoever gives a P up run mirrored recipes:
//!
//! ```text
//!   submit                                 give up
//!     S1  push the work                      W1  idle Ps + 1                     (give_up_p)
//!     S2  fence SeqCst                       W2  spinning - 1, if it did spin    (stop_spin)
//!     S3  load the word                      W3  fence SeqCst                    (stop_spin, look_again)
//!     S4  idle and none spins: wake one      W4  look at every queue
//! ```
//!
//! Of the two fences one comes first in the single order of SeqCst operations. If S2 does, W4 sees the work of S1. If W3
//! does, S3 sees W1 and W2: a P is idle and this M does not spin. Then either S4 wakes one, or another M spins at S3, and is
//! yet to stop. If it stops because it found nothing, its own W4 comes later than S2. If it stops because it found other
//! work, it looks whether a P is idle and wakes a spinner for it. If it was only about to be woken, and there was no P for
//! it after all (`wake_one`), the waker looks at the queues in its stead. So somebody looks after S1.
//!
//! The second look is owed by every M that gives its P up, not only by spinners: one that may not spin, since enough do,
//! must not count on them. They may all find work just then.
//!
//! The loom models below check this.
//!
//! # Why not
//!
//! - *Wake an M for every ready goroutine*: a system call each, and Ms that find nothing.
//! - *Wake nobody; idle Ms poll*: burns a processor, or adds the polling period to every latency.
//! - *Two words*, as Go has (`npidle`, `nmspinning`): the check costs two loads, and the two may disagree.
//!
//! # References
//!
//! Go `runtime/proc.go`, "Worker thread parking/unparking"; tokio `scheduler/multi_thread/idle.rs`.

use crate::sync::{AtomicU32, fence};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

const SPIN: u32 = 1 << 16;
const IDLE_MASK: u32 = SPIN - 1;

/// The packed counts.
#[derive(Debug)]
pub(crate) struct IdleWord(AtomicU32);

impl IdleWord {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// S2 and S3: whether work that was just submitted needs somebody to be woken.
    #[inline]
    pub(crate) fn needs_wake(&self) -> bool {
        fence(SeqCst); // pairs with the one in `stop_spin`
        let word = self.0.load(Relaxed);
        word < SPIN && word != 0
    }

    /// The same for work that was submitted by a SeqCst swap and is looked for by SeqCst loads.
    ///
    /// Then the swap, this load, the spinner's decrement and its second look are all in the single order of SeqCst
    /// operations, and the argument holds without the fence, which would cost more than all the rest of `ready`.
    #[inline]
    pub(crate) fn needs_wake_after_seqcst(&self) -> bool {
        let word = self.0.load(SeqCst); // see above; a plain load on x86
        word < SPIN && word != 0
    }

    /// Takes the one place of a spinner that a submitter is about to wake. False: somebody spins already.
    pub(crate) fn try_start_spin(&self) -> bool {
        let mut word = self.0.load(Relaxed);
        while word < SPIN && word != 0 {
            match self.0.compare_exchange(word, word + SPIN, SeqCst, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// An M out of work wants to spin: granted while at most half as many spin as Ps are busy.
    pub(crate) fn start_spin_if_few(&self, procs: u32) -> bool {
        let word = self.0.load(Relaxed);
        if 2 * (word / SPIN) >= procs.saturating_sub(word & IDLE_MASK) {
            return false;
        }
        self.0.fetch_add(SPIN, SeqCst);
        true
    }

    /// An M that looked again and found work spins on, unconditionally.
    pub(crate) fn start_spin(&self) {
        self.0.fetch_add(SPIN, SeqCst);
    }

    /// W2 and W3. Returns whether it was the last spinner.
    pub(crate) fn stop_spin(&self) -> bool {
        let before = self.0.fetch_sub(SPIN, SeqCst);
        fence(SeqCst); // pairs with the one in `needs_wake`
        debug_assert!(before >= SPIN);
        before / SPIN == 1
    }

    /// W3, for an M that did not spin.
    pub(crate) fn look_again(&self) {
        fence(SeqCst); // pairs with the one in `needs_wake`
    }

    /// W1: one more P is idle.
    pub(crate) fn give_up_p(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    /// One P fewer is idle.
    pub(crate) fn take_p(&self) {
        let before = self.0.fetch_sub(1, SeqCst);
        debug_assert!(before & IDLE_MASK > 0);
    }

    /// The number of idle Ps.
    pub(crate) fn idle(&self) -> u32 {
        self.0.load(Relaxed) & IDLE_MASK
    }

    /// The number of spinning Ms.
    pub(crate) fn spinning(&self) -> u32 {
        self.0.load(Relaxed) / SPIN
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU32 as Queue;
    use std::sync::atomic::Ordering::{Acquire, Release};

    /// One worker with its P, one submitter without: whatever the interleaving, either the worker takes the item or the
    /// submitter sees that it must wake somebody.
    #[test]
    fn a_submitted_item_is_always_seen() {
        loom::model(|| {
            let word = Arc::new(IdleWord::new());
            let queue = Arc::new(Queue::new(0));
            word.start_spin();
            let submitter = {
                let (word, queue) = (word.clone(), queue.clone());
                loom::thread::spawn(move || {
                    queue.store(1, Release);
                    word.needs_wake() && word.try_start_spin()
                })
            };
            let mut taken = queue.load(Acquire) == 1;
            if !taken {
                word.give_up_p();
                word.stop_spin();
                taken = queue.load(Acquire) == 1;
            }
            let woken = submitter.join().unwrap();
            assert!(
                taken || woken,
                "the item is in the queue and nobody will look"
            );
        });
    }

    /// Two spinners stop at the same time: the item is seen by one of them or by a woken third.
    #[test]
    fn two_stopping_spinners_do_not_rely_on_each_other() {
        loom::model(|| {
            let word = Arc::new(IdleWord::new());
            let queue = Arc::new(Queue::new(0));
            word.start_spin();
            word.start_spin();
            let stop = |word: &IdleWord, queue: &Queue| {
                word.give_up_p();
                word.stop_spin();
                queue.load(Acquire) == 1
            };
            let other = {
                let (word, queue) = (word.clone(), queue.clone());
                loom::thread::spawn(move || stop(&word, &queue))
            };
            let submitter = {
                let (word, queue) = (word.clone(), queue.clone());
                loom::thread::spawn(move || {
                    queue.store(1, Release);
                    word.needs_wake() && word.try_start_spin()
                })
            };
            let mine = stop(&word, &queue);
            let seen = mine | other.join().unwrap() | submitter.join().unwrap();
            assert!(seen, "the item is in the queue and nobody will look");
        });
    }

    /// Two submitters and an idle P: exactly one of them wakes a spinner.
    #[test]
    fn one_submitter_wakes() {
        loom::model(|| {
            let word = Arc::new(IdleWord::new());
            word.give_up_p();
            let wake = |word: &IdleWord| u32::from(word.needs_wake() && word.try_start_spin());
            let other = {
                let word = word.clone();
                loom::thread::spawn(move || wake(&word))
            };
            let woken = wake(&word) + other.join().unwrap();
            assert_eq!(woken, 1);
            assert_eq!(word.spinning(), 1);
        });
    }

    /// A spinner that finds other work is the one that a submitter and an M without a right to spin rely on.
    #[test]
    fn nobody_relies_on_a_spinner_that_finds_work() {
        loom::model(|| {
            let word = Arc::new(IdleWord::new());
            let queue = Arc::new(Queue::new(0));
            word.start_spin();
            let finder = {
                let (word, queue) = (word.clone(), queue.clone());
                loom::thread::spawn(move || {
                    // It found something else: stops, and wakes another if a P is idle.
                    let last = word.stop_spin();
                    last && word.needs_wake() && word.try_start_spin()
                })
            };
            let submitter = {
                let (word, queue) = (word.clone(), queue.clone());
                loom::thread::spawn(move || {
                    queue.store(1, Release);
                    word.needs_wake() && word.try_start_spin()
                })
            };
            // It may not spin: gives its P up, and looks again.
            word.give_up_p();
            word.look_again();
            let seen = queue.load(Acquire) == 1;
            let woken = finder.join().unwrap() | submitter.join().unwrap();
            assert!(
                seen || woken,
                "the item is in the queue and nobody will look"
            );
        });
    }

    /// A waker that finds no P after all (the world is being stopped) looks for those who saw it as a spinner.
    #[test]
    fn nobody_relies_on_a_spinner_that_gets_no_p() {
        loom::model(|| {
            let word = Arc::new(IdleWord::new());
            let queue = Arc::new(Queue::new(0));
            word.give_up_p();
            let waker = {
                let (word, queue) = (word.clone(), queue.clone());
                loom::thread::spawn(move || {
                    word.needs_wake() && word.try_start_spin() && {
                        word.stop_spin();
                        queue.load(Acquire) == 1
                    }
                })
            };
            queue.store(1, Release);
            let woke = word.needs_wake() && word.try_start_spin();
            assert!(
                waker.join().unwrap() || woke,
                "the item is in the queue and nobody will look"
            );
        });
    }
}
