//! `cargo raddle`: builds and runs programs under Raddle's data-race detector, on a stable toolchain.
//!
//! ```sh
//! cargo install cargo-raddle
//! cargo raddle test --race
//! ```
//! Every load and store of the package, its dependencies and the standard library is then watched, on goroutines and on OS threads. The
//! package need not depend on `raddle`.
//!
//! # Use
//! `cargo raddle build|run|test|bench [--race[=OPTIONS]] [cargo's own options] [-- arguments]`. Without `--race`, cargo is run as if
//! `raddle` were not there. `cargo raddle help` and `cargo raddle help run` (and so on) explain the command. In Raddle's repository, `cargo run -p cargo-raddle -- test --race` does the same.
//!
//! - **Output** goes to `raddle-race` in the target directory, so that plain builds stay as they are; `--target-dir` is obeyed.
//! - **Options** of the detector are `key=value`, separated by commas; a value with a comma or a space stands in quotation marks.
//!   `--race=help` explains them. A mistake is refused before anything is built. They reach the program as
//!   `RADDLE_RACE`, which `run`, `test` and `bench` set unless it is set. Relative paths among them
//!   (`suppressions`, `log_path`) mean the folder in which the command is given, though cargo runs
//!   tests in their package's. A program that was built by `build` is watched when it is started
//!   with `RADDLE_RACE=1`.
//! - **Exit status** is cargo's, and so the program's: 66 after a data race. A mistake in the command: 2.
//! - **Cache**: the instrumented standard library (20 MB, twenty seconds) is made once for a toolchain, in `RADDLE_CACHE_DIR`, else `raddle` in
//!   `XDG_CACHE_HOME`, else `~/.cache/raddle`. So is the detector for programs that do not depend on `raddle` (a minute). Both can
//!   be deleted at any time.
//! - **Target**: `x86_64-unknown-linux-gnu`.
//!
//! # What is built differently
//! - Link-time optimisation is left out, symbols are kept, and line tables are made where the profile has none.
//! - Build scripts and procedural macros are plain. So are Raddle's own crates and what they stand on (`libc`, `backtrace`, ...); they are
//!   optimised in every profile.
//! - Crates on which Raddle stands and which programs use too (crossbeam, parking_lot) are compiled twice: instrumented for the program, plain for
//!   the runtime.
//! - A `RUSTC_WRAPPER` and all flags of the user's stay in force.
//!
//! # Libraries for other languages
//! A `cdylib` brings its detector along, and so does a `staticlib` of a package that uses `raddle`:
//! what is linked with it is in race mode if it is started with `RADDLE_RACE=1`. A `staticlib`
//! alone of a package that does not depend on `raddle` is refused, and beside other kinds it is
//! warned of: nothing is linked there that the detector could be added to. A program with a static
//! C library (`-C target-feature=+crt-static`) is refused: the detector stands between the program
//! and the functions of a shared one.
//!
//! # What is not seen
//! Code that rustc did not compile: C libraries, assembly. `fetch_max` and `fetch_min` of std's atomics, which the compiler's pass leaves out. A C library (`cdylib`) has a detector of its own; two in one process are
//! refused in race mode.
//!
//! # How it works
//! 1. [`sysroot`] makes a copy of the toolchain's standard library with calls of the detector in it, by [`instrument`].
//! 2. [`command`] runs cargo with a `--target` and with this program as its compiler wrapper.
//! 3. [`wrapper`] is called in the place of rustc; it adds the flags that make the compiler insert the calls, and inline what they call ([`passes`]).
//! 4. Programs that do not have the detector among their dependencies ([`programs`]), and those that have it and do not name it, so that
//!    rustc leaves it out, are linked with one ([`runtime`]).

mod cache;
mod cli;
mod command;
mod config;
mod instrument;
mod passes;
mod plan;
mod programs;
mod runtime;
mod sysroot;
mod toolchain;
mod wrapper;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    dispatch(&args).unwrap_or_else(|error| {
        eprintln!("{}", explained(&error));
        ExitCode::from(2)
    })
}

/// The error and its causes in one line, and what to do where the disk is full.
fn explained(error: &anyhow::Error) -> String {
    let mut text = format!("raddle: error: {error:#}");
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    if causes.any(cache::is_about_space) {
        text += "\nraddle: make room on that disk, or use another: CARGO_TARGET_DIR is where programs are built, RADDLE_CACHE_DIR \
                 where std and the detector are kept, TMPDIR where the compiler has its files meanwhile";
    }
    text
}

/// Finds out who called: a person, or cargo in the place of rustc (whose path comes first) or of rustdoc (options only).
fn dispatch(args: &[OsString]) -> Result<ExitCode> {
    let first = args
        .first()
        .map(|arg| arg.to_string_lossy())
        .unwrap_or_default();
    let words = [
        "", "raddle", "build", "run", "test", "bench", "b", "r", "t", "help",
    ];
    if !words.contains(&&*first)
        && let Some(plan) = plan::Plan::from_env()?
    {
        return match first.starts_with(['-', '@']) {
            true => wrapper::rustdoc(&plan, args),
            false => wrapper::rustc(&plan, args),
        };
    }
    match cli::parse(args.iter().cloned()) {
        Ok(request) => command::run(request),
        Err(error) => error.exit(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use anyhow::Context;

    use super::explained;

    #[test]
    fn a_full_disk_is_called_one() {
        let written = fs::write("/dev/full", "text").context("cannot write the plan");
        let text = explained(&written.unwrap_err());
        assert!(
            text.starts_with("raddle: error: cannot write the plan: No space left on device")
                && text
                    .contains("\nraddle: make room on that disk, or use another: CARGO_TARGET_DIR"),
            "{text}"
        );
        let read = fs::read("/no/such/file").context("cannot read the plan");
        assert!(!explained(&read.unwrap_err()).contains("make room"));
    }
}
