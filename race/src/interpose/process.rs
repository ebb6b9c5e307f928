//! Other processes. What flows between them is not watched, and a child of `fork` is not either (`state.rs`).
//!
//! `vfork` is `fork` in race mode, as it may be: its child would share our memory, and with it the table of descriptors, of which it
//! closes and copies its own. `posix_spawn` does that inside libc, where we do not see it; `exec` ends all.

use std::ffi::c_int;

use super::real::real;
use crate::enabled;

real! {
    static FORK: fn fork() -> c_int;
    static VFORK: fn vfork() -> c_int;
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
    if enabled() { FORK.get() } else { VFORK.get() }
}
