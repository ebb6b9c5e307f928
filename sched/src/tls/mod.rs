//! Thread control blocks that follow the goroutine.

mod glibc;
mod husk;
mod image;
mod keys;
mod probe;

use crate::arch;
use glibc::Glibc;
use image::{Image, Module};
use probe::Template;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Where thread-locals live, and how a switch moves them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TlsMode {
    /// They belong to the OS thread: a goroutine that moves finds others.
    Thread = 0,
    /// They belong to the goroutine; a switch is a system call.
    ArchPrctl = 1,
    /// They belong to the goroutine; a switch is an instruction.
    FsBase = 2,
}

/// The process's locale, as `<locale.h>` defines it.
const LC_GLOBAL_LOCALE: libc::locale_t = usize::MAX as libc::locale_t;

/// The mode as a number. Written once at boot, before any block exists.
static MODE: AtomicU8 = AtomicU8::new(TlsMode::Thread as u8);
/// Offset of the thread id in a block. Written as above.
static TID: AtomicUsize = AtomicUsize::new(0);
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

/// A thread control block: the value of the thread pointer while it is active.
///
/// In [`TlsMode::Thread`] it names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block(usize);

/// Where a block lies in the memory below the address given to [`create`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockLayout {
    /// Static thread-local storage below the thread pointer, in bytes.
    pub(crate) size_below: usize,
    /// The thread control block and our word, from the thread pointer upwards, in bytes.
    pub(crate) size_above: usize,
    /// Alignment of the thread pointer, in bytes.
    pub(crate) align: usize,
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
        TID.store(setup.glibc.tid, Relaxed);
        MODE.store(mode as u8, Relaxed);
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

/// Returns the mode that [`init`] chose; [`TlsMode::Thread`] before it.
#[inline(always)]
pub(crate) fn mode() -> TlsMode {
    match MODE.load(Relaxed) {
        2 => TlsMode::FsBase,
        1 => TlsMode::ArchPrctl,
        _ => TlsMode::Thread,
    }
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

/// Returns where a block made now would lie; all zeros in [`TlsMode::Thread`].
pub(crate) fn layout() -> BlockLayout {
    let Some(setup) = setup() else {
        return BlockLayout {
            size_below: 0,
            size_above: 0,
            align: 16,
        };
    };
    BlockLayout {
        size_below: image(&setup.glibc).below,
        size_above: setup.glibc.tcb_bytes + size_of::<*const Image>(),
        align: block_align(&setup.glibc),
    }
}

/// Makes the block of a fresh slot below `mem_top`. Returns it, and the address below it at which
/// the stack may start (aligned to 16).
///
/// # Safety
/// The memory below `mem_top` must be a slot's, hold zeros, and have room for a [`BlockLayout`].
///
/// # Panics
/// If memory for the dtv has run out.
pub(crate) unsafe fn create(mem_top: usize) -> (Block, usize) {
    let Some(setup) = setup() else {
        return (Block(0), mem_top & !15);
    };
    let glibc = &setup.glibc;
    let image = image(glibc);
    let tp = block_addr(glibc, mem_top);
    let block = Block(tp);
    // SAFETY: the caller owes the memory; the word lies above `struct pthread` and below mem_top.
    unsafe { block.image_word(glibc).write(image) };
    // SAFETY: the block is ours, and zero as glibc expects.
    let made = unsafe { (glibc.allocate)(tp as *mut u8) };
    assert!(
        !made.is_null(),
        "out of memory for a goroutine's thread-locals"
    );
    let husk = image.libc().zip(husk::take());
    if let Some((libc, bytes)) = husk {
        // SAFETY: glibc's storage in the block; the husk is a copy of such.
        unsafe { block.storage_mut(libc) }.copy_from_slice(&bytes);
    }
    // SAFETY: the block is ours and glibc has set its dtv.
    unsafe { fill(setup, block) };
    if let Some(libc) = image.libc() {
        // SAFETY: glibc's storage in the block.
        husk::note_virgin(|| unsafe { canonical_storage(setup, block, libc) });
    }
    (block, (tp - image.below) & !15)
}

/// Finds again the block that [`create`] made for the same `mem_top`: returns what it returned.
///
/// # Safety
/// [`create`] must have been called with `mem_top` and its memory kept since.
pub(crate) unsafe fn find(mem_top: usize) -> (Block, usize) {
    let Some(setup) = setup() else {
        return (Block(0), mem_top & !15);
    };
    let block = Block(block_addr(&setup.glibc, mem_top));
    // SAFETY: create wrote it, and images are never freed.
    let image = unsafe { &*block.image_word(&setup.glibc).read() };
    (block, (block.0 - image.below) & !15)
}

/// Returns the thread pointer of a block below `mem_top`.
fn block_addr(glibc: &Glibc, mem_top: usize) -> usize {
    (mem_top - glibc.tcb_bytes - size_of::<*const Image>()) & !(block_align(glibc) - 1)
}

/// Returns the alignment of thread pointers: glibc's, and that of `struct pthread`.
fn block_align(glibc: &Glibc) -> usize {
    glibc.align.max(64)
}

/// Fills the fields of a new block that are not zero and not glibc's doing.
///
/// # Safety
/// `block` must be ours alone and have its dtv and static storage.
unsafe fn fill(setup: &Setup, block: Block) {
    let glibc = &setup.glibc;
    let own = thread_block();
    for pointer in &setup.template.self_pointers {
        // SAFETY: the probe found the word in a block of the same layout.
        unsafe { block.at::<usize>(pointer.at).write(block.0 + pointer.to) };
    }
    // SAFETY: the fixed head of every x86-64 thread control block: "multiple threads" is true
    // from the probe on; the two guards are the same for all threads of a process.
    unsafe {
        block.at::<i32>(0x18).write(1);
        block.at::<u64>(0x28).write(own.at::<u64>(0x28).read());
        block.at::<u64>(0x30).write(own.at::<u64>(0x30).read());
    }
    if let Some(rseq) = glibc.rseq {
        // RSEQ_CPU_ID_REGISTRATION_FAILED: nobody shall use or register this area.
        // SAFETY: the second word of the area is its CPU number.
        unsafe { block.at::<i32>(rseq + 4).write(-2) };
    }
    let tid = glibc.tid as isize;
    // SAFETY: reads this thread's number and enters a block that is complete but for tables.
    unsafe { enter(block, own.at::<i32>(tid).read()) };
    // SAFETY: sets the character tables in the block that is now active.
    unsafe { (glibc.ctype_init)() };
    // SAFETY: the block that was active before.
    unsafe { leave(own) };
}

/// Tells glibc the bounds of the goroutine's stack, for `pthread_getattr_np(pthread_self())`.
///
/// # Safety
/// `block` must come from [`create`].
pub(crate) unsafe fn describe_stack(block: Block, base: usize, top: usize) {
    let Some(setup) = setup() else { return };
    let at = setup.template.stack as isize;
    // SAFETY: the probe found two such words there.
    unsafe {
        block.at::<usize>(at).write(base);
        block.at::<usize>(at + 8).write(top - base);
    }
}

/// Makes a block as new for the next goroutine: every module but glibc starts over.
///
/// # Safety
/// `block` must come from [`create`] and no goroutine may use it.
pub(crate) unsafe fn reset(block: Block) {
    let Some(setup) = setup() else { return };
    // SAFETY: create wrote it, and images are never freed.
    let image = unsafe { &*block.image_word(&setup.glibc).read() };
    for module in image.modules.iter().filter(|module| !module.is_libc) {
        // SAFETY: the module's storage in the block.
        let storage = unsafe { block.storage_mut(module) };
        let (start, rest) = storage.split_at_mut(module.init.len());
        start.copy_from_slice(&module.init);
        rest.fill(0);
    }
    // SAFETY: errno is in glibc's storage.
    unsafe { block.at::<i32>(setup.errno).write(0) };
    // SAFETY: as the caller owes.
    unsafe { free_dynamic(block) };
}

/// Frees storage that libraries opened by `dlopen` allocated in the block on first use.
///
/// # Safety
/// `block` must come from [`create`] and no goroutine may use it.
unsafe fn free_dynamic(block: Block) {
    /// `TLS_DTV_UNALLOCATED`.
    const UNALLOCATED: usize = usize::MAX;
    // SAFETY: word 1 of a block is its dtv: pairs of (storage, what to free).
    let dtv = unsafe { block.at::<*mut [usize; 2]>(8).read() };
    // SAFETY: the pair before it holds the number of modules.
    let modules = unsafe { (*dtv.sub(1))[0] };
    for module in 1..=modules {
        // SAFETY: pairs 1 to the number of modules exist; nobody else uses the block's dtv.
        let pair = unsafe { &mut *dtv.add(module) };
        if pair[1] != 0 {
            // SAFETY: glibc got it from malloc, and allocates anew after UNALLOCATED.
            unsafe { libc::free(pair[1] as *mut libc::c_void) };
            *pair = [UNALLOCATED, 0];
        }
    }
}

/// Runs the thread-local destructors of the goroutine that ends, on it.
///
/// # Safety
/// `block` must be the active one, and its goroutine must be about to end.
pub(crate) unsafe fn run_dtors(block: Block) {
    let Some(setup) = setup() else { return };
    // SAFETY: runs what the goroutine registered, once, on its own block.
    unsafe { (setup.glibc.call_dtors)() };
    // SAFETY: the block is active and no OS thread's own.
    unsafe { keys::run_dtors(&setup.glibc, block.0) };
    // SAFETY: back to the process's locale, and its character tables.
    unsafe { libc::uselocale(LC_GLOBAL_LOCALE) };
}

/// Releases what hangs on a block whose memory is to be given back.
///
/// # Safety
/// `block` must come from [`create`]; nobody may use it again.
pub(crate) unsafe fn destroy(block: Block) {
    let Some(setup) = setup() else { return };
    // SAFETY: create wrote it, and images are never freed.
    let image = unsafe { &*block.image_word(&setup.glibc).read() };
    // SAFETY: as the caller owes.
    unsafe { close_resolver(setup, block) };
    if let Some(libc) = image.libc() {
        // SAFETY: glibc's storage in the block.
        husk::keep(unsafe { canonical_storage(setup, block, libc) });
    }
    // SAFETY: the memory of the block itself is not glibc's to free.
    unsafe { (setup.glibc.deallocate)(block.0 as *mut u8, false) };
}

/// Closes the block's resolver if the goroutines that ran on it opened one.
///
/// # Safety
/// As [`destroy`].
unsafe fn close_resolver(setup: &Setup, block: Block) {
    /// `RES_INIT` in the options of `<resolv.h>`, the word at offset 8: the state is in use.
    const RES_INIT: usize = 1;
    // SAFETY: the probe found it to be a self pointer, or it is null.
    let state = unsafe { block.at::<*mut usize>(setup.glibc.res_state).read() };
    // SAFETY: a state has at least two words; fresh ones are zero.
    if !state.is_null() && unsafe { state.add(1).read() } & RES_INIT != 0 {
        // SAFETY: an open state that nobody uses again.
        unsafe { (setup.glibc.res_close)(state.cast()) };
    }
}

/// Returns a copy of glibc's storage without what depends on the block's address.
///
/// # Safety
/// `block` must come from [`create`], and `libc` from its image.
unsafe fn canonical_storage(setup: &Setup, block: Block, libc: &Module) -> Box<[u8]> {
    // SAFETY: as the caller owes.
    let mut bytes: Box<[u8]> = (unsafe { block.storage_mut(libc) } as &[u8]).into();
    let own = setup
        .template
        .self_pointers
        .iter()
        .map(|pointer| (pointer.at, 8));
    for (at, len) in own.chain([(setup.errno, 4)]) {
        if let Ok(start) = usize::try_from(at + libc.below as isize)
            && start + len <= bytes.len()
        {
            bytes[start..start + len].fill(0);
        }
    }
    bytes
}

impl Block {
    /// Returns a pointer into the block, `at` bytes from the thread pointer.
    fn at<T>(self, at: isize) -> *mut T {
        self.0.wrapping_add_signed(at) as *mut T
    }

    /// Returns where the block keeps its image.
    fn image_word(self, glibc: &Glibc) -> *mut *const Image {
        self.at(glibc.tcb_bytes as isize)
    }

    /// Returns the block's storage of `module`.
    ///
    /// # Safety
    /// The module must be of the block's image, and nobody else may use the storage.
    unsafe fn storage_mut<'a>(self, module: &Module) -> &'a mut [u8] {
        let start = self.at::<u8>(-(module.below as isize));
        // SAFETY: the image's modules lie below the thread pointer; the caller owes the rest.
        unsafe { std::slice::from_raw_parts_mut(start, module.bytes) }
    }
}

/// Returns the block that is active: on g0 the OS thread's own.
#[inline(always)]
pub(crate) fn thread_block() -> Block {
    match mode() {
        TlsMode::Thread => Block(0),
        _ => Block(arch::thread_pointer()),
    }
}

/// Makes `block` the active one and gives it the number of the OS thread that runs it.
///
/// # Safety
/// To be called on g0; `block` must come from [`create`] and be active nowhere.
#[inline(always)]
pub(crate) unsafe fn enter(block: Block, tid: i32) {
    let mode = mode();
    if mode == TlsMode::Thread {
        return;
    }
    let at = TID.load(Relaxed) as isize;
    // SAFETY: the field of that name in a complete block.
    unsafe { block.at::<i32>(at).write(tid) };
    // SAFETY: as the caller owes.
    unsafe { switch(mode, block) };
}

/// Makes the OS thread's own block the active one again.
///
/// # Safety
/// To be called on the thread whose [`thread_block`] was `m` before [`enter`].
#[inline(always)]
pub(crate) unsafe fn leave(m: Block) {
    let mode = mode();
    if mode != TlsMode::Thread {
        // SAFETY: as the caller owes.
        unsafe { switch(mode, m) };
    }
}

#[inline(always)]
unsafe fn switch(mode: TlsMode, block: Block) {
    if mode == TlsMode::FsBase {
        // SAFETY: init chose this mode because the instruction works; the block is complete.
        unsafe { arch::set_thread_pointer(block.0) };
    } else {
        // SAFETY: as above.
        unsafe { arch::set_thread_pointer_by_kernel(block.0) };
    }
}

#[cfg(test)]
mod tests;
