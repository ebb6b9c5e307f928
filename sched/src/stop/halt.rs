//! Where threads stand while the world is stopped: the signal handler's side, and the list that it
//! keeps.
//!
//! A thread that is stopped waits in its signal handler, and everything that the collector must
//! know of it lies in the handler's frame: a node with its stack pointer and the address of its
//! saved registers. Nodes are pushed onto a list without a lock.
//!
//! # States
//!
//! `GENERATION` is even while the world runs, odd while it is stopped or being stopped. `HEAD` is
//! the first node, and in its upper 16 bits the lower 16 of the generation that the list belongs
//! to.
//!
//! # Invariants
//!
//! 1. A node is in the list only while its thread is in [`arrive`] with the generation unchanged:
//!    the tag of `HEAD` changes before `GENERATION` does, so that a thread which was slow to arrive
//!    at a stop that was given up cannot enter a later list. (It would have to sleep in between for
//!    exactly 32,768 stops.)
//! 2. A thread in the list is outside the allocator's busy sections.
//! 3. `ARRIVED` and `TARGET` are hints that save the stopper wake-ups: the list is the truth.
//!
//! # Memory ordering
//!
//! - `arrive: compare-exchange Release` of `HEAD` ⇄ `each_stopped: load Acquire`: the stopper sees
//!   all that the thread did.
//! - `end: store Release` of `GENERATION` ⇄ `arrive: load Acquire`: the thread sees all that the
//!   collector did.
//! - `arrive: ARRIVED add, TARGET load` ⇄ `wait_for: TARGET store, ARRIVED load`, all SeqCst: the
//!   last to come wakes the stopper, or the stopper sees that it came.
//!
//! # Blocking
//!
//! `arrive` blocks the thread in its handler, async-signal-safe: no lock, no allocation, no
//! thread-local but the heap's word.

use crate::arch;
use raddle_alloc::{try_this_thread, wait, wake};
use std::ptr;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};
use std::time::Duration;

static GENERATION: AtomicU32 = AtomicU32::new(0);
static HEAD: AtomicU64 = AtomicU64::new(0);
static ARRIVED: AtomicU32 = AtomicU32::new(0);
static TARGET: AtomicU32 = AtomicU32::new(u32::MAX);

const TAG_SHIFT: u32 = 48;

/// A thread that stands still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped {
    pub(super) tid: i32,
    /// Its stack pointer where the signal met it.
    pub(super) sp: usize,
    /// Its thread pointer: a goroutine's block, or its own.
    pub(super) tp: usize,
    /// Its registers, in the signal's frame.
    pub(super) context: *const libc::ucontext_t,
}

struct Node {
    next: *const Node,
    thread: Stopped,
}

fn tag(generation: u32) -> u64 {
    u64::from(generation as u16) << TAG_SHIFT
}

/// Whether the world is stopped, or being stopped.
pub(super) fn is_on() -> bool {
    is_odd(GENERATION.load(Acquire))
}

fn is_odd(generation: u32) -> bool {
    generation & 1 == 1
}

/// How often the world was stopped or started.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Acquire)
}

/// In the signal handler: stops here if the world is to be stopped, until it starts. A thread that
/// is inside the allocator will call `World::stop_self` at the end of that.
pub(crate) fn arrive(context: *const libc::ucontext_t) {
    let generation = GENERATION.load(Acquire);
    if !is_odd(generation) {
        return;
    }
    if let Some(thread) = try_this_thread()
        && thread.is_busy()
    {
        thread.stop_when_done();
        return;
    }
    // SAFETY: the kernel's, in this very frame.
    let registers = unsafe { &(*context).uc_mcontext.gregs };
    let mut node = Node {
        next: ptr::null(),
        thread: Stopped {
            // SAFETY: no preconditions.
            tid: unsafe { libc::gettid() },
            sp: registers[libc::REG_RSP as usize] as usize,
            tp: arch::thread_pointer(),
            context,
        },
    };
    if !push(&mut node, generation) {
        return;
    }
    if ARRIVED.fetch_add(1, SeqCst) + 1 >= TARGET.load(SeqCst) {
        wake(&raw const ARRIVED, 1);
    }
    while GENERATION.load(Acquire) == generation {
        wait(&GENERATION, generation, None);
    }
}

/// False: the stop is over.
fn push(node: &mut Node, generation: u32) -> bool {
    let mut head = HEAD.load(Relaxed);
    loop {
        if head & !POINTER != tag(generation) {
            return false;
        }
        node.next = ptr::with_exposed_provenance((head & POINTER) as usize);
        let new = tag(generation) | ptr::from_ref(node).expose_provenance() as u64;
        match HEAD.compare_exchange_weak(head, new, Release, Relaxed) {
            Ok(_) => return true,
            Err(now) => head = now,
        }
    }
}

const POINTER: u64 = (1 << TAG_SHIFT) - 1;

/// Begins a stop: from here on threads that get the signal arrive. By the one stopper.
pub(super) fn begin() {
    let generation = GENERATION.load(Relaxed).wrapping_add(1);
    debug_assert!(is_odd(generation));
    HEAD.store(tag(generation), Relaxed); // published by the next line but one
    ARRIVED.store(0, SeqCst);
    GENERATION.store(generation, SeqCst);
}

/// Ends it: all go on.
pub(super) fn end() {
    let generation = GENERATION.load(Relaxed).wrapping_add(1);
    HEAD.swap(tag(generation), AcqRel);
    GENERATION.store(generation, Release);
    wake(&raw const GENERATION, i32::MAX);
}

/// Shows every thread that has arrived.
pub(super) fn each_stopped(mut f: impl FnMut(Stopped)) {
    let mut at: *const Node = ptr::with_exposed_provenance((HEAD.load(Acquire) & POINTER) as usize);
    // SAFETY: null, or a node in the frame of a thread that waits there until `end`.
    while let Some(node) = unsafe { at.as_ref() } {
        f(node.thread);
        at = node.next;
    }
}

/// Sleeps until `n` threads have arrived in all, or until `timeout` has passed.
pub(super) fn wait_for(n: usize, timeout: Duration) {
    TARGET.store(n as u32, SeqCst);
    let arrived = ARRIVED.load(SeqCst);
    if (arrived as usize) < n {
        // The word changes with each that comes, but only the last wakes; if it changed since, so
        // much the sooner we look.
        wait(&ARRIVED, arrived, Some(timeout));
    }
    TARGET.store(u32::MAX, SeqCst);
}
