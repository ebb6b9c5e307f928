//! Programs that end in every way there is while everything goes on.

use std::hint::black_box;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use raddle::gc::{self, Gc};
use raddle::sync::Mutex;
use raddle::{chan, time};

fn argument(n: usize) -> String {
    raddle::args().nth(n).expect("there are arguments")
}

/// Everything at once: collections, hogs that are preempted, goroutines that begin and end, blocking calls, Ps that come
/// and go, goroutines that sleep, threads.
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
    thread::spawn(|| {
        loop {
            black_box(thread::spawn(|| black_box(vec![0_u8; 100])).join().unwrap());
        }
    });
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
            // SAFETY: no preconditions.
            unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        }
        _ => unreachable!("no end is called {how}"),
    }
    if how == "handler" {
        return ExitCode::from(9);
    }
    chan::never::<()>().recv().unwrap();
    unreachable!("nobody sends");
}
