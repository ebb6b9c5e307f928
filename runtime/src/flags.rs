//! Reads the runtime's flags: `--race[=options]` from the command line, `RADDLE_*` from the environment.
//!
//! Pure: takes what it is given, changes nothing, knows nothing of the process. The boot calls it once, prints its error
//! and exits with status 2. The race options are only cut out here; the detector knows their names and values.
//!
//! # Invariants
//! 1. A `Flags` holds only values that the rest of the runtime accepts: whoever uses one need not check it again.
//! 2. An error names the variable, what stood there, and what is allowed.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use std::time::Duration;

use raddle_race::options::{asked, misspelt};

/// The most Ps that `RADDLE_PROCS` may ask for.
pub(crate) const MAX_PROCS: usize = 1024;
/// The smallest stack that `RADDLE_STACK` may ask for: std's own panic code must fit in it.
pub(crate) const MIN_STACK: usize = 16 << 10;
/// The largest percentage that `RADDLE_GC` may ask for: a heap of a thousand times what is live.
pub(crate) const MAX_GC_PERCENT: u32 = 100_000;
/// The largest stack that `RADDLE_STACK` may ask for; a single goroutine may have more, by `Builder::stack_size`.
pub(crate) const MAX_STACK: usize = 1 << 30;

/// What the user asked the runtime for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// `--race`, `--race=options`, or a `RADDLE_RACE` that is not `0` or another word for it: race mode, and its options as
    /// one string, those of the environment first, so that the command line has the last word.
    pub(crate) race: Option<String>,
    /// `RADDLE_PROCS`: how many Ps. None: as many as the CPUs that the process may use.
    pub(crate) procs: Option<NonZeroUsize>,
    /// `RADDLE_STACK`: bytes of stack for a goroutine that asked for none. None: the scheduler's own choice.
    pub(crate) stack_bytes: Option<NonZeroUsize>,
    /// `RADDLE_GC`. None: the collector's own choice.
    pub(crate) gc: Option<GcFlag>,
    /// `RADDLE_DEBUG`.
    pub(crate) debug: DebugFlags,
}

/// `RADDLE_GC`: when to collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GcFlag {
    /// `off`: only when the program asks for it, by a call or a memory limit.
    Off,
    /// When the heap has grown by so many percent of what is live.
    Percent(NonZeroU32),
}

/// `RADDLE_DEBUG`: a comma-separated list of switches for the people who work on the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DebugFlags {
    /// `notls`: thread-locals stay with the OS thread, and safe code is unsound: for tests of the
    /// runtime.
    pub(crate) no_tls: bool,
    /// `noguardinstall`: guard pages by `mprotect`, as on a kernel before 6.13.
    pub(crate) no_guard_install: bool,
    /// `nopreempt`: leave tight loops alone.
    pub(crate) no_preempt: bool,
    /// `schedtrace=MS`: print a line about the scheduler at this interval.
    pub(crate) sched_trace: Option<Duration>,
    /// `seed=N`: what the scheduler's random choices start from.
    pub(crate) seed: Option<u64>,
    /// `yield=N`: yield at about every Nth call of the runtime.
    pub(crate) yield_every: Option<NonZeroU32>,
    /// `gctrace=1`: print a line for each collection.
    pub(crate) gc_trace: bool,
    /// `gcstress=N`: collect at every Nth allocation of a collected object, and fill freed memory with a pattern.
    pub(crate) gc_stress_every: Option<NonZeroU32>,
}

/// A flag or variable that cannot be obeyed. Displays as one line, without `raddle: ` in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlagError(String);

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FlagError {}

impl Flags {
    /// Reads the flags, and hands back the arguments that are the program's own.
    ///
    /// `args` starts with the program's name. A `--race` after a `--` belongs to the program; the `--` itself always
    /// does. `env` gives a variable's value. A variable that is set but empty counts as not set.
    pub(crate) fn from_env_and_args(
        args: impl Iterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(Flags, Vec<OsString>), FlagError> {
        let read = |name: &str| match env(name) {
            Some(value) if !value.is_empty() => text(name, value).map(Some),
            _ => Ok(None),
        };
        let mut flags = Flags::default();
        if let Some(value) = read("RADDLE_PROCS")? {
            flags.procs = Some(parse_procs(&value)?);
        }
        if let Some(value) = read("RADDLE_STACK")? {
            flags.stack_bytes = Some(parse_stack(&value)?);
        }
        if let Some(value) = read("RADDLE_GC")? {
            flags.gc = Some(parse_gc(&value)?);
        }
        if let Some(value) = read("RADDLE_DEBUG")? {
            flags.debug = parse_debug(&value)?;
        }
        let race = read("RADDLE_RACE")?;
        if let Some(options) = race.as_deref().and_then(asked) {
            flags.ask_for_race(options);
        }
        let rest = flags.take_race(args)?;
        Ok((flags, rest))
    }

    /// Takes every `--race` and `--race=options` that stands before a `--`.
    fn take_race(
        &mut self,
        mut args: impl Iterator<Item = OsString>,
    ) -> Result<Vec<OsString>, FlagError> {
        let mut rest = Vec::from_iter(args.next());
        while let Some(arg) = args.next() {
            if arg == "--" {
                rest.push(arg);
                rest.extend(args);
                break;
            } else if arg == "--race" {
                self.ask_for_race("");
            } else if let Some(options) = arg.as_bytes().strip_prefix(b"--race=") {
                let options = text("--race", OsStr::from_bytes(options).to_owned())?;
                if options.is_empty() {
                    return Err(FlagError(
                        "--race=: write options after the equals sign, or --race alone".into(),
                    ));
                }
                let options = asked(&options).ok_or_else(|| {
                    FlagError(format!(
                        "--race={options}: a flag cannot turn race mode off; leave it out, and RADDLE_RACE unset"
                    ))
                })?;
                self.ask_for_race(options);
            } else {
                rest.push(arg);
            }
        }
        Ok(rest)
    }

    fn ask_for_race(&mut self, options: &str) {
        let all = self.race.get_or_insert_default();
        if !all.is_empty() && !options.is_empty() {
            all.push(',');
        }
        all.push_str(options);
    }
}

/// A line for each of the environment's variables whose name is nearly one of ours, and none of ours.
///
/// It is said and not refused: a name that begins with `RADDLE_` may be the program's own.
pub(crate) fn misspelt_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let warning = |name: OsString| {
        let name = name.into_string().ok()?;
        let meant = misspelt(&name)?;
        Some(format!(
            "raddle: warning: the environment variable {name} means nothing to Raddle; did you mean {meant}?\n"
        ))
    };
    names.filter_map(warning).collect()
}

fn text(name: &str, value: OsString) -> Result<String, FlagError> {
    value
        .into_string()
        .map_err(|value| FlagError(format!("{name}={value:?}: must be UTF-8")))
}

fn parse_procs(value: &str) -> Result<NonZeroUsize, FlagError> {
    let procs = value
        .parse()
        .ok()
        .filter(|procs: &NonZeroUsize| procs.get() <= MAX_PROCS);
    procs.ok_or_else(|| {
        FlagError(format!(
            "RADDLE_PROCS={value}: must be a whole number from 1 to {MAX_PROCS}"
        ))
    })
}

fn parse_stack(value: &str) -> Result<NonZeroUsize, FlagError> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b'K' | b'k') => (&value[..value.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&value[..value.len() - 1], 1 << 20),
        _ => (value, 1),
    };
    let bytes = digits.parse().ok().and_then(|n: usize| n.checked_mul(unit));
    let bytes = bytes
        .filter(|bytes| (MIN_STACK..=MAX_STACK).contains(bytes))
        .and_then(NonZeroUsize::new);
    bytes.ok_or_else(|| {
        FlagError(format!(
            "RADDLE_STACK={value}: must be a size from 16K to 1024M, such as 65536, 256K or 2M"
        ))
    })
}

fn parse_gc(value: &str) -> Result<GcFlag, FlagError> {
    if value == "off" {
        return Ok(GcFlag::Off);
    }
    let percent = value
        .parse()
        .ok()
        .filter(|percent: &NonZeroU32| percent.get() <= MAX_GC_PERCENT);
    percent.map(GcFlag::Percent).ok_or_else(|| {
        FlagError(format!(
            "RADDLE_GC={value}: must be a percentage from 1 to {MAX_GC_PERCENT}, without a sign, or off"
        ))
    })
}

fn parse_debug(list: &str) -> Result<DebugFlags, FlagError> {
    let mut debug = DebugFlags::default();
    for item in list.split(',').filter(|item| !item.is_empty()) {
        let (key, value) = match item.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (item, None),
        };
        let bad = |want: &str| {
            FlagError(format!(
                "RADDLE_DEBUG={list}: {item:?} is not right: write {want}"
            ))
        };
        match key {
            "notls" | "noguardinstall" | "nopreempt" if value.is_some() => {
                return Err(bad(&format!("{key} alone, without a value")));
            }
            "notls" => debug.no_tls = true,
            "noguardinstall" => debug.no_guard_install = true,
            "nopreempt" => debug.no_preempt = true,
            "schedtrace" => {
                let ms: NonZeroU32 =
                    number(value).ok_or_else(|| bad("schedtrace=MS, milliseconds, at least 1"))?;
                debug.sched_trace = Some(Duration::from_millis(ms.get().into()));
            }
            "seed" => {
                debug.seed = Some(number(value).ok_or_else(|| bad("seed=N, a whole number"))?)
            }
            "yield" => {
                debug.yield_every = Some(number(value).ok_or_else(|| bad("yield=N, at least 1"))?)
            }
            "gctrace" => match value {
                Some("0") => debug.gc_trace = false,
                Some("1") => debug.gc_trace = true,
                _ => return Err(bad("gctrace=1, or gctrace=0")),
            },
            "gcstress" => {
                debug.gc_stress_every =
                    Some(number(value).ok_or_else(|| bad("gcstress=N, at least 1"))?);
            }
            _ => {
                return Err(FlagError(format!(
                    "RADDLE_DEBUG={list}: unknown key {key:?}; the keys are notls, noguardinstall, nopreempt, \
                     schedtrace=MS, seed=N, yield=N, gctrace=1 and gcstress=N"
                )));
            }
        }
    }
    Ok(debug)
}

fn number<N: FromStr>(value: Option<&str>) -> Option<N> {
    value?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    /// Reads `args` (the program's name is put in front) with `env`; the arguments come back without the name.
    fn read(args: &[&str], env: &[(&str, &str)]) -> Result<(Flags, Vec<String>), String> {
        let args = ["program"].iter().chain(args).map(OsString::from);
        let env = |name: &str| Some(env.iter().find(|(key, _)| *key == name)?.1.into());
        let (flags, rest) =
            Flags::from_env_and_args(args, env).map_err(|error| error.to_string())?;
        let mut rest = rest.into_iter().map(|arg| arg.into_string().unwrap());
        assert_eq!(rest.next().as_deref(), Some("program"));
        Ok((flags, rest.collect()))
    }

    fn flags(name: &str, value: &str) -> Flags {
        read(&[], &[(name, value)]).unwrap().0
    }

    fn error(name: &str, value: &str) -> String {
        read(&[], &[(name, value)]).unwrap_err()
    }

    #[test]
    fn nothing_given_asks_for_nothing() {
        assert_eq!(
            read(&["a", "-b"], &[]),
            Ok((Flags::default(), vec!["a".into(), "-b".into()]))
        );
    }

    #[test]
    fn an_empty_command_line_is_no_error() {
        assert_eq!(
            Flags::from_env_and_args([].into_iter(), |_| None),
            Ok((Flags::default(), vec![]))
        );
    }

    #[test]
    fn race_is_taken_wherever_it_stands_before_the_dashes() {
        let (flags, rest) = read(&["a", "--race", "b", "--", "--race", "--"], &[]).unwrap();
        assert_eq!(flags.race.as_deref(), Some(""));
        assert_eq!(rest, ["a", "b", "--", "--race", "--"]);
        assert_eq!(read(&["--", "--race"], &[]).unwrap().0.race, None);
    }

    #[test]
    fn longer_words_are_the_programs_own() {
        let (flags, rest) = read(&["--racy", "--races", "-race"], &[]).unwrap();
        assert_eq!(flags.race, None);
        assert_eq!(rest, ["--racy", "--races", "-race"]);
    }

    #[test]
    fn the_command_lines_race_options_come_last() {
        let env = [("RADDLE_RACE", "exitcode=1 format=json")];
        let (flags, _) = read(&["--race=exitcode=2,format=text", "--race"], &env).unwrap();
        assert_eq!(
            flags.race.as_deref(),
            Some("exitcode=1 format=json,exitcode=2,format=text")
        );
    }

    #[test]
    fn the_environment_turns_race_mode_on_and_not_off_by_mistake() {
        assert_eq!(flags("RADDLE_RACE", "1").race.as_deref(), Some(""));
        assert_eq!(
            flags("RADDLE_RACE", "halt_on_error=1").race.as_deref(),
            Some("halt_on_error=1")
        );
        for on in ["on", "yes", "true"] {
            assert_eq!(flags("RADDLE_RACE", on).race.as_deref(), Some(""), "{on}");
        }
        for off in ["0", "off", "no", "false", ""] {
            assert_eq!(flags("RADDLE_RACE", off).race, None, "{off}");
        }
        assert_eq!(
            read(&["--race"], &[("RADDLE_RACE", "0")])
                .unwrap()
                .0
                .race
                .as_deref(),
            Some("")
        );
    }

    #[test]
    fn the_command_line_turns_race_mode_on_only() {
        assert_eq!(
            read(&["--race=on"], &[]).unwrap().0.race.as_deref(),
            Some("")
        );
        let off = read(&["--race=off"], &[]).unwrap_err();
        assert!(off.starts_with("--race=off: a flag cannot"), "{off}");
    }

    #[test]
    fn slips_in_names_are_told() {
        let names = ["RADDLE_PROC", "RADDLE_RACE", "RADDLE_OWN_THING", "HOME"];
        let told = misspelt_variables(names.into_iter().map(Into::into));
        assert_eq!(
            told,
            [
                "raddle: warning: the environment variable RADDLE_PROC means nothing to Raddle; did you mean RADDLE_PROCS?\n"
            ]
        );
    }

    #[test]
    fn race_with_an_equals_sign_needs_options() {
        assert!(
            read(&["--race="], &[])
                .unwrap_err()
                .starts_with("--race=: write options")
        );
    }

    #[test]
    fn arguments_need_not_be_utf8_but_race_options_must() {
        let run = |bytes: &[u8]| {
            let args = [
                OsString::from("program"),
                OsString::from_vec(bytes.to_vec()),
            ];
            Flags::from_env_and_args(args.into_iter(), |_| None)
        };
        assert_eq!(run(b"\xff").unwrap().1[1].as_bytes(), b"\xff");
        assert_eq!(
            run(b"--race=\xff").unwrap_err().to_string(),
            r#"--race="\xFF": must be UTF-8"#
        );
    }

    #[test]
    fn procs_go_from_1_to_1024() {
        for procs in [1, 2, 1024] {
            assert_eq!(
                flags("RADDLE_PROCS", &procs.to_string()).procs,
                NonZeroUsize::new(procs)
            );
        }
        for bad in [
            "0",
            "1025",
            "-1",
            "two",
            "2 ",
            "1.5",
            "99999999999999999999",
        ] {
            let message = format!("RADDLE_PROCS={bad}: must be a whole number from 1 to 1024");
            assert_eq!(error("RADDLE_PROCS", bad), message);
        }
    }

    #[test]
    fn stack_sizes_have_units() {
        for (value, bytes) in [
            ("65536", 65536),
            ("16K", 16 << 10),
            ("2m", 2 << 20),
            ("1024M", 1 << 30),
        ] {
            assert_eq!(
                flags("RADDLE_STACK", value).stack_bytes,
                NonZeroUsize::new(bytes)
            );
        }
        for bad in [
            "0",
            "15K",
            "1025M",
            "K",
            "1G",
            "-16K",
            "2 M",
            "99999999999999M",
            "1é",
        ] {
            let message = format!("RADDLE_STACK={bad}: must be a size from 16K to 1024M");
            assert!(error("RADDLE_STACK", bad).starts_with(&message));
        }
    }

    #[test]
    fn gc_is_a_percentage_or_off() {
        assert_eq!(flags("RADDLE_GC", "off").gc, Some(GcFlag::Off));
        for percent in [1, 100, MAX_GC_PERCENT] {
            assert_eq!(
                flags("RADDLE_GC", &percent.to_string()).gc,
                NonZeroU32::new(percent).map(GcFlag::Percent)
            );
        }
        assert_eq!(flags("RADDLE_GC", "").gc, None);
        for bad in ["banana", "0", "100001", "-1", "50%", "1.5", "OFF", " off"] {
            let message = format!(
                "RADDLE_GC={bad}: must be a percentage from 1 to 100000, without a sign, or off"
            );
            assert_eq!(error("RADDLE_GC", bad), message);
        }
    }

    #[test]
    fn debug_is_a_list() {
        let debug = flags(
            "RADDLE_DEBUG",
            "notls,seed=18446744073709551615,,yield=7,schedtrace=250,gctrace=1,gcstress=9,",
        )
        .debug;
        let expected = DebugFlags {
            no_tls: true,
            sched_trace: Some(Duration::from_millis(250)),
            seed: Some(u64::MAX),
            yield_every: NonZeroU32::new(7),
            gc_trace: true,
            gc_stress_every: NonZeroU32::new(9),
            ..DebugFlags::default()
        };
        assert_eq!(debug, expected);
        let debug = flags("RADDLE_DEBUG", "noguardinstall,nopreempt").debug;
        assert!(debug.no_guard_install && debug.no_preempt && !debug.no_tls);
    }

    #[test]
    fn debug_says_which_item_is_wrong_and_what_is_right() {
        let message = error("RADDLE_DEBUG", "notls,trace=1");
        let start = "RADDLE_DEBUG=notls,trace=1: unknown key \"trace\"; the keys are notls,";
        assert!(message.starts_with(start), "{message}");
        for (item, hint) in [
            ("notls=1", "write notls alone"),
            ("seed", "write seed=N"),
            ("seed=x", "write seed=N"),
            ("yield=0", "at least 1"),
            ("schedtrace=0", "write schedtrace=MS"),
            ("schedtrace=1s", "milliseconds"),
            ("gctrace", "write gctrace=1"),
            ("gctrace=2", "write gctrace=1"),
            ("gcstress", "write gcstress=N"),
            ("gcstress=0", "at least 1"),
        ] {
            let message = error("RADDLE_DEBUG", item);
            assert!(
                message.contains(&format!("{item:?} is not right")) && message.contains(hint),
                "{message}"
            );
        }
    }
}
