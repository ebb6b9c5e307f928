//! The G/M/P scheduler of Raddle.

mod arch;
mod stack;
mod tls;

pub use stack::StackError;
pub use tls::TlsMode;
