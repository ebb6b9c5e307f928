//! The G/M/P scheduler of Raddle.
