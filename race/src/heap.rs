//! What the heap tells: memory comes, blocks begin and end, and memory is used for something else.
//!
//! A block's bytes are marked in bulk, page by page (`shadow::fill`): blocks of thousands of bytes come and go by the
//! million. A large block's are marked as they are touched (`pages::own`). Where a block was allocated is kept with the sync objects, under its first address; its stack is in the
//! `depot`, and is put together from the last allocation's and the calls and returns since (`history`'s landmark).
//!
//! Blocks are small and cold: what an event costs is mostly the wait for memory. So the event asks for the cells first, and
//! uses them last.
//!
//! # Blocking
//! As for accesses; and the locks of `sync` and `depot`, for a few dozen instructions each.

use std::ops::Range;

use crate::access::{bytes_in, compare, place, races};
use crate::cell::{Cell, FREED};
use crate::ctx::{Ctx, GoCtx};
use crate::current::current;
use crate::history::Event;
use crate::real_stack::with_callers;
use crate::report::Access;
use crate::shadow::{self, CELLS, CHUNK, Granule};
use crate::sync::{BlockRecord, Keep};
use crate::{Pc, is_instrumented, pages, report, sync};

/// New heap or data memory exists: maps its shadow.
///
/// # Blocking
/// Some ten system calls per run of new MiBs, under a spin lock.
pub fn map_shadow(addr: usize, size: usize) {
    shadow::map_chunks(addr, size);
}

/// Memory is about to be there, at addresses that the system did not choose: compiled code may look
/// at its shadow, with race mode on or off. To be called before it is used.
///
/// # Blocking
/// A few system calls per 64 GiB, under a spin lock.
pub fn reserve_shadow(addr: usize, size: usize) {
    if is_instrumented() {
        shadow::reserve(addr, size);
    }
}

/// The bytes of a block in one page, by what may be done with their granules.
fn each_granule_or_run(
    part: Range<usize>,
    (addr, end): (usize, usize),
    mut cut: impl FnMut(usize, u8),
    run: impl FnOnce(usize, usize),
) {
    let (mut from, mut to) = (part.start, part.end);
    if from < addr {
        cut(from, bytes_in(from, addr, end));
        from += 8;
    }
    if to > end && from < to {
        to -= 8;
        cut(to, bytes_in(to, addr, end));
    }
    run(from, to);
}

/// Forgets all that is known of `[addr, addr + size)`. Exact to the byte: what shares a granule with the ends is someone
/// else's.
fn forget(addr: usize, size: usize) {
    let ends = (addr, addr.saturating_add(size));
    let cut = |granule, bytes| Granule::of(granule).clear_bytes(bytes);
    release_chunks(addr, ends.1);
    // With the cells of whole pages go those of plane B, and the owner.
    let marks = pages::CELLS | pages::DEEP | pages::OWNED;
    pages::each_marked(addr, size, marks, |part| {
        if !pages::has(part.start, pages::CELLS) {
            if pages::is_whole(part.start, addr, ends.1) {
                return 0;
            }
            pages::write_out(part.start);
        }
        each_granule_or_run(part, ends, cut, |from, to| {
            shadow::fill(from, to, Cell::EMPTY)
        });
        0
    });
}

/// Of whole chunks the memory of the cells goes back to the system: what a program has freed costs
/// no shadow. The look at their pages takes the marks off.
fn release_chunks(addr: usize, end: usize) {
    let chunks = addr.next_multiple_of(CHUNK)..end & !(CHUNK - 1);
    for chunk in chunks.step_by(CHUNK) {
        let mut has_cells = false;
        if shadow::is_mapped(chunk) {
            pages::each_marked(chunk, CHUNK, pages::CELLS | pages::DEEP, |_| {
                has_cells = true;
                0
            });
        }
        if has_cells {
            shadow::release(chunk);
        }
    }
}

/// Blocks from here on begin and end page by page, in the table of owners.
const LARGE: usize = 16 << 10;

/// [`overwrite`], of a block.
fn overwrite_block(addr: usize, size: usize, c: &mut Ctx, access: u64) {
    if size < LARGE {
        return overwrite(addr, size, c, access);
    }
    let end = addr.saturating_add(size);
    let Range { start, end: whole } = pages::whole(addr, end);
    overwrite(addr, start - addr, c, access);
    forget(start, whole - start);
    let cell = Cell(access | u64::from(WHOLE));
    for chunk in (start & !(CHUNK - 1)..whole).step_by(CHUNK) {
        if shadow::is_watched(chunk) {
            pages::own(start.max(chunk), whole.min(chunk + CHUNK), cell);
        }
    }
    overwrite(whole, end - whole, c, access);
}

/// Makes one access (a cell without bytes) all that is known of `[addr, addr + size)`, exact to the byte.
fn overwrite(addr: usize, size: usize, c: &mut Ctx, access: u64) {
    if size == 0 {
        return;
    }
    let ends = (addr, addr.saturating_add(size));
    pages::each_watched(addr, size, |part| {
        let cut = |granule, bytes| {
            let (g, cell) = (Granule::of(granule), Cell(access | u64::from(bytes)));
            if !g.overwrite_bytes(cell) {
                g.clear_bytes(bytes);
                // Nothing is left there to race with.
                place(c, granule, cell);
            }
        };
        let cell = Cell(access | u64::from(WHOLE));
        each_granule_or_run(part, ends, cut, |from, to| shadow::fill(from, to, cell));
    });
}

/// All bytes of a granule.
const WHOLE: u8 = 0xff;

/// Where an event of the heap is.
struct Place {
    /// With all callers that are known.
    whole: Pc,
    /// For the history, which knows the announced callers by itself.
    own: Pc,
    /// The callers are those that were announced.
    is_announced: bool,
}

/// The place `pc` (or none) of an event of the heap, with its callers: those that `func_enter`
/// announced, and where they may not be all, the thread's real ones.
fn place_of(me: GoCtx, pc: Pc) -> Place {
    let c = me.get();
    // What the runtime allocates is not announced, nor is what was inlined around a typed place.
    let is_seen = c.is_outside() && pc.location().is_none();
    if is_seen && let Some(whole) = c.stack_here(pc) {
        return Place {
            whole,
            own: pc,
            is_announced: true,
        };
    }
    let whole = with_callers(Some(c), pc);
    Place {
        whole,
        own: whole,
        is_announced: false,
    }
}

/// A fresh heap block: as if the current goroutine wrote it, and nobody had touched the memory before. Inside the runtime it is the
/// runtime's, which hands it about by ways that the detector does not see: there nobody wrote it.
///
/// The stack and goroutine of the allocation are remembered for reports about the block: `pc` and
/// what [`func_enter`] announced, or the calling thread's real stack.
///
/// [`func_enter`]: crate::func_enter
pub fn malloc(addr: usize, size: usize, pc: Pc) {
    begins(addr, size, size, pc);
}

/// [`malloc`] by a heap all of whose objects begin at multiples of 8: the rest of the last eight bytes is nobody else's, and goes with the
/// object, which is quicker.
pub fn malloc_aligned(addr: usize, size: usize, pc: Pc) {
    begins(addr, size, size.saturating_add(7) & !7, pc);
}

/// A block of `size` bytes begins, with the marks of `room`.
fn begins(addr: usize, size: usize, room: usize, pc: Pc) {
    if size == 0 || !shadow::is_watched(addr) {
        return;
    }
    shadow::prefetch(addr);
    report::forget(addr, room);
    let Some(me) = current() else {
        sync::remove(addr, room, Keep::Nothing);
        return forget(addr, room);
    };
    sync::remove(addr, room, Keep::Block(addr));
    let place = place_of(me, pc);
    let c = me.get();
    c.last_block = addr;
    c.follow_generation();
    let record = BlockRecord {
        size,
        made_at: place.whole,
        goid: c.record().goid(),
    };
    sync::record_block(addr, record);
    match c.template_of_block() {
        Some(template) => {
            c.remember(Event {
                addr,
                size,
                flags: 0,
                allocation: true,
                pc: place.own,
            });
            if place.is_announced {
                c.keep_stack(pc, place.whole);
            }
            overwrite_block(addr, room, c, template);
        }
        None => forget(addr, room),
    }
}

/// A heap block is gone: its sync objects return to the current P's cache, and a later access that is not ordered
/// after this call is a race with the free. Without a current goroutine, or inside the runtime, the shadow is only cleared.
///
/// In compiled programs an earlier access that is not ordered before the free is a race with it,
/// too, if it is instrumented code that frees (`freeing`). Where there are typed events only,
/// earlier accesses are not looked at: the last handle of an `Arc` is ordered by its count, which
/// those do not show. The allocation of the block is known until its memory is used again.
pub fn free(addr: usize, size: usize, pc: Pc) {
    ends(addr, size, size, pc);
}

/// [`free`] of what [`malloc_aligned`] announced.
pub fn free_aligned(addr: usize, size: usize, pc: Pc) {
    ends(addr, size, size.saturating_add(7) & !7, pc);
}

/// A block is about to be freed: reports the first access to it that is not ordered before, if
/// there is one. It costs by the pages that have marks.
///
/// The free leaves its own mark after this look, not before it as an access does. So an access that
/// comes at the very moment between may be missed by both.
#[inline(never)]
fn hold_against_accesses(c: &mut Ctx, addr: usize, size: usize, template: u64, pc: Pc) {
    let end = addr.saturating_add(size);
    let new = |granule| Cell(template | FREED | u64::from(bytes_in(granule, addr, end)));
    let mut racing = None;
    pages::each_marked(addr, size, pages::CELLS | pages::OWNED, |part| {
        if racing.is_none() {
            racing = match pages::owner_of(part.start) {
                Some(old) => races(c, old, new(part.start)).then_some((part.start, old)),
                None => part.step_by(8).find_map(|granule| {
                    let old = compare(c, Granule::of(granule), new(granule), CELLS)?;
                    Some((granule, old))
                }),
            };
        }
        pages::CELLS | pages::OWNED
    });
    if let Some((granule, old)) = racing {
        let access = Access {
            addr,
            size,
            flags: FREED,
            pc,
        };
        let access = access.at_granule(granule);
        report::race(c, access, granule, old, new(granule));
    }
}

/// [`free`] of a block whose memory goes back to the system: no access can follow.
pub(crate) fn free_for_ever(addr: usize, size: usize, pc: Pc) {
    if let Some(me) = current()
        && is_instrumented()
        && shadow::is_watched(addr)
    {
        let c = me.get();
        c.follow_generation();
        if let Some(template) = c.template_of_block() {
            hold_against_accesses(c, addr, size, template, pc);
        }
    }
    clear_shadow(addr, size);
}

/// A block of `size` bytes ends, with the marks of `room`.
fn ends(addr: usize, size: usize, room: usize, pc: Pc) {
    if size == 0 || !shadow::is_watched(addr) {
        return;
    }
    shadow::prefetch(addr);
    let Some(me) = current() else {
        sync::remove(addr, room, Keep::Nothing);
        return forget(addr, room);
    };
    sync::remove(addr, room, Keep::Blocks);
    // Where calls are recorded by compiled code, the history has the callers.
    let own = if is_instrumented() {
        pc
    } else {
        place_of(me, pc).own
    };
    let c = me.get();
    c.follow_generation();
    match c.template_of_block() {
        Some(template) => {
            c.remember(Event {
                addr,
                size,
                flags: FREED,
                allocation: false,
                pc: own,
            });
            if is_instrumented() {
                hold_against_accesses(c, addr, size, template, own);
            }
            overwrite_block(addr, room, c, template | FREED);
        }
        None => forget(addr, room),
    }
}

/// The sweeper found a heap block dead: it is gone, and nobody freed it, whoever the caller is. Its sync objects return to the
/// current P's cache. What accesses left stays until the memory's next [`malloc`] replaces it: nobody can reach the block, so
/// it would be cleared for nothing, a megabyte a millisecond.
///
/// # Happens-before
/// None.
pub fn swept(addr: usize, size: usize) {
    sync::remove(addr, size, Keep::Nothing);
}

/// The memory begins a new life that has nothing to do with the old (a recycled stack): no accesses, no sync objects.
/// Who allocated the block that it lies in stays known. Costs by the pages that have any, not by `size`.
pub fn clear_shadow(addr: usize, size: usize) {
    report::forget(addr, size);
    sync::remove(addr, size, Keep::Blocks);
    forget(addr, size);
}
