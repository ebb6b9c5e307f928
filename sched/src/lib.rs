//! The G/M/P scheduler of Raddle: goroutines on a few OS threads.
//!
//! In reading order: `state`, `g` (goroutines), `m` (threads), `p` (the right to run), `idle` (the protocol that loses no
//! wake-up), `sched` (what they share), `proc` (the loop), `rt` (into and out of the runtime, park and ready), `spawn` and
//! `bind` (life and death of a goroutine, and its stack), `timer`, `blocking`, `big_stack`, `resize` (all Ps taken, `set_procs`), `stop`
//! and `parked` (all threads stopped, for the collector), `sysmon`, `signal` (stops, hogs and stack overflow), `thread`
//! (plain threads as users), `fork`, `deadlock`, `whose` (for reports), `boot`; below them `stack`, `tls`, `arch`, `sys`.
//!
//! The floors above use [`enter`], [`Rt::park`], [`Rt::ready`], [`Timer`], [`Lock`] and [`Rt::spawn`].

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
compile_error!("Raddle runs on x86-64 Linux with glibc");

mod arch;
pub mod backtrace;
mod big_stack;
mod bind;
mod blocking;
mod boot;
mod clock;
mod deadlock;
mod fork;
mod g;
mod idle;
mod m;
mod p;
mod parked;
mod proc;
mod regions;
mod resize;
mod rt;
mod sched;
mod signal;
mod spawn;
mod stack;
mod state;
mod stop;
mod sync;
pub mod sys;
mod sysmon;
mod thread;
mod timer;
mod tls;
mod wait;
mod whose;

pub use big_stack::on_big_stack;
pub use blocking::blocking;
pub use boot::{BootOptions, boot, is_booted};
pub use fork::forks;
pub use g::{DATA_BYTES, GRef};
pub use resize::{procs, set_procs};
pub use rt::{Rt, UnlockFn, enter, lock_os_thread, tls_mode, unlock_os_thread, yield_now};
pub use sched::MAX_PROCS;
pub use signal::prepare_first_thread;
pub use spawn::{
    SpawnOptions, Task, current_goroutine, current_proc_ctx, depth_on_goroutine_stack,
    goroutine_exists, goroutine_name, num_goroutines, on_goroutine_stack,
};
pub use stack::{StackError, StackStats, stats as stack_stats};
pub use stop::world;
pub use sys::{Lock, now_ns};
pub use thread::new_thread_id;
pub use timer::{Timer, TimerFn, sleep_ns, sleep_until_ns};
pub use tls::{TlsMode, ask_linker};
pub use wait::WaitReason;
pub use whose::{StackSlot, stack_slot_at};

/// The runtime is broken: says so and aborts. Allocates nothing.
pub(crate) fn throw(what: &str) -> ! {
    for part in ["raddle: fatal: ", what, "\n"] {
        sys::write_stderr(part.as_bytes());
    }
    std::process::abort()
}
