//! All that the detector asks of the program around it, in one struct of functions.
//!
//! The floors above fill it in at boot; the detector knows neither the scheduler nor the heap nor a symbolizer. Every
//! field has a harmless default in [`Host::NONE`], so a test or a tool fills in only what it has.
//!
//! # Blocking
//! `current_proc` is called on event paths, on any thread, also with runtime locks held: it must only read. `current_stack`
//! is called where the heap announces a block. The rest is
//! called while a report is made, with no current context on the thread: they may allocate and read files, but may not park a
//! goroutine. All but `on_big_stack` itself, and `current_stack` for the access that is happening, run inside `on_big_stack`, with
//! the report lock held.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{Pc, ProcCtx};

/// Ids from here on are those of plain threads, which have no goroutine.
pub const FIRST_THREAD_ID: u64 = 1 << 48;

/// One (possibly inlined) source frame of a code address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame<'a> {
    /// Demangled function name.
    pub function: Option<&'a str>,
    /// Source file.
    pub file: Option<&'a str>,
    /// Line, from 1; 0 when unknown.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
    /// Distance of the address from the function's start, in bytes.
    pub offset: usize,
}

/// The block of memory that an address lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its first byte.
    pub start: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// A variable of the program or of a library, by its symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Its demangled name; `??` where there is none.
    pub name: &'a str,
    /// Its first byte; without a name, the address itself.
    pub start: usize,
    /// Its size in bytes; 0 when unknown.
    pub size: usize,
    /// The file name of the executable or library.
    pub module: &'a str,
    /// The symbol's value: where the variable lies in the module, or in its thread-local storage.
    pub offset: usize,
}

/// Whose stack or thread-locals memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// Goroutine number so many, or a plain thread that has an id too.
    Goroutine(u64),
    /// A plain OS thread that the detector does not know.
    Thread {
        /// The kernel's number of the thread.
        tid: u32,
        /// Its name, where it has one.
        name: &'a str,
    },
    /// The thread that runs C's `main`.
    MainThread,
    /// Somebody's.
    Unknown,
}

/// What lies at an address that is in no heap block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// A static.
    Global(Variable<'a>),
    /// A thread-local.
    ThreadLocal(Variable<'a>, Owner<'a>),
    /// A stack.
    Stack(Owner<'a>),
}

/// What `symbolize_code` calls for each frame.
pub type EachFrame<'a> = &'a mut dyn FnMut(Frame<'_>);
/// What `goroutine_name` calls with the name.
pub type WithName<'a> = &'a mut dyn FnMut(&str);

/// What `describe` calls with what it found.
pub type WithPlace<'a> = &'a mut dyn FnMut(Place<'_>);

/// The callbacks.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The context of the P that runs on this thread; None without one (sweeper, foreign thread). Also on event paths.
    pub current_proc: fn() -> Option<ProcCtx>,
    /// Calls back with each frame of the code address, innermost inlined function first.
    pub symbolize_code: fn(pc: usize, each: EachFrame<'_>),
    /// The live heap block around `addr`.
    pub find_object: fn(addr: usize) -> Option<Object>,
    /// Calls back with the goroutine's name, when it has one.
    pub goroutine_name: fn(id: u64, with: WithName<'_>),
    /// Whether goroutine `id` still exists; asked about the allocator of a block, whom the detector may have forgotten.
    pub goroutine_running: fn(id: u64) -> bool,
    /// Calls back with what lies at `addr`, where that is known; at most once. Asked where `find_object` found nothing.
    pub describe: fn(addr: usize, with: WithPlace<'_>),
    /// Calls `f(arg)`, once, on the calling thread, where there is plenty of stack: a symbolizer takes some 100 KiB, which a
    /// goroutine may not have. It may be called with any lock held: it must not park. `f` does not unwind.
    pub on_big_stack: fn(f: unsafe fn(*mut ()), arg: *mut ()),
    /// The calling thread's real return addresses, innermost first, as many as there is room for; returns how many. Also
    /// called inside an allocation or free of the program: it must not allocate, nor take a lock that an allocating thread
    /// may hold.
    pub current_stack: fn(stack: &mut [Pc]) -> usize,
    /// An id for a new plain thread, which no goroutine and no other thread has: from [`FIRST_THREAD_ID`] on. Called by the
    /// thread's creator; it must neither allocate nor lock.
    pub new_goid: fn() -> u64,
}

impl Host {
    /// Knows nothing.
    pub const NONE: Host = Host {
        current_proc: || None,
        symbolize_code: |_, _| {},
        find_object: |_| None,
        goroutine_name: |_, _| {},
        goroutine_running: |_| false,
        describe: |_, _| {},
        on_big_stack: |f, arg| {
            // SAFETY: that it is called is what the caller asks for.
            unsafe { f(arg) }
        },
        current_stack: |_| 0,
        new_goid: || {
            static NEXT: AtomicU64 = AtomicU64::new(FIRST_THREAD_ID);
            NEXT.fetch_add(1, Relaxed)
        },
    };
}
