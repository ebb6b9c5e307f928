//! `examples/syncleak.rs` as a stress test: memory must not grow while it runs.
//!
//! This program runs itself again, and looks at the memory that it has from outside, all the time. After the first quarter of
//! the run that must be flat. What runs is the example's goroutines, but they yield: all are under way at once, from the
//! beginning, and not, as the scheduler likes it, one after the other.
//!
//! Race mode remembers what goroutines did as far as its budget goes, which would take longer to
//! fill than the run does. So that is filled before the measuring begins.
//!
//!     cargo test --release --test syncleak                                  some seconds
//!     RADDLE_STRESS_SECONDS=600 cargo test --release --test syncleak        about ten minutes

#[path = "../examples/syncleak.rs"]
mod program;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio, Termination};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use raddle::gc::Slice;
use raddle::race;

const PROGRAM: &str = "RADDLE_TEST_PROGRAM";
/// How much higher the peak of the second half may be than that of the first. Chance: which slots are kept, when a cycle comes.
const GROWTH: f64 = 1.15;
/// What a trace of growth would be lost in.
const NOISE_BYTES: u64 = 8 << 20;
/// As long as a run takes that shows something, even where a build without optimisation is slow.
const SECONDS: u64 = 4;
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    match env::var(PROGRAM).as_deref() {
        Ok("example") => return program::main().report(),
        Ok(iterations) => return all_at_once(iterations.parse().expect("`run` gives a number")),
        Err(_) => {}
    }
    if env::args().any(|arg| arg == "--list") {
        println!("memory_is_flat: test");
        return ExitCode::SUCCESS;
    }
    let seconds = env::var("RADDLE_STRESS_SECONDS").map(|text| text.parse::<u64>());
    let seconds = match seconds {
        Err(_) => SECONDS,
        Ok(Ok(seconds)) => seconds,
        Ok(Err(error)) => panic!("RADDLE_STRESS_SECONDS: {error}"),
    };
    for arguments in [&[][..], &["--race"]] {
        memory_is_flat(arguments, Duration::from_secs(seconds));
        println!("test memory_is_flat {arguments:?} ... ok");
    }
    bad_arguments_are_refused();
    println!("test bad_arguments_are_refused ... ok");
    ExitCode::SUCCESS
}

/// The example's work, in small steps. A line says that it begins.
fn all_at_once(iterations: u32) -> ExitCode {
    raddle::run(|| {
        if race::enabled() {
            for_each_goroutine(|_| fill_history());
        }
        println!("it begins");
        for_each_goroutine(|seed| {
            let mut worker = program::Worker::new(seed);
            for i in 0..iterations {
                worker.iterate();
                if i % 16 == 15 {
                    raddle::yield_now();
                }
            }
        });
    });
    ExitCode::SUCCESS
}

/// Runs goroutines as the example does, and waits for them.
fn for_each_goroutine(work: impl Fn(u64) + Sync) {
    raddle::scope(|scope| {
        for seed in 0..program::GOROUTINES as u64 {
            let work = &work;
            scope.go(move || work(seed));
        }
    });
}

/// Does a bit more than the race mode remembers of so many goroutines: new memory is written at new
/// times.
fn fill_history() {
    for _ in 0..12 {
        let numbers = Slice::<u64>::zeroed(1000);
        numbers.iter().for_each(|number| race::write(number));
        race::release(&raw const numbers);
        raddle::yield_now();
    }
}

/// This program again, as what the variable says.
fn program(what: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.env(PROGRAM, what).stdout(Stdio::piped());
    command
}

/// Runs the example for about so long, and looks at its memory.
fn memory_is_flat(arguments: &[&str], duration: Duration) {
    // How many iterations that takes is found out first.
    let probe = 40;
    let (took, _) = run(arguments, probe, Duration::from_secs(60));
    let each = took / probe;
    let iterations = (duration.as_secs_f64() / each.as_secs_f64()).ceil() as u32;
    let (_, samples) = run(arguments, iterations.max(100), LIMIT + 4 * duration);

    let peak = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    let (first, second) = samples.split_at(samples.len() / 2);
    let (before, after) = (peak(&first[first.len() / 2..]), peak(second));
    println!(
        "{arguments:?}: {iterations} iterations, {} samples, {} KiB at the peak of the second quarter, {} KiB after",
        samples.len(),
        before >> 10,
        after >> 10
    );
    assert!(
        after as f64 <= before as f64 * GROWTH + NOISE_BYTES as f64,
        "memory grows: {samples:?}"
    );
}

/// Runs the example to its end; returns how long its work takes, and the resident bytes every now
/// and then meanwhile.
fn run(arguments: &[&str], iterations: u32, limit: Duration) -> (Duration, Vec<u64>) {
    let mut command = program(&iterations.to_string());
    let mut child = command
        .args(arguments)
        .spawn()
        .expect("this program can be run");
    let statm = format!("/proc/{}/statm", child.id());
    let (begins, begun) = mpsc::channel();
    let stdout = child.stdout.take().expect("it is a pipe");
    thread::spawn(move || {
        let line = BufReader::new(stdout).lines().next();
        let _ = begins.send(line.is_some_and(|line| line.is_ok()));
    });
    let has_begun = begun.recv_timeout(LIMIT);
    let (start, mut samples) = (Instant::now(), vec![]);
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        if has_begun != Ok(true) || start.elapsed() > limit {
            child.kill().expect("the child is ours");
            let _ = child.wait();
            panic!(
                "{arguments:?} {iterations}: has begun: {has_begun:?}; not ended within {limit:?}"
            );
        }
        let pages = fs::read_to_string(&statm).ok();
        let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        samples.extend(pages.map(|pages| pages * 4096));
        thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{arguments:?} {iterations}: {status}");
    (start.elapsed(), samples)
}

fn bad_arguments_are_refused() {
    for (arguments, text) in [
        (&[][..], "how many iterations?"),
        (&["0"], "at least 1 iteration"),
        (&["banana"], "\"banana\" is no number of iterations"),
        (&["1", "2"], "one argument is enough"),
    ] {
        let output = program("example")
            .args(arguments)
            .output()
            .expect("this program can be run");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains(text) && stderr.contains("usage:"),
            "{stderr}"
        );
    }
}
