//! The C heap: blocks begin and end, so that what an earlier owner did to the memory is forgotten.
//!
//! Raddle's own heap is another, and announces its objects itself; this one is that of C code, of libc, and of Rust programs whose
//! global allocator is the system's. A block is announced with all bytes that its owner may use (`malloc_usable_size`), which is what is known
//! at its end too: the end before the allocator frees it, when nobody else can have it yet, the beginning after it was given.
//!
//! # Whose heap it is
//! The memory comes from the allocator that the program would have without race mode: glibc's, one of
//! `LD_PRELOAD`, or that of a shared library which the program is linked with. All functions are
//! looked up together at the first call, so that blocks of two allocators are never mixed.
//! What an allocator other than glibc's locks on the way orders nothing in the program.
//!
//! The symbols are weak: a program may have a C allocator of its own, which then announces nothing.
//!
//! # Why not
//! glibc's `__libc_malloc` and its like: some allocators replace those too, others do not, so that
//! nobody can say whose block they return.

use std::arch::global_asm;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::*};

use super::real::{keep_errno, set_errno};
use super::{read_range, watched};
use crate::heap::{clear_shadow, free, free_for_ever, malloc};
use crate::mem::{fatal, refuse};
use crate::{Pc, enabled, pages};

/// The functions of the allocator that the blocks come from.
struct Allocator {
    malloc: unsafe extern "C" fn(usize) -> *mut c_void,
    calloc: unsafe extern "C" fn(usize, usize) -> *mut c_void,
    realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    memalign: unsafe extern "C" fn(usize, usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
}

const PAGE: usize = 4096;

/// Not std's `OnceLock`, which is instrumented: the first call comes before there is any shadow.
static ALLOCATOR: AtomicPtr<Allocator> = AtomicPtr::new(ptr::null_mut());
/// It is glibc's own. Known only in race mode.
static IS_GLIBCS: AtomicBool = AtomicBool::new(false);

/// The allocator. None: it is being looked up, and `dlsym` asks for memory, as it does before glibc
/// 2.34; it has some put aside for when there is none.
#[inline(always)]
fn allocator() -> Option<&'static Allocator> {
    found().or_else(find)
}

#[inline(always)]
fn found() -> Option<&'static Allocator> {
    // SAFETY: null, or written once and for ever.
    unsafe { ALLOCATOR.load(Acquire).as_ref() } // pairs with the store in `find`
}

/// In a library that was opened by `dlopen` there may be many threads at the first call.
#[used]
#[unsafe(link_section = ".init_array.00001")]
static BEFORE_ALL: extern "C" fn() = before_all;

extern "C" fn before_all() {
    if !is_first() {
        let _ = allocator();
    }
}

/// Our functions come before all others of the process.
fn is_first() -> bool {
    default(c"malloc") == libc::malloc as *mut c_void
}

/// Looks the allocator up. In a program the first call comes before there is a second thread, which
/// needs memory to be made.
#[cold]
#[inline(never)]
fn find() -> Option<&'static Allocator> {
    struct Room(UnsafeCell<MaybeUninit<Allocator>>);
    // SAFETY: whoever sets `IS_LOOKING` has it alone until `ALLOCATOR` leads to it, and then nobody writes.
    unsafe impl Sync for Room {}
    static ROOM: Room = Room(UnsafeCell::new(MaybeUninit::uninit()));
    static IS_LOOKING: AtomicBool = AtomicBool::new(false);
    if IS_LOOKING.swap(true, Relaxed) {
        return None;
    }
    let from = if is_first() {
        libc::RTLD_NEXT
    } else {
        libc::RTLD_DEFAULT
    };
    // All types are those of the C library's functions, by its header.
    let found = Allocator {
        // SAFETY: see above.
        malloc: unsafe { function(from, c"malloc") },
        // SAFETY: see above.
        calloc: unsafe { function(from, c"calloc") },
        // SAFETY: see above.
        realloc: unsafe { function(from, c"realloc") },
        // SAFETY: see above.
        memalign: unsafe { function(from, c"memalign") },
        // SAFETY: see above.
        free: unsafe { function(from, c"free") },
    };
    // SAFETY: only who set `IS_LOOKING` comes here.
    let room = unsafe { &mut *ROOM.0.get() };
    ALLOCATOR.store(room.write(found), Release); // pairs with the load in `found`
    self::found()
}

/// The first definition of a C function in the program.
fn default(name: &CStr) -> *mut c_void {
    // SAFETY: a C string.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

/// A C function, as `dlsym` finds it.
///
/// # Safety
/// `F` is a function pointer of its type.
unsafe fn function<F: Copy>(from: *mut c_void, name: &CStr) -> F {
    // SAFETY: a C string.
    let at = unsafe { libc::dlsym(from, name.as_ptr()) };
    if at.is_null() {
        fatal("the program's allocator lacks malloc, calloc, realloc, memalign or free");
    }
    // SAFETY: a function pointer of that type, by the contract.
    unsafe { std::mem::transmute_copy(&at) }
}

/// Where the shared library that a function is in was loaded.
fn library_of(function: *const c_void) -> *mut c_void {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: room for the answer.
    unsafe { libc::dladdr(function, info.as_mut_ptr()) };
    // SAFETY: zeros, or the answer.
    unsafe { info.assume_init() }.dli_fbase
}

/// Weak C functions, each of which goes on in a body with the caller's address as one argument more (see `with_caller`).
macro_rules! weak {
    ($($name:literal, $register:literal => $body:ident;)*) => {$(
        global_asm!(
            concat!(".weak ", $name),
            concat!(".type ", $name, ", @function"),
            concat!(".pushsection .text.", $name, ", \"ax\", @progbits"),
            ".p2align 4",
            concat!($name, ":"),
            ".cfi_startproc",
            concat!("mov ", $register, ", [rsp]"),
            "jmp {body}",
            ".cfi_endproc",
            concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            body = sym $body,
        );
    )*};
}

weak! {
    "malloc", "rsi" => malloc_at;
    "calloc", "rdx" => calloc_at;
    "realloc", "rdx" => realloc_at;
    "reallocarray", "rcx" => reallocarray_at;
    "memalign", "rdx" => memalign_at;
    "aligned_alloc", "rdx" => memalign_at;
    "posix_memalign", "rcx" => posix_memalign_at;
    "valloc", "rsi" => valloc_at;
    "pvalloc", "rsi" => pvalloc_at;
    "free", "rsi" => free_at;
}

/// Makes the linker take this module, whose symbols nothing names otherwise, and refuses an allocator
/// whose blocks have no known size. Where the program has a C allocator of its own, ours has not been
/// called.
#[inline(never)]
pub(super) fn init() {
    let Some(allocator) = found() else { return };
    let library = library_of(allocator.malloc as *const c_void);
    IS_GLIBCS.store(
        library == library_of(default(c"gnu_get_libc_version")),
        Relaxed,
    );
    if library != library_of(default(c"malloc_usable_size")) {
        refuse(
            "the malloc that LD_PRELOAD or a shared library brings has no malloc_usable_size, so the \
             sizes of its blocks are unknown: run the program without it",
        );
    }
}

/// Bytes of the block that its owner may use.
fn size_of_block(p: *mut c_void) -> usize {
    // SAFETY: callers pass a block of the allocator's, which has this function (`init`).
    unsafe { libc::malloc_usable_size(p) }
}

/// Whether the block is a mapping of its own, which goes back to the system unseen when it is freed: in glibc's heap a bit before
/// it says so. Other allocators call `munmap`, which is seen.
fn is_mapping(p: *mut c_void) -> bool {
    // SAFETY: glibc keeps the size and three flags of a block in the word before it.
    IS_GLIBCS.load(Relaxed) && unsafe { p.cast::<usize>().wrapping_sub(1).read() & 2 != 0 }
}

/// Runs a function of the allocator. Its locks are none of the program's.
fn in_allocator<R>(f: impl FnOnce() -> R) -> R {
    let Some(me) = watched().filter(|_| !IS_GLIBCS.load(Relaxed)) else {
        return f();
    };
    me.get().ignore_sync += 1;
    let result = f();
    me.get().ignore_sync -= 1;
    result
}

/// Nobody has been there. Most blocks that come here are of threads that are not watched, in pages where nobody is.
fn forget(addr: usize, size: usize) {
    if pages::is_marked(addr, size) {
        clear_shadow(addr, size);
    }
}

/// The block, if there is one, has just begun.
#[cold]
#[inline(never)]
fn begins(p: *mut c_void, caller: usize) -> *mut c_void {
    if p.is_null() {
        return p;
    }
    keep_errno(|| {
        if watched().is_some() {
            malloc(p.addr(), size_of_block(p), Pc::code(caller));
        } else {
            forget(p.addr(), size_of_block(p));
        }
    });
    p
}

/// The block is about to end.
#[cold]
#[inline(never)]
fn ends(p: *mut c_void, caller: usize) {
    keep_errno(|| {
        if watched().is_none() {
            forget(p.addr(), size_of_block(p));
        } else if is_mapping(p) {
            free_for_ever(p.addr(), size_of_block(p), Pc::code(caller));
        } else {
            free(p.addr(), size_of_block(p), Pc::code(caller));
        }
    });
}

/// A block of the allocator's, or none.
#[inline(always)]
fn give(caller: usize, ask: impl FnOnce(&Allocator) -> *mut c_void) -> *mut c_void {
    let Some(allocator) = allocator() else {
        return ptr::null_mut();
    };
    if !enabled() {
        return ask(allocator);
    }
    begins(in_allocator(|| ask(allocator)), caller)
}

unsafe extern "C" fn malloc_at(n: usize, caller: usize) -> *mut c_void {
    // SAFETY: no preconditions.
    give(caller, |of| unsafe { (of.malloc)(n) })
}

unsafe extern "C" fn calloc_at(count: usize, n: usize, caller: usize) -> *mut c_void {
    // SAFETY: no preconditions.
    give(caller, |of| unsafe { (of.calloc)(count, n) })
}

unsafe extern "C" fn memalign_at(align: usize, n: usize, caller: usize) -> *mut c_void {
    // SAFETY: no preconditions.
    give(caller, |of| unsafe { (of.memalign)(align, n) })
}

unsafe extern "C" fn posix_memalign_at(
    to: *mut *mut c_void,
    align: usize,
    n: usize,
    caller: usize,
) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<usize>()) {
        return libc::EINVAL;
    }
    // SAFETY: no preconditions; errno is not how this function fails.
    let p = keep_errno(|| unsafe { memalign_at(align, n, caller) });
    if p.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's place for the result.
    unsafe { to.write(p) };
    0
}

unsafe extern "C" fn realloc_at(p: *mut c_void, n: usize, caller: usize) -> *mut c_void {
    // SAFETY: the caller's block, or none.
    let ask = |of: &Allocator| unsafe { (of.realloc)(p, n) };
    if !enabled() || p.is_null() {
        return give(caller, ask);
    }
    if watched().is_some() {
        read_range(p.addr(), n.min(size_of_block(p)), Pc::code(caller));
    }
    ends(p, caller);
    let new = give(caller, ask);
    if new.is_null() && n != 0 {
        begins(p, caller); // it goes on
    }
    new
}

unsafe extern "C" fn free_at(p: *mut c_void, caller: usize) {
    if p.is_null() {
        return;
    }
    let Some(of) = allocator() else { return };
    // SAFETY: the caller's block.
    let free = || unsafe { (of.free)(p) };
    if !enabled() {
        return free();
    }
    ends(p, caller);
    in_allocator(free);
}

// The rest go by the first definition of another: a C allocator of the program's own may lack them.

unsafe extern "C" fn valloc_at(n: usize, _caller: usize) -> *mut c_void {
    // SAFETY: no preconditions.
    unsafe { libc::memalign(PAGE, n) }
}

unsafe extern "C" fn pvalloc_at(n: usize, _caller: usize) -> *mut c_void {
    match n.checked_next_multiple_of(PAGE) {
        // SAFETY: no preconditions.
        Some(n) => unsafe { libc::memalign(PAGE, n) },
        None => no_memory(),
    }
}

unsafe extern "C" fn reallocarray_at(
    p: *mut c_void,
    count: usize,
    n: usize,
    _caller: usize,
) -> *mut c_void {
    match count.checked_mul(n) {
        // SAFETY: the caller's block, or none.
        Some(n) => unsafe { libc::realloc(p, n) },
        None => no_memory(),
    }
}

fn no_memory() -> *mut c_void {
    set_errno(libc::ENOMEM);
    ptr::null_mut()
}
