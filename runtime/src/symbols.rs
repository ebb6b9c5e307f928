//! What the race detector asks of the rest of the program when it prints a report.

use crate::places::{self, Module};
use crate::walk;
use raddle_race::{FIRST_THREAD_ID, Frame, Host, Object};
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
    goroutine_name,
    goroutine_running: |id| match id {
        FIRST_THREAD_ID.. => raddle_race::thread_running(id),
        _ => raddle_sched::goroutine_exists(id),
    },
    describe: places::describe,
    on_big_stack: |f, arg| {
        // SAFETY: what the detector calls there neither parks nor unwinds.
        unsafe { raddle_sched::on_big_stack(f, arg) }
    },
    current_stack: walk::current_stack,
    new_goid: raddle_sched::new_thread_id,
};

/// The name of a goroutine, or of a plain thread, where it was given one.
fn goroutine_name(id: u64, with: &mut dyn FnMut(&str)) {
    if id < FIRST_THREAD_ID {
        if let Some(name) = raddle_sched::goroutine_name(id) {
            with(&name);
        }
        return;
    }
    raddle_race::thread_name(id, with);
}

unsafe extern "C" {
    /// The start of the function that `pc` lies in, from the unwind tables. In libgcc, which std stands on.
    fn _Unwind_FindEnclosingFunction(pc: *mut c_void) -> *mut c_void;
}

/// Names the functions and lines of a code address, innermost inlined one first.
fn symbolize_code(pc: usize, each: &mut dyn FnMut(Frame<'_>)) {
    let call = (pc - 1) as *mut c_void;
    // SAFETY: it looks the number up and reads no memory by it.
    let start = unsafe { _Unwind_FindEnclosingFunction(call) } as usize;
    let offset = if start == 0 {
        0
    } else {
        pc.saturating_sub(start)
    };
    let mut lines = Vec::new();
    // A return address is that of the next instruction, perhaps the next line's: that it is one, `resolve` takes for granted.
    backtrace::resolve(pc as *mut c_void, |symbol| {
        lines.push(Line {
            function: symbol.name().map(|name| format!("{name:#}")),
            file: symbol
                .filename()
                .map(|file| file.to_string_lossy().into_owned()),
            line: symbol.lineno().unwrap_or(0),
            column: symbol.colno().unwrap_or(0),
        });
    });
    if lines.is_empty() {
        lines.push(Line::default());
    }
    if let Some(outermost) = lines.last_mut()
        && !outermost
            .function
            .as_ref()
            .is_some_and(|name| name.contains("::"))
        && let Some(module) = Module::at(pc)
    {
        // Line tables alone have the last part of a name; the symbol has it whole.
        let name = module.function_at(start).or(outermost.function.take());
        let nameless = || format!("?? ({}+{:#x})", module.name(), module.offset(pc));
        outermost.function = Some(name.unwrap_or_else(nameless));
    }
    for line in &lines {
        each(Frame {
            function: line.function.as_deref(),
            file: line.file.as_deref(),
            line: line.line,
            column: line.column,
            offset,
        });
    }
}

/// A frame as the debug information has it.
#[derive(Default)]
struct Line {
    function: Option<String>,
    file: Option<String>,
    line: u32,
    column: u32,
}

#[cfg(test)]
mod tests {
    use super::HOST;
    use raddle_sched::on_goroutine_stack;
    use std::cell::Cell;

    /// Where a call by `on_big_stack` stands, and what it sees.
    fn on_big_stack(f: &mut dyn FnMut()) {
        let mut f = f;
        unsafe fn call(arg: *mut ()) {
            // SAFETY: `f` below, for the time of the call.
            unsafe { (*arg.cast::<&mut dyn FnMut()>())() }
        }
        (HOST.on_big_stack)(call, (&raw mut f).cast());
    }

    #[test]
    fn a_goroutine_s_big_stack_is_its_thread_s() {
        thread_local!(static LOCAL: Cell<u32> = const { Cell::new(0) });
        crate::run(|| {
            LOCAL.set(7);
            let mut calls = 0;
            on_big_stack(&mut || {
                assert!(!on_goroutine_stack(), "a stack of 8 MiB");
                assert_eq!(LOCAL.get(), 7, "with the goroutine's thread-locals");
                let mut room = [0_u8; 1 << 20];
                std::hint::black_box(&mut room);
                // Within each other, as a blocking call within it: where it is already.
                on_big_stack(&mut || calls += 1);
                calls += 1;
            });
            assert!(on_goroutine_stack());
            assert_eq!(calls, 2);
            raddle_sched::yield_now();
            crate::blocking(|| on_big_stack(&mut || calls += 1));
            assert_eq!(calls, 3);
        });
        let mut calls = 0;
        on_big_stack(&mut || calls += 1);
        assert_eq!(calls, 1, "on a plain thread: where it is");
    }

    /// Functions inlined into each other come innermost first, and a return address names the line of the call.
    #[test]
    fn a_return_address_names_the_line_of_the_call() {
        #[inline(never)]
        fn caller() -> ([raddle_race::Pc; 4], u32) {
            let mut stack = [raddle_race::Pc::NONE; 4];
            let line = line!() + 1;
            (HOST.current_stack)(std::hint::black_box(&mut stack));
            (stack, line)
        }
        let (stack, line) = caller();
        let mut found = false;
        for pc in stack.iter().filter_map(|pc| pc.code_address()) {
            (HOST.symbolize_code)(pc, &mut |frame| {
                let name = frame.function.unwrap_or_default();
                if name.ends_with("::caller") {
                    found = true;
                    assert_eq!(frame.line, line);
                    assert!(
                        frame.offset != 0 && frame.file.is_some_and(|f| f.ends_with("symbols.rs"))
                    );
                }
            });
        }
        assert!(found);
    }
}
