//! Programs that run into data races of old versions: `race-advisories NAME` runs one, `race-advisories` alone lists them.
//!
//! All is safe code: the races are the crates'. Lines are marked as in `race/cases`. The two sides of a race are kept apart in
//! time where they could do harm.

use std::arch::asm;
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread;

/// Counts steps where the detector does not see it, to put one thing after another without ordering them.
static STEPS: AtomicU32 = AtomicU32::new(0);

fn step() {
    // SAFETY: changes an atomic of this crate, atomically.
    unsafe { asm!("lock add dword ptr [{}], 1", in(reg) STEPS.as_ptr(), options(nostack)) }
}

fn wait_for_steps(n: u32) {
    let mut now = 0u32;
    while now < n {
        thread::yield_now();
        // SAFETY: reads an atomic of this crate.
        unsafe {
            asm!("mov {:e}, dword ptr [{}]", out(reg) now, in(reg) STEPS.as_ptr(), options(nostack))
        }
    }
}

/// Two threads that have both begun before either does anything: starting and ending threads would order them.
fn two<A, B>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) {
    // SAFETY: sets an atomic of this crate, which no thread uses yet.
    unsafe { asm!("mov dword ptr [{}], 0", in(reg) STEPS.as_ptr(), options(nostack)) };
    let both_here = || {
        step();
        wait_for_steps(2);
    };
    thread::scope(|s| {
        let a = s.spawn(|| {
            both_here();
            black_box(a());
        });
        let b = s.spawn(|| {
            both_here();
            black_box(b());
        });
        a.join().unwrap();
        b.join().unwrap();
    });
}

/// RUSTSEC-2020-0122: `beef::Cow` is `Send` with a reference to what is not `Sync`.
pub fn race_beef_cow() {
    let cells: &'static [Cell<i32>] = Box::leak(Box::new([Cell::new(1)]));
    let cow: beef::Cow<'static, [Cell<i32>]> = beef::Cow::borrowed(cells);
    let thread = thread::spawn(move || {
        cow.unwrap_borrowed()[0].set(2); //~ race
    });
    black_box(cells[0].get()); //~ race
    thread.join().unwrap();
}

/// RUSTSEC-2020-0044: an `Atom` is `Sync` whatever it holds, and gives it to another thread.
pub fn race_atom() {
    let cell: &'static Cell<i32> = Box::leak(Box::new(Cell::new(1)));
    let rc = std::rc::Rc::new(1);
    let atom = Arc::new(atom::Atom::new(Box::new((cell, rc.clone()))));
    let other = atom.clone();
    let thread = thread::spawn(move || {
        let (cell, rc) = *other.take().unwrap();
        cell.set(2); //~ race cell
        std::mem::forget(rc);
    });
    black_box(cell.get()); //~ race cell
    thread.join().unwrap();
    std::mem::forget(rc);
}

/// RUSTSEC-2021-0113: an `AtomicBucket` lets several threads look at what is not `Sync`.
pub fn race_metrics_bucket() {
    let bucket = metrics_util::AtomicBucket::new();
    bucket.push(Cell::new(1));
    let count = || {
        bucket.data_with(|cells| {
            step();
            wait_for_steps(4);
            cells.iter().for_each(|c| c.set(c.get() + 1)); //~ race
        });
    };
    two(count, count);
}

/// RUSTSEC-2022-0006: iterating over a `ThreadLocal` does not wait for what other threads have made.
///
/// It looks at places without a value too: so the thread with a value must not be the first in its block of places. It is the
/// fourth, and the blocks hold one, one and two.
pub fn race_thread_local_iter() {
    let (others, all) = (
        thread_local::ThreadLocal::new(),
        thread_local::ThreadLocal::new(),
    );
    others.get_or(|| 0);
    thread::scope(|s| {
        let second = s.spawn(|| {
            others.get_or(|| 1);
            step();
            wait_for_steps(4);
        });
        let iterates = s.spawn(|| {
            wait_for_steps(1);
            others.get_or(|| 2);
            step();
            wait_for_steps(3);
            black_box(all.iter().map(|n: &u64| *n).sum::<u64>()); //~ race
            step();
        });
        let fourth = s.spawn(|| {
            wait_for_steps(2);
            black_box(*all.get_or(|| 3)); //~ race
            step();
            wait_for_steps(4);
        });
        for thread in [second, iterates, fourth] {
            thread.join().unwrap();
        }
    });
}

/// RUSTSEC-2021-0124: sending on a oneshot channel whose receiver was closed, and receiving nevertheless.
pub fn race_tokio_oneshot() {
    // Who comes second by a whole step is ordered by the channel's state: it takes a meeting in the middle.
    for _ in 0..200 {
        let (tx, mut rx) = tokio::sync::oneshot::channel::<u64>();
        rx.close();
        two(
            move || tx.send(1),    //~ race
            move || rx.try_recv(), //~ race
        );
    }
}

/// RUSTSEC-2025-0023: receivers of a broadcast clone what is not `Sync` at the same time.
pub fn race_tokio_broadcast_clone() {
    // Only `Send`, as the bounds of the channel ask.
    struct Message(Box<Cell<u32>>);
    impl Clone for Message {
        fn clone(&self) -> Self {
            step();
            wait_for_steps(4);
            self.0.set(self.0.get() + 1); //~ race
            Message(Box::new(Cell::new(0)))
        }
    }
    let (tx, mut a) = tokio::sync::broadcast::channel(4);
    let (mut b, mut c) = (tx.subscribe(), tx.subscribe());
    assert!(tx.send(Message(Box::new(Cell::new(0)))).is_ok());
    two(move || drop(b.try_recv()), move || drop(c.try_recv()));
    black_box(&mut a);
}

/// A name, and what it runs.
type Case = (&'static str, fn());

const ALL: &[Case] = &[
    ("race_atom", race_atom),
    ("race_beef_cow", race_beef_cow),
    ("race_metrics_bucket", race_metrics_bucket),
    ("race_thread_local_iter", race_thread_local_iter),
    ("race_tokio_broadcast_clone", race_tokio_broadcast_clone),
    ("race_tokio_oneshot", race_tokio_oneshot),
];

fn main() {
    let Some(wanted) = std::env::args().nth(1) else {
        ALL.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let Some((_, case)) = ALL.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("no case `{wanted}`; without an argument all are listed");
        std::process::exit(2);
    };
    case();
}
