//! What timers and tickers share: a scheduler's timer that starts goroutines.
//!
//! # Invariants
//!
//! 1. While the scheduler's timer is armed, one strong count of the `Core` is its own: the core stays at its address. Arming
//!    takes the count first, and gives the surplus back if it finds the timer armed already. The last firing passes it on to the
//!    goroutine that it starts, a firing of several takes another for it; stopping an armed timer gives it back.
//! 2. The timer is started and stopped, and a moment is sent, with `state` locked; each start has its number. A goroutine
//!    sends only if its number is still that of the last start: no moment arrives from before a stop or a reset.
//! 3. A ticker has one goroutine on its way at a time: a moment that comes before it has begun is left out, as one would be that finds the
//!    channel full. Else a fast ticker would make goroutines faster than they run.
//!
//! # Blocking
//!
//! The timer's callback runs in the scheduler: it only spawns.
//!
//! In race mode starting releases on the core, in addition to earlier starts (one that has fired may not have run
//! yet), and each run acquires. Its goroutine starts with nothing acquired: no code of the program starts it.
//!
//! # Why not
//!
//! Sending from the callback: it would save a goroutine per firing, but a typed send belongs to a goroutine.

use std::alloc::Layout;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use raddle_chan::{Receiver, Sender, bounded, never};
use raddle_race::Pc;
use raddle_sched::{Rt, SpawnOptions, Task, current_goroutine, enter};

use crate::sync::{Mutex, OnceCell, deadline, events};

/// What happens when the time has come.
pub(super) enum Action {
    /// A function runs.
    Call(Box<dyn Fn() + Send + Sync>),
    /// The moment is sent, unless one waits already. The channel is made when it is first needed.
    Send(OnceCell<(Sender<Instant>, Receiver<Instant>)>),
}

struct State {
    /// The number of the last start or stop.
    start: usize,
    /// Started, and neither sent nor stopped since.
    pending: bool,
}

pub(super) struct Core {
    timer: raddle_sched::Timer,
    state: Mutex<State>,
    action: ManuallyDrop<Action>,
    /// Fires again and again.
    periodic: bool,
    /// One more than the start that a ticker's goroutine belongs to which has not begun yet; 0: there is none.
    on_its_way: AtomicUsize,
    /// Where it was made: the place that starts the goroutines.
    pub(super) at: &'static Location<'static>,
}

impl Core {
    pub(super) fn new(action: Action, periodic: bool, at: &'static Location<'static>) -> Arc<Core> {
        Arc::new_cyclic(|core: &Weak<Core>| Core {
            timer: raddle_sched::Timer::new(fire, core.as_ptr().cast_mut().cast()),
            state: Mutex::new(State {
                start: 0,
                pending: false,
            }),
            action: ManuallyDrop::new(action),
            periodic,
            on_its_way: AtomicUsize::new(0),
            at,
        })
    }

    /// The channel on which moments come; one on which nothing comes if a function runs instead.
    pub(super) fn receiver(&self) -> &Receiver<Instant> {
        static NEVER: OnceCell<Receiver<Instant>> = OnceCell::new();
        match &*self.action {
            Action::Send(channel) => &channel.get_or_init(|| bounded(1)).1,
            Action::Call(_) => NEVER.get_or_init(never),
        }
    }

    /// Starts the timer, anew if need be. Returns whether that prevented an earlier firing.
    #[track_caller]
    pub(super) fn start(self: &Arc<Core>, delay: Duration) -> bool {
        crate::boot::ensure();
        events::release_merge(events::addr(&**self));
        let mut state = self.state.lock();
        let unreceived = self.drain(&mut state);
        state.pending = true;
        let period_ns = if self.periodic {
            u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)
        } else {
            0
        };
        mem::forget(self.clone());
        let rt = enter();
        // SAFETY: the count taken above keeps the core where it is while the timer is armed, by invariant 1; `state` is
        // locked, so nobody else starts it.
        let armed = unsafe {
            self.timer
                .start(&rt, deadline::after(delay), period_ns, state.start)
        };
        if armed {
            self.give_back();
        }
        armed || unreceived
    }

    /// Stops the timer. Returns whether that prevented a firing.
    #[track_caller]
    pub(super) fn stop(self: &Arc<Core>) -> bool {
        let mut state = self.state.lock();
        let armed = self.timer.stop(&enter());
        if armed {
            self.give_back();
        }
        self.drain(&mut state) || armed
    }

    /// Makes sure that nothing from before arrives. Returns whether there was something.
    fn drain(&self, state: &mut State) -> bool {
        state.start = state.start.wrapping_add(1);
        let pending = std::mem::take(&mut state.pending);
        match &*self.action {
            Action::Call(_) => false,
            Action::Send(channel) => {
                pending
                    || channel
                        .get()
                        .is_some_and(|(_, receiver)| receiver.try_recv().is_ok())
            }
        }
    }

    /// Gives back the armed timer's count.
    fn give_back(self: &Arc<Core>) {
        // SAFETY: by invariant 1 the timer had a count, and has it no longer; `self` has another.
        unsafe { Arc::decrement_strong_count(Arc::as_ptr(self)) };
    }

    /// What the goroutine of firing `start` does.
    fn act(&self, start: usize) {
        events::acquire(events::addr(self));
        match &*self.action {
            Action::Call(f) => f(),
            Action::Send(channel) => {
                let mut state = self.state.lock();
                if state.start == start {
                    state.pending = false;
                    // Full: the moment before has not been received, and this one is left out.
                    let _ = channel
                        .get_or_init(|| bounded(1))
                        .0
                        .try_send(Instant::now());
                }
            }
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // What the function captured goes with the last count. Either the goroutine of a firing has that
        // or the owner of the timer, as it happens. So both outlive a panic.
        // SAFETY: not used after this.
        survive(|| unsafe { ManuallyDrop::drop(&mut self.action) });
        events::gone(events::addr(self), size_of::<Self>());
    }
}

/// What a firing's goroutine gets.
#[derive(Clone, Copy)]
struct Firing {
    core: *const Core,
    start: usize,
}

/// The timer's callback: hands a count to a new goroutine.
unsafe fn fire(rt: &Rt, core: *mut (), start: usize) {
    let core = core.cast_const().cast::<Core>();
    let firing = Firing { core, start };
    let task = Task {
        data: (&raw const firing).cast(),
        layout: Layout::new::<Firing>(),
        entry: run,
        release: |_| {},
        fini: |_, _| {},
        fini_arg: ptr::null_mut(),
    };
    // SAFETY: valid while the timer's count is there, by invariant 1.
    let this = unsafe { &*core };
    let (at, periodic) = (this.at, this.periodic);
    if periodic {
        // Relaxed: only how many goroutines there are depends on it.
        let number = start.wrapping_add(1);
        if this.on_its_way.swap(number, Relaxed) == number {
            return;
        }
        // SAFETY: as above; the timer keeps its own count for the next time.
        unsafe { Arc::increment_strong_count(core) };
    }
    let options = SpawnOptions {
        name: None,
        stack_size: 0,
        at,
        // SAFETY: for the goroutine that is spawned with it.
        race: raddle_race::enabled().then(|| unsafe { raddle_race::go_start_orphan(Pc::at(at)) }),
        system: false,
    };
    // SAFETY: `run` takes the pointer and the count that goes with it.
    if let Err(error) = unsafe { rt.spawn(&task, &options) } {
        // There is nobody to tell, and a firing that never comes would be worse.
        crate::capture::print_error(&format!(
            "raddle: no goroutine for the timer made at {at}: {error:?}\n"
        ));
        std::process::abort();
    }
}

/// The goroutine of a firing.
unsafe fn run(firing: *mut u8) {
    // SAFETY: the task's data is this.
    let Firing { core, start } = unsafe { firing.cast::<Firing>().read() };
    // SAFETY: a count came with it.
    let core = unsafe { Arc::from_raw(core) };
    if raddle_race::enabled()
        && let Some((id, _)) = current_goroutine()
    {
        let _inside = enter();
        raddle_race::set_goid(id);
    }
    // Fails if a later start has sent one.
    let number = start.wrapping_add(1);
    let _ = core
        .on_its_way
        .compare_exchange(number, 0, Relaxed, Relaxed);
    survive(|| core.act(start));
    drop(core);
}

/// Runs code of the user. The panic hook has told of a panic; there is nobody who joins.
fn survive(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f))
        && let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        // Its destructor panicked; what that left behind might do the same for ever.
        mem::forget(payload);
    }
}
