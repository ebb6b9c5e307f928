//! Owns one run of `cargo raddle`: it prepares what is missing and becomes cargo.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::cache;
use crate::cli::Request;
use crate::config::Config;
use crate::plan::{self, Plan};
use crate::programs::PlainPrograms;
use crate::runtime::Runtime;
use crate::sysroot::Sysroot;
use crate::toolchain::{SUPPORTED, Toolchain};
use crate::wrapper::{self, exec};

/// Does what the user asked for.
pub(crate) fn run(request: Request) -> Result<ExitCode> {
    // cargo tells its subcommands which cargo it is.
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(request.action);
    if let Some(options) = &request.race {
        prepare(&mut cargo, &request, options)?;
    }
    cargo.args(&request.cargo_args);
    exec(cargo)
}

/// Makes `cargo` build for race mode.
fn prepare(cargo: &mut Command, request: &Request, options: &OsStr) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let here = env::current_dir().context("cannot tell the current directory")?;
    let mut config = Config::load(&here)?;
    let mut rustdoc =
        env::var_os("RUSTDOC").map_or_else(|| toolchain.sysroot.join("bin/rustdoc"), PathBuf::from);
    if let Some(outer) = Plan::from_env()? {
        // Started by a program that `cargo raddle` runs: the wrapper and rustdoc in the environment are this program.
        config.rustc_wrapper = outer.rustc_wrapper;
        rustdoc = outer.rustdoc;
    }

    let args = OwnArgs::new(&request.cargo_args);
    let mut targets = args.values("--target");
    if targets.is_empty() {
        targets = match config.targets.is_empty() {
            true => vec![toolchain.host.clone()],
            false => config.targets.clone(),
        };
        for target in &targets {
            cargo.args(["--target", target]);
        }
    }
    if let Some(target) = targets.iter().find(|target| *target != SUPPORTED) {
        bail!(
            "race mode works for {SUPPORTED} only, not for {target}; leave out --race, or give `--target {SUPPORTED}`"
        );
    }

    let sysroot = Sysroot::ensure(&toolchain, SUPPORTED)?;
    let metadata = args.metadata()?;
    let target_dir = match args.values("--target-dir").pop() {
        Some(dir) => std::path::absolute(&dir).with_context(|| format!("cannot use {dir}"))?,
        // Beside plain builds, which stay as they are.
        None => metadata.target_directory.join("raddle-race").into(),
    };
    Runtime::refresh(&toolchain, sysroot.path.as_deref())?;
    let plan = Plan {
        id: cache::id(&[&sysroot.id, &wrapper::fingerprint()]),
        sysroot: sysroot.path,
        rustc_wrapper: config.rustc_wrapper,
        rustdoc,
        plain: PlainPrograms::find(&metadata),
    };
    let own_path = env::current_exe().context("cannot tell where this program is")?;
    cargo
        .env("RUSTC_WRAPPER", &own_path)
        .env("RUSTDOC", &own_path)
        .env(plan::VARIABLE, plan.write(&target_dir)?)
        .env("CARGO_TARGET_DIR", &target_dir)
        // cargo would remember the compiler's version and not see that ours has changed.
        .env("CARGO_CACHE_RUSTC_INFO", "0");
    if request.action != "build" {
        let options = match options.is_empty() {
            true => env::var_os("RADDLE_RACE").unwrap_or_else(|| "1".into()),
            false => options.to_owned(),
        };
        // `run` starts the program where we are. Tests and benchmarks are started in their
        // package's folder.
        let options = match request.action {
            "run" => options,
            _ => with_absolute_paths(&options, &here)?,
        };
        cargo.env("RADDLE_RACE", options);
    }
    Ok(())
}

/// The options of the detector with their relative paths taken from `here`: they mean the folder in
/// which the user wrote them.
fn with_absolute_paths(options: &OsStr, here: &Path) -> Result<OsString> {
    /// Options that are paths, and the values that are none.
    const PATHS: [(&str, &[&str]); 2] =
        [("suppressions", &[""]), ("log_path", &["stderr", "stdout"])];
    let is_separator = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
    let mut absolute = Vec::new();
    // With its separator: the rest stays as it was.
    for word in options.as_encoded_bytes().split_inclusive(is_separator) {
        let is_relative_path = PATHS.iter().any(|(key, names)| {
            let Some(value) = word.strip_prefix(key.as_bytes()) else {
                return false;
            };
            let Some(value) = value.strip_prefix(b"=") else {
                return false;
            };
            let value = value.split(is_separator).next().unwrap_or_default();
            let is_name = names.iter().any(|name| value == name.as_bytes());
            !is_name && !value.starts_with(b"/")
        });
        if is_relative_path {
            let here = here.as_os_str().as_bytes();
            if here.iter().any(is_separator) {
                bail!(
                    "a relative path in the race options cannot be passed on to tests from {}, since options are separated by commas \
                     and spaces; give the path from the root, or through a link, without any",
                    here.escape_ascii()
                );
            }
            let (key, path) = word.split_at(
                word.iter()
                    .position(|byte| *byte == b'=')
                    .map_or(0, |at| at + 1),
            );
            absolute.extend([key, here, b"/", path].concat());
        } else {
            absolute.extend(word);
        }
    }
    Ok(OsString::from_vec(absolute))
}

/// cargo's own arguments: what follows a `--` belongs to the program.
struct OwnArgs(Vec<String>);

impl OwnArgs {
    fn new(args: &[OsString]) -> Self {
        let own = args.iter().take_while(|arg| *arg != "--");
        Self(own.map(|arg| arg.to_string_lossy().into_owned()).collect())
    }

    /// The values of each `option=value` and `option value`.
    fn values(&self, option: &str) -> Vec<String> {
        let mut values = Vec::new();
        let mut args = self.0.iter();
        while let Some(arg) = args.next() {
            match arg.strip_prefix(option) {
                Some("") => values.extend(args.next().cloned()),
                Some(rest) => values.extend(rest.strip_prefix('=').map(str::to_owned)),
                None => {}
            }
        }
        values
    }

    /// What cargo knows of the packages, with the features that are asked for.
    fn metadata(&self) -> Result<Metadata> {
        let mut metadata = MetadataCommand::new();
        if let Some(manifest) = self.values("--manifest-path").pop() {
            metadata.manifest_path(manifest);
        }
        let mut options = vec!["--filter-platform".into(), SUPPORTED.into()];
        let flags = [
            "--all-features",
            "--no-default-features",
            "--locked",
            "--offline",
            "--frozen",
        ];
        options.extend(
            self.0
                .iter()
                .filter(|arg| flags.contains(&arg.as_str()))
                .cloned(),
        );
        for option in ["--features", "-F", "--config"] {
            let values = self.values(option).into_iter();
            options.extend(values.flat_map(|value| [option.to_owned(), value]));
        }
        metadata.other_options(options);
        metadata
            .exec()
            .context("cannot ask cargo about the package")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_the_folder_where_they_were_written() {
        let absolute = |options: &str, here: &str| {
            with_absolute_paths(options.as_ref(), here.as_ref())
                .map(|options| options.into_string().unwrap())
        };
        for same in [
            "",
            "1",
            "halt_on_error=1 exitcode=3",
            "suppressions=/a/b,log_path=stderr",
            "log_path=stdout,,suppressions=",
        ] {
            assert_eq!(absolute(same, "/home/me").unwrap(), same);
        }
        assert_eq!(
            absolute("suppressions=a/b.txt,seed=1 log_path=../log", "/x").unwrap(),
            "suppressions=/x/a/b.txt,seed=1 log_path=/x/../log"
        );
        let error = absolute("suppressions=a", "/my files").unwrap_err();
        assert!(error.to_string().contains("/my files"), "{error}");
        assert_eq!(
            absolute("suppressions=/a", "/my files").unwrap(),
            "suppressions=/a"
        );
    }

    #[test]
    fn values_are_found_in_every_spelling() {
        let line = "--target a --target=b -p x --target-dir=d --features f -- --target c";
        let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let args = OwnArgs::new(&args);
        assert_eq!(args.values("--target"), ["a", "b"]);
        assert_eq!(args.values("--target-dir"), ["d"]);
        assert_eq!(args.values("--features"), ["f"]);
    }
}
