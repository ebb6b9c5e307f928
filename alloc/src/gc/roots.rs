//! What the program says of memory that the scheduler does not know as roots, or takes for roots
//! for want of knowing better: ranges to look into, such as memory that it shares with other
//! processes, and ranges to leave out, such as a large mapping of numbers.
//!
//! # Blocking
//!
//! A lock, in busy sections, for a walk over all that are registered.

use crate::futex::Lock;
use crate::meta::{Pool, Pooled};
use crate::thread::{busy, this_thread};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::*};

/// A range in a list.
struct Entry {
    /// Pooled: the free list's, else the next that is registered.
    next: AtomicPtr<Entry>,
    start: AtomicUsize,
    end: AtomicUsize,
}

// SAFETY: atomics are valid when zero; `next` is the first word.
unsafe impl Pooled for Entry {}

static POOL: Pool<Entry> = Pool::new();
/// Guards both lists.
static LOCK: Lock = Lock::new();
static ROOTS: List = List::new();
static EXCLUDED: List = List::new();

/// The locks, for `fork`, in the order in which they nest.
pub(super) fn each_lock(f: &mut dyn FnMut(&Lock)) {
    f(&LOCK);
    f(POOL.lock());
}

/// Ranges that the program registered.
struct List(AtomicPtr<Entry>);

impl List {
    const fn new() -> List {
        List(AtomicPtr::new(ptr::null_mut()))
    }

    /// # Panics
    ///
    /// When there is no memory left to remember it.
    fn add(&self, range: Range<usize>) {
        let done = locked(|| {
            let Some(entry) = POOL.take() else {
                return false;
            };
            entry.start.store(range.start, Relaxed);
            entry.end.store(range.end, Relaxed);
            entry.next.store(self.0.load(Relaxed), Relaxed);
            self.0.store(ptr::from_ref(entry).cast_mut(), Relaxed);
            true
        });
        assert!(done, "out of memory for a range of the collector's");
    }

    /// Takes one of that range off, if there is one.
    fn remove(&self, range: Range<usize>) {
        locked(|| {
            let mut link = &self.0;
            // SAFETY: null or an entry; their memory is never unmapped.
            while let Some(entry) = unsafe { link.load(Relaxed).as_ref() } {
                if entry.start.load(Relaxed) == range.start && entry.end.load(Relaxed) == range.end
                {
                    link.store(entry.next.load(Relaxed), Relaxed);
                    // SAFETY: from the pool, and in the list no more.
                    unsafe { POOL.give(entry) };
                    return;
                }
                link = &entry.next;
            }
        });
    }

    /// Shows each range, with the world stopped.
    fn each(&self, show: &mut dyn FnMut(Range<usize>)) {
        let mut at = self.0.load(Relaxed);
        // SAFETY: as above.
        while let Some(entry) = unsafe { at.as_ref() } {
            show(entry.start.load(Relaxed)..entry.end.load(Relaxed));
            at = entry.next.load(Relaxed);
        }
    }
}

fn locked<R>(f: impl FnOnce() -> R) -> R {
    busy(this_thread(), || {
        LOCK.lock();
        let result = f();
        // SAFETY: taken above.
        unsafe { LOCK.unlock() };
        result
    })
}

/// Has the collector scan `range` from now on.
///
/// # Safety
///
/// It is readable until [`remove_root`].
///
/// # Panics
///
/// When there is no memory left to remember it.
pub unsafe fn add_root(range: Range<usize>) {
    ROOTS.add(range);
}

/// Undoes one [`add_root`] of the same range. The collector does not look at it any more once this
/// has returned. A range that is not registered is let pass.
///
/// # Safety
///
/// No object is in use that is reachable from there only.
pub unsafe fn remove_root(range: Range<usize>) {
    ROOTS.remove(range);
}

/// Has the world leave `range` out, from now on, when it shows the memory of the process.
///
/// # Safety
///
/// Until [`include()`], no object is in use that is reachable from there only.
///
/// # Panics
///
/// When there is no memory left to remember it.
pub unsafe fn exclude(range: Range<usize>) {
    EXCLUDED.add(range);
}

/// Undoes one [`exclude`] of the same range. A range that is not registered is let pass.
pub fn include(range: Range<usize>) {
    EXCLUDED.remove(range);
}

/// Shows each root, with the world stopped.
pub(super) fn each(show: &mut dyn FnMut(Range<usize>)) {
    ROOTS.each(show);
}

/// Shows each range that was excluded, with the world stopped. For the world.
pub fn each_excluded(show: &mut dyn FnMut(Range<usize>)) {
    EXCLUDED.each(show);
}
