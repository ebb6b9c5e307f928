//! `docs/reports.md` shows what the programs of `race/reports` are and print.
//!
//! Every section with a `rust` block is about one program. The block is in the source as it stands
//! there, and the block `text raddle` is what the program prints, but for what differs from run to
//! run. `RADDLE_PAGE=overwrite cargo test --test race -- page::` writes these blocks anew.

use std::fmt::Write as _;
use std::process::Command;
use std::{env, fs};

use super::{LIMIT, RACES, REPORTS, build, directory, support};

const PAGE: &str = "docs/reports.md";
const RUST: &str = "```rust\n";
const RADDLE: &str = "```text raddle\n";
const END: &str = "```\n";

/// The text between the first `open` and the next `close`, and what is before and after it.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<[&'a str; 3]> {
    let start = text.find(open)? + open.len();
    let end = start + text[start..].find(close)?;
    Some([&text[..start], &text[start..end], &text[end..]])
}

/// `prefix`, then `is_varying` characters: these become `by`.
fn replace(text: &str, prefix: &str, is_varying: fn(char) -> bool, by: &str) -> String {
    let mut pieces = text.split(prefix);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let _ = write!(out, "{prefix}{by}{}", piece.trim_start_matches(is_varying));
    }
    out
}

/// A report as the page shows it: without addresses, offsets, and the name of the compiler's commit.
fn shown(printed: &str) -> String {
    let mut out = String::new();
    for line in printed.lines() {
        let line = line.split(" +0x").next().unwrap_or_default();
        let line = replace(line, "0x", |c| c.is_ascii_hexdigit(), "…");
        let _ = writeln!(
            out,
            "{}",
            replace(&line, "/rustc/", |c| c.is_ascii_hexdigit(), "…")
        );
    }
    out
}

/// What of it is the same in every run and with every compiler.
fn lasting(shown: &str) -> String {
    let mut out = String::new();
    for line in shown.lines() {
        let line = match line.split_once(".rs:") {
            Some((file, _)) if file.contains("/library/") => file,
            _ => line,
        };
        let line = line.replace("(running)", "(finished)");
        let _ = writeln!(
            out,
            "{}",
            replace(&line, "oroutine ", |c| c.is_ascii_digit(), "N")
        );
    }
    out
}

#[test]
fn the_page_shows_what_is_printed() {
    let program = build(REPORTS, true);
    let source =
        fs::read_to_string(directory(REPORTS).join("src/main.rs")).expect("the package's source");
    let page = fs::read_to_string(PAGE).expect("the page");
    let prefix = format!("{}/", directory(REPORTS).display());
    let overwrites = env::var("RADDLE_PAGE").is_ok_and(|wish| wish == "overwrite");
    let mut renewed = String::new();
    let mut told = Vec::new();
    for (number, section) in page.split("\n## ").enumerate() {
        if number > 0 {
            renewed.push_str("\n## ");
        }
        let Some([_, code, rest]) = between(section, RUST, END) else {
            renewed.push_str(section);
            continue;
        };
        assert!(source.contains(code), "not in the source:\n{code}");
        let [_, name, _] = between(code, "fn ", "(").expect("a function of the program");
        let mut command = Command::new(&program);
        command
            .arg(name)
            .env("RADDLE_PROCS", "2")
            .env("RADDLE_RACE", format!("strip_path_prefix={prefix}"));
        let outcome = support::run(&mut command, LIMIT);
        assert_eq!(outcome.status.code(), Some(RACES), "{name}: {outcome}");
        let printed = shown(&outcome.stderr);
        let [_, report, after] = between(rest, RADDLE, END).expect("Raddle's report");
        if !overwrites {
            assert_eq!(lasting(&printed), lasting(report), "{name}");
        }
        let before = &section[..section.len() - after.len() - report.len()];
        renewed.extend([before, &printed, after]);
        told.push(name.to_owned());
    }
    let listed = support::run(&mut Command::new(&program), LIMIT);
    let programs: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(told, programs, "the page tells of every program once");
    if overwrites {
        fs::write(PAGE, renewed).expect("the page");
    }
}
