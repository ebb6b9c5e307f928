//! What a program may do besides accesses: signals it blocks, faults of its own, memory where it wants
//! it, children. Compiled by `cargo raddle`, it is what it was, with race mode on and off
//! (`compiled_programs_do_what_plain_ones_do` in `race.rs`).

use std::ffi::c_int;
use std::hint::black_box;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicUsize};
use std::{ptr, thread};

/// Bytes from one touch to the next: each is the first of what the detector remembers together.
const STRIDE: usize = 1 << 20;
const TOUCHES: usize = 40;

/// New memory, at an address or anywhere; null where there is none.
fn map(at: usize) -> *mut u8 {
    let fixed = if at == 0 {
        0
    } else {
        libc::MAP_FIXED_NOREPLACE
    };
    let (flags, protection) = (
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed,
        libc::PROT_READ | libc::PROT_WRITE,
    );
    let at = ptr::with_exposed_provenance_mut(at);
    // SAFETY: a new mapping, which replaces nothing.
    let memory = unsafe { libc::mmap(at, TOUCHES * STRIDE, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        ptr::null_mut()
    } else {
        memory.cast()
    }
}

/// Reads and writes new memory, at many places; and a new stack of 400 KB.
#[inline(never)]
fn touch(memory: *mut u8) -> usize {
    assert!(!memory.is_null());
    let mut sum = 0;
    for n in 0..TOUCHES {
        let at = black_box(memory.wrapping_add(n * STRIDE));
        // SAFETY: inside the mapping, which nobody else uses.
        sum += usize::from(unsafe { at.read() });
        // SAFETY: as above.
        unsafe { at.write(1) };
        // SAFETY: as above.
        sum += usize::from(unsafe { at.read() });
    }
    let mut room = [0_u8; 400_000];
    black_box(&mut room)[sum] = 1;
    sum
}

fn touch_new() {
    assert_eq!(touch(map(0)), TOUCHES);
}

fn all_signals() -> libc::sigset_t {
    // SAFETY: a set without signals is one of zeros.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a set.
    unsafe { libc::sigfillset(&mut all) };
    all
}

/// Sets a handler; `blocks_all`: with every signal blocked meanwhile.
fn handle(signal: c_int, handler: usize, flags: c_int, blocks_all: bool) {
    // SAFETY: an action of zeros is one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    if blocks_all {
        action.sa_mask = all_signals();
    }
    // SAFETY: the callers pass a handler of the type that the flags ask for.
    assert_eq!(
        unsafe { libc::sigaction(signal, &action, ptr::null_mut()) },
        0
    );
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn touches_new(_signal: c_int) {
    touch_new();
    HANDLED.fetch_add(1, Relaxed);
}

fn on_a_thread(f: impl FnOnce() + Send + 'static) {
    thread::spawn(f).join().unwrap();
}

pub fn no_race_with_all_signals_blocked() {
    on_a_thread(|| {
        // SAFETY: a set; the old one is not wanted.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &all_signals(), ptr::null_mut()) };
        assert_eq!(error, 0);
        touch_new();
        let mut grows = vec![];
        (0..1_000_000).for_each(|n| grows.push(n));
        assert_eq!(grows.iter().sum::<usize>(), 499_999_500_000);
    });
}

pub fn no_race_in_a_handler_that_blocks_all_signals() {
    for flags in [0, libc::SA_ONSTACK] {
        handle(
            libc::SIGUSR2,
            touches_new as extern "C" fn(c_int) as usize,
            flags,
            true,
        );
        on_a_thread(|| {
            if HANDLED.load(Relaxed) == 0 {
                // SAFETY: it has a handler.
                unsafe { libc::raise(libc::SIGUSR2) };
            }
        });
    }
    assert_eq!(HANDLED.load(Relaxed), 1);
}

/// The stack that a program gives its handlers has little room.
pub fn no_race_on_a_small_alternate_stack() {
    extern "C" fn counts(_signal: c_int) {
        HANDLED.fetch_add(touch_little(map(0)), Relaxed);
    }
    fn touch_little(memory: *mut u8) -> usize {
        // SAFETY: the mapping, which nobody else uses.
        usize::from(unsafe { black_box(memory).read() }) + 1
    }
    handle(
        libc::SIGUSR2,
        counts as extern "C" fn(c_int) as usize,
        libc::SA_ONSTACK,
        true,
    );
    on_a_thread(|| {
        let mut room = vec![0_u8; 16 << 10];
        let stack = libc::stack_t {
            ss_sp: room.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: room.len(),
        };
        // SAFETY: the thread's until it takes it off again, below.
        assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);
        // SAFETY: it has a handler.
        unsafe { libc::raise(libc::SIGUSR2) };
        let none = libc::stack_t {
            ss_flags: libc::SS_DISABLE,
            ..stack
        };
        // SAFETY: no handler runs there.
        assert_eq!(unsafe { libc::sigaltstack(&none, ptr::null_mut()) }, 0);
    });
    assert_eq!(HANDLED.load(Relaxed), 1);
}

/// First touches, with a signal at each moment of them.
pub fn no_race_while_signals_arrive() {
    handle(
        libc::SIGALRM,
        touches_little as extern "C" fn(c_int) as usize,
        libc::SA_RESTART,
        false,
    );
    extern "C" fn touches_little(_signal: c_int) {
        HANDLED.fetch_add(1, Relaxed);
    }
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: 200,
    };
    let mut timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: a timer whose signal has a handler.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
    for _ in 0..50 {
        touch_new();
    }
    timer.it_value.tv_usec = 0;
    // SAFETY: ends it.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
}

/// Of glibc's own threads, which block all signals.
pub fn no_race_on_a_timer_s_thread() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn called(_value: libc::sigval) {
        touch_new();
        DONE.store(1, Release);
    }
    /// `sigevent` with a function.
    #[repr(C)]
    struct Event {
        value: usize,
        signal: c_int,
        notify: c_int,
        function: extern "C" fn(libc::sigval),
        attributes: usize,
        room: [u64; 6],
    }
    const SIGEV_THREAD: c_int = 2;
    let mut event = Event {
        value: 0,
        signal: 0,
        notify: SIGEV_THREAD,
        function: called,
        attributes: 0,
        room: [0; 6],
    };
    let mut timer = ptr::null_mut();
    // SAFETY: an event as the C library has it, and room for the timer.
    let error = unsafe {
        libc::timer_create(
            libc::CLOCK_MONOTONIC,
            (&raw mut event).cast(),
            &raw mut timer,
        )
    };
    assert_eq!(error, 0);
    // SAFETY: zeros are no interval.
    let mut when: libc::itimerspec = unsafe { std::mem::zeroed() };
    when.it_value.tv_nsec = 1_000_000;
    // SAFETY: the timer made above.
    assert_eq!(
        unsafe { libc::timer_settime(timer, 0, &when, ptr::null_mut()) },
        0
    );
    while DONE.load(Acquire) == 0 {
        thread::yield_now();
    }
}

/// A write barrier by protection, as collectors have it: the handler opens the page.
pub fn no_race_with_faults_of_its_own() {
    extern "C" fn opens(_signal: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel's.
        let at = unsafe { (*info).si_addr() }.map_addr(|at| at & !4095);
        let open = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a page of the mapping below.
        unsafe { libc::mprotect(at, 4096, open) };
        HANDLED.fetch_add(1, Relaxed);
    }
    type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void);
    handle(
        libc::SIGSEGV,
        opens as Handler as usize,
        libc::SA_SIGINFO,
        false,
    );
    let memory = map(0);
    // SAFETY: the mapping, which nobody else uses.
    unsafe { libc::mprotect(memory.cast(), TOUCHES * STRIDE, libc::PROT_NONE) };
    let memory = AtomicPtr::new(memory);
    on_a_thread(move || assert_eq!(touch(memory.into_inner()), TOUCHES));
    assert_eq!(HANDLED.load(Relaxed), TOUCHES);
}

/// An address that is nothing faults, and the handler is told so: also where the detector has its own
/// memory.
pub fn no_race_with_wild_addresses() {
    static AT: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn ends(_signal: c_int) {
        // SAFETY: ends the process of a fork.
        unsafe { libc::_exit(if AT.load(Relaxed) == 0 { 1 } else { 0 }) };
    }
    for at in [8, 0x1234_5678_9000, 0x4141_4141_4141, 0x1111_1111_1111] {
        // SAFETY: the child ends below, and the other threads of this program hold no locks.
        let child = unsafe { libc::fork() };
        if child == 0 {
            handle(
                libc::SIGSEGV,
                ends as extern "C" fn(c_int) as usize,
                0,
                false,
            );
            AT.store(at, Relaxed);
            let wild = ptr::with_exposed_provenance::<u8>(black_box(at));
            // SAFETY: none: it faults.
            black_box(unsafe { wild.read_volatile() });
            // SAFETY: ends the process.
            unsafe { libc::_exit(2) };
        }
        assert_eq!(status_of(child), 0, "{at:x}");
    }
}

/// As a program does whose own heap has a fixed place.
pub fn no_race_in_memory_at_odd_places() {
    for at in [
        0x0123_0000_0000,
        0x6000_0000_0000,
        0x5000_0000_0000,
        0x00c0_0000_0000,
    ] {
        let memory = map(at);
        if !memory.is_null() {
            assert_eq!(touch(memory), TOUCHES, "{at:x}");
        }
    }
}

pub fn no_race_with_memory_locked() {
    // SAFETY: no preconditions. It may be refused, but not for the detector's memory.
    let error = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
    assert_eq!(error, 0);
    touch_new();
}

fn status_of(child: libc::pid_t) -> c_int {
    let mut status = -1;
    // SAFETY: the caller's child; the status is ours.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    status
}

/// Its heap grows, in tables and on threads, while the parent has others.
pub fn no_race_in_children_that_grow() {
    let in_child = [
        || touch_new(),
        || {
            let table: std::collections::HashMap<_, _> =
                (0..50_000).map(|n| (n, n.to_string())).collect();
            assert_eq!(table.len(), 50_000);
        },
        || (0..4).for_each(|_| on_a_thread(touch_new)),
    ];
    let before = vec![1_u8; 10_000_000];
    for grow in in_child {
        // SAFETY: the child ends below, and the other threads of this program hold no locks.
        let child = unsafe { libc::fork() };
        if child == 0 {
            grow();
            let sum = before.iter().map(|&n| usize::from(n)).sum::<usize>();
            // SAFETY: ends the process.
            unsafe { libc::_exit(c_int::from(sum != before.len())) };
        }
        assert_eq!(status_of(child), 0);
    }
}
