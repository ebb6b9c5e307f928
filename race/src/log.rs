//! Where reports go: a standard stream, or a file of this process that is made with the first report.
//!
//! A piece is written by one `write(2)`, so that what other processes and threads write to the same stream does not come to lie
//! inside a report.
//!
//! # Invariants
//! 1. In a file of ours the log is complete after each piece, also when the process is killed next: behind the piece lies the
//!    form's *tail*, and the next piece takes its place. To a stream the tail goes at the end.
//! 2. All but [`open`] is called under the report lock.

use std::ffi::CString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::*};

use crate::mem::write_all;

static PATH: OnceLock<CString> = OnceLock::new();
/// Negative: the file was not made yet.
static FD: AtomicI32 = AtomicI32::new(2);
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// Notes where reports go: `stderr`, `stdout`, or a path to which the process's number is added.
pub(crate) fn open(log_path: &str) {
    match log_path {
        "stderr" => {}
        "stdout" => FD.store(1, Relaxed),
        path => {
            if let Ok(path) = CString::new(format!("{path}.{}", std::process::id())) {
                let _ = PATH.set(path);
                FD.store(-1, Relaxed);
            }
        }
    }
}

/// The descriptor; makes the file if need be.
fn fd() -> i32 {
    let fd = FD.load(Relaxed);
    let (true, Some(path)) = (fd < 0, PATH.get()) else {
        return fd;
    };
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC | libc::O_CLOEXEC;
    // SAFETY: a valid C string.
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o644) };
    if fd < 0 {
        write_all(2, b"raddle: race: cannot open the file of option `log_path`; reports go to standard error\n");
    }
    IS_OURS.store(fd >= 0, Relaxed);
    FD.store(if fd < 0 { 2 } else { fd }, Relaxed);
    FD.load(Relaxed)
}

/// Adds a piece to the log, and `tail` behind it where that can be taken back.
pub(crate) fn put(piece: &str, tail: &str) {
    let fd = fd();
    if tail.is_empty() || !IS_OURS.load(Relaxed) {
        return write_all(fd, piece.as_bytes());
    }
    write_all(fd, [piece, tail].concat().as_bytes());
    // SAFETY: no memory is touched.
    unsafe { libc::lseek(fd, -(tail.len() as libc::off_t), libc::SEEK_CUR) };
}

/// Adds the end of the log.
pub(crate) fn end(piece: &str) {
    write_all(fd(), piece.as_bytes());
}

/// Whether a person reads the log as it is written.
pub(crate) fn is_terminal() -> bool {
    // SAFETY: no memory is touched.
    unsafe { libc::isatty(fd()) == 1 }
}
