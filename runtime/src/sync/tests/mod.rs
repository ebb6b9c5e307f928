//! Tests of the primitives on plain threads.

mod atomic;
mod auto_traits;
mod barrier;
mod condvar;
mod mutex;
mod once;
mod rwlock;
mod semaphore;
mod stress;
mod waitgroup;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Long beyond anything that a correct run needs.
const LONG: Duration = Duration::from_secs(60);

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
        thread::yield_now();
    }
}

/// Runs `f` on a thread, and tells whether it is through.
fn in_background(f: impl FnOnce() + Send + 'static) -> Background {
    let (tx, rx) = mpsc::channel();
    let thread = thread::spawn(move || {
        f();
        let _ = tx.send(());
    });
    Background {
        thread,
        through: rx,
    }
}

struct Background {
    thread: thread::JoinHandle<()>,
    through: mpsc::Receiver<()>,
}

impl Background {
    fn join(self) {
        self.through
            .recv_timeout(LONG)
            .expect("the thread hangs or has panicked");
        self.thread.join().expect("the thread has panicked");
    }
}
