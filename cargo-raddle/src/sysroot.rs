//! Owns the instrumented copy of the standard library: a sysroot for rustc in the cache directory.
//!
//! The toolchain's own libraries carry the bitcode that they were compiled from, and its linker has the compiler's passes. So the
//! copy is the very std of the toolchain, with the same metadata: crates compiled against one can be linked with the other.
//! Everything else in the sysroot is a symbolic link to the toolchain's. std as a shared library is left out: it would be a second,
//! plain one.
//!
//! # Why instrument std at all
//! std's locks, channels and threads order the program by atomics inside functions that are compiled once, in std. Plain, these are
//! invisible, and correct programs would be reported by the thousand.
//!
//! # Why not
//! - *Rebuild std from source*: needs the source component and a nightly cargo.
//! - *Redirect std's functions at link time*: fast paths that were inlined inside std stay invisible.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cache;
use crate::instrument::{self, Instrumenter};
use crate::passes::{ALLOCATORS, HOOKS, compile_hooks, hooks_of, pipeline};
use crate::toolchain::Toolchain;

/// The libraries to instrument, largest first so that the work spreads well over the CPUs. Left plain are those that order nothing
/// and touch no data of the program (unwinding, compiler support). Those that backtraces stand on do not either, but a build without
/// optimisation takes instances of generic functions from wherever there are some: a `Vec` of bytes grows by the code in `gimli`.
const INSTRUMENTED: [&str; 14] = [
    "std",
    "core",
    "test",
    "gimli",
    "alloc",
    "object",
    "addr2line",
    "memchr",
    "std_detect",
    "miniz_oxide",
    "rustc_demangle",
    "hashbrown",
    "getopts",
    "adler2",
];

/// The sysroot to compile against.
#[derive(Debug)]
pub(crate) struct Sysroot {
    /// None: the toolchain's own, since it lacks what an instrumented one is made of.
    pub(crate) path: Option<PathBuf>,
    /// Names everything that the instrumented code depends on: another id means to compile again.
    pub(crate) id: String,
}

impl Sysroot {
    /// The instrumented sysroot for `target`, made if it was not yet.
    pub(crate) fn ensure(toolchain: &Toolchain, target: &str) -> Result<Self> {
        let id_of = |std: &str| {
            cache::id(&[
                &toolchain.verbose_version,
                &toolchain.sysroot.to_string_lossy(),
                target,
                std,
                &format!(
                    "{:?}",
                    (pipeline(None), INSTRUMENTED, instrument::LEFT_ALONE)
                ),
                HOOKS,
                ALLOCATORS,
            ])
        };
        let id = id_of("instrumented");
        let path = cache::root()?.join(format!("sysroot-{id}"));
        if !path.exists()
            && let Err(missing) = instrument::check(toolchain, target, INSTRUMENTED[0])
        {
            eprintln!(
                "raddle: warning: {missing:#}\n\
                 raddle: warning: going on with a plain std, whose locks, channels and threads are not seen: expect false reports. \
                 A toolchain from rustup, such as `rustup toolchain install stable`, has what is needed"
            );
            return Ok(Self {
                path: None,
                id: id_of("plain"),
            });
        }
        cache::make_once(&path, |dir| make(toolchain, target, dir))?;
        Ok(Self {
            path: Some(path),
            id,
        })
    }
}

/// Fills `dir` with a sysroot.
fn make(toolchain: &Toolchain, target: &str, dir: &Path) -> Result<()> {
    eprintln!(
        "raddle: preparing an instrumented std for rustc {} (once, about 20 s)",
        toolchain.release
    );
    let start = Instant::now();
    let libraries = Toolchain::libraries(&toolchain.sysroot, target);
    link_all_but(&toolchain.sysroot, dir, &libraries)?;

    let to = Toolchain::libraries(dir, target);
    let rlibs = INSTRUMENTED
        .iter()
        .map(|name| instrument::find_rlib(&libraries, name))
        .collect::<Result<Vec<_>>>()?;
    for entry in read_dir(&libraries)? {
        let name = entry.file_name();
        let shared_std = name.to_string_lossy().starts_with("libstd-")
            && Path::new(&name).extension() == Some("so".as_ref());
        if !shared_std && !rlibs.contains(&entry.path()) {
            link(&entry.path(), &to.join(name))?;
        }
    }

    let scratch = dir.join("scratch");
    create_dir(&scratch)?;
    let rustc = toolchain.sysroot.join("bin/rustc");
    let of_std = scratch.join("hooks.bc");
    compile_hooks(&rustc, HOOKS, &scratch, &of_std)?;
    let of_crates = format!("{HOOKS}{ALLOCATORS}");
    compile_hooks(&rustc, &of_crates, &scratch, &hooks_of(dir))?;
    let instrumenter = Instrumenter {
        lld: toolchain.rust_lld(),
        pipeline: pipeline(Some(&of_std)),
        scratch: scratch.clone(),
    };
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(rlib) = rlibs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = rlib.file_name().expect("a file in a directory has a name");
            instrumenter.rlib(rlib, &to.join(name))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(rlibs.len()));
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("instrumenting does not panic"))
    })?;
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;

    // For people who wonder what this directory is.
    let about = serde_json::json!({
        "made_by": concat!("cargo-raddle ", env!("CARGO_PKG_VERSION")),
        "rustc": toolchain.verbose_version,
        "toolchain": toolchain.sysroot,
        "target": target,
        "instrumented": INSTRUMENTED,
        "seconds": start.elapsed().as_secs_f32(),
    });
    let file = dir.join("raddle-sysroot.json");
    fs::write(&file, format!("{about:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Makes `to` look like `from` by symbolic links, but for the folder `except` and those above it: they are real folders, and
/// `except` stays empty.
fn link_all_but(from: &Path, to: &Path, except: &Path) -> Result<()> {
    for entry in read_dir(from)? {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if !except.starts_with(&from) {
            link(&from, &to)?;
            continue;
        }
        create_dir(&to)?;
        if from != except {
            link_all_but(&from, &to, except)?;
        }
    }
    Ok(())
}

fn link(from: &Path, to: &Path) -> Result<()> {
    symlink(from, to).with_context(|| format!("cannot link {} to {}", to.display(), from.display()))
}

fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir(dir).with_context(|| format!("cannot create {}", dir.display()))
}

fn read_dir(dir: &Path) -> Result<Vec<fs::DirEntry>> {
    fs::read_dir(dir)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read {}", dir.display()))
}
