//! Raddle: goroutines for Rust.

mod args;
mod boot;
mod capture;
mod flags;
pub mod gc;
mod goroutine;
mod join;
mod panic;
mod places;
pub mod race;
pub mod runtime;
mod scope;
pub mod shared;
mod symbols;
pub mod sync;
mod testing;
pub mod time;
mod walk;

pub use args::{Args, ArgsOs, args, args_os};
#[doc(hidden)]
pub use boot::rt_main;
pub use boot::{procs, run, set_procs};
pub use goroutine::{Builder, Goroutine, current, exit, go};
pub use join::{JoinError, JoinHandle};
pub use raddle_alloc::Heap;
pub use raddle_chan as chan;
pub use raddle_chan::{select, select_biased};
pub use raddle_macros::{main, test};
pub use raddle_sched::{blocking, lock_os_thread, num_goroutines, unlock_os_thread, yield_now};
pub use scope::{Scope, ScopedJoinHandle, scope};
#[doc(hidden)]
pub use testing::{Test, rt_test};

/// The allocator of the whole program: see the feature `global-allocator` in `Cargo.toml`.
#[cfg(feature = "global-allocator")]
#[global_allocator]
static HEAP: Heap = Heap;
