//! Births of heap blocks: who allocated how many bytes where, each kept once, so that a block's record is the number of its birth and lies in
//! the shadow itself (`sync.rs`). A record of its own is a place in memory that is cold at each allocation.
//!
//! # States
//! A table of [`BIRTHS`] entries, of which a birth may be in one of [`PLACES`] neighbours. An entry is empty (size 0) or written once, and never
//! changes or goes. Where a birth finds no place (a program with many goroutines, which allocate a little each), the block has a record of its own.
//!
//! # Memory ordering
//! `add: size store Release, after the rest` ⇄ `Birth::record: size load Acquire`. Who finds a number in the shadow before it sees the entry takes
//! the block for one without a record; only reports do.
//!
//! # Blocking
//! Looking up takes no lock; a new birth takes one spin lock for a dozen instructions. No allocation.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use crate::Pc;
use crate::mem::SpinLock;
use crate::sync::BlockRecord;

/// Entries in all.
const BIRTHS: usize = 1 << 15;
/// Where a birth may be, from its own place on.
const PLACES: usize = 8;

#[derive(Debug)]
#[repr(align(32))]
struct Birth {
    made_at: AtomicU64,
    goid: AtomicU64,
    size: AtomicUsize,
}

static TABLE: [Birth; BIRTHS] = [const {
    Birth {
        made_at: AtomicU64::new(0),
        goid: AtomicU64::new(0),
        size: AtomicUsize::new(0),
    }
}; BIRTHS];
static ADDING: SpinLock = SpinLock::new();

impl Birth {
    /// The record, unless the entry is empty.
    fn record(&self) -> Option<BlockRecord> {
        let size = self.size.load(Acquire); // pairs with the store in `add`
        (size != 0).then(|| BlockRecord {
            size,
            made_at: Pc::from_bits(self.made_at.load(Relaxed)),
            goid: self.goid.load(Relaxed),
        })
    }
}

/// The entries where the record may be.
fn places(record: &BlockRecord) -> impl Iterator<Item = usize> {
    // Parts that do not wait for each other: allocations ask for it.
    let sum = record.made_at.bits().wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ record.goid.wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
        ^ (record.size as u64).wrapping_mul(0x1656_67b1_9e37_79f9);
    let first = (sum >> 40) as usize;
    (first..first + PLACES).map(|i| i % BIRTHS)
}

/// The number of the birth, if it has a place.
#[inline]
pub(crate) fn number(record: &BlockRecord) -> Option<u32> {
    for i in places(record) {
        match TABLE[i].record() {
            Some(other) if other == *record => return Some(i as u32),
            Some(_) => {}
            None => return add(record),
        }
    }
    None
}

#[cold]
#[inline(never)]
fn add(record: &BlockRecord) -> Option<u32> {
    let _held = ADDING.lock();
    let is_its = |i: &usize| TABLE[*i].record().is_none_or(|other| other == *record);
    let i = places(record).find(is_its)?;
    let birth = &TABLE[i];
    birth.made_at.store(record.made_at.bits(), Relaxed);
    birth.goid.store(record.goid, Relaxed);
    birth.size.store(record.size, Release); // pairs with the load in `record`
    Some(i as u32)
}

/// The birth with this number.
pub(crate) fn record(number: u32) -> Option<BlockRecord> {
    TABLE.get(number as usize)?.record()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birth_has_one_number_or_none() {
        let of = |i: usize| BlockRecord {
            size: 1 + i % 100,
            made_at: Pc::code(0x1000 + i / 100),
            goid: 1 << 40,
        };
        let numbers: Vec<_> = (0..2 * BIRTHS).map(|i| number(&of(i))).collect();
        for (i, found) in numbers.iter().enumerate() {
            assert_eq!(number(&of(i)), *found);
            assert!(found.is_none_or(|n| record(n) == Some(of(i))));
        }
        assert!(numbers.iter().flatten().count() > BIRTHS / 2);
        assert!(numbers.contains(&None));
    }
}
