//! The world stops under load, again and again, and nothing moves while it is stopped.

mod common;

use common::{Gate, go, on_collector};
use raddle_sched::{blocking, set_procs, yield_now};
use std::ffi::c_void;
use std::hint::black_box;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};

/// The allocator is the one whose busy sections a stop must not cut.
#[global_allocator]
static HEAP: raddle_alloc::Heap = raddle_alloc::Heap;

/// The tests count the same steps.
static ONE_TEST: Mutex<()> = Mutex::new(());

const STOPS: usize = 60;
const KINDS: usize = 8;

static DONE: AtomicBool = AtomicBool::new(false);
static RUNNING: AtomicUsize = AtomicUsize::new(0);
/// What each kind of worker has done.
static STEPS: [AtomicU64; KINDS] = [const { AtomicU64::new(0) }; KINDS];

/// One step: it allocates, and counts twice, so that a stop between is seen.
fn step(kind: usize) -> bool {
    STEPS[kind].fetch_add(1, Relaxed);
    black_box(vec![kind; 1 + kind * 37]);
    STEPS[kind].fetch_add(1, Relaxed);
    !DONE.load(Relaxed)
}

fn counted(f: impl FnOnce() + Send + 'static) -> impl FnOnce() + Send + 'static {
    RUNNING.fetch_add(1, SeqCst);
    move || {
        f();
        RUNNING.fetch_sub(1, SeqCst);
    }
}

static GATE: Gate = Gate::new();

extern "C" fn pthread_body(_: *mut c_void) -> *mut c_void {
    step(5);
    ptr::null_mut()
}

fn start_workers() {
    for _ in 0..4 {
        go(counted(|| {
            while step(0) {
                yield_now();
            }
        }));
        // Hogs: their Ps are taken by the same signal.
        go(counted(|| while step(1) {}));
    }
    go(counted(|| {
        while step(2) {
            go(counted(|| {
                step(2);
            }));
            yield_now();
        }
    }));
    go(counted(|| {
        while step(3) {
            blocking(|| black_box(std::fs::read("/proc/self/comm").is_ok()));
        }
    }));
    std::thread::spawn(counted(|| {
        while step(4) {
            let short = std::thread::spawn(|| black_box(step(4)));
            short.join().expect("it does not panic");
        }
    }));
    std::thread::spawn(counted(|| {
        while step(5) {
            let mut thread = 0;
            // SAFETY: the body has the type asked for.
            let error = unsafe {
                libc::pthread_create(&mut thread, ptr::null(), pthread_body, ptr::null_mut())
            };
            assert_eq!(error, 0);
            // SAFETY: just created, joined once.
            unsafe { libc::pthread_join(thread, ptr::null_mut()) };
        }
    }));
    go(counted(|| {
        while step(6) {
            GATE.wait();
        }
    }));
    std::thread::spawn(counted(|| {
        while step(7) {
            GATE.open();
            std::thread::yield_now();
        }
        while RUNNING.load(SeqCst) > 1 {
            GATE.open();
            std::thread::yield_now();
        }
    }));
}

fn steps() -> [u64; KINDS] {
    std::array::from_fn(|kind| STEPS[kind].load(Relaxed))
}

fn stops_under_load(procs: usize, change_procs: bool) {
    let _one = ONE_TEST.lock().unwrap();
    set_procs(procs);
    DONE.store(false, SeqCst);
    start_workers();
    on_collector(|world| {
        let mut ranges = 0usize;
        let mut errors = 0;
        let mut stops = 0;
        let begun = steps();
        // Until each kind of worker has gone on after enough stops.
        while stops < STOPS || steps().iter().zip(&begun).any(|(now, begun)| now == begun) {
            if let Err(unstoppable) = world.stop(&[]) {
                errors += 1;
                assert!(errors < 10, "{unstoppable:?}");
                continue;
            }
            let before = steps();
            world.each_root(&mut |range| {
                assert!(range.start < range.end);
                ranges += 1;
            });
            for _ in 0..1000 {
                std::hint::spin_loop();
            }
            let after = steps();
            world.start();
            assert_eq!(before, after, "something moved");
            stops += 1;
            if change_procs && stops % 10 == 0 {
                set_procs(1 + stops / 10 % 8);
            }
            std::thread::yield_now();
        }
        assert!(ranges > stops * 10);
    });
    DONE.store(true, SeqCst);
    while RUNNING.load(SeqCst) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn the_world_stops_with_one_p() {
    stops_under_load(1, false);
}

#[test]
fn the_world_stops_with_two_ps() {
    stops_under_load(2, false);
}

#[test]
fn the_world_stops_with_eight_ps() {
    stops_under_load(8, false);
}

#[test]
fn the_world_stops_while_the_number_of_ps_changes() {
    stops_under_load(2, true);
}
