//! Guard pages, and page population, of many slots at once.
//!
//! Three ways to make a guard, tried in this order; the first refusal settles the way for good:
//! 1. `process_madvise(PIDFD_SELF, .., MADV_GUARD_INSTALL)`: one system call for a batch (6.15);
//! 2. `madvise(MADV_GUARD_INSTALL)`: one call each (6.13);
//! 3. `mprotect(PROT_NONE)`: splits a mapping each time, so it ends at `vm.max_map_count`.
//!
//! Emulators such as qemu answer the first two with success and do nothing. So the first guard of
//! these ways is tried out.
//!
//! # Invariants
//! 1. The way only moves down this list, so a guard that was refused is retried lower, never lost.
//! 2. While `IS_PROVEN` is false there is no guard but by `mprotect`.
//!
//! # Blocking
//! System calls only; takes no lock, allocates nothing but to read `vm.max_map_count` once.
//!
//! # Why not
//! A pidfd from `pidfd_open` would serve kernels 6.13 and 6.14 too, but a forked child would keep
//! one that names its parent, and would then guard pages of the *parent*. `PIDFD_SELF` cannot.

use super::{PAGE_BYTES, StackError};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};

/// The most pages of one call of [`install`] or [`populate`].
pub(super) const MAX_BATCH: usize = 64;

/// `MADV_GUARD_INSTALL`: any access to the range faults; the mapping is not split.
const MADV_GUARD_INSTALL: libc::c_int = 102;
/// `MADV_POPULATE_WRITE`: fault the range in for writing.
const MADV_POPULATE_WRITE: libc::c_int = 23;
/// `PIDFD_SELF_THREAD_GROUP`: names the calling process and costs no descriptor.
const PIDFD_SELF: libc::c_int = -10_001;

const BATCHED: u8 = 0;
const SINGLE: u8 = 1;
const MPROTECT: u8 = 2;

/// The way in use. A hint that settles: every thread finds the same by itself, so Relaxed.
static WAY: AtomicU8 = AtomicU8::new(if cfg!(raddle_no_guard_install) {
    MPROTECT
} else {
    BATCHED
});

/// A guard that the kernel said it had installed was seen to be one. A hint as above.
static IS_PROVEN: AtomicBool = AtomicBool::new(false);

/// Whether `process_madvise` populated the last batch. A hint as above.
static POPULATE_WAY: AtomicU8 = AtomicU8::new(BATCHED);

/// Guards made by `mprotect` so far: what [`StackError::Guards`] counts.
static MPROTECTED: AtomicUsize = AtomicUsize::new(0);

/// Guards made so far in any way. A statistic.
static GUARDS: AtomicUsize = AtomicUsize::new(0);

/// Mappings that `mprotect` guards leave to the rest of the process.
const SPARE_MAPPINGS: usize = 4096;

/// Makes every later guard by `mprotect`, as on kernels before 6.13.
pub(crate) fn force_mprotect_guards() {
    WAY.store(MPROTECT, Relaxed);
}

/// Whether guards cost mappings, of which a process has some 65,000.
pub(crate) fn guards_may_run_out() -> bool {
    WAY.load(Relaxed) == MPROTECT
}

/// Guards the pages at `pages` (at most [`MAX_BATCH`]), in order.
///
/// Returns how many of them, from the first, are guarded; an error only if none is.
pub(super) fn install(pages: &[usize]) -> Result<usize, StackError> {
    let done = install_some(pages)?;
    GUARDS.fetch_add(done, Relaxed);
    Ok(done)
}

/// Returns how many guard pages exist.
pub(super) fn guards() -> usize {
    GUARDS.load(Relaxed)
}

fn install_some(pages: &[usize]) -> Result<usize, StackError> {
    let mut done = 0;
    if WAY.load(Relaxed) == BATCHED {
        done = advise_batch(pages, MADV_GUARD_INSTALL);
        if done < pages.len() {
            // Not all kernels with guards take them in batches; see what a single call says.
            settle(SINGLE);
        }
        if done != 0 && !is_guard(pages[0]) {
            done = 0;
        }
    }
    while done < pages.len() {
        let Err(error) = install_one(pages[done]) else {
            done += 1;
            continue;
        };
        return if done == 0 { Err(error) } else { Ok(done) };
    }
    Ok(done)
}

/// Moves down to `way`, never up (invariant 1).
fn settle(way: u8) {
    WAY.fetch_max(way, Relaxed);
}

fn install_one(page: usize) -> Result<(), StackError> {
    if WAY.load(Relaxed) != MPROTECT {
        match advise(page, PAGE_BYTES, MADV_GUARD_INSTALL) {
            Ok(()) if is_guard(page) => return Ok(()),
            Ok(()) => {}
            Err(libc::EINVAL) => settle(MPROTECT), // the kernel knows no guards
            Err(errno) => return Err(StackError::Guard { errno }),
        }
    }
    protect_one(page)
}

/// Whether the kernel installed the guard that it said it had. If not, the way is `mprotect`.
fn is_guard(page: usize) -> bool {
    if !IS_PROVEN.load(Relaxed) {
        if is_readable(page) {
            settle(MPROTECT);
            return false;
        }
        IS_PROVEN.store(true, Relaxed);
    }
    true
}

/// Whether the kernel can read a page of zeros.
fn is_readable(page: usize) -> bool {
    // Blocks no signals: the page is an empty set of them. Where it cannot be read, the call fails.
    // SAFETY: the kernel checks the address.
    let changed = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            page,
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
    changed == 0
}

/// Guards one page by `mprotect`. Each guard is two mappings: itself and the stack above it.
fn protect_one(page: usize) -> Result<(), StackError> {
    let max_map_count = max_map_count();
    let guards = MPROTECTED.fetch_add(1, Relaxed);
    let refused = StackError::Guards {
        guards,
        max_map_count,
    };
    if guards >= max_map_count.saturating_sub(SPARE_MAPPINGS) / 2 {
        MPROTECTED.fetch_sub(1, Relaxed);
        return Err(refused);
    }
    // SAFETY: the page is the lowest of a slot that nobody uses yet.
    if unsafe { libc::mprotect(page as *mut libc::c_void, PAGE_BYTES, libc::PROT_NONE) } == 0 {
        return Ok(());
    }
    MPROTECTED.fetch_sub(1, Relaxed);
    match errno() {
        libc::ENOMEM => Err(refused),
        errno => Err(StackError::Guard { errno }),
    }
}

/// Faults the pages at `pages` in (at most [`MAX_BATCH`]), if that takes one system call.
///
/// It only saves later faults, so a refusal is no error.
pub(super) fn populate(pages: &[usize]) {
    if POPULATE_WAY.load(Relaxed) != BATCHED {
        return;
    }
    if advise_batch(pages, MADV_POPULATE_WRITE) == 0 {
        POPULATE_WAY.store(SINGLE, Relaxed);
    }
}

/// Gives the pages of `[start, start + bytes)` back; the next read of them finds zeros.
pub(super) fn discard(start: usize, bytes: usize) -> Result<(), i32> {
    advise(start, bytes, libc::MADV_DONTNEED)
}

/// Applies `advice` to one page each, in one system call. Returns how many pages took it.
fn advise_batch(pages: &[usize], advice: libc::c_int) -> usize {
    let mut ranges = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }; MAX_BATCH];
    for (range, &page) in ranges.iter_mut().zip(pages) {
        range.iov_base = page as *mut libc::c_void;
        range.iov_len = PAGE_BYTES;
    }
    // SAFETY: the ranges are pages of slots that nobody uses yet, and the array outlives the call.
    let advised = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            PIDFD_SELF,
            ranges.as_ptr(),
            pages.len(),
            advice,
            0,
        )
    };
    usize::try_from(advised).map_or(0, |bytes| bytes / PAGE_BYTES)
}

fn advise(start: usize, bytes: usize, advice: libc::c_int) -> Result<(), i32> {
    // SAFETY: the range lies in a slab of stacks, in a slot that the caller owns.
    match unsafe { libc::madvise(start as *mut libc::c_void, bytes, advice) } {
        0 => Ok(()),
        _ => Err(errno()),
    }
}

/// Returns the error number of the last system call of this thread.
pub(super) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Returns `vm.max_map_count`, or the kernel's default where it cannot be read.
fn max_map_count() -> usize {
    // Two threads may read it at once: a `OnceLock` is what a child of `fork` could wait at for ever.
    static LIMIT: AtomicUsize = AtomicUsize::new(0);
    let known = LIMIT.load(Relaxed);
    if known != 0 {
        return known;
    }
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .filter(|&limit| limit != 0)
        .unwrap_or(65_530);
    LIMIT.store(limit, Relaxed);
    limit
}
