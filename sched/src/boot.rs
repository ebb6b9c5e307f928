//! Starting the scheduler: once per process, by the first that needs it.
//!
//! Order: thread-local mode, signal handlers, the world for the collector, Ps, handlers of `fork`, sysmon. Nothing runs before
//! the last step, and nothing is ever taken down. A child of `fork` boots by `fork::revive`.
//!
//! # Errors
//!
//! Where the system lacks what the scheduler needs, the process ends with status 2 and the reason:
//! it is never made to do with less than what safe code relies on.
//!
//! # Fallbacks
//!
//! `--cfg raddle_no_fsbase` moves thread-locals by system call, as on a processor or kernel without
//! FSGSBASE; the other fallbacks are in [`BootOptions`] too.

use crate::sched::{MAX_PROCS, Sched};
use crate::{arch, bind, fork, parked, resize, rt, signal, stack, stop, sys, sysmon, tls};
use parking_lot::Once;
use raddle_race::ProcCtx;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// How the scheduler starts. The default is what a program without flags gets.
#[derive(Clone, Debug, Default)]
pub struct BootOptions {
    /// The number of Ps; 0: as many as the process may use processors.
    pub procs: usize,
    /// Thread-locals stay with the OS thread, which is said on standard error: safe code is unsound
    /// then. For tests of the runtime only. Never chosen otherwise. `--cfg raddle_thread_tls` is
    /// the same, for all that a build makes.
    pub thread_bound_tls: bool,
    /// Guard pages by `mprotect`: the fallback, for tests; or by `--cfg raddle_no_guard_install`.
    pub mprotect_guards: bool,
    /// Leaves goroutines that run too long alone.
    pub no_preempt: bool,
    /// Prints a line about the scheduler at this interval.
    pub trace: Option<Duration>,
    /// Injects a yield at about one in so many ways out of the runtime; 0: never.
    pub inject_yield_every: u32,
    /// Seeds the scheduler's random choices; 0: from the clock.
    pub seed: u64,
    /// Bytes of a goroutine's stack by default; 0: 256 KiB. Thread-locals that are large beside it
    /// come on top.
    pub stack_size: usize,
    /// The most OS threads that run goroutines, those in blocking calls included; 0: 10,000, which is also the most.
    pub max_threads: usize,
    /// The race context of the first P, in race mode.
    pub first_proc: Option<ProcCtx>,
}

static BOOT: Once = Once::new();
/// The thread that starts the scheduler, while it does: what it calls then may find that it has
/// been started.
static STARTER: AtomicI32 = AtomicI32::new(0);

/// Starts the scheduler, unless it has been started: then `options` have no effect. Returns whether it started it.
///
/// # Blocking
///
/// Blocks the thread until the scheduler has started.
pub fn boot(options: &BootOptions) -> bool {
    let mut first = false;
    BOOT.call_once(|| {
        // Relaxed: of interest to this thread only, the others compare it with numbers of their
        // own.
        STARTER.store(own_tid(), Ordering::Relaxed);
        start(options);
        STARTER.store(0, Ordering::Relaxed);
        first = true;
    });
    first
}

/// Whether the scheduler has been started.
#[must_use]
pub fn is_booted() -> bool {
    BOOT.state().done()
}

/// Starts the scheduler with the defaults, if it has not been started. Waits while another thread
/// starts it: there is a [`Sched`] before there are Ps, and not until there are may it be used.
#[inline]
pub(crate) fn ensure() {
    if !BOOT.state().done() {
        ensure_slow();
    }
}

#[cold]
fn ensure_slow() {
    if STARTER.load(Ordering::Relaxed) != own_tid() {
        boot(&BootOptions::default());
    }
}

/// Said once, at the start, where thread-locals stay with the OS thread because somebody asked for
/// it.
const UNSOUND: &str = "raddle: thread-locals stay with the OS thread (notls). Safe code is unsound in this mode: \
    after a wait, what a goroutine has of a thread-local may be another thread's, or freed. It is for work on the runtime.\n";

/// The scheduler cannot start on this system, and nothing that it is asked for helps: the status is
/// that of a bad flag.
fn refuse(why: &str) -> ! {
    for part in ["raddle: cannot start: ", why, "\n"] {
        sys::write_stderr(part.as_bytes());
    }
    std::process::exit(2)
}

fn own_tid() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

fn start(options: &BootOptions) {
    if options.thread_bound_tls {
        tls::force_thread_mode();
    }
    if options.mprotect_guards {
        stack::force_mprotect_guards();
    }
    if arch::has_shadow_stack() {
        refuse(
            "shadow stacks are on (CET), and a goroutine switch is what they forbid; \
             take glibc.cpu.x86_shstk out of GLIBC_TUNABLES",
        );
    }
    match tls::init() {
        Ok(tls::TlsMode::Thread) => sys::write_stderr(UNSOUND.as_bytes()),
        Ok(_) => {}
        Err(why) => refuse(&format!(
            "{why}. Without it goroutines cannot have thread-locals of their own. \
             RADDLE_DEBUG=notls leaves them with the OS thread, where safe code is unsound"
        )),
    }
    if let Err(error) = bind::set_default(options.stack_size) {
        refuse(&error.to_string());
    }
    signal::install();
    // A thread that was here first goes on as what it is: it has no M.
    debug_assert!(rt::this_m().is_null());
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
    let s = Sched::install(options.inject_yield_every, seed, options.max_threads);
    parked::measure();
    stop::install();
    resize::resize(s, procs.min(MAX_PROCS), options.first_proc);
    resize::start_world(s);
    sysmon::configure(options.no_preempt, options.trace);
    fork::install();
    sysmon::start();
}
