//! The collector.

pub(crate) mod sweep;

use raddle_race::Pc;
use std::alloc::Layout;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

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
    /// Scans it, and has its destructor run before it goes. It begins with a header.
    Finalized = 3,
}

/// What freed memory is filled with, where it is.
pub(crate) const POISON: u8 = 0xdb;

static POISONS: AtomicBool = AtomicBool::new(false);
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// Whether freed memory is filled with [`POISON`].
pub(crate) fn poisons() -> bool {
    POISONS.load(Relaxed)
}

/// Something is about to be allocated by the slow path, outside any busy section.
pub(crate) fn before_allocation(_kind: Kind) {}

/// A thread's cache was given so many bytes of a kind. In a busy section.
pub(crate) fn note_allocated(kind: Kind, bytes: usize) {
    if kind != Kind::Manual {
        ALLOCATED.fetch_add(bytes, Relaxed);
    }
}

/// Allocates a collected object.
pub fn allocate(layout: Layout, kind: Kind, pc: Pc) -> *mut u8 {
    crate::heap::allocate(layout, kind, pc, false)
}
