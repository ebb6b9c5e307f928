//! The heap of Raddle: for now its boundary only.
//!
//! Memory comes from the system's allocator until the heap is here. What the heap will ask of the floors above it is in
//! [`world`].

#![forbid(unsafe_code)]

pub mod world;

pub use world::World;
