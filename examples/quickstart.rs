//! Counts the words of files with a pipeline of goroutines.
//!
//! ```text
//!            paths                       tallies
//! walker ─────────────▶ counters, ─────────────────▶ main
//!                       one for each P
//! ```
//!
//! The walker sends the path of every file that it finds. The counters share one receiver: whichever is free takes the
//! next file. Each sends what it counted when there are no more, and main adds up. No locks: whatever a goroutine
//! changes is its own until it has been sent.
//!
//! With `--racy` the counters also keep one shared total without any order among them. `--race` shows where.
//!
//!     cargo run --release --example quickstart -- --race
//!     cargo run --release --example quickstart -- --race --racy src
//!
//! Exit status: 0, 1 if a file could not be read, 2 for bad usage, 66 if `--race` found a race.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use raddle::chan::{self, Receiver, Sender};
use raddle::shared::Var;

const USAGE: &str = "usage: quickstart [--race] [--racy] [--top N] [--] [PATH]...";
const HELP: &str = "
Counts the words of the files named, and of all files in the folders named
(default: the current folder; hidden folders and `target` are skipped).

  --top N    print the N most frequent words (default 10)
  --racy     keep a shared total without synchronisation: a data race
  --race     watch for data races (a flag of the runtime)
  --help     print this text";

#[raddle::main]
fn main() -> ExitCode {
    let options = match Command::parse(raddle::args_os().skip(1)) {
        Ok(Command::Count(options)) => options,
        Ok(Command::Help) => {
            let written = writeln!(io::stdout(), "{USAGE}\n{HELP}");
            return ExitCode::from(u8::from(written.is_err()));
        }
        Err(message) => {
            eprintln!("quickstart: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    let (tally, goroutines) = count(&options);

    for (path, error) in &tally.unreadable {
        eprintln!("quickstart: {}: {error}", path.display());
    }
    match print(&tally, options.top, goroutines, start.elapsed()) {
        // The reader has seen enough, as `head` has: no failure of ours.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => {
            eprintln!("quickstart: cannot write: {error}");
            return ExitCode::FAILURE;
        }
        Ok(()) => {}
    }
    ExitCode::from(u8::from(!tally.unreadable.is_empty()))
}

enum Command {
    Count(Options),
    Help,
}

struct Options {
    racy: bool,
    top: usize,
    paths: Vec<PathBuf>,
}

impl Command {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Command, String> {
        let mut options = Options {
            racy: false,
            top: 10,
            paths: Vec::new(),
        };
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--help" | "-h") => return Ok(Command::Help),
                Some("--racy") => options.racy = true,
                Some("--top") => options.top = parse_top(args.next())?,
                Some("--") => options.paths.extend(args.by_ref().map(PathBuf::from)),
                Some(flag) if flag.starts_with("--top=") => {
                    options.top = parse_top(flag.strip_prefix("--top=").map(OsString::from))?;
                }
                _ if arg.as_encoded_bytes().starts_with(b"-") => {
                    return Err(format!("unknown flag {arg:?}"));
                }
                _ => options.paths.push(arg.into()),
            }
        }
        if options.paths.is_empty() {
            options.paths.push(".".into());
        }
        Ok(Command::Count(options))
    }
}

fn parse_top(value: Option<OsString>) -> Result<usize, String> {
    let number = value
        .as_ref()
        .and_then(|value| value.to_str()?.parse().ok());
    number.ok_or_else(|| match value {
        Some(value) => format!("--top needs a whole number, not {value:?}"),
        None => "--top needs a whole number".into(),
    })
}

/// Runs the pipeline. Returns what it counted, and how many goroutines took part, main included.
fn count(options: &Options) -> (Tally, usize) {
    let counters = raddle::procs().max(2);
    let total = Var::new(0);
    let mut sum = Tally::default();
    raddle::scope(|s| {
        let (files, found) = chan::bounded(64);
        s.go(move || walk(&options.paths, &files));

        let (tallies, counted) = chan::bounded(counters);
        for _ in 0..counters {
            let (found, tallies) = (found.clone(), tallies.clone());
            let total = options.racy.then_some(&total);
            s.go(move || {
                // Main drops its receiver only after the last counter has dropped its sender.
                tallies.send(count_all(found, total)).unwrap();
            });
        }
        drop((found, tallies)); // the goroutines hold all ends but ours now
        counted.into_iter().for_each(|tally| sum.add(tally));
    });
    sum.unreadable.sort_by(|(a, _), (b, _)| a.cmp(b));
    if options.racy {
        sum.words = total.get();
    }
    (sum, 1 + 1 + counters)
}

/// A file that was found, or a path that could not be looked at.
type Found = Result<PathBuf, (PathBuf, io::Error)>;

/// Sends every file in `paths`, and in the folders among them.
fn walk(paths: &[PathBuf], files: &Sender<Found>) {
    // A named path is followed wherever it leads; inside folders, links are not, so the walk ends.
    let mut folders = Vec::new();
    for path in paths {
        match raddle::blocking(|| fs::metadata(path)) {
            Ok(data) if data.is_dir() => folders.push(path.clone()),
            Ok(_) => files.send(Ok(path.clone())).unwrap(),
            Err(error) => files.send(Err((path.clone(), error))).unwrap(),
        }
    }
    while let Some(folder) = folders.pop() {
        let entries =
            match raddle::blocking(|| fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()) {
                Ok(entries) => entries,
                Err(error) => {
                    files.send(Err((folder, error))).unwrap();
                    continue;
                }
            };
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            match raddle::blocking(|| entry.file_type()) {
                Ok(kind) if kind.is_file() => files.send(Ok(path)).unwrap(),
                Ok(kind) if kind.is_dir() && !is_skipped(name.as_encoded_bytes()) => {
                    folders.push(path)
                }
                Ok(_) => {}
                Err(error) => files.send(Err((path, error))).unwrap(),
            }
        }
    }
}

fn is_skipped(folder: &[u8]) -> bool {
    folder.starts_with(b".") || folder == b"target"
}

/// One counter: takes files until there are no more.
fn count_all(files: Receiver<Found>, total: Option<&Var<u64>>) -> Tally {
    let mut buffer = vec![0; 64 << 10];
    let mut tally = Tally::default();
    for found in files {
        let counted = found.and_then(|path| match count_file(&path, &mut buffer) {
            Ok(file) => Ok(file),
            Err(error) => Err((path, error)),
        });
        match counted {
            Ok(file) => tally.add(file),
            Err(unreadable) => tally.unreadable.push(unreadable),
        }
    }
    if let Some(total) = total {
        let before = total.get(); // another counter may read the same value here
        total.set(before + tally.words); // and then one of the two sums is lost
    }
    tally
}

/// Counts one file, whole or not at all. A word may go on from one chunk to the next.
fn count_file(path: &Path, buffer: &mut [u8]) -> io::Result<Tally> {
    let mut tally = Tally {
        files: 1,
        ..Tally::default()
    };
    let mut word = Vec::new();
    let mut file = raddle::blocking(|| File::open(path))?;
    loop {
        let chunk = match raddle::blocking(|| file.read(buffer)) {
            Ok(0) => break,
            Ok(bytes) => &buffer[..bytes],
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for byte in chunk {
            if byte.is_ascii_alphabetic() {
                word.push(byte.to_ascii_lowercase());
            } else if !word.is_empty() {
                tally.count(&word);
                word.clear();
            }
        }
    }
    if !word.is_empty() {
        tally.count(&word);
    }
    Ok(tally)
}

/// What was counted: in a file, by a counter, in all.
#[derive(Default)]
struct Tally {
    files: u64,
    words: u64,
    distinct: HashMap<Vec<u8>, u64>,
    unreadable: Vec<(PathBuf, io::Error)>,
}

impl Tally {
    fn count(&mut self, word: &[u8]) {
        self.words += 1;
        match self.distinct.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(self.distinct.insert(word.to_vec(), 1)),
        }
    }

    fn add(&mut self, other: Tally) {
        self.files += other.files;
        self.words += other.words;
        for (word, count) in other.distinct {
            *self.distinct.entry(word).or_default() += count;
        }
        self.unreadable.extend(other.unreadable);
    }
}

fn print(tally: &Tally, top: usize, goroutines: usize, elapsed: Duration) -> io::Result<()> {
    let mut words: Vec<_> = tally.distinct.iter().collect();
    words.sort_unstable_by_key(|&(word, &count)| (u64::MAX - count, word));

    let mut out = BufWriter::new(io::stdout().lock());
    for (word, count) in words.iter().take(top) {
        writeln!(out, "{count} {}", word.escape_ascii())?;
    }
    let Tally {
        files,
        words,
        distinct,
        ..
    } = tally;
    let distinct = distinct.len();
    writeln!(
        out,
        "files={files} words={words} distinct={distinct} goroutines={goroutines} elapsed={elapsed:.1?}"
    )?;
    out.flush()
}
