//! How each program must end, and what it must say.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use crate::program;
use crate::support::Outcome;

macro_rules! tests {
    ($(fn $name:ident() $body:block)*) => {
        $(fn $name() $body)*
        pub(crate) const TESTS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

/// `tests/crash/programs.rs:LINE`, the line with the marker.
fn place(marker: &str) -> String {
    let marker = format!("// marker: {marker}");
    let line = include_str!("programs.rs")
        .lines()
        .position(|line| line.ends_with(&marker));
    format!(
        "tests/crash/programs.rs:{}",
        line.expect("the marker is there") + 1
    )
}

impl Outcome {
    #[track_caller]
    fn exits(&self, status: i32) -> &Outcome {
        assert_eq!(self.status.code(), Some(status), "{self}");
        self
    }

    #[track_caller]
    fn is_killed_by(&self, signal: i32) -> &Outcome {
        assert_eq!(self.status.signal(), Some(signal), "{self}");
        self
    }

    #[track_caller]
    fn says(&self, text: &str) -> &Outcome {
        assert!(self.stderr.contains(text), "no {text:?} in\n{self}");
        self
    }

    #[track_caller]
    fn prints(&self, text: &str) -> &Outcome {
        assert_eq!(self.stdout, text, "{self}");
        self
    }

    #[track_caller]
    fn says_nothing(&self) -> &Outcome {
        assert_eq!(self.stderr, "", "{self}");
        self
    }
}

/// `tests/crash/compiled.rs:LINE:`, the line with the marker.
fn compiled_place(marker: &str) -> String {
    let marker = format!("// marker: {marker}");
    let line = include_str!("compiled.rs")
        .lines()
        .position(|line| line.ends_with(&marker));
    format!(
        "tests/crash/compiled.rs:{}",
        line.expect("the marker is there") + 1
    )
}

/// The program with one race, watched.
#[track_caller]
fn compiled(name: &str) -> Outcome {
    let outcome = program(name).arg("--race").run();
    outcome.exits(66).says("Found 1 data race(s)");
    outcome
}

/// What a program says at its start if thread-locals stay with the OS thread.
const UNSOUND: &str = "raddle: thread-locals stay with the OS thread (notls). Safe code is unsound in this mode: \
    after a wait, what a goroutine has of a thread-local may be another thread's, or freed. It is for work on the runtime.\n";

/// A library that, loaded before the C library, makes a number that the runtime needs of it
/// unusable.
fn lacking(number: &str) -> String {
    let path = |ending| format!("{}/lacking.{ending}", env!("CARGO_TARGET_TMPDIR"));
    let (source, library) = (path("c"), path("so"));
    std::fs::write(&source, format!("const unsigned {number} = 1;\n"))
        .expect("the directory is for that");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", &library, &source])
        .status();
    assert!(built.expect("rustc links by it").success());
    library
}

/// A library that, loaded before the program, has memory at the address, as another copy of the runtime has.
fn another_copy(address: &str) -> String {
    let path = |ending| {
        format!(
            "{}/another_copy_{address}.{ending}",
            env!("CARGO_TARGET_TMPDIR")
        )
    };
    let (source, library) = (path("c"), path("so"));
    let text = "#include <sys/mman.h>\n\
                __attribute__((constructor)) static void take(void) {\n\
                mmap((void *)ADDRESS, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);\n}\n";
    std::fs::write(&source, text.replace("ADDRESS", address)).expect("the directory is for that");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", &library, &source])
        .status();
    assert!(built.expect("rustc links by it").success());
    library
}

/// At each number of Ps, race mode off and on.
#[track_caller]
fn each_way(name: &str, argument: &str, check: impl Fn(&Outcome)) {
    for (procs, race) in [("1", "0"), ("2", "0"), ("8", "0"), ("2", "1")] {
        let start = program(name).arg(argument);
        check(
            &start
                .env("RADDLE_PROCS", procs)
                .env("RADDLE_RACE", race)
                .run(),
        );
    }
}

/// Stacks are in std's short form: without the runtime's frames around, and with the note that says so.
#[track_caller]
fn is_short(outcome: &Outcome) {
    outcome.says(
        "note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.\n",
    );
    for outside in [
        "raddle::panic",
        "__rust_end_short",
        "outermost_frame",
        "corosensei",
        "m_main",
    ] {
        assert!(!outcome.stderr.contains(outside), "{outside} in\n{outcome}");
    }
}

/// What `variable=value` leads to before `main` begins.
#[track_caller]
fn refused(variable: &str, value: &str, text: &str) {
    program("shows_its_arguments")
        .env(variable, value)
        .run()
        .exits(2)
        .says("raddle: ")
        .says(text)
        .prints("");
}

tests! {
    fn main_decides_the_status() {
        program("returns").run().exits(0).says_nothing();
        program("returns_a_code").run().exits(7).says_nothing();
        program("returns_an_error").run().exits(1).says("Error: \"no luck\"");
    }

    fn the_end_of_main_ends_the_program() {
        program("returns_while_others_run").run().exits(0).says_nothing();
        program("returns_while_others_run").env("RADDLE_PROCS", "1").run().exits(0).says_nothing();
    }

    fn any_goroutine_may_end_the_program() {
        program("exits_from_a_goroutine").run().exits(5).says_nothing();
        program("main_exits_and_another_ends_the_program").run().exits(6).says_nothing();
    }

    fn a_panic_in_main_names_the_goroutine() {
        program("panics").run().exits(101)
            .says("goroutine 1 \"main\" panicked at").says(&place("panics")).says("out of thread");
    }

    fn a_panic_in_a_goroutine_names_it() {
        program("goroutine_panics").run().exits(0).prints("main goes on\n")
            .says("\"weaver\" panicked at").says(&place("goroutine panics")).says("the thread broke");
        program("goroutine_panics_and_is_joined").run().exits(0)
            .says("\"weaver\" panicked at").prints("the goroutine panicked: the thread broke\n");
    }

    fn a_panic_while_unwinding_aborts() {
        program("panics_twice").run().is_killed_by(libc::SIGABRT).says("once").says("again");
    }

    fn panic_hooks_may_wait() {
        let runs = |name, procs, debug| {
            program(name).env("RADDLE_PROCS", procs).env("RADDLE_DEBUG", debug).run()
        };
        for procs in ["1", "2", "8"] {
            for (debug, notice) in [("", ""), ("notls", UNSOUND)] {
                let outcome = runs("hooks_wait", procs, debug);
                outcome.exits(0).prints("8\n");
                assert_eq!(outcome.stderr, notice, "{outcome}");
                let outcome = runs("destructors_wait_while_unwinding", procs, debug);
                outcome.exits(0).prints("20\n");
                assert_eq!(outcome.stderr, notice, "{outcome}");
            }
        }
    }

    fn thread_bound_thread_locals_are_announced_once() {
        let outcome = program("returns").env("RADDLE_DEBUG", "notls,noguardinstall").run();
        outcome.exits(0);
        assert_eq!(outcome.stderr, UNSOUND, "{outcome}");
    }

    fn a_c_library_without_the_means_is_refused() {
        let lacking = lacking("_thread_db_sizeof_pthread_key_data");
        let start = || program("returns_a_code").env("LD_PRELOAD", &lacking);
        start().run().exits(2).prints("")
            .says("raddle: cannot start: glibc 2.").says(" has no usable _thread_db_sizeof_pthread_key_data")
            .says("RADDLE_DEBUG=notls");
        // Asked for by name, the mode is had, with a warning.
        let outcome = start().env("RADDLE_DEBUG", "notls").run();
        outcome.exits(7);
        assert_eq!(outcome.stderr, UNSOUND, "{outcome}");
    }

    fn a_bomb_goes_off_the_same_at_every_timing() {
        for timing in ["early", "late"] {
            let bomb = |what| program("drops_a_bomb").arg(what).arg(timing).run();
            for what in ["result", "panic", "scope"] {
                bomb(what).is_killed_by(libc::SIGABRT).prints("").says("the bomb goes off")
                    .says("raddle: fatal: the result of a goroutine that nobody joined panicked when it was dropped\n");
            }
            bomb("exit").is_killed_by(libc::SIGABRT).prints("")
                .says("raddle: fatal: the result of a goroutine that nobody joined called exit() when it was dropped\n");
            bomb("function").exits(0).prints("main goes on\n").says(" panicked at ").says("the bomb goes off");
        }
    }

    fn a_deadlock_is_reported() {
        program("deadlocks").run().exits(2)
            .says("all goroutines are asleep: deadlock")
            .says("goroutine 1 \"main\" [waiting: ").says(&place("waits to join"))
            .says("\"weaver\" [waiting: ").says(&place("waits for the lock"))
            .says(&place("waits for the group")).says(&place("waits to send"))
            .says(" ms]:").says("created at tests/crash/programs.rs:");
    }

    fn a_deadlock_shows_stacks_when_asked() {
        let outcome = program("deadlocks").env("RUST_BACKTRACE", "1").run();
        outcome.exits(2).says("wait_for_nobody");
        is_short(&outcome);
    }

    fn a_panic_shows_its_stack_as_std_does() {
        let outcome = program("goroutine_panics").env("RUST_BACKTRACE", "1").run();
        outcome.exits(0).says("the thread broke\nstack backtrace:\n   0: ");
        // An optimised build has no paths.
        let names = ["goroutine_panics::{{closure}}", ": {closure#0}"];
        assert!(names.iter().any(|name| outcome.stderr.contains(name)), "{outcome}");
        is_short(&outcome);
        let outcome = program("goroutine_panics").env("RUST_BACKTRACE", "full").run();
        outcome.exits(0).says("m_main");
        assert!(!outcome.stderr.contains("RUST_BACKTRACE=full"), "{outcome}");
    }

    fn a_deadlock_without_main_is_one_too() {
        program("main_exits_and_all_wait").run().exits(2)
            .says("all goroutines are asleep: deadlock").says("\"weaver\" [waiting: ");
    }

    fn a_thread_that_may_still_send_is_no_deadlock() {
        program("waits_for_a_thread").run().exits(0).says_nothing();
    }

    fn a_stack_overflow_names_the_goroutine() {
        program("overflows").run().is_killed_by(libc::SIGABRT)
            .says("\"diver\" has overflowed its stack of 64 KiB").says("stack overflow");
    }

    fn a_stack_overflow_is_reported_wherever_the_program_runs() {
        for (place, text) in [
            ("main", "goroutine 1 \"main\" has overflowed its stack of 8192 KiB\n"),
            ("blocking", "\"weaver\" has overflowed its stack of 8192 KiB in a blocking call\n"),
            ("blocking, locked", "goroutine 1 \"main\" has overflowed its stack of 8192 KiB in a blocking call\n"),
            ("locked", "\"weaver\" has overflowed its stack of 256 KiB\n"),
            ("after_func", " has overflowed its stack of 256 KiB\n"),
            ("finalizer", "\"finalizer\" has overflowed its stack of 8192 KiB\n"),
            ("thread-local", "\"weaver\" has overflowed its stack of 256 KiB\n"),
            ("result", " has overflowed its stack of "),
        ] {
            for race in ["0", "1"] {
                let outcome = program("overflows_somewhere").arg(place).env("RADDLE_RACE", race).run();
                outcome.is_killed_by(libc::SIGABRT).says("\ngoroutine ").says(text).says("raddle: fatal: stack overflow; ");
            }
        }
    }

    fn a_plain_threads_stack_overflow_is_reported_as_ever() {
        program("overflows_on_the_first_thread").run().is_killed_by(libc::SIGABRT)
            .says("thread 'main'").says("has overflowed its stack");
        program("overflows_on_a_plain_thread").run().is_killed_by(libc::SIGABRT)
            .says("plain diver").says("has overflowed its stack");
    }

    fn a_want_of_threads_is_explained() {
        for procs in ["1", "8"] {
            let outcome = |what| program("has_no_room_for_a_thread").arg(what).env("RADDLE_PROCS", procs).run();
            outcome("boot").exits(2).prints("").says("raddle: cannot start: ").says("ulimit -u").says("ulimit -v");
            for what in ["blocking", "locked"] {
                outcome(what).is_killed_by(libc::SIGABRT).prints("")
                    .says("raddle: fatal: cannot start another OS thread, beside ").says("ulimit -u").says("ulimit -v");
            }
        }
    }

    fn a_deadlock_that_is_not_certain_is_a_warning() {
        program("cannot_list_its_threads").run().exits(0)
            .prints("raddle: warning: all goroutines are asleep; whether another thread of the program may wake one \
                cannot be told, since /proc is missing, or no descriptor is left\n");
    }

    fn bad_memory_is_a_plain_segmentation_fault() {
        program("touches_bad_memory").run().is_killed_by(libc::SIGSEGV);
    }

    fn arguments_come_without_the_runtimes_flags() {
        let shows = || program("shows_its_arguments").env("RADDLE_PROCS", "3");
        shows().run().exits(0).prints("[]\nprocs=3\n");
        shows().arg("a").arg("--race").arg("--").arg("--race").run().exits(0)
            .prints("[\"a\", \"--\", \"--race\"]\nprocs=3\n");
    }

    fn race_options_are_explained_on_request() {
        let outcomes = [
            program("races").arg("--race=help").run(),
            program("races").arg("--race=exitcode=5,help").run(),
            program("races").env("RADDLE_RACE", "help").run(),
        ];
        for outcome in outcomes {
            outcome.exits(0).says_nothing().prints(&raddle_race::options::help());
        }
    }

    fn words_turn_race_mode_on_and_off() {
        for on in ["1", "on", "yes", "true"] {
            program("races").env("RADDLE_RACE", on).run().exits(66);
        }
        program("races").arg("--race=on").run().exits(66);
        for off in ["0", "off", "no", "false"] {
            program("races").env("RADDLE_RACE", off).run().exits(0).says_nothing();
        }
        program("races").arg("--race=off").run().exits(2).says("a flag cannot turn race mode off");
    }

    fn a_slip_in_a_variable_is_told() {
        let warning = "raddle: warning: the environment variable RADDLE_PROC means nothing to Raddle; did you mean RADDLE_PROCS?\n";
        let outcome = program("returns_a_code").env("RADDLE_PROC", "1").run();
        outcome.exits(7);
        assert_eq!(outcome.stderr, warning, "{outcome}");
        program("returns").env("RADDLE_OF_ANOTHER_KIND", "1").run().exits(0).says_nothing();
    }

    fn bad_values_are_refused() {
        refused("RADDLE_PROCS", "0", "RADDLE_PROCS=0: must be a whole number from 1 to 1024");
        refused("RADDLE_STACK", "1K", "RADDLE_STACK=1K: must be a size from 16K to 1024M");
        refused("RADDLE_DEBUG", "colour", "unknown key \"colour\"; the keys are notls,");
        refused("RADDLE_DEBUG", "seed=x", "write seed=N");
        refused("RADDLE_GC", "banana", "RADDLE_GC=banana: must be a percentage from 1 to 100000, without a sign, or off");
        refused("RADDLE_GC", "0", "RADDLE_GC=0: must be a percentage");
        refused("RADDLE_DEBUG", "gctrace=yes", "write gctrace=1");
        refused("RADDLE_DEBUG", "gcstress=0", "write gcstress=N, at least 1");
        refused("RADDLE_RACE", "colour=red", "unknown race option `colour`");
        refused("RADDLE_RACE", "exitcode=many", "exitcode");
        refused("RADDLE_RACE", "suppressions=\"/a b", "the quotation mark before `/a b` has no end");
        refused("RADDLE_RACE", "log_path=/no/such/folder/log", "cannot write `/no/such/folder/log.");
    }

    fn bad_flags_are_refused() {
        let shows = |flag| program("shows_its_arguments").arg(flag).run();
        shows("--race=").exits(2).says("raddle: --race=: write options");
        shows("--race=colour=red").exits(2).says("raddle: ").says("unknown race option `colour`");
    }

    fn a_race_is_reported_with_both_lines() {
        let outcome = program("races").arg("--race").run();
        outcome.exits(66).says("WARNING: DATA RACE").says("Found 1 data race(s)");
        outcome.says(&place("first racing write")).says(&place("second racing write"));
        program("races").env("RADDLE_RACE", "1").run().exits(66).says("Found 1 data race(s)");
    }

    fn a_race_goes_unseen_without_race_mode() {
        program("races").run().exits(0).says_nothing();
        program("races").env("RADDLE_RACE", "0").run().exits(0).says_nothing();
    }

    fn what_is_ordered_is_no_race() {
        program("does_not_race").arg("--race").run().exits(0).prints("10\n").says_nothing();
    }

    fn race_options_are_obeyed() {
        program("races_and_goes_on").arg("--race").run().exits(66).prints("after the race\n");
        program("races_and_goes_on").arg("--race=halt_on_error=1").run().exits(66)
            .prints("").says("WARNING: DATA RACE");
        program("races_and_goes_on").arg("--race=exitcode=9").run().exits(9).prints("after the race\n");
    }

    fn a_race_takes_the_place_of_every_exit_status() {
        for (name, status) in [("races", 0), ("races_and_returns_a_code", 7), ("races_and_panics", 101)] {
            let with = |flag| program(name).arg(flag).run();
            with("--race").exits(66).says("Found 1 data race(s)");
            with("--race=exitcode=9").exits(9);
            with("--race=exitcode=0").exits(status).says("Found 1 data race(s)");
            program(name).run().exits(status);
        }
    }

    fn a_second_copy_in_the_process_is_refused() {
        const HEAP: &str = "0x008000000000";
        const DETECTOR: &str = "0x4c0000000000";
        program("returns").env("LD_PRELOAD", &another_copy(HEAP)).run()
            .is_killed_by(libc::SIGABRT).prints("")
            .says("raddle: fatal: two copies of Raddle's runtime are in this process");
        let detector = || program("races").env("LD_PRELOAD", &another_copy(DETECTOR));
        detector().arg("--race").run().exits(2).says("another copy of Raddle's runtime is in this process");
        detector().run().exits(0).says_nothing();
    }

    fn addresses_that_are_taken_are_explained() {
        let laid_out_so = |prepare: fn() -> io::Result<()>| {
            let mut start = program("races").arg("--race");
            // SAFETY: a system call, no more.
            unsafe { start.0.pre_exec(prepare) };
            start.run()
        };
        let outcome = laid_out_so(|| {
            // SAFETY: no memory is touched.
            match unsafe { libc::personality(libc::ADDR_COMPAT_LAYOUT as _) } {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
        outcome.exits(2).says("as they do under valgrind");
        assert!(!outcome.stderr.contains("ulimit"), "{outcome}");
    }

    fn a_collection_is_silent_unless_it_is_traced() {
        for percent in ["1", "100000", "off"] {
            program("collects").env("RADDLE_GC", percent).run().exits(0).prints("1\n").says_nothing();
        }
        program("collects").env("RADDLE_DEBUG", "gcstress=1").run().exits(0).prints("1\n").says_nothing();
        let traced = program("collects").env("RADDLE_DEBUG", "gctrace=1").run();
        traced.exits(0).prints("1\n").says("gc 1 @").says("gc 3 @").says(" ms stopped), ");
    }

    fn the_collectors_goroutines_and_threads_hide_no_deadlock() {
        let outcome = program("collects_and_deadlocks").run();
        outcome.exits(2).says("all goroutines are asleep: deadlock").says(&place("waits for ever"));
        assert!(!outcome.stderr.contains("finalizer"), "{outcome}");
    }

    fn a_panic_in_a_destructor_is_reported() {
        program("destructors_panic").run().exits(0).prints("main goes on\n")
            .says("\"finalizer\" panicked at").says(&place("a destructor panics")).says("this thread broke")
            .says("raddle: the destructor of a collected value panicked; the others go on");
    }

    fn out_of_memory_is_what_it_is_for_a_vec() {
        program("asks_for_too_much").run().is_killed_by(libc::SIGABRT).prints("")
            .says("memory allocation of 70368744177664 bytes failed");
    }

    fn a_race_in_a_collected_value_names_its_block() {
        program("races_in_a_collected_value").arg("--race").run().exits(66)
            .says("WARNING: DATA RACE").says("Block of ").says(&place("the block"));
    }

    fn a_forked_child_is_not_watched() {
        program("forks_after_a_race").arg("--race").run().exits(66).prints("child: 0\n");
    }

    fn a_program_ends_as_it_wants_while_everything_goes_on() {
        for how in ["returns", "goroutine", "thread", "blocking", "local", "exit"] {
            each_way("ends_while_busy", how, |outcome| {
                outcome.exits(3).prints("at the end\n").says_nothing();
            });
        }
        each_way("ends_while_busy", "panics", |outcome| {
            outcome.exits(101).prints("at the end\n").says("at the end");
        });
        for how in ["_exit", "handler"] {
            each_way("ends_while_busy", how, |outcome| {
                outcome.exits(3).prints("").says_nothing();
            });
        }
        each_way("ends_while_busy", "abort", |outcome| {
            outcome.is_killed_by(libc::SIGABRT).prints("").says_nothing();
        });
        each_way("ends_while_busy", "signal", |outcome| {
            outcome.is_killed_by(libc::SIGTERM).prints("").says_nothing();
        });
    }

    fn a_finalizer_may_end_the_program() {
        each_way("ends_while_busy", "finalizer", |outcome| {
            outcome.exits(3).prints("at the end\n").says_nothing();
        });
    }

    fn a_child_ends_as_its_main_function_does() {
        let child = |what, text: &str| each_way("forks_while_busy", what, |outcome| {
            outcome.exits(0).prints(text);
        });
        child("returns", "child: 7\n");
        child("panics", "child: 101\n");
        child("exits", "at the end\nchild: 5\n");
        child("deadlocks", "child: 2\n");
        child("leaves", "child: 0\n");
    }

    fn the_runtime_works_in_a_child() {
        let child = |what, text: &str| each_way("forks_while_busy", what, |outcome| {
            outcome.exits(0).prints(text).says_nothing();
        });
        child("works", "child: 7\n");
        child("works_twice", "child: 7\nchild: 7\n");
        child("locked", "child: 7\n");
        child("blocking", "child: 7\n");
        // The child's main goroutine is not there: it ends with what forked.
        child("thread", "child: 0\n");
        child("goroutine", "child: 0\n");
        child("small", "child: 0\n");
    }

    fn a_daemon_goes_on() {
        for _ in 0..5 {
            program("becomes_a_daemon").run().exits(0).prints("a daemon\n").says_nothing();
        }
    }

    fn a_child_may_be_born_at_any_first_use() {
        for n in 0..200 {
            let procs = ["1", "2", "8", "64"][n % 4];
            program("forks_at_once").arg(&n.to_string()).env("RADDLE_PROCS", procs).run().exits(0).prints("").says_nothing();
        }
    }

    fn children_come_and_go() {
        for procs in ["1", "2", "8"] {
            program("forks_often").env("RADDLE_PROCS", procs).run().exits(0).prints("").says_nothing();
            program("runs_before_exec").env("RADDLE_PROCS", procs).run().exits(0).prints("").says_nothing();
        }
    }

    fn a_child_below_run_ends_there() {
        for _ in 0..5 {
            program("forks_below_run").run().exits(0)
                .prints("child: the first thread's\nchild: 0\nparent: goes on\n").says_nothing();
        }
    }

    fn compiled_code_has_names_and_callers() {
        let outcome = compiled("compiled_races_in_a_static");
        let lines: Vec<&str> = outcome.stderr.lines().map(str::trim_end).collect();
        let stack = |head: &str| {
            let at = lines.iter().position(|line| line.starts_with(head)).unwrap_or_else(|| panic!("{head}: {outcome}"));
            let end = lines[at..].iter().position(|line| line.is_empty()).map_or(lines.len(), |n| at + n);
            lines[at + 1..end].join("\n")
        };
        let (own, previous) = (stack("Write at "), stack("Previous write at "));
        for (stack, names, markers) in [
            (&own, ["other_store", "second", "write_too"], ["compiled other store", "compiled second call"]),
            (&previous, ["store", "first", "write_and_stay"], ["compiled store", "compiled first call"]),
        ] {
            let mut rest = &stack[..];
            for name in names {
                let line = format!("  crash::compiled::{name}\n");
                let at = rest.find(&line).unwrap_or_else(|| panic!("no {name} in {rest}"));
                rest = &rest[at + line.len()..];
            }
            for marker in markers {
                assert!(stack.contains(&compiled_place(marker)), "{marker}: {stack}");
            }
            assert!(stack.starts_with(&format!("  crash::compiled::{}\n", names[0])), "{stack}");
        }
        // What starts a goroutine is left out.
        for plumbing in ["corosensei", "raddle_sched", "raddle::goroutine", "__rust_begin"] {
            assert!(!outcome.stderr.contains(plumbing), "{plumbing}: {outcome}");
        }
        assert!(!own.contains("call_once") && !previous.contains("call_once"), "{outcome}");
        // The scope lies between the program's functions, and is left where it is.
        let created = stack("Goroutine ");
        let first = created.lines().nth(1).unwrap_or_default();
        assert!(first.contains("tests/crash/compiled.rs:"), "{created}");
        assert!(created.contains("/runtime/src/scope.rs:"), "{created}");
        outcome.says("\nLocation is global 'crash::compiled::compiled_races_in_a_static::").says("COUNTER' of size 8 at 0x");
        outcome.says(&compiled_place("compiled go"));
    }

    fn memory_is_named_by_whose_it_is() {
        let local = "Location is thread-local 'crash::compiled::LOCAL' of size 8 at 0x";
        compiled("compiled_races_in_a_thread_local").says(local).says(") of goroutine ").says(" 'weaver'\n====");
        compiled("compiled_races_on_a_stack").says("Location is stack of goroutine ").says(" 'weaver'\n====");
        compiled("compiled_races_on_a_plain_thread_s_stack").says("Location is stack of thread ").says(" 'plain'\n====");
        compiled("compiled_races_in_a_plain_thread_s_local").says(local).says(") of thread ").says(" 'plain'\n====");
        compiled("compiled_races_on_the_main_stack").says("Location is stack of main thread\n====");
        let outcome = compiled("compiled_races_with_a_plain_thread");
        outcome.says("by thread ").says("Location is stack of goroutine ");
        for plumbing in ["__rust_begin", "catch_unwind", "start_thread", "clone"] {
            assert!(!outcome.stderr.contains(plumbing), "{plumbing}: {outcome}");
        }
    }

    fn memory_is_named_with_thread_bound_thread_locals() {
        let outcome = program("compiled_races_with_a_plain_thread").env("RADDLE_DEBUG", "notls").arg("--race").run();
        outcome.exits(66).says("Location is stack of goroutine ").says(" 'weaver'\n====");
    }

    fn the_smallest_stack_is_enough_for_a_report() {
        let outcome = compiled("compiled_races_on_a_small_stack");
        outcome.says("  crash::compiled::other_store\n").says(&compiled_place("compiled store"));
        outcome.says("Location is stack of goroutine ");
    }
}
