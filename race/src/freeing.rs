//! Whether a free is to be held against the accesses before it: by who frees.
//!
//! A free is a write of the whole block. But what decides that a block is free is often a count,
//! and the counts of code that is not instrumented are not seen: the runtime's own crates, what
//! they stand on, the C library. So an early free is reported only where instrumented code frees.
//! That is told by the names of the real stack, once a race with an earlier access has been found,
//! which is seldom: the frame that asked is the first that is neither the heap's nor the standard
//! library's, whose generic functions are the code of the crate that uses them.

use crate::frames::{Line, Stack, named};
use crate::plumbing::{crate_of, is_detector, is_glue, is_raddles, is_std};

/// Crates that free blocks whose counts are not seen. Some of them may be instrumented where the
/// program uses them itself: an early free of theirs is let pass.
const UNSEEN: [&str; 19] = [
    "raddle",
    "raddle_alloc",
    "raddle_chan",
    "raddle_race",
    "raddle_race_options",
    "raddle_sched",
    "addr2line",
    "adler2",
    "backtrace",
    "corosensei",
    "crossbeam_deque",
    "crossbeam_epoch",
    "crossbeam_utils",
    "gimli",
    "lock_api",
    "miniz_oxide",
    "object",
    "parking_lot",
    "parking_lot_core",
];

/// What Rust code calls to have a block freed or moved, but for C's functions.
const ASKED: [&str; 2] = ["__rust_dealloc", "__rust_realloc"];

/// Parts of std that are not instrumented.
const UNSEEN_OF_STD: [&str; 2] = ["backtrace_rs", "stack_overflow"];

/// Whether instrumented code asked for the free with this stack.
pub(crate) fn is_asked_by_instrumented_code(stack: &Stack) -> bool {
    asked_by_instrumented_code(&named(stack))
}

fn asked_by_instrumented_code(lines: &[Line]) -> bool {
    let of_heap = |line: &&Line| {
        line.function.as_deref().is_some_and(|name| {
            is_detector(name) || is_glue(name) || crate_of(name) == Some("raddle_alloc")
        })
    };
    // The allocator, whoever wrote it, is above the compiler's function for it.
    let is_asked = |line: &Line| {
        let name = line.function.as_deref().unwrap_or_default();
        ASKED.iter().any(|asked| name.ends_with(asked))
    };
    let asked = lines.iter().position(is_asked).unwrap_or(0);
    for line in lines[asked..].iter().skip_while(of_heap) {
        let Some(name) = line.function.as_deref() else {
            return false;
        };
        if UNSEEN_OF_STD.iter().any(|part| name.contains(part)) {
            return false;
        }
        if !is_std(name, line.whole_file()) {
            let is_rust = |file: &str| file.ends_with(".rs") && !is_raddles(file);
            let is_unseen = crate_of(name).is_some_and(|name| UNSEEN.contains(&name));
            return line.whole_file().is_some_and(is_rust) && !is_unseen;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_by(functions: &[&str]) -> bool {
        let line = |function: &&str| {
            let file = match function.contains("::") {
                true => "/home/x/src/lib.rs",
                false => "/usr/src/x.c",
            };
            Line::of_function(function, file)
        };
        asked_by_instrumented_code(&functions.iter().map(line).collect::<Vec<_>>())
    }

    #[test]
    fn who_asks_is_the_first_that_is_neither_heap_nor_std() {
        let drop = "<alloc::boxed::Box<T> as core::ops::drop::Drop>::drop";
        for (functions, expected) in [
            (&["__rustc::__rust_dealloc", drop, "app::work"][..], true),
            (
                &[
                    "raddle_alloc::heap::free",
                    "__rust_dealloc",
                    drop,
                    "app::work",
                    "raddle::go",
                ],
                true,
            ),
            (
                &[
                    "raddle_race::interpose::heap::free_at",
                    "std::alloc::dealloc",
                    drop,
                    "app::work",
                ],
                true,
            ),
            (
                &[
                    "__rustc::__rust_dealloc",
                    drop,
                    "raddle_chan::close",
                    "app::work",
                ],
                false,
            ),
            (
                &[
                    "__rustc::__rust_dealloc",
                    drop,
                    "<raddle_chan::Sender<T> as core::ops::drop::Drop>::drop",
                    "app::work",
                ],
                false,
            ),
            (
                &[
                    "raddle_race::interpose::heap::free_at",
                    "free_of_c",
                    "app::work",
                ],
                false,
            ),
            (
                &[
                    "raddle_race::interpose::heap::free_at",
                    "std::backtrace_rs::cache::drop",
                    "app::work",
                ],
                false,
            ),
            (&["app::Counting::dealloc", "__rust_dealloc", drop], false),
            (&["__rustc::__rust_dealloc", drop], false),
            (&[], false),
        ] {
            assert_eq!(asked_by(functions), expected, "{functions:?}");
        }
    }
}
