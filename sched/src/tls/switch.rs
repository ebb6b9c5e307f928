//! The mode, and the switch of thread pointers: the hot part of this module.
//!
//! # Memory ordering
//! `MODE`, `TID` and `OWNER` are written once, by `init` at boot, before any block exists; whoever has a
//! block got it from code that ran after. So Relaxed.
//!
//! # Blocking
//! Neither. A switch is one store and one instruction, behind a branch that never changes its mind.

use super::block::Block;
use crate::arch;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Where thread-locals live, and how a switch moves them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TlsMode {
    /// They belong to the OS thread: a goroutine that moves finds others, and safe code is unsound.
    Thread = 0,
    /// They belong to the goroutine; a switch is a system call.
    ArchPrctl = 1,
    /// They belong to the goroutine; a switch is an instruction.
    FsBase = 2,
}

impl TlsMode {
    /// The mode's name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::ArchPrctl => "arch_prctl",
            Self::FsBase => "fsbase",
        }
    }
}

/// The mode as a number. Written once at boot, before any block exists.
static MODE: AtomicU8 = AtomicU8::new(TlsMode::Thread as u8);
/// Offset of the thread id in a block. Written as above.
static TID: AtomicUsize = AtomicUsize::new(0);
/// Offset of the word that names the OS thread's block. Written as above.
static OWNER: AtomicUsize = AtomicUsize::new(0);

/// Sets the mode, and the offsets of the words that a switch writes, for good.
pub(super) fn set_mode(mode: TlsMode, tid: usize, owner: usize) {
    TID.store(tid, Relaxed);
    OWNER.store(owner, Relaxed);
    MODE.store(mode as u8, Relaxed);
}

/// Returns the mode that [`init`](super::init) chose; [`TlsMode::Thread`] before it.
#[inline(always)]
pub(crate) fn mode() -> TlsMode {
    match MODE.load(Relaxed) {
        2 => TlsMode::FsBase,
        1 => TlsMode::ArchPrctl,
        _ => TlsMode::Thread,
    }
}

/// Returns the block that is active: on g0 the OS thread's own.
#[inline(always)]
pub(crate) fn thread_block() -> Block {
    match mode() {
        TlsMode::Thread => Block::NONE,
        _ => Block::at_address(arch::thread_pointer()),
    }
}

/// Makes `block` the active one; if it has `moved` since it was last active, gives it the number of the OS thread that
/// runs it now.
///
/// # Safety
/// To be called on g0; `block` must come from [`create`](super::create) and be active nowhere.
#[inline(always)]
pub(crate) unsafe fn enter(block: Block, tid: i32, moved: bool) {
    let mode = mode();
    if mode == TlsMode::Thread {
        return;
    }
    if moved {
        let at = TID.load(Relaxed) as isize;
        // SAFETY: the field of that name in a complete block.
        unsafe { block.write(at, tid) };
        let owner = OWNER.load(Relaxed) as isize;
        // SAFETY: our word in a block that create made.
        unsafe { block.write(owner, thread_block()) };
    }
    // SAFETY: as the caller owes.
    unsafe { switch(mode, block) };
}

/// Makes the OS thread's own block the active one again.
///
/// # Safety
/// To be called on the thread whose [`thread_block`] was `m` before [`enter`].
#[inline(always)]
pub(crate) unsafe fn leave(m: Block) {
    let mode = mode();
    if mode != TlsMode::Thread {
        // SAFETY: as the caller owes.
        unsafe { switch(mode, m) };
    }
}

/// Makes the OS thread's own block active where a goroutine's is. Returns that one.
///
/// Until [`come_back`] the caller's thread-locals are the thread's.
#[inline(never)]
pub(crate) fn leave_for_own() -> Option<Block> {
    let active = thread_block();
    if mode() == TlsMode::Thread || !crate::stack::contains(active.address()) {
        return None;
    }
    // SAFETY: blocks in slots are those that `create` made, and an active one names its owner.
    let own: Block = unsafe { active.read(OWNER.load(Relaxed) as isize) };
    // SAFETY: the block of the thread that runs here.
    unsafe { leave(own) };
    Some(active)
}

/// Undoes [`leave_for_own`]. `tid` is the number of the thread, if it has got another.
///
/// # Safety
/// `block` is what [`leave_for_own`] returned, on this thread.
#[inline(never)]
pub(crate) unsafe fn come_back(block: Block, tid: Option<i32>) {
    // SAFETY: a complete block that is active nowhere.
    unsafe { enter(block, tid.unwrap_or(0), tid.is_some()) };
}

#[inline(always)]
unsafe fn switch(mode: TlsMode, block: Block) {
    if mode == TlsMode::FsBase {
        // SAFETY: init chose this mode because the instruction works; the block is complete.
        unsafe { arch::set_thread_pointer(block.address()) };
    } else {
        // SAFETY: as above.
        let set = unsafe { arch::set_thread_pointer_by_kernel(block.address()) };
        if set.is_err() {
            // The wrong block is active now, which is enough for what `throw` does.
            crate::throw(
                "the kernel refused arch_prctl(ARCH_SET_FS), which moves thread-locals with the \
                 goroutine, and had allowed it at the start: a seccomp filter that the program \
                 installs must allow it",
            );
        }
    }
}
