//! Stacks of a report, and their frames' names.
//!
//! A typed event knows its place as a `Location`: file, line and column, but no function and no callers. For the access
//! that is happening now, the host's real backtrace supplies both: the frame with the same file and line gives the
//! function, and the frames after the outermost known place give the callers. For an earlier access only what history
//! kept is known.

use std::panic::Location;

use crate::history::FRAMES;
use crate::state::{config, host};
use crate::{Frame, Pc, depot};

/// A stack, innermost first, and the real return addresses where they are known.
#[derive(Debug)]
pub(crate) struct Stack {
    frames: [Pc; FRAMES],
    count: usize,
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
        for pc in frames.iter().filter(|pc| !pc.is_none()) {
            stack.push(*pc);
        }
        stack
    }

    /// The calling thread at `pc`, with its shadow call stack (outermost first) and its real one.
    pub(crate) fn of_caller(pc: Pc, shadow: &[u64]) -> Stack {
        let mut stack = Stack::of(&[pc]);
        for word in shadow.iter().rev() {
            stack.push(Pc::from_bits(*word));
        }
        stack.real_count = (host().current_stack)(&mut stack.real);
        stack
    }

    fn push(&mut self, pc: Pc) {
        if let Some(place) = self.frames.get_mut(self.count) {
            *place = pc;
            self.count += 1;
        }
    }

    /// The access's own place.
    pub(crate) fn top(&self) -> Pc {
        self.frames[0]
    }

    /// Nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Calls back with every frame of a stack, innermost first; frames whose function is unknown have none.
pub(crate) fn each(stack: &Stack, with: &mut dyn FnMut(Frame<'_>)) {
    let real = &stack.real[..stack.real_count];
    for (i, pc) in stack.frames[..stack.count].iter().enumerate() {
        let outermost = i + 1 == stack.count;
        match pc.location() {
            Some(at) => {
                if !each_real(real, at, outermost, with) {
                    with(of_location(at));
                }
            }
            None => one(*pc, with),
        }
    }
}

/// Calls back with the frames of one place, or of a whole stack.
pub(crate) fn one(pc: Pc, with: &mut dyn FnMut(Frame<'_>)) {
    if let Some(entry) = pc.stack_entry() {
        let (frames, count) = depot::frames(entry);
        of_allocation(&frames[..count], with);
    } else if let Some(at) = pc.location() {
        with(of_location(at));
    } else if let Some(address) = pc.code_address() {
        let mut any = false;
        (host().symbolize_code)(address, &mut |frame| {
            any = true;
            with(stripped(frame));
        });
        if !any {
            with(Frame {
                offset: address,
                ..Frame::default()
            });
        }
    }
}

/// Code between the program and the heap: the heap itself, and the standard library's containers.
const PLUMBING: [&str; 9] = [
    "alloc",
    "core",
    "std",
    "hashbrown",
    "raddle_alloc",
    "raddle_chan",
    "raddle_race",
    "raddle_sched",
    "raddle",
];

/// Whether the function belongs to one of the first `crates` of [`PLUMBING`], or is a compiler-made allocation function.
fn is_plumbing(function: &str, crates: &[&str]) -> bool {
    // `<alloc::vec::Vec<T> as core::clone::Clone>::clone` is the type's, `<T as core::convert::Into<U>>::into` the trait's.
    let path = function.trim_start_matches(['<', '&', '[', '*']);
    let own = path.split_once("::").map_or(path, |(first, _)| first);
    let name = own.rsplit([' ', '<']).next().unwrap_or(own);
    crates.contains(&name)
        || ["__rust", "__rdl_", "__rg_"]
            .iter()
            .any(|p| own.contains(p))
}

/// Calls back with the frames of an allocation, without the plumbing on top: the program's line comes first. Where all is
/// plumbing, or nothing has a name, with all frames.
fn of_allocation(frames: &[Pc], with: &mut dyn FnMut(Frame<'_>)) {
    let runtime = PLUMBING.len() - 1;
    for cut in [&PLUMBING[..], &PLUMBING[..runtime], &[]] {
        let mut on_top = !cut.is_empty();
        for pc in frames {
            one(*pc, &mut |frame| {
                on_top = on_top && frame.function.is_some_and(|f| is_plumbing(f, cut));
                if !on_top {
                    with(frame);
                }
            });
        }
        if !on_top {
            return;
        }
    }
}

/// The real frame at a location, and all after it when `and_callers`; false when there is none.
fn each_real(
    real: &[Pc],
    at: &Location<'_>,
    and_callers: bool,
    with: &mut dyn FnMut(Frame<'_>),
) -> bool {
    let mut found = false;
    for pc in real.iter().filter_map(|pc| pc.code_address()) {
        (host().symbolize_code)(pc, &mut |frame| {
            if found {
                if and_callers {
                    with(stripped(frame));
                }
            } else if frame.line == at.line()
                && frame.file.is_some_and(|f| is_same_file(f, at.file()))
            {
                found = true;
                with(stripped(Frame {
                    column: at.column(),
                    ..frame
                }));
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

fn of_location(at: &'static Location<'static>) -> Frame<'static> {
    stripped(Frame {
        function: None,
        file: Some(at.file()),
        line: at.line(),
        column: at.column(),
        offset: 0,
    })
}

fn stripped(frame: Frame<'_>) -> Frame<'_> {
    let prefix = config().options.strip_path_prefix.as_str();
    Frame {
        file: frame.file.map(|f| f.strip_prefix(prefix).unwrap_or(f)),
        ..frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_s_own_functions_are_told_from_the_plumbing() {
        let of = |function| is_plumbing(function, &PLUMBING);
        for function in [
            "alloc::vec::Vec<T,A>::push",
            "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
            "<raddle_alloc::heap::Heap as core::alloc::global::GlobalAlloc>::alloc",
            "<T as core::convert::Into<U>>::into",
            "<&mut I as core::iter::traits::iterator::Iterator>::next",
            "__rust_alloc",
            "__rustc::__rust_dealloc",
            "_RNvCs_7___rustc12___rust_alloc",
            "hashbrown::raw::RawTable<T,A>::reserve_rehash",
            "raddle::goroutine::spawn",
        ] {
            assert!(of(function), "{function}");
        }
        for function in [
            "app::main",
            "<app::Tree as core::default::Default>::default",
            "app::alloc::make",
            "allocator_of_mine::get",
            "main",
        ] {
            assert!(!of(function), "{function}");
        }
        assert!(!is_plumbing(
            "raddle::sync::tests::x",
            &PLUMBING[..PLUMBING.len() - 1]
        ));
    }
}
