//! Where a goroutine's stack begins while nobody runs on it: what the collector must know of one that is parked.
//!
//! corosensei keeps the stack pointer of a suspended coroutine to itself. So whoever is about to leave a goroutine's stack
//! notes its own stack pointer first; what the switch itself pushes lies at most [`margin`] below. How much that is depends on
//! how the program was compiled (24 bytes when optimised, 600 when not), so it is measured at boot.
//!
//! # Why no moment is left out
//!
//! The collector looks with the world stopped. A goroutine on whose slot a stopped thread stands is live from that thread's
//! stack pointer up, whatever is noted here. Else no thread is on its stack, and the note is right, since it is written at
//! each step that leads there:
//!
//! | step | the note, when nobody stands on the stack |
//! | --- | --- |
//! | bound, and not yet entered | `FRESH`: nothing is on the stack, what it will run is in the G |
//! | `suspend`, until the switch in of the next turn is done | of the suspension: nothing changes the stack meanwhile |
//! | `blocking` and `on_big_stack`, while `f` runs on the M's stack | of the step to that stack |
//! | it has returned, until `unbind` | an old one, or `FRESH`: its frames are gone, and what is shown too much is mapped memory |
//! | unbound | none |
//!
//! A note that is written while the goroutine is still on its stack changes nothing until it has left.
//!
//! # Invariants
//!
//! 1. Written by the owner of the stack, read with the world stopped. It is one word: a thread that is stopped on its way leaves
//!    the old note or the new one. Reports read it at any time, to learn which stack the goroutine has: any note since it was bound
//!    says that.
//!
//! # Memory ordering
//!
//! Relaxed: the signals that stop the world order the collector's reads, and reports take what they see as a hint.

use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, Yielder};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Written once, at boot, before there is a goroutine.
static MARGIN: AtomicUsize = AtomicUsize::new(0);

/// What may lie below the noted stack pointer, in bytes: the frames of corosensei's `suspend` and `on_parent_stack`, with the
/// registers that they save.
pub(crate) fn margin() -> usize {
    MARGIN.load(Relaxed)
}

/// Measures [`margin`].
pub(crate) fn measure() {
    /// For words that happen to be zero where the search begins, and for other frames where the calls are inlined otherwise.
    const SLACK: usize = 512;
    let suspend = depth(|_| ());
    let step = depth(|yielder| yielder.on_parent_stack(|| ()));
    MARGIN.store(suspend.max(step) + SLACK, Relaxed);
}

/// How far below what it notes a coroutine writes to its stack when it calls `step` and suspends.
fn depth(step: fn(&Yielder<(), ()>)) -> usize {
    /// Words of a stack for one short call.
    const WORDS: usize = 8 << 10;
    struct Zeros(Box<[u128]>);
    // SAFETY: the base is aligned to 16, and the memory below it is there, down to the limit. There is no guard page: what
    // runs on it, once, is `suspend` or `on_parent_stack`, and the measure says that these need a hundredth of it.
    unsafe impl Stack for Zeros {
        fn base(&self) -> StackPointer {
            StackPointer::new(self.0.as_ptr_range().end.addr()).expect("not at address 0")
        }

        fn limit(&self) -> StackPointer {
            StackPointer::new(self.0.as_ptr().addr()).expect("not at address 0")
        }
    }
    let parked = Parked::new();
    let stack = Zeros(vec![0; WORDS / 2].into());
    let bottom: *const u64 = stack.0.as_ptr().cast();
    let noted: *const Parked = &parked;
    let mut co = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
        // SAFETY: it lives as long as the coroutine.
        unsafe { &*noted }.leaves();
        step(yielder);
        yielder.suspend(());
    });
    co.resume(());
    let words = (0..WORDS).map(|i| bottom.wrapping_add(i));
    // SAFETY: the coroutine's stack, which nobody stands on.
    let untouched = words.take_while(|word| unsafe { word.read_volatile() } == 0);
    let lowest = bottom.wrapping_add(untouched.count()).addr();
    co.resume(());
    match parked.note() {
        Note::Left(sp) => sp.saturating_sub(lowest),
        _ => crate::throw("a coroutine did not run"),
    }
}

/// The goroutine has been bound, or has begun, and not suspended since. Stack pointers are even.
const FRESH: usize = 1;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Parked(AtomicUsize);

/// What is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// It has no stack.
    Unbound,
    /// It has not left its stack yet; the stack's top.
    Fresh(usize),
    /// The stack pointer when it left its stack.
    Left(usize),
}

impl Parked {
    pub(crate) const fn new() -> Parked {
        Parked(AtomicUsize::new(0))
    }

    /// It gets a stack.
    pub(crate) fn bound(&self, top: usize) {
        self.0.store((top & !15) | FRESH, Relaxed);
    }

    /// Its stack is taken away.
    pub(crate) fn unbound(&self) {
        self.0.store(0, Relaxed);
    }

    /// The caller, on the goroutine's stack, leaves it next, from this very frame.
    #[inline(always)]
    pub(crate) fn leaves(&self) {
        self.0.store(crate::arch::stack_pointer(), Relaxed);
    }

    /// An address in its stack, when it has one.
    pub(crate) fn within(&self) -> Option<usize> {
        match self.note() {
            Note::Unbound => None,
            // Above the stack proper lies the block, or, with thread-bound thread-locals, the next slot.
            Note::Fresh(top) => Some(top - 1),
            Note::Left(sp) => Some(sp),
        }
    }

    pub(crate) fn note(&self) -> Note {
        match self.0.load(Relaxed) {
            0 => Note::Unbound,
            top if top & FRESH != 0 => Note::Fresh(top & !FRESH),
            sp => Note::Left(sp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Note, Parked, margin, measure};
    use crate::stack::{self, CoStack};
    use corosensei::{Coroutine, Yielder};

    const PAINT: u8 = 0xa5;
    const PAINTED: usize = 16 << 10;

    /// The lowest painted byte that `step`, on a fresh stack, changed below what it noted; as a depth.
    fn depth(step: fn(&Yielder<(), ()>, &Parked)) -> usize {
        let slot = stack::alloc(stack::DEFAULT_BYTES).expect("a slot");
        let top = slot.top() - 4096;
        // SAFETY: the slot is ours and nobody is on it.
        let stack = unsafe { CoStack::new(&slot, top) };
        let parked = std::rc::Rc::new(Parked::new());
        let noted = parked.clone();
        let mut co: Coroutine<(), (), (), CoStack> =
            Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
                yielder.suspend(());
                step(yielder, &noted);
            });
        co.resume(());
        // It stands in the first `suspend`; what is painted lies below it, with room for that frame.
        let paint = top - PAINTED..top - 2048;
        for at in paint.clone() {
            // SAFETY: the slot's own memory, below all that is on it.
            unsafe { (at as *mut u8).write_volatile(PAINT) };
        }
        co.resume(());
        let Note::Left(sp) = parked.note() else {
            panic!("nothing was noted");
        };
        let changed = paint
            .clone()
            .find(|at| {
                // SAFETY: as above.
                unsafe { (*at as *const u8).read_volatile() != PAINT }
            })
            .expect("the step goes deep enough");
        while !co.done() {
            co.resume(());
        }
        // The slot is not given back: it has no block.
        sp.saturating_sub(changed)
    }

    /// Frames above the step, so that it happens in the painted part.
    #[inline(never)]
    fn deep(yielder: &Yielder<(), ()>, parked: &Parked, then: fn(&Yielder<(), ()>, &Parked)) {
        let pad = [1u8; 4096];
        std::hint::black_box(&pad);
        then(yielder, parked);
        std::hint::black_box(&pad);
    }

    #[test]
    fn a_switch_stays_within_the_margin() {
        #[inline(never)]
        fn suspend(yielder: &Yielder<(), ()>, parked: &Parked) {
            parked.leaves();
            yielder.suspend(());
        }
        let depth = depth(|yielder, parked| deep(yielder, parked, suspend));
        measure();
        assert!(depth <= margin(), "suspend goes {depth} bytes deep");
        assert!(margin() < 2048, "far more than that was measured");
    }

    #[test]
    fn a_step_to_the_parent_stack_stays_within_the_margin() {
        #[inline(never)]
        fn step(yielder: &Yielder<(), ()>, parked: &Parked) {
            parked.leaves();
            yielder.on_parent_stack(|| ());
            yielder.suspend(());
        }
        let depth = depth(|yielder, parked| deep(yielder, parked, step));
        measure();
        assert!(depth <= margin(), "the step goes {depth} bytes deep");
    }

    #[test]
    fn notes_are_told_apart() {
        let parked = Parked::new();
        assert_eq!(parked.note(), Note::Unbound);
        parked.bound(0x1008);
        assert_eq!(parked.note(), Note::Fresh(0x1000));
        parked.leaves();
        assert!(matches!(parked.note(), Note::Left(_)));
        parked.unbound();
        assert_eq!(parked.note(), Note::Unbound);
    }
}
