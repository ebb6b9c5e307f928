//! Waiting for descriptors: epoll, poll, select.
//!
//! Who learns that a descriptor is ready is ordered after what made it so, as if it had read from it.

use std::ffi::c_int;

use libc::{epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};

use super::real::{real, with_caller};
use super::{blocking, desc, read_range, watched, write_range};
use crate::Pc;

real! {
    static CTL: fn epoll_ctl(c_int, c_int, c_int, *mut epoll_event) -> c_int;
    static WAIT: fn epoll_wait(c_int, *mut epoll_event, c_int, c_int) -> c_int;
    static PWAIT: fn epoll_pwait(c_int, *mut epoll_event, c_int, c_int, *const sigset_t) -> c_int;
    static PWAIT2: fn epoll_pwait2(c_int, *mut epoll_event, c_int, *const timespec, *const sigset_t) -> c_int;
    static POLL: fn poll(*mut pollfd, nfds_t, c_int) -> c_int;
    static PPOLL: fn ppoll(*mut pollfd, nfds_t, *const timespec, *const sigset_t) -> c_int;
    static SELECT: fn select(c_int, *mut fd_set, *mut fd_set, *mut fd_set, *mut timeval) -> c_int;
    static PSELECT: fn pselect(c_int, *mut fd_set, *mut fd_set, *mut fd_set, *const timespec, *const sigset_t) -> c_int;
}

with_caller! {
    fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int = change;
    fn epoll_wait(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: c_int) -> c_int = wait;
    fn epoll_pwait(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: c_int, mask: *const sigset_t) -> c_int = pwait;
    fn epoll_pwait2(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: *const timespec, mask: *const sigset_t) -> c_int = pwait2;
    fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int = poll_them;
    fn ppoll(fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int = ppoll_them;
    fn select(count: c_int, r: *mut fd_set, w: *mut fd_set, e: *mut fd_set, timeout: *mut timeval) -> c_int = select_them;
    fn pselect(count: c_int, r: *mut fd_set, w: *mut fd_set, e: *mut fd_set, timeout: *const timespec, mask: *const sigset_t) -> c_int = pselect_them;
}

unsafe extern "C-unwind" fn change(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
    caller: usize,
) -> c_int {
    if watched().is_some() {
        desc::uses(epoll, caller);
        desc::uses(fd, caller);
        if operation != libc::EPOLL_CTL_DEL {
            read_range(event.addr(), size_of::<epoll_event>(), Pc::code(caller));
            desc::watch(epoll, fd);
        }
    }
    // SAFETY: the caller's arguments.
    unsafe { CTL.get()(epoll, operation, fd, event) }
}

/// A wait of the epoll instance, by `f`.
#[inline(always)]
fn wait_by(
    epoll: c_int,
    events: *mut epoll_event,
    caller: usize,
    f: impl FnOnce() -> c_int,
) -> c_int {
    let Some(me) = watched() else { return f() };
    desc::uses(epoll, caller);
    let n = blocking(me, f);
    if n > 0 {
        desc::observe_epoll(epoll);
        let bytes = n as usize * size_of::<epoll_event>();
        write_range(events.addr(), bytes, Pc::code(caller));
    }
    n
}

unsafe extern "C-unwind" fn wait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: c_int,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    wait_by(epoll, events, caller, move || unsafe {
        WAIT.get()(epoll, events, count, timeout)
    })
}

unsafe extern "C-unwind" fn pwait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: c_int,
    mask: *const sigset_t,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { PWAIT.get()(epoll, events, count, timeout, mask) };
    wait_by(epoll, events, caller, call)
}

unsafe extern "C-unwind" fn pwait2(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { PWAIT2.get()(epoll, events, count, timeout, mask) };
    wait_by(epoll, events, caller, call)
}

/// A poll, by `f`.
#[inline(always)]
fn poll_by(fds: *mut pollfd, count: nfds_t, caller: usize, f: impl FnOnce() -> c_int) -> c_int {
    let Some(me) = watched() else { return f() };
    let pc = Pc::code(caller);
    read_range(fds.addr(), count as usize * size_of::<pollfd>(), pc);
    let n = blocking(me, f);
    if n >= 0 {
        for i in 0..count as usize {
            let at = fds.wrapping_add(i);
            // SAFETY: the call took so many.
            let polled = unsafe { at.read() };
            // The kernel writes this field only.
            write_range(at.addr() + std::mem::offset_of!(pollfd, revents), 2, pc);
            if polled.revents != 0 && polled.fd >= 0 {
                desc::observe(polled.fd);
            }
        }
    }
    n
}

unsafe extern "C-unwind" fn poll_them(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: c_int,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    poll_by(fds, count, caller, move || unsafe {
        POLL.get()(fds, count, timeout)
    })
}

unsafe extern "C-unwind" fn ppoll_them(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    poll_by(fds, count, caller, move || unsafe {
        PPOLL.get()(fds, count, timeout, mask)
    })
}

/// A select, by `f`.
#[inline(always)]
fn select_by(
    count: c_int,
    sets: [*mut fd_set; 3],
    caller: usize,
    f: impl FnOnce() -> c_int,
) -> c_int {
    let Some(me) = watched() else { return f() };
    let n = blocking(me, f);
    if n >= 0 {
        let count = usize::try_from(count).unwrap_or(0);
        for set in sets.into_iter().filter(|set| !set.is_null()) {
            // The kernel reads and writes whole words.
            write_range(set.addr(), count.div_ceil(64) * 8, Pc::code(caller));
            // A program may have made its sets larger than the type: by words, not by `FD_ISSET`.
            for i in 0..count {
                let word = set.cast::<u64>().wrapping_add(i / 64);
                // SAFETY: the call took the set, of so many bits.
                if unsafe { word.read() } >> (i % 64) & 1 != 0 {
                    desc::observe(i as c_int);
                }
            }
        }
    }
    n
}

unsafe extern "C-unwind" fn select_them(
    count: c_int,
    r: *mut fd_set,
    w: *mut fd_set,
    e: *mut fd_set,
    timeout: *mut timeval,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    select_by(count, [r, w, e], caller, move || unsafe {
        SELECT.get()(count, r, w, e, timeout)
    })
}

unsafe extern "C-unwind" fn pselect_them(
    count: c_int,
    r: *mut fd_set,
    w: *mut fd_set,
    e: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { PSELECT.get()(count, r, w, e, timeout, mask) };
    select_by(count, [r, w, e], caller, call)
}
