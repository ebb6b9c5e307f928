//! The data-race detector of Raddle.
//!
//! It is told of accesses, synchronisation, goroutines and memory by plain calls, and reports every pair of accesses
//! to common bytes, one of them a write, one of them not atomic, that happens-before leaves unordered. It knows no
//! scheduler, heap or channel: the floors above hold a [`GoCtx`] per goroutine and a [`ProcCtx`] per P, and answer its
//! questions through [`Host`].
//!
//! # Use
//! [`init`] once. For each goroutine [`go_start`]; [`switch_in`] on the thread that is about to run it and
//! [`switch_out`] when it has left its stack, *before* it can be made ready; [`go_end`]. Where thread-locals follow the
//! goroutine, the goroutine also calls [`set_current`] once, inside. Events ([`read`], [`release`], [`atomic()`], ...) may
//! be made only while [`enabled`]; each returns at once when the thread has no current context.
//!
//! A goroutine or foreign thread that will block its thread for long should `switch_out` before and `switch_in` after:
//! there are 256 slots, and only who holds one leaves marks.
//!
//! Functions that give a context out are unsafe, those that take one are not: whoever has a context has promised to use it as said here
//! (`contexts`).
//!
//! Unless its own text says otherwise, a function here neither parks a goroutine nor blocks a thread (beyond a spin lock
//! of a few dozen instructions) nor allocates from the heap, makes no happens-before edge, and cannot fail. Addresses
//! and sizes are in bytes. All may be called with any lock of the runtime held.
//!
//! Memory that the program takes into use again must be announced, by [`malloc`], [`free`], [`swept`] or [`clear_shadow`]: what an
//! earlier owner did there is not ordered with the new owner, and would be reported. A signal handler may call
//! [`enabled`] and [`current`] only: it may have interrupted an event that holds a lock. The program's own handlers run with a
//! context of their own (`interpose`): what they synchronise counts, what they access does not.
//!
//! Whatever links this crate has functions of the C library that tell the detector of threads, descriptors, C memory and C locks
//! (`interpose`).
//!
//! # What is exact, and what is not
//! No report is ever false, and no race between watched accesses of a run is missed, but for these bounds:
//! - eight bytes remember four accesses that do not stand for one another (`access.rs`); the fifth displaces one;
//! - a clock remembers 30 gaps between goroutines that took each other's slots unsynchronised (`clock.rs`);
//! - with 256 goroutines on threads at the same moment, the next leave no marks until one leaves (`slot.rs`);
//! - a foreign thread and the finalizer goroutine start ordered after everything so far, the very moment included
//!   (`ctx.rs`);
//! - order that goes by ways `interpose` lists as unseen, or by `fetch_max` and `fetch_min` alone, which LLVM's pass leaves out: there a false
//!   report is possible;
//! - a free is held against accesses before it only where instrumented code frees (`freeing.rs`);
//! - after 2^45 releases on a slot it is retired (`slot.rs`).
//!
//! # Reading order
//! `cell`, `shadow`, `access`, `heap` (what is remembered of memory); `clock`, `slot`, `ctx`,
//! `contexts`, `current`, `goroutine` (who and when); `sync`, `edges`, `atomic` (order); `history`, `parts`, `lines`, `record`,
//! `tally`, `report` (what is said), `frames`, `plumbing`, `freeing`, `place` (its names), `text`, `snippet`,
//! `machine`, `log` (its form); `options` (a crate of its own, what was asked for); `abi` (what instrumented
//! code calls), `instrumented` (what is before it),
//! `interpose` (the C library), `sys`; `carry` (moves that are no accesses); `mem`, `proc`,
//! `depot`, `real_stack`, `births` (the detector's own memory).
//!
//! # Cost
//! A goroutine: 2.8 KiB of context, 512 bytes of history, up to 1.1 MiB when it is busy (128 MiB of all together), a hundred bytes of record. Lines of what
//! the history gave up: up to 64 MiB. A sync
//! object: 64 bytes, and 2.6 KiB once something is released there. A heap block: nothing while there are few kinds of them, else 64 bytes; and
//! its stack, which equal ones share; 32 MiB of stacks at most. Shadow: four times the memory *touched*, mapped as
//! it comes into use, and given back with a freed block of megabytes; untouched, a 64th of a block. Everything is recycled; nothing comes from the heap under watch.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("raddle-race supports x86-64 Linux only");
#[cfg(target_feature = "crt-static")]
compile_error!(
    "Raddle looks functions of the C library up by name, for which it has to be a shared library; \
     build without -C target-feature=+crt-static"
);

mod abi;
mod access;
mod atomic;
mod births;
pub mod carry;
mod cell;
mod clock;
mod contexts;
mod count;
mod ctx;
mod current;
mod depot;
mod edges;
mod frames;
mod freeing;
mod goroutine;
mod heap;
mod history;
mod host;
mod instrumented;
mod interpose;
#[cfg(test)]
mod lifetimes;
mod lines;
#[cfg(test)]
mod litmus;
mod log;
mod machine;
mod mem;
#[cfg(test)]
mod oracle;
mod pages;
mod parts;
mod pc;
mod place;
mod plumbing;
mod proc;
#[cfg(test)]
mod programs;
mod real_stack;
mod record;
mod report;
mod shadow;
mod slot;
mod snippet;
mod state;
mod stats;
mod sync;
pub mod sys;
mod tally;
#[cfg(test)]
mod testing;
mod text;

pub use access::{
    read, read_cells, read_pc, read_races, read_range, read_range_pc, write, write_pc, write_races,
    write_range, write_range_pc,
};
pub use atomic::{AtomicOp, atomic, fence};
pub use contexts::{
    current, go_start, go_start_orphan, has_current, init, proc_destroy, runtime_enter, set_name,
    thread_attach, thread_start,
};
pub use ctx::GoCtx;
pub use current::{set_current, switch_in, switch_out};
pub use edges::{
    acquire, acquire_g, meet_g, pass_g, release, release_acquire, release_acquire_g, release_g,
    release_merge, release_merge_g,
};
pub use goroutine::{
    finalizer_goroutine, func_enter, func_exit, go_end, ignore_begin, ignore_end,
    ignore_sync_begin, ignore_sync_end, runtime_exit, runtime_pause, runtime_resume, set_goid,
};
pub use heap::{
    clear_shadow, free, free_aligned, malloc, malloc_aligned, map_shadow, reserve_shadow, swept,
};
pub use host::{
    EachFrame, FIRST_THREAD_ID, Frame, Host, Object, Owner, Place, Variable, WithName, WithPlace,
};
pub use instrumented::is_instrumented;
pub use interpose::{thread_name, thread_running, thread_with_handle, unwatched};
pub use pc::Pc;
pub use proc::{ProcCtx, proc_create};
pub use raddle_race_options as options;
pub use raddle_race_options::{Format, OptionError, Options, Snippet};
pub use report::errors;
pub use shadow::own_memory;
pub use state::{enabled, fini};
pub use stats::{Stats, stats};
pub use sync::{Baton, map_batons, unmap_batons};
pub use tally::{Tally, put_on};
