//! Whose events these are: the one thread-local of the detector, and the switches that set it.
//!
//! # Invariants
//! 1. The word is [`OFF`]'s address or that of a live context, which belongs to what runs on this thread (or on this goroutine's own
//!    thread-local block).
//!
//! # Why assembly
//! Compiled code that was instrumented reads the word at every access, and does so inline: it must be a symbol with a fixed place
//! below the thread pointer, which `thread_local!` does not give. The word is never null, so that those reads need no branch.
//! In a fresh thread-local block, the template's copy, it is `OFF`.
//!
//! # Why not
//! A borrowed `LocalKey` value: the address of a thread-local must not be kept over a switch. `current` is never
//! inlined, reads one word, and returns the pointer.

use std::arch::{asm, global_asm};
use std::ptr::NonNull;

use crate::ctx::{GoCtx, Head, OFF};
use crate::slot::{self, NO_SLOT};

global_asm!(
    ".pushsection .tdata.raddle_race_current,\"awT\",@progbits",
    ".globl raddle_race_current",
    ".type raddle_race_current,@object",
    ".size raddle_race_current,8",
    ".p2align 3",
    "raddle_race_current:",
    ".quad {off}",
    ".popsection",
    off = sym OFF,
);

/// The calling thread's current context: whose events these are.
///
/// Never inlined: the address of a thread-local must not live over a goroutine switch.
#[inline(never)]
pub(crate) fn current() -> Option<GoCtx> {
    current_here()
}

/// [`current`], for functions that no goroutine can switch in.
#[inline(always)]
pub(crate) fn current_here() -> Option<GoCtx> {
    let word: *mut Head;
    // SAFETY: reads the word, which every thread-local block has (the linker puts the offset into the table).
    unsafe {
        asm!(
            "mov {at}, qword ptr [rip + raddle_race_current@GOTTPOFF]",
            "mov {at}, qword ptr fs:[{at}]",
            at = out(reg) word,
            options(nostack, preserves_flags, readonly),
        );
    }
    let word = NonNull::new(word).filter(|word| word.as_ptr().addr() != (&raw const OFF).addr());
    // SAFETY: by invariant 1 it is a live context.
    word.map(|word| unsafe { GoCtx::from_raw(word.cast()) })
}

/// Makes `ctx` (a `GoCtx`, or None: nothing is watched) the current context of the calling *thread-local block*.
///
/// Where thread-locals follow the goroutine, a goroutine calls this once when it starts. Where they belong to the
/// thread, the scheduler calls it at each switch, which `switch_in` and `switch_out` do already.
#[inline(never)]
pub fn set_current(ctx: impl Into<Option<GoCtx>>) {
    let off = (&raw const OFF).cast_mut().cast();
    let word: *mut () = ctx.into().map_or(off, |ctx| ctx.into_raw().as_ptr());
    // SAFETY: writes the word; see `current`.
    unsafe {
        asm!(
            "mov {at}, qword ptr [rip + raddle_race_current@GOTTPOFF]",
            "mov qword ptr fs:[{at}], {word}",
            at = out(reg) _,
            word = in(reg) word,
            options(nostack, preserves_flags),
        );
    }
}

/// A goroutine is about to run on this thread: it gets a slot and becomes the thread's current context.
///
/// Called on the thread's own stack (g0), for a goroutine that `switch_out` has left or that never ran. Also for a
/// foreign thread's own context, once.
///
/// # Blocking
/// Neither; one compare-exchange when the goroutine's last slot is still its own.
pub fn switch_in(ctx: GoCtx) {
    let c = ctx.get();
    if c.slot == NO_SLOT {
        slot::attach(c);
    }
    set_current(ctx);
}

/// The goroutine has left this thread: its slot may be taken, and the thread has no current context.
///
/// Must come before the goroutine can be made ready: before the unlock callback of a park.
///
/// # Blocking
/// Neither; one store.
pub fn switch_out(ctx: GoCtx) {
    slot::detach(ctx.get());
    set_current(None);
}
