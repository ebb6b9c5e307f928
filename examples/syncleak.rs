//! Memory that has to come back: a thousand goroutines, each of which allocates a thousand atomic numbers in a loop, touches
//! one, and keeps the last ten or so.
//!
//! Every touch makes the race detector remember something about that address, and nobody frees anything: so both must follow
//! what the collector finds dead, or memory grows for ever.
//!
//!     cargo run --release --example syncleak -- 400
//!     cargo run --release --example syncleak -- --race 400

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use raddle::chan::{self, Receiver};
use raddle::gc::{self, Slice};
use raddle::sync::WaitGroup;
use raddle::sync::atomic::AtomicU32;

pub(crate) const GOROUTINES: usize = 1000;
/// Numbers in a slice.
const NUMBERS: usize = 1000;
/// Slices that a goroutine keeps.
const SLOTS: usize = 10;

static ITERATIONS: AtomicU64 = AtomicU64::new(0);
static GROUP: WaitGroup = WaitGroup::new();

#[raddle::main]
pub(crate) fn main() -> ExitCode {
    let iterations = match iterations() {
        Ok(iterations) => iterations,
        Err(error) => {
            eprintln!("syncleak: {error}");
            eprintln!(
                "usage: syncleak [--race] ITERATIONS, of each of the {GOROUTINES} goroutines"
            );
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    GROUP.add(GOROUTINES as isize);
    for seed in 0..GOROUTINES as u64 {
        raddle::go(move || {
            work(Worker::new(seed), iterations);
            GROUP.done();
        });
    }
    let (end, ended) = chan::bounded::<()>(0);
    let reporter = raddle::go(move || report_each_second(start, ended));
    GROUP.wait();
    drop(end);
    reporter.join().unwrap();
    report(start);
    ExitCode::SUCCESS
}

/// The program's one argument.
fn iterations() -> Result<u64, String> {
    let mut args = raddle::args().skip(1);
    let number = args.next().ok_or("how many iterations?")?;
    if let Some(more) = args.next() {
        return Err(format!("one argument is enough, {more:?} is too much"));
    }
    match number.parse() {
        Ok(0) => Err("at least 1 iteration".into()),
        Ok(iterations) => Ok(iterations),
        Err(error) => Err(format!("{number:?} is no number of iterations: {error}")),
    }
}

/// What a goroutine has.
pub(crate) struct Worker {
    random: Random,
    slots: [Slice<AtomicU32>; SLOTS],
}

impl Worker {
    pub(crate) fn new(seed: u64) -> Self {
        Worker {
            random: Random(seed),
            slots: [Slice::empty(); SLOTS],
        }
    }

    /// What it does, again and again.
    pub(crate) fn iterate(&mut self) {
        let numbers = Slice::<AtomicU32>::zeroed(NUMBERS);
        numbers[self.random.below(NUMBERS)].fetch_add(1, Relaxed);
        self.slots[self.random.below(SLOTS)] = numbers;
    }
}

fn work(mut worker: Worker, iterations: u64) {
    for i in 1..=iterations {
        worker.iterate();
        // Together with others': a count that all shared would be what takes the time.
        if i % 16 == 0 || i == iterations {
            ITERATIONS.fetch_add((i - 1) % 16 + 1, Relaxed);
        }
    }
    gc::keep_alive(&worker.slots);
}

fn report_each_second(start: Instant, ended: Receiver<()>) {
    let seconds = chan::tick(Duration::from_secs(1));
    loop {
        raddle::select! {
            recv(ended) -> _ => return,
            recv(seconds) -> _ => report(start),
        }
    }
}

/// One line: how far it is, and how much memory it has.
fn report(start: Instant) {
    let [current, peak] = ["VmRSS:", "VmHWM:"].map(|name| resident_kib(name) as f64 / 1024.0);
    println!(
        "{:>10} iterations  {:>7.2} s  {current:>8.1} MiB resident  {peak:>8.1} MiB peak",
        ITERATIONS.load(Relaxed),
        start.elapsed().as_secs_f64(),
    );
}

/// A line of `/proc/self/status`, in KiB; 0 where there is none.
fn resident_kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// SplitMix64: small, and good enough to choose.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}
