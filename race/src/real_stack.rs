//! A place with its callers on the thread's real stack, as one place that history and records can
//! hold.
//!
//! The calls that compiled code announces are not enough. They name functions, not what was inlined
//! into them, and stop where a function is not instrumented: between the last announced call and the
//! event lies the program's own helper, inlined, or in a plain build the whole program.

use crate::ctx::Ctx;
use crate::current::{current, set_current};
use crate::state::host;
use crate::{Pc, depot};

/// The place `pc` (a location, a return address on the stack, or none) and its callers, innermost
/// first. Where the host cannot walk the stack, the callers are those that `c` has announced.
#[cold]
#[inline(never)]
pub(crate) fn with_callers(c: Option<&Ctx>, pc: Pc) -> Pc {
    match pc.is_none() {
        true => with::<{ depot::MOST_OF_HEAP }>(c, pc),
        false => with::<{ depot::MOST }>(c, pc),
    }
}

fn with<const MOST: usize>(c: Option<&Ctx>, pc: Pc) -> Pc {
    let mut frames = [pc; MOST];
    let above = usize::from(pc.location().is_some());
    let me = current();
    // What the host allocates meanwhile is nobody's: a walk never begins another.
    set_current(None);
    let count = (host().current_stack)(&mut frames[above..]);
    set_current(me);
    let real = above..above + count.min(frames.len() - above);
    let first = match pc.code_address() {
        Some(_) => frames[real.clone()].iter().position(|frame| *frame == pc),
        None => Some(0).filter(|_| count > 0),
    };
    if let Some(first) = first {
        return depot::intern(&frames[first..real.end]);
    }
    frames[0] = pc;
    let announced = c.map_or(0, |c| c.near_callers(&mut frames[1..]));
    depot::intern(&frames[..1 + announced])
}
