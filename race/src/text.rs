//! The text form of a report: Go's shape, so that existing eyes and tools can read it.

use std::fmt::{self, Write};

use crate::record::Identity;
use crate::report::{self, Report, Side};
use crate::state::host;
use crate::{Frame, Pc, frames};

/// The goroutine that runs `main`.
const MAIN: u64 = 1;

/// Collects output so that a report reaches the log in few writes.
pub(crate) struct Out {
    buffer: [u8; 4096],
    len: usize,
}

impl Out {
    pub(crate) fn new() -> Out {
        Out {
            buffer: [0; 4096],
            len: 0,
        }
    }

    fn flush(&mut self) {
        report::put(&self.buffer[..self.len]);
        self.len = 0;
    }
}

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.as_bytes().chunks(self.buffer.len()) {
            if self.len + piece.len() > self.buffer.len() {
                self.flush();
            }
            self.buffer[self.len..][..piece.len()].copy_from_slice(piece);
            self.len += piece.len();
        }
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Calls back with ` 'name'`, or nothing, for a goroutine.
struct Name(u64);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut result = Ok(());
        (host().goroutine_name)(self.0, &mut |name| result = write!(f, " '{name}'"));
        result
    }
}

struct Who(u64);

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == MAIN {
            return f.write_str("main goroutine");
        }
        write!(f, "goroutine {}{}", self.0, Name(self.0))
    }
}

/// Prints one report.
pub(crate) fn print(report: &Report) {
    let mut out = Out::new();
    // Writing to an `Out` cannot fail.
    let _ = write_report(&mut out, report);
}

/// Prints how many races were found.
pub(crate) fn print_count(n: usize) {
    let mut out = Out::new();
    let _ = writeln!(out, "Found {n} data race(s)");
}

fn write_report(out: &mut Out, report: &Report) -> fmt::Result {
    out.write_str("==================\nWARNING: DATA RACE\n")?;
    let [own, previous] = &report.sides;
    write_side(out, own, false)?;
    write_side(out, previous, true)?;
    let ids = [own.who, previous.who];
    for (i, who) in ids.iter().enumerate() {
        if let Some(who) = who
            && who.goid != MAIN
            && !ids[..i].iter().flatten().any(|w| w.goid == who.goid)
        {
            write_creation(out, who)?;
        }
    }
    if let Some(block) = report.block {
        write!(
            out,
            "\nBlock of {} bytes at {:#014x}",
            block.size, block.start
        )?;
        match block.made {
            Some((pc, goid)) => {
                let ended = goid != MAIN && !(host().goroutine_running)(goid);
                let state = if ended { " (finished)" } else { "" };
                writeln!(out, " allocated by {}{state}:", Who(goid))?;
                write_place(out, pc)?;
            }
            None => out.write_str("\n")?,
        }
    }
    out.write_str("==================\n")
}

fn write_side(out: &mut Out, side: &Side, is_previous: bool) -> fmt::Result {
    let verb = side.verb();
    if is_previous {
        write!(out, "\nPrevious {verb}")?;
    } else {
        let (first, rest) = verb.split_at(1);
        write!(out, "{}{rest}", first.to_ascii_uppercase())?;
    }
    if side.allocation {
        out.write_str(" (allocation)")?;
    }
    match side.who {
        Some(who) => writeln!(out, " at {:#014x} by {}:", side.addr, Who(who.goid))?,
        None => writeln!(out, " at {:#014x} by an earlier goroutine:", side.addr)?,
    }
    if side.stack.is_empty() {
        return out.write_str("  [failed to restore the stack]\n");
    }
    let mut result = Ok(());
    frames::each(&side.stack, &mut |frame| {
        result = result.and_then(|()| write_frame(out, frame))
    });
    result
}

fn write_creation(out: &mut Out, who: &Identity) -> fmt::Result {
    let state = if who.finished { "finished" } else { "running" };
    if who.created[0].is_none() {
        return writeln!(
            out,
            "\nGoroutine {} ({state}){} is a foreign thread",
            who.goid,
            Name(who.goid)
        );
    }
    writeln!(
        out,
        "\nGoroutine {} ({state}){} created at:",
        who.goid,
        Name(who.goid)
    )?;
    who.created
        .iter()
        .take_while(|pc| !pc.is_none())
        .try_for_each(|pc| write_place(out, *pc))
}

fn write_place(out: &mut Out, pc: Pc) -> fmt::Result {
    let mut result = Ok(());
    frames::one(pc, &mut |frame| {
        result = result.and_then(|()| write_frame(out, frame))
    });
    result
}

fn write_frame(out: &mut Out, frame: Frame<'_>) -> fmt::Result {
    if let Some(function) = frame.function {
        writeln!(out, "  {function}")?;
    }
    match frame.file {
        Some(file) => write!(out, "      {file}:{}", frame.line)?,
        None => out.write_str("      ??")?,
    }
    if frame.column != 0 {
        write!(out, ":{}", frame.column)?;
    }
    if frame.offset != 0 {
        write!(out, " +{:#x}", frame.offset)?;
    }
    out.write_str("\n")
}
