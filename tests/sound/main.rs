//! An adversary's programs: whatever safe code does, it reads no memory that was freed, and no value
//! that was dropped.
//!
//! Values carry a canary. In debug builds, and with `RADDLE_DEBUG=gcstress=10`, freed memory is filled.
//!
//!     cargo test --test sound
//!     RADDLE_DEBUG=gcstress=10 cargo test --release --test sound
#![forbid(unsafe_code)]

mod destructors;
mod support;
