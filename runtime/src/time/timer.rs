//! [`Timer`]: a moment sent, or a function run, later. [`Ticker`]: moments sent again and again.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raddle_chan::Receiver;

use super::core::{Action, Core};
use crate::sync::OnceCell;

/// Something that happens once, later: a moment is sent on its channel, or a function runs.
///
/// It can be stopped, and started anew. Dropping it stops nothing; clones are handles of the same timer. For a plain
/// time limit [`after`](crate::chan::after), or a receive with a time-out, is cheaper still.
///
/// **Blocking**: [`stop`](Timer::stop) and [`reset`](Timer::reset) park the goroutine for a moment while another does
/// either to the same timer.
///
/// **Happens-before**: starting it happens before the receive of its moment, or the run of its function.
///
/// # Examples
///
/// ```
/// use raddle::time::{Duration, Timer};
///
/// let timer = Timer::new(Duration::from_millis(1));
/// assert!(timer.c().recv().is_ok());
/// timer.reset(Duration::from_secs(3600));
/// assert!(timer.stop());
/// ```
#[derive(Clone)]
pub struct Timer {
    core: Arc<Core>,
}

impl Timer {
    /// Returns a timer that sends the current moment on its channel once `delay` has passed.
    #[must_use]
    #[track_caller]
    pub fn new(delay: Duration) -> Timer {
        let core = Core::new(Action::Send(OnceCell::new()), false, Location::caller());
        core.start(delay);
        Timer { core }
    }

    /// Returns the channel on which the moment comes; on that of an [`after_func`] nothing ever comes.
    #[must_use]
    pub fn c(&self) -> &Receiver<Instant> {
        self.core.receiver()
    }

    /// Stops the timer. Returns whether that prevented something: false if it was stopped before, its moment
    /// was received, or its function was started.
    ///
    /// No moment comes on the channel after this, and no earlier one is left there. A run of the function that is under way
    /// goes on, and is not waited for.
    #[track_caller]
    pub fn stop(&self) -> bool {
        self.core.stop()
    }

    /// Stops the timer as [`stop`](Timer::stop) does, with its result, and starts it anew with `delay`.
    #[track_caller]
    pub fn reset(&self, delay: Duration) -> bool {
        self.core.start(delay)
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("made_at", &format_args!("{}", self.core.at))
            .finish_non_exhaustive()
    }
}

/// Runs `f` on a new goroutine once `delay` has passed.
///
/// The timer that is returned can stop that, or start it anew: `f` may run several times, and at the same time
/// if it is started anew before a run has ended. A panic in `f` ends that goroutine only; one while `f` itself is dropped,
/// with the last handle or after the last run, is told by the panic hook and goes no further.
///
/// **Blocking**: never.
///
/// **Happens-before**: the call, and each [`Timer::reset`], before the run that it leads to.
///
/// # Examples
///
/// ```
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
    let core = Core::new(Action::Call(Box::new(f)), false, Location::caller());
    core.start(delay);
    Timer { core }
}

/// Sends the current moment on its channel again and again, until it is dropped or stopped.
///
/// A moment that is due while the one before has not been received is left out: there is no backlog.
///
/// **Blocking**: as [`Timer`].
///
/// **Happens-before**: starting it happens before the receive of its moments.
///
/// # Examples
///
/// ```
/// use raddle::time::{Duration, Ticker};
///
/// let ticker = Ticker::new(Duration::from_millis(1));
/// for _ in 0..3 {
///     assert!(ticker.c().recv().is_ok());
/// }
/// ```
pub struct Ticker {
    core: Arc<Core>,
}

impl Ticker {
    /// Returns a ticker that sends a moment every `period`, the first one after `period`.
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    #[must_use]
    #[track_caller]
    pub fn new(period: Duration) -> Ticker {
        let core = Core::new(Action::Send(OnceCell::new()), true, Location::caller());
        let ticker = Ticker { core };
        ticker.reset(period);
        ticker
    }

    /// Returns the channel on which the moments come. It stays open when the ticker stops.
    #[must_use]
    pub fn c(&self) -> &Receiver<Instant> {
        self.core.receiver()
    }

    /// Stops the ticker: no moment comes on the channel after this, and no earlier one is left there.
    #[track_caller]
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Stops the ticker, and starts it anew with `period`.
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    #[track_caller]
    pub fn reset(&self, period: Duration) {
        assert!(!period.is_zero(), "a ticker needs a period above zero");
        self.core.start(period);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.core.stop();
    }
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticker")
            .field("made_at", &format_args!("{}", self.core.at))
            .finish_non_exhaustive()
    }
}
