//! `measure <program> <arguments>...`: runs a program, without its output, and prints `wall_ms peak_rss_kb cpu_ms`. The exit status is the
//! program's; 127 if it cannot be started.

use std::mem::MaybeUninit;
use std::process::{Command, Stdio, exit};
use std::time::Instant;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let Some(program) = args.next() else {
        eprintln!("usage: measure <program> <arguments>...");
        exit(2);
    };
    let start = Instant::now();
    let status = Command::new(&program)
        .args(args)
        .stdout(Stdio::null())
        .status();
    let wall_ms = start.elapsed().as_secs_f64() * 1e3;
    let status = status.unwrap_or_else(|error| {
        eprintln!("measure: cannot run {}: {error}", program.to_string_lossy());
        exit(127);
    });
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is writable and of the type that the call fills.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    assert_eq!(failed, 0, "getrusage");
    // SAFETY: zeroes are valid in every field, and the call has succeeded.
    let usage = unsafe { usage.assume_init() };
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    println!(
        "{wall_ms:.1} {} {:.1}",
        usage.ru_maxrss,
        ms(usage.ru_utime) + ms(usage.ru_stime)
    );
    exit(status.code().unwrap_or(1));
}
