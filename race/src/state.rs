//! Start and end of the detector, and what was configured.
//!
//! # Memory ordering
//! `init: ENABLED store Release, after everything is set up` ⇄ `enabled: load Relaxed`: the flag only ever turns on
//! before the program's threads exist; they are ordered after `init` by their creation. `CONFIG` has its own ordering.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

use crate::ctx::GoCtx;
use crate::goroutine::go_start;
use crate::options::{Suppression, parse_file};
use crate::proc::{ProcCtx, proc_create};
use crate::{Host, Options, Pc, abi, interpose, lines, report, shadow};

/// What reports need of the options, resolved.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) options: Options,
    pub(crate) suppressions: Vec<Suppression>,
    pub(crate) history_size: u32,
    pub(crate) seed: u64,
    host: &'static Host,
}

static CONFIG: OnceLock<Config> = OnceLock::new();
static STARTED: OnceLock<(GoCtx, ProcCtx)> = OnceLock::new();
pub(crate) static ENABLED: AtomicBool = AtomicBool::new(false);

/// True in race mode: one relaxed load. Once true, it stays so, but in a child of `fork`.
#[inline(always)]
pub fn enabled() -> bool {
    let enabled: u8;
    // By hand: it is inlined into crates that are instrumented, and would be watched there like an atomic of theirs.
    // SAFETY: a load of one byte, of an atomic that lives for ever.
    unsafe {
        std::arch::asm!(
            "mov {enabled}, byte ptr [rip + {flag}]",
            enabled = out(reg_byte) enabled,
            flag = sym ENABLED,
            options(nostack, preserves_flags, readonly),
        );
    }
    enabled != 0
}

/// The configuration.
pub(crate) fn config() -> &'static Config {
    match CONFIG.get() {
        Some(config) => config,
        None => crate::mem::fatal("the detector was called before `init`"),
    }
}

/// The callbacks.
pub(crate) fn host() -> &'static Host {
    config().host
}

/// Starts the detector: the contexts of the main goroutine (id 1) and of the first P.
///
/// Once per process: a later call returns the first call's contexts and changes nothing. Call it before the program has
/// other threads, and before the heap announces memory.
///
/// # Panics
/// When the suppressions file, which `Options::parse` could read, is gone.
///
/// # Blocking
/// Maps memory and reads the suppressions file.
pub(crate) fn init(options: Options, host: &'static Host) -> (GoCtx, ProcCtx) {
    *STARTED.get_or_init(|| {
        let suppressions = match options.suppressions.as_str() {
            "" => Vec::new(),
            path => parse_file(path).unwrap_or_else(|e| panic!("{e}")),
        };
        let config = Config {
            history_size: options.history_size,
            seed: options.seed,
            options,
            suppressions,
            host,
        };
        report::open(&config);
        let _ = CONFIG.set(config);
        shadow::init();
        lines::init();
        abi::init();
        let main = go_start(None, 1, Pc::NONE);
        let first = proc_create();
        interpose::init();
        ENABLED.store(true, Release);
        // SAFETY: the handler has the type asked for.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        (main, first)
    })
}

/// A child of `fork` is not watched: it has one thread, and a lock of the detector that another thread held at that moment would never be
/// given back.
extern "C" fn in_child() {
    ENABLED.store(false, Relaxed);
    // Inlined checks do not ask whether race mode is on: without a context they expect the shadow of a
    // program with race mode off.
    crate::set_current(None);
    shadow::in_child();
}

/// Ends the watch: waits for late races, says how many were found, and returns the exit status: 0
/// without races, and if all are on a [`Tally`](crate::Tally), whose owner deals with them; else
/// the configured one (66). In a child of `fork`: 0.
///
/// # Blocking
/// Blocks the thread for `atexit_sleep_ms`.
pub fn fini() -> i32 {
    if !enabled() {
        return 0;
    }
    let options = &config().options;
    if options.atexit_sleep_ms != 0 {
        std::thread::sleep(Duration::from_millis(options.atexit_sleep_ms));
    }
    report::finish();
    if report::untallied() == 0 {
        0
    } else {
        options.exitcode
    }
}
