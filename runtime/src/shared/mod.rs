//! Go's variables, slices and maps: shared without a lock, memory-safe all the same, and watched by the race detector.
//!
//! Sharing them without order is a bug of the program, as in Go, and race mode reports it at the two lines in question.
//! It is never undefined behaviour: a [`Var`] or an element of a [`Slice`] may be torn between words, a [`Map`] panics.

mod map;
mod slice;
mod slice_array;
mod value;
mod var;

#[cfg(test)]
mod tests;

pub use map::{Iter, Map};
pub use slice::Slice;
pub use value::Value;
pub use var::Var;
