//! The quickstart on real files: what it counts, and every exit status that its help promises.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use std::{env, fs, process};

use crate::support::Outcome;

const LIMIT: Duration = Duration::from_secs(120);

/// The path of the example, built by the cargo that runs this test, in the profile that this test has.
fn quickstart() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let test = env::current_exe().expect("this program has a path");
        // target/<profile>/deps/<this program>
        let profile = test
            .ancestors()
            .nth(2)
            .and_then(Path::file_name)
            .and_then(OsStr::to_str);
        let profile = profile.map(|name| if name == "debug" { "dev" } else { name });
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args([
            "build",
            "--example",
            "quickstart",
            "--message-format=json",
            "--profile",
        ]);
        command
            .arg(profile.expect("cargo's target folder"))
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let built = support::run(&mut command, 10 * LIMIT);
        assert!(built.status.success(), "{built}");
        let path = built
            .stdout
            .split("\"executable\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        path.expect("cargo names the executable").into()
    })
}

/// A folder of the test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = env::temp_dir().join(format!("raddle-quickstart-{}-{test}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the folder for temporary files: no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(folder: &Folder, args: &[&OsStr]) -> Outcome {
    support::run(
        Command::new(quickstart()).args(args).current_dir(&folder.0),
        LIMIT,
    )
}

fn run_text(folder: &Folder, args: &[&str]) -> Outcome {
    run(folder, &args.iter().map(OsStr::new).collect::<Vec<_>>())
}

/// The lines of words, and the last line without what differs from run to run.
fn lines(outcome: &Outcome) -> (Vec<&str>, &str) {
    let mut lines: Vec<_> = outcome.stdout.lines().collect();
    let last = lines
        .pop()
        .unwrap_or_else(|| panic!("it printed nothing: {outcome}"));
    let (counts, rest) = last
        .split_once(" goroutines=")
        .unwrap_or_else(|| panic!("{outcome}"));
    assert!(
        rest.split_once(" elapsed=")
            .is_some_and(|(number, _)| number.parse::<u32>().is_ok()),
        "{outcome}"
    );
    (lines, counts)
}

/// The same count without goroutines.
fn oracle(texts: &[&[u8]]) -> (Vec<String>, String) {
    let mut counts = BTreeMap::<Vec<u8>, u64>::new();
    for text in texts {
        let words = text
            .split(|byte| !byte.is_ascii_alphabetic())
            .filter(|word| !word.is_empty());
        words.for_each(|word| *counts.entry(word.to_ascii_lowercase()).or_default() += 1);
    }
    let (words, distinct) = (counts.values().sum::<u64>(), counts.len());
    let mut lines: Vec<_> = counts.into_iter().collect();
    lines.sort_by_key(|(_, count)| std::cmp::Reverse(*count)); // stable: equal counts stay in alphabetical order
    let lines = lines
        .into_iter()
        .map(|(word, count)| format!("{count} {}", String::from_utf8(word).unwrap()));
    (
        lines.collect(),
        format!("files={} words={words} distinct={distinct}", texts.len()),
    )
}

#[test]
fn counts_as_one_thread_would() {
    let folder = Folder::new("counts");
    // Words of all lengths, so that chunks of any size cut some: the letters come from a linear congruence.
    let mut state = 1_u32;
    let mut text = |bytes: usize| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        (0..bytes)
            .map(|_| b"aAbBzZe \n9\xff"[next() as usize % 11])
            .collect()
    };
    let texts = [
        text(0),
        text(1),
        text(1000),
        text(65_536),
        text(300_000),
        b"word".repeat(50_000),
    ];
    for (i, text) in texts.iter().enumerate() {
        folder.write(format!("{}/{i}.txt", i % 3), text);
    }
    let (expected, counts) = oracle(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for flags in [
        &["--top", "1000000"][..],
        &["--top=1000000", "--race"],
        &["--top", "1000000", "0", "1", "2"],
    ] {
        let outcome = run_text(&folder, flags);
        assert_eq!(outcome.status.code(), Some(0), "{outcome}");
        assert_eq!(outcome.stderr, "", "{outcome}");
        assert!(
            lines(&outcome) == (expected.iter().map(String::as_str).collect(), &counts),
            "{flags:?}"
        );
    }
}

#[test]
fn skips_hidden_folders_and_target_unless_named() {
    let folder = Folder::new("skips");
    folder.write("seen.txt", "seen");
    folder.write(".git/config", "hidden");
    folder.write("target/debug/out", "built");
    folder.write(".hidden-file", "dotted");
    assert_eq!(
        lines(&run_text(&folder, &[])),
        (vec!["1 dotted", "1 seen"], "files=2 words=2 distinct=2")
    );
    assert_eq!(
        lines(&run_text(&folder, &["target", ".git"])).0,
        ["1 built", "1 hidden"]
    );
}

#[test]
fn top_says_how_many_words() {
    let folder = Folder::new("top");
    folder.write("text", "c b b a a a d");
    assert_eq!(lines(&run_text(&folder, &["--top", "2"])).0, ["3 a", "2 b"]);
    assert_eq!(
        lines(&run_text(&folder, &["--top=0"])),
        (vec![], "files=1 words=7 distinct=4")
    );
    assert_eq!(
        lines(&run_text(&folder, &[])).0,
        ["3 a", "2 b", "1 c", "1 d"]
    );
}

#[test]
fn names_need_not_be_utf8() {
    let folder = Folder::new("names");
    let name = OsStr::from_bytes(b"caf\xe9");
    folder.write(name, "coffee");
    folder.write("--race", "dashes");
    assert_eq!(lines(&run_text(&folder, &[])).0, ["1 coffee", "1 dashes"]);
    assert_eq!(lines(&run(&folder, &[name])).0, ["1 coffee"]);
    assert_eq!(lines(&run_text(&folder, &["--", "--race"])).0, ["1 dashes"]);
}

#[test]
fn unreadable_paths_are_named_and_cost_status_1() {
    let folder = Folder::new("unreadable");
    folder.write("text", "word");
    let outcome = run_text(&folder, &["missing", "text", "also-missing"]);
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    assert_eq!(
        lines(&outcome),
        (vec!["1 word"], "files=1 words=1 distinct=1")
    );
    let named: Vec<_> = outcome
        .stderr
        .lines()
        .map(|line| line.split(": ").nth(1).unwrap())
        .collect();
    assert_eq!(named, ["also-missing", "missing"]);
}

#[test]
fn bad_usage_costs_status_2() {
    let folder = Folder::new("usage");
    for (args, text) in [
        (&["--colour"][..], "unknown flag \"--colour\""),
        (&["-x"], "unknown flag \"-x\""),
        (&["--top"], "--top needs a whole number"),
        (
            &["--top", "many"],
            "--top needs a whole number, not \"many\"",
        ),
        (&["--top=-1"], "--top needs a whole number, not \"-1\""),
    ] {
        let outcome = run_text(&folder, args);
        assert_eq!(outcome.status.code(), Some(2), "{outcome}");
        assert!(
            outcome.stderr.contains(text) && outcome.stderr.contains("usage: quickstart"),
            "{outcome}"
        );
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn help_is_no_error() {
    let folder = Folder::new("help");
    for flag in ["--help", "-h"] {
        let outcome = run_text(&folder, &[flag]);
        assert_eq!(
            (outcome.status.code(), outcome.stderr.as_str()),
            (Some(0), ""),
            "{outcome}"
        );
        assert!(outcome.stdout.starts_with("usage: quickstart"), "{outcome}");
    }
}

#[test]
fn race_mode_finds_the_race_that_was_asked_for() {
    let folder = Folder::new("racy");
    folder.write("text", "one two three");
    for procs in ["1", "2", "8"] {
        let mut command = Command::new(quickstart());
        command
            .args(["--race", "--racy"])
            .current_dir(&folder.0)
            .env("RADDLE_PROCS", procs);
        let outcome = support::run(&mut command, LIMIT);
        assert_eq!(outcome.status.code(), Some(66), "{outcome}");
        assert!(outcome.stderr.contains("WARNING: DATA RACE"), "{outcome}");
        assert!(
            outcome.stderr.matches("examples/quickstart.rs:").count() >= 2,
            "{outcome}"
        );
    }
    let plain = run_text(&folder, &["--racy"]);
    assert_eq!(
        (plain.status.code(), plain.stderr.as_str()),
        (Some(0), ""),
        "{plain}"
    );
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let folder = Folder::new("pipe");
    // More words than any pipe holds.
    let letter = |n: u32| char::from(b'a' + (n % 26) as u8);
    let word = |n: u32| {
        [n / 17_576, n / 676, n / 26, n]
            .map(letter)
            .into_iter()
            .chain([' '])
    };
    folder.write("text", (0..60_000).flat_map(word).collect::<String>());
    let mut command = Command::new(quickstart());
    command.args(["--top", "1000000"]).current_dir(&folder.0);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).as_ref()
        ),
        (Some(0), "")
    );
}
