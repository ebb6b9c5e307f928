//! The G/M/P scheduler of Raddle.

mod arch;
mod stack;
mod tls;
