//! The edges of happens-before that runtime and user announce, keyed by address.
//!
//! Every sync object holds one clock M, every goroutine one clock C:
//!
//! | call | effect |
//! | --- | --- |
//! | acquire | C joins M |
//! | release | M becomes C |
//! | release_merge | M joins C |
//! | release_acquire | M becomes C as it was, C joins M as it was |
//!
//! After a release the goroutine's epoch moves on, so that what it does next is not covered.
//!
//! # Blocking
//! Neither parks nor allocates from the heap; the object's spin lock is held for the copy or join.

use crate::ctx::{ClockBox, Ctx, GoCtx};
use crate::current::current;
use crate::{slot, sync};

fn do_acquire(c: &mut Ctx, addr: usize) {
    if c.watches_sync()
        && let Some(mut held) = sync::find(addr)
        && let Some(clock) = held.clock().get()
    {
        c.acquire(clock);
    }
}

fn do_release(c: &mut Ctx, addr: usize) {
    if c.watches_sync()
        && let Some(mut held) = sync::find_or_make(addr)
    {
        held.clock().get_or_new().copy_from(&c.clock);
        drop(held);
        slot::tick(c);
    }
}

fn do_release_merge(c: &mut Ctx, addr: usize) {
    if c.watches_sync()
        && let Some(mut held) = sync::find_or_make(addr)
    {
        let closed = held.clock().get_or_new().join(&c.clock);
        drop(held);
        c.note_closed(closed);
        slot::tick(c);
    }
}

fn do_release_acquire(c: &mut Ctx, addr: usize) {
    if c.watches_sync()
        && let Some(mut held) = sync::find_or_make(addr)
    {
        let m = held.clock().get_or_new();
        // A third clock for the exchange: from the pool, since a goroutine's stack should stay small.
        let mut before = ClockBox::NONE;
        before.get_or_new().copy_from(&c.clock);
        c.acquire(m);
        if let Some(before) = before.get() {
            m.copy_from(before);
        }
        before.release();
        drop(held);
        slot::tick(c);
    }
}

macro_rules! edges {
    ($($(#[$doc:meta])* $here:ident, $there:ident, $body:ident;)*) => {$(
        $(#[$doc])*
        #[inline(never)]
        pub fn $here(addr: usize) {
            if let Some(ctx) = current() {
                $body(ctx.get(), addr);
            }
        }

        #[doc = concat!("[`", stringify!($here), "`] on behalf of another goroutine, which is parked and cannot run meanwhile.")]
        #[inline(never)]
        pub fn $there(ctx: GoCtx, addr: usize) {
            $body(ctx.get(), addr);
        }
    )*};
}

edges! {
    /// The current goroutine is ordered after what was released at `addr`.
    acquire, acquire_g, do_acquire;
    /// Who acquires `addr` from now on is ordered after the current goroutine so far, and after nobody else.
    release, release_g, do_release;
    /// Who acquires `addr` from now on is ordered after the current goroutine so far too.
    release_merge, release_merge_g, do_release_merge;
    /// Acquires what was released at `addr`, and releases what the current goroutine did before this call.
    release_acquire, release_acquire_g, do_release_acquire;
}
