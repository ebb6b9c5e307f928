//! Making objects that nothing but the handle in hand leads to, and taking the memory of those that
//! are gone.

use raddle::gc::{self, Gc, Slice};
use std::hint::black_box;

/// Bytes of the objects that the tests look at.
pub(crate) const N: usize = 3000;

/// Calls `make` deep down the stack: no copy of what it makes is left in the frames that the caller
/// will use.
#[inline(never)]
pub(crate) fn deep<H>(make: &dyn Fn() -> H) -> H {
    fn at<H>(depth: u32, make: &dyn Fn() -> H) -> H {
        let room = black_box([0_u64; 32]);
        let made = if depth == 0 {
            make()
        } else {
            at(depth - 1, make)
        };
        black_box(&room);
        made
    }
    let made = at(50, make);
    clear_stack();
    made
}

/// Overwrites what earlier calls left below the caller's frame.
#[inline(never)]
pub(crate) fn clear_stack() {
    black_box([0_u8; 60_000]);
}

/// Collects, and fills the memory of objects that went with other values.
#[inline(never)]
pub(crate) fn collect_and_reuse() {
    clear_stack();
    gc::collect();
    reuse();
}

/// Takes memory of all the sizes and kinds that the tests use.
#[inline(never)]
pub(crate) fn reuse() {
    for _ in 0..100 {
        black_box(Slice::copy_from_slice(&[0xee_u8; N]));
        black_box(Gc::new([0xeeee_eeee_eeee_eeee_u64; N / 8]));
        black_box(Gc::new([0xee_u8; 64]));
        black_box(vec![0xee_u8; N]);
    }
}
