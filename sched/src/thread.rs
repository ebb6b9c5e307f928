//! Plain OS threads as users of the runtime: each gets a thread G at its first call.
//!
//! # Invariants
//!
//! 1. A thread G belongs to one living thread, or lies on the free list.
//! 2. Thread Gs are recycled, never freed: a late futex wake on one is harmless.
//! 3. Its race context is the thread's, whether or not the thread had it before; the detector ends it, after the destructors of the thread's
//!    thread-locals, which is later than the G. A collector's thread has none, ever: what it does while the world stands may not wait
//!    for a lock of the detector, whose holder may stand.
//!
//! # Blocking
//!
//! Parking a thread G blocks its OS thread.

use crate::g::{G, State};
use crate::p::FreeList;
use crate::rt::{self, UnlockFn};
use crate::sys::{Lock, Mutex};
use raddle_race::GoCtx;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Thread Gs have ids of their own, above every goroutine's.
const FIRST_ID: u64 = raddle_race::FIRST_THREAD_ID;

static NEXT_ID: AtomicU64 = AtomicU64::new(FIRST_ID);
static FREE: Mutex<FreeList> = Mutex::new(FreeList::new());
/// Plain threads that are parked in the runtime, or were made ready and have not run yet.
static PARKED: AtomicU32 = AtomicU32::new(0);

/// The number of plain threads that are parked in the runtime, or were made ready and have not run yet: then
/// [`all_parked`] shows fewer.
pub(crate) fn parked() -> u32 {
    PARKED.load(Ordering::SeqCst)
}

/// A new id for a plain thread. Neither allocates nor locks.
pub fn new_thread_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// Every thread G that was ever made.
static ALL: Mutex<Vec<&'static G>> = Mutex::new(Vec::new());

/// The thread Gs that are parked now.
pub(crate) fn all_parked() -> Vec<&'static G> {
    let forks = crate::fork::forks() as u16;
    let all = ALL.lock();
    all.iter()
        .copied()
        .filter(|g| g.state() == State::Waiting && g.forks.get() == forks)
        .collect()
}

/// The locks, for `fork`.
pub(crate) fn each_lock(f: &mut dyn FnMut(&Lock)) {
    f(FREE.raw());
    f(ALL.raw());
}

/// A child of `fork` begins: the threads that were parked are not here.
pub(crate) fn begin_child() {
    PARKED.store(0, Ordering::SeqCst);
}

/// Whether a thread G is that of an M in a blocking call: it has the number and the name of the goroutine that made it.
pub(crate) fn stands_for_goroutine(g: &G) -> bool {
    g.id() < FIRST_ID
}

/// The id of a G as reports show it: plain threads count from 1.
pub(crate) fn shown_id(g: &G) -> u64 {
    let id = g.id();
    if id >= FIRST_ID {
        id - FIRST_ID + 1
    } else {
        id
    }
}

/// Gives the thread G back when its thread ends.
struct Owner(Cell<Option<&'static G>>);

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(g) = self.0.take() {
            rt::set_current(std::ptr::null());
            g.race.set(None);
            g.dies();
            FREE.lock().push(g);
        }
    }
}

thread_local! {
    static OWNER: Owner = const { Owner(Cell::new(None)) };
}

/// The calling plain thread's G, made at the first call.
pub(crate) fn thread_g() -> &'static G {
    // SAFETY: the thread's own, which its G has until the thread's end; others use it while the thread is parked.
    let attach = || unsafe { raddle_race::thread_attach() };
    begin(raddle_race::enabled().then(attach))
}

/// The calling plain thread, which has no G yet, gets one without a race context: the detector takes no notice of what it does.
pub(crate) fn begin_unwatched() {
    begin(None);
    raddle_race::set_current(None);
}

/// Gives the calling plain thread its G.
fn begin(ctx: Option<(GoCtx, u64)>) -> &'static G {
    let recycled = FREE.lock().pop();
    let g = recycled.unwrap_or_else(|| {
        let g: &'static G = Box::leak(Box::new(G::new(true)));
        ALL.lock().push(g);
        g
    });
    g.race.set(ctx.map(|(ctx, _)| ctx));
    // The thread that runs the program's `main` may have the context of goroutine 1.
    let id = ctx.map(|(_, id)| id).filter(|id| *id >= FIRST_ID);
    g.thread_begins(id.unwrap_or_else(new_thread_id));
    rt::set_current(g);
    // A thread that comes here from a late thread-local destructor keeps its G for good: a leak of one G.
    let _ = OWNER.try_with(|owner| owner.0.set(Some(g)));
    g
}

/// Parks the thread of `g`.
///
/// # Safety
///
/// As [`Rt::park`](crate::Rt::park); `g` is the calling thread's.
pub(crate) unsafe fn park(g: &'static G, unlock: UnlockFn, arg: *mut ()) {
    g.waits();
    // As a goroutine does: it has no slot of the detector while it waits, and others act for it.
    let ctx = g.race.get();
    ctx.into_iter().for_each(raddle_race::switch_out);
    // SAFETY: by the contract.
    unsafe { unlock(arg) };
    // Counted from here, when whatever will end the wait (a timer, say) is there to be seen. An M's own thread G is not
    // counted: the M is busy, which is known.
    let plain = g.id() >= FIRST_ID;
    if plain {
        PARKED.fetch_add(1, Ordering::SeqCst);
        crate::sysmon::thread_parked();
    }
    g.thread_blocks();
    ctx.into_iter().for_each(raddle_race::switch_in);
    if plain {
        PARKED.fetch_sub(1, Ordering::SeqCst);
    }
}
