//! Whatever place a pointer is kept in, it is in a range that the world shows.
//!
//! Each keeper makes a number of its own that is nowhere else, keeps it in one kind of place, and says so. Then the world is
//! stopped, and all that is shown is searched for all the numbers.

mod common;

use common::{Gate, go, on_collector, on_own_stack};
use raddle_sched::{BootOptions, blocking, boot, lock_os_thread, set_procs, tls_mode};
use std::arch::asm;
use std::cell::Cell;
use std::ffi::c_void;
use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::{env, mem, ptr, thread};

/// The places, which are also what the numbers are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Place {
    Static = 1,
    ParkedStack,
    ParkedThreadLocal,
    ParkedRegister,
    ParkedKey,
    NotBegun,
    RunningRegister,
    RunningVector,
    RunningStack,
    RunningThreadLocal,
    BlockingStack,
    BlockingOwnStack,
    BlockingThreadLocal,
    LockedStack,
    ThreadStack,
    ThreadThreadLocal,
    ThreadRegister,
    ThreadKey,
    PthreadStack,
    BelowAltStack,
    OnAltStack,
    OnOwnStack,
    ParkedOnOwnStack,
    BelowOwnStackParked,
    BelowOwnStackBlocking,
    CHeap,
    Mapping,
    OddAddress,
    /// That of a thread that has ended: not shown.
    EndedStack,
}

/// Those that must be shown.
const PLACES: u64 = Place::OddAddress as u64;
const ALL: usize = Place::EndedStack as usize + 1;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number of a place: made afresh by whoever needs it, so that no other place has it.
#[inline(always)]
fn number(place: Place) -> u64 {
    black_box(place as u64).wrapping_mul(black_box(FACTOR)) | 1
}

static STATIC: AtomicU64 = AtomicU64::new(0);
/// How many keepers are in position, and whether they may go.
static READY: AtomicUsize = AtomicUsize::new(0);
static GO_ON: AtomicUsize = AtomicUsize::new(0);
static GATE: Gate = Gate::new();

thread_local! {
    static LOCAL: Cell<u64> = const { Cell::new(0) };
}

fn ready() {
    READY.fetch_add(1, SeqCst);
}

fn may_go() -> bool {
    GO_ON.load(SeqCst) != 0
}

/// Sleeps in the kernel until told to go on.
fn sleep() {
    ready();
    while !may_go() {
        // SAFETY: the word is a static.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                GO_ON.as_ptr(),
                libc::FUTEX_WAIT,
                0,
                ptr::null::<libc::timespec>(),
            )
        };
    }
}

/// Spins until told to go on.
fn spin() {
    ready();
    while !may_go() {
        std::hint::spin_loop();
    }
}

fn park() {
    ready();
    GATE.wait();
}

/// Waits by `wait` with the number of `place` in this frame only.
#[inline(never)]
fn in_stack(place: Place, wait: fn()) {
    let kept = [Cell::new(0), Cell::new(number(place))];
    black_box(&kept);
    wipe();
    wait();
    black_box(&kept);
}

#[inline(never)]
fn in_local(place: Place, wait: fn()) {
    LOCAL.with(|local| black_box(local).set(number(place)));
    wipe();
    wait();
    LOCAL.with(|local| black_box(local).set(0));
}

/// A key that has no place in the thread control block itself.
#[inline(never)]
fn in_key(place: Place, wait: fn()) {
    let mut key = 0;
    while key < 40 {
        // SAFETY: `key` is ours to write. The others stay, for the next who asks to get a higher one.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, None) }, 0);
    }
    // SAFETY: the key was just made.
    unsafe { libc::pthread_setspecific(key, number(place) as *const c_void) };
    wipe();
    wait();
    // SAFETY: as above.
    unsafe { libc::pthread_setspecific(key, ptr::null()) };
}

/// Overwrites what calls left below the caller's frame.
#[inline(never)]
fn wipe() {
    black_box([0u8; 2048]);
}

extern "C" fn c_park() {
    park();
}

/// Parks with the number in a register that calls preserve.
#[inline(never)]
fn in_preserved_register(place: Place) {
    // SAFETY: as a call does; the register is named, and given back.
    unsafe {
        asm!(
            "mov r13, rax",
            "imul r13, rdx",
            "or r13, 1",
            "call {park}",
            inout("rax") FACTOR => _,
            inout("rdx") place as u64 => _,
            park = sym c_park,
            out("r13") _,
            clobber_abi("C"),
        );
    }
}

/// Spins with the number in a general register.
#[inline(never)]
fn in_register(place: Place) {
    ready();
    // SAFETY: reads a static.
    unsafe {
        asm!(
            "imul {kept}, {place}",
            "or {kept}, 1",
            "xor {place}, {place}",
            "2:",
            "pause",
            "cmp qword ptr [{flag}], 0",
            "je 2b",
            kept = inout(reg) FACTOR => _,
            place = inout(reg) place as u64 => _,
            flag = in(reg) GO_ON.as_ptr(),
        );
    }
}

/// Spins with the number in a vector register.
#[inline(never)]
fn in_vector(place: Place) {
    ready();
    // SAFETY: reads a static.
    unsafe {
        asm!(
            "imul {kept}, {place}",
            "or {kept}, 1",
            "movq xmm11, {kept}",
            "xor {kept}, {kept}",
            "xor {place}, {place}",
            "2:",
            "pause",
            "cmp qword ptr [{flag}], 0",
            "je 2b",
            kept = inout(reg) FACTOR => _,
            place = inout(reg) place as u64 => _,
            flag = in(reg) GO_ON.as_ptr(),
            out("xmm11") _,
        );
    }
}

extern "C" fn pthread_body(_: *mut c_void) -> *mut c_void {
    in_stack(Place::PthreadStack, sleep);
    ptr::null_mut()
}

extern "C" fn on_usr1(_: libc::c_int) {
    in_stack(Place::OnAltStack, sleep);
}

fn raise_usr1() {
    // SAFETY: the signal has a handler.
    unsafe { libc::raise(libc::SIGUSR1) };
}

/// A thread with an alternate stack, as std gives its threads, and a handler on it.
fn below_alt_stack() {
    let size = 64 << 10;
    let stack = Box::leak(vec![0u8; size].into_boxed_slice());
    let alt = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: size,
    };
    let mut before = alt;
    // SAFETY: the memory lives for ever.
    assert_eq!(unsafe { libc::sigaltstack(&alt, &mut before) }, 0);
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_usr1 as *const () as usize;
    action.sa_flags = libc::SA_ONSTACK;
    // SAFETY: a valid action.
    unsafe { libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()) };
    in_stack(Place::BelowAltStack, raise_usr1);
    // SAFETY: what std gave the thread, and takes back.
    unsafe { libc::sigaltstack(&before, ptr::null_mut()) };
}

/// Keeps the number of a place in memory of the C library's heap, or of a mapping, for ever.
#[inline(never)]
fn in_memory(place: Place) {
    const BYTES: usize = 1 << 20;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let (at, offset): (*mut c_void, usize) = match place {
        // SAFETY: no preconditions.
        Place::CHeap => (unsafe { libc::malloc(64) }, 0),
        // SAFETY: as above.
        Place::OddAddress => (unsafe { libc::malloc(64) }, 3),
        // SAFETY: a fresh mapping.
        _ => (
            unsafe { libc::mmap(ptr::null_mut(), BYTES, protection, flags, -1, 0) },
            BYTES / 2,
        ),
    };
    assert!(!at.is_null() && at != libc::MAP_FAILED);
    let at = at.wrapping_byte_add(offset).cast::<u64>();
    // SAFETY: inside of what was just made.
    unsafe { at.write_unaligned(number(place)) };
    wipe();
}

/// Leaves the number in so much of the stack that the thread's end does not overwrite all of it.
#[inline(never)]
fn all_over_the_stack() {
    black_box([number(Place::EndedStack); 1024]);
}

/// What is found: by place.
fn search() -> [bool; ALL] {
    on_collector(|world| {
        // Here, and not on the caller's stack, which is shown.
        let numbers: [u64; ALL] =
            std::array::from_fn(|place| (place as u64).wrapping_mul(FACTOR) | 1);
        let mut found = [false; ALL];
        world.stop(&[]).expect("every thread can be stopped");
        world.each_root(&mut |range| {
            for at in range.start..range.end.saturating_sub(7) {
                // SAFETY: what is shown is mapped, and nobody runs.
                let word = u64::from_ne_bytes(unsafe { (at as *const [u8; 8]).read_volatile() });
                // A cheap test first: most words are none.
                if word & 1 == 1
                    && (at % 8 == 0 || word == numbers[Place::OddAddress as usize])
                    && let Some(place) = numbers.iter().position(|&number| number == word)
                {
                    found[place] = true;
                }
            }
        });
        world.start();
        found
    })
}

fn wait_for(keepers: usize) {
    while READY.load(SeqCst) < keepers {
        thread::yield_now();
    }
}

/// Starts a goroutine with the number in what it is to run.
#[inline(never)]
fn start_with_number() {
    let kept = number(Place::NotBegun);
    go(move || {
        black_box(kept);
    });
}

/// Has the test run with thread-locals that stay with the OS thread.
const THREAD_TLS: &str = "RADDLE_TEST_THREAD_TLS";

#[test]
fn every_place_is_shown_with_thread_bound_thread_locals() {
    let status = Command::new(env::current_exe().expect("this program has a path"))
        .args(["every_place_is_shown", "--exact"])
        .env(THREAD_TLS, "1")
        .status();
    assert!(status.expect("this program starts").success());
}

#[test]
fn every_place_is_shown() {
    // A goroutine that spins keeps its P.
    boot(&BootOptions {
        no_preempt: true,
        thread_bound_tls: env::var_os(THREAD_TLS).is_some(),
        ..BootOptions::default()
    });
    STATIC.store(number(Place::Static), SeqCst);
    // More Ps than the goroutines that run.
    set_procs(8);
    go(|| in_stack(Place::ParkedStack, park));
    go(|| in_local(Place::ParkedThreadLocal, park));
    go(|| in_preserved_register(Place::ParkedRegister));
    go(|| in_key(Place::ParkedKey, park));
    go(|| in_register(Place::RunningRegister));
    go(|| in_vector(Place::RunningVector));
    go(|| in_stack(Place::RunningStack, spin));
    go(|| in_local(Place::RunningThreadLocal, spin));
    go(|| in_stack(Place::BlockingStack, || blocking(sleep)));
    go(|| blocking(|| in_stack(Place::BlockingOwnStack, sleep)));
    go(|| in_local(Place::BlockingThreadLocal, || blocking(sleep)));
    go(|| {
        lock_os_thread();
        in_stack(Place::LockedStack, park);
    });
    let mut threads: Vec<_> = [
        || in_stack(Place::ThreadStack, sleep),
        || in_local(Place::ThreadThreadLocal, sleep),
        || in_register(Place::ThreadRegister),
        || in_key(Place::ThreadKey, sleep),
        below_alt_stack,
        || on_own_stack(|| in_stack(Place::OnOwnStack, sleep)),
    ]
    .map(thread::spawn)
    .into();
    let mut pthread = 0;
    // SAFETY: the body has the type asked for.
    let error =
        unsafe { libc::pthread_create(&mut pthread, ptr::null(), pthread_body, ptr::null_mut()) };
    assert_eq!(error, 0);
    go(|| on_own_stack(|| in_stack(Place::ParkedOnOwnStack, park)));
    go(|| in_stack(Place::BelowOwnStackParked, || on_own_stack(park)));
    go(|| {
        in_stack(Place::BelowOwnStackBlocking, || {
            on_own_stack(|| blocking(sleep))
        })
    });
    for place in [Place::CHeap, Place::Mapping, Place::OddAddress] {
        in_memory(place);
    }
    // With more stack than the thread that will search, which takes that of the second.
    let larger = thread::Builder::new().stack_size(4 << 20);
    let ended = larger.spawn(all_over_the_stack);
    for ended in [ended.expect("it starts"), thread::spawn(|| ())] {
        ended.join().expect("it ends");
    }
    wait_for(22);
    // The one P is busy with the next that spins, so the last does not begin.
    set_procs(1);
    let hog = READY.load(SeqCst);
    go(spin);
    wait_for(hog + 1);
    start_with_number();
    wipe();
    let found = search();
    GO_ON.store(1, SeqCst);
    // SAFETY: the kernel uses the address as a key only.
    unsafe { libc::syscall(libc::SYS_futex, GO_ON.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    GATE.open();
    threads.drain(..).for_each(|t| t.join().expect("it ends"));
    // SAFETY: just created, joined once.
    unsafe { libc::pthread_join(pthread, ptr::null_mut()) };
    let missing: Vec<_> = (1..=PLACES)
        .filter(|&place| !found[place as usize])
        // SAFETY: the numbers of the places have no gap.
        .map(|place| unsafe { mem::transmute::<u64, Place>(place) })
        // There, another goroutine on the same thread may have overwritten it.
        .filter(|&place| place != Place::ParkedThreadLocal || tls_mode() != "thread")
        .collect();
    assert!(missing.is_empty(), "not shown: {missing:?}");
    // With thread-bound thread-locals glibc does not tell what a stack is.
    let is_shown = found[Place::EndedStack as usize];
    assert!(
        !is_shown || tls_mode() == "thread",
        "the stack of an ended thread is shown"
    );
}
