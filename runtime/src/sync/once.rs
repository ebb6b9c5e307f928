//! [`Once`]: a piece of code that runs once, whoever comes first.
//!
//! # States
//!
//! | word | meaning | left by |
//! | --- | --- | --- |
//! | `NEW` | nobody runs it | a caller that begins to run it |
//! | `RUNNING` | a caller runs it | that caller: to `DONE`, or back to `NEW` if it panics |
//! | `RUNNING + QUEUED` | and others may wait for it | that caller, once it has emptied the queue |
//! | `DONE` | it has run | nobody |
//!
//! # Invariants
//!
//! 1. A waiter joins the queue under its lock, after a step that sees `RUNNING` and sets `QUEUED`. The runner leaves `RUNNING` only in a step
//!    that sees `QUEUED` clear, and clears it under the lock with the queue emptied: it leaves no waiter behind.
//! 2. That step is the runner's last touch, but for waiters in hand: the memory may go as soon as it is seen.
//!
//! # Memory ordering
//!
//! `finish: Release on the word` ⇄ `is_completed, run: Acquire on the word`: what the code did is visible to every caller, and
//! what a run that failed did to the next run.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use raddle_sched::{WaitReason, enter};

use super::events;
use super::queue::{Outcome, WaitQueue, Waiter, WakeList};

const NEW: u32 = 0;
const RUNNING: u32 = 1;
const QUEUED: u32 = 2;
const DONE: u32 = 4;

/// Runs a piece of code once, whoever comes first; the others wait until it is done.
///
/// If it panics it has not run: the next caller runs its own. Calling it again from inside waits for ever.
///
/// **Blocking**: parks the goroutine while another runs the code; on a plain thread it blocks that thread.
///
/// **Happens-before**: the end of the code happens before every call returns; the end of a run that panics, before the next
/// run.
///
/// # Examples
///
/// ```
/// use raddle::sync::Once;
///
/// static ONCE: Once = Once::new();
///
/// let mut runs = 0;
/// ONCE.call_once(|| runs += 1);
/// ONCE.call_once(|| runs += 1);
/// assert_eq!((runs, ONCE.is_completed()), (1, true));
/// ```
#[derive(Default)]
pub struct Once {
    word: AtomicU32,
    queue: WaitQueue,
}

impl Once {
    /// Returns a `Once` that has not run.
    #[must_use]
    pub const fn new() -> Once {
        Once {
            word: AtomicU32::new(NEW),
            queue: WaitQueue::new(),
        }
    }

    /// Runs `f` if nothing has run yet, and otherwise waits until that is done.
    #[inline]
    #[track_caller]
    pub fn call_once(&self, f: impl FnOnce()) {
        if self.is_completed() {
            return;
        }
        let mut f = Some(f);
        let done = self.run(Location::caller(), &mut || {
            if let Some(f) = f.take() {
                f();
            }
            true
        });
        debug_assert!(done);
    }

    /// Returns whether the code has run; if so its end happens before this returns.
    #[inline]
    pub fn is_completed(&self) -> bool {
        let done = self.word.load(Acquire) == DONE;
        if done {
            events::acquire(events::addr(self));
        }
        done
    }

    /// Waits until the code has run, and does not run it.
    ///
    /// **Blocking**: parks the goroutine until another has run the code.
    #[track_caller]
    pub fn wait(&self) {
        let at = Location::caller();
        while !self.is_completed() {
            self.wait_for_change(at, true);
        }
    }

    /// Runs `f` unless it has run; `f` returns whether it is done for good. Returns whether it is.
    #[cold]
    #[inline(never)]
    pub(super) fn run(&self, at: &'static Location<'static>, f: &mut dyn FnMut() -> bool) -> bool {
        loop {
            match self.word.load(Acquire) {
                DONE => {
                    events::acquire(events::addr(self));
                    return true;
                }
                // A waiter of `wait` may be in the queue before anybody runs.
                word if word & RUNNING == 0 => {
                    if self
                        .word
                        .compare_exchange(word, word | RUNNING, Acquire, Relaxed)
                        .is_err()
                    {
                        continue;
                    }
                    // A run that came to nothing may have been before.
                    events::acquire(events::addr(self));
                    let mut finish = Finish {
                        once: self,
                        to: NEW,
                    };
                    if f() {
                        finish.to = DONE;
                    }
                    return finish.to == DONE;
                }
                _ => self.wait_for_change(at, false),
            }
        }
    }

    /// Parks until a run has ended: the one under way, or else, if `none_yet`, the next one.
    fn wait_for_change(&self, at: &'static Location<'static>, none_yet: bool) {
        let rt = enter();
        let queue = self.queue.hold(&rt);
        let mut word = self.word.load(Relaxed);
        loop {
            if word == DONE || (word & RUNNING == 0 && !none_yet) {
                return;
            }
            match self
                .word
                .compare_exchange_weak(word, word | QUEUED, Relaxed, Relaxed)
            {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        let w = Waiter::new(&rt, &self.queue);
        // SAFETY: `w` was made for this queue, and parks on the next line.
        unsafe { queue.push_back(0, &w) };
        queue.park(&rt, &w, WaitReason::OnceWait, at);
    }

    /// Ends a run, and wakes everybody. The detector has been told: the word's step may be the last touch.
    fn finish(&self, to: u32) {
        if self
            .word
            .compare_exchange(RUNNING, to, Release, Relaxed)
            .is_ok()
        {
            return;
        }
        let rt = enter();
        let mut woken = WakeList::new();
        loop {
            let queue = self.queue.hold(&rt);
            woken.append(queue.take_all(0, Outcome::Granted).0);
            self.word.fetch_and(!QUEUED, Relaxed);
            drop(queue);
            if self
                .word
                .compare_exchange(RUNNING, to, Release, Relaxed)
                .is_ok()
            {
                break;
            }
        }
        woken.ready_all(&rt);
    }
}

/// Ends a run on every way out, panics included.
struct Finish<'a> {
    once: &'a Once,
    to: u32,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        events::release(events::addr(self.once));
        self.once.finish(self.to);
    }
}

impl Drop for Once {
    #[inline]
    fn drop(&mut self) {
        events::gone(events::addr(self), size_of::<Self>());
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.word.load(Relaxed) {
            DONE => "done",
            word if word & RUNNING != 0 => "running",
            _ => "new",
        };
        f.debug_struct("Once")
            .field("state", &format_args!("{state}"))
            .finish()
    }
}
