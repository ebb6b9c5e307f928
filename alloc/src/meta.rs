//! The heap's own memory: for spans, caches and thread records. Mapped, never given back; what is carved from it is recycled.
//!
//! # Invariants
//!
//! 1. What [`Pool::take`] returns stays mapped for ever: a late look at a recycled object reads an object of the same type.
//! 2. Nothing in here is a root of the collector: no pointer to the program's objects may be kept here only, but for the
//!    magazines of caches, which the collector empties before it marks.
//!
//! # Blocking
//!
//! A [`Lock`] for a few dozen instructions. To be called in busy sections only, or before threads can be stopped.

use crate::futex::{Lock, Locked};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// Bytes mapped at a time.
const BLOCK: usize = 256 << 10;

/// Maps `bytes` of zeros, for ever.
pub(crate) fn map(bytes: usize) -> Option<NonNull<u8>> {
    let at = raddle_race::sys::map_bookkeeping(bytes);
    (at != libc::MAP_FAILED).then(|| NonNull::new(at.cast()))?
}

/// A type whose objects are valid when all their bytes are zero, and start with a word that free lists may use.
///
/// # Safety
///
/// Both hold.
pub(crate) unsafe trait Pooled: 'static {}

/// All objects of a type.
pub(crate) struct Pool<T> {
    state: Locked<State>,
    _of: PhantomData<fn() -> T>,
}

struct State {
    free: *mut Free,
    at: *mut u8,
    left: usize,
}

struct Free {
    next: *mut Free,
}

// SAFETY: it points to memory that is the pool's.
unsafe impl Send for State {}

impl<T: Pooled> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self {
            state: Locked::new(State {
                free: ptr::null_mut(),
                at: ptr::null_mut(),
                left: 0,
            }),
            _of: PhantomData,
        }
    }

    /// The lock, for `fork`.
    pub(crate) fn lock(&self) -> &Lock {
        self.state.lock()
    }

    /// Takes an object: zeroed, or as [`give`](Self::give) got it but for its first word, which is null. None: out of memory.
    pub(crate) fn take(&self) -> Option<&'static T> {
        let object = self.state.with(|state| take(state, size_of::<T>()));
        // SAFETY: mapped for ever (invariant 1), large enough, aligned to 64, and valid by `Pooled`.
        object.map(|object| unsafe { object.cast::<T>().as_ref() })
    }

    /// Takes an object back.
    ///
    /// # Safety
    ///
    /// It came from this pool, and nobody uses it but for late looks at atomics.
    pub(crate) unsafe fn give(&self, object: &'static T) {
        let object = ptr::from_ref(object).cast_mut().cast::<Free>();
        self.state.with(|state| {
            // SAFETY: the first word is ours by `Pooled`.
            unsafe { (*object).next = state.free };
            state.free = object;
        });
    }
}

fn take(state: &mut State, bytes: usize) -> Option<NonNull<u8>> {
    if let Some(mut first) = NonNull::new(state.free) {
        // SAFETY: on the free list, hence ours.
        let first_ref = unsafe { first.as_mut() };
        state.free = first_ref.next;
        first_ref.next = ptr::null_mut();
        return Some(first.cast());
    }
    let bytes = bytes.next_multiple_of(64);
    if state.left < bytes {
        let block = BLOCK.max(bytes);
        state.at = map(block)?.as_ptr();
        state.left = block;
    }
    let at = state.at;
    state.at = at.wrapping_add(bytes);
    state.left -= bytes;
    NonNull::new(at)
}
