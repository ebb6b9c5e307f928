//! Memory without protection, and an order of which the detectors know nothing.

use std::arch::asm;
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::sync::atomic::AtomicU32;

/// A variable that anyone may touch.
#[derive(Debug)]
pub struct Racy<T>(UnsafeCell<T>);

// SAFETY: none; these programs race.
unsafe impl<T> Sync for Racy<T> {}

impl<T> Racy<T> {
    pub const fn new(value: T) -> Racy<T> {
        Racy(UnsafeCell::new(value))
    }

    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "see the type")]
    pub fn at(&self) -> &mut T {
        // SAFETY: never null; otherwise none, as for `Sync`.
        unsafe { &mut *self.0.get() }
    }
}

/// A value on the heap, for ever.
pub fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A reference that outlives its value for the compiler.
///
/// # Safety
/// It is not used after the value is gone.
pub unsafe fn forever<T>(value: &T) -> &'static T {
    // SAFETY: the caller's promise.
    unsafe { &*std::ptr::from_ref(value) }
}

/// Has the value made, and drops it.
#[inline(always)]
pub fn look<T>(value: T) {
    drop(black_box(value));
}

/// Set once, by inline assembly: the detectors do not see it, and it orders nothing for them.
#[derive(Debug, Default)]
pub struct Flag(AtomicU32);

impl Flag {
    pub fn is_set(&self) -> bool {
        let value: u32;
        // SAFETY: reads the four bytes that the reference leads to.
        unsafe {
            asm!("mov {:e}, dword ptr [{}]", out(reg) value, in(reg) self.0.as_ptr(), options(nostack));
        }
        value != 0
    }

    pub fn set(&self) {
        // SAFETY: writes the four bytes of an atomic that the reference leads to.
        unsafe { asm!("mov dword ptr [{}], 1", in(reg) self.0.as_ptr(), options(nostack)) }
    }
}
