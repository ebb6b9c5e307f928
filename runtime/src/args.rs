//! The program's own arguments: what the process was started with, less the runtime's flags.
//!
//! The boot reads the flags and puts the rest here, once. A program may also ask before any boot: then the flags are
//! taken out here in the same way.

use std::env;
use std::ffi::OsString;
use std::iter::FusedIterator;
use std::slice;
use std::sync::OnceLock;

use crate::flags::Flags;

static ARGS: OnceLock<Vec<OsString>> = OnceLock::new();

/// Keeps what `Flags::from_env_and_args` left over. Only the first call counts.
pub(crate) fn install(rest: Vec<OsString>) {
    ARGS.get_or_init(|| rest);
}

/// Returns the program's arguments, without the runtime's flags; the first is the name of the program.
///
/// The same as [`std::env::args`], except that `--race` and `--race=...` before a `--` are left out.
///
/// # Panics
/// The iterator panics at an argument that is not UTF-8; [`args_os`] does not.
///
/// # Blocking
/// Neither parks the goroutine nor blocks the thread.
pub fn args() -> Args {
    Args { inner: args_os() }
}

/// Returns the program's arguments as [`args`] does, UTF-8 or not.
///
/// # Blocking
/// Neither parks the goroutine nor blocks the thread.
pub fn args_os() -> ArgsOs {
    let args = ARGS.get_or_init(|| {
        let rest = Flags::from_env_and_args(env::args_os(), |_| None).map(|(_, rest)| rest);
        // A bad flag: the boot will say so and end the process; until then nothing is hidden.
        rest.unwrap_or_else(|_| env::args_os().collect())
    });
    ArgsOs { inner: args.iter() }
}

/// The program's arguments as strings: returned by [`args`].
#[derive(Clone, Debug)]
pub struct Args {
    inner: ArgsOs,
}

/// The program's arguments: returned by [`args_os`].
#[derive(Clone, Debug)]
pub struct ArgsOs {
    inner: slice::Iter<'static, OsString>,
}

impl Iterator for ArgsOs {
    type Item = OsString;

    fn next(&mut self) -> Option<OsString> {
        self.inner.next().cloned()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl DoubleEndedIterator for ArgsOs {
    fn next_back(&mut self) -> Option<OsString> {
        self.inner.next_back().cloned()
    }
}

impl ExactSizeIterator for ArgsOs {}
impl FusedIterator for ArgsOs {}

impl Iterator for Args {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.inner.next().map(into_string)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl DoubleEndedIterator for Args {
    fn next_back(&mut self) -> Option<String> {
        self.inner.next_back().map(into_string)
    }
}

impl ExactSizeIterator for Args {}
impl FusedIterator for Args {}

fn into_string(arg: OsString) -> String {
    arg.into_string()
        .unwrap_or_else(|arg| panic!("argument {arg:?} is not UTF-8"))
}
