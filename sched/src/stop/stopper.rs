//! The stopper's side: signals every thread until all stand still.
//!
//! Threads come and go meanwhile. So the kernel is asked for all threads again and again; the world
//! stands still when a whole list, *begun* after the last look at who stands still, has none that
//! does not. Nobody is then left who could start another.
//!
//! # Who does not come
//!
//! - A thread inside the allocator comes a little later, by itself.
//! - A thread that ends, or begins, has all signals blocked for a moment.
//! - A thread that sleeps in the kernel where signals do not reach it (a slow disk, `vfork`)
//!   touches no memory meanwhile, but may come back any time: it is waited for.
//! - A thread that the kernel made for io_uring never runs code of the program: it is left out.
//! - The main thread, if it ended before the process, stays in the list as a zombie: it is left
//!   out.
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
/// A thread that sleeps for so long with the signal blocked does not come; one that runs may yet
/// unblock it.
const PATIENCE_NS: u64 = 100_000_000;
const PATIENCE_RUNNING_NS: u64 = 1_000_000_000;

/// So many lists in a row that show nobody who runs are enough, even where the kernel (an imitation
/// of Linux, say) does not tell how long they should be.
const MAX_DOUBTFUL: u32 = 64;

/// The process whose main thread has ended, and is a zombie.
static ENDED_MAIN: AtomicI32 = AtomicI32::new(0);

/// Stops all threads but `caller` and `collectors`, and notes in `stopped`, sorted by number, where
/// they stand.
///
/// # Errors
///
/// The number of a thread that does not come; 0: the list is of other numbers than ours, since
/// `/proc` is that of another namespace, and shows nobody. Then all run on.
pub(super) fn stop_all(
    tasks: &Tasks,
    caller: i32,
    collectors: &[i32],
    stopped: &mut Buf<Stopped>,
    listed: &mut Buf<i32>,
    kernels: &mut Buf<i32>,
) -> Result<(), i32> {
    // Those of the last stop may have ended, and their numbers be others' by now.
    kernels.retain(|&tid| tasks.is_kernels(tid));
    halt::begin();
    let started = now_ns();
    let mut pause = FIRST_PAUSE;
    let mut doubtful = 0;
    let mut suspect: Option<Suspect> = None;
    loop {
        gather(stopped);
        let is_whole = tasks.list(listed);
        let has_caller = listed.contains(&caller);
        let is_awaited = |tid| tid != caller && !collectors.contains(&tid) && !is_ended(tid);
        listed.retain(|&tid| is_awaited(tid) && !kernels.contains(&tid));
        listed.retain(|&tid| !is_among(stopped, tid));
        let signalled = listed.iter().filter(|&&tid| signal::send(tid)).count();
        if signalled == 0 {
            doubtful += 1;
            if has_caller && (is_whole || doubtful == MAX_DOUBTFUL) {
                return Ok(());
            }
            if doubtful == MAX_DOUBTFUL {
                halt::end();
                return Err(0);
            }
            continue;
        }
        doubtful = 0;
        halt::wait_for(stopped.len() + signalled, pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        let now = now_ns();
        if now - started < LOOK_NS {
            continue;
        }
        gather(stopped);
        listed.retain(|&tid| !is_among(stopped, tid));
        suspect = look_at(tasks, listed, kernels).map(|(tid, patience)| match suspect {
            Some(before) if before.tid == tid => Suspect { patience, ..before },
            _ => Suspect {
                tid,
                since: now,
                patience,
            },
        });
        if let Some(suspect) = suspect.as_ref()
            && now - suspect.since > suspect.patience
        {
            halt::end();
            return Err(suspect.tid);
        }
    }
}

/// The first of the listed threads that blocked the signal at every look since.
#[derive(Clone, Copy)]
struct Suspect {
    tid: i32,
    since: u64,
    /// For how long it may, in nanoseconds.
    patience: u64,
}

/// Looks what those do that have not come. Returns the first that blocks the signal, and how long
/// it may.
fn look_at(tasks: &Tasks, missing: &[i32], kernels: &mut Buf<i32>) -> Option<(i32, u64)> {
    for &tid in missing {
        let Some(status) = tasks.status(tid) else {
            continue;
        };
        note_ended(tid, status);
        if !blocks_signal(status) {
            continue;
        }
        if tasks.is_kernels(tid) {
            kernels.push(tid);
            continue;
        }
        return Some(match status.state {
            b'R' | b'D' => (tid, PATIENCE_RUNNING_NS),
            _ => (tid, PATIENCE_NS),
        });
    }
    None
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

/// By the thread's own doing, or since it is on its way through the handler.
fn blocks_signal(status: Status) -> bool {
    status.blocked >> (libc::SIGURG - 1) & 1 != 0
}

fn is_ended(tid: i32) -> bool {
    ENDED_MAIN.load(Relaxed) == tid
}

/// A child of `fork` has other threads.
pub(super) fn begin_child() {
    ENDED_MAIN.store(0, Relaxed);
}

fn note_ended(tid: i32, status: Status) {
    // SAFETY: no preconditions.
    if matches!(status.state, b'Z' | b'X') && tid == unsafe { libc::getpid() } {
        ENDED_MAIN.store(tid, Relaxed);
    }
}
