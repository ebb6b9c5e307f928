//! Weak pointers: cells that name an object without keeping it alive.
//!
//! A cell is a collected object itself, never scanned. All cells are linked, so that the collector finds those whose target died:
//! after marking it clears those whose target was not reached. That is before destructors are queued: what a destructor may still see
//! can not be reached by a weak pointer any more. Afterwards it takes the dead cells out: not before, since a destructor may reach, and
//! save, a cell that was dead.
//!
//! # Invariants
//!
//! 1. A cell that has a target is linked; the caller of [`weak_set`] holds the target meanwhile.
//! 2. Between the read of a target and the end of the busy section of [`weak_get`] the world does not stop. At its end the address is in
//!    a register or on the stack, where the collector finds it.
//! 3. The links are not visible to the marker, which would keep every cell alive: cells are not scanned, and the first link is
//!    kept inverted, since statics are roots.

use super::mark;
use super::object::{self, Kind};
use crate::arena;
use crate::thread::{busy, this_thread};
use raddle_race::Pc;
use std::alloc::Layout;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::*};

/// A weak pointer's place.
#[derive(Debug)]
#[repr(C)]
pub struct WeakCell {
    target: AtomicPtr<u8>,
    /// The address of the next cell, or 0.
    next: AtomicUsize,
}

/// The address of the first cell, inverted.
static FIRST: AtomicUsize = AtomicUsize::new(!0);

fn cell(addr: usize) -> Option<&'static WeakCell> {
    // SAFETY: 0, or a linked cell, with the world stopped: it is unlinked before it is freed.
    unsafe { ptr::with_exposed_provenance::<WeakCell>(addr).as_ref() }
}

/// Makes a weak pointer to the object around `target`, which may be null: to be set later. Null when out of memory.
///
/// **Blocking**: as [`allocate`](super::allocate).
pub fn weak_new(target: *mut u8) -> *mut WeakCell {
    let made =
        object::allocate(Layout::new::<WeakCell>(), Kind::NoScan, Pc::NONE).cast::<WeakCell>();
    if made.is_null() {
        return made;
    }
    let new = WeakCell {
        target: AtomicPtr::default(),
        next: AtomicUsize::new(0),
    };
    // SAFETY: fresh, and so large.
    unsafe { made.write(new) };
    // SAFETY: just written; this function's own until it returns, and reached from its stack.
    let new = unsafe { &*made };
    let addr = made.expose_provenance();
    let mut first = FIRST.load(Relaxed);
    // Cells are taken out with the world stopped only, so a first cell that is the same is still the first.
    loop {
        new.next.store(!first, Relaxed);
        match FIRST.compare_exchange_weak(first, !addr, AcqRel, Relaxed) {
            Ok(_) => break,
            Err(now) => first = now,
        }
    }
    // Linked first (invariant 1).
    new.target.store(target, Release);
    made
}

/// Lets a cell that was made without a target name the object around `target`.
///
/// # Safety
///
/// `cell` came from [`weak_new`]; it, and the object, are held by the caller.
pub unsafe fn weak_set(cell: *mut WeakCell, target: *mut u8) {
    // SAFETY: by the contract.
    unsafe { &*cell }.target.store(target, Release);
}

/// The target, or null once it was found dead.
///
/// **Happens-before**: none; the object was published by whoever handed the weak pointer on.
///
/// # Safety
///
/// `cell` came from [`weak_new`] and is held by the caller.
pub unsafe fn weak_get(cell: *mut WeakCell) -> *mut u8 {
    busy(this_thread(), || {
        // SAFETY: by the contract.
        unsafe { &*cell }.target.load(Acquire)
    })
}

fn is_marked(addr: usize) -> bool {
    let Some(span) = arena::span_of(addr) else {
        return true;
    };
    // What is not a collected object does not die.
    mark::candidate(span, addr).is_none_or(|index| span.is_marked(index))
}

/// After marking, before destructors are queued; the world is stopped: cells of dead objects are cleared, those that are dead themselves too: a
/// destructor may still look at them, and keep them.
pub(super) fn clear_dead() {
    let mut at = !FIRST.load(Relaxed);
    while let Some(this) = cell(at) {
        if !is_marked(this.target.load(Relaxed).addr()) {
            this.target.store(ptr::null_mut(), Relaxed);
        }
        at = this.next.load(Relaxed);
    }
}

/// When all is marked, what destructors reach included; the world is stopped: dead cells are unlinked.
pub(super) fn unlink_dead() {
    let mut at = !FIRST.load(Relaxed);
    let mut last: Option<&WeakCell> = None;
    while let Some(this) = cell(at) {
        let next = this.next.load(Relaxed);
        if is_marked(at) {
            match last {
                Some(last) => last.next.store(at, Relaxed),
                None => FIRST.store(!at, Relaxed),
            }
            last = Some(this);
        }
        at = next;
    }
    match last {
        Some(last) => last.next.store(0, Relaxed),
        None => FIRST.store(!0, Relaxed),
    }
}
