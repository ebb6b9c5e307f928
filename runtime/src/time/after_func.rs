//! [`after_func`]: functions that run on a goroutine of their own, later.
//!
//! # Invariants
//!
//! 1. While the scheduler's timer is armed, one strong count of the `Core` is its own: the core stays at its address. Arming
//!    takes the count first, and gives the surplus back if it finds the timer armed already; firing passes it on
//!    to the goroutine that runs the function; stopping an armed timer gives it back.
//!
//! # Blocking
//!
//! The timer's callback runs in the scheduler: it only spawns.
//!
//! In race mode starting releases on the core, in addition to earlier starts (one that has fired may not have run
//! yet), and each run acquires.

use std::alloc::Layout;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use raddle_sched::{Rt, SpawnOptions, Task, enter};

use crate::sync::{Mutex, deadline, events};

struct Core {
    timer: raddle_sched::Timer,
    /// Held while the timer is started: one goroutine at a time may do that.
    starting: Mutex<()>,
    f: Box<dyn Fn() + Send + Sync>,
    /// Where the timer was made: the place that started the goroutines.
    at: &'static Location<'static>,
}

/// A function that runs later: see [`after_func`].
///
/// Dropping it stops nothing. Clones are handles of the same timer.
#[derive(Clone)]
pub struct Timer {
    core: Arc<Core>,
}

/// Runs `f` on a new goroutine once `delay` has passed.
///
/// The timer that is returned can stop that, or start it anew: `f` may run several times, and at the same time
/// if it is started anew before a run has ended. A panic in `f` ends that goroutine only.
///
/// **Blocking**: never.
///
/// **Happens-before**: the call, and each [`Timer::reset`], before the run that it leads to.
///
/// # Examples
///
/// ```no_run
/// use raddle::sync::WaitGroup;
/// use raddle::time::{self, Duration};
///
/// static DONE: WaitGroup = WaitGroup::new();
///
/// DONE.add(1);
/// time::after_func(Duration::from_millis(1), || DONE.done());
/// DONE.wait();
/// ```
#[track_caller]
pub fn after_func(delay: Duration, f: impl Fn() + Send + Sync + 'static) -> Timer {
    let (at, f) = (Location::caller(), Box::new(f));
    let core = Arc::new_cyclic(|core: &Weak<Core>| Core {
        timer: raddle_sched::Timer::new(fire, core.as_ptr().cast_mut().cast()),
        starting: Mutex::new(()),
        f,
        at,
    });
    let timer = Timer { core };
    timer.reset(delay);
    timer
}

impl Timer {
    /// Stops the timer. Returns whether that kept `f` from running: false if it was stopped before or has fired.
    ///
    /// A run that is under way goes on, and is not waited for.
    pub fn stop(&self) -> bool {
        let was_armed = self.core.timer.stop(&enter());
        if was_armed {
            self.give_back();
        }
        was_armed
    }

    /// Starts the timer anew: `f` runs once `delay` has passed from now, and not when it was to before. Returns
    /// whether the timer was running.
    ///
    /// **Blocking**: parks the goroutine while another starts the same timer.
    #[track_caller]
    pub fn reset(&self, delay: Duration) -> bool {
        events::release_merge(events::addr(&*self.core));
        let _alone = self.core.starting.lock();
        std::mem::forget(self.core.clone());
        let rt = enter();
        // SAFETY: the count taken above keeps the core where it is while the timer is armed, by invariant 1.
        let was_armed = unsafe { self.core.timer.start(&rt, deadline::after(delay), 0, 0) };
        if was_armed {
            self.give_back();
        }
        was_armed
    }

    /// Gives back the armed timer's count.
    fn give_back(&self) {
        // SAFETY: by invariant 1 the timer had a count, and has it no longer; `self` has another.
        unsafe { Arc::decrement_strong_count(Arc::as_ptr(&self.core)) };
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("made_at", &self.core.at)
            .finish_non_exhaustive()
    }
}

/// The timer's callback: hands the timer's count to a new goroutine.
unsafe fn fire(rt: &Rt, core: *mut (), _seq: usize) {
    let core = core.cast_const().cast::<Core>();
    let task = Task {
        data: (&raw const core).cast(),
        layout: Layout::new::<*const Core>(),
        entry: run,
        fini: |_, _| {},
        fini_arg: ptr::null_mut(),
    };
    // SAFETY: valid while the timer's count is there, by invariant 1.
    let at = unsafe { &*core }.at;
    let options = SpawnOptions {
        name: None,
        stack_size: 0,
        at,
        race: None,
    };
    // SAFETY: `run` takes the pointer and the count that goes with it.
    if let Err(error) = unsafe { rt.spawn(&task, &options) } {
        // There is nobody to tell, and a function that never runs would be worse.
        eprintln!("raddle: no goroutine for the after_func made at {at}: {error:?}");
        std::process::abort();
    }
}

/// The goroutine: runs the function.
unsafe fn run(data: *mut u8) {
    // SAFETY: the task's data is this pointer.
    let core = unsafe { data.cast::<*const Core>().read() };
    // SAFETY: the timer's count came with it.
    let core = unsafe { Arc::from_raw(core) };
    events::acquire(events::addr(&*core));
    // The panic hook has told of a panic; there is nobody who joins.
    drop(catch_unwind(AssertUnwindSafe(|| (core.f)())));
}
