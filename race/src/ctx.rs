//! A goroutine's context: what an event needs, in one block, and the thread-local that says whose events these are.
//!
//! # Invariants
//! 1. A context is used by one thread at a time: the one its goroutine runs on, or, for the `_g` calls and while the
//!    goroutine is parked, the caller's. The scheduler's hand-over orders these uses.
//! 2. A thread-local `CURRENT` is null or a live context that belongs to what runs on this thread (or on this
//!    goroutine's own thread-local block).
//! 3. Contexts stay mapped for ever; after `go_end` the pointer must not be used.
//! 4. All-zero bytes are a valid `Ctx`, and `destroy` leaves a valid one with nothing to release.
//!
//! # Why not
//! A borrowed `LocalKey` value: the address of a thread-local must not be kept over a switch. `current` is never
//! inlined, reads one `Cell`, const-initialised and without destructor, and returns the pointer.
//!
//! # Size
//! About 2.8 KiB: the clock, and a hundred bytes. With record and small history ring a goroutine costs 5 KiB; shadow
//! stack and fence clocks exist only where used.

use std::cell::Cell as StdCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::*};

use crate::cell::Cell;
use crate::clock::Clock;
use crate::history::Now;
use crate::mem::{Kind, Node};
use crate::record::{CREATION_FRAMES, Record};
use crate::slot::{self, NO_SLOT};
use crate::stack::ShadowStack;
use crate::{Pc, proc, state};

/// A goroutine's (or foreign thread's) race context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct GoCtx(NonNull<Ctx>);

// SAFETY: a pointer to detector memory that is never unmapped; invariant 1 says who may use it.
unsafe impl Send for GoCtx {}
// SAFETY: as above.
unsafe impl Sync for GoCtx {}

impl GoCtx {
    #[expect(
        clippy::mut_from_ref,
        reason = "the context is the caller's alone by invariant 1"
    )]
    pub(crate) fn get(&self) -> &mut Ctx {
        // SAFETY: made by `create`, mapped for ever; used by one thread at a time (invariant 1), and no event runs
        // inside another: host callbacks run with `CURRENT` null.
        unsafe { &mut *self.0.as_ptr() }
    }

    /// The context as a word, to be kept in a word-sized field.
    pub fn into_raw(self) -> NonNull<()> {
        self.0.cast()
    }

    /// The context back from [`GoCtx::into_raw`].
    ///
    /// # Safety
    /// `raw` came from `into_raw`, and the goroutine has not ended.
    pub unsafe fn from_raw(raw: NonNull<()>) -> GoCtx {
        GoCtx(raw.cast())
    }
}

/// What a [`GoCtx`] points to.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ctx {
    link: AtomicPtr<Node>,
    /// Slot and epoch as a cell has them.
    template: u64,
    /// The template of the history's last mark.
    marked: u64,
    pub(crate) slot: u32,
    pub(crate) last_slot: u32,
    /// Released without a slot: the next attach begins a new epoch.
    pub(crate) released_while_away: bool,
    ignore_accesses: u32,
    ignore_sync: u32,
    /// The last seen [`GENERATION`].
    generation: u32,
    record: Option<&'static Record>,
    pub(crate) stack: ShadowStack,
    /// What relaxed loads have seen, to be acquired by the next acquire fence.
    pub(crate) acquire_fence: ClockBox,
    /// The clock at the last release fence, released by relaxed stores.
    pub(crate) release_fence: ClockBox,
    random: u64,
    pub(crate) clock: Clock,
}

/// A clock of its own from the pool, or none.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct ClockBox(Option<NonNull<Clock>>);

impl ClockBox {
    /// None yet.
    pub(crate) const NONE: ClockBox = ClockBox(None);

    /// The clock, if there is one.
    pub(crate) fn get(&self) -> Option<&Clock> {
        // SAFETY: from `get_or_new`, owned by this box until `release`.
        self.0.map(|p| unsafe { p.as_ref() })
    }

    /// The clock; an empty one if there was none.
    pub(crate) fn get_or_new(&mut self) -> &mut Clock {
        let p = self.0.get_or_insert_with(|| {
            let mut p: NonNull<Clock> = proc::take(Kind::Clock).cast();
            // SAFETY: ours alone now; every bit pattern is a valid `Clock`, and `len` survived on the free list.
            unsafe { p.as_mut() }.reuse();
            p
        });
        // SAFETY: as in `get`; the box is borrowed mutably.
        unsafe { p.as_mut() }
    }

    /// Gives the clock back.
    pub(crate) fn release(&mut self) {
        if let Some(p) = self.0.take() {
            proc::give(Kind::Clock, p.cast());
        }
    }
}

/// Counts the snapshots that `acquire_everything` took.
static GENERATION: AtomicU32 = AtomicU32::new(0);
static GAPS_CLOSED: AtomicUsize = AtomicUsize::new(0);

/// Gaps closed for want of room so far, in the whole process: each may hide a race between goroutines that took each
/// other's slots.
pub(crate) fn gaps_closed() -> usize {
    GAPS_CLOSED.load(Relaxed)
}

impl Ctx {
    /// A new context with an empty clock and no slot.
    pub(crate) fn create(goid: u64, parent: u64, created: [Pc; CREATION_FRAMES]) -> GoCtx {
        let mut p: NonNull<Ctx> = proc::take(Kind::Ctx).cast();
        // SAFETY: ours alone; pool memory of this kind is zero, or as `destroy` left it, and both are valid (invariant 4).
        let c = unsafe { p.as_mut() };
        c.clock.reuse();
        c.template = 0;
        c.marked = 0;
        c.slot = NO_SLOT;
        c.last_slot = NO_SLOT;
        c.released_while_away = false;
        c.ignore_accesses = 0;
        c.ignore_sync = 0;
        c.generation = GENERATION.load(Relaxed);
        c.record = Some(Record::begin(goid, parent, created));
        c.random = state::config().seed ^ goid.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        GoCtx(p)
    }

    /// The goroutine ended: all but its record goes back to the pools.
    pub(crate) fn destroy(ctx: GoCtx) {
        let c = ctx.get();
        slot::forget(c);
        c.acquire_fence.release();
        c.release_fence.release();
        c.stack.release();
        c.record().end();
        proc::give(Kind::Ctx, ctx.0.cast());
    }

    /// Who the goroutine is, and its history.
    pub(crate) fn record(&self) -> &'static Record {
        match self.record {
            Some(record) => record,
            None => crate::mem::fatal("a context was used that `go_start` did not make"),
        }
    }

    /// The epoch of the current slot.
    pub(crate) fn epoch(&self) -> u64 {
        Cell(self.template).epoch()
    }

    /// Slot and epoch as a cell has them; None without a slot.
    pub(crate) fn template(&self) -> Option<u64> {
        (self.slot != NO_SLOT).then_some(self.template)
    }

    pub(crate) fn set_template(&mut self, slot: u32, epoch: u64) {
        self.template = Cell::template(slot, epoch);
    }

    /// Accesses count.
    pub(crate) fn watches_accesses(&self) -> bool {
        self.ignore_accesses == 0
    }

    /// Synchronisation counts.
    pub(crate) fn watches_sync(&self) -> bool {
        self.ignore_sync == 0
    }

    /// The state that a history event is recorded in.
    pub(crate) fn now(&self) -> Now<'_> {
        let at = Cell(self.template);
        Now {
            slot: at.slot() as u64,
            epoch: at.epoch(),
            frames: self.stack.frames(),
        }
    }

    /// Puts an access into the history.
    pub(crate) fn remember(
        &mut self,
        addr: usize,
        size: usize,
        flags: u64,
        allocation: bool,
        pc: Pc,
    ) {
        if self.marked != self.template {
            self.marked = self.template;
            slot::touch(self);
            self.record().history.mark(self.now());
        }
        self.record()
            .history
            .access(self.now(), addr, size, flags, allocation, pc);
    }

    pub(crate) fn note_closed(&mut self, gaps: u32) {
        if gaps != 0 {
            GAPS_CLOSED.fetch_add(gaps as usize, Relaxed);
        }
    }

    /// Joins a clock into this goroutine's.
    pub(crate) fn acquire(&mut self, clock: &Clock) {
        let closed = self.clock.join(clock);
        self.note_closed(closed);
    }

    /// Ordered after all that has happened so far.
    ///
    /// The snapshot comes first, then the new generation: what a goroutine does once it has seen the generation is in
    /// an epoch that the snapshot lacks. What it does between counts as ordered, which can hide a race, never invent
    /// one.
    pub(crate) fn acquire_everything(&mut self) {
        for (slot, epoch) in slot::now() {
            self.clock.cover_slot(slot, epoch);
        }
        self.generation = GENERATION.fetch_add(1, AcqRel).wrapping_add(1);
    }

    /// Begins a new epoch if someone took a snapshot of all epochs since the last access.
    #[inline]
    pub(crate) fn follow_generation(&mut self) {
        let now = GENERATION.load(Relaxed);
        if self.generation != now {
            self.generation = now;
            slot::tick(self);
        }
    }

    /// A small random number.
    pub(crate) fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

thread_local! {
    static CURRENT: StdCell<Option<GoCtx>> = const { StdCell::new(None) };
}

/// The calling thread's current context: whose events these are.
///
/// Never inlined: the address of a thread-local must not live over a goroutine switch.
#[inline(never)]
pub fn current() -> Option<GoCtx> {
    CURRENT.with(StdCell::get)
}

/// Makes `ctx` (a `GoCtx`, or None: nothing is watched) the current context of the calling *thread-local block*.
///
/// Where thread-locals follow the goroutine, a goroutine calls this once when it starts. Where they belong to the
/// thread, the scheduler calls it at each switch, which `switch_in` and `switch_out` do already.
#[inline(never)]
pub fn set_current(ctx: impl Into<Option<GoCtx>>) {
    CURRENT.with(|c| c.set(ctx.into()));
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

/// A new goroutine, ordered after what `parent` has done so far; without a parent, after everything so far.
///
/// # Happens-before
/// The parent's past happens before the child's start.
pub fn go_start(parent: Option<GoCtx>, goid: u64, pc: Pc) -> GoCtx {
    let Some(parent) = parent else {
        let mut created = [Pc::NONE; CREATION_FRAMES];
        created[0] = pc;
        let ctx = Ctx::create(goid, 0, created);
        ctx.get().acquire_everything();
        return ctx;
    };
    let p = parent.get();
    let mut created = [Pc::NONE; CREATION_FRAMES];
    created[0] = pc;
    for (place, frame) in created[1..].iter_mut().zip(p.stack.frames().iter().rev()) {
        *place = Pc::from_bits(*frame);
    }
    let child = Ctx::create(goid, p.record().goid(), created);
    child.get().clock.copy_from(&p.clock);
    slot::tick(p);
    child
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
pub fn thread_start(goid: u64) -> GoCtx {
    go_start(None, goid, Pc::NONE)
}

/// The goroutine (the one that runs finalizers) is ordered after everything so far.
pub fn finalizer_goroutine(ctx: GoCtx) {
    ctx.get().acquire_everything();
}

/// From here on the current goroutine's accesses do not count, until as many [`ignore_end`]s.
pub fn ignore_begin() {
    if let Some(c) = current() {
        c.get().ignore_accesses += 1;
    }
}

/// Ends one [`ignore_begin`].
///
/// # Panics
/// Without a matching begin.
#[track_caller]
pub fn ignore_end() {
    if let Some(c) = current() {
        let c = c.get();
        c.ignore_accesses = c
            .ignore_accesses
            .checked_sub(1)
            .expect("race ignore_end without ignore_begin");
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

/// The current goroutine calls a function; `pc` is the place of the call.
pub fn func_enter(pc: Pc) {
    if let Some(c) = current() {
        let c = c.get();
        if c.slot != NO_SLOT {
            c.record().history.enter(c.now(), pc);
        }
        c.stack.push(pc);
    }
}

/// The current goroutine's innermost call returned.
pub fn func_exit() {
    if let Some(c) = current() {
        let c = c.get();
        if c.slot != NO_SLOT {
            c.record().history.exit(c.now());
        }
        c.stack.pop();
    }
}
