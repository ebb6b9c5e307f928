//! A vector in memory of its own: for what is noted while the world is stopped, when the heap must
//! not be touched.
//!
//! # Invariants
//!
//! 1. The first `len` places of `at` hold items; there is room for `room`.
//!
//! # Blocking
//!
//! Growing is a system call, which no stopped thread can hold up: it is stopped outside the kernel.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Buf<T> {
    at: NonNull<T>,
    len: usize,
    room: usize,
}

// SAFETY: it owns its items as a vector does.
unsafe impl<T: Send> Send for Buf<T> {}

const FIRST_BYTES: usize = 64 << 10;

impl<T: Copy> Buf<T> {
    pub(super) const fn new() -> Buf<T> {
        Buf {
            at: NonNull::dangling(),
            len: 0,
            room: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn push(&mut self, item: T) {
        if self.len == self.room {
            self.grow();
        }
        // SAFETY: below `room`.
        let place = unsafe { self.at.add(self.len) };
        // SAFETY: inside the mapping, aligned since mappings are.
        unsafe { place.write(item) };
        self.len += 1;
    }

    /// Keeps those items only of which `keep` says so, in their order.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut kept = 0;
        for i in 0..self.len {
            let item = self[i];
            if keep(&item) {
                self[kept] = item;
                kept += 1;
            }
        }
        self.len = kept;
    }

    #[cold]
    fn grow(&mut self) {
        // Where the collector does not look. What it had before stays mapped: all of that is less
        // than this.
        let bytes = (2 * self.room * size_of::<T>()).max(FIRST_BYTES);
        let at = raddle_race::sys::map_bookkeeping(bytes);
        if at == libc::MAP_FAILED {
            crate::throw("out of memory for a list of threads");
        }
        let at: NonNull<T> = NonNull::new(at.cast()).expect("a mapping is not at address 0");
        // SAFETY: `len` items are there, and the new mapping has more room.
        unsafe { at.copy_from_nonoverlapping(self.at, self.len) };
        self.at = at;
        self.room = bytes / size_of::<T>();
    }
}

impl<T> Deref for Buf<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: invariant 1.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Buf<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: invariant 1.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::Buf;

    #[test]
    fn it_keeps_what_is_pushed_as_it_grows() {
        let mut buf = Buf::new();
        for i in 0..100_000u64 {
            buf.push(i);
        }
        assert_eq!(buf.len(), 100_000);
        assert!(buf.iter().copied().eq(0..100_000));
        buf.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(buf[0], 99_999);
        buf.retain(|n| n % 3 == 0);
        assert!(
            buf.iter()
                .copied()
                .eq((0..100_000).rev().filter(|n| n % 3 == 0))
        );
        buf.clear();
        assert!(buf.is_empty());
    }
}
