//! Raddle: goroutines for Rust.

mod boot;
mod goroutine;
mod join;
mod scope;
pub mod sync;

pub use boot::{rt_main, rt_test, run};
pub use goroutine::{Builder, Goroutine, current, exit, go};
pub use join::{JoinError, JoinHandle};
pub use raddle_sched::{
    blocking, lock_os_thread, num_goroutines, procs, set_procs, unlock_os_thread, yield_now,
};
pub use scope::{Scope, ScopedJoinHandle, scope};
