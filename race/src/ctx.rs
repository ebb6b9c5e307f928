//! A goroutine's context: what an event needs, in one block.
//!
//! # Invariants
//! 1. A context is used by one thread at a time: the one its goroutine runs on, or, for the `_g` calls and while the
//!    goroutine is parked, the caller's. The scheduler's hand-over orders these uses.
//! 2. Contexts stay mapped for ever; after `go_end` the pointer must not be used.
//! 3. All-zero bytes are a valid `Ctx`, and `destroy` leaves a valid one with nothing to release.
//!
//! # Size
//! About 1.5 KiB: the clock, and four hundred bytes. With record and small history ring a goroutine costs 4 KiB; fence clocks exist
//! only where used.

use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use crate::access::Left;
use crate::cell::{Cell, READ};
use crate::clock::Clock;
use crate::history::{Cursor, Event};
use crate::mem::{Kind, Node};
use crate::real_stack::with_callers;
use crate::record::Record;
use crate::slot::{self, NO_SLOT};
use crate::sync::Known;
use crate::{Pc, depot, is_instrumented, proc, state};

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

/// The part of a context that is read by instrumented code itself, up to the cursor, and in registers by what that calls (`abi`).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    link: AtomicPtr<Node>,
    /// Slot and epoch as a cell has them, with all bytes: cell 0 of an access that was made before in this epoch has these bits.
    /// [`NEVER`] where no access is known.
    pub(crate) fast: u64,
    /// Not 0: accesses do not count.
    quiet: u32,
    /// Counts accesses that were known, but not by cell 0.
    pub(crate) aside: u32,
    /// Where calls and returns are recorded.
    pub(crate) cursor: Cursor,
    /// The template of the history's last mark.
    pub(crate) marked: u64,
    /// The template with which the goroutine took its slot.
    pub(crate) since: u64,
    /// Of the slot: the newest epoch in which an access left a mark.
    pub(crate) touched: Option<&'static AtomicU64>,
    /// The last seen [`GENERATION`].
    pub(crate) generation: u32,
}

const _: () = assert!(offset_of!(Head, fast) == 8 && offset_of!(Head, quiet) == 16);
const _: () = assert!(offset_of!(Head, aside) == 20 && offset_of!(Head, cursor) == 24);

/// The head that stands for no context. Where race mode is off all cells are empty, which is what it expects; where it is on, calls
/// that do not know an access find it quiet.
pub(crate) static OFF: Head = Head {
    link: AtomicPtr::new(std::ptr::null_mut()),
    fast: 0,
    quiet: 1,
    aside: 0,
    cursor: Cursor::off(),
    marked: 0,
    since: 0,
    touched: None,
    generation: 0,
};

/// Bytes of a cell's mask: all eight.
const ALL_BYTES: u64 = 0xff;
/// In `Head::fast` of who has no slot, or is not watched: no cell has an epoch so high.
const NEVER: u64 = u64::MAX;

/// What a [`GoCtx`] points to.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ctx {
    pub(crate) head: Head,
    /// Slot and epoch as a cell has them.
    template: u64,
    pub(crate) slot: u32,
    pub(crate) last_slot: u32,
    /// How often the goroutine has entered the runtime without leaving it.
    inside: u32,
    /// Calls that were announced by hand, and have not returned.
    announced: u32,
    /// Released without a slot: the next attach begins a new epoch.
    pub(crate) released_while_away: bool,
    ignore_accesses: u32,
    pub(crate) ignore_sync: u32,
    record: Option<&'static Record>,
    /// What relaxed loads have seen, to be acquired by the next acquire fence.
    pub(crate) acquire_fence: ClockBox,
    /// The clock at the last release fence, released by relaxed stores.
    pub(crate) release_fence: ClockBox,
    /// What it knows of sync objects.
    pub(crate) known: Known,
    random: u64,
    /// Where the heap block begins that it was given last.
    pub(crate) last_block: usize,
    /// The stack at the cursor's landmark, of an allocation's announced callers, ...
    made_at: Pc,
    /// ... how many frames on top are none of them, ...
    made_above: usize,
    /// ... and the end of the ring or part where they were looked for.
    made_in: usize,
    /// What the first part of a check has not done.
    pub(crate) left: Left,
    pub(crate) clock: Clock,
}

/// A clock of its own from the pool, or none.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct ClockBox(Option<NonNull<Clock>>);

impl ClockBox {
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
            unsafe { p.as_mut() }.clear();
            p
        });
        // SAFETY: as in `get`; the box is borrowed mutably.
        unsafe { p.as_mut() }
    }

    /// Has what the other has.
    pub(crate) fn copy_from(&mut self, other: &ClockBox) {
        match other.get() {
            Some(clock) => self.get_or_new().copy_from(clock),
            None => self.release(),
        }
    }

    /// Gives the clock back.
    pub(crate) fn release(&mut self) {
        if let Some(p) = self.0.take() {
            proc::give(Kind::Clock, p.cast());
        }
    }
}

/// Counts the snapshots that `acquire_everything` took.
pub(crate) static GENERATION: AtomicU32 = AtomicU32::new(0);
static GAPS_CLOSED: AtomicUsize = AtomicUsize::new(0);

/// Gaps closed for want of room so far, in the whole process: each may hide a race between goroutines that took each
/// other's slots.
pub(crate) fn gaps_closed() -> usize {
    GAPS_CLOSED.load(Relaxed)
}

impl Ctx {
    /// A new context with an empty clock and no slot.
    pub(crate) fn create(goid: u64, parent: u64, created: Pc) -> GoCtx {
        let mut p: NonNull<Ctx> = proc::take(Kind::Ctx).cast();
        // SAFETY: ours alone; pool memory of this kind is zero, or as `destroy` left it, and both are valid (invariant 3).
        let c = unsafe { p.as_mut() };
        c.clock.clear();
        c.template = 0;
        c.head.marked = 0;
        c.head.since = 0;
        c.head.touched = None;
        c.slot = NO_SLOT;
        c.last_slot = NO_SLOT;
        c.released_while_away = false;
        c.known.clear();
        c.inside = 0;
        c.announced = 0;
        c.ignore_accesses = 0;
        c.ignore_sync = 0;
        c.show();
        c.head.generation = GENERATION.load(Relaxed);
        let record = Record::begin(goid, parent, created);
        c.head.cursor.begin(&record.history);
        if crate::is_instrumented() {
            // It will want one at once: not on its own stack, where saving all registers for that would take another page.
            c.head.cursor.begin_ring(&record.history, 0);
        }
        c.record = Some(record);
        c.random = state::config().seed ^ goid.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        GoCtx(p)
    }

    /// A context for signal handlers. It has no slot, and is nobody's yet.
    pub(crate) fn create_for_handlers() -> GoCtx {
        let ctx = Ctx::create(0, 0, Pc::NONE);
        ctx.get().ignore_accesses(|_| Some(1));
        ctx
    }

    /// A handler begins, and has interrupted `thread`, which goes on when it returns.
    pub(crate) fn begin_as_handler(&mut self, thread: &Ctx) {
        self.clock.copy_from(&thread.clock);
        self.known.clear();
        self.acquire_fence.release();
        self.release_fence.copy_from(&thread.release_fence);
        self.ignore_sync = thread.ignore_sync;
        self.record().set_goid(thread.record().goid());
    }

    /// The handler returns: the thread is ordered after what it has acquired, and goes on in an epoch that it has not released.
    pub(crate) fn end_handler(&mut self, handler: &Ctx) {
        self.acquire(&handler.clock);
        if let Some(seen) = handler.acquire_fence.get() {
            let closed = self.acquire_fence.get_or_new().join(seen);
            self.note_closed(closed);
        }
        self.release_fence.copy_from(&handler.release_fence);
        slot::tick(self);
    }

    /// The goroutine ended: all but its record goes back to the pools.
    pub(crate) fn destroy(ctx: GoCtx) {
        let c = ctx.get();
        slot::forget(c);
        c.acquire_fence.release();
        c.release_fence.release();
        c.head.cursor.end(&c.record().history);
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

    /// [`template`](Self::template) for the beginning or end of a heap block; None: it is nobody's access.
    pub(crate) fn template_of_block(&self) -> Option<u64> {
        self.template()
            .filter(|_| self.watches_accesses() && self.is_outside())
    }

    pub(crate) fn set_template(&mut self, slot: u32, epoch: u64) {
        self.template = Cell::template(slot, epoch);
        self.show();
    }

    /// The goroutine takes a slot that it did not have before.
    pub(crate) fn take_slot(&mut self, slot: u32, epoch: u64, touched: &'static AtomicU64) {
        self.head.touched = Some(touched);
        self.slot = slot;
        self.last_slot = slot;
        self.head.since = Cell::template(slot, epoch);
        self.set_template(slot, epoch);
    }

    /// The goroutine left the mark, since it took its present slot.
    #[inline(always)]
    pub(crate) fn is_own(&self, cell: Cell) -> bool {
        cell.slot() == self.slot as usize && cell.0 >= self.head.since
    }

    /// Brings the head up to date with slot and epoch, and whether accesses count.
    pub(crate) fn show(&mut self) {
        let is_quiet = self.inside != 0 || self.ignore_accesses != 0;
        self.head.quiet = is_quiet.into();
        self.head.fast = match self.template() {
            Some(at) if !is_quiet => at | ALL_BYTES,
            _ => NEVER,
        };
    }

    /// Accesses count and leave marks, nobody took a snapshot since the last one, and the history has room for one.
    #[inline]
    pub(crate) fn is_as_usual(&self) -> bool {
        self.head.quiet == 0 && self.is_ready()
    }

    /// Accesses that count leave marks, nobody took a snapshot since the last one, and the history has room for one.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.slot != NO_SLOT
            && self.head.generation == GENERATION.load(Relaxed)
            && self.head.cursor.has_room()
    }

    /// Compiled code acts for the program, not for the runtime.
    #[inline]
    pub(crate) fn is_outside(&self) -> bool {
        self.inside == 0
    }

    /// How many levels deep in the runtime the goroutine is.
    #[inline]
    pub(crate) fn inside(&self) -> u32 {
        self.inside
    }

    /// The goroutine goes so many levels into the runtime, or out of it.
    pub(crate) fn set_inside(&mut self, levels: u32) -> u32 {
        let before = std::mem::replace(&mut self.inside, levels);
        self.show();
        before
    }

    /// Accesses do not count so many times over.
    pub(crate) fn ignore_accesses(&mut self, change: impl FnOnce(u32) -> Option<u32>) -> bool {
        let changed = change(self.ignore_accesses);
        self.ignore_accesses = changed.unwrap_or(self.ignore_accesses);
        self.show();
        changed.is_some()
    }

    /// Accesses count.
    pub(crate) fn watches_accesses(&self) -> bool {
        self.ignore_accesses == 0
    }

    /// Synchronisation counts.
    pub(crate) fn watches_sync(&self) -> bool {
        self.ignore_sync == 0
    }

    /// The callers that were announced, innermost first, as many as there is room for; returns how many.
    pub(crate) fn callers(&self, to: &mut [Pc]) -> usize {
        self.head.cursor.callers(&self.record().history, to)
    }

    /// [`callers`](Self::callers), as far as they are found quickly.
    pub(crate) fn near_callers(&self, to: &mut [Pc]) -> usize {
        if self.announced == 0 && !crate::is_instrumented() {
            return 0;
        }
        self.head.cursor.near_callers(&self.record().history, to)
    }

    /// The stack of an allocation at `pc` (or none) and the callers that were announced, as far as they are found quickly. None: no
    /// callers were.
    pub(crate) fn stack_here(&mut self, pc: Pc) -> Option<Pc> {
        if self.announced == 0 && !crate::is_instrumented() {
            return None;
        }
        let own = usize::from(!pc.is_none());
        let mut frames = [pc; depot::FRAMES];
        self.made_in = self.head.cursor.end_of_ring();
        let since = self.head.cursor.callers_since_landmark(&mut frames[own..]);
        let mut count = match since {
            Some((0, 0)) if own == 0 && self.made_above == 0 => return Some(self.made_at),
            Some((new, gone)) => {
                let to = &mut frames[own + new..];
                let (more, all) = depot::copy(self.made_at, self.made_above + gone, to);
                let count = own + new + more;
                // Where the old stack was cut, there may be more callers.
                if all < depot::FRAMES || count == depot::FRAMES {
                    count
                } else {
                    own
                }
            }
            None => own,
        };
        if count == own {
            let history = &self.record().history;
            count += self.head.cursor.near_callers(history, &mut frames[own..]);
        }
        (count > own).then(|| depot::intern(&frames[..count]))
    }

    /// The allocation at `pc` (or none) has just been put into the history, with a stack from [`Self::stack_here`].
    pub(crate) fn keep_stack(&mut self, pc: Pc, stack: Pc) {
        self.made_at = stack;
        self.made_above = usize::from(!pc.is_none());
        // In a new part its base knows more.
        if self.made_in == self.head.cursor.end_of_ring() {
            self.head.cursor.set_landmark();
        }
    }

    /// A call at `pc`.
    pub(crate) fn enter(&mut self, pc: Pc) {
        self.announced += 1;
        self.head
            .cursor
            .enter(&self.record().history, self.template, pc);
    }

    /// The innermost call returned.
    pub(crate) fn exit(&mut self) {
        self.announced = self.announced.saturating_sub(1);
        self.head.cursor.exit(&self.record().history, self.template);
    }

    /// The history has no room.
    pub(crate) fn turn(&mut self) {
        self.head.cursor.turn(&self.record().history, self.template);
    }

    /// Puts an access into the history.
    ///
    /// That of a typed event has the real callers with it. Not that of a read in compiled code,
    /// where the calls of all functions but the inlined ones are in the history: each message of a
    /// channel is such a read.
    pub(crate) fn remember(&mut self, mut event: Event) {
        let is_read = event.flags & READ != 0;
        if event.pc.location().is_some() && !(is_read && is_instrumented()) {
            event.pc = with_callers(Some(self), event.pc);
        }
        if !self.head.cursor.has_room() {
            self.turn();
        }
        self.remember_in_room(event);
    }

    /// [`remember`](Self::remember), where there is room (`is_ready`).
    #[inline(always)]
    pub(crate) fn remember_in_room(&mut self, event: Event) {
        if self.head.marked != self.template {
            self.head.marked = self.template;
            if let Some(touched) = self.head.touched {
                touched.store(self.epoch(), Relaxed); // published by `slot::detach`
            }
            self.head.cursor.mark(self.template);
        }
        self.head.cursor.access(event);
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
        self.head.generation = GENERATION.fetch_add(1, AcqRel).wrapping_add(1);
    }

    /// Begins a new epoch if someone took a snapshot of all epochs since the last access.
    #[inline]
    pub(crate) fn follow_generation(&mut self) {
        let now = GENERATION.load(Relaxed);
        if self.head.generation != now {
            self.head.generation = now;
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
