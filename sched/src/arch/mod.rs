//! What the scheduler asks of the processor: the thread pointer, the stack pointer, and the control
//! words of the floating-point units.
//!
//! One file per processor, chosen here; nothing else in the crate names a register.
//! The contract of such a file:
//! - `stack_pointer()` returns an address at or below every live word of the caller's frame;
//! - `thread_pointer()` returns the thread pointer that is active at that very instruction;
//! - `set_thread_pointer(tp)` sets it without a system call;
//! - `set_thread_pointer_by_kernel(tp)` sets it by one, and says if that was refused;
//! - `has_shadow_stack()` says whether the processor checks where functions return to;
//! - `can_set_thread_pointer()` says whether the kernel lets user code do that;
//! - `ControlWords::in_force()` are those that the calling convention has a function keep, and
//!   `restore` puts them back; `DEFAULT` are those of a new thread of a new process.

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod x86_64;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
pub(crate) use x86_64::{
    ControlWords, can_set_thread_pointer, has_shadow_stack, set_thread_pointer,
    set_thread_pointer_by_kernel, stack_pointer, thread_pointer,
};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
compile_error!("raddle runs on x86-64 Linux with glibc only");
