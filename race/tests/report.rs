//! What a report says, in each form, and the exit status: every test runs itself again as a child process, since a
//! process has one detector.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use raddle_race::{self as race, AtomicOp, Frame, GoCtx, Host, Object, Options, Pc};

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
/// 1: the real stack is one of an allocation.
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
        let frames: &[usize] = match (LINE.load(Relaxed), WALK.load(Relaxed)) {
            (0, 0) => &[],
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
    ..Host::NONE
};

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

/// In the child: main and a goroutine 7 made by it.
fn start() -> (GoCtx, GoCtx) {
    let options = std::env::var("RADDLE_RACE_CHILD").expect("set by the parent");
    let (main, _) = race::init(Options::parse(&options).expect("good options"), &HOST);
    assert!(race::enabled());
    race::switch_in(main);
    let worker = race::go_start(Some(main), 7, Pc::code(SPAWN));
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
         Read at 0x720000000080 by main goroutine:\n\
         \x20 app::load\n\
         \x20     /src/app/main.rs:20 +0x3a\n\
         \n\
         Previous write at 0x720000000080 by goroutine 7 'worker':\n\
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
        lines[line("Atomic write at 0x720000000080 by main goroutine:") + 1]
            .starts_with("      tests/report.rs:")
    );
    let previous = line("Previous write at 0x720000000080 by goroutine 7 'worker':");
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
    let start = "Write at 0x720000000080 by main goroutine:\n  app::real\n      /somewhere/race/tests/report.rs:";
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
                 \"file\":\"/src/app/main.rs\",\"line\":12,\"column\":0},{\"function\":\"app::caller\",";
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

#[test]
fn lost_history_is_admitted() {
    let Some(output) = parent("lost_history_is_admitted", "history_size=0") else {
        let (main, worker) = start();
        on(worker, || {
            race::write(BLOCK + 128, 8, Pc::code(STORE));
            for i in 0..4096 {
                race::write(BLOCK + 4096 + 8 * i, 8, Pc::code(STORE));
            }
        });
        on(main, || race::read(BLOCK + 128, 8, Pc::code(LOAD)));
        finish()
    };
    let text = stderr(&output);
    let expected = "Previous write at 0x720000000080 by goroutine 7 'worker':\n  [failed to restore the stack]\n";
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
         \"line\":20,\"column\":0}]},{\"op\":\"write\",\"address\":\"0x720000000080\",\"size\":8,\"goroutine\":7,\
         \"state\":\"running\",\"parent\":1,\"name\":\"worker\",\"created\":[{\"function\":\"app::main\",\
         \"file\":\"/src/app/main.rs\",\"line\":5,\"column\":0}],\"stack\":[{\"function\":\"app::store\",\
         \"file\":\"/src/app/main.rs\",\"line\":12,\"column\":0},{\"function\":\"app::caller\",\"file\":\"/src/app/main.rs\",\
         \"line\":33,\"column\":0}]}]}\n"
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
        let first = race::init(Options::default(), &HOST);
        assert_eq!(first, race::init(Options::default(), &HOST));
        assert_eq!(race::fini(), 0);
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
}
