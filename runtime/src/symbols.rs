//! What the race detector asks of the rest of the program when it prints a report.

use crate::goroutine::outermost_frame;
use raddle_race::{EachPc, Frame, Host, Pc};
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

unsafe extern "C" {
    /// The start of the function that `pc` lies in, from the unwind tables. In libgcc, which std stands on.
    fn _Unwind_FindEnclosingFunction(pc: *mut c_void) -> *mut c_void;
}

/// Names the functions and lines of a code address, innermost inlined one first.
fn symbolize_code(pc: usize, each: &mut dyn FnMut(Frame<'_>)) {
    // A return address is that of the next instruction, perhaps the next line's.
    let call = (pc - 1) as *mut c_void;
    // SAFETY: it looks the number up and reads no memory by it.
    let start = unsafe { _Unwind_FindEnclosingFunction(call) } as usize;
    let offset = if start == 0 {
        0
    } else {
        pc.saturating_sub(start)
    };
    backtrace::resolve(call, |symbol| {
        let name = symbol.name().map(|name| format!("{name:#}"));
        let file = symbol
            .filename()
            .map(|file| file.to_string_lossy().into_owned());
        each(Frame {
            function: name.as_deref(),
            file: file.as_deref(),
            line: symbol.lineno().unwrap_or(0),
            column: symbol.colno().unwrap_or(0),
            offset,
        });
    });
}

/// Bytes in which the code of `outermost_frame` surely ends: it is a call and little else.
const OUTERMOST_BYTES: usize = 256;

/// The caller's return addresses, innermost first, as far as the goroutine's own code goes.
///
/// Also called inside allocations, so it walks without the lock that `backtrace` takes by default, whose first use
/// allocates. The walk itself takes no lock and no memory: it finds unwind tables through glibc's `_dl_find_object`.
fn current_stack(each: EachPc<'_>) {
    let end = outermost_frame as *const () as usize;
    let mut walk = |frame: &backtrace::Frame| {
        let ip = frame.ip() as usize;
        // Looking a function's start up costs as much as the step of the walk: only where it may be the one.
        if ip.wrapping_sub(end) < OUTERMOST_BYTES && frame.symbol_address() as usize == end {
            return false;
        }
        each(Pc::code(ip))
    };
    // SAFETY: the lock is for platforms whose unwinder is no thread-safe one; libgcc's is.
    unsafe { backtrace::trace_unsynchronized(&mut walk) };
}
