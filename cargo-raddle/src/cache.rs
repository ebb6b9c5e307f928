//! Owns the cache directory: what is made once for a toolchain and used by every later build.
//!
//! # Invariants
//! 1. A directory that [`make_once`] returned is complete and is never changed again: it was made beside its place and renamed
//!    into it.
//! 2. Of several processes that want the same directory, one makes it; the others wait for its lock, then find it made. A
//!    process that dies leaves an unlocked lock and a half-made directory under another name, which the next one removes.
//!
//! # Blocking
//! Waits for another process that makes the same directory: tens of seconds at most.

use std::env;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The directory for everything that is made once: `RADDLE_CACHE_DIR`, else `raddle` in the user's cache directory.
pub(crate) fn root() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let dir = if let Some(dir) = set("RADDLE_CACHE_DIR") {
        PathBuf::from(dir)
    } else if let Some(dir) = set("XDG_CACHE_HOME") {
        Path::new(&dir).join("raddle")
    } else {
        let home = env::home_dir()
            .context("no cache directory: set RADDLE_CACHE_DIR or HOME to a directory")?;
        home.join(".cache/raddle")
    };
    // Relative paths would mean another place in each crate that cargo compiles.
    let dir = std::path::absolute(&dir)
        .with_context(|| format!("cannot use {} as cache directory", dir.display()))?;
    fs::create_dir_all(&dir).with_context(|| {
        format!(
            "cannot create the cache directory {}; set RADDLE_CACHE_DIR to one that can be written",
            dir.display()
        )
    })?;
    Ok(dir)
}

/// A short name for `what`, the same in every run of this program.
pub(crate) fn id(what: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), what).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Takes the lock file `path`, waiting for whoever holds it. Dropping the file gives it back.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path)
        .and_then(|file| file.lock().map(|()| file))
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Has `make` fill the directory `dir`, unless that was done before.
pub(crate) fn make_once(dir: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let _lock = lock(&dir.with_extension("lock"))?;
    if dir.exists() {
        return Ok(());
    }
    let half_made = dir.with_extension("new");
    if half_made.exists() {
        fs::remove_dir_all(&half_made)
            .with_context(|| format!("cannot remove {}", half_made.display()))?;
    }
    fs::create_dir(&half_made).with_context(|| format!("cannot create {}", half_made.display()))?;
    make(&half_made)?;
    fs::rename(&half_made, dir)
        .with_context(|| format!("cannot rename {} to {}", half_made.display(), dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_directory_is_made_once_and_whole() {
        let place = env::temp_dir().join(format!("raddle-cache-test-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let dir = place.join("thing");
        fs::create_dir_all(dir.with_extension("new")).unwrap(); // left by one that died
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    make_once(&dir, |half| {
                        made.fetch_add(1, Ordering::Relaxed);
                        fs::write(half.join("file"), "whole").map_err(Into::into)
                    })
                    .unwrap();
                    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "whole");
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
        fs::remove_dir_all(place).unwrap();
    }
}
