//! Signals: stopping threads, breaking up hogs, and reporting stack overflow.
//!
//! # The world
//!
//! SIGURG also stops a thread when the collector stops the world: `stop` says how. Since signals of one kind merge, the handler
//! looks for both reasons. System calls that a stop interrupts go on, but for those that no signal lets go on (`signal(7)`:
//! `poll`, `epoll_wait`, `select`, `nanosleep`, ...), which return EINTR: on foreign threads too. A handler for SIGURG that the program installs after the start is replaced at the next stop.
//!
//! # Hogs
//!
//! sysmon (and a stopper of the world) sends SIGURG to the M of a goroutine that ran too long. The handler, on that very
//! thread, knows whether the goroutine is inside the runtime:
//!
//! - outside, and outside the allocator too (`M::in_rt` is 0, its heap record is not busy): it takes the P off the M, marks
//!   it HandOff, and wakes sysmon, which finds it a new M. The goroutine runs on without a P and queues for one at its next
//!   runtime call.
//! - inside: it sets `attention`; on its way out the goroutine yields.
//!
//! # Which stack
//!
//! The kernel puts what it saves (3.6 KB with AVX-512, 11 KB with AMX) below the stack pointer, or on the thread's alternate
//! stack. For faults it is the alternate stack, since the other one may be what is full. SIGURG must depend on none: any
//! thread gets it, at any moment, and alternate stacks are the program's. std unmaps the first thread's when the process
//! exits, and that thread runs on (rust-lang/rust#161018). A library that has put one into a thread-local frees it when a
//! goroutine ends, and leaves the thread on which it was set with a dangling one. So SIGURG is taken on the stack that the
//! thread is on.
//!
//! A small stack may have no room for it, and then:
//!
//! - *What the kernel saves does not fit*: it raises SIGSEGV in place of the signal, at the very same instruction, and that
//!   comes on the alternate stack (`is_without_room`). The fault handler does what the signal was for.
//! - *What the handler needs besides does not fit*: the first instruction of the handler looks [`ROOM`] bytes ahead, and
//!   faults there. The fault handler does its work in its stead.
//!
//! Ms have alternate stacks of their own, and so has the first thread, from before std looks whether it has one, which is
//! then nobody's to unmap ([`prepare_first_thread`]).
//!
//! # Invariants
//!
//! 1. The handlers are async-signal-safe: no lock, no allocation; they keep errno.
//! 2. A P is only left to others in state HandOff, from which they take it by compare-exchange.
//!
//! # Stack overflow
//!
//! A fault in the guard page of a goroutine's slot prints which goroutine it was and how large its stack is, and aborts. So
//! does one in the guard of an M's own stack, where blocking calls run. All other faults go to the handler that was there
//! before: std's knows the stacks of plain threads.
//!
//! # Why not
//!
//! - *Preempting at any instruction*, as Go does: it needs to know at each what is live. A goroutine without a P costs an OS
//!   thread while it lasts, which a hog uses anyway.
//! - *SIGURG on the alternate stack*, as in Go, which makes that of every thread it knows: see above.
//! - *Room for it on every stack*: the smallest would lose half of what they have, and a goroutine would overflow sooner
//!   if a signal happens to come.

use crate::g::G;
use crate::m::{ATTN_PREEMPT, M};
use crate::p::Status;
use crate::{bind, rt, stack, stop, sys, sysmon, tls};
use raddle_alloc::Thread;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, compiler_fence};

const PREEMPT: libc::c_int = libc::SIGURG;
const ALT_STACK_BYTES: usize = 64 << 10;
/// What the ABI lets a function use below its stack pointer, in bytes.
const RED_ZONE: usize = 128;

/// What the handler of SIGURG needs below what the kernel has saved, in bytes: several times what it uses.
const ROOM: usize = 2048;

/// The handlers that were there before, of SIGSEGV and SIGBUS.
static BEFORE: OnceLock<[libc::sigaction; 2]> = OnceLock::new();

/// Installs the handlers, once per process.
pub(crate) fn install() {
    let segv = set_handler(libc::SIGSEGV, on_fault as *const () as usize);
    let bus = set_handler(libc::SIGBUS, on_fault as *const () as usize);
    BEFORE.get_or_init(|| [segv, bus]);
    set_handler(PREEMPT, on_urgent as *const () as usize);
}

/// Makes sure that [`PREEMPT`] is still ours: a program may have taken it, and then nobody would ever stop.
pub(crate) fn keep_handler() {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks for the action only, and there is room for it.
    unsafe { libc::sigaction(PREEMPT, ptr::null(), now.as_mut_ptr()) };
    // SAFETY: zeroed, and filled by the call.
    let now = unsafe { now.assume_init() };
    if now.sa_sigaction != on_urgent as *const () as usize {
        set_handler(PREEMPT, on_urgent as *const () as usize);
    }
}

fn set_handler(signal: libc::c_int, handler: usize) -> libc::sigaction {
    let mut before = MaybeUninit::zeroed();
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    // Restart: the program's system calls do not notice.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    if signal == PREEMPT {
        // While the world is stopped no handler of the program runs, either.
        action.sa_mask = all_but_faults();
    } else {
        action.sa_flags |= libc::SA_ONSTACK;
    }
    // SAFETY: both point to sigactions, and the handler has the signature that SA_SIGINFO asks for.
    unsafe { libc::sigaction(signal, &action, before.as_mut_ptr()) };
    // SAFETY: zeroed, and filled by the call.
    unsafe { before.assume_init() }
}

/// Gives the calling thread, that of `m`, its alternate signal stack, and exact timers.
pub(crate) fn prepare_thread(m: &M) {
    m.alt_stack.set(set_alt_stack());
    unblock();
    // The default slack of 50 us would add to every timer and nap.
    // SAFETY: sets a number of this thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Returns the new stack; null if there is no memory for one.
fn set_alt_stack() -> *mut libc::c_void {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping.
    let sp = unsafe { libc::mmap(ptr::null_mut(), ALT_STACK_BYTES, prot, flags, -1, 0) };
    if sp == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    let alt = libc::stack_t {
        ss_sp: sp,
        ss_flags: 0,
        ss_size: ALT_STACK_BYTES,
    };
    // SAFETY: the mapping lives until `leave_thread`, or for ever.
    unsafe { libc::sigaltstack(&alt, ptr::null_mut()) };
    sp
}

/// Gives the process's first thread an alternate signal stack that stays. To be called by a constructor: std, which comes
/// later, then makes none, and does not unmap it while the process exits and the thread runs on.
///
/// Does nothing on another thread, or where there is one already.
pub fn prepare_first_thread() {
    let mut now = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: asks for the present stack only, and there is room for it.
    unsafe { libc::sigaltstack(ptr::null(), now.as_mut_ptr()) };
    // SAFETY: zeroed, and filled by the call.
    let now = unsafe { now.assume_init() };
    // SAFETY: no preconditions.
    let process = unsafe { libc::getpid() };
    // SAFETY: no preconditions.
    let thread = unsafe { libc::gettid() };
    if now.ss_flags & libc::SS_DISABLE != 0 && process == thread {
        set_alt_stack();
    }
}

/// The calling thread, that of `m`, ends: handlers run on what is left of its own stack.
pub(crate) fn leave_thread(m: &M) {
    let alt = libc::stack_t {
        ss_sp: ptr::null_mut(),
        ss_flags: libc::SS_DISABLE,
        ss_size: 0,
    };
    // SAFETY: a stack_t to read.
    unsafe { libc::sigaltstack(&alt, ptr::null_mut()) };
    let sp = m.alt_stack.replace(ptr::null_mut());
    if !sp.is_null() {
        // SAFETY: `prepare_thread` mapped it, and it is in use no more: this is no handler.
        unsafe { libc::munmap(sp, ALT_STACK_BYTES) };
    }
}

/// Lets our signals come to the calling thread. Its creator may have blocked them, as programs do that wait for signals on a
/// thread of their own.
pub(crate) fn unblock() {
    let mut ours = empty();
    for signal in [PREEMPT, libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: an initialised set; a valid signal.
        unsafe { libc::sigaddset(&mut ours, signal) };
    }
    // SAFETY: an initialised set.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &ours, ptr::null_mut()) };
}

fn empty() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised.
    unsafe { set.assume_init() }
}

/// All signals but those that an instruction raises, and glibc's own.
fn all_but_faults() -> libc::sigset_t {
    let mut set = empty();
    // SAFETY: an initialised set.
    unsafe { libc::sigfillset(&mut set) };
    for signal in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGTRAP,
    ] {
        // SAFETY: as above; a valid signal.
        unsafe { libc::sigdelset(&mut set, signal) };
    }
    set
}

/// Blocks all signals but faults on the calling thread. Returns what was blocked before.
pub(crate) fn block_all() -> libc::sigset_t {
    let mut before = empty();
    // SAFETY: both are initialised sets.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &all_but_faults(), &mut before) };
    before
}

/// Undoes [`block_all`].
pub(crate) fn block_only(set: &libc::sigset_t) {
    // SAFETY: an initialised set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, ptr::null_mut()) };
}

/// Asks the goroutine on `m` to give its P up.
pub(crate) fn preempt(m: &M) {
    m.preempt.store(true, Ordering::Release); // pairs with the handler
    send(m.tid.load(Ordering::Relaxed));
}

/// Sends the signal to a thread of this process. False: there is no such thread. (One that may not be signalled is there.)
pub(crate) fn send(tid: i32) -> bool {
    // SAFETY: no preconditions.
    let pid = unsafe { libc::getpid() };
    // SAFETY: no preconditions.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, PREEMPT) == 0 };
    sent || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// Goes on in [`on_urgent_with_room`], if there is room. Its first instruction is the one that may fault: [`on_fault`] relies on it.
// SAFETY: changes no register that a function has to keep, and leaves the stack as it is.
#[unsafe(naked)]
extern "C" fn on_urgent(
    _signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    std::arch::naked_asm!(
        ".cfi_startproc",
        "mov al, byte ptr [rsp - {room}]",
        "jmp {go_on}",
        ".cfi_endproc",
        room = const ROOM,
        go_on = sym on_urgent_with_room,
    )
}

/// Where [`on_urgent`] goes on when its work is done.
// SAFETY: the end of a function that has changed nothing.
#[unsafe(naked)]
extern "C" fn return_at_once() {
    std::arch::naked_asm!(".cfi_startproc", "ret", ".cfi_endproc")
}

extern "C" fn on_urgent_with_room(
    _signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    urgent(context.cast());
}

/// What the signal means is not in it: the world may be stopped, somebody may want this M's P, both, or, for one that was late or
/// is the program's own, neither. `context` is what it interrupted.
fn urgent(context: *const libc::ucontext_t) {
    // SAFETY: no preconditions.
    let errno_at = unsafe { libc::__errno_location() };
    // SAFETY: this thread's errno.
    let errno = unsafe { *errno_at };
    stop::arrive(context);
    // SAFETY: null or this thread's M; Ms are never freed.
    if let Some(m) = unsafe { rt::this_m().as_ref() }
        && m.preempt.swap(false, Ordering::Acquire)
    {
        give_p_up(m);
    }
    // SAFETY: as above.
    unsafe { *errno_at = errno };
}

fn give_p_up(m: &M) {
    // Inside the allocator it uses the P's cache.
    if m.depth() > 0 || m.heap.get().is_some_and(Thread::is_busy) {
        m.attention.fetch_or(ATTN_PREEMPT, Ordering::Relaxed);
        return;
    }
    let Some(p) = m.p() else { return };
    m.set_p(None);
    compiler_fence(Ordering::SeqCst);
    p.set_status(Status::HandOff);
    sysmon::poke();
}

extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo for a fault.
    let info_ref = unsafe { &*info };
    if signal == libc::SIGSEGV {
        // SAFETY: and a valid context, which is the handler's to change.
        let interrupted = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        let registers = &mut interrupted.uc_mcontext.gregs;
        if registers[libc::REG_RIP as usize] as usize == on_urgent as *const () as usize {
            // The third argument is what was interrupted.
            urgent(registers[libc::REG_RDX as usize] as *const libc::ucontext_t);
            registers[libc::REG_RIP as usize] = return_at_once as *const () as i64;
            return;
        }
        if is_without_room(info_ref, interrupted) {
            // The handler of SIGURG would have them blocked: one that came now would stop the thread a second time. The end
            // of this handler unblocks them.
            block_all();
            urgent(interrupted);
            return;
        }
    }
    // SAFETY: a fault's siginfo has an address.
    let addr = unsafe { info_ref.si_addr() } as usize;
    // SAFETY: null or the G of this thread's block.
    let g = unsafe { rt::current().as_ref() };
    if let Some(g) = g
        && let Some(slot) = stack::owner_of_guard(addr)
        && g.stack
            .get()
            .is_some_and(|own| own.slot.guard() == slot.guard())
    {
        let above = g.stack.get().map_or(0, |own| own.slot.top() - own.top);
        report_overflow(g, slot.bytes(), above, OF_A_GOROUTINE);
    }
    let m = match g {
        Some(g) if g.is_thread => g.locked_m.get(),
        _ => rt::this_m(),
    };
    // SAFETY: null or this thread's M; Ms are never freed.
    if let Some(end) = unsafe { m.as_ref() }.map(|m| m.stack_end.get())
        && end.has_in_guard(addr)
    {
        match g {
            // Without what thread-locals take, and the rest of a page.
            Some(g) => {
                let bytes = (end.bytes - tls::static_bytes()) & !(stack::PAGE_BYTES - 1);
                report_overflow(g, bytes, 0, OF_A_BLOCKING_CALL)
            }
            None => crate::throw("the scheduler has overflowed its stack"),
        }
    }
    pass_on(signal, info, context);
}

/// Whether the kernel raised the SIGSEGV since it found no room on the stack for what it saves for another signal, which can
/// only be SIGURG: others of the program's are taken as they are in any program.
///
/// It says then that it sent the signal by itself, as it does for some exceptions of the processor; these it names.
fn is_without_room(info: &libc::siginfo_t, context: &libc::ucontext_t) -> bool {
    /// `SI_KERNEL`.
    const BY_KERNEL: i32 = 0x80;
    /// Overflow, bound range, invalid TSS, segment not present, stack segment, general protection.
    const EXCEPTIONS: [i64; 6] = [4, 5, 10, 11, 12, 13];
    let registers = &context.uc_mcontext.gregs;
    if info.si_code != BY_KERNEL || EXCEPTIONS.contains(&registers[libc::REG_TRAPNO as usize]) {
        return false;
    }
    let sp = registers[libc::REG_RSP as usize] as usize;
    // SAFETY: no preconditions. From Linux 5.14: what the kernel may save, at most. Before, the constant was enough.
    let saved = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    let lowest = sp.saturating_sub(saved.max(libc::MINSIGSTKSZ) + RED_ZONE);
    // On a stack of which nothing is known it is believed.
    stack::slot_of(sp).is_none_or(|slot| lowest < slot.base())
}

/// Lets a handler of a fault have faults of its own, to which its signal mask would be deaf: the
/// kernel then ends the process without a word. In a program for race mode std is instrumented, and
/// the first access to this signal stack faults for want of shadow.
fn unblock_faults() {
    let faults: u64 = (1 << (libc::SIGSEGV - 1)) | (1 << (libc::SIGBUS - 1));
    // By the bare call: it is no event of the program's.
    // SAFETY: a mask of the kernel's size, and no place for the one before.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_UNBLOCK,
            &raw const faults,
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}

const OF_A_GOROUTINE: &str =
    "\nraddle: fatal: stack overflow; give it more by Builder::stack_size or RADDLE_STACK\n";
const OF_A_BLOCKING_CALL: &str = " in a blocking call\nraddle: fatal: stack overflow; a blocking call runs on the stack of its OS thread, whose size is fixed\n";

/// `bytes` are the stack's, of which a thread-local block takes `above`. `end` comes behind them.
fn report_overflow(g: &G, bytes: usize, above: usize, end: &str) -> ! {
    unblock_faults();
    let mut number = [0; 20];
    let (open, name, close) = match g.own_name() {
        Some(name) => (" \"", name, "\""),
        None => ("", "", ""),
    };
    let id = sys::decimal(g.id(), &mut number);
    for part in [
        "\ngoroutine ",
        id,
        open,
        name,
        close,
        " has overflowed its stack of ",
    ] {
        sys::write_stderr(part.as_bytes());
    }
    let kib = sys::decimal(bytes as u64 >> 10, &mut number);
    sys::write_stderr(kib.as_bytes());
    let (open, kib, close) = if above > bind::FREE_FOR_BLOCK {
        let kib = sys::decimal(above as u64 >> 10, &mut number);
        (" KiB, of which thread-locals take ", kib, " KiB")
    } else {
        (" KiB", "", "")
    };
    for part in [open, kib, close, end] {
        sys::write_stderr(part.as_bytes());
    }
    // SAFETY: async-signal-safe; raises SIGABRT.
    unsafe { libc::abort() }
}

/// Calls the handler that was there before; with none, the fault comes again and ends the process as the kernel does.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let before = BEFORE
        .get()
        .map(|before| before[usize::from(signal == libc::SIGBUS)]);
    match before {
        Some(action)
            if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN =>
        {
            if action.sa_flags & libc::SA_SIGINFO != 0 {
                type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                // SAFETY: SA_SIGINFO says that it has this signature.
                let handler: Handler = unsafe { std::mem::transmute(action.sa_sigaction) };
                handler(signal, info, context);
            } else {
                // SAFETY: without SA_SIGINFO it has this signature.
                let handler: extern "C" fn(libc::c_int) =
                    unsafe { std::mem::transmute(action.sa_sigaction) };
                handler(signal);
            }
        }
        _ => {
            // SAFETY: back to the default action.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}
