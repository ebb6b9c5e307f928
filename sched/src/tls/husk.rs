//! What hangs on glibc's own thread-locals, kept when a block's memory is given back.
//!
//! malloc's per-thread cache is reached from glibc's storage only, and glibc exports no function
//! that frees it. So the storage of a destroyed block, a husk of some 150 bytes, is kept if
//! anything hangs on it, and the next new block takes it over with all it owns.
//!
//! # Invariants
//! 1. A husk is in canonical form: words that depend on the block's address, and errno, are zero.
//! 2. What hangs on a husk belongs to it alone until a block takes it over.
//!
//! # Blocking
//! A mutex for a moment. The making and destroying of blocks is a cold path.

use crate::sys::{Lock, Mutex};

static HUSKS: Mutex<Husks> = Mutex::new(Husks {
    virgin: None,
    kept: Vec::new(),
});

struct Husks {
    /// The canonical form of storage on which nothing hangs. Not in a `OnceLock`: a child of `fork`
    /// would wait for a thread that was just setting it.
    virgin: Option<Box<[u8]>>,
    kept: Vec<Box<[u8]>>,
}

/// Notes the canonical form of a new block's storage; only the first call counts.
pub(super) fn note_virgin(storage: impl FnOnce() -> Box<[u8]>) {
    HUSKS.lock().virgin.get_or_insert_with(storage);
}

/// Keeps the canonical storage of a destroyed block, unless nothing hangs on it.
pub(super) fn keep(storage: Box<[u8]>) {
    let mut husks = HUSKS.lock();
    if husks.virgin.as_ref() != Some(&storage) {
        husks.kept.push(storage);
    }
}

/// The lock, for `fork`.
pub(super) fn lock() -> &'static Lock {
    HUSKS.raw()
}

/// Takes a husk for a new block.
pub(super) fn take() -> Option<Box<[u8]>> {
    HUSKS.lock().kept.pop()
}
