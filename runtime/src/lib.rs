//! Goroutines for Rust: plain blocking code, millions of cheap threads, all cores, and a data-race detector in the box.
//!
//! ```
//! use raddle::chan;
//!
//! #[raddle::main]
//! fn main() {
//!     let (tx, rx) = chan::bounded(0);
//!     for name in ["warp", "weft", "comb"] {
//!         let tx = tx.clone();
//!         raddle::go(move || tx.send(format!("hello from {name}")).unwrap());
//!     }
//!     drop(tx); // `rx` ends when the last sender is gone
//!
//!     for line in rx {
//!         println!("{line}");
//!     }
//! }
//! ```
//!
//! A goroutine is a thread as far as Rust can tell: it may block wherever a thread may, and what is `thread_local!` is its own.
//! Only it waits, not the OS thread that runs it, which goes on with another one. Needs Linux on x86-64 and glibc as a shared library.
//!
//! # A tour
//!
//! - *Start*: [`#[raddle::main]`](macro@main) makes `main` the first goroutine, [`#[raddle::test]`](macro@test) a test, [`run`] any
//!   function. The program ends when main returns.
//! - *Goroutines*: [`go`] starts one and [`JoinHandle::join`] waits for it; [`scope`](scope()) lets them borrow, [`Builder`] gives a
//!   name and a stack size. A panic ends its goroutine only, and comes out of `join`.
//! - *Messages*: [`chan::bounded`], [`chan::unbounded`], [`select!`], [`chan::after`]; `close` as in Go.
//! - *Locks*: [`sync`] has `Mutex`, `RwLock`, `Condvar`, `Once`, `WaitGroup`, `Barrier`, `Semaphore` and atomics that park the goroutine and
//!   not the thread. Those of std work, too, and block the thread.
//! - *Time*: [`time::sleep`], [`time::Timer`], [`time::Ticker`].
//! - *What blocks a thread*, as a file or a foreign library, belongs in [`blocking`]; others run meanwhile.
//! - *Collected memory*: [`gc::Gc`] is a `Copy` pointer whose value goes when nothing reaches it.
//! - *Shared variables*: [`shared`] has variables, slices and maps that stay memory-safe even when they are raced on.
//! - *Plain threads* may use all of it.
//!
//! ```
//! use raddle::{select, sync::Mutex, time::Duration};
//!
//! # raddle::run(|| {
//! let total = Mutex::new(0);
//! raddle::scope(|s| {
//!     for n in 1..=10 {
//!         let total = &total;
//!         s.go(move || *total.lock() += n);
//!     }
//! });
//! assert_eq!(*total.lock(), 55);
//!
//! let (tx, rx) = raddle::chan::bounded(1);
//! let worker = raddle::go(move || {
//!     raddle::time::sleep(Duration::from_millis(1));
//!     tx.send("done").unwrap();
//! });
//! select! {
//!     recv(rx) -> message => assert_eq!(message, Ok("done")),
//!     default(Duration::from_secs(60)) => panic!("a minute is enough"),
//! }
//! worker.join().unwrap();
//! # });
//! ```
//!
//! # Race mode
//!
//! A program that is started with `--race`, or with `RADDLE_RACE=1` in its environment, reports data races: two accesses to one place, at
//! least one of them a write, that nothing orders; each with its stack. Built by plain cargo it sees what goes through Raddle's own
//! types and what is announced through [`race`]; built by `cargo raddle run --race` or `cargo raddle test --race`, every load and store. After
//! a report the exit status is 66. `--race=help` prints the options.
//!
//! # Features
//!
//! - `global-allocator`, on by default: Raddle's heap serves `Box`, `Vec` and all. Without it the system's does; then [`gc`] works only
//!   if the program makes [`Heap`] its global allocator itself.
//!
//! # Environment
//!
//! Read once, at the start. What cannot be obeyed ends the program with status 2 and the reason; a name that is only a slip away from
//! one of these is told on standard error.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `RADDLE_RACE=OPTIONS` | race mode, as by `--race=OPTIONS`; `1`, `on`, `yes`, `true` for no options, `0`, `off`, `no`, `false` for none |
//! | `RADDLE_PROCS=N` | how many goroutines run at once; default: the CPUs that the process may use |
//! | `RADDLE_STACK=SIZE` | address space of a goroutine's stack, 16K to 1024M; default 256K |
//! | `RADDLE_GC=PERCENT`, `RADDLE_GC=off` | how much the heap may grow between collections; default 100 |
//! | `RADDLE_DEBUG=LIST` | switches for work on the runtime |
//!
//! # Exit status
//!
//! That of main, as for any Rust program; 66 after a race; 2 after a mistake in a flag or a variable, and after a deadlock: all goroutines
//! wait, and each is shown. 101 after a panic in main.

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
#[doc(inline)]
pub use raddle_alloc::Heap;
#[doc(inline)]
pub use raddle_chan as chan;
#[doc(inline)]
pub use raddle_chan::{select, select_biased};
#[doc(inline)]
pub use raddle_macros::{main, test};
#[doc(inline)]
pub use raddle_sched::{blocking, lock_os_thread, num_goroutines, unlock_os_thread, yield_now};
pub use scope::{Scope, ScopedJoinHandle, scope};
#[doc(hidden)]
pub use testing::{Test, rt_test};

/// The allocator of the whole program: see the feature `global-allocator` in `Cargo.toml`.
#[cfg(feature = "global-allocator")]
#[global_allocator]
static HEAP: Heap = Heap;
