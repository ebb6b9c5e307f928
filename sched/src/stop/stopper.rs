//! The stopper's side: signals every thread until all stand still.
//!
//! Threads come and go meanwhile. So the kernel is asked for all threads again and again; the world stands still when a whole
//! list, *begun* after the last look at who stands still, has none that does not. Nobody is then left who could start another.
//!
//! # Who does not come
//!
//! - A thread inside the allocator comes a little later, by itself.
//! - A thread that ends, or begins, has all signals blocked for a moment.
//! - A thread that sleeps in the kernel where signals do not reach it (a slow disk, `vfork`) touches no memory meanwhile, but may
//!   come back any time: it is waited for.
//! - The main thread, if it ended before the process, stays in the list as a zombie: it is left out.
//! - A thread that blocks the signal for long never comes: the stop is given up.

use super::buf::Buf;
use super::halt::{self, Stopped};
use super::tasks::{Status, Tasks};
use crate::signal;
use crate::sys::now_ns;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::Duration;

/// How long the stopper sleeps between two looks: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// From when on it looks what those do that have not come.
const LOOK_NS: u64 = 1_000_000;
/// A thread that sleeps for so long with the signal blocked does not come; one that runs may yet unblock it.
const PATIENCE_NS: u64 = 100_000_000;
const PATIENCE_RUNNING_NS: u64 = 1_000_000_000;

/// The process whose main thread has ended, and is a zombie.
static ENDED_MAIN: AtomicI32 = AtomicI32::new(0);

/// Stops all threads but `caller` and `collectors`, and notes in `stopped`, sorted by number, where they stand.
///
/// # Errors
///
/// The number of a thread that does not come. Then all run on.
pub(super) fn stop_all(
    tasks: &Tasks,
    caller: i32,
    collectors: &[i32],
    stopped: &mut Buf<Stopped>,
    listed: &mut Buf<i32>,
) -> Result<(), i32> {
    halt::begin();
    let started = now_ns();
    let mut pause = FIRST_PAUSE;
    let mut suspect = None;
    loop {
        gather(stopped);
        let is_whole = tasks.list(listed);
        let missing = |stopped: &[Stopped], tid| {
            tid != caller && !collectors.contains(&tid) && !is_among(stopped, tid) && !is_ended(tid)
        };
        let signalled = listed
            .iter()
            .filter(|&&tid| missing(stopped, tid) && signal::send(tid))
            .count();
        if signalled == 0 {
            if is_whole {
                return Ok(());
            }
            continue;
        }
        halt::wait_for(stopped.len() + signalled, pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        let now = now_ns();
        if now - started < LOOK_NS {
            continue;
        }
        gather(stopped);
        suspect = listed
            .iter()
            .filter(|&&tid| missing(stopped, tid))
            .find_map(|&tid| {
                let status = tasks.status(tid)?;
                note_ended(tid, status);
                does_not_come(status).then_some((tid, status))
            })
            .map(|(tid, status)| match suspect {
                Some((before, since)) if before == tid => (tid, status, since),
                _ => (tid, status, now),
            })
            .map(|(tid, status, since)| {
                let patience = match status.state {
                    b'R' | b'D' => PATIENCE_RUNNING_NS,
                    _ => PATIENCE_NS,
                };
                if now - since > patience {
                    Err(tid)
                } else {
                    Ok((tid, since))
                }
            })
            .transpose()
            .inspect_err(|_| halt::end())?;
    }
}

/// Notes all that stand still, sorted.
fn gather(stopped: &mut Buf<Stopped>) {
    stopped.clear();
    halt::each_stopped(|thread| stopped.push(thread));
    stopped.sort_unstable_by_key(|thread| thread.tid);
}

fn is_among(stopped: &[Stopped], tid: i32) -> bool {
    stopped
        .binary_search_by_key(&tid, |thread| thread.tid)
        .is_ok()
}

/// The signal is blocked: by the thread, or since it is on its way through the handler.
fn does_not_come(status: Status) -> bool {
    status.blocked >> (libc::SIGURG - 1) & 1 != 0
}

fn is_ended(tid: i32) -> bool {
    ENDED_MAIN.load(Relaxed) == tid
}

fn note_ended(tid: i32, status: Status) {
    // SAFETY: no preconditions.
    if matches!(status.state, b'Z' | b'X') && tid == unsafe { libc::getpid() } {
        ENDED_MAIN.store(tid, Relaxed);
    }
}
