//! Owns what happens when cargo calls this program in the place of rustc or rustdoc: it adds flags and runs the real one.
//!
//! Nothing that the user or cargo said is dropped, but for link-time optimisation.
//!
//! # Which crates
//! cargo is given a `--target`, and passes it on for all but build scripts and procedural macros, which therefore stay plain.
//! Raddle's own crates, and what they are made of, are compiled for the same sysroot but not instrumented: the detector would watch itself.
//!
//! # Why not
//! `CARGO_ENCODED_RUSTFLAGS` would be the same for all crates, and replace what the user's configuration says.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::passes::{hooks_of, pipeline};
use crate::plan::Plan;
use crate::runtime::Runtime;
use crate::toolchain::Toolchain;

/// Crates that the detector and the runtime consist of.
const RUNTIME: [&str; 7] = [
    "raddle",
    "raddle_alloc",
    "raddle_chan",
    "raddle_race",
    "raddle_race_options",
    "raddle_sched",
    "compiler_builtins",
];

/// Crates that these stand on, and that programs use too, to order something: the program's must be seen, the runtime's must not. So each is
/// compiled twice, the second time not instrumented and under another name: its *twin*, which the runtime's crates are given.
const SHARED: [&str; 6] = [
    "crossbeam_deque",
    "crossbeam_epoch",
    "crossbeam_utils",
    "lock_api",
    "parking_lot",
    "parking_lot_core",
];
/// What a twin's file name has more.
const TWIN: &str = "-plain";

/// Crates that these stand on, and that order nothing for the program. A package of the user's own workspace may bear such a name: it is
/// instrumented.
const FOUNDATION: [&str; 11] = [
    "addr2line",
    "adler2",
    "backtrace",
    "cfg_if",
    "corosensei",
    "gimli",
    "libc",
    "memmap2",
    "miniz_oxide",
    "object",
    "rustc_demangle",
];

/// Options of code generation for these. A detector at the speed of a debug build would be useless. Also, from this level on rustc does not
/// let crates share the code of generic functions: no instrumented crate links a plain copy from here. In one piece, so that what is
/// inlined on the detector's paths does not depend on the user's profile.
const PLAIN: [&str; 4] = [
    "opt-level=3",
    "codegen-units=1",
    "overflow-checks=off",
    "debug-assertions=off",
];

/// Names what this module does to compilers' arguments: where it differs, what was compiled is out of date.
pub(crate) fn fingerprint() -> String {
    let sample = |name: &str| {
        let args = ["--target=any", "--crate-name", name].map(OsString::from);
        Call::parse(&args).rewrite(&Plan::default(), false, &args)
    };
    let samples = ["app", "raddle", DETECTOR].map(sample);
    format!("{samples:?} {RUNTIME:?} {FOUNDATION:?} {SHARED:?}")
}

/// A call of rustc or rustdoc, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    has_target: bool,
    crate_name: String,
    crate_types: Vec<String>,
    /// The main file of the crate, as it is named.
    source: Option<PathBuf>,
    /// The last of the options for debug information.
    debug_info: Option<String>,
    /// Where the output goes, without the extension.
    output: Option<PathBuf>,
    /// `--test`: a test program for rustc, doctests for rustdoc.
    test: bool,
    /// `-vV`.
    version: bool,
    /// The C library is to be linked statically.
    static_c: bool,
}

impl Call {
    /// Reads the arguments that follow the compiler's name.
    fn parse(args: &[OsString]) -> Self {
        let mut call = Self::default();
        let (mut out_dir, mut suffix) = (None, String::new());
        let mut args = args.iter().map(|arg| arg.to_string_lossy());
        while let Some(arg) = args.next() {
            if let Some(option) = arg.strip_prefix("-C") {
                let option = match option {
                    "" => args.next().unwrap_or_default().into_owned(),
                    _ => option.to_owned(),
                };
                if let Some(extra) = option.strip_prefix("extra-filename=") {
                    suffix = extra.to_owned();
                }
                if let Some(features) = option.strip_prefix("target-feature=") {
                    // The last word counts.
                    for feature in features.split(',') {
                        match feature {
                            "+crt-static" => call.static_c = true,
                            "-crt-static" => call.static_c = false,
                            _ => {}
                        }
                    }
                }
                if let Some(level) = option.strip_prefix("debuginfo=") {
                    call.debug_info = Some(level.to_owned());
                }
                continue;
            }
            let (option, value) = match arg.split_once('=') {
                Some((option, value)) => (option, Some(value.to_owned())),
                None => (&*arg, None),
            };
            let mut value = || value.clone().or_else(|| args.next().map(Into::into));
            match option {
                "--target" => call.has_target = value().is_some(),
                "--crate-name" => call.crate_name = value().unwrap_or_default(),
                "--crate-type" => call.crate_types.extend(value()),
                "--out-dir" => out_dir = value(),
                "-g" => call.debug_info = Some("2".into()),
                "--test" => call.test = true,
                "-vV" => call.version = true,
                _ if call.source.is_none() && option.ends_with(".rs") => {
                    call.source = Some(PathBuf::from(&*arg));
                }
                _ => {}
            }
        }
        call.output =
            out_dir.map(|dir| Path::new(&dir).join(format!("{}{suffix}", call.crate_name)));
        call
    }

    /// Does this call make code that runs in the program under test? `___` is the name by which cargo asks what the compiler can do.
    fn is_for_target(&self) -> bool {
        self.has_target && !self.has_type("proc-macro") && self.crate_name != "___"
    }

    fn types(&self) -> impl Iterator<Item = &str> {
        self.crate_types.iter().flat_map(|list| list.split(','))
    }

    fn has_type(&self, name: &str) -> bool {
        self.types().any(|kind| kind == name)
    }

    fn is_only(&self, name: &str) -> bool {
        self.types().all(|kind| kind == name)
    }

    /// Does this call link something that runs, or that a program of another language loads?
    fn is_program(&self) -> bool {
        self.test || self.has_type("bin") || self.has_type("cdylib")
    }

    /// Is that one to which the runtime must be linked?
    fn is_plain(&self, plan: &Plan) -> bool {
        self.is_program() && self.is_without_detector(plan)
    }

    /// Does nothing that the call links have the detector in it?
    fn is_without_detector(&self, plan: &Plan) -> bool {
        let source = self
            .source
            .as_ref()
            .and_then(|source| fs::canonicalize(source).ok());
        source.is_some_and(|source| plan.plain.contains(&source, self.test))
    }

    /// `own_package`: the crate is of a package that the user is working on, not of a dependency.
    fn is_instrumented(&self, own_package: bool) -> bool {
        let name = self.crate_name.as_str();
        !RUNTIME.contains(&name) && (own_package || !FOUNDATION.contains(&name))
    }

    /// The arguments to use in place of `args`, from which this call was read.
    fn rewrite(&self, plan: &Plan, own_package: bool, args: &[OsString]) -> Vec<OsString> {
        let mut new = without_lto(args);
        if let Some(sysroot) = &plan.sysroot {
            new.extend(["--sysroot".into(), sysroot.into()]);
        }
        if self.is_instrumented(own_package) {
            let hooks = plan.sysroot.as_deref().map(hooks_of);
            let flags = pipeline(hooks.as_deref()).rustc_flags();
            new.extend(flags.into_iter().map(Into::into));
            // The crate's own units are optimised together after the passes that instrument: a
            // function inlined then announces its call from inside its caller, which reports would
            // show twice.
            new.extend(["-C".into(), "lto=off".into()]);
        } else {
            new = with_twins(&new);
            new.extend(plain_flags());
        }
        if self.crate_name == DETECTOR {
            new.extend(["--cfg".into(), MARK.into()]);
        }
        // A report without lines and names is of little use. Of an inlined function, line tables
        // alone have the last part of the name, which may be `call` or `{closure#0}`.
        if !matches!(
            self.debug_info.as_deref(),
            Some("1" | "limited" | "2" | "full")
        ) {
            new.extend(["-C".into(), "debuginfo=1".into()]);
        }
        new.extend(["-C".into(), "strip=none".into()]);
        new
    }
}

const DETECTOR: &str = "raddle_race";
/// Tells the detector, when it is compiled, that it is for instrumented code.
pub(crate) const MARK: &str = "raddle_race_instrumented";

fn plain_flags() -> impl Iterator<Item = OsString> {
    PLAIN.iter().flat_map(|flag| ["-C".into(), flag.into()])
}

/// The file of a crate's twin beside the crate's own: `libx-0123.rlib`, `libx-0123-plain.rlib`.
fn twin_file(file: &str) -> String {
    match file.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}{TWIN}.{extension}"),
        None => format!("{file}{TWIN}"),
    }
}

/// `args` with the twins of [`SHARED`] crates in their places.
fn with_twins(args: &[OsString]) -> Vec<OsString> {
    let mut is_extern = false;
    let twin = |arg: &OsString| {
        let was_extern = std::mem::replace(&mut is_extern, arg == "--extern");
        let text = arg.to_str().filter(|_| was_extern)?;
        let (name, file) = text.split_once('=')?;
        // `noprelude:name` and the like.
        let name_alone = name.rsplit(':').next()?;
        let is_shared = SHARED.contains(&name_alone);
        is_shared.then(|| format!("{name}={}", twin_file(file)).into())
    };
    let mut twin = twin;
    args.iter()
        .map(|arg| twin(arg).unwrap_or_else(|| arg.clone()))
        .collect()
}

/// What compiles the twin of a crate, in place of `args`.
fn twin_args(plan: &Plan, args: &[OsString]) -> Vec<OsString> {
    let mut new = with_twins(&without_lto(args));
    for arg in &mut new {
        let Some(text) = arg.to_str() else { continue };
        if let Some(suffix) = text.strip_prefix("extra-filename=") {
            *arg = format!("extra-filename={suffix}{TWIN}").into();
        } else if text.starts_with("--emit=") {
            *arg = "--emit=metadata,link".into();
        }
    }
    if let Some(sysroot) = &plan.sysroot {
        new.extend(["--sysroot".into(), sysroot.into()]);
    }
    new.extend(["-C".into(), format!("metadata=raddle{TWIN}").into()]);
    new.extend(plain_flags());
    new
}

/// `args` without the code generation options for link-time optimisation between crates. That runs
/// after the passes that instrument, and does not know them: code of a plain crate would be mixed in
/// unseen. What the profile loses is speed, not behaviour.
fn without_lto(args: &[OsString]) -> Vec<OsString> {
    let is_lto = |option: &str| {
        let name = option.split('=').next().unwrap_or_default();
        ["lto", "linker-plugin-lto", "embed-bitcode"].contains(&name)
    };
    let mut kept = Vec::with_capacity(args.len());
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        match text
            .strip_prefix("-C")
            .or_else(|| text.strip_prefix("--codegen="))
        {
            Some("")
                if args
                    .peek()
                    .is_some_and(|next| is_lto(&next.to_string_lossy())) =>
            {
                args.next();
            }
            Some(option) if is_lto(option) => {}
            _ => kept.push(arg.clone()),
        }
    }
    kept
}

/// Acts as `rustc`, which cargo passes as the first of `args`.
pub(crate) fn rustc(plan: &Plan, args: &[OsString]) -> Result<ExitCode> {
    let (rustc, args) = args.split_first().context("no compiler to wrap")?;
    let compiler = || match &plan.rustc_wrapper {
        None => Command::new(rustc),
        Some(wrapper) => {
            let mut command = Command::new(wrapper);
            command.arg(rustc);
            command
        }
    };
    let given = Given::read(args)?;
    let call = Call::parse(&given.args);
    // Build scripts try out the compiler; some link, and would miss the detector.
    let by_build_script = env::var_os("CARGO_CFG_TARGET_ARCH").is_some();
    if call.version || !call.is_for_target() || by_build_script {
        let mut command = compiler();
        command.args(args);
        return match call.version {
            true => version(plan, command),
            false => exec(command),
        };
    }

    if call.static_c {
        bail!(
            "a program with a static C library cannot be watched: the detector stands between the program and a shared one's \
             functions, and looks them up by name; leave `-C target-feature=+crt-static` out of the flags for this build"
        );
    }
    // Nothing is linked yet that the runtime could be given to.
    if call.has_type("staticlib") && call.is_without_detector(plan) {
        const WHY: &str = "a static library for C has no detector in it unless it uses raddle, and cannot be linked without: let it \
                           call `raddle::run`, or make it a `cdylib`";
        if call.is_only("staticlib") {
            bail!(WHY);
        }
        // The others are good.
        eprintln!("raddle: warning: {WHY}");
    }
    let own_package = env::var_os("CARGO_PRIMARY_PACKAGE").is_some();
    if !own_package && SHARED.contains(&call.crate_name.as_str()) {
        // First, since cargo goes on to what depends on the crate as soon as its own metadata are there.
        let output = given.output(compiler(), &twin_args(plan, &given.args))?;
        if !output.status.success() {
            io::stderr().write_all(&output.stderr)?;
            return Ok(exit_code(output.status));
        }
    }
    let mut args = call.rewrite(plan, own_package, &given.args);
    if !call.is_program() {
        return given.run(compiler(), &args);
    }
    if !call.is_plain(plan) {
        let output = given.output(compiler(), &args)?;
        if !lacks_detector(&output) {
            io::stderr().write_all(&output.stderr)?;
            return Ok(exit_code(output.status));
        }
        // Raddle is among its dependencies, but no line of code refers to it: rustc left it out.
    }
    let runtime = Runtime::ensure(&Toolchain::find()?, plan.sysroot.as_deref())?;
    args.extend(runtime.flags.iter().map(Into::into));
    let exit_code = given.run(compiler(), &args)?;
    if let Some(output) = call.output {
        depend_on(&output, &runtime.rlibs)?;
    }
    Ok(exit_code)
}

/// Acts as rustdoc.
pub(crate) fn rustdoc(plan: &Plan, args: &[OsString]) -> Result<ExitCode> {
    let mut command = Command::new(&plan.rustdoc);
    let given = Given::read(args)?;
    let call = Call::parse(&given.args);
    if !call.test || !call.is_for_target() {
        command.args(args);
        return exec(command);
    }
    let mut args = call.rewrite(plan, true, &given.args);
    // rustdoc links many programs, of which some may name Raddle and some not. To those that do, the libraries come last and
    // add nothing: what they define is defined.
    let runtime = Runtime::ensure(&Toolchain::find()?, plan.sysroot.as_deref())?;
    args.extend(runtime.flags.iter().map(Into::into));
    given.run(command, &args)
}

/// Did linking fail because nobody defines what the inserted calls refer to?
fn lacks_detector(output: &Output) -> bool {
    !output.status.success() && names_detector(&String::from_utf8_lossy(&output.stderr))
}

/// Does a linker say here that a function of the detector's is undefined? Of thousands it may name any few. rustc has it speak English.
fn names_detector(text: &str) -> bool {
    const UNDEFINED: [&str; 2] = ["undefined symbol: ", "undefined reference to `"];
    const DETECTOR: [&str; 2] = ["raddle_race_", "__tsan_"];
    UNDEFINED.iter().any(|what| {
        let mut names = text.split(what).skip(1);
        names.any(|name| DETECTOR.iter().any(|prefix| name.starts_with(prefix)))
    })
}

/// Tells cargo that the program at `output` is out of date when one of `files` changes: it reads the compiler's notes on that.
fn depend_on(output: &Path, files: &[PathBuf]) -> Result<()> {
    let notes = output.with_added_extension("d");
    let Ok(text) = fs::read_to_string(&notes) else {
        return Ok(()); // none were asked for
    };
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    // cargo reads the first rule only.
    if let Some(rule) = lines.iter_mut().find(|line| line.contains(": ")) {
        for file in files {
            rule.push(' ');
            rule.push_str(&file.display().to_string().replace(' ', "\\ "));
        }
    }
    fs::write(&notes, lines.join("\n") + "\n")
        .with_context(|| format!("cannot write {}", notes.display()))
}

/// The arguments of a call. Where there are too many for a command line, cargo gives a file of them: `@file`.
struct Given {
    args: Vec<OsString>,
    file: Option<String>,
}

impl Given {
    fn read(args: &[OsString]) -> Result<Self> {
        let file = match args {
            [arg] => arg.to_str().and_then(|arg| arg.strip_prefix('@')),
            _ => None,
        };
        let args = match file {
            None => args.to_vec(),
            Some(file) => fs::read_to_string(file)
                .with_context(|| format!("cannot read {file}"))?
                .lines()
                .map(Into::into)
                .collect(),
        };
        Ok(Self {
            args,
            file: file.map(str::to_owned),
        })
    }

    /// Runs `command` with `args` in place of the arguments given.
    fn run(&self, command: Command, args: &[OsString]) -> Result<ExitCode> {
        Ok(exit_code(self.with(command, args, Command::status)?))
    }

    /// The same, and keeps what it says on stderr.
    fn output(&self, mut command: Command, args: &[OsString]) -> Result<Output> {
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit());
        self.with(command, args, Command::output)
    }

    /// Passes `args` to `command` in the way in which arguments were given.
    fn with<T>(
        &self,
        mut command: Command,
        args: &[OsString],
        run: impl FnOnce(&mut Command) -> io::Result<T>,
    ) -> Result<T> {
        let new_file = self.file.as_ref().map(|file| format!("{file}.raddle"));
        match &new_file {
            None => {
                command.args(args);
            }
            Some(file) => {
                let lines: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
                fs::write(file, lines.join("\n"))
                    .with_context(|| format!("cannot write {file}"))?;
                command.arg(format!("@{file}"));
            }
        }
        let program = command.get_program().to_owned();
        let result = run(&mut command);
        if let Some(file) = new_file {
            fs::remove_file(&file).with_context(|| format!("cannot remove {file}"))?;
        }
        result.with_context(|| format!("cannot run {}", program.display()))
    }
}

/// Answers `-vV` with one more line: cargo compiles again when the answer changes.
fn version(plan: &Plan, mut command: Command) -> Result<ExitCode> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let mut out = io::stdout().lock();
    out.write_all(&output.stdout)?;
    writeln!(out, "raddle-race: {}", plan.id)?;
    io::stderr().write_all(&output.stderr)?;
    Ok(exit_code(output.status))
}

/// A compiler that was killed failed.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(101))
}

/// Becomes `command`.
pub(crate) fn exec(mut command: Command) -> Result<ExitCode> {
    let error = command.exec();
    let program: &OsStr = command.get_program();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(Into::into).collect()
    }

    /// What a call becomes, as one line.
    fn rewritten(own_package: bool, line: &str) -> String {
        let args = strings(line);
        let plan = Plan {
            sysroot: Some("/cache/sysroot".into()),
            ..Plan::default()
        };
        let call = Call::parse(&args);
        assert!(call.is_for_target(), "{line}");
        let new = call.rewrite(&plan, own_package, &args);
        new.join(" ".as_ref()).into_string().unwrap()
    }

    const HOST: &str = "--target x86_64-unknown-linux-gnu";

    #[test]
    fn a_crate_of_the_program_is_instrumented() {
        let line = format!("--crate-name app src/main.rs --crate-type bin -C opt-level=3 {HOST}");
        let flags = pipeline(Some(Path::new("/cache/sysroot/hooks.bc")))
            .rustc_flags()
            .join(" ");
        assert_eq!(
            rewritten(true, &line),
            format!(
                "{line} --sysroot /cache/sysroot {flags} -C lto=off -C debuginfo=1 -C strip=none"
            )
        );
        for debug in ["-C debuginfo=2", "-Cdebuginfo=limited", "-g"] {
            let new = rewritten(true, &format!("{line} {debug}"));
            assert!(!new.contains("debuginfo=1"), "{new}");
        }
        let new = rewritten(true, &format!("{line} -C debuginfo=line-tables-only"));
        assert!(new.ends_with("-C debuginfo=1 -C strip=none"), "{new}");
    }

    #[test]
    fn the_runtime_is_fast_and_not_instrumented() {
        for name in RUNTIME {
            let line = format!("--crate-name {name} src/lib.rs --crate-type lib {HOST} --test");
            let new = rewritten(true, &line);
            assert!(!new.contains("passes="), "{new}");
            assert!(
                new.contains("--sysroot /cache/sysroot -C opt-level=3"),
                "{new}"
            );
            assert_eq!(
                new.contains("--cfg raddle_race_instrumented"),
                name == DETECTOR
            );
        }
    }

    #[test]
    fn the_runtime_is_given_the_twins_of_shared_crates() {
        let shared = "--extern crossbeam_deque=/t/libcrossbeam_deque-1.rmeta --extern noprelude:lock_api=/t/liblock_api-2.rlib";
        let twins = "--extern crossbeam_deque=/t/libcrossbeam_deque-1-plain.rmeta \
                     --extern noprelude:lock_api=/t/liblock_api-2-plain.rlib";
        let line = |name| {
            format!(
                "--crate-name {name} src/lib.rs {HOST} {shared} --extern libc=/t/liblibc-3.rmeta"
            )
        };
        assert!(rewritten(false, &line("raddle_sched")).contains(twins));
        assert!(rewritten(true, &line("app")).contains(shared));
    }

    #[test]
    fn a_twin_has_another_name_and_no_notes() {
        let args = strings(
            "--crate-name parking_lot src/lib.rs --emit=dep-info,metadata,link -C metadata=9 -C extra-filename=-9 \
             --extern lock_api=/t/liblock_api-2.rmeta",
        );
        let new = twin_args(&Plan::default(), &args).join(" ".as_ref());
        let new = new.to_str().expect("they were strings");
        assert!(
            new.contains("--emit=metadata,link -C metadata=9 -C extra-filename=-9-plain"),
            "{new}"
        );
        assert!(
            new.contains("--extern lock_api=/t/liblock_api-2-plain.rmeta"),
            "{new}"
        );
        assert!(new.contains("-C metadata=raddle-plain"), "{new}");
    }

    #[test]
    fn a_foundation_is_instrumented_only_where_it_is_the_users_own() {
        let line = format!("--crate-name object src/lib.rs --crate-type lib {HOST}");
        assert!(!rewritten(false, &line).contains("passes="));
        assert!(rewritten(true, &line).contains("passes="));
    }

    #[test]
    fn other_crates_of_the_field_are_instrumented() {
        let line = format!("--crate-name parking_lot src/lib.rs --crate-type lib {HOST}");
        assert!(rewritten(false, &line).contains("passes="));
    }

    #[test]
    fn build_scripts_and_macros_and_questions_are_left_alone() {
        for line in [
            "--crate-name build_script_build build.rs --crate-type bin",
            "--crate-name derive src/lib.rs --crate-type proc-macro",
            "--crate-name derive --crate-type=proc-macro --test --target x86_64-unknown-linux-gnu",
            "- --crate-name ___ --print=file-names --target x86_64-unknown-linux-gnu",
        ] {
            assert!(!Call::parse(&strings(line)).is_for_target(), "{line}");
        }
    }

    #[test]
    fn link_time_optimisation_is_left_out() {
        let line = "-C lto -C opt-level=3 -Clto=thin -C linker-plugin-lto --codegen=embed-bitcode=no -C link-arg=-s";
        let kept = without_lto(&strings(line));
        assert_eq!(kept, strings("-C opt-level=3 -C link-arg=-s"));
    }

    #[test]
    fn output_and_source_are_known() {
        let line =
            format!("--crate-name app src/main.rs --out-dir /t/deps -C extra-filename=-1f {HOST}");
        let call = Call::parse(&strings(&line));
        assert_eq!(call.output.as_deref(), Some(Path::new("/t/deps/app-1f")));
        assert_eq!(call.source.as_deref(), Some(Path::new("src/main.rs")));
    }

    #[test]
    fn a_static_c_library_is_noticed() {
        let is_static = |line: &str| Call::parse(&strings(line)).static_c;
        assert!(is_static("-C target-feature=+sse4.2,+crt-static"));
        assert!(!is_static(
            "-Ctarget-feature=+crt-static -C target-feature=-crt-static"
        ));
        assert!(!is_static("-C target-feature=+avx"));
    }

    #[test]
    fn a_missing_detector_is_known_by_any_of_its_functions() {
        for text in [
            "rust-lld: error: undefined symbol: other\nrust-lld: error: undefined symbol: raddle_race_read8_v1",
            "app.o: in function `main':\nundefined reference to `__tsan_func_entry'",
        ] {
            assert!(names_detector(text), "{text}");
        }
        for text in [
            "undefined symbol: other, called by raddle_race_current",
            "multiple definition of `__tsan_read8'",
        ] {
            assert!(!names_detector(text), "{text}");
        }
    }

    #[test]
    fn a_file_of_arguments_is_read() {
        let file = env::temp_dir().join(format!("raddle-args-test-{}", std::process::id()));
        fs::write(&file, "--crate-name\nan app\n--test").unwrap();
        let given = Given::read(&[format!("@{}", file.display()).into()]).unwrap();
        fs::remove_file(&file).unwrap();
        let call = Call::parse(&given.args);
        assert_eq!((call.crate_name.as_str(), call.test), ("an app", true));
        assert!(given.file.is_some());
    }
}
