//! When to collect: the goal of the heap's size, and the triggers.
//!
//! # The goal
//!
//! After a cycle that found `live` bytes of collected objects and scanned `roots` bytes outside them, the program may take
//! `(live + roots) * percent / 100` bytes of collected objects more before the next, or what is left to a heap of 4 MiB: so the time spent on marking
//! is in proportion to that spent on allocating. With a memory limit it may take only what is left up to it, but never less
//! than a tenth of `live`: past the limit the program becomes slower, not stuck.
//!
//! Bytes are counted when a cache takes objects from their spans, so a program with few objects of many sizes collects a
//! little too early.
//!
//! # Triggers
//!
//! *At an allocation of a collected kind* that finds the goal reached: the caller waits for the cycle, so the heap cannot outgrow its
//! goal by more than an object for each thread. *At any allocation* that finds more memory in use than the limit and than a tenth
//! above what was after the last cycle: the cycle is asked for and not waited for, since manual allocation
//! happens under the program's, and the runtime's, locks. *At every nth allocation*, under stress.
//!
//! # Memory ordering
//!
//! Counters only: Relaxed.

use super::config;
use super::cycle;
use super::object::Kind;
use crate::futex::Lock;
use crate::pages;
use crate::thread::{busy, this_thread};
use crate::world;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};

/// What the program may always take, in bytes.
const MIN_EXTRA: usize = 1 << 20;
/// A heap that it may always reach, in bytes.
const MIN_HEAP: usize = 4 << 20;
/// What it may take even past the limit, in bytes.
const MIN_ROOM: usize = 256 << 10;
const OFF: u32 = u32::MAX;
const NONE: usize = usize::MAX;

static PERCENT: AtomicU32 = AtomicU32::new(100);
static LIMIT: AtomicUsize = AtomicUsize::new(NONE);
/// Bytes of collected kinds taken since the last cycle.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
/// How many of them make a cycle due.
static EXTRA: AtomicUsize = AtomicUsize::new(MIN_HEAP);
/// How many bytes in use make one due.
static HIGH_WATER: AtomicUsize = AtomicUsize::new(NONE);
/// Allocations, under stress.
static COUNT: AtomicU32 = AtomicU32::new(0);

static LIVE: AtomicUsize = AtomicUsize::new(0);
static ROOTS: AtomicUsize = AtomicUsize::new(0);
static MANUAL: AtomicUsize = AtomicUsize::new(0);
static IN_USE: AtomicUsize = AtomicUsize::new(0);
/// Guards the plan: settings and measurements change on different threads.
static PLANNING: Lock = Lock::new();

/// What a cycle found, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    /// Collected objects that were reached.
    pub(super) live: usize,
    /// Memory that was scanned as roots, `manual` included.
    pub(super) roots: usize,
    /// Live manual objects.
    pub(super) manual: usize,
    /// Spans in use, swept or not.
    pub(super) in_use: usize,
}

/// When the next cycle is due, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    extra: usize,
    high_water: usize,
}

fn plan(percent: Option<u32>, limit: Option<usize>, found: Measured) -> Plan {
    let extra = percent.map_or(NONE, |percent| {
        let whole = (found.live as u128 + found.roots as u128) * u128::from(percent) / 100;
        let least = MIN_EXTRA.max(MIN_HEAP.saturating_sub(found.live));
        least.max(usize::try_from(whole).unwrap_or(NONE))
    });
    let Some(limit) = limit else {
        return Plan {
            extra,
            high_water: NONE,
        };
    };
    let left = limit.saturating_sub(found.live + found.manual);
    Plan {
        extra: extra.min(left.max(found.live / 10).max(MIN_ROOM)),
        high_water: limit.max(found.in_use + (found.in_use / 10).max(MIN_ROOM)),
    }
}

/// Makes the plan anew, after `change`.
fn replan<R>(change: impl FnOnce() -> R) -> R {
    busy(this_thread(), || {
        PLANNING.lock();
        let result = change();
        let found = measured();
        let new = plan(percent(), limit(), found);
        EXTRA.store(new.extra, Relaxed);
        HIGH_WATER.store(new.high_water, Relaxed);
        // SAFETY: taken above.
        unsafe { PLANNING.unlock() };
        result
    })
}

/// The plan's lock, for `fork`.
pub(super) fn lock() -> &'static Lock {
    &PLANNING
}

/// What the last cycle found.
pub(super) fn measured() -> Measured {
    Measured {
        live: LIVE.load(Relaxed),
        roots: ROOTS.load(Relaxed),
        manual: MANUAL.load(Relaxed),
        in_use: IN_USE.load(Relaxed),
    }
}

/// A cycle found this: a new round begins.
pub(super) fn finished(found: Measured) {
    replan(|| {
        LIVE.store(found.live, Relaxed);
        ROOTS.store(found.roots, Relaxed);
        MANUAL.store(found.manual, Relaxed);
        IN_USE.store(found.in_use, Relaxed);
        ALLOCATED.store(0, Relaxed);
    });
}

/// A cycle was given up: another try when as much again has been allocated.
pub(super) fn given_up() {
    replan(|| {
        ALLOCATED.store(0, Relaxed);
        IN_USE.store(pages::in_use_bytes(), Relaxed);
    });
}

/// Bytes of collected objects, as far as is known.
pub(super) fn heap_bytes() -> usize {
    LIVE.load(Relaxed) + ALLOCATED.load(Relaxed)
}

/// The size of collected objects at which the next cycle begins, in bytes; `usize::MAX`: none will.
pub(super) fn goal() -> usize {
    LIVE.load(Relaxed).saturating_add(EXTRA.load(Relaxed))
}

fn percent() -> Option<u32> {
    Some(PERCENT.load(Relaxed)).filter(|&percent| percent != OFF)
}

fn limit() -> Option<usize> {
    Some(LIMIT.load(Relaxed)).filter(|&limit| limit != NONE)
}

/// Sets how much the collected heap may grow between cycles, in percent of what is live and scanned; `None`: no cycle but those
/// asked for, and those of a memory limit. Returns what was set before. The default is 100.
///
/// **Blocking**: neither parks the goroutine nor blocks the thread.
pub fn set_percent(percent: Option<u32>) -> Option<u32> {
    let new = percent.map_or(OFF, |percent| percent.min(OFF - 1));
    let before = replan(|| PERCENT.swap(new, Relaxed));
    Some(before).filter(|&percent| percent != OFF)
}

/// Sets how much memory the heap should use, manual objects included, in bytes; `None`: no limit. Returns what was set before.
///
/// The limit is not a wall: near it cycles become more frequent, and when all is live it is passed.
///
/// # Errors
///
/// More than the limit is live already; nothing was changed.
///
/// **Blocking**: runs a cycle if more than the limit is in use, to learn how much of it is live, and blocks the OS thread meanwhile.
pub fn set_memory_limit(limit: Option<usize>) -> Result<Option<usize>, LimitBelowLive> {
    if let Some(limit) = limit
        && limit < pages::in_use_bytes()
    {
        let live = if cycle::collect() {
            let found = measured();
            found.live + found.manual
        } else {
            pages::in_use_bytes()
        };
        if limit < live {
            return Err(LimitBelowLive { limit, live });
        }
    }
    // An allocation that finds the limit passed only asks for a cycle: somebody must be there to be asked.
    if limit.is_some() {
        cycle::is_started();
    }
    let before = replan(|| LIMIT.swap(limit.unwrap_or(NONE), Relaxed));
    Ok(Some(before).filter(|&limit| limit != NONE))
}

/// A memory limit was refused. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitBelowLive {
    /// What was asked for.
    pub limit: usize,
    /// What is live.
    pub live: usize,
}

impl fmt::Display for LimitBelowLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, live } = self;
        write!(
            f,
            "a memory limit of {limit} bytes is below the {live} bytes that are live; set a higher one"
        )
    }
}

impl std::error::Error for LimitBelowLive {}

/// A thread's cache was given so many bytes of a kind. In a busy section.
#[inline]
pub(crate) fn note_allocated(kind: Kind, bytes: usize) {
    if kind != Kind::Manual {
        ALLOCATED.fetch_add(bytes, Relaxed);
    }
}

/// Something is about to be allocated by the slow path, outside any busy section. Collected kinds may wait for a cycle.
#[inline]
pub(crate) fn before_allocation(kind: Kind) {
    if config::stress_every() != 0 {
        stress(kind);
    }
    if kind != Kind::Manual {
        world::get().inspect(|world| world.safepoint());
    }
    if kind != Kind::Manual && ALLOCATED.load(Relaxed) >= EXTRA.load(Relaxed) {
        cycle::wait_for_one();
    } else if pages::in_use_bytes() > HIGH_WATER.load(Relaxed) {
        cycle::request();
    }
}

#[cold]
fn stress(kind: Kind) {
    let every = config::stress_every().max(1);
    if !COUNT
        .fetch_add(1, Relaxed)
        .wrapping_add(1)
        .is_multiple_of(every)
    {
        return;
    }
    match kind {
        Kind::Manual => cycle::request(),
        _ => {
            cycle::collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn found(live: usize, roots: usize) -> Measured {
        Measured {
            live,
            roots,
            manual: roots,
            in_use: live + roots,
        }
    }

    #[test]
    fn the_heap_grows_by_a_share_of_live_and_roots_or_to_four_mebibytes() {
        let extra = |percent, live, roots| plan(percent, None, found(live, roots)).extra;
        assert_eq!(extra(Some(100), 0, 0), 4 * MIB);
        assert_eq!(extra(Some(100), 100 * MIB, 20 * MIB), 120 * MIB);
        assert_eq!(extra(Some(50), 100 * MIB, 0), 50 * MIB);
        assert_eq!(extra(Some(100), 3 * MIB, MIB / 2), 7 * MIB / 2);
        assert_eq!(extra(Some(10), 3 * MIB, 0), MIB);
        assert_eq!(extra(Some(0), 100 * MIB, 0), MIB);
        assert_eq!(extra(None, 100 * MIB, 0), NONE);
        assert!(extra(Some(u32::MAX - 1), 1 << 40, 0) > 1 << 60);
    }

    #[test]
    fn a_limit_lowers_the_goal_but_leaves_a_tenth() {
        let with = |limit, live, roots| plan(Some(100), Some(limit), found(live, roots));
        assert_eq!(with(1000 * MIB, 100 * MIB, 0).extra, 100 * MIB);
        assert_eq!(with(150 * MIB, 100 * MIB, 0).extra, 50 * MIB);
        assert_eq!(with(150 * MIB, 100 * MIB, 30 * MIB).extra, 20 * MIB);
        assert_eq!(with(90 * MIB, 100 * MIB, 0).extra, 10 * MIB);
        assert_eq!(with(1, 0, 0).extra, MIN_ROOM);
        assert_eq!(with(1000 * MIB, 100 * MIB, 0).high_water, 1000 * MIB);
        assert_eq!(with(50 * MIB, 100 * MIB, 0).high_water, 110 * MIB);
        let only = plan(None, Some(150 * MIB), found(100 * MIB, 0));
        assert_eq!(only.extra, 50 * MIB);
    }
}
