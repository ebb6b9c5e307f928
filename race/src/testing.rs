//! What the unit tests share: the one detector of the process, used by one test at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ctx::GoCtx;
use crate::current::{set_current, switch_in, switch_out};
use crate::options::quoted;
use crate::{Host, Object, Options, Pc};

static ONE: Mutex<()> = Mutex::new(());
/// Addresses of the races reported since last asked.
static RACES: Mutex<Vec<usize>> = Mutex::new(Vec::new());

static HOST: Host = Host {
    find_object: |addr| {
        RACES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(addr);
        None::<Object>
    },
    ..Host::NONE
};

/// The detector, for as long as the guard lives.
pub(crate) struct Detector(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Drop for Detector {
    fn drop(&mut self) {
        set_current(None);
        // The reports stay open as a descriptor; nobody reads the file.
        let _ = std::fs::remove_file(format!("{}.{}", log_path(), std::process::id()));
    }
}

fn log_path() -> String {
    std::env::temp_dir()
        .join("raddle-race-unit")
        .to_string_lossy()
        .into_owned()
}

/// Starts the detector if need be, and takes it.
pub(crate) fn detector() -> Detector {
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let options = Options::parse(&format!("log_path={}", quoted(&log_path())));
    let options = options.expect("a log can be written there");
    let (main, _) = crate::state::init(options, &HOST);
    if main.get().slot != crate::slot::NO_SLOT {
        switch_out(main);
    }
    take_races();
    Detector(guard)
}

/// The addresses of the races reported since the last call.
pub(crate) fn take_races() -> Vec<usize> {
    std::mem::take(&mut *RACES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs `f` as the goroutine.
pub(crate) fn on<R>(ctx: GoCtx, f: impl FnOnce() -> R) -> R {
    switch_in(ctx);
    let result = f();
    switch_out(ctx);
    result
}

/// A place that no other access has, so that no report is left out as a repetition.
pub(crate) fn fresh_pc() -> Pc {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static NEXT: AtomicUsize = AtomicUsize::new(0x1000);
    Pc::code(NEXT.fetch_add(8, Relaxed))
}

/// Watched memory that no other test uses; nothing is mapped there, only its shadow is used.
pub(crate) fn fresh_memory(size: usize) -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static NEXT: AtomicUsize = AtomicUsize::new(0x7300_0000_0000);
    NEXT.fetch_add(size.next_multiple_of(64), Relaxed)
}

/// Forks: the child's id, or None in the child, which ends at the latest after some seconds and
/// whose last call is [`end_child`].
pub(crate) fn fork() -> Option<libc::pid_t> {
    // SAFETY: the child does no more than the tests say, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        // SAFETY: no preconditions.
        unsafe { libc::alarm(20) };
        return None;
    }
    Some(child)
}

/// Ends a child of [`fork`], which went as it should or not.
pub(crate) fn end_child(went_well: bool) -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(i32::from(!went_well)) }
}

/// Waits for a child of [`fork`], and says whether it went well.
pub(crate) fn went_well(child: libc::pid_t) -> bool {
    let mut status = -1;
    // SAFETY: a child of ours, and a place for its status.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    waited == child && status == 0
}
