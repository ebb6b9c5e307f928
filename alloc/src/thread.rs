//! What the heap knows of an OS thread: which cache it uses, and whether it is inside the allocator.
//!
//! # Busy sections
//!
//! In the allocator a thread is *busy*: its signal handler must neither take its P away nor stop it there. The mark is a plain store at
//! each end, since only the thread itself and handlers on it look at it. A handler that would have stopped the thread sets
//! `asked` instead, and the thread stops itself at the end of the section. So while the world is stopped no lock of the
//! allocator is held, and every span, list and magazine is as its invariants say.
//!
//! A busy section must be short, calls nothing above the allocator, and never the detector, whose spin locks a stopped thread may hold.
//!
//! # Whose record
//!
//! A thread-local word of the running thread control block names the record. Goroutines have blocks of their own, so the scheduler
//! enters the M's record there whenever a goroutine comes to another M ([`ThreadSlot`]). A thread that the scheduler does
//! not know gets its record at its first allocation, and gives it back when it ends, by a pthread key: the last of a
//! thread's destructors to run, and run again if it is set again by another.
//!
//! # Invariants
//!
//! 1. A record belongs to one living thread; its cells are written by it and by handlers on it only.
//! 2. `cache` names a cache that only this thread uses while it is busy: its own, or that of the P it has.
//! 3. A record is never unmapped.

use crate::cache::{self, Cache};
use crate::futex::Lock;
use crate::meta::{Pool, Pooled};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering::*, compiler_fence};

/// The heap's record of an OS thread. See the module's head.
#[repr(C, align(64))]
pub struct Thread {
    /// Pooled: the free list's.
    _link: AtomicPtr<()>,
    busy: AtomicBool,
    /// Never null once the record is in use.
    cache: AtomicPtr<Cache>,
    own: AtomicPtr<Cache>,
    /// Not in the eight bytes of `busy`: a load beside a store that is still on its way waits for it, which doubles the cost
    /// of a section.
    asked: AtomicBool,
}

// SAFETY: valid when zero; the first word is free for the list.
unsafe impl Pooled for Thread {}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Thread")
            .field("busy", &self.is_busy())
            .finish_non_exhaustive()
    }
}

static THREADS: Pool<Thread> = Pool::new();

thread_local! {
    static THREAD: Cell<*const Thread> = const { Cell::new(ptr::null()) };
}

/// The record that the running block names. Never inlined into code that switches stacks: it does not.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Thread> {
    // SAFETY: null or a record; records are never unmapped.
    unsafe { THREAD.get().as_ref() }
}

/// The calling OS thread's record, made at its first call.
#[must_use]
pub fn this_thread() -> &'static Thread {
    match current() {
        Some(thread) => thread,
        None => make().unwrap_or_else(|| crate::fatal("out of memory for a thread's record")),
    }
}

/// The calling OS thread's record; `None` if it has none. Async-signal-safe.
#[must_use]
pub fn try_this_thread() -> Option<&'static Thread> {
    current()
}

/// Where the running thread control block keeps the name of its record: the same place for the block's whole life.
#[must_use]
pub fn thread_slot() -> ThreadSlot {
    THREAD.with(|thread| ThreadSlot(NonNull::from(thread)))
}

/// See [`thread_slot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadSlot(NonNull<Cell<*const Thread>>);

impl ThreadSlot {
    /// Enters the record of the thread that runs the block from now on.
    ///
    /// # Safety
    ///
    /// The block lives, and runs on no other thread.
    #[inline]
    pub unsafe fn set(self, thread: &'static Thread) {
        // SAFETY: by the contract the place is there, and nobody else uses it.
        unsafe { self.0.as_ref() }.set(thread);
    }
}

impl Thread {
    /// Whether the thread is inside the allocator. For signal handlers on that thread.
    #[must_use]
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    /// Asks the thread, which is busy, to call [`World::stop_self`](crate::World::stop_self) when it is not any more. For
    /// signal handlers on that thread.
    pub fn stop_when_done(&self) {
        self.asked.store(true, Relaxed);
    }

    /// Lets the thread allocate from a P's cache; `None`: from its own.
    ///
    /// # Safety
    ///
    /// Called on the thread itself, not busy, or by a signal handler on it that found it so. The P is the thread's until
    /// the next call.
    #[inline]
    pub unsafe fn use_cache(&self, cache: Option<CacheRef>) {
        let cache = match cache {
            Some(cache) => ptr::from_ref(cache.0).cast_mut(),
            None => self.own.load(Relaxed),
        };
        compiler_fence(SeqCst);
        self.cache.store(cache, Relaxed);
        compiler_fence(SeqCst);
    }

    /// Begins a busy section. Its end is [`end`](Self::end).
    #[inline(always)]
    pub(crate) fn begin(&self) {
        debug_assert!(!self.is_busy());
        self.busy.store(true, Relaxed);
        compiler_fence(SeqCst);
    }

    /// Ends a busy section.
    #[inline(always)]
    pub(crate) fn end(&self) {
        compiler_fence(SeqCst);
        self.busy.store(false, Relaxed);
        compiler_fence(SeqCst);
        if self.asked.load(Relaxed) {
            self.stop();
        }
    }

    #[cold]
    fn stop(&self) {
        self.asked.store(false, Relaxed);
        crate::world::get().inspect(|world| world.stop_self());
    }

    /// The cache that it uses, in a busy section.
    #[inline(always)]
    pub(crate) fn cache(&self) -> &'static Cache {
        // SAFETY: never null by invariant 2; caches are never unmapped.
        unsafe { &*self.cache.load(Relaxed) }
    }
}

/// Runs `f` in a busy section. Errno is kept: code that frees what it gave to a system call looks at errno afterwards.
pub(crate) fn busy<R>(thread: &Thread, f: impl FnOnce() -> R) -> R {
    // SAFETY: this thread's errno.
    let errno_at = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let errno = unsafe { *errno_at };
    thread.begin();
    let result = f();
    // SAFETY: as above.
    unsafe { *errno_at = errno };
    thread.end();
    result
}

/// A thread's own cache, where it has been made.
#[cold]
fn make() -> Option<&'static Thread> {
    crate::fork::install();
    let thread = THREADS.take()?;
    // Busy before it can be found: a stop must not find the lists of the next line half changed.
    thread.busy.store(true, Relaxed);
    THREAD.set(thread);
    if thread.own.load(Relaxed).is_null() {
        thread
            .own
            .store(ptr::from_ref(cache::make()?).cast_mut(), Relaxed);
    }
    thread.cache.store(thread.own.load(Relaxed), Relaxed);
    thread.end();
    at_end(thread);
    Some(thread)
}

static KEY: AtomicU32 = AtomicU32::new(u32::MAX);
static KEY_LOCK: Lock = Lock::new();

/// Has the record given back when the thread ends.
fn at_end(thread: &'static Thread) {
    let mut key = KEY.load(Acquire);
    if key == u32::MAX {
        KEY_LOCK.lock();
        key = KEY.load(Relaxed);
        if key == u32::MAX {
            // SAFETY: `key` is a place for it, and the destructor has its type. With none left, records of ended threads are lost.
            unsafe { libc::pthread_key_create(&mut key, Some(ended)) };
            KEY.store(key, Release);
        }
        // SAFETY: taken above.
        unsafe { KEY_LOCK.unlock() };
    }
    // SAFETY: a key, or a number that the call refuses.
    unsafe { libc::pthread_setspecific(key, ptr::from_ref(thread).cast()) };
}

/// The locks, for `fork`: held outside busy sections, by threads that have no record yet, or none any more. Nothing is locked under them.
pub(crate) fn each_lock(f: &mut dyn FnMut(&Lock)) {
    f(&KEY_LOCK);
    f(THREADS.lock());
}

/// The thread ends.
unsafe extern "C" fn ended(thread: *mut c_void) {
    // SAFETY: `at_end` passed a record.
    let thread = unsafe { &*thread.cast::<Thread>() };
    // SAFETY: never null in a record that was in use; caches are never unmapped.
    let own = unsafe { &*thread.own.load(Relaxed) };
    // SAFETY: the thread's, in a busy section; empty for the record's next owner.
    busy(thread, || unsafe { own.flush() });
    // It cannot be found from here on, so the next allocation of this thread makes another.
    THREAD.set(ptr::null());
    // SAFETY: from the pool, and nobody's.
    unsafe { THREADS.give(thread) };
}

/// The cache of a P.
#[derive(Clone, Copy)]
pub struct CacheRef(&'static Cache);

impl std::fmt::Debug for CacheRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CacheRef")
            .field(&ptr::from_ref(self.0))
            .finish()
    }
}

impl PartialEq for CacheRef {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for CacheRef {}

/// Makes the cache of a new P.
#[must_use]
pub fn cache_create() -> CacheRef {
    let cache = busy(this_thread(), cache::make);
    CacheRef(cache.unwrap_or_else(|| crate::fatal("out of memory for a P's cache")))
}

/// Ends the cache of a P: its objects go to their spans.
///
/// # Safety
///
/// No thread uses it, or will again.
pub unsafe fn cache_destroy(cache: CacheRef) {
    // SAFETY: by the contract.
    busy(this_thread(), || unsafe { cache::unmake(cache.0) });
}
