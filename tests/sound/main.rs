//! An adversary's suite: programs without `unsafe` that try to read freed memory, or another's.
#![forbid(unsafe_code)]

mod locals;

#[path = "../support/mod.rs"]
mod support;
