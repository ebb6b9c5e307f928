//! The README keeps its promise: a newcomer needs exactly two commands, and they come first.
//!
//! That they work is shown by running them: the second one runs this, and `.ci/run` runs both.

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
