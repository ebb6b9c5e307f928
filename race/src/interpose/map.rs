//! Mappings: they get shadow to be looked at; what lay at their addresses before is forgotten.
//!
//! libc's functions are system calls and no more, so these are as well: there is no libc function to find, which may be too early.
//! Raddle's own mappings go by `sys` and are not seen here.

use std::ffi::{c_int, c_void};

use libc::off_t;

use super::real::keep_errno;
use super::watched;
use crate::shadow::is_wanted;
use crate::sys::pointer;
use crate::{clear_shadow, enabled, is_instrumented, reserve_shadow};

/// Memory is there, at addresses that the program may have chosen.
fn has_come(at: *mut c_void, size: usize) {
    if at != libc::MAP_FAILED {
        reserve_shadow(at.addr(), size);
    }
    renew(at, size);
}

/// The memory is new, or goes.
fn renew(at: *mut c_void, size: usize) {
    if watched().is_some() && at != libc::MAP_FAILED {
        keep_errno(|| clear_shadow(at.addr(), size));
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    at: *mut c_void,
    size: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // Some allocators ask for addresses of their own choice, which need not be obeyed.
    let must_be_there = flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) != 0;
    let at = if is_wanted(at.addr()) && !must_be_there {
        std::ptr::null_mut()
    } else {
        at
    };
    // SAFETY: the caller's arguments; without a fixed address any place is good.
    let new = unsafe { libc::syscall(libc::SYS_mmap, at, size, protection, flags, fd, offset) };
    let new = pointer(new);
    has_come(new, size);
    new
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    at: *mut c_void,
    size: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: the caller's arguments.
    unsafe { mmap(at, size, protection, flags, fd, offset) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(at: *mut c_void, size: usize) -> c_int {
    // Before: after it the addresses may be another's.
    renew(at, size);
    // SAFETY: the caller's arguments.
    unsafe { libc::syscall(libc::SYS_munmap, at, size) as c_int }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mremap(
    old: *mut c_void,
    old_size: usize,
    new_size: usize,
    flags: c_int,
    at: *mut c_void,
) -> *mut c_void {
    // What shrinks or stays keeps what is known of it; what leaves its place is known anew.
    if new_size < old_size {
        renew(old.wrapping_byte_add(new_size), old_size - new_size);
    }
    if flags & libc::MREMAP_FIXED != 0 {
        renew(old, old_size);
    }
    // SAFETY: the caller's arguments.
    let new = unsafe { libc::syscall(libc::SYS_mremap, old, old_size, new_size, flags, at) };
    let new = pointer(new);
    if new != old {
        has_come(new, new_size);
    } else if new_size > old_size {
        renew(old.wrapping_byte_add(old_size), new_size - old_size);
    }
    new
}

/// To lock all memory would give memory to all of the shadow. So none is locked, and who asks for it
/// is told that it was: a watched program has no deadlines to keep.
#[unsafe(no_mangle)]
unsafe extern "C" fn mlockall(flags: c_int) -> c_int {
    if is_instrumented() || enabled() {
        return 0;
    }
    // SAFETY: the caller's arguments.
    unsafe { libc::syscall(libc::SYS_mlockall, flags) as c_int }
}
