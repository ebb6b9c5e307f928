//! Counts of the races of a part of the program: a goroutine's, and those of all that it starts.
//!
//! For tests: each has a tally, and fails if there is anything on it. A race belongs to the tallies
//! of both its goroutines. One that is on no open tally is the program's: it makes the exit status.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::current::current;

/// Counts the races of a part of the program, until it is closed.
#[derive(Debug, Default)]
pub struct Tally(AtomicUsize);

/// Nobody will look at the count any more. The bits below are the count, which no program brings
/// that far.
const CLOSED: usize = 1 << (usize::BITS - 1);

impl Tally {
    /// An open one, with nothing on it.
    #[must_use]
    pub const fn new() -> Tally {
        Tally(AtomicUsize::new(0))
    }

    /// One more. Returns whether the tally is open.
    pub(crate) fn add(&self) -> bool {
        // Relaxed: one number. Whoever closes sees all that were counted before in its order, and
        // the others find it closed.
        let more = |n| (n & CLOSED == 0).then_some(n + 1);
        self.0.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// A race that was reported before, of another place: at least one then.
    pub(crate) fn note(&self) {
        let _ = self.0.compare_exchange(0, 1, Relaxed, Relaxed);
    }

    /// Closes it and returns how many races are on it: later ones are the program's.
    pub fn close(&self) -> usize {
        self.0.fetch_or(CLOSED, Relaxed) & !CLOSED
    }
}

/// From here on the races of the calling goroutine, and of all goroutines and threads that it
/// starts, are put on `tally`.
pub fn put_on(tally: &'static Tally) {
    if let Some(c) = current() {
        c.get().record().set_tally(Some(tally));
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn a_closed_tally_takes_no_more() {
        let tally = Tally::new();
        tally.note();
        tally.note();
        assert!(tally.add());
        tally.note();
        assert_eq!(tally.close(), 2);
        assert!(!tally.add());
        tally.note();
        assert_eq!(tally.close(), 2);
        let tally = Tally::new();
        assert_eq!(tally.close(), 0);
        tally.note();
        assert_eq!(tally.close(), 0);
    }
}
