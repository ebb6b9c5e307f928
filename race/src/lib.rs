//! The data-race detector of Raddle: the interface that the floors above call.
//!
//! The bodies here are the seam only; the detector replaces them behind the same signatures.
#![allow(
    missing_docs,
    unused_variables,
    reason = "interface seam, replaced by the detector"
)]

use std::panic::Location;

/// A goroutine's (or foreign thread's) race context. Copy of a pointer into the detector's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct GoCtx(std::ptr::NonNull<()>);
// SAFETY: a context is only ever used by the thread that runs its goroutine, or with it parked.
unsafe impl Send for GoCtx {}
// SAFETY: as above.
unsafe impl Sync for GoCtx {}

/// A P's race context: block caches for sync objects, clocks and history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct ProcCtx(std::ptr::NonNull<()>);
// SAFETY: as for `GoCtx`, with the P in place of the goroutine.
unsafe impl Send for ProcCtx {}
// SAFETY: as above.
unsafe impl Sync for ProcCtx {}

/// A place in the program: a code address, or a `Location` of a typed event (tagged with bit 47).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Pc(u64);

impl Pc {
    pub const NONE: Pc = Pc(0);
    #[inline]
    pub fn at(loc: &'static Location<'static>) -> Pc {
        Pc(std::ptr::from_ref(loc) as u64 | 1 << 47)
    }
    #[inline]
    #[track_caller]
    pub fn here() -> Pc {
        Pc::at(Location::caller())
    }
}

/// True in race mode. Relaxed load of one static; never changes after `init`.
#[inline(always)]
pub fn enabled() -> bool {
    false
}

// Every function below may be called only when `enabled()`; each returns at once when the calling thread has no
// current context (or ignores accesses).
/// Makes `ctx` the calling thread's current context (None: nothing is watched).
pub fn switch_in(ctx: GoCtx) {}
/// Names the context of the calling thread-local block.
pub fn set_current(ctx: Option<GoCtx>) {}
/// Ends race mode: prints the count. Returns the exit status.
pub fn fini() -> i32 {
    0
}
/// The goroutine leaves this thread: its slot may be reused by another.
pub fn switch_out(ctx: GoCtx) {}
/// The calling thread's current context.
pub fn current() -> Option<GoCtx> {
    None
}
pub fn proc_create() -> ProcCtx {
    unimplemented!()
}
pub fn proc_destroy(p: ProcCtx) {}
pub fn go_start(parent: Option<GoCtx>, goid: u64, pc: Pc) -> GoCtx {
    unimplemented!()
}
pub fn go_end(ctx: GoCtx) {}
/// A context for an OS thread that the runtime did not make: ordered after everything so far.
pub fn thread_start(goid: u64) -> GoCtx {
    unimplemented!()
}
pub fn map_shadow(addr: usize, size: usize) {}
pub fn malloc(addr: usize, size: usize, pc: Pc) {}
pub fn free(addr: usize, size: usize, pc: Pc) {}
pub fn read(addr: usize, size: usize, pc: Pc) {}
pub fn write(addr: usize, size: usize, pc: Pc) {}
pub fn read_range(addr: usize, size: usize, pc: Pc) {}
pub fn write_range(addr: usize, size: usize, pc: Pc) {}
pub fn acquire(addr: usize) {}
pub fn release(addr: usize) {}
pub fn release_merge(addr: usize) {}
pub fn release_acquire(addr: usize) {}
/// The forms for another goroutine, which is parked and cannot run meanwhile.
pub fn acquire_g(ctx: GoCtx, addr: usize) {}
pub fn release_g(ctx: GoCtx, addr: usize) {}
pub fn release_merge_g(ctx: GoCtx, addr: usize) {}
pub fn release_acquire_g(ctx: GoCtx, addr: usize) {}
