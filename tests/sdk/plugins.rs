//! The plugins written in other languages than Rust: built as their how-tos say, in front of traffic.
//!
//! A component is built again only when a file it is made of has changed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use witgate_tests::gateway::Launch;
use witgate_tests::sse::chat_text;
use witgate_tests::tool::{finish, is_there, repository, target_folder};
use witgate_tests::{Gateway, Reply, Request, Upstream};

/// How long a gateway may take to start that never saw the component: it has ten megabytes and more to compile.
const COMPILE_PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn a_plugin_in_javascript_edits_requests_and_text() {
    if !is_there("node") || !is_there("npm") {
        return;
    }
    let component = build("javascript", "replace-word.wasm", &JAVASCRIPT, |folder| {
        let install = ["install", "--no-audit", "--no-fund", "--loglevel", "error"];
        finish(Command::new("npm").current_dir(folder).args(install));
        finish(Command::new("npm").current_dir(folder).args(["run", "build"]));
    });
    replaces_words(&component);
}

#[test]
fn a_plugin_in_python_refuses_requests_and_edits_answers() {
    if !is_there("python3") {
        return;
    }
    let component = build("python", "house-rules.wasm", &PYTHON, |folder| {
        finish(Command::new("python3").current_dir(folder).args(["-m", "venv", "--clear", "venv"]));
        let install =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"];
        finish(Command::new(folder.join("venv/bin/python")).current_dir(folder).args(install));
        let build = ["-d", "wit", "-w", "house-rules", "componentize", "rules", "-o", "house-rules.wasm"];
        finish(Command::new(folder.join("venv/bin/componentize-py")).current_dir(folder).args(build));
    });
    keeps_house_rules(&component);
}

const JAVASCRIPT: [&str; 3] = ["package.json", "replace-word.js", "wit/replace-word.wit"];
const PYTHON: [&str; 3] = ["requirements.txt", "rules.py", "wit/house-rules.wit"];

/// Builds an example in a folder of its own under the target folder, unless the component there was made of the same files.
#[track_caller]
fn build(language: &str, component: &str, files: &[&str], run: impl FnOnce(&Path)) -> PathBuf {
    let repository = repository();
    let example = repository.join("sdk/examples").join(language);
    let folder = target_folder("sdk-plugins", language);
    let contract = (repository.join("wit/plugin.wit"), folder.join("wit/deps/witgate/plugin.wit"));
    let copies: Vec<(PathBuf, PathBuf)> =
        files.iter().map(|file| (example.join(file), folder.join(file))).chain([contract]).collect();
    let stamp = folder.join("built");
    let component = folder.join(component);
    if !stamp.exists() || !copies.iter().all(|(from, to)| read(from) == std::fs::read(to).unwrap_or_default())
    {
        // Removed first and written last: what was broken off is built again.
        let _ = std::fs::remove_file(&stamp);
        for (from, to) in &copies {
            std::fs::create_dir_all(to.parent().expect("it is in a folder"))
                .expect("the target folder is writable");
            std::fs::write(to, read(from)).expect("the target folder is writable");
        }
        run(&folder);
        std::fs::write(&stamp, "").expect("the target folder is writable");
    }
    let bytes = read(&component);
    assert_eq!(bytes.get(..8), Some(&b"\0asm\x0d\0\x01\0"[..]), "{} is a component", component.display());
    component
}

#[track_caller]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A gateway before this upstream that runs a component; the `config` is YAML in one line.
#[track_caller]
fn gateway(upstream: &Upstream, component: &Path, config: &str) -> Gateway {
    let name = component.file_stem().expect("a component is a file").to_string_lossy();
    Launch::default().patience(COMPILE_PATIENCE).start(&format!(
        "upstreams:\n  - {{ name: one, base_url: {} }}\nplugins:\n  - name: {name}\n    source: {}\n    config: {config}\n",
        upstream.url(),
        component.display(),
    ))
}

#[track_caller]
fn replaces_words(component: &Path) {
    // The word is cut, begins without going on, and is what the answer ends with, half.
    let pieces = ["The colo", "ur of cola, ", "colour", "färben: col", "o", "urcolour, co"];
    let expected = "The color of cola, colorfärben: colorcolor, co";
    let upstream = Upstream::new(move |request| Reply::chat_as_asked(request, &pieces));
    let gateway = gateway(&upstream, component, "{ find: colour, replace: color, temperature: 0.5 }");

    let whole = gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(whole.json()["choices"][0]["message"]["content"], expected);
    assert_eq!(upstream.last().json()["temperature"], 0.5);

    let stream = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!(chat_text(&stream.body), expected);
    assert_eq!(stream.events().last().map(String::as_str), Some("[DONE]"));

    let warm =
        serde_json::json!({"model": "m", "temperature": 1, "messages": [{"role": "user", "content": "hi"}]});
    gateway.send(&Request::post("/v1/chat/completions", warm.to_string())).expect(200);
    assert_eq!(upstream.last().json()["temperature"], 1);

    check_refused(component, "{ find: colour }", "`replace` must be the word to write instead");
    check_refused(component, "{ finde: colour }", "`finde` is no setting");
}

#[track_caller]
fn keeps_house_rules(component: &Path) {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["Good ", "day"]));
    let gateway = gateway(&upstream, component, "{ blocked: [Moon base], notice: written by a machine }");

    let whole = gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(whole.header("x-notice"), Some("written by a machine"));
    assert_eq!(whole.json()["notice"], "written by a machine");
    assert_eq!(whole.json()["choices"][0]["message"]["content"], "Good day");

    let stream = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!(stream.header("x-notice"), Some("written by a machine"));
    assert_eq!(chat_text(&stream.body), "Good day");

    let asked = upstream.count();
    for request in [Request::chat("Where is the moon BASE?"), Request::chat_stream("Where is the moon BASE?")]
    {
        let refused = gateway.send(&request).expect(400);
        assert_eq!(refused.error_code(), "content_policy_violation");
        assert_eq!(refused.error_message(), "message 0 mentions `moon base`");
    }
    assert_eq!(upstream.count(), asked, "what is refused goes nowhere");

    check_refused(component, "{ notice: \"zwei\\nZeilen\" }", "`notice` must be a line of printable ASCII");
    check_refused(component, "{ notice: a, block: [b] }", "`block` is no setting");
}

/// A gateway does not start with this `config`, and says what the plugin said.
#[track_caller]
fn check_refused(component: &Path, config: &str, message: &str) {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("witgate.yaml");
    let text = format!(
        "upstreams:\n  - {{ name: one, base_url: \"http://127.0.0.1:9/v1\" }}\nplugins:\n  - name: refused\n    source: {}\n    config: {config}\n",
        component.display(),
    );
    std::fs::write(&file, text).expect("the temporary folder is writable");
    let mut command = witgate_tests::gateway::command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"]).arg(file);
    let output = command.output().expect("the binary can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "started with {config}:\n{said}");
    assert!(said.contains(message), "{config}: no `{message}` in\n{said}");
}
