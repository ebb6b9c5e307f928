//! Caches: for every kind and class a magazine of free objects, from which malloc pops and onto which free pushes.
//!
//! A cache belongs to a P, or to an OS thread while it has no P. Objects go from hand to hand through it without their memory, or
//! their span, being touched; spans are looked up when a magazine is filled or emptied, half of it at a time.
//!
//! # Invariants
//!
//! 1. A cache is used by one thread at a time, in a busy section: the M that has the P, or the thread that owns it; or by the
//!    collector with the world stopped.
//! 2. The first `len` items of a magazine are objects of its kind and class that are allocated to the cache.
//!
//! # References
//!
//! J. Bonwick and J. Adams, "Magazines and Vmem" (USENIX 2001); tcmalloc's per-CPU caches.

use crate::arena;
use crate::central::{self, Refill};
use crate::class::{CLASSES, TABLE};
use crate::futex::Lock;
use crate::gc::Kind;
use crate::meta::{Pool, Pooled};
use crate::span::Span;
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::*};

/// The most items of a magazine.
const ITEMS: usize = 128;
/// What a magazine holds at most, in bytes, if that is two objects or more.
const BYTES: usize = 32 << 10;
const KINDS: usize = 4;

/// How many objects a magazine of each class holds.
static CAPACITY: [u8; CLASSES] = {
    let mut all = [0; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        let fit = BYTES / TABLE[i].size as usize;
        all[i] = if fit > ITEMS {
            ITEMS as u8
        } else if fit < 2 {
            2
        } else {
            fit as u8
        };
        i += 1;
    }
    all
};

/// See the module's head.
#[repr(C)]
pub(crate) struct Cache {
    /// Pooled: the free list's.
    _link: AtomicPtr<()>,
    /// The next of all caches ever made. Written once.
    next: AtomicPtr<Cache>,
    magazines: UnsafeCell<[[Magazine; KINDS]; CLASSES]>,
}

struct Magazine {
    len: usize,
    items: [usize; ITEMS],
}

// SAFETY: by invariant 1 one thread at a time uses the magazines; the rest is atomic.
unsafe impl Sync for Cache {}
// SAFETY: valid when zero; the first word is free for the list.
unsafe impl Pooled for Cache {}

static CACHES: Pool<Cache> = Pool::new();
static ALL: AtomicPtr<Cache> = AtomicPtr::new(ptr::null_mut());

/// What a magazine that is empty needs.
pub(crate) enum Need {
    /// Nothing: try again.
    Nothing,
    /// This span, now the caller's, is to be swept outside the busy section.
    Sweep(&'static Span),
    /// A new span.
    Span,
}

impl Cache {
    /// Takes an object.
    ///
    /// # Safety
    ///
    /// Invariant 1: the caller is the user, in a busy section.
    #[inline(always)]
    pub(crate) unsafe fn pop(&self, kind: Kind, class: usize) -> Option<usize> {
        // SAFETY: by the contract.
        let magazine = unsafe { self.magazine(kind, class) };
        let len = magazine.len.checked_sub(1)?;
        magazine.len = len;
        // SAFETY: `len` is below `ITEMS` by invariant 2.
        Some(unsafe { *magazine.items.get_unchecked(len) })
    }

    /// Takes a manual object back; false: the magazine is full.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop); the object is the caller's, of that class.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, class: usize, object: usize) -> bool {
        // SAFETY: by the contract.
        let magazine = unsafe { self.magazine(Kind::Manual, class) };
        let len = magazine.len;
        if len >= usize::from(CAPACITY[class]) {
            return false;
        }
        // SAFETY: `len` is below the capacity, hence below `ITEMS`.
        unsafe { *magazine.items.get_unchecked_mut(len) = object };
        magazine.len = len + 1;
        true
    }

    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "the callers' contract makes it exclusive"
    )]
    unsafe fn magazine(&self, kind: Kind, class: usize) -> &mut Magazine {
        // SAFETY: by the callers' contract nobody else uses the magazines.
        let magazines = unsafe { &mut *self.magazines.get() };
        &mut magazines[class][kind as usize]
    }

    /// Fills an empty magazine from its central.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[cold]
    pub(crate) unsafe fn refill(&self, kind: Kind, class: usize) -> (Need, usize) {
        let capacity = usize::from(CAPACITY[class]);
        // Half, so that a free that follows finds room.
        let wanted = capacity / 2;
        // SAFETY: by the contract.
        let magazine = unsafe { self.magazine(kind, class) };
        debug_assert!(magazine.len == 0);
        match central::of(kind, class).refill(&mut magazine.items[..wanted]) {
            Refill::Filled(n) => {
                magazine.len = n;
                (Need::Nothing, n)
            }
            Refill::Sweep(span) => (Need::Sweep(span), 0),
            Refill::Empty => (Need::Span, 0),
        }
    }

    /// Makes room in a full magazine: its older half goes to the spans.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[cold]
    pub(crate) unsafe fn make_room(&self, class: usize) {
        // SAFETY: by the contract.
        let magazine = unsafe { self.magazine(Kind::Manual, class) };
        let older = magazine.len.div_ceil(2);
        give_all(&magazine.items[..older]);
        magazine.items.copy_within(older..magazine.len, 0);
        magazine.len -= older;
    }

    /// Gives all objects to their spans.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop), or with the world stopped.
    pub(crate) unsafe fn flush(&self) {
        for class in 0..CLASSES {
            for kind in [Kind::Manual, Kind::Scan, Kind::NoScan, Kind::Finalized] {
                // SAFETY: by the contract.
                let magazine = unsafe { self.magazine(kind, class) };
                // No store where there was none: most of a cache is memory that was never touched.
                if magazine.len > 0 {
                    let n = std::mem::take(&mut magazine.len);
                    give_all(&magazine.items[..n]);
                }
            }
        }
    }
}

/// Frees objects: neighbours in one word of a span's bits together.
fn give_all(objects: &[usize]) {
    let mut run: Option<(&'static Span, usize, u64)> = None;
    for &object in objects {
        let Some(span) = arena::span_of(object) else {
            crate::fatal_at("memory was freed that is not the heap's: ", object)
        };
        let index = span.index_of(object);
        let (word, bit) = (index / 64, 1u64 << (index % 64));
        run = match run {
            Some((s, w, bits)) if ptr::eq(s, span) && w == word && bits & bit == 0 => {
                Some((s, w, bits | bit))
            }
            before => {
                before
                    .into_iter()
                    .for_each(|(s, w, bits)| central::give(s, w, bits));
                Some((span, word, bit))
            }
        };
    }
    run.into_iter()
        .for_each(|(s, w, bits)| central::give(s, w, bits));
}

/// A cache to be used by nobody yet. None: out of memory. In a busy section.
pub(crate) fn make() -> Option<&'static Cache> {
    let cache = CACHES.take()?;
    let known = !cache.next.load(Relaxed).is_null();
    if !known {
        // The last one points to itself, so that a recycled cache is told from a new one.
        let this = ptr::from_ref(cache).cast_mut();
        let mut head = ALL.load(Relaxed);
        loop {
            cache
                .next
                .store(if head.is_null() { this } else { head }, Relaxed);
            match ALL.compare_exchange_weak(head, this, Release, Relaxed) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
    }
    Some(cache)
}

/// Takes a cache that [`make`] made, empty, out of use. In a busy section.
///
/// # Safety
///
/// Nobody uses it any more.
pub(crate) unsafe fn unmake(cache: &'static Cache) {
    // SAFETY: nobody else uses it.
    unsafe { cache.flush() };
    // SAFETY: from the pool, and ours.
    unsafe { CACHES.give(cache) };
}

/// Every cache that was ever made.
pub(crate) fn all() -> impl Iterator<Item = &'static Cache> {
    // SAFETY: null or a cache; caches are never unmapped.
    let first = unsafe { ALL.load(Acquire).as_ref() };
    std::iter::successors(first, |cache| {
        // SAFETY: as above.
        let next = unsafe { cache.next.load(Relaxed).as_ref() };
        next.filter(|next| !ptr::eq(*next, *cache))
    })
}

/// The lock of the pool, for `fork`.
pub(crate) fn pool_lock() -> &'static Lock {
    CACHES.lock()
}

const _: () = assert!(size_of::<Cache>() <= 512 << 10);
