//! The panic message of a goroutine: it names the goroutine, where the standard one would name a thread.
//!
//! The hook goes in front of the one that is there. If that is the standard one, or libtest's,
//! which only calls it, ours prints in its stead for goroutines; a hook of the program's own is
//! always called, after a line that names the goroutine.

use crate::goroutine::{Goroutine, current};
use crate::{capture, places};
use raddle_sched::backtrace;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Puts ours in front of the hook that is there.
pub(crate) fn install_hook() {
    let before: Hook = panic::take_hook();
    // Taking the hook has put the standard one in its place: this is it.
    let is_standard = same_type(&before, &panic::take_hook());
    let is_libtests = OnceLock::new();
    panic::set_hook(Box::new(move |info| {
        let goroutine = current();
        let is_libtests = || {
            let tell = || *is_libtests.get_or_init(|| is_libtests_hook(&before));
            !is_standard && raddle_race::unwatched(tell)
        };
        if !is_standard && !is_libtests() {
            announce(goroutine.as_ref());
            return before(info);
        }
        // Unwatched: a backtrace is made by a million accesses of std, which would push out what
        // the history has of the program's own; and what std keeps of one for the next is guarded
        // by locks of std's, which a plain build does not see.
        raddle_race::unwatched(|| match goroutine {
            Some(goroutine) if is_standard || !ends_the_process(info) => {
                capture::print_error(&report(&goroutine.to_string(), info));
            }
            goroutine => {
                announce(goroutine.as_ref());
                before(info);
            }
        });
    }));
}

/// The line before another hook's message.
fn announce(goroutine: Option<&Goroutine>) {
    if let Some(goroutine) = goroutine {
        capture::print_error(&format!("\n{goroutine} panicked:\n"));
    }
}

/// The table of a hook's type: its functions, among other words.
fn table(hook: &Hook) -> *const usize {
    let fat: *const (dyn Fn(&PanicHookInfo<'_>) + Send + Sync) = &raw const **hook;
    // SAFETY: a pointer to a trait object is two words: the data, and the table of the type's
    // functions.
    let [_, table] = unsafe { std::mem::transmute::<*const _, [*const usize; 2]>(fat) };
    table
}

/// Whether the hook is the one with which libtest lets a panic through that ends the process,
/// having shown what it captured until then. Told by the names of its functions, at the first
/// panic.
fn is_libtests_hook(hook: &Hook) -> bool {
    /// Drop, size, alignment, and at least one function.
    const WORDS: usize = 4;
    (0..WORDS).any(|i| {
        // SAFETY: a table has so many words.
        let word = unsafe { table(hook).wrapping_add(i).read() };
        places::function_at(word).is_some_and(|name| name.contains("test::test_main"))
    })
}

/// Whether the panic does not unwind: libtest's hook then has something to do. Hooks are told,
/// though not by a stable function.
fn ends_the_process(info: &PanicHookInfo<'_>) -> bool {
    format!("{info:?}").contains("can_unwind: false")
}

/// Whether two hooks are of one type. All closures of one type share their code, and the standard hook is a function.
fn same_type(a: &Hook, b: &Hook) -> bool {
    table(a) == table(b)
}

fn report(who: &str, info: &PanicHookInfo<'_>) -> String {
    let place = info
        .location()
        .map_or(String::from("an unknown place"), ToString::to_string);
    let what = info.payload_as_str().unwrap_or("Box<dyn Any>");
    let stack = Backtrace::capture();
    let after = match stack.status() {
        BacktraceStatus::Captured => {
            let (stack, note) = backtrace::for_people(&stack);
            format!("stack backtrace:\n{stack}{note}")
        }
        BacktraceStatus::Disabled => "note: run with `RUST_BACKTRACE=1` to see the stack\n".into(),
        _ => String::new(),
    };
    format!("\n{who} panicked at {place}:\n{what}\n{after}")
}
