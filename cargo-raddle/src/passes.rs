//! Owns the compiler passes that instrument code: one pipeline for user crates (by rustc) and for std (by rust-lld).
//!
//! `forceattrs` gives every function the attribute that makes the `tsan` pass look at its loads and stores; without it, the
//! pass sees only atomics at opt-level 0. A function that must be left alone, atomics included, is given
//! `disable_sanitizer_instrumentation` instead, by a file of names.
//!
//! # Why not
//! `-Zsanitizer=thread` is for nightly compilers, and has its own run time.

/// The passes, and the options that the compiler back-end needs for them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pipeline {
    /// In the optimiser's own syntax.
    pub(crate) passes: String,
    /// Each is one option of the compiler back-end.
    pub(crate) llvm_args: Vec<String>,
}

/// The pipeline of this version.
pub(crate) fn pipeline() -> Pipeline {
    Pipeline {
        passes: "forceattrs,function(tsan)".into(),
        llvm_args: vec!["-force-attribute=sanitize_thread".into()],
    }
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
