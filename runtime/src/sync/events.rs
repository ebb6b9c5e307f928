//! What the primitives tell the race detector: each call is one predictable branch when race mode is off.
//!
//! The tails are out of line, and enter the runtime first: a thread's context, and the P whose caches the detector
//! uses, are there only inside.

use raddle_race::{self as race, Pc};
use raddle_sched::{GRef, enter};
use std::panic::Location;

/// The address under which the detector knows `object`.
#[inline]
pub(crate) fn addr<T: ?Sized>(object: &T) -> usize {
    std::ptr::from_ref(object).cast::<()>().addr()
}

macro_rules! sync_events {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(addr: usize) {
            #[cold]
            #[inline(never)]
            fn tell(addr: usize) {
                let _inside = enter();
                race::$name(addr);
            }
            if race::enabled() {
                tell(addr);
            }
        }
    )*};
}

sync_events! {
    /// The caller is ordered after what was released on `addr`.
    acquire
    /// What the caller did is ordered before the next acquire on `addr`, in place of what others released.
    release
    /// As `release`, in addition to what others released.
    release_merge
}

/// Orders the parked goroutine `g` after what was released on `addr`.
///
/// # Safety
///
/// It is parked, and the caller's to wake.
#[inline(always)]
pub(crate) unsafe fn acquire_for(g: GRef, addr: usize) {
    if race::enabled()
        // SAFETY: by the contract.
        && let Some(ctx) = unsafe { g.race_ctx() }
    {
        race::acquire_g(ctx, addr);
    }
}

macro_rules! access_events {
    ($($(#[$doc:meta])* $name:ident = $small:ident / $range:ident)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(addr: usize, size: usize, at: &'static Location<'static>) {
            #[cold]
            #[inline(never)]
            fn tell(addr: usize, size: usize, at: &'static Location<'static>) {
                let _inside = enter();
                match size {
                    0 => {}
                    1 | 2 | 4 | 8 | 16 => race::$small(addr, size, Pc::at(at)),
                    _ => race::$range(addr, size, Pc::at(at)),
                }
            }
            if race::enabled() {
                tell(addr, size, at);
            }
        }
    )*};
}

access_events! {
    /// A plain read of `size` bytes by the code at `at`.
    read = read / read_range
    /// A read of `size` bytes, among which there may be atomics, by the code at `at`.
    read_cells = read_cells / read_cells
    /// A plain write of `size` bytes by the code at `at`.
    write = write / write_range
}

macro_rules! racing_events {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(addr: usize, at: &'static Location<'static>) -> bool {
            #[cold]
            #[inline(never)]
            fn tell(addr: usize, at: &'static Location<'static>) -> bool {
                let _inside = enter();
                race::$name(addr, 8, Pc::at(at))
            }
            race::enabled() && tell(addr, at)
        }
    )*};
}

racing_events! {
    /// A plain read of the eight bytes at `addr`; returns whether it races.
    read_races
    /// A plain write of the eight bytes at `addr`; returns whether it races.
    write_races
}

/// `size` fresh bytes at `addr`, as if the code at `at` had just written them. The heap has said so too, if it is Raddle's; this
/// says where in the program, rather than where in a container.
#[inline(always)]
pub(crate) fn born(addr: usize, size: usize, at: &'static Location<'static>) {
    if race::enabled() {
        let _inside = enter();
        race::malloc(addr, size, Pc::at(at));
    }
}

/// The object at `addr` is gone: what comes to lie there has nothing to do with it.
///
/// The heap announces the end of blocks, not of what is in them: an object on a goroutine's stack, in a static, in a `Vec`
/// or an enum that lives on, makes room for others without a free. And a program may have another global allocator,
/// which announces nothing.
#[inline(always)]
pub(crate) fn gone(addr: usize, size: usize) {
    if race::enabled() {
        let _inside = enter();
        race::clear_shadow(addr, size);
    }
}
