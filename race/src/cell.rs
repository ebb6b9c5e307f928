//! A shadow cell: one remembered access to some of eight bytes, in one word.
//!
//! # States
//! | bits | meaning |
//! | --- | --- |
//! | 0..8 | bytes touched, bit i for byte i; none in the empty cell (the word 0), and where they were cleared |
//! | 8..16 | slot |
//! | 16 | read |
//! | 17 | atomic |
//! | 18 | the memory was freed (a write) |
//! | 19..64 | epoch of the slot, 45 bits |
//!
//! Two accesses *conflict* when they touch a common byte, not both read, and not both are atomic. One access *stands
//! for* another when whatever conflicts with the other conflicts with it too: a plain write for all, a plain read for
//! reads, an atomic write for atomics.

/// The access reads only.
pub(crate) const READ: u64 = 1 << 16;
/// The access is atomic.
pub(crate) const ATOMIC: u64 = 1 << 17;
/// The access freed the memory.
pub(crate) const FREED: u64 = 1 << 18;
/// All flags.
pub(crate) const FLAGS: u64 = READ | ATOMIC | FREED;
/// Where the flags begin.
pub(crate) const FLAG_SHIFT: u32 = 16;
const SLOT_SHIFT: u32 = 8;
const EPOCH_SHIFT: u32 = 19;
const MASK: u64 = 0xff;
/// Slot and epoch.
const WHO: u64 = !(MASK | FLAGS);

/// A cell's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Cell(pub(crate) u64);

impl Cell {
    /// Nothing remembered.
    pub(crate) const EMPTY: Cell = Cell(0);

    /// Slot and epoch alone, to which flags and bytes are added.
    #[inline(always)]
    pub(crate) fn template(slot: u32, epoch: u64) -> u64 {
        u64::from(slot) << SLOT_SHIFT | epoch << EPOCH_SHIFT
    }

    #[inline(always)]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
    #[inline(always)]
    pub(crate) fn mask(self) -> u8 {
        self.0 as u8
    }
    #[inline(always)]
    pub(crate) fn slot(self) -> usize {
        (self.0 >> SLOT_SHIFT & 0xff) as usize
    }
    #[inline(always)]
    pub(crate) fn epoch(self) -> u64 {
        self.0 >> EPOCH_SHIFT
    }
    #[inline(always)]
    pub(crate) fn is_read(self) -> bool {
        self.0 & READ != 0
    }
    #[inline(always)]
    pub(crate) fn is_atomic(self) -> bool {
        self.0 & ATOMIC != 0
    }
    /// Slot and epoch are the same.
    #[inline(always)]
    pub(crate) fn is_same_time(self, other: Cell) -> bool {
        (self.0 ^ other.0) & WHO == 0
    }
    /// All but the bytes is the same.
    #[inline(always)]
    pub(crate) fn is_same_kind(self, other: Cell) -> bool {
        (self.0 ^ other.0) & !MASK == 0
    }
    /// With the other's bytes too.
    #[inline(always)]
    pub(crate) fn with_bytes_of(self, other: Cell) -> Cell {
        Cell(self.0 | other.0 & MASK)
    }
    /// Without the other's bytes.
    #[inline(always)]
    pub(crate) fn without_bytes_of(self, other: Cell) -> Cell {
        Cell(self.0 & !(other.0 & MASK))
    }
    /// See the header.
    #[inline(always)]
    pub(crate) fn conflicts(self, other: Cell) -> bool {
        self.0 & other.0 & MASK != 0 && self.0 & other.0 & (READ | ATOMIC) == 0
    }
    /// See the header; bytes included.
    #[inline(always)]
    pub(crate) fn stands_for(self, other: Cell) -> bool {
        let bytes = other.0 & MASK & !self.0 == 0;
        let reads = !self.is_read() || other.is_read();
        let atomics = !self.is_atomic() || other.is_atomic();
        bytes && reads && atomics
    }
    /// The same goroutine had made this access, or one that stands for it, in the same epoch.
    #[inline(always)]
    pub(crate) fn makes_known(self, new: Cell) -> bool {
        self.is_same_time(new) && self.stands_for(new)
    }
}

/// What to look for in a history: the access behind a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) slot: u64,
    pub(crate) epoch: u64,
    /// First of the eight bytes.
    pub(crate) granule: usize,
    /// The cell, with only the bytes of interest.
    pub(crate) cell: Cell,
}

impl Want {
    /// Whether an access to `size` bytes at `addr` with these flags left the cell.
    pub(crate) fn matches(&self, addr: usize, size: usize, flags: u64) -> bool {
        let touches = |i: usize| {
            self.cell.mask() >> i & 1 != 0 && (addr..addr + size).contains(&(self.granule + i))
        };
        flags == self.cell.0 & FLAGS && (0..8).any(touches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back() {
        let c = Cell(Cell::template(255, (1 << 45) - 1) | READ | 0x0f);
        assert_eq!((c.slot(), c.epoch(), c.mask()), (255, (1 << 45) - 1, 0x0f));
        assert!(c.is_read() && !c.is_atomic());
    }

    #[test]
    fn standing_for_is_conflicting_with_no_less() {
        let kinds = [0, READ, ATOMIC, READ | ATOMIC];
        for a in kinds {
            for b in kinds {
                let (x, y) = (Cell(a | 1), Cell(b | 1));
                let no_less = kinds
                    .iter()
                    .all(|k| !Cell(k | 1).conflicts(y) || Cell(k | 1).conflicts(x));
                assert_eq!(x.stands_for(y), no_less, "{a:x} {b:x}");
            }
        }
    }
}
