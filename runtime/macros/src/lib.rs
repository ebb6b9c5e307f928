//! The attribute macros of Raddle.
