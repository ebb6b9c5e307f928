//! The source lines of a racing access, for a person at a terminal and in SARIF: the line itself, with one before and one after.
//!
//! A file that is not there, or has become shorter, gives nothing.

use std::env;
use std::fmt::{self, Write};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};

use crate::frames::Line;
use crate::log;
use crate::options::Snippet;
use crate::state::config;

/// Characters of a line that are shown.
const WIDTH: usize = 160;
/// Stands for what is not.
const CUT: [char; 3] = ['.'; 3];
/// Bytes of a line that are read: source is not longer, and what is not source is not read whole.
const LINE_BYTES: u64 = 4 << 10;
const TAB: &str = "    ";

/// Whether SARIF results have source lines.
pub(crate) fn is_wanted_in_sarif() -> bool {
    config().options.snippet != Snippet::Never
}

/// Whether text reports have source lines.
pub(crate) fn is_wanted() -> bool {
    match config().options.snippet {
        Snippet::Always => true,
        Snippet::Never => false,
        Snippet::Auto => log::is_terminal(),
    }
}

/// Colours only where there can be any, and nobody asked for none (<https://no-color.org>).
fn in_colour() -> bool {
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    log::is_terminal() && !is_dumb && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The lines around `line` with their numbers, itself among them; none if it cannot be read.
pub(crate) fn around(line: &Line) -> Vec<(usize, String)> {
    let found = line.whole_file().and_then(find);
    let lines = found.map_or(Vec::new(), |path| read(&path, line.line as usize));
    match lines.iter().any(|(at, _)| *at == line.line as usize) {
        true => lines,
        false => Vec::new(),
    }
}

/// The text of `line`, if it can be read.
pub(crate) fn source(line: &Line) -> Option<String> {
    let mut lines = around(line).into_iter();
    Some(lines.find(|(at, _)| *at == line.line as usize)?.1)
}

/// Writes the lines around `line`, if they can be read.
pub(crate) fn write(out: &mut String, line: &Line) -> fmt::Result {
    let lines = around(line);
    if lines.is_empty() {
        return Ok(());
    }
    let (bold, plain) = if in_colour() {
        ("\x1b[1;31m", "\x1b[0m")
    } else {
        ("", "")
    };
    let width = lines
        .last()
        .map_or(0, |(number, _)| number.to_string().len());
    for (number, text) in &lines {
        if *number != line.line as usize {
            let (part, _) = shown(text, 0);
            writeln!(out, "          {number:width$} | {part}")?;
            continue;
        }
        let (part, caret) = shown(text, line.column as usize);
        writeln!(out, "{bold}        > {number:width$} | {part}{plain}")?;
        if let Some(caret) = caret {
            let blanks = " ".repeat(caret);
            writeln!(out, "          {:width$} | {blanks}{bold}^{plain}", "")?;
        }
    }
    Ok(())
}

/// The file as it is named, or below a parent of the working directory: a `Location`'s path begins at the workspace's root.
fn find(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let here = env::current_dir().ok()?;
    here.ancestors()
        .map(|folder| folder.join(path))
        .find(|path| path.is_file())
}

/// The lines `number - 1` to `number + 1`, as far as there are any.
fn read(path: &Path, number: usize) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let Ok(file) = File::open(path) else {
        return lines;
    };
    // Not of what can be read without end.
    if number == 0 || file.is_terminal() || !file.metadata().is_ok_and(|data| data.is_file()) {
        return lines;
    }
    let mut reader = BufReader::new(file);
    for at in 1..=number + 1 {
        let mut bytes = Vec::new();
        let mut limited = std::io::Read::take(&mut reader, LINE_BYTES);
        match limited.read_until(b'\n', &mut bytes) {
            Ok(n) if n > 0 => {}
            _ => break,
        }
        if at + 1 >= number {
            lines.push((at, String::from_utf8_lossy(&bytes).trim_end().to_owned()));
        }
    }
    lines
}

/// A line as it is printed, and how many characters of it stand before `column`, which counts bytes from
/// 1; none where it is not known. Of a long line the part around the column is shown.
fn shown(text: &str, column: usize) -> (String, Option<usize>) {
    let all = printable(text);
    let before = column.checked_sub(1).and_then(|bytes| text.get(..bytes));
    let caret = before.map(|before| printable(before).len());
    // What is left out on the left leaves a mark there.
    let start = match caret {
        Some(caret) if all.len() > WIDTH && caret >= WIDTH * 3 / 4 => {
            (caret - WIDTH / 2).min(all.len() - WIDTH)
        }
        _ => 0,
    };
    let end = (start + WIDTH).min(all.len());
    let mut part = all[start..end].to_vec();
    if start > 0 {
        part[..CUT.len()].copy_from_slice(&CUT);
    }
    if end < all.len() {
        part[WIDTH - CUT.len()..].copy_from_slice(&CUT);
    }
    (part.into_iter().collect(), caret.map(|caret| caret - start))
}

/// Without tabs, nor anything else that a terminal obeys.
fn printable(text: &str) -> Vec<char> {
    let clean = text.replace('\t', TAB);
    let blank = |c: char| if c.is_control() { ' ' } else { c };
    clean.chars().map(blank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_its_column() {
        let front = |text, column| shown(text, column).1;
        assert_eq!(front("\tlet x = 1;", 6), Some(8));
        assert_eq!(front("abc", 1), Some(0));
        assert_eq!(front("abc", 0), None);
        assert_eq!(front("abc", 9), None);
    }

    #[test]
    fn what_a_terminal_would_obey_is_blank() {
        assert_eq!(shown("\ta\x1b[31mb", 0).0, "    a [31mb");
    }

    #[test]
    fn a_long_line_is_cut_around_its_column() {
        for at in [0, 1, 100, 119, 120, 500, 900, 996, 999] {
            let line = format!("{}here{}", "ä".repeat(at), "x".repeat(996 - at.min(996)));
            let (part, caret) = shown(&line, 2 * at + 1);
            let caret = caret.expect("the column is known");
            assert_eq!(part.chars().count(), WIDTH, "{at}");
            let found: String = part.chars().skip(caret).take(4).collect();
            assert_eq!(found, "here", "{at}: {part}");
            assert_eq!(part.starts_with(CUT), at >= 120, "{at}: {part}");
        }
        let (start, _) = shown(&"x".repeat(1000), 0);
        assert_eq!(start, format!("{}...", "x".repeat(WIDTH - 3)));
        assert_eq!(shown(&"x".repeat(WIDTH), 0).0, "x".repeat(WIDTH));
    }

    #[test]
    fn lines_around_the_ends_of_a_file() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/snippet.rs");
        let numbers = |at| {
            read(&path, at)
                .into_iter()
                .map(|(n, _)| n)
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(1), [1, 2]);
        assert_eq!(numbers(10), [9, 10, 11]);
        assert!(numbers(0).is_empty() && numbers(1 << 20).is_empty());
        assert!(read(Path::new("/no/such/file"), 1).is_empty());
        assert!(read(Path::new("/dev/zero"), 1).is_empty());
    }
}
