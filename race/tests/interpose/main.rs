//! The interposed C library, as programs of plain threads meet it. The accesses are announced by hand, and what std does inside is
//! not watched: whatever order the detector knows of came through the C library.

mod descriptors;
mod kernel;
mod locks;
mod memory;
mod signals;
mod threads;

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Mutex, MutexGuard, PoisonError};

use raddle_race::{self as race, Host, Options, Pc};

/// The mark of compiled code, by which what the C library does with the program's buffers counts.
#[unsafe(export_name = "raddle_race_instrumented")]
static INSTRUMENTED: u8 = 1;

static ONE: Mutex<()> = Mutex::new(());

/// The detector, with the calling thread watched, for as long as this lives.
struct Detector {
    _one: MutexGuard<'static, ()>,
    before: usize,
}

impl Detector {
    fn take() -> Detector {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut options = Options::default();
        options.log_path = String::from(concat!(env!("CARGO_TARGET_TMPDIR"), "/race-interpose"));
        // SAFETY: the contexts are not used.
        unsafe { race::init(options, &Host::NONE) };
        // SAFETY: as above.
        unsafe { race::thread_attach() };
        Detector {
            _one: one,
            before: race::errors(),
        }
    }

    /// Races reported since `take`.
    fn races(&self) -> usize {
        race::errors() - self.before
    }
}

/// Memory that no other test uses; only its shadow is.
fn memory(size: usize) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0x7200_0000_0000);
    NEXT.fetch_add(size.next_multiple_of(64), Relaxed)
}

/// A place that no other access has, so that no report is left out as a repetition.
fn pc() -> Pc {
    static NEXT: AtomicUsize = AtomicUsize::new(0x1000);
    Pc::code(NEXT.fetch_add(8, Relaxed))
}

fn write(addr: usize) {
    assert!(race::has_current(), "the thread is not watched");
    race::write(addr, 8, pc());
}

fn read(addr: usize) {
    assert!(race::has_current(), "the thread is not watched");
    race::read(addr, 8, pc());
}

/// A thread writes to memory and then does `tell`; the caller does `hear`, and has an access of its own
/// by `then`. Returns the races.
fn races_between(
    tell: impl FnOnce() + Send + 'static,
    hear: impl FnOnce(),
    then: fn(usize),
) -> usize {
    let detector = Detector::take();
    let data = memory(8);
    let thread = std::thread::spawn(move || {
        write(data);
        tell();
    });
    hear();
    then(data);
    thread.join().unwrap();
    detector.races()
}

/// Waits for another thread in a way that the detector does not see.
fn wait_until(flag: &AtomicUsize, value: usize) {
    while flag.load(Acquire) < value {
        std::thread::yield_now();
    }
}

/// Waits until the thread is over, without joining it.
fn wait_until_over(thread: &std::thread::JoinHandle<()>) {
    while !thread.is_finished() {
        std::thread::yield_now();
    }
}
