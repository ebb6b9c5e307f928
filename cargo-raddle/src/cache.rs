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
use std::io;
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
    if let Err(error) = make(&half_made) {
        let error = explain(error, &half_made);
        // Where there is no room, it is not to be taken by what is of no use.
        let _ = fs::remove_dir_all(&half_made);
        return Err(error);
    }
    fs::rename(&half_made, dir)
        .with_context(|| format!("cannot rename {} to {}", half_made.display(), dir.display()))
}

/// Says that the disk of `dir` is full, if it is. A compiler or linker that met that may have said so far above, or have died of it.
pub(crate) fn explain(error: anyhow::Error, dir: &Path) -> anyhow::Error {
    let probe = dir.join(format!("raddle-probe-{}", std::process::id()));
    let has_room = has_room(&probe);
    let _ = fs::remove_file(&probe);
    match has_room {
        true => error,
        false => error.context(format!(
            "no space is left on the disk of {}, or hardly any; make room, or set RADDLE_CACHE_DIR to a folder on another disk",
            dir.display()
        )),
    }
}

/// Whether the file takes so much that it is not for want of space that something failed. Not so only if the system says so.
fn has_room(probe: &Path) -> bool {
    const ROOM: usize = 32 << 20;
    let written = fs::write(probe, vec![0; ROOM]);
    !written.is_err_and(|error| is_about_space(&error))
}

/// Is the disk full, or the user's share of it?
pub(crate) fn is_about_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_full_disk_is_told_from_another_reason() {
        assert!(!has_room(Path::new("/dev/full")));
        assert!(has_room(Path::new("/dev/null")));
        assert!(has_room(Path::new("/no/such/folder/file")));
        let error = || anyhow::anyhow!("the linker was killed");
        let told = explain(error(), &env::temp_dir());
        assert_eq!(format!("{told:#}"), "the linker was killed");
    }

    #[test]
    fn what_was_made_in_vain_does_not_stay() {
        let place = env::temp_dir().join(format!("raddle-vain-test-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let failed = make_once(&place.join("thing"), |half| {
            fs::write(half.join("file"), "large")?;
            anyhow::bail!("no room")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no room");
        let left: Vec<_> = fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["thing.lock"]);
        fs::remove_dir_all(place).unwrap();
    }

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
