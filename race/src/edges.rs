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
//! A [`Baton`] is such an object that somebody keeps instead of an address.
//!
//! Where one of two goroutines is parked and the other acts for both, no object is needed: [`pass_g`] and [`meet_g`] go from clock to clock.
//!
//! After a release the goroutine's epoch moves on, so that what it does next is not covered.
//!
//! # Blocking
//! Neither parks nor allocates from the heap; the object's spin lock is held for the copy or join.

use crate::ctx::{Ctx, GoCtx};
use crate::current::current;
use crate::mem::Busy;
use crate::sync::{Baton, Held};
use crate::{slot, sync};

fn do_acquire(c: &mut Ctx, addr: usize) {
    if c.watches_sync()
        && let Some(seen) = sync::glance(addr)
        && !seen.is_known_to(c, false)
        && let Some(mut held) = seen.lock()
    {
        held.acquire(c);
    }
}

/// A change of the address's object by `what`, after which the goroutine's epoch moves on.
fn do_change(c: &mut Ctx, addr: usize, what: impl FnOnce(&mut Held, &mut Ctx)) {
    if c.watches_sync()
        && let Some(held) = sync::find_or_make(addr)
    {
        change(c, held, what);
    }
}

fn change(c: &mut Ctx, mut held: Held, what: impl FnOnce(&mut Held, &mut Ctx)) {
    let _busy = Busy::new();
    what(&mut held, c);
    drop(held);
    slot::tick(c);
}

fn do_release(c: &mut Ctx, addr: usize) {
    do_change(c, addr, Held::release);
}

fn do_release_merge(c: &mut Ctx, addr: usize) {
    do_change(c, addr, Held::release_merge);
}

fn do_release_acquire(c: &mut Ctx, addr: usize) {
    do_change(c, addr, Held::release_acquire);
}

impl Baton {
    /// [`release_acquire`] of the baton, by the current goroutine or on behalf of `parked`, which cannot run meanwhile.
    #[inline(never)]
    pub fn pass(&mut self, parked: Option<GoCtx>) {
        if let Some(ctx) = parked.or_else(current) {
            let c = ctx.get();
            if c.watches_sync() {
                change(c, self.held(), Held::release_acquire);
            }
        }
    }

    /// [`release`] to the baton by the current goroutine.
    #[inline(never)]
    pub fn release(&mut self) {
        if let Some(ctx) = current() {
            let c = ctx.get();
            if c.watches_sync() {
                change(c, self.held(), Held::release);
            }
        }
    }

    /// [`acquire`] from the baton by the current goroutine; it is a new one then, and its memory others'.
    #[inline(never)]
    pub fn take(&mut self) {
        let mut taken = std::mem::take(self);
        if let Some(ctx) = current() {
            let c = ctx.get();
            if c.watches_sync() {
                taken.held().acquire(c);
            }
        }
    }
}

/// The current goroutine hands something to another, which is parked and cannot run meanwhile: that one is ordered after what this one has
/// done so far.
#[inline(never)]
pub fn pass_g(to: GoCtx) {
    between(to, |c, g| {
        g.acquire(&c.clock);
        slot::tick(c);
    });
}

/// The current goroutine meets another, which is parked and cannot run meanwhile: each is ordered after what the other has done so far.
#[inline(never)]
pub fn meet_g(other: GoCtx) {
    between(other, |c, g| {
        c.acquire(&g.clock);
        g.clock.copy_from(&c.clock);
        slot::tick(c);
        slot::tick(g);
    });
}

/// The current goroutine and another one, if the synchronisation of both counts.
fn between(other: GoCtx, what: impl FnOnce(&mut Ctx, &mut Ctx)) {
    if let Some(me) = current()
        && me != other
    {
        let (c, g) = (me.get(), other.get());
        if c.watches_sync() && g.watches_sync() {
            let _busy = Busy::new();
            what(c, g);
        }
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
