//! The central lists: of every kind and class, the spans that have free objects.
//!
//! # Invariants
//!
//! 1. A span in place Partial, and of a collected kind also in Full or Unswept, is in that list of its central, and in no other.
//! 2. Objects leave a span under its central's lock, and only from a span that is swept.
//! 3. A manual span in place Full is in no list; whoever frees an object in it puts it back.
//!
//! # Blocking
//!
//! A [`Lock`], in busy sections only, for one word of bits at a time.

use crate::class::{CLASSES, LARGE};
use crate::futex::{Lock, Locked};
use crate::gc::Kind;
use crate::pages;
use crate::span::{List, Place, Span};

/// See the module's head.
pub(crate) struct Central {
    lists: Locked<Lists>,
}

struct Lists {
    partial: List,
    full: List,
    unswept: List,
}

const KINDS: usize = 4;
static CENTRALS: [[Central; CLASSES + 1]; KINDS] =
    [const { [const { Central::new() }; CLASSES + 1] }; KINDS];

/// The central of a kind and a class, or [`LARGE`].
pub(crate) fn of(kind: Kind, class: usize) -> &'static Central {
    &CENTRALS[kind as usize][class]
}

/// All centrals.
pub(crate) fn all() -> impl Iterator<Item = &'static Central> {
    CENTRALS.iter().flatten()
}

/// The centrals of collected kinds.
pub(crate) fn collected() -> impl Iterator<Item = &'static Central> {
    CENTRALS[1..].iter().flatten()
}

/// The centrals of one kind.
pub(crate) fn of_kind(kind: Kind) -> &'static [Central] {
    &CENTRALS[kind as usize]
}

/// What [`Central::refill`] found.
pub(crate) enum Refill {
    /// So many addresses were written.
    Filled(usize),
    /// This span, now in place Out, is to be swept first.
    Sweep(&'static Span),
    /// A new span is needed.
    Empty,
}

impl Central {
    const fn new() -> Self {
        Self {
            lists: Locked::new(Lists {
                partial: List::new(),
                full: List::new(),
                unswept: List::new(),
            }),
        }
    }

    /// The lock, for `fork`.
    pub(crate) fn lock(&self) -> &Lock {
        self.lists.lock()
    }

    /// Takes free objects, as many as `out` has room for or one word of bits has, the lowest address last.
    pub(crate) fn refill(&self, out: &mut [usize]) -> Refill {
        self.lists.with(|lists| {
            while let Some(span) = lists.partial.first() {
                let taken = span.take(out);
                if taken > 0 {
                    return Refill::Filled(taken);
                }
                lists.partial.remove(span);
                lists.put_full(span);
            }
            match lists.unswept.pop() {
                Some(span) => {
                    span.set_place(Place::Out);
                    Refill::Sweep(span)
                }
                None => Refill::Empty,
            }
        })
    }

    /// Puts a span in place Out, new or swept, in the list that it belongs to. If all of it is free and there are others, it comes back: it is
    /// not needed.
    #[must_use]
    pub(crate) fn put(&self, span: &'static Span, is_new: bool) -> Option<&'static Span> {
        self.lists.with(|lists| {
            let spare = !is_new && (span.is_large() || lists.partial.first().is_some());
            if spare && span.is_all_free() {
                return Some(span);
            }
            if span.has_free() {
                span.set_place(Place::Partial);
                lists.partial.push_front(span);
            } else {
                lists.put_full(span);
            }
            None
        })
    }

    /// Objects of a full span became free: it is of use again.
    #[cold]
    fn relist(&self, span: &'static Span, kind: Kind, class: usize) {
        self.lists.with(|lists| {
            // It may have gone, and even come back as another's, while nobody held the lock.
            let is_ours = is_in(span, Place::Full, kind, class);
            if is_ours && span.has_free() {
                if kind != Kind::Manual {
                    lists.full.remove(span);
                }
                span.set_place(Place::Partial);
                lists.partial.push_front(span);
            }
        });
    }

    /// All of a span became free: takes it out of its list, unless it is the last there.
    #[cold]
    fn unlist(&self, span: &'static Span, kind: Kind, class: usize) -> bool {
        self.lists.with(|lists| {
            let is_ours = is_in(span, Place::Partial, kind, class);
            let is_last = lists.partial.iter().nth(1).is_none();
            if !is_ours || is_last || !span.is_all_free() {
                return false;
            }
            lists.partial.remove(span);
            span.set_place(Place::Out);
            true
        })
    }

    /// Shows every span of this collected central that is swept. With the world stopped.
    pub(crate) fn each_swept(&self, f: impl FnMut(&'static Span)) {
        self.lists
            .with(|lists| lists.partial.iter().chain(lists.full.iter()).for_each(f));
    }

    /// The marking is over: every span of this collected central is to be swept. Returns how many. With the world stopped.
    pub(crate) fn all_unswept(&self) -> usize {
        self.lists.with(|lists| {
            let Lists {
                partial,
                full,
                unswept,
            } = lists;
            let mut spans = 0;
            for span in partial.iter().chain(full.iter()) {
                span.set_place(Place::Unswept);
                spans += 1;
            }
            unswept.append(partial);
            unswept.append(full);
            spans
        })
    }

    /// How many spans are to be swept.
    ///
    /// # Safety
    ///
    /// The caller holds the lock.
    pub(crate) unsafe fn count_unswept(&self) -> usize {
        // SAFETY: by the contract.
        unsafe { &*self.lists.get() }.unswept.iter().count()
    }

    /// Takes a span to sweep, in place Out.
    pub(crate) fn next_unswept(&self) -> Option<&'static Span> {
        self.lists.with(|lists| {
            let span = lists.unswept.pop()?;
            span.set_place(Place::Out);
            Some(span)
        })
    }
}

impl Lists {
    fn put_full(&mut self, span: &'static Span) {
        span.set_place(Place::Full);
        if span.kind() != Kind::Manual {
            self.full.push_front(span);
        } else if span.has_free() {
            // Freed while it was on its way out: whoever did that may have seen it still in the list.
            span.set_place(Place::Partial);
            self.partial.push_front(span);
        }
    }
}

/// Whether a span is in `place` in the central of a kind and a class, whose lock the caller holds.
fn is_in(span: &Span, place: Place, kind: Kind, class: usize) -> bool {
    // The place may be one in another central, and the rest of the span's next life, which is not listed yet: then, with our lock held, it
    // is Out until we are done, so the place is looked at again.
    span.place() == place && span.kind() == kind && span.class() == class && span.place() == place
}

/// Frees objects of a span, which the caller owns. To be called in a busy section.
pub(crate) fn give(span: &'static Span, word: usize, bits: u64) {
    // Read while our objects keep the span what it is.
    let (kind, class) = (span.kind(), span.class());
    debug_assert!(class != LARGE);
    let all_free = span.give(word, bits);
    if span.place() == Place::Full {
        of(kind, class).relist(span, kind, class);
    }
    if all_free && of(kind, class).unlist(span, kind, class) {
        pages::give(span, crate::now_ns());
    }
}
