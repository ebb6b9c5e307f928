//! Programs that end in every way there is while everything goes on, and programs that fork meanwhile.

use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use raddle::gc::{self, Gc};
use raddle::sync::Mutex;
use raddle::{chan, time};

fn argument(n: usize) -> String {
    raddle::args().nth(n).expect("there are arguments")
}

/// Everything at once: collections, hogs that are preempted, goroutines that begin and end, blocking calls, Ps that come
/// and go, goroutines that sleep.
fn be_busy() {
    raddle::go(|| {
        loop {
            gc::collect();
        }
    });
    raddle::go(|| {
        loop {
            black_box(());
        }
    });
    raddle::go(|| {
        loop {
            let group: Vec<_> = (0..50)
                .map(|n| raddle::go(move || black_box(vec![n; n])))
                .collect();
            group.into_iter().for_each(|g| drop(g.join()));
        }
    });
    raddle::go(|| {
        for n in (1..4).cycle() {
            raddle::set_procs(n);
            time::sleep(Duration::from_micros(300));
        }
    });
    raddle::go(|| {
        loop {
            raddle::blocking(|| thread::sleep(Duration::from_micros(100)));
        }
    });
    for _ in 0..4 {
        raddle::go(|| {
            loop {
                time::sleep(Duration::from_micros(500));
            }
        });
    }
    (0..20).for_each(|_| raddle::yield_now());
}

/// What a program may want to do at its end.
extern "C" fn at_the_end() {
    thread::sleep(Duration::from_millis(1));
    black_box((0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    gc::collect();
    assert_eq!(raddle::go(|| 6).join().unwrap(), 6);
    let (tx, rx) = chan::bounded(0);
    let sender = raddle::go(move || tx.send(7).unwrap());
    assert_eq!(rx.recv(), Ok(7));
    sender.join().unwrap();
    drop(Mutex::new(()).lock());
    time::sleep(Duration::from_millis(1));
    // SAFETY: a text.
    unsafe { libc::write(1, c"at the end\n".as_ptr().cast(), 11) };
}

/// Ends the program by a destructor.
struct Ends;

impl Drop for Ends {
    fn drop(&mut self) {
        process::exit(3);
    }
}

thread_local! {
    static ENDS: Ends = const { Ends };
}

extern "C" fn end_at_exit() {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(3) };
}

#[raddle::main]
pub(crate) fn ends_while_busy() -> ExitCode {
    let how = argument(1);
    // SAFETY: it does not unwind.
    unsafe { libc::atexit(at_the_end) };
    be_busy();
    // Not where a program forks: std takes a lock of its own as a thread begins, as it ends, and in `process::exit`, which a
    // child would find held.
    thread::spawn(|| {
        loop {
            black_box(thread::spawn(|| black_box(vec![0_u8; 100])).join().unwrap());
        }
    });
    match how.as_str() {
        "returns" => return ExitCode::from(3),
        "panics" => panic!("at the end"),
        "goroutine" => drop(raddle::go(|| process::exit(3))),
        "thread" => drop(thread::spawn(|| process::exit(3))),
        "blocking" => raddle::blocking(|| process::exit(3)),
        "local" => drop(raddle::go(|| ENDS.with(|_| ()))),
        // Not only one, which may look as if it were reached.
        "finalizer" => drop(raddle::go(|| {
            (0..20).for_each(|_| _ = black_box(Gc::new(Ends)));
        })),
        "exit" => {
            // SAFETY: no preconditions.
            unsafe { libc::exit(3) }
        }
        "_exit" => {
            // SAFETY: no preconditions.
            unsafe { libc::_exit(3) }
        }
        "handler" => {
            // SAFETY: it does not unwind.
            unsafe { libc::atexit(end_at_exit) };
        }
        "abort" => process::abort(),
        "signal" => {
            let own = process::id().cast_signed();
            // SAFETY: no preconditions.
            unsafe { libc::kill(own, libc::SIGTERM) };
        }
        _ => unreachable!("no end is called {how}"),
    }
    if how == "handler" {
        return ExitCode::from(9);
    }
    chan::never::<()>().recv().unwrap();
    unreachable!("nobody sends");
}

/// Forks, and waits for the child, which runs `f` and then goes on; prints what the child ended with. Returns in the parent.
fn fork(f: impl FnOnce()) -> bool {
    // SAFETY: the child may do what the program may.
    let child = unsafe { libc::fork() };
    if child == 0 {
        f();
        return false;
    }
    assert!(child > 0);
    println!("child: {}", status_of(child));
    true
}

fn status_of(child: libc::pid_t) -> i32 {
    let mut status = -1;
    // SAFETY: the child was made by the caller; the status is ours.
    let waited = raddle::blocking(|| unsafe { libc::waitpid(child, &mut status, 0) });
    assert_eq!(waited, child);
    match libc::WIFEXITED(status) {
        true => libc::WEXITSTATUS(status),
        false => -libc::WTERMSIG(status),
    }
}

/// The runtime works.
fn use_everything() {
    let (tx, rx) = chan::bounded(1);
    let senders: Vec<_> = (0..10)
        .map(|n| {
            let tx = tx.clone();
            raddle::go(move || (0..10).for_each(|_| tx.send(n).unwrap()))
        })
        .collect();
    drop(tx);
    assert_eq!(rx.iter().sum::<u64>(), 450);
    senders.into_iter().for_each(|g| g.join().unwrap());
    time::sleep(Duration::from_millis(2));
    assert!(
        chan::never::<()>()
            .recv_timeout(Duration::from_millis(1))
            .is_err()
    );
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    IS_OVER.store(false, SeqCst);
    let hog = raddle::go(|| {
        while !IS_OVER.load(SeqCst) {
            black_box(());
        }
    });
    let kept = Gc::new(vec![1, 2, 3]);
    gc::collect();
    assert_eq!(*kept, [1, 2, 3]);
    let (dropped, is_dropped) = chan::bounded(100);
    struct Tells(chan::Sender<()>);
    impl Drop for Tells {
        fn drop(&mut self) {
            let _ = self.0.try_send(());
        }
    }
    let lost = raddle::go(move || {
        (0..20).for_each(|_| _ = black_box(Gc::new(Tells(dropped.clone()))));
    });
    lost.join().unwrap();
    // One look may take an old word for a handle.
    while is_dropped.try_recv().is_err() {
        gc::collect();
        time::sleep(Duration::from_millis(1));
    }
    assert_eq!(
        raddle::blocking(|| thread::spawn(|| raddle::go(|| 8).join().unwrap())
            .join()
            .unwrap()),
        8
    );
    let before = raddle::procs();
    raddle::set_procs(before + 1);
    assert_eq!(raddle::procs(), before + 1);
    raddle::scope(|s| drop(s.go(raddle::yield_now)));
    IS_OVER.store(true, SeqCst);
    hog.join().unwrap();
    let output = Command::new("/bin/echo")
        .arg("grandchild")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"grandchild\n");
}

/// The child goes on as the argument says, and comes to its end by itself.
#[raddle::main]
pub(crate) fn forks_while_busy() -> ExitCode {
    let what = argument(1);
    be_busy();
    let waiter = raddle::go(|| chan::never::<()>().recv());
    let child = match what.as_str() {
        "returns" => fork(|| {}),
        "panics" => fork(|| panic!("in the child")),
        "exits" => fork(|| {
            // SAFETY: it does not unwind.
            unsafe { libc::atexit(at_the_end) };
            process::exit(5)
        }),
        "works" => fork(use_everything),
        "works_twice" => fork(|| {
            use_everything();
            if fork(use_everything) {
                use_everything();
            }
        }),
        "deadlocks" => fork(|| {
            // A goroutine of the parent's is not there to end.
            let _ = waiter.join();
        }),
        "leaves" => fork(|| raddle::exit()),
        "locked" => {
            raddle::lock_os_thread();
            fork(use_everything)
        }
        "blocking" => raddle::blocking(|| fork(|| black_box(vec![1_u8; 1000]).clear())),
        "thread" => raddle::blocking(|| thread::spawn(|| fork(use_everything)).join().unwrap()),
        "small" => {
            let builder = raddle::Builder::new().stack_size(16 << 10);
            let forks = || fork(|| assert_eq!(raddle::go(|| 1).join().unwrap(), 1));
            builder.spawn(forks).unwrap().join().unwrap()
        }
        "goroutine" => raddle::go(|| fork(use_everything)).join().unwrap(),
        _ => unreachable!("no child does {what}"),
    };
    match child {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(7),
    }
}

/// libc's function forks by itself, and ends the parent.
#[raddle::main]
pub(crate) fn becomes_a_daemon() {
    be_busy();
    // SAFETY: no preconditions.
    assert_eq!(unsafe { libc::daemon(1, 1) }, 0);
    use_everything();
    println!("a daemon");
}

/// A child is born while everything in the parent is used for the first time, by others: some
/// microseconds after these were started.
#[raddle::main]
pub(crate) fn forks_at_once() {
    let later = Duration::from_micros(argument(1).parse().unwrap());
    let others: Vec<_> = (0..8)
        .map(|n| raddle::go(move || Gc::new(vec![n; 10])[0]))
        .collect();
    let started = Instant::now();
    while started.elapsed() < later {
        black_box(());
    }
    // SAFETY: the child may do what the program may.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let again = (0..8).map(|n| raddle::go(move || Gc::new(n)));
        let values: Vec<_> = again.collect();
        let sum: i32 = values.into_iter().map(|g| *g.join().unwrap()).sum();
        gc::collect();
        process::exit(sum);
    }
    assert_eq!(status_of(child), 28);
    assert_eq!(
        others.into_iter().map(|g| g.join().unwrap()).sum::<i32>(),
        28
    );
}

/// Many children, from several goroutines at once.
#[raddle::main]
pub(crate) fn forks_often() {
    be_busy();
    raddle::scope(|s| {
        for _ in 0..4 {
            s.go(|| {
                for n in 0..10 {
                    // SAFETY: the child may do what the program may.
                    let child = unsafe { libc::fork() };
                    if child == 0 {
                        let sum = (0..n)
                            .map(|n| raddle::go(move || n).join().unwrap())
                            .sum::<i32>();
                        process::exit(sum % 100);
                    }
                    assert_eq!(status_of(child), (0..n).sum::<i32>() % 100);
                }
            });
        }
    });
}

/// std forks, runs what it is given, and calls `exec`.
#[raddle::main]
pub(crate) fn runs_before_exec() {
    static WAS_RUN: AtomicBool = AtomicBool::new(false);
    be_busy();
    raddle::scope(|s| {
        for _ in 0..4 {
            s.go(|| {
                for _ in 0..10 {
                    let mut command = Command::new("/bin/echo");
                    let in_child = || {
                        WAS_RUN.store(true, SeqCst);
                        black_box(vec![1_u8; 10_000]);
                        assert_eq!(raddle::go(|| 4).join().unwrap(), 4);
                        Ok(())
                    };
                    // SAFETY: a child may do all that.
                    unsafe { command.pre_exec(in_child) };
                    assert_eq!(command.arg("ran").output().unwrap().stdout, b"ran\n");
                }
            });
        }
    });
    assert!(!WAS_RUN.load(SeqCst), "the child's memory is its own");
}

/// The process's first thread is a plain one, and waits in the parent only.
pub(crate) fn forks_below_run() {
    let text = String::from("the first thread's");
    raddle::run(|| {
        be_busy();
        if !fork(use_everything) {
            println!("child: {text}");
        }
    });
    println!("parent: goes on");
}
