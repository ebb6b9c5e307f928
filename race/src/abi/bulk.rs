//! Copies and fills, which the pass calls in place of the C library's.
//!
//! Most copies are of a few words that are known. Those cost a short look, by a function that calls no other but the C library's, at
//! its end: it has no registers to save. All else is left to another.

use super::{watched, with_return_address};
use crate::cell::READ;
use crate::ctx::GoCtx;
use crate::current::current_here;
use crate::{Pc, access};

/// Whether a copy of a few words is known. For who is not watched no access is, but when race mode is off.
#[inline(always)]
fn is_known_copy(to: *mut u8, from: *const u8, size: usize) -> bool {
    current_here().is_some_and(|ctx| {
        let is_known = |addr, flags| access::is_known_short(ctx.get(), addr, size, flags);
        is_known(from.addr(), READ) && is_known(to.addr(), 0)
    })
}

#[inline(always)]
fn range(ctx: GoCtx, addr: *const u8, size: usize, flags: u64, pc: usize) {
    if !access::is_known_range(ctx.get(), addr.addr(), size, flags) {
        access::check(ctx.get(), addr.addr(), size, flags, Pc::code(pc));
    }
}

#[inline(always)]
fn copy(to: *mut u8, from: *const u8, size: usize, pc: usize) {
    if let Some(ctx) = watched() {
        range(ctx, from, size, READ, pc);
        range(ctx, to, size, 0, pc);
    }
}

/// # Safety
/// As C's `memcpy`.
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, size: usize, pc: usize) -> *mut u8 {
    if !is_known_copy(to, from, size) {
        // SAFETY: the caller's contract.
        return unsafe { checked_memcpy(to, from, size, pc) };
    }
    // SAFETY: the caller's contract.
    unsafe { libc::memcpy(to.cast(), from.cast(), size) }.cast()
}

/// # Safety
/// As C's `memcpy`.
#[inline(never)]
unsafe extern "C" fn checked_memcpy(
    to: *mut u8,
    from: *const u8,
    size: usize,
    pc: usize,
) -> *mut u8 {
    copy(to, from, size, pc);
    // SAFETY: the caller's contract.
    unsafe { libc::memcpy(to.cast(), from.cast(), size) }.cast()
}

/// # Safety
/// As C's `memmove`.
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, size: usize, pc: usize) -> *mut u8 {
    copy(to, from, size, pc);
    // SAFETY: the caller's contract.
    unsafe { libc::memmove(to.cast(), from.cast(), size) }.cast()
}

/// # Safety
/// As C's `memset`.
unsafe extern "C" fn memset(to: *mut u8, byte: i32, size: usize, pc: usize) -> *mut u8 {
    write_range(to, size, pc);
    // SAFETY: the caller's contract.
    unsafe { libc::memset(to.cast(), byte, size) }.cast()
}

/// Reads a range: of code that announces more than the pass does.
extern "C" fn read_range(addr: *const u8, size: usize, pc: usize) {
    if let Some(ctx) = watched() {
        range(ctx, addr, size, READ, pc);
    }
}

/// Writes a range.
extern "C" fn write_range(addr: *const u8, size: usize, pc: usize) {
    if let Some(ctx) = watched() {
        range(ctx, addr, size, 0, pc);
    }
}

with_return_address! {
    __tsan_memcpy => memcpy, "rcx";
    raddle_race_memcpy_v1 => memcpy, "rcx";
    __tsan_memmove => memmove, "rcx";
    __tsan_memset => memset, "rcx";
    __tsan_read_range => read_range, "rdx";
    __tsan_write_range => write_range, "rdx";
}
