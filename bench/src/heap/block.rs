//! A block of memory from the global allocator, and random numbers.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::hint::black_box;
use std::ptr::NonNull;

/// A block, freed when it is dropped. Its first byte has been written: a program does not allocate what it does not use.
///
/// The calls go by `black_box`, or the compiler would leave out what is allocated and freed for nothing.
pub struct Block {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: it owns plain memory, which any thread may free.
unsafe impl Send for Block {}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a reasonable size")
}

impl Block {
    fn from(start: *mut u8, size: usize) -> Block {
        let start = NonNull::new(black_box(start)).expect("out of memory");
        Block { start, size }
    }

    /// `size` bytes, at least one.
    #[inline]
    pub fn new(size: usize) -> Block {
        // SAFETY: `size` is not 0.
        let block = Block::from(unsafe { alloc(layout(size)) }, size);
        // SAFETY: the first byte of fresh memory.
        unsafe { block.start.write(1) };
        block
    }

    /// `size` bytes of zeros, of which the last is looked at.
    #[inline]
    pub fn zeroed(size: usize) -> Block {
        // SAFETY: `size` is not 0.
        let block = Block::from(unsafe { alloc_zeroed(layout(size)) }, size);
        // SAFETY: the last byte, which is initialised.
        assert_eq!(unsafe { block.start.add(size - 1).read() }, 0);
        block
    }

    /// The same block with another size, at least one.
    pub fn resize(&mut self, size: usize) {
        // SAFETY: the block is from the global allocator, with this layout, and `size` is not 0.
        let moved = unsafe { realloc(self.start.as_ptr(), layout(self.size), size) };
        self.start = NonNull::new(black_box(moved)).expect("out of memory");
        self.size = size;
        // SAFETY: the last byte, which only this block has.
        unsafe { self.start.add(size - 1).write(1) };
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: from the global allocator, with this layout; freed once.
        unsafe { dealloc(self.start.as_ptr(), layout(self.size)) };
    }
}

/// SplitMix64: small, and good enough to choose sizes and slots.
pub struct Random(pub u64);

impl Random {
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32).wrapping_mul(n as u64) as usize >> 32
    }

    /// From `least` to `most`.
    #[inline]
    pub fn size(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }
}
