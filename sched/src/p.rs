//! P: the right to run goroutines, with all that belongs to whoever has it.
//!
//! # States
//!
//! | state | who may leave it |
//! | --- | --- |
//! | Idle | whoever takes it off the idle list, under the idle lock |
//! | Running | the M that has it in `m.p`; that M's signal handler |
//! | Syscall | by compare-exchange: the M coming back, sysmon, or a stopper of the world |
//! | HandOff | by compare-exchange: sysmon, or a stopper; the M's signal handler left it behind |
//! | Stopped | the stopper of the world |
//! | Dead | `resize`, with the world stopped; in a child of `fork` nobody: all Ps of the parent are Dead |
//!
//! # Invariants
//!
//! 1. The owner-only fields (`deque`, `free`, `rng`, ...) are touched only by the holder: the M in state Running, the
//!    stopper in state Stopped or Dead.
//! 2. A P is never freed: the others may always read its atomics and steal through its stealer.
//!
//! # Memory ordering
//!
//! - `status: compare_exchange/store Release` ⇄ `compare_exchange Acquire`: the next holder sees the owner-only fields.
//! - `runnext: swap SeqCst` to put, `swap AcqRel` to take: publishes the G, and takes it exactly once.

use crate::bind::Cache;
use crate::g::G;
use crate::timer::Heap;
use crossbeam_deque::{Stealer, Worker};
use raddle_alloc::CacheRef;
use raddle_race::ProcCtx;
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, Ordering};

/// A G in a run queue.
#[derive(Clone, Copy)]
pub(crate) struct Queued(pub(crate) &'static G);

// SAFETY: a Runnable G belongs to nobody; the queue hands it to exactly one M (`g` state table).
unsafe impl Send for Queued {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Status {
    Idle = 0,
    Running = 1,
    Syscall = 2,
    HandOff = 3,
    Stopped = 4,
    Dead = 5,
}

/// See the module's head. Aligned to keep the atomics of two Ps off one pair of cache lines.
#[repr(align(128))]
pub(crate) struct P {
    pub(crate) id: u32,
    status: AtomicU32,
    /// Counts turns: sysmon sees by it that a goroutine ran too long. A G from `runnext` goes on in the same turn.
    pub(crate) tick: AtomicU32,
    /// Counts switches to a goroutine: a thief sees by it that a `runnext` has moved.
    pub(crate) switches: AtomicU32,
    /// Counts blocking calls.
    pub(crate) syscall_tick: AtomicU32,
    pub(crate) runnext: AtomicPtr<G>,
    pub(crate) stealer: Stealer<Queued>,
    pub(crate) timers: Heap,
    /// Goroutines spawned minus goroutines ended here. Written by the holder only.
    live: AtomicI64,
    // Owner-only from here (invariant 1).
    pub(crate) deque: Worker<Queued>,
    pub(crate) stacks: Cache,
    free: Cell<*mut G>,
    free_len: Cell<u32>,
    ids: Cell<(u64, u64)>,
    rng: Cell<u32>,
    /// Until when its timers wait for goroutines that wait for their turns.
    pub(crate) timers_rest_until: Cell<u64>,
    pub(crate) race: Cell<Option<ProcCtx>>,
    /// Its cache of the heap, while it takes part.
    pub(crate) heap: Cell<Option<CacheRef>>,
}

// SAFETY: the owner-only fields are guarded by the status (invariant 1), the others are atomics.
unsafe impl Sync for P {}
// SAFETY: as above.
unsafe impl Send for P {}

impl std::fmt::Debug for P {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("P")
            .field("id", &self.id)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// The longest local queue, as in Go.
const QUEUE_MAX: usize = 256;
/// Dead Gs that a P keeps for itself; beyond it half go to the global list.
const FREE_MAX: u32 = 64;
/// Goroutine ids are taken from the global counter in runs.
const ID_BATCH: u64 = 64;

impl P {
    pub(crate) fn new(id: u32, seed: u32) -> P {
        let deque = Worker::new_fifo();
        P {
            id,
            status: AtomicU32::new(Status::Dead as u32),
            tick: AtomicU32::new(0),
            switches: AtomicU32::new(0),
            syscall_tick: AtomicU32::new(0),
            runnext: AtomicPtr::new(ptr::null_mut()),
            stealer: deque.stealer(),
            timers: Heap::new(),
            live: AtomicI64::new(0),
            deque,
            stacks: Cache::new(),
            free: Cell::new(ptr::null_mut()),
            free_len: Cell::new(0),
            ids: Cell::new((0, 0)),
            rng: Cell::new((seed ^ id.wrapping_mul(0x9e37_79b9)) | 1),
            timers_rest_until: Cell::new(0),
            race: Cell::new(None),
            heap: Cell::new(None),
        }
    }

    pub(crate) fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            0 => Status::Idle,
            1 => Status::Running,
            2 => Status::Syscall,
            3 => Status::HandOff,
            4 => Status::Stopped,
            _ => Status::Dead,
        }
    }

    /// The holder gives it a new status, and with it perhaps away.
    #[inline]
    pub(crate) fn set_status(&self, status: Status) {
        self.status.store(status as u32, Ordering::Release);
    }

    /// Takes the P out of a status that several may end.
    #[inline]
    pub(crate) fn take_from(&self, from: Status, to: Status) -> bool {
        self.status
            .compare_exchange(from as u32, to as u32, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// A random number, by xorshift.
    pub(crate) fn random(&self) -> u32 {
        let mut x = self.rng.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.rng.set(x);
        x
    }

    /// Makes `g` the next to run here; what was next goes to the tail of the queue. True if something was.
    #[inline]
    pub(crate) fn put_next(&self, g: &'static G) -> bool {
        // SeqCst: see `IdleWord::needs_wake_after_seqcst`.
        let old = self
            .runnext
            .swap(ptr::from_ref(g).cast_mut(), Ordering::SeqCst);
        // SAFETY: null, or a G that `put_next` stored; Gs are never freed.
        match unsafe { old.as_ref() } {
            Some(old) => {
                self.push(old);
                true
            }
            None => false,
        }
    }

    /// Puts `g` at the tail of the queue.
    #[inline]
    pub(crate) fn push(&self, g: &'static G) {
        self.deque.push(Queued(g));
        if self.deque.len() > QUEUE_MAX {
            self.overflow();
        }
    }

    /// Moves the front half of the queue to the global one.
    ///
    /// A program that starts goroutines faster than they end thus works on its newest few hundred first, and a tree of
    /// goroutines is walked down before it is walked across: it has far fewer of them alive at once.
    #[cold]
    fn overflow(&self) {
        for _ in 0..QUEUE_MAX / 2 {
            let Some(g) = self.deque.pop() else { break };
            crate::sched::sched().injector.push(g);
        }
    }

    /// Takes the next G, for the holder and for thieves alike.
    #[inline]
    pub(crate) fn take_next(&self) -> Option<&'static G> {
        if self.runnext.load(Ordering::Relaxed).is_null() {
            return None;
        }
        // SAFETY: as in `put_next`.
        unsafe {
            self.runnext
                .swap(ptr::null_mut(), Ordering::AcqRel)
                .as_ref()
        }
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.stealer.is_empty()
    }

    pub(crate) fn has_work(&self) -> bool {
        // SeqCst: pairs with `put_next`.
        self.has_queued() || !self.runnext.load(Ordering::SeqCst).is_null()
    }

    #[inline]
    pub(crate) fn add_live(&self, n: i64) {
        // Only the holder writes: no read-modify-write needed.
        self.live
            .store(self.live.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    pub(crate) fn live(&self) -> i64 {
        self.live.load(Ordering::Relaxed)
    }

    /// A fresh goroutine id; `refill` gives the first of a run of `n`.
    #[inline]
    pub(crate) fn next_id(&self, refill: impl FnOnce(u64) -> u64) -> u64 {
        let (mut id, mut end) = self.ids.get();
        if id == end {
            id = refill(ID_BATCH);
            end = id + ID_BATCH;
        }
        self.ids.set((id + 1, end));
        id
    }

    /// A dead G of the default stack size.
    #[inline]
    pub(crate) fn pop_free(&self) -> Option<&'static G> {
        // SAFETY: null, or a G that `push_free` stored.
        let g = unsafe { self.free.get().as_ref() }?;
        self.free.set(g.link.load(Ordering::Relaxed));
        self.free_len.set(self.free_len.get() - 1);
        Some(g)
    }

    /// Keeps a dead G. When there are too many, the older half comes back as a list for the global one.
    #[inline]
    pub(crate) fn push_free(&self, g: &'static G) -> Option<FreeList> {
        g.link.store(self.free.get(), Ordering::Relaxed);
        self.free.set(ptr::from_ref(g).cast_mut());
        self.free_len.set(self.free_len.get() + 1);
        (self.free_len.get() >= FREE_MAX).then(|| self.split_free(FREE_MAX / 2))
    }

    #[cold]
    fn split_free(&self, keep: u32) -> FreeList {
        let mut last = self.free.get();
        for _ in 1..keep {
            // SAFETY: the list has more than `keep` members.
            last = unsafe { &*last }.link.load(Ordering::Relaxed);
        }
        // SAFETY: as above.
        let rest = unsafe { &*last }
            .link
            .swap(ptr::null_mut(), Ordering::Relaxed);
        let len = self.free_len.replace(keep) - keep;
        FreeList { head: rest, len }
    }

    /// All dead Gs, when the P goes away.
    pub(crate) fn drain_free(&self) -> FreeList {
        FreeList {
            head: self.free.replace(ptr::null_mut()),
            len: self.free_len.replace(0),
        }
    }

    /// Fills an empty free list.
    pub(crate) fn refill_free(&self, list: FreeList) {
        debug_assert!(self.free.get().is_null());
        self.free.set(list.head);
        self.free_len.set(list.len);
    }
}

/// Dead Gs linked by `G::link`.
#[derive(Debug)]
pub(crate) struct FreeList {
    pub(crate) head: *mut G,
    pub(crate) len: u32,
}

// SAFETY: the Gs of a free list are Idle: they belong to the list's owner.
unsafe impl Send for FreeList {}

impl FreeList {
    pub(crate) const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
            len: 0,
        }
    }

    pub(crate) fn push(&mut self, g: &'static G) {
        g.link.store(self.head, Ordering::Relaxed);
        self.head = ptr::from_ref(g).cast_mut();
        self.len += 1;
    }

    /// Adds all of `other`.
    pub(crate) fn append(&mut self, mut other: FreeList) {
        while let Some(g) = other.pop() {
            self.push(g);
        }
    }

    /// Takes up to `n`.
    pub(crate) fn take(&mut self, n: u32) -> FreeList {
        let mut taken = FreeList::new();
        while taken.len < n
            && let Some(g) = self.pop()
        {
            taken.push(g);
        }
        taken
    }

    pub(crate) fn pop(&mut self) -> Option<&'static G> {
        // SAFETY: null, or a G that was pushed; Gs are never freed.
        let g = unsafe { self.head.as_ref() }?;
        self.head = g.link.load(Ordering::Relaxed);
        self.len -= 1;
        Some(g)
    }
}
