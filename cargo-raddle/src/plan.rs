//! Owns what one `cargo raddle` tells the compiler wrappers that cargo starts for it.
//!
//! A file beside the build's output, named after its content, so that builds at the same time do not disturb each other; its path is in
//! the environment.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cache;
use crate::programs::PlainPrograms;

/// The variable that holds the path, and makes this program act as a compiler wrapper.
pub(crate) const VARIABLE: &str = "CARGO_RADDLE_PLAN";

/// How to compile.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Another id means to compile everything again.
    pub(crate) id: String,
    /// The instrumented sysroot, if there is one.
    pub(crate) sysroot: Option<PathBuf>,
    /// The user's own compiler wrapper.
    pub(crate) rustc_wrapper: Option<PathBuf>,
    /// The real rustdoc.
    pub(crate) rustdoc: PathBuf,
    /// The programs to which the runtime is linked.
    pub(crate) plain: PlainPrograms,
}

impl Plan {
    /// The plan in the environment, if there is one.
    pub(crate) fn from_env() -> Result<Option<Self>> {
        let Some(file) = env::var_os(VARIABLE) else {
            return Ok(None);
        };
        let read = || Ok(serde_json::from_slice(&fs::read(&file)?)?);
        let plan = read().map_err(|error: anyhow::Error| {
            error.context(format!("cannot read {} ({VARIABLE})", file.display()))
        })?;
        Ok(Some(plan))
    }

    /// Writes the plan to a file in `dir` and returns its path.
    pub(crate) fn write(&self, dir: &Path) -> Result<PathBuf> {
        let text = serde_json::to_string_pretty(self).context("cannot write the plan")?;
        let file = dir.join(format!("raddle-plan-{}.json", cache::id(&[&text])));
        if !file.exists() {
            let new = file.with_extension(std::process::id().to_string());
            fs::create_dir_all(dir)
                .and_then(|()| fs::write(&new, text))
                .and_then(|()| fs::rename(&new, &file))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(file)
    }
}
