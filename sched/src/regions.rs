//! The memory that Gs are made in: mapped piece by piece, never given back.
//!
//! # Invariants
//!
//! 1. Of the last region the first `made` places hold Gs, of the others all. A region is never
//!    unmapped.
//!
//! # Why not
//!
//! *malloc*: it grows a thread's arena page by page, a system call each under the lock that page
//! faults take, and a program that starts a million goroutines does that a hundred thousand times.
//! *Huge pages*: finding and clearing 2 MiB at once costs more than the faults it saves (a million
//! goroutines: 10 % slower).

use crate::g::G;
use memmap2::MmapMut;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::NonNull;

/// Regions double from the first size to the last, in bytes.
const FIRST_BYTES: usize = 256 << 10;
const LARGEST_BYTES: usize = 4 << 20;

/// See the module's head.
pub(crate) struct Regions {
    full: Vec<&'static [G]>,
    last: NonNull<G>,
    made: usize,
    /// How many Gs the last region has room for.
    room: usize,
    next_bytes: usize,
}

// SAFETY: the pointer is to memory that only this points to.
unsafe impl Send for Regions {}

impl Regions {
    pub(crate) const fn new() -> Regions {
        Regions {
            full: Vec::new(),
            last: NonNull::dangling(),
            made: 0,
            room: 0,
            next_bytes: FIRST_BYTES,
        }
    }

    /// A new G.
    pub(crate) fn make(&mut self) -> &'static G {
        if self.made == self.room {
            self.grow();
        }
        // SAFETY: below `room`, so inside the region.
        let at = unsafe { self.last.add(self.made) };
        // SAFETY: mapped for good, and not yet in use.
        unsafe { at.write(G::new(false)) };
        self.made += 1;
        // SAFETY: just written, never freed.
        unsafe { at.as_ref() }
    }

    #[cold]
    fn grow(&mut self) {
        let Ok(map) = MmapMut::map_anon(self.next_bytes) else {
            crate::throw("out of memory for goroutines");
        };
        let start = ManuallyDrop::new(map).as_mut_ptr();
        self.full.push(self.last_made());
        self.last = NonNull::new(start.cast()).expect("a mapping is not at address 0");
        self.made = 0;
        self.room = self.next_bytes / size_of::<G>();
        self.next_bytes = (self.next_bytes * 2).min(LARGEST_BYTES);
    }

    fn last_made(&self) -> &'static [G] {
        // SAFETY: so many were made (invariant 1); before the first region, none.
        unsafe { std::slice::from_raw_parts(self.last.as_ptr(), self.made) }
    }

    /// Shows the addresses of all regions: whole pages.
    pub(crate) fn each_range(&self, mut show: impl FnMut(Range<usize>)) {
        let last = (self.last.as_ptr().addr(), self.room);
        let full = self.full.iter().map(|gs| (gs.as_ptr().addr(), gs.len()));
        for (start, gs) in full.chain([last]).filter(|&(_, gs)| gs > 0) {
            // What is left of the last page is too small for a G.
            let bytes = gs * size_of::<G>();
            show(start..start + bytes.next_multiple_of(crate::stack::PAGE_BYTES));
        }
    }

    /// Every G that was made.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static G> {
        self.full
            .iter()
            .flat_map(|full| full.iter())
            .chain(self.last_made())
    }
}
