//! Stacks of a report, and their frames' names.
//!
//! A typed event knows its place as a `Location`: file, line and column, but no function and no
//! callers. The host's real stack supplies both: the frame with the same file and line gives the
//! function, and the frames after it are the callers. History has that stack with the place
//! (`real_stack.rs`).
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
use crate::plumbing::{CRATES, HEAP, is_detector, is_plumbing, is_start};
use crate::state::{config, host};
use crate::{Frame, Pc, depot};

/// A stack, innermost first. What follows a typed event's places are its real callers, or those
/// that were announced.
#[derive(Debug)]
pub(crate) struct Stack {
    frames: [Pc; FRAMES],
    count: usize,
}

impl Stack {
    /// Nothing known.
    pub(crate) const EMPTY: Stack = Stack {
        frames: [Pc::NONE; FRAMES],
        count: 0,
    };

    /// These frames, innermost first.
    pub(crate) fn of(frames: &[Pc]) -> Stack {
        let mut stack = Stack::EMPTY;
        stack.extend(frames.iter().copied());
        stack
    }

    /// The access at `pc` on the calling thread, with the callers that were announced and the real
    /// ones, innermost first.
    pub(crate) fn of_caller(pc: Pc, announced: &[Pc], real: &[Pc]) -> Stack {
        let mut stack = Stack::of(&[pc]);
        let place_of = |wanted: Pc| real.iter().position(|pc| *pc == wanted);
        let callers = announced.first().copied().and_then(place_of);
        let callers = match pc.code_address() {
            Some(_) => place_of(pc).map(|own| own + 1).or(callers),
            None => Some(0).filter(|_| !real.is_empty()),
        };
        match callers {
            Some(first) => stack.extend(real[first..].iter().copied()),
            None => stack.extend(announced.iter().copied()),
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

    fn is_at(&self, at: &Location<'_>) -> bool {
        let file = self.file.as_deref();
        self.line == at.line() && file.is_some_and(|file| is_same_file(file, at.file()))
    }

    /// Whether the function has a name, and the line is not known.
    fn has_only_function(&self) -> bool {
        let function = self.function.as_deref();
        self.file.is_none() && function.is_some_and(|name| !name.starts_with("??"))
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

/// What is plumbing, and what is if nothing else is left: in Raddle's own tests, and where a stack
/// ends before the program's own line.
fn cascade() -> impl Iterator<Item = &'static [&'static str]> {
    [&CRATES[..], &CRATES[..CRATES.len() - 1], &HEAP[..]].into_iter()
}

/// Cuts what started the thread or goroutine, unless nothing else is left.
fn cut_outer_end(lines: &mut Vec<Line>) {
    let last = cascade().find_map(|crates| lines.iter().rposition(|line| !line.is_outside(crates)));
    lines.truncate(last.map_or(lines.len(), |last| last + 1));
}

/// Every frame of a stack; those whose function is unknown have none.
pub(crate) fn named(stack: &Stack) -> Vec<Line> {
    let whole = stack.frames().first().and_then(|pc| pc.stack_entry());
    let whole = whole.map(depot::frames);
    let frames = match &whole {
        // It has all callers, so those that were announced are among them.
        Some((frames, count)) => &frames[..*count],
        None => stack.frames(),
    };
    let places = frames.iter().map_while(|pc| pc.location());
    let places: Vec<_> = places.collect();
    let mut lines = Vec::new();
    for pc in &frames[places.len()..] {
        match (pc.location(), pc.code_address()) {
            (Some(at), _) => lines.push(of_location(at)),
            (None, Some(address)) => push(address, &mut lines),
            (None, None) => {}
        }
    }
    put_on_top(&places, &mut lines);
    lines
}

/// The frames of a code address.
fn push(address: usize, lines: &mut Vec<Line>) {
    let before = lines.len();
    (host().symbolize_code)(address, &mut |frame| lines.push(Line::of(frame)));
    if lines.len() == before {
        lines.push(Line {
            offset: address,
            ..Line::default()
        });
    }
}

/// Makes `places`, innermost first, the top of a stack. The innermost is mostly the line of one of
/// its frames: what is above is how the event reached the detector. Without line numbers it is in
/// the program's innermost function.
fn put_on_top(places: &[&'static Location<'static>], lines: &mut Vec<Line>) {
    let Some((at, outer)) = places.split_first() else {
        return;
    };
    if let Some(top) = lines.iter().position(|line| line.is_at(at)) {
        lines.drain(..top);
        lines[0].column = at.column();
        return;
    }
    put_on_top(outer, lines);
    let own = lines.iter().position(|line| !line.is_plumbing(&CRATES));
    match own {
        Some(own) if outer.is_empty() && lines[own].has_only_function() => {
            lines.drain(..own);
            let function = lines[0].function.take();
            lines[0] = Line {
                function,
                ..of_location(at)
            };
        }
        _ => lines.insert(0, of_location(at)),
    }
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
