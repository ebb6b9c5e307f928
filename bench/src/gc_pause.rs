//! `gc-pause <MiB alive> <collections>`: how long the collector keeps a program waiting that has a lot alive. It does what
//! `go/gc_pause` does, and prints the same line:
//!
//! ```text
//! raddle gc_pause live_mib=... cycles=... pause_p50_us=... pause_max_us=... wait_max_us=... wall_ms=...
//! ```
//!
//! `wait` is what an allocation waited, or sixteen of them together; a `pause` is what the collector says of itself.

use std::time::Instant;
use std::{env, process};

use raddle::gc::{self, Gc};

/// 64 bytes, of which one word is a pointer.
struct Node {
    next: Option<Gc<Node>>,
    _rest: [u64; 7],
}

const LISTS: usize = 1024;

fn node(next: Option<Gc<Node>>) -> Gc<Node> {
    let _rest = [0; 7];
    Gc::new(Node { next, _rest })
}

#[raddle::main]
fn main() {
    let args: Vec<Option<u64>> = raddle::args().skip(1).map(|arg| arg.parse().ok()).collect();
    let [Some(mib @ 1..), Some(cycles @ 1..)] = args[..] else {
        eprintln!("usage: gc-pause <MiB alive> <collections>");
        process::exit(2);
    };
    if env::var_os("RADDLE_PROCS").is_none() {
        raddle::set_procs(2);
    }
    let start = Instant::now();
    // Lists, as a real heap has them: neither one long chain nor all roots.
    let mut live: Vec<Option<Gc<Node>>> = vec![None; LISTS];
    for i in 0..(mib as usize) << 20 >> 6 {
        let head = &mut live[i % LISTS];
        *head = Some(node(*head));
    }
    gc::collect();

    let first = gc::stats();
    let (mut last, mut pauses_ns, mut wait_max_ns) = (first, Vec::new(), 0);
    while last.cycles < first.cycles + cycles {
        // Each new node takes the place of one that dies.
        for i in (0..4096).step_by(16) {
            let began = Instant::now();
            for head in &mut live[i % LISTS..][..16] {
                let next = head.as_ref().and_then(|old| old.next);
                *head = Some(node(next));
            }
            wait_max_ns = wait_max_ns.max(began.elapsed().as_nanos() as u64);
        }
        let now = gc::stats();
        if now.cycles > last.cycles {
            pauses_ns.push((now.pause_total_ns - last.pause_total_ns) / (now.cycles - last.cycles));
            last = now;
        }
    }
    pauses_ns.sort_unstable();
    let us = |ns: u64| ns as f64 / 1e3;
    println!(
        "raddle gc_pause live_mib={} cycles={} pause_p50_us={:.1} pause_max_us={:.1} wait_max_us={:.1} wall_ms={:.0}",
        last.live_bytes >> 20,
        last.cycles - first.cycles,
        us(pauses_ns[pauses_ns.len() / 2]),
        us(*pauses_ns.last().expect("there was one")),
        us(wait_max_ns),
        start.elapsed().as_secs_f64() * 1e3,
    );
    gc::keep_alive(&live);
}
