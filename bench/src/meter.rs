//! The clock of a benchmark: wall time and the CPU time of all threads.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::usage::process_cpu_ns;

/// Runs from `start` to `stop`.
pub struct Meter {
    cpu_ns: u64,
    start: Instant,
}

/// What a meter measured, and what else the benchmark has to say.
pub struct Sample {
    pub wall_ns: u64,
    pub cpu_ns: u64,
    pub extra: String,
}

impl Meter {
    pub fn start() -> Meter {
        // The wall clock starts last and stops first: it pays for no system call.
        Meter {
            cpu_ns: process_cpu_ns(),
            start: Instant::now(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn stop(self) -> Sample {
        let wall_ns = self.start.elapsed().as_nanos() as u64;
        Sample {
            wall_ns,
            cpu_ns: process_cpu_ns() - self.cpu_ns,
            extra: String::new(),
        }
    }
}

impl Sample {
    /// Adds ` key=N.N`, in milliseconds, to the output line.
    pub fn with_ms(mut self, key: &str, time: Duration) -> Sample {
        let ms = time.as_secs_f64() * 1e3;
        write!(self.extra, " {key}={ms:.1}").expect("a String takes everything");
        self
    }

    pub fn with_total(self) -> Sample {
        let total = Duration::from_nanos(self.wall_ns);
        self.with_ms("total_ms", total)
    }
}
