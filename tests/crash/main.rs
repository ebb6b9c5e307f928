//! How programs end: exit statuses, and what they say when something is wrong.
//!
//! Each test starts this program again, which then *is* the program under test (`programs.rs`), with a real `main` whose
//! exit status counts. That is why there is a harness of its own here: under the usual one `main` is not ours.
//!
//!     cargo test --test crash              all
//!     cargo test --test crash deadlock     those with `deadlock` in their name

mod compiled;
mod expected;
mod processes;
mod programs;

#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::panic;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::support::Outcome;

const LIMIT: Duration = Duration::from_secs(120);
const PROGRAM: &str = "RADDLE_TEST_PROGRAM";

fn main() -> ExitCode {
    match env::var(PROGRAM) {
        Ok(name) => programs::run(&name),
        Err(_) => harness(env::args().skip(1)),
    }
}

/// A program, its arguments and its environment.
struct Start(Command);

fn program(name: &str) -> Start {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.env(PROGRAM, name).env_remove("RUST_BACKTRACE");
    Start(command)
}

impl Start {
    fn arg(mut self, arg: &str) -> Start {
        self.0.arg(arg);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Start {
        self.0.env(name, value);
        self
    }

    fn run(mut self) -> Outcome {
        support::run(&mut self.0, LIMIT)
    }
}

/// Runs the tests whose name contains one of the words given, one after the other.
fn harness(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    let list_only = arguments.iter().any(|argument| argument == "--list");
    let words: Vec<_> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(*word));

    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in expected::TESTS.iter().filter(|(name, _)| chosen(name)) {
        if list_only {
            println!("{name}: test");
        } else if panic::catch_unwind(test).is_ok() {
            println!("test {name} ... ok");
            passed += 1;
        } else {
            println!("test {name} ... FAILED");
            failed.push(name);
        }
    }
    if !list_only {
        println!(
            "\ntest result: {passed} passed; {} failed {failed:?}",
            failed.len()
        );
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}
