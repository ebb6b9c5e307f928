//! Where reports go: a standard stream, or a file of this process.
//!
//! A piece is written by one `write(2)`, so that what other processes and threads write to the same stream does not come to lie
//! inside a report.
//!
//! # Invariants
//! 1. In a file of ours the log is complete after each piece, also when the process is killed next: behind the piece lies the
//!    form's *tail*, and the next piece takes its place. To a stream the tail goes at the end. A form with a tail has its file,
//!    without a piece, from the start on; one without has it from the first piece on.
//! 2. No piece is lost to a destination that takes no more: the one that it did not take whole, and all later ones, go to
//!    standard error, as a log of their own. A file is left as it was before that piece.
//! 3. All but [`open`] is called under the report lock.

use std::ffi::CString;
use std::io;
use std::path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::*};

use crate::Options;
use crate::mem::write_all;

/// What stands around the pieces of a log.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) head: &'static str,
    pub(crate) between: &'static str,
    pub(crate) tail: &'static str,
}

/// Pieces that follow each other.
pub(crate) const LINES: Form = Form {
    head: "",
    between: "",
    tail: "",
};

static FORM: OnceLock<Form> = OnceLock::new();
static PATH: OnceLock<CString> = OnceLock::new();
/// Negative: the file was not made yet.
static FD: AtomicI32 = AtomicI32::new(2);
static IS_OURS: AtomicBool = AtomicBool::new(false);
/// The head and a piece are there.
static IS_BEGUN: AtomicBool = AtomicBool::new(false);

/// Notes where reports go, and in what form.
pub(crate) fn open(options: &Options, form: Form) {
    let form = FORM.get_or_init(|| form);
    if options.log_path == "stdout" {
        FD.store(1, Relaxed);
    }
    if let Some(path) = options.log_file() {
        // The program may change its folder before the first report.
        let path = path::absolute(&path).map_or(path, |path| path.to_string_lossy().into_owned());
        if let Ok(path) = CString::new(path) {
            let _ = PATH.set(path);
            FD.store(-1, Relaxed);
        }
        if !form.tail.is_empty()
            && let Err(error) = begin(form)
        {
            fall_back(&error);
        }
    }
}

/// Writes the log without a piece; the first piece takes its place.
fn begin(form: &Form) -> io::Result<()> {
    let fd = fd()?;
    let written = write_all(fd, [form.head, form.tail].concat().as_bytes());
    if written.is_err() {
        cut_off(fd, 0);
    }
    seek(fd, 0, libc::SEEK_SET);
    written
}

/// The descriptor; makes the file if need be.
fn fd() -> io::Result<i32> {
    let fd = FD.load(Relaxed);
    let (true, Some(path)) = (fd < 0, PATH.get()) else {
        return Ok(fd);
    };
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC | libc::O_CLOEXEC;
    // SAFETY: a valid C string.
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o644) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    IS_OURS.store(true, Relaxed);
    FD.store(fd, Relaxed);
    Ok(fd)
}

/// Where the file is afterwards; negative for what has no places.
fn seek(fd: i32, to: i64, whence: i32) -> i64 {
    // SAFETY: no memory is touched.
    unsafe { libc::lseek(fd, to, whence) }
}

fn form() -> &'static Form {
    FORM.get().unwrap_or(&LINES)
}

/// Adds a piece to the log.
pub(crate) fn put(piece: &str) {
    if let Err(error) = try_put(piece) {
        fall_back(&error);
        // Nobody is left to tell.
        let _ = try_put(piece);
    }
}

fn try_put(piece: &str) -> io::Result<()> {
    let (fd, form) = (fd()?, form());
    let is_begun = IS_BEGUN.load(Relaxed);
    let front = if is_begun { form.between } else { form.head };
    if IS_OURS.load(Relaxed) {
        let start = seek(fd, 0, libc::SEEK_CUR);
        let written = write_all(fd, [front, piece, form.tail].concat().as_bytes());
        if written.is_err() {
            take_back(fd, start, if is_begun { "" } else { form.head });
        } else {
            seek(fd, -(form.tail.len() as i64), libc::SEEK_CUR);
        }
        written?;
    } else {
        write_all(fd, [front, piece].concat().as_bytes())?;
    }
    IS_BEGUN.store(true, Relaxed);
    Ok(())
}

/// Makes the file what it was before a piece that began at `start`, which was written in part.
fn take_back(fd: i32, start: i64, head: &str) {
    let tail = form().tail;
    // What is cut off makes room for the tail, where the disk is full.
    cut_off(fd, start);
    if !tail.is_empty() {
        // Nothing is lost but the file's form.
        let _ = write_all(fd, [head, tail].concat().as_bytes());
    }
}

/// Ends the file at `end`, if it has places.
fn cut_off(fd: i32, end: i64) {
    // SAFETY: no memory is touched.
    let cut = unsafe { libc::ftruncate(fd, end) };
    if cut == 0 {
        seek(fd, end, libc::SEEK_SET);
    }
}

/// From here on the log goes to standard error.
fn fall_back(error: &io::Error) {
    let name = match (PATH.get(), FD.load(Relaxed)) {
        (Some(path), _) => path.to_string_lossy(),
        (None, 1) => "standard output".into(),
        _ => return,
    };
    FD.store(2, Relaxed);
    IS_OURS.store(false, Relaxed);
    IS_BEGUN.store(false, Relaxed);
    let note = format!(
        "raddle: race: cannot write the log to {name}: {error}; this report and those that follow go to standard error\n"
    );
    let _ = write_all(2, note.as_bytes());
}

/// Adds the end of the log, and `last` before it.
pub(crate) fn end(last: &str) {
    let form = form();
    let around = match IS_OURS.load(Relaxed) {
        // It is there (invariant 1).
        true => ["", last, ""],
        false if IS_BEGUN.load(Relaxed) => ["", last, form.tail],
        false => [form.head, last, form.tail],
    };
    let text = around.concat();
    if text.is_empty() {
        return;
    }
    let written = fd().and_then(|fd| write_all(fd, text.as_bytes()));
    if let Err(error) = written {
        fall_back(&error);
        let _ = write_all(2, last.as_bytes());
    }
}

/// Whether a person reads the log as it is written.
pub(crate) fn is_terminal() -> bool {
    // SAFETY: no memory is touched; a file that was not made yet is none.
    unsafe { libc::isatty(FD.load(Relaxed)) == 1 }
}
