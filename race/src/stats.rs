//! What the detector has cost, and how often its bounds were met.

use crate::mem::Kind;
use crate::{access, ctx, depot, proc, report};

/// Figures since `init`. Objects are counted when first made: recycled ones count once, so these are the most that were
/// alive at once (with what per-P caches hold).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Races reported.
    pub races: usize,
    /// Goroutine contexts.
    pub contexts: usize,
    /// Sync objects and heap block records.
    pub sync_objects: usize,
    /// Clocks of sync objects and fences.
    pub clocks: usize,
    /// Bytes of the stacks of allocations and frees, equal ones counted once.
    pub stack_bytes: usize,
    /// Remembered accesses displaced because eight bytes had four others. Each may hide a race.
    pub evicted_cells: usize,
    /// Unknown epochs that clocks had to count as known for want of room. Each may hide a race.
    pub closed_gaps: usize,
}

/// The figures now.
pub fn stats() -> Stats {
    Stats {
        races: report::errors(),
        contexts: proc::carved(Kind::Ctx),
        sync_objects: proc::carved(Kind::Sync),
        clocks: proc::carved(Kind::Clock),
        stack_bytes: depot::bytes(),
        evicted_cells: access::evicted(),
        closed_gaps: ctx::gaps_closed(),
    }
}
