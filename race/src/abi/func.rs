//! Calls and returns, and the pass's own odds and ends.

use super::watched;
use crate::{Pc, goroutine};

/// A function begins; `pc` is its return address.
#[unsafe(no_mangle)]
extern "C" fn __tsan_func_entry(pc: usize) {
    if let Some(ctx) = watched() {
        ctx.get().enter(Pc::code(pc));
    }
}

/// The innermost function that began returns or unwinds.
#[unsafe(no_mangle)]
extern "C" fn __tsan_func_exit() {
    if let Some(ctx) = watched() {
        ctx.get().exit();
    }
}

/// Each module's constructor calls it. The detector starts by its own rules.
#[unsafe(no_mangle)]
extern "C" fn __tsan_init() {}

/// The pass puts the pair around code that it was told not to look at.
#[unsafe(no_mangle)]
extern "C" fn __tsan_ignore_thread_begin() {
    goroutine::ignore_begin();
}

/// Ends one [`__tsan_ignore_thread_begin`].
#[unsafe(no_mangle)]
extern "C" fn __tsan_ignore_thread_end() {
    goroutine::ignore_end();
}
