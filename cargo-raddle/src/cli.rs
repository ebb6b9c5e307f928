//! Owns the command line.
//!
//! `--race` may stand anywhere among cargo's own options, all of which are passed on unread. So it is first moved to the
//! front, and the rest put behind a `--`; clap then parses and explains the result.

use std::ffi::{OsStr, OsString};

use clap::{Args, Parser, Subcommand};

/// Builds and runs programs under Raddle's data-race detector.
///
/// Without --race, cargo is run as if `raddle` were not there. With it, the program, its dependencies and the standard library are
/// compiled so that every load and store is seen by the detector, into a directory of their own (target/raddle-race), and
/// run in race mode. A program need not use Raddle: OS threads are watched as well.
#[derive(Debug, Parser)]
#[command(name = "cargo raddle", bin_name = "cargo raddle", version)]
#[command(after_help = "\
Examples:
  cargo raddle run --race
  cargo raddle test --race --release -- some_test
  cargo raddle test --race=halt_on_error=1 -p my-crate
  cargo raddle run --race=help

Exit status: cargo's own, which for `run` is the program's (66 after a data race); 2 if there is a mistake in the command.

Environment:
  RADDLE_RACE       options of the detector; --race=OPTIONS has precedence. Relative paths in either are from the current folder
  RADDLE_CACHE_DIR  where the instrumented standard library is kept; default: raddle in the user's cache directory")]
pub(crate) struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Compile the current package
    #[command(visible_alias = "b")]
    Build(Options),
    /// Compile and run a program
    #[command(visible_alias = "r")]
    Run(Options),
    /// Compile and run the tests
    #[command(visible_alias = "t")]
    Test(Options),
    /// Compile and run the benchmarks
    Bench(Options),
}

#[derive(Debug, Args)]
struct Options {
    /// Watch for data races; OPTIONS are those of the detector: key=value, separated by commas; `--race=help` explains them
    #[arg(long, value_name = "OPTIONS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    race: Option<OsString>,
    /// Options and arguments of cargo itself; `cargo build --help` and so on list them
    #[arg(value_name = "CARGO-OPTIONS", allow_hyphen_values = true)]
    cargo: Vec<OsString>,
}

/// What the user wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// cargo's own word for it: `build`, `run`, `test`, `bench`.
    pub(crate) action: &'static str,
    /// Race mode, and its options as one string.
    pub(crate) race: Option<OsString>,
    /// What cargo gets behind the action.
    pub(crate) cargo_args: Vec<OsString>,
}

/// Parses the arguments behind the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, clap::Error> {
    let cli = Cli::try_parse_from(arrange(args.into_iter().collect()))?;
    let (action, options) = match cli.action {
        Action::Build(options) => ("build", options),
        Action::Run(options) => ("run", options),
        Action::Test(options) => ("test", options),
        Action::Bench(options) => ("bench", options),
    };
    Ok(Request {
        action,
        race: options.race,
        cargo_args: options.cargo,
    })
}

/// Brings the arguments into the order in which clap can parse them.
fn arrange(mut args: Vec<OsString>) -> Vec<OsString> {
    // cargo passes the name of its subcommand.
    if args.first().is_some_and(|first| first == "raddle") {
        args.remove(0);
    }
    args.insert(0, "cargo raddle".into());
    // `help` has no options of cargo's behind it.
    let is_action = |arg: &&OsString| !starts_with(arg, "-") && *arg != "help";
    let Some(action) = args.get(1).filter(is_action) else {
        return args;
    };
    let mut front = vec![args[0].clone(), action.clone()];
    let mut rest = Vec::new();
    let mut of_cargo = true;
    for arg in args.drain(2..) {
        of_cargo &= arg != "--";
        let ours =
            arg == "--race" || starts_with(&arg, "--race=") || arg == "--help" || arg == "-h";
        match of_cargo && ours {
            true => front.push(arg),
            false => rest.push(arg),
        }
    }
    front.push("--".into());
    front.extend(rest);
    front
}

fn starts_with(arg: &OsStr, prefix: &str) -> bool {
    arg.as_encoded_bytes().starts_with(prefix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        parse(line.split_whitespace().map(Into::into)).unwrap()
    }

    fn strings(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn race_may_stand_anywhere_before_the_programs_arguments() {
        for line in [
            "test --race -p x --lib -- --race name",
            "raddle test -p x --race --lib -- --race name",
            "t -p x --lib --race -- --race name",
        ] {
            let expected = Request {
                action: "test",
                race: Some("".into()),
                cargo_args: strings("-p x --lib -- --race name"),
            };
            assert_eq!(request(line), expected, "{line}");
        }
    }

    #[test]
    fn options_of_the_detector_are_kept() {
        let request = request("run --release --race=halt_on_error=1,exitcode=7");
        assert_eq!(request.race, Some("halt_on_error=1,exitcode=7".into()));
        assert_eq!(request.cargo_args, strings("--release"));
    }

    #[test]
    fn without_race_everything_is_cargos() {
        let request = request("bench -q -- --race");
        assert_eq!(request.race, None);
        assert_eq!(request.cargo_args, strings("-q -- --race"));
    }

    #[test]
    fn mistakes_are_refused() {
        for line in ["", "bulid --race", "--race", "run --race --race"] {
            let error = parse(line.split_whitespace().map(Into::into)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_is_given() {
        for (line, what) in [
            ("--help", "cargo raddle <COMMAND>"),
            ("help", "cargo raddle <COMMAND>"),
            ("raddle help", "cargo raddle <COMMAND>"),
            ("help test", "cargo raddle test [OPTIONS]"),
            ("raddle help run", "cargo raddle run [OPTIONS]"),
            ("test --help", "cargo raddle test [OPTIONS]"),
            ("raddle test -p x --help", "--race=help"),
        ] {
            let error = parse(line.split_whitespace().map(Into::into)).unwrap_err();
            assert_eq!(error.exit_code(), 0, "{line}");
            assert!(error.to_string().contains(what), "{line}: {error}");
        }
        let error = parse(["help", "bulid"].map(Into::into)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
