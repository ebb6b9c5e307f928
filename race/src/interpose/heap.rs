//! The C library's heap: blocks begin and end, so that what an earlier owner did to the memory is forgotten.
//!
//! Raddle's own heap is another, and announces its objects itself; this one is that of C code, of libc, and of Rust programs whose
//! global allocator is the system's. A block is announced with all bytes that its owner may use (`malloc_usable_size`), which is what is known
//! at its end too: the end before libc frees it, when nobody else can have it yet, the beginning after libc gave it.
//!
//! The symbols are weak: a program may have a C allocator of its own, which then announces nothing.
//!
//! # Why not
//! `dlsym` for libc's functions: it allocates. `__libc_malloc` and its like are libc's for this purpose.

use std::arch::global_asm;
use std::ffi::{c_int, c_void};

use super::real::{keep_errno, set_errno};
use super::watched;
use crate::heap::{clear_shadow, free, free_for_ever, malloc};
use crate::{Pc, enabled, pages, read_range};

unsafe extern "C" {
    fn __libc_malloc(n: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, n: usize) -> *mut c_void;
    fn __libc_realloc(p: *mut c_void, n: usize) -> *mut c_void;
    fn __libc_memalign(align: usize, n: usize) -> *mut c_void;
    fn __libc_valloc(n: usize) -> *mut c_void;
    fn __libc_pvalloc(n: usize) -> *mut c_void;
    fn __libc_free(p: *mut c_void);
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

/// Makes the linker take this module: nothing names its symbols otherwise.
#[inline(never)]
pub(super) fn init() {}

/// Bytes of the block that its owner may use.
fn size_of_block(p: *mut c_void) -> usize {
    // SAFETY: callers pass a block of libc's heap.
    unsafe { libc::malloc_usable_size(p) }
}

/// Whether the block is a mapping of its own, which goes back to the system when it is freed: a bit before it says so.
fn is_mapping(p: *mut c_void) -> bool {
    // SAFETY: glibc keeps the size and three flags of a block in the word before it.
    unsafe { p.cast::<usize>().wrapping_sub(1).read() & 2 != 0 }
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

/// Functions that return a block, or none.
macro_rules! allocators {
    ($($body:ident = $of_libc:ident($($arg:ident),*);)*) => {$(
        unsafe extern "C" fn $body($($arg: usize,)* caller: usize) -> *mut c_void {
            if !enabled() {
                // SAFETY: no preconditions.
                return unsafe { $of_libc($($arg),*) };
            }
            // SAFETY: no preconditions.
            begins(unsafe { $of_libc($($arg),*) }, caller)
        }
    )*};
}

allocators! {
    malloc_at = __libc_malloc(n);
    calloc_at = __libc_calloc(count, n);
    memalign_at = __libc_memalign(align, n);
    valloc_at = __libc_valloc(n);
    pvalloc_at = __libc_pvalloc(n);
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
    let p = keep_errno(|| unsafe { __libc_memalign(align, n) });
    if p.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's place for the result.
    unsafe { to.write(p) };
    if enabled() {
        begins(p, caller);
    }
    0
}

unsafe extern "C" fn realloc_at(p: *mut c_void, n: usize, caller: usize) -> *mut c_void {
    if !enabled() {
        // SAFETY: the caller's block, or none.
        return unsafe { __libc_realloc(p, n) };
    }
    if p.is_null() {
        // SAFETY: no block.
        return begins(unsafe { __libc_realloc(p, n) }, caller);
    }
    if watched().is_some() {
        read_range(p.addr(), n.min(size_of_block(p)), Pc::code(caller));
    }
    ends(p, caller);
    // SAFETY: the caller's block.
    let new = unsafe { __libc_realloc(p, n) };
    if new.is_null() && n != 0 {
        begins(p, caller); // it goes on
    }
    begins(new, caller)
}

unsafe extern "C" fn reallocarray_at(
    p: *mut c_void,
    count: usize,
    n: usize,
    caller: usize,
) -> *mut c_void {
    unsafe extern "C" {
        /// Ours, or that of the allocator that took its place.
        fn realloc(p: *mut c_void, n: usize) -> *mut c_void;
    }
    let _ = caller;
    match count.checked_mul(n) {
        // SAFETY: the caller's block, or none.
        Some(n) => unsafe { realloc(p, n) },
        None => {
            set_errno(libc::ENOMEM);
            std::ptr::null_mut()
        }
    }
}

unsafe extern "C" fn free_at(p: *mut c_void, caller: usize) {
    if enabled() && !p.is_null() {
        ends(p, caller);
    }
    // SAFETY: the caller's block, or none.
    unsafe { __libc_free(p) };
}
