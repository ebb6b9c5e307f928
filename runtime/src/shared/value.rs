//! [`Value`]: what may be read while another goroutine writes it; and how that is done.
//!
//! # Invariants
//!
//! 1. Shared values are read and written by relaxed atomics of one width, the smaller of 8 bytes and the type's
//!    alignment, whole words from the value's first byte on: no two accesses overlap in part.
//! 2. Every byte of a value is initialised (`NoUninit`), so every byte read is one that was written.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use bytemuck::{CheckedBitPattern, NoUninit};

/// A plain value that goroutines may share without a lock: numbers, `bool`, `char`, arrays of them, and what derives
/// bytemuck's `Pod`, or `NoUninit` and `CheckedBitPattern`.
///
/// It is copied word by word, so a reader that races with a writer may see some words old and some new. Where that is no
/// value of the type (a `CheckedBitPattern` of several words) the read panics.
pub trait Value: NoUninit + CheckedBitPattern + Send {}

impl<T: NoUninit + CheckedBitPattern + Send> Value for T {}

/// Copies the value at `ptr`, which others may be writing.
///
/// # Safety
///
/// `ptr` is valid and aligned, holds initialised bytes, and is shared by `load` and `store` of the same type only.
#[inline]
#[track_caller]
pub(super) unsafe fn load<T: Value>(ptr: *const T) -> T {
    let mut bits = MaybeUninit::<T::Bits>::uninit();
    let to = bits.as_mut_ptr();
    // SAFETY: `T::Bits` has the layout of `T`; both are `size_of::<T>()` bytes.
    unsafe { copy_in::<T>(ptr, to.cast()) };
    // SAFETY: every byte has been written, by invariant 2 with initialised bytes, and any bytes are `Bits`.
    let bits = unsafe { bits.assume_init() };
    assert!(
        T::is_valid_bit_pattern(&bits),
        "torn value: read while another goroutine was writing it"
    );
    // SAFETY: checked above; `T` has the layout of its `Bits`.
    unsafe { std::mem::transmute_copy::<T::Bits, T>(&bits) }
}

/// Writes `value` to `ptr`, which others may be reading or writing.
///
/// # Safety
///
/// As for [`load`].
#[inline]
pub(super) unsafe fn store<T: Value>(ptr: *mut T, value: T) {
    // SAFETY: by the contract; `value` is `size_of::<T>()` initialised bytes.
    unsafe { copy_out::<T>((&raw const value).cast(), ptr) };
}

macro_rules! by_words {
    ($word:ident $atomic:ident, $from:ident, $to:ident, $n:ident, in) => {
        for i in 0..$n / size_of::<$word>() {
            // SAFETY: within the value, aligned because the value is.
            let word = unsafe { &*$from.cast::<$atomic>().add(i) }.load(Relaxed);
            // SAFETY: within the copy, of any alignment.
            unsafe { $to.cast::<$word>().add(i).write_unaligned(word) };
        }
    };
    ($word:ident $atomic:ident, $from:ident, $to:ident, $n:ident, out) => {
        for i in 0..$n / size_of::<$word>() {
            // SAFETY: within the copy, of any alignment.
            let word = unsafe { $from.cast::<$word>().add(i).read_unaligned() };
            // SAFETY: within the value, aligned because the value is.
            unsafe { &*$to.cast::<$atomic>().add(i) }.store(word, Relaxed);
        }
    };
}

/// Copies a shared value to private memory.
#[inline]
unsafe fn copy_in<T>(from: *const T, to: *mut u8) {
    let n = size_of::<T>();
    match align_of::<T>() {
        1 => by_words!(u8 AtomicU8, from, to, n, in),
        2 => by_words!(u16 AtomicU16, from, to, n, in),
        4 => by_words!(u32 AtomicU32, from, to, n, in),
        _ => by_words!(u64 AtomicU64, from, to, n, in),
    }
}

/// Copies private memory to a shared value.
#[inline]
unsafe fn copy_out<T>(from: *const u8, to: *mut T) {
    let n = size_of::<T>();
    match align_of::<T>() {
        1 => by_words!(u8 AtomicU8, from, to, n, out),
        2 => by_words!(u16 AtomicU16, from, to, n, out),
        4 => by_words!(u32 AtomicU32, from, to, n, out),
        _ => by_words!(u64 AtomicU64, from, to, n, out),
    }
}
