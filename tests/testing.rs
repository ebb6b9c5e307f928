//! What `#[raddle::test]` does under libtest: where output goes, what a failing test says, and that
//! a racing one fails by its name.
//!
//! Tests of tests: those in `fixtures` do something only in a process that `libtest` below starts,
//! of this same program.

#[path = "support/mod.rs"]
mod support;

use std::env;
use std::process::Command;
use std::time::Duration;
use support::Outcome;

const LIMIT: Duration = Duration::from_secs(120);
const INSIDE: &str = "RADDLE_TEST_FIXTURES";

mod fixtures {
    use raddle::shared::Var;
    use std::fmt::{Display, Formatter, Result as Format};
    use std::sync::Arc;

    fn is_inside() -> bool {
        std::env::var_os(super::INSIDE).is_some()
    }

    struct Shows<F>(F);
    impl<F: Fn()> Display for Shows<F> {
        fn fmt(&self, f: &mut Formatter<'_>) -> Format {
            self.0();
            f.write_str("SHOWN")
        }
    }

    /// From everywhere that a test's goroutines are.
    fn make_noise() {
        println!("NOISE-main");
        eprintln!("NOISE-error");
        raddle::go(|| {
            println!("NOISE-goroutine");
            raddle::go(|| println!("NOISE-grandchild")).join().unwrap();
        })
        .join()
        .unwrap();
        raddle::scope(|scope| {
            for i in 0..20 {
                scope.go(move || {
                    raddle::yield_now();
                    println!("NOISE-scope-{i}");
                });
            }
        });
        raddle::Builder::new()
            .name("named")
            .spawn(|| println!("NOISE-named"))
            .unwrap()
            .join()
            .unwrap();
        raddle::run(|| println!("NOISE-run"));
        raddle::time::after_func(std::time::Duration::ZERO, || {});
    }

    #[raddle::test]
    fn noisy() {
        if is_inside() {
            make_noise();
        }
    }

    #[raddle::test]
    fn noisy_and_failing() {
        if is_inside() {
            make_noise();
            panic!("{}", "for a reason");
        }
    }

    #[raddle::test]
    fn printing_is_as_usual() {
        if is_inside() {
            // In the middle of a print the output is not captured, as in std.
            println!("NOISE {}", Shows(|| raddle::go(|| ()).join().unwrap()));
            let print = || println!("{}", Shows(|| panic!("while it is shown")));
            assert!(raddle::go(print).join().is_err());
            println!("NOISE-main");
            // Outlives the test.
            raddle::go(|| {
                println!("NOISE-late");
                raddle::yield_now();
                println!("NOISE-later");
            });
        }
    }

    #[raddle::test]
    fn a_child_panics() -> Result<(), String> {
        if is_inside() {
            let child = raddle::go(|| panic!("{}", "of the child"));
            child.join().map_err(|error| format!("ERROR {error}"))?;
        }
        Ok(())
    }

    #[raddle::test]
    fn cannot_unwind() {
        extern "C" fn wall() {
            panic!("{}", "at the wall");
        }
        if is_inside() {
            println!("NOISE-main");
            wall();
        }
    }

    /// Two goroutines that nothing orders.
    fn race() {
        if is_inside() {
            let shared = Arc::new(Var::new(0));
            let other = shared.clone();
            let child = raddle::go(move || other.set(1));
            shared.set(2);
            child.join().unwrap();
        }
    }

    #[raddle::test(procs = 2)]
    fn racy() {
        race();
    }

    #[raddle::test]
    fn racy_at_one_remove() {
        raddle::go(|| raddle::scope(|scope| drop(scope.go(race))))
            .join()
            .unwrap();
    }

    #[raddle::test]
    #[should_panic(expected = "on purpose")]
    fn racy_and_panicking() {
        race();
        panic!("on purpose");
    }

    #[raddle::test]
    fn calm() {
        assert_eq!(raddle::current().unwrap().name(), Some("fixtures::calm"));
    }

    #[raddle::test]
    #[should_panic(expected = "on purpose")]
    fn calm_and_panicking() {
        panic!("on purpose");
    }

    /// One after the other, each with a backtrace: what std keeps of the first serves the second.
    #[test]
    fn panics_everywhere() {
        if is_inside() {
            for _ in 0..2 {
                assert!(std::thread::spawn(|| panic!("in a thread")).join().is_err());
                raddle::run(|| {
                    assert!(raddle::go(|| panic!("in a goroutine")).join().is_err());
                });
            }
        }
    }

    #[test]
    fn racy_without_the_attribute() {
        raddle::run(race);
    }
}

/// Runs the fixtures that `args` name.
fn libtest(race: &str, args: &[&str]) -> Outcome {
    start(race, args, "0")
}

fn libtest_with_backtraces(race: &str, args: &[&str]) -> Outcome {
    start(race, args, "1")
}

fn start(race: &str, args: &[&str], backtrace: &str) -> Outcome {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command
        .args(args)
        .env(INSIDE, "1")
        .env("RADDLE_RACE", race)
        .env("RUST_BACKTRACE", backtrace)
        .env_remove("RUST_TEST_THREADS")
        .env_remove("RUST_TEST_NOCAPTURE");
    support::run(&mut command, LIMIT)
}

/// Both race modes, several threads and one, on which libtest makes no thread for a test.
fn every_way(check: impl Fn(&dyn Fn(&[&str]) -> Outcome)) {
    for race in ["0", "1"] {
        for threads in ["--test-threads=4", "--test-threads=1"] {
            check(&|args| libtest(race, &[args, &[threads]].concat()));
        }
    }
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

#[test]
fn output_is_captured() {
    every_way(|run| {
        let outcome = run(&[
            "--exact",
            "fixtures::noisy",
            "fixtures::printing_is_as_usual",
        ]);
        assert!(outcome.status.success(), "{outcome}");
        assert!(!outcome.stdout.contains("NOISE"), "{outcome}");
        assert!(!outcome.stderr.contains("NOISE"), "{outcome}");
    });
}

#[test]
fn a_failing_test_shows_its_output_and_one_header() {
    every_way(|run| {
        let outcome = run(&["--exact", "fixtures::noisy_and_failing"]);
        assert_eq!(outcome.status.code(), Some(101), "{outcome}");
        let (_, shown) = outcome
            .stdout
            .split_once("---- fixtures::noisy_and_failing stdout ----")
            .unwrap_or_else(|| panic!("{outcome}"));
        let places = [
            "main",
            "error",
            "goroutine",
            "grandchild",
            "scope-19",
            "named",
            "run",
        ];
        for place in places {
            assert_eq!(count(shown, &format!("NOISE-{place}\n")), 1, "{outcome}");
        }
        assert_eq!(
            count(
                shown,
                " \"fixtures::noisy_and_failing\" panicked at tests/testing.rs"
            ),
            1,
            "{outcome}"
        );
        let all = format!("{outcome}");
        assert_eq!(count(&all, "panicked"), 1, "{outcome}");
        assert_eq!(count(&all, "for a reason"), 1, "{outcome}");
        assert!(!outcome.stderr.contains("NOISE"), "{outcome}");
    });
}

#[test]
fn a_childs_panic_has_one_header_too() {
    every_way(|run| {
        let outcome = run(&["--exact", "fixtures::a_child_panics"]);
        assert_eq!(outcome.status.code(), Some(101), "{outcome}");
        let all = format!("{outcome}");
        assert_eq!(count(&all, "panicked at"), 1, "{outcome}");
        assert!(
            all.contains("ERROR the goroutine panicked: of the child"),
            "{outcome}"
        );
    });
}

#[test]
fn output_is_shown_if_that_is_asked_for() {
    every_way(|run| {
        let outcome = run(&["--exact", "fixtures::noisy", "--nocapture"]);
        assert!(outcome.status.success(), "{outcome}");
        for place in ["main", "goroutine", "grandchild", "scope-0", "named", "run"] {
            assert_eq!(
                count(&outcome.stdout, &format!("NOISE-{place}\n")),
                1,
                "{outcome}"
            );
        }
        assert_eq!(count(&outcome.stderr, "NOISE-error"), 1, "{outcome}");
    });
}

#[test]
fn a_panic_that_ends_the_process_is_shown_with_what_came_before() {
    every_way(|run| {
        let outcome = run(&["--exact", "fixtures::cannot_unwind"]);
        assert_eq!(outcome.status.code(), None, "{outcome}");
        let all = format!("{outcome}");
        for what in [
            "NOISE-main",
            "at the wall",
            "panic in a function that cannot unwind",
        ] {
            assert_eq!(count(&all, what), 1, "{what}: {outcome}");
        }
    });
}

#[test]
fn a_racing_test_fails_by_name_and_no_other() {
    for threads in ["--test-threads=8", "--test-threads=1"] {
        let all = [
            "fixtures::racy",
            "fixtures::calm",
            "--skip=without",
            threads,
        ];
        let outcome = libtest("1", &all);
        assert_eq!(outcome.status.code(), Some(101), "{outcome}");
        let result = |name: &str, result: &str| {
            let line = format!("test fixtures::{name} ... {result}");
            assert!(outcome.stdout.contains(&line), "no {line:?}: {outcome}");
        };
        // They race at one pair of lines, which is reported once, for the first.
        result("racy", "FAILED");
        result("racy_at_one_remove", "FAILED");
        result("racy_and_panicking - should panic", "FAILED");
        assert_eq!(count(&outcome.stderr, "WARNING: DATA RACE"), 1, "{outcome}");
        result("calm", "ok");
        result("calm_and_panicking - should panic", "ok");
        let outcome = libtest("0", &all);
        assert!(outcome.status.success(), "{outcome}");
    }
    for name in ["racy", "racy_at_one_remove", "racy_and_panicking"] {
        let outcome = libtest("1", &["--exact", &format!("fixtures::{name}")]);
        assert_eq!(outcome.status.code(), Some(101), "{outcome}");
        let message = format!("race detected during execution of test `fixtures::{name}`");
        assert_eq!(count(&outcome.stdout, &message), 1, "{outcome}");
    }
}

/// Where thread-locals are the thread's, output stays where it was, and that is all.
#[test]
fn without_thread_locals_of_its_own_a_test_runs_on() {
    let program = env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command
        .args([
            "--exact",
            "fixtures::noisy",
            "fixtures::printing_is_as_usual",
        ])
        .env(INSIDE, "1")
        .env("RADDLE_DEBUG", "notls");
    let outcome = support::run(&mut command, LIMIT);
    assert!(outcome.status.success(), "{outcome}");
    assert!(outcome.stdout.contains("2 passed"), "{outcome}");
}

#[test]
fn backtraces_are_no_races() {
    let outcome = libtest_with_backtraces("1", &["--exact", "fixtures::panics_everywhere"]);
    assert!(outcome.status.success(), "{outcome}");
    assert!(!outcome.stderr.contains("DATA RACE"), "{outcome}");
}

#[test]
fn a_race_of_no_such_test_makes_the_status() {
    let outcome = libtest("1", &["--exact", "fixtures::racy_without_the_attribute"]);
    assert!(outcome.stdout.contains("1 passed"), "{outcome}");
    assert_eq!(outcome.status.code(), Some(66), "{outcome}");
}
