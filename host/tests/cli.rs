//! The binary as a shell sees it.

use std::process::{Command, Output};

fn witgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_witgate")).args(arguments).output().expect("cargo built the binary")
}

#[test]
fn help_succeeds() {
    let output = witgate(&["--help"]);
    assert!(output.status.success(), "{output:?}");
}
