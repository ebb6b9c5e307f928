//! Whose events these are: the one thread-local of the detector, and the switches that set it.
//!
//! # Invariants
//! 1. `CURRENT` is None or a live context that belongs to what runs on this thread (or on this goroutine's own
//!    thread-local block).
//!
//! # Why not
//! A borrowed `LocalKey` value: the address of a thread-local must not be kept over a switch. `current` is never
//! inlined, reads one `Cell`, const-initialised and without destructor, and returns the pointer.

use std::cell::Cell;

use crate::ctx::GoCtx;
use crate::slot::{self, NO_SLOT};

thread_local! {
    static CURRENT: Cell<Option<GoCtx>> = const { Cell::new(None) };
}

/// The calling thread's current context: whose events these are.
///
/// Never inlined: the address of a thread-local must not live over a goroutine switch.
#[inline(never)]
pub fn current() -> Option<GoCtx> {
    CURRENT.with(Cell::get)
}

/// Makes `ctx` (a `GoCtx`, or None: nothing is watched) the current context of the calling *thread-local block*.
///
/// Where thread-locals follow the goroutine, a goroutine calls this once when it starts. Where they belong to the
/// thread, the scheduler calls it at each switch, which `switch_in` and `switch_out` do already.
#[inline(never)]
pub fn set_current(ctx: impl Into<Option<GoCtx>>) {
    CURRENT.with(|c| c.set(ctx.into()));
}

/// A goroutine is about to run on this thread: it gets a slot and becomes the thread's current context.
///
/// Called on the thread's own stack (g0), for a goroutine that `switch_out` has left or that never ran. Also for a
/// foreign thread's own context, once.
///
/// # Blocking
/// Neither; one compare-exchange when the goroutine's last slot is still its own.
pub fn switch_in(ctx: GoCtx) {
    let c = ctx.get();
    if c.slot == NO_SLOT {
        slot::attach(c);
    }
    set_current(ctx);
}

/// The goroutine has left this thread: its slot may be taken, and the thread has no current context.
///
/// Must come before the goroutine can be made ready: before the unlock callback of a park.
///
/// # Blocking
/// Neither; one store.
pub fn switch_out(ctx: GoCtx) {
    slot::detach(ctx.get());
    set_current(None);
}
