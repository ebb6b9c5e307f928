//! `setuid` and its kin, which glibc applies to every thread by a signal of its own.
//!
//! glibc marks each OS thread's block, signals the thread, and repeats until no mark is left; its
//! handler clears the mark in the *active* block. On a goroutine that is the wrong one, and `setuid`
//! would repeat for ever. So our handler makes the OS thread's own block active, calls glibc's
//! handler, and goes back.
//!
//! # Invariants
//! 1. While a goroutine's block is active, its owner word names the block of the OS thread it runs on.
//!
//! # Memory ordering
//! `install`: store Release of the handler, before the signal's action changes ⇄ `forward`: Acquire.

use super::block::Block;
use super::glibc::Glibc;
use super::switch::{leave, thread_block};
use crate::stack;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// `SIGSETXID`: glibc's second private signal. Its own functions refuse to name it.
const SIGSETXID: c_int = 33;

/// The action of a signal as the kernel takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

static GLIBC_HANDLER: AtomicUsize = AtomicUsize::new(0);
/// Where a block keeps its owner.
static OWNER: AtomicUsize = AtomicUsize::new(0);

/// Puts our handler in front of glibc's. To be called once, after a first thread was started:
/// that is when glibc installs its own.
pub(super) fn install(glibc: &Glibc) {
    let mut action = Action {
        handler: 0,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: asks for the action only.
    unsafe { sigaction(std::ptr::null(), &raw mut action) };
    if action.handler == libc::SIG_DFL || action.handler == libc::SIG_IGN {
        return; // this glibc has no such handler
    }
    OWNER.store(glibc.owner(), Relaxed); // published by the next line
    GLIBC_HANDLER.store(action.handler, Release); // pairs with forward
    action.handler = forward as Handler as usize;
    // SAFETY: the same flags, mask and restorer, and a handler of the same type.
    unsafe { sigaction(&raw const action, std::ptr::null_mut()) };
}

/// Sets and reads the action of [`SIGSETXID`] past glibc, which hides the signal.
///
/// # Safety
/// `new` must be null or a whole action; `old` null or room for one.
unsafe fn sigaction(new: *const Action, old: *mut Action) {
    const MASK_BYTES: usize = size_of::<u64>();
    // SAFETY: as the caller owes.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, SIGSETXID, new, old, MASK_BYTES) };
}

/// Calls glibc's handler with the OS thread's own block active. Async-signal-safe.
unsafe extern "C" fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let handler = GLIBC_HANDLER.load(Acquire); // pairs with install
    // SAFETY: install stored glibc's handler before this one could run.
    let handler: Handler = unsafe { std::mem::transmute(handler) };
    let active = thread_block();
    // Blocks of goroutines lie in slots, those of OS threads do not.
    let is_goroutine = stack::contains(active.address());
    if is_goroutine {
        // SAFETY: a block that create made has the word.
        let owner: Block = unsafe { active.read(OWNER.load(Relaxed) as isize) };
        // SAFETY: invariant 1.
        unsafe { leave(owner) };
    }
    // SAFETY: what the kernel passed.
    unsafe { handler(signal, info, context) };
    if is_goroutine {
        // SAFETY: the block that the signal interrupted.
        unsafe { leave(active) };
    }
}
