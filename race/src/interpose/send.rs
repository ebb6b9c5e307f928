//! Signals sent, and waited for without a handler.
//!
//! What was done before a signal was sent, or a timer set that sends one, is ordered before what
//! comes after it was received: by `sigwait` and its like here, by a signalfd in `desc`, by a
//! handler in `signal`. Signals of one number are one object.

use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use libc::{
    clockid_t, itimerspec, itimerval, pid_t, pthread_t, sigevent, siginfo_t, sigset_t, sigval,
    timer_t, timespec,
};

use super::real::{keep_errno, real, with_caller};
use super::{blocking, desc, process, watched, write_range};
use crate::{Pc, acquire, enabled};

/// C functions that send a signal, whose number the last expression is.
macro_rules! senders {
    ($($NAME:ident $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $signal:expr;)*) => {
        real! { $(static $NAME: fn $name($($ty),*) -> $ret;)* }
        $(#[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $ret {
            if watched().is_some() {
                desc::sends_signal($signal);
            }
            // SAFETY: the caller's arguments.
            unsafe { $NAME.get()($($arg),*) }
        })*
    };
}

senders! {
    KILLPG killpg(to: pid_t, signal: c_int) -> c_int = signal;
    RAISE raise(signal: c_int) -> c_int = signal;
    TGKILL tgkill(group: pid_t, to: pid_t, signal: c_int) -> c_int = signal;
    PTHREAD_KILL pthread_kill(to: pthread_t, signal: c_int) -> c_int = signal;
    SIGQUEUE sigqueue(to: pid_t, signal: c_int, value: sigval) -> c_int = signal;
    PTHREAD_SIGQUEUE pthread_sigqueue(to: pthread_t, signal: c_int, value: sigval) -> c_int = signal;
    ALARM alarm(seconds: c_uint) -> c_uint = libc::SIGALRM;
    UALARM ualarm(first: c_uint, then: c_uint) -> c_uint = libc::SIGALRM;
    SETITIMER setitimer(which: c_int, new: *const itimerval, old: *mut itimerval) -> c_int = signal_of(which);
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn kill(to: pid_t, signal: c_int) -> c_int {
    if watched().is_some() {
        desc::sends_signal(signal);
        process::is_sent_a_signal(to);
    }
    // SAFETY: the caller's arguments.
    unsafe { KILL.get()(to, signal) }
}

/// What an interval timer sends.
fn signal_of(timer: c_int) -> c_int {
    match timer {
        libc::ITIMER_REAL => libc::SIGALRM,
        libc::ITIMER_VIRTUAL => libc::SIGVTALRM,
        _ => libc::SIGPROF,
    }
}

real! {
    static KILL: fn kill(pid_t, c_int) -> c_int;
    static TIMER_CREATE: fn timer_create(clockid_t, *mut sigevent, *mut timer_t) -> c_int;
    static TIMER_SETTIME: fn timer_settime(timer_t, c_int, *const itimerspec, *mut itimerspec) -> c_int;
    static SIGWAIT: fn sigwait(*const sigset_t, *mut c_int) -> c_int;
    static SIGWAITINFO: fn sigwaitinfo(*const sigset_t, *mut siginfo_t) -> c_int;
    static SIGTIMEDWAIT: fn sigtimedwait(*const sigset_t, *mut siginfo_t, *const timespec) -> c_int;
}

/// The signals, each a bit, of the timers whose numbers have the same remainder.
static TIMERS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

fn signals_of(timer: timer_t) -> &'static AtomicU64 {
    // Numbers, or addresses of glibc's.
    &TIMERS[(timer.addr() ^ timer.addr() >> 6) % TIMERS.len()]
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn timer_create(
    clock: clockid_t,
    event: *mut sigevent,
    timer: *mut timer_t,
) -> c_int {
    // SAFETY: the caller's arguments.
    let error = unsafe { TIMER_CREATE.get()(clock, event, timer) };
    if enabled() && error == 0 {
        // SAFETY: null, or the caller's event.
        let signal = unsafe { event.as_ref() }.map_or(libc::SIGALRM, |event| event.sigev_signo);
        // SAFETY: filled by the call.
        let timer = unsafe { timer.read() };
        let bit = u32::try_from(signal - 1).ok();
        if let Some(bit) = bit.and_then(|bit| 1_u64.checked_shl(bit)) {
            signals_of(timer).fetch_or(bit, Relaxed);
        }
    }
    error
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn timer_settime(
    timer: timer_t,
    flags: c_int,
    new: *const itimerspec,
    old: *mut itimerspec,
) -> c_int {
    if watched().is_some() {
        let signals = signals_of(timer).load(Relaxed);
        (1..=64)
            .filter(|signal| signals >> (signal - 1) & 1 != 0)
            .for_each(desc::sends_signal);
    }
    // SAFETY: the caller's arguments.
    unsafe { TIMER_SETTIME.get()(timer, flags, new, old) }
}

/// The signal was received.
pub(super) fn receives(signal: c_int) {
    if let Some(object) = desc::signal_object(signal) {
        acquire(object.addr());
    }
}

with_caller! {
    fn sigwait(set: *const sigset_t, signal: *mut c_int) -> c_int = wait;
    fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t) -> c_int = wait_info;
    fn sigtimedwait(set: *const sigset_t, info: *mut siginfo_t, until: *const timespec) -> c_int = wait_timed;
}

unsafe extern "C-unwind" fn wait(set: *const sigset_t, signal: *mut c_int, caller: usize) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { SIGWAIT.get()(set, signal) };
    let Some(me) = watched() else { return call() };
    let error = blocking(me, call);
    if error == 0 {
        // SAFETY: filled by the call.
        receives(unsafe { signal.read() });
        write_range(signal.addr(), size_of::<c_int>(), Pc::code(caller));
    }
    error
}

/// A wait by `f`, which returns the signal.
#[inline(always)]
fn wait_by(info: *mut siginfo_t, caller: usize, f: impl FnOnce() -> c_int) -> c_int {
    let Some(me) = watched() else { return f() };
    let signal = blocking(me, f);
    keep_errno(|| {
        receives(signal);
        if signal > 0 && !info.is_null() {
            write_range(info.addr(), size_of::<siginfo_t>(), Pc::code(caller));
        }
    });
    signal
}

unsafe extern "C-unwind" fn wait_info(
    set: *const sigset_t,
    info: *mut siginfo_t,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    wait_by(info, caller, move || unsafe {
        SIGWAITINFO.get()(set, info)
    })
}

unsafe extern "C-unwind" fn wait_timed(
    set: *const sigset_t,
    info: *mut siginfo_t,
    until: *const timespec,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    wait_by(info, caller, move || unsafe {
        SIGTIMEDWAIT.get()(set, info, until)
    })
}
