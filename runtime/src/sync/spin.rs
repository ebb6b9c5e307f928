//! How long to watch a held lock before queueing.
//!
//! Parking a goroutine costs about as much as a few hundred nanoseconds of watching, and wakes nobody's CPU; so the
//! watch is short, and there is none with one P, where the holder cannot run meanwhile.

use raddle_sched::procs;

/// Rounds of watching; round `i` pauses `2^i` times.
const ROUNDS: u32 = 4;

/// A bounded busy wait.
#[derive(Debug)]
pub(super) struct Spin {
    round: u32,
}

impl Spin {
    pub(super) fn new() -> Spin {
        Spin { round: 0 }
    }

    /// Pauses and returns true, or returns false once watching no longer pays.
    pub(super) fn again(&mut self) -> bool {
        if self.round == ROUNDS || (self.round == 0 && procs() == 1) {
            return false;
        }
        for _ in 0..1 << self.round {
            std::hint::spin_loop();
        }
        self.round += 1;
        true
    }
}
