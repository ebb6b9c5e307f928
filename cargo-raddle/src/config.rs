//! Owns what is read of cargo's own configuration: `cargo config` is not for stable toolchains.
//!
//! Only the two keys that `cargo raddle` overrides by what it passes to cargo: without this, what the user configured would be lost.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// The settings that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// `build.rustc-wrapper`.
    pub(crate) rustc_wrapper: Option<PathBuf>,
    /// `build.target`.
    pub(crate) targets: Vec<String>,
}

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    build: Build,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Build {
    rustc_wrapper: Option<String>,
    target: Option<OneOrMore>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Config {
    /// The configuration in force in the directory `dir`: the environment, then the files from there upwards, then cargo's home.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let mut config = Self::default();
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        // An empty variable means no wrapper.
        let no_wrapper = env::var_os("RUSTC_WRAPPER").is_some_and(|wrapper| wrapper.is_empty());
        config.rustc_wrapper = set("RUSTC_WRAPPER")
            .or_else(|| set("CARGO_BUILD_RUSTC_WRAPPER"))
            .map(PathBuf::from);
        if let Some(target) = set("CARGO_BUILD_TARGET") {
            config.targets = vec![target.to_string_lossy().into_owned()];
        }
        let home = set("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(env::home_dir()?.join(".cargo")));
        let folders = dir.ancestors().map(|dir| dir.join(".cargo")).chain(home);
        for folder in folders {
            for name in ["config", "config.toml"] {
                let file = folder.join(name);
                if file.is_file() {
                    let text = fs::read_to_string(&file)
                        .with_context(|| format!("cannot read {}", file.display()))?;
                    config
                        .add(&text, &folder)
                        .with_context(|| format!("cannot understand {}", file.display()))?;
                    break;
                }
            }
        }
        if no_wrapper {
            config.rustc_wrapper = None;
        }
        Ok(config)
    }

    /// Takes over what is not set yet from the text of a file in `folder`.
    fn add(&mut self, text: &str, folder: &Path) -> Result<()> {
        let build = toml::from_str::<File>(text)?.build;
        if self.rustc_wrapper.is_none() {
            // A path is relative to the folder above; a bare name is looked up in PATH.
            self.rustc_wrapper = build
                .rustc_wrapper
                .map(|wrapper| match wrapper.contains('/') {
                    true => folder.parent().unwrap_or(folder).join(wrapper),
                    false => wrapper.into(),
                });
        }
        if self.targets.is_empty() {
            self.targets = match build.target {
                None => Vec::new(),
                Some(OneOrMore::One(target)) => vec![target],
                Some(OneOrMore::More(targets)) => targets,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearer_wins() {
        let mut config = Config::default();
        let near = "[build]\nrustc-wrapper = 'tools/cache'\n[net]\nretry = 2";
        let far = "[build]\nrustc-wrapper = 'sccache'\ntarget = ['a', 'b']";
        config.add(near, Path::new("/home/me/work/.cargo")).unwrap();
        config.add(far, Path::new("/home/me/.cargo")).unwrap();
        assert_eq!(
            config.rustc_wrapper.as_deref(),
            Some(Path::new("/home/me/work/tools/cache"))
        );
        assert_eq!(config.targets, ["a", "b"]);
    }

    #[test]
    fn a_bare_name_stays_one() {
        let mut config = Config::default();
        let text = "[build]\nrustc-wrapper = 'sccache'\ntarget = 'a'";
        config.add(text, Path::new("/home/me/.cargo")).unwrap();
        assert_eq!(config.rustc_wrapper.as_deref(), Some(Path::new("sccache")));
        assert_eq!(config.targets, ["a"]);
        assert!(config.add("[build", Path::new("/")).is_err());
    }
}
