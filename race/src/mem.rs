//! The detector's own memory: mapped blocks, a spin lock, and pools of fixed-size objects.
//!
//! Nothing here touches the global allocator, which is the heap under watch. Blocks are mapped once and never returned;
//! the objects carved from them are recycled through free lists, so what the detector holds is the most that was alive
//! at once.
//!
//! # Invariants
//! 1. A pool's objects are its kind's size, zeroed when first carved, and stay mapped for the life of the process.
//! 2. An object is on exactly one list, or owned by whoever took it. Lists link through the object's first word, so an
//!    object's type keeps its first word for that.
//! 3. A pool's fields change only under its lock.
//!
//! # Blocking
//! The lock spins and then yields the OS thread; it is held for a few dozen instructions. parking_lot is not used: its
//! slow path allocates, and keeps a thread-local with a destructor, which a goroutine's switch of thread pointer forbids.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::*, compiler_fence};

/// Keeps the thread's `errno` for the program: an event may stand between a call of C and the look at its error.
#[derive(Debug)]
pub(crate) struct KeptErrno(i32);

impl KeptErrno {
    pub(crate) fn new() -> KeptErrno {
        KeptErrno(errno().get())
    }
}

impl Drop for KeptErrno {
    fn drop(&mut self) {
        errno().set(self.0);
    }
}

fn errno() -> &'static Cell<i32> {
    // SAFETY: no preconditions.
    let at = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own variable; the reference is used up before anything can switch threads.
    unsafe { &*at.cast() }
}

/// Lets other threads run. Not by std, whose function may be instrumented and make events itself.
pub(crate) fn yield_thread() {
    let _errno = KeptErrno::new();
    // SAFETY: no preconditions.
    unsafe { libc::sched_yield() };
}

thread_local! {
    /// How many of them there are on this thread.
    static BUSY: Cell<u32> = const { Cell::new(0) };
}

/// While it lives, what the thread does must not be seen half done by a signal handler on it: a lock is held, or a context changes.
/// It is dropped on the thread that made it.
#[derive(Debug)]
pub(crate) struct Busy(PhantomData<*mut ()>);

impl Busy {
    #[inline(always)]
    pub(crate) fn new() -> Busy {
        BUSY.set(BUSY.get() + 1);
        compiler_fence(SeqCst); // before all that follows, as a handler on this thread sees it
        Busy(PhantomData)
    }
}

impl Drop for Busy {
    #[inline(always)]
    fn drop(&mut self) {
        compiler_fence(SeqCst); // after all that came before
        BUSY.set(BUSY.get() - 1);
    }
}

/// Whether the thread is in the middle of something. For signal handlers.
pub(crate) fn is_busy() -> bool {
    BUSY.get() != 0
}

/// A lock for a few instructions; see the header's Blocking.
#[derive(Debug, Default)]
pub(crate) struct SpinLock(AtomicU32);

impl SpinLock {
    /// Unlocked.
    pub(crate) const fn new() -> SpinLock {
        SpinLock(AtomicU32::new(0))
    }

    /// Takes the lock.
    pub(crate) fn lock(&self) -> SpinGuard<'_> {
        let busy = Busy::new();
        let mut spins = 0u32;
        while self.0.swap(1, Acquire) != 0 {
            while self.0.load(Relaxed) != 0 {
                spins += 1;
                if spins.is_multiple_of(128) {
                    yield_thread();
                }
                std::hint::spin_loop();
            }
        }
        SpinGuard {
            lock: self,
            _busy: busy,
        }
    }
}

/// Unlocks when dropped.
#[derive(Debug)]
pub(crate) struct SpinGuard<'a> {
    lock: &'a SpinLock,
    /// Dropped last.
    _busy: Busy,
}

impl Drop for SpinGuard<'_> {
    fn drop(&mut self) {
        self.lock.0.store(0, Release); // pairs with the swap in `lock`
    }
}

/// Says why on standard error. No allocation.
fn say(why: &str) {
    for part in ["raddle: race: ", why, "\n"] {
        // There is nobody to tell.
        let _ = write_all(2, part.as_bytes());
    }
}

/// Says why on standard error and aborts. No allocation.
#[cold]
pub(crate) fn fatal(why: &str) -> ! {
    say(why);
    std::process::abort()
}

/// Says on standard error why the process cannot be watched, and ends it with status 2. No allocation; nothing of the program's runs.
#[cold]
pub(crate) fn refuse(why: &str) -> ! {
    say(why);
    // SAFETY: ends the process.
    unsafe { libc::_exit(2) }
}

/// Writes all of `bytes` to a descriptor. After an error some of them may have been written.
pub(crate) fn write_all(fd: i32, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match usize::try_from(crate::sys::write(fd, bytes)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Maps `size` zeroed bytes anywhere, for a while; aborts when the system has none.
pub(crate) fn map(size: usize) -> NonNull<u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping touches nothing that exists.
    mapped(unsafe { crate::sys::map(std::ptr::null_mut(), size, protection, flags) })
}

/// Maps `size` zeroed bytes for ever, where the collector does not look; aborts when the system has none.
pub(crate) fn map_for_ever(size: usize) -> NonNull<u8> {
    mapped(crate::sys::map_bookkeeping(size))
}

fn mapped(p: *mut std::ffi::c_void) -> NonNull<u8> {
    match NonNull::new(p.cast::<u8>()) {
        Some(p) if p.as_ptr().addr() != usize::MAX => p,
        _ => fatal(
            "out of memory: the system refuses to map more; see `ulimit -v` and vm.overcommit_memory",
        ),
    }
}

/// Gives back what [`map`] mapped.
///
/// # Safety
/// `p` and `size` are those of one `map`, and nothing refers to the memory any more.
pub(crate) unsafe fn unmap(p: NonNull<u8>, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { crate::sys::unmap(p.as_ptr().cast(), size) };
}

/// What a free object looks like.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Node {
    next: AtomicPtr<Node>,
}

fn next_of(node: NonNull<Node>) -> &'static AtomicPtr<Node> {
    // SAFETY: invariants 1 and 2: mapped for ever, and the first word is a link.
    unsafe { &(*node.as_ptr()).next }
}

/// A list of free objects; its owner serialises access.
#[derive(Debug, Default)]
pub(crate) struct List {
    head: AtomicPtr<Node>,
    len: AtomicU32,
}

impl List {
    /// Number of objects.
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Relaxed)
    }

    /// Adds one.
    pub(crate) fn push(&self, node: NonNull<Node>) {
        next_of(node).store(self.head.load(Relaxed), Relaxed);
        self.head.store(node.as_ptr(), Relaxed);
        self.len.store(self.len() + 1, Relaxed);
    }

    /// Takes the newest.
    pub(crate) fn pop(&self) -> Option<NonNull<Node>> {
        let node = NonNull::new(self.head.load(Relaxed))?;
        let next = next_of(node).load(Relaxed);
        // The next to be taken: its link, if nothing else, will be waited for.
        // SAFETY: a prefetch touches nothing, wherever it points; every processor of this architecture has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(next.cast()) };
        self.head.store(next, Relaxed);
        self.len.store(self.len() - 1, Relaxed);
        Some(node)
    }
}

/// What the pools hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Kind {
    /// `sync::SyncObject`: sync objects and heap block records, numbered by handle.
    Sync,
    /// `clock::Clock`.
    Clock,
    /// `clock::Far`.
    FarClock,
    /// `clock::GapList`.
    GapList,
    /// A new goroutine's history ring.
    FirstRing,
    /// That of one which did more.
    SmallRing,
    /// `parts::Part`.
    Part,
    /// `record::Record`.
    Record,
    /// `ctx::Ctx`.
    Ctx,
    /// `proc::Proc`.
    Proc,
}

/// Number of kinds.
pub(crate) const KINDS: usize = 10;

/// All objects of one kind.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    lock: SpinLock,
    free: List,
    /// The rest of the newest block.
    bump: AtomicPtr<u8>,
    left: AtomicUsize,
    /// Objects ever carved.
    carved: AtomicUsize,
}

/// Bytes mapped at a time.
pub(crate) const BLOCK: usize = 1 << 20;

impl Pool {
    /// An empty pool.
    pub(crate) const fn new() -> Pool {
        Pool {
            lock: SpinLock::new(),
            free: List {
                head: AtomicPtr::new(std::ptr::null_mut()),
                len: AtomicU32::new(0),
            },
            bump: AtomicPtr::new(std::ptr::null_mut()),
            left: AtomicUsize::new(0),
            carved: AtomicUsize::new(0),
        }
    }

    /// Takes one object of `size` bytes; `fresh` sees a newly carved one with its number, and its block when it is the
    /// block's first.
    pub(crate) fn take(&self, size: usize, fresh: fn(NonNull<u8>, usize)) -> NonNull<Node> {
        let _held = self.lock.lock();
        self.take_locked(size, fresh)
    }

    /// Moves `n` objects to `to`.
    pub(crate) fn take_many(&self, size: usize, n: u32, to: &List, fresh: fn(NonNull<u8>, usize)) {
        let _held = self.lock.lock();
        for _ in 0..n {
            to.push(self.take_locked(size, fresh));
        }
    }

    fn take_locked(&self, size: usize, fresh: fn(NonNull<u8>, usize)) -> NonNull<Node> {
        if let Some(node) = self.free.pop() {
            return node;
        }
        if self.left.load(Relaxed) < size {
            let block = BLOCK.max(size);
            self.bump.store(map_for_ever(block).as_ptr(), Relaxed);
            self.left.store(block, Relaxed);
        }
        let at = self.bump.load(Relaxed);
        self.bump.store(at.wrapping_add(size), Relaxed);
        self.left.store(self.left.load(Relaxed) - size, Relaxed);
        let Some(object) = NonNull::new(at) else {
            fatal("a pool lost its block")
        };
        fresh(object, self.carved.fetch_add(1, Relaxed));
        object.cast()
    }

    /// Takes one object back.
    pub(crate) fn give(&self, node: NonNull<Node>) {
        let _held = self.lock.lock();
        self.free.push(node);
    }

    /// Takes `n` objects back from `from`, or all there are.
    pub(crate) fn give_many(&self, from: &List, n: u32) {
        let _held = self.lock.lock();
        for _ in 0..n {
            let Some(node) = from.pop() else { return };
            self.free.push(node);
        }
    }

    /// Objects ever carved: what the pool has cost.
    pub(crate) fn carved(&self) -> usize {
        self.carved.load(Relaxed)
    }
}
