//! Random programs, a process each, until the time is over.
//!
//! `RADDLE_STRESS_SECONDS`: how long, 10 by default. `RADDLE_STRESS_SEED`: that seed every time.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::random::Random;
use crate::support;

/// Runs rounds, each under what `configure` makes of its seed, and each at most for `limit`.
///
/// A round is this program's test `one_round`, which finds its own seed in the variable that `configure` sets.
pub(crate) fn run(limit: Duration, configure: impl Fn(Random, &mut Command)) {
    let number = |name| {
        env::var(name).ok().map(|text| {
            text.parse::<u64>()
                .unwrap_or_else(|_| panic!("{name}={text}"))
        })
    };
    let seconds = number("RADDLE_STRESS_SECONDS").unwrap_or(10);
    let fixed = number("RADDLE_STRESS_SEED");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("it is past 1970");
    let mut seeds = Random(now.as_nanos() as u64);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0;
    while Instant::now() < end {
        let seed = fixed.unwrap_or_else(|| seeds.next());
        let mut command = Command::new(env::current_exe().expect("this program has a path"));
        command.args(["--exact", "one_round", "--nocapture", "--test-threads=1"]);
        configure(Random(seed), &mut command);
        let outcome = support::run(&mut command, limit);
        let well = outcome.status.success() && outcome.stdout.contains("1 passed");
        assert!(well, "RADDLE_STRESS_SEED={seed} failed: {outcome}");
        rounds += 1;
    }
    println!("{rounds} rounds");
}
