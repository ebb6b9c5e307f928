//! Destructors of `pthread_setspecific` values, for a goroutine that ends.
//!
//! glibc runs them when a thread ends, by a function it does not export. std relies on them: the
//! handle behind `thread::current()` is dropped by one. The tables are those that glibc describes
//! to debuggers; `glibc` has checked the sizes.
//!
//! # Invariants
//! 1. A block's table of 32 pointers leads to groups of 32 values; group 0 is inside the block, the
//!    others were allocated by glibc with `calloc`.

use super::glibc::Glibc;

/// How often destructors are run for values that destructors set: `PTHREAD_DESTRUCTOR_ITERATIONS`.
const ROUNDS: usize = 4;
pub(super) const GROUPS: usize = 32;
const GROUP_KEYS: usize = 32;

/// A value, and the sequence number of the key it was set for.
#[repr(C)]
struct Value {
    seq: usize,
    data: *mut u8,
}

/// Runs the destructors of the running goroutine's keys, then frees what its keys allocated.
///
/// # Safety
/// `tp` must be the active thread pointer, of a block that is no OS thread's own.
pub(super) unsafe fn run_dtors(glibc: &Glibc, tp: usize) {
    for _ in 0..ROUNDS {
        // SAFETY: as the caller owes.
        if !unsafe { run_round(glibc, tp) } {
            break;
        }
    }
    for group in 1..GROUPS {
        // SAFETY: as the caller owes.
        let entry = unsafe { group_entry(glibc, tp, group) };
        // SAFETY: invariant 1; the entry is the block's own.
        let values = unsafe { entry.replace(std::ptr::null_mut()) };
        if values.is_null() {
            continue; // the common case
        }
        // SAFETY: allocated by glibc's calloc, and no longer reachable.
        unsafe { libc::free(values.cast()) };
    }
}

/// Runs each destructor once. Returns whether any ran: it may have set further values.
///
/// # Safety
/// As [`run_dtors`].
unsafe fn run_round(glibc: &Glibc, tp: usize) -> bool {
    let mut ran = false;
    for group in 0..GROUPS {
        // SAFETY: as the caller owes.
        let entry = unsafe { group_entry(glibc, tp, group) };
        // SAFETY: invariant 1.
        let values = unsafe { *entry };
        if values.is_null() {
            continue;
        }
        for i in 0..GROUP_KEYS {
            // SAFETY: invariant 1: a group has that many values.
            let value = unsafe { values.add(i) };
            // SAFETY: the block is active, so only this thread uses it; the destructor comes later.
            let value = unsafe { &mut *value };
            let data = std::mem::replace(&mut value.data, std::ptr::null_mut());
            if data.is_null() {
                continue;
            }
            // SAFETY: glibc's table has a record for each of the 1,024 keys.
            let key = unsafe { glibc.keys.add(group * GROUP_KEYS + i) };
            // SAFETY: as above. Another thread may delete the key meanwhile, as in glibc's own loop.
            let [seq, dtor] = unsafe { key.read_volatile() };
            if seq != value.seq || dtor == 0 {
                continue; // the key was deleted, or has no destructor
            }
            // SAFETY: the second word of a key's record is its destructor.
            let dtor: unsafe extern "C" fn(*mut u8) = unsafe { std::mem::transmute(dtor) };
            ran = true;
            // SAFETY: the key's owner gave this destructor for this value.
            unsafe { dtor(data) };
        }
    }
    ran
}

/// Returns where a block keeps the pointer to a group of values.
///
/// # Safety
/// `tp` must be a complete block and `group` less than [`GROUPS`].
unsafe fn group_entry(glibc: &Glibc, tp: usize, group: usize) -> *mut *mut Value {
    let table = (tp + glibc.specific) as *mut *mut Value;
    // SAFETY: invariant 1.
    unsafe { table.add(group) }
}
