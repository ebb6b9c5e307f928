//! Binding a goroutine to a stack, at its first turn.
//!
//! # Layout of a stack slot
//!
//! ```text
//!   top    thread control block | thread-locals      made once per slot, kept for the next goroutine
//!          stack, growing downwards
//!   base   guard page
//! ```
//!
//! # Invariants
//!
//! 1. A slot in a P's cache or in the pool (but for fresh ones) holds the block of its last goroutine, reset.
//! 2. A stack belongs to one goroutine, or lies in one P's cache, or in the pool.
//!
//! # Errors
//!
//! At its first turn it is too late to tell the `go` statement that there is no stack. With guard pages that cost no mappings
//! stacks end with the address space only, and then the program does, with the reason. Where they may well run out
//! (`mprotect`), and for stacks of a size of their own, `spawn` binds at once and returns the error.

use crate::g::G;
use crate::p::P;
use crate::spawn;
use crate::stack::{self, CoStack, Slot, StackError};
use crate::tls;
use corosensei::{Coroutine, Yielder};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The default stack size: bytes of address space, of which a goroutine pays for what it touches.
pub(crate) static DEFAULT_STACK: AtomicUsize = AtomicUsize::new(stack::DEFAULT_BYTES);

/// The smallest stack in race mode, in bytes: an event, with the walk of a report, takes some 4 KiB of it where nothing is optimised
/// (names are looked up elsewhere: `big_stack`), and the frames of instrumented code are larger than plain ones.
const RACE_MIN_BYTES: usize = 32 << 10;

/// The size of stack to give to who asks for `bytes`; 0: for the default.
pub(crate) fn stack_bytes(bytes: usize) -> usize {
    let bytes = match bytes {
        0 => DEFAULT_STACK.load(Ordering::Relaxed),
        bytes => bytes,
    };
    if raddle_race::enabled() {
        bytes.max(RACE_MIN_BYTES)
    } else {
        bytes
    }
}

/// Stacks that a P keeps for itself; beyond it the older half goes to the pool.
const CACHE_MAX: usize = 64;
/// Stacks that a P takes from the pool at once.
const REFILL: usize = 16;

/// A slot with its block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack {
    pub(crate) slot: Slot,
    pub(crate) block: tls::Block,
    /// The top of the stack proper, below the block.
    pub(crate) top: usize,
}

impl Stack {
    /// A stack from the pool, or a new one.
    fn alloc(size: usize) -> Result<Stack, StackError> {
        let slot = stack::alloc(size)?;
        Ok(if slot.fresh {
            Self::make(slot)
        } else {
            Self::find(slot)
        })
    }

    fn make(slot: Slot) -> Stack {
        // SAFETY: the slot is ours, fresh, and far larger than a block.
        let (block, top) = unsafe { tls::create(slot.top()) };
        // SAFETY: the block was just made.
        unsafe { tls::describe_stack(block, slot.base(), top) };
        Stack { slot, block, top }
    }

    fn find(slot: Slot) -> Stack {
        // SAFETY: a slot that is not fresh has a block at its top (invariant 1).
        let (block, top) = unsafe { tls::find(slot.top()) };
        Stack { slot, block, top }
    }
}

/// The stacks of the default size that a P keeps.
pub(crate) struct Cache(UnsafeCell<Stacks>);

struct Stacks {
    /// Used before, the warmest last.
    warm: Vec<Stack>,
    /// Fresh slots.
    fresh: Vec<Slot>,
    /// Fresh slots to go before malloc is asked for room for their blocks' tables.
    until_room: u32,
}

impl Cache {
    pub(crate) fn new() -> Cache {
        Cache(UnsafeCell::new(Stacks {
            warm: Vec::with_capacity(CACHE_MAX),
            fresh: Vec::new(),
            until_room: 0,
        }))
    }

    /// # Safety
    ///
    /// The caller holds the P.
    unsafe fn pop(&self, size: usize) -> Result<Stack, StackError> {
        // SAFETY: by the contract nobody else uses it.
        let Stacks {
            warm,
            fresh,
            until_room,
        } = unsafe { &mut *self.0.get() };
        if let Some(stack) = warm.pop() {
            return Ok(stack);
        }
        stack::alloc_warm(size, REFILL, |slot| warm.push(Stack::find(slot)));
        if let Some(stack) = warm.pop() {
            return Ok(stack);
        }
        if fresh.is_empty() {
            stack::alloc_batch(size, |slot| {
                if slot.fresh {
                    fresh.push(slot)
                } else {
                    warm.push(Stack::find(slot))
                }
            })?;
            fresh.reverse();
        }
        let Some(slot) = fresh.pop() else {
            return Ok(warm.pop().expect("a batch has a slot"));
        };
        if *until_room == 0 {
            make_room();
            *until_room = BLOCKS_PER_ROOM;
        }
        *until_room -= 1;
        Ok(Stack::make(slot))
    }

    /// # Safety
    ///
    /// The caller holds the P.
    unsafe fn push(&self, stack: Stack) {
        // SAFETY: by the contract nobody else uses it.
        let warm = unsafe { &mut (*self.0.get()).warm };
        if warm.len() == CACHE_MAX {
            stack::free(warm.drain(..CACHE_MAX / 2).map(|stack| stack.slot.used()));
        }
        warm.push(stack);
    }

    /// Gives all to the pool, when the P goes away.
    ///
    /// # Safety
    ///
    /// The caller holds the P.
    pub(crate) unsafe fn drain(&self) {
        // SAFETY: by the contract nobody else uses it.
        let Stacks { warm, fresh, .. } = unsafe { &mut *self.0.get() };
        warm.extend(fresh.drain(..).map(Stack::make));
        stack::free(warm.drain(..).map(|stack| stack.slot.used()));
    }
}

/// What malloc is asked for at once, and how many of the tables (dtv, some 310 bytes) that glibc makes for a block fit.
const ROOM_BYTES: usize = 112 << 10;
const BLOCKS_PER_ROOM: u32 = 340;

/// Lets malloc grow this thread's arena in one piece: by itself it does so page by page, a system call each under the lock
/// that page faults take. (Larger requests, and more free memory, malloc gives straight back to the system.)
#[cold]
fn make_room() {
    // SAFETY: no preconditions.
    let room = std::hint::black_box(unsafe { libc::malloc(ROOM_BYTES) });
    // SAFETY: from malloc, or null.
    unsafe { libc::free(room) };
}

/// Whether a goroutine with a stack of `size` is bound when it is spawned.
pub(crate) fn binds_at_spawn(size: usize) -> bool {
    size != DEFAULT_STACK.load(Ordering::Relaxed) || stack::guards_may_run_out()
}

/// Gives a spawned goroutine a stack of `size`.
pub(crate) fn bind(g: &'static G, p: Option<&P>, size: usize) -> Result<(), StackError> {
    let stack = match p {
        // SAFETY: `p` is the caller's.
        Some(p) if size == DEFAULT_STACK.load(Ordering::Relaxed) => unsafe { p.stacks.pop(size) }?,
        _ => Stack::alloc(size)?,
    };
    // SAFETY: the stack is ours and nobody is on it.
    let co_stack = unsafe { CoStack::new(&stack.slot, stack.top) };
    let co = Coroutine::with_stack(co_stack, move |yielder: &Yielder<(), ()>, ()| {
        spawn::main_of(g, yielder)
    });
    // SAFETY: the G is ours; its last coroutine is done and needs no drop.
    unsafe { (*g.co.get()).write(co) };
    g.stack.set(Some(stack));
    g.parked.bound(stack.top);
    g.heap_slot.set(None);
    // The block names the thread of whoever ran on it last.
    g.last_m.set(0);
    Ok(())
}

/// Binds a goroutine at its first turn.
#[inline(never)]
pub(crate) fn bind_late(g: &'static G, p: &P) {
    if let Err(error) = bind(g, Some(p), DEFAULT_STACK.load(Ordering::Relaxed)) {
        crate::throw(&format!("a goroutine cannot begin: {error}"));
    }
}

/// The goroutine is over: its stack is made ready for the next.
pub(crate) fn unbind(g: &G, p: &P) {
    g.parked.unbound();
    let stack = g.stack.take().expect("a goroutine that ran has a stack");
    // SAFETY: nobody runs on the block any more.
    unsafe { tls::reset(stack.block) };
    if raddle_race::enabled() {
        // The next goroutine on this stack has nothing to do with this one's variables, nor with its thread-locals, which lie above.
        let (start, end) = (stack.slot.base(), stack.slot.top());
        raddle_race::clear_shadow(start, end - start);
    }
    if stack.slot.bytes() == DEFAULT_STACK.load(Ordering::Relaxed) {
        // SAFETY: `p` is the caller's.
        unsafe { p.stacks.push(stack) };
    } else {
        stack::free(std::iter::once(stack.slot.used()));
    }
}

/// Gives the memory of long idle stacks back to the system: at most `max` of each size, and not of the newest `keep`.
pub(crate) fn trim_idle_stacks(keep: usize, max: usize) {
    stack::trim(keep, max, |slot| {
        // SAFETY: no goroutine is on an idle slot, and its memory goes now.
        unsafe { tls::destroy(Stack::find(slot).block) };
    });
}
