//! Owns what is known of the Rust toolchain in use: its compiler, version, sysroot and linker.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The target for which race mode works.
pub(crate) const SUPPORTED: &str = "x86_64-unknown-linux-gnu";

/// The toolchain that cargo will use in the current directory.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The output of `rustc -vV`.
    pub(crate) verbose_version: String,
    pub(crate) sysroot: PathBuf,
    /// The host's target triple.
    pub(crate) host: String,
    /// For people, as in `1.95.0`.
    pub(crate) release: String,
}

impl Toolchain {
    /// Asks rustc.
    pub(crate) fn find() -> Result<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let verbose_version = output(Command::new(&rustc).arg("-vV"))?;
        let field = |name: &str| {
            verbose_version
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(str::to_owned)
                .with_context(|| format!("`{} -vV` names no {name}", rustc.display()))
        };
        let (host, release) = (field("host")?, field("release")?);
        let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        Ok(Self {
            sysroot: PathBuf::from(sysroot.trim_end()),

            verbose_version,
            host,
            release,
        })
    }

    /// The folder of `target`'s libraries, in this sysroot or one like it.
    pub(crate) fn libraries(sysroot: &Path, target: &str) -> PathBuf {
        sysroot.join("lib/rustlib").join(target).join("lib")
    }

    /// The linker that the toolchain brings along: it has the compiler's own optimiser inside. It is where the *host's* tools are.
    pub(crate) fn rust_lld(&self) -> PathBuf {
        self.sysroot
            .join("lib/rustlib")
            .join(&self.host)
            .join("bin/rust-lld")
    }
}

/// Runs `command` and returns what it prints.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| {
        format!(
            "cannot run {}; is a Rust toolchain installed and in PATH?",
            program.display()
        )
    })?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{command:?} printed something that is not UTF-8"))
}
