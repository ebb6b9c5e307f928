//! Owns one run of `cargo raddle`: it prepares what is missing and becomes cargo.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
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
    let mut config =
        Config::load(&env::current_dir().context("cannot tell the current directory")?)?;
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
        if !options.is_empty() {
            cargo.env("RADDLE_RACE", options);
        } else if env::var_os("RADDLE_RACE").is_none() {
            cargo.env("RADDLE_RACE", "1");
        }
    }
    Ok(())
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
    fn values_are_found_in_every_spelling() {
        let line = "--target a --target=b -p x --target-dir=d --features f -- --target c";
        let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let args = OwnArgs::new(&args);
        assert_eq!(args.values("--target"), ["a", "b"]);
        assert_eq!(args.values("--target-dir"), ["d"]);
        assert_eq!(args.values("--features"), ["f"]);
    }
}
