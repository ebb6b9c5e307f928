//! The options as a table: for people who ask, for the README, and for the message about an unknown one.

use std::fmt::Write as _;

/// One option, in words.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What stands before the `=`.
    pub key: &'static str,
    /// What may stand behind it.
    pub values: &'static str,
    /// What holds without it; empty: nothing.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

const fn row(
    key: &'static str,
    values: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Row {
    Row {
        key,
        values,
        default,
        meaning,
    }
}

/// Every option.
pub const OPTIONS: [Row; 10] = [
    row(
        "halt_on_error",
        "0, 1, false, true",
        "0",
        "end the program at the first report",
    ),
    row(
        "exitcode",
        "0 to 255",
        "66",
        "exit status if races were found, whatever the program's own; 0 leaves that as it is",
    ),
    row(
        "log_path",
        "stderr, stdout, a path",
        "stderr",
        "where reports go; to a path `.PID` is added",
    ),
    row(
        "format",
        "text, json, sarif",
        "text",
        "their form: for people, one JSON object a line, one SARIF 2.1.0 log",
    ),
    row(
        "history_size",
        "0 to 7",
        "1",
        "the stack of a previous access lasts 32 K x 2^n accesses of its goroutine, its line longer",
    ),
    row(
        "suppressions",
        "a path",
        "",
        "file of known races, which are not reported",
    ),
    row(
        "snippet",
        "auto, always, never",
        "auto",
        "source lines of the two accesses in text and SARIF; auto: not in text unless at a terminal",
    ),
    row(
        "strip_path_prefix",
        "text",
        "",
        "taken off the front of file names",
    ),
    row(
        "atexit_sleep_ms",
        "milliseconds",
        "0",
        "how long the end of the program waits for late races",
    ),
    row(
        "seed",
        "a whole number",
        "0",
        "of the detector's random choices",
    ),
];

const QUOTING: &str = "\
A value with a space, a comma or a quotation mark in it stands in quotation marks, \" or '. Up to the next
of its kind all is taken as it is:

  RADDLE_RACE='suppressions=\"/my files/known, old.txt\" exitcode=0'
";

const ASKING: &str = "\
They are given as --race=OPTIONS to a program or to cargo raddle, or in the environment as
RADDLE_RACE=OPTIONS; of two for one key the later counts, and those of the environment come first.
Without options: --race, or RADDLE_RACE as 1, on, yes or true. RADDLE_RACE as 0, off, no or false is
no race mode.
";

const SUPPRESSIONS: &str = "\
A file of suppressions has one pattern a line; # begins a line of comment.

  race:PATTERN       not reported if a function or file in the stack of either access matches
  race_top:PATTERN   the same of the innermost one, down to the first that is the program's own

A pattern matches anywhere in a name. * in it stands for any text; ^ in front and $ at the end tie it to
the name's start and end.
";

/// All of it, for a person who asked by `--race=help`.
#[must_use]
pub fn help() -> String {
    let mut out = String::from("Race options are key=value, separated by commas or spaces.\n\n");
    let longest = |of: fn(&Row) -> &str, title: &str| {
        let lengths = OPTIONS.iter().map(|row| of(row).len());
        lengths.max().unwrap_or(0).max(title.len())
    };
    let key = longest(|row| row.key, "option");
    let values = longest(|row| row.values, "values");
    let default = longest(|row| row.default, "default");
    let title = row("option", "values", "default", "");
    for row in std::iter::once(&title).chain(&OPTIONS) {
        let line = format!(
            "  {:key$}  {:values$}  {:default$}  {}",
            row.key, row.values, row.default, row.meaning
        );
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", line.trim_end());
    }
    for part in [QUOTING, ASKING, SUPPRESSIONS] {
        out.push('\n');
        out.push_str(part);
    }
    out
}
