//! The C library as race mode sees it: functions that take the place of libc's, for the whole
//! program.
//!
//! A symbol that the executable defines comes before the C library's own, for std, for C code and
//! for every shared library. Ours call libc's, and tell the detector what happens between threads
//! there: order that goes through the kernel or through C code, and memory that is used anew. They
//! are plain events; an access or an edge counts as the current goroutine's or thread's.
//!
//! # Who is watched
//! [`watched`] says it, in one place. All others are forwarded: with race mode off, on a thread
//! without a context, inside the runtime. A signal handler has a context of its own (`handler`).
//!
//! # Invariants
//! 1. With race mode off a function here is one load, one predictable branch and a jump to libc's.
//! 2. No function here allocates from a heap, and none is called by the detector while it holds a
//!    lock: its own memory and output go by `sys`.
//! 3. A function that may be a cancellation point has the ABI `C-unwind` and nothing to drop while
//!    libc's function runs: a cancelled thread unwinds through it.
//! 4. errno is libc's function's when ours returns.
//!
//! # What is not seen
//! Where an edge is unseen, a report may be false:
//! - system calls that do not go through libc's functions (`syscall`, rustix, io_uring);
//!   descriptors opened and closed by them are also taken for what had the number before, once one
//!   of our functions has used it;
//! - calls inside libc, but for those that `stdio`, `sync` and `thread` replace: `getaddrinfo`,
//!   `syslog`, threads of `SIGEV_THREAD`;
//! - names of files: who sees that a file is there, or gone, is not ordered after who made, renamed
//!   or removed it;
//! - connections by way of another process or a translated address, sockets of other families than
//!   the Internet's and AF_UNIX;
//! - what a child process passes on;
//! - what a signal handler synchronises that has interrupted the detector itself, in the middle of
//!   an event.
//!
//! Unseen too, so that a race is missed: accesses in signal handlers.
//!
//! # Reading order
//! `real` (finding libc's functions), `thread`, `desc`, `socket` and `io` (descriptors), `ready`
//! (waiting for them), `stdio`, `heap`, `map`, `ipc`, `sync`, `send`, `signal`, `handler`,
//! `process`.
//!
//! # Blocking
//! As libc's functions; besides, spin locks for a few dozen instructions.
//!
//! # Why not
//! `--wrap` at link time: shared libraries and inlined std would be missed. `LD_PRELOAD`: a second
//! copy of the detector.

mod desc;
mod handler;
mod heap;
mod io;
mod ipc;
mod map;
mod process;
mod ready;
mod real;
mod send;
mod signal;
mod socket;
mod stdio;
mod sync;
mod thread;

pub(crate) use thread::is_main_thread;
pub(crate) use thread::thread_attach;
pub use thread::{thread_name, thread_running, thread_with_handle};

use crate::current::current;
use crate::{GoCtx, Pc, enabled, is_instrumented, set_current};

/// The context whose events the calling thread makes here; None: the call is only forwarded.
#[inline(always)]
fn watched() -> Option<GoCtx> {
    if enabled() {
        watched_in_race_mode()
    } else {
        None
    }
}

#[cold]
fn watched_in_race_mode() -> Option<GoCtx> {
    current().filter(|me| me.get().is_outside())
}

/// What the C library reads for the program. In compiled code only: elsewhere the locks are not
/// seen that order the uses of a buffer, such as that of std's standard output.
fn read_range(addr: usize, size: usize, pc: Pc) {
    if is_instrumented() {
        crate::read_range(addr, size, pc);
    }
}

/// What it writes, as [`read_range`].
fn write_range(addr: usize, size: usize, pc: Pc) {
    if is_instrumented() {
        crate::write_range(addr, size, pc);
    }
}

/// What is needed before the first thread: called once, when the detector has started.
pub(crate) fn init() {
    thread::init();
    heap::init();
    stdio::init();
    signal::init();
}

/// Runs `f` unwatched, as the runtime's own business: what the C library is asked for makes no
/// events, and a thread that is created has no context. `f` must not switch goroutines.
pub fn unwatched<R>(f: impl FnOnce() -> R) -> R {
    let Some(me) = watched() else { return f() };
    struct Back(GoCtx);
    impl Drop for Back {
        fn drop(&mut self) {
            watch_again(Some(self.0));
        }
    }
    let _back = Back(me);
    set_current(None);
    f()
}

/// Makes `me` the context of the calling thread, which was set aside while the program's code ran:
/// unless that has forked, and this is the child.
fn watch_again(me: Option<GoCtx>) {
    set_current(me.filter(|_| enabled()));
}

/// Runs `f`, which may block the thread for long, without a slot of the detector: there are 256,
/// and others want them.
fn blocking<R>(me: GoCtx, f: impl FnOnce() -> R) -> R {
    let outer = handler::goes_away(me);
    let result = f();
    real::keep_errno(|| handler::comes_back(me, outer));
    result
}

#[cfg(test)]
mod tests {
    use std::ffi::c_int;
    use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

    use super::*;
    use crate::testing::{detector, end_child, fork, on, went_well};
    use crate::{Pc, go_end, goroutine::go_start};

    #[test]
    fn who_forks_while_unwatched_is_not_watched_in_the_child() {
        static CHILD: AtomicI32 = AtomicI32::new(0);
        extern "C" fn forks(_signal: c_int) {
            CHILD.store(fork().unwrap_or(0), Relaxed);
        }
        fn forks_in_a_handler() -> Option<libc::pid_t> {
            let handler = forks as extern "C" fn(c_int) as libc::sighandler_t;
            // SAFETY: a handler of the right type; nobody else uses the signal.
            let old = unsafe { libc::signal(libc::SIGUSR2, handler) };
            // SAFETY: the signal has a handler, which is called at once.
            unsafe { libc::raise(libc::SIGUSR2) };
            // SAFETY: what was there before.
            unsafe { libc::signal(libc::SIGUSR2, old) };
            Some(CHILD.load(Relaxed)).filter(|&child| child != 0)
        }
        let _detector = detector();
        let me = go_start(None, 1 << 40, Pc::NONE);
        for way in [|| unwatched(fork), forks_in_a_handler as fn() -> _] {
            on(me, || match way() {
                Some(child) => {
                    assert!(current().is_some());
                    assert!(went_well(child));
                }
                None => end_child(current().is_none()),
            });
        }
        go_end(me);
    }
}
