//! What a signal handler does while it runs: its synchronisation counts, its accesses do not.
//!
//! A handler interrupts its thread anywhere: also in an event that holds a lock of the detector or
//! has changed half of a context. So it has a context of its own, from a few that are kept for
//! this: quiet, without a slot, ordered after the interrupted thread so far and after who sent the
//! signal. When it returns, the thread is ordered after what the handler has acquired.
//!
//! | interrupted | whose context the handler's follows |
//! | --- | --- |
//! | the program, or libc called by it | the thread's |
//! | a call that blocks (`blocking`), while the thread has no context | that of the call, which is in [`AWAY`] |
//! | another handler | that handler's |
//! | the detector, in what is not to be seen half done (`mem::Busy`); the runtime; who is not watched | none: the handler is not watched |
//!
//! # Handlers that are left by `siglongjmp`
//! Each handler that runs has a [`Frame`] on its stack. A jump to a place above one leaves that
//! handler, and ends it as its return does.
//!
//! # Invariants
//! 1. All here is async-signal-safe: no lock is taken that the interrupted thread can have
//!    (`mem::is_busy`), and the thread-locals have no destructors.
//! 2. The thread's context is changed only where the detector is not in the middle of something:
//!    its clock grows, and its epoch moves on. An event that was about to happen is ordered after
//!    the handler, or as if it had happened before.
//! 3. The frames are a list from the innermost outwards, all of them alive.
//!
//! # Why not
//! The thread's own context: an interrupted access may have written half an entry of the history.
//! Accesses of handlers: a report allocates and prints.

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

use super::real::{keep_errno, real};
use super::{desc, watch_again};
use crate::ctx::Ctx;
use crate::current::current;
use crate::mem::{self, Busy, SpinLock};
use crate::{GoCtx, acquire_g, enabled, set_current, switch_in, switch_out};

/// A handler that runs.
struct Frame {
    outer: *const Frame,
    /// The thread's context when it was interrupted, ...
    before: Option<GoCtx>,
    /// ... that of the call which it was in, ...
    away: Option<GoCtx>,
    /// ... and the handler's own, if it is watched.
    own: Option<GoCtx>,
}

thread_local! {
    static INNERMOST: Cell<*const Frame> = const { Cell::new(ptr::null()) };
    /// The context that the thread will have again when a blocking call returns.
    static AWAY: Cell<Option<GoCtx>> = const { Cell::new(None) };
}

/// The thread is about to block, and leaves its slot to others. Returns what [`comes_back`] takes.
pub(super) fn goes_away(me: GoCtx) -> Option<GoCtx> {
    let _busy = Busy::new();
    let outer = AWAY.replace(Some(me));
    switch_out(me);
    outer
}

/// The call has returned.
pub(super) fn comes_back(me: GoCtx, outer: Option<GoCtx>) {
    let _busy = Busy::new();
    switch_in(me);
    AWAY.set(outer);
}

/// The thread's context ends.
pub(super) fn forgets() {
    AWAY.set(None);
}

/// Runs a handler of the signal.
pub(super) fn run(signal: c_int, handler: impl FnOnce()) {
    let before = current();
    // The runtime's own may change the thread, and with it the thread-locals.
    if !enabled() || signal == libc::SIGURG {
        set_current(None);
        handler();
        return watch_again(before);
    }
    let away = AWAY.get();
    let own = follows(before.or(away), signal);
    let frame = Frame {
        outer: INNERMOST.get(),
        before,
        away,
        own,
    };
    INNERMOST.set(&frame);
    AWAY.set(None);
    set_current(own);
    handler();
    frame.ends();
    if let Some(own) = own.filter(|_| enabled()) {
        keep_errno(|| KEPT.give(own));
    }
}

/// A context for a handler that has interrupted `thread`.
fn follows(thread: Option<GoCtx>, signal: c_int) -> Option<GoCtx> {
    let thread = thread.filter(|c| !mem::is_busy() && c.get().is_outside())?;
    keep_errno(|| {
        let own = KEPT.take();
        own.get().begin_as_handler(thread.get());
        if let Some(sent) = desc::signal_object(signal) {
            acquire_g(own, sent.addr());
        }
        Some(own)
    })
}

impl Frame {
    /// The handler returns, or is left. In a child of `fork` nobody is watched.
    fn ends(&self) {
        INNERMOST.set(self.outer);
        AWAY.set(self.away);
        watch_again(self.before);
        if let (Some(own), Some(thread)) = (self.own, self.before.or(self.away))
            && enabled()
        {
            thread.get().end_handler(own.get());
        }
    }

    /// Whether a jump to where the stack pointer is `target` leaves the handler.
    fn is_left_for(&self, target: usize) -> bool {
        let me = ptr::from_ref(self).addr();
        let mut stack = MaybeUninit::<libc::stack_t>::uninit();
        // SAFETY: asks only, and there is room.
        let error = unsafe { libc::sigaltstack(ptr::null(), stack.as_mut_ptr()) };
        if error == 0 {
            // SAFETY: filled by the call.
            let stack = unsafe { stack.assume_init() };
            let at = stack.ss_sp.addr();
            let own_stack = at..at + stack.ss_size;
            if own_stack.contains(&me) && !own_stack.contains(&target) {
                return true;
            }
        }
        target > me
    }
}

/// The thread is about to go on where the stack pointer was `target`.
fn jumps(target: usize) {
    // SAFETY: null, or a frame of a handler that still runs (invariant 3).
    while let Some(frame) = unsafe { INNERMOST.get().as_ref() }
        && frame.is_left_for(target)
    {
        frame.ends();
        if let Some(own) = frame.own {
            // Its calls do not return, so it is not used again.
            Ctx::destroy(own);
        }
        if let (None, Some(away)) = (frame.before, frame.away) {
            // The blocking call is left too.
            comes_back(away, None);
        }
    }
}

/// Contexts of handlers that have returned.
struct Kept {
    lock: SpinLock,
    all: UnsafeCell<[Option<GoCtx>; 16]>,
}

// SAFETY: the contexts are used under the lock.
unsafe impl Sync for Kept {}

static KEPT: Kept = Kept {
    lock: SpinLock::new(),
    all: UnsafeCell::new([None; 16]),
};

impl Kept {
    fn take(&self) -> GoCtx {
        let kept = {
            let _held = self.lock.lock();
            // SAFETY: with the lock held nobody else has a reference.
            let all = unsafe { &mut *self.all.get() };
            all.iter_mut().find_map(Option::take)
        };
        kept.unwrap_or_else(Ctx::create_for_handlers)
    }

    fn give(&self, own: GoCtx) {
        let is_kept = {
            let _held = self.lock.lock();
            // SAFETY: with the lock held nobody else has a reference.
            let all = unsafe { &mut *self.all.get() };
            let free = all.iter_mut().find(|kept| kept.is_none());
            free.map(|kept| *kept = Some(own)).is_some()
        };
        if !is_kept {
            Ctx::destroy(own);
        }
    }
}

/// glibc's `__jmp_buf`, the first part of a `jmp_buf`: registers that a call keeps, two of them
/// mangled.
#[repr(C)]
struct Registers {
    others: [usize; 6],
    stack: usize,
    code: usize,
}

/// The stack pointer that is in there: turned, and mixed with a number of the thread control block
/// (`PTR_MANGLE` of glibc).
fn stack_of(registers: &Registers) -> usize {
    let guard: usize;
    // SAFETY: reads a word that every thread control block of glibc has.
    unsafe {
        std::arch::asm!(
            "mov {guard}, fs:[0x30]",
            guard = out(reg) guard,
            options(nostack, preserves_flags, readonly),
        );
    }
    registers.stack.rotate_right(17) ^ guard
}

/// C functions that go on where their first argument says.
macro_rules! jumps {
    ($($NAME:ident $name:ident;)*) => {
        real! { $(static $NAME: fn $name(*mut Registers, c_int) -> !;)* }
        $(#[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(to: *mut Registers, value: c_int) -> ! {
            if enabled() {
                // SAFETY: the caller's, filled by `setjmp`.
                jumps(stack_of(unsafe { &*to }));
            }
            // SAFETY: the caller's arguments; nothing is to be dropped here.
            unsafe { $NAME.get()(to, value) }
        })*
    };
}

jumps! {
    LONGJMP longjmp;
    LONGJMP_OLD _longjmp;
    SIGLONGJMP siglongjmp;
    LONGJMP_CHK __longjmp_chk;
}
