//! Whole programs: what must be seen from a real `main`, or of a process that ends.
//!
//! Each test starts this program again, which then *is* the program under test.
//!
//!     cargo test -p raddle-sched --test programs            all
//!     cargo test -p raddle-sched --test programs fork       those with `fork` in their name

#[path = "../common/mod.rs"]
mod common;

use common::{Gate, go, go_on_stack, go_with, on_collector, on_own_stack, the_world};
use raddle_sched::{
    BootOptions, Rt, blocking, boot, enter, num_goroutines, set_procs, tls_mode, yield_now,
};
use std::cell::Cell;
use std::ffi::CString;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, mem, ptr, thread};

#[global_allocator]
static HEAP: raddle_alloc::Heap = raddle_alloc::Heap;

const PROGRAM: &str = "RADDLE_TEST_PROGRAM";
/// After so long a program hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Its name, what it does, and whether it ended as it must.
type Program = (&'static str, fn(), fn(&Output) -> bool);

const PROGRAMS: &[Program] = &[
    ("deadlock_with_collector_threads", deadlock, is_deadlock),
    ("main_thread_is_shown", main_thread, is_success),
    ("opened_library_is_shown", opened_library, is_success),
    (
        "aligned_thread_locals_of_a_library_are_shown",
        opened_aligned,
        is_success,
    ),
    (
        "static_thread_locals_of_a_library_have_room",
        opened_static,
        is_success,
    ),
    ("unstoppable_thread_is_named", unstoppable, is_success),
    ("main_thread_may_end", main_ends, is_success),
    ("fork_with_stops", fork_with_stops, is_success),
    ("system_goroutines_do_not_count", system, is_success),
    ("kernel_threads_are_left_out", kernel_threads, is_success),
    ("a_stolen_signal_is_taken_back", stolen_signal, is_success),
    ("stray_signals_do_nothing", stray_signals, is_success),
    (
        "a_closure_is_shown_when_its_goroutine_yields_first",
        first_step_yields,
        is_success,
    ),
    (
        "a_stack_left_for_an_own_one_is_shown",
        left_stack,
        is_success,
    ),
    (
        "other_numbers_in_proc_are_noticed",
        other_numbers,
        is_success,
    ),
    ("a_stop_needs_no_new_thread", no_threads_left, is_success),
    (
        "too_many_blocked_threads_end_the_program",
        too_many_threads,
        is_too_many_threads,
    ),
    (
        "guards_that_are_only_promised_are_made_otherwise",
        promised_guards,
        is_success,
    ),
    (
        "a_guard_cannot_be_held_over_a_wait",
        guard_over_a_wait,
        is_held_over_a_wait,
    ),
    (
        "a_guard_cannot_be_held_over_a_yield",
        guard_over_a_yield,
        is_held_over_a_wait,
    ),
    (
        "guards_that_are_left_behind_end_with_their_goroutine",
        guards_left_behind,
        is_success,
    ),
    ("a_stop_needs_no_room_on_a_stack", no_room, is_success),
    (
        "a_stop_needs_no_alternate_stack",
        dangling_alt_stacks,
        is_success,
    ),
];

fn main() -> ExitCode {
    if let Ok(name) = env::var(PROGRAM) {
        let program = PROGRAMS.iter().find(|program| program.0 == name);
        program.expect("a known program").1();
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let mut failed = 0;
    for (name, _, is_right) in PROGRAMS {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word)) {
            continue;
        }
        let output = run(name);
        if is_right(&output) {
            println!("test {name} ... ok");
        } else {
            failed += 1;
            println!("test {name} ... FAILED\n{output:?}");
        }
    }
    ExitCode::from(u8::from(failed > 0))
}

fn run(name: &str) -> Output {
    let mut child = Command::new(env::current_exe().expect("this program has a path"))
        .env(PROGRAM, name)
        .env_remove("RUST_BACKTRACE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let begun = Instant::now();
    while child.try_wait().expect("it is our child").is_none() {
        if begun.elapsed() > LIMIT {
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("it is our child")
}

fn is_success(output: &Output) -> bool {
    output.status.success()
}

fn is_deadlock(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stderr);
    output.status.code() == Some(2)
        && text.contains("all goroutines are asleep: deadlock")
        && text.matches("\ngoroutine ").count() == 1
        && text.matches("\nthread ").count() == 1
}

fn too_many_threads() {
    boot(&BootOptions {
        max_threads: 20,
        ..BootOptions::default()
    });
    for _ in 0..50 {
        go(|| blocking(thread::park));
    }
    loop {
        thread::park();
    }
}

fn is_too_many_threads(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stderr);
    output.status.signal() == Some(libc::SIGABRT)
        && text
            == "raddle: fatal: more than 20 OS threads: too many goroutines block their threads, or have locked them, at once\n"
}

/// A guard held over a wait used to be dropped on another M, whose depth it then changed: the signal handler took the P of an M
/// that was in the scheduler.
fn guard_over_a_wait() {
    go(|| {
        let _outer = enter();
        GATE.wait();
    });
    while GATE.waiting() == 0 {
        thread::yield_now();
    }
}

fn guard_over_a_yield() {
    go(|| {
        let _outer = enter();
        // Whether there is somebody to yield to is chance.
        loop {
            go(|| {});
            yield_now();
        }
    });
    loop {
        thread::park();
    }
}

fn is_held_over_a_wait(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stderr);
    output.status.signal() == Some(libc::SIGABRT)
        && text
            == "raddle: fatal: a goroutine waits while a guard of raddle_sched::enter() is alive further out\n"
}

/// Guards that are never dropped, in any order of dropping, and one that a thread-local keeps to the end: the next goroutines on the
/// same threads wait, call blocking code and are preempted as ever.
fn guards_left_behind() {
    thread_local! {
        static KEPT: Cell<Option<Rt>> = const { Cell::new(None) };
    }
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    const GOROUTINES: usize = 200;
    boot(&BootOptions {
        procs: 2,
        ..BootOptions::default()
    });
    for _ in 0..GOROUTINES {
        go(|| {
            let (first, second) = (enter(), enter());
            drop(first);
            drop(second);
            mem::forget(enter());
            KEPT.set(Some(enter()));
            LEFT.fetch_add(1, Relaxed);
        });
        let done = LEFT.load(Relaxed);
        go(move || assert_eq!(blocking(|| done), done));
    }
    while LEFT.load(Relaxed) < GOROUTINES || num_goroutines() > 0 {
        thread::yield_now();
    }
    // A goroutine that computes for ever loses its P: none of the Ms has been left inside the runtime.
    static STOP: AtomicBool = AtomicBool::new(false);
    for _ in 0..4 {
        go(|| {
            while !STOP.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    assert_eq!(set_procs(3), 2);
    STOP.store(true, Relaxed);
}

/// A thread of the collector that stops the world once, with its helpers; its number.
fn collector(helpers: Vec<i32>) -> i32 {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        the_world().thread_started();
        the_world()
            .stop(&helpers)
            .expect("every thread can be stopped");
        the_world().start();
        // SAFETY: no preconditions.
        tell.send(unsafe { libc::gettid() }).expect("it is awaited");
        loop {
            thread::park();
        }
    });
    told.recv().expect("it tells")
}

static GATE: Gate = Gate::new();

/// Two threads of the collector, a goroutine of the runtime's own, one that waits, and the main thread waits too.
fn deadlock() {
    boot(&BootOptions::default());
    let helper = collector(Vec::new());
    collector(vec![helper]);
    go_with(|| GATE.wait(), true);
    go(|| GATE.wait());
    GATE.wait();
}

thread_local! {
    static LOCAL: Cell<u64> = const { Cell::new(0) };
}

fn number(n: u64) -> u64 {
    black_box(n).wrapping_mul(black_box(0x9e37_79b9_7f4a_7c15)) | 1
}

/// Which of the first numbers are in what the world shows.
fn search<const N: usize>() -> [bool; N] {
    on_collector(|world| {
        let mut found = [false; N];
        world.stop(&[]).expect("every thread can be stopped");
        world.each_root(&mut |range| {
            let words = range.start.next_multiple_of(8)..range.end & !7;
            for at in words.step_by(8) {
                // SAFETY: what is shown is mapped, and nobody runs.
                let word = unsafe { (at as *const u64).read_volatile() };
                for (i, found) in found.iter_mut().enumerate() {
                    *found |= word == number(i as u64 + 1);
                }
            }
        });
        world.start();
        found
    })
}

/// The main thread's block is not on its stack.
fn main_thread() {
    boot(&BootOptions::default());
    LOCAL.with(|local| black_box(local).set(number(1)));
    let kept = [Cell::new(0), Cell::new(number(2))];
    black_box(&kept);
    let found = search();
    assert_eq!(found, [true; 2]);
    // Nor is it always itself on its stack.
    on_own_stack(|| {
        let kept = [Cell::new(0), Cell::new(number(3))];
        black_box(&kept);
        let found: [bool; 3] = search();
        black_box(&kept);
        assert_eq!((found[0], found[2]), (true, true));
    });
    black_box(&kept);
}

/// A library that is opened late: its statics, and its thread-locals in old threads and old goroutines.
fn opened_library() {
    opened("local", "");
}

/// As above, with thread-locals that lie far from the start of the memory they were allocated in.
fn opened_aligned() {
    opened("aligned", "__attribute__((aligned(1 << 20)))");
}

/// Compiles a library and opens it.
fn open(name: &str, source: &str) -> *mut libc::c_void {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let (file, library) = (format!("{dir}/{name}.c"), format!("{dir}/{name}.so"));
    std::fs::write(&file, source).expect("the directory is for that");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o", &library, &file])
        .status();
    assert!(built.expect("rustc links by it").success());
    let path = CString::new(library).expect("no NUL in it");
    // SAFETY: a C string; the library has no constructors.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null());
    library
}

/// A library whose thread-locals take of the reserve that glibc has beside each thread's own: on
/// the smallest stacks, too, that is room of the goroutine's.
fn opened_static() {
    const SOURCE: &str = "
        static __thread unsigned long local[100] __attribute__((tls_model(\"initial-exec\"))) = {7};
        unsigned long *local_at(void) { return local; }
    ";
    const GOROUTINES: usize = 20;
    static LOCAL_AT: AtomicUsize = AtomicUsize::new(0);
    static RIGHT: AtomicUsize = AtomicUsize::new(0);
    boot(&BootOptions {
        stack_size: 16 << 10,
        ..BootOptions::default()
    });
    if tls_mode() == "thread" {
        return; // there is one for each thread
    }
    let library = open("static", SOURCE);
    // SAFETY: the library is open.
    let local_at = unsafe { libc::dlsym(library, c"local_at".as_ptr()) };
    LOCAL_AT.store(local_at as usize, SeqCst);
    for i in 1..=GOROUTINES as u64 {
        go(move || {
            // SAFETY: the library has a function of that type at this address.
            let local_at: extern "C" fn() -> *mut [u64; 100] =
                unsafe { mem::transmute(LOCAL_AT.load(SeqCst)) };
            // SAFETY: the goroutine's own.
            let local = unsafe { &mut *local_at() };
            let is_new = local[0] == 7 && local[1..].iter().all(|word| *word == 0);
            *local = [i; 100];
            for _ in 0..10 {
                black_box([u64::MAX; 100]);
                yield_now();
            }
            let is_kept = black_box(local).iter().all(|word| *word == i);
            RIGHT.fetch_add(usize::from(is_new && is_kept), SeqCst);
        });
    }
    while num_goroutines() > 0 {
        thread::yield_now();
    }
    assert_eq!(RIGHT.load(SeqCst), GOROUTINES);
}

fn opened(name: &str, attribute: &str) {
    let source = format!(
        "static __thread unsigned long local[1024] {attribute};
        static unsigned long fixed[1024];
        unsigned long *local_at(void) {{ return &local[1000]; }}
        unsigned long *fixed_at(void) {{ return &fixed[1000]; }}"
    );
    static OPENED: AtomicBool = AtomicBool::new(false);
    static LOCAL_AT: AtomicUsize = AtomicUsize::new(0);
    boot(&BootOptions::default());
    let keep_local = |n| {
        // SAFETY: the library has a function of that type at this address.
        let local_at: extern "C" fn() -> *mut u64 =
            unsafe { mem::transmute(LOCAL_AT.load(SeqCst)) };
        // SAFETY: the calling thread's place.
        unsafe { local_at().write(number(n)) };
    };
    go(move || {
        while !OPENED.load(SeqCst) {
            yield_now();
        }
        keep_local(3);
        GATE.wait();
    });
    let library = open(name, &source);
    // SAFETY: the library is open.
    LOCAL_AT.store(
        unsafe { libc::dlsym(library, c"local_at".as_ptr()) } as usize,
        SeqCst,
    );
    // SAFETY: as above.
    let fixed_at = unsafe { libc::dlsym(library, c"fixed_at".as_ptr()) };
    // SAFETY: the library has a function of that type there.
    let fixed_at: extern "C" fn() -> *mut u64 = unsafe { mem::transmute(fixed_at) };
    // SAFETY: the library's place.
    unsafe { fixed_at().write(number(1)) };
    keep_local(2);
    OPENED.store(true, SeqCst);
    while GATE.waiting() == 0 {
        thread::yield_now();
    }
    assert_eq!(search(), [true; 3]);
}

fn unstoppable() {
    boot(&BootOptions::default());
    static TID: AtomicU32 = AtomicU32::new(0);
    static MAY_GO: AtomicBool = AtomicBool::new(false);
    static MOVED: AtomicU32 = AtomicU32::new(0);
    let stubborn = thread::spawn(|| {
        // SAFETY: all zeros is a valid set to fill.
        let mut all: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: a valid set.
        unsafe { libc::sigfillset(&mut all) };
        // SAFETY: a valid set.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &all, ptr::null_mut()) };
        // SAFETY: no preconditions.
        TID.store(unsafe { libc::gettid() } as u32, SeqCst);
        while !MAY_GO.load(SeqCst) {
            thread::park();
        }
    });
    go(|| {
        while !MAY_GO.load(SeqCst) {
            MOVED.fetch_add(1, SeqCst);
            yield_now();
        }
    });
    while TID.load(SeqCst) == 0 {
        thread::yield_now();
    }
    let named = on_collector(|world| world.stop(&[]).expect_err("a thread blocks all signals"));
    assert_eq!(named.tid as u32, TID.load(SeqCst));
    // The others run on.
    let before = MOVED.load(SeqCst);
    while MOVED.load(SeqCst) == before {
        thread::yield_now();
    }
    MAY_GO.store(true, SeqCst);
    stubborn.thread().unpark();
    stubborn.join().expect("it ends");
    on_collector(|world| {
        world.stop(&[]).expect("every thread can be stopped");
        world.start();
    });
}

/// The main thread is a zombie for as long as the others live.
fn main_ends() {
    boot(&BootOptions::default());
    thread::spawn(|| {
        let zombie = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
            status.contains("State:\tZ")
        };
        while !zombie() {
            thread::yield_now();
        }
        on_collector(|world| {
            for _ in 0..20 {
                world.stop(&[]).expect("every thread can be stopped");
                world.start();
            }
        });
        std::process::exit(0);
    });
    // SAFETY: ends this thread, as a C program's main may; nothing on its stack is used by others.
    unsafe { libc::syscall(libc::SYS_exit, 1) };
}

fn fork_with_stops() {
    boot(&BootOptions::default());
    static DONE: AtomicBool = AtomicBool::new(false);
    go(|| {
        while !DONE.load(SeqCst) {
            black_box(vec![0u8; 100]);
            yield_now();
        }
    });
    let stopper = thread::spawn(|| {
        while !DONE.load(SeqCst) {
            the_world().stop(&[]).expect("every thread can be stopped");
            the_world().start();
        }
    });
    for _ in 0..50 {
        // SAFETY: the child does what is right after a fork here: allocate, stop, and leave.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            black_box(vec![1u8; 1000]);
            // SAFETY: no preconditions.
            unsafe { libc::raise(libc::SIGURG) };
            let stopped = the_world().stop(&[]);
            if stopped.is_ok() {
                the_world().start();
            }
            // SAFETY: no preconditions.
            unsafe { libc::_exit(i32::from(stopped.is_err())) };
        }
        let mut status = 0;
        // SAFETY: our child, and room for its status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0);
    }
    DONE.store(true, SeqCst);
    stopper.join().expect("it ends");
}

fn system() {
    boot(&BootOptions::default());
    go_with(|| GATE.wait(), true);
    go(|| GATE.wait());
    while GATE.waiting() < 2 {
        thread::yield_now();
    }
    assert_eq!(num_goroutines(), 1);
    GATE.open();
    while num_goroutines() > 0 {
        thread::yield_now();
    }
}

/// A thread that polls for an io_uring is listed as the process's, and takes no signal.
fn kernel_threads() {
    const SYS_IO_URING_SETUP: libc::c_long = 425;
    const SETUP_SQPOLL: u32 = 2;
    const IDLE_MS: u32 = 60_000;
    boot(&BootOptions::default());
    // `struct io_uring_params`: flags are its third word, the idle time its fifth.
    let mut params = [0u32; 30];
    params[2] = SETUP_SQPOLL;
    params[4] = IDLE_MS;
    // SAFETY: room for the parameters. Where the kernel refuses there is nothing to see.
    unsafe { libc::syscall(SYS_IO_URING_SETUP, 8, params.as_mut_ptr()) };
    on_collector(|world| {
        for _ in 0..20 {
            world.stop(&[]).expect("every thread can be stopped");
            world.start();
        }
    });
}

/// The program has a handler of its own for our signal.
fn stolen_signal() {
    extern "C" fn nothing(_: libc::c_int) {}
    boot(&BootOptions::default());
    // SAFETY: a handler of that type.
    unsafe { libc::signal(libc::SIGURG, nothing as *const () as usize) };
    on_collector(|world| {
        world.stop(&[]).expect("every thread can be stopped");
        world.start();
    });
}

/// The signal is the program's too: out-of-band data raises it. With no stop on, and on the stopper itself, it means nothing.
fn stray_signals() {
    boot(&BootOptions::default());
    static DONE: AtomicBool = AtomicBool::new(false);
    let senders: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(|| {
                while !DONE.load(SeqCst) {
                    // SAFETY: no preconditions.
                    let pid = unsafe { libc::getpid() };
                    // SAFETY: no preconditions.
                    unsafe { libc::kill(pid, libc::SIGURG) };
                }
            })
        })
        .collect();
    on_collector(|world| {
        for _ in 0..200 {
            world.stop(&[]).expect("every thread can be stopped");
            world.start();
        }
    });
    DONE.store(true, SeqCst);
    senders.into_iter().for_each(|s| s.join().expect("it ends"));
}

/// How often `number` is in what the world shows. To be called with the only other copy where it is to be found.
fn is_shown(seed: u64) -> bool {
    on_collector(|world| {
        let number = black_box(seed).wrapping_mul(NUMBER) | 1;
        let mut found = false;
        world.stop(&[]).expect("every thread can be stopped");
        world.each_root(&mut |range| {
            for at in (range.start.next_multiple_of(8)..range.end & !7).step_by(8) {
                // SAFETY: what is shown is mapped, and nobody runs.
                found |= unsafe { (at as *const u64).read_volatile() } == number;
            }
        });
        world.start();
        found
    })
}

const NUMBER: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(never)]
fn go_with_number(seed: u64) {
    let kept = black_box(seed).wrapping_mul(NUMBER) | 1;
    go(move || {
        black_box(kept);
    });
}

#[inline(never)]
fn wipe() {
    black_box([0u8; 16 << 10]);
}

/// A goroutine that yields on its way out of the scheduler has not moved its closure to its stack yet.
fn first_step_yields() {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    static END: AtomicBool = AtomicBool::new(false);
    boot(&BootOptions {
        procs: 1,
        no_preempt: true,
        inject_yield_every: 1,
        ..BootOptions::default()
    });
    // It keeps the only P once it has started the other one, which has had its first turn by then: both yield there.
    go(|| {
        go_with_number(7);
        wipe();
        BEGUN.store(true, SeqCst);
        while !END.load(SeqCst) {
            std::hint::spin_loop();
        }
    });
    while !BEGUN.load(SeqCst) {
        thread::yield_now();
    }
    wipe();
    assert!(is_shown(7), "the closure is not shown");
    END.store(true, SeqCst);
}

#[inline(never)]
fn hold_below(seed: u64, ready: &AtomicU32, end: &AtomicBool) {
    let kept = [
        Cell::new(black_box(seed).wrapping_mul(NUMBER) | 1),
        Cell::new(0),
    ];
    black_box(&kept);
    on_own_stack(|| {
        ready.fetch_add(1, SeqCst);
        while !end.load(SeqCst) {
            std::hint::spin_loop();
        }
    });
    black_box(&kept);
}

/// Code that goes to a stack of its own when the one it is on gets short comes back to it.
fn left_stack() {
    static READY: AtomicU32 = AtomicU32::new(0);
    static END: AtomicBool = AtomicBool::new(false);
    boot(&BootOptions {
        procs: 2,
        no_preempt: true,
        thread_bound_tls: env::var_os("RADDLE_TEST_THREAD_TLS").is_some(),
        ..BootOptions::default()
    });
    go(|| hold_below(8, &READY, &END));
    let thread = thread::spawn(|| hold_below(9, &READY, &END));
    while READY.load(SeqCst) < 2 {
        thread::yield_now();
    }
    assert!(is_shown(8), "a goroutine's");
    assert!(is_shown(9), "a thread's");
    END.store(true, SeqCst);
    thread.join().expect("it ends");
}

/// Has the kernel say that it installs guards, and not do so, as qemu does.
fn promise_guards() {
    use libc::{BPF_ABS, BPF_JA, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    const GUARD_INSTALL: u32 = 102;
    let step = |code, jf, k| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    // The number of the system call comes first, the arguments from the 16th byte on.
    let load = |at| step(BPF_LD | BPF_W | BPF_ABS, 0, at);
    let else_skip = |steps, what| step(BPF_JMP | BPF_JEQ | BPF_K, steps, what);
    let mut steps = [
        load(0),
        else_skip(2, libc::SYS_madvise as u32),
        load(16 + 2 * 8),
        step(BPF_JMP | BPF_JA, 0, 2),
        else_skip(3, libc::SYS_process_madvise as u32),
        load(16 + 3 * 8),
        else_skip(1, GUARD_INSTALL),
        step(BPF_RET | BPF_K, 0, libc::SECCOMP_RET_ERRNO), // 0: done
        step(BPF_RET | BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: takes numbers.
    let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(set, 0);
    let filter = libc::SECCOMP_MODE_FILTER;
    // SAFETY: a whole program, which the kernel copies.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, filter, &raw const program) };
    assert_eq!(set, 0);
}

fn promised_guards() {
    promise_guards();
    boot(&BootOptions::default());
    static GUARDED: AtomicU32 = AtomicU32::new(0);
    const STACKS: u32 = 100;
    for _ in 0..STACKS {
        go(|| {
            let below = ptr::without_provenance::<libc::c_void>(stack_base() - 1);
            let mut pipe = [0; 2];
            // SAFETY: room for two descriptors.
            assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
            // SAFETY: the kernel checks the address.
            let written = unsafe { libc::write(pipe[1], below, 1) };
            GUARDED.fetch_add(u32::from(written == -1), SeqCst);
            GATE.wait();
        });
    }
    while GATE.waiting() < STACKS as usize {
        thread::yield_now();
    }
    assert_eq!(GUARDED.load(SeqCst), STACKS);
    GATE.open();
}

/// In a new namespace of process numbers, with the old one's `/proc`, no thread has the number that is listed.
fn other_numbers() {
    // SAFETY: there is one thread yet.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) } != 0 {
        return; // not allowed here
    }
    // SAFETY: there is one thread yet.
    let child = unsafe { libc::fork() };
    if child == 0 {
        thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
        let result = on_collector(|world| {
            let result = world.stop(&[]);
            if result.is_ok() {
                world.start();
            }
            result
        });
        // SAFETY: no preconditions.
        unsafe { libc::_exit(i32::from(result.is_ok())) };
    }
    let mut status = 0;
    // SAFETY: room for the result.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "a stop that stops nobody");
}

/// How often the world was stopped.
static STOPS: AtomicU32 = AtomicU32::new(0);

/// Stops the world again and again.
fn stop_for_ever() {
    thread::spawn(|| {
        on_collector(|world| {
            loop {
                world.stop(&[]).expect("every thread can be stopped");
                world.start();
                STOPS.fetch_add(1, SeqCst);
                thread::yield_now();
            }
        })
    });
}

/// Runs on until the world has been stopped some times, without a call of the runtime.
#[inline(never)]
fn be_stopped() {
    let seen = STOPS.load(SeqCst);
    while STOPS.load(SeqCst) < seen + 4 {}
}

/// The lowest usable address of the caller's stack, as glibc has it.
fn stack_base() -> usize {
    let mut attr = mem::MaybeUninit::uninit();
    // SAFETY: no preconditions.
    let own = unsafe { libc::pthread_self() };
    // SAFETY: room for the attributes.
    let error = unsafe { libc::pthread_getattr_np(own, attr.as_mut_ptr()) };
    assert_eq!(error, 0);
    let (mut base, mut bytes) = (ptr::null_mut(), 0);
    // SAFETY: initialised above; room for both results.
    unsafe { libc::pthread_attr_getstack(attr.as_ptr(), &mut base, &mut bytes) };
    // SAFETY: initialised above, and not used again.
    unsafe { libc::pthread_attr_destroy(attr.as_mut_ptr()) };
    base.addr()
}

/// Calls `f` where less than `room` bytes are left, and some.
#[inline(never)]
fn with_room(base: usize, room: usize, f: fn()) {
    let here = black_box([0_u8; 16]);
    if here.as_ptr().addr() - base > room {
        with_room(base, room, f);
    } else {
        f();
    }
    black_box(&here);
}

/// What the kernel saves fits on the stack, or does not, or the handler then has no room.
fn no_room() {
    boot(&BootOptions {
        procs: 2,
        ..BootOptions::default()
    });
    stop_for_ever();
    static DONE: AtomicU32 = AtomicU32::new(0);
    let rooms = (800..9000).step_by(128);
    for (i, room) in rooms.enumerate() {
        let body = move || {
            with_room(stack_base(), room, be_stopped);
            DONE.fetch_add(1, SeqCst);
        };
        go_on_stack(16 << 10, body);
        while DONE.load(SeqCst) == i as u32 {
            thread::yield_now();
        }
    }
}

/// Whoever unmaps an alternate stack owes nobody a word.
fn dangling_alt_stacks() {
    fn dangle() {
        const BYTES: usize = 64 << 10;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping.
        let sp = unsafe { libc::mmap(ptr::null_mut(), BYTES, prot, flags, -1, 0) };
        assert_ne!(sp, libc::MAP_FAILED);
        let alt = libc::stack_t {
            ss_sp: sp,
            ss_flags: 0,
            ss_size: BYTES,
        };
        // SAFETY: mapped, for as long as the program wants a handler on it.
        assert_eq!(unsafe { libc::sigaltstack(&alt, ptr::null_mut()) }, 0);
        // SAFETY: mapped above, and nothing is there.
        assert_eq!(unsafe { libc::munmap(sp, BYTES) }, 0);
        be_stopped();
    }
    boot(&BootOptions::default());
    stop_for_ever();
    static DONE: AtomicBool = AtomicBool::new(false);
    go(|| {
        dangle();
        DONE.store(true, SeqCst);
    });
    while !DONE.load(SeqCst) {
        thread::yield_now();
    }
    dangle();
}

/// A library was opened, and no thread can be started any more: a stop needs none.
fn no_threads_left() {
    boot(&BootOptions::default());
    on_collector(|world| {
        // What a stop notes things in is there from the first on.
        world.stop(&[]).expect("every thread can be stopped");
        world.start();
        // SAFETY: a library of glibc's own, which is there.
        let library = unsafe { libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW) };
        assert!(!library.is_null());
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // No room for another stack, whoever the user is.
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &none) }, 0);
        let result = world.stop(&[]);
        assert_eq!(result, Ok(()));
        world.start();
        // SAFETY: no preconditions: whatever ends the program in order may want memory.
        unsafe { libc::_exit(0) };
    });
}
