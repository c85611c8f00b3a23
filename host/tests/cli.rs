//! The binary as a shell sees it.

use std::process::{Command, Output};

fn witgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_witgate")).args(arguments).output().expect("cargo built the binary")
}

/// Runs the binary and looks for texts in what it says to standard output, or to standard error when it fails.
#[track_caller]
fn check(arguments: &[&str], code: i32, texts: &[&str]) {
    let output = witgate(arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let (said, silent) =
        if code == 0 { (output.stdout, output.stderr) } else { (output.stderr, output.stdout) };
    let said = String::from_utf8_lossy(&said);
    for text in texts {
        assert!(said.contains(text), "{text:?} is in:\n{said}");
    }
    assert!(silent.is_empty(), "the other stream says {:?}", String::from_utf8_lossy(&silent));
}

#[test]
fn help_names_every_subcommand_and_flag() {
    check(
        &["--help"],
        0,
        &["Usage: witgate", "serve", "check", "explain", "health", "simulate", "--config <FILE>"],
    );
    // parity: 49
    check(
        &["serve", "--help"],
        0,
        &["--listen", "--admin", "--proxy-port", "--metrics-port", "--openai-domain"],
    );
    check(&["explain", "--help"], 0, &["--request <FILE>"]);
    check(&["health", "--help"], 0, &["--url <URL>"]);
    check(&["simulate", "--help"], 0, &["--trace <FILE>", "--nodes", "--blocks", "--json"]);
}

#[test]
fn version_is_the_crates() {
    let output = witgate(&["--version"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), concat!("witgate ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn what_cannot_be_understood_is_said_and_exits_with_two() {
    check(&["--nonsense"], 2, &["unexpected argument '--nonsense'", "--help"]);
    check(&["nonsense"], 2, &["unrecognized subcommand 'nonsense'"]);
    check(&["serve", "--listen", "here"], 2, &["invalid value 'here'", "--listen"]);
    check(&["explain"], 2, &["--request <FILE>"]);
    check(&["serve", "--listen", "127.0.0.1:0", "--proxy-port", "1"], 2, &["cannot be used with"]);
    check(&["--listen", "127.0.0.1:0", "check"], 2, &["the flags of `serve` stand behind `serve`"]);
}

#[test]
fn a_file_that_is_not_there_exits_with_one() {
    check(&["check", "--config", "not-there.yaml"], 1, &["not-there.yaml"]);
    check(&["serve", "--config", "not-there.yaml"], 1, &["not-there.yaml"]);
    check(&["simulate", "--trace", "not-there.jsonl"], 1, &["not-there.jsonl"]);
}
