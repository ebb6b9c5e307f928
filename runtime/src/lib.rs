//! Raddle: goroutines for Rust.

pub mod sync;
