//! The examples of the repository, run as their reader would, against a gateway that was given no configuration.

use std::path::{Path, PathBuf};
use std::process::Command;

use witgate_tests::Gateway;
use witgate_tests::gateway::Launch;
use witgate_tests::tool::{finish, is_there, once, repository, target_folder};

use super::{OPENAI_NODE, OPENAI_PYTHON, openai_python_packages};

/// What the chat examples print, whichever language they are in.
const CHAT: &str = "hello out there\nhello out there\n6 tokens\n";

// parity: 166
#[test]
fn the_examples_in_python_run() {
    if !is_there("python3") {
        return;
    }
    let required = read(&example("python/requirements.txt"));
    assert_eq!(required.trim(), format!("openai=={OPENAI_PYTHON}"), "the version that is tested");
    let (python, gateway) = (openai_python_packages(), Launch::default().start_embedded());
    let run = |name: &str| against(&gateway, Command::new(&python).arg("-B").arg(example(name)));
    assert_eq!(run("python/chat.py"), CHAT);
    let printed = run("python/asynchronous.py");
    let (answers, refusal) = printed.trim_end().rsplit_once('\n').expect("it prints several lines");
    assert_eq!(answers, "the first\nthe second\nthe third");
    let id = refusal.strip_prefix("refused with 404, request ").unwrap_or_else(|| panic!("{refusal:?}"));
    assert!(!id.is_empty() && id != "None", "{refusal:?}");
    let count = std::fs::read_dir(example("python")).expect("it is a folder").count();
    assert_eq!(count, 3, "every example is run here");
}

// parity: 166
#[test]
fn the_example_in_typescript_compiles_and_runs() {
    if !is_there("node") || !is_there("npm") {
        return;
    }
    let folder = target_folder("sdk-examples", "typescript");
    let package = read(&example("typescript/package.json"));
    assert!(package.contains(&format!("\"openai\": \"{OPENAI_NODE}\"")), "the version that is tested");
    if std::fs::read_to_string(folder.join("package.json")).unwrap_or_default() != package {
        let _ = std::fs::remove_file(folder.join("installed"));
    }
    once(&folder, || {
        std::fs::write(folder.join("package.json"), &package).expect("the target folder is writable");
        let install = ["install", "--no-audit", "--no-fund", "--loglevel", "error"];
        finish(Command::new("npm").current_dir(&folder).args(install));
    });
    for file in ["chat.ts", "tsconfig.json"] {
        std::fs::copy(example("typescript").join(file), folder.join(file))
            .expect("the target folder is writable");
    }
    let gateway = Launch::default().start_embedded();
    let printed = against(&gateway, Command::new("npm").current_dir(&folder).args(["--silent", "start"]));
    assert_eq!(printed, CHAT);
}

// parity: 166
#[test]
fn the_example_without_an_sdk_runs() {
    if !is_there("curl") {
        return;
    }
    let gateway = Launch::default().start_embedded();
    let printed = against(&gateway, &mut Command::new(example("curl.sh")));
    for text in [
        "\"echo-think\"",
        "\"content\":\"hello out there\"",
        "data: [DONE]",
        "x-witgate-upstream: echo",
        "x-request-id: ",
    ] {
        assert!(printed.contains(text), "{text:?} is in:\n{printed}");
    }
}

fn example(name: &str) -> PathBuf {
    repository().join("examples").join(name)
}

#[track_caller]
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs an example that asks this gateway, whatever the environment of the tests says, and returns what it printed.
#[track_caller]
fn against(gateway: &Gateway, command: &mut Command) -> String {
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    for name in ["MODEL", "WITGATE_KEY"] {
        command.env_remove(name);
    }
    finish(command.env("WITGATE_URL", format!("{}/v1", gateway.url())))
}
