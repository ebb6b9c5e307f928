//! The conformance suite of race mode: small programs in compiled Rust, of which it is known what the detector has to say.
//!
//! `race/cases` is one program with all cases; its `main.rs` tells how they are marked. It is built by `cargo raddle build
//! --race`, and each case runs in a process of its own, at 1, 2 and 8 Ps:
//!
//! - a case `race_...` must end with status 66, and the two sides of every report must be at lines that are marked as one pair;
//! - a case `no_race_...` must end with status 0 and say nothing.
//!
//! Where a line of the case is marked as the one that allocates the block, the reports must say so.
//!
//! A case with `known_limit` in its name fixes what the detector does today and should not: the README's limits name the reason. It
//! fails once that is mended, and is then given its right name.
//!
//! How to run it:
//!
//!     cargo test --test race                            two runs of each case, one in a release build at 1, 2 or 8 Ps
//!     RADDLE_RACE_REPEAT=1 cargo test --test race       four runs, at each number of Ps (`.ci/run race`)
//!     RADDLE_RACE_REPEAT=100 cargo test --test race     so many times three and one, with other seeds and injected yields
//!     RADDLE_RACE_CASES=mop:: cargo test --test race    those whose name has this in it
//!
//! `race/cases/src/oracle.rs` is run as well: random programs, and an exact account of what happens
//! before what in them. So are `race/crates/clean`, programs over well-kept crates,
//! `race/crates/allocators`, on an allocator in C, and `race/crates/advisories`, data races of old
//! versions; none uses Raddle. `race/COVERAGE.md` lists Go's cases and ours. `race/page.rs` holds
//! `docs/reports.md` to what `race/reports` prints.

#[path = "race/page.rs"]
mod page;
#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use std::{env, fs, thread};

use serde_json::Value;

/// A case is through in milliseconds. One that still runs after this is hung.
const LIMIT: Duration = Duration::from_secs(60);
/// What a program ends with when races were reported.
const RACES: i32 = 66;
/// Two processes at a time.
const WORKERS: usize = 2;

/// The packages, from `tests/race`.
const CASES: &str = "cases";
const CLEAN: &str = "crates/clean";
const ADVISORIES: &str = "crates/advisories";
const ALLOCATORS: &str = "crates/allocators";
const REPORTS: &str = "reports";

fn directory(package: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/race")
        .join(package)
}

/// Builds a package in race mode and returns the program.
fn build(package: &str, release: bool) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--quiet", "--release", "-p", "cargo-raddle", "--"])
        .args(["build", "--race", "--message-format=json"])
        .arg("--manifest-path")
        .arg(directory(package).join("Cargo.toml"))
        .args(release.then_some("--release"));
    // Both stand on Raddle, which is compiled once.
    if package == REPORTS && env::var_os("CARGO_TARGET_DIR").is_none() {
        let shared = directory(CASES).join("target/raddle-race");
        command.arg("--target-dir").arg(shared);
    }
    let outcome = support::run(&mut command, Duration::from_secs(900));
    assert!(
        outcome.status.success(),
        "{package} does not build: {outcome}"
    );
    let executable = outcome.stdout.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.unwrap_or_else(|| panic!("cargo named no executable: {outcome}"))
}

/// The marks of a source file.
struct Marks {
    package: &'static str,
    /// From the package's directory.
    file: String,
    /// By line: the labels of the pairs that it belongs to.
    labels: HashMap<u64, BTreeSet<String>>,
    /// By line: the case that it is in.
    case: HashMap<u64, String>,
    /// By case: the line that allocates the block in which the race is.
    block: HashMap<String, u64>,
}

impl Marks {
    fn of(package: &'static str, module: &str) -> Marks {
        let file = format!("src/{module}.rs");
        let text =
            fs::read_to_string(directory(package).join(&file)).expect("a module of the package");
        let mut marks = Marks {
            package,
            file,
            labels: HashMap::new(),
            case: HashMap::new(),
            block: HashMap::new(),
        };
        let mut inside = String::new();
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(rest) = line.strip_prefix("pub fn ") {
                inside = rest.split('(').next().unwrap_or_default().to_owned();
            }
            marks.case.insert(number, inside.clone());
            if line == "}" {
                inside.clear();
            }
            if line.ends_with("//~ block") {
                marks.block.insert(inside.clone(), number);
            }
            if let Some((code, labels)) = line.split_once("//~ race") {
                let above = u64::from(code.trim().is_empty());
                let labels = match labels.split_whitespace().map(str::to_owned).collect() {
                    none if BTreeSet::is_empty(&none) => BTreeSet::from([String::new()]),
                    some => some,
                };
                marks
                    .labels
                    .entry(number - above)
                    .or_default()
                    .extend(labels);
            }
        }
        marks
    }

    /// The line of the file at which an access was made: the innermost frame that is in it.
    fn line(&self, access: &Value) -> Option<u64> {
        let frames = access["stack"].as_array()?;
        frames.iter().find_map(|frame| {
            let file = frame["file"].as_str()?;
            let ours = file == self.file
                || file.ends_with(&format!("race/{}/{}", self.package, self.file));
            ours.then(|| frame["line"].as_u64())?
        })
    }

    /// What is wrong with a report of a case.
    fn objection(&self, case: &str, report: &Value) -> Option<String> {
        let lines = [0, 1].map(|side| self.line(&report["accesses"][side]));
        let labels = lines.map(|line| {
            let in_place = |line: &u64| {
                let at = self.case.get(line).map_or("nowhere", String::as_str);
                at.is_empty() || at == case
            };
            line.filter(in_place)
                .and_then(|line| self.labels.get(&line))
        });
        let block = &report["block"];
        if let Some(at) = self.block.get(case)
            && self.line(block) != Some(*at)
        {
            let line = self.line(block);
            return Some(format!("the block is allocated at {}", show(block, line)));
        }
        let fits = match labels {
            [Some(a), Some(b)] => !a.is_disjoint(b),
            _ => false,
        };
        (!fits).then(|| {
            format!(
                "reported lines {}, {}",
                show(&report["accesses"][0], lines[0]),
                show(&report["accesses"][1], lines[1])
            )
        })
    }
}

fn show(access: &Value, line: Option<u64>) -> String {
    let op = access["op"].as_str().unwrap_or("?");
    match line {
        Some(line) => format!("{op} {line}"),
        None => {
            let frames = access["stack"].as_array().map_or(&[][..], Vec::as_slice);
            let names: Vec<_> = frames
                .iter()
                .take(3)
                .map(|f| format!("{}:{}", f["function"].as_str().unwrap_or("?"), f["line"]))
                .collect();
            format!("{op} at [{}]", names.join(" < "))
        }
    }
}

/// A directory for reports.
fn scratch() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("race");
    fs::create_dir_all(&dir).expect("cargo's directory for tests can be written to");
    dir
}

/// Reads and removes the reports that went to `log`, to whose name the detector adds the process's id.
fn take_reports(log: &Path) -> Result<Vec<Value>, serde_json::Error> {
    let name = format!("{}.", log.file_name().expect("a file").to_string_lossy());
    let mut reports = Vec::new();
    for entry in fs::read_dir(scratch()).expect("made above").flatten() {
        if entry.file_name().to_string_lossy().starts_with(&name) {
            let text = fs::read_to_string(entry.path()).expect("the detector's file");
            fs::remove_file(entry.path()).expect("the detector's file");
            for line in text.lines() {
                reports.push(serde_json::from_str(line)?);
            }
        }
    }
    Ok(reports)
}

/// How a run of a case ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Right,
    Missed,
    /// A report that should not be, or of the wrong lines; or a bad end.
    Wrong(String),
}

/// One way to run a case.
#[derive(Clone, Debug)]
struct Setting {
    procs: usize,
    debug: String,
    /// The debug build, not the release build.
    unoptimised: bool,
}

fn verdict(name: &str, marks: &Marks, program: &Path, setting: &Setting) -> Verdict {
    let case = name.rsplit("::").next().expect("at least one piece");
    // In a file: what the program itself writes to standard error may come between the pieces of a report.
    let log = scratch().join(format!(
        "{}-{}-{}-{}",
        name.replace([':', '/'], "-"),
        setting.procs,
        setting.debug.replace([',', '='], "-"),
        if setting.unoptimised {
            "debug"
        } else {
            "release"
        },
    ));
    let mut command = Command::new(program);
    if setting.procs > 0 {
        command.env("RADDLE_PROCS", setting.procs.to_string());
    }
    command
        .arg(if marks.package == CASES { name } else { case })
        .env(
            "RADDLE_RACE",
            format!("format=json log_path={}", log.display()),
        )
        .env("RADDLE_DEBUG", &setting.debug);
    let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| support::run(&mut command, LIMIT))) else {
        return Verdict::Wrong("hung, or cannot be started".to_owned());
    };
    let reports = match take_reports(&log) {
        Ok(reports) => reports,
        Err(error) => return Verdict::Wrong(format!("a bad report: {error}")),
    };
    let code = outcome.status.code();
    if code != Some(if reports.is_empty() { 0 } else { RACES }) {
        return Verdict::Wrong(format!("ended badly: {outcome}"));
    }
    match reports
        .iter()
        .find_map(|report| marks.objection(case, report))
    {
        Some(objection) => Verdict::Wrong(objection),
        None if reports.is_empty() != case.starts_with("race_") => Verdict::Right,
        None if reports.is_empty() => Verdict::Missed,
        None => Verdict::Wrong("reported".to_owned()),
    }
}

/// How many rounds are asked for; 0: the short run.
fn repeat() -> usize {
    env::var("RADDLE_RACE_REPEAT").map_or(0, |n| n.parse().expect("RADDLE_RACE_REPEAT is a number"))
}

const PROCS: [usize; 3] = [1, 2, 8];

/// All settings for the case of this number, in so many rounds, or in the short run.
fn settings(number: usize, rounds: usize) -> Vec<Setting> {
    let mut all = Vec::new();
    if rounds == 0 {
        all.push(Setting {
            procs: PROCS[number % PROCS.len()],
            debug: "seed=1".to_owned(),
            unoptimised: false,
        });
    }
    for round in 0..rounds {
        for procs in PROCS {
            let mut debug = format!("seed={}", round + 1);
            if round % 2 == 1 {
                let _ = write!(debug, ",yield={}", 1 + (round * 7 + number) % 50);
            }
            let unoptimised = round % 2 == 1;
            all.push(Setting {
                procs,
                debug,
                unoptimised,
            });
        }
    }
    all.push(Setting {
        procs: 2,
        // Yields everywhere, but not where chance would then decide who comes first.
        debug: if number.is_multiple_of(8) {
            "seed=1,yield=3".to_owned()
        } else {
            "seed=1".to_owned()
        },
        unoptimised: true,
    });
    all
}

#[test]
fn cases_are_reported_or_silent() {
    let (release, debug) = (build(CASES, true), build(CASES, false));
    let wanted = env::var("RADDLE_RACE_CASES").unwrap_or_default();
    let listed = support::run(&mut Command::new(&release), LIMIT);
    let names: Vec<&str> = listed
        .stdout
        .lines()
        .filter(|name| name.contains(&wanted))
        .collect();
    let modules: BTreeSet<&str> = names
        .iter()
        .filter_map(|name| name.split("::").next())
        .collect();
    let marks: BTreeMap<&str, Marks> = modules
        .into_iter()
        .map(|m| (m, Marks::of(CASES, m)))
        .collect();

    conclude(&run_all(&names, settings, |name, setting| {
        let program = if setting.unoptimised {
            &debug
        } else {
            &release
        };
        let module = name.split("::").next().expect("FILE::CASE");
        verdict(name, &marks[module], program, setting)
    }));
}

/// Race mode is off: what instrumented code looks at must be there all the same.
#[test]
fn compiled_programs_do_what_plain_ones_do() {
    for release in [true, false] {
        let program = build(CASES, release);
        let listed = support::run(&mut Command::new(&program), LIMIT);
        let cases = || {
            listed
                .stdout
                .lines()
                .filter(|n| n.starts_with("as_plain::"))
        };
        assert!(cases().count() > 5);
        for (case, procs) in cases().flat_map(|case| PROCS.map(|procs| (case, procs))) {
            let mut command = Command::new(&program);
            let outcome = support::run(
                command.arg(case).env("RADDLE_PROCS", procs.to_string()),
                LIMIT,
            );
            assert!(outcome.status.success(), "{case}, {procs} Ps: {outcome}");
        }
    }
}

/// Of each case: how its runs ended.
type Results<'a> = BTreeMap<&'a str, Vec<(Verdict, Setting)>>;

/// Whether more than one run in twenty missed the race.
fn missed_too_often(runs: &[(Verdict, Setting)]) -> bool {
    let missed = runs.iter().filter(|(v, _)| *v == Verdict::Missed);
    missed.count() * 20 > runs.len()
}

/// Runs all cases. A few runs cannot tell a case that is missed once in a hundred runs, since the one order in which it has no
/// race came about, from one that is missed every other time: one that seems to be missed too often is run on, and judged by
/// all its runs.
fn run_all<'a>(
    names: &[&'a str],
    settings: impl Fn(usize, usize) -> Vec<Setting>,
    run: impl Fn(&'a str, &Setting) -> Verdict + Sync,
) -> Results<'a> {
    const MORE: usize = 30;
    let todo = |rounds: usize, wanted: &dyn Fn(&str) -> bool| {
        let numbered = names.iter().enumerate().filter(|(_, name)| wanted(name));
        numbered
            .flat_map(|(number, name)| settings(number, rounds).into_iter().map(|s| (*name, s)))
            .collect()
    };
    let mut results = Results::default();
    add_runs(&mut results, todo(repeat(), &|_| true), &run);
    if repeat() < MORE {
        let seems_missed = |name: &str| missed_too_often(&results[name]);
        let more = todo(MORE, &seems_missed);
        add_runs(&mut results, more, &run);
    }
    results
}

/// A few at a time.
fn add_runs<'a>(
    results: &mut Results<'a>,
    todo: Vec<(&'a str, Setting)>,
    run: &(impl Fn(&'a str, &Setting) -> Verdict + Sync),
) {
    let queue = Mutex::new(todo.into_iter());
    let results = Mutex::new(results);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no worker panics").next();
                    let Some((name, setting)) = next else { break };
                    let verdict = run(name, &setting);
                    let mut results = results.lock().expect("no worker panics");
                    results.entry(name).or_default().push((verdict, setting));
                }
            });
        }
    });
}

/// Programs that do not use Raddle: threads, and crates that are not ours.
#[test]
fn crates_are_reported_or_silent() {
    let mut results = Vec::new();
    let in_release = [CLEAN, ADVISORIES, ALLOCATORS].map(|package| (package, true));
    // Calls of an allocator are followed in all builds.
    for (package, release) in in_release.into_iter().chain([(ALLOCATORS, false)]) {
        let program = build(package, release);
        let marks = Marks::of(package, "main");
        let listed = support::run(&mut Command::new(&program), LIMIT);
        let names: Vec<String> = listed
            .stdout
            .lines()
            .map(|name| format!("{package}::{name}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let seeds = |_, rounds: usize| {
            let seeded = |seed: usize| Setting {
                procs: 0,
                debug: format!("seed={seed}"),
                unoptimised: !release,
            };
            (1..=(3 * rounds).max(1)).map(seeded).collect()
        };
        let all = run_all(&names, seeds, |name, setting| {
            verdict(name, &marks, &program, setting)
        });
        results.extend(all.into_iter().map(|(name, runs)| (name.to_owned(), runs)));
    }
    conclude(
        &results
            .iter()
            .map(|(name, runs)| (name.as_str(), runs.clone()))
            .collect(),
    );
}

/// Programs of one process: as many as the oracle has code for.
const PROGRAMS: usize = 100;

#[test]
fn random_programs_are_judged_exactly() {
    let program = build(CASES, true);
    let (mut places, mut missed, mut invented) = (0, 0, Vec::new());
    let rounds = (30 * repeat()).max(10);
    for round in 0..rounds {
        let seed = 1 + round * PROGRAMS;
        let log = scratch().join(format!("oracle-{seed}"));
        let mut command = Command::new(&program);
        command
            .args(["oracle", &seed.to_string(), &PROGRAMS.to_string()])
            .env(
                "RADDLE_RACE",
                format!("format=json log_path={}", log.display()),
            )
            .env("RADDLE_PROCS", PROCS[round % PROCS.len()].to_string())
            .env("RADDLE_DEBUG", format!("seed={seed}"));
        let outcome = support::run(&mut command, Duration::from_secs(120));
        let ended_well = matches!(outcome.status.code(), Some(0 | RACES));
        assert!(ended_well, "seed {seed}: {outcome}");
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let truth: BTreeSet<u64> = outcome
            .stdout
            .lines()
            .filter_map(|line| number(line.split(' ').next()?))
            .collect();
        let found: BTreeSet<u64> = take_reports(&log)
            .expect("reports are JSON")
            .iter()
            .filter_map(|report| Some(number(report["accesses"][0]["address"].as_str()?)? & !7))
            .collect();
        places += truth.len();
        missed += truth.difference(&found).count();
        invented.extend(
            found
                .difference(&truth)
                .map(|place| format!("{place:#x} of the programs from {seed}")),
        );
    }
    println!(
        "{} programs, {places} places that race, {missed} missed, {} invented",
        rounds * PROGRAMS,
        invented.len()
    );
    assert!(invented.is_empty(), "{invented:?}");
    assert!(missed * 20 < places, "too many missed");
}

/// Prints the table, and fails where the suite does.
fn conclude(results: &Results<'_>) {
    let mut table: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
    let mut failures = String::new();
    for (name, runs) in results {
        let (module, case) = name.split_once("::").expect("FILE::CASE");
        let row = table.entry(module).or_default();
        row[usize::from(!case.starts_with("race_"))] += 1;
        row[2] += runs.len();
        let missed = runs.iter().filter(|(v, _)| *v == Verdict::Missed).count();
        let wrong: Vec<_> = runs
            .iter()
            .filter(|(v, _)| matches!(v, Verdict::Wrong(_)))
            .collect();
        row[3] += missed;
        row[4] += wrong.len();
        if missed > 0 {
            let line = format!("{name}: missed in {missed} of {} runs", runs.len());
            println!("{line}");
            if missed_too_often(runs) {
                let _ = writeln!(failures, "{line}");
            }
        }
        if let Some((Verdict::Wrong(why), setting)) = wrong.first() {
            let _ = writeln!(
                failures,
                "{name}: wrong in {} of {} runs; {setting:?}: {why}",
                wrong.len(),
                runs.len()
            );
        }
        row[5] += usize::from(!wrong.is_empty() || missed_too_often(runs));
    }
    println!(
        "{:12} {:>6} {:>6} {:>7} {:>7} {:>6} {:>7}",
        "file", "racy", "silent", "runs", "missed", "wrong", "failing"
    );
    let mut sum = [0; 6];
    for (module, row) in table.iter() {
        sum.iter_mut().zip(row).for_each(|(sum, n)| *sum += n);
        print_row(module, row);
    }
    print_row("all", &sum);
    assert!(failures.is_empty(), "\n{failures}");
}

fn print_row(name: &str, row: &[usize; 6]) {
    let [racy, silent, runs, missed, wrong, failing] = row;
    println!("{name:12} {racy:>6} {silent:>6} {runs:>7} {missed:>7} {wrong:>6} {failing:>7}");
}
