//! Life and death of a goroutine.
//!
//! # Invariants
//!
//! 1. A dead G lies on a free list; it has no stack. The next goroutine takes it.
//! 2. A goroutine's own code, thread-local destructors included, runs on its stack. What must not run there (giving the stack
//!    away) and what must come after it (`fini`: telling the joiner) runs on g0.
//! 3. No panic leaves the entry: `Task::entry` catches its own, and one that still comes aborts, since it would have to
//!    unwind through the scheduler.
//!
//! # Why not
//!
//! - *A boxed closure*: a malloc and a free per goroutine, in different threads' caches. The data lies in the G instead.
//! - *A stack at the `go` statement*: a thousand goroutines that have not begun would hold a thousand cold stacks, where they
//!   can run one after the other on a warm one. It cost a third of a spawn.

use crate::arch::ControlWords;
use crate::bind::{self, bind, binds_at_spawn};
use crate::g::{DATA_BYTES, G};
use crate::m::M;
use crate::p::{FreeList, P};
use crate::rt::{self, Rt};
use crate::sched::{Sched, Wake, sched};
use crate::stack::StackError;
use crate::tls;
use corosensei::Yielder;
use raddle_race::{GoCtx, Pc, ProcCtx};
use std::alloc::Layout;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};

/// Dead or new Gs that a P takes at once.
const BATCH: usize = 32;

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
    /// It is the runtime's own: it counts neither among the goroutines alive nor for a deadlock, and no report lists it.
    pub system: bool,
}

impl SpawnOptions {
    /// A goroutine without a name, on a stack of the default size.
    #[must_use]
    pub fn new(at: &'static Location<'static>) -> Self {
        Self {
            name: None,
            stack_size: 0,
            at,
            race: None,
            system: false,
        }
    }
}

/// What a goroutine runs: the thin form that `go` and its kin make of a closure.
///
/// The `layout` bytes at `data` are moved to a place that lives until `entry`, called with it on the new stack, has read them.
/// After it, and after the
/// goroutine's thread-local destructors, `fini(rt, fini_arg)` runs in the scheduler: it may make others ready, and must not park.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// The closure.
    pub data: *const u8,
    /// Its size and alignment: at most [`DATA_BYTES`](crate::DATA_BYTES) and 16.
    pub layout: Layout,
    /// Runs the closure, consuming it. Must not unwind.
    pub entry: unsafe fn(*mut u8),
    /// On the goroutine's stack, in race mode, after its thread-local destructors, with `fini_arg`: the place to release what
    /// the joiner acquires.
    pub release: unsafe fn(*mut ()),
    /// Tells whoever waits that the goroutine is over.
    pub fini: unsafe fn(&Rt, *mut ()),
    /// Given to `fini`.
    pub fini_arg: *mut (),
}

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
    /// If the data is larger than [`DATA_BYTES`](crate::DATA_BYTES), or aligned to more than 16.
    ///
    /// # Happens-before
    ///
    /// The call happens before the goroutine's first step.
    pub unsafe fn spawn(&self, task: &Task, options: &SpawnOptions) -> Result<u64, StackError> {
        crate::boot::ensure();
        let s = sched();
        let p = self.m().and_then(M::p);
        assert!(
            task.layout.size() <= DATA_BYTES && task.layout.align() <= 16,
            "a closure that is too large for a G"
        );
        let size = bind::slot_bytes(options.stack_size)?;
        let g = take_dead(s, p);
        if binds_at_spawn(size)
            && let Err(error) = bind(g, p, size)
        {
            give_back(s, p, g);
            return Err(error);
        }
        // Before the data: the collector looks at that of a G with an entry.
        g.entry.set(Some(task.entry));
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the G is Idle and ours, the data is the caller's to move, and it fits.
        unsafe { ptr::copy_nonoverlapping(task.data, g.data.get().cast(), task.layout.size()) };
        g.system.set(options.system);
        g.fini.set(Some((task.fini, task.fini_arg)));
        if raddle_race::enabled() {
            g.release.set(Some((task.release, task.fini_arg)));
        }
        g.set_name(options.name.clone());
        g.created_at.set(Some(options.at));
        let id = match p {
            Some(p) => {
                p.add_live(i64::from(!options.system));
                p.next_id(|n| s.next_goid.fetch_add(n, Ordering::Relaxed))
            }
            None => {
                s.live_elsewhere
                    .fetch_add(i64::from(!options.system), Ordering::Relaxed);
                s.next_goid.fetch_add(1, Ordering::Relaxed)
            }
        };
        g.set_id(id);
        g.forks.set(s.forks);
        if raddle_race::enabled() {
            // SAFETY: the caller's own, for this call.
            let parent = || unsafe { raddle_race::current() };
            // SAFETY: the G has it, and who runs the G uses it.
            let start = || unsafe { raddle_race::go_start(parent(), id, Pc::at(options.at)) };
            let ctx = options.race.unwrap_or_else(start);
            if let Some(name) = &options.name {
                // SAFETY: it has not begun.
                unsafe { raddle_race::set_name(ctx, name) };
            }
            if options.race.is_some() {
                // It was made before the caller came this far.
                let key = ptr::from_ref(g).addr();
                raddle_race::release(key);
                raddle_race::acquire_g(ctx, key);
            }
            g.race.set(Some(ctx));
        }
        g.state.transition_to_spawned();
        self.make_next(g, Wake::ForNext);
        Ok(id)
    }
}

/// A dead G, or a new one.
fn take_dead(s: &Sched, p: Option<&P>) -> &'static G {
    match p {
        Some(p) => p.pop_free().unwrap_or_else(|| refill(s, p)),
        None => {
            let dead = s.free.lock().pop();
            dead.unwrap_or_else(|| s.new_gs(1).pop().expect("one was made"))
        }
    }
}

/// Brings dead Gs from the global list, or new ones, to an empty local list.
#[cold]
fn refill(s: &Sched, p: &P) -> &'static G {
    let mut batch = s.free.lock().take(BATCH as u32);
    if batch.len == 0 {
        batch = s.new_gs(BATCH);
    }
    let first = batch.pop().expect("a batch has a G");
    p.refill_free(batch);
    first
}

/// Puts a dead G on a free list.
fn give_back(s: &Sched, p: Option<&P>, g: &'static G) {
    let rest = match p {
        Some(p) => p.push_free(g),
        None => {
            let mut one = FreeList::new();
            one.push(g);
            Some(one)
        }
    };
    if let Some(rest) = rest {
        s.free.lock().append(rest);
    }
}

/// The outermost frame of a goroutine.
pub(crate) fn main_of(g: &'static G, yielder: &Yielder<(), ()>) {
    // SAFETY: the goroutine begins here.
    unsafe { ControlWords::DEFAULT.restore() };
    g.yielder.set(yielder);
    rt::set_current(g);
    if tls::mode() != tls::TlsMode::Thread {
        let slot = raddle_alloc::thread_slot();
        // SAFETY: this block's, which runs here.
        unsafe { slot.set(M::of(g).must_heap()) };
        g.heap_slot.set(Some(slot));
    }
    if raddle_race::enabled() {
        raddle_race::set_current(g.race.get());
    }
    // It was resumed as if inside the runtime.
    drop(Rt::resumed(g));
    // It may have yielded there. From the next line on the note alone says that the data is still in the G.
    g.parked.bound(g.stack.get().expect("it runs on it").top);
    compiler_fence(Ordering::SeqCst);
    let entry = g.entry.take().expect("spawn sets it");
    // A panic that gets here must not go on through the scheduler.
    let bomb = AbortOnUnwind;
    // SAFETY: the data was moved here, and nobody else runs the entry.
    unsafe { entry(g.data.get().cast()) };
    std::mem::forget(bomb);
    let block = g.stack.get().expect("it runs on it").block;
    // SAFETY: the active block is this goroutine's, which ends.
    unsafe { tls::run_dtors(block) };
    if raddle_race::enabled()
        && let Some((release, arg)) = g.release.take()
    {
        // SAFETY: the task's contract.
        unsafe { release(arg) };
    }
    let rt = crate::enter();
    // From here to the end nobody takes the P: the guard ends with the stack, on g0.
    std::mem::forget(rt);
    g.after.set(Some((after_end, ptr::null_mut())));
}

struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        crate::throw("a panic left the outermost frame of a goroutine");
    }
}

/// The goroutine is off its stack for the last time.
unsafe fn after_end(m: &'static M, g: &'static G, _arg: *mut ()) {
    let s = sched();
    let Some(p) = m.p() else {
        crate::throw("a goroutine ended without a P")
    };
    if !g.locked_m.get().is_null() {
        unlock_thread(g, m);
        // `schedule` finds it where it looks for a locked goroutine in any case.
        m.locked_g.set(&raw const m.thread_g);
        m.is_over.set(true);
    }
    g.set_name(None);
    bind::unbind(g, p);
    let ctx = g.race.take();
    if ctx.is_some() {
        // The next goroutine's closure comes to lie where this one's did, and nothing else orders the two.
        raddle_race::clear_shadow(g.data.get().addr(), size_of_val(&g.data));
    }
    let fini = g.fini.take().expect("spawn sets it");
    g.dies();
    p.add_live(-i64::from(!g.system.get()));
    give_back(s, Some(p), g);
    // SAFETY: the task's contract.
    unsafe { (fini.0)(&Rt::on_g0(m), fini.1) };
    if let Some(ctx) = ctx {
        raddle_race::go_end(ctx);
    }
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
    (!g.is_thread || crate::thread::stands_for_goroutine(g)).then(|| (g.id(), g.name()))
}

/// How many bytes `at` lies below the top of the goroutine's stack that the caller runs on. None
/// where it runs on another: a thread's, the program's. A goroutine's stack is never unmapped.
#[must_use]
pub fn depth_on_goroutine_stack(at: usize) -> Option<usize> {
    // SAFETY: null or a G; Gs are never freed.
    let g = unsafe { rt::current().as_ref() }?;
    // The program may have gone to a stack of its own, which is unmapped again.
    let stack = g.stack.get()?;
    let own = stack.slot.base()..stack.top;
    (own.contains(&crate::arch::stack_pointer()) && own.contains(&at)).then(|| stack.top - at)
}

/// Whether the caller runs on a goroutine's own stack, not on a thread's or the program's.
#[must_use]
pub fn on_goroutine_stack() -> bool {
    depth_on_goroutine_stack(crate::arch::stack_pointer()).is_some()
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
    crate::sched::try_sched()?
        .all_gs()
        .into_iter()
        .find(|g| g.id() == id)
}

/// The race context of the caller's P, if it has one. Reads only: for the detector, on any path.
#[must_use]
pub fn current_proc_ctx() -> Option<ProcCtx> {
    // SAFETY: null or an M; Ms are never freed.
    unsafe { rt::this_m().as_ref() }?.p()?.race.get()
}

/// The number of goroutines alive, the runtime's own not counted, as of a moment during the call.
#[must_use]
pub fn num_goroutines() -> usize {
    let Some(s) = crate::sched::try_sched() else {
        return 0;
    };
    let on_ps: i64 = (0..crate::MAX_PROCS)
        .map_while(|i| s.p(i))
        .map(P::live)
        .sum();
    usize::try_from(on_ps + s.live_elsewhere.load(Ordering::Relaxed)).unwrap_or(0)
}
