//! What can be said to race mode: options, suppressions, and the environment's variables.
//!
//! Pure text, but for the files that options name. It links nothing of the detector, so that `cargo raddle` can refuse a
//! mistake before it builds, by the same rules and in the same words as the program that it builds.
//!
//! # Reading order
//! `words` (quoting), `table` (what there is), `options` (what was asked for), `suppress` (known races), `environment` (how it
//! is asked for).

#![forbid(unsafe_code)]

mod environment;
mod options;
mod suppress;
mod table;
mod words;

pub use environment::{VARIABLES, asked, misspelt};
pub use options::{Format, OptionError, Options, Snippet};
pub use suppress::{Suppression, parse_file};
pub use table::{OPTIONS, Row, help};
pub use words::{asks_for_help, pairs, quoted};
