//! Slabs: reserved ranges of address space, each full of slots of one class.
//!
//! # Invariants
//! 1. A slab is never unmapped and its record never freed, so a record once seen stays right.
//! 2. Records are only ever pushed in front; `next` of a published record never changes.
//!
//! # Memory ordering
//! `publish`: compare-exchange Release of the head ⇄ `slab_of`: load Acquire of the head, which
//! makes the whole record and those behind it visible.
//!
//! # Blocking
//! `slab_of` takes no lock and allocates nothing: the SIGSEGV handler calls it.
//!
//! # Why not
//! Huge pages: with `transparent_hugepage=always` one touched byte would commit 2 MiB, so slabs
//! are `MADV_NOHUGEPAGE`, set on the whole slab at once: on one slot it would split the mapping.

use super::StackError;
use super::class::Class;
use super::guard::errno;
use std::ops::Range;
use std::sync::atomic::{
    AtomicPtr, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// The first slab of a class, in bytes, where that is enough for [`MIN_SLOTS`].
const FIRST_BYTES: usize = 64 << 20;
/// The largest slab, in bytes, where that is enough for [`MIN_SLOTS`].
const LARGEST_BYTES: usize = 64 << 30;
/// The least slots of a slab, unless address space is short.
const MIN_SLOTS: usize = 4;

/// A reserved range, full of slots of one class.
#[derive(Debug)]
pub(super) struct Slab {
    pub(super) range: Range<usize>,
    pub(super) class: Class,
    next: *const Slab,
}

static SLABS: AtomicPtr<Slab> = AtomicPtr::new(std::ptr::null_mut());
static RESERVED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Returns the size of the slab that follows one of `last_bytes` (0: none yet).
pub(super) fn next_bytes(class: Class, last_bytes: usize) -> usize {
    let wanted = (last_bytes * 2).clamp(FIRST_BYTES, LARGEST_BYTES);
    wanted.max(class.bytes() * MIN_SLOTS)
}

/// Reserves a slab of `class` of about `bytes`; less, down to one slot, where the kernel refuses.
pub(super) fn reserve(class: Class, mut bytes: usize) -> Result<Range<usize>, StackError> {
    loop {
        match map(bytes) {
            Ok(start) => {
                let range = start..start + bytes;
                publish(range.clone(), class);
                RESERVED_BYTES.fetch_add(bytes, Relaxed); // a statistic
                return Ok(range);
            }
            Err(errno) if bytes == class.bytes() => {
                return Err(StackError::Reserve { bytes, errno });
            }
            // Strict overcommit counts reservations, and RLIMIT_AS address space: ask for less.
            Err(_) => bytes = (bytes / 2).max(class.bytes()),
        }
    }
}

fn map(bytes: usize) -> Result<usize, i32> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no other.
    let start = unsafe { raddle_race::sys::map(std::ptr::null_mut(), bytes, protection, flags) };
    if start == libc::MAP_FAILED {
        return Err(errno());
    }
    // A kernel without huge pages refuses this, and then needs it not.
    // SAFETY: the range is the mapping just made.
    unsafe { libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE) };
    Ok(start as usize)
}

fn publish(range: Range<usize>, class: Class) {
    let slab = Box::leak(Box::new(Slab {
        range,
        class,
        next: std::ptr::null(),
    }));
    let mut head = SLABS.load(Relaxed);
    loop {
        slab.next = head;
        match SLABS.compare_exchange_weak(head, slab, Release, Relaxed) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// Returns all slabs, the newest first. Async-signal-safe.
pub(super) fn all() -> impl Iterator<Item = &'static Slab> {
    // SAFETY: by invariants 1 and 2 a published record is live and constant for ever.
    let slab = |at: *const Slab| unsafe { at.as_ref() };
    let newest = slab(SLABS.load(Acquire)); // pairs with publish
    std::iter::successors(newest, move |before| slab(before.next))
}

/// Returns the slab that `addr` lies in. Async-signal-safe.
pub(super) fn slab_of(addr: usize) -> Option<&'static Slab> {
    all().find(|slab| slab.range.contains(&addr))
}

/// Returns the address space reserved for stacks, in bytes.
pub(super) fn reserved_bytes() -> usize {
    RESERVED_BYTES.load(Relaxed)
}
