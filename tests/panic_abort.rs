//! Programs that are built with `panic = "abort"`: what needs no unwinding works, the rest says what is wrong.
//!
//! The profile is a whole program's, so a package of its own is built, below cargo's directory for tests.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = r#"
    #[raddle::main]
    fn main() {
        let (tx, rx) = raddle::chan::bounded(0);
        raddle::go(move || tx.send(1).unwrap());
        println!("{:?}", rx.recv());
        println!("{}", raddle::blocking(|| 2));
        if raddle::args().nth(1).is_some() {
            drop(raddle::go(|| { raddle::exit(); }).join());
        }
    }
"#;

fn run(program: &Path, arguments: &[&str]) -> (Output, String) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, errors)
}

#[test]
fn exit_says_why_it_aborts() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic_abort");
    fs::create_dir_all(package.join("src")).unwrap();
    fs::write(package.join("src/main.rs"), PROGRAM).unwrap();
    let manifest = format!(
        "[package]\nname = \"aborts\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         [dependencies]\nraddle = {{ path = {source:?} }}\n\
         [profile.dev]\npanic = \"abort\"\n[workspace]\n"
    );
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    // The versions that the workspace has, which are there.
    fs::copy(source.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let target = package.join("target");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--offline", "--target-dir"])
        .arg(&target)
        .current_dir(&package);
    assert!(cargo.status().unwrap().success());

    let program = target.join("debug/aborts");
    let (output, errors) = run(&program, &[]);
    assert!(
        output.status.success() && errors.is_empty(),
        "{output:?}\n{errors}"
    );
    assert_eq!(output.stdout, b"Ok(1)\n2\n");
    let (output, errors) = run(&program, &["exit"]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{errors}");
    assert_eq!(output.stdout, b"Ok(1)\n2\n");
    assert!(
        errors.starts_with("raddle: fatal: exit() at src/main.rs:9:")
            && errors.contains("built with panic = \"abort\""),
        "{errors}"
    );
}
