//! Stacks of a report, and their frames' names.
//!
//! A typed event knows its place as a `Location`: file, line and column, but no function and no callers. For the access
//! that is happening now, the host's real backtrace supplies both: the frame with the same file and line gives the
//! function, and the frames after the outermost known place give the callers. For an earlier access only what history
//! kept is known.
//!
//! Compiled code's places are return addresses, and so are those of its calls: every one has a function's name. The stack of the
//! access that is happening now is the real one, which has also the callers that were compiled without the detector's calls.
//!
//! # What is left out
//! The detector's own functions on top, and what starts threads and goroutines at the outer end. A stack that tells where
//! something comes from (a block, a goroutine) begins with the program's own line. What is left of an access's stack keeps the
//! library functions on top, and says which frame is the first of the program's own.

use std::panic::Location;

use crate::history::FRAMES;
use crate::plumbing::{CRATES, is_detector, is_plumbing, is_start};
use crate::state::{config, host};
use crate::{Frame, Pc, depot};

/// A stack, innermost first, and the real return addresses where they are known.
#[derive(Debug)]
pub(crate) struct Stack {
    frames: [Pc; FRAMES],
    count: usize,
    /// The thread's real return addresses, where the frames do not have them.
    real: [Pc; FRAMES],
    real_count: usize,
}

impl Stack {
    /// Nothing known.
    pub(crate) const EMPTY: Stack = Stack {
        frames: [Pc::NONE; FRAMES],
        count: 0,
        real: [Pc::NONE; FRAMES],
        real_count: 0,
    };

    /// These frames, innermost first.
    pub(crate) fn of(frames: &[Pc]) -> Stack {
        let mut stack = Stack::EMPTY;
        stack.extend(frames.iter().copied());
        stack
    }

    /// The access at `pc` on the calling thread, with the callers that were announced and the real ones, innermost first.
    pub(crate) fn of_caller(pc: Pc, announced: &[Pc], real: &[Pc]) -> Stack {
        let mut stack = Stack::of(&[pc]);
        let announced = announced.iter().copied();
        if pc.code_address().is_none() {
            stack.extend(announced);
            let count = real.len().min(FRAMES);
            stack.real[..count].copy_from_slice(&real[..count]);
            stack.real_count = count;
            return stack;
        }
        let place_of = |wanted: Pc| real.iter().position(|pc| *pc == wanted);
        let caller = announced.clone().next();
        if let Some(own) = place_of(pc) {
            stack.extend(real[own + 1..].iter().copied());
        } else if let Some(callers) = caller.and_then(place_of) {
            stack.extend(real[callers..].iter().copied());
        } else {
            stack.extend(announced);
        }
        stack
    }

    fn extend(&mut self, frames: impl Iterator<Item = Pc>) {
        for pc in frames.filter(|pc| !pc.is_none()) {
            if let Some(place) = self.frames.get_mut(self.count) {
                *place = pc;
                self.count += 1;
            }
        }
    }

    /// The access's own place, and its callers.
    pub(crate) fn frames(&self) -> &[Pc] {
        &self.frames[..self.count]
    }
}

/// A frame with its names.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) function: Option<String>,
    /// With the prefix that is stripped in reports.
    file: Option<String>,
    pub(crate) line: u32,
    pub(crate) column: u32,
    /// Of the return address, from the start of the function.
    pub(crate) offset: usize,
}

impl Line {
    fn of(frame: Frame<'_>) -> Line {
        Line {
            function: frame.function.map(str::to_owned),
            file: frame.file.map(str::to_owned),
            line: frame.line,
            column: frame.column,
            offset: frame.offset,
        }
    }

    #[cfg(test)]
    pub(crate) fn of_function(function: &str, file: &str) -> Line {
        Line::of(Frame {
            function: Some(function),
            file: Some(file),
            ..Frame::default()
        })
    }

    /// The file as reports name it.
    pub(crate) fn file(&self) -> Option<&str> {
        let prefix = config().options.strip_path_prefix.as_str();
        self.file
            .as_deref()
            .map(|file| file.strip_prefix(prefix).unwrap_or(file))
    }

    /// The file as it may be opened.
    pub(crate) fn whole_file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    fn is_plumbing(&self, crates: &[&str]) -> bool {
        let function = self.function.as_deref();
        function.is_some_and(|name| is_plumbing(name, self.file.as_deref(), crates))
    }

    fn is_outside(&self, crates: &[&str]) -> bool {
        let function = self.function.as_deref();
        self.is_plumbing(crates)
            || function.is_some_and(|name| is_start(name, self.file.as_deref()))
    }

    fn is_detector(&self) -> bool {
        self.function.as_deref().is_some_and(is_detector)
    }
}

/// A stack with names, innermost first.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) lines: Vec<Line>,
    /// The first frame of the program's own.
    pub(crate) own: usize,
    /// It is of an access, not of where something comes from.
    pub(crate) is_access: bool,
}

impl Trace {
    /// The stack of an access.
    pub(crate) fn of_access(stack: &Stack) -> Trace {
        let mut lines = named(stack);
        if let Some(first) = lines.iter().position(|line| !line.is_detector()) {
            lines.drain(..first);
        }
        cut_outer_end(&mut lines);
        let own = lines.iter().position(|line| !line.is_outside(&CRATES));
        Trace {
            own: own.unwrap_or(0),
            lines,
            is_access: true,
        }
    }

    /// The stack of what made a block or a goroutine, or freed a block: the program's own line comes first. Where all is plumbing,
    /// or nothing has a name, with all frames.
    pub(crate) fn of_origin(stack: &Stack) -> Trace {
        let mut lines = named(stack);
        let first =
            cascade().find_map(|crates| lines.iter().position(|line| !line.is_plumbing(crates)));
        lines.drain(..first.unwrap_or(0));
        cut_outer_end(&mut lines);
        Trace {
            lines,
            own: 0,
            is_access: false,
        }
    }

    /// The first frame of the program's own; none when the stack was lost.
    pub(crate) fn own_line(&self) -> Option<&Line> {
        self.lines.get(self.own)
    }
}

/// What is plumbing, and what is if nothing else is left: in Raddle's own tests.
fn cascade() -> impl Iterator<Item = &'static [&'static str]> {
    [&CRATES[..], &CRATES[..CRATES.len() - 1]].into_iter()
}

/// Cuts what started the thread or goroutine, unless nothing else is left.
fn cut_outer_end(lines: &mut Vec<Line>) {
    let last = cascade().find_map(|crates| lines.iter().rposition(|line| !line.is_outside(crates)));
    lines.truncate(last.map_or(lines.len(), |last| last + 1));
}

/// Every frame of a stack; those whose function is unknown have none.
pub(crate) fn named(stack: &Stack) -> Vec<Line> {
    let mut lines = Vec::new();
    let real = &stack.real[..stack.real_count];
    for (i, pc) in stack.frames[..stack.count].iter().enumerate() {
        let outermost = i + 1 == stack.count;
        match pc.location() {
            Some(at) => {
                if !push_real(real, at, outermost, &mut lines) {
                    lines.push(of_location(at));
                }
            }
            None => push(*pc, &mut lines),
        }
    }
    lines
}

/// The frames of a code address, or of a whole stack.
fn push(pc: Pc, lines: &mut Vec<Line>) {
    if let Some(entry) = pc.stack_entry() {
        let (frames, count) = depot::frames(entry);
        for pc in &frames[..count] {
            match pc.location() {
                Some(at) => lines.push(of_location(at)),
                None => push(*pc, lines),
            }
        }
    } else if let Some(address) = pc.code_address() {
        let before = lines.len();
        (host().symbolize_code)(address, &mut |frame| lines.push(Line::of(frame)));
        if lines.len() == before {
            lines.push(Line {
                offset: address,
                ..Line::default()
            });
        }
    }
}

/// The real frame at a location, and all after it when `and_callers`; false when there is none.
fn push_real(real: &[Pc], at: &Location<'_>, and_callers: bool, lines: &mut Vec<Line>) -> bool {
    let mut found = false;
    for pc in real.iter().filter_map(|pc| pc.code_address()) {
        (host().symbolize_code)(pc, &mut |frame| {
            if found {
                if and_callers {
                    lines.push(Line::of(frame));
                }
            } else if frame.line == at.line()
                && frame.file.is_some_and(|f| is_same_file(f, at.file()))
            {
                found = true;
                lines.push(Line {
                    column: at.column(),
                    ..Line::of(frame)
                });
            }
        });
        if found && !and_callers {
            break;
        }
    }
    found
}

/// Debug info has absolute paths where `Location` has what the compiler was called with.
fn is_same_file(absolute: &str, given: &str) -> bool {
    absolute
        .strip_suffix(given)
        .is_some_and(|front| front.is_empty() || front.ends_with('/'))
}

fn of_location(at: &'static Location<'static>) -> Line {
    Line {
        file: Some(at.file().to_owned()),
        line: at.line(),
        column: at.column(),
        ..Line::default()
    }
}
