//! Tests of the primitives, on plain threads and on goroutines.

mod atomic;
mod auto_traits;
mod barrier;
mod condvar;
mod mutex;
mod once;
mod race;
mod rwlock;
mod semaphore;
mod stress;
mod waitgroup;

use std::time::{Duration, Instant};

use crate::JoinHandle;

/// Long beyond anything that a correct run needs.
const LONG: Duration = Duration::from_secs(60);

/// Runs tests of the enclosing module, which run on plain threads, on goroutines too.
macro_rules! on_goroutines {
    ($($name:ident)*) => {
        mod on_goroutines {
            $(#[test]
            fn $name() {
                crate::run(super::$name);
            })*
        }
    };
}
use on_goroutines;

/// The message of a panic.
fn panic_text(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let payload = std::panic::catch_unwind(f).expect_err("must panic");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().expect("a text")).to_owned(),
    }
}

/// Yields until `done`, and fails after a time that no correct run needs.
fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < LONG,
            "what the test waits for does not happen"
        );
        crate::yield_now();
    }
}

/// Runs `f` on a goroutine if a goroutine calls, else on a thread.
fn in_background<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Background<T> {
    if crate::current().is_some() {
        Background::Goroutine(crate::go(f))
    } else {
        Background::Thread(std::thread::spawn(f))
    }
}

enum Background<T = ()> {
    Goroutine(JoinHandle<T>),
    Thread(std::thread::JoinHandle<T>),
}

impl<T> Background<T> {
    fn join(self) -> T {
        self.try_join().expect("it has panicked")
    }

    /// The result; none after a panic.
    fn try_join(self) -> Option<T> {
        match self {
            Background::Goroutine(handle) => handle.join().ok(),
            Background::Thread(handle) => handle.join().ok(),
        }
    }
}
