//! A counter that claims to be safe to share, and is not.

use std::cell::UnsafeCell;

#[derive(Debug, Default)]
pub struct Tally(UnsafeCell<u64>);

// SAFETY: none, which is the bug.
unsafe impl Sync for Tally {}

impl Tally {
    pub fn add(&self, n: u64) {
        // SAFETY: as for `Sync`.
        unsafe { *self.0.get() += n }
    }
}
