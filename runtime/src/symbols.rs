//! What the race detector asks of the rest of the program when it prints a report.

use raddle_race::{Frame, Host, Pc};
use std::ffi::c_void;

/// The detector's view of the runtime.
pub(crate) static HOST: Host = Host {
    current_proc: raddle_sched::current_proc_ctx,
    symbolize_code,
    find_object: |_| None,
    goroutine_name: |id, with| {
        if let Some(name) = raddle_sched::goroutine_name(id) {
            with(&name);
        }
    },
    goroutine_running: raddle_sched::goroutine_exists,
    current_stack,
};

/// Names the functions and lines of a code address, innermost inlined one first.
fn symbolize_code(pc: usize, each: &mut dyn FnMut(Frame<'_>)) {
    // A return address is that of the next instruction, perhaps the next line's.
    backtrace::resolve((pc - 1) as *mut c_void, |symbol| {
        let name = symbol.name().map(|name| format!("{name:#}"));
        let file = symbol.filename().map(|file| file.to_string_lossy().into_owned());
        each(Frame {
            function: name.as_deref(),
            file: file.as_deref(),
            line: symbol.lineno().unwrap_or(0),
            column: symbol.colno().unwrap_or(0),
            offset: symbol.addr().map_or(0, |start| pc.saturating_sub(start as usize)),
        });
    });
}

/// The caller's return addresses, innermost first.
fn current_stack(each: &mut dyn FnMut(Pc)) {
    backtrace::trace(|frame| {
        each(Pc::code(frame.ip() as usize));
        true
    });
}
