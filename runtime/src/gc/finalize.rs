//! The life of a value with a destructor, as the word in its header tells it.
//!
//! # States
//!
//! | state | meaning | left by |
//! | --- | --- | --- |
//! | `INITIALISING` | values are being made; never finalized | their maker: to `LIVE`, or to `DROPPED` if it panics |
//! | `LIVE` | handles may be followed | the collector, with the world stopped, when nothing reaches the object: to `QUEUED` or `FIRST` |
//! | `QUEUED` | it waits for the finalizer goroutine | that goroutine: to `DROPPED`; or whoever follows a handle: back to `LIVE` |
//! | `FIRST` | as `QUEUED`, and no other that waits leads to it, but in a cycle | as `QUEUED` |
//! | `DROPPED` | its drop has begun | nobody; the memory goes in a later cycle |
//!
//! # Invariants
//!
//! 1. A value is dropped only by who moved the state from `QUEUED` or `FIRST` to `DROPPED`; that is one.
//! 2. When an object comes to wait, no reference to its value, or to what that owns, exists: it would be borrowed through a handle that
//!    lies in its place until then (`place::pin`), and keeps the object. One that is made later moves the state to `LIVE` first, or finds it `LIVE`, or is refused. So at the step to `DROPPED` there is
//!    no reference, and there will be none: the drop has the value to itself.
//! 3. An object in the queue stays reachable, whatever its state has become, until the finalizer goroutine takes it off; it is
//!    never in the queue twice.
//!
//! # What is saved
//!
//! The queue is in an order in which an object comes before those that it reaches. When a destructor follows a handle to one
//! that waits, that one is saved, and what *it* reaches must not be dropped either. That may be anything behind it in the
//! queue but the `FIRST`: so from the first that is saved until the queue is empty, all others go back to `LIVE`, and the
//! next cycle finds out anew. Where no destructor follows handles, which is the rule, one cycle is enough for all.
//!
//! # Memory ordering
//!
//! The decision between a drop and a rescue is the order of two steps on one word. `rescue: store SAVED, AcqRel step` ⇄ `begin_drop: load
//! SAVED, AcqRel step`. What was done with the value before it was lost comes before the drop by the stop of the world; a rescuer
//! got its handle from the finalizer goroutine by other means, which order them.
//!
//! # Why not
//!
//! - *A saved object is dropped all the same, and its handles panic*: a reference from before the drop would dangle. A
//!   handle in a static gives such references in safe code.
//! - *Handles to an object that waits panic*: then no destructor could use what its fields lead to, if that has a
//!   destructor too.
//! - *Only what no other leads to waits, as in Go*: a list of a thousand nodes would take a thousand cycles, and any node with a
//!   `String` has a destructor.

use std::mem::needs_drop;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32};

use raddle_alloc::gc::{Header, state};

use super::place::Place;

/// The header of an object with `len` values of type `T`.
pub(super) fn header<T>(len: usize, state: u32) -> Header {
    Header {
        drop: drop_values::<T>,
        state: AtomicU32::new(state),
        len,
        next: AtomicPtr::new(ptr::null_mut()),
    }
}

/// Drops the values of an object: `Header::drop`.
///
/// # Safety
///
/// The header is of an object with values of type `T`, and the caller has them to itself, by invariant 1.
unsafe fn drop_values<T>(header: *mut Header) {
    // SAFETY: the header is there as long as the object.
    let len = unsafe { (*header).len };
    // SAFETY: the values lie this far behind it, in the same object.
    let first = unsafe { header.byte_add(Place::<T>::OFFSET) }.cast::<T>();
    // SAFETY: they were all made, and by the contract nobody else has them.
    unsafe { ptr::slice_from_raw_parts_mut(first, len).drop_in_place() };
}

/// Panics if the value at `value` has been dropped; saves it if it was about to be.
///
/// # Safety
///
/// `value` is the address of the first value of a collected object with `T`s.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn check<T>(value: NonNull<T>) {
    if needs_drop::<T>() {
        // SAFETY: by the contract.
        let header = unsafe { Place::<T>::header_of(value) };
        if header.state.load(Relaxed) != state::LIVE && !rescue(header) {
            dropped();
        }
    }
}

/// Whether the value at `value` may be used; saves it if it was about to be dropped.
///
/// # Safety
///
/// As [`check`].
#[inline]
pub(super) unsafe fn is_there<T>(value: NonNull<T>) -> bool {
    if !needs_drop::<T>() {
        return true;
    }
    // SAFETY: by the contract.
    let header = unsafe { Place::<T>::header_of(value) };
    header.state.load(Relaxed) == state::LIVE || rescue(header)
}

/// Whether one was saved since the queue was empty.
static SAVED: AtomicBool = AtomicBool::new(false);

/// Saves the object from its drop. Returns whether that was in time.
#[cold]
fn rescue(header: &Header) -> bool {
    let mut now = header.state.load(Relaxed);
    while let state::QUEUED | state::FIRST = now {
        // Before the step: by the time others see that one is saved, this is seen too.
        SAVED.store(true, Relaxed);
        match header
            .state
            .compare_exchange(now, state::LIVE, AcqRel, Relaxed)
        {
            Ok(_) => return true,
            Err(other) => now = other,
        }
    }
    now == state::LIVE
}

#[cold]
#[inline(never)]
#[track_caller]
fn dropped() -> ! {
    panic!(
        "this collected value has been dropped: nothing but other garbage reached it. A destructor in a cycle asks \
         Gc::get first"
    )
}

/// Takes the value of an object that came out of the queue for its drop. False: it is not to be dropped, for now.
pub(super) fn begin_drop(header: &Header) -> bool {
    let postponed = SAVED.load(Relaxed);
    let step = |from, to| {
        header
            .state
            .compare_exchange(from, to, AcqRel, Relaxed)
            .is_ok()
    };
    if step(state::FIRST, state::DROPPED) {
        return true;
    }
    let to = if postponed {
        state::LIVE
    } else {
        state::DROPPED
    };
    step(state::QUEUED, to) && !postponed
}

/// The queue is empty: whoever waits from now on was found by a cycle that knows what was saved.
pub(super) fn queue_is_empty() {
    SAVED.store(false, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_state(state: u32) -> Header {
        header::<String>(1, state)
    }

    fn state_of(header: &Header) -> u32 {
        header.state.load(Relaxed)
    }

    /// One test: there is one `SAVED`.
    #[test]
    fn an_object_that_waits_is_dropped_saved_or_postponed() {
        for waits in [state::QUEUED, state::FIRST] {
            let h = with_state(waits);
            assert!(begin_drop(&h) && !begin_drop(&h));
            assert!(!rescue(&h) && state_of(&h) == state::DROPPED);
        }
        let (queued, first) = (with_state(state::QUEUED), with_state(state::FIRST));
        let saved = with_state(state::QUEUED);
        assert!(rescue(&saved) && rescue(&saved) && state_of(&saved) == state::LIVE);
        assert!(!begin_drop(&saved));
        assert!(
            !begin_drop(&queued) && state_of(&queued) == state::LIVE,
            "the saved one may lead to it"
        );
        assert!(begin_drop(&first), "nothing leads to it");

        queue_is_empty();
        assert!(begin_drop(&with_state(state::QUEUED)));

        let h = with_state(state::INITIALISING);
        assert!(!rescue(&h) && !begin_drop(&h));
    }
}
