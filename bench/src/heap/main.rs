//! `heap-bench <row> <n>`: what memory costs, with one global allocator or another. Prints one line,
//!
//! ```text
//! raddle row ns_per_op peak_rss_kb n=... cpu_ns_per_op=...
//! ```
//!
//! The program is built twice: with Raddle's heap, and with mimalloc (`--features mimalloc`). It has no runtime and no goroutines, so that both
//! are what they are to any Rust program: Raddle's heap gives each thread a cache of its own, as it gives each P one.
//!
//! `heap-bench --list` names the rows and how many operations take about half a second. Each row runs once with n/20 first. Exit
//! status 2 for bad usage.

mod block;
mod one;
mod threads;
#[path = "../usage.rs"]
mod usage;

use std::time::Instant;
use std::{env, process};

use crate::usage::{peak_rss_kib, process_cpu_ns};

#[cfg(not(feature = "mimalloc"))]
#[global_allocator]
static HEAP: raddle_alloc::Heap = raddle_alloc::Heap;
#[cfg(not(feature = "mimalloc"))]
const NAME: &str = "raddle";

#[cfg(feature = "mimalloc")]
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[cfg(feature = "mimalloc")]
const NAME: &str = "mimalloc";

/// A row of the table: its name, the usual n, and what does n operations.
type Row = (&'static str, usize, fn(usize));

const ROWS: &[Row] = &[
    ("malloc_free_64", 100_000_000, one::malloc_free_64),
    ("malloc_free_mixed", 30_000_000, one::malloc_free_mixed),
    ("burst", 50_000_000, one::burst),
    ("calloc", 10_000_000, one::calloc),
    ("realloc", 10_000_000, one::realloc),
    ("large", 200_000, one::large),
    ("xmalloc", 20_000_000, threads::xmalloc),
    ("larson", 20_000_000, threads::larson),
];

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let (row, n) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => return ROWS.iter().for_each(|(name, n, _)| println!("{name} {n}")),
        [name, n] => match (ROWS.iter().find(|row| row.0 == name), n.parse::<usize>()) {
            (Some(row), Ok(n @ 1..)) => (row, n),
            (None, _) => usage(&format!("no row is called {name}")),
            (_, _) => usage(&format!("n must be a whole number, at least 1, not {n}")),
        },
        _ => usage("expected the name of a row and n"),
    };
    let (name, _, run) = row;
    run((n / 20).max(1));
    let (cpu, start) = (process_cpu_ns(), Instant::now());
    run(n);
    let wall_ns = start.elapsed().as_nanos() as u64;
    let cpu_ns = process_cpu_ns() - cpu;
    let per_op = |ns: u64| ns as f64 / n as f64;
    println!(
        "{NAME} {name} {:.2} {} n={n} cpu_ns_per_op={:.2}",
        per_op(wall_ns),
        peak_rss_kib(),
        per_op(cpu_ns)
    );
}

fn usage(problem: &str) -> ! {
    eprintln!("heap-bench: {problem}\nusage: heap-bench <row> <n> | --list");
    process::exit(2);
}
