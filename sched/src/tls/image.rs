//! The static thread-local storage of the loaded modules: where it lies below a thread pointer,
//! and what it holds when a thread starts.
//!
//! A block reserves the room of the modules that are loaded when it is made, and no more: glibc's
//! own reserve for libraries still to come (1,680 bytes) would cost every goroutine a second page.
//!
//! # Invariants
//! 1. An `Image` is never freed or changed: blocks keep a plain pointer to theirs.
//! 2. Bytes are copies, so that a library that is closed later takes none away.
//!
//! # Memory ordering
//! `current`: store Release of `CURRENT` ⇄ load Acquire: the image behind it is complete.
//!
//! # Blocking
//! `current` takes a mutex here for a moment, and under it the dynamic linker's lock; after a
//! `dlopen` it keeps the mutex while a thread looks at the modules.

use super::glibc::Glibc;
use super::probe;
use crate::arch;
use crate::sys::{Lock, Mutex};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Release},
};

/// The static thread-local storage of one module.
#[derive(Debug)]
pub(super) struct Module {
    /// How far below the thread pointer it starts, in bytes.
    pub(super) below: usize,
    /// Its size, in bytes; what `init` does not fill starts as zeros.
    pub(super) bytes: usize,
    pub(super) init: Box<[u8]>,
    /// It is glibc's own: errno, malloc's cache, the locale.
    pub(super) is_libc: bool,
}

/// The static thread-local storage of a block.
#[derive(Debug)]
pub(super) struct Image {
    /// What the dynamic linker had loaded and unloaded; a change asks for a new image.
    stamp: u64,
    /// The room to keep below the thread pointer, a multiple of the alignment, in bytes. At most
    /// glibc's reserve, rounded up: of modules beyond it glibc keeps the storage elsewhere.
    pub(super) below: usize,
    pub(super) modules: Vec<Module>,
}

static CURRENT: AtomicPtr<Image> = AtomicPtr::new(std::ptr::null_mut());
static SCANNING: Mutex<()> = Mutex::new(());

/// Returns the image of the modules that are loaded now.
///
/// # Errors
/// Why the thread that looks at them could not be started.
pub(super) fn current(glibc: &Glibc) -> Result<&'static Image, String> {
    known().map_or_else(|| renew(glibc), Ok)
}

/// Returns that image if there is one already. Starts no thread, allocates nothing.
pub(super) fn known() -> Option<&'static Image> {
    let stamp = ask_linker(stamp);
    let known = CURRENT.load(Acquire); // pairs with the store below
    // SAFETY: invariant 1.
    let image = unsafe { known.as_ref() };
    image.filter(|image| image.stamp == stamp)
}

/// Runs `f`, which takes the dynamic linker's lock (`dl_iterate_phdr`). A fork waits for it: in the
/// child nobody would give that lock back. `f` must not come here again.
///
/// **Blocking**: the thread, while another one is in here.
pub fn ask_linker<R>(f: impl FnOnce() -> R) -> R {
    let _scanning = SCANNING.lock();
    f()
}

/// The lock, for `fork`.
pub(super) fn lock() -> &'static Lock {
    SCANNING.raw()
}

#[cold]
fn renew(glibc: &Glibc) -> Result<&'static Image, String> {
    let _one_at_a_time = SCANNING.lock();
    let image = Box::leak(Box::new(Image::scan(glibc)?));
    CURRENT.store(image, Release); // pairs with current
    Ok(image)
}

impl Image {
    /// Looks at the modules from a new thread: only there does glibc tell of all of them. To an old
    /// thread a library that was opened later looks as if it had no storage yet.
    fn scan(glibc: &Glibc) -> Result<Self, String> {
        let reserve = glibc.static_bytes - glibc.tcb_bytes;
        let mut scan = Scan {
            tp: 0,
            errno: 0,
            reserve,
            image: Self {
                stamp: stamp(),
                below: 0,
                modules: Vec::new(),
            },
        };
        probe::on_fresh_thread(glibc, look, (&raw mut scan).cast(), |_| ())?;
        let mut image = scan.image;
        // From glibc 2.41 the restartable-sequence area lies below the modules' storage.
        let rseq = glibc
            .rseq
            .map_or(0, |offset| usize::try_from(-offset).unwrap_or(0));
        let used = image
            .modules
            .iter()
            .map(|module| module.below)
            .fold(rseq, usize::max);
        image.below = used.next_multiple_of(glibc.align.max(16));
        Ok(image)
    }

    /// Returns glibc's own module.
    pub(super) fn libc(&self) -> Option<&Module> {
        self.modules.iter().find(|module| module.is_libc)
    }
}

struct Scan {
    tp: usize,
    errno: usize,
    reserve: usize,
    image: Image,
}

/// Notes every module with static storage.
extern "C" fn look(scan: *mut c_void) -> *mut c_void {
    {
        // SAFETY: Image::scan passes its `Scan` and waits for this thread.
        let scan = unsafe { &mut *scan.cast::<Scan>() };
        scan.tp = arch::thread_pointer();
        // SAFETY: it returns the address of this thread's errno.
        scan.errno = unsafe { libc::__errno_location() } as usize;
    }
    // SAFETY: the callback has the type asked for and gets the `Scan` it expects.
    unsafe { libc::dl_iterate_phdr(Some(visit), scan) };
    std::ptr::null_mut()
}

/// Notes a module if its thread-local storage is static, that is, near the thread pointer.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, scan: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr passes a record that is valid during the call.
    let info = unsafe { &*info };
    // SAFETY: `scan` is what Image::scan passed, and nothing else refers to it now.
    let scan = unsafe { &mut *scan.cast::<Scan>() };
    let start = info.dlpi_tls_data as usize;
    let below = scan.tp.wrapping_sub(start);
    if start == 0 || below == 0 || below > scan.reserve {
        return 0; // no thread-local storage, or allocated on first use
    }
    // SAFETY: the record's table of program headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    if let Some(tls) = headers.iter().find(|header| header.p_type == libc::PT_TLS) {
        let image = (info.dlpi_addr + tls.p_vaddr) as *const u8;
        // SAFETY: the module's initial image, mapped while the linker's lock is held.
        let init = unsafe { std::slice::from_raw_parts(image, tls.p_filesz as usize) };
        let bytes = tls.p_memsz as usize;
        scan.image.modules.push(Module {
            below,
            bytes,
            init: init.into(),
            is_libc: (start..start + bytes).contains(&scan.errno),
        });
    }
    0
}

/// Returns a number that changes whenever a module is loaded or unloaded.
fn stamp() -> u64 {
    unsafe extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, to: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr passes a record that is valid during the call.
        let info = unsafe { &*info };
        // SAFETY: `to` is the u64 below.
        unsafe { to.cast::<u64>().write(info.dlpi_adds + info.dlpi_subs) };
        1
    }
    let mut stamp = 0u64;
    // SAFETY: the callback has the type asked for and gets the number it expects.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut stamp).cast()) };
    stamp
}
