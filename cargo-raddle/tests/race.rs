//! Builds and runs small packages as a user would, from an empty cache of standard libraries.
//!
//! Owns a directory below cargo's own for tests, in which it writes the packages. The compiled detector stays there from one run to the
//! next; everything else is made anew.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// The cache directory, without a standard library in it.
static CACHE: LazyLock<PathBuf> = LazyLock::new(|| {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    fs::create_dir_all(&cache).unwrap();
    for entry in fs::read_dir(&cache).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("sysroot-") && entry.path().is_dir() {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    cache
});

/// A package of its own, outside any workspace.
struct Package(PathBuf);

impl Package {
    /// `rest`: what follows the name in its manifest. `files`: paths and texts.
    fn new(name: &str, rest: &str, files: &[(&str, &str)]) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{rest}\n[workspace]\n"
        );
        for (file, text) in [("Cargo.toml", manifest.as_str())].iter().chain(files) {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-raddle"));
        command
            .arg("raddle") // as cargo does
            .args(line.split_whitespace())
            .current_dir(&self.0)
            .env("RADDLE_CACHE_DIR", &*CACHE)
            .env_remove("RADDLE_RACE")
            .env_remove("CARGO_TARGET_DIR");
        command
    }

    /// Runs `cargo raddle` with the arguments in `line`.
    fn raddle(&self, line: &str) -> Outcome {
        Outcome(self.command(line).output().unwrap())
    }
}

struct Outcome(Output);

impl Outcome {
    #[track_caller]
    fn expect(self, status: i32) -> Self {
        assert_eq!(self.0.status.code(), Some(status), "{}", self.text());
        self
    }

    #[track_caller]
    fn says(self, what: &str) -> Self {
        assert!(
            self.text().contains(what),
            "no {what:?} in:\n{}",
            self.text()
        );
        self
    }

    #[track_caller]
    fn does_not_say(self, what: &str) -> Self {
        assert!(!self.text().contains(what), "{what:?} in:\n{}", self.text());
        self
    }

    fn text(&self) -> String {
        let [out, err] = [&self.0.stdout, &self.0.stderr].map(|text| String::from_utf8_lossy(text));
        format!("{out}\n{err}")
    }
}

const RACY: &str = "
use std::cell::UnsafeCell;
use std::sync::Barrier;
use std::thread;

pub struct Shared(pub UnsafeCell<u64>);
unsafe impl Sync for Shared {}

pub fn add(shared: &Shared) {
    unsafe { *shared.0.get() += 1 } // line 10
}

/// ```should_panic
/// panic!(\"a doctest is linked and run: {}\", racy::count());
/// ```
pub fn count() -> u64 {
    let shared = Shared(UnsafeCell::new(0));
    let both_run = Barrier::new(2);
    let work = || {
        both_run.wait();
        (0..1000).for_each(|_| add(&shared));
    };
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    shared.0.into_inner()
}
";

/// Neither depends on Raddle.
fn racy(name: &str, profile: &str) -> Package {
    let files = [
        ("src/lib.rs", RACY),
        ("src/main.rs", "fn main() { racy::count(); }"),
        ("tests/it.rs", "#[test] fn counts() { racy::count(); }"),
        (
            "examples/quiet.rs",
            "fn main() { println!(\"{:?}\", std::env::var(\"RADDLE_RACE\")); }",
        ),
    ];
    Package::new(name, &format!("[lib]\nname = \"racy\"\n{profile}"), &files)
}

#[test]
fn a_race_is_reported_with_its_line() {
    let package = racy("racy", "");
    for profile in ["", "--release"] {
        package
            .raddle(&format!("run --race {profile}"))
            .expect(66)
            .says("WARNING: DATA RACE")
            .says("src/lib.rs:10");
    }
    package
        .raddle("test --race --test it")
        .expect(66)
        .says("WARNING: DATA RACE");
    package.raddle("test --race --doc").says("1 passed");
    package.raddle("run --race=exitcode=7").expect(7);
    package
        .raddle("run --race --example quiet")
        .expect(0)
        .says("Ok(\"1\")");
}

#[test]
fn paths_in_options_are_from_where_the_command_is_given() {
    let package = racy("paths", "");
    let below = package.0.join("below, and between");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("known.txt"), "race:racy::add\n").unwrap();
    fs::write(below.join("well known.txt"), "race:racy::add\n").unwrap();
    for (line, race) in [
        ("test --race=suppressions=known.txt --test it", ""),
        ("run --race=suppressions=known.txt", ""),
        ("test --race --test it", "suppressions='well known.txt'"),
        ("run --race", "suppressions='well known.txt'"),
    ] {
        let mut command = package.command(line);
        let run = command.env("RADDLE_RACE", race).current_dir(&below);
        let run = run.output().unwrap();
        Outcome(run).expect(0).does_not_say("DATA RACE");
    }
    // Cargo runs the test in the package's folder, which has no such file; the log goes where we
    // are.
    let run = package
        .command("test --race --test it")
        .env("RADDLE_RACE", "log_path=log")
        .current_dir(&below)
        .output()
        .unwrap();
    Outcome(run).expect(66).does_not_say("DATA RACE");
    let is_log = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("log.");
    assert!(
        fs::read_dir(&below)
            .unwrap()
            .any(|entry| is_log(entry.unwrap()))
    );
}

#[test]
fn the_first_race_of_the_readme_is_found() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("<<'EOF'\n").unwrap();
    let (program, _) = rest.split_once("EOF\n").unwrap();
    let package = Package::new("first-race", "", &[("src/main.rs", program)]);
    let run = package.raddle("run --race").expect(66);
    run.says("WARNING: DATA RACE").says("src/main.rs:7");
}

#[test]
fn profiles_with_link_time_optimisation_work() {
    let profile = "[profile.release]\nlto = 'fat'\ncodegen-units = 1\npanic = 'abort'\nstrip = true\n\
                   [profile.thin]\ninherits = 'release'\nlto = 'thin'\npanic = 'unwind'";
    let package = racy("optimised", profile);
    for profile in ["release", "thin"] {
        package
            .raddle(&format!("run --race --profile {profile}"))
            .expect(66)
            .says("src/lib.rs:10");
    }
}

/// std's frames and the detector's are many, and the optimiser inlines.
#[test]
fn stacks_have_every_function_of_the_program_and_no_other() {
    let main = "
mod work {
    pub static mut COUNT: u64 = 0;
    pub struct Adder(pub u64);
    impl Adder {
        pub fn add(&self) { unsafe { COUNT += self.0 } }
    }
    fn begin(name: &str, by: u64) -> std::thread::JoinHandle<()> {
        std::thread::Builder::new().name(name.into()).spawn(move || Adder(by).add()).unwrap()
    }
    #[inline(never)]
    pub fn first() -> std::thread::JoinHandle<()> { begin(\"the first of the two adders\", 1) }
    #[inline(never)]
    pub fn second() -> std::thread::JoinHandle<()> { begin(\"the second of the two adders\", 2) }
}
fn main() {
    let threads = [work::first(), work::second()];
    threads.map(|thread| thread.join().unwrap());
}
";
    for (name, profile) in [
        ("stacks", ""),
        (
            "stacks-lines",
            "[profile.release]\ndebug = 'line-tables-only'\ncodegen-units = 4",
        ),
    ] {
        let package = Package::new(name, profile, &[("src/main.rs", main)]);
        let name = name.replace('-', "_");
        for profile in ["", "--release"] {
            let mut run = package.raddle(&format!("run --race {profile}")).expect(66);
            for (first, place) in [("first", 12), ("second", 14)] {
                run = run
                    .says(&format!(
                        ") 'the {first} of the two adders' created at:\n  {name}::work::begin\n"
                    ))
                    .says(&format!("\n  {name}::work::{first}\n"))
                    .says(&format!("src/main.rs:{place}:"));
            }
            let text = run.text();
            let (_, report) = text.split_once("WARNING").unwrap();
            let mut frames: Vec<_> = report.lines().filter(|l| l.starts_with("  ")).collect();
            let all = frames.len();
            frames.retain(|line| {
                line.contains(&format!(" {name}::")) || line.contains("/src/main.rs:")
            });
            assert_eq!((all % 2, frames.len()), (0, all), "{text}");
            let adds = format!("  {name}::work::Adder::add");
            assert_eq!(
                frames.iter().filter(|line| **line == adds).count(),
                2,
                "{text}"
            );
        }
    }
}

#[test]
fn a_correct_program_is_silent() {
    let main = "
use std::sync::{Arc, Barrier, Condvar, Mutex, Once, RwLock, mpsc};
use std::thread;

fn main() {
    let (sender, receiver) = mpsc::channel();
    let state = Arc::new((Mutex::new(0), Condvar::new(), RwLock::new(vec![0]), Barrier::new(4), Once::new()));
    let threads: Vec<_> = (0..4)
        .map(|i| {
            let (sender, state) = (sender.clone(), state.clone());
            thread::spawn(move || {
                state.3.wait();
                state.4.call_once(|| state.2.write().unwrap().push(1));
                sender.send(Box::new(state.2.read().unwrap().len() + i)).unwrap();
                *state.0.lock().unwrap() += 1;
                state.1.notify_all();
            })
        })
        .collect();
    drop(state.1.wait_while(state.0.lock().unwrap(), |count| *count < 4));
    assert_eq!(receiver.iter().take(4).map(|n| *n).sum::<usize>(), 14);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    println!(\"done\");
}
";
    let package = Package::new("correct", "", &[("src/main.rs", main)]);
    for profile in ["", "--release"] {
        package
            .raddle(&format!("run --race {profile}"))
            .expect(0)
            .says("done")
            .does_not_say("DATA RACE");
    }
}

/// Helpers that are inlined even where nothing is optimised, around what Raddle itself reports.
const STACKS: &str = "
use raddle::chan::{self, Sender};
use std::hint::black_box;

#[inline(always)]
fn start(f: impl FnOnce() + Send + 'static) -> raddle::JoinHandle<()> {
    raddle::Builder::new().name(\"the one that closes\").spawn(f).unwrap()
}

#[inline(never)]
fn starts(bus: Bus) -> raddle::JoinHandle<()> {
    black_box(start(move || shuts(&bus)))
}

struct Bus(Sender<u8>);

impl Bus {
    #[inline(always)]
    fn shut(&self) { self.0.close(); }
}

#[inline(never)]
fn shuts(bus: &Bus) {
    bus.shut();
    black_box(());
}

#[inline(never)]
fn make() -> (Sender<u8>, chan::Receiver<u8>) {
    black_box(chan::bounded(1))
}

#[raddle::main]
fn main() {
    let (sender, receiver) = make();
    let bus = Bus(sender.clone());
    let closes = starts(bus);
    // Its end is waited for, and orders nothing.
    raddle::race::disable();
    closes.join().unwrap();
    raddle::race::enable();
    let _ = sender.send(1);
    drop(receiver);
}
";

/// rustc links what is named, whatever the manifest says.
#[test]
fn a_package_may_have_raddle_and_not_name_it() {
    let lib = RACY.replace("racy::", "named::")
        + "\n/// ```\n/// assert_eq!(raddle::go(|| 1).join().unwrap(), 1);\n/// ```\npub fn documented() {}";
    let uses = "fn main() { println!(\"{}\", raddle::go(|| 42).join().unwrap()) }";
    let files = [
        ("src/lib.rs", lib.as_str()),
        ("src/main.rs", "fn main() { println!(\"plain\") }"),
        ("src/bin/races.rs", "fn main() { named::count(); }"),
        ("src/bin/uses.rs", uses),
        ("src/bin/stacks.rs", STACKS),
        ("tests/plain.rs", "#[test] fn nothing() {}"),
        ("tests/uses.rs", "#[raddle::test] fn answers() {}"),
        ("examples/plain.rs", "fn main() {}"),
    ];
    let raddle = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let rest =
        format!("default-run = \"named\"\n[dependencies]\nraddle = {{ path = {raddle:?} }}\n");
    let package = Package::new("named", &rest, &files);
    package.raddle("run --race").expect(0).says("plain");
    let races = package.raddle("run --race --bin races").expect(66);
    races.says("src/lib.rs:10");
    package.raddle("run --race --bin uses").expect(0).says("42");
    for run in [
        package.raddle("run --race --bin stacks"),
        package.raddle("run --bin stacks -- --race"),
    ] {
        run.expect(66)
            .says(") 'the one that closes' created at:\n  stacks::start\n")
            .says("\n  stacks::starts\n")
            .says(" 'the one that closes':\n  stacks::Bus::shut\n")
            .says("\n  stacks::shuts\n")
            .says(" allocated by main goroutine:\n  stacks::make\n")
            .does_not_say("\n  raddle")
            .does_not_say("\n  core::");
    }
    let tests = package.raddle("test --race").expect(0);
    tests
        .says("test nothing ... ok")
        .says("test answers ... ok")
        .says("2 passed");
}

#[test]
fn without_race_it_is_cargo() {
    let package = racy("plainly", "");
    package
        .raddle("run --example quiet -q")
        .expect(0)
        .says("Err(NotPresent)");
    assert!(package.0.join("target/debug/examples/quiet").exists());
    assert!(!package.0.join("target/raddle-race").exists());
}

#[test]
fn build_scripts_and_macros_stay_plain_in_a_workspace() {
    let files = [
        (
            "build.rs",
            "fn main() { println!(\"cargo::rustc-env=BUILT={}\", std::thread::spawn(|| 42).join().unwrap()) }",
        ),
        (
            "src/main.rs",
            "use twice::twice;\nfn main() { println!(\"{}\", twice!(env!(\"BUILT\"))) }",
        ),
        (
            "twice/Cargo.toml",
            "[package]\nname = \"twice\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\nproc-macro = true\n",
        ),
        (
            "twice/src/lib.rs",
            "/// ```\n/// assert_eq!(twice::twice!(\"a\"), \"aa\");\n/// ```\n#[proc_macro]\n\
             pub fn twice(text: proc_macro::TokenStream) -> proc_macro::TokenStream { format!(\"concat!({text}, {text})\").parse().unwrap() }\n\
             #[test] fn works() {}",
        ),
    ];
    let package = Package::new("members", "[dependencies]\ntwice.path = 'twice'", &files);
    package.raddle("run --race").expect(0).says("4242");
    package
        .raddle("test --race -p twice")
        .expect(0)
        .says("test works ... ok");
}

#[test]
fn a_c_library_brings_its_detector_along() {
    let host = "
use std::ffi::{CString, c_char};
unsafe extern \"C\" {
    fn dlopen(file: *const c_char, flags: i32) -> *mut u8;
    fn dlsym(library: *mut u8, name: *const c_char) -> Option<extern \"C\" fn()>;
}
fn main() {
    let file = CString::new(std::env::args().nth(1).unwrap()).unwrap();
    let library = unsafe { dlopen(file.as_ptr(), 2) };
    assert!(!library.is_null());
    unsafe { dlsym(library, c\"run\".as_ptr()) }.unwrap()();
}
";
    let library = format!("{RACY}\n#[unsafe(no_mangle)] pub extern \"C\" fn run() {{ count(); }}");
    let package = Package::new(
        "cdy",
        "[lib]\ncrate-type = ['cdylib']",
        &[("src/lib.rs", &library), ("examples/host.rs", host)],
    );
    package.raddle("build --race").expect(0);
    // The host is not compiled for race mode.
    let library = package
        .0
        .join("target/raddle-race/x86_64-unknown-linux-gnu/debug/libcdy.so");
    let run = package
        .command("run --example host")
        .arg(library)
        .env("RADDLE_RACE", "1")
        .output()
        .unwrap();
    Outcome(run).expect(66).says("src/lib.rs:10");
}

/// Links `main.c` with a library of a package that uses Raddle, and runs it in race mode.
#[test]
fn libraries_for_c_are_linked_and_watched() {
    let library = format!(
        "{RACY}\n#[unsafe(no_mangle)] pub extern \"C\" fn work() -> u32 {{ raddle::run(|| raddle::go(|| 42).join().unwrap()) }}\n\
         #[unsafe(no_mangle)] pub extern \"C\" fn race() {{ count(); }}"
    );
    let main = "#include <stdio.h>\nunsigned work(void); void race(void);\n\
                int main(int n, char **v) { printf(\"%u\\n\", work()); if (n > 1) race(); return 5; }\n";
    let raddle = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let rest = format!(
        "[lib]\ncrate-type = ['cdylib', 'staticlib']\n[dependencies]\nraddle = {{ path = {raddle:?} }}\n"
    );
    let package = Package::new(
        "for_c",
        &rest,
        &[("src/lib.rs", &library), ("main.c", main)],
    );
    package.raddle("build --race").expect(0);
    let built = "target/raddle-race/x86_64-unknown-linux-gnu/debug";
    let links = [
        (
            "static",
            format!("{built}/libfor_c.a -lpthread -ldl -lm -lgcc_s"),
        ),
        (
            "shared",
            format!(
                "-L{built} -l:libfor_c.so -Wl,-rpath,{}/{built}",
                package.0.display()
            ),
        ),
    ];
    for (program, libraries) in links {
        let mut cc = Command::new("cc");
        cc.args(["main.c", "-o", program])
            .args(libraries.split(' '));
        Outcome(cc.current_dir(&package.0).output().unwrap()).expect(0);
        let run = |race: &str, arguments: &[&str]| {
            let mut command = Command::new(package.0.join(program));
            let run = command.args(arguments).env("RADDLE_RACE", race).output();
            Outcome(run.unwrap()).says("42\n")
        };
        run("0", &["race"]).expect(5).does_not_say("DATA RACE");
        run("1", &[]).expect(5).does_not_say("DATA RACE");
        run("1", &["race"]).expect(66).says("src/lib.rs:10");
    }
}

/// What is only warned of is good for all but C.
#[test]
fn a_static_library_without_a_detector_is_refused() {
    for (kinds, status, how) in [
        ("'staticlib'", 101, "raddle: error: "),
        ("'staticlib', 'rlib'", 0, "raddle: warning: "),
    ] {
        let rest = format!("[lib]\ncrate-type = [{kinds}]\n");
        let package = Package::new("static_c", &rest, &[("src/lib.rs", RACY)]);
        package
            .raddle("build --race")
            .expect(status)
            .says(&format!("{how}a static library for C has no detector"))
            .says("make it a `cdylib`");
    }
}

/// Then the linker keeps what nobody refers to, and asks for all that it refers to.
#[test]
fn a_program_with_its_dead_code_is_linked_and_watched() {
    let package = racy("dead", "");
    for profile in ["", "--release"] {
        let run = package
            .command(&format!("run --race {profile}"))
            .env("RUSTFLAGS", "-C link-dead-code")
            .output();
        Outcome(run.unwrap()).expect(66).says("src/lib.rs:10");
    }
}

/// The library asks for memory in its constructor, before instrumented code has shadow to look at.
#[test]
fn a_malloc_of_ld_preload_is_watched() {
    let package = racy("preloaded", "");
    package.raddle("build --race").expect(0);
    let source = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../race/tests/interpose/malloc.c"
    );
    let mut cc = Command::new("cc");
    cc.args([
        "-shared",
        "-fPIC",
        "-O1",
        "-DOBEYS",
        source,
        "-o",
        "libheap.so",
    ]);
    Outcome(cc.current_dir(&package.0).output().unwrap()).expect(0);
    let program = "target/raddle-race/x86_64-unknown-linux-gnu/debug/preloaded";
    for (race, status) in [("0", 0), ("1", 66)] {
        let run = Command::new(package.0.join(program))
            .env("RADDLE_RACE", race)
            .env("LD_PRELOAD", package.0.join("libheap.so"))
            .output();
        Outcome(run.unwrap()).expect(status);
    }
}

/// A toolchain that has all of the one in use but its linker, by links.
fn without_linker() -> PathBuf {
    let printed = Command::new("rustc").args(["--print", "sysroot"]).output();
    let printed = String::from_utf8(printed.unwrap().stdout).unwrap();
    let (from, to) = (
        Path::new(printed.trim_end()),
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-linker"),
    );
    if to.exists() {
        fs::remove_dir_all(&to).unwrap();
    }
    let target = "lib/rustlib/x86_64-unknown-linux-gnu";
    fs::create_dir_all(to.join(target)).unwrap();
    fs::create_dir_all(to.join("bin")).unwrap();
    let libraries = format!("{target}/lib");
    std::os::unix::fs::symlink(from.join(&libraries), to.join(libraries)).unwrap();
    let rustc = format!(
        "#!/bin/sh\nexec {:?} --sysroot {to:?} \"$@\"\n",
        from.join("bin/rustc")
    );
    fs::write(to.join("bin/rustc"), rustc).unwrap();
    fs::set_permissions(to.join("bin/rustc"), Permissions::from_mode(0o755)).unwrap();
    to
}

#[test]
fn without_the_toolchains_linker_a_plain_std_does() {
    let package = racy("plain-std", "");
    let rustc = without_linker().join("bin/rustc");
    let run = package
        .command("run --race --release")
        .env("RUSTC", rustc)
        .output();
    Outcome(run.unwrap())
        .expect(66)
        .says("this toolchain has no rust-lld")
        .says("going on with a plain std")
        .says("WARNING: DATA RACE")
        .says("src/lib.rs:10");
}

#[test]
fn race_options_are_looked_at_before_anything_is_built() {
    let package = racy("hasty", "");
    for line in [
        "run --race=help",
        "test --race=help",
        "build --race=exitcode=3,help",
    ] {
        let help = package.raddle(line).expect(0).says("  halt_on_error  ");
        help.says("race_top:PATTERN").does_not_say("Compiling");
    }
    for (line, what) in [
        ("run --race=colour=red", "unknown race option `colour`"),
        ("build --race=exitcode=300", "give a number from 0 to 255"),
        (
            "test --race=suppressions=gone.txt",
            "cannot read `gone.txt`",
        ),
        (
            "bench --race=log_path=no/such/log",
            "cannot write `no/such/log.",
        ),
    ] {
        package
            .raddle(line)
            .expect(2)
            .says(what)
            .says("raddle: error: ");
    }
    let of_environment = package
        .command("run --race")
        .env("RADDLE_RACE", "halt")
        .output()
        .unwrap();
    Outcome(of_environment)
        .expect(2)
        .says("`halt` is not of the form key=value");
    assert!(!package.0.join("target").exists(), "nothing was built");
}

#[test]
fn mistakes_say_what_to_do() {
    let package = racy("mistaken", "");
    package.raddle("bulid --race").expect(2).says("build");
    package
        .raddle("build --race --target wasm32-unknown-unknown")
        .expect(2)
        .says("x86_64-unknown-linux-gnu");
    let flags = "-C target-feature=+crt-static";
    let fixed = package
        .command("build --race")
        .env("RUSTFLAGS", flags)
        .output();
    Outcome(fixed.unwrap())
        .expect(101) // cargo's
        .says("a program with a static C library cannot be watched")
        .says("leave `-C target-feature=+crt-static` out");
    let nowhere = package
        .command("build --race")
        .env("RADDLE_CACHE_DIR", "/proc/nowhere")
        .output()
        .unwrap();
    Outcome(nowhere).expect(2).says("RADDLE_CACHE_DIR");
}
