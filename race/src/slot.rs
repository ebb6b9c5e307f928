//! Slots: the 256 names under which running goroutines mark the shadow.
//!
//! A goroutine holds a slot while it is on a thread, and takes the same one again when nobody took it meanwhile. What a
//! goroutine did is known by (slot, epoch) alone.
//!
//! # States of `holder`
//! | value | meaning | who may leave it |
//! | --- | --- | --- |
//! | 0 | never used, or its last holder ended | anyone: `claim` |
//! | ctx | left by a living goroutine | that one by `attach`, anyone by `claim` |
//! | ctx + 1 | held | its holder by `detach` |
//! | 1 | retired: its epochs are used up | nobody |
//!
//! # Invariants
//! 1. A slot's epoch never falls, and a new holder starts above the last: (slot, epoch) belongs to one goroutine only.
//! 2. `epoch` and `touched` are written by the slot's holder only.
//! 3. At [`EPOCH_LIMIT`] a slot is retired, so an epoch never outgrows a cell's 45 bits; at a hundred million releases a
//!    second one slot lasts four days, and there are 256.
//!
//! # Why reuse hides nothing and invents nothing
//! Invents: an access is ordered before a goroutine only if the goroutine's clock covers its (slot, epoch), and by
//! invariant 1 nobody else's epochs can be meant. Hides: the new holder's clock gets a *gap* for those epochs of the
//! slot that it had not acquired (`clock.rs`), and gives the gap on to whoever acquires from it. When it leaves and
//! returns elsewhere, its own former epochs stay covered, since gaps only ever lie below its own tenure.
//! Epochs in which nothing left a mark are nobody's, and need no gap.
//! Only a full gap list loses (see there), so `claim` prefers slots whose last epoch the newcomer already covers.
//!
//! # No slot free
//! With 256 goroutines on threads at once, the next has no slot: its accesses are checked against the shadow but leave
//! no mark, and its synchronisation counts in full (a mark-less access needs no epoch of its own). It tries again when
//! it is switched in again.
//!
//! # Memory ordering
//! `detach: holder store Release` ⇄ `claim, attach: compare_exchange Acquire`: the epoch as the last holder left it.

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};

use crate::clock::{NEAR, SLOTS};
use crate::ctx::Ctx;
use crate::mem::{SpinLock, fatal};
use crate::record::Record;

/// Epochs from here on retire a slot.
pub(crate) const EPOCH_LIMIT: u64 = (1 << 45) - (1 << 20);
/// "No slot", where a slot's index is expected.
pub(crate) const NO_SLOT: u32 = SLOTS as u32;
/// Set in `holder` while the slot is held; alone: retired.
const HELD: usize = 1;
/// Tenures remembered per slot.
const TENURES: usize = 32;
/// How many slots are looked at for one that the newcomer covers.
const WINDOW: usize = 16;

/// See the header.
struct Slot {
    holder: AtomicUsize,
    epoch: AtomicU64,
    /// The newest epoch in which an access left a mark.
    touched: AtomicU64,
    journal: Journal,
}

/// Who held the slot from which epoch on; the newest few.
struct Journal {
    lock: SpinLock,
    count: AtomicUsize,
    tenures: [Tenure; TENURES],
}

struct Tenure {
    start: AtomicU64,
    record: AtomicPtr<Record>,
    serial: AtomicU64,
}

impl Tenure {
    const fn new() -> Tenure {
        Tenure {
            start: AtomicU64::new(0),
            record: AtomicPtr::new(std::ptr::null_mut()),
            serial: AtomicU64::new(0),
        }
    }
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            holder: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            touched: AtomicU64::new(0),
            journal: Journal {
                lock: SpinLock::new(),
                count: AtomicUsize::new(0),
                tenures: [const { Tenure::new() }; TENURES],
            },
        }
    }
}

static ALL: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];
/// Slots ever used: clocks stay short in small programs.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Slots that may be used; less than all only in tests.
static LIMIT: AtomicUsize = AtomicUsize::new(SLOTS);
/// The slot whose holder ended last: taking it again keeps the slots in use few, and clocks short.
static LAST_DEAD: AtomicUsize = AtomicUsize::new(0);
/// Slots whose last holders have ended.
static DEAD: AtomicUsize = AtomicUsize::new(0);
/// Where the search for a slot to take begins: round the table, so that the longest unused comes first.
static HAND: AtomicUsize = AtomicUsize::new(0);

fn address(ctx: &Ctx) -> usize {
    std::ptr::from_ref(ctx).addr()
}

/// Gives the goroutine a slot: its last one, or another's.
pub(crate) fn attach(ctx: &mut Ctx) {
    let me = address(ctx);
    if let Some(slot) = ALL.get(ctx.last_slot as usize)
        && slot
            .holder
            .compare_exchange(me, me | HELD, Acquire, Relaxed)
            .is_ok()
    {
        ctx.slot = ctx.last_slot;
        let epoch = slot.epoch.load(Relaxed);
        if ctx.released_while_away {
            ctx.released_while_away = false;
            set_epoch(ctx, epoch + 1);
        } else {
            ctx.set_template(ctx.slot, epoch);
        }
        return;
    }
    attach_elsewhere(ctx);
}

/// The order: a slot without holder whose past the goroutine knows; a new one; another without holder; anyone's who is not on a thread, preferably
/// one whose past it knows. Only when all of the first [`NEAR`] are held, those beyond.
#[cold]
fn attach_elsewhere(ctx: &mut Ctx) {
    let limit = LIMIT.load(Relaxed);
    let used = USED.load(Relaxed).min(limit);
    let hand = HAND.load(Relaxed);
    let covered = |ctx: &Ctx, s: usize| ctx.clock.covers(s, ALL[s].touched.load(Relaxed));
    let dead = |s: usize| ALL[s].holder.load(Relaxed) == 0;
    let idle = |s: usize| ALL[s].holder.load(Relaxed) & HELD == 0;
    let near = used.min(NEAR);

    let newest = LAST_DEAD.load(Relaxed);
    let cheap = (newest < near)
        .then_some(newest)
        .into_iter()
        .chain((0..near.min(WINDOW)).map(|i| (hand + i) % near))
        .find(|&s| dead(s) && covered(ctx, s));
    if cheap.is_some_and(|s| claim(ctx, s)) {
        return;
    }
    for (first, end) in [(0, NEAR.min(limit)), (NEAR, limit)] {
        let grown = USED.fetch_update(Relaxed, Relaxed, |n| (n < end).then_some(n + 1));
        if grown.is_ok_and(|s| claim(ctx, s)) {
            return;
        }
        let count = used.min(end).saturating_sub(first);
        let from_hand = || (0..count).map(|i| first + (hand + i) % count);
        // Who lives is to find his slot again, and reports who held it: some timers begin a goroutine each time.
        if DEAD.load(Relaxed) > 0 && from_hand().any(|s| dead(s) && claim(ctx, s)) {
            return;
        }
        let cheap = from_hand()
            .take(WINDOW)
            .find(|&s| idle(s) && covered(ctx, s));
        if cheap.is_some_and(|s| claim(ctx, s)) {
            return;
        }
        if from_hand().any(|s| idle(s) && claim(ctx, s)) {
            return;
        }
    }
    if used == SLOTS && ALL.iter().all(|s| s.holder.load(Relaxed) == HELD) {
        fatal("all epochs are used up after days of watching; restart the program");
    }
    ctx.slot = NO_SLOT;
    ctx.show();
}

/// Tries to take slot `s`, unless it is held or used up.
fn claim(ctx: &mut Ctx, s: usize) -> bool {
    let slot = &ALL[s];
    let seen = slot.holder.load(Relaxed);
    let me = address(ctx);
    if seen & HELD != 0
        || slot
            .holder
            .compare_exchange(seen, me | HELD, Acquire, Relaxed)
            .is_err()
    {
        return false;
    }
    let last = slot.epoch.load(Relaxed);
    if seen == 0 && last > 0 {
        DEAD.fetch_sub(1, Relaxed);
    }
    if last >= EPOCH_LIMIT {
        slot.holder.store(HELD, Release);
        return false;
    }
    HAND.store(s + 1, Relaxed);
    let closed = ctx.clock.take_slot(s, slot.touched.load(Relaxed), last + 1);
    ctx.note_closed(closed);
    ctx.released_while_away = false;
    slot.epoch.store(last + 1, Release);
    ctx.take_slot(s as u32, last + 1, &slot.touched);
    slot.journal.push(last + 1, ctx.record());
    true
}

/// The goroutine leaves its thread: others may take its slot.
pub(crate) fn detach(ctx: &mut Ctx) {
    if let Some(slot) = ALL.get(ctx.slot as usize) {
        ctx.slot = NO_SLOT;
        ctx.show();
        slot.holder.store(address(ctx), Release); // pairs with `claim` and `attach`
    }
}

/// The goroutine ends: it will not want its slot back.
pub(crate) fn forget(ctx: &mut Ctx) {
    detach(ctx);
    if let Some(slot) = ALL.get(ctx.last_slot as usize) {
        // Fails when another has taken the slot. Release: as `detach`.
        let freed = slot
            .holder
            .compare_exchange(address(ctx), 0, Release, Relaxed);
        if freed.is_ok() {
            DEAD.fetch_add(1, Relaxed);
            LAST_DEAD.store(ctx.last_slot as usize, Relaxed);
        }
    }
    ctx.last_slot = NO_SLOT;
}

/// What the goroutine does from now on is not covered by what was released before.
pub(crate) fn tick(ctx: &mut Ctx) {
    if ctx.slot == NO_SLOT {
        ctx.released_while_away = true;
        return;
    }
    set_epoch(ctx, ctx.epoch() + 1);
}

fn set_epoch(ctx: &mut Ctx, epoch: u64) {
    let slot = &ALL[ctx.slot as usize];
    slot.epoch.store(epoch, Release);
    ctx.clock.advance(ctx.slot as usize, epoch);
    ctx.set_template(ctx.slot, epoch);
    if epoch >= EPOCH_LIMIT {
        slot.holder.store(HELD, Release);
        ctx.slot = NO_SLOT;
        ctx.last_slot = NO_SLOT;
        attach_elsewhere(ctx);
    }
}

/// The current epochs of all slots ever used: all that has happened so far.
pub(crate) fn now() -> impl Iterator<Item = (usize, u64)> {
    let used = USED.load(Acquire).min(SLOTS);
    ALL[..used]
        .iter()
        .map(|s| s.epoch.load(Acquire))
        .enumerate()
}

/// Who did what (slot, epoch) names, with the life's number; None when forgotten.
pub(crate) fn holder_at(slot: usize, epoch: u64) -> Option<(&'static Record, u64)> {
    ALL[slot].journal.find(epoch)
}

impl Journal {
    fn push(&self, start: u64, record: &'static Record) {
        let _held = self.lock.lock();
        let at = &self.tenures[self.count.fetch_add(1, Relaxed) % TENURES];
        at.start.store(start, Relaxed);
        at.record
            .store(std::ptr::from_ref(record).cast_mut(), Relaxed);
        at.serial.store(record.serial(), Relaxed);
    }

    fn find(&self, epoch: u64) -> Option<(&'static Record, u64)> {
        let _held = self.lock.lock();
        let kept = self.count.load(Relaxed).min(TENURES);
        let tenure = self.tenures[..kept]
            .iter()
            .filter(|t| t.start.load(Relaxed) <= epoch)
            .max_by_key(|t| t.start.load(Relaxed))?;
        // SAFETY: the journal holds only records, which stay mapped for ever.
        let record = unsafe { tenure.record.load(Relaxed).as_ref()? };
        Some((record, tenure.serial.load(Relaxed)))
    }
}

/// For tests: how many slots may be used from now on (those above must not be in use).
#[cfg(test)]
pub(crate) fn set_limit(n: usize) {
    LIMIT.store(n, Relaxed);
}

/// For tests: how many slots were ever used.
#[cfg(test)]
pub(crate) fn used() -> usize {
    USED.load(Relaxed)
}

/// For tests: the goroutine's slot is one release short of its limit.
#[cfg(test)]
pub(crate) fn exhaust(ctx: &mut Ctx) {
    set_epoch(ctx, EPOCH_LIMIT - 1);
}
