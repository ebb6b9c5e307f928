//! Runs a program with a time limit and keeps what it printed.
//!
//! A program that hangs is killed, with the processes that it started, and the test fails with its
//! output: it never eats the whole run.

use std::fmt;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How a program ended.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            status,
            stdout,
            stderr,
        } = self;
        write!(f, "{status}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

/// Runs `command` to its end, or fails when `limit` is over. Only the variables that `command` names itself and those
/// that are not the runtime's reach it.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Outcome {
    for (name, _) in std::env::vars_os() {
        let runtimes_own = name
            .to_str()
            .is_some_and(|name| name.starts_with("RADDLE_"));
        if runtimes_own && command.get_envs().all(|(given, _)| given != name) {
            command.env_remove(name);
        }
    }
    command
        // A group of its own: what it forked holds the pipes as well.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = read_all(child.stdout.take().expect("piped"));
    let stderr = read_all(child.stderr.take().expect("piped"));

    let deadline = Instant::now() + limit;
    let (status, in_time) = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break (status, true);
        }
        if Instant::now() > deadline {
            kill_group(child.id());
            break (child.wait().expect("the child is ours"), false);
        }
        thread::sleep(Duration::from_millis(2));
    };
    let text = |reader: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().expect("the reader does not panic")).into_owned()
    };
    let outcome = Outcome {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    };
    assert!(
        in_time,
        "{command:?} was killed: it did not end in {limit:?}\n{outcome}"
    );
    outcome
}

/// Kills the group that a child of ours leads which has not been waited for. By the shell: some of
/// the programs that have this module forbid `unsafe`.
fn kill_group(leader: u32) {
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -KILL -{leader}")])
        .status();
    assert!(
        killed.is_ok_and(|status| status.success()),
        "cannot kill the group of {leader}"
    );
}

/// Reads on a thread of its own, so that the program never waits for us with a full pipe.
fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}
