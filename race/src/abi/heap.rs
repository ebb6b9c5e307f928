//! What calls of allocators become that are not instrumented, and are none of ours: mimalloc,
//! jemalloc and the like (`cargo-raddle`'s hooks). Without these a block would keep the marks of
//! its last life.
//!
//! An allocator may stand in for the C library's heap, or be it: then its blocks may be announced
//! by `interpose` as well. A block that was is not announced again; what ends twice is no harm.
//!
//! A free is announced before the call, when nobody else can have the block yet.

use super::{watched, with_return_address};
use crate::mem::KeptErrno;
use crate::{Pc, enabled, heap, read_range};

/// The goroutine is about to ask for a block.
#[unsafe(no_mangle)]
extern "C" fn raddle_race_block_wanted_v1() {
    if let Some(me) = watched() {
        me.get().last_block = 0;
    }
}

/// It was given one, or none.
extern "C" fn given(block: usize, size: usize, pc: usize) {
    let is_known = || watched().is_some_and(|me| me.get().last_block == block);
    if enabled() && block != 0 && !is_known() {
        let _errno = KeptErrno::new();
        heap::malloc(block, size, Pc::code(pc));
    }
}

/// The block is about to be freed.
extern "C" fn ends(block: usize, size: usize, pc: usize) {
    if enabled() && block != 0 {
        let _errno = KeptErrno::new();
        heap::free(block, size, Pc::code(pc));
    }
}

/// The block is about to be given another size, perhaps elsewhere.
extern "C" fn moves(block: usize, size: usize, new_size: usize, pc: usize) {
    if watched().is_some() {
        let _errno = KeptErrno::new();
        read_range(block, size.min(new_size), Pc::code(pc));
    }
    ends(block, size, pc);
}

with_return_address! {
    raddle_race_block_given_v1 => given, "rdx";
    raddle_race_block_ends_v1 => ends, "rdx";
    raddle_race_block_moves_v1 => moves, "rcx";
}
