//! Owns one run of `cargo raddle`: it prepares what is missing and becomes cargo.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};
use raddle_race_options::{Options, asked, asks_for_help, help, pairs, quoted};

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
    if let Some(given) = &request.race {
        // Before anything is built: a mistake is told at once.
        let Some(options) = race_options(&request, given)? else {
            print!("{}", help());
            return Ok(ExitCode::SUCCESS);
        };
        prepare(&mut cargo, &request, &options)?;
    }
    cargo.args(&request.cargo_args);
    exec(cargo)
}

/// Makes `cargo` build for race mode.
fn prepare(cargo: &mut Command, request: &Request, options: &str) -> Result<()> {
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
        cargo.env("RADDLE_RACE", options);
    }
    Ok(())
}

/// The options that the program is to have, as `RADDLE_RACE`: those on the command line, else those of the environment. None: they are to
/// be explained.
fn race_options(request: &Request, given: &OsStr) -> Result<Option<String>> {
    let own = match request.action {
        // It starts no program.
        "build" => None,
        _ => env::var_os("RADDLE_RACE").filter(|value| !value.is_empty()),
    };
    let options = match given.is_empty() {
        true => own.unwrap_or_else(|| "1".into()),
        false => given.to_owned(),
    };
    let Some(options) = options.to_str() else {
        bail!("the race options must be UTF-8, and {options:?} are not");
    };
    if asks_for_help(options) {
        return Ok(None);
    }
    Options::parse(asked(options).unwrap_or_default())?;
    let options = match request.action {
        // Tests and benchmarks are started in their package's folder.
        "test" | "bench" => {
            let here = env::current_dir().context("cannot tell the current directory")?;
            with_absolute_paths(options, &here)?
        }
        _ => options.to_owned(),
    };
    Ok(Some(options))
}

/// The options of the detector with their relative paths taken from `here`: they mean the folder in
/// which the user wrote them.
fn with_absolute_paths(options: &str, here: &Path) -> Result<String> {
    /// Options that are paths, and the values that are none.
    const PATHS: [(&str, &[&str]); 2] =
        [("suppressions", &[""]), ("log_path", &["stderr", "stdout"])];
    if asked(options).is_none_or(str::is_empty) {
        return Ok(options.to_owned());
    }
    let absolute = |(key, value): (String, String)| {
        let names = PATHS.iter().find(|(path, _)| *path == key);
        let value = match names {
            Some((_, names)) if !names.contains(&value.as_str()) => {
                let path = here.join(value);
                let path = path.to_str().with_context(|| {
                    format!(
                        "race option `{key}`: the path of the current folder, {}, is not UTF-8; give a whole path that is",
                        here.display()
                    )
                })?;
                path.to_owned()
            }
            _ => value,
        };
        Ok(format!("{key}={}", quoted(&value)))
    };
    let words: Vec<_> = pairs(options)?
        .into_iter()
        .map(absolute)
        .collect::<Result<_>>()?;
    Ok(words.join(","))
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
        let absolute =
            |options: &str, here: &str| with_absolute_paths(options, here.as_ref()).unwrap();
        for same in [
            "1",
            "off",
            "halt_on_error=1,exitcode=3",
            "suppressions=/a/b,log_path=stderr",
            "log_path=stdout,suppressions=",
        ] {
            assert_eq!(absolute(same, "/home/me"), same);
        }
        assert_eq!(
            absolute("suppressions=a/b.txt,seed=1 log_path=../log", "/x"),
            "suppressions=/x/a/b.txt,seed=1,log_path=/x/../log"
        );
        assert_eq!(
            absolute("suppressions='a b'", "/my files"),
            "suppressions=\"/my files/a b\""
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
