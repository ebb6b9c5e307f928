//! Loads and stores of 1 to 16 bytes, aligned or not, volatile or not.
//!
//! A volatile access is an ordinary one to Rust's memory model: it may race. A compound access (a read and a write of the same
//! place, which the pass joins) is a write. The table of a C++ object's virtual functions is written and read like other memory.

use super::{watched, with_return_address};
use crate::access::Left;
use crate::cell::READ;
use crate::current::current_here;
use crate::{Pc, access};

#[inline(always)]
fn event(addr: usize, size: usize, flags: u64, pc: usize) {
    if let Some(ctx) = watched() {
        access::check_at_once(ctx.get(), addr, size, flags, Pc::code(pc));
    }
}

/// In the kind of an access that inlined code does not know: beside the size, whether it reads ...
pub(super) const READS: u32 = 1 << 8;
/// ... or whether it is none, and the history is full,
pub(super) const TURN: u32 = 1 << 9;
/// or it has to be compared with others though it may be known already.
pub(super) const AGAIN: u32 = 1 << 10;

/// The usual check. False: [`finish`] has to do the rest.
pub(super) extern "C" fn check_quickly(addr: usize, kind: u32, pc: usize) -> bool {
    let Some(ctx) = current_here() else {
        return true;
    };
    let c = ctx.get();
    if kind & TURN == 0 {
        let flags = if kind & READS != 0 { READ } else { 0 };
        let size = (kind & 0xff) as usize;
        // The first step has seen that accesses count.
        access::check_quickly(c, addr, size, flags, Pc::code(pc), kind & AGAIN != 0)
    } else {
        c.left = Left::Turn;
        false
    }
}

/// Does what [`check_quickly`] has left.
pub(super) extern "C" fn finish() {
    let Some(ctx) = current_here() else { return };
    access::finish(ctx.get());
}

extern "C" fn read<const SIZE: usize>(addr: usize, pc: usize) {
    event(addr, SIZE, READ, pc);
}

extern "C" fn write<const SIZE: usize>(addr: usize, pc: usize) {
    event(addr, SIZE, 0, pc);
}

/// The pointer to the table of virtual functions becomes another: a constructor or destructor at work.
extern "C" fn vptr_update(addr: usize, _new: usize, pc: usize) {
    event(addr, size_of::<usize>(), 0, pc);
}

with_return_address! {
    __tsan_read1 => read::<1>, "rsi";
    __tsan_read2 => read::<2>, "rsi";
    __tsan_read4 => read::<4>, "rsi";
    __tsan_read8 => read::<8>, "rsi";
    __tsan_read16 => read::<16>, "rsi";
    __tsan_write1 => write::<1>, "rsi";
    __tsan_write2 => write::<2>, "rsi";
    __tsan_write4 => write::<4>, "rsi";
    __tsan_write8 => write::<8>, "rsi";
    __tsan_write16 => write::<16>, "rsi";
    __tsan_read_write1 => write::<1>, "rsi";
    __tsan_read_write2 => write::<2>, "rsi";
    __tsan_read_write4 => write::<4>, "rsi";
    __tsan_read_write8 => write::<8>, "rsi";
    __tsan_read_write16 => write::<16>, "rsi";
    __tsan_unaligned_read1 => read::<1>, "rsi";
    __tsan_unaligned_read2 => read::<2>, "rsi";
    __tsan_unaligned_read4 => read::<4>, "rsi";
    __tsan_unaligned_read8 => read::<8>, "rsi";
    __tsan_unaligned_read16 => read::<16>, "rsi";
    __tsan_unaligned_write1 => write::<1>, "rsi";
    __tsan_unaligned_write2 => write::<2>, "rsi";
    __tsan_unaligned_write4 => write::<4>, "rsi";
    __tsan_unaligned_write8 => write::<8>, "rsi";
    __tsan_unaligned_write16 => write::<16>, "rsi";
    __tsan_unaligned_read_write1 => write::<1>, "rsi";
    __tsan_unaligned_read_write2 => write::<2>, "rsi";
    __tsan_unaligned_read_write4 => write::<4>, "rsi";
    __tsan_unaligned_read_write8 => write::<8>, "rsi";
    __tsan_unaligned_read_write16 => write::<16>, "rsi";
    __tsan_volatile_read1 => read::<1>, "rsi";
    __tsan_volatile_read2 => read::<2>, "rsi";
    __tsan_volatile_read4 => read::<4>, "rsi";
    __tsan_volatile_read8 => read::<8>, "rsi";
    __tsan_volatile_read16 => read::<16>, "rsi";
    __tsan_volatile_write1 => write::<1>, "rsi";
    __tsan_volatile_write2 => write::<2>, "rsi";
    __tsan_volatile_write4 => write::<4>, "rsi";
    __tsan_volatile_write8 => write::<8>, "rsi";
    __tsan_volatile_write16 => write::<16>, "rsi";
    __tsan_unaligned_volatile_read1 => read::<1>, "rsi";
    __tsan_unaligned_volatile_read2 => read::<2>, "rsi";
    __tsan_unaligned_volatile_read4 => read::<4>, "rsi";
    __tsan_unaligned_volatile_read8 => read::<8>, "rsi";
    __tsan_unaligned_volatile_read16 => read::<16>, "rsi";
    __tsan_unaligned_volatile_write1 => write::<1>, "rsi";
    __tsan_unaligned_volatile_write2 => write::<2>, "rsi";
    __tsan_unaligned_volatile_write4 => write::<4>, "rsi";
    __tsan_unaligned_volatile_write8 => write::<8>, "rsi";
    __tsan_unaligned_volatile_write16 => write::<16>, "rsi";
    __tsan_vptr_read => read::<8>, "rsi";
    __tsan_vptr_update => vptr_update, "rdx";
}
