//! The state word of a G: what it is doing, and so to whom its stack belongs.
//!
//! # States
//!
//! ```text
//!            spawn                 execute                 goroutine ends
//!   Idle ------------> Runnable ------------> Running ----------------------> Idle
//!                       ^    ^                 |  | \
//!                       |    +---- yield ------+  |  +-- blocking ---> Syscall
//!                       |                         |  ^                    |
//!                       +-- ready -- Waiting <----+  +--------------------+
//!                                           park
//! ```
//!
//! | state | stack belongs to | who may leave the state |
//! | --- | --- | --- |
//! | Idle | nobody | the spawner that took it off a free list |
//! | Runnable | nobody; the G is in exactly one run queue | the M that took it off the queue |
//! | Running | the M in `G::m` | that M |
//! | Waiting | nobody | the one waker: the holder of the wait list's lock, or the winner of `claim` |
//! | Syscall | the M in `G::m` | that M |
//!
//! # Memory ordering
//!
//! Each state has one who may leave it, so a change is a store, not a compare-exchange; debug builds check what they replace.
//!
//! - `Waiting: store Release` ⇄ `Runnable: load Acquire` by the waker, which besides has the lock that was given back after
//!   the store: it sees the G off its stack.
//! - `Runnable: store Release` ⇄ the run queue's push (Release) and pop (Acquire): the next M sees what the last one left on the
//!   stack. For a thread G the word itself is what the thread waits on (Acquire).
//!
//! `tests::a_woken_goroutine_is_off_its_old_stack` checks the first with loom.

use crate::sync::{AtomicU32, futex_word};
use std::sync::atomic::Ordering::{Acquire, Release};

/// What a G is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum State {
    Idle = 0,
    Runnable = 1,
    Running = 2,
    Waiting = 3,
    Syscall = 4,
}

impl State {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Syscall => "blocking call",
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct StateWord(AtomicU32);

impl StateWord {
    /// Idle.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(State::Idle as u32))
    }

    #[inline]
    pub(crate) fn load(&self) -> State {
        match self.0.load(Acquire) {
            0 => State::Idle,
            1 => State::Runnable,
            2 => State::Running,
            3 => State::Waiting,
            _ => State::Syscall,
        }
    }

    #[inline]
    fn change(&self, from: State, to: State) {
        debug_assert_eq!(
            self.load(),
            from,
            "a goroutine in this state cannot become {to:?}"
        );
        self.0.store(to as u32, Release);
    }

    /// Idle -> Runnable: a spawner has filled the G and is about to queue it.
    pub(crate) fn transition_to_spawned(&self) {
        self.change(State::Idle, State::Runnable);
    }

    /// Idle -> Running: the G of a thread that is here for the first time.
    pub(crate) fn transition_to_thread(&self) {
        self.change(State::Idle, State::Running);
    }

    /// Runnable -> Running: an M took it off a queue; or its thread woke up.
    #[inline]
    pub(crate) fn transition_to_running(&self) {
        self.change(State::Runnable, State::Running);
    }

    /// Running -> Waiting: off its stack, and before what guards the wait is given back.
    #[inline]
    pub(crate) fn transition_to_waiting(&self) {
        self.change(State::Running, State::Waiting);
    }

    /// Running -> Runnable: it gave its turn up.
    #[inline]
    pub(crate) fn transition_to_yielded(&self) {
        self.change(State::Running, State::Runnable);
    }

    /// Waiting -> Runnable: by the one waker.
    #[inline]
    pub(crate) fn transition_to_ready(&self) {
        self.change(State::Waiting, State::Runnable);
    }

    /// Running -> Syscall: it goes on without a right to a P.
    pub(crate) fn transition_to_syscall(&self) {
        self.change(State::Running, State::Syscall);
    }

    /// Syscall -> Running.
    pub(crate) fn transition_from_syscall(&self) {
        self.change(State::Syscall, State::Running);
    }

    /// Running -> Idle: it is over.
    pub(crate) fn transition_to_dead(&self) {
        self.change(State::Running, State::Idle);
    }

    /// Blocks the calling thread while the state is Waiting.
    pub(crate) fn block_while_waiting(&self) {
        while self.load() == State::Waiting {
            raddle_alloc::wait(futex_word(&self.0), State::Waiting as u32, None);
        }
    }

    /// Wakes the thread that blocks on a word which is no longer Waiting; the word may be another G's by now.
    pub(crate) fn wake_blocked(&self) {
        raddle_alloc::wake(futex_word(&self.0), 1);
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use loom::sync::{Arc, Mutex};

    /// A wait list with its lock, a G, what is on the G's stack, and a run queue of one place.
    struct World {
        state: StateWord,
        stack: UnsafeCell<u32>,
        waiting: Mutex<bool>,
        queue: AtomicUsize,
    }

    // SAFETY: what the model checks.
    unsafe impl Sync for World {}
    // SAFETY: as above.
    unsafe impl Send for World {}

    impl World {
        /// An M runs the G, which parks; then g0 marks it and gives the lock back: the two steps of `after_park`.
        fn run_and_park(&self) {
            let mut waiting = self.waiting.lock().unwrap();
            *waiting = true;
            self.stack.with_mut(|s| unsafe { *s += 1 });
            self.state.transition_to_waiting();
            drop(waiting);
        }

        /// A waker; returns whether it found the G waiting.
        fn wake(&self) -> bool {
            let mut waiting = self.waiting.lock().unwrap();
            if !std::mem::take(&mut *waiting) {
                return false;
            }
            drop(waiting);
            assert_eq!(
                self.state.load(),
                State::Waiting,
                "a waker met a goroutine on its stack"
            );
            self.state.transition_to_ready();
            self.queue.store(1, Release);
            true
        }
    }

    /// Two wakers compete for a parking G; a second M runs it as soon as it is queued: the stack is never shared.
    #[test]
    fn a_woken_goroutine_is_off_its_old_stack() {
        loom::model(|| {
            let world = Arc::new(World {
                state: StateWord::new(),
                stack: UnsafeCell::new(0),
                waiting: Mutex::new(false),
                queue: AtomicUsize::new(0),
            });
            world.state.transition_to_thread();
            let wakers: Vec<_> = (0..2)
                .map(|_| {
                    let world = world.clone();
                    loom::thread::spawn(move || {
                        let woke = world.wake();
                        if world.queue.load(Acquire) == 1 && world.queue.swap(0, Relaxed) == 1 {
                            // This thread's M has taken the G off the queue.
                            world.state.transition_to_running();
                            world.stack.with_mut(|s| unsafe { *s += 1 });
                        }
                        u32::from(woke)
                    })
                })
                .collect();
            world.run_and_park();
            let woken: u32 = wakers.into_iter().map(|w| w.join().unwrap()).sum();
            assert!(woken <= 1, "one park, two wake-ups");
        });
    }
}
