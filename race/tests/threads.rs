//! The detector under real parallelism: OS threads that play goroutines, at the same moment.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Barrier, Mutex, PoisonError};

use raddle_race::{self as race, GoCtx, Host, Options, Pc, ProcCtx};

static HOST: Host = Host {
    current_proc: || PROC.with(std::cell::Cell::get),
    ..Host::NONE
};

thread_local! {
    static PROC: std::cell::Cell<Option<ProcCtx>> = const { std::cell::Cell::new(None) };
}

static ONE: Mutex<()> = Mutex::new(());

fn init() -> GoCtx {
    let mut options = Options::default();
    options.log_path = String::from(concat!(env!("CARGO_TARGET_TMPDIR"), "/race-threads"));
    // SAFETY: as `go_start`.
    unsafe { race::init(options, &HOST) }.0
}

/// A goroutine of the test's, which gives it from one thread to another by locks and channels, as a scheduler does.
fn go_start(parent: GoCtx, goid: u64, pc: Pc) -> GoCtx {
    // SAFETY: used by one thread at a time.
    unsafe { race::go_start(Some(parent), goid, pc) }
}

fn memory(size: usize) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0x7200_0000_0000);
    NEXT.fetch_add(size.next_multiple_of(64), Relaxed)
}

fn fresh_pc() -> Pc {
    static NEXT: AtomicUsize = AtomicUsize::new(0x1000);
    Pc::code(NEXT.fetch_add(8, Relaxed))
}

/// Two accesses that meet at the same moment are seen, whichever comes first: store, then look.
#[test]
fn simultaneous_accesses_are_never_missed() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let main = init();
    const ROUNDS: usize = 2000;
    let (before, data) = (race::errors(), memory(8 * ROUNDS));
    let meet = Barrier::new(2);
    let turn = AtomicUsize::new(0);
    std::thread::scope(|s| {
        for t in 0..2 {
            let ctx = go_start(main, 100 + t, fresh_pc());
            let (meet, turn) = (&meet, &turn);
            s.spawn(move || {
                race::switch_in(ctx);
                for i in 0..ROUNDS {
                    meet.wait();
                    // Spin up to the same moment: the barrier's wake-ups are far apart.
                    turn.fetch_add(1, AcqRel);
                    while turn.load(Acquire) < 2 * (i + 1) {
                        std::thread::yield_now();
                    }
                    race::write(data + 8 * i, 8, fresh_pc());
                }
                race::switch_out(ctx);
                race::go_end(ctx);
            });
        }
    });
    assert_eq!(race::errors() - before, ROUNDS);
}

/// Goroutines that hop between threads and take each other's slots, all under locks: no report.
#[test]
fn a_synchronised_program_is_clean() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let main = init();
    let before = race::errors();
    const GOROUTINES: u64 = 700;
    const LOCKS: usize = 8;
    let data = memory(4096);
    let locks: Vec<Mutex<()>> = (0..LOCKS).map(|_| Mutex::new(())).collect();
    let queue: Mutex<Vec<(GoCtx, u32)>> = Mutex::new(
        (0..GOROUTINES)
            .map(|g| (go_start(main, 1000 + g, fresh_pc()), 60))
            .collect(),
    );
    std::thread::scope(|s| {
        for t in 0..4u64 {
            let (locks, queue) = (&locks, &queue);
            s.spawn(move || {
                let p = race::proc_create();
                PROC.set(Some(p));
                let mut r = t.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                loop {
                    let next = {
                        let mut q = queue.lock().expect("no panic");
                        r = r.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let n = q.len() as u64;
                        if n == 0 {
                            None
                        } else {
                            Some(q.swap_remove((r >> 33) as usize % n as usize))
                        }
                    };
                    let Some((ctx, left)) = next else { break };
                    race::switch_in(ctx);
                    for _ in 0..4 {
                        r = r.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let i = (r >> 40) as usize % LOCKS;
                        let lock = locks[i].lock().expect("no panic");
                        race::acquire(data + 2048 + 8 * i);
                        race::func_enter(Pc::here());
                        race::write(data + 64 * i, 8, Pc::here());
                        race::read_range(data + 64 * i, 40, Pc::here());
                        race::func_exit();
                        race::release(data + 2048 + 8 * i);
                        drop(lock);
                    }
                    race::switch_out(ctx);
                    if left == 0 {
                        race::go_end(ctx);
                    } else {
                        queue.lock().expect("no panic").push((ctx, left - 1));
                    }
                }
                PROC.set(None);
                // SAFETY: made above, and nobody's any more.
                unsafe { race::proc_destroy(p) };
            });
        }
    });
    assert_eq!(race::errors(), before);
}

/// Readers of a history that its owner is writing get the right stack or none, and the process stays whole.
#[test]
fn histories_are_read_while_they_are_written() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let main = init();
    let before = race::errors();
    const ROUNDS: usize = 3000;
    let data = memory(8 * ROUNDS);
    let noise = memory(1 << 16);
    let progress = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        let writer = go_start(main, 50, fresh_pc());
        let reader = go_start(main, 51, fresh_pc());
        let (progress, stop) = (&progress, &stop);
        s.spawn(move || {
            race::switch_in(writer);
            let mut n = 0;
            for i in 0..ROUNDS {
                race::func_enter(fresh_pc());
                race::write(data + 8 * i, 8, fresh_pc());
                race::func_exit();
                progress.store(i + 1, Release);
                for _ in 0..40 {
                    n += 1;
                    race::func_enter(fresh_pc());
                    race::write(noise + 8 * (n % 8000), 8, fresh_pc());
                    race::func_exit();
                    race::release(noise);
                }
            }
            stop.store(true, Release);
            race::switch_out(writer);
            race::go_end(writer);
        });
        s.spawn(move || {
            race::switch_in(reader);
            let mut done = 0;
            while done < ROUNDS {
                let ready = progress.load(Acquire);
                while done < ready {
                    race::read(data + 8 * done, 8, fresh_pc());
                    done += 1;
                }
                assert!(ready > 0 || !stop.load(Acquire) || progress.load(Acquire) > 0);
                std::thread::yield_now();
            }
            race::switch_out(reader);
            race::go_end(reader);
        });
    });
    assert_eq!(race::errors() - before, ROUNDS);
}
