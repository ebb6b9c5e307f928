//! The text form of a report: Go's shape, so that existing eyes and tools can read it.
//!
//! What Go has no line for comes after what it has: the variable, the source lines, and a summary where the frames on top are
//! not the program's own.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::frames::{Line, Trace};
use crate::place::{Name, Who, is_main, number};
use crate::report::{Goroutine, Report, Side};
use crate::snippet;

/// One report.
pub(crate) fn report(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut out, report);
    out
}

/// How many races were found.
pub(crate) fn count(n: usize) -> String {
    format!("Found {n} data race(s)\n")
}

fn write_report(out: &mut String, report: &Report) -> fmt::Result {
    out.push_str("==================\nWARNING: DATA RACE\n");
    let [own, previous] = &report.sides;
    write_side(out, own, false)?;
    write_side(out, previous, true)?;
    for who in report.goroutines().filter(|who| !is_main(who.id)) {
        write_creation(out, who)?;
    }
    if let Some(block) = &report.block {
        write!(
            out,
            "\nBlock of {} bytes at {:#014x}",
            block.size, block.start
        )?;
        match &block.made {
            Some(made) => {
                let state = if made.finished { " (finished)" } else { "" };
                writeln!(out, " allocated by {}{state}:", Who(made.goroutine))?;
                write_trace(out, &made.trace)?;
            }
            None => out.push('\n'),
        }
    }
    if let Some(location) = &report.location {
        writeln!(out, "\nLocation is {location}")?;
    }
    write_note(out, report);
    if report.sides.iter().any(|side| side.trace.own != 0) {
        writeln!(out, "\nSummary: {}", Summary(report))?;
    }
    out.push_str("==================\n");
    Ok(())
}

/// Once: what to do for line numbers, where there are none.
fn write_note(out: &mut String, report: &Report) {
    static IS_SAID: AtomicBool = AtomicBool::new(false);
    let own_lines = report.sides.iter().filter_map(|side| side.trace.own_line());
    if own_lines.into_iter().any(|line| line.file().is_none()) && !IS_SAID.swap(true, Relaxed) {
        out.push_str(
            "\nNote: for line numbers, build with debug information (debug = \"limited\" in the profile is enough) and \
             do not strip it\n",
        );
    }
}

fn write_side(out: &mut String, side: &Side, is_previous: bool) -> fmt::Result {
    let verb = side.verb();
    if is_previous {
        write!(out, "\nPrevious {verb}")?;
    } else {
        let (first, rest) = verb.split_at(1);
        write!(out, "{}{rest}", first.to_ascii_uppercase())?;
    }
    if side.allocation {
        out.push_str(" (allocation)");
    }
    write!(out, " at {:#014x}", side.addr)?;
    // Of an allocation or free it is the block's that counts, which is told below.
    if !side.allocation && !side.is_free() {
        let bytes = if side.size == 1 { "byte" } else { "bytes" };
        write!(out, " ({} {bytes})", side.size)?;
    }
    match &side.who {
        Some(who) => writeln!(out, " by {}:", Who(who.id))?,
        None => out.push_str(" by an earlier goroutine:\n"),
    }
    if side.trace.lines.is_empty() {
        out.push_str("  [failed to restore the stack]\n");
    }
    write_trace(out, &side.trace)?;
    if side.is_cut {
        out.push_str("  [the callers are too long ago]\n");
    }
    Ok(())
}

fn write_creation(out: &mut String, who: &Goroutine) -> fmt::Result {
    let (state, name) = (who.state(), Name(who.id));
    let (what, number) = number(who.id);
    let (first, rest) = what.split_at(1);
    write!(
        out,
        "\n{}{rest} {number} ({state}){name}",
        first.to_ascii_uppercase()
    )?;
    if who.created.lines.is_empty() {
        out.push_str(" is a foreign thread\n");
        return Ok(());
    }
    out.push_str(" created at:\n");
    write_trace(out, &who.created)
}

/// With the source of the program's first line, where that is wanted: but of the accesses only.
fn write_trace(out: &mut String, trace: &Trace) -> fmt::Result {
    for (i, line) in trace.lines.iter().enumerate() {
        write_line(out, line)?;
        if trace.is_access && i == trace.own && snippet::is_wanted() {
            snippet::write(out, line)?;
        }
    }
    Ok(())
}

fn write_line(out: &mut String, line: &Line) -> fmt::Result {
    if let Some(function) = &line.function {
        writeln!(out, "  {function}")?;
    }
    match line.file() {
        Some(file) => write!(out, "      {file}:{}", line.line)?,
        None => out.push_str("      ??"),
    }
    if line.column != 0 {
        write!(out, ":{}", line.column)?;
    }
    if line.offset != 0 {
        write!(out, " +{:#x}", line.offset)?;
    }
    out.push('\n');
    Ok(())
}

/// Both accesses in one line, each at the program's first own line: `write in app::store at main.rs:12, previous read ...`.
pub(crate) struct Summary<'a>(pub(crate) &'a Report);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [own, previous] = &self.0.sides;
        write!(f, "{}{}", own.verb(), At(own))?;
        write!(f, ", previous {}{}", previous.verb(), At(previous))
    }
}

/// ` in app::store at main.rs:12`, as far as it is known.
struct At<'a>(&'a Side);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(line) = self.0.trace.own_line() else {
            return Ok(());
        };
        if let Some(function) = &line.function {
            write!(f, " in {function}")?;
        }
        match line.file() {
            Some(file) => write!(f, " at {file}:{}", line.line),
            None => Ok(()),
        }
    }
}
