//! The heap of Raddle: the allocator of all Rust code of the process, and a garbage collector for those who want one.
//!
//! In reading order: `class` (sizes), `span`, `arena` (addresses), `pages` (the page heap), `central` and `cache` (objects on
//! their way), `thread` (who uses which cache, and when it must not be disturbed), `heap` (malloc and free), `fork`; [`gc`], and what it
//! asks of the scheduler, [`World`]; below them `meta` (the heap's own memory) and `futex`.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("raddle-alloc supports x86-64 Linux only");

mod arena;
mod cache;
mod central;
mod class;
mod fork;
mod futex;
pub mod gc;
mod heap;
mod meta;
mod pages;
mod span;
mod sync;
mod thread;
mod world;

pub use arena::own_memory;
pub use futex::{Lock, Note, wait, wake};
pub use heap::{
    Heap, HeapStats, Object, alloc_untold, find_object, free_untold, heap_stats, scavenge, watch,
};
pub use thread::{
    CacheRef, Thread, ThreadSlot, cache_create, cache_destroy, this_thread, thread_slot,
    try_this_thread,
};
pub use world::{Unstoppable, World, install_world};

/// Nanoseconds on the monotonic clock; never 0.
fn now_ns() -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is a valid timespec to write to, and the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    (ts.tv_sec as u64).wrapping_mul(1_000_000_000) + ts.tv_nsec as u64
}

/// The heap is broken: says so and aborts. Allocates nothing.
#[cold]
fn fatal(what: &str) -> ! {
    for part in ["raddle: fatal: ", what, "\n"] {
        // SAFETY: the pointer and length are of one slice.
        unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    std::process::abort()
}

/// As [`fatal`], with an address.
#[cold]
fn fatal_at(what: &str, addr: usize) -> ! {
    let mut text = [0; 128];
    let what = what.as_bytes();
    text[..what.len()].copy_from_slice(what);
    let mut at = what.len();
    text[at..at + 2].copy_from_slice(b"0x");
    at += 2;
    for shift in (0..16).rev() {
        text[at] = b"0123456789abcdef"[addr >> (4 * shift) & 15];
        at += 1;
    }
    fatal(std::str::from_utf8(&text[..at]).unwrap_or("a bad address"))
}
