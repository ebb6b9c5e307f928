//! M: an OS thread that runs goroutines.
//!
//! An M runs the scheduler on its own stack (g0) and resumes one goroutine at a time. Ms are made when a P has work and no
//! M is idle. A thread ends with the goroutine that ended while it was locked to it; else it lives as long as the process.
//!
//! # Invariants
//!
//! 1. Fields that are not atomic are touched by the M's own thread only, or, while the M sleeps in the idle list, by
//!    whoever took it off the list before it is woken.
//! 2. `in_rt` is above 0 while the thread is inside the runtime: on g0, and in a goroutine between `enter` and the end of
//!    its guard. Then the P stays. The signal handler, on this very thread, takes the P away only when it is 0.
//! 3. An `M` is never freed, but the next thread's once its own has ended. `id` is another then: what remembers an M over its
//!    goroutine's waits remembers the number.
//! 4. The heap serves the thread from the cache of the P in `p`, or, without one, from the thread's own: `set_p` changes both.
//!
//! # Memory ordering
//!
//! `in_rt`, `attention` and `p` are shared with a signal handler on the same thread: plain loads and stores (Relaxed) with
//! compiler fences. `preempt: store Release` ⇄ `swap Acquire` in the handler. Other threads read `p` and `g` for reports and
//! set `attention` as a hint only.

use crate::g::G;
use crate::p::P;
use crate::sys::Note;
use crate::sys::thread::StackEnd;
use crate::{sys, tls};
use raddle_alloc::Thread;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering, compiler_fence};

/// The goroutine ran too long: its P is given up on the way out of the runtime.
pub(crate) const ATTN_PREEMPT: u32 = 1;
/// Yields are injected: the way out rolls the dice each time.
pub(crate) const ATTN_INJECT: u32 = 2;

/// See the module's head. What every turn and every call of the runtime touches comes first, in one cache line.
#[repr(C, align(128))]
pub(crate) struct M {
    /// Depth of `enter`; g0 itself counts as one.
    pub(crate) in_rt: AtomicU32,
    /// Reasons to take the slow way out of the runtime: `ATTN_*`.
    pub(crate) attention: AtomicU32,
    pub(crate) p: AtomicPtr<P>,
    /// Its number, which no other has had before: from 1.
    pub(crate) id: AtomicU32,
    pub(crate) tid: AtomicI32,
    /// The heap's record of this thread. Set by the thread itself, before it runs anything.
    pub(crate) heap: Cell<Option<&'static Thread>>,
    /// The goroutine that is locked to this thread.
    pub(crate) locked_g: Cell<*const G>,
    /// This thread's own thread control block.
    pub(crate) block: Cell<tls::Block>,
    /// Somebody wants its P: the signal that is on its way says so.
    pub(crate) preempt: AtomicBool,
    pub(crate) spinning: Cell<bool>,
    /// The locked goroutine has ended: the thread ends too.
    pub(crate) is_over: Cell<bool>,
    /// How often the locked goroutine locked it.
    pub(crate) locks: Cell<u32>,
    /// The P with which a waker wakes it. Stored (Release) after `spinning`, taken (Acquire) before it is read.
    pub(crate) next_p: AtomicPtr<P>,
    pub(crate) note: Note,
    /// Where this thread's own stack ends.
    pub(crate) stack_end: Cell<StackEnd>,
    /// Its alternate signal stack; null: it has none.
    pub(crate) alt_stack: Cell<*mut c_void>,
    /// Stands for the thread while it runs a blocking call.
    pub(crate) thread_g: G,
    /// The goroutine that makes the blocking call; else null.
    pub(crate) in_blocking: Cell<*const G>,
}

// SAFETY: see invariant 1.
unsafe impl Sync for M {}
// SAFETY: as above.
unsafe impl Send for M {}

impl std::fmt::Debug for M {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("M")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl M {
    pub(crate) fn new() -> M {
        M {
            in_rt: AtomicU32::new(1),
            attention: AtomicU32::new(0),
            p: AtomicPtr::new(ptr::null_mut()),
            id: AtomicU32::new(0),
            tid: AtomicI32::new(0),
            heap: Cell::new(None),
            preempt: AtomicBool::new(false),
            block: Cell::new(tls::Block::NONE),
            stack_end: Cell::new(StackEnd::UNKNOWN),
            alt_stack: Cell::new(ptr::null_mut()),
            spinning: Cell::new(false),
            next_p: AtomicPtr::new(ptr::null_mut()),
            note: Note::new(),
            locked_g: Cell::new(ptr::null()),
            locks: Cell::new(0),
            is_over: Cell::new(false),
            thread_g: G::new(true),
            in_blocking: Cell::new(ptr::null()),
        }
    }

    /// Makes it the M of a thread that is about to start: a new one, or one whose thread has ended. It is the caller's.
    pub(crate) fn renew(&self, id: u32) {
        self.id.store(id, Ordering::Relaxed);
        self.in_rt.store(1, Ordering::Relaxed);
        self.attention.store(0, Ordering::Relaxed);
        self.preempt.store(false, Ordering::Relaxed);
        self.spinning.set(false);
        self.is_over.set(false);
    }

    /// Its number.
    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// The P it has, if any.
    #[inline]
    pub(crate) fn p(&self) -> Option<&'static P> {
        // SAFETY: null or a P; Ps are never freed.
        unsafe { self.p.load(Ordering::Relaxed).as_ref() }
    }

    /// The P it must have here.
    #[inline]
    pub(crate) fn must_p(&self) -> &'static P {
        self.p().expect("an M runs scheduler code without a P")
    }

    /// Gives it a P, or takes it away, and with it the P's cache of the heap. On the M's own thread, outside the allocator;
    /// the signal handler is.
    #[inline]
    pub(crate) fn set_p(&self, p: Option<&'static P>) {
        let cache = p.and_then(|p| p.heap.get());
        // SAFETY: by the contract above; the P is this M's from here on, or no longer.
        unsafe { self.must_heap().use_cache(cache) };
        let p = p.map_or(ptr::null_mut(), |p| ptr::from_ref(p).cast_mut());
        self.p.store(p, Ordering::Relaxed);
    }

    /// The M that runs `g`, the caller.
    pub(crate) fn of(g: &G) -> &'static M {
        // SAFETY: set while an M owns the stack; Ms are never freed.
        unsafe { g.m.get().as_ref() }.expect("a running goroutine has an M")
    }

    /// The heap's record of this thread.
    #[inline]
    pub(crate) fn must_heap(&self) -> &'static Thread {
        self.heap.get().expect("an M's thread has begun")
    }

    /// Enters the calling thread as the one that this M is.
    pub(crate) fn begin_on_this_thread(&self) {
        self.block.set(tls::thread_block());
        // SAFETY: gettid has no preconditions.
        self.tid.store(unsafe { libc::gettid() }, Ordering::Relaxed);
        self.heap.set(Some(raddle_alloc::this_thread()));
        self.stack_end.set(sys::thread::stack_end());
        self.thread_g.locked_m.set(self);
    }

    #[inline]
    pub(crate) fn depth(&self) -> u32 {
        self.in_rt.load(Ordering::Relaxed)
    }

    /// Changes the depth, as seen by the signal handler of this thread.
    #[inline]
    pub(crate) fn set_depth(&self, depth: u32) {
        compiler_fence(Ordering::SeqCst);
        self.in_rt.store(depth, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }
}
