//! A packed struct cannot hold a handle: a borrow of it would lie at an odd address.

use raddle::gc::{Atomic, Gc, Slice, Weak};

#[repr(packed)]
struct OfGc(u8, Gc<u64>);

#[repr(packed(4))]
struct OfSlice(u32, Slice<u64>);

#[repr(C, packed)]
struct OfWeak {
    tag: u8,
    weak: Weak<u64>,
}

#[repr(packed(2))]
struct OfAtomic(u16, Atomic<u64>);

fn main() {}
