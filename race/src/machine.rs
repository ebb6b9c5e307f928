//! Reports for programs: JSON lines, and SARIF 2.1.0.
//!
//! A JSON line is one object: `kind`, `accesses` (two: `op`, `address`, `size`, whose it is, `name`, `state`, `stack`,
//! `created`, `own`: which frame of `stack` is the first of the program's own, when it is not the first, and `callers_lost`: true where
//! the history has no more than the line); where it lies in a
//! heap block `block` (`address`, `size`, whose, `stack`: who allocated it; the last two only where known); else, where it is
//! known, `location` (`kind`: global, thread-local or stack; `name`, `address`, `size`, `module`, `offset` of a variable; `owner`
//! and whose that is). Whose: `goroutine`, or `thread` of a plain thread, with its number as in the text form; who made it is
//! `parent` or `parent_thread`, 0 where nobody is known. A stack is a list of frames, innermost first: `function`, `file`,
//! `line`, `column`, and where it is known `offset`: the bytes from the start of the function to the place that the call returns to.
//!
//! A SARIF result has the same object as its property `report`, and as its locations the program's own lines, with their source
//! where it is there. Its fingerprint is of what the two places say and not of where they stand, so that a result is known again when lines
//! above it have moved. A log without a result says that no race was found.

use std::fmt::{self, Write};

use crate::frames::{Line, Trace};
use crate::log::Form;
use crate::place::{Location, Who, name_of, number};
use crate::report::{Goroutine, Report, Side};
use crate::snippet;
use crate::text::Summary;

/// Text with JSON's escapes, in quotes.
struct Quoted<T>(T);

impl<T: fmt::Display> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        write!(Escaped(f), "{}", self.0)?;
        f.write_str("\"")
    }
}

struct Escaped<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(self.0, "\\{c}")?,
                c if u32::from(c) < 0x20 => write!(self.0, "\\u{:04x}", u32::from(c))?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Writes `each` of them with commas between.
fn list<T>(
    out: &mut String,
    all: impl IntoIterator<Item = T>,
    mut each: impl FnMut(&mut String, T) -> fmt::Result,
) -> fmt::Result {
    out.push('[');
    for (i, one) in all.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, one)?;
    }
    out.push(']');
    Ok(())
}

/// A report as one line.
pub(crate) fn json_line(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = json(&mut out, report);
    out.push('\n');
    out
}

fn json(out: &mut String, report: &Report) -> fmt::Result {
    out.push_str("{\"kind\":\"data race\",\"accesses\":");
    list(out, &report.sides, json_side)?;
    if let Some(block) = &report.block {
        write!(
            out,
            ",\"block\":{{\"address\":\"{:#x}\",\"size\":{}",
            block.start, block.size
        )?;
        if let Some(made) = &block.made {
            json_who(out, made.goroutine)?;
            out.push_str(",\"stack\":");
            json_stack(out, &made.trace)?;
        }
        out.push('}');
    }
    if let Some(location) = &report.location {
        json_place(out, location)?;
    }
    out.push('}');
    Ok(())
}

fn json_place(out: &mut String, location: &Location) -> fmt::Result {
    write!(out, ",\"location\":{{\"kind\":\"{}\"", location.kind())?;
    if let Some(symbol) = location.symbol() {
        let (name, module) = (Quoted(&symbol.name), Quoted(&symbol.module));
        write!(out, ",\"name\":{name},\"address\":\"{:#x}\"", symbol.start)?;
        write!(out, ",\"size\":{},\"module\":{module}", symbol.size)?;
        write!(out, ",\"offset\":\"{:#x}\"", symbol.offset)?;
    }
    if let Some(holder) = location.holder() {
        write!(out, ",\"owner\":{}", Quoted(&holder.words))?;
        if let Some(id) = holder.goroutine {
            json_who(out, id)?;
        }
    }
    out.push('}');
    Ok(())
}

fn json_side(out: &mut String, side: &Side) -> fmt::Result {
    write!(
        out,
        "{{\"op\":\"{}\",\"address\":\"{:#x}\",\"size\":{}",
        side.verb(),
        side.addr,
        side.size
    )?;
    if let Some(who) = &side.who {
        json_goroutine(out, who)?;
    }
    if side.trace.own != 0 {
        write!(out, ",\"own\":{}", side.trace.own)?;
    }
    if side.is_cut {
        out.push_str(",\"callers_lost\":true");
    }
    out.push_str(",\"stack\":");
    json_stack(out, &side.trace)?;
    out.push('}');
    Ok(())
}

/// `"goroutine":7`, `"thread":5`.
fn json_who(out: &mut String, id: u64) -> fmt::Result {
    let (what, number) = number(id);
    write!(out, ",\"{what}\":{number}")
}

fn json_goroutine(out: &mut String, who: &Goroutine) -> fmt::Result {
    json_who(out, who.id)?;
    write!(out, ",\"state\":\"{}\"", who.state())?;
    match number(who.parent) {
        ("thread", number) => write!(out, ",\"parent_thread\":{number}")?,
        (_, number) => write!(out, ",\"parent\":{number}")?,
    }
    if let Some(name) = name_of(who.id) {
        write!(out, ",\"name\":{}", Quoted(name))?;
    }
    out.push_str(",\"created\":");
    json_stack(out, &who.created)
}

fn json_stack(out: &mut String, trace: &Trace) -> fmt::Result {
    list(out, &trace.lines, |out, line| {
        let function = line.function.as_deref().unwrap_or("");
        let file = line.file().unwrap_or("");
        write!(
            out,
            "{{\"function\":{},\"file\":{},\"line\":{},\"column\":{}",
            Quoted(function),
            Quoted(file),
            line.line,
            line.column
        )?;
        if line.offset != 0 {
            write!(out, ",\"offset\":{}", line.offset)?;
        }
        out.push('}');
        Ok(())
    })
}

const SARIF_HEAD: &str = concat!(
    "{\"$schema\":\"https://json.schemastore.org/sarif-2.1.0.json\",\"version\":\"2.1.0\",\
     \"runs\":[{\"tool\":{\"driver\":{\"name\":\"raddle-race\",\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\",\"rules\":[{\"id\":\"data-race\",\"shortDescription\":{\"text\":\
     \"two accesses to one place, at least one a write, that nothing orders\"}}]}},\"results\":["
);

/// A SARIF log.
pub(crate) const SARIF: Form = Form {
    head: SARIF_HEAD,
    between: ",",
    tail: "]}]}\n",
};

/// A report as a SARIF result.
pub(crate) fn sarif_result(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = sarif(&mut out, report);
    out
}

fn sarif(out: &mut String, report: &Report) -> fmt::Result {
    let [own, previous] = &report.sides;
    let message = Message(report);
    write!(
        out,
        "{{\"ruleId\":\"data-race\",\"level\":\"error\",\"message\":{{\"text\":{}}}",
        Quoted(message)
    )?;
    out.push_str(",\"locations\":");
    list(out, own.trace.own_line(), |out, line| {
        sarif_location(out, line, None, true)
    })?;
    write!(
        out,
        ",\"partialFingerprints\":{{\"dataRace/v1\":\"{:016x}\"}}",
        fingerprint(report)
    )?;
    out.push_str(",\"relatedLocations\":");
    let origins = origins(report);
    let previous = previous
        .trace
        .own_line()
        .map(|line| (line, format!("previous {}", previous.verb())));
    let related = origins
        .iter()
        .filter_map(|(what, trace)| Some((trace.own_line()?, what.clone())));
    list(
        out,
        previous.into_iter().chain(related),
        |out, (line, what)| sarif_location(out, line, Some(&what), true),
    )?;
    out.push_str(",\"stacks\":");
    let accesses = report
        .sides
        .iter()
        .map(|side| (side.verb().to_owned() + lost_callers(side), &side.trace));
    list(
        out,
        accesses.chain(origins.iter().map(|(what, trace)| (what.clone(), *trace))),
        |out, (what, trace)| {
            write!(
                out,
                "{{\"message\":{{\"text\":{}}},\"frames\":",
                Quoted(what)
            )?;
            list(out, &trace.lines, |out, line| {
                out.push_str("{\"location\":");
                sarif_location(out, line, None, false)?;
                out.push('}');
                Ok(())
            })?;
            out.push('}');
            Ok(())
        },
    )?;
    out.push_str(",\"properties\":{\"report\":");
    json(out, report)?;
    out.push_str("}}");
    Ok(())
}

/// What a stack's message adds where the frames are not all.
fn lost_callers(side: &Side) -> &'static str {
    if side.is_cut {
        "; the callers are too long ago"
    } else {
        ""
    }
}

/// What happened and where, in a sentence.
struct Message<'a>(&'a Report);

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data race: {} are not ordered", Summary(self.0))?;
        if let Some(block) = &self.0.block {
            write!(f, "; in a block of {} bytes", block.size)?;
        }
        match &self.0.location {
            Some(location) => write!(f, "; location is {location}"),
            None => Ok(()),
        }
    }
}

/// Where the block and the goroutines come from.
fn origins(report: &Report) -> Vec<(String, &Trace)> {
    let block = report.block.iter().map(|block| {
        let what = format!("block of {} bytes at {:#x}", block.size, block.start);
        (what, block.made.as_ref().map(|made| &made.trace))
    });
    let goroutines = report
        .goroutines()
        .map(|who| (format!("{} created", Who(who.id)), Some(&who.created)));
    block
        .chain(goroutines)
        .filter_map(|(what, trace)| Some((what, trace.filter(|trace| !trace.lines.is_empty())?)))
        .collect()
}

/// A path as a URI reference.
struct Uri<'a>(&'a str);

impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.starts_with('/') {
            f.write_str("file://")?;
        }
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z'
                | b'A'..=b'Z'
                | b'0'..=b'9'
                | b'/'
                | b'-'
                | b'_'
                | b'.'
                | b'~'
                | b'+'
                | b'@' => {
                    f.write_char(byte.into())?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

/// Names a race by what its two places say, in either order. Not by lines, addresses or numbers of goroutines, which change.
fn fingerprint(report: &Report) -> u64 {
    let mut places = report.sides.each_ref().map(|side| {
        let line = side.trace.own_line();
        let (function, file) =
            line.map_or((None, None), |line| (line.function.as_deref(), line.file()));
        let source = line.and_then(snippet::source).unwrap_or_default();
        format!(
            "{} {} {} {}\n",
            side.verb(),
            function.unwrap_or_default(),
            file.unwrap_or_default(),
            source.trim()
        )
    });
    places.sort_unstable();
    // FNV-1a: the same in every version of Rust.
    let bytes = places.iter().flat_map(|place| place.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `with_source`: the line's text, and its neighbours, where they can be read and are wanted.
fn sarif_location(
    out: &mut String,
    line: &Line,
    message: Option<&str>,
    with_source: bool,
) -> fmt::Result {
    out.push('{');
    if let Some(file) = line.file() {
        write!(
            out,
            "\"physicalLocation\":{{\"artifactLocation\":{{\"uri\":\"{}\"}},\"region\":{{\"startLine\":{}",
            Uri(file),
            line.line.max(1)
        )?;
        if line.column != 0 {
            write!(out, ",\"startColumn\":{}", line.column)?;
        }
        let around = match with_source && snippet::is_wanted_in_sarif() {
            true => snippet::around(line),
            false => Vec::new(),
        };
        let own = around.iter().find(|(at, _)| *at == line.line as usize);
        if let Some((_, text)) = own {
            write!(out, ",\"snippet\":{{\"text\":{}}}", Quoted(text))?;
        }
        out.push('}');
        if let (Some((first, _)), Some((last, _))) = (around.first(), around.last()) {
            let texts: Vec<_> = around.iter().map(|(_, text)| text.as_str()).collect();
            write!(
                out,
                ",\"contextRegion\":{{\"startLine\":{first},\"endLine\":{last},\"snippet\":{{\"text\":{}}}}}",
                Quoted(texts.join("\n"))
            )?;
        }
        out.push('}');
    }
    if let Some(function) = &line.function {
        let comma = if line.file().is_some() { "," } else { "" };
        write!(
            out,
            "{comma}\"logicalLocations\":[{{\"fullyQualifiedName\":{}}}]",
            Quoted(function)
        )?;
    }
    if let Some(message) = message {
        let comma = if out.ends_with('{') { "" } else { "," };
        write!(out, "{comma}\"message\":{{\"text\":{}}}", Quoted(message))?;
    }
    out.push('}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(Quoted("a\"b\\c\n").to_string(), "\"a\\\"b\\\\c\\u000a\"");
        assert_eq!(Uri("/a b/ä.rs").to_string(), "file:///a%20b/%C3%A4.rs");
        assert_eq!(Uri("src/main.rs").to_string(), "src/main.rs");
    }
}
