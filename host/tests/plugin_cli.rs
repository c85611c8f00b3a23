//! `witgate plugin` as an author uses it: from nothing to a plugin that serves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const HOOKS: [&str; 10] = [
    "authenticate",
    "on-request",
    "on-route",
    "on-upstream-request",
    "on-response",
    "stream-text",
    "stream-events",
    "on-error",
    "on-complete",
    "on-tick",
];

/// A place of its own that stays, so that the next run compiles only what changed.
fn place() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-journey")
}

fn command(program: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", place().join("target"))
        // What the plugins of the workspace are built from is enough.
        .env("CARGO_NET_OFFLINE", "true");
    command
}

fn witgate(folder: &Path, arguments: &[&str]) -> Output {
    command(env!("CARGO_BIN_EXE_witgate"), folder, arguments).output().expect("cargo built the binary")
}

/// What a command says to standard output and standard error; it has to succeed.
#[track_caller]
fn says(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{error}", output.status);
    (out, error)
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is in:\n{text}");
    }
}

/// Runs the binary, which has to fail, and looks for texts in what it says.
#[track_caller]
fn refuses(arguments: &[&str], code: i32, parts: &[&str]) {
    let folder = tempfile::tempdir().expect("a test machine can do this");
    fs::write(folder.path().join("module.wasm"), b"\0asm\x01\0\0\0").expect("a test machine can do this");
    fs::write(folder.path().join("text.wasm"), b"upstreams: []").expect("a test machine can do this");
    fs::write(folder.path().join("request.json"), br#"{"messages":[]}"#).expect("a test machine can do this");
    let output = witgate(folder.path(), arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    has(&String::from_utf8_lossy(&output.stderr), parts);
}

#[test]
fn from_nothing_to_a_plugin_that_serves() {
    let place = place();
    let folder = place.join("journey");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&place).expect("a test machine can do this");

    let mut arguments = vec!["plugin", "new", "journey"];
    arguments.extend(HOOKS.iter().flat_map(|hook| ["--hook", *hook]));
    let (out, _) = says(&witgate(&place, &arguments));
    has(
        &out,
        &[
            "wrote the plugin `journey`",
            "cargo test",
            "witgate plugin build",
            "witgate --config witgate.yaml",
        ],
    );

    let formatted = command("cargo", &folder, &["fmt", "--check"]).output();
    match formatted {
        Ok(formatted) if String::from_utf8_lossy(&formatted.stderr).contains("is not installed") => {
            println!("skipped: rustfmt not found");
        }
        formatted => drop(says(&formatted.expect("cargo runs this test"))),
    }
    let (out, error) = says(&command("cargo", &folder, &["test"]).output().expect("cargo runs this test"));
    has(&out, &["11 passed", "0 failed"]);
    assert!(!error.contains("warning"), "{error}");

    let (out, _) = says(&witgate(&folder, &["plugin", "build"]));
    has(
        &out,
        &[
            "journey.wasm\n",
            "hooks       authenticate, on-request,",
            "plugins:\n  - name: journey\n    source: /",
        ],
    );

    let (out, _) = says(&witgate(&folder, &["plugin", "inspect", "journey.wasm", "--json"]));
    let about: serde_json::Value = serde_json::from_str(&out).expect("a test machine can do this");
    assert_eq!(about["hooks"], serde_json::json!(HOOKS));
    assert_eq!(about["schema"]["properties"]["system_prompt"]["minLength"], 1);
    assert!(about["bytes"].as_u64().expect("a test machine can do this") < 256 << 10, "{about}");

    let (out, _) = says(&witgate(&folder, &["plugin", "check", "journey.wasm"]));
    has(&out, &["journey.wasm: ok (authenticate, "]);
    let refused = witgate(&folder, &["plugin", "check", "journey.wasm", "--config", r#"{"interval_s": 0}"#]);
    assert_eq!(refused.status.code(), Some(1));
    has(&String::from_utf8_lossy(&refused.stderr), &["`config.interval_s`", "minimum of 1"]);

    runs(&folder);
    serves(&folder);

    let (out, _) = says(&witgate(&folder, &["plugin", "bench", "journey.wasm", "--iterations", "20"]));
    has(&out, &["start: instance and init", "on-request", "stream-events: a read of 64 events", "on-tick"]);
}

/// One request of each kind through the plugin.
fn runs(folder: &Path) {
    let (out, error) =
        says(&witgate(folder, &["plugin", "run", "journey.wasm", "--request", "request.json"]));
    has(&out, &["\"***.\"", "data: [DONE]"]);
    has(
        &error,
        &["x-source: witgate", "Answer briefly.", "labels=\"system_prompt=added\"", "answer: 200 OK"],
    );

    let answer = r#"{"id":"1","system_fingerprint":"fp","choices":[{"index":0,"message":{"role":"assistant","content":"a secret"},"finish_reason":"stop"}]}"#;
    fs::write(folder.join("answer.json"), answer).expect("a test machine can do this");
    fs::write(folder.join("whole.json"), r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#)
        .expect("a test machine can do this");
    let arguments = ["plugin", "run", "journey.wasm", "--request", "whole.json", "--answer", "answer.json"];
    let (out, error) = says(&witgate(folder, &[&arguments[..], &["--config", r#"{"slow_ms":0}"#]].concat()));
    has(&out, &["a ***"]);
    assert!(!out.contains("fingerprint"), "{out}");
    has(&error, &["labels=\"slow="]);

    let (out, _) = says(&witgate(folder, &[&arguments[..], &["--header", "x-team: sales"]].concat()));
    has(&out, &["this team is not known"]);

    let event = |text: &str| {
        format!(
            "data: {{\"id\":\"1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        )
    };
    fs::write(folder.join("events.sse"), event("a sec") + &event("ret b") + "data: [DONE]\n\n")
        .expect("a test machine can do this");
    let arguments = ["plugin", "run", "journey.wasm", "--request", "request.json", "--stream", "events.sse"];
    let (out, _) = says(&witgate(folder, &arguments));
    has(&out, &["***", " b"]);
    assert!(!out.contains("sec"), "{out}");
}

/// The configuration beside the plugin works as it is.
fn serves(folder: &Path) {
    let arguments =
        ["--config", "witgate.yaml", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut serving = command(env!("CARGO_BIN_EXE_witgate"), folder, &arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("cargo built the binary");
    let out = BufReader::new(serving.stdout.take().expect("it was asked for"));
    let listens = out.lines().map_while(Result::ok).any(|line| line.starts_with("listening on"));
    serving.kill().expect("a test machine can do this");
    serving.wait().expect("a test machine can do this");
    assert!(listens, "the gateway does not start");
}

#[test]
fn what_cannot_be_done_is_said_with_the_way_out() {
    refuses(&["plugin", "new", "Hello"], 1, &["`Hello` cannot be the name of a plugin"]);
    refuses(&["plugin", "new", "hello", "--hook", "on-reqest"], 2, &["'on-request'", "stream-text"]);
    refuses(&["plugin", "new", "hello", "--dir", "."], 1, &["is not empty", "--dir"]);
    refuses(&["plugin", "new", "hello", "--sdk", "nowhere"], 1, &["neither a folder nor a version"]);
    refuses(&["plugin", "build"], 1, &["there is no `Cargo.toml`", "witgate plugin new"]);
    refuses(&["plugin", "inspect", "nowhere.wasm"], 1, &["`nowhere.wasm` cannot be read"]);
    refuses(&["plugin", "inspect", "module.wasm"], 1, &["a core module", "wasm32-wasip2"]);
    refuses(&["plugin", "check", "text.wasm"], 1, &["it is no WebAssembly"]);
    refuses(&["plugin", "check", "builtin:think"], 1, &["known are", "`builtin:think-strip`"]);
    refuses(
        &["plugin", "check", "builtin:think-strip", "--config", r#"{"mode":"x"}"#],
        1,
        &["`config.mode`"],
    );
    refuses(&["plugin", "check", "builtin:think-strip", "--allow", "kw: 1"], 1, &["kw"]);
    refuses(&["plugin", "run", "builtin:think-strip", "--request", "nowhere.json"], 1, &["nowhere.json"]);
    let run = ["plugin", "run", "builtin:think-strip", "--request", "request.json"];
    refuses(&[&run[..], &["--header", "x"]].concat(), 1, &["write it like"]);
    refuses(&[&run[..], &["--answer", "nowhere.json"]].concat(), 1, &["`nowhere.json` cannot be read"]);
}

#[test]
fn a_crate_that_is_no_plugin_is_told_what_to_change() {
    let folder = tempfile::tempdir().expect("a test machine can do this");
    let write = |place: &str, text: &str| {
        fs::write(folder.path().join(place), text).expect("a test machine can do this")
    };
    let manifest = "[package]\nname = \"bare\"\nedition = \"2024\"\n[lib]\npath = \"bare.rs\"\n";
    write("Cargo.toml", &format!("{manifest}[workspace]\n"));
    write("bare.rs", "");
    #[track_caller]
    fn refused(folder: &Path, part: &str) {
        let output = witgate(folder, &["plugin", "build"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        has(&String::from_utf8_lossy(&output.stderr), &[part]);
    }
    refused(folder.path(), "crate-type = [\"cdylib\"]");
    write("Cargo.toml", &format!("{manifest}crate-type = [\"cdylib\"]\n[workspace]\n"));
    refused(folder.path(), "is no plugin: it exports no hook");
    write("bare.rs", "fn");
    refused(folder.path(), "the plugin does not compile");
    let output = command(env!("CARGO_BIN_EXE_witgate"), folder.path(), &["plugin", "build"])
        .env("PATH", "")
        .output()
        .expect("cargo built the binary");
    has(&String::from_utf8_lossy(&output.stderr), &["`rustc` cannot be run", "https://rustup.rs"]);
}
