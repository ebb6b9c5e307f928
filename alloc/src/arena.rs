//! The arena: the addresses that the heap's objects lie at, and the table that finds the span of each.
//!
//! # Layout
//!
//! | from | to | what |
//! | --- | --- | --- |
//! | `0x0080_0000_0000` | + 2 GiB | the table: a pointer to the span for every page of the arena |
//! | `0x01d3_0000_0000` | `0x0300_0000_0000` | the arena: 1.2 TiB, in chunks of 4 MiB |
//!
//! Addresses should look like nothing else, since the collector takes any such word for a pointer. Their upper half is 467 or a little more,
//! which is no power of two, no sum of bytes that are 0 or 1, and no text: an arena at 1 TiB was found all over arrays of bool and pairs of
//! small integers.
//!
//! Both are mapped as the heap grows: a chunk, and the 4 KiB of the table that serve it. Linux puts nothing there by itself
//! (programs, mappings and stacks lie above 64 TiB, or below 4 GiB), and the detector's shadow begins at 4 TiB. Where something lies in
//! the way all the same, the chunk is left out.
//!
//! # Invariants
//!
//! 1. For every page below `USED` the table's entry is mapped, and null or a span that was once there; spans' memory is never unmapped.
//! 2. Chunks are never unmapped, only their pages given back to the kernel.
//!
//! # Memory ordering
//!
//! `grow: store Release USED` ⇄ `span_of: load Acquire`: the table behind it. `set: store Release` ⇄ `span_of: load Acquire`: the
//! span's fields. An address that belongs to a live object was handed on by its owner, which orders more than that.
//!
//! # Why not
//!
//! *One reservation* for the whole arena (the plan, by memmap2): it would show as terabytes of virtual memory, count
//! against `ulimit -v` and fail under strict overcommit; mapping at fixed addresses, which memmap2 cannot do, needs none.
//! *A header in every chunk*: an interior address of an object of many chunks would not find it.
//!
//! # References
//!
//! Go `runtime/malloc.go`, arenas by address hints.

use crate::class::{PAGE, PAGE_BITS};
use crate::span::Span;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};

/// The lowest address of the arena.
pub(crate) const START: usize = 0x01d3_0000_0000;
/// Its length at most, in bytes.
const MAX_BYTES: usize = 0x0300_0000_0000 - START;
const TABLE: usize = 0x0080_0000_0000;
/// What the arena grows by, in bytes: what a page of the table serves.
pub(crate) const CHUNK: usize = 4 << 20;
/// Pages of a chunk.
pub(crate) const CHUNK_PAGES: usize = CHUNK / PAGE;
const TABLE_PAGE: usize = CHUNK_PAGES * size_of::<usize>();

/// Bytes of the arena below which chunks are mapped or left out for good.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Bytes below `USED` that are not mapped because something else was.
static HOLES: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the arena that the detector was told of.
static ANNOUNCED: AtomicUsize = AtomicUsize::new(0);

/// Of each chunk that is not mapped because something else was, a bit.
static IS_HOLE: [AtomicU64; (MAX_BYTES / CHUNK).div_ceil(64)] =
    [const { AtomicU64::new(0) }; (MAX_BYTES / CHUNK).div_ceil(64)];

/// Shows the addresses of the table and of the arena, in order. The collector finds live objects by itself.
pub fn own_memory(show: &mut dyn FnMut(Range<usize>)) {
    show(TABLE..TABLE_MAPPED.load(Relaxed));
    let end = START + USED.load(Acquire); // pairs with grow
    if HOLES.load(Relaxed) == 0 {
        return show(START..end);
    }
    for (chunk, at) in (START..end).step_by(CHUNK).enumerate() {
        if IS_HOLE[chunk / 64].load(Relaxed) >> (chunk % 64) & 1 == 0 {
            show(at..at + CHUNK);
        }
    }
}

/// Bytes mapped so far.
pub(crate) fn mapped_bytes() -> usize {
    let holes = HOLES.load(Acquire); // pairs with grow: who sees a hole sees that it is below `USED`
    USED.load(Relaxed) - holes
}

/// Pages below the end, holes included.
pub(crate) fn pages() -> usize {
    USED.load(Acquire) >> PAGE_BITS // pairs with grow
}

fn entry(page: usize) -> &'static AtomicPtr<Span> {
    let at = TABLE + page * size_of::<usize>();
    // SAFETY: callers pass a page below `USED`: mapped by invariant 1, zero or a pointer, for ever.
    unsafe { &*ptr::with_exposed_provenance::<AtomicPtr<Span>>(at) }
}

/// The span that the page is part of.
#[inline]
pub(crate) fn span_of_page(page: usize) -> Option<&'static Span> {
    // SAFETY: null or a span, by invariant 1.
    unsafe { entry(page).load(Acquire).as_ref() } // pairs with set
}

/// The span around any address; `None` outside the heap.
#[inline]
pub(crate) fn span_of(addr: usize) -> Option<&'static Span> {
    let offset = addr.wrapping_sub(START);
    if offset >= USED.load(Acquire) {
        return None; // pairs with grow
    }
    span_of_page(offset >> PAGE_BITS)
}

/// The number of the page at an address of the arena.
pub(crate) fn page_at(addr: usize) -> usize {
    (addr - START) >> PAGE_BITS
}

/// Enters a span for `n` pages from `page`.
pub(crate) fn set(page: usize, n: usize, span: *const Span) {
    for i in page..page + n {
        entry(i).store(span.cast_mut(), Release); // pairs with span_of_page
    }
}

/// Maps at least `bytes` more, as one piece. Returns its address and length. To be called under the page heap's lock.
pub(crate) fn grow(bytes: usize) -> Option<(usize, usize)> {
    let bytes = bytes.checked_next_multiple_of(CHUNK)?;
    let mut at = USED.load(Relaxed);
    loop {
        if bytes > MAX_BYTES.saturating_sub(at) {
            return None;
        }
        let tables = bytes / CHUNK * TABLE_PAGE;
        let table = TABLE + at / CHUNK * TABLE_PAGE;
        // An earlier try may have mapped some of it, and left it for good.
        let (from, to) = (table.max(TABLE_MAPPED.load(Relaxed)), table + tables);
        if from < to {
            match map_at(from, to - from) {
                Ok(()) => {}
                // Nothing but a heap has this address.
                Err(libc::EEXIST) if from == TABLE => crate::fatal(
                    "two copies of Raddle's runtime are in this process, which has room for one: link what uses Raddle into one \
                     program or library, or load each in a process of its own",
                ),
                Err(_) => return None,
            }
            TABLE_MAPPED.store(to, Relaxed);
        }
        match map_at(START + at, bytes) {
            Ok(()) => {
                raddle_race::reserve_shadow(START + at, bytes);
                USED.store(at + bytes, Release); // pairs with pages and span_of
                return Some((START + at, bytes));
            }
            Err(libc::EEXIST) => {
                // Something lies in the way: leave a chunk out.
                let chunk = at / CHUNK;
                IS_HOLE[chunk / 64].fetch_or(1 << (chunk % 64), Relaxed);
                at += CHUNK;
                USED.store(at, Release);
                HOLES.fetch_add(CHUNK, Release); // pairs with mapped_bytes
            }
            Err(_) => return None,
        }
    }
}

/// The end of what is mapped of the table.
static TABLE_MAPPED: AtomicUsize = AtomicUsize::new(TABLE);

fn map_at(addr: usize, bytes: usize) -> Result<(), i32> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags =
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let wanted = ptr::without_provenance_mut(addr);
    // SAFETY: NOREPLACE refuses to touch what is mapped there.
    let at = unsafe { raddle_race::sys::map(wanted, bytes, protection, flags) };
    if at == libc::MAP_FAILED {
        // SAFETY: no preconditions.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: this thread's errno.
        return Err(unsafe { *errno });
    }
    if at.addr() != addr {
        // A kernel before 4.17 takes the address for a hint.
        // SAFETY: mapped above, not used.
        unsafe { raddle_race::sys::unmap(at, bytes) };
        return Err(libc::EEXIST);
    }
    at.expose_provenance();
    Ok(())
}

/// A pointer to an address of the arena.
#[inline(always)]
pub(crate) fn pointer(addr: usize) -> *mut u8 {
    ptr::with_exposed_provenance_mut(addr)
}

/// Tells the detector of what the arena has grown by. Not to be called in a busy section.
#[inline]
pub(crate) fn announce() {
    let used = USED.load(Acquire);
    if raddle_race::enabled() && ANNOUNCED.load(Relaxed) < used {
        announce_slow(used);
    }
}

#[cold]
fn announce_slow(used: usize) {
    let from = ANNOUNCED.fetch_max(used, Relaxed);
    if from < used {
        raddle_race::map_shadow(START + from, used - from);
    }
}

/// Gives the pages' memory back to the kernel: they read as zeros. False: the kernel refuses, as for memory that is locked.
pub(crate) fn release(addr: usize, bytes: usize) -> bool {
    // SAFETY: whole pages of the arena that nobody uses.
    unsafe { libc::madvise(pointer(addr).cast(), bytes, libc::MADV_DONTNEED) == 0 }
}
