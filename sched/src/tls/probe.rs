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
use std::ops::Range;

/// What a probe thread has for frames, in bytes. glibc puts the block and all static storage above.
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
    stack: Range<usize>,
    found: Option<Template>,
}

/// Starts a thread, looks at its block, and joins it.
pub(super) fn run(glibc: &Glibc, libc: &Module) -> Result<Template, String> {
    let mut probe = Probe {
        glibc,
        libc,
        stack: 0..0,
        found: None,
    };
    let at: *mut Probe<'_> = &raw mut probe;
    on_fresh_thread(glibc, look, at.cast(), |stack| {
        // SAFETY: the thread has not started; nothing else uses the probe.
        unsafe { (*at).stack = stack };
    })?;
    let missing = Missing(c"struct pthread: its stack bounds were not found");
    probe.found.ok_or_else(|| missing.to_string())
}

/// Runs `body(arg)` on a new thread, on a stack of ours whose bounds it tells first. Returns once
/// the thread has ended.
///
/// # Errors
/// Why the thread could not be started.
pub(super) fn on_fresh_thread(
    glibc: &Glibc,
    body: extern "C" fn(*mut c_void) -> *mut c_void,
    arg: *mut c_void,
    tell: impl FnOnce(Range<usize>),
) -> Result<(), String> {
    // A mapping and not heap memory: thread-locals may be many MiB, which the heap would keep.
    let bytes = (STACK_BYTES + glibc.static_bytes + glibc.align).next_multiple_of(PAGE_BYTES);
    let refused = |what: &str, errno| {
        let error = std::io::Error::from_raw_os_error(errno);
        let kib = bytes >> 10;
        format!(
            "{what} to look at the program's thread-locals ({kib} KiB with its stack): {error}; see ulimit -u and ulimit -v"
        )
    };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no other.
    let at = unsafe { raddle_race::sys::map(std::ptr::null_mut(), bytes, protection, flags) };
    if at == libc::MAP_FAILED {
        let errno = std::io::Error::last_os_error().raw_os_error();
        return Err(refused(
            "cannot map memory for a thread",
            errno.unwrap_or(0),
        ));
    }
    let stack = at as usize;
    tell(stack..stack + bytes);
    // SAFETY: zeros are a valid value to initialise over.
    let mut attr: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
    let attr = &raw mut attr;
    let mut thread: libc::pthread_t = 0;
    // SAFETY: `attr` is ours to initialise.
    let mut error = unsafe { libc::pthread_attr_init(attr) };
    // SAFETY: the memory is kept until the thread is joined.
    error |= unsafe { libc::pthread_attr_setstack(attr, at, bytes) };
    // Unwatched: nothing of the thread's block is to change before `body` looks at it.
    error |= raddle_race::unwatched(|| {
        // SAFETY: the caller passes what `body` expects and leaves it alone until the join.
        unsafe { libc::pthread_create(&raw mut thread, attr, body, arg) }
    });
    if error == 0 {
        // SAFETY: the thread was just created and is joined once.
        error = unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
    }
    // SAFETY: initialised above.
    unsafe { libc::pthread_attr_destroy(attr) };
    // SAFETY: mapped above, and the thread is over.
    unsafe { raddle_race::sys::unmap(at, bytes) };
    match error {
        0 => Ok(()),
        errno => Err(refused("cannot start a thread", errno)),
    }
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
        .find(|&at| word(at) == probe.stack.start && word(at + WORD as isize) == probe.stack.len());
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
