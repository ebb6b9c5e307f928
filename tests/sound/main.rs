//! What an adversary tries in safe code: nothing here may read memory that was freed, or a value
//! that was dropped.
//!
//! `borrows`: the optimiser hides the addresses of what is borrowed. `places`: handles are put
//! where a collector may not look. `destructors`: what a destructor may do. `locals`: thread-locals
//! of all sizes and alignments. The crate forbids `unsafe`, so a value that changes under a shared
//! borrow, a broken canary or a crash is a fault of Raddle's.
//!
//! In debug builds, and with `RADDLE_DEBUG=gcstress=10`, freed memory is filled.
//!
//! `.ci/run borrows` compiles it at every level of optimisation, runs it, and looks at the machine
//! code of `borrows`.
#![forbid(unsafe_code)]

mod borrows;
mod destructors;
mod garbage;
mod locals;
mod places;
#[path = "../support/mod.rs"]
mod process;
mod support;
