//! Which 4 KiB pages of application memory have marks in their shadow: one byte each, so that clearing a recycled stack
//! or freeing a large block costs by what was touched, not by its size, and touches no shadow that is not there yet.
//!
//! # States
//! Bits of a page's byte: cells were set; sync objects were made. Set before the mark, cleared only by who clears the
//! whole page's shadow, at a moment when the memory is nobody's (a free, a stack between two lives).
//!
//! The bytes lie at `0x4c10_0000_0000` plus the folded address divided by 4096, and are mapped with their chunks
//! (`shadow.rs`): a page of the table serves sixteen chunks.

use std::sync::atomic::{AtomicU8, Ordering::*};

use crate::shadow::{self, FOLD};

const TABLE: usize = 0x4c10_0000_0000;
/// End of the table.
pub(crate) const END: usize = TABLE + (FOLD >> PAGE_BITS) + 1;
const PAGE_BITS: u32 = 12;
const PAGE: usize = 1 << PAGE_BITS;
/// Cells were set.
pub(crate) const CELLS: u8 = 1;
/// Sync objects were made.
pub(crate) const SYNC: u8 = 2;

/// The table's own pages that serve folded addresses `[folded, folded + size)`.
pub(crate) fn table_pages(folded: usize, size: usize) -> impl Iterator<Item = usize> {
    let first = (TABLE + (folded >> PAGE_BITS)) & !(PAGE - 1);
    let last = TABLE + ((folded + size - 1) >> PAGE_BITS);
    (first..=last).step_by(PAGE)
}

fn byte(addr: usize) -> &'static AtomicU8 {
    let at = TABLE + ((addr & FOLD) >> PAGE_BITS);
    // SAFETY: callers pass a watched address; its part of the table was mapped with its chunk, and stays so.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU8>(at) }
}

/// Notes that the watched address's page is about to have this kind of mark.
#[inline]
pub(crate) fn note(addr: usize, mark: u8) {
    let byte = byte(addr);
    if byte.load(Relaxed) & mark == 0 {
        byte.fetch_or(mark, Relaxed); // who clears is ordered by the memory's owner
    }
}

/// Calls back with the granules of `[addr, addr + size)` in pages that have this kind of mark, and takes the mark off
/// the pages that lie inside as a whole.
pub(crate) fn each_marked(addr: usize, size: usize, mark: u8, mut each: impl FnMut(usize)) {
    if size == 0 {
        return;
    }
    let end = addr.saturating_add(size);
    let mut page = addr & !(PAGE - 1);
    while page < end {
        if !shadow::is_mapped(page) {
            page = (page | (shadow::CHUNK - 1)) + 1;
            continue;
        }
        let byte = byte(page);
        if byte.load(Relaxed) & mark != 0 {
            let from = page.max(addr & !7);
            let to = end.min(page + PAGE);
            (from..to).step_by(8).for_each(&mut each);
            if addr <= page && page + PAGE <= end {
                byte.fetch_and(!mark, Relaxed);
            }
        }
        page += PAGE;
    }
}
