//! What the collector did: counters for [`stats`], and the line for each cycle.
//!
//! # Memory ordering
//!
//! Counters only: Relaxed; they are of one moment each.

use super::pacer::{self, Measured};
use crate::pages;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Classes of pauses in [`Stats::pauses`].
pub const PAUSE_BUCKETS: usize = 40;

/// What the collector did since the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Cycles that marked the heap.
    pub cycles: u64,
    /// Cycles that were given up, since a thread could not be stopped.
    pub given_up: u64,
    /// Of `pauses[i]` pauses each took less than 2^i ns, and not less than half of that.
    pub pauses: [u64; PAUSE_BUCKETS],
    /// All pauses, in nanoseconds.
    pub pause_total_ns: u64,
    /// The longest pause, in nanoseconds.
    pub pause_max_ns: u64,
    /// Of the pauses: for marking, in nanoseconds.
    pub mark_ns: u64,
    /// Spent on sweeping, by all threads, in nanoseconds.
    pub sweep_ns: u64,
    /// Bytes of collected objects that the last cycle found alive.
    pub live_bytes: usize,
    /// Bytes of collected objects, dead ones that were not found yet included.
    pub heap_bytes: usize,
    /// Bytes of live manual objects at the last cycle.
    pub manual_bytes: usize,
    /// Bytes of collected objects at which the next cycle begins; `usize::MAX`: none will.
    pub goal_bytes: usize,
    /// Bytes of spans in use, of all kinds.
    pub in_use_bytes: usize,
    /// Collected objects freed.
    pub objects_freed: u64,
    /// Their bytes.
    pub bytes_freed: u64,
    /// Objects whose destructor was begun.
    pub finalized: u64,
}

static CYCLES: AtomicU64 = AtomicU64::new(0);
static GIVEN_UP: AtomicU64 = AtomicU64::new(0);
static PAUSES: [AtomicU64; PAUSE_BUCKETS] = [const { AtomicU64::new(0) }; PAUSE_BUCKETS];
static PAUSE_TOTAL: AtomicU64 = AtomicU64::new(0);
static PAUSE_MAX: AtomicU64 = AtomicU64::new(0);
static MARK: AtomicU64 = AtomicU64::new(0);
static SWEEP: AtomicU64 = AtomicU64::new(0);
static OBJECTS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FINALIZED: AtomicU64 = AtomicU64::new(0);

/// Returns what the collector did.
///
/// **Blocking**: neither parks the goroutine nor blocks the thread.
#[must_use]
pub fn stats() -> Stats {
    let found = pacer::measured();
    let mut pauses = [0; PAUSE_BUCKETS];
    for (pause, count) in pauses.iter_mut().zip(&PAUSES) {
        *pause = count.load(Relaxed);
    }
    Stats {
        cycles: CYCLES.load(Relaxed),
        given_up: GIVEN_UP.load(Relaxed),
        pauses,
        pause_total_ns: PAUSE_TOTAL.load(Relaxed),
        pause_max_ns: PAUSE_MAX.load(Relaxed),
        mark_ns: MARK.load(Relaxed),
        sweep_ns: SWEEP.load(Relaxed),
        live_bytes: found.live,
        heap_bytes: pacer::heap_bytes(),
        manual_bytes: found.manual,
        goal_bytes: pacer::goal(),
        in_use_bytes: pages::in_use_bytes(),
        objects_freed: OBJECTS.load(Relaxed),
        bytes_freed: BYTES.load(Relaxed),
        finalized: FINALIZED.load(Relaxed),
    }
}

/// A span was swept.
pub(super) fn count_swept(objects: usize, bytes: usize, ns: u64) {
    OBJECTS.fetch_add(objects as u64, Relaxed);
    BYTES.fetch_add(bytes as u64, Relaxed);
    SWEEP.fetch_add(ns, Relaxed);
}

pub(super) fn count_finalized() {
    FINALIZED.fetch_add(1, Relaxed);
}

pub(super) fn count_given_up() {
    GIVEN_UP.fetch_add(1, Relaxed);
}

pub(super) fn objects_freed() -> u64 {
    OBJECTS.load(Relaxed)
}

/// The moments of a cycle, in nanoseconds on the monotonic clock, and what else its line says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The world was asked to stop,
    pub(super) asked: u64,
    /// stood still,
    pub(super) stopped: u64,
    /// all was marked,
    pub(super) marked: u64,
    /// destructors were queued,
    pub(super) queued: u64,
    /// and it ran again.
    pub(super) started: u64,
}

/// What a line has besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Bytes of collected objects before.
    pub(super) before: usize,
    pub(super) found: Measured,
    pub(super) workers: usize,
    /// Objects freed since the cycle before.
    pub(super) freed: u64,
    /// When the collector began, on the same clock.
    pub(super) began: u64,
}

/// A cycle is over. Returns its number.
pub(super) fn count_cycle(times: Times) -> u64 {
    let pause = times.started - times.asked;
    let bucket = (u64::BITS - pause.leading_zeros()) as usize;
    PAUSES[bucket.min(PAUSE_BUCKETS - 1)].fetch_add(1, Relaxed);
    PAUSE_TOTAL.fetch_add(pause, Relaxed);
    PAUSE_MAX.fetch_max(pause, Relaxed);
    MARK.fetch_add(times.marked - times.stopped, Relaxed);
    CYCLES.fetch_add(1, Relaxed) + 1
}

/// Writes the line for a cycle to stderr, without the heap.
pub(super) fn trace(number: u64, times: Times, round: Round) {
    let ms = |from, to: u64| Milli(to.saturating_sub(from));
    let elapsed = times.started.saturating_sub(round.began).max(1);
    let mut line = Line::new();
    // A line that is too long is cut.
    let _ = writeln!(
        line,
        "gc {number} @{}s {}%: {}+{}+{} ms ({} ms stopped), {}->{} MiB, {} MiB roots, {} MiB goal, {} workers, {} objects swept before",
        Milli(elapsed / 1_000_000 * 1000),
        PAUSE_TOTAL.load(Relaxed) * 100 / elapsed,
        ms(times.asked, times.stopped),
        ms(times.stopped, times.marked),
        ms(times.marked, times.queued),
        ms(times.asked, times.started),
        round.before >> 20,
        round.found.live >> 20,
        round.found.roots >> 20,
        Goal(pacer::goal()),
        round.workers,
        round.freed,
    );
    line.print();
}

/// Says that a thread could not be stopped.
pub(super) fn warn_unstoppable(tid: i32) {
    let mut line = Line::new();
    let _ = writeln!(
        line,
        "raddle: warning: the collector cannot stop thread {tid}, which blocks its signal; nothing is collected while it does"
    );
    line.print();
}

/// Says that the collector cannot learn which threads there are.
pub(super) fn warn_no_list() {
    let mut line = Line::new();
    let _ = writeln!(
        line,
        "raddle: warning: the collector cannot list this process's threads: /proc is missing, or another namespace's, or no descriptor \
         is left; nothing is collected while it is so"
    );
    line.print();
}

/// Says that the collector has no thread.
pub(super) fn warn_no_thread() {
    let mut line = Line::new();
    let _ = writeln!(
        line,
        "raddle: warning: a thread of the collector cannot be started; with none at all nothing is collected"
    );
    line.print();
}

/// Millionths, as thousandths with three digits behind the point.
struct Milli(u64);

impl fmt::Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1000;
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

struct Goal(usize);

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            usize::MAX => f.write_str("no"),
            bytes => write!(f, "{}", bytes >> 20),
        }
    }
}

struct Line {
    text: [u8; 256],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self {
            text: [0; 256],
            len: 0,
        }
    }

    fn print(&self) {
        // SAFETY: the pointer and length are of one slice.
        unsafe { libc::write(2, self.text.as_ptr().cast(), self.len) };
    }
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.len().min(self.text.len() - self.len);
        self.text[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        assert_eq!(Milli(1_234_567).to_string(), "1.234");
        assert_eq!(Milli(7_000).to_string(), "0.007");
        assert_eq!(Goal(usize::MAX).to_string(), "no");
    }

    #[test]
    fn a_long_line_is_cut() {
        let mut line = Line::new();
        write!(line, "{:300}", 1).unwrap();
        assert_eq!(line.len, 256);
    }
}
