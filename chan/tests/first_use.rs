//! The first use of the scheduler, by many plain threads at once.
//!
//! A process has one first use, so the test starts this program again and again.

use raddle_chan::{after, bounded, tick};
use std::process::Command;
use std::sync::Barrier;
use std::time::Duration;

const SHORT: Duration = Duration::from_micros(50);
const INSIDE: &str = "CHAN_FIRST_USE";

#[test]
fn threads_that_come_first_together_find_it_whole() {
    if std::env::var_os(INSIDE).is_some() {
        return use_clocks();
    }
    let program = std::env::current_exe().unwrap();
    for _ in 0..40 {
        let run = Command::new(&program).env(INSIDE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{}\n{text}", run.status);
    }
}

/// Waits with a time limit need a P, for its timers.
fn use_clocks() {
    const THREADS: usize = 16;
    let (start, (_sender, receiver)) = (Barrier::new(THREADS), bounded::<()>(0));
    std::thread::scope(|scope| {
        for i in 0..THREADS {
            let (start, receiver) = (&start, &receiver);
            scope.spawn(move || {
                start.wait();
                match i % 3 {
                    0 => drop(after(SHORT).recv().unwrap()),
                    1 => drop(tick(SHORT).recv().unwrap()),
                    _ => assert!(receiver.recv_timeout(SHORT).is_err()),
                }
            });
        }
    });
}
