//! Life and death of a goroutine.
//!
//! # Layout of a stack slot
//!
//! ```text
//!   top    G | thread control block | thread-locals      made once per slot, kept for the next goroutine
//!          closure's data                                moved here by `spawn`
//!          stack, growing downwards
//!   base   guard page
//! ```
//!
//! # Invariants
//!
//! 1. A dead G lies on a free list with its slot and thread-local block, reset; the next goroutine of that size takes it.
//! 2. A goroutine's own code, thread-local destructors included, runs on its stack. What must not run there (giving the stack
//!    away) and what must come after it (`fini`: telling the joiner) runs on g0.
//! 3. No panic leaves the entry: `Task::entry` catches its own, and one that still comes aborts.
//!
//! # Why not
//!
//! A boxed closure costs a malloc and a free per goroutine, and both land in different threads' caches. The data moves to
//! the new stack instead, which has to be touched anyway.

use crate::g::G;
use crate::m::M;
use crate::p::{FreeList, P};
use crate::rt::{self, Rt};
use crate::sched::{Sched, Wake, sched};
use crate::stack::{self, CoStack, Slot, StackError};
use crate::tls;
use corosensei::{Coroutine, Yielder};
use raddle_race::{GoCtx, Pc, ProcCtx};
use std::alloc::Layout;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many dead Gs a P takes from the pool at once.
const REFILL: usize = 32;

/// What a goroutine is given beside what it runs.
#[derive(Clone, Debug)]
pub struct SpawnOptions {
    /// Its name in panics and reports.
    pub name: Option<Arc<str>>,
    /// Bytes of address space for its stack; 0 for the default.
    pub stack_size: usize,
    /// The `go` statement.
    pub at: &'static Location<'static>,
    /// Its race context, where it is not to be a child of the caller's: the main goroutine's.
    pub race: Option<GoCtx>,
}

/// What a goroutine runs: the thin form that `go` and its kin make of a closure.
///
/// `entry(data)` runs on the new stack, to where the `layout` bytes at `data` have been moved. After it, and after the
/// goroutine's thread-local destructors, `fini(rt, fini_arg)` runs in the scheduler: it may make others ready, and must not park.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// The closure.
    pub data: *const u8,
    /// Its size and alignment: at most a quarter of the stack.
    pub layout: Layout,
    /// Runs the closure, consuming it. Must not unwind.
    pub entry: unsafe fn(*mut u8),
    /// Tells whoever waits that the goroutine is over.
    pub fini: unsafe fn(&Rt, *mut ()),
    /// Given to `fini`.
    pub fini_arg: *mut (),
}

/// The default stack size: bytes of address space, of which a goroutine pays for what it touches.
pub(crate) static DEFAULT_STACK: std::sync::atomic::AtomicUsize =
    std::sync::atomic::AtomicUsize::new(stack::DEFAULT_BYTES);

impl Rt {
    /// Starts a goroutine; it runs next on this P. Returns its id.
    ///
    /// # Errors
    ///
    /// No stack could be had; the task's data is still the caller's.
    ///
    /// # Safety
    ///
    /// `task` is as its type says. When this returns `Ok`, its data has been moved from.
    ///
    /// # Panics
    ///
    /// If the data is larger than a quarter of the stack.
    ///
    /// # Happens-before
    ///
    /// The call happens before the goroutine's first step.
    pub unsafe fn spawn(&self, task: &Task, options: &SpawnOptions) -> Result<u64, StackError> {
        crate::boot::ensure();
        let s = sched();
        let p = self.m().and_then(M::p);
        let default = DEFAULT_STACK.load(Ordering::Relaxed);
        let size = if options.stack_size == 0 { default } else { options.stack_size };
        let dead = if size == default { p.and_then(|p| p.pop_free().or_else(|| refill(p, size))) } else { None };
        let g = match dead {
            Some(g) => g,
            None => from_pool(s, size)?,
        };
        let slot = g.slot.get().expect("a goroutine has a slot");
        assert!(task.layout.size() <= slot.bytes() / 4, "a goroutine's closure is larger than a quarter of its stack");
        let data = (g.stack_top - task.layout.size()) & !(task.layout.align().max(16) - 1);
        // SAFETY: the top of an unused stack, aligned for the data; the data is the caller's to move.
        unsafe { ptr::copy_nonoverlapping(task.data, data as *mut u8, task.layout.size()) };
        // SAFETY: the G is Idle and ours, and so is its slot.
        let stack = unsafe { CoStack::new(&slot, data) };
        let co = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| main_of(g, yielder));
        // SAFETY: the G is ours; its last coroutine is done and needs no drop.
        unsafe { (*g.co.get()).write(co) };
        g.entry.set(Some((task.entry, data as *mut u8)));
        g.fini.set(Some((task.fini, task.fini_arg)));
        g.name.set(options.name.clone());
        g.created_at.set(Some(options.at));
        g.rt_depth.set(1);
        let id = match p {
            Some(p) => {
                p.add_live(1);
                p.next_id(|n| s.next_goid.fetch_add(n, Ordering::Relaxed))
            }
            None => {
                s.live_elsewhere.fetch_add(1, Ordering::Relaxed);
                s.next_goid.fetch_add(1, Ordering::Relaxed)
            }
        };
        g.id.set(id);
        if raddle_race::enabled() {
            let start = || raddle_race::go_start(raddle_race::current(), id, Pc::at(options.at));
            g.race.set(Some(options.race.unwrap_or_else(start)));
        }
        g.state.transition_to_spawned();
        self.make_next(g, Wake::ForNext);
        Ok(id)
    }
}

/// Brings dead Gs from the pool of stacks to an empty local list.
#[cold]
fn refill(p: &P, size: usize) -> Option<&'static G> {
    let mut batch = FreeList::new();
    stack::alloc_warm(size, REFILL, |slot| {
        // SAFETY: an idle slot has the dead G of its last goroutine at its top.
        batch.push(unsafe { &*g_of(slot) });
    });
    let first = batch.pop()?;
    p.refill_free(batch);
    Some(first)
}

/// A G from the pool of stacks: a dead one with its slot, or a new one in a fresh slot.
#[cold]
fn from_pool(s: &Sched, size: usize) -> Result<&'static G, StackError> {
    let slot = stack::alloc(size)?;
    let at = g_of(slot);
    if !slot.fresh {
        // SAFETY: a slot that is not fresh has the dead G of its last goroutine at its top.
        return Ok(unsafe { &*at });
    }
    let g = at;
    let at = at as usize;
    // SAFETY: the slot is ours, fresh, and far larger than a block.
    let (block, stack_top) = unsafe { tls::create(at) };
    // SAFETY: inside the slot, aligned, and nobody else's.
    unsafe { g.write(G::new(false, block, stack_top, Some(slot))) };
    // SAFETY: just written; slots are never unmapped.
    let g = unsafe { &*g };
    // SAFETY: the block was just made.
    unsafe { tls::describe_stack(block, slot.base(), stack_top) };
    s.remember(g);
    Ok(g)
}

/// The outermost frame of a goroutine.
fn main_of(g: &'static G, yielder: &Yielder<(), ()>) {
    g.yielder.set(yielder);
    rt::set_current(g);
    if raddle_race::enabled() {
        raddle_race::set_current(g.race.get());
    }
    // It was resumed as if inside the runtime.
    drop(Rt::resumed(g));
    let (entry, data) = g.entry.take().expect("spawn sets it");
    // SAFETY: the data was moved here, and nobody else runs the entry.
    let body = std::panic::AssertUnwindSafe(|| unsafe { entry(data) });
    if std::panic::catch_unwind(body).is_err() {
        crate::throw("a panic left the outermost frame of a goroutine");
    }
    // SAFETY: the active block is this goroutine's, which ends.
    unsafe { tls::run_dtors(g.block) };
    let rt = crate::enter();
    // From here to the end nobody takes the P: the guard ends with the stack, on g0.
    std::mem::forget(rt);
    g.after.set(Some((after_end, ptr::null_mut())));
}

/// The goroutine is off its stack for the last time.
unsafe fn after_end(m: &'static M, g: &'static G, _arg: *mut ()) {
    if !g.locked_m.get().is_null() {
        unlock_thread(g, m);
    }
    g.name.set(None);
    // SAFETY: nobody runs on the block any more.
    unsafe { tls::reset(g.block) };
    let ctx = g.race.take();
    if ctx.is_some() {
        // The next goroutine on this stack has nothing to do with this one's variables.
        let base = g.slot.get().expect("a goroutine has a slot").base();
        raddle_race::clear_shadow(base, g.stack_top - base);
    }
    let fini = g.fini.take().expect("spawn sets it");
    g.dies();
    let default = stack_is_default(g);
    match m.p() {
        Some(p) => {
            p.add_live(-1);
            if !default {
                retire(std::iter::once(g));
            } else if let Some(mut rest) = p.push_free(g) {
                retire(std::iter::from_fn(|| rest.pop()));
            }
        }
        None => crate::throw("a goroutine ended without a P"),
    }
    let rt = Rt::on_g0(m);
    // SAFETY: the task's contract.
    unsafe { (fini.0)(&rt, fini.1) };
    if let Some(ctx) = ctx {
        raddle_race::go_end(ctx);
    }
}

fn stack_is_default(g: &G) -> bool {
    let slot = g.slot.get().expect("a goroutine has a slot");
    slot.bytes() == DEFAULT_STACK.load(Ordering::Relaxed).next_power_of_two()
}

/// Where the G of a slot lies: 16 bytes into a cache line, of which the thread control block below has those 16.
fn g_of(slot: Slot) -> *mut G {
    (((slot.top() - size_of::<G>() - 16) & !63) + 16) as *mut G
}

/// Gives dead Gs with their slots to the pool of stacks, for all Ps.
pub(crate) fn retire(gs: impl Iterator<Item = &'static G>) {
    stack::free(gs.map(|g| g.slot.get().expect("a goroutine has a slot").used()));
}

/// Gives the memory of long idle stacks back to the system: at most `max` of each size, and not of the newest `keep`.
pub(crate) fn trim_idle_stacks(keep: usize, max: usize) {
    stack::trim(keep, max, |slot| {
        // SAFETY: an idle slot has the dead G of its last goroutine at its top.
        let g = unsafe { &*g_of(slot) };
        // SAFETY: its goroutine is over, and its memory goes now.
        unsafe { tls::destroy(g.block) };
    });
}

/// Ends the bond of a goroutine and its thread.
pub(crate) fn unlock_thread(g: &G, m: &M) {
    m.locks.set(0);
    g.locked_m.set(ptr::null());
    m.locked_g.set(ptr::null());
}

/// The calling goroutine's id and name; `None` on a plain OS thread.
#[must_use]
pub fn current_goroutine() -> Option<(u64, Option<Arc<str>>)> {
    // SAFETY: null or a G; Gs are never freed.
    let g = unsafe { rt::current().as_ref() }?;
    (!g.is_thread).then(|| (g.id.get(), g.name()))
}

/// The name of goroutine `id`, if it is alive and has one. For reports: it looks at every goroutine.
#[must_use]
pub fn goroutine_name(id: u64) -> Option<Arc<str>> {
    find(id)?.name()
}

/// Whether goroutine `id` is alive. For reports, as [`goroutine_name`].
#[must_use]
pub fn goroutine_exists(id: u64) -> bool {
    find(id).is_some()
}

fn find(id: u64) -> Option<&'static G> {
    crate::sched::try_sched()?.all_gs().into_iter().find(|g| g.id.get() == id)
}

/// The race context of the caller's P, if it has one. Reads only: for the detector, on any path.
#[must_use]
pub fn current_proc_ctx() -> Option<ProcCtx> {
    // SAFETY: null or an M; Ms are never freed.
    unsafe { rt::this_m().as_ref() }?.p()?.race.get()
}

/// The number of goroutines alive, as of a moment during the call.
#[must_use]
pub fn num_goroutines() -> usize {
    let Some(s) = crate::sched::try_sched() else { return 0 };
    let on_ps: i64 = (0..crate::MAX_PROCS).map_while(|i| s.p(i)).map(P::live).sum();
    usize::try_from(on_ps + s.live_elsewhere.load(Ordering::Relaxed)).unwrap_or(0)
}
