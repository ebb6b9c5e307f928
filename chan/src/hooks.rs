//! The race events of channels (`race-model`, section 2), each behind one branch that is not taken outside race mode.
//!
//! | what happens | events |
//! | --- | --- |
//! | a send begins | read of the channel object |
//! | close | write of the channel object |
//! | the channel closes: by the first close, or by the end of a side | release_merge of the channel object, under the lock |
//! | an operation finds the channel closed | acquire of the channel object |
//! | an element goes into or comes out of slot i of a bounded buffer | release_acquire of the slot's baton, by the side that runs, or by the parked side whose element it is |
//! | the same with an unbounded buffer | release of the slot's baton (send), acquire (receive): a receive never orders a later send |
//! | two sides meet without a buffer | each is ordered after the other; there is no third side, so no object is between them |
//! | a handle is dropped | release_merge of its counter; the last one acquires it |
//! | memory becomes the channel's, or is given back | clear_shadow: it has nothing to do with what was there before |
//!
//! Values need no events of their own: a value is moved out of the sender's stack and into the receiver's, both
//! places that no other goroutine can name while the call lasts, and what lies between is the runtime's memory.
//!
//! A thread's context, and the P whose caches the detector uses, are there only inside the runtime. The hooks of transfers are
//! called under the channel's lock, hence inside, that of a send is handed the guard; the others enter it themselves, out of line.

use crate::core::Chan;
use raddle_race::{self as race, Baton};
use raddle_sched::{GRef, Rt, enter};
use std::mem;
use std::panic::Location;
use std::ptr::{self, NonNull};

/// The word that stands for the channel as an object.
fn object(chan: &Chan) -> usize {
    ptr::from_ref(chan).addr()
}

/// Tells the detector something from inside the runtime. Calls nest.
#[cold]
#[inline(never)]
fn inside<R>(tell: impl FnOnce() -> R) -> R {
    let _inside = enter();
    tell()
}

/// A channel in memory of its own. The detector looks for the real callers of what is allocated inside:
/// whoever makes the channel announced no call of this crate.
#[inline(always)]
pub(crate) fn boxed(chan: Chan) -> Box<Chan> {
    if race::enabled() {
        return inside(|| Box::new(chan));
    }
    Box::new(chan)
}

/// Memory begins or ends its life as part of a channel: no accesses, no sync objects. Also where the heap announces blocks: a
/// buffer's memory is the runtime's, not written by who made the channel, and the global allocator may be another.
#[inline(always)]
pub(crate) fn new_life(start: *const u8, bytes: usize) {
    if race::enabled() && bytes != 0 {
        inside(|| race::clear_shadow(start.addr(), bytes));
    }
}

#[inline(always)]
pub(crate) fn send_begins(chan: &Chan, _inside: &Rt, at: &'static Location<'static>) {
    if race::enabled() {
        race::read(object(chan), 8, race::Pc::at(at));
    }
}

/// `close` is called, also on a closed channel: which of two calls closes is chance if they are not ordered.
#[inline(always)]
pub(crate) fn close_begins(chan: &Chan, at: &'static Location<'static>) {
    if race::enabled() {
        inside(|| race::write(object(chan), 8, race::Pc::at(at)));
    }
}

/// The channel closes now, once in its life: whoever finds it closed is ordered after the caller. Under the lock.
#[inline(always)]
pub(crate) fn closes(chan: &Chan) {
    if race::enabled() {
        race::release_merge(object(chan));
    }
}

#[inline(always)]
pub(crate) fn finds_closed(chan: &Chan) {
    if race::enabled() {
        inside(|| race::acquire(object(chan)));
    }
}

/// An element passes through a slot of a bounded buffer, in or out, on behalf of the caller or of the parked `g`.
///
/// # Safety
///
/// The caller holds the channel's lock; the baton is that of a slot; `g` is parked, and the caller's to wake.
#[inline(always)]
pub(crate) unsafe fn slot_passed(baton: Option<NonNull<Baton>>, g: Option<GRef>) {
    if let Some(mut baton) = baton {
        // SAFETY: by the contract.
        let baton = unsafe { baton.as_mut() };
        match g {
            None => baton.pass(None),
            Some(g) => {
                // SAFETY: by the contract.
                let ctx = unsafe { g.race_ctx() };
                ctx.into_iter().for_each(|g| baton.pass(Some(g)));
            }
        }
    }
}

/// The last receiver's end takes an element out of a slot of a bounded buffer.
///
/// # Safety
///
/// The caller alone uses the channel; the baton is that of a slot.
#[inline(always)]
pub(crate) unsafe fn slot_discarded(baton: Option<NonNull<Baton>>) {
    if let Some(mut baton) = baton {
        // SAFETY: by the contract.
        inside(|| unsafe { baton.as_mut() }.pass(None));
    }
}

/// A bounded buffer ends.
#[inline(always)]
pub(crate) fn slots_end(slots: Option<&mut [Baton]>) {
    if let Some(slots) = slots {
        inside(|| slots.iter_mut().for_each(|slot| drop(mem::take(slot))));
    }
}

/// An element goes into a slot of an unbounded buffer.
///
/// # Safety
///
/// As for [`slot_passed`].
#[inline(always)]
pub(crate) unsafe fn slot_filled(baton: Option<NonNull<Baton>>) {
    if let Some(mut baton) = baton {
        // SAFETY: by the contract.
        unsafe { baton.as_mut() }.release();
    }
}

/// An element comes out of a slot of an unbounded buffer.
///
/// # Safety
///
/// As for [`slot_passed`], or the caller alone uses the channel.
#[inline(always)]
pub(crate) unsafe fn slot_emptied(baton: Option<NonNull<Baton>>) {
    if let Some(mut baton) = baton {
        // SAFETY: by the contract.
        inside(|| unsafe { baton.as_mut() }.take());
    }
}

/// The caller sends into an unbounded channel straight to the parked receiver `g`: one edge, from sender to receiver.
///
/// # Safety
///
/// `g` is parked, and the caller's to wake.
#[inline(always)]
pub(crate) unsafe fn handed_over(g: GRef) {
    if race::enabled()
        // SAFETY: by the contract.
        && let Some(ctx) = unsafe { g.race_ctx() }
    {
        race::pass_g(ctx);
    }
}

/// The caller and the parked `g` meet: edges both ways.
///
/// # Safety
///
/// As for [`handed_over`].
#[inline(always)]
pub(crate) unsafe fn met(g: GRef) {
    if race::enabled()
        // SAFETY: by the contract.
        && let Some(ctx) = unsafe { g.race_ctx() }
    {
        race::meet_g(ctx);
    }
}

/// A timer channel is made: what happened before is visible to who receives its messages.
#[inline(always)]
pub(crate) fn clock_starts(chan: &Chan) {
    if race::enabled() {
        inside(|| race::release_merge(object(chan)));
    }
}

#[inline(always)]
pub(crate) fn handle_dropped(count: usize) {
    if race::enabled() {
        inside(|| race::release_merge(count));
    }
}

#[inline(always)]
pub(crate) fn last_handle_dropped(count: usize) {
    if race::enabled() {
        inside(|| race::acquire(count));
    }
}
