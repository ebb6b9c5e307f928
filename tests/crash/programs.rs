//! The programs whose end is tested. Lines that a report must name carry a marker: `expected.rs` looks for it here.

use std::hint::black_box;
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::{process, ptr, thread};

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
    exits_from_a_goroutine
    main_exits_and_another_ends_the_program
    main_exits_and_all_wait
    deadlocks
    waits_for_a_thread
    overflows
    overflows_on_a_plain_thread
    touches_bad_memory
    races
    races_and_goes_on
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

#[raddle::main]
fn overflows_on_a_plain_thread() {
    let diver = thread::Builder::new()
        .name("plain diver".into())
        .spawn(|| dive(0))
        .unwrap();
    drop(raddle::blocking(|| diver.join()));
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

#[raddle::main]
fn races_and_goes_on() {
    let visits = Var::new(0);
    raddle::scope(|s| {
        s.go(|| visits.set(1));
        s.go(|| visits.set(2));
    });
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
