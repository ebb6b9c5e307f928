//! Stacks of goroutines as std prints those of threads: what lies between a goroutine's own function and the place of the panic, unless
//! `RUST_BACKTRACE=full` asks for all.
//!
//! std's `Backtrace` has no frames that a stable program could look at; its text has.
//!
//! # Blocking
//! Allocates, and reads what symbols are read from.

use std::backtrace::Backtrace;
use std::env;
use std::fmt::Write;

/// The frames whose callees are the machinery of panics, or of a deadlock's report: what a name has in
/// it, and what it is where an optimised build has no path for it.
const INNER_ENDS: [&str; 3] = [
    "__rust_end_short_backtrace",
    "raddle_sched::deadlock::capture_own_stack",
    "capture_own_stack",
];

/// The frames whose callers are the runtime's own, in the same way.
const OUTER_BEGINS: [&str; 3] = [
    "__rust_begin_short_backtrace",
    "raddle::goroutine::outermost_frame",
    "outermost_frame",
];

/// Below a short form, what std says there.
pub const NOTE: &str =
    "note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.\n";

/// The stack in std's form for people, and the [`NOTE`] where that is not all.
#[must_use]
pub fn for_people(stack: &Backtrace) -> (String, &'static str) {
    if env::var_os("RUST_BACKTRACE").is_some_and(|value| value == "full") {
        return (format!("{stack:#}"), "");
    }
    (short(&stack.to_string()), NOTE)
}

/// A text of frames: each is a number, a name, and lines that begin with blanks and no number.
fn short(text: &str) -> String {
    let mut frames: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        match (name_of(line), frames.last_mut()) {
            (None, Some(frame)) => frame.push(line),
            _ => frames.push(vec![line]),
        }
    }
    let is = |frame: &[&str], marks: &[&str]| {
        let name = name_of(frame[0]);
        let [marks @ .., bare] = marks else {
            return false;
        };
        name.is_some_and(|name| name == *bare || marks.iter().any(|mark| name.contains(mark)))
    };
    let first = frames.iter().rposition(|frame| is(frame, &INNER_ENDS));
    let frames = &frames[first.map_or(0, |at| at + 1)..];
    let last = frames.iter().position(|frame| is(frame, &OUTER_BEGINS));
    let mut out = String::new();
    for (i, frame) in frames[..last.unwrap_or(frames.len())].iter().enumerate() {
        let name = name_of(frame[0]).unwrap_or(frame[0]);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{i:4}: {name}");
        for line in &frame[1..] {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

/// What stands behind the number with which a frame begins.
fn name_of(line: &str) -> Option<&str> {
    let (number, name) = line.split_once(": ")?;
    let is_number = number.trim_start().parse::<usize>().is_ok();
    is_number.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_between_are_kept_and_numbered_anew() {
        let text = "   0: raddle::panic::report\n             at ./panic.rs:92:21\n\
                    \x20  1: std::sys::backtrace::__rust_end_short_backtrace::<x, !>\n             at /rustc/x.rs:1:2\n\
                    \x20  2: core::panicking::panic_fmt\n\
                    \x20  3: app::{{closure}}\n             at ./main.rs:3:4\n\
                    \x20  4: raddle::goroutine::outermost_frame\n             at ./goroutine.rs:1:1\n\
                    \x20  5: start_thread\n";
        assert_eq!(
            short(text),
            "   0: core::panicking::panic_fmt\n   1: app::{{closure}}\n             at ./main.rs:3:4\n"
        );
        let without_marks = "   0: a\n   1: b\n";
        assert_eq!(short(without_marks), without_marks);
        assert_eq!(short("disabled backtrace"), "   0: disabled backtrace\n");
    }
}
