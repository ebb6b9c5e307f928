//! Atomic operations as the detector sees them: it runs the operation itself, so that the clock it keeps for the
//! address always belongs to the value that the operation saw or left.

use std::panic::Location;
use std::sync::atomic::Ordering;

use raddle_race::{self as race, AtomicOp, Pc};
use raddle_sched::enter;

/// Runs `op` on the `size` bytes at `addr`, once or, if it did not write, perhaps twice; `wrote` tells from its result whether it did.
///
/// One predictable branch and `op` when race mode is off.
#[inline(always)]
pub(super) fn watched<R>(
    addr: usize,
    size: usize,
    kind: AtomicOp,
    at: &'static Location<'static>,
    op: impl Fn() -> R,
    wrote: impl Fn(&R) -> bool,
) -> R {
    if !race::enabled() || is_misuse(kind) {
        return op();
    }
    let mut result = None;
    tell(addr, size, kind, at, &mut || wrote(result.insert(op())));
    result.expect("the detector runs the operation")
}

/// An order that the operation refuses with a panic, which must not happen inside the detector.
fn is_misuse(kind: AtomicOp) -> bool {
    use Ordering::{AcqRel, Acquire, Release};
    match kind {
        AtomicOp::Load(order) => matches!(order, Release | AcqRel),
        AtomicOp::Store(order) => matches!(order, Acquire | AcqRel),
        AtomicOp::CompareExchange(_, failure) => matches!(failure, Release | AcqRel),
        AtomicOp::Rmw(_) => false,
    }
}

#[cold]
#[inline(never)]
fn tell(
    addr: usize,
    size: usize,
    kind: AtomicOp,
    at: &'static Location<'static>,
    op: &mut dyn FnMut() -> bool,
) {
    let _inside = enter();
    race::atomic(addr, size, kind, Pc::at(at), op);
}

/// Orders memory accesses as `std::sync::atomic::fence` does.
///
/// **Happens-before**: a release fence before a store happens before an acquire fence after a load that sees the store.
///
/// # Panics
///
/// If `order` is `Relaxed`.
#[inline]
pub fn fence(order: Ordering) {
    std::sync::atomic::fence(order);
    if race::enabled() {
        let _inside = enter();
        race::fence(order);
    }
}
