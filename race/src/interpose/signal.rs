//! Signal handlers: the program's run with a context of their own, or unwatched.
//!
//! A handler may have interrupted an event that holds a lock of the detector or has changed half of a context, and instrumented code in
//! it would begin another. So `sigaction` and `signal` put [`on_signal`] in the handler's place, on every thread: it takes the
//! thread's context away while the handler runs (`handler`). Handlers that were there before the detector are replaced when it starts, but for those of
//! faults: std's, which are not instrumented.
//!
//! Who asks for the action is told the program's own handler. Flags and mask stay as they are: on x86-64 the kernel passes the
//! three arguments of `SA_SIGINFO` in any case.
//!
//! # Invariants
//! 1. [`on_signal`] is async-signal-safe, as `handler` is.
//! 2. `HANDLERS` has the handler before the kernel has [`on_signal`] for the signal.
//!
//! # Why not
//! Delaying signals to safe points, as LLVM's run time does: a profiler's handler wants the interrupted program counter.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libc::{SIG_DFL, SIG_ERR, SIG_IGN, sigaction as Action, sighandler_t, siginfo_t};

use super::handler;
use super::real::real;
use crate::enabled;

const SIGNALS: usize = 65;

/// The program's handler of each signal whose handler for the kernel is [`on_signal`].
static HANDLERS: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(SIG_DFL) }; SIGNALS];

real! {
    static SIGACTION: fn sigaction(c_int, *const Action, *mut Action) -> c_int;
    static SIGNAL: fn signal(c_int, sighandler_t) -> sighandler_t;
}

fn ours() -> sighandler_t {
    on_signal as *const () as sighandler_t
}

fn is_function(handler: sighandler_t) -> bool {
    handler != SIG_DFL && handler != SIG_IGN && handler != SIG_ERR
}

fn place(signal: c_int) -> Option<&'static AtomicUsize> {
    HANDLERS.get(usize::try_from(signal).ok()?)
}

/// What the kernel calls.
unsafe extern "C-unwind" fn on_signal(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let handler = place(signal).map_or(SIG_DFL, |place| place.load(Relaxed));
    if !is_function(handler) {
        // It is being taken away at this moment.
        return;
    }
    type Handler = unsafe extern "C-unwind" fn(c_int, *mut siginfo_t, *mut c_void);
    // SAFETY: the program gave it for a handler: of this type, or of one with the first argument only, which ignores the others.
    let handler = unsafe { std::mem::transmute::<sighandler_t, Handler>(handler) };
    // SAFETY: the kernel's arguments.
    handler::run(signal, || unsafe { handler(signal, info, context) });
}

/// Replaces the handlers that are there already.
pub(super) fn init() {
    for signal in 1..SIGNALS as c_int {
        if [libc::SIGSEGV, libc::SIGBUS].contains(&signal) {
            continue;
        }
        let mut action = MaybeUninit::<Action>::zeroed();
        // SAFETY: asks for the action only, and there is room for it.
        let error = unsafe { SIGACTION.get()(signal, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: zeroed, and perhaps filled by the call.
        let action = unsafe { action.assume_init() };
        if error == 0 && is_function(action.sa_sigaction) && action.sa_sigaction != ours() {
            // SAFETY: an action that was there.
            unsafe { install(signal, action, ptr::null_mut()) };
        }
    }
}

/// Sets the action, whose handler is the program's, with ours in its place.
///
/// # Safety
/// As for `sigaction`.
unsafe fn install(signal: c_int, mut action: Action, old: *mut Action) -> c_int {
    let Some(place) = place(signal) else {
        // SAFETY: libc says what is wrong with it.
        return unsafe { SIGACTION.get()(signal, &action, old) };
    };
    let before = place.load(Relaxed);
    if is_function(action.sa_sigaction) {
        place.store(action.sa_sigaction, Relaxed); // invariant 2
        action.sa_sigaction = ours();
    }
    // SAFETY: by the contract.
    let error = unsafe { SIGACTION.get()(signal, &action, old) };
    if error != 0 {
        place.store(before, Relaxed);
    } else {
        // SAFETY: the caller's place for the old action, or none.
        unsafe { show(old, before) };
    }
    error
}

/// Puts the program's handler in the place of ours, if that is what was there.
///
/// # Safety
/// `old` is null or an action.
unsafe fn show(old: *mut Action, handler: sighandler_t) {
    // SAFETY: by the contract.
    if let Some(old) = unsafe { old.as_mut() }
        && old.sa_sigaction == ours()
    {
        old.sa_sigaction = handler;
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    // SAFETY: null, or the caller's action.
    match unsafe { new.as_ref() } {
        // SAFETY: the caller's arguments.
        Some(new) if enabled() => unsafe { install(signal, *new, old) },
        _ => {
            let before = place(signal).map_or(SIG_DFL, |place| place.load(Relaxed));
            // SAFETY: the caller's arguments.
            let error = unsafe { SIGACTION.get()(signal, new, old) };
            if error == 0 {
                // SAFETY: the caller's place for the old action, or none.
                unsafe { show(old, before) };
            }
            error
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    let Some(place) = place(signal).filter(|_| enabled()) else {
        // SAFETY: the caller's arguments.
        return unsafe { SIGNAL.get()(signal, handler) };
    };
    let before = place.load(Relaxed);
    let ours = ours();
    let wanted = if is_function(handler) {
        place.store(handler, Relaxed); // invariant 2
        ours
    } else {
        handler
    };
    // SAFETY: the caller's arguments, or our handler in the place of its.
    let old = unsafe { SIGNAL.get()(signal, wanted) };
    if old == SIG_ERR {
        place.store(before, Relaxed);
    }
    if old == ours { before } else { old }
}
