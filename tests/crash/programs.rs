//! The programs whose end is tested. Lines that a report must name carry a marker: `expected.rs` looks for it here.

use std::cell::Cell;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::time::Duration;
use std::{panic, process, ptr, thread};

use raddle::chan;
use raddle::gc::{self, Gc, Slice};
use raddle::shared::Var;
use raddle::sync::{Mutex, WaitGroup};

use crate::compiled::*;
use crate::processes::*;

macro_rules! programs {
    ($($name:ident)*) => {
        /// Runs the program as `main` does.
        pub(crate) fn run(name: &str) -> ExitCode {
            match name {
                $(stringify!($name) => $name().report(),)*
                _ => unreachable!("no program is called {name}"),
            }
        }
    };
}

programs! {
    returns
    returns_a_code
    returns_an_error
    returns_while_others_run
    shows_its_arguments
    panics
    goroutine_panics
    goroutine_panics_and_is_joined
    panics_twice
    hooks_wait
    destructors_wait_while_unwinding
    drops_a_bomb
    exits_from_a_goroutine
    main_exits_and_another_ends_the_program
    main_exits_and_all_wait
    deadlocks
    waits_for_a_thread
    overflows
    overflows_somewhere
    overflows_on_a_plain_thread
    overflows_on_the_first_thread
    has_no_room_for_a_thread
    cannot_list_its_threads
    touches_bad_memory
    races
    races_and_goes_on
    races_and_returns_a_code
    races_and_panics
    does_not_race
    collects
    collects_and_deadlocks
    destructors_panic
    asks_for_too_much
    races_in_a_collected_value
    forks_after_a_race
    ends_while_busy
    forks_while_busy
    becomes_a_daemon
    forks_at_once
    forks_often
    runs_before_exec
    forks_below_run
    compiled_races_in_a_static
    compiled_races_in_a_thread_local
    compiled_races_on_a_stack
    compiled_races_with_a_plain_thread
    compiled_races_on_a_small_stack
    compiled_races_on_a_plain_thread_s_stack
    compiled_races_in_a_plain_thread_s_local
    compiled_races_on_the_main_stack
}

#[raddle::main]
fn returns() {}

#[raddle::main]
fn returns_a_code() -> ExitCode {
    ExitCode::from(7)
}

#[raddle::main]
fn returns_an_error() -> Result<(), String> {
    Err("no luck".into())
}

#[raddle::main]
fn returns_while_others_run() {
    raddle::go(|| {
        loop {
            black_box(());
        }
    });
    raddle::go(|| chan::never::<()>().recv());
    raddle::go(|| raddle::blocking(thread::park));
    raddle::yield_now();
}

#[raddle::main]
fn shows_its_arguments() {
    println!("{:?}", raddle::args().skip(1).collect::<Vec<_>>());
    println!("procs={}", raddle::procs());
}

#[raddle::main]
fn panics() {
    panic!("out of thread"); // marker: panics
}

fn weaver(f: impl FnOnce() + Send + 'static) -> raddle::JoinHandle<()> {
    weaver_of(f)
}

fn weaver_of<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> raddle::JoinHandle<T> {
    raddle::Builder::new().name("weaver").spawn(f).unwrap()
}

#[raddle::main]
fn goroutine_panics() {
    let handle = weaver(|| panic!("the thread broke")); // marker: goroutine panics
    while !handle.is_finished() {
        raddle::yield_now();
    }
    println!("main goes on");
}

#[raddle::main]
fn goroutine_panics_and_is_joined() {
    println!(
        "{}",
        weaver(|| panic!("the thread broke")).join().unwrap_err()
    );
}

#[raddle::main]
fn panics_twice() {
    struct PanicsToo;
    impl Drop for PanicsToo {
        fn drop(&mut self) {
            raddle::yield_now();
            panic!("again");
        }
    }
    let _panics_too = PanicsToo;
    panic!("once");
}

/// Panic hooks that wait for each other, of more goroutines than there are Ps, while others panic
/// too.
#[raddle::main]
fn hooks_wait() {
    const GOROUTINES: usize = 8;
    let all_in = Arc::new(raddle::sync::Barrier::new(GOROUTINES));
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() == Some("waits") {
            all_in.wait();
            raddle::time::sleep(std::time::Duration::from_micros(10));
            raddle::yield_now();
        }
    }));
    let waits: Vec<_> = (0..GOROUTINES)
        .map(|_| raddle::go(|| panic!("waits")))
        .collect();
    for _ in 0..100 {
        assert!(raddle::go(|| panic!("does not")).join().is_err());
        assert!(!thread::panicking());
    }
    println!(
        "{}",
        waits
            .into_iter()
            .filter_map(|wait| wait.join().err())
            .count()
    );
}

/// Destructors that wait while their goroutines unwind: nobody else is panicking meanwhile.
#[raddle::main]
fn destructors_wait_while_unwinding() {
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            for _ in 0..10 {
                raddle::go(|| assert!(!thread::panicking())).join().unwrap();
                raddle::yield_now();
                assert!(thread::panicking());
            }
        }
    }
    std::panic::set_hook(Box::new(|_| ()));
    let unwinds: Vec<_> = (0..20)
        .map(|_| {
            raddle::go(|| {
                let _waits = Waits;
                panic!("unwinds");
            })
        })
        .collect();
    println!(
        "{}",
        unwinds
            .into_iter()
            .filter_map(|unwind| unwind.join().err())
            .count()
    );
}

/// A value whose destructor unwinds, where the runtime drops it: on the goroutine, or with its handle.
#[raddle::main]
fn drops_a_bomb() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("the bomb goes off");
            }
        }
    }
    struct Exits;
    impl Drop for Exits {
        fn drop(&mut self) {
            raddle::exit();
        }
    }
    /// Starts a goroutine, and drops its handle before it ends, or after.
    fn detach<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static, early: bool) {
        let (go_on, wait) = chan::bounded::<()>(0);
        let handle = weaver_of(move || {
            let _ = wait.recv();
            f()
        });
        if early {
            drop(handle);
            drop(go_on);
        } else {
            drop(go_on);
            while !handle.is_finished() {
                raddle::yield_now();
            }
            drop(handle);
        }
    }
    let mut how = raddle::args().skip(1);
    let (what, early) = (how.next().unwrap(), how.next().unwrap() == "early");
    match &what[..] {
        "result" => detach(|| Bomb, early),
        "panic" => detach(|| panic::panic_any(Bomb), early),
        "exit" => detach(|| Exits, early),
        "scope" => raddle::scope(|s| {
            let handle = s.go(|| Bomb);
            while !early && !handle.is_finished() {
                raddle::yield_now();
            }
        }),
        "function" => {
            let bomb = Bomb;
            let (done, ran) = chan::bounded(0);
            let timer = raddle::time::after_func(Duration::from_millis(1), move || {
                let _captured = &bomb;
                done.send(()).unwrap();
            });
            let timer = (!early).then_some(timer);
            ran.recv().unwrap();
            while raddle::num_goroutines() > 1 {
                raddle::yield_now();
            }
            drop(timer);
        }
        _ => unreachable!("no such bomb: {what}"),
    }
    while raddle::num_goroutines() > 1 {
        raddle::yield_now();
    }
    println!("main goes on");
}

#[raddle::main]
fn exits_from_a_goroutine() {
    raddle::go(|| std::process::exit(5));
    chan::never::<()>().recv().unwrap();
}

#[raddle::main]
fn main_exits_and_another_ends_the_program() {
    raddle::go(|| {
        (0..100).for_each(|_| raddle::yield_now());
        std::process::exit(6);
    });
    raddle::exit();
}

#[raddle::main]
fn main_exits_and_all_wait() {
    weaver(|| {
        let (_tx, rx) = chan::bounded::<()>(0);
        rx.recv().unwrap();
    });
    raddle::exit();
}

#[raddle::main]
fn deadlocks() {
    let group = Arc::new(WaitGroup::new());
    group.add(1);
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock();
    let (tx, rx) = chan::bounded::<()>(0);
    let wants_the_lock = {
        let lock = lock.clone();
        weaver(move || drop(lock.lock())) // marker: waits for the lock
    };
    raddle::go(move || wait_for_nobody(&group));
    raddle::go(move || tx.send(())); // marker: waits to send
    wants_the_lock.join().unwrap(); // marker: waits to join
    drop((held, rx));
}

#[inline(never)]
fn wait_for_nobody(group: &WaitGroup) {
    group.wait(); // marker: waits for the group
    // Not a tail call: the frame has to be there.
    std::hint::black_box(());
}

#[raddle::main]
fn waits_for_a_thread() {
    // No deadlock: a thread that the runtime does not know may still send.
    let (tx, rx) = chan::bounded(0);
    thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(200));
        tx.send(()).unwrap();
    });
    rx.recv().unwrap();
}

#[inline(never)]
fn dive(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    if depth == u64::MAX {
        0
    } else {
        dive(depth + 1) + frame[3]
    }
}

#[raddle::main]
fn overflows() {
    let diver = raddle::Builder::new().name("diver").stack_size(64 << 10);
    drop(diver.spawn(|| dive(0)).unwrap().join());
}

/// Wherever the runtime runs code of the program.
#[raddle::main]
fn overflows_somewhere() {
    struct Dives;
    impl Drop for Dives {
        fn drop(&mut self) {
            dive(0);
        }
    }
    thread_local!(static LOCAL: Cell<Option<Dives>> = const { Cell::new(None) });
    let place = raddle::args().nth(1).unwrap();
    match &place[..] {
        "main" => _ = dive(0),
        "blocking" => drop(weaver(|| _ = raddle::blocking(|| dive(0))).join()),
        "blocking, locked" => {
            raddle::lock_os_thread();
            raddle::blocking(|| dive(0));
        }
        "locked" => {
            let locked = weaver(|| {
                raddle::lock_os_thread();
                dive(0);
            });
            drop(locked.join());
        }
        "after_func" => {
            raddle::time::after_func(Duration::ZERO, || _ = dive(0));
            raddle::blocking(thread::park);
        }
        "finalizer" => {
            for _ in 0..50 {
                let lost = weaver(|| _ = black_box(Gc::new(Dives)));
                lost.join().unwrap();
            }
            gc::collect();
            raddle::blocking(thread::park);
        }
        "thread-local" => drop(weaver(|| LOCAL.set(Some(Dives))).join()),
        "result" => {
            let result = weaver_of(|| Dives);
            drop(result);
            raddle::blocking(thread::park);
        }
        _ => unreachable!("no such place: {place}"),
    }
}

fn overflows_on_the_first_thread() {
    raddle::run(|| drop(raddle::go(|| ()).join()));
    dive(0);
}

#[raddle::main]
fn overflows_on_a_plain_thread() {
    let diver = thread::Builder::new()
        .name("plain diver".into())
        .spawn(|| dive(0))
        .unwrap();
    drop(raddle::blocking(|| diver.join()));
}

/// Allows the process no further thread. Nothing else is short: else the C library might end the process first, in a thread that
/// lacks memory.
fn limit_threads() {
    // The limit is not for root.
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        const NOBODY: libc::uid_t = 65534;
        // SAFETY: no preconditions.
        assert_eq!(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) }, 0);
    }
    let limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a limit to read.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &limit) }, 0);
}

/// Not `raddle::main`: one of them ends before the runtime has started.
fn has_no_room_for_a_thread() {
    let occupy = |threads: usize, lock: bool| {
        let all_here = Arc::new(std::sync::Barrier::new(threads));
        let occupants: Vec<_> = (0..threads)
            .map(|_| {
                let all_here = all_here.clone();
                raddle::go(move || {
                    if lock {
                        raddle::lock_os_thread();
                    }
                    raddle::blocking(|| all_here.wait());
                })
            })
            .collect();
        occupants.into_iter().for_each(|o| o.join().unwrap());
    };
    match &std::env::args().nth(1).unwrap()[..] {
        "boot" => limit_threads(),
        "blocking" => raddle::run(|| {
            limit_threads();
            occupy(100, false);
        }),
        "locked" => raddle::run(|| {
            limit_threads();
            occupy(100, true);
        }),
        how => unreachable!("{how}"),
    }
    raddle::run(|| println!("it has begun"));
}

/// All wait but a thread that the runtime does not know, and can know nothing of: no descriptor is left to read `/proc` by.
#[raddle::main]
fn cannot_list_its_threads() {
    let (mut warnings, to) = std::io::pipe().unwrap();
    // SAFETY: both are descriptors of ours.
    unsafe { libc::dup2(to.as_raw_fd(), 2) };
    let (tx, rx) = chan::bounded(0);
    thread::spawn(move || {
        let mut text = vec![0; 1000];
        let length = std::io::Read::read(&mut warnings, &mut text).unwrap();
        text.truncate(length);
        tx.send(text).unwrap();
    });
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a limit to read.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) }, 0);
    let text = rx.recv().unwrap();
    print!("{}", String::from_utf8(text).unwrap());
}

#[raddle::main]
fn touches_bad_memory() {
    let nowhere: *const u8 = ptr::without_provenance(black_box(8));
    // SAFETY: none: the crash is what is tested.
    let value = unsafe { nowhere.read_volatile() };
    println!("{value}");
}

#[raddle::main]
fn races() {
    let visits = Var::new(0);
    raddle::scope(|s| {
        s.go(|| visits.set(1)); // marker: first racing write
        s.go(|| visits.set(2)); // marker: second racing write
    });
}

fn race() {
    let visits = Var::new(0);
    raddle::scope(|s| {
        s.go(|| visits.set(1));
        s.go(|| visits.set(2));
    });
}

#[raddle::main]
fn races_and_returns_a_code() -> ExitCode {
    race();
    ExitCode::from(7)
}

#[raddle::main]
fn races_and_panics() {
    race();
    panic!("after the race");
}

#[raddle::main]
fn races_and_goes_on() {
    race();
    println!("after the race");
}

#[raddle::main]
fn does_not_race() {
    let (visits, order) = (Var::new(0), Mutex::new(()));
    raddle::scope(|s| {
        for _ in 0..10 {
            s.go(|| {
                let _in_order = order.lock();
                visits.set(visits.get() + 1);
            });
        }
    });
    println!("{}", visits.get());
}

#[raddle::main]
fn collects() {
    let one = Gc::new(1);
    (0..3).for_each(|_| gc::collect());
    println!("{one}");
}

#[raddle::main]
fn collects_and_deadlocks() {
    gc::collect();
    let (tx, rx) = chan::bounded::<()>(0);
    let _ = rx.recv(); // marker: waits for ever
    drop(tx);
}

#[raddle::main]
fn destructors_panic() {
    struct Panics(chan::Sender<()>);
    impl Drop for Panics {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
            panic!("this thread broke"); // marker: a destructor panics
        }
    }
    let (tx, rx) = chan::unbounded();
    let lost = weaver(move || {
        for _ in 0..50 {
            black_box(Gc::new(Panics(tx.clone())));
        }
    });
    lost.join().unwrap();
    gc::collect();
    // Not all: one may still look as if it were reached.
    (0..40).for_each(|_| rx.recv().unwrap());
    println!("main goes on");
}

#[raddle::main]
fn asks_for_too_much() {
    println!("{}", Slice::<u8>::zeroed(1 << 46).len());
}

#[raddle::main]
fn races_in_a_collected_value() {
    let visits = Gc::new(Var::new(0)); // marker: the block
    raddle::scope(|s| {
        s.go(move || visits.set(1));
        s.go(move || visits.set(2));
    });
}

/// The child is not watched, and has its own exit status.
fn forks_after_a_race() -> ExitCode {
    races();
    // SAFETY: the child does nothing that needs another thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let sum: usize = (0..1000).map(|n| vec![n; n].len()).sum();
        process::exit((sum != 499_500).into());
    }
    let mut status = -1;
    // SAFETY: the child was made above; the status is ours.
    unsafe { libc::waitpid(child, &mut status, 0) };
    println!("child: {}", libc::WEXITSTATUS(status));
    ExitCode::SUCCESS
}
