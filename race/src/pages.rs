//! Which pages of application memory, of 512 bytes here, have marks in their shadow: one byte each, so that clearing a recycled stack
//! or freeing a large block costs by what was touched, not by its size, and touches no shadow that is not there yet. Most goroutines
//! touch a few hundred bytes of their stack.
//!
//! # States
//! Bits of a page's byte: cells were set; sync objects were made; records of blocks were; cells were set in plane B. Set before the mark,
//! cleared only by who clears all of it in the whole page, at a moment when the memory is nobody's (a free, a stack between two lives).
//!
//! A page is *owned* while all its granules have one and the same mark, which is written down once,
//! in the table of owners, and not in the cells: those are empty. A large block begins and ends so,
//! and what of it is never touched never has shadow. An event that is about to set a cell in such a
//! page writes the owner's mark out first.
//!
//! # Invariant
//! A page that is owned has no cells, and is not noted to have any. So the first mark in it goes by
//! [`note`], which sees it.
//!
//! # Memory ordering
//! `write_out: fetch_or Release CELLS, after the cells` ⇄ `note: load Acquire`: an event that finds the
//! page noted finds the owner's mark in it.
//!
//! The bytes lie at `0x4c10_0000_0000` plus the folded address divided by 512, and are mapped with their chunks
//! (`shadow.rs`): a page of the table serves two chunks. Eight at a time are looked at where many may have none.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::*};

use crate::cell::Cell;
use crate::shadow::{self, FOLD, Granule};

pub(crate) const TABLE: usize = 0x4c10_0000_0000;
/// The table of owners: a word for each page.
pub(crate) const OWNERS: usize = 0x4c20_0000_0000;
/// End of the tables.
pub(crate) const END: usize = OWNERS + ((FOLD + 1) >> PAGE_BITS) * 8;
pub(crate) const PAGE_BITS: u32 = 9;
const PAGE: usize = 1 << PAGE_BITS;
/// Bytes of application memory whose pages' bytes make a word.
const GROUP: usize = 8 * PAGE;
/// A page of the system's.
const TABLE_PAGE: usize = 4096;
/// Cells were set.
pub(crate) const CELLS: u8 = 1;
/// Sync objects were made.
pub(crate) const SYNC: u8 = 2;

/// Cells were set in plane B.
pub(crate) const DEEP: u8 = 4;

/// Records of heap blocks were made.
pub(crate) const RECORDS: u8 = 8;

/// All granules have the mark of the owner, which is not written out.
pub(crate) const OWNED: u8 = 16;
/// Somebody is writing it out.
const BUSY: u8 = 32;

/// The table's own pages that serve folded addresses `[folded, folded + size)`.
pub(crate) fn table_pages(folded: usize, size: usize) -> impl Iterator<Item = usize> {
    let first = (TABLE + (folded >> PAGE_BITS)) & !(TABLE_PAGE - 1);
    let last = TABLE + ((folded + size - 1) >> PAGE_BITS);
    (first..=last).step_by(TABLE_PAGE)
}

fn byte(addr: usize) -> &'static AtomicU8 {
    let at = TABLE + ((addr & FOLD) >> PAGE_BITS);
    // SAFETY: callers pass a watched address; its part of the table was mapped with its chunk, and stays so.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU8>(at) }
}

/// Whether the first eight pages of `[page, end)` are whole ones in a watched chunk, and none has a mark.
fn is_group_clear(page: usize, end: usize) -> bool {
    if !page.is_multiple_of(GROUP) || end.saturating_sub(page) < GROUP {
        return false;
    }
    let at = TABLE + ((page & FOLD) >> PAGE_BITS);
    // SAFETY: as in `byte`, of eight pages in the same chunk; the address is a multiple of 8.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(at) }.load(Relaxed) == 0
}

/// Notes that the watched address's page is about to have this kind of mark.
#[inline]
pub(crate) fn note(addr: usize, mark: u8) {
    let byte = byte(addr);
    if byte.load(Acquire) & mark == 0 {
        if mark == CELLS {
            write_out(addr);
        }
        byte.fetch_or(mark, Relaxed); // who clears is ordered by the memory's owner
    }
}

/// The watched address's place in the table of owners.
fn owner(addr: usize) -> &'static AtomicU64 {
    let at = OWNERS + ((addr & FOLD) >> PAGE_BITS) * 8;
    // SAFETY: as in `byte`; a multiple of 8.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(at) }
}

/// The mark of all granules of the watched address's page, while it is owned.
pub(crate) fn owner_of(addr: usize) -> Option<Cell> {
    has(addr, OWNED).then(|| Cell(owner(addr).load(Relaxed)))
}

/// Gives the watched whole pages `[from, to)`, which have no cells, an owner: `cell` is the mark of all
/// granules.
pub(crate) fn own(from: usize, to: usize, cell: Cell) {
    for page in (from..to).step_by(PAGE) {
        owner(page).store(cell.0, Relaxed);
        if byte(page).load(Relaxed) & OWNED == 0 {
            byte(page).fetch_or(OWNED, Release);
        }
    }
}

/// Writes the owner's mark out, if the watched address's page is owned. It calls nothing and uses no
/// vector registers: `access::check_quickly` is among the callers.
#[inline(never)]
pub(crate) fn write_out(addr: usize) {
    let byte = byte(addr);
    loop {
        let now = byte.load(Acquire);
        if now & OWNED == 0 {
            return;
        }
        let busy = now | BUSY;
        if now != busy && byte.compare_exchange(now, busy, Acquire, Relaxed).is_ok() {
            break;
        }
        std::hint::spin_loop();
    }
    let (page, cell) = (start_of(addr), owner(addr).load(Relaxed));
    for granule in (page..page + PAGE).step_by(8) {
        Granule::of(granule).cell(0).store(cell, Relaxed);
    }
    byte.fetch_or(CELLS, Release);
    byte.fetch_and(!(OWNED | BUSY), Release);
}

/// Whether all of the address's page lies in `[addr, end)`.
pub(crate) fn is_whole(at: usize, addr: usize, end: usize) -> bool {
    let page = start_of(at);
    addr <= page && page + PAGE <= end
}

/// The whole pages in `[addr, end)`.
pub(crate) fn whole(addr: usize, end: usize) -> Range<usize> {
    let (from, to) = (addr.next_multiple_of(PAGE), end & !(PAGE - 1));
    from..to.max(from)
}

/// Whether the watched address's page has a mark of these kinds.
#[inline]
pub(crate) fn has(addr: usize, mark: u8) -> bool {
    byte(addr).load(Relaxed) & mark != 0
}

/// The first address of the page.
pub(crate) fn start_of(addr: usize) -> usize {
    addr & !(PAGE - 1)
}

/// Whether the address is watched, and its page has this kind of mark.
pub(crate) fn is_marked_with(addr: usize, mark: u8) -> bool {
    shadow::is_mapped(addr) && has(addr, mark)
}

/// Where the next chunk begins.
fn next_chunk(addr: usize) -> usize {
    (addr | (shadow::CHUNK - 1)).saturating_add(1)
}

/// Whether anything may be known of `[addr, addr + size)`.
pub(crate) fn is_marked(addr: usize, size: usize) -> bool {
    let end = addr.saturating_add(size);
    let mut page = addr & !(PAGE - 1);
    while page < end {
        if !shadow::is_mapped(page) {
            page = next_chunk(page);
        } else if is_group_clear(page, end) {
            page += GROUP;
        } else if byte(page).load(Relaxed) != 0 {
            return true;
        } else {
            page += PAGE;
        }
    }
    false
}

/// The part of `[addr, end)`, widened to whole granules, that lies in the page.
fn part(page: usize, addr: usize, end: usize) -> Range<usize> {
    page.max(addr & !7)..end.next_multiple_of(8).min(page + PAGE)
}

/// Calls back with the parts of `[addr, addr + size)`, widened to whole granules, in pages that have a mark of these kinds, and
/// takes those of the pages that lie inside as a whole off, but for what the callback says is left.
#[inline]
pub(crate) fn each_marked(
    addr: usize,
    size: usize,
    marks: u8,
    mut each: impl FnMut(Range<usize>) -> u8,
) {
    if size == 0 {
        return;
    }
    let end = addr.saturating_add(size);
    let mut page = addr & !(PAGE - 1);
    while page < end {
        let chunk_end = next_chunk(page);
        if !shadow::is_mapped(page) {
            page = chunk_end;
            continue;
        }
        while page < end.min(chunk_end) {
            if is_group_clear(page, end) {
                page += GROUP;
                continue;
            }
            if has(page, marks) {
                let gone = marks & !each(part(page, addr, end));
                if gone != 0 && is_whole(page, addr, end) {
                    byte(page).fetch_and(!gone, Relaxed);
                }
            }
            page += PAGE;
        }
    }
}

/// Calls back with the parts of `[addr, addr + size)`, widened to whole granules, page by page, where memory is watched.
/// The caller is about to set cells there: they are noted.
#[inline]
pub(crate) fn each_watched(addr: usize, size: usize, mut each: impl FnMut(Range<usize>)) {
    let end = addr.saturating_add(size);
    let mut page = addr & !(PAGE - 1);
    while page < end {
        let chunk_end = next_chunk(page);
        if !shadow::is_watched(page) {
            page = chunk_end;
            continue;
        }
        while page < end.min(chunk_end) {
            note(page, CELLS);
            each(part(page, addr, end));
            page += PAGE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// Threads come to a page at the same moment: who has noted it finds the owner's mark in every
    /// granule, whoever writes it out.
    #[test]
    fn an_owner_s_mark_is_there_before_any_other() {
        let _one = crate::testing::detector();
        const PAGES: usize = 400;
        const THREADS: usize = 4;
        let base = crate::testing::fresh_memory((PAGES + 1) * PAGE).next_multiple_of(PAGE);
        assert!(shadow::is_watched(base) && shadow::is_watched(base + PAGES * PAGE));
        let cell = Cell(Cell::template(1, 7) | 0xff);
        own(base, base + PAGES * PAGE, cell);
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let start = &start;
                scope.spawn(move || {
                    for page in (base..base + PAGES * PAGE).step_by(PAGE) {
                        start.wait();
                        note(page + 8 * thread, CELLS);
                        for granule in (page..page + PAGE).step_by(8) {
                            assert_eq!(Granule::of(granule).pair(), (cell, Cell::EMPTY));
                        }
                    }
                });
            }
        });
        assert!((0..PAGES).all(|n| !has(base + n * PAGE, OWNED | BUSY)));
    }
}
