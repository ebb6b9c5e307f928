//! sysmon: one thread without a P that looks after the others.
//!
//! It takes Ps back from Ms that block, breaks up hogs, finds Ms for Ps that signal handlers left,
//! starts the threads of Ms for others that must not, sees to late timers, gives idle memory of
//! stacks and of the heap back, and notices when nothing can ever run again. It looks every 20 us
//! while there is something to do, and less and less often, down to every 10 ms, while there is
//! not. While every P is idle it sleeps.
//!
//! # Invariants
//!
//! 1. It is the only thread that looks at `Seen`.
//! 2. `ASLEEP` is set before it looks at the idle count for the last time; whoever takes an idle P
//!    wakes it after.
//!
//! # References
//!
//! Go `runtime/proc.go`, `sysmon`, `retake`.

use crate::p::{P, Status};
use crate::sched::{Sched, sched};
use crate::sys::Note;
use crate::{clock, deadlock, signal, stop};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(10);
/// Looks in a row that found nothing, after which it looks less often.
const PATIENCE: u32 = 50;
/// How long a goroutine may run in one turn, and a P be held for a blocking call while nobody needs
/// it.
const SLICE_NS: u64 = 10_000_000;
/// A timer that is so late has nobody looking after it.
const LATE_NS: u64 = 1_000_000;
/// Stacks idle for so long are trimmed, but for so many of each size, and so many at a time: some 2
/// us each.
const TRIM_NS: u64 = 2_000_000_000;
const TRIM_KEEP: usize = 1024;
const TRIM_MAX: usize = 4096;
/// How often the heap may give idle pages back.
const SCAVENGE_NS: u64 = 100_000_000;
/// How long it sleeps at most when everything is idle but it cannot know whether that is for ever.
const DOUBT: Duration = Duration::from_millis(250);

static NOTE: Note = Note::new();
/// What the program's debug flags say. Written once, before the thread starts.
static PREEMPT: AtomicBool = AtomicBool::new(true);
static TRACE_NS: AtomicU64 = AtomicU64::new(u64::MAX);
static ASLEEP: AtomicBool = AtomicBool::new(false);
/// The process in which it runs: a child of `fork` has none.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Sets what the debug flags ask for, before the thread starts.
pub(crate) fn configure(no_preempt: bool, trace: Option<Duration>) {
    PREEMPT.store(!no_preempt, Ordering::Relaxed);
    let interval = trace.map_or(u64::MAX, |t| {
        u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)
    });
    TRACE_NS.store(interval, Ordering::Relaxed);
}

/// Starts its thread.
pub(crate) fn start() {
    PROCESS.store(std::process::id(), Ordering::Relaxed);
    crate::sys::thread::start_service("raddle-sysmon", run);
}

/// Whether there is one, or will be in a moment.
pub(crate) fn is_running() -> bool {
    PROCESS.load(Ordering::Relaxed) == std::process::id()
}

/// A child of `fork` begins, without the thread.
pub(crate) fn begin_child() {
    ASLEEP.store(false, Ordering::Relaxed);
}

/// Somebody took an idle P: there is something to watch again.
#[inline]
pub(crate) fn wake_if_asleep() {
    // Relaxed: a wake-up missed by a moment is made up for by `DOUBT`.
    if ASLEEP.load(Ordering::Relaxed) && ASLEEP.swap(false, Ordering::AcqRel) {
        poke();
    }
}

/// Makes it look now. Async-signal-safe.
pub(crate) fn poke() {
    // SAFETY: a static.
    unsafe { Note::wake(&raw const NOTE) };
}

/// A plain thread parks in the runtime: it may have been the last that could have woken anyone.
pub(crate) fn thread_parked() {
    wake_if_asleep();
}

/// What it saw of a P the last time.
#[derive(Clone, Copy, Default)]
struct Seen {
    tick: u32,
    tick_since: u64,
    syscall_tick: u32,
    syscall_since: u64,
}

fn run() -> ! {
    signal::unblock();
    let s = sched();
    let mut seen = vec![Seen::default(); crate::MAX_PROCS];
    let mut quiet = 0;
    let started = clock::read_ns();
    let (mut trimmed, mut traced, mut scavenged) = (started, started, started);
    loop {
        let pause = match quiet {
            0..PATIENCE => SHORTEST,
            n => SHORTEST
                .saturating_mul(1 << (n - PATIENCE).min(9))
                .min(LONGEST),
        };
        NOTE.sleep(Some(pause));
        s.start_left_ms();
        let now = clock::read_ns();
        if s.stopping.load(Ordering::SeqCst) {
            continue;
        }
        let busy = look_at_all(s, &mut seen, now);
        quiet = if busy { 0 } else { quiet.saturating_add(1) };
        if now - trimmed > TRIM_NS {
            crate::bind::trim_idle_stacks(TRIM_KEEP, TRIM_MAX);
            trimmed = now;
        }
        // At rest too: `rest` ends four times a second, and so no sooner for this.
        if now - scavenged > SCAVENGE_NS {
            raddle_alloc::scavenge(now);
            scavenged = now;
        }
        if now - traced > TRACE_NS.load(Ordering::Relaxed) {
            trace(s, now - started);
            traced = now;
        }
        if s.idle.idle() as usize == s.procs() {
            rest(s);
        }
    }
}

/// One line about the state of the scheduler, as Go's schedtrace.
fn trace(s: &Sched, since_start: u64) {
    let queues: Vec<_> = s.each_p().map(|p| p.stealer.len()).collect();
    let line = format!(
        "SCHED {}ms: procs={} idleprocs={} threads={} spinning={} runqueue={} {queues:?} goroutines={}\n",
        since_start / 1_000_000,
        s.procs(),
        s.idle.idle(),
        s.ms(),
        s.idle.spinning(),
        s.injector.len(),
        crate::num_goroutines(),
    );
    crate::sys::write_stderr(line.as_bytes());
}

/// One look. Returns whether there was anything to do.
fn look_at_all(s: &'static Sched, seen: &mut [Seen], now: u64) -> bool {
    // A time slice does not run while the collector has stopped the world.
    let ran = now.saturating_sub(stop::stopped_ns());
    let mut busy = false;
    for (p, seen) in s.each_p().zip(seen) {
        busy |= match p.status() {
            Status::Running => look_at_running(s, p, seen, now, ran),
            Status::Syscall => look_at_syscall(s, p, seen, now),
            Status::HandOff => {
                if p.take_from(Status::HandOff, Status::Running) {
                    s.hand_off(p);
                }
                true
            }
            _ => false,
        };
    }
    if s.next_timer().saturating_add(LATE_NS) < now {
        s.wake_if_needed(crate::sched::Wake::ForQueue);
    }
    busy
}

fn look_at_running(s: &Sched, p: &P, seen: &mut Seen, now: u64, ran: u64) -> bool {
    let tick = p.tick.load(Ordering::Relaxed);
    if tick != seen.tick || seen.tick_since == 0 {
        seen.tick = tick;
        seen.tick_since = ran;
        return false;
    }
    let needed = p.has_work() || !s.injector.is_empty() || p.timers.next_when() < now;
    if ran.saturating_sub(seen.tick_since) < SLICE_NS || !needed || !PREEMPT.load(Ordering::Relaxed)
    {
        return false;
    }
    for m in s.all_ms.lock().iter() {
        if m.p().is_some_and(|own| std::ptr::eq(own, p)) {
            signal::preempt(m);
        }
    }
    // Again in another slice, if it takes no notice.
    seen.tick_since = ran;
    true
}

fn look_at_syscall(s: &Sched, p: &'static P, seen: &mut Seen, now: u64) -> bool {
    let tick = p.syscall_tick.load(Ordering::Relaxed);
    if tick != seen.syscall_tick || seen.syscall_since == 0 {
        seen.syscall_tick = tick;
        seen.syscall_since = now;
        return true;
    }
    let needed =
        p.has_work() || !s.injector.is_empty() || (s.idle.idle() == 0 && s.idle.spinning() == 0);
    if !needed && now - seen.syscall_since < SLICE_NS {
        return false;
    }
    if p.take_from(Status::Syscall, Status::Running) {
        s.hand_off(p);
    }
    true
}

/// Every P is idle: sleeps until one is not, or ends the program if none will ever be.
fn rest(s: &'static Sched) {
    ASLEEP.store(true, Ordering::SeqCst);
    if s.idle.idle() as usize == s.procs() {
        deadlock::check(s);
        if s.any_work() {
            s.wake_if_needed(crate::sched::Wake::ForQueue);
        }
        // Somebody sleeps until the next timer; if for once nobody does, it is late, not lost.
        let late = s
            .next_timer()
            .saturating_add(LATE_NS)
            .saturating_sub(clock::read_ns());
        NOTE.sleep(Some(DOUBT.min(Duration::from_nanos(late))));
    }
    ASLEEP.store(false, Ordering::SeqCst);
}
