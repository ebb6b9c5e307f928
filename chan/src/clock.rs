//! The source of messages of `after`, `at` and `tick`: the clock.
//!
//! # States
//!
//! `next` is the moment of the next message in [`now_ns`] time; [`TAKEN`]: there will be none any more (`after`, once received).
//! Whoever moves `next` on by compare-and-swap has received the message of that moment.
//!
//! # Blocking
//!
//! There is no timer here: a goroutine that waits on a clock sleeps until `next` by a timer on its own stack, the one
//! that a receive with a time limit uses too, and tries again. So an `after` in a select that another case wins at once
//! touches no timer heap, nothing is armed for a channel nobody waits on, and a dropped receiver has nothing to disarm.
//! What wakes several sleepers for one tick is the price; they are few in practice.
//!
//! # Memory ordering
//!
//! `next` carries no data: relaxed. In race mode making the clock is ordered before receiving from it, by the hooks.
//!
//! # Why not
//!
//! A timer per channel that sends into a buffer of one: it costs two passes through the timer heap for every `after`, must
//! be disarmed by the last receiver, and reports no deadlock for a second receive, which can never end.

use raddle_sched::now_ns;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// No message any more. Beyond any moment that `now_ns` will reach.
const TAKEN: u64 = u64::MAX;

/// A clock that gives the moments `next`, `next + period_ns`, ...
#[derive(Debug)]
pub(crate) struct Clock {
    next: AtomicU64,
    /// None: one message only.
    period_ns: Option<u64>,
    /// The same moment on both scales.
    origin: Instant,
    origin_ns: u64,
}

impl Clock {
    /// One message, at `when`. None if that is beyond the clock's range: it would never come.
    pub(crate) fn at(when: Instant) -> Option<Self> {
        let next = deadline_ns(when)?;
        Some(Self {
            next: AtomicU64::new(next),
            period_ns: None,
            origin: when,
            origin_ns: next,
        })
    }

    /// One message, `delay` from now.
    pub(crate) fn after(delay: Duration) -> Option<Self> {
        let when = Instant::now().checked_add(delay)?;
        let next = timeout_ns(delay)?;
        Some(Self {
            next: AtomicU64::new(next),
            period_ns: None,
            origin: when,
            origin_ns: next,
        })
    }

    /// A message every `period`.
    pub(crate) fn every(period: Duration) -> Option<Self> {
        let first = Self::after(period)?;
        Some(Self {
            period_ns: Some(u64::try_from(period.as_nanos()).ok()?),
            ..first
        })
    }

    /// When to try again; None: never.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        match self.next.load(Ordering::Relaxed) {
            TAKEN => None,
            next => Some(next),
        }
    }

    /// Whether a message waits.
    pub(crate) fn is_due(&self) -> bool {
        match self.next.load(Ordering::Relaxed) {
            TAKEN => false,
            next => now_ns() >= next,
        }
    }

    /// Receives the message that is due, if one is.
    ///
    /// # Safety
    ///
    /// `dst` is valid for writing.
    pub(crate) unsafe fn poll(&self, dst: *mut Instant) -> bool {
        let mut next = self.next.load(Ordering::Relaxed);
        while next != TAKEN {
            let now = now_ns();
            if now < next {
                return false;
            }
            let following = match self.period_ns {
                None => TAKEN,
                // Late by less than a period: keep the phase. Later: no backlog, start over from now.
                Some(period) => match next.saturating_add(period) {
                    following if following > now => following,
                    _ => now.saturating_add(period).min(TAKEN - 1),
                },
            };
            match self
                .next
                .compare_exchange(next, following, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {
                    let message = self.origin + Duration::from_nanos(next - self.origin_ns);
                    // SAFETY: by the contract.
                    unsafe { dst.write(message) };
                    return true;
                }
                Err(current) => next = current,
            }
        }
        false
    }
}

/// A time limit from now, as a moment; None if it is beyond the clock's range.
pub(crate) fn timeout_ns(timeout: Duration) -> Option<u64> {
    let ns = u64::try_from(timeout.as_nanos()).ok()?;
    now_ns().checked_add(ns).filter(|&ns| ns != TAKEN)
}

/// An `Instant` as a moment; None if it is beyond the clock's range.
pub(crate) fn deadline_ns(deadline: Instant) -> Option<u64> {
    timeout_ns(deadline.saturating_duration_since(Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(clock: &Clock) -> Option<Instant> {
        let mut at = Instant::now();
        // SAFETY: `at` is a place to write to.
        unsafe { clock.poll(&mut at) }.then_some(at)
    }

    #[test]
    fn a_moment_comes_once() {
        let when = Instant::now();
        let clock = Clock::at(when).unwrap();
        assert!(clock.is_due());
        assert_eq!(poll(&clock), Some(when));
        assert_eq!(poll(&clock), None);
        assert_eq!(clock.next_ns(), None);
        assert!(!clock.is_due());
    }

    #[test]
    fn a_late_tick_has_no_backlog() {
        let period = 1000;
        let now = now_ns();
        let due = now - 10 * period;
        let clock = Clock {
            next: AtomicU64::new(due),
            period_ns: Some(period),
            origin: Instant::now(),
            origin_ns: due,
        };
        assert_eq!(poll(&clock), Some(clock.origin));
        assert!(clock.next_ns().unwrap() >= now + period);
    }

    #[test]
    fn a_tick_in_time_keeps_its_phase() {
        let hour = 3_600_000_000_000;
        let due = now_ns();
        let clock = Clock {
            next: AtomicU64::new(due),
            period_ns: Some(hour),
            origin: Instant::now(),
            origin_ns: due,
        };
        assert_eq!(poll(&clock), Some(clock.origin));
        assert_eq!(clock.next_ns(), Some(due + hour));
        assert_eq!(poll(&clock), None);
    }

    #[test]
    fn what_never_comes_is_no_clock() {
        assert!(Clock::after(Duration::MAX).is_none());
        assert!(Clock::every(Duration::MAX).is_none());
        assert_eq!(timeout_ns(Duration::MAX), None);
    }
}
