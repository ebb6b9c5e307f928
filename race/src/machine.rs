//! Reports for programs: JSON lines, and SARIF 2.1.0.
//!
//! A JSON line is one object: `kind`, `accesses` (two: `op`, `address`, `size`, `goroutine`, `name`, `state`, `stack`,
//! `created`), and where it lies in a heap block `block` (`address`, `size`, `goroutine`, `stack`: who allocated it; the last
//! two only where known). A SARIF log begins with the first report and is complete after `fini`.

use std::fmt::{self, Write};

use crate::report::{Report, Side};
use crate::state::host;
use crate::text::Out;
use crate::{Frame, Pc, frames};

/// Text with JSON's escapes, in quotes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if u32::from(c) < 0x20 => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_str("\"")
    }
}

/// Prints one JSON line.
pub(crate) fn print_json(report: &Report) {
    let mut out = Out::new();
    // Writing to an `Out` cannot fail.
    let _ = json(&mut out, report);
}

fn json(out: &mut Out, report: &Report) -> fmt::Result {
    out.write_str("{\"kind\":\"data race\",\"accesses\":[")?;
    for (i, side) in report.sides.iter().enumerate() {
        if i > 0 {
            out.write_str(",")?;
        }
        json_side(out, side)?;
    }
    out.write_str("]")?;
    if let Some(block) = report.block {
        write!(
            out,
            ",\"block\":{{\"address\":\"{:#x}\",\"size\":{}",
            block.start, block.size
        )?;
        if let Some((pc, goid)) = block.made {
            write!(out, ",\"goroutine\":{goid},\"stack\":[")?;
            json_frames(out, &mut |each| frames::one(pc, each))?;
            out.write_str("]")?;
        }
        out.write_str("}")?;
    }
    out.write_str("}\n")
}

fn json_side(out: &mut Out, side: &Side) -> fmt::Result {
    write!(
        out,
        "{{\"op\":\"{}\",\"address\":\"{:#x}\",\"size\":{}",
        side.verb(),
        side.addr,
        side.size
    )?;
    if let Some(who) = side.who {
        let state = if who.finished { "finished" } else { "running" };
        write!(
            out,
            ",\"goroutine\":{},\"state\":\"{state}\",\"parent\":{}",
            who.goid, who.parent
        )?;
        let mut result = Ok(());
        (host().goroutine_name)(who.goid, &mut |name| {
            result = write!(out, ",\"name\":{}", Quoted(name))
        });
        result?;
        out.write_str(",\"created\":[")?;
        json_frames(out, &mut |each| {
            for pc in who.created.iter().take_while(|pc| !pc.is_none()) {
                frames::one(*pc, each);
            }
        })?;
        out.write_str("]")?;
    }
    out.write_str(",\"stack\":[")?;
    json_frames(out, &mut |each| frames::each(&side.stack, each))?;
    out.write_str("]}")
}

/// Something that calls back with frames.
type Frames<'a> = &'a mut dyn FnMut(&mut dyn FnMut(Frame<'_>));

fn json_frames(out: &mut Out, all: Frames<'_>) -> fmt::Result {
    let mut result = Ok(());
    let mut first = true;
    all(&mut |frame| {
        let comma = if std::mem::take(&mut first) { "" } else { "," };
        result = result
            .and_then(|()| out.write_str(comma))
            .and_then(|()| json_frame(out, frame));
    });
    result
}

fn json_frame(out: &mut Out, frame: Frame<'_>) -> fmt::Result {
    let (function, file) = (frame.function.unwrap_or(""), frame.file.unwrap_or(""));
    write!(
        out,
        "{{\"function\":{},\"file\":{}",
        Quoted(function),
        Quoted(file)
    )?;
    write!(
        out,
        ",\"line\":{},\"column\":{}}}",
        frame.line, frame.column
    )
}

/// Prints one SARIF result, after the log's head when it is the first.
pub(crate) fn print_sarif(report: &Report, is_first: bool) {
    let mut out = Out::new();
    let head = if is_first { SARIF_HEAD } else { "," };
    // Writing to an `Out` cannot fail.
    let _ = out.write_str(head).and_then(|()| sarif(&mut out, report));
}

/// Completes the SARIF log.
pub(crate) fn end_sarif() {
    let mut out = Out::new();
    let _ = out.write_str("]}]}\n");
}

const SARIF_HEAD: &str = "{\"$schema\":\"https://json.schemastore.org/sarif-2.1.0.json\",\"version\":\"2.1.0\",\
    \"runs\":[{\"tool\":{\"driver\":{\"name\":\"raddle-race\",\"rules\":[{\"id\":\"data-race\"}]}},\"results\":[";

fn sarif(out: &mut Out, report: &Report) -> fmt::Result {
    let [own, previous] = &report.sides;
    out.write_str("{\"ruleId\":\"data-race\",\"level\":\"error\",\"message\":{\"text\":\"")?;
    write!(
        out,
        "data race: {} and previous {} are not ordered\"}}",
        own.verb(),
        previous.verb()
    )?;
    out.write_str(",\"locations\":[")?;
    sarif_place(out, own)?;
    out.write_str("],\"relatedLocations\":[")?;
    sarif_place(out, previous)?;
    out.write_str("],\"stacks\":[")?;
    for (i, side) in report.sides.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(
            out,
            "{comma}{{\"message\":{{\"text\":\"{}\"}},\"frames\":[",
            side.verb()
        )?;
        sarif_frames(out, &mut |each| frames::each(&side.stack, each))?;
        out.write_str("]}")?;
    }
    if let Some(block) = report.block {
        write!(
            out,
            ",{{\"message\":{{\"text\":\"block of {} bytes at {:#x}\"}},\"frames\":[",
            block.size, block.start
        )?;
        if let Some((pc, _)) = block.made {
            sarif_frames(out, &mut |each| frames::one(pc, each))?;
        }
        out.write_str("]}")?;
    }
    out.write_str("]}")
}

fn sarif_frames(out: &mut Out, all: Frames<'_>) -> fmt::Result {
    let mut result = Ok(());
    let mut first = true;
    all(&mut |frame| {
        let comma = if std::mem::take(&mut first) { "" } else { "," };
        result = result
            .and_then(|()| write!(out, "{comma}{{\"location\":"))
            .and_then(|()| sarif_location(out, frame))
            .and_then(|()| out.write_str("}"));
    });
    result
}

/// The innermost place of a side, as a location; nothing when its stack was lost.
fn sarif_place(out: &mut Out, side: &Side) -> fmt::Result {
    let mut result = Ok(());
    let mut first = true;
    if side.stack.top() != Pc::NONE {
        frames::each(&side.stack, &mut |frame| {
            if std::mem::take(&mut first) {
                result = sarif_location(out, frame);
            }
        });
    }
    result
}

fn sarif_location(out: &mut Out, frame: Frame<'_>) -> fmt::Result {
    let (function, file) = (frame.function.unwrap_or(""), frame.file.unwrap_or(""));
    write!(
        out,
        "{{\"physicalLocation\":{{\"artifactLocation\":{{\"uri\":{}}}",
        Quoted(file)
    )?;
    write!(out, ",\"region\":{{\"startLine\":{}", frame.line.max(1))?;
    if frame.column != 0 {
        write!(out, ",\"startColumn\":{}", frame.column)?;
    }
    write!(
        out,
        "}}}},\"logicalLocations\":[{{\"fullyQualifiedName\":{}}}]}}",
        Quoted(function)
    )
}
