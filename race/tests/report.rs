//! What a report says, in each form, and the exit status: every test runs itself again as a child process, since a
//! process has one detector.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use raddle_race::{
    self as race, AtomicOp, Frame, GoCtx, Host, Object, Options, Owner, Pc, Place, Variable,
};
use serde_json::Value;

/// Memory that only exists as shadow.
const BLOCK: usize = 0x7200_0000_0000;

/// A block that the heap has no object for any more.
const GONE: usize = BLOCK + 192;

const STORE: usize = 0x1000;
const LOAD: usize = 0x2000;
const SPAWN: usize = 0x3000;
const CALLER: usize = 0x4000;

/// An address that the symbolizer places at line `LINE` of this file.
const REAL: usize = 0x5000;
static LINE: AtomicU32 = AtomicU32::new(0);
/// An address in the standard library.
const PUSH: usize = 0x6000;
/// Library code, a detector's hook, and what threads begin with.
const PTR_WRITE: usize = 0x7000;
const HOOK: usize = 0x8000;
const CALL_ONCE: usize = 0x9000;
const START_THREAD: usize = 0xa000;
/// A line of this file, whose function has no more than that in it.
const HERE: usize = 0xb000;
/// A line of a file that is not there.
const NOWHERE: usize = 0xc000;

/// A static, a thread-local of goroutine 7 and its stack.
const GLOBAL: usize = BLOCK + (1 << 20);
const THREAD_LOCAL: usize = GLOBAL + 4096;
const ON_STACK: usize = THREAD_LOCAL + 4096;
const ON_MAIN_STACK: usize = ON_STACK + 4096;
const OTHERS_STACK: usize = ON_MAIN_STACK + 4096;
const UNNAMED: usize = OTHERS_STACK + 4096;

/// Between the start and the end of `on_big_stack`.
static ON_BIG_STACK: AtomicBool = AtomicBool::new(false);

/// 1: the real stack is one of an allocation; 3: of a start of a thread through many functions of std.
static WALK: AtomicU32 = AtomicU32::new(0);

static HOST: Host = Host {
    symbolize_code: |pc, each| {
        if pc == REAL {
            let file = concat!("/somewhere/", file!());
            let line = LINE.load(Relaxed);
            each(Frame {
                function: Some("app::inlined"),
                file: Some(file),
                line: 1,
                column: 0,
                offset: 0x10,
            });
            each(Frame {
                function: Some("app::real"),
                file: Some(file),
                line,
                column: 0,
                offset: 0x10,
            });
            return;
        }
        let (function, line) = match pc {
            STORE => ("app::store", 12),
            LOAD => ("app::load", 20),
            SPAWN => ("app::main", 5),
            CALLER => ("app::caller", 33),
            PUSH => ("alloc::vec::Vec<T>::push", 1),
            PTR_WRITE => ("core::ptr::write", 1),
            HOOK => ("__tsan_write8", 1),
            CALL_ONCE => ("core::ops::function::FnOnce::call_once", 1),
            START_THREAD => ("start_thread", 1),
            HERE => return here(each),
            NOWHERE => {
                return each(Frame {
                    function: Some("app::nowhere"),
                    file: Some("/no/such/file.rs"),
                    line: 3,
                    ..Frame::default()
                });
            }
            _ => return,
        };
        each(Frame {
            function: Some(function),
            file: Some("/src/app/main.rs"),
            line,
            column: 0,
            offset: 0x3a,
        });
    },
    goroutine_name: |id, with| {
        if id == 7 {
            with("worker");
        }
    },
    goroutine_running: |id| id != 9,
    current_stack: |stack| {
        assert!(!ON_BIG_STACK.load(Relaxed), "it is the caller's stack");
        let frames: &[usize] = match (LINE.load(Relaxed), WALK.load(Relaxed)) {
            (0, 0) => &[],
            (0, 2) => &[HOOK, LOAD, STORE, CALLER, CALL_ONCE, START_THREAD],
            (0, 3) => &[
                CALL_ONCE,
                PTR_WRITE,
                PUSH,
                PUSH,
                PUSH,
                PUSH,
                PUSH,
                PUSH,
                PUSH,
                PUSH,
                PUSH,
                PUSH,
                STORE,
                CALLER,
                CALL_ONCE,
                START_THREAD,
            ],
            (0, _) => &[PUSH, STORE, PUSH, CALLER],
            _ => &[SPAWN, REAL, CALLER],
        };
        for (place, pc) in stack.iter_mut().zip(frames) {
            *place = Pc::code(*pc);
        }
        frames.len()
    },
    find_object: |addr| {
        (addr < BLOCK + 64).then_some(Object {
            start: BLOCK,
            size: 64,
        })
    },
    describe: |addr, with| {
        assert!(ON_BIG_STACK.load(Relaxed));
        let variable = |start| Variable {
            name: "app::COUNTER",
            start,
            size: 8,
            module: "app",
            offset: 0x1234,
        };
        match addr {
            GLOBAL => with(Place::Global(variable(GLOBAL))),
            THREAD_LOCAL => with(Place::ThreadLocal(variable(addr), Owner::Goroutine(7))),
            ON_STACK => with(Place::Stack(Owner::Goroutine(7))),
            ON_MAIN_STACK => with(Place::Stack(Owner::MainThread)),
            OTHERS_STACK => with(Place::Stack(Owner::Thread {
                tid: 99,
                name: "loader",
            })),
            UNNAMED => with(Place::Global(Variable {
                name: "??",
                size: 0,
                ..variable(UNNAMED)
            })),
            _ => {}
        }
    },
    on_big_stack: |f, arg| {
        ON_BIG_STACK.store(true, Relaxed);
        // SAFETY: as it is asked.
        unsafe { f(arg) };
        ON_BIG_STACK.store(false, Relaxed);
    },
    ..Host::NONE
};

const THIS_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/report.rs");

/// The frame of an address in its own first line.
fn here(each: race::EachFrame<'_>) {
    let line = line!() - 1;
    each(Frame {
        function: Some("app::here"),
        file: Some(THIS_FILE),
        line,
        column: 4,
        offset: 0,
    });
}

fn on(ctx: GoCtx, f: impl FnOnce()) {
    race::switch_in(ctx);
    f();
    race::switch_out(ctx);
}

/// Runs the test `name` as a child with these options; None in the child itself, which goes on.
fn parent(name: &str, options: &str) -> Option<Output> {
    if std::env::var_os("RADDLE_RACE_CHILD").is_some() {
        return None;
    }
    let exe = std::env::current_exe().expect("own path");
    let mut command = Command::new(exe);
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("RADDLE_RACE_CHILD", options);
    Some(command.output().expect("child ran"))
}

/// A goroutine of the test's, which gives it from one thread to another by locks and channels, as a scheduler does.
fn go_start(parent: GoCtx, goid: u64, pc: Pc) -> GoCtx {
    // SAFETY: used by one thread at a time.
    unsafe { race::go_start(Some(parent), goid, pc) }
}

/// In the child: main and a goroutine 7 made by it.
fn start() -> (GoCtx, GoCtx) {
    let options = std::env::var("RADDLE_RACE_CHILD").expect("set by the parent");
    let options = Options::parse(&options).expect("good options");
    // SAFETY: used by one thread at a time.
    let (main, _) = unsafe { race::init(options, &HOST) };
    assert!(race::enabled());
    race::switch_in(main);
    let worker = go_start(main, 7, Pc::code(SPAWN));
    race::switch_out(main);
    (main, worker)
}

fn finish() -> ! {
    std::process::exit(race::fini())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn write_and_read((main, worker): (GoCtx, GoCtx)) {
    on(worker, || {
        race::func_enter(Pc::code(CALLER));
        race::write(BLOCK + 128, 8, Pc::code(STORE));
        race::func_exit();
    });
    on(main, || race::read(BLOCK + 128, 8, Pc::code(LOAD)));
}

#[test]
fn a_report_has_gos_shape() {
    let Some(output) = parent("a_report_has_gos_shape", "") else {
        let both = start();
        write_and_read(both);
        write_and_read(both);
        assert_eq!(race::errors(), 1, "said once");
        finish()
    };
    assert_eq!(
        stderr(&output),
        "==================\n\
         WARNING: DATA RACE\n\
         Read at 0x720000000080 (8 bytes) by main goroutine:\n\
         \x20 app::load\n\
         \x20     /src/app/main.rs:20 +0x3a\n\
         \n\
         Previous write at 0x720000000080 (8 bytes) by goroutine 7 'worker':\n\
         \x20 app::store\n\
         \x20     /src/app/main.rs:12 +0x3a\n\
         \x20 app::caller\n\
         \x20     /src/app/main.rs:33 +0x3a\n\
         \n\
         Goroutine 7 (running) 'worker' created at:\n\
         \x20 app::main\n\
         \x20     /src/app/main.rs:5 +0x3a\n\
         ==================\n\
         Found 1 data race(s)\n"
    );
    assert_eq!(output.status.code(), Some(66));
}

#[test]
fn a_location_needs_no_debug_info() {
    let Some(output) = parent(
        "a_location_needs_no_debug_info",
        "exitcode=3 strip_path_prefix=race/",
    ) else {
        let (main, worker) = start();
        on(worker, || race::write(BLOCK + 128, 4, Pc::here()));
        race::go_end(worker);
        on(main, || {
            race::atomic(
                BLOCK + 128,
                4,
                AtomicOp::Store(std::sync::atomic::Ordering::SeqCst),
                Pc::here(),
                &mut || true,
            );
        });
        finish()
    };
    let text = stderr(&output);
    let line = |what: &str| {
        text.lines()
            .position(|l| l.starts_with(what))
            .unwrap_or_else(|| panic!("{what}: {text}"))
    };
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[line("Atomic write at 0x720000000080 (4 bytes) by main goroutine:") + 1]
            .starts_with("      tests/report.rs:")
    );
    let previous = line("Previous write at 0x720000000080 (4 bytes) by goroutine 7 'worker':");
    assert!(lines[previous + 1].starts_with("      tests/report.rs:"));
    line("Goroutine 7 (finished) 'worker' created at:");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn the_real_stack_gives_function_and_callers_of_a_location() {
    let Some(output) = parent(
        "the_real_stack_gives_function_and_callers_of_a_location",
        "",
    ) else {
        let (main, worker) = start();
        on(worker, || race::write(BLOCK + 128, 4, Pc::code(STORE)));
        on(main, || {
            let pc = Pc::here();
            LINE.store(pc.location().expect("a location").line(), Relaxed);
            race::write(BLOCK + 128, 4, pc);
        });
        finish()
    };
    let text = stderr(&output);
    let start = "Write at 0x720000000080 (4 bytes) by main goroutine:\n  app::real\n      /somewhere/race/tests/report.rs:";
    assert!(
        text.contains(start) && !text.contains("app::inlined"),
        "{text}"
    );
    assert!(
        text.contains(" +0x10\n  app::caller\n      /src/app/main.rs:33 +0x3a\n\nPrevious write"),
        "{text}"
    );
}

#[test]
fn a_use_after_free_names_the_free_and_the_block() {
    let Some(output) = parent(
        "a_use_after_free_names_the_free_and_the_block",
        "halt_on_error=1",
    ) else {
        let (main, worker) = start();
        on(main, || race::malloc(BLOCK, 64, Pc::code(CALLER)));
        on(worker, || race::read(BLOCK + 8, 8, Pc::code(LOAD)));
        panic!("halt_on_error goes on");
    };
    let text = stderr(&output);
    assert!(
        text.contains(
            "Previous write (allocation) at 0x720000000008 by main goroutine:\n  app::caller\n"
        ),
        "{text}"
    );
    assert!(
        text.contains(
            "\nBlock of 64 bytes at 0x720000000000 allocated by main goroutine:\n  app::caller\n"
        ),
        "{text}"
    );
    assert!(text.ends_with("Found 1 data race(s)\n"), "{text}");
    assert_eq!(output.status.code(), Some(66));

    let Some(output) = parent("a_use_after_free_names_the_free_and_the_block", "") else {
        unreachable!()
    };
    assert_eq!(
        output.status.code(),
        Some(101),
        "without halt_on_error it goes on"
    );
}

#[test]
fn the_free_itself_is_named() {
    let Some(output) = parent("the_free_itself_is_named", "") else {
        let (main, worker) = start();
        on(worker, || race::free(BLOCK, 64, Pc::code(STORE)));
        on(main, || race::read(BLOCK + 8, 8, Pc::code(LOAD)));
        finish()
    };
    let text = stderr(&output);
    assert!(
        text.contains("\nPrevious free at 0x720000000008 by goroutine 7 'worker':\n  app::store\n"),
        "{text}"
    );
}

/// What the program did in vain: made a block under two calls, freed it elsewhere, and used it.
fn use_after_free() -> ! {
    let (main, worker) = start();
    on(worker, || {
        race::func_enter(Pc::code(CALLER));
        race::malloc(GONE, 24, Pc::code(STORE));
        race::func_exit();
    });
    on(worker, || {
        race::func_enter(Pc::code(SPAWN));
        race::free(GONE, 24, Pc::NONE);
        race::func_exit();
    });
    on(main, || race::read(GONE + 16, 8, Pc::code(LOAD)));
    finish()
}

#[test]
fn a_freed_block_is_described_as_long_as_it_is_known() {
    let Some(output) = parent("a_freed_block_is_described_as_long_as_it_is_known", "") else {
        use_after_free()
    };
    let text = stderr(&output);
    let free = "\nPrevious free at 0x7200000000d0 by goroutine 7 'worker':\n  app::main\n      /src/app/main.rs:5 +0x3a\n";
    let block = "\nBlock of 24 bytes at 0x7200000000c0 allocated by goroutine 7 'worker':\n  \
                 app::store\n      /src/app/main.rs:12 +0x3a\n  app::caller\n      /src/app/main.rs:33 +0x3a\n====";
    assert!(text.contains(free) && text.contains(block), "{text}");
}

#[test]
fn json_and_sarif_have_the_block_s_stack() {
    let name = "json_and_sarif_have_the_block_s_stack";
    let (Some(json), Some(sarif)) = (parent(name, "format=json"), parent(name, "format=sarif"))
    else {
        use_after_free()
    };
    let json = stderr(&json);
    let block = "\"block\":{\"address\":\"0x7200000000c0\",\"size\":24,\"goroutine\":7,\"stack\":[{\"function\":\"app::store\",\
                 \"file\":\"/src/app/main.rs\",\"line\":12,\"column\":0,\"offset\":58},{\"function\":\"app::caller\",";
    assert!(
        json.contains(block) && json.contains("\"op\":\"free\""),
        "{json}"
    );
    let sarif = stderr(&sarif);
    let stack = "{\"message\":{\"text\":\"block of 24 bytes at 0x7200000000c0\"},\"frames\":[{\"location\":";
    assert!(sarif.contains(stack), "{sarif}");
    let balance = |open, close| sarif.matches(open).count() == sarif.matches(close).count();
    assert!(balance('{', '}') && balance('[', ']'), "{sarif}");
}

#[test]
fn a_block_s_stack_begins_with_the_program_s_line() {
    let Some(output) = parent("a_block_s_stack_begins_with_the_program_s_line", "") else {
        let (main, worker) = start();
        WALK.store(1, Relaxed);
        on(main, || race::malloc(BLOCK, 40, Pc::NONE));
        WALK.store(0, Relaxed);
        on(worker, || race::read(BLOCK + 33, 1, Pc::code(LOAD)));
        finish()
    };
    let text = stderr(&output);
    let stack = "  app::store\n      /src/app/main.rs:12 +0x3a\n  alloc::vec::Vec<T>::push\n";
    let previous =
        format!("Previous write (allocation) at 0x720000000021 by main goroutine:\n{stack}");
    let block =
        format!("Block of 40 bytes at 0x720000000000 allocated by main goroutine:\n{stack}");
    assert!(text.contains(&previous) && text.contains(&block), "{text}");
}

#[test]
fn a_block_without_a_record_has_the_heap_s_size_and_no_stack() {
    let Some(output) = parent(
        "a_block_without_a_record_has_the_heap_s_size_and_no_stack",
        "",
    ) else {
        let (main, worker) = start();
        on(main, || race::write(BLOCK + 48, 8, Pc::code(STORE)));
        on(worker, || race::read(BLOCK + 48, 8, Pc::code(LOAD)));
        finish()
    };
    let text = stderr(&output);
    assert!(
        text.contains("\nBlock of 64 bytes at 0x720000000000\n===="),
        "{text}"
    );
}

/// Goroutine 7 and then main store to each address, in a helper that each calls from its own function for that address.
fn through_a_helper((main, worker): (GoCtx, GoCtx), at: [(usize, usize); 2]) {
    for who in [worker, main] {
        on(who, || {
            for (addr, caller) in at {
                race::func_enter(Pc::code(caller));
                race::write(addr, 8, Pc::code(STORE));
                race::func_exit();
            }
        });
    }
}

#[test]
fn races_in_one_helper_differ_by_its_callers() {
    let Some(output) = parent("races_in_one_helper_differ_by_its_callers", "") else {
        let both = start();
        through_a_helper(both, [(BLOCK + 128, CALLER), (BLOCK + 256, SPAWN)]);
        assert_eq!(race::errors(), 2);
        // The same two pairs of stacks, elsewhere and the other way round.
        let (main, worker) = both;
        let again = [(BLOCK + 512, CALLER), (BLOCK + 640, SPAWN)];
        through_a_helper((worker, main), again);
        finish()
    };
    let text = stderr(&output);
    for caller in ["app::caller", "app::main"] {
        let side = format!("app::store\n      /src/app/main.rs:12 +0x3a\n  {caller}\n");
        assert_eq!(text.matches(&side).count(), 2, "{text}");
    }
    assert!(text.contains("Found 2 data race(s)"), "{text}");
}

#[test]
fn fields_that_share_eight_bytes_are_two_places() {
    let Some(output) = parent("fields_that_share_eight_bytes_are_two_places", "") else {
        let (main, worker) = start();
        let field = BLOCK + 128;
        on(worker, || {
            race::write(field, 4, Pc::code(STORE));
            race::write(field + 4, 4, Pc::code(HERE));
        });
        on(main, || {
            race::read(field, 4, Pc::code(LOAD));
            race::read(field + 4, 4, Pc::code(CALLER));
            assert_eq!(race::errors(), 2);
            // Each byte has been reported.
            race::read(field + 2, 4, Pc::code(PUSH));
            assert_eq!(race::errors(), 2);
        });
        // One of them begins a new life, the other does not.
        race::clear_shadow(field, 4);
        on(worker, || race::write(field, 8, Pc::code(SPAWN)));
        on(main, || {
            race::write(field + 4, 4, Pc::code(PUSH));
            assert_eq!(race::errors(), 2);
            race::write(field, 4, Pc::code(PUSH));
        });
        finish()
    };
    let text = stderr(&output);
    for addr in ["0x720000000080", "0x720000000084"] {
        let read = format!("Read at {addr} (4 bytes) by main goroutine");
        assert_eq!(text.matches(&read).count(), 1, "{text}");
    }
    assert!(text.contains("Found 3 data race(s)"), "{text}");
}

/// The current goroutine stores to so many places, none of them one of the test's.
fn store_elsewhere(count: usize) {
    for i in 0..count {
        race::write(GONE + 64 + 8 * i, 8, Pc::code(LOAD));
    }
}

/// The second part of a report.
fn previous_side_after(output: &Output) -> String {
    let text = stderr(output);
    let start = text.find("Previous write at ").expect("a report");
    let side = &text[start..];
    side[..side.find("\n\n").expect("two sides")].to_owned()
}

#[test]
fn a_stack_outlives_64_k_events() {
    let Some(output) = parent("a_stack_outlives_64_k_events", "") else {
        let (main, worker) = start();
        on(worker, || {
            race::func_enter(Pc::code(CALLER));
            race::write(BLOCK + 128, 8, Pc::code(STORE));
            race::func_exit();
            store_elsewhere(64 << 10);
        });
        on(main, || race::read(BLOCK + 128, 8, Pc::code(LOAD)));
        finish()
    };
    assert_eq!(
        previous_side_after(&output),
        "Previous write at 0x720000000080 (8 bytes) by goroutine 7 'worker':\n\
         \x20 app::store\n      /src/app/main.rs:12 +0x3a\n\
         \x20 app::caller\n      /src/app/main.rs:33 +0x3a"
    );
}

#[test]
fn a_line_outlives_its_stack() {
    let Some(output) = parent("a_line_outlives_its_stack", "history_size=0") else {
        let (main, worker) = start();
        on(worker, || {
            race::func_enter(Pc::code(CALLER));
            race::write(BLOCK + 128, 8, Pc::code(STORE));
            race::func_exit();
            store_elsewhere(200_000);
        });
        on(main, || race::read(BLOCK + 128, 8, Pc::code(LOAD)));
        finish()
    };
    assert_eq!(
        previous_side_after(&output),
        "Previous write at 0x720000000080 (8 bytes) by goroutine 7 'worker':\n\
         \x20 app::store\n      /src/app/main.rs:12 +0x3a\n\
         \x20 [the callers are too long ago]"
    );
}

/// The main goroutine reads what another wrote too long ago for its callers to be known.
fn race_of_long_ago() -> ! {
    let (main, worker) = start();
    on(worker, || {
        race::write(BLOCK + 128, 8, Pc::code(STORE));
        store_elsewhere(200_000);
    });
    on(main, || race::read(BLOCK + 128, 8, Pc::code(LOAD)));
    finish()
}

#[test]
fn programs_are_told_that_callers_are_lost() {
    let options = "history_size=0 format=json";
    let Some(output) = parent("programs_are_told_that_callers_are_lost", options) else {
        race_of_long_ago()
    };
    let report = json(&stderr(&output));
    let [own, previous] = [0, 1].map(|i| &report["accesses"][i]);
    assert_eq!(own["callers_lost"], Value::Null);
    assert_eq!(previous["callers_lost"], true);
    assert_eq!(previous["stack"][0]["function"], "app::store");
    assert_eq!(previous["stack"].as_array().map(Vec::len), Some(1));
}

#[test]
fn sarif_says_that_callers_are_lost() {
    let options = "history_size=0 format=sarif";
    let Some(output) = parent("sarif_says_that_callers_are_lost", options) else {
        race_of_long_ago()
    };
    let stacks = &json(&stderr(&output))["runs"][0]["results"][0]["stacks"];
    assert_eq!(stacks[0]["message"]["text"], "read");
    let previous = "write; the callers are too long ago";
    assert_eq!(stacks[1]["message"]["text"], previous);
}

#[test]
fn calls_of_long_ago_are_returned_from() {
    let Some(output) = parent("calls_of_long_ago_are_returned_from", "") else {
        let (main, worker) = start();
        on(worker, || {
            race::func_enter(Pc::code(SPAWN));
            race::func_enter(Pc::code(CALLER));
            (0..1000).for_each(|_| race::func_enter(Pc::code(HERE)));
            // More than the history has room for.
            store_elsewhere(200_000);
            (0..1000).for_each(|_| race::func_exit());
            race::write(BLOCK + 128, 8, Pc::code(STORE));
        });
        on(main, || race::read(BLOCK + 128, 8, Pc::code(LOAD)));
        finish()
    };
    assert_eq!(
        previous_side_after(&output),
        "Previous write at 0x720000000080 (8 bytes) by goroutine 7 'worker':\n\
         \x20 app::store\n      /src/app/main.rs:12 +0x3a\n\
         \x20 app::caller\n      /src/app/main.rs:33 +0x3a\n\
         \x20 app::main\n      /src/app/main.rs:5 +0x3a"
    );
}

/// A thousand goroutines end after the one whose history is asked for.
#[test]
fn lost_history_is_admitted() {
    let Some(output) = parent("lost_history_is_admitted", "") else {
        let (main, worker) = start();
        on(worker, || race::write(BLOCK + 128, 8, Pc::code(STORE)));
        race::go_end(worker);
        for goid in 8..1100 {
            let next = go_start(main, goid, Pc::code(SPAWN));
            on(next, || race::write(GONE + 64, 8, Pc::code(LOAD)));
            race::go_end(next);
        }
        on(main, || race::read(BLOCK + 128, 8, Pc::code(LOAD)));
        finish()
    };
    let text = stderr(&output);
    let expected = "by an earlier goroutine:\n  [failed to restore the stack]\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn the_newest_of_many_accesses_is_found() {
    let Some(output) = parent("the_newest_of_many_accesses_is_found", "") else {
        let (main, worker) = start();
        on(worker, || {
            for i in 0..5000 {
                race::func_enter(Pc::code(CALLER));
                race::write(BLOCK + 4096 + 8 * (i % 512), 8, Pc::code(LOAD));
                race::release(BLOCK + 1024);
                race::func_exit();
            }
            race::func_enter(Pc::code(CALLER));
            race::write_range_pc(BLOCK + 128, 100_000, Pc::code(SPAWN), Pc::code(STORE));
            race::func_exit();
        });
        on(main, || race::read(BLOCK + 99_000, 1, Pc::code(LOAD)));
        finish()
    };
    let text = stderr(&output);
    let stack = "app::store\n      /src/app/main.rs:12 +0x3a\n  app::main\n      /src/app/main.rs:5 +0x3a\n  app::caller\n";
    assert!(
        text.contains(&format!("by goroutine 7 'worker':\n  {stack}")),
        "{text}"
    );
}

#[test]
fn suppressed_races_do_not_count() {
    let test = "suppressed_races_do_not_count";
    if std::env::var_os("RADDLE_RACE_CHILD").is_some() {
        write_and_read(start());
        finish()
    }
    let name = format!("raddle-race-suppressions-{}", std::process::id());
    let file = std::env::temp_dir().join(name);
    for (text, status) in [
        ("race:app::caller", 0),
        ("race_top:app::caller", 66),
        ("race_top:^app::load$", 0),
        ("# none", 66),
    ] {
        std::fs::write(&file, text).expect("written");
        let output = parent(test, &format!("suppressions={}", file.display())).expect("the parent");
        assert_eq!(
            output.status.code(),
            Some(status),
            "{text}: {}",
            stderr(&output)
        );
    }
    let _ = std::fs::remove_file(&file);
}

#[test]
fn reports_go_to_a_file() {
    let path = std::env::temp_dir().join(format!("raddle-race-log-{}", std::process::id()));
    let Some(output) = parent(
        "reports_go_to_a_file",
        &format!("log_path={}", path.display()),
    ) else {
        write_and_read(start());
        println!("pid={}", std::process::id());
        finish()
    };
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let pid = out
        .lines()
        .find_map(|l| l.split_once("pid="))
        .expect("pid printed")
        .1;
    let file = format!("{}.{pid}", path.display());
    let text = std::fs::read_to_string(&file).expect("log written");
    assert!(
        text.starts_with("==================\nWARNING: DATA RACE\n")
            && text.ends_with("Found 1 data race(s)\n")
    );
    assert_eq!(stderr(&output), "");
    let _ = std::fs::remove_file(file);
}

#[test]
fn json_has_one_object_per_line() {
    let Some(output) = parent("json_has_one_object_per_line", "format=json") else {
        write_and_read(start());
        finish()
    };
    assert_eq!(
        stderr(&output),
        "{\"kind\":\"data race\",\"accesses\":[{\"op\":\"read\",\"address\":\"0x720000000080\",\"size\":8,\"goroutine\":1,\
         \"state\":\"running\",\"parent\":0,\"created\":[],\"stack\":[{\"function\":\"app::load\",\"file\":\"/src/app/main.rs\",\
         \"line\":20,\"column\":0,\"offset\":58}]},{\"op\":\"write\",\"address\":\"0x720000000080\",\"size\":8,\"goroutine\":7,\
         \"state\":\"running\",\"parent\":1,\"name\":\"worker\",\"created\":[{\"function\":\"app::main\",\
         \"file\":\"/src/app/main.rs\",\"line\":5,\"column\":0,\"offset\":58}],\"stack\":[{\"function\":\"app::store\",\
         \"file\":\"/src/app/main.rs\",\"line\":12,\"column\":0,\"offset\":58},{\"function\":\"app::caller\",\"file\":\"/src/app/main.rs\",\
         \"line\":33,\"column\":0,\"offset\":58}]}]}\n"
    );
}

#[test]
fn sarif_is_complete_at_the_end() {
    let Some(output) = parent("sarif_is_complete_at_the_end", "format=sarif") else {
        let (main, worker) = start();
        write_and_read((main, worker));
        on(worker, || race::write(BLOCK + 256, 8, Pc::here()));
        on(main, || race::write(BLOCK + 256, 8, Pc::here()));
        finish()
    };
    let text = stderr(&output);
    assert!(
        text.starts_with("{\"$schema\":") && text.ends_with("]}]}\n"),
        "{text}"
    );
    assert_eq!(text.matches("\"ruleId\":\"data-race\"").count(), 2);
    let balance = |open, close| text.matches(open).count() == text.matches(close).count();
    assert!(
        balance('{', '}') && balance('[', ']') && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn a_second_init_gives_the_same_contexts() {
    let Some(output) = parent("a_second_init_gives_the_same_contexts", "") else {
        // SAFETY: the contexts are not used.
        let init = || unsafe { race::init(Options::default(), &HOST) };
        assert_eq!(init(), init());
        assert_eq!(race::fini(), 0);
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The file that the child has as its `log_path`, and its removal.
struct Log(std::path::PathBuf);

impl Log {
    fn new(name: &str) -> Log {
        Log(std::env::temp_dir().join(format!("raddle-race-{name}-{}", std::process::id())))
    }

    /// What the only child wrote to it.
    fn take(&self) -> String {
        let stem = self
            .0
            .file_name()
            .expect("named")
            .to_string_lossy()
            .into_owned()
            + ".";
        let folder = std::fs::read_dir(std::env::temp_dir()).expect("a folder");
        let file = folder
            .map(|entry| entry.expect("an entry").path())
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(&stem))
            })
            .expect("the log was written");
        let text = std::fs::read_to_string(&file).expect("text");
        let _ = std::fs::remove_file(file);
        text
    }
}

/// Both goroutines touch `addr`, at code addresses.
fn race_at(addr: usize, worker_pc: usize, main_pc: usize) -> (GoCtx, GoCtx) {
    let (main, worker) = start();
    on(worker, || race::write(addr, 8, Pc::code(worker_pc)));
    on(main, || race::write(addr, 8, Pc::code(main_pc)));
    (main, worker)
}

#[test]
fn memory_outside_the_heap_is_named() {
    const PLACES: [(usize, &str); 6] = [
        (
            GLOBAL,
            "global 'app::COUNTER' of size 8 at 0x720000100000 (app+0x1234)",
        ),
        (
            THREAD_LOCAL,
            "thread-local 'app::COUNTER' of size 8 at 0x720000101000 (app+0x1234) of goroutine 7 'worker'",
        ),
        (ON_STACK, "stack of goroutine 7 'worker'"),
        (ON_MAIN_STACK, "stack of main thread"),
        (OTHERS_STACK, "stack of unknown thread 'loader' (tid 99)"),
        (UNNAMED, "global '??' at 0x720000105000 (app+0x1234)"),
    ];
    let Some(output) = parent("memory_outside_the_heap_is_named", "") else {
        let (main, worker) = start();
        for (i, (addr, _)) in PLACES.into_iter().enumerate() {
            // Another pair of places each time.
            let pc = |base: usize| Pc::code(base + 0x10_0000 * (i + 1));
            on(worker, || race::write(addr, 8, pc(STORE)));
            on(main, || race::write(addr, 8, pc(LOAD)));
        }
        finish()
    };
    let text = stderr(&output);
    for (_, words) in PLACES {
        let line = format!("\n\nLocation is {words}\n");
        assert!(text.contains(&line), "{words}: {text}");
    }
}

#[test]
fn programs_are_told_what_the_memory_is() {
    let name = "programs_are_told_what_the_memory_is";
    let (Some(line), Some(sarif)) = (parent(name, "format=json"), parent(name, "format=sarif"))
    else {
        race_at(THREAD_LOCAL, STORE, LOAD);
        finish()
    };
    let report = json(&stderr(&line));
    let expected = json(
        r#"{"kind":"thread-local","name":"app::COUNTER","address":"0x720000101000","size":8,"module":"app",
            "offset":"0x1234","owner":"goroutine 7 'worker'","goroutine":7}"#,
    );
    assert_eq!(report["location"], expected);
    let result = &json(&stderr(&sarif))["runs"][0]["results"][0];
    assert_eq!(result["properties"]["report"], report);
    let message = result["message"]["text"].as_str().expect("text");
    assert!(
        message.starts_with(
            "data race: write in app::load at /src/app/main.rs:20, previous write in app::store"
        ) && message.contains("location is thread-local 'app::COUNTER'"),
        "{message}"
    );
    assert_eq!(
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
        "file:///src/app/main.rs"
    );
    assert_eq!(
        result["relatedLocations"][0]["message"]["text"],
        "previous write"
    );
    assert_eq!(
        result["relatedLocations"][1]["message"]["text"],
        "goroutine 7 'worker' created"
    );
}

/// The worker writes by a library function that `app::caller` calls.
fn race_in_a_library() {
    let (main, worker) = start();
    on(worker, || {
        race::func_enter(Pc::code(START_THREAD));
        race::func_enter(Pc::code(CALL_ONCE));
        race::func_enter(Pc::code(CALLER));
        race::write(BLOCK + 128, 8, Pc::code(PTR_WRITE));
        race::func_exit();
    });
    on(main, || race::read(BLOCK + 128, 8, Pc::code(LOAD)));
}

#[test]
fn the_program_s_own_line_is_told_from_a_library_s() {
    let name = "the_program_s_own_line_is_told_from_a_library_s";
    let (Some(text), Some(line), Some(sarif)) = (
        parent(name, ""),
        parent(name, "format=json"),
        parent(name, "format=sarif"),
    ) else {
        race_in_a_library();
        finish()
    };
    let text = stderr(&text);
    // What starts the thread is left out.
    let stack = "by goroutine 7 'worker':\n  core::ptr::write\n      /src/app/main.rs:1 +0x3a\n  app::caller\n      \
                 /src/app/main.rs:33 +0x3a\n\nGoroutine 7";
    assert!(text.contains(stack), "{text}");
    let summary = "\nSummary: read in app::load at /src/app/main.rs:20, previous write in app::caller at \
                   /src/app/main.rs:33\n";
    assert!(text.contains(summary), "{text}");
    let report = json(&stderr(&line));
    assert_eq!(report["accesses"][1]["own"], 1);
    assert_eq!(
        report["accesses"][1]["stack"][0]["function"],
        "core::ptr::write"
    );
    let result = &json(&stderr(&sarif))["runs"][0]["results"][0];
    assert_eq!(
        result["relatedLocations"][0]["logicalLocations"][0]["fullyQualifiedName"],
        "app::caller"
    );
}

#[test]
fn a_top_suppression_reaches_the_program_s_own_line() {
    let test = "a_top_suppression_reaches_the_program_s_own_line";
    if std::env::var_os("RADDLE_RACE_CHILD").is_some() {
        race_in_a_library();
        finish()
    }
    let name = format!("raddle-race-top-suppressions-{}", std::process::id());
    let file = std::env::temp_dir().join(name);
    for (text, status) in [
        ("race_top:^app::caller$", 0),
        ("race_top:^core::ptr::write$", 0),
        ("race_top:main.rs$", 0),
        ("race_top:start_thread", 66),
    ] {
        std::fs::write(&file, text).expect("written");
        let output = parent(test, &format!("suppressions={}", file.display())).expect("the parent");
        assert_eq!(
            output.status.code(),
            Some(status),
            "{text}: {}",
            stderr(&output)
        );
    }
    let _ = std::fs::remove_file(&file);
}

#[test]
fn the_current_access_has_its_real_stack() {
    let Some(output) = parent("the_current_access_has_its_real_stack", "") else {
        let (main, worker) = start();
        on(worker, || race::write(BLOCK + 128, 8, Pc::code(REAL)));
        on(main, || {
            WALK.store(2, Relaxed);
            race::read(BLOCK + 128, 8, Pc::code(LOAD));
        });
        finish()
    };
    let text = stderr(&output);
    let stack = "Read at 0x720000000080 (8 bytes) by main goroutine:\n  app::load\n      /src/app/main.rs:20 +0x3a\n  app::store\n      \
                 /src/app/main.rs:12 +0x3a\n  app::caller\n      /src/app/main.rs:33 +0x3a\n\nPrevious write";
    assert!(text.contains(stack), "{text}");
    // Inlined frames come innermost first.
    let inlined = text.find("app::inlined").expect("an inlined frame");
    assert!(
        inlined < text.find("app::real").expect("its function"),
        "{text}"
    );
}

#[test]
fn the_callers_of_a_call_that_is_known_are_real() {
    let Some(output) = parent("the_callers_of_a_call_that_is_known_are_real", "") else {
        let (main, worker) = start();
        on(worker, || race::write(BLOCK + 128, 8, Pc::code(SPAWN)));
        on(main, || {
            // The access itself is no return address on the stack: it was inlined.
            race::func_enter(Pc::code(STORE));
            WALK.store(2, Relaxed);
            race::read(BLOCK + 128, 8, Pc::code(PTR_WRITE));
        });
        finish()
    };
    let text = stderr(&output);
    let stack = "  core::ptr::write\n      /src/app/main.rs:1 +0x3a\n  app::store\n      /src/app/main.rs:12 +0x3a\n  \
                 app::caller\n      /src/app/main.rs:33 +0x3a\n\n";
    assert!(text.contains(stack), "{text}");
}

#[test]
fn source_lines_are_shown_when_asked_for() {
    let name = "source_lines_are_shown_when_asked_for";
    let (Some(always), Some(auto), Some(never)) = (
        parent(name, "snippet=always"),
        parent(name, "snippet=auto"),
        parent(name, "snippet=never"),
    ) else {
        race_at(GLOBAL, HERE, NOWHERE);
        finish()
    };
    let text = stderr(&always);
    let line = include_str!("report.rs")
        .lines()
        .position(|line| line.starts_with("fn here("))
        .expect("it is there")
        + 1;
    let (before, after) = (line - 1, line + 1);
    let expected = format!(
        "report.rs:{line}:4\n          {before} | /// The frame of an address in its own first line.\n        > {line} | fn \
         here(each: race::EachFrame<'_>) {{\n              |    ^\n          {after} |     let line"
    );
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("/no/such/file.rs:3\n\nPrevious"), "{text}");
    for output in [auto, never] {
        let text = stderr(&output);
        assert!(
            text.contains("app::here") && !text.contains(" | "),
            "{text}"
        );
    }
}

#[test]
fn a_creation_has_its_real_stack_from_the_program_s_line_on() {
    let name = "a_creation_has_its_real_stack_from_the_program_s_line_on";
    let Some(output) = parent(name, "") else {
        let (main, worker) = start();
        race::switch_in(main);
        WALK.store(3, Relaxed);
        let thread = go_start(main, race::FIRST_THREAD_ID + 4, Pc::code(PTR_WRITE));
        WALK.store(0, Relaxed);
        race::switch_out(main);
        on(worker, || race::write(BLOCK + 128, 8, Pc::code(STORE)));
        on(thread, || race::write(BLOCK + 128, 8, Pc::code(LOAD)));
        finish()
    };
    let text = stderr(&output);
    let created = "\nThread 5 (running) created at:\n  app::store\n      /src/app/main.rs:12 +0x3a\n\
                   \x20 app::caller\n      /src/app/main.rs:33 +0x3a\n\n";
    assert!(text.contains(created), "{text}");
}

#[test]
fn an_earlier_event_of_a_location_has_its_function_and_callers() {
    let name = "an_earlier_event_of_a_location_has_its_function_and_callers";
    let Some(output) = parent(name, "") else {
        let (main, worker) = start();
        on(worker, || {
            race::func_enter(Pc::code(CALLER));
            let pc = Pc::here();
            LINE.store(pc.location().expect("a location").line(), Relaxed);
            race::write(BLOCK + 128, 4, pc);
            race::func_exit();
        });
        on(main, || race::write(BLOCK + 128, 4, Pc::code(STORE)));
        finish()
    };
    let side = previous_side_after(&output);
    let lines: Vec<&str> = side.lines().collect();
    let [_, own, place, caller, line] = lines[..] else {
        panic!("two frames: {side}");
    };
    assert_eq!([own, caller], ["  app::real", "  app::caller"], "{side}");
    let start = "      /somewhere/race/tests/report.rs:";
    assert!(place.starts_with(start), "{side}");
    assert!(line.contains("main.rs:33"), "{side}");
}

#[test]
fn one_place_is_one_race_whichever_side_is_first() {
    let Some(output) = parent("one_place_is_one_race_whichever_side_is_first", "") else {
        let (main, worker) = start();
        let write = |addr| race::write(addr, 4, Pc::here());
        // The walk begins elsewhere each time, as it does inside the detector.
        let walks = |n| WALK.store(n, Relaxed);
        on(worker, || write(BLOCK + 128));
        walks(1);
        on(main, || write(BLOCK + 128));
        on(main, || write(BLOCK + 256));
        walks(2);
        on(worker, || write(BLOCK + 256));
        finish()
    };
    let text = stderr(&output);
    assert!(text.ends_with("Found 1 data race(s)\n"), "{text}");
}

#[test]
fn a_name_outlives_its_goroutine() {
    const LONG: &str = "the goroutine that writes to the log, and nothing else";
    let name = "a_name_outlives_its_goroutine";
    let (Some(text), Some(line)) = (parent(name, ""), parent(name, "format=json")) else {
        let (main, _) = start();
        race::switch_in(main);
        let named = go_start(main, 8, Pc::code(SPAWN));
        // SAFETY: it has not ended.
        unsafe { race::set_name(named, LONG) };
        let unnamed = go_start(main, 9, Pc::code(SPAWN));
        race::switch_out(main);
        on(named, || race::malloc(BLOCK, 40, Pc::code(STORE)));
        race::go_end(named);
        on(unnamed, || race::write(BLOCK + 8, 8, Pc::code(LOAD)));
        race::go_end(unnamed);
        finish()
    };
    let text = stderr(&text);
    for what in [
        format!(" by goroutine 8 '{LONG}':\n"),
        format!("\nGoroutine 8 (finished) '{LONG}' created at:\n"),
        format!(" allocated by goroutine 8 '{LONG}':\n"),
        " by goroutine 9:\n".to_owned(),
    ] {
        assert!(text.contains(&what), "{what}: {text}");
    }
    let report = json(&stderr(&line));
    let [own, previous] = [0, 1].map(|i| &report["accesses"][i]["name"]);
    assert_eq!((own, previous), (&Value::Null, &LONG.into()));
}

#[test]
fn a_child_of_a_plain_thread_names_it_by_its_number() {
    let Some(output) = parent(
        "a_child_of_a_plain_thread_names_it_by_its_number",
        "format=json",
    ) else {
        let (main, worker) = start();
        race::switch_in(main);
        let thread = go_start(main, race::FIRST_THREAD_ID + 4, Pc::code(SPAWN));
        let child = go_start(thread, race::FIRST_THREAD_ID + 5, Pc::code(SPAWN));
        race::switch_out(main);
        on(worker, || race::write(BLOCK + 128, 8, Pc::code(STORE)));
        on(child, || race::write(BLOCK + 128, 8, Pc::code(LOAD)));
        finish()
    };
    let who = &json(&stderr(&output))["accesses"][0];
    assert_eq!(
        (&who["thread"], &who["parent_thread"]),
        (&6.into(), &5.into())
    );
    assert_eq!(who["parent"], Value::Null);
}

#[test]
fn sarif_has_source_lines_and_knows_a_race_again() {
    let name = "sarif_has_source_lines_and_knows_a_race_again";
    // In the second run the sides change places; in the third one of them is another.
    let sides = [(HERE, LOAD), (LOAD, HERE), (HERE, STORE)];
    let results = sides.map(|(worker_pc, main_pc)| {
        let options = format!("format=sarif seed={}", worker_pc * 0x10_0000 + main_pc);
        let Some(output) = parent(name, &options) else {
            let seed = std::env::var("RADDLE_RACE_CHILD").expect("set");
            let seed: usize = seed
                .rsplit_once('=')
                .expect("a seed")
                .1
                .parse()
                .expect("a number");
            race_at(GLOBAL, seed / 0x10_0000, seed % 0x10_0000);
            finish()
        };
        json(&stderr(&output))["runs"][0]["results"][0].clone()
    });
    let region = &results[1]["locations"][0]["physicalLocation"];
    let text = "fn here(each: race::EachFrame<'_>) {";
    assert_eq!(region["region"]["snippet"]["text"], text);
    let context = &region["contextRegion"];
    let around = format!(
        "/// The frame of an address in its own first line.\n{text}\n    let line = line!() - 1;"
    );
    assert_eq!(context["snippet"]["text"], around);
    let line = region["region"]["startLine"].as_u64().expect("a line");
    assert_eq!(
        (context["startLine"].as_u64(), context["endLine"].as_u64()),
        (Some(line - 1), Some(line + 1))
    );
    assert_eq!(
        results[0]["relatedLocations"][0]["physicalLocation"]["contextRegion"],
        *context
    );
    let of = |i: usize| {
        results[i]["partialFingerprints"]["dataRace/v1"]
            .as_str()
            .expect("a fingerprint")
    };
    assert_eq!(of(0), of(1));
    assert_ne!(of(0), of(2));
}

/// What the child writes to a terminal.
fn at_a_terminal(name: &str, term: &str, no_colour: &str) -> String {
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: two descriptors to be written, and no settings.
    let made = unsafe { libc::openpty(&mut ours, &mut theirs, null, null.cast(), null.cast()) };
    assert_eq!(made, 0, "a terminal");
    // SAFETY: just opened, and nobody else's.
    let [mut ours, theirs] = [ours, theirs].map(|fd| unsafe { File::from_raw_fd(fd) });
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("RADDLE_RACE_CHILD", "")
        .env("NO_COLOR", no_colour)
        .env("TERM", term)
        .stdout(Stdio::null())
        .stderr(Stdio::from(theirs))
        .spawn()
        .expect("started");
    let mut text = Vec::new();
    // Ends by an error when the other side is gone.
    let _ = ours.read_to_end(&mut text);
    assert_eq!(child.wait().expect("ours").code(), Some(66));
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_terminal_gets_source_lines() {
    let name = "a_terminal_gets_source_lines";
    if std::env::var_os("RADDLE_RACE_CHILD").is_some() {
        race_at(GLOBAL, HERE, NOWHERE);
        finish()
    }
    let coloured = at_a_terminal(name, "xterm", "");
    assert!(coloured.contains("\x1b[1;31m        > "), "{coloured}");
    for plain in [
        at_a_terminal(name, "xterm", "1"),
        at_a_terminal(name, "dumb", ""),
    ] {
        assert!(
            plain.contains("        > ") && !plain.contains('\x1b'),
            "{plain}"
        );
    }
}

#[test]
fn a_sarif_file_is_complete_whenever_the_process_ends() {
    let name = "a_sarif_file_is_complete_whenever_the_process_ends";
    let log = Log::new("sarif");
    let path = log.0.display();
    for (how, options, races) in [
        ("abort", "", 2),
        ("halt", "halt_on_error=1", 1),
        ("end", "", 2),
    ] {
        let options = format!("format=sarif log_path={path} {options} seed={}", how.len());
        let Some(output) = parent(name, &options) else {
            let (main, worker) = race_at(BLOCK + 128, STORE, LOAD);
            on(worker, || race::write(BLOCK + 256, 8, Pc::here()));
            on(main, || race::write(BLOCK + 256, 8, Pc::here()));
            if std::env::var("RADDLE_RACE_CHILD")
                .expect("set")
                .ends_with("seed=5")
            {
                std::process::abort();
            }
            finish()
        };
        assert!(!output.status.success());
        let log = json(&log.take());
        let results = log["runs"][0]["results"].as_array().expect("results");
        assert_eq!(results.len(), races, "{how}");
        assert_eq!(log["version"], "2.1.0");
        assert!(!stderr(&output).contains("results"));
    }
}

/// From here on standard output takes nothing.
fn fill_stdout() {
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("it is there");
    // SAFETY: nothing is kept of what descriptor 1 was.
    let given = unsafe { libc::dup2(full.as_raw_fd(), 1) };
    assert_eq!(given, 1);
}

#[test]
fn a_stream_that_takes_nothing_loses_no_report() {
    let name = "a_stream_that_takes_nothing_loses_no_report";
    let (Some(text), Some(sarif)) = (
        parent(name, "log_path=stdout"),
        parent(name, "log_path=stdout format=sarif"),
    ) else {
        fill_stdout();
        let (main, worker) = race_at(BLOCK + 128, STORE, LOAD);
        on(worker, || race::write(BLOCK + 256, 8, Pc::here()));
        on(main, || race::write(BLOCK + 256, 8, Pc::here()));
        finish()
    };
    let note = "raddle: race: cannot write the log to standard output: No space left on device (os error 28); \
                this report and those that follow go to standard error\n";
    for output in [&text, &sarif] {
        assert_eq!(
            stderr(output).matches(note).count(),
            1,
            "{}",
            stderr(output)
        );
        assert_eq!(output.status.code(), Some(66));
    }
    let text = stderr(&text);
    assert!(
        text.starts_with(note) && text.ends_with("Found 2 data race(s)\n"),
        "{text}"
    );
    assert_eq!(text.matches("WARNING: DATA RACE\n").count(), 2, "{text}");
    let sarif = stderr(&sarif);
    let log = json(sarif.strip_prefix(note).expect("the note comes first"));
    assert_eq!(log["runs"][0]["results"].as_array().map(Vec::len), Some(2));
}

/// From here on no file may become larger.
fn limit_files(bytes: u64) {
    // SAFETY: a write beyond the limit is to fail, not to kill.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
}

#[test]
fn a_file_that_is_full_keeps_what_it_has_and_loses_no_report() {
    let name = "a_file_that_is_full_keeps_what_it_has_and_loses_no_report";
    let log = Log::new("full");
    for (format, room) in [
        ("text", 1200),
        ("json", 900),
        ("sarif", 3000),
        ("sarif", 600),
        ("sarif", 100),
    ] {
        let options = format!("format={format} log_path={} seed={room}", log.0.display());
        let Some(output) = parent(name, &options) else {
            let options = std::env::var("RADDLE_RACE_CHILD").expect("set");
            let room = options.rsplit_once("seed=").expect("at the end").1;
            limit_files(room.parse().expect("a number"));
            let (main, worker) = race_at(BLOCK + 128, STORE, LOAD);
            for i in 1..4 {
                let pc = |base| Pc::code(base + 0x10_0000 * i);
                on(worker, || race::write(BLOCK + 128 + 8 * i, 8, pc(STORE)));
                on(main, || race::write(BLOCK + 128 + 8 * i, 8, pc(LOAD)));
            }
            finish()
        };
        let (file, text) = (log.take(), stderr(&output));
        let (note, rest) = text.split_once('\n').expect("a note");
        assert!(
            note.starts_with("raddle: race: cannot write the log to /")
                && note.contains("File too large"),
            "{format} {room}: {text}"
        );
        let addresses = (0..4).map(|i| format!("{:x}", BLOCK + 128 + 8 * i));
        for address in addresses {
            // Where it was written before, or there.
            assert!(
                file.contains(&address) != rest.contains(&address),
                "{address} {format} {room}: {file}\n--\n{text}"
            );
        }
        match format {
            "text" => {
                let reports = |text: &str| text.matches("WARNING: DATA RACE").count();
                assert_eq!(reports(&file) + reports(rest), 4);
                assert!(
                    file.is_empty() || file.ends_with("==================\n"),
                    "{file}"
                );
                assert!(text.ends_with("Found 4 data race(s)\n"), "{text}");
            }
            "json" => file
                .lines()
                .chain(rest.lines())
                .for_each(|line| drop(json(line))),
            _ => {
                // At 100 bytes there was not even room for an empty log.
                for log in [&*file, rest].into_iter().filter(|log| !log.is_empty()) {
                    assert!(json(log)["runs"][0]["results"].is_array());
                }
            }
        }
        assert_eq!(output.status.code(), Some(66));
    }
}

#[test]
fn a_sarif_log_without_results_is_one() {
    let name = "a_sarif_log_without_results_is_one";
    let log = Log::new("clean");
    let options = format!("format=sarif log_path={}", log.0.display());
    let (Some(file), Some(stream)) = (parent(name, &options), parent(name, "format=sarif")) else {
        start();
        finish()
    };
    assert_eq!(stderr(&file), "");
    for text in [log.take(), stderr(&stream)] {
        let log = json(&text);
        assert_eq!(log["runs"][0]["results"], Value::Array(Vec::new()));
        let driver = &log["runs"][0]["tool"]["driver"];
        assert_eq!(driver["version"], env!("CARGO_PKG_VERSION"));
    }
    assert!(file.status.success() && stream.status.success());
}

#[test]
fn the_end_waits_for_late_races() {
    let Some(output) = parent("the_end_waits_for_late_races", "atexit_sleep_ms=50") else {
        race_at(BLOCK + 128, STORE, LOAD);
        let start = Instant::now();
        let status = race::fini();
        assert!(start.elapsed() >= Duration::from_millis(50));
        std::process::exit(status)
    };
    assert!(stderr(&output).ends_with("Found 1 data race(s)\n"));
    assert_eq!(output.status.code(), Some(66));
}

#[test]
fn every_form_has_the_stripped_paths() {
    let name = "every_form_has_the_stripped_paths";
    for format in ["text", "json", "sarif"] {
        let options = format!("format={format} strip_path_prefix=/src/ exitcode=7");
        let Some(output) = parent(name, &options) else {
            race_at(BLOCK + 128, STORE, LOAD);
            finish()
        };
        let text = stderr(&output);
        assert!(
            text.contains("app/main.rs") && !text.contains("/src/"),
            "{text}"
        );
        assert_eq!(output.status.code(), Some(7));
    }
}

#[test]
fn a_block_of_another_heap_is_known_by_its_record() {
    const OTHERS: usize = BLOCK + (3 << 20);
    let Some(output) = parent("a_block_of_another_heap_is_known_by_its_record", "") else {
        let (main, worker) = start();
        on(main, || race::malloc(OTHERS, 5000, Pc::code(CALLER)));
        race::switch_in(main);
        let late = go_start(main, 8, Pc::code(SPAWN));
        race::switch_out(main);
        on(late, || race::write(OTHERS + 4003, 1, Pc::code(STORE)));
        on(main, || race::write(OTHERS + 4003, 1, Pc::code(LOAD)));
        // Not in it, but behind it.
        on(worker, || race::write(OTHERS + 5008, 1, Pc::code(STORE)));
        on(main, || race::write(OTHERS + 5008, 1, Pc::code(REAL)));
        finish()
    };
    let text = stderr(&output);
    let block =
        "\nBlock of 5000 bytes at 0x720000300000 allocated by main goroutine:\n  app::caller\n";
    assert_eq!(text.matches(block).count(), 1, "{text}");
    assert!(text.ends_with("Found 2 data race(s)\n"), "{text}");
}

#[test]
fn a_plain_thread_is_called_one() {
    let name = "a_plain_thread_is_called_one";
    let (Some(text), Some(line)) = (parent(name, ""), parent(name, "format=json")) else {
        let (main, worker) = start();
        on(main, || {
            let thread = go_start(main, race::FIRST_THREAD_ID + 4, Pc::code(SPAWN));
            race::switch_out(main);
            on(thread, || race::write(BLOCK + 128, 8, Pc::code(STORE)));
            race::switch_in(main);
        });
        on(worker, || race::write(BLOCK + 128, 8, Pc::code(LOAD)));
        finish()
    };
    let text = stderr(&text);
    assert!(
        text.contains("Previous write at 0x720000000080 (8 bytes) by thread 5:\n"),
        "{text}"
    );
    assert!(
        text.contains("\nThread 5 (running) created at:\n  app::main\n"),
        "{text}"
    );
    let who = &json(&stderr(&line))["accesses"][1];
    assert_eq!(
        (&who["thread"], &who["goroutine"], &who["parent"]),
        (&5.into(), &Value::Null, &1.into())
    );
}

#[test]
fn missing_line_numbers_are_explained_once() {
    let Some(output) = parent("missing_line_numbers_are_explained_once", "") else {
        let (main, worker) = race_at(BLOCK + 128, 0x10_0000, LOAD);
        on(worker, || race::write(BLOCK + 256, 8, Pc::code(0x20_0000)));
        on(main, || race::write(BLOCK + 256, 8, Pc::code(0x30_0000)));
        finish()
    };
    let text = stderr(&output);
    let note = "\nNote: for line numbers, build with debug information (debug = \"limited\"";
    assert_eq!(text.matches(note).count(), 1, "{text}");
    assert!(
        text.contains("\n      ?? +0x100000\n") && text.ends_with("Found 2 data race(s)\n"),
        "{text}"
    );
}
