//! Starting the scheduler: once per process, by the first that needs it.
//!
//! Order: thread-local mode, signal handlers, the world for the collector, Ps, handlers of `fork`, sysmon. Nothing runs before
//! the last step, and nothing is ever taken down. A child of `fork` boots by `fork::revive`.

use crate::sched::{MAX_PROCS, Sched, try_sched};
use crate::{bind, fork, parked, resize, rt, signal, stack, stop, sys, sysmon, tls};
use parking_lot::Once;
use raddle_race::ProcCtx;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How the scheduler starts. The default is what a program without flags gets.
#[derive(Clone, Debug, Default)]
pub struct BootOptions {
    /// The number of Ps; 0: as many as the process may use processors.
    pub procs: usize,
    /// Thread-locals stay with the OS thread: the fallback, for tests.
    pub thread_bound_tls: bool,
    /// Guard pages by `mprotect`: the fallback, for tests.
    pub mprotect_guards: bool,
    /// Leaves goroutines that run too long alone.
    pub no_preempt: bool,
    /// Prints a line about the scheduler at this interval.
    pub trace: Option<Duration>,
    /// Injects a yield at about one in so many ways out of the runtime; 0: never.
    pub inject_yield_every: u32,
    /// Seeds the scheduler's random choices; 0: from the clock.
    pub seed: u64,
    /// Bytes of a goroutine's stack by default; 0: 256 KiB.
    pub stack_size: usize,
    /// The race context of the first P, in race mode.
    pub first_proc: Option<ProcCtx>,
}

static BOOT: Once = Once::new();

/// Starts the scheduler, unless it has been started: then `options` have no effect. Returns whether it started it.
///
/// # Blocking
///
/// Blocks the thread until the scheduler has started.
pub fn boot(options: &BootOptions) -> bool {
    let mut first = false;
    BOOT.call_once(|| {
        start(options);
        first = true;
    });
    first
}

/// Whether the scheduler has been started.
#[must_use]
pub fn is_booted() -> bool {
    try_sched().is_some()
}

/// Starts the scheduler with the defaults, if it has not been started.
#[inline]
pub(crate) fn ensure() {
    if try_sched().is_none() {
        boot(&BootOptions::default());
    }
}

fn start(options: &BootOptions) {
    if options.thread_bound_tls {
        tls::force_thread_mode();
    }
    if options.mprotect_guards {
        stack::force_mprotect_guards();
    }
    if tls::init() == tls::TlsMode::Thread && !options.thread_bound_tls {
        let why = tls::mode_reason().unwrap_or("for an unknown reason");
        let text = format!(
            "raddle: thread-locals stay with the OS thread, goroutines share them: {why}\n"
        );
        sys::write_stderr(text.as_bytes());
    }
    signal::install();
    // A thread that was here first goes on as what it is: it has no M.
    debug_assert!(rt::this_m().is_null());
    if options.stack_size != 0 {
        bind::DEFAULT_STACK.store(bind::stack_bytes(options.stack_size), Ordering::Relaxed);
    }
    let seed = if options.seed == 0 {
        sys::now_ns()
    } else {
        options.seed
    };
    // Ages count from the last reading of the clock: there must have been one.
    crate::clock::read_ns();
    let procs = match options.procs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let s = Sched::install(options.inject_yield_every, seed);
    parked::measure();
    stop::install();
    resize::resize(s, procs.min(MAX_PROCS), options.first_proc);
    resize::start_world(s);
    sysmon::configure(options.no_preempt, options.trace);
    fork::install();
    sysmon::start();
}
