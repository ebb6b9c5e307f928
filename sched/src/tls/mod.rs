//! Thread control blocks that follow the goroutine.

mod block;
mod glibc;
mod husk;
mod image;
mod keys;
mod life;
mod probe;
mod switch;

pub(crate) use block::Block;
pub(crate) use life::{
    BlockLayout, create, describe_stack, destroy, find, layout, reset, run_dtors,
};
pub use switch::TlsMode;
pub(crate) use switch::{enter, leave, mode, thread_block};

use crate::arch;
use glibc::Glibc;
use image::Image;
use probe::Template;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static FORCE_THREAD: AtomicBool = AtomicBool::new(cfg!(raddle_thread_tls));
static WHOLE_RESERVE: AtomicBool = AtomicBool::new(false);
static SETUP: OnceLock<Result<Setup, String>> = OnceLock::new();

/// What [`init`] found.
#[derive(Debug)]
struct Setup {
    glibc: Glibc,
    template: Template,
    /// Offset of errno, from the thread pointer.
    errno: isize,
}

/// Makes [`init`] choose [`TlsMode::Thread`]. No effect after it.
pub(crate) fn force_thread_mode() {
    FORCE_THREAD.store(true, Relaxed);
}

/// Makes blocks keep glibc's whole reserve for libraries loaded later, at the cost of one more
/// touched page per goroutine. No effect on blocks already made.
pub(crate) fn keep_static_reserve() {
    WHOLE_RESERVE.store(true, Relaxed);
}

/// Finds the mode. The first call decides; it starts and joins a thread.
pub(crate) fn init() -> TlsMode {
    let setup = SETUP.get_or_init(set_up);
    if let Ok(setup) = setup
        && mode() == TlsMode::Thread
    {
        let by_instruction = arch::can_set_thread_pointer() && !cfg!(raddle_no_fsbase);
        let mode = if by_instruction {
            TlsMode::FsBase
        } else {
            TlsMode::ArchPrctl
        };
        switch::set_mode(mode, setup.glibc.tid);
    }
    mode()
}

fn set_up() -> Result<Setup, String> {
    if FORCE_THREAD.load(Relaxed) {
        return Err("thread-bound thread-locals were asked for".into());
    }
    let glibc = Glibc::find().map_err(|missing| missing.to_string())?;
    let libc = image(&glibc)
        .libc()
        .ok_or("glibc's own thread-locals were not found")?;
    let template = probe::run(&glibc, libc).map_err(|missing| missing.to_string())?;
    // SAFETY: it returns the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() } as isize;
    Ok(Setup {
        glibc,
        template,
        errno: errno - arch::thread_pointer() as isize,
    })
}

/// Returns why the mode is [`TlsMode::Thread`], if it is.
pub(crate) fn mode_reason() -> Option<&'static str> {
    match SETUP.get() {
        Some(Ok(_)) => None,
        Some(Err(reason)) => Some(reason),
        None => Some("the runtime has not started"),
    }
}

fn setup() -> Option<&'static Setup> {
    SETUP.get()?.as_ref().ok()
}

fn image(glibc: &Glibc) -> &'static Image {
    image::current(glibc, WHOLE_RESERVE.load(Relaxed))
}

#[cfg(test)]
mod tests;
