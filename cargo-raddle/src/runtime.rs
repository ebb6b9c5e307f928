//! Owns the runtime for plain programs: Raddle's libraries, compiled once, and linked to programs that do not depend on them.
//!
//! A program's own crates refer to the detector by the calls that the compiler inserted; libraries that nothing else refers to are given to
//! the linker directly. They are compiled against the same std, so they find what they need of it in the program.
//!
//! # Blocking
//! Waits for another process that compiles the same, half a minute at most.

use std::env;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;

use crate::cache;
use crate::toolchain::{SUPPORTED, Toolchain};
use crate::wrapper::MARK;

/// A symbol of the runtime that starts race mode before `main`; naming it makes the linker take the runtime in.
const START: &str = "raddle_plain_start";

/// Parts of std that a program either has already, one of two, or never needs.
const NOT_AGAIN: [&str; 5] = [
    "panic_abort",
    "panic_unwind",
    "proc_macro",
    "profiler_builtins",
    "test",
];

/// What a plain program needs on its command line.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// For the linker, in rustc's form.
    pub(crate) flags: Vec<String>,
    /// The runtime's libraries.
    pub(crate) rlibs: Vec<PathBuf>,
}

impl Runtime {
    /// While Raddle itself is being worked on: compiles again what has changed since a plain program was last built, so that cargo
    /// sees that the program is out of date.
    pub(crate) fn refresh(toolchain: &Toolchain, sysroot: Option<&Path>) -> Result<()> {
        if own_sources().is_some() && Self::dir(toolchain)?.exists() {
            Self::ensure(toolchain, sysroot)?;
        }
        Ok(())
    }

    /// The directory in which the runtime is compiled.
    fn dir(toolchain: &Toolchain) -> Result<PathBuf> {
        let id = cache::id(&[
            &toolchain.verbose_version,
            &toolchain.sysroot.to_string_lossy(),
            &own_sources().unwrap_or_default().to_string_lossy(),
        ]);
        Ok(cache::root()?.join(format!("runtime-{id}")))
    }

    /// Compiles the runtime if that has not been done yet. `sysroot`: that of the program.
    pub(crate) fn ensure(toolchain: &Toolchain, sysroot: Option<&Path>) -> Result<Self> {
        let sources = own_sources();
        let dir = Self::dir(toolchain)?;
        let _lock = cache::lock(&dir.with_extension("lock"))?;
        let list = dir.join("rlibs.json");
        let rlibs = match fs::read(&list) {
            // A published version does not change; of sources at hand, cargo knows what has changed.
            Ok(list) if sources.is_none() => serde_json::from_slice(&list)?,
            _ => {
                write_package(&dir, sources.as_deref())?;
                let rlibs =
                    compile(toolchain, &dir).map_err(|error| cache::explain(error, &dir))?;
                write(&list, serde_json::to_string(&rlibs)?)?;
                rlibs
            }
        };
        let std = Toolchain::libraries(sysroot.unwrap_or(&toolchain.sysroot), SUPPORTED);
        Ok(Self {
            flags: flags(&rlibs, &std)?,
            rlibs,
        })
    }
}

/// The repository that this program was built in, if it is still there.
fn own_sources() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    repository
        .join("runtime/src/lib.rs")
        .exists()
        .then(|| repository.to_owned())
}

/// Writes a package into `dir` that has Raddle as its only dependency.
fn write_package(dir: &Path, sources: Option<&Path>) -> Result<()> {
    let version = concat!("=", env!("CARGO_PKG_VERSION"));
    let raddle = match sources {
        Some(path) => format!("path = {:?}", path.display().to_string()),
        None => format!("version = {version:?}"),
    };
    // The heap stays the program's own: it asked for no other.
    let manifest = format!(
        r#"# Made by cargo-raddle: the runtime for programs that do not use Raddle themselves.
[package]
name = "raddle-for-plain-programs"
version = "0.0.0"
edition = "2024"

[dependencies]
raddle = {{ {raddle}, default-features = false }}

[workspace]

# A name of its own, so that what a user configures for `release` does not reach it.
[profile.runtime]
inherits = "release"
opt-level = 3
codegen-units = 1
debug = 1
lto = false
panic = "unwind"
strip = false
"#
    );
    let source = dir.join("src");
    fs::create_dir_all(&source).with_context(|| format!("cannot create {}", source.display()))?;
    // Unchanged files keep their time, and cargo its peace.
    let write_new = |path: PathBuf, text: &str| match fs::read_to_string(&path) {
        Ok(old) if old == text => Ok(()),
        _ => write(&path, text),
    };
    write_new(source.join("lib.rs"), "pub use raddle;\n")?;
    write_new(dir.join("Cargo.toml"), &manifest)?;
    // The versions that Raddle was tested with.
    let (locked, lock) = (
        sources.map(|path| path.join("Cargo.lock")),
        dir.join("Cargo.lock"),
    );
    if let Some(locked) = locked.filter(|locked| locked.exists() && !lock.exists()) {
        fs::copy(&locked, &lock)
            .with_context(|| format!("cannot copy {} to {}", locked.display(), lock.display()))?;
    }
    Ok(())
}

/// Compiles the package in `dir` and returns the libraries of which it consists.
fn compile(toolchain: &Toolchain, dir: &Path) -> Result<Vec<PathBuf>> {
    let target_dir = dir.join("target");
    if !target_dir.exists() {
        eprintln!(
            "raddle: compiling the detector for programs that do not depend on raddle (once, about a minute)"
        );
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--quiet",
            "--profile",
            "runtime",
            "--target",
            SUPPORTED,
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(dir)
        .stdout(Stdio::piped());
    // Nothing that is meant for the program: its flags, its profile, its wrapper (which is this program), its package.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let of_program = [
            "CARGO_PROFILE_",
            "CARGO_BUILD_",
            "CARGO_ENCODED_",
            "CARGO_TARGET_",
        ];
        if of_program.iter().any(|prefix| text.starts_with(prefix))
            || text.starts_with("RUSTC")
            || text == "RUSTFLAGS"
        {
            cargo.env_remove(&name);
        }
    }
    // The directory may be one in which rustup would choose another.
    cargo.env("RUSTC", toolchain.sysroot.join("bin/rustc"));
    cargo.env("CARGO_TARGET_DIR", &target_dir);
    // Raddle's own warnings are for those who work on it, who see them elsewhere.
    cargo.env("RUSTFLAGS", format!("--cap-lints=allow --cfg {MARK}"));

    let mut child = cargo
        .spawn()
        .with_context(|| format!("cannot run {cargo:?}"))?;
    let output = child.stdout.take().expect("a pipe was asked for");
    let mut rlibs = Vec::new();
    for message in Message::parse_stream(BufReader::new(output)) {
        if let Message::CompilerArtifact(artifact) = message? {
            let of_target = |file: &&cargo_metadata::camino::Utf8PathBuf| {
                file.extension() == Some("rlib") && file.starts_with(target_dir.join(SUPPORTED))
            };
            rlibs.extend(
                artifact
                    .filenames
                    .iter()
                    .filter(of_target)
                    .map(PathBuf::from),
            );
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {cargo:?}"))?;
    if !status.success() {
        bail!(
            "cannot compile the detector ({status}); see above, and try `cargo build` in {}",
            dir.display()
        );
    }
    Ok(rlibs)
}

/// The flags that make rustc link `rlibs`, and what they need of the standard library in the folder `std`.
fn flags(rlibs: &[PathBuf], std: &Path) -> Result<Vec<String>> {
    let of_std = fs::read_dir(std)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read {}", std.display()))?;
    let of_std = of_std.into_iter().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("lib")
            .and_then(|name| name.strip_suffix(".rlib")?.rsplit_once('-'))
            .is_some_and(|(name, _)| !NOT_AGAIN.contains(&name))
    });
    let mut flags = Vec::new();
    let mut link_arg = |arg: String| flags.extend(["-C".into(), format!("link-arg={arg}")]);
    link_arg(format!("-Wl,--undefined={START}"));
    // A linker that reads libraries in order looks through a group again and again. A library that the program has already adds
    // nothing a second time.
    link_arg("-Wl,--start-group".into());
    for rlib in rlibs.iter().cloned().chain(of_std) {
        link_arg(rlib.display().to_string());
    }
    // The C library has parts that are linked like these.
    link_arg("-lc".into());
    link_arg("-Wl,--end-group".into());
    Ok(flags)
}

fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
