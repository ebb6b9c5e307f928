//! What instrumented code calls: the functions that LLVM's ThreadSanitizer pass knows by name.
//!
//! A crate that `cargo raddle` compiled calls `__tsan_read4` before a load of four bytes, `__tsan_func_entry` at the start of each
//! function, `__tsan_atomic64_load` in place of an atomic load, and so on; std too, in the instrumented sysroot. The names and
//! signatures are LLVM's (`ThreadSanitizer.cpp`, as of LLVM 22), what they mean is `race-model`'s.
//!
//! # Boundary
//! Nothing here happens on a thread without a current context, nor while the goroutine is inside the runtime
//! ([`runtime_enter`](crate::runtime_enter)): code of std that works for the runtime there touches the runtime's memory, whose order the
//! detector does not see. The runtime's own crates are compiled without instrumentation; what they read and write for the program
//! they declare by typed events, which always count.
//!
//! # Invariants
//! 1. Every function may be called at any moment of the program, before `init` too, but in a signal handler.
//! 2. An access is attributed to the return address of its call, a function's entry to that of the function.
//!
//! # Blocking
//! As the events that they make.
//!
//! In reading order: `access`, `func`, `bulk`, `atomic`, `heap`; `thunk` is called by what is inlined, and calls `place`.

mod access;
mod atomic;
mod bulk;
mod func;
mod heap;
mod place;
mod thunk;

pub(crate) use thunk::init;

use crate::ctx::GoCtx;
use crate::current::current_here;

/// Whose accesses those of compiled code are; None: nobody watches them.
#[inline]
fn watched() -> Option<GoCtx> {
    current_here().filter(|ctx| ctx.get().is_outside())
}

/// Defines functions that add their return address to the arguments, as the one after `$n` of them, and go on to a function of ours.
macro_rules! with_return_address {
    ($($name:ident => $body:path, $register:literal;)*) => {$(
        /// See the module's header.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            std::arch::naked_asm!(
                concat!("mov ", $register, ", qword ptr [rsp]"),
                "jmp {body}",
                body = sym $body,
            )
        }
    )*};
}
use with_return_address;

// The mark by which `fault` knows that there is instrumented code. Here, and not by the linker of the program: a static library is
// linked by one that nobody asked. Weak, as the reference to it is, and nobody's from outside. A place, since a linker may put its
// address together from where the code is.
#[cfg(raddle_race_instrumented)]
std::arch::global_asm!(
    ".pushsection .rodata",
    ".weak raddle_race_instrumented",
    ".hidden raddle_race_instrumented",
    "raddle_race_instrumented:",
    ".byte 1",
    ".popsection",
);
