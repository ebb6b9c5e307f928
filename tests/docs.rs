//! What users read in the documentation is what they can write.

use std::fs;
use std::path::{Path, PathBuf};

/// The sources below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// The lines of examples that a reader sees: those in code blocks of documentation, but for hidden ones.
fn example_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim_start) {
        let Some(line) = line.strip_prefix("///").or(line.strip_prefix("//!")) else {
            inside = false;
            continue;
        };
        let line = line.trim_start();
        if line.starts_with("```") {
            inside = !inside;
        } else if inside && !line.starts_with("# ") {
            lines.push(line);
        }
    }
    lines
}

/// The crates below `raddle` are its own affair: a program does not depend on them by name.
#[test]
fn examples_name_the_crate_that_users_have() {
    const INNER: [&str; 5] = [
        "raddle_alloc",
        "raddle_chan",
        "raddle_macros",
        "raddle_race",
        "raddle_sched",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut examples) = (Vec::new(), 0);
    for folder in ["alloc", "chan", "race", "runtime", "sched"] {
        sources(&root.join(folder), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        for line in example_lines(&text) {
            examples += 1;
            let inner = INNER.iter().find(|name| line.contains(**name));
            assert_eq!(inner, None, "{}: {line}", file.display());
        }
    }
    assert!(
        examples > 500,
        "only {examples} lines of examples were found"
    );
}

#[test]
fn the_front_page_names_every_variable_and_feature() {
    let front = include_str!("../runtime/src/lib.rs");
    let manifest = include_str!("../Cargo.toml");
    for variable in raddle_race::options::VARIABLES {
        let of_programs = variable != "RADDLE_CACHE_DIR";
        assert!(
            !of_programs || front.contains(&format!("| `{variable}=")),
            "{variable}"
        );
    }
    let (_, features) = manifest.split_once("\n[features]\n").expect("features");
    let (features, _) = features.split_once("\n[").expect("more follows");
    let names = features
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "));
    for (name, _) in names.filter(|(name, _)| *name != "default") {
        assert!(front.contains(&format!("//! - `{name}`")), "{name}");
        assert!(
            include_str!("../README.md").contains(&format!("`{name}`")),
            "{name}"
        );
    }
}
