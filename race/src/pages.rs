//! Which pages of application memory, of 512 bytes here, have marks in their shadow: one byte each, so that clearing a recycled stack
//! or freeing a large block costs by what was touched, not by its size, and touches no shadow that is not there yet. Most goroutines
//! touch a few hundred bytes of their stack.
//!
//! # States
//! Bits of a page's byte: cells were set; sync objects were made; records of blocks were; cells were set in plane B. Set before the mark,
//! cleared only by who clears all of it in the whole page, at a moment when the memory is nobody's (a free, a stack between two lives).
//!
//! The bytes lie at `0x4c10_0000_0000` plus the folded address divided by 512, and are mapped with their chunks
//! (`shadow.rs`): a page of the table serves two chunks. Eight at a time are looked at where many may have none.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::*};

use crate::shadow::{self, FOLD};

pub(crate) const TABLE: usize = 0x4c10_0000_0000;
/// End of the table.
pub(crate) const END: usize = TABLE + (FOLD >> PAGE_BITS) + 1;
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
    if byte.load(Relaxed) & mark == 0 {
        byte.fetch_or(mark, Relaxed); // who clears is ordered by the memory's owner
    }
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
                if gone != 0 && addr <= page && page + PAGE <= end {
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
