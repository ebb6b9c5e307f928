//! G: a goroutine, or an OS thread that uses the runtime.
//!
//! Gs lie side by side in regions of their own, with the closure that the goroutine will run. A goroutine gets a stack when it
//! first runs, and gives it back when it ends: one that waits for its first turn costs a G only, and those that run through
//! without waiting do so one after the other on one warm stack. A *thread G* stands for a plain OS thread: it has no stack
//! of ours, and parking it blocks the thread.
//!
//! # Invariants
//!
//! 1. All fields but the atomics are touched only by the owner of the stack as `state` names it, and by a spawner before
//!    the G is first queued.
//! 2. `m` is non-null exactly while an M owns the stack. A goroutine may use it between two points where it can switch.
//! 3. A `G` is never freed while the process lives, but recycled. So a late look at its state word, or a futex wake on it, is
//!    harmless.
//! 4. Between spawn and the goroutine's first step its closure lies in `data`.
//! 5. In a child of `fork` the goroutines of the parent are told by `forks`: they stay as they are, and no M runs them.
//!
//! # Memory ordering
//!
//! Of the state word: see `state`. `try_claim: compare_exchange AcqRel`: of several wakers one wins, and sees what the waiter
//! published.

use crate::bind::Stack;
use crate::m::M;
use crate::parked::Parked;
use crate::rt::{Rt, UnlockFn};
use crate::stack::CoStack;
pub(crate) use crate::state::State;
use crate::state::StateWord;
use crate::sys::Lock;
use crate::wait::WaitReason;
use corosensei::{Coroutine, Yielder};
use raddle_alloc::ThreadSlot;
use raddle_race::GoCtx;
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The coroutine of a goroutine: nothing passes through a switch but control.
pub(crate) type Co = Coroutine<(), (), (), CoStack>;

/// What the scheduler does for a G that has just left its stack. Runs on g0.
pub(crate) type AfterFn = unsafe fn(m: &'static M, g: &'static G, arg: *mut ());

/// The largest closure that a G holds, in bytes; its alignment is at most 16.
pub const DATA_BYTES: usize = 96;

/// See the module's head.
///
/// The order of fields is that of use: what a switch touches comes first, in few cache lines. A thousand goroutines that
/// run in turn miss the cache at every line of each.
#[repr(C, align(64))]
pub(crate) struct G {
    pub(crate) state: StateWord,
    claim: AtomicU32,
    pub(crate) m: Cell<*const M>,
    /// The number of the M that ran it last, whose thread its thread-local block still names; 0: none.
    pub(crate) last_m: Cell<u32>,
    /// How often the process had been forked when it began: in a child of `fork` those of the parent are told by it.
    pub(crate) forks: Cell<u16>,
    wait_reason: Cell<WaitReason>,
    pub(crate) is_thread: bool,
    /// It is the runtime's own: neither counted nor listed.
    pub(crate) system: Cell<bool>,
    /// Set by the deadlock report: the goroutine prints where it is and suspends again.
    pub(crate) dump: Cell<bool>,
    pub(crate) after: Cell<Option<(AfterFn, *mut ())>>,
    pub(crate) yielder: Cell<*const Yielder<(), ()>>,
    pub(crate) unlock: Cell<Option<UnlockFn>>,
    wait_at: Cell<Option<&'static Location<'static>>>,
    wait_since: AtomicU64,
    pub(crate) co: UnsafeCell<MaybeUninit<Co>>,
    /// Where its stack begins while nobody runs on it, for the collector: see [`Parked`].
    pub(crate) parked: Parked,
    /// Where its thread-local block names the heap's record of the thread: set at its first step.
    pub(crate) heap_slot: Cell<Option<ThreadSlot>>,
    /// The M to which the goroutine is locked. Of an M's own thread G: that M.
    pub(crate) locked_m: Cell<*const M>,
    pub(crate) race: Cell<Option<GoCtx>>,
    pub(crate) stack: Cell<Option<Stack>>,
    id: AtomicU64,
    /// The next G in a free list.
    pub(crate) link: AtomicPtr<G>,
    pub(crate) entry: Cell<Option<unsafe fn(*mut u8)>>,
    pub(crate) fini: Cell<Option<Fini>>,
    pub(crate) release: Cell<Option<Release>>,
    /// Guards `name`, which reports read while the goroutine runs. The owner alone changes it.
    name_lock: Lock,
    name: UnsafeCell<Option<Arc<str>>>,
    pub(crate) created_at: Cell<Option<&'static Location<'static>>>,
    pub(crate) data: UnsafeCell<MaybeUninit<Data>>,
}

/// `Task::release` with its argument.
pub(crate) type Release = (unsafe fn(*mut ()), *mut ());

/// `Task::fini` with its argument.
pub(crate) type Fini = (unsafe fn(&Rt, *mut ()), *mut ());

/// Six cache lines: a million goroutines that wait for their first turn are worth counting bytes.
const _: () = assert!(size_of::<G>() == 384);

/// Room for a closure.
#[repr(C, align(16))]
pub(crate) struct Data([u8; DATA_BYTES]);

// SAFETY: by invariant 1 the cells are the owner's; the others use the atomics, and read the wait's cells of parked Gs.
unsafe impl Sync for G {}
// SAFETY: as above.
unsafe impl Send for G {}

impl std::fmt::Debug for G {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("G")
            .field("id", &self.id())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl G {
    /// A G with no goroutine in it.
    pub(crate) fn new(is_thread: bool) -> G {
        G {
            state: StateWord::new(),
            claim: AtomicU32::new(0),
            m: Cell::new(ptr::null()),
            last_m: Cell::new(0),
            forks: Cell::new(0),
            wait_reason: Cell::new(WaitReason::None),
            is_thread,
            system: Cell::new(false),
            dump: Cell::new(false),
            after: Cell::new(None),
            yielder: Cell::new(ptr::null()),
            unlock: Cell::new(None),
            wait_at: Cell::new(None),
            wait_since: AtomicU64::new(0),
            co: UnsafeCell::new(MaybeUninit::uninit()),
            parked: Parked::new(),
            heap_slot: Cell::new(None),
            locked_m: Cell::new(ptr::null()),
            race: Cell::new(None),
            stack: Cell::new(None),
            id: AtomicU64::new(0),
            link: AtomicPtr::new(ptr::null_mut()),
            entry: Cell::new(None),
            fini: Cell::new(None),
            release: Cell::new(None),
            name_lock: Lock::new(),
            name: UnsafeCell::new(None),
            created_at: Cell::new(None),
            data: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// What it is doing.
    pub(crate) fn state(&self) -> State {
        self.state.load()
    }

    /// `m` took it off a queue and is about to run it.
    #[inline]
    pub(crate) fn runs_on(&self, m: *const M) {
        self.state.transition_to_running();
        self.m.set(m);
    }

    /// On g0: it is off its stack, and waits.
    #[inline]
    pub(crate) fn waits(&self) {
        self.wait_since
            .store(crate::clock::coarse_ns(), Ordering::Relaxed);
        self.m.set(ptr::null());
        self.state.transition_to_waiting();
    }

    /// On g0: it is off its stack, and can run again at once.
    #[inline]
    pub(crate) fn yields(&self) {
        self.m.set(ptr::null());
        self.state.transition_to_yielded();
    }

    /// On g0: it is over.
    pub(crate) fn dies(&self) {
        self.m.set(ptr::null());
        self.state.transition_to_dead();
    }

    /// A thread G begins its life running.
    pub(crate) fn thread_begins(&self, id: u64) {
        self.set_id(id);
        self.forks.set(crate::fork::forks() as u16);
        self.state.transition_to_thread();
    }

    /// Blocks the thread of a thread G that waits until it is ready, then marks it running.
    pub(crate) fn thread_blocks(&self) {
        self.state.block_while_waiting();
        self.state.transition_to_running();
    }

    /// Wakes the thread of a thread G.
    pub(crate) fn thread_ready(&self) {
        self.state.transition_to_ready();
        self.state.wake_blocked();
    }

    pub(crate) fn set_wait(&self, reason: WaitReason, at: &'static Location<'static>) {
        self.wait_reason.set(reason);
        self.wait_at.set(Some(at));
    }

    /// Why, where and since when (coarse clock) it waits. For reports, with the G parked.
    pub(crate) fn wait(&self) -> (WaitReason, Option<&'static Location<'static>>, u64) {
        (
            self.wait_reason.get(),
            self.wait_at.get(),
            self.wait_since.load(Ordering::Relaxed),
        )
    }

    /// Its number.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    pub(crate) fn set_id(&self, id: u64) {
        self.id.store(id, Ordering::Relaxed);
    }

    /// A copy of the name. For anyone, at any time.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        self.name_lock.lock();
        // SAFETY: under the lock.
        let name = unsafe { &*self.name.get() }.clone();
        // SAFETY: taken above.
        unsafe { self.name_lock.unlock() };
        name
    }

    /// Gives it a name, or takes it away. By the owner.
    #[inline]
    pub(crate) fn set_name(&self, name: Option<Arc<str>>) {
        // SAFETY: the owner alone writes.
        let had = unsafe { &*self.name.get() }.is_some();
        if !had && name.is_none() {
            return; // nearly always
        }
        self.name_lock.lock();
        // SAFETY: under the lock.
        let old = std::mem::replace(unsafe { &mut *self.name.get() }, name);
        // SAFETY: taken above.
        unsafe { self.name_lock.unlock() };
        drop(old);
    }

    /// The name, for the owner, in a signal handler: takes no lock.
    pub(crate) fn own_name(&self) -> Option<&str> {
        // SAFETY: the owner alone writes, and it is here.
        unsafe { &*self.name.get() }.as_deref()
    }
}

/// A goroutine or an OS thread as the rest of the house sees it: something that can be parked and made ready.
///
/// It is a plain pointer. Whoever keeps one in a wait list takes it off the list before its goroutine ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GRef(NonNull<G>);

// SAFETY: only the atomics and, under the rules of the state table, the waiter's data are used through it (invariant 1).
unsafe impl Send for GRef {}
// SAFETY: as above.
unsafe impl Sync for GRef {}

impl std::fmt::Debug for GRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

impl GRef {
    pub(crate) fn new(g: &'static G) -> GRef {
        GRef(NonNull::from(g))
    }

    pub(crate) fn get(self) -> &'static G {
        // SAFETY: a G is never freed (invariant 3).
        unsafe { self.0.as_ref() }
    }

    /// The pointer as a number: a multiple of 16, not 0. For state words that name a waiter.
    #[must_use]
    pub fn into_raw(self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    /// The reverse of [`into_raw`](Self::into_raw).
    ///
    /// # Safety
    ///
    /// `raw` is from `into_raw`.
    #[must_use]
    pub unsafe fn from_raw(raw: usize) -> GRef {
        // SAFETY: by the contract not null.
        GRef(unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(raw)) })
    }

    /// The goroutine's number. Threads that are not goroutines have numbers of their own.
    #[must_use]
    pub fn id(self) -> u64 {
        self.get().id()
    }

    /// Whether it is a goroutine and not a plain OS thread.
    #[must_use]
    pub fn is_goroutine(self) -> bool {
        !self.get().is_thread
    }

    /// Its race context: there is one exactly in race mode.
    ///
    /// # Safety
    ///
    /// The caller is the goroutine or thread itself, or keeps it parked meanwhile: it alone may wake it.
    #[must_use]
    pub unsafe fn race_ctx(self) -> Option<GoCtx> {
        self.get().race.get()
    }

    /// Opens the claim of the caller's next wait.
    ///
    /// For waits that several wakers may end (select, time-outs): the waiter calls this before it publishes itself
    /// anywhere, and each waker must win [`try_claim`](Self::try_claim) before it touches the waiter's data or makes it ready.
    ///
    /// # Safety
    ///
    /// The caller is the goroutine or thread itself, and no waker of an earlier wait is left that might still claim it.
    #[inline]
    pub unsafe fn claim_reset(self) {
        // Relaxed: published together with the waiter by the wait list's lock.
        self.get().claim.store(0, Ordering::Relaxed);
    }

    /// Takes the right to end this wait. At most one caller per wait gets true.
    ///
    /// # Safety
    ///
    /// The waiter published itself to the caller for a wait that it opened by [`claim_reset`](Self::claim_reset), and cannot
    /// have gone on to another. Who gets true makes it ready, once it is parked or about to be: nobody else will.
    #[inline]
    #[must_use]
    pub unsafe fn try_claim(self) -> bool {
        let claim = &self.get().claim;
        claim.load(Ordering::Relaxed) == 0
            && claim
                .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }
}
