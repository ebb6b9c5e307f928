//! The lines of accesses that the history has given up: no callers, but the place itself, by address and time.
//!
//! # States of an entry
//! empty → an access: a cell's word (who, when, of which kind and to which bytes), and its place. A newer access to the same bytes by the same
//! slot takes its entry, and so may another, of other memory: 4 M entries are 64 MiB, touched as they are used.
//!
//! What is not among the cells of its bytes any more is left out: most accesses have been replaced by later ones when the history gives them up.
//!
//! An entry is of eight bytes, or, of the inside of a large range, of 512; that of an allocation or free is of all the block, where that begins. Neighbours are neighbours in the table too. Accesses that begin
//! at different bytes of eight, or are of different slots, or one a read and the other a write, do not meet: all may be asked for.
//!
//! # How often
//! Every access of a busy goroutine comes by here in the end, and to look for it in the shadow takes a quarter of the time that it took to check it. Where a program
//! does nothing but accesses at new times (channels, locks), that would be a fifth of all its time. So it may be a sixty-fourth part, of one processor, and
//! what comes when that is used up is given up without its line.
//!
//! # Invariants
//! 1. The two words of an entry belong together if the second has the first one's check in it, which also tells apart which addresses meet.
//!    A word that is not asked for is not believed: (slot, epoch) is one goroutine's, once.
//!
//! # Memory ordering
//! None: by invariant 1 a reader that sees one word without the other has an empty entry.
//!
//! # Blocking
//! No lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::access::bytes_in;
use crate::cell::{Cell, FLAGS, FREED, Want};
use crate::mem;
use crate::pc::PC_BITS;
use crate::shadow::{FOLD, Granule};
use crate::{Pc, pages};

const ENTRIES: usize = 1 << 22;
/// Bytes of a block inside a range.
const BLOCK: usize = 512;
/// Of a larger range so many bytes have lines.
const LARGEST: usize = 64 << 20;

/// In an entry's second word, above the place: the access made the block that it covers, ...
const ALLOCATION: u64 = 1 << 48;
/// ... and the check.
const CHECK_SHIFT: u32 = 49;

#[repr(C, align(16))]
struct Entry {
    cell: AtomicU64,
    at: AtomicU64,
}

/// The table's address; 0: there is none yet.
static MEMORY: AtomicUsize = AtomicUsize::new(0);

/// The processor's cycles: when race mode began, and how many have gone into keeping lines.
static BEGAN: AtomicU64 = AtomicU64::new(0);
static SPENT: AtomicU64 = AtomicU64::new(0);
/// So many may go into that from the start, about a millisecond: enough for half a million accesses.
const AT_ONCE: u64 = 1 << 22;
/// One cycle of so many may, after that.
const SHARE: u64 = 64;
/// What one part takes at most; beyond that, the thread was interrupted.
const LONGEST: u64 = 1 << 18;

fn cycles() -> u64 {
    // SAFETY: every processor of this architecture has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Maps the table. Once, before anything else here.
pub(crate) fn init() {
    BEGAN.store(cycles(), Relaxed);
    let memory = mem::map_for_ever(ENTRIES * size_of::<Entry>());
    MEMORY.store(memory.expose_provenance().get(), Relaxed);
}

/// What an entry is of.
#[derive(Clone, Copy, Debug)]
enum Extent {
    /// Bytes of eight.
    Bytes,
    /// All of [`BLOCK`] bytes, inside a range.
    Inside,
    /// A block of the heap.
    Object,
}

/// Where an access stands, and how its words are tied together.
#[derive(Clone, Copy)]
struct Key {
    index: usize,
    check: u64,
}

impl Key {
    /// Of an access that is `cell` and begins at `addr`, as far as it is of this extent.
    #[inline(always)]
    fn of(addr: usize, extent: Extent, cell: Cell) -> Key {
        let unit = match extent {
            Extent::Inside => (addr & FOLD) / BLOCK,
            _ => (addr & FOLD) / 8,
        };
        let first = addr % 8 + extent as usize * 8;
        let apart = (cell.slot() << 5 | first).wrapping_mul(0x9_e377);
        let index = (unit << 1 | usize::from(cell.is_read())).wrapping_add(apart << 6);
        let far = (unit >> 21) as u64;
        let check = far ^ far >> 15 ^ cell.epoch() ^ cell.epoch() >> 15 ^ cell.0;
        Key {
            index: index % ENTRIES,
            check,
        }
    }

    fn word(self, pc: Pc, allocation: bool) -> u64 {
        self.check << CHECK_SHIFT | if allocation { ALLOCATION } else { 0 } | pc.bits()
    }
}

/// The table.
#[derive(Clone, Copy)]
pub(crate) struct Lines(&'static [Entry; ENTRIES]);

/// The table; none before race mode begins. No function of std's is called here: where the history has no room, it would be recorded.
fn lines() -> Option<Lines> {
    let base = std::ptr::with_exposed_provenance::<[Entry; ENTRIES]>(MEMORY.load(Relaxed));
    // SAFETY: null, or the mapping that `init` made, which stays; zeros are valid, and all fields are atomic.
    Some(Lines(unsafe { base.as_ref() }?))
}

/// Lets lines be kept, unless that has taken its share of the time.
pub(crate) fn if_in_time(keep: impl FnOnce(Lines)) {
    let now = cycles();
    let share = now.saturating_sub(BEGAN.load(Relaxed)) / SHARE;
    if let Some(lines) = lines()
        && SPENT.load(Relaxed) < AT_ONCE + share
    {
        keep(lines);
        let spent = cycles().saturating_sub(now);
        SPENT.fetch_add(spent.min(LONGEST), Relaxed);
    }
}

/// An access whose callers are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) pc: Pc,
    pub(crate) allocation: bool,
}

/// Whether a cell of the eight bytes at `addr`, which are watched, is of this slot, epoch and kind: else nobody will ask.
#[inline(always)]
pub(crate) fn is_there(addr: usize, who: u64) -> bool {
    let g = Granule::of(addr);
    let (zero, one) = g.pair();
    let is_same = |cell: Cell| cell.is_same_kind(Cell(who));
    // Cells 2 and 3 are seldom in use, and cold.
    let is_deep = || !one.is_empty() && pages::has(addr, pages::DEEP);
    is_same(zero) || is_same(one) || is_deep() && g.cells()[2..].iter().any(|cell| is_same(*cell))
}

impl Lines {
    /// Keeps the line of an access to `size` bytes at `addr`, which are watched; `who` is slot, epoch and flags, as a cell has them.
    #[inline(never)]
    pub(crate) fn keep(self, addr: usize, size: usize, who: u64, line: Line) {
        let end = addr.saturating_add(size.min(LARGEST));
        if line.allocation || who & FREED != 0 {
            return self.put(addr, 0xff, Extent::Object, who, line);
        }
        let mut at = addr;
        while at < end {
            if at.is_multiple_of(BLOCK) && end - at >= BLOCK {
                self.put(at, 0xff, Extent::Inside, who, line);
                at += BLOCK;
            } else {
                if is_there(at, who) {
                    self.put(at, bytes_in(at & !7, at, end), Extent::Bytes, who, line);
                }
                at = (at | 7) + 1;
            }
        }
    }

    #[inline(always)]
    fn put(self, at: usize, bytes: u8, extent: Extent, who: u64, line: Line) {
        let cell = Cell(who | u64::from(bytes));
        let key = Key::of(at, extent, cell);
        let entry = &self.0[key.index];
        entry.cell.store(cell.0, Relaxed);
        entry.at.store(key.word(line.pc, line.allocation), Relaxed);
    }
}

/// The line of the access that `want` describes; `block` tells where the heap block begins that it is in.
pub(crate) fn find(want: Want, block: impl FnOnce() -> Option<usize>) -> Option<Line> {
    let Lines(entries) = lines()?;
    let who = Cell::template(want.slot as u32, want.epoch) | want.cell.0 & FLAGS;
    let look = |addr: usize, extent: Extent| {
        let entry = &entries[Key::of(addr, extent, Cell(who)).index];
        let cell = Cell(entry.cell.load(Relaxed));
        let at = entry.at.load(Relaxed);
        let line = Line {
            pc: Pc::from_bits(at & PC_BITS),
            allocation: at & ALLOCATION != 0,
        };
        let is_whole = at == Key::of(addr, extent, cell).word(line.pc, line.allocation);
        let is_wanted = cell.is_same_kind(Cell(who)) && cell.mask() & want.cell.mask() != 0;
        (is_whole && is_wanted).then_some(line)
    };
    let mut firsts = (0..8).map(|first| want.granule + first);
    firsts
        .find_map(|first| look(first, Extent::Bytes))
        .or_else(|| look(want.granule / BLOCK * BLOCK, Extent::Inside))
        .or_else(|| look(block()?, Extent::Object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::READ;
    use crate::testing::{detector, fresh_memory};

    fn line(n: usize) -> Line {
        Line {
            pc: Pc::code(0x40_0000 + n),
            allocation: false,
        }
    }

    /// Some accesses are among the cells, and their lines are kept.
    fn keep(addr: usize, size: usize, who: u64, line: Line) {
        crate::heap::map_shadow(addr, size);
        for granule in (addr & !7..addr + size).step_by(8) {
            Granule::of(granule).cell(0).store(who | 1, Relaxed);
        }
        lines()
            .expect("the detector runs")
            .keep(addr, size, who, line);
    }

    fn found(addr: usize, who: u64) -> Option<Line> {
        found_in(addr, who, None)
    }

    fn found_in(addr: usize, who: u64, block: Option<usize>) -> Option<Line> {
        let (granule, cell) = (addr & !7, Cell(who | 1 << (addr & 7)));
        let want = Want {
            slot: cell.slot() as u64,
            epoch: cell.epoch(),
            granule,
            cell: Cell(cell.0 & (FLAGS | 0xff)),
        };
        find(want, || block)
    }

    #[test]
    fn each_access_has_its_own() {
        let _d = detector();
        let memory = fresh_memory(1 << 16);
        let who = Cell::template(7, 1 << 33);
        // Fields of eight bytes, kinds, slots.
        keep(memory, 4, who, line(2));
        keep(memory + 4, 3, who, line(4));
        keep(memory + 7, 1, who, line(5));
        keep(memory, 8, who | READ, line(6));
        keep(memory, 8, Cell::template(8, 1 << 33), line(8));
        for (i, n) in [2, 2, 2, 2, 4, 4, 4, 5].into_iter().enumerate() {
            assert_eq!(found(memory + i, who), Some(line(n)));
            assert_eq!(found(memory + i, who | READ), Some(line(6)));
            let other = Cell::template(8, 1 << 33);
            assert_eq!(found(memory + i, other), Some(line(8)));
        }
        // Not of another time, nor next to it.
        assert_eq!(found(memory, Cell::template(7, (1 << 33) + 1)), None);
        assert_eq!(found(memory + 8, who), None);
        let newer = Cell::template(7, (1 << 33) + 1);
        keep(memory, 4, newer, line(10));
        assert_eq!(found(memory, who), None);
        assert_eq!(found(memory, newer), Some(line(10)));
    }

    #[test]
    fn what_is_not_among_the_cells_is_left_out() {
        let _d = detector();
        let memory = fresh_memory(1 << 12);
        let who = Cell::template(11, 3);
        crate::heap::map_shadow(memory, 1 << 12);
        for i in 0..4 {
            let at = memory + 8 * i;
            (0..i).for_each(|n| Granule::of(at).cell(n).store(1 << 8 | 1, Relaxed));
            pages::note(at, pages::DEEP);
            lines()
                .expect("the detector runs")
                .keep(at, 8, who, line(2));
            assert_eq!(found(at, who), None);
            Granule::of(at).cell(i).store(who | 2, Relaxed);
            lines()
                .expect("the detector runs")
                .keep(at, 8, who, line(2));
            assert_eq!(found(at, who), Some(line(2)));
        }
    }

    #[test]
    fn ranges_are_found_at_each_byte() {
        let _d = detector();
        let memory = fresh_memory(1 << 16).next_multiple_of(4096);
        let who = Cell::template(9, 77);
        for (n, (from, size)) in [(3, 2), (5, 9), (1, 4000), (512, 512), (700, 9000)]
            .into_iter()
            .enumerate()
        {
            let (who, line) = (who + ((n as u64) << 19), line(2 * n));
            keep(memory + from, size, who, line);
            for at in 0..12_000 {
                let expected = (from..from + size).contains(&at).then_some(line);
                assert_eq!(found(memory + at, who), expected, "{from} {size} {at}");
            }
        }
    }

    #[test]
    fn a_block_is_one_line() {
        let _d = detector();
        let memory = fresh_memory(1 << 12) + 4;
        for (who, allocation) in [
            (Cell::template(12, 9) | FREED, false),
            (Cell::template(12, 8), true),
        ] {
            let line = Line {
                allocation,
                ..line(2)
            };
            keep(memory, 100, who, line);
            assert_eq!(found_in(memory + 90, who, Some(memory)), Some(line));
            assert_eq!(found_in(memory + 90, who, None), None);
        }
    }

    #[test]
    fn halves_of_two_entries_are_none() {
        let _d = detector();
        let memory = fresh_memory(64);
        let [a, b] = [Cell::template(10, 5), Cell::template(10, 6)];
        keep(memory, 8, a, line(2));
        let key = Key::of(memory, Extent::Bytes, Cell(b | 0xff));
        let entry = &lines().expect("the detector runs").0[key.index];
        let second = entry.at.load(Relaxed);
        keep(memory, 8, b, line(4));
        entry.at.store(second, Relaxed);
        assert_eq!(found(memory, a).or(found(memory, b)), None);
    }
}
