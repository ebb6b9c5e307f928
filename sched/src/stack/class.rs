//! Size classes of stack slots: powers of two from 16 KiB to 2 GiB.
//!
//! A class counts the whole slot, with the guard page and what `bind` puts at the top.

/// The smallest slot, in bytes.
pub(crate) const MIN_BYTES: usize = 16 << 10;
/// The largest slot, in bytes.
pub(crate) const MAX_BYTES: usize = 2 << 30;
/// The slot of a goroutine that asks for nothing, in bytes.
pub(crate) const DEFAULT_BYTES: usize = 256 << 10;
/// How many classes there are.
pub(crate) const COUNT: usize = (MAX_BYTES / MIN_BYTES).trailing_zeros() as usize + 1;

/// A size class: slots of `MIN_BYTES << index` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Class(u8);

impl Class {
    /// Returns the smallest class of at least `bytes`, or `None` beyond [`MAX_BYTES`].
    pub(crate) fn for_bytes(bytes: usize) -> Option<Self> {
        if bytes > MAX_BYTES {
            return None;
        }
        let bytes = bytes.max(MIN_BYTES).next_power_of_two();
        Some(Self((bytes / MIN_BYTES).trailing_zeros() as u8))
    }

    /// Returns every class, smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..COUNT as u8).map(Self)
    }

    /// Returns the index into tables of [`COUNT`] entries.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Returns the size of a whole slot, in bytes.
    pub(crate) fn bytes(self) -> usize {
        MIN_BYTES << self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_to_powers_of_two() {
        let bytes = |n| Class::for_bytes(n).map(Class::bytes);
        assert_eq!(bytes(0), Some(16 << 10));
        assert_eq!(bytes(16 << 10), Some(16 << 10));
        assert_eq!(bytes((16 << 10) + 1), Some(32 << 10));
        assert_eq!(bytes(DEFAULT_BYTES), Some(DEFAULT_BYTES));
        assert_eq!(bytes(MAX_BYTES), Some(MAX_BYTES));
        assert_eq!(bytes(MAX_BYTES + 1), None);
        assert_eq!(bytes(usize::MAX), None);
    }

    #[test]
    fn every_class_finds_itself() {
        assert_eq!(Class::all().count(), COUNT);
        for (i, class) in Class::all().enumerate() {
            assert_eq!(class.index(), i);
            assert_eq!(Class::for_bytes(class.bytes()), Some(class));
        }
    }
}
