//! `cargo raddle`: builds and runs programs under Raddle's data-race detector, on a stable toolchain.

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
        eprintln!("raddle: error: {error:#}");
        ExitCode::from(2)
    })
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
