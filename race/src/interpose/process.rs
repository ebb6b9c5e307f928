//! Other processes. What flows between them is not watched, and a child of `fork` is not either
//! (`state.rs`).
//!
//! What was done before a child was started, or before it was sent a signal, is ordered before what
//! comes after somebody has waited for it. A child that is waited for before `fork` has returned in
//! its parent is one of those that are just being started.
//!
//! `vfork` is `fork` in race mode, as it may be: its child would share our memory, and with it the
//! table of descriptors, of which it closes and copies its own. `posix_spawn` does that inside
//! libc, where we do not see it; `exec` ends all.
//!
//! # Blocking
//! A spin lock for a look at a few children.

use std::cell::Cell;
use std::ffi::{c_char, c_int};

use libc::{
    id_t, idtype_t, pid_t, posix_spawn_file_actions_t, posix_spawnattr_t, rusage, siginfo_t,
};

use super::real::{keep_errno, real, with_caller};
use super::{blocking, desc, watched, write_range};
use crate::mem::SpinLock;
use crate::{Pc, acquire, enabled, release_merge};

real! {
    static FORK: fn fork() -> c_int;
    static VFORK: fn vfork() -> c_int;
    static SPAWN: fn posix_spawn(*mut pid_t, *const c_char, *const posix_spawn_file_actions_t, *const posix_spawnattr_t, *const *mut c_char, *const *mut c_char) -> c_int;
    static SPAWNP: fn posix_spawnp(*mut pid_t, *const c_char, *const posix_spawn_file_actions_t, *const posix_spawnattr_t, *const *mut c_char, *const *mut c_char) -> c_int;
    static WAIT: fn wait(*mut c_int) -> pid_t;
    static WAITPID: fn waitpid(pid_t, *mut c_int, c_int) -> pid_t;
    static WAIT3: fn wait3(*mut c_int, c_int, *mut rusage) -> pid_t;
    static WAIT4: fn wait4(pid_t, *mut c_int, c_int, *mut rusage) -> pid_t;
    static WAITID: fn waitid(idtype_t, id_t, *mut siginfo_t, c_int) -> c_int;
}

/// A child's number, [`STARTING`], or 0: none. The sync object at its address has what was done
/// before the child was started.
#[repr(align(8))]
struct Child(Cell<pid_t>);

const STARTING: pid_t = -1;

/// The children, as many as there are places for. The first place is for all others.
struct Children {
    lock: SpinLock,
    all: [Child; 256],
}

// SAFETY: the cells are used under the lock.
unsafe impl Sync for Children {}

static CHILDREN: Children = Children {
    lock: SpinLock::new(),
    all: [const { Child(Cell::new(0)) }; 256],
};

impl Child {
    fn addr(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// For those that found no place, and those that `vfork` starts.
fn others() -> &'static Child {
    &CHILDREN.all[0]
}

/// A child is about to be started.
fn starts() -> &'static Child {
    desc::sends_signal(libc::SIGCHLD);
    let child = {
        let _held = CHILDREN.lock.lock();
        let free = CHILDREN.all[1..].iter().find(|child| child.0.get() == 0);
        free.inspect(|child| {
            child.0.set(STARTING);
            // What was there is another's.
            crate::heap::clear_shadow(child.addr(), size_of::<Child>());
        })
    };
    let child = child.unwrap_or(others());
    release_merge(child.addr());
    child
}

/// The child has been started; or not, if its number is none.
fn started(child: &'static Child, pid: pid_t) {
    let pid = pid.max(0);
    let _held = CHILDREN.lock.lock();
    // One that nobody waited for had the number before.
    let old = CHILDREN.all.iter().filter(|old| old.0.get() == pid);
    old.for_each(|old| old.0.set(0));
    if child.addr() != others().addr() {
        child.0.set(pid);
    }
}

/// The child is about to be sent a signal.
pub(super) fn is_sent_a_signal(pid: pid_t) {
    let child = {
        let _held = CHILDREN.lock.lock();
        CHILDREN
            .all
            .iter()
            .find(|child| pid > 0 && child.0.get() == pid)
    };
    if let Some(child) = child {
        release_merge(child.addr());
    }
}

/// Somebody has waited for the child; if it `ended`, its number may be another's from here on.
fn waited(pid: pid_t, ended: bool) {
    if pid <= 0 {
        return;
    }
    let find = |wanted| {
        CHILDREN
            .all
            .iter()
            .position(|child| child.0.get() == wanted)
    };
    let known = {
        let _held = CHILDREN.lock.lock();
        find(pid)
    };
    match known {
        Some(i) => {
            acquire(CHILDREN.all[i].addr());
            let _held = CHILDREN.lock.lock();
            if ended && CHILDREN.all[i].0.get() == pid {
                CHILDREN.all[i].0.set(0);
            }
        }
        None => {
            acquire(others().addr());
            for child in &CHILDREN.all[1..] {
                let is_starting = {
                    let _held = CHILDREN.lock.lock();
                    child.0.get() == STARTING
                };
                if is_starting {
                    acquire(child.addr());
                }
            }
        }
    }
}

/// Returns twice, from a frame of the caller's own copy.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn fork() -> pid_t {
    if watched().is_none() {
        // SAFETY: the caller's business.
        return unsafe { FORK.get()() };
    }
    let child = starts();
    // SAFETY: the caller's business.
    let pid = unsafe { FORK.get()() };
    if pid != 0 {
        started(child, pid);
    }
    pid
}

/// Returns twice: the frame that calls it must be the caller's own.
// SAFETY: aligns the stack for the call, gives it back, and goes on as libc's function.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn vfork() -> c_int {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "sub rsp, 8",
        ".cfi_adjust_cfa_offset 8",
        "call {choose}",
        "add rsp, 8",
        ".cfi_adjust_cfa_offset -8",
        "jmp rax",
        ".cfi_endproc",
        choose = sym choose,
    )
}

/// libc's function to go on in.
extern "C" fn choose() -> unsafe extern "C-unwind" fn() -> c_int {
    if !enabled() {
        return VFORK.get();
    }
    if watched().is_some() {
        desc::sends_signal(libc::SIGCHLD);
        release_merge(others().addr());
    }
    FORK.get()
}

with_caller! {
    fn wait(status: *mut c_int) -> pid_t = wait_any;
    fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t = wait_one;
    fn wait3(status: *mut c_int, options: c_int, used: *mut rusage) -> pid_t = wait_3;
    fn wait4(pid: pid_t, status: *mut c_int, options: c_int, used: *mut rusage) -> pid_t = wait_4;
    fn waitid(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int = wait_id;
}

/// A child is started by `f`, which puts its number at the place that it gets, and returns 0 if
/// there is one.
#[inline(always)]
fn spawn_by(to: *mut pid_t, f: impl FnOnce(*mut pid_t) -> c_int) -> c_int {
    if watched().is_none() {
        return f(to);
    }
    let child = starts();
    let mut pid = 0;
    let error = f(&mut pid);
    started(child, if error == 0 { pid } else { 0 });
    // SAFETY: null, or the caller's place.
    if let Some(to) = unsafe { to.as_mut() }
        && error == 0
    {
        *to = pid;
    }
    error
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn posix_spawn(
    pid: *mut pid_t,
    path: *const c_char,
    actions: *const posix_spawn_file_actions_t,
    attributes: *const posix_spawnattr_t,
    args: *const *mut c_char,
    variables: *const *mut c_char,
) -> c_int {
    // SAFETY: the caller's arguments.
    spawn_by(pid, move |pid| unsafe {
        SPAWN.get()(pid, path, actions, attributes, args, variables)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn posix_spawnp(
    pid: *mut pid_t,
    file: *const c_char,
    actions: *const posix_spawn_file_actions_t,
    attributes: *const posix_spawnattr_t,
    args: *const *mut c_char,
    variables: *const *mut c_char,
) -> c_int {
    // SAFETY: the caller's arguments.
    spawn_by(pid, move |pid| unsafe {
        SPAWNP.get()(pid, file, actions, attributes, args, variables)
    })
}

/// A wait by `f`, which returns the child, and puts its status at the place that it gets.
#[inline(always)]
fn wait_by(to: *mut c_int, caller: usize, f: impl FnOnce(*mut c_int) -> pid_t) -> pid_t {
    let Some(me) = watched() else { return f(to) };
    let mut status = 0;
    let pid = blocking(me, || f(&mut status));
    keep_errno(|| {
        waited(pid, libc::WIFEXITED(status) || libc::WIFSIGNALED(status));
        // SAFETY: null, or the caller's place.
        if let Some(to) = unsafe { to.as_mut() }
            && pid > 0
        {
            *to = status;
            write_range((&raw mut *to).addr(), size_of::<c_int>(), Pc::code(caller));
        }
    });
    pid
}

unsafe extern "C-unwind" fn wait_any(status: *mut c_int, caller: usize) -> pid_t {
    // SAFETY: the caller's arguments.
    wait_by(status, caller, move |status| unsafe { WAIT.get()(status) })
}

unsafe extern "C-unwind" fn wait_one(
    pid: pid_t,
    status: *mut c_int,
    options: c_int,
    caller: usize,
) -> pid_t {
    // SAFETY: the caller's arguments.
    wait_by(status, caller, move |status| unsafe {
        WAITPID.get()(pid, status, options)
    })
}

unsafe extern "C-unwind" fn wait_3(
    status: *mut c_int,
    options: c_int,
    used: *mut rusage,
    caller: usize,
) -> pid_t {
    // SAFETY: the caller's arguments.
    wait_by(status, caller, move |status| unsafe {
        WAIT3.get()(status, options, used)
    })
}

unsafe extern "C-unwind" fn wait_4(
    pid: pid_t,
    status: *mut c_int,
    options: c_int,
    used: *mut rusage,
    caller: usize,
) -> pid_t {
    // SAFETY: the caller's arguments.
    wait_by(status, caller, move |status| unsafe {
        WAIT4.get()(pid, status, options, used)
    })
}

unsafe extern "C-unwind" fn wait_id(
    kind: idtype_t,
    id: id_t,
    info: *mut siginfo_t,
    options: c_int,
    caller: usize,
) -> c_int {
    // SAFETY: the caller's arguments.
    let call = move || unsafe { WAITID.get()(kind, id, info, options) };
    let Some(me) = watched() else { return call() };
    let error = blocking(me, call);
    // SAFETY: null, or the caller's, filled by the call.
    if let Some(it) = unsafe { info.as_ref() }
        && error == 0
    {
        let ended = [libc::CLD_EXITED, libc::CLD_KILLED, libc::CLD_DUMPED].contains(&it.si_code)
            && options & libc::WNOWAIT == 0;
        keep_errno(|| {
            // SAFETY: of a child, or zero.
            waited(unsafe { it.si_pid() }, ended);
            write_range(info.addr(), size_of::<siginfo_t>(), Pc::code(caller));
        });
    }
    error
}
