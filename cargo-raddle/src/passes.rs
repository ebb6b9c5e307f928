//! Owns the compiler passes that instrument code: one pipeline for user crates (by rustc) and for std (by rust-lld).
//!
//! `forceattrs` gives every function the attribute that makes the `tsan` pass look at its loads and stores; without it, the
//! pass sees only atomics at opt-level 0. A function that must be left alone, atomics included, is given
//! `disable_sanitizer_instrumentation` instead, by a file of names.
//!
//! With `hooks` the functions that the pass calls are imported from a file of bitcode right after it and inlined, by the machinery of
//! thin link-time optimisation, which does not need one. What they have in common is then computed once (`gvn`).
//!
//! # Why not
//! `-Zsanitizer=thread` is for nightly compilers, and has its own run time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The passes, and the options that the compiler back-end needs for them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pipeline {
    /// In the optimiser's own syntax.
    pub(crate) passes: String,
    /// Each is one option of the compiler back-end.
    pub(crate) llvm_args: Vec<String>,
}

/// The pipeline of this version. `hooks`: the bitcode file of what is to be inlined; without one, the detector is called at every access.
pub(crate) fn pipeline(hooks: Option<&Path>) -> Pipeline {
    let mut passes = "forceattrs,function(tsan)".to_owned();
    let mut llvm_args = vec!["-force-attribute=sanitize_thread".into()];
    if let Some(hooks) = hooks {
        passes += ",function-import,always-inline,function(gvn)";
        llvm_args.push(format!("-summary-file={}", hooks.display()));
        llvm_args.push("-import-all-index".into());
    }
    Pipeline { passes, llvm_args }
}

/// Where the hooks of a sysroot lie that are for the program's crates.
pub(crate) fn hooks_of(sysroot: &Path) -> PathBuf {
    sysroot.join("hooks.bc")
}

/// What is inlined everywhere, as a program.
pub(crate) const HOOKS: &str = include_str!("../hooks/hooks.rs");

/// What is inlined in the program's crates as well.
pub(crate) const ALLOCATORS: &str = include_str!("../hooks/allocators.rs");

/// Compiles hooks to bitcode, by the compiler that will read it.
pub(crate) fn compile_hooks(rustc: &Path, hooks: &str, scratch: &Path, to: &Path) -> Result<()> {
    let source = scratch.join("hooks.rs");
    fs::write(&source, hooks).with_context(|| format!("cannot write {}", source.display()))?;
    let mut command = Command::new(rustc);
    command
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--crate-name=raddle_hooks",
            "--emit=llvm-bc",
        ])
        .args([
            "-C",
            "opt-level=3",
            "-C",
            "panic=abort",
            "-C",
            "codegen-units=1",
        ])
        .args(["-C", "llvm-args=-force-attribute=alwaysinline"])
        .args(["-C", "llvm-args=-force-attribute=nounwind"])
        .arg(&source)
        .arg("-o")
        .arg(to);
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", rustc.display()))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

impl Pipeline {
    /// As flags of rustc, and of rustdoc.
    pub(crate) fn rustc_flags(&self) -> Vec<String> {
        let mut flags = vec!["-C".into(), format!("passes={}", self.passes)];
        for arg in &self.llvm_args {
            flags.extend(["-C".into(), format!("llvm-args={arg}")]);
        }
        flags
    }

    /// As flags of a linker that is asked to compile bitcode, without optimising it again.
    pub(crate) fn linker_flags(&self) -> Vec<String> {
        let mut flags = vec![
            "--lto-O0".into(),
            "--lto-CGO2".into(),
            format!("--lto-newpm-passes={}", self.passes),
        ];
        for arg in &self.llvm_args {
            flags.extend(["-mllvm".into(), arg.clone()]);
        }
        flags
    }
}
