//! The heap of Raddle.
