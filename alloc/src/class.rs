//! Size classes: which sizes objects come in, and how many pages a span of each has.
//!
//! # The table
//!
//! Up to 128 bytes every multiple of 8; beyond, eight classes to each doubling, up to 64 KiB: 88 in all. An object of `n` bytes
//! lies in the smallest class that holds it, so it wastes at most 7 bytes, or above 56 bytes less than 12.5 %: the
//! step between classes above 128 is an eighth of the power of two below, so the waste is under 1/9.
//!
//! A span of a class has the fewest pages that give it at least 8 objects, at most [`MAX_OBJECTS`], a tail of at most 1/16, and,
//! so that a refill seldom needs a new span, 512 objects or 32 KiB, whichever is less. The tables are computed when the
//! crate is compiled, and the tests check all of this for every size.
//!
//! # Alignment
//!
//! Round a size up to a multiple of its alignment `a` (a power of two up to a page) and its class is a multiple of `a`: where
//! classes are `a` or less apart, the size itself is a class; where they are further apart, every class is a multiple of their
//! distance, and so of `a`. Spans begin at pages, so every object of the class is aligned to `a`.
//!
//! # Division
//!
//! The index of an object is `offset / size`. With `m = ceil(2^40 / size)` it is `offset * m >> 40`: the error of `m` is less
//! than 1, so the product errs by less than `offset * 2^-40 * size` of one object's share, and offsets are below 2^20, sizes at most 2^16.

/// The size of a page of the heap, in bytes.
pub(crate) const PAGE: usize = 1 << PAGE_BITS;
pub(crate) const PAGE_BITS: u32 = 13;
/// The largest object that shares a span, in bytes.
pub(crate) const SMALL_MAX: usize = 64 << 10;
/// The number of classes.
pub(crate) const CLASSES: usize = 88;
/// Stands for an object that has a span to itself.
pub(crate) const LARGE: usize = CLASSES;
/// The most objects of a span: 16 words of bits.
pub(crate) const MAX_OBJECTS: usize = 1024;

/// Classes that are multiples of 8.
const LINEAR: usize = 16;
/// A span is made of at least so many objects or bytes, whichever is less.
const ENOUGH_OBJECTS: usize = 512;
const ENOUGH_BYTES: usize = 32 << 10;

/// What there is to know of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    /// Bytes of an object.
    pub(crate) size: u32,
    /// Objects of a span.
    pub(crate) objects: u32,
    /// Pages of a span.
    pub(crate) pages: u32,
    /// See Division.
    pub(crate) magic: u64,
}

/// All classes.
pub(crate) static TABLE: [Class; CLASSES] = {
    let mut table = [Class {
        size: 0,
        objects: 0,
        pages: 0,
        magic: 0,
    }; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        table[i] = class(size_of_class(i));
        i += 1;
    }
    table
};

const fn size_of_class(i: usize) -> usize {
    if i < LINEAR {
        return 8 * (i + 1);
    }
    let (doubling, step) = ((i - LINEAR) / 8, (i - LINEAR) % 8);
    (128 << doubling) / 8 * (8 + step + 1)
}

const fn class(size: usize) -> Class {
    let enough = if size * ENOUGH_OBJECTS < ENOUGH_BYTES {
        size * ENOUGH_OBJECTS
    } else if size * 8 > ENOUGH_BYTES {
        size * 8
    } else {
        ENOUGH_BYTES
    };
    let mut pages = enough.div_ceil(PAGE);
    while (pages * PAGE) % size > pages * PAGE / 16 {
        pages += 1;
    }
    let objects = pages * PAGE / size;
    assert!(objects <= MAX_OBJECTS);
    Class {
        size: size as u32,
        objects: objects as u32,
        pages: pages as u32,
        magic: magic(size),
    }
}

/// See Division.
pub(crate) const fn magic(size: usize) -> u64 {
    (1u64 << 40).div_ceil(size as u64)
}

/// The class of objects of `size` bytes: 1 to [`SMALL_MAX`].
#[inline(always)]
pub(crate) fn of_size(size: usize) -> usize {
    debug_assert!((1..=SMALL_MAX).contains(&size));
    if size <= 128 {
        return (size - 1) >> 3;
    }
    let last = size - 1;
    let log = last.ilog2();
    // `last >> (log - 3)` is 8 to 15: the place within the doubling.
    LINEAR + ((log as usize - 7) << 3) + (last >> (log - 3)) - 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_in_the_smallest_class_that_holds_it_and_wastes_little() {
        for size in 1..=SMALL_MAX {
            let class = of_size(size);
            let bytes = TABLE[class].size as usize;
            assert!(bytes >= size);
            assert!(class == 0 || (TABLE[class - 1].size as usize) < size);
            let waste = bytes - size;
            assert!(waste <= 7 || waste * 8 < bytes, "{size} in {bytes}");
        }
        assert_eq!(TABLE[CLASSES - 1].size as usize, SMALL_MAX);
    }

    #[test]
    fn a_size_rounded_to_its_alignment_has_an_aligned_class() {
        for align in (0..=PAGE_BITS).map(|bits| 1usize << bits) {
            for size in (align..=SMALL_MAX).step_by(align) {
                assert_eq!(TABLE[of_size(size)].size as usize % align.max(8), 0);
            }
        }
    }

    #[test]
    fn spans_are_large_enough_and_waste_little() {
        for class in &TABLE {
            let bytes = class.pages as usize * PAGE;
            let size = class.size as usize;
            assert!((8..=MAX_OBJECTS).contains(&(class.objects as usize)));
            assert_eq!(class.objects as usize, bytes / size);
            assert!(bytes % size <= bytes / 16);
            assert!(bytes < 1 << 20);
        }
    }

    #[test]
    fn the_division_is_exact() {
        for class in &TABLE {
            for offset in 0..class.pages as usize * PAGE {
                let index = (offset as u64 * class.magic) >> 40;
                assert_eq!(index, offset as u64 / u64::from(class.size));
            }
        }
    }
}
