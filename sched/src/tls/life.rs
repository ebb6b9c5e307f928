//! The life of a block: made once per fresh slot, reset between goroutines, destroyed when the
//! slot's pages are given back.
//!
//! # Invariants
//! 1. Between `create` and `destroy` a block is complete at every moment at which it can become
//!    active, so a signal handler on it finds a working C library.
//!
//! # Blocking
//! `create` and `destroy` take locks of the dynamic linker and of malloc for a moment: the cold
//! path. `reset` takes none unless the goroutine used thread-locals of a `dlopen`ed library.

use super::block::{Block, DTV, MULTIPLE_THREADS, OUR_BYTES, POINTER_GUARD, STACK_GUARD};
use super::glibc::Glibc;
use super::image::Module;
use super::switch::{enter, leave, thread_block};
use super::{Setup, husk, image, keys, setup};
use crate::stack::PAGE_BYTES;

/// The process's locale, as `<locale.h>` defines it.
const LC_GLOBAL_LOCALE: libc::locale_t = usize::MAX as libc::locale_t;

/// Makes the block of a fresh slot below `mem_top`. Returns it, and the address below it at which
/// the stack may start (aligned to 16).
///
/// For some instructions the new block is the active one: a signal handler that interrupts them
/// finds thread-locals as at the start of a thread.
///
/// # Safety
/// The memory below `mem_top`, a multiple of the page size, must be a slot's, hold zeros, and have
/// [`block_bytes`] of room.
///
/// # Panics
/// If memory for the dtv has run out.
pub(crate) unsafe fn create(mem_top: usize) -> (Block, usize) {
    let Some(setup) = setup() else {
        return (Block::NONE, mem_top & !15);
    };
    let glibc = &setup.glibc;
    let image = image(glibc);
    let tp = block_addr(glibc, mem_top);
    let block = Block::at_address(tp);
    // SAFETY: the caller owes the memory; the word lies above `struct pthread` and below mem_top.
    unsafe { block.set_image(glibc, image) };
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
        return (Block::NONE, mem_top & !15);
    };
    let block = Block::at_address(block_addr(&setup.glibc, mem_top));
    // SAFETY: create wrote it, and images are never freed.
    let image = unsafe { block.image(&setup.glibc) };
    (block, (block.address() - image.below) & !15)
}

/// Returns the thread pointer of a block below `mem_top`.
pub(super) fn block_addr(glibc: &Glibc, mem_top: usize) -> usize {
    (mem_top - glibc.tcb_bytes - OUR_BYTES) & !(block_align(glibc) - 1)
}

/// Returns the most that a block takes of its slot, from the top of the slot down, in bytes.
///
/// It is the same for the whole process: glibc settles how large and how aligned static
/// thread-locals can get when the process starts, and has libraries that are opened later take of
/// the reserve. A block has no more than what is there when it is made.
pub(crate) fn block_bytes() -> usize {
    setup().map_or(0, |setup| most_bytes(&setup.glibc))
}

fn most_bytes(glibc: &Glibc) -> usize {
    let align = block_align(glibc);
    let above = glibc.tcb_bytes + OUR_BYTES;
    // As `block_addr` rounds: slots are aligned to pages, and no better.
    let above = if align <= PAGE_BYTES {
        above.next_multiple_of(align)
    } else {
        above.next_multiple_of(PAGE_BYTES) + align - PAGE_BYTES
    };
    above + (glibc.static_bytes - glibc.tcb_bytes).next_multiple_of(align)
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
    for pointer in &setup.template.self_pointers {
        // SAFETY: the probe found the word in a block of the same layout.
        unsafe { block.write(pointer.at, block.address() + pointer.to) };
    }
    let links = block.address() + glibc.list;
    for link in [0, 8] {
        // In no list, hence linked to itself: fork takes the running block out of its list.
        // SAFETY: the two words of that field.
        unsafe { block.write(glibc.list as isize + link, links) };
    }
    // SAFETY: part of the fixed head of every block. True for good since the probe's thread.
    unsafe { block.write(MULTIPLE_THREADS, 1i32) };
    let own = thread_block();
    for guard in [STACK_GUARD, POINTER_GUARD] {
        // SAFETY: part of the fixed head of every block, and never changed.
        let value = unsafe { own.read::<usize>(guard) };
        // SAFETY: as above. All threads of a process have the same value.
        unsafe { block.write(guard, value) };
    }
    if let Some(rseq) = glibc.rseq {
        /// `RSEQ_CPU_ID_REGISTRATION_FAILED`: nobody shall use this area or register it.
        const REFUSED: i32 = -2;
        // SAFETY: the second word of the area is its CPU number.
        unsafe { block.write(rseq + 4, REFUSED) };
    }
    // SAFETY: this thread's number, in a block that is complete.
    let tid = unsafe { own.read(glibc.tid as isize) };
    // SAFETY: the block is complete but for the tables, which the next call sets.
    unsafe { enter(block, tid, true) };
    // SAFETY: sets the character tables in the active block.
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
    // SAFETY: the probe found the stack's lowest address there.
    unsafe { block.write(at, base) };
    // SAFETY: and its size behind it.
    unsafe { block.write(at + 8, top - base) };
}

/// Makes a block as new for the next goroutine: every module but glibc starts over.
///
/// glibc keeps what serves any goroutine (malloc's cache, the locale, an open resolver); errno
/// starts at zero.
///
/// # Safety
/// `block` must come from [`create`] and no goroutine may use it.
pub(crate) unsafe fn reset(block: Block) {
    let Some(setup) = setup() else { return };
    // SAFETY: as the caller owes.
    let image = unsafe { block.image(&setup.glibc) };
    for module in image.modules.iter().filter(|module| !module.is_libc) {
        // SAFETY: the module is of the block's image.
        let storage = unsafe { block.storage_mut(module) };
        let (start, rest) = storage.split_at_mut(module.init.len());
        start.copy_from_slice(&module.init);
        rest.fill(0);
    }
    // SAFETY: errno is in glibc's storage.
    unsafe { block.write(setup.errno, 0i32) };
    // SAFETY: as the caller owes.
    unsafe { free_dynamic(block) };
}

/// Frees storage that libraries opened by `dlopen` allocated in the block on first use.
///
/// # Safety
/// `block` must come from [`create`] and no goroutine may use it.
unsafe fn free_dynamic(block: Block) {
    /// A module's storage, and what `free` takes to free it.
    type Entry = [usize; 2];
    /// `TLS_DTV_UNALLOCATED`: allocate at the next use.
    const UNALLOCATED: usize = usize::MAX;
    // SAFETY: part of the fixed head of every block.
    let dtv: *mut Entry = unsafe { block.read(DTV) };
    // SAFETY: the entry before the first holds the number of modules that have one.
    let [modules, _] = unsafe { dtv.wrapping_sub(1).read() };
    for module in 1..=modules {
        let entry = dtv.wrapping_add(module);
        // SAFETY: the modules are numbered from 1; nobody else uses the block's dtv.
        let [_, allocation] = unsafe { entry.read() };
        if allocation != 0 {
            // SAFETY: glibc got it from malloc and forgets it by the next line.
            unsafe { libc::free(allocation as *mut libc::c_void) };
            // SAFETY: as above.
            unsafe { entry.write([UNALLOCATED, 0]) };
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
    // SAFETY: the probe found a flag of that type there.
    let keyless = setup
        .template
        .specific_used
        .is_some_and(|at| unsafe { block.read::<u8>(at as isize) } == 0);
    if !keyless {
        // SAFETY: the block is active and no OS thread's own.
        unsafe { keys::run_dtors(&setup.glibc, block.address()) };
        if let Some(at) = setup.template.specific_used {
            // SAFETY: as above; the values are gone.
            unsafe { block.write(at as isize, 0u8) };
        }
    }
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
    let image = unsafe { block.image(&setup.glibc) };
    // SAFETY: as the caller owes.
    unsafe { close_resolver(setup, block) };
    if let Some(libc) = image.libc() {
        // SAFETY: glibc's storage in the block.
        husk::keep(unsafe { canonical_storage(setup, block, libc) });
    }
    // SAFETY: the memory of the block itself is not glibc's to free.
    unsafe { (setup.glibc.deallocate)(block.address() as *mut u8, false) };
}

/// Closes the block's resolver if the goroutines that ran on it opened one.
///
/// # Safety
/// As [`destroy`].
unsafe fn close_resolver(setup: &Setup, block: Block) {
    /// `RES_INIT` in the options of `<resolv.h>`, the word at offset 8: the state is in use.
    const RES_INIT: usize = 1;
    // SAFETY: the probe found it to be a self pointer, or it is null.
    let state = unsafe { block.read::<*mut usize>(setup.glibc.res_state) };
    // SAFETY: a state has at least two words; fresh ones are zero.
    if !state.is_null() && unsafe { state.wrapping_add(1).read() } & RES_INIT != 0 {
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
