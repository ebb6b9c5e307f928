//! Moves of values that are no accesses of the program: into and out of memory of the runtime's that no other goroutine can name.
//!
//! Typed shells (`chan`, `raddle`) are compiled in the program's crates, and watched there. What they do with the program's own
//! memory is the program's; but a message on its way through the caller's frame, or a closure on its way into a goroutine, lies where
//! only the runtime knows it, for a moment. To watch that finds nothing, and costs as much as the whole operation. So these moves go
//! word by word through assembly, which LLVM's pass leaves alone; the optimiser makes registers of the value's own copy.
//!
//! # Invariants
//! 1. A move is a copy of the bytes: padding included, pointers with their provenance.
//! 2. What the program does to come by the value, or with it afterwards, is watched: its loads stay its own.
//! 3. A value above `MOST` bytes lies in memory anyway. A function of this crate copies it, which is compiled plain.
//!
//! # Why not
//! That function for all: the value would have to lie in memory whose address it is given, and that makes the stores there watched ones.

use std::arch::asm;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;

/// What is moved in registers, in bytes.
const MOST: usize = 64;

/// Invariant 3.
#[inline(never)]
unsafe fn copy(src: *const u8, dst: *mut u8, bytes: usize) {
    // SAFETY: the callers pass two values of as many bytes.
    unsafe { ptr::copy_nonoverlapping(src, dst, bytes) };
}

/// Copies `$size` bytes in pieces of 8, 4, 2 and 1; `$copy` copies one piece, at an offset.
macro_rules! in_pieces {
    ($size:expr, $copy:ident) => {
        let (size, mut at) = ($size, 0);
        while at + 8 <= size {
            $copy!(*mut u8, reg, "", "qword", at);
            at += 8;
        }
        if size & 4 != 0 {
            $copy!(u32, reg, ":e", "dword", at);
            at += 4;
        }
        if size & 2 != 0 {
            $copy!(u16, reg, ":x", "word", at);
            at += 2;
        }
        if size & 1 != 0 {
            $copy!(u8, reg_byte, "", "byte", at);
        }
    };
}

/// Moves `value` to `dst`.
///
/// # Safety
///
/// `dst` is valid for writing and aligned, and is the runtime's: the program knows no way to it.
#[inline(always)]
pub unsafe fn put<T>(dst: *mut T, value: T) {
    let value = ManuallyDrop::new(value);
    let (src, dst) = (ptr::from_ref(&value).cast::<u8>(), dst.cast::<u8>());
    if size_of::<T>() > MOST {
        // SAFETY: by the contract; the value is forgotten here.
        unsafe { copy(src, dst, size_of::<T>()) };
        return;
    }
    macro_rules! piece {
        ($piece:ty, $class:ident, $form:literal, $size:literal, $at:ident) => {
            // SAFETY: inside the value.
            let piece = unsafe { src.add($at).cast::<MaybeUninit<$piece>>().read_unaligned() };
            // SAFETY: inside the place, which is valid for writing.
            unsafe {
                asm!(
                    concat!("mov ", $size, " ptr [{dst}], {piece", $form, "}"),
                    dst = in(reg) dst.add($at),
                    piece = in($class) piece,
                    options(nostack, preserves_flags),
                )
            };
        };
    }
    in_pieces!(size_of::<T>(), piece);
}

/// Moves the value at `src` out.
///
/// # Safety
///
/// As of [`ptr::read`]; and `src` is the runtime's: the program knows no way to it.
#[inline(always)]
pub unsafe fn take<T>(src: *const T) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    let (src, dst) = (src.cast::<u8>(), value.as_mut_ptr().cast::<u8>());
    if size_of::<T>() > MOST {
        // SAFETY: by the contract.
        unsafe { copy(src, dst, size_of::<T>()) };
        // SAFETY: all its bytes are a copy of the value's.
        return unsafe { value.assume_init() };
    }
    macro_rules! piece {
        ($piece:ty, $class:ident, $form:literal, $size:literal, $at:ident) => {
            let piece: MaybeUninit<$piece>;
            // SAFETY: inside the place, which is valid for reading.
            unsafe {
                asm!(
                    concat!("mov {piece", $form, "}, ", $size, " ptr [{src}]"),
                    src = in(reg) src.add($at),
                    piece = out($class) piece,
                    options(nostack, preserves_flags, readonly),
                )
            };
            // SAFETY: inside the value.
            unsafe { dst.add($at).cast::<MaybeUninit<$piece>>().write_unaligned(piece) };
        };
    }
    in_pieces!(size_of::<T>(), piece);
    // SAFETY: all its bytes are a copy of the value's.
    unsafe { value.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<T: Clone + PartialEq + std::fmt::Debug>(value: T) {
        let mut place = MaybeUninit::uninit();
        // SAFETY: a place of its own.
        unsafe { put(place.as_mut_ptr(), value.clone()) };
        // SAFETY: put there just now, and forgotten there.
        assert_eq!(unsafe { take(place.as_ptr()) }, value);
    }

    #[test]
    fn values_of_all_sizes_come_back() {
        fn bytes<const N: usize>() {
            there_and_back::<[u8; N]>(std::array::from_fn(|i| i as u8 + 1));
        }
        bytes::<0>();
        bytes::<1>();
        bytes::<2>();
        bytes::<3>();
        bytes::<5>();
        bytes::<7>();
        bytes::<8>();
        bytes::<15>();
        bytes::<64>();
        bytes::<65>();
        there_and_back((1u8, 2u64, 3u16, 'x'));
        there_and_back((Box::new(7), vec![String::from("a")], Some(1u32), 0.5));
    }

    #[test]
    fn what_lies_behind_is_not_touched() {
        let mut place = [0xee_u8; 16];
        // SAFETY: inside the array; bytes have no alignment.
        unsafe { put(place.as_mut_ptr().cast::<[u8; 7]>(), [1; 7]) };
        assert_eq!(place[..7], [1; 7]);
        assert_eq!(place[7..], [0xee; 9]);
    }
}
