//! What the race detector asks of the rest of the program when it prints a report.

use crate::places::{self, Module};
use crate::walk;
use raddle_race::{Frame, Host, Object};
use std::ffi::c_void;

/// The detector's view of the runtime.
pub(crate) static HOST: Host = Host {
    current_proc: raddle_sched::current_proc_ctx,
    symbolize_code,
    find_object: |addr| {
        let object = raddle_alloc::find_object(addr)?;
        Some(Object {
            start: object.start,
            size: object.size,
        })
    },
    goroutine_name: |id, with| {
        if let Some(name) = raddle_sched::goroutine_name(id) {
            with(&name);
        }
    },
    goroutine_running: raddle_sched::goroutine_exists,
    describe: places::describe,
    on_big_stack: |f, arg| {
        // SAFETY: what the detector calls there neither parks nor unwinds.
        unsafe { raddle_sched::on_big_stack(f, arg) }
    },
    current_stack: walk::current_stack,
    new_goid: raddle_sched::new_thread_id,
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
    let mut any = false;
    backtrace::resolve(call, |symbol| {
        any = true;
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
    if !any && let Some(module) = Module::at(pc) {
        let name = format!("?? ({}+{:#x})", module.name(), module.offset(pc));
        each(Frame {
            function: Some(&name),
            offset,
            ..Frame::default()
        });
    }
}
