//! Raddle: goroutines for Rust.
