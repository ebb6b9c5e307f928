//! A place in the program, as one 48-bit word.
//!
//! # States
//! | bits 0..47 | bit 47 | meaning |
//! | --- | --- | --- |
//! | 0 | 0 | no place known |
//! | code address | 0 | an instruction, named by the host's symbolizer |
//! | address of a `Location` | 1 | a typed event's `#[track_caller]` place: file, line and column without debug info |
//! | twice an entry of the depot, plus 1 | 1 | a whole stack (`depot.rs`); a `Location` never lies at an odd address |
//!
//! User addresses on x86-64 have 47 bits, so the tag costs nothing. 48 bits leave room for an event's tag and flags in
//! one word of history.

use std::fmt;
use std::panic::Location;

/// Set when the word holds the address of a `Location`.
const LOCATION: u64 = 1 << 47;
/// Set beside `LOCATION` when the word holds a stack instead.
const STACK: u64 = 1;
const _: () = assert!(align_of::<Location<'static>>() > 1);
/// The bits a `Pc` may have.
pub(crate) const PC_BITS: u64 = (1 << 48) - 1;

/// A place in the program: a code address, or a `Location` of a typed event.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Pc(u64);

impl Pc {
    /// No place known.
    pub const NONE: Pc = Pc(0);

    /// The place that `loc` names.
    #[inline]
    pub fn at(loc: &'static Location<'static>) -> Pc {
        Pc(std::ptr::from_ref(loc).expose_provenance() as u64 | LOCATION)
    }

    /// The caller's place (or its caller's, through `#[track_caller]`).
    #[inline]
    #[track_caller]
    pub fn here() -> Pc {
        Pc::at(Location::caller())
    }

    /// The instruction at `address`; only its low 47 bits count.
    #[inline]
    pub fn code(address: usize) -> Pc {
        Pc(address as u64 & (LOCATION - 1))
    }

    /// The code address, when the place is one.
    #[inline]
    pub fn code_address(self) -> Option<usize> {
        (self.0 != 0 && self.0 & LOCATION == 0).then_some(self.0 as usize)
    }

    /// The source location, when the place is one.
    #[inline]
    pub fn location(self) -> Option<&'static Location<'static>> {
        if self.0 & LOCATION == 0 || self.0 & STACK != 0 {
            return None;
        }
        let at =
            std::ptr::with_exposed_provenance::<Location<'static>>((self.0 & !LOCATION) as usize);
        // SAFETY: only `at` sets this tag without the other, from a `&'static Location` whose provenance it exposed; history stores and
        // returns the word whole.
        Some(unsafe { &*at })
    }

    /// The whole stack that is entry `entry` of the depot.
    pub(crate) fn stack(entry: u32) -> Pc {
        Pc(LOCATION | u64::from(entry) << 1 | STACK)
    }

    /// The entry of the depot, when the place is a whole stack.
    pub(crate) fn stack_entry(self) -> Option<u32> {
        let is_stack = self.0 & LOCATION != 0 && self.0 & STACK != 0;
        is_stack.then_some((self.0 >> 1) as u32)
    }

    /// True for [`Pc::NONE`].
    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The word itself.
    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// The word read back from history.
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Pc {
        Pc(bits & PC_BITS)
    }
}

impl fmt::Debug for Pc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location() {
            Some(loc) => write!(f, "{}:{}:{}", loc.file(), loc.line(), loc.column()),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_survives_the_word() {
        let pc = Pc::here();
        let back = Pc::from_bits(pc.bits()).location().expect("a location");
        assert!(back.file().ends_with("pc.rs"));
        assert_eq!(pc.code_address(), None);
    }

    #[test]
    fn a_code_address_is_no_location() {
        let pc = Pc::code(0x5555_0000_1234);
        assert_eq!(pc.code_address(), Some(0x5555_0000_1234));
        assert!(pc.location().is_none());
        assert!(Pc::NONE.is_none() && Pc::NONE.code_address().is_none());
    }

    #[test]
    fn a_stack_is_neither() {
        let pc = Pc::stack(u32::MAX);
        assert_eq!(Pc::from_bits(pc.bits()).stack_entry(), Some(u32::MAX));
        assert!(pc.location().is_none() && pc.code_address().is_none());
        assert!(Pc::here().stack_entry().is_none() && Pc::code(0x1001).stack_entry().is_none());
    }
}
