//! A program whose static thread-locals are larger than the default stack, and aligned to sixteen
//! pages: every thread and every goroutine has more than a MiB of them.
//!
//! A program of its own, since all that it starts pays for them.
#![forbid(unsafe_code)]

#[path = "support/mod.rs"]
mod support;

use std::cell::Cell;
use std::env;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use raddle::gc;
use support::Outcome;

const BYTES: usize = (1 << 20) + 4321;
const ALIGN: usize = 64 << 10;

#[repr(align(65536))]
struct Aligned(Cell<u64>);

thread_local! {
    static BIG: [Cell<u8>; BYTES] = const { [const { Cell::new(0) }; BYTES] };
    static FULL: Cell<[u64; 1000]> = const { Cell::new([7; 1000]) };
    static ALIGNED: Aligned = const { Aligned(Cell::new(3)) };
}

const INSIDE: &str = "RADDLE_TEST_INSIDE";
const LIMIT: Duration = Duration::from_secs(120);

/// This test again, as a process of its own.
fn again(name: &str, variables: &[(&str, &str)]) -> Outcome {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(INSIDE, "1").envs(variables.iter().copied());
    support::run(&mut command, LIMIT)
}

fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Bytes from end to end, in each page many.
fn some(big: &[Cell<u8>; BYTES]) -> impl Iterator<Item = &Cell<u8>> {
    big.iter().step_by(97)
}

/// Uses all of the goroutine's thread-locals, over a wait.
fn use_all(own: u8) {
    assert_eq!(FULL.get()[999], 7);
    ALIGNED.with(|aligned| {
        assert_eq!(std::ptr::from_ref(aligned).addr() % ALIGN, 0);
        assert_eq!(aligned.0.replace(9), 3);
    });
    BIG.with(|big| {
        assert!(some(big).all(|byte| byte.get() == 0));
        some(big).for_each(|byte| byte.set(own));
    });
    raddle::yield_now();
    BIG.with(|big| assert!(some(big).all(|byte| byte.get() == own)));
}

fn goroutines_use_theirs() {
    let sizes = [1, 16 << 10, 100 << 10, 1 << 20, 4 << 20];
    for _ in 0..2 {
        let mut all = Vec::new();
        for (i, size) in sizes.into_iter().enumerate() {
            let builder = raddle::Builder::new().stack_size(size);
            all.push(builder.spawn(move || use_all(i as u8 + 1)).unwrap());
            all.push(raddle::go(move || use_all(i as u8 + 100)));
        }
        all.into_iter().for_each(|one| one.join().unwrap());
    }
    gc::collect();
    raddle::go(|| raddle::blocking(|| use_all_but_wait(5)))
        .join()
        .unwrap();
    use_all(200);
}

fn use_all_but_wait(own: u8) {
    BIG.with(|big| {
        some(big).for_each(|byte| byte.set(own));
        assert!(some(big).all(|byte| byte.get() == own));
    });
}

#[test]
fn they_are_the_goroutines_own() {
    if is_inside() {
        return raddle::run(goroutines_use_theirs);
    }
    for procs in ["1", "2", "8"] {
        for race in ["0", "1"] {
            for stack in ["16K", "256K"] {
                let variables = [
                    ("RADDLE_PROCS", procs),
                    ("RADDLE_RACE", race),
                    ("RADDLE_STACK", stack),
                ];
                let outcome = again("they_are_the_goroutines_own", &variables);
                assert!(
                    outcome.status.success() && outcome.stdout.contains("1 passed"),
                    "{variables:?}: {outcome}"
                );
            }
        }
    }
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

#[test]
fn an_overflow_beside_them_is_told() {
    if is_inside() {
        let diver = raddle::Builder::new().name("diver").stack_size(64 << 10);
        drop(raddle::run(|| diver.spawn(|| dive(0)).unwrap().join()));
        return;
    }
    let outcome = again("an_overflow_beside_them_is_told", &[]);
    assert_eq!(outcome.status.signal(), Some(6), "{outcome}");
    let told = "\"diver\" has overflowed its stack of 2048 KiB, of which thread-locals take 1";
    assert!(outcome.stderr.contains(told), "{outcome}");
}

#[test]
fn the_largest_stack_can_be_had_beside_them() {
    if is_inside() {
        raddle::run(|| {
            let largest = raddle::Builder::new()
                .stack_size(1 << 30)
                .spawn(|| use_all(1));
            assert!(largest.map(|one| one.join().unwrap()).is_ok());
            let larger = raddle::Builder::new()
                .stack_size((1 << 30) + 1)
                .spawn(|| ());
            println!("refused: {}", larger.unwrap_err());
        });
        return;
    }
    let outcome = again("the_largest_stack_can_be_had_beside_them", &[]);
    assert!(outcome.status.success(), "{outcome}");
    let refused = "refused: a goroutine stack of 1073741825 bytes was asked for";
    assert!(outcome.stdout.contains(refused), "{outcome}");
}
