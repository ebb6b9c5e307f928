//! The two goroutines that work for the collector: one runs destructors, one sweeps.
//!
//! They start with the first use of the collector, are the runtime's own (they keep no program
//! alive and count in no deadlock), and park when there is nothing to do. The collector's thread
//! wakes them.
//!
//! # States
//!
//! Of a [`Wakeup`]: `NONE`; `NOTIFIED`, which its waiter has not seen; or the `GRef` of the waiter,
//! which is parked.
//!
//! # Invariants
//!
//! 1. A waiter consumes a notification or parks, never both: `publish` puts the waiter in only
//!    where `NONE` was, and makes it ready itself where `NOTIFIED` was. Who takes a waiter out
//!    makes it ready, once.
//!
//! # Memory ordering
//!
//! `notify: swap AcqRel` ⇄ `wait: Acquire`: the waiter sees the work. `publish: Release` ⇄ `notify:
//! swap AcqRel`: who makes the waiter ready sees it parked.
//!
//! # Blocking
//!
//! `notify` never blocks and may be called on any thread with the world running.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicUsize};

use raddle_alloc::gc::{self, Header, Hooks};
use raddle_sched::{GRef, WaitReason, enter};

use crate::capture::print_error;
use crate::goroutine;
use crate::join::ExitToken;

/// Spans that the sweeper does in one go, before it lets others run: some tens of microseconds.
const SPANS_AT_ONCE: usize = 8;

/// In which process everything here was started, as one more than its number of forks: a child of
/// `fork` starts others. A flag that a handler of `fork` takes back would stay set in a child that
/// is born while another thread starts these.
static STARTED: AtomicU32 = AtomicU32::new(0);
static FINALIZER: Wakeup = Wakeup::new();
static SWEEPER: Wakeup = Wakeup::new();
static HOOKS: Hooks = Hooks {
    wake_sweeper: || SWEEPER.notify(),
    wake_finalizer: || FINALIZER.notify(),
};

/// Boots the runtime, which stops the world for the collector, and starts the goroutines, at the
/// first call.
#[inline]
pub(super) fn ensure() {
    if STARTED.load(Acquire) != raddle_sched::forks() + 1 {
        start();
    }
}

/// Who comes second does not wait for the first: an allocation needs the runtime, and not these
/// goroutines.
#[cold]
#[inline(never)]
fn start() {
    crate::boot::ensure();
    assert!(
        is_global_allocator(),
        "raddle::gc: Raddle's heap is not the global allocator of this program, so handles in a Box or a Vec would be lost: \
         build with raddle's feature `global-allocator`, or make raddle::Heap the #[global_allocator]"
    );
    let here = raddle_sched::forks() + 1;
    if STARTED.swap(here, AcqRel) != here {
        // What waits there in a child are goroutines of the parent's.
        for wakeup in [&FINALIZER, &SWEEPER] {
            wakeup.0.store(NONE, Relaxed);
        }
        goroutine::spawn_system("finalizer", run_destructors);
        goroutine::spawn_system("sweeper", sweep);
        gc::install_hooks(&HOOKS);
        // For a cycle that was over before the hooks were there.
        SWEEPER.notify();
        FINALIZER.notify();
    }
}

fn is_global_allocator() -> bool {
    // Not optimised away: it must have come from the allocator.
    let probe = black_box(Box::new(0_usize));
    raddle_alloc::find_object((&raw const *probe).addr()).is_some()
}

/// The sweeper's goroutine.
fn sweep() {
    loop {
        // Where a span begins, its first object does.
        far_down(|| {
            while gc::sweep_some(SPANS_AT_ONCE) {
                raddle_sched::yield_now();
            }
        });
        SWEEPER.wait();
    }
}

/// The finalizer's goroutine. It ends in a child of `fork` in which it is the one that forked, in a
/// destructor: that gets another, as any child.
fn run_destructors() {
    let forks = raddle_sched::forks();
    loop {
        far_down(|| {
            // SAFETY: this is the finalizer.
            while let Some(header) = unsafe { gc::next_to_drop() } {
                run_destructor(header);
            }
        });
        if raddle_sched::forks() != forks {
            return;
        }
        FINALIZER.wait();
    }
}

/// Runs `f` some way down the stack. What it leaves there, addresses of objects among it, is then
/// out of the frames in which this goroutine parks: those have room that nobody writes, and the
/// collector would take what it finds there for handles.
#[inline(never)]
fn far_down(f: fn()) {
    let room = [MaybeUninit::<usize>::uninit(); 2048];
    black_box(&room);
    f();
    black_box(&room);
}

fn run_destructor(header: NonNull<Header>) {
    // SAFETY: the collector gives objects whose header is whole, and they stay as long as this
    // goroutine has their address.
    let object = unsafe { header.as_ref() };
    order_after_everything();
    let drop_values = object.drop;
    // SAFETY: it came from `next_to_drop`, so nobody else has the values; the function is the one
    // for their type.
    let result = catch_unwind(AssertUnwindSafe(|| unsafe { drop_values(header.as_ptr()) }));
    if let Err(panic) = result {
        report(&*panic);
        // Its own drop may panic, and then a message about it is all that is left to do: what that
        // panicked with might do the same for ever.
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            print_error("raddle: and so did the drop of what it panicked with\n");
            std::mem::forget(another);
        }
    }
    super::keep_alive(&header);
}

/// Nothing reached the object: whatever was done with it is over.
fn order_after_everything() {
    if raddle_race::enabled() {
        let _inside = enter();
        // SAFETY: this goroutine's own, for the next line.
        let me = unsafe { raddle_race::current() };
        raddle_race::finalizer_goroutine(me.expect("a goroutine has a context in race mode"));
    }
}

/// The panic hook has told what and where; this tells what it means.
fn report(panic: &(dyn std::any::Any + Send)) {
    let how = if panic.is::<ExitToken>() {
        "called exit()"
    } else {
        "panicked"
    };
    print_error(&format!(
        "raddle: the destructor of a collected value {how}; the others go on\n"
    ));
}

/// What one goroutine waits for and any thread may give, once or more.
struct Wakeup(AtomicUsize);

const NONE: usize = 0;
const NOTIFIED: usize = 1;

impl Wakeup {
    const fn new() -> Self {
        Wakeup(AtomicUsize::new(NONE))
    }

    fn notify(&self) {
        let waiter = self.0.swap(NOTIFIED, AcqRel);
        if waiter != NONE && waiter != NOTIFIED {
            // SAFETY: what `publish` stored, from `into_raw`.
            let waiter = unsafe { GRef::from_raw(waiter) };
            // SAFETY: by invariant 1: it is parked, and was taken out by us.
            unsafe { enter().ready(waiter) };
        }
    }

    /// Returns once for one notification or more. For one goroutine only.
    fn wait(&self) {
        while self
            .0
            .compare_exchange(NOTIFIED, NONE, Acquire, Relaxed)
            .is_err()
        {
            let rt = enter();
            let mut parked = (self, rt.g());
            let arg = (&raw mut parked).cast();
            // SAFETY: `publish` makes the waiter known to `notify`, which makes it ready once; or
            // does so itself.
            unsafe {
                rt.park(
                    WaitReason::Background,
                    Location::caller(),
                    Self::publish,
                    arg,
                )
            };
        }
    }

    /// In the scheduler, when the waiter is off its stack.
    unsafe fn publish(parked: *mut ()) {
        // SAFETY: the waiter stays parked until this, or `notify` after this, makes it ready.
        let (this, g) = unsafe { *parked.cast::<(&Wakeup, GRef)>() };
        if this
            .0
            .compare_exchange(NONE, g.into_raw(), Release, Acquire)
            .is_err()
        {
            // SAFETY: it was notified before anybody knew of the waiter.
            unsafe { enter().ready(g) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_notification_is_lost() {
        static WAKEUP: Wakeup = Wakeup::new();
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        const ROUNDS: usize = 10_000;
        crate::run(|| {
            let waiter = crate::go(|| {
                for _ in 0..ROUNDS {
                    WAKEUP.wait();
                    SEEN.fetch_add(1, Release);
                }
            });
            std::thread::spawn(|| {
                for round in 0..ROUNDS {
                    WAKEUP.notify();
                    while SEEN.load(Acquire) <= round {
                        std::thread::yield_now();
                    }
                }
            })
            .join()
            .expect("no panic");
            waiter.join().expect("no panic");
        });
    }

    #[test]
    fn notifications_add_up_to_one() {
        static WAKEUP: Wakeup = Wakeup::new();
        WAKEUP.notify();
        WAKEUP.notify();
        crate::run(|| WAKEUP.wait());
        assert_eq!(WAKEUP.0.load(Relaxed), NONE);
    }
}
