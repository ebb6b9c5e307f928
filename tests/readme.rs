//! The README keeps its promise: a newcomer needs exactly two commands, and they come first; what it says of a project of one's own
//! builds and runs.
//!
//! That the commands work is shown by running them: the second one runs this, and `.ci/run` runs both.

use std::fs;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");

/// The commands in the first block of code.
fn first_commands() -> Vec<&'static str> {
    let block = README
        .split("```")
        .nth(1)
        .expect("the README has a block of code");
    block
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn two_commands_come_first() {
    let expected = [
        "cargo run --release --example quickstart -- --race",
        "cargo test --workspace",
    ];
    assert_eq!(first_commands(), expected);
    let before = README
        .split("```")
        .next()
        .expect("split gives at least one piece");
    assert!(before.lines().count() <= 12, "they come first:\n{before}");
}

/// The code of the section with this title, block after block.
fn blocks(title: &str) -> Vec<&'static str> {
    let (_, section) = README
        .split_once(&format!("\n## {title}\n"))
        .expect("the section");
    let section = section
        .split("\n## ")
        .next()
        .expect("split gives at least one piece");
    let blocks = section.split("```").skip(1).step_by(2);
    // Without the language's name.
    blocks
        .filter_map(|block| Some(block.split_once('\n')?.1))
        .collect()
}

#[test]
fn a_project_of_one_s_own_builds_runs_and_passes_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    let [manifest, program] = blocks("In a project of yours")[..] else {
        panic!("two blocks of code")
    };
    let here = manifest.replace("\"../raddle\"", &format!("{root:?}"));
    assert_ne!(here, manifest, "the path is a place to fill in");
    let head =
        "[package]\nname = \"yours\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::create_dir_all(package.join("src")).expect("a folder of ours");
    fs::write(package.join("Cargo.toml"), format!("{head}{here}")).expect("written");
    fs::write(package.join("src/main.rs"), program).expect("written");
    // The versions that the workspace has, which are there.
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).expect("copied");
    for (line, what) in [
        ("run --quiet", "5050\n"),
        ("test -- --format=pretty", "goroutines_answer ... ok"),
    ] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(line.split(' '))
            .current_dir(&package)
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_TARGET_DIR", "target");
        let output = cargo.output().expect("cargo is there");
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(
            output.status.success() && out.contains(what),
            "{line}: {out}\n{err}"
        );
    }
}

#[test]
fn every_flag_and_variable_is_explained() {
    for name in [
        "--race",
        "RADDLE_RACE",
        "RADDLE_PROCS",
        "RADDLE_STACK",
        "RADDLE_GC",
        "RADDLE_DEBUG",
    ] {
        assert!(
            README.contains(&format!("| `{name}")),
            "{name} has no row in a table"
        );
    }
    for key in [
        "notls",
        "noguardinstall",
        "nopreempt",
        "schedtrace",
        "seed",
        "yield",
        "gctrace",
        "gcstress",
    ] {
        assert!(
            README.contains(&format!("`{key}")),
            "{key} of RADDLE_DEBUG is not explained"
        );
    }
}

#[test]
fn every_race_option_is_explained_as_in_the_program() {
    for option in raddle_race::options::OPTIONS {
        let (key, values, meaning) = (option.key, option.values, option.meaning);
        let default = match option.default {
            "" => " ".to_owned(),
            default => format!(" {default} "),
        };
        let row = format!("\n| `{key}` | {values} |{default}| {meaning} |\n");
        assert!(README.contains(&row), "no row {row}");
    }
    let example = "suppressions=\"/my files/known, old.txt\" exitcode=0";
    assert!(README.contains(example) && raddle_race::options::help().contains(example));
    let pairs = raddle_race::options::pairs(example).expect("good options");
    assert_eq!(pairs[0].1, "/my files/known, old.txt");
}

#[test]
fn every_file_that_is_named_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for link in README
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        let outside = link.starts_with("http") || link.starts_with('#');
        assert!(
            outside || root.join(link).exists(),
            "the README points at {link}, which does not exist"
        );
    }
}
