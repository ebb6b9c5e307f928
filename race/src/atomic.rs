//! C11 atomics and fences, by their declared order.
//!
//! # The model (C++20, which is Rust's)
//! A sync object holds M, the clock that the newest value in modification order carries. A goroutine has its clock C, R
//! (C at its last release fence) and A (what its relaxed loads have seen).
//!
//! | operation | effect |
//! | --- | --- |
//! | load, acquire | C joins M |
//! | load, relaxed | A joins M |
//! | store, release | M becomes C |
//! | store, relaxed | M becomes R: the store ends the release sequence, a fence before it begins a new one |
//! | read-modify-write | as its load; then M *joins* C or R: the release sequence goes on through it |
//! | fence, acquire | C joins A |
//! | fence, release | R becomes C |
//!
//! SeqCst is AcqRel here: its total order restricts which values are read, and adds no happens-before.
//! The real operation runs under the object's lock, so M always belongs to the value that the operation saw or left; but not where it leaves M as it is
//! and the goroutine knows M, or nobody has released at the address: then a look at the object's count before and after it is enough (`sync.rs`).
//!
//! The access is marked in the shadow after the acquire (the store that is read happens before the load itself), before M has C (who
//! acquires it may do with the memory what it likes), and before the epoch moves on. Who acquires and releases by one operation marks under
//! the lock, therefore; who only releases, before it; who only acquires, after it: others wait for that lock.
//!
//! # Blocking
//! The spin lock of the object is held while `op` runs; `op` must be the bare atomic operation.

use std::sync::atomic::Ordering;

use crate::cell::{ATOMIC, READ};
use crate::ctx::{Ctx, GoCtx};
use crate::current::current;
use crate::mem::Busy;
use crate::sync::Glance;
use crate::{Pc, access, shadow, slot, sync};

/// What kind of atomic operation, and its declared order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomicOp {
    /// A load.
    Load(Ordering),
    /// A store.
    Store(Ordering),
    /// A read-modify-write that always writes.
    Rmw(Ordering),
    /// A compare-exchange: order when it writes, and when it does not.
    CompareExchange(Ordering, Ordering),
}

fn acquires(order: Ordering) -> bool {
    matches!(
        order,
        Ordering::Acquire | Ordering::AcqRel | Ordering::SeqCst
    )
}

fn releases(order: Ordering) -> bool {
    matches!(
        order,
        Ordering::Release | Ordering::AcqRel | Ordering::SeqCst
    )
}

/// Runs an atomic operation of the current goroutine on the `size` bytes at `addr`.
///
/// `op` performs the operation, once (a load or a failed compare-exchange perhaps twice, of which the second counts), and returns whether it
/// wrote (a compare-exchange that failed did not; the value does not matter for the other kinds). Returns what `op` returned. Without a current context only `op` runs.
///
/// # Happens-before
/// By the declared order, as in the header of this module: release to acquire, through release sequences.
#[inline(never)]
pub fn atomic(
    addr: usize,
    size: usize,
    kind: AtomicOp,
    pc: Pc,
    op: &mut dyn FnMut() -> bool,
) -> bool {
    match current() {
        Some(ctx) => by(ctx, addr, size, kind, pc, op),
        None => op(),
    }
}

/// A load by the goroutine whose context this is, if there is nothing to acquire; if there is, nothing is done that counts. What spins,
/// or looks whether something has changed, mostly comes here.
#[inline(always)]
pub(crate) fn load_known<T>(
    c: &mut Ctx,
    addr: usize,
    size: usize,
    order: Ordering,
    pc: Pc,
    load: impl Fn() -> T,
) -> Option<T> {
    if !c.watches_sync() || !shadow::is_mapped(addr) {
        return None;
    }
    let seen = sync::peek(addr).filter(|seen| seen.is_known_to(c, !acquires(order)))?;
    let value = load();
    // Else another value may have come, and its clock.
    if !seen.holds() {
        return None;
    }
    if !access::is_known_atomic(c, addr, size, ATOMIC | READ) {
        access::check_atomic(c, addr, size, ATOMIC | READ, pc);
    }
    Some(value)
}

/// [`atomic`] of the goroutine whose context this is.
pub(crate) fn by(
    ctx: GoCtx,
    addr: usize,
    size: usize,
    kind: AtomicOp,
    pc: Pc,
    op: &mut dyn FnMut() -> bool,
) -> bool {
    let c = ctx.get();
    if !c.watches_sync() {
        let wrote = op();
        mark(c, addr, size, kind, wrote, pc);
        return wrote;
    }
    // See the header for when the access is marked.
    let may_acquire = may_acquire(kind);
    // Whether a compare-exchange writes is not known before.
    let is_marked = !may_acquire && !matches!(kind, AtomicOp::CompareExchange(..));
    if is_marked {
        mark(c, addr, size, kind, true, pc);
    }
    let mut found = None;
    // What releases nothing takes no lock where there is nothing to acquire, unless that changes meanwhile.
    if releases_nothing(c, kind) {
        found = sync::glance(addr);
        if found
            .as_ref()
            .is_none_or(|seen| seen.is_known_to(c, !may_acquire))
        {
            let wrote = op();
            let holds = match &found {
                Some(seen) => seen.holds(),
                // Who releases makes the object before the store; so if the store was seen, so is the object.
                None => sync::glance(addr).is_none(),
            };
            let is_repeatable = match kind {
                AtomicOp::Load(_) => true,
                AtomicOp::CompareExchange(..) => !wrote,
                AtomicOp::Store(_) | AtomicOp::Rmw(_) => false,
            };
            if holds || !is_repeatable {
                // If the clock is a later value's, that orders more than there is: a race may be missed, none invented.
                if !holds && let Some(mut held) = sync::find(addr) {
                    acquire(c, &mut held, order_of(kind, wrote));
                }
                if !is_marked {
                    mark(c, addr, size, kind, wrote, pc);
                }
                return wrote;
            }
        }
    }
    let held = found.and_then(Glance::lock).or_else(|| match kind {
        AtomicOp::Load(_) => sync::find(addr),
        _ => sync::find_or_make(addr),
    });
    let Some(mut held) = held else {
        // Nobody watches the address, or the memory ends at this moment.
        let wrote = op();
        if !is_marked {
            mark(c, addr, size, kind, wrote, pc);
        }
        return wrote;
    };
    let may_write = !matches!(kind, AtomicOp::Load(_));
    if may_write {
        held.change();
    }
    let wrote = op();
    let order = order_of(kind, wrote);
    let reads = !matches!(kind, AtomicOp::Store(_));
    let writes = match kind {
        AtomicOp::Load(_) => false,
        AtomicOp::Store(_) | AtomicOp::Rmw(_) => true,
        AtomicOp::CompareExchange(..) => wrote,
    };
    if reads {
        acquire(c, &mut held, order);
    }
    let tells = writes && releases(order);
    if !is_marked && tells {
        mark(c, addr, size, kind, wrote, pc);
    }
    if writes {
        match (tells, reads) {
            (true, true) => held.release_merge(c),
            (true, false) => held.release(c),
            (false, continues) => held.release_by_fence(c, continues),
        }
    }
    drop(held);
    if !is_marked && !tells {
        mark(c, addr, size, kind, wrote, pc);
    }
    if tells {
        slot::tick(c);
    }
    wrote
}

/// The declared order of what was done.
fn order_of(kind: AtomicOp, wrote: bool) -> Ordering {
    match kind {
        AtomicOp::Load(order) | AtomicOp::Store(order) | AtomicOp::Rmw(order) => order,
        AtomicOp::CompareExchange(order, _) if wrote => order,
        AtomicOp::CompareExchange(_, failed) => failed,
    }
}

/// Whether the operation changes C in one of its outcomes.
fn may_acquire(kind: AtomicOp) -> bool {
    match kind {
        AtomicOp::Load(order) | AtomicOp::Rmw(order) => acquires(order),
        AtomicOp::Store(_) => false,
        AtomicOp::CompareExchange(order, failed) => acquires(order) || acquires(failed),
    }
}

/// Whether the operation leaves M as it is, whatever it finds.
fn releases_nothing(c: &Ctx, kind: AtomicOp) -> bool {
    match kind {
        AtomicOp::Load(_) => true,
        AtomicOp::Store(_) => false,
        // A fence before it releases by it.
        AtomicOp::Rmw(order) | AtomicOp::CompareExchange(order, _) => {
            !releases(order) && c.release_fence.get().is_none()
        }
    }
}

/// What the operation read carries M.
fn acquire(c: &mut Ctx, held: &mut sync::Held, order: Ordering) {
    if acquires(order) {
        held.acquire(c);
    } else {
        held.acquire_by_fence(c);
    }
}

fn mark(c: &mut Ctx, addr: usize, size: usize, kind: AtomicOp, wrote: bool, pc: Pc) {
    let only_reads = match kind {
        AtomicOp::Load(_) => true,
        AtomicOp::CompareExchange(..) => !wrote,
        AtomicOp::Store(_) | AtomicOp::Rmw(_) => false,
    };
    access::check_atomic(
        c,
        addr,
        size,
        if only_reads { ATOMIC | READ } else { ATOMIC },
        pc,
    );
}

/// A fence of the current goroutine; the real fence is the caller's to execute too.
///
/// # Happens-before
/// A release fence, followed by a store, to the acquire fence that follows a load which reads from the store or its
/// release sequence. `Relaxed` does nothing.
#[inline(never)]
pub fn fence(order: Ordering) {
    let Some(ctx) = current() else { return };
    let c = ctx.get();
    if !c.watches_sync() {
        return;
    }
    let _busy = Busy::new();
    if acquires(order)
        && let Some(seen) = c.acquire_fence.get()
    {
        let closed = c.clock.join(seen);
        c.note_closed(closed);
    }
    if releases(order) {
        c.release_fence.get_or_new().copy_from(&c.clock);
        slot::tick(c);
    }
}
