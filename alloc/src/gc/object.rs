//! What the collector knows of an object: its kind, and the header of those that have destructors.
//!
//! # Blocking
//!
//! Allocation may run a collection first, which blocks the OS thread until marking is done; it parks no goroutine.

use super::{cycle, sweep};
use crate::{arena, heap};
use raddle_race::Pc;
use std::alloc::Layout;
use std::ptr;
use std::sync::atomic::AtomicPtr;

/// What the collector does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing: the program frees it. While it lives it is scanned.
    Manual = 0,
    /// Scans it for pointers.
    Scan = 1,
    /// Does not scan it: there are no pointers in it.
    NoScan = 2,
    /// Scans it, and has its destructor run before it goes. It begins with a [`Header`].
    Finalized = 3,
}

/// The type of a [`Header`]'s state.
pub type State = crate::sync::AtomicU32;

/// Those that are collected.
pub(crate) const COLLECTED: [Kind; 3] = [Kind::Scan, Kind::NoScan, Kind::Finalized];

/// The start of every [`Kind::Finalized`] object; its value lies behind it.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    /// Drops the value in place. Called once, with the header's address.
    pub drop: unsafe fn(*mut Header),
    /// One of [`state`].
    pub state: State,
    /// For `drop`: the number of elements, where the value is a slice.
    pub len: usize,
    /// The next in the queue of objects to be dropped. The collector's.
    pub next: AtomicPtr<Header>,
}

/// The life of a [`Header`].
///
/// `INITIALISING` (as allocated) to `LIVE`, by the program, when the value is whole; to `QUEUED` or
/// `FIRST`, by the collector, when the object was found dead; to `DROPPED`, by
/// [`next_to_drop`](super::next_to_drop), or back to `LIVE`, by that too or by [`save`](super::save):
/// then a later cycle may find it dead again. A dead object in any state but `LIVE` is freed.
pub mod state {
    /// There is no value in it yet: no destructor will run. Zero, as fresh memory is.
    pub const INITIALISING: u32 = 0;
    /// Its destructor will run once it is dead.
    pub const LIVE: u32 = 1;
    /// Found dead: the destructor is to run, unless something is saved that may lead here.
    pub const QUEUED: u32 = 2;
    /// The destructor has begun.
    pub const DROPPED: u32 = 3;
    /// As `QUEUED`, but nothing that is saved can lead here.
    pub const FIRST: u32 = 4;
}

/// Allocates a collected object, or a manual one. Null when out of memory.
///
/// The contents are undefined, but for what lies behind `layout.size()` in an object of a scanned kind, which holds no
/// pointers, and the state of a [`Header`], which is [`state::INITIALISING`]. `pc` is shown by the detector as where it was allocated.
///
/// **Blocking**: may run a collection first, which blocks the OS thread. Parks nothing.
///
/// # Panics
///
/// If it is to begin with a [`Header`], and has no room for one.
#[inline]
pub fn allocate(layout: Layout, kind: Kind, pc: Pc) -> *mut u8 {
    check(layout, kind);
    let object = match heap::allocate_fast(layout, kind) {
        Some(object) => object,
        None => allocate_slow(layout, kind, pc, false),
    };
    begin(object, kind)
}

/// As [`allocate`], with zeros in it.
///
/// # Panics
///
/// As [`allocate`].
pub fn allocate_zeroed(layout: Layout, kind: Kind, pc: Pc) -> *mut u8 {
    check(layout, kind);
    begin(allocate_slow(layout, kind, pc, true), kind)
}

/// Costs nothing where layout and kind are constants.
#[inline(always)]
fn check(layout: Layout, kind: Kind) {
    let header = Layout::new::<Header>();
    assert!(
        kind != Kind::Finalized
            || (layout.size() >= header.size() && layout.align() >= header.align()),
        "an object with a destructor begins with a header"
    );
}

/// Before memory is out, what is dead is collected.
#[cold]
fn allocate_slow(layout: Layout, kind: Kind, pc: Pc, zeroed: bool) -> *mut u8 {
    let object = heap::allocate(layout, kind, pc, zeroed);
    if object.is_null() && kind != Kind::Manual && cycle::collect() {
        while sweep::sweep_some(usize::MAX) {}
        return heap::allocate(layout, kind, pc, zeroed);
    }
    object
}

/// Makes every place of a span that is new to the kind [`Kind::Finalized`] one without a value.
///
/// A place that a thread took, and for which it has not yet been to [`begin`], is not told from an
/// object. While the thread is there it holds the place; but in a child of `fork` it may not be. So
/// whatever lies in a place without an object has another state than `LIVE`: what was swept has, and
/// the rest is seen to here.
pub(crate) fn format(places: impl Iterator<Item = usize>) {
    places.for_each(|place| begins(arena::pointer(place).cast()));
}

/// What was left in the place of a header must not be taken for one, should the caller give the object up before it has written its own.
#[inline(always)]
fn begin(object: *mut u8, kind: Kind) -> *mut u8 {
    if kind == Kind::Finalized && !object.is_null() {
        begins(object.cast());
    }
    object
}

/// There is no value in this place of kind Finalized.
#[inline(always)]
fn begins(object: *mut Header) {
    // SAFETY: places of the kind have room for a header (`check`), and this one is the caller's
    // alone.
    let state = unsafe { &raw mut (*object).state };
    // SAFETY: as above.
    unsafe { ptr::write(state, State::new(state::INITIALISING)) };
}

/// The header of a finalized object.
pub(super) fn header(object: usize) -> &'static Header {
    // SAFETY: the caller passes an allocated object of kind Finalized, whose first bytes are atomics and words of any value; nobody
    // else touches it while the world stands.
    unsafe { &*ptr::with_exposed_provenance::<Header>(object) }
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Header>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of a header was written to behind the end of the object.
    #[test]
    fn an_object_with_a_destructor_has_room_for_its_header() {
        let allocated = |layout| {
            let made = || allocate(layout, Kind::Finalized, Pc::NONE);
            std::panic::catch_unwind(made).is_ok_and(|object| !object.is_null())
        };
        assert!(!allocated(Layout::new::<u8>()));
        assert!(!allocated(Layout::new::<[usize; 3]>()));
        assert!(!allocated(Layout::new::<[u8; 64]>()));
        assert!(allocated(Layout::new::<Header>()));
    }
}
