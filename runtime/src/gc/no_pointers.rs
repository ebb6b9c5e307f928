//! [`NoPointers`]: values that the collector need not look into.

use bytemuck::NoUninit;

use crate::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize,
};

/// A value whose own bytes hold no handle to a collected object.
///
/// Numbers, `bool`, `char`, `NonZero…`, arrays of them, and what derives bytemuck's `Pod` or `NoUninit`, are; the atomic
/// integers of [`sync::atomic`](crate::sync::atomic) too. For a type of your own, with padding, with `MaybeUninit`, with std's
/// atomics inside, implement it.
///
/// # Safety
///
/// Nothing that the collector manages is reached through an address in the bytes of such a value: no [`Gc`](super::Gc), no
/// [`Slice`](super::Slice), [`Weak`](super::Weak) or [`Atomic`](super::Atomic), and no reference into a collected value.
/// A `Box`, `Vec`, `String` or `Arc` is allowed, whatever is in it: the collector looks into *their* memory by itself.
///
/// # Examples
///
/// ```
/// use raddle::gc::{Gc, NoPointers};
///
/// struct Sample {
///     channel: u8,
///     values: [f64; 100],
/// }
/// // SAFETY: numbers only.
/// unsafe impl NoPointers for Sample {}
///
/// let sample = Gc::new_no_pointers(Sample { channel: 1, values: [0.5; 100] });
/// assert_eq!(sample.values[usize::from(sample.channel)], 0.5);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not known to hold no handles to collected values",
    note = "if it holds none, say so by `unsafe impl raddle::gc::NoPointers`; else use `Gc::new`, or `Slice::from_fn`"
)]
pub unsafe trait NoPointers {}

// SAFETY: `NoUninit` forbids pointers of any type. (It is the wider one: every `Pod` is `NoUninit`.)
unsafe impl<T: NoUninit> NoPointers for T {}

macro_rules! numbers {
    ($($atomic:ident)*) => {$(
        // SAFETY: a number. A handle cannot be made of it in safe code.
        unsafe impl NoPointers for $atomic {}
        // SAFETY: transparent over a number or `bool`, for which all zeros are a value.
        unsafe impl bytemuck::Zeroable for $atomic {}
    )*};
}

numbers! {
    AtomicBool AtomicI8 AtomicI16 AtomicI32 AtomicI64 AtomicIsize AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize
}
