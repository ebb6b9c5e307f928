//! Lists the cases: every `pub fn race_...` and `pub fn no_race_...` of a file in `src`.

use std::fmt::Write;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=src");
    let mut files: Vec<_> = fs::read_dir("src")
        .expect("the package's src")
        .map(|entry| entry.expect("a directory entry").path())
        .collect();
    files.sort();
    let mut table = String::from("pub static CASES: &[(&str, fn())] = &[\n");
    for file in files {
        let module = file
            .file_stem()
            .and_then(|s| s.to_str())
            .expect("a source file");
        let text = fs::read_to_string(&file).expect("a readable source file");
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("pub fn ") else {
                continue;
            };
            let name = rest.split('(').next().unwrap_or_default();
            if name.starts_with("race_") || name.starts_with("no_race_") {
                writeln!(table, "(\"{module}::{name}\", crate::{module}::{name}),").expect("room");
            }
        }
    }
    table += "];\n";
    let out = env::var("OUT_DIR").expect("cargo sets it") + "/table.rs";
    fs::write(out, table).expect("a writable OUT_DIR");
}
