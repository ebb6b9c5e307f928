//! What `#[raddle::test]` expands to: a test of libtest's whose body is a goroutine.

use crate::boot::{MainGoroutine, ensure, run_as};
use crate::capture;
use raddle_race::Tally;
use std::panic::resume_unwind;
use std::process::{ExitCode, Termination};

/// What the macro says of a test.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// 0: as many Ps as there are.
    pub procs: usize,
    /// `module_path!()`.
    pub module: &'static str,
    /// The function's.
    pub name: &'static str,
    /// `#[should_panic]`.
    pub should_panic: bool,
}

impl Test {
    /// As libtest has it: without the crate's name.
    fn path(&self) -> String {
        match self.module.split_once("::") {
            Some((_, inside)) => format!("{inside}::{}", self.name),
            None => self.name.into(),
        }
    }
}

/// Runs a test. The result is reported on the goroutine, so it need not be `Send`.
#[doc(hidden)]
#[track_caller]
pub fn rt_test<R: Termination>(test: Test, body: impl FnOnce() -> R + Send) -> ExitCode {
    ensure();
    if test.procs != 0 {
        raddle_sched::set_procs(test.procs);
    }
    let path = test.path();
    // For ever: a goroutine may outlive the test. A word for each test of a race build.
    let tally: Option<&'static Tally> =
        raddle_race::enabled().then(|| &*Box::leak(Box::new(Tally::new())));
    let how = MainGoroutine {
        name: path.as_str().into(),
        sink: capture::of_this_thread(),
    };
    let body = || {
        tally.into_iter().for_each(raddle_race::put_on);
        body().report()
    };
    let result = run_as(body, how);
    let races = tally.map_or(0, Tally::close);
    if races > 0 {
        // On libtest's thread, which captures it.
        let message = format!(
            "race detected during execution of test `{path}`: {races} data race(s), reported above"
        );
        eprintln!("{message}");
        match result {
            // Where a panic is what is expected, it fails for want of one.
            _ if test.should_panic => return ExitCode::FAILURE,
            Ok(_) => resume_unwind(Box::new(message)),
            Err(_) => {}
        }
    }
    result.unwrap_or_else(|panic| resume_unwind(panic))
}
