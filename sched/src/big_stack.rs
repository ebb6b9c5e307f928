//! Running a function where there is plenty of stack, and letting nothing else happen meanwhile: for the race detector's reports, which
//! are made wherever a goroutine stands, however small its stack is and whatever it holds.
//!
//! # Invariants
//!
//! 1. The goroutine keeps its P, M and thread-locals, and `rt::current` names it: to all that is called it runs on.
//!
//! # Blocking
//!
//! Blocks M and P for as long as the function runs. Does not park, and takes no lock.
//!
//! # Why not
//!
//! `blocking` gives the P up, and may have to park until there is one again: with a lock held that may be for ever.

use crate::m::M;
use crate::{on_goroutine_stack, rt};

/// Calls `f(arg)`: on a goroutine's stack, on its thread's own (8 MiB); elsewhere directly.
///
/// # Safety
///
/// `f(arg)` may be called on another stack of the same thread; it neither parks nor unwinds.
pub unsafe fn on_big_stack(f: unsafe fn(*mut ()), arg: *mut ()) {
    if !on_goroutine_stack() {
        // SAFETY: by the contract.
        return unsafe { f(arg) };
    }
    // SAFETY: one runs here, and Gs are never freed.
    let g = unsafe { &*rt::current() };
    let m = M::of(g);
    struct Call(unsafe fn(*mut ()), *mut ());
    // SAFETY: the parent stack belongs to the same OS thread.
    unsafe impl Send for Call {}
    let call = Call(f, arg);
    // Inside the runtime the signal handler lets it keep its P.
    m.set_depth(m.depth() + 1);
    g.parked.leaves();
    // SAFETY: the coroutine runs on this stack, so its yielder lives.
    unsafe { &*g.yielder.get() }.on_parent_stack(move || {
        let Call(f, arg) = { call };
        // SAFETY: by the contract.
        unsafe { f(arg) }
    });
    m.set_depth(m.depth() - 1);
}
