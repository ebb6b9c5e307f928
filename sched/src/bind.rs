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
//! # How large a slot is
//!
//! What is asked for is the size of a slot, guard included, as long as the block takes next to
//! nothing: about 3 KiB in a small program. A program may have static thread-locals of any size and
//! alignment. What they take beyond [`FREE_FOR_BLOCK`] comes on top of what was asked for, which is
//! meant for the stack. The most that a block can take is the same for the whole process
//! (`tls::block_bytes`), so a size leads to the same class at all times.
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

/// The size of slot for a goroutine that asks for nothing: bytes of address space, of which it pays
/// for what it touches.
static DEFAULT_SLOT: AtomicUsize = AtomicUsize::new(stack::DEFAULT_BYTES);

/// The largest stack that may be asked for, in bytes. There are larger slots, for what lies beside
/// it.
const MAX_STACK_BYTES: usize = 1 << 30;
/// What a block may take out of what was asked for, in bytes: that of a small program does, with
/// glibc's reserve for libraries that are opened later.
pub(crate) const FREE_FOR_BLOCK: usize = 6 << 10;

/// The smallest stack in race mode, in bytes: an event, with the walk of a report, takes some 4 KiB of it where nothing is optimised
/// (names are looked up elsewhere: `big_stack`), and the frames of instrumented code are larger than plain ones.
const RACE_MIN_BYTES: usize = 32 << 10;

/// Settles what a goroutine that asks for nothing gets: a stack of `bytes`; 0: of 256 KiB. Once, at
/// boot, when it is known whether thread-locals follow the goroutine.
pub(crate) fn set_default(bytes: usize) -> Result<(), StackError> {
    let bytes = match bytes {
        0 => stack::DEFAULT_BYTES,
        bytes => bytes,
    };
    DEFAULT_SLOT.store(slot_for(bytes)?, Ordering::Relaxed);
    Ok(())
}

fn default_slot() -> usize {
    DEFAULT_SLOT.load(Ordering::Relaxed)
}

/// The size of slot for a goroutine that asks for a stack of `bytes`; 0: for the default.
pub(crate) fn slot_bytes(bytes: usize) -> Result<usize, StackError> {
    match bytes {
        0 => Ok(default_slot()),
        bytes => slot_for(bytes),
    }
}

fn slot_for(asked: usize) -> Result<usize, StackError> {
    let least = if raddle_race::enabled() {
        RACE_MIN_BYTES
    } else {
        stack::MIN_BYTES
    };
    slot_beside(asked.max(least), tls::block_bytes())
}

/// The size of slot for a stack of `bytes`, at least the smallest, where blocks take up to `block`.
fn slot_beside(bytes: usize, block: usize) -> Result<usize, StackError> {
    if bytes > MAX_STACK_BYTES {
        return Err(StackError::TooLarge {
            asked: bytes,
            max: MAX_STACK_BYTES,
        });
    }
    let slot = bytes.saturating_add(block.saturating_sub(FREE_FOR_BLOCK));
    if slot > stack::MAX_BYTES {
        return Err(StackError::ThreadLocals {
            asked: bytes,
            thread_locals: block,
            max: stack::MAX_BYTES,
        });
    }
    stack::slot_bytes(slot)
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
        // SAFETY: the slot is ours and fresh, its top a multiple of the page size, and
        // `slot_beside` has left room for a block.
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

/// Whether a goroutine with a slot of `size` is bound when it is spawned.
pub(crate) fn binds_at_spawn(size: usize) -> bool {
    size != default_slot() || stack::guards_may_run_out()
}

/// Gives a spawned goroutine a stack in a slot of `size`, as [`slot_bytes`] says.
pub(crate) fn bind(g: &'static G, p: Option<&P>, size: usize) -> Result<(), StackError> {
    let stack = match p {
        // SAFETY: `p` is the caller's.
        Some(p) if size == default_slot() => unsafe { p.stacks.pop(size) }?,
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
    if let Err(error) = bind(g, Some(p), default_slot()) {
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
    if stack.slot.bytes() == default_slot() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{MAX_BYTES, MIN_BYTES, PAGE_BYTES};

    #[test]
    fn a_small_block_costs_no_address_space() {
        for bytes in [MIN_BYTES, 64 << 10, 256 << 10, 8 << 20, MAX_STACK_BYTES] {
            assert_eq!(slot_beside(bytes, FREE_FOR_BLOCK), Ok(bytes));
        }
        assert_eq!(slot_beside(100 << 10, FREE_FOR_BLOCK), Ok(128 << 10));
    }

    #[test]
    fn a_large_block_comes_on_top() {
        assert_eq!(slot_beside(256 << 10, FREE_FOR_BLOCK + 1), Ok(512 << 10));
        assert_eq!(slot_beside(64 << 10, 100 << 10), Ok(256 << 10));
        assert_eq!(slot_beside(MIN_BYTES, 1 << 20), Ok(2 << 20));
        assert_eq!(slot_beside(MAX_STACK_BYTES, 1 << 20), Ok(2 << 30));
    }

    #[test]
    fn what_is_left_for_the_stack_is_what_was_asked_for() {
        for shift in 14..28 {
            for bytes in [1_usize << shift, (1 << shift) + 1, 3 << (shift - 1)] {
                for block in (0..28).map(|shift| (1 << shift) + 123) {
                    let slot = slot_beside(bytes, block).expect("not too large");
                    assert!(slot.is_power_of_two());
                    let stack = slot.checked_sub(block + PAGE_BYTES).expect("a stack");
                    assert!(stack + PAGE_BYTES + FREE_FOR_BLOCK >= bytes);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_reason() {
        let thread_locals = 1100 << 20;
        let refused = StackError::ThreadLocals {
            asked: MAX_STACK_BYTES,
            thread_locals,
            max: MAX_BYTES,
        };
        assert_eq!(slot_beside(MAX_STACK_BYTES, thread_locals), Err(refused));
        let text = "static thread-locals take 1153433600 bytes of every goroutine";
        assert!(refused.to_string().contains(text));
        assert!(slot_beside(MIN_BYTES, usize::MAX).is_err());
        for asked in [MAX_STACK_BYTES + 1, usize::MAX] {
            let max = MAX_STACK_BYTES;
            assert_eq!(
                slot_beside(asked, 0),
                Err(StackError::TooLarge { asked, max })
            );
        }
    }

    #[test]
    fn a_block_of_this_program_is_small() {
        tls::init().expect("a glibc that will do");
        assert!(
            tls::block_bytes() <= FREE_FOR_BLOCK,
            "{}",
            tls::block_bytes()
        );
    }
}
