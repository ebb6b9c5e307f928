//! Starting and ending the program.

use raddle_sched::BootOptions;
use std::panic::{resume_unwind};

/// Boots the scheduler, if need be.
pub(crate) fn ensure() {
    if !raddle_sched::is_booted() {
        raddle_sched::boot(&BootOptions::default());
    }
}

/// Runs `f` as a goroutine and waits for it.
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    ensure();
    // SAFETY: `join` below comes before the end of all that is borrowed: nothing in between can unwind.
    let handle = unsafe { crate::goroutine::spawn(f, (), Some("main".into()), 0, std::panic::Location::caller()) };
    match handle.unwrap_or_else(|error| panic!("cannot start the main goroutine: {error}")).join() {
        Ok(value) => value,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => loop {
            raddle_sched::sleep_ns(u64::MAX / 2);
        },
    }
}

#[doc(hidden)]
pub fn rt_main<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    run(f)
}

#[doc(hidden)]
pub fn rt_test<R: Send>(procs: usize, f: impl FnOnce() -> R + Send) -> R {
    let _ = procs;
    run(f)
}
