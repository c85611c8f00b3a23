//! Programs and packages that a test needs besides the gateway.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Whether a program can be run; without it the test is skipped, or fails under `WITGATE_TESTS_STRICT=1`.
///
/// # Panics
/// When it is not there and the tests are strict.
#[track_caller]
pub fn is_there(program: &str) -> bool {
    if Command::new(program).arg("--version").output().is_ok() {
        return true;
    }
    let is_strict = std::env::var_os("WITGATE_TESTS_STRICT").is_some_and(|value| value == "1");
    assert!(!is_strict, "{program} not found");
    println!("skipped: {program} not found");
    false
}

/// A folder of that name in one of that kind under the target folder, which outlives single builds.
///
/// # Panics
/// When it cannot be made.
pub fn target_folder(kind: &str, name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let target = test.ancestors().nth(3).expect("tests run from target/<profile>/deps");
    let folder = target.join(kind).join(name);
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}

/// Installs into a folder, unless that has been done to the end before. Tests that install at once take turns.
///
/// # Panics
/// When the folder cannot be written to.
pub fn once(folder: &Path, install: impl FnOnce()) {
    static TURN: Mutex<()> = Mutex::new(());
    // What one test failed to install the next one tries again.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let stamp = folder.join("installed");
    if !stamp.exists() {
        install();
        std::fs::write(stamp, "").expect("the target folder is writable");
    }
}

/// Runs a command to its end and returns what it printed to standard output.
///
/// # Panics
/// When it fails; the message is what it printed.
#[track_caller]
pub fn finish(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// A Python with packages, each with its version: `["openai==1.2.3"]`. They are installed once, under this
/// name: others take another one.
///
/// # Panics
/// When they cannot be installed.
#[track_caller]
pub fn python(name: &str, packages: &[&str]) -> PathBuf {
    let folder = target_folder("sdk-packages", name);
    let python = folder.join("bin/python");
    once(&folder, || {
        finish(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        finish(Command::new(&python).args(install).args(packages));
    });
    python
}

/// The folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the repository")
}
