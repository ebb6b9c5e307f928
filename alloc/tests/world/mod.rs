//! A world for tests of the collector: it stops every thread of the process by a signal, and shows what the test wants to be roots.
//!
//! Stacks are shown for threads that asked for it ([`scan_my_stack`]); all else that is a root is a live manual object. So a test that
//! keeps its pointers hidden decides exactly what is reachable.
#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod churn;

use raddle_alloc::gc;
use raddle_alloc::gc::Kind;
use raddle_alloc::{
    Object, Unstoppable, World, find_object, install_world, try_this_thread, wait, wake,
};
use raddle_race::Pc;
use std::alloc::Layout;
use std::cell::Cell;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering::*};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

const SIGNAL: i32 = 40;
const MAX_THREADS: usize = 256;

/// What is known of a thread that was signalled.
struct Slot {
    tid: AtomicI32,
    asked: AtomicU32,
    stopped: AtomicU32,
    sp: AtomicUsize,
    base: AtomicUsize,
}

static SLOTS: [Slot; MAX_THREADS] = [const {
    Slot {
        tid: AtomicI32::new(0),
        asked: AtomicU32::new(0),
        stopped: AtomicU32::new(0),
        sp: AtomicUsize::new(0),
        base: AtomicUsize::new(0),
    }
}; MAX_THREADS];
/// The number of the stop that is on, or 0.
static STOP: AtomicU32 = AtomicU32::new(0);
static LAST: AtomicU32 = AtomicU32::new(0);
static REFUSE: AtomicBool = AtomicBool::new(false);
static WORKERS: AtomicUsize = AtomicUsize::new(2);

thread_local! {
    static BASE: Cell<usize> = const { Cell::new(0) };
}

/// Freed memory is filled, so that no word is left there that looks like a pointer; and no cycle for it.
pub(crate) const POISONED: gc::Config = gc::Config {
    trace: false,
    stress_every: u32::MAX,
    mark_stack_limit: None,
};

pub(crate) struct TestWorld;

/// Runs the tests whose names contain the program's first argument, as a harness would: one after the other, and freed
/// memory is poisoned.
pub(crate) fn run_each(all: &[(&str, fn())]) {
    // A filter, as the harness has it; its options do not apply.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    for (name, test) in all {
        if filter.as_ref().is_none_or(|filter| name.contains(filter)) {
            println!("test {name}");
            let _guard = exclusive(POISONED);
            test();
        }
    }
}

/// Takes the collector for one test at a time, with nothing left over from the one before.
pub(crate) fn exclusive(config: gc::Config) -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    static ONCE: Once = Once::new();
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    ONCE.call_once(|| {
        // SAFETY: all zeros is a valid action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: a valid action, for a signal that nobody else uses.
        let done = unsafe { libc::sigaction(SIGNAL, &action, std::ptr::null_mut()) };
        assert_eq!(done, 0);
        install_world(&TestWorld);
    });
    gc::configure(config);
    set_workers(2);
    collect_all();
    collect_all();
    guard
}

/// Has stops fail, as if a thread blocked the signal.
pub(crate) fn refuse(refuse: bool) {
    REFUSE.store(refuse, Relaxed);
}

/// How many threads mark from now on, at least.
pub(crate) fn set_workers(n: usize) {
    WORKERS.store(n, Relaxed);
}

/// A cycle, and all of its sweeping.
pub(crate) fn collect_all() {
    gc::collect();
    while gc::sweep_some(1000) {}
}

/// Has the calling thread's stack scanned, from the caller's caller on.
#[inline(never)]
pub(crate) fn scan_my_stack<R>(f: impl FnOnce() -> R) -> R {
    let here = 0usize;
    // A little above: the caller's frame.
    BASE.set((&raw const here).addr() + 256);
    let result = f();
    BASE.set(0);
    result
}

fn my_slot(tid: i32) -> &'static Slot {
    let start = tid as usize % MAX_THREADS;
    let mut slots = (start..start + MAX_THREADS).map(|i| &SLOTS[i % MAX_THREADS]);
    let found = slots.find(|slot| {
        let taken = slot.tid.compare_exchange(0, tid, Relaxed, Relaxed);
        taken.unwrap_or_else(|by| by) == tid || taken.is_ok()
    });
    found.unwrap_or_else(|| std::process::abort())
}

fn tid() -> i32 {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }
}

fn signal(tid: i32) -> bool {
    // SAFETY: a thread that is gone is refused.
    unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, SIGNAL) == 0 }
}

extern "C" fn handler(_: i32) {
    // SAFETY: no preconditions.
    let errno_at = unsafe { libc::__errno_location() };
    // SAFETY: this thread's errno.
    let errno = unsafe { *errno_at };
    match try_this_thread() {
        Some(thread) if thread.is_busy() => thread.stop_when_done(),
        _ => stand(),
    }
    // SAFETY: as above.
    unsafe { *errno_at = errno };
}

#[inline(never)]
fn stand() {
    let stop = STOP.load(Acquire);
    if stop == 0 {
        return;
    }
    let here = 0usize;
    let slot = my_slot(tid());
    slot.sp.store((&raw const here).addr(), Relaxed);
    slot.base.store(BASE.get(), Relaxed);
    slot.stopped.store(stop, Release);
    while STOP.load(Acquire) == stop {
        wait(&STOP, stop, None);
    }
}

/// Shows the threads of the process; false: perhaps not all, since the kernel ends a listing early when a thread ends meanwhile. Without C's
/// malloc, whose lock a stopped thread may hold.
fn each_task(mut f: impl FnMut(i32)) -> bool {
    // SAFETY: a valid path.
    let dir = unsafe { libc::open(c"/proc/self/task".as_ptr(), libc::O_RDONLY) };
    assert!(dir >= 0);
    let mut buffer = [0u64; 1024];
    let mut shown = 0;
    loop {
        // SAFETY: the buffer is so large.
        let n = unsafe { libc::syscall(libc::SYS_getdents64, dir, buffer.as_mut_ptr(), 8192) };
        if n <= 0 {
            break;
        }
        // SAFETY: the kernel wrote so many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), n as usize) };
        let mut at = 0;
        while at < bytes.len() {
            let len = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
            let name = bytes[at + 19..at + len].iter().take_while(|b| **b != 0);
            let tid = name.copied().try_fold(0, |n: i32, b| {
                b.is_ascii_digit().then(|| n * 10 + i32::from(b - b'0'))
            });
            if let Some(tid) = tid {
                shown += 1;
                f(tid);
            }
            at += len;
        }
    }
    // SAFETY: all zeros is a valid value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: an open directory, and a place for the answer.
    unsafe { libc::fstat(dir, &mut stat) };
    // SAFETY: opened above.
    unsafe { libc::close(dir) };
    // A link for each thread, and two.
    stat.st_nlink == shown + 2
}

// SAFETY: the threads of the test stop at its safepoints, and the graph of the test is all that is reachable.
unsafe impl World for TestWorld {
    fn stop(&self, collectors: &[i32]) -> Result<(), Unstoppable> {
        if REFUSE.load(Relaxed) {
            return Err(Unstoppable { tid: tid() });
        }
        let stop = LAST.fetch_add(1, Relaxed).wrapping_add(1);
        STOP.store(stop, Release);
        let me = tid();
        loop {
            let mut all = true;
            let has_all = each_task(|tid| {
                if tid == me || collectors.contains(&tid) {
                    return;
                }
                let slot = my_slot(tid);
                if slot.asked.swap(stop, Relaxed) != stop {
                    signal(tid);
                    all = false;
                } else if slot.stopped.load(Acquire) != stop {
                    all = false;
                }
            });
            if all && has_all {
                return Ok(());
            }
            std::thread::yield_now();
        }
    }

    fn each_root(&self, show: &mut dyn FnMut(Range<usize>)) {
        let stop = STOP.load(Relaxed);
        for slot in &SLOTS {
            let base = slot.base.load(Relaxed);
            if slot.stopped.load(Relaxed) == stop && base != 0 {
                show(slot.sp.load(Relaxed)..base);
            }
        }
    }

    fn start(&self) {
        STOP.store(0, Release);
        wake(&STOP, i32::MAX);
    }

    fn stop_self(&self) {
        signal(tid());
    }

    fn parallelism(&self) -> usize {
        WORKERS.load(Relaxed)
    }

    fn thread_started(&self) {}
}

/// An address that the collector does not see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hidden(pub(crate) usize);

impl Hidden {
    pub(crate) fn new(object: *mut u8) -> Self {
        assert!(!object.is_null());
        Self(!object.expose_provenance())
    }

    pub(crate) fn get(self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(!self.0)
    }

    /// Writes `value` at a word of the object.
    pub(crate) fn set(self, word: usize, value: usize) {
        // SAFETY: the callers' objects are alive and have so many words.
        unsafe { self.get().cast::<usize>().wrapping_add(word).write(value) };
    }

    pub(crate) fn word(self, word: usize) -> usize {
        // SAFETY: as above.
        unsafe { self.get().cast::<usize>().wrapping_add(word).read() }
    }

    /// Whether it is allocated; or another collected object is, in its place.
    pub(crate) fn is_there(self) -> bool {
        let is_it = |object: Object| object.start == !self.0 && object.kind != Kind::Manual;
        find_object(!self.0).is_some_and(is_it)
    }
}

pub(crate) fn new(bytes: usize, kind: Kind) -> Hidden {
    let object = gc::allocate_zeroed(Layout::from_size_align(bytes, 8).unwrap(), kind, Pc::NONE);
    Hidden::new(object)
}

/// Words that are roots: a live manual object.
pub(crate) struct Roots(Box<[usize]>);

impl Roots {
    pub(crate) fn new(n: usize) -> Self {
        Self(vec![0; n].into_boxed_slice())
    }

    /// By volatile writes: the collector reads them, which the compiler cannot know.
    pub(crate) fn set(&mut self, i: usize, value: usize) {
        // SAFETY: a word of the slice.
        unsafe { (&raw mut self.0[i]).write_volatile(value) };
    }
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * n as u128) >> 64) as usize
    }
}
