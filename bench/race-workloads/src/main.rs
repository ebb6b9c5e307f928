//! Workloads for race mode: three that compute on one thread, and two pipelines.
//!
//! `race-workloads WORKLOAD [ROUNDS]` prints the best time of the rounds, in milliseconds, and a number that depends on all that was
//! computed. `regex`, `bzip2` and `json` are those by which the first detector of this kind was measured; `threads` is a
//! pipeline of OS threads over std's channels, `pipeline` the same of goroutines over Raddle's.

use std::hint::black_box;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Instant;

/// Letters and spaces, the same ones every time.
fn text() -> String {
    let mut state = 12345u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let n = (state >> 24) % 27;
        if n == 26 { ' ' } else { char::from(b'a' + n as u8) }
    };
    std::iter::repeat_with(next).take(200_000).collect()
}

fn regex() -> impl FnMut() -> u64 {
    let text = text();
    let pattern = r"[ -~]*ABCDEFGHIJKLMNOPQRSTUVWXYZ$|(\w+)q(\w)\b";
    let regex = regex::Regex::new(pattern).expect("the pattern is correct");
    move || regex.find_iter(&text).count() as u64
}

fn bzip2() -> impl FnMut() -> u64 {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(9));
    encoder.write_all(text().as_bytes()).expect("a Vec takes all");
    let packed = encoder.finish().expect("a Vec takes all");
    move || {
        let mut decoder = bzip2_rs::DecoderReader::new(&packed[..]);
        let mut unpacked = Vec::new();
        decoder.read_to_end(&mut unpacked).expect("it was packed above");
        unpacked.len() as u64
    }
}

fn json() -> impl FnMut() -> u64 {
    let users = (0..20_000).map(|i| format!("{{\"id\":{i},\"name\":\"user{i}\",\"v\":[1.5,2,3],\"ok\":true}}"));
    let document = format!("[{}]", users.collect::<Vec<_>>().join(","));
    move || {
        let value: serde_json::Value = serde_json::from_str(&document).expect("it is JSON");
        value.to_string().len() as u64
    }
}

const MESSAGES: u64 = 50_000;
const STAGES: usize = 4;

/// What a stage does to a message.
fn work(message: &mut [u64]) {
    for (i, word) in message.iter_mut().enumerate() {
        *word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(i as u32);
    }
}

fn message(i: u64) -> Box<[u64]> {
    (0..16).map(|k| i ^ k).collect()
}

fn threads() -> u64 {
    let (first, mut output) = mpsc::sync_channel::<Box<[u64]>>(64);
    for _ in 0..STAGES {
        let (next, rest) = mpsc::sync_channel(64);
        let input = std::mem::replace(&mut output, rest);
        std::thread::spawn(move || {
            for mut message in input {
                work(&mut message);
                next.send(message).expect("the next stage lives");
            }
        });
    }
    std::thread::spawn(move || (0..MESSAGES).for_each(|i| first.send(message(i)).expect("a stage lives")));
    output.iter().fold(0, |sum, message| sum ^ message[3])
}

#[cfg(feature = "goroutines")]
fn pipeline() -> u64 {
    raddle::run(|| {
        let (first, mut output) = raddle::chan::bounded::<Box<[u64]>>(64);
        for _ in 0..STAGES {
            let (next, rest) = raddle::chan::bounded(64);
            let input = std::mem::replace(&mut output, rest);
            raddle::go(move || {
                for mut message in input {
                    work(&mut message);
                    next.send(message).expect("the next stage lives");
                }
            });
        }
        raddle::go(move || (0..MESSAGES).for_each(|i| first.send(message(i)).expect("a stage lives")));
        output.iter().fold(0, |sum, message| sum ^ message[3])
    })
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let mut work: Box<dyn FnMut() -> u64> = match name.as_str() {
        "regex" => Box::new(regex()),
        "bzip2" => Box::new(bzip2()),
        "json" => Box::new(json()),
        "threads" => Box::new(threads),
        #[cfg(feature = "goroutines")]
        "pipeline" => Box::new(pipeline),
        _ => {
            eprintln!("usage: race-workloads regex|bzip2|json|threads|pipeline [ROUNDS]");
            return ExitCode::from(2);
        }
    };
    let rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(3);
    let mut best = f64::INFINITY;
    let mut result = 0;
    for _ in 0..rounds {
        let start = Instant::now();
        result = black_box(work());
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{name} {:.3} ms {result}", best * 1e3);
    ExitCode::SUCCESS
}
