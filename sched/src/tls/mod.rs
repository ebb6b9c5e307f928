//! Thread control blocks that follow the goroutine: to Rust, to std and to glibc a goroutine is a
//! thread, whichever OS thread runs it.
//!
//! In reading order: `switch` (the hot part), `block` (a block as memory), `life` (make, reset,
//! destroy), `view` (for the collector), `image` (static storage of the loaded modules), `glibc` and `probe` (what the
//! installed glibc wants), `keys` (destructors), `husk` (what outlives a destroyed block),
//! `setxid`.
//!
//! # Layout
//! Downwards from the address given to [`create`]: two words of ours, `struct pthread` (2,368 bytes
//! on glibc 2.36; the thread pointer is its start), the static storage of the modules loaded when
//! the block is made (320 bytes in a small program), then the stack: a parked goroutine has 1,390
//! bytes left for frames in the slot's top page. Static storage may have any size and alignment.
//! [`block_bytes`] is the most that a block takes, from which `bind` says how large a slot has to
//! be.
//!
//! # What hangs on the block
//! Right, by the tests beside this file:
//! - thread-locals of every module, their addresses and destructors; `pthread_setspecific` values
//!   and theirs; errno; std's panic count and `thread::current()`;
//! - the self pointers, stack guard and pointer guard; `multiple_threads`; the head of the robust
//!   list; the links that fork follows; the resolver's state; locale and character tables;
//! - `sched_getcpu`: the block's rseq area is marked refused, so glibc asks the kernel;
//! - tid is that of the running OS thread: `pthread_kill(pthread_self())`, `raise`, PI mutexes;
//! - `pthread_getattr_np(pthread_self())` gives the goroutine's stack, if [`describe_stack`] did;
//! - `setuid` and its kin, which signal every OS thread: `setxid` says how.
//!
//! # Limits
//! - pthread mutexes of type recursive, error-checking, robust or PI, and pthread rwlocks, know their
//!   owner by tid. Hold none over a switch: two goroutines on one OS thread look like one owner.
//! - `pthread_exit`, and `pthread_cancel` of a goroutine, are not possible; the kernel does not know
//!   a block's robust list, so robust mutexes are not released when the OS thread dies.
//! - A library with *static* thread-locals (initial-exec) that is opened later is right in blocks
//!   made after that. In older ones, which later goroutines may get, its storage would lie in the
//!   stack: open it before the runtime starts. Other libraries are right at any time.
//! - malloc's cache of a destroyed block is handed on by `husk`; the few bytes behind its
//!   `strerror` and `strsignal` texts, and its count in malloc's arena, are lost.
//! - After [`run_dtors`] `thread::current()` panics, as at the end of a thread, until [`reset`].
//! - A thread's shadow stack (CET) is not switched: with one the scheduler refuses to start. glibc
//!   has them off unless asked.
//!
//! # Measured
//! `enter` and `leave`: 13 ns a pair, nearly all of it the two `wrfsbase` (by `arch_prctl` 215 ns);
//! `create` 150 ns (1.5 us on cold
//! memory, and 310 bytes of malloc for the dtv), `reset` 17 ns, `run_dtors` 50 ns with nothing to
//! run, `destroy` 110 ns. A million coroutines parked below a `catch_unwind`: one page each.
//!
//! # Why not
//! - The rarely used end of `struct pthread` in a page of its own: 1,700 bytes more for frames, but
//!   marking its rseq area would touch that page, and unmarked it reads as registered on CPU 0: code
//!   that uses rseq would rely on restarts that the kernel never makes.
//! - glibc's whole static reserve below the block: 1,680 bytes of each top page.
//! - A dtv of our own: glibc resizes it with `realloc`.
//!
//! # References
//! glibc `nptl/allocatestack.c`, `nptl/pthread_create.c`, `elf/dl-tls.c`, `nptl/nptl_setxid.c`;
//! rust-lang/rust#33368, unsafe-code-guidelines#602.

mod block;
mod glibc;
mod husk;
mod image;
mod keys;
mod life;
mod probe;
mod setxid;
mod switch;
mod view;

pub(crate) use block::Block;
pub use image::ask_linker;
pub(crate) use life::{block_bytes, create, describe_stack, destroy, find, reset, run_dtors};
pub use switch::TlsMode;
pub(crate) use switch::{come_back, enter, leave, leave_for_own, mode, thread_block};
pub(crate) use view::{Layout, at_top, layout, own};

use crate::arch;
use crate::sys::Lock;
use glibc::Glibc;
use image::Image;
use probe::Template;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

static FORCE_THREAD: AtomicBool = AtomicBool::new(cfg!(raddle_thread_tls));
static SETUP: OnceLock<Result<Setup, String>> = OnceLock::new();
/// What every thread of the process has for static thread-locals, in bytes; 0 before [`init`].
static STATIC_BYTES: AtomicUsize = AtomicUsize::new(0);

/// What [`init`] found.
#[derive(Debug)]
struct Setup {
    glibc: Glibc,
    template: Template,
    /// Offset of errno, from the thread pointer.
    errno: isize,
}

/// Makes [`init`] choose [`TlsMode::Thread`], in which safe code is unsound. No effect after it.
pub(crate) fn force_thread_mode() {
    FORCE_THREAD.store(true, Relaxed);
}

/// Finds the mode. The first call decides; it starts and joins a thread.
///
/// # Errors
/// Why thread-locals cannot follow the goroutine here. [`TlsMode::Thread`] is no way out: it is
/// chosen if it was asked for, and never else.
pub(crate) fn init() -> Result<TlsMode, &'static str> {
    if let Ok((bytes, align)) = glibc::static_bytes() {
        STATIC_BYTES.store(bytes + align, Relaxed);
    }
    if FORCE_THREAD.load(Relaxed) && SETUP.get().is_none() {
        return Ok(TlsMode::Thread);
    }
    let setup = SETUP.get_or_init(set_up).as_ref().map_err(String::as_str)?;
    if mode() == TlsMode::Thread {
        let mode = if by_instruction() {
            TlsMode::FsBase
        } else {
            TlsMode::ArchPrctl
        };
        switch::set_mode(mode, setup.glibc.tid, setup.glibc.owner());
    }
    Ok(mode())
}

fn by_instruction() -> bool {
    arch::can_set_thread_pointer() && !cfg!(raddle_no_fsbase)
}

fn set_up() -> Result<Setup, String> {
    if !by_instruction() {
        try_by_kernel()?;
    }
    let glibc = Glibc::find().map_err(|missing| missing.to_string())?;
    let libc = image::current(&glibc)?
        .libc()
        .ok_or("glibc's own thread-locals were not found")?;
    let template = probe::run(&glibc, libc)?;
    setxid::install(&glibc);
    // SAFETY: it returns the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() } as isize;
    Ok(Setup {
        glibc,
        template,
        errno: errno - arch::thread_pointer() as isize,
    })
}

/// Sets the thread pointer to what it is, by the kernel.
fn try_by_kernel() -> Result<(), String> {
    // SAFETY: the block that is active.
    unsafe { arch::set_thread_pointer_by_kernel(arch::thread_pointer()) }.map_err(|errno| {
        let error = std::io::Error::from_raw_os_error(errno);
        format!(
            "the kernel allows programs no wrfsbase (it needs FSGSBASE, Linux 5.9), and refused \
             arch_prctl(ARCH_SET_FS): {error}; a seccomp filter must allow it"
        )
    })
}

/// What every thread of the process has for static thread-locals, its control block included, in
/// bytes: who makes a thread with a stack of a given size adds it.
pub(crate) fn static_bytes() -> usize {
    STATIC_BYTES.load(Relaxed)
}

/// The locks, for `fork`: no other thread makes or gives back a block meanwhile.
pub(crate) fn each_lock(f: &mut dyn FnMut(&Lock)) {
    f(husk::lock());
    f(image::lock());
}

fn setup() -> Option<&'static Setup> {
    SETUP.get()?.as_ref().ok()
}

/// Returns the image for a new block.
fn image(glibc: &Glibc) -> &'static Image {
    image::current(glibc).unwrap_or_else(|error| crate::throw(&error))
}

#[cfg(test)]
mod tests;
