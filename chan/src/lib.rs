//! Channels and select for Raddle.
