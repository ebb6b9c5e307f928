//! What a program may say to the collector and ask of it.

use std::ops::Range;

use raddle_alloc::gc;
pub use raddle_alloc::gc::{LimitBelowLive, Stats};

use super::background;

/// Collects now: when this returns, everything that was unreachable when it was called has been
/// found. Its memory is taken back, and destructors run, soon after.
///
/// **Blocking**: blocks the thread; the world stands still for most of it.
///
/// **Happens-before**: no edge.
///
/// # Examples
///
/// ```
/// let before = raddle::gc::stats().cycles;
/// raddle::gc::collect();
/// assert!(raddle::gc::stats().cycles > before);
/// ```
pub fn collect() {
    background::ensure();
    gc::collect();
}

/// Says by how many percent of what is live the heap may grow before the next collection; `None`:
/// no collections but those that [`collect`] and a memory limit ask for. Returns what was said
/// before. At the start it is 100, or what `RADDLE_GC` says.
///
/// **Blocking**: no.
pub fn set_percent(percent: Option<u32>) -> Option<u32> {
    background::ensure();
    gc::set_percent(percent)
}

/// Says how many bytes the heap should have at most, `Box` and its kin included; `None`: any
/// number. Returns what was said before.
///
/// Near the limit collections come as often as it takes. It is a wish: what is live stays, and the
/// heap grows beyond.
///
/// **Blocking**: blocks the thread if a collection is due at once.
///
/// # Errors
///
/// What is live now is more than that. Nothing has changed.
///
/// # Examples
///
/// ```
/// assert_eq!(raddle::gc::set_memory_limit(Some(1 << 30)).unwrap(), None);
/// let error = raddle::gc::set_memory_limit(Some(1)).unwrap_err();
/// assert_eq!(error.limit, 1);
/// assert_eq!(raddle::gc::set_memory_limit(None).unwrap(), Some(1 << 30));
/// ```
pub fn set_memory_limit(bytes: Option<usize>) -> Result<Option<usize>, LimitBelowLive> {
    background::ensure();
    gc::set_memory_limit(bytes)
}

/// What the collector has done so far, and the heap as it is.
///
/// **Blocking**: no.
#[must_use]
pub fn stats() -> Stats {
    gc::stats()
}

/// Keeps what `handle` leads to alive up to here.
///
/// A handle that is not used, nor borrowed, any more may be forgotten before its scope ends. This
/// matters only where something but the handle and its borrows says how long the value is needed:
/// an address given to C, a destructor that must not run yet.
///
/// # Examples
///
/// ```
/// use raddle::gc::{self, Gc};
///
/// let buffer = Gc::new([0_u8; 64]);
/// let address = Gc::as_ptr(&buffer).addr(); // no address any more: a number, which C may keep
/// // ... C uses it ...
/// gc::keep_alive(&buffer);
/// # let _ = address;
/// ```
#[inline]
pub fn keep_alive<T: ?Sized>(handle: &T) {
    // The compiler must believe that the handle's memory is read here.
    std::hint::black_box(handle);
}

/// Makes the collector look for handles in memory where it does not look by itself: what the
/// process shares with others (`MAP_SHARED`), and what it may not write to.
///
/// # Safety
///
/// The range can be read until [`remove_root`] of it, or to the end of the process.
///
/// # Panics
///
/// When there is no memory left to remember it.
pub unsafe fn add_root(range: Range<usize>) {
    background::ensure();
    // SAFETY: the caller's contract.
    unsafe { gc::add_root(range) }
}

/// Ends an [`add_root`] of the same range.
///
/// # Safety
///
/// No handle in it is needed to keep something alive from here on.
pub unsafe fn remove_root(range: Range<usize>) {
    // SAFETY: the caller's contract.
    unsafe { gc::remove_root(range) }
}

/// Keeps the collector from looking for handles in a range of the program's own mappings: gigabytes
/// of numbers that C code or a `mmap` of the program's has written, which would be looked at in
/// each cycle. Whole pages count.
///
/// It says nothing of memory from Rust's allocator: for numbers there are objects without pointers
/// ([`Gc::new_no_pointers`](super::Gc::new_no_pointers), [`Slice::zeroed`](super::Slice::zeroed)).
///
/// # Safety
///
/// Until [`include()`] of the same range, or until the memory is unmapped *and* `include` was
/// called before anything else is mapped there, no handle in it is needed to keep something alive.
///
/// # Panics
///
/// When there is no memory left to remember it.
pub unsafe fn exclude(range: Range<usize>) {
    background::ensure();
    // SAFETY: the caller's contract.
    unsafe { gc::exclude(range) }
}

/// Ends an [`exclude`] of the same range.
pub fn include(range: Range<usize>) {
    gc::include(range);
}
