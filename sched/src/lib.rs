//! The G/M/P scheduler of Raddle.

mod api_seam;
pub mod sys;
mod wait;

pub use api_seam::*;
pub use sys::{Lock, now_ns};
pub use wait::WaitReason;
