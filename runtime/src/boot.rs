//! Starting and ending the program.
//!
//! The first use of the runtime boots it, whoever comes first: flags, race mode, panic hook, scheduler. There is one
//! scheduler per process; [`run`] may be called again and from several threads.
//!
//! # Ending
//!
//! When the function given to `#[raddle::main]` returns, the program ends, whatever goroutines still run. In a child of `fork`
//! the thread that waits for it does not exist, and the goroutine itself ends the process. In race mode an
//! `atexit` handler closes the detector and, if races were found, turns the exit status into 66; so a `std::process::exit`
//! anywhere counts them too.

use crate::capture::{self, Sink};
use crate::flags::{Flags, GcFlag, misspelt_variables};
use crate::join::{ExitToken, JoinError};
use crate::{args, goroutine, panic, symbols};
use raddle_alloc::gc;
use raddle_race::options::{asks_for_help, help};
use raddle_race::{GoCtx, Options, ProcCtx};
use raddle_sched::{BootOptions, WaitReason, enter};
use std::fmt::Display;
use std::num::{NonZeroU32, NonZeroUsize};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::process::{ExitCode, Termination};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::{env, iter, process, ptr, thread};

/// The documented exit status of a bad flag or variable.
const BAD_FLAG: i32 = 2;

static BOOT: Once = Once::new();
/// The race context that the first main goroutine takes.
static MAIN_CTX: Mutex<Option<GoCtx>> = Mutex::new(None);
/// That of the first P, if race mode began before the boot.
static FIRST_PROC: Mutex<Option<ProcCtx>> = Mutex::new(None);

/// Runs before `main`, and before std does. Where `cargo raddle` started the program in race mode, the main thread and those that it starts are to be
/// watched from their beginning, whether they use the runtime or not.
#[used]
#[unsafe(link_section = ".init_array.00002")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    raddle_sched::prepare_first_thread();
    for warning in misspelt_variables(env::vars_os().map(|(name, _)| name)) {
        capture::print_error(&warning);
    }
    let Ok((flags, _)) = Flags::from_env_and_args(iter::empty(), |name| env::var_os(name)) else {
        return; // the boot will say so
    };
    if let Some(options) = flags.race {
        *lock(&FIRST_PROC) = Some(start_race_mode(&options));
        // The main thread becomes known to the detector.
        drop(enter());
    }
}

/// Names [`BEFORE_MAIN`] to the linker, where a program without goroutines is linked with the runtime for the sake of race mode.
#[unsafe(no_mangle)]
extern "C" fn raddle_plain_start() -> *const extern "C" fn() {
    &raw const BEFORE_MAIN
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Boots the runtime if need be: reads the flags, and ends the process with status 2 if they are bad.
#[inline]
pub(crate) fn ensure() {
    if !BOOT.is_completed() {
        BOOT.call_once(boot);
    }
}

fn boot() {
    let (flags, rest) = Flags::from_env_and_args(env::args_os(), |name| env::var_os(name))
        .unwrap_or_else(|e| refuse(&e));
    args::install(rest);
    let started = lock(&FIRST_PROC).take();
    let first_proc = started.or_else(|| flags.race.as_deref().map(start_race_mode));
    panic::install_hook();
    let debug = &flags.debug;
    gc::configure(gc::Config {
        trace: debug.gc_trace,
        stress_every: debug.gc_stress_every.map_or(0, NonZeroU32::get),
        mark_stack_limit: None,
    });
    match flags.gc {
        None => {}
        Some(GcFlag::Off) => drop(gc::set_percent(None)),
        Some(GcFlag::Percent(percent)) => drop(gc::set_percent(Some(percent.get()))),
    }
    let plain = flags == Flags::default();
    let ours = raddle_sched::boot(&BootOptions {
        procs: flags.procs.map_or(0, NonZeroUsize::get),
        thread_bound_tls: debug.no_tls,
        mprotect_guards: debug.no_guard_install,
        no_preempt: debug.no_preempt,
        trace: debug.sched_trace,
        inject_yield_every: debug.yield_every.map_or(0, NonZeroU32::get),
        seed: debug.seed.unwrap_or(0),
        stack_size: flags.stack_bytes.map_or(0, NonZeroUsize::get),
        max_threads: 0,
        first_proc,
    });
    if !ours && !plain {
        refuse(
            &"a wait with a time-out, before raddle::run or #[raddle::main], has started the scheduler without the flags and \
                 RADDLE_* variables; let the runtime be started first",
        );
    }
}

fn refuse(error: &dyn Display) -> ! {
    crate::capture::print_error(&format!("raddle: {error}\n"));
    process::exit(BAD_FLAG)
}

fn start_race_mode(options: &str) -> ProcCtx {
    if asks_for_help(options) {
        print!("{}", help());
        process::exit(0);
    }
    let options = Options::parse(options).unwrap_or_else(|error| {
        crate::capture::print_error(&format!("raddle: race mode: {error}\n"));
        process::exit(BAD_FLAG)
    });
    // SAFETY: the main goroutine gets the one, the first P the other.
    let (main, proc) = unsafe { raddle_race::init(options, &symbols::HOST) };
    // Threads may come and use the heap long before the scheduler boots, if it ever does.
    raddle_alloc::watch();
    *lock(&MAIN_CTX) = Some(main);
    extern "C" fn at_exit() {
        let status = raddle_race::fini();
        if status != 0 {
            // SAFETY: writes out what C code has buffered; Rust's own output is out by now.
            unsafe { libc::fflush(ptr::null_mut()) };
            // SAFETY: the handlers that would have come after this one are left out, which is what changing the status takes.
            unsafe { libc::_exit(status) };
        }
    }
    // SAFETY: the handler does not unwind.
    unsafe { libc::atexit(at_exit) };
    proc
}

/// Runs `f` as a goroutine and waits for its result, booting the runtime first if need be.
///
/// This is how a plain `main` gets into the runtime; `#[raddle::main]` is the short form. It may be called again, from
/// several threads, and from goroutines. The first goroutine that it starts in the process is the main goroutine, number 1.
///
/// # Panics
///
/// A panic of `f` goes on in the caller. If `f` ends its goroutine by [`exit`](crate::exit), there is no result, and this panics.
///
/// # Blocking
///
/// Blocks the thread; parks a goroutine.
///
/// # Happens-before
///
/// The call happens before `f`, and `f` before its return.
///
/// # Examples
///
/// ```
/// let sum = raddle::run(|| {
///     let half = raddle::go(|| (1..=50).sum::<u32>());
///     (51..=100).sum::<u32>() + half.join().unwrap()
/// });
/// assert_eq!(sum, 5050);
/// ```
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    run_as(f, MainGoroutine::default()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// What the goroutine of a [`run`] is given.
pub(crate) struct MainGoroutine {
    pub(crate) name: Arc<str>,
    /// Where its output goes, if that is captured.
    pub(crate) sink: Option<Sink>,
}

impl Default for MainGoroutine {
    /// What a goroutine that waits here has, it has too.
    fn default() -> Self {
        Self {
            name: "main".into(),
            sink: capture::inherit(),
        }
    }
}

/// [`run`], with the panic of `f` as an error.
#[track_caller]
pub(crate) fn run_as<F, T>(f: F, how: MainGoroutine) -> std::thread::Result<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    match run_at(f, how, Location::caller()) {
        Ok(value) => Ok(value),
        Err(error) if error.is_panic() => Err(error.into_panic()),
        Err(error) => panic!("raddle::run has no result: {error}"),
    }
}

fn run_at<F, T>(f: F, how: MainGoroutine, at: &'static Location<'static>) -> Result<T, JoinError>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    ensure();
    let main_ctx = match raddle_race::enabled() {
        true => lock(&MAIN_CTX).take(),
        // A child of `fork` may not touch the lock.
        false => None,
    };
    let forks = raddle_sched::forks();
    let f = move || {
        let result = catch_unwind(AssertUnwindSafe(f));
        if raddle_sched::forks() != forks {
            end_child(&result);
        }
        result.unwrap_or_else(|panic| resume_unwind(panic))
    };
    // SAFETY: `join` comes before the end of all that is borrowed: nothing in between can unwind.
    let handle = unsafe { goroutine::spawn_main(f, how, main_ctx, at) };
    let handle = handle.unwrap_or_else(|error| panic!("cannot start the main goroutine: {error}"));
    handle.join_at(at)
}

/// The main goroutine has come to its end in a child of `fork`: the thread that waits for it is in the parent.
fn end_child<T>(result: &thread::Result<T>) {
    /// What std ends a program with whose main function has panicked.
    const PANICKED: i32 = 101;
    match result {
        Ok(_) => process::exit(0),
        // The others go on.
        Err(panic) if panic.is::<ExitToken>() => {}
        Err(_) => process::exit(PANICKED),
    }
}

/// The main goroutine ended itself by `exit`: the others go on, until one ends the program or all wait.
fn wait_for_ever(at: &'static Location<'static>) -> ! {
    unsafe fn nothing(_: *mut ()) {}
    let rt = enter();
    // SAFETY: no `ready` ever follows, which the contract allows: there is nothing to find the caller by.
    unsafe { rt.park(WaitReason::Forever, at, nothing, ptr::null_mut()) };
    unreachable!("nobody can wake this wait")
}

/// What `#[raddle::main]` expands to. The result is reported on the goroutine, so it need not be `Send`.
#[doc(hidden)]
#[track_caller]
pub fn rt_main<R: Termination>(main: impl FnOnce() -> R + Send) -> ExitCode {
    let at = Location::caller();
    let forks = raddle_sched::forks();
    let main = || {
        let code = main().report();
        if raddle_sched::forks() != forks {
            process::exit(status_of(code));
        }
        code
    };
    match run_at(main, MainGoroutine::default(), at) {
        Ok(code) => code,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => wait_for_ever(at),
    }
}

/// The number in an `ExitCode`, which only compares.
fn status_of(code: ExitCode) -> i32 {
    let status = (0..=u8::MAX).find(|&status| ExitCode::from(status) == code);
    status.map_or(1, i32::from)
}

/// The number of Ps: how many goroutines run at once.
///
/// # Examples
///
/// ```
/// assert!(raddle::procs() >= 1);
/// ```
#[must_use]
pub fn procs() -> usize {
    ensure();
    raddle_sched::procs()
}

/// Sets the number of Ps while the program runs. Returns the number before.
///
/// # Panics
///
/// If `n` is 0 or above 1024.
///
/// # Blocking
///
/// Stops the world: takes the P from every goroutine for some tens of microseconds. Parks the caller meanwhile.
#[track_caller]
pub fn set_procs(n: usize) -> usize {
    ensure();
    raddle_sched::set_procs(n)
}
