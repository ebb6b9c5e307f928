//! A thread control block as memory: words at offsets from the thread pointer.
//!
//! # Invariants
//! 1. A block that `create` made holds, from its thread pointer upwards, `struct pthread` and then
//!    two words of ours: the image it was made by, and the block of the OS thread that runs it
//!    while it is active. Below, the static storage that the image lists.

use super::glibc::Glibc;
use super::image::{Image, Module};

/// Offset of the dtv in every x86-64 thread control block.
pub(super) const DTV: isize = 0x08;
/// Offset of the word that says whether the process has more threads than one.
pub(super) const MULTIPLE_THREADS: isize = 0x18;
/// Offset of the value that stack protectors compare.
pub(super) const STACK_GUARD: isize = 0x28;
/// Offset of the value that glibc mangles pointers with.
pub(super) const POINTER_GUARD: isize = 0x30;

/// The size of our words above `struct pthread`, in bytes.
pub(super) const OUR_BYTES: usize = 16;

/// A thread control block: the value of the thread pointer while it is active.
///
/// In [`TlsMode::Thread`](super::TlsMode::Thread) it names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Block(usize);

impl Block {
    /// The block that names nothing.
    pub(crate) const NONE: Self = Self(0);

    /// Returns the block whose thread pointer is `address`.
    #[inline(always)]
    pub(super) fn at_address(address: usize) -> Self {
        Self(address)
    }

    /// Returns the thread pointer.
    #[inline(always)]
    pub(super) fn address(self) -> usize {
        self.0
    }

    fn at<T>(self, offset: isize) -> *mut T {
        self.0.wrapping_add_signed(offset) as *mut T
    }

    /// Reads a field.
    ///
    /// # Safety
    /// There must be such a field at `offset`, initialised, and nobody else writing it.
    #[inline(always)]
    pub(super) unsafe fn read<T: Copy>(self, offset: isize) -> T {
        // SAFETY: as the caller owes.
        unsafe { self.at::<T>(offset).read() }
    }

    /// Writes a field.
    ///
    /// # Safety
    /// There must be such a field at `offset`, and nobody else using it.
    #[inline(always)]
    pub(super) unsafe fn write<T: Copy>(self, offset: isize, value: T) {
        // SAFETY: as the caller owes.
        unsafe { self.at::<T>(offset).write(value) }
    }

    /// Notes the image that the block is made by.
    ///
    /// # Safety
    /// The block's memory must be the caller's.
    pub(super) unsafe fn set_image(self, glibc: &Glibc, image: &'static Image) {
        // SAFETY: invariant 1 gives the word; the caller owes the rest.
        unsafe { self.write::<*const Image>(glibc.tcb_bytes as isize, image) };
    }

    /// Returns the image that the block was made by.
    ///
    /// # Safety
    /// `create` must have made the block.
    pub(super) unsafe fn image(self, glibc: &Glibc) -> &'static Image {
        // SAFETY: invariant 1.
        let image = unsafe { self.read::<*const Image>(glibc.tcb_bytes as isize) };
        // SAFETY: images are never freed or changed.
        unsafe { &*image }
    }

    /// Returns the block's static storage of `module`.
    ///
    /// # Safety
    /// `module` must be of the block's image, and nobody else may use the storage.
    pub(super) unsafe fn storage_mut<'a>(self, module: &Module) -> &'a mut [u8] {
        let start = self.at::<u8>(-(module.below as isize));
        // SAFETY: by invariant 1 the storage is there; the caller owes the rest.
        unsafe { std::slice::from_raw_parts_mut(start, module.bytes) }
    }
}
