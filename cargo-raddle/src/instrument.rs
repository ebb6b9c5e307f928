//! Owns the instrumentation of one compiled library: bitcode out, passes over it, machine code back in.
//!
//! # Invariants
//! 1. The metadata of a library (`lib.rmeta`) is copied unchanged: to rustc the library is the same one.
//! 2. A library is either instrumented whole or the whole work fails: half an instrumented std gives false reports.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember};
use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol};

use crate::passes::Pipeline;
use crate::toolchain::Toolchain;

/// Parts of mangled names whose functions are not instrumented, not even their atomics.
pub(crate) const LEFT_ALONE: [&str; 8] = [
    // Its lock, taken at the start and end of every thread, orders threads that the program leaves unordered: races would hide.
    "14stack_overflow",
    // Backtraces: of no interest, and millions of events when a program panics.
    "3std12backtrace_rs",
    "_5gimli",
    "_6adler2",
    "_6object",
    "_9addr2line",
    "_11miniz_oxide",
    "_14rustc_demangle",
];

/// What it takes to instrument libraries.
#[derive(Debug)]
pub(crate) struct Instrumenter {
    pub(crate) lld: PathBuf,
    pub(crate) pipeline: Pipeline,
    /// A directory for files that nobody needs afterwards.
    pub(crate) scratch: PathBuf,
}

/// Says what the toolchain lacks for an instrumented copy of its library `name`.
pub(crate) fn check(toolchain: &Toolchain, target: &str, name: &str) -> Result<()> {
    let lld = toolchain.rust_lld();
    ensure!(
        lld.exists(),
        "this toolchain has no rust-lld ({} does not exist)",
        lld.display()
    );
    let rlib = find_rlib(&Toolchain::libraries(&toolchain.sysroot, target), name)?;
    let data = read(&rlib)?;
    for (_, member) in members(&rlib, &data)? {
        if let Member::Object(object) = member {
            bitcode(object)
                .with_context(|| format!("{} cannot be instrumented", rlib.display()))?;
        }
    }
    Ok(())
}

/// The file `lib{name}-*.rlib` in `libraries`.
pub(crate) fn find_rlib(libraries: &Path, name: &str) -> Result<PathBuf> {
    let prefix = format!("lib{name}-");
    fs::read_dir(libraries)
        .with_context(|| {
            format!(
                "no standard library in {}; `rustup target add` installs it",
                libraries.display()
            )
        })?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.extension() == Some("rlib".as_ref())
                && path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        })
        .with_context(|| format!("no {prefix}*.rlib in {}", libraries.display()))
}

impl Instrumenter {
    /// Writes an instrumented copy of the library `from` to `to`.
    pub(crate) fn rlib(&self, from: &Path, to: &Path) -> Result<()> {
        let data = read(from)?;
        let mut copy = Vec::new();
        for (name, member) in members(from, &data)? {
            let bytes = match member {
                Member::Metadata(bytes) => bytes.to_vec(),
                Member::Object(object) => self
                    .object(&name, object)
                    .with_context(|| format!("cannot instrument {name} of {}", from.display()))?,
            };
            copy.push(NewArchiveMember::new(bytes, &DEFAULT_OBJECT_READER, name));
        }
        File::create(to)
            .and_then(|mut file| {
                ar_archive_writer::write_archive_to_stream(
                    &mut file,
                    &copy,
                    ArchiveKind::Gnu,
                    false,
                    None,
                )
            })
            .with_context(|| format!("cannot write {}", to.display()))
    }

    /// An instrumented copy of an object file.
    fn object(&self, name: &str, object: &[u8]) -> Result<Vec<u8>> {
        let file = |suffix| self.scratch.join(format!("{name}{suffix}"));
        let (input, left_alone, output) = (file(".bc"), file(".csv"), file(".new"));
        write(&input, bitcode(object)?)?;
        write(&left_alone, functions_left_alone(object)?.as_bytes())?;
        let mut lld = Command::new(&self.lld);
        lld.args(["-flavor", "gnu", "-r"])
            .args(self.pipeline.linker_flags())
            .arg("-mllvm")
            .arg(format!("-forceattrs-csv-path={}", left_alone.display()))
            .arg(&input)
            .arg("-o")
            .arg(&output);
        let result = lld
            .output()
            .with_context(|| format!("cannot run {}", self.lld.display()))?;
        if !result.status.success() {
            bail!(
                "{lld:?} failed ({}): {}",
                result.status,
                String::from_utf8_lossy(&result.stderr).trim_end()
            );
        }
        read(&output)
    }
}

enum Member<'a> {
    Metadata(&'a [u8]),
    Object(&'a [u8]),
}

/// The members of the library `rlib`, whose bytes are `data`.
fn members<'a>(rlib: &Path, data: &'a [u8]) -> Result<Vec<(String, Member<'a>)>> {
    let parse = || -> object::Result<_> {
        let mut members = Vec::new();
        for member in ArchiveFile::parse(data)?.members() {
            let member = member?;
            let name = String::from_utf8_lossy(member.name()).into_owned();
            let bytes = member.data(data)?;
            let member = match name.ends_with(".o") {
                true => Member::Object(bytes),
                false => Member::Metadata(bytes),
            };
            members.push((name, member));
        }
        Ok(members)
    };
    parse().with_context(|| format!("{} is not a library that can be read", rlib.display()))
}

/// The bitcode that `object` was compiled from.
fn bitcode(object: &[u8]) -> Result<&[u8]> {
    let parsed = object::File::parse(object)?;
    let section = parsed
        .section_by_name(".llvmbc")
        .context("its objects carry no bitcode (section .llvmbc)")?;
    Ok(section.data()?)
}

/// Whether the function of this mangled name is of no interest. An instance of another crate's function is one of that crate's, though the name
/// ends with the crate that asked for it.
fn is_left_alone(name: &str) -> bool {
    let is_crate = |end: &&str| {
        let Some((hash, ident)) = end[2..].split_once('_') else {
            return false;
        };
        let digits = ident.bytes().take_while(u8::is_ascii_digit).count();
        let length = ident[..digits].parse::<usize>();
        hash.bytes().all(|b| b.is_ascii_alphanumeric()) && length == Ok(ident.len() - digits)
    };
    let mut ends = name.match_indices("Cs").map(|(at, _)| &name[at..]);
    let name = match ends.find(is_crate) {
        Some(end) => &name[..name.len() - end.len()],
        None => name,
    };
    LEFT_ALONE.iter().any(|part| name.contains(part))
}

/// A line for each function of `object` that is not to be instrumented.
fn functions_left_alone(object: &[u8]) -> Result<String> {
    let mut lines = String::new();
    for symbol in object::File::parse(object)?.symbols() {
        let Ok(name) = symbol.name() else { continue };
        if symbol.is_definition() && is_left_alone(name) {
            lines.push_str(name);
            lines.push_str(",disable_sanitizer_instrumentation\n");
        }
    }
    Ok(lines)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_other_crates_functions_are_not_left_alone() {
        for (name, expected) in [
            (
                "_RINvNtCsgEmfK2I1SDS_4core5slice20copy_from_slice_implhECsfEOYDRpO4Ta_11miniz_oxide",
                false,
            ),
            (
                "_RNvMs4_NtCslNYArtu3iFV_5alloc7raw_vecNtB5_11RawVecInner11finish_growCsduwmD7cSIQq_5gimli",
                false,
            ),
            (
                "_RNvNtNtCsfEOYDRpO4Ta_11miniz_oxide7inflate4core10decompress",
                true,
            ),
            (
                "_RINvNtCsgEmfK2I1SDS_4core3ptr13drop_in_placeNtNtCsduwmD7cSIQq_5gimli4read5ErrorECs4X4t9plMPHF_9addr2line",
                true,
            ),
            ("_RNvNtNtCs1_3std12backtrace_rs9symbolize7resolve", true),
            ("_RNvNtCs1_3std6thread5sleep", false),
            ("__tsan_read8", false),
        ] {
            assert_eq!(is_left_alone(name), expected, "{name}");
        }
    }
}
