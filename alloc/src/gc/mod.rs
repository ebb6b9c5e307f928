//! The collector: stops the world, marks what can be reached, and leaves the rest to be swept while the program runs.
//!
//! In reading order: `object` (kinds, headers, allocation), `cycle` (the steps), `words` (what may be
//! a pointer), `mark` and `queue` (marking on several threads), `roots`, `weak` (what becomes of weak
//! pointers), `search` and `finalize` (which destructors run, and when), `sweep`, `pacer` (when),
//! `stats`, `config`.
//!
//! # How it is meant to be used
//!
//! By the typed handles of the `raddle` crate. Here an object is an address, and stays alive while a word with an address inside it is,
//! aligned or not, in a register or on a stack, in a thread-local or static, in a live manual object, in a root that was added, or in another live
//! object of a scanned kind.

mod config;
mod cycle;
mod finalize;
mod mark;
mod object;
mod pacer;
mod queue;
mod roots;
mod search;
mod stats;
pub(crate) mod sweep;
mod weak;
mod words;

pub use config::{Config, Hooks, configure, install_hooks};
pub use cycle::is_pending;
pub use finalize::{next_to_drop, save};
pub use object::{Header, Kind, State, allocate, allocate_zeroed, state};
pub use pacer::{LimitBelowLive, set_memory_limit, set_percent};
pub use roots::{add_root, each_excluded, exclude, include, remove_root};
pub use stats::{PAUSE_BUCKETS, Stats, stats};
pub use sweep::sweep_some;
pub use weak::{WeakCell, weak_get, weak_new, weak_set};

pub(crate) use config::{POISON, poisons};
pub(crate) use object::format;
pub(crate) use pacer::{before_allocation, note_allocated};

/// Collects now: marks all that is live, clears weak pointers to the rest and queues its destructors. Its memory is swept later, as it is needed.
///
/// Nothing happens before the scheduler has booted, and while a thread blocks the signal by which threads are stopped.
///
/// **Blocking**: blocks the OS thread until a cycle that began after the call has marked.
pub fn collect() {
    cycle::collect();
}

/// The locks that are held in busy sections, for `fork`. None is taken under another of them.
pub(crate) fn each_lock(f: &mut dyn FnMut(&crate::Lock)) {
    for lock in [finalize::lock(), pacer::lock()] {
        f(lock);
    }
    roots::each_lock(f);
    f(queue::POOL.lock());
}

/// A child of `fork` begins: no other thread is there, and all locks of the allocator are held.
pub(crate) fn after_fork() {
    sweep::after_fork();
    cycle::after_fork();
}
