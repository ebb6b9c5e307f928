//! `peer-raddle <bench> <n>`: runs one benchmark and prints one line,
//!
//! ```text
//! raddle bench ns_per_op peak_rss_kb n=... cpu_ns_per_op=... [started_ms=... total_ms=...]
//! ```
//!
//! `peer-raddle --list` names the benchmarks. They are the ones that Go, tokio, may and plain threads have under the
//! same names, so that a row means the same everywhere: n operations, two Ps, answers checked. A benchmark that is `warm` runs
//! once with n/20 first. Exit status 2 for bad usage, 3 for a wrong answer.
//!
//! `RADDLE_PROCS` is obeyed; without it there are two Ps, as the peers have two workers.

mod channels;
mod locking;
mod meter;
mod spawning;
mod timing;
mod usage;

use std::{env, panic, process};

use crate::meter::Sample;
use crate::usage::peak_rss_kib;

/// A row of the table.
struct Bench {
    name: &'static str,
    /// False where a warm-up would change what the benchmark shows.
    warm: bool,
    run: fn(usize) -> Sample,
}

const fn warm(name: &'static str, run: fn(usize) -> Sample) -> Bench {
    Bench {
        name,
        warm: true,
        run,
    }
}

const fn cold(name: &'static str, run: fn(usize) -> Sample) -> Bench {
    Bench {
        name,
        warm: false,
        run,
    }
}

const BENCHES: &[Bench] = &[
    warm("spawn_join", spawning::spawn_join),
    warm("spawn_seq", spawning::spawn_seq),
    warm("yield1", locking::yield1),
    warm("yield2", locking::yield2),
    warm("pingpong", channels::pingpong),
    warm("recv_timeout", channels::recv_timeout),
    warm("buffered", channels::buffered),
    warm("buffered_local", channels::buffered_local),
    warm("select2", channels::select2),
    warm("mpmc", channels::mpmc),
    warm("ring", channels::ring),
    warm("mutex_uncontended", locking::mutex_uncontended),
    warm("mutex_contended", locking::mutex_contended),
    warm("fib_spawn", spawning::fib_spawn),
    cold("million", spawning::million),
    cold("sleepers", timing::sleepers),
    warm("timers", timing::timers),
    cold("timer_fire", timing::timer_fire),
    cold("skynet", spawning::skynet),
];

#[raddle::main]
fn main() {
    let args: Vec<String> = raddle::args().skip(1).collect();
    let (bench, n) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => return BENCHES.iter().for_each(|bench| println!("{}", bench.name)),
        [name, n] => match (
            BENCHES.iter().find(|bench| bench.name == name),
            n.parse::<usize>(),
        ) {
            (Some(bench), Ok(n @ 1..)) => (bench, n),
            (None, _) => usage(&format!("no benchmark is called {name}")),
            (_, _) => usage(&format!("n must be a whole number, at least 1, not {n}")),
        },
        _ => usage("expected the name of a benchmark and n"),
    };
    if env::var_os("RADDLE_PROCS").is_none() {
        raddle::set_procs(2);
    }
    // A goroutine that panics must not leave the others waiting for ever.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        hook(info);
        process::exit(3);
    }));

    if bench.warm && n >= 20 {
        (bench.run)(n / 20);
    }
    let sample = (bench.run)(n);
    let per_op = |ns: u64| ns as f64 / n as f64;
    let (name, wall, cpu) = (bench.name, per_op(sample.wall_ns), per_op(sample.cpu_ns));
    println!(
        "raddle {name} {wall:.2} {} n={n} cpu_ns_per_op={cpu:.2}{}",
        peak_rss_kib(),
        sample.extra
    );
}

fn usage(problem: &str) -> ! {
    eprintln!("peer-raddle: {problem}\nusage: peer-raddle <bench> <n> | --list");
    process::exit(2);
}
