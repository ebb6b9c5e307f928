//! `examples/syncleak.rs` as a stress test: memory must not grow while it runs.
//!
//! This program runs itself again, and looks at the memory that it has from outside, all the time. After the first quarter of
//! the run that must be flat. What runs is the example's goroutines, but they yield: all are under way at once, from the
//! beginning, and not, as the scheduler likes it, one after the other.
//!
//!     cargo test --release --test syncleak                                  some seconds
//!     RADDLE_STRESS_SECONDS=600 cargo test --release --test syncleak        about ten minutes

#[path = "../examples/syncleak.rs"]
mod program;

use std::env;
use std::fs;
use std::process::{Command, ExitCode, Stdio, Termination};
use std::time::{Duration, Instant};

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

/// The example's work, in small steps.
fn all_at_once(iterations: u32) -> ExitCode {
    let work = move |seed| {
        let mut worker = program::Worker::new(seed);
        for i in 0..iterations {
            worker.iterate();
            if i % 16 == 15 {
                raddle::yield_now();
            }
        }
    };
    raddle::run(|| {
        let seeds = 0..program::GOROUTINES as u64;
        let all: Vec<_> = seeds.map(|seed| raddle::go(move || work(seed))).collect();
        all.into_iter()
            .for_each(|goroutine| goroutine.join().unwrap());
    });
    ExitCode::SUCCESS
}

/// This program again, as what the variable says.
fn program(what: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.env(PROGRAM, what).stdout(Stdio::null());
    command
}

/// Runs the example for about so long, and looks at its memory.
fn memory_is_flat(arguments: &[&str], duration: Duration) {
    // How many iterations that takes is found out first.
    let probe = 40;
    let start = Instant::now();
    run(arguments, probe, Duration::from_secs(60));
    let each = start.elapsed() / probe;
    let iterations = (duration.as_secs_f64() / each.as_secs_f64()).ceil() as u32;
    let samples = run(arguments, iterations.max(100), LIMIT + 4 * duration);

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

/// Runs the example to its end; returns the resident bytes every now and then.
fn run(arguments: &[&str], iterations: u32, limit: Duration) -> Vec<u64> {
    let mut command = program(&iterations.to_string());
    let mut child = command
        .args(arguments)
        .spawn()
        .expect("this program can be run");
    let statm = format!("/proc/{}/statm", child.id());
    let (start, mut samples) = (Instant::now(), vec![]);
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        if start.elapsed() > limit {
            child.kill().expect("the child is ours");
            let _ = child.wait();
            panic!("{arguments:?} {iterations}: still running after {limit:?}");
        }
        let pages = fs::read_to_string(&statm).ok();
        let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        samples.extend(pages.map(|pages| pages * 4096));
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{arguments:?} {iterations}: {status}");
    samples
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
