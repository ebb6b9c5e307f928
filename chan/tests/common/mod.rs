//! Runs a test's parts on plain threads or on goroutines, and counts drops.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "each test binary uses some of it"
)]

use raddle_sched::{Rt, SpawnOptions, Task, enter};
use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

/// What the parts of a test run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Threads,
    Goroutines,
}

type Job = Box<dyn FnOnce() + Send>;
type Ends = mpsc::Sender<std::thread::Result<()>>;

/// Starts parts and waits for all of them. The calling thread stays a plain thread in either case.
pub struct Crew {
    on: On,
    ends: Ends,
    results: Mutex<mpsc::Receiver<std::thread::Result<()>>>,
    started: AtomicUsize,
}

impl Crew {
    pub fn go<'a>(&'a self, f: impl FnOnce() + Send + 'a) {
        self.started.fetch_add(1, Ordering::Relaxed);
        let ends = self.ends.clone();
        let job: Box<dyn FnOnce() + Send + 'a> = Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(f));
            ends.send(result).expect("the crew waits for all");
        });
        // SAFETY: `crew` waits for the job's end before what it borrows can go.
        let job: Job = unsafe { std::mem::transmute(job) };
        match self.on {
            On::Threads => drop(std::thread::spawn(job)),
            On::Goroutines => spawn(job),
        }
    }
}

fn spawn(job: Job) {
    unsafe fn entry(data: *mut u8) {
        // SAFETY: `spawn` moved a `Job` here.
        let job = unsafe { data.cast::<Job>().read() };
        job();
    }
    unsafe fn fini(_: &Rt, _: *mut ()) {}
    unsafe fn release(_: *mut ()) {}
    let job = std::mem::ManuallyDrop::new(job);
    let task = Task {
        data: (&raw const job).cast(),
        layout: Layout::new::<Job>(),
        entry,
        fini,
        release,
        fini_arg: std::ptr::null_mut(),
    };
    let options = SpawnOptions {
        name: None,
        stack_size: 0,
        race: None,
        at: Location::caller(),
        system: false,
    };
    // SAFETY: the task is as described; the job is not used here any more.
    unsafe { enter().spawn(&task, &options) }.expect("there is room for a goroutine");
}

/// Runs `f` with a crew and waits for all that it starts.
pub fn crew<R>(on: On, f: impl FnOnce(&Crew) -> R) -> R {
    raddle_sched::boot(&raddle_sched::BootOptions::default());
    let (ends, results) = mpsc::channel();
    let crew = Crew {
        on,
        ends,
        results: Mutex::new(results),
        started: AtomicUsize::new(0),
    };
    let result = catch_unwind(AssertUnwindSafe(|| f(&crew)));
    if result.is_err() {
        // The parts may wait for this one for ever, with borrows of its frame.
        eprintln!("the crew's own part panicked");
        std::process::abort();
    }
    let results = crew.results.lock().unwrap();
    for _ in 0..crew.started.load(Ordering::Relaxed) {
        if let Err(panic) = results.recv().unwrap() {
            // As above: the others may wait for the one that panicked.
            eprintln!("a part of the crew panicked");
            drop(panic);
            std::process::abort();
        }
    }
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Makes of `fn name(crew: &Crew) {..}` one test on threads and one on goroutines.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* fn $name:ident($crew:ident) $body:block)*) => {
        $(
            $(#[$meta])*
            mod $name {
                use super::*;
                fn run($crew: &common::Crew) $body
                #[test]
                fn threads() {
                    common::crew(common::On::Threads, run);
                }
                #[test]
                fn goroutines() {
                    common::crew(common::On::Goroutines, run);
                }
            }
        )*
    };
}

/// Counts its drops.
#[derive(Clone, Debug, Default)]
pub struct Drops(Arc<AtomicUsize>);

impl Drops {
    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
    pub fn item(&self) -> Item {
        Item {
            drops: self.clone(),
            id: 0,
        }
    }
    pub fn numbered(&self, id: usize) -> Item {
        Item {
            drops: self.clone(),
            id,
        }
    }
}

/// Something that counts when it is dropped.
#[derive(Debug)]
pub struct Item {
    drops: Drops,
    pub id: usize,
}

impl Drop for Item {
    fn drop(&mut self) {
        self.drops.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A small random source with a printed seed: set `CHAN_SEED` to repeat a run.
pub struct Rng(u64);

pub fn seed() -> u64 {
    let seed = std::env::var("CHAN_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(raddle_sched::now_ns);
    println!("CHAN_SEED={seed}");
    seed
}

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// Now and then lets others run.
    pub fn maybe_yield(&mut self) {
        match self.below(8) {
            0 => raddle_sched::yield_now(),
            1 => std::hint::spin_loop(),
            _ => {}
        }
    }
}
