//! The panic message of a goroutine: it names the goroutine, where the standard one would name a thread.

use crate::goroutine::current;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::{io, panic};

/// Puts ours in front of the hook that is there, which goes on to serve plain threads.
pub(crate) fn install_hook() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| match current() {
        Some(goroutine) => report(&goroutine.to_string(), info),
        None => before(info),
    }));
}

fn report(who: &str, info: &PanicHookInfo<'_>) {
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
    // One write: the messages of two goroutines do not mix. Standard error may be closed: nobody to tell.
    let _ = io::Write::write_all(
        &mut io::stderr(),
        format!("\n{who} panicked at {place}:\n{what}\n{after}").as_bytes(),
    );
}
