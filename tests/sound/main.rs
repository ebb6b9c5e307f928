//! What an adversary tries in safe code: nothing here may read memory that is not there any more.
//!
//! `borrows`: the optimiser hides the addresses of what is borrowed. `places`: handles are put where a collector may not look.
//! The crate forbids `unsafe`, so a value that changes under a shared borrow, or a crash, is a fault of Raddle's.
//!
//! `.ci/run borrows` compiles it at every level of optimisation, runs it, and looks at the machine code of `borrows`.

#![forbid(unsafe_code)]

mod borrows;
mod garbage;
mod places;
