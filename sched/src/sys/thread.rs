//! Making the OS threads of Ms and of sysmon.
//!
//! # Why not
//!
//! `std::thread` registers thread-local state of the *creating* thread, which here may be a goroutine that would carry it for
//! the rest of its life. `pthread_create` leaves nothing behind. Signals stay as the creator has them, which is why
//! `Sched::new_m` looks who that is.

use crate::m::M;
use crate::stack::PAGE_BYTES;
use crate::tls;
use std::ffi::{CString, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// An M's own stack: blocking calls run user code on it. Address space only. Thread-locals, which
/// glibc puts on the stack too, come on top.
const M_STACK_BYTES: usize = 8 << 20;

/// Starts the thread of `m`.
pub(crate) fn start_m(m: &'static M) {
    extern "C" fn run(m: *mut c_void) -> *mut c_void {
        // SAFETY: `start_m` passed an M, which is never freed.
        let m = unsafe { &*m.cast::<M>() };
        name_thread(&format!("raddle-m{}", m.id()));
        crate::proc::m_main(m);
        ptr::null_mut()
    }
    // It is counted already.
    let others = || crate::sched::sched().ms().saturating_sub(1);
    start(run, ptr::from_ref(m).cast_mut().cast(), others);
}

/// Starts a thread that runs `f` for ever.
pub(crate) fn start_service(name: &'static str, f: fn() -> !) {
    extern "C" fn run(arg: *mut c_void) -> *mut c_void {
        // SAFETY: `start_service` leaked this pair.
        let (name, f) = unsafe { *arg.cast::<(&'static str, fn() -> !)>() };
        name_thread(name);
        f()
    }
    let others = || crate::sched::sched().ms();
    start(run, Box::into_raw(Box::new((name, f))).cast(), others);
}

/// `others` says how many threads run goroutines beside it.
fn start(
    run: extern "C" fn(*mut c_void) -> *mut c_void,
    arg: *mut c_void,
    others: impl FnOnce() -> u32,
) {
    let bytes = (M_STACK_BYTES + tls::static_bytes()).next_multiple_of(PAGE_BYTES);
    let mut attr = MaybeUninit::uninit();
    let mut thread = MaybeUninit::uninit();
    // SAFETY: initialises the attributes.
    unsafe { libc::pthread_attr_init(attr.as_mut_ptr()) };
    // SAFETY: initialised above.
    unsafe { libc::pthread_attr_setstacksize(attr.as_mut_ptr(), bytes) };
    // SAFETY: as above.
    unsafe { libc::pthread_attr_setdetachstate(attr.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED) };
    // SAFETY: `run` does not unwind, and takes what `arg` is.
    let create = || unsafe { libc::pthread_create(thread.as_mut_ptr(), attr.as_ptr(), run, arg) };
    let error = raddle_race::unwatched(create);
    if error != 0 {
        cannot_start(others());
    }
}

/// Ends the program, which cannot do without another thread: a goroutine that is ready to run might wait for ever. Allocates
/// nothing: memory may be what there is none of.
#[cold]
pub(crate) fn cannot_start(others: u32) -> ! {
    let mut number = [0; 20];
    let mut text = [0; 512];
    let mut end = 0;
    // In one piece: other threads may be short of the same, and say so.
    for part in [
        "raddle: fatal: cannot start another OS thread, beside ",
        super::decimal(others.into(), &mut number),
        " that run goroutines: the limit on processes (ulimit -u, or pids.max of the cgroup) or on memory (ulimit -v) is \
         reached. A blocking call takes a thread for as long as it blocks, a locked goroutine for as long as it lives\n",
    ] {
        text[end..end + part.len()].copy_from_slice(part.as_bytes());
        end += part.len();
    }
    super::write_stderr(&text[..end]);
    std::process::abort()
}

/// Where the calling thread's stack ends, as far as that can be told: else at no address.
pub(crate) fn stack_end() -> StackEnd {
    let mut attr = MaybeUninit::uninit();
    // SAFETY: no preconditions.
    let own = unsafe { libc::pthread_self() };
    // SAFETY: initialises the attributes if it returns 0.
    if unsafe { libc::pthread_getattr_np(own, attr.as_mut_ptr()) } != 0 {
        return StackEnd::UNKNOWN;
    }
    let (mut start, mut bytes, mut guard) = (ptr::null_mut(), 0, 0);
    // SAFETY: initialised above; room for both results.
    unsafe { libc::pthread_attr_getstack(attr.as_ptr(), &mut start, &mut bytes) };
    // SAFETY: as above.
    unsafe { libc::pthread_attr_getguardsize(attr.as_ptr(), &mut guard) };
    // SAFETY: initialised above, and not used again.
    unsafe { libc::pthread_attr_destroy(attr.as_mut_ptr()) };
    StackEnd {
        lowest: start.addr(),
        guard_bytes: guard,
        bytes,
    }
}

/// The low end of a thread's stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackEnd {
    /// The lowest address; `usize::MAX` if it cannot be told.
    pub(crate) lowest: usize,
    guard_bytes: usize,
    /// The size of the whole stack.
    pub(crate) bytes: usize,
}

impl StackEnd {
    pub(crate) const UNKNOWN: StackEnd = StackEnd {
        lowest: usize::MAX,
        guard_bytes: 0,
        bytes: 0,
    };

    /// Whether a fault there means that the stack is full. Before 2.27 glibc took the guard for a part of the stack.
    pub(crate) fn has_in_guard(&self, addr: usize) -> bool {
        let guard = self.lowest.saturating_sub(self.guard_bytes)
            ..self.lowest.saturating_add(self.guard_bytes);
        guard.contains(&addr)
    }
}

fn name_thread(name: &str) {
    if let Ok(name) = CString::new(name) {
        // SAFETY: a NUL-terminated string; the kernel cuts it at 15 bytes.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}
