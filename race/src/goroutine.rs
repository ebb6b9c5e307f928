//! The lives of goroutines, as the scheduler announces them: start, end, calls, and what is to be ignored.

use crate::ctx::{Ctx, GoCtx};
use crate::current::{current, set_current};
use crate::real_stack::with_callers;
use crate::{Pc, slot};

/// A new goroutine, ordered after what `parent` has done so far; without a parent, after everything
/// so far. Its races are put on the parent's [`Tally`](crate::Tally), if there is one.
///
/// # Happens-before
/// The parent's past happens before the child's start.
pub(crate) fn go_start(parent: Option<GoCtx>, goid: u64, pc: Pc) -> GoCtx {
    let Some(parent) = parent else {
        let ctx = Ctx::create(goid, 0, created_at(None, pc));
        ctx.get().acquire_everything();
        return ctx;
    };
    let p = parent.get();
    let child = Ctx::create(goid, p.record().goid(), created_at(Some(p), pc));
    child.get().record().set_tally(p.record().tally());
    child.get().clock.copy_from(&p.clock);
    slot::tick(p);
    child
}

/// A new goroutine that no goroutine starts, such as a timer's: ordered after nothing until it acquires. Its id is 0 until it
/// calls [`set_goid`]; `pc` is the place that stands for its start in reports.
///
/// # Happens-before
/// None.
pub(crate) fn go_start_orphan(pc: Pc) -> GoCtx {
    Ctx::create(0, 0, created_at(None, pc))
}

/// The place of a creation with its callers; none, where there is no place.
fn created_at(creator: Option<&Ctx>, pc: Pc) -> Pc {
    match pc.is_none() {
        true => pc,
        false => with_callers(creator, pc),
    }
}

/// The goroutine has a name, which reports know also after its end.
pub(crate) fn set_name(ctx: GoCtx, name: &str) {
    ctx.get().record().set_name(name);
}

/// The current goroutine's id, where it was not known at its start. To be called before its first access.
pub fn set_goid(goid: u64) {
    if let Some(c) = current() {
        c.get().record().set_goid(goid);
    }
}

/// The goroutine ended. Its history is kept for reports for a while; the context must not be used again.
///
/// # Happens-before
/// None by itself: a joiner acquires what the goroutine released.
pub fn go_end(ctx: GoCtx) {
    if current() == Some(ctx) {
        set_current(None);
    }
    Ctx::destroy(ctx);
}

/// A context for an OS thread that the runtime did not make: ordered after everything so far.
pub(crate) fn thread_start(goid: u64) -> GoCtx {
    go_start(None, goid, Pc::NONE)
}

/// The goroutine (the one that runs finalizers) is ordered after everything so far.
pub fn finalizer_goroutine(ctx: GoCtx) {
    ctx.get().acquire_everything();
}

/// From here on the current goroutine's accesses do not count, until as many [`ignore_end`]s.
pub fn ignore_begin() {
    if let Some(c) = current() {
        c.get().ignore_accesses(|n| n.checked_add(1));
    }
}

/// Ends one [`ignore_begin`].
///
/// # Panics
/// Without a matching begin.
#[track_caller]
pub fn ignore_end() {
    if let Some(c) = current() {
        let ended = c.get().ignore_accesses(|n| n.checked_sub(1));
        assert!(ended, "race ignore_end without ignore_begin");
    }
}

/// From here on the current goroutine's synchronisation makes no edges, until as many [`ignore_sync_end`]s.
pub fn ignore_sync_begin() {
    if let Some(c) = current() {
        c.get().ignore_sync += 1;
    }
}

/// Ends one [`ignore_sync_begin`].
///
/// # Panics
/// Without a matching begin.
#[track_caller]
pub fn ignore_sync_end() {
    if let Some(c) = current() {
        let c = c.get();
        c.ignore_sync = c
            .ignore_sync
            .checked_sub(1)
            .expect("race ignore_sync_end without ignore_sync_begin");
    }
}

/// The goroutine goes into the runtime: until [`runtime_exit`], what compiled code does is not the program's. Calls nest. Returns whose event
/// it was, for the exit.
///
/// Never inlined: into a crate that is instrumented.
#[inline(never)]
pub(crate) fn runtime_enter() -> Option<GoCtx> {
    current().inspect(|ctx| {
        let c = ctx.get();
        c.set_inside(c.inside() + 1);
    })
}

/// Ends one [`runtime_enter`](crate::runtime_enter), of the goroutine that it returned.
#[inline(never)]
pub fn runtime_exit(ctx: GoCtx) {
    let c = ctx.get();
    c.set_inside(c.inside() - 1);
}

/// From inside the runtime the goroutine calls a function of the program. Returns what [`runtime_resume`] takes.
#[inline(never)]
pub fn runtime_pause(ctx: GoCtx) -> u32 {
    ctx.get().set_inside(0)
}

/// The function that was called after [`runtime_pause`] has returned.
#[inline(never)]
pub fn runtime_resume(ctx: GoCtx, paused: u32) {
    ctx.get().set_inside(paused);
}

/// The current goroutine calls a function; `pc` is the place of the call.
pub fn func_enter(pc: Pc) {
    if let Some(c) = current() {
        c.get().enter(pc);
    }
}

/// The current goroutine's innermost call returned.
pub fn func_exit() {
    if let Some(c) = current() {
        c.get().exit();
    }
}
