//! Calls that block the thread: system calls, foreign code.
//!
//! The goroutine gives its P up, runs the call on the M's own (big) stack, and takes a P again afterwards: the same one by a
//! single compare-exchange if nobody took it meanwhile (sysmon does so after 20 us at the earliest), else any idle one, else
//! it queues.
//!
//! # Invariants
//!
//! 1. During the call the goroutine's thread-locals stay the current ones: it is the same thread to the code it calls.
//! 2. During the call the M's *thread G* stands for the caller: what parks inside blocks the M, which is a plain thread then.
//!
//! # References
//!
//! Go `runtime/proc.go`, `entersyscall`, `exitsyscall`.

use crate::rt::{self, after_yield};
use crate::{arch, enter, proc};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

/// Runs `f`, which may block its thread, without holding the other goroutines up.
///
/// `f` runs on the OS thread's own stack (8 MiB), with the goroutine's thread-locals. Runtime calls inside it work as on a
/// plain OS thread: they block the thread. On a plain OS thread `f` is called directly.
///
/// # Panics
///
/// A panic of `f` goes on in the caller.
///
/// # Blocking
///
/// Blocks an OS thread for as long as `f` runs, and parks the goroutine if no P is free afterwards. No happens-before edge.
///
/// # Examples
///
/// ```
/// # extern crate raddle_sched as raddle;
/// let text = raddle::blocking(|| std::fs::read_to_string("/proc/self/comm"));
/// assert!(text.is_ok());
/// ```
pub fn blocking<R>(f: impl FnOnce() -> R) -> R {
    let mut f = Some(f);
    let mut result = None;
    blocking_erased(&mut || {
        let f = f.take().expect("called once");
        result = Some(catch_unwind(AssertUnwindSafe(f)));
    });
    match result.expect("called once") {
        Ok(r) => r,
        Err(panic) => resume_unwind(panic),
    }
}

fn blocking_erased(call: &mut dyn FnMut()) {
    let rt = enter();
    let g = rt.g().get();
    let Some(m) = rt.m() else {
        drop(rt);
        return call();
    };
    assert!(m.depth() == 1, "a blocking call inside the runtime");
    let p = proc::enter_syscall(m, g);
    m.thread_g.race.set(g.race.get());
    m.thread_g.thread_begins(g.id());
    m.thread_g.set_name(g.own_name().map(Into::into));
    m.in_blocking.set(g);
    rt::set_current(&raw const m.thread_g);
    m.set_depth(0);
    // What `f` does is the program's.
    let race = g.race.get();
    let paused = race.map(raddle_race::runtime_pause);
    struct Sendable<'a>(&'a mut dyn FnMut());
    // SAFETY: the parent stack belongs to the same OS thread, and the closure does not get at the yielder.
    unsafe impl Send for Sendable<'_> {}
    let call = Sendable(call);
    g.parked.leaves();
    // SAFETY: the coroutine runs on this stack, so its yielder lives.
    unsafe { &*g.yielder.get() }.on_parent_stack(move || {
        let Sendable(call) = { call };
        call();
        if raddle_race::enabled() {
            // The next call here, of another goroutine, has nothing to do with this one's variables.
            let (start, end) = (m.stack_end.get().lowest, arch::stack_pointer());
            raddle_race::clear_shadow(start, end.saturating_sub(start));
        }
    });
    if let (Some(race), Some(paused)) = (race, paused) {
        raddle_race::runtime_resume(race, paused);
    }
    m.set_depth(1);
    rt::set_current(g);
    m.in_blocking.set(ptr::null());
    m.thread_g.set_name(None);
    m.thread_g.dies();
    if !proc::exit_syscall(m, g, p) {
        rt.suspend(after_yield, ptr::null_mut());
    }
}
