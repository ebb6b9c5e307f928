//! The panic message of a goroutine: it names the goroutine, where the standard one would name a thread.
//!
//! The hook goes in front of the one that is there. If that is the standard one, ours prints in its stead for goroutines; a hook
//! of the program's own is always called, after a line that names the goroutine.

use crate::goroutine::current;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic::PanicHookInfo;
use std::{io, panic};

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Puts ours in front of the hook that is there.
pub(crate) fn install_hook() {
    let before: Hook = panic::take_hook();
    // Taking the hook has put the standard one in its place: this is it.
    let is_standard = same_type(&before, &panic::take_hook());
    panic::set_hook(Box::new(move |info| match current() {
        // Unwatched: a backtrace is made by a million accesses of std, which would push out what the history has of the program's own.
        Some(goroutine) if is_standard => {
            raddle_race::unwatched(|| print(&report(&goroutine.to_string(), info)));
        }
        Some(goroutine) => {
            print(&format!("\n{goroutine} panicked:\n"));
            before(info);
        }
        None => before(info),
    }));
}

/// Whether two hooks are of one type. All closures of one type share their code, and the standard hook is a function.
fn same_type(a: &Hook, b: &Hook) -> bool {
    let code = |hook: &Hook| {
        let fat: *const (dyn Fn(&PanicHookInfo<'_>) + Send + Sync) = &raw const **hook;
        // SAFETY: a pointer to a trait object is two words: the data, and the table of the type's functions.
        let [_, table] = unsafe { std::mem::transmute::<*const _, [usize; 2]>(fat) };
        table
    };
    code(a) == code(b)
}

fn report(who: &str, info: &PanicHookInfo<'_>) -> String {
    let place = info
        .location()
        .map_or(String::from("an unknown place"), ToString::to_string);
    let what = info.payload_as_str().unwrap_or("Box<dyn Any>");
    let backtrace = Backtrace::capture();
    let after = match backtrace.status() {
        BacktraceStatus::Captured => format!("stack backtrace:\n{backtrace}"),
        BacktraceStatus::Disabled => "note: run with `RUST_BACKTRACE=1` to see the stack\n".into(),
        _ => String::new(),
    };
    format!("\n{who} panicked at {place}:\n{what}\n{after}")
}

/// One write: the messages of two goroutines do not mix. Standard error may be closed: then there is
/// nobody to tell, and `eprintln!` would panic.
pub(crate) fn print(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
