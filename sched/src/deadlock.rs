//! The report that nothing can ever run again.
//!
//! # When it is certain
//!
//! Every M sleeps for want of work, no timer is armed, every queue is empty, every other thread of the process is known
//! (sysmon, the collector's threads, and plain threads that are parked in the runtime), and somebody waits. Goroutines of the
//! runtime itself do not count. A collection may end in a finalizer that wakes somebody, so none may have been lately. A
//! thread that we do not know might still send or close something: then there is no report, and sysmon looks again from time
//! to time. Where the kernel does not tell of the threads, for want of `/proc` or of a descriptor, there is a
//! warning, once, and the program goes on waiting.
//!
//! # The stacks
//!
//! A parked goroutine is the only one who can walk its stack. With `RUST_BACKTRACE` set, the reporter resumes each with
//! `G::dump` set, on sysmon's thread: `suspend` sees the mark, walks the stack, and suspends again.

use crate::g::{G, State};
use crate::m::M;
use crate::proc::switch_to;
use crate::sched::Sched;
use crate::{backtrace, clock, stop, thread};
use std::backtrace::Backtrace;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The documented exit status.
const EXIT_STATUS: i32 = 2;

static STACK: Mutex<Option<Backtrace>> = Mutex::new(None);

/// Ends the program if it is certain that nothing can ever run again.
pub(crate) fn check(s: &'static Sched) {
    if raddle_alloc::gc::is_pending() || collected_lately() {
        return;
    }
    let is_certain = match nothing_can_run(s) {
        Certainty::No => return,
        Certainty::Yes => true,
        Certainty::ThreadsUnknown => false,
    };
    let mut gs = s.all_gs();
    gs.retain(|g| !g.system.get());
    let threads = thread::all_parked();
    let is_empty = gs.is_empty() && threads.is_empty();
    if crate::fork::forks() > 0 && is_empty && nothing_can_run(s) == Certainty::Yes {
        // A child of `fork` whose last goroutine has ended: as where the last thread of a process ends.
        std::process::exit(0);
    }
    let all_wait = gs.iter().all(|g| g.state() == State::Waiting) && !is_empty;
    // The first look may have met a wake-up half way: a thread that was made ready counts as parked until it runs.
    let known = threads.len() == thread::parked() as usize;
    if all_wait && known && nothing_can_run(s) != Certainty::No {
        if is_certain {
            report(gs, threads);
        } else {
            warn();
        }
    }
}

/// Whether the world was stopped so lately that what the collector does next, waking the finalizer, may yet come.
fn collected_lately() -> bool {
    /// What a thread that is ready to run waits for a processor at most.
    const LATELY_NS: u64 = 500_000_000;
    /// Collections as of the last look, and when they were seen to have changed. Of sysmon alone.
    static COLLECTIONS: AtomicU32 = AtomicU32::new(0);
    static CHANGED: AtomicU64 = AtomicU64::new(0);
    let now = clock::read_ns();
    let collections = stop::generation();
    if COLLECTIONS.swap(collections, Ordering::Relaxed) != collections {
        CHANGED.store(now, Ordering::Relaxed);
    }
    let changed = CHANGED.load(Ordering::Relaxed);
    changed != 0 && now.saturating_sub(changed) < LATELY_NS
}

/// Whether nothing can ever run again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    No,
    Yes,
    /// Unless there is a thread that the runtime does not know.
    ThreadsUnknown,
}

fn nothing_can_run(s: &Sched) -> Certainty {
    let known = s.ms() + 1 + thread::parked() + stop::collectors();
    let all_rest = s.idle.idle() as usize == s.procs()
        && s.idle.spinning() == 0
        && s.all_ms_sleep()
        && s.next_timer() == u64::MAX
        && !s.any_work();
    match threads_of_process() {
        _ if !all_rest => Certainty::No,
        None => Certainty::ThreadsUnknown,
        Some(threads) if threads == known as usize => Certainty::Yes,
        Some(_) => Certainty::No,
    }
}

fn threads_of_process() -> Option<usize> {
    let listed = std::fs::read_dir("/proc/self/task").ok()?.count();
    Some(listed - usize::from(first_has_ended()))
}

/// Whether the thread with which the process began has ended: it stays in the list until the process does.
fn first_has_ended() -> bool {
    let of_first = format!("/proc/self/task/{}/stat", std::process::id());
    let text = std::fs::read_to_string(of_first).unwrap_or_default();
    // Behind the name, which may be anything.
    text.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.starts_with(" Z"))
}

/// There may be a thread that wakes somebody; most likely there is none, and the program hangs. What the goroutines wait for is
/// not shown: they may run at any moment.
fn warn() {
    /// Of sysmon alone.
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        crate::sys::write_stderr(
            b"raddle: warning: all goroutines are asleep; whether another thread of the program may wake one cannot be told, \
              since /proc is missing, or no descriptor is left\n",
        );
    }
}

fn report(mut gs: Vec<&'static G>, threads: Vec<&'static G>) -> ! {
    gs.sort_unstable_by_key(|g| g.id());
    let with_stacks = std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0");
    let mut text = String::from("raddle: fatal: all goroutines are asleep: deadlock\n");
    let mut note = match with_stacks {
        true => "",
        false => "note: run with RUST_BACKTRACE=1 to see the stacks\n",
    };
    for g in gs.iter().chain(&threads) {
        describe(&mut text, g);
        if with_stacks && !g.is_thread && g.state() == State::Waiting {
            let stack;
            (stack, note) = backtrace::for_people(&stack_of(g));
            text.push_str(&stack);
        }
    }
    if !note.is_empty() {
        let _ = write!(text, "\n{note}");
    }
    crate::sys::write_stderr(text.as_bytes());
    if raddle_race::enabled() {
        raddle_race::fini();
    }
    // Not `exit`: handlers and destructors might wait for a lock that a parked goroutine holds.
    // SAFETY: no preconditions.
    unsafe { libc::_exit(EXIT_STATUS) }
}

/// One goroutine: what it is, what it waits for and since when, where, and where it comes from.
fn describe(text: &mut String, g: &G) {
    let (reason, at, since) = g.wait();
    let kind = if g.is_thread { "thread" } else { "goroutine" };
    let name = g
        .name()
        .map_or(String::new(), |name| format!(" \"{name}\""));
    let age = age(clock::read_ns().saturating_sub(since));
    let id = thread::shown_id(g);
    let _ = writeln!(
        text,
        "\n{kind} {id}{name} [{}: {}, {age}]:",
        g.state().as_str(),
        reason.as_str()
    );
    if let Some(at) = at {
        let _ = writeln!(text, "    waits at {at}");
    }
    if let Some(at) = g.created_at.get() {
        let _ = writeln!(text, "    created at {at}");
    }
}

/// A duration in the largest unit that leaves it above 1.
fn age(ns: u64) -> String {
    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1000 * MS;
    if ns < SECOND {
        format!("{} ms", ns / MS)
    } else if ns < 60 * SECOND {
        format!("{} s", ns / SECOND)
    } else {
        format!("{} min", ns / (60 * SECOND))
    }
}

/// Resumes a parked goroutine for as long as it takes to walk its stack.
fn stack_of(g: &'static G) -> Backtrace {
    let m: &'static M = Box::leak(Box::new(M::new()));
    // No other M's number, so that the goroutine's block is told of the thread.
    m.renew(u32::MAX);
    m.begin_on_this_thread();
    g.dump.set(true);
    switch_to(m, g);
    STACK
        .lock()
        .ok()
        .and_then(|mut stack| stack.take())
        .unwrap_or_else(Backtrace::disabled)
}

/// On the stack of a goroutine that was resumed to be reported.
#[cold]
pub(crate) fn capture_own_stack() {
    if let Ok(mut stack) = STACK.lock() {
        *stack = Some(Backtrace::force_capture());
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_are_in_the_largest_fitting_unit() {
        assert_eq!(age(5), "0 ms");
        assert_eq!(age(1_500_000), "1 ms");
        assert_eq!(age(2_000_000_000), "2 s");
        assert_eq!(age(120_000_000_000), "2 min");
    }
}
