//! What one thread pays. An operation is a malloc and a free, or a realloc.

use crate::block::{Block, Random};

/// Allocates 64 bytes and frees them, again and again.
pub fn malloc_free_64(n: usize) {
    for _ in 0..n {
        drop(Block::new(64));
    }
}

/// Keeps 256 blocks of 16 to 1024 bytes, and replaces a random one by another.
pub fn malloc_free_mixed(n: usize) {
    let mut random = Random(1);
    let mut slots: Vec<Option<Block>> = (0..256).map(|_| None).collect();
    for _ in 0..n {
        let slot = random.below(slots.len());
        slots[slot] = Some(Block::new(random.size(16, 1024)));
    }
}

/// Allocates a thousand blocks of 64 bytes, then frees them in the order in which they came.
pub fn burst(n: usize) {
    let mut blocks = Vec::with_capacity(1000);
    for i in 0..n {
        blocks.push(Block::new(64));
        if blocks.len() == 1000 || i + 1 == n {
            blocks.clear();
        }
    }
}

/// Keeps 256 zeroed blocks of 16 to 8192 bytes, and replaces a random one by another.
pub fn calloc(n: usize) {
    let mut random = Random(2);
    let mut slots: Vec<Option<Block>> = (0..256).map(|_| None).collect();
    for _ in 0..n {
        let slot = random.below(slots.len());
        slots[slot] = Some(Block::zeroed(random.size(16, 8192)));
    }
}

/// Grows 16 blocks in turn from 16 bytes, by a half of their size, until they have 256 KiB and begin anew: as vectors and strings do.
pub fn realloc(n: usize) {
    let mut blocks: Vec<Block> = (0..16).map(|_| Block::new(16)).collect();
    let mut sizes = vec![16; blocks.len()];
    for i in 0..n {
        let (block, size) = (&mut blocks[i % 16], &mut sizes[i % 16]);
        *size = if *size >= 256 << 10 {
            *block = Block::new(16);
            16
        } else {
            *size * 3 / 2
        };
        block.resize(*size);
    }
}

/// Keeps 16 blocks of 64 KiB to 4 MiB, and replaces a random one by another.
pub fn large(n: usize) {
    let mut random = Random(3);
    let mut slots: Vec<Option<Block>> = (0..16).map(|_| None).collect();
    for _ in 0..n {
        let slot = random.below(slots.len());
        slots[slot] = Some(Block::new(random.size(64 << 10, 4 << 20)));
    }
}
