//! A look at a thread that glibc itself has just started, to learn what it sets in the block.
//!
//! Fields that hold addresses *inside* the block are the ones that zeros or a copy cannot serve:
//! the self pointers, the head of the robust list (null would crash a robust mutex), the first
//! block of keys, the resolver's state (null would crash getaddrinfo). The probe finds them all
//! by their values, whatever the version's layout; a new block gets the same, moved to itself.
//! The stack bounds are found likewise, on a stack whose address and size we chose.

use super::glibc::{Glibc, Missing};
use super::image::Module;
use super::keys::GROUPS;
use crate::arch;
use crate::stack::PAGE_BYTES;
use std::ffi::c_void;

/// The stack of the probe, in bytes. glibc puts the block and static storage at its top.
const STACK_BYTES: usize = 256 << 10;
const WORD: usize = size_of::<usize>();

/// A word that holds an address inside its own block.
#[derive(Clone, Copy, Debug)]
pub(super) struct SelfPointer {
    /// Where the word is, from the thread pointer, in bytes.
    pub(super) at: isize,
    /// What it points to, from the thread pointer, in bytes.
    pub(super) to: usize,
}

/// What glibc sets in a fresh thread's block.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) self_pointers: Vec<SelfPointer>,
    /// Offset of the stack's lowest address, which its size follows.
    pub(super) stack: usize,
    /// Offset of the byte that says whether any `pthread_setspecific` was made, if it was found.
    pub(super) specific_used: Option<usize>,
}

/// What the probe thread works on.
struct Probe<'a> {
    glibc: &'a Glibc,
    libc: &'a Module,
    stack: usize,
    found: Option<Template>,
}

/// Starts a thread, looks at its block, and joins it.
pub(super) fn run(glibc: &Glibc, libc: &Module) -> Result<Template, Missing> {
    let mut probe = Probe {
        glibc,
        libc,
        stack: 0,
        found: None,
    };
    let at: *mut Probe<'_> = &raw mut probe;
    let started = on_fresh_thread(look, at.cast(), |stack| {
        // SAFETY: the thread has not started; nothing else uses the probe.
        unsafe { (*at).stack = stack };
    });
    if !started {
        crate::sys::thread::cannot_start(0);
    }
    probe
        .found
        .ok_or(Missing(c"struct pthread: its stack bounds were not found"))
}

/// Runs `body(arg)` on a new thread, on a stack of [`STACK_BYTES`] whose lowest address it tells
/// first. Returns, once the thread has ended, whether it could be started.
pub(super) fn on_fresh_thread(
    body: extern "C" fn(*mut c_void) -> *mut c_void,
    arg: *mut c_void,
    tell: impl FnOnce(usize),
) -> bool {
    let mut memory = vec![0u8; STACK_BYTES + PAGE_BYTES];
    let stack = (memory.as_mut_ptr() as usize).next_multiple_of(PAGE_BYTES);
    tell(stack);
    // SAFETY: zeros are a valid value to initialise over.
    let mut attr: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
    let attr = &raw mut attr;
    let mut thread: libc::pthread_t = 0;
    // SAFETY: `attr` is ours to initialise.
    let mut refused = unsafe { libc::pthread_attr_init(attr) };
    // SAFETY: the memory is kept until the thread is joined.
    refused |= unsafe { libc::pthread_attr_setstack(attr, stack as *mut c_void, STACK_BYTES) };
    // Unwatched: nothing of the thread's block is to change before `body` looks at it.
    refused |= raddle_race::unwatched(|| {
        // SAFETY: the caller passes what `body` expects and leaves it alone until the join.
        unsafe { libc::pthread_create(&raw mut thread, attr, body, arg) }
    });
    if refused == 0 {
        // SAFETY: the thread was just created and is joined once.
        refused = unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
    }
    // SAFETY: initialised above.
    unsafe { libc::pthread_attr_destroy(attr) };
    refused == 0
}

/// The probe thread: reads its own block before it calls anything that could change it.
extern "C" fn look(probe: *mut c_void) -> *mut c_void {
    // SAFETY: `run` passes the probe and waits for this thread.
    let probe = unsafe { &mut *probe.cast::<Probe<'_>>() };
    let tp = arch::thread_pointer();
    let block = tp..tp + probe.glibc.tcb_bytes;
    // SAFETY: every offset asked for lies in this thread's block or in glibc's static storage.
    let word = |at: isize| unsafe { (tp.wrapping_add_signed(at) as *const usize).read() };
    let below = probe.libc.below as isize;
    let storage = (-below..-below + probe.libc.bytes as isize).step_by(WORD);
    let tcb = (0..probe.glibc.tcb_bytes as isize).step_by(WORD);
    let self_pointers = storage
        .chain(tcb.clone())
        .filter(|&at| block.contains(&word(at)))
        .map(|at| SelfPointer {
            at,
            to: word(at) - tp,
        })
        .collect();
    let stack = tcb
        .take(probe.glibc.tcb_bytes / WORD - 1)
        .find(|&at| word(at) == probe.stack && word(at + WORD as isize) == STACK_BYTES);
    probe.found = stack.map(|at| Template {
        self_pointers,
        stack: at as usize,
        specific_used: find_specific_used(tp, probe.glibc),
    });
    std::ptr::null_mut()
}

/// Sets a key, and looks whether the byte behind the table of key blocks goes from 0 to 1.
fn find_specific_used(tp: usize, glibc: &Glibc) -> Option<usize> {
    let offset = glibc.specific + GROUPS * WORD;
    // SAFETY: a byte of this thread's block, which glibc writes below: hence volatile.
    let read = || unsafe { ((tp + offset) as *const u8).read_volatile() };
    let before = read();
    let mut key = 0;
    // SAFETY: `key` is ours to write.
    if unsafe { libc::pthread_key_create(&raw mut key, None) } != 0 {
        return None;
    }
    // SAFETY: the key was just made; any value will do.
    unsafe { libc::pthread_setspecific(key, (&raw const key).cast()) };
    let after = read();
    // SAFETY: as above; it has no destructor that could see the value.
    unsafe { libc::pthread_key_delete(key) };
    (before == 0 && after == 1).then_some(offset)
}
