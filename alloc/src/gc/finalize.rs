//! The queue of dead objects with destructors, and who may drop one.
//!
//! Each cycle queues what [`search`] finds, as one *batch*, behind what is there. The finalizer
//! takes objects from the front ([`next_to_drop`]) and drops them. A destructor may follow handles
//! to others that wait: that *saves* them ([`save`]).
//!
//! # States
//!
//! Of the word in an object's [`Header`]:
//!
//! | state | meaning | left by |
//! | --- | --- | --- |
//! | `INITIALISING` | values are being made; never finalized | their maker: to `LIVE`, or to `DROPPED` if it panics |
//! | `LIVE` | handles may be followed | `search`, with the world stopped, when nothing reaches the object: to `QUEUED` or `FIRST` |
//! | `QUEUED` | it waits in the queue | `next_to_drop`: to `DROPPED`, or back to `LIVE` if its batch has a saved object; `save`: back to `LIVE` |
//! | `FIRST` | it waits, and is dropped whatever was saved | `next_to_drop`: to `DROPPED`; `save`: back to `LIVE` |
//! | `DROPPED` | its drop has begun | nobody; the memory goes in a later cycle |
//!
//! # Invariants
//!
//! 1. Objects in the queue are roots, so they and all that they lead to stay. Each is in the queue
//!    once: it is off the queue before its state can become `QUEUED` again.
//! 2. The queue changes under its lock, in busy sections, or with the world stopped. The step that
//!    decides about an object is in the same section as the one that takes it off: no cycle comes
//!    between.
//! 3. A batch is over when all of it is off the queue. Only then the next one begins.
//!
//! # What may be dropped when something was saved
//!
//! The promise: when an object is saved, neither it nor anything that it leads to is dropped before
//! a later cycle has found it dead again, except what was dropped before it was saved. The latter is
//! in a cycle with it, since an object comes before all others that it reaches.
//!
//! `SAVED` says that an object of the present batch was saved. From then on only `FIRST` objects of
//! the batch are dropped, and all others become `LIVE`. That this keeps the promise is to be shown
//! for a saved object `y` and a `FIRST` object `z` of one batch: `y` never leads to `z` while `z`
//! waits, but in a cycle of both.
//!
//! - When the cycle ended that queued the batch, the program had no way to any object that the cycle
//!   had found dead: those were unreachable from all roots, earlier batches among them, and weak
//!   pointers to them were cleared. The only way to one is a destructor of this batch. So what the
//!   program can get at is, at any time, part of what the objects that have been dropped reached
//!   when the cycle ended: call it `A`. This holds whatever the program does with what it gets at.
//!   It can store handles to objects of `A` in others, follow them or not, make weak pointers to
//!   them, and pass them to other goroutines. None of it adds an edge to an object outside `A`.
//! - `y` was saved, so it is in `A`. If it leads to `z`, then `z` is in `A` too. So an object `d` of
//!   this batch was dropped before `z` and reached `z` when the cycle ended. But `z` is `FIRST`:
//!   what reached it was in its component. And `z` is the first of its component in the queue. So
//!   there is no such `d`.
//!
//! Other batches need no care. An earlier one is over when this one begins (invariant 3), and an
//! object of a later one cannot be saved before that one begins, by the first step above. So `SAVED`
//! is reset when a batch begins. If several cycles queue objects before the finalizer gets to them,
//! these are one batch: the argument holds for the last of the cycles, since the objects of the
//! earlier ones were not touched meanwhile.
//!
//! Not promised: an object is not saved by a handle that is stored and not followed. What a saved
//! object is made to lead to later, by such a handle, may have been dropped.
//!
//! `FIRST` objects are looked for if something was saved in the present batch, or the one before it:
//! that costs a second search, which most programs do not need. So a batch in which nothing is saved
//! is dropped as a whole. One without `FIRST` objects is dropped up to the first that saves another.
//! Of one that has them, all those are dropped. Each drops at least its first object, so every cycle
//! gets on. (A save that comes too late may have set `SAVED` for the batch behind its own. That puts
//! off one batch, whose objects come again.)
//!
//! # No reference to what is dropped
//!
//! When an object is queued, no reference to its value exists: the borrowed handle would be a root.
//! One that is made later finds the state `LIVE`, or makes it so first, or is refused. The step to
//! `DROPPED` fails if the state is `LIVE`. `LIVE` is left only while the world is stopped, so a
//! thread that has read it once may use the value as long as it holds the handle, and a Relaxed load
//! is enough for that: the stop orders what it reads with all that came before, and after the stop
//! no older value can be read.
//!
//! # Memory ordering
//!
//! - `save: AcqRel step to LIVE` ⇄ `may_drop: Acquire, when its step fails`: the finalizer that finds
//!   an object saved sees `SAVED`, which was set before, when it gets to the ones behind it. All that
//!   the saved one leads to is behind it, or in a cycle with it.
//! - `save` that fails, or finds the object `LIVE`, needs no order: nothing was written for it. The
//!   values were ordered by the stop of the world that found them dead.
//! - `may_drop: AcqRel step to DROPPED` ⇄ `save`: one of the two fails.
//!
//! The model below checks this.
//!
//! # Why not
//!
//! - *A saved object is dropped all the same, and its handles panic*: a reference from before the
//!   drop would dangle. A handle in a static gives such references in safe code.
//! - *Handles to an object that waits panic*: then no destructor could use what its fields lead to,
//!   if that has a destructor too.
//! - *Only what no other leads to waits, as in Go*: a list of a thousand nodes would take a thousand
//!   cycles, and any node with a `String` has a destructor.
//! - *The objects in the queue are looked at anew by each cycle*: what a destructor that runs leads to
//!   would be taken off the queue each time, and wait for a cycle that may not come for long.

use super::object::{Header, State, state};
use super::{search, stats};
use crate::arena;
use crate::futex::{Lock, Locked};
use crate::thread::{busy, this_thread};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::*;

/// Objects linked by their headers.
pub(super) struct List {
    first: *mut Header,
    last: *mut Header,
}

impl List {
    pub(super) const fn new() -> Self {
        Self {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    pub(super) fn push_front(&mut self, object: &Header) {
        object.next.store(self.first, Relaxed);
        let object = ptr::from_ref(object).cast_mut();
        if self.first.is_null() {
            self.last = object;
        }
        self.first = object;
    }

    pub(super) fn push_back(&mut self, object: &Header) {
        object.next.store(ptr::null_mut(), Relaxed);
        let object = ptr::from_ref(object).cast_mut();
        self.append(List {
            first: object,
            last: object,
        });
    }

    fn append(&mut self, other: List) {
        if other.is_empty() {
            return;
        }
        // SAFETY: null, or the last object of the list, which is there.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.store(other.first, Relaxed),
            None => self.first = other.first,
        }
        self.last = other.last;
    }

    pub(super) fn pop(&mut self) -> Option<NonNull<Header>> {
        let first = NonNull::new(self.first)?;
        // SAFETY: in the list, hence there.
        let next = unsafe { first.as_ref() }
            .next
            .swap(ptr::null_mut(), Relaxed);
        self.first = next;
        if next.is_null() {
            self.last = ptr::null_mut();
        }
        Some(first)
    }

    fn each(&self, show: &mut dyn FnMut(usize)) {
        let mut at = self.first;
        // SAFETY: null or in the list, hence there.
        while let Some(object) = unsafe { at.as_ref() } {
            show(at.addr());
            at = object.next.load(Relaxed);
        }
    }
}

// SAFETY: the objects of a list belong to the collector, whichever thread that is.
unsafe impl Send for List {}

struct Queue {
    /// The batch that is being dropped,
    present: List,
    /// and what is queued behind it.
    later: List,
    /// An object of the batch before the present one was saved.
    saves: bool,
}

static QUEUE: Locked<Queue> = Locked::new(Queue {
    present: List::new(),
    later: List::new(),
    saves: false,
});

/// An object of the present batch was saved: not 0.
#[cfg(not(loom))]
static SAVED: State = State::new(0);
/// loom's types cannot be made in a constant.
#[cfg(loom)]
static SAVED: std::sync::LazyLock<State> = std::sync::LazyLock::new(|| State::new(0));

/// What became of the object at the front of the queue.
enum Step {
    Drop(NonNull<Header>),
    /// It was saved, or something that may lead to it was.
    Leave,
    Empty,
}

impl Queue {
    fn step(&mut self) -> Step {
        if self.present.is_empty() {
            self.present
                .append(std::mem::replace(&mut self.later, List::new()));
            self.saves = SAVED.swap(0, Relaxed) != 0;
        }
        let Some(object) = self.present.pop() else {
            return Step::Empty;
        };
        // SAFETY: it was in the queue, so it is there.
        match may_drop(unsafe { &object.as_ref().state }, &SAVED) {
            true => Step::Drop(object),
            false => Step::Leave,
        }
    }
}

/// Takes the next object that is to be dropped, in state `DROPPED`. The caller runs its `drop`, and
/// holds the object meanwhile. For one thread at a time.
///
/// **Blocking**: neither parks the goroutine nor blocks the thread.
///
/// # Safety
///
/// The caller is the finalizer: the destructor of what it takes will not run unless it runs it, and
/// the memory goes all the same.
pub unsafe fn next_to_drop() -> Option<NonNull<Header>> {
    loop {
        match busy(this_thread(), || QUEUE.with(Queue::step)) {
            Step::Drop(object) => {
                stats::count_finalized();
                // A pointer to all of the object: the values lie behind the header.
                return NonNull::new(arena::pointer(object.addr().get()).cast());
            }
            Step::Leave => {}
            Step::Empty => return None,
        }
    }
}

/// Saves an object from its drop, if it waits for that. Returns whether its value is there, and will
/// be as long as the caller holds the object. To be called before a value is used whose state is not
/// known to be `LIVE`.
///
/// **Blocking**: neither parks the goroutine nor blocks the thread.
///
/// **Happens-before**: none. What was done with the value happened before the cycle that found it dead.
#[cold]
pub fn save(object: &Header) -> bool {
    save_with(&object.state, &SAVED)
}

fn save_with(object: &State, saved: &State) -> bool {
    let mut now = object.load(Relaxed);
    while let state::QUEUED | state::FIRST = now {
        // Before the step: who finds the object saved is to see this.
        saved.store(1, Relaxed);
        match object.compare_exchange(now, state::LIVE, AcqRel, Relaxed) {
            Ok(_) => return true,
            Err(other) => now = other,
        }
    }
    now == state::LIVE
}

/// Decides about an object that came off the queue. If it is not to be dropped it is `LIVE` now.
fn may_drop(object: &State, saved: &State) -> bool {
    // Acquire if it fails: the object was saved, and so is what it leads to.
    let step = |from, to| object.compare_exchange(from, to, AcqRel, Acquire).is_ok();
    if step(state::FIRST, state::DROPPED) {
        return true;
    }
    if saved.load(Relaxed) == 0 {
        return step(state::QUEUED, state::DROPPED);
    }
    step(state::QUEUED, state::LIVE);
    false
}

/// The queue's lock, for `fork`.
pub(super) fn lock() -> &'static Lock {
    QUEUE.lock()
}

/// Whether there is something in the queue.
pub(super) fn has_queued() -> bool {
    busy(this_thread(), || {
        QUEUE.with(|queue| !queue.present.is_empty() || !queue.later.is_empty())
    })
}

/// The queue, as roots; the world is stopped.
pub(super) fn each_queued(show: &mut dyn FnMut(usize)) {
    QUEUE.with(|queue| {
        queue.present.each(show);
        queue.later.each(show);
    });
}

/// Queues the dead objects that have destructors, and marks what they reach. Returns the bytes that
/// it marked. The world is stopped, and all that roots lead to is marked.
pub(super) fn queue_dead() -> usize {
    let wants_sources = QUEUE.with(|queue| queue.saves || SAVED.load(Relaxed) != 0);
    let (dead, marked) = search::dead(wants_sources);
    QUEUE.with(|queue| queue.later.append(dead));
    marked
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_waits_is_dropped_saved_or_postponed() {
        let state = State::new;
        let of = |state: &State| state.load(Relaxed);
        let saved = state(0);
        for waits in [state::QUEUED, state::FIRST] {
            let object = state(waits);
            assert!(may_drop(&object, &saved) && !may_drop(&object, &saved));
            assert!(!save_with(&object, &saved) && of(&object) == state::DROPPED);
        }
        let object = state(state::INITIALISING);
        assert!(!save_with(&object, &saved) && !may_drop(&object, &saved));
        assert!(save_with(&state(state::LIVE), &saved));
        assert_eq!(of(&saved), 0, "nothing was saved that waited");

        for waits in [state::QUEUED, state::FIRST] {
            let object = state(waits);
            assert!(save_with(&object, &saved) && save_with(&object, &saved));
            assert!(!may_drop(&object, &saved) && of(&object) == state::LIVE);
            assert_eq!(saved.swap(1, Relaxed), 1);
        }
        let object = state(state::QUEUED);
        assert!(!may_drop(&object, &saved), "what was saved may lead to it");
        assert_eq!(of(&object), state::LIVE);
        assert!(
            may_drop(&state(state::FIRST), &saved),
            "nothing leads to it"
        );
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;

    /// The finalizer comes to an object and to one that it leads to, while another thread saves the
    /// first. The one behind it is never dropped once that was in time.
    #[test]
    fn what_a_saved_object_leads_to_is_not_dropped() {
        for waits in [state::QUEUED, state::FIRST] {
            loom::model(move || {
                let [saved, front, behind] =
                    [0, waits, state::QUEUED].map(|n| Arc::new(State::new(n)));
                let saver = {
                    let (saved, front) = (saved.clone(), front.clone());
                    loom::thread::spawn(move || save_with(&front, &saved))
                };
                let is_dropped = [&front, &behind].map(|object| may_drop(object, &saved));
                let is_saved = saver.join().unwrap();
                assert_ne!(is_saved, is_dropped[0]);
                assert!(!is_saved || !is_dropped[1]);
            });
        }
    }
}
