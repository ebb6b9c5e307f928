//! Roots that the program names: memory that neither the collector nor the scheduler knows of, as from `mmap` or C's malloc.
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

struct Root {
    /// Pooled: the free list's, else the next that is registered.
    next: AtomicPtr<Root>,
    start: AtomicUsize,
    end: AtomicUsize,
}

// SAFETY: atomics are valid when zero; `next` is the first word.
unsafe impl Pooled for Root {}

static POOL: Pool<Root> = Pool::new();
static FIRST: AtomicPtr<Root> = AtomicPtr::new(ptr::null_mut());
static LOCK: Lock = Lock::new();

fn locked<R>(f: impl FnOnce() -> R) -> R {
    busy(this_thread(), || {
        LOCK.lock();
        let result = f();
        // SAFETY: taken above.
        unsafe { LOCK.unlock() };
        result
    })
}

/// The locks, for `fork`, in the order in which they nest.
pub(super) fn each_lock(f: &mut dyn FnMut(&Lock)) {
    f(&LOCK);
    f(POOL.lock());
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
    let done = locked(|| {
        let Some(root) = POOL.take() else {
            return false;
        };
        root.start.store(range.start, Relaxed);
        root.end.store(range.end, Relaxed);
        root.next.store(FIRST.load(Relaxed), Relaxed);
        FIRST.store(ptr::from_ref(root).cast_mut(), Relaxed);
        true
    });
    assert!(done, "out of memory for a root of the collector");
}

/// Undoes one [`add_root`] of the same range. The collector does not look at it any more once this has returned. A range that is not registered
/// is let pass.
///
/// # Safety
///
/// No object is in use that is reachable from there only.
pub unsafe fn remove_root(range: Range<usize>) {
    locked(|| {
        let mut link = &FIRST;
        // SAFETY: null or a root; their memory is never unmapped.
        while let Some(root) = unsafe { link.load(Relaxed).as_ref() } {
            if root.start.load(Relaxed) == range.start && root.end.load(Relaxed) == range.end {
                link.store(root.next.load(Relaxed), Relaxed);
                // SAFETY: from the pool, and in the list no more.
                unsafe { POOL.give(root) };
                return;
            }
            link = &root.next;
        }
    });
}

/// Shows each range, with the world stopped.
pub(super) fn each(show: &mut dyn FnMut(Range<usize>)) {
    let mut at = FIRST.load(Relaxed);
    // SAFETY: as above.
    while let Some(root) = unsafe { at.as_ref() } {
        show(root.start.load(Relaxed)..root.end.load(Relaxed));
        at = root.next.load(Relaxed);
    }
}
