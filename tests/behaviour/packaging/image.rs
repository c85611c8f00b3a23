//! The image, as far as its Dockerfile tells, and the CPU it runs on.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use witgate_tests::Request;
use witgate_tests::gateway::{Launch, command};
use witgate_tests::sse::chat_text;
use witgate_tests::tool::{finish, is_there};

use super::{packages, parse, read, repository};

/// How long a gateway may take to start on a CPU that is emulated, where it compiles a plugin first.
const EMULATED_PATIENCE: Duration = Duration::from_secs(300);
/// The most address space of an emulator, in KiB. It keeps books on every page that is reserved, and the pool of plugin
/// instances reserves terabytes: with less to be had the gateway does without a pool.
const EMULATED_SPACE_KIB: &str = "16000000";

/// The instructions of the Dockerfile, comments left out: their names and values, in order.
#[track_caller]
fn instructions() -> Vec<(String, String)> {
    let structure =
        parse("Dockerfile", "dockerfile_parse.DockerfileParser(path, env_replace=False).structure");
    let text = |line: &Value, key: &str| line[key].as_str().expect("it is a text").to_owned();
    let lines = structure.as_array().expect("a list of instructions").iter();
    lines
        .map(|line| (text(line, "instruction"), text(line, "value")))
        .filter(|(name, _)| name != "COMMENT")
        .collect()
}

/// The instructions of the last stage, which becomes the image.
#[track_caller]
fn image() -> Vec<(String, String)> {
    let all = instructions();
    let stages: Vec<usize> = (0..all.len()).filter(|at| all[*at].0 == "FROM").collect();
    assert_eq!(stages.len(), 2, "one stage builds, the other one runs");
    assert!(all[stages[0]].1.ends_with(" AS build"), "{:?}", all[stages[0]]);
    all[stages[1]..].to_vec()
}

/// The value of the only instruction of that name.
#[track_caller]
fn only<'a>(instructions: &'a [(String, String)], name: &str) -> &'a str {
    let mut found = instructions.iter().filter(|(instruction, _)| instruction == name);
    let (_, value) = found.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(found.next().is_none(), "one {name}");
    value
}

#[track_caller]
fn json_words(value: &str) -> Vec<String> {
    serde_json::from_str(value).unwrap_or_else(|error| panic!("`{value}` is no list of words: {error}"))
}

// parity: 161
#[test]
fn the_image_does_not_run_as_root() {
    if !is_there("python3") {
        return;
    }
    let image = image();
    let user = only(&image, "USER");
    let (user, group) = user.split_once(':').expect("a user and a group");
    assert!(user.parse::<u32>().is_ok_and(|id| id > 0) && group.parse::<u32>().is_ok_and(|id| id > 0));
    let at = |name: &str| image.iter().position(|(instruction, _)| instruction == name);
    assert!(at("USER") < at("ENTRYPOINT") && at("USER") > at("VOLUME"), "the volume is made for the user");
    assert_eq!(json_words(only(&image, "VOLUME")), ["/witgate/witgate-data"]);
    assert_eq!(only(&image, "WORKDIR"), "/witgate");
}

// parity: 161
#[test]
fn the_image_checks_itself_with_nothing_but_the_binary() {
    if !is_there("python3") {
        return;
    }
    let image = image();
    let (_, check) = only(&image, "HEALTHCHECK").split_once("CMD ").expect("a command");
    assert_eq!(json_words(check), ["witgate", "health"]);
    assert_eq!(json_words(only(&image, "ENTRYPOINT")), ["witgate"]);
    assert_eq!(json_words(only(&image, "CMD")), ["serve"]);
    assert_eq!(only(&image, "STOPSIGNAL"), "SIGTERM");
    assert_eq!(only(&image, "EXPOSE"), "8000 9090");
    let labels = only(&image, "LABEL");
    for label in ["title", "description", "licenses", "version", "revision"] {
        assert!(labels.contains(&format!("org.opencontainers.image.{label}=")), "{label} is in {labels}");
    }
}

// parity: 161
#[test]
fn hadolint_has_nothing_to_say() {
    if !is_there("python3") {
        return;
    }
    let hadolint = packages().with_file_name("hadolint");
    finish(Command::new(hadolint).args(["--no-color", "Dockerfile"]).current_dir(repository()));
}

// parity: 161
#[test]
fn the_images_environment_makes_a_gateway_that_can_be_reached_and_checked() {
    if !is_there("python3") {
        return;
    }
    let image = image();
    let environment = only(&image, "ENV");
    assert!(environment.split_whitespace().any(|word| word == "HOST=0.0.0.0"), "{environment}");
    let launch = Launch::default().listening_by_itself().variable("HOST", "0.0.0.0").variable("PORT", "0");
    let gateway = launch.start_embedded();
    assert!(gateway.address().ip().is_unspecified(), "{}", gateway.address());
    assert!(gateway.admin().ip().is_loopback(), "{}", gateway.admin());
    let port = gateway.admin().port().to_string();
    let health = command().arg("health").env("HOST", "0.0.0.0").env("METRICS_PORT", port).output();
    let health = health.expect("the binary can be run");
    assert!(health.status.success(), "{health:?}");
}

// parity: 161
#[test]
fn the_build_asks_for_no_more_than_the_oldest_cpu() {
    if !is_there("python3") {
        return;
    }
    let all = instructions();
    for (name, value) in &all {
        assert!(!value.contains("target-cpu") && !value.contains("target-feature"), "{name} {value}");
    }
    for file in [".cargo/config.toml", ".cargo/config", "host/.cargo/config.toml"] {
        assert!(!repository().join(file).exists(), "`{file}` could ask for a CPU");
    }
    assert!(!read("Cargo.toml").contains("target-cpu"));
    let is_there = |text: &str| all.iter().any(|(_, value)| value.contains(text));
    assert!(is_there("rustup target add wasm32-wasip2"), "the plugins' target");
    assert!(
        is_there("--mount=type=cache,id=witgate-target-${TARGETPLATFORM}"),
        "platforms do not share objects"
    );
    assert!(is_there("cargo build --release --locked --package witgate"));
    let version = read("Cargo.toml");
    let version = version.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("it says one");
    assert!(is_there(&format!("RUST_VERSION={}", version.trim_matches('"'))), "the compiler is {version}");
}

/// A name at the top of the repository that cargo or the build script reads.
const BUILT_FROM: [&str; 9] =
    ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "host", "sdk", "plugins", "tests", "wit", "config"];

#[test]
fn what_is_built_gets_into_the_build_and_nothing_secret_does() {
    let ignored = read(".dockerignore");
    let patterns: Vec<&str> =
        ignored.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    for needed in BUILT_FROM {
        assert!(repository().join(needed).exists(), "{needed}");
        let top = |pattern: &&&str| pattern.trim_start_matches("**/").split('/').next() == Some(needed);
        assert_eq!(patterns.iter().find(top), None, "{needed} is built from");
    }
    for kept_out in [".git", "**/target", "**/witgate-data", "**/.env"] {
        assert!(patterns.contains(&kept_out), "{kept_out} is in {patterns:?}");
    }
}

// parity: 161
#[test]
fn a_cpu_without_newer_instructions_is_enough() {
    if cfg!(not(target_arch = "x86_64")) || !is_there("qemu-x86_64") {
        return;
    }
    // The first x86-64 CPUs: no AVX, no SSE 4, no SSSE3. A gateway that were built for a newer one ends by SIGILL.
    let config = "upstreams:\n  - { name: echo, base_url: \"builtin:echo\" }\nplugins:\n  - { name: hide-thinking, source: \"builtin:think-strip\" }\n";
    let home = tempfile::tempdir().expect("the temporary folder is writable");
    let home = home.path().to_str().expect("its name is UTF-8");
    let emulated =
        format!("ulimit -v {EMULATED_SPACE_KIB} && exec qemu-x86_64 -cpu qemu64 \"$0\" \"$@\"; exit 1");
    // Compiled code is kept by CPU, and this one is nobody's.
    let launch = Launch::default().after(&emulated).variable("HOME", home).patience(EMULATED_PATIENCE);
    let gateway = launch.start(config);
    let ask = |model: &str, text: &str| {
        let body = serde_json::json!({"model": model, "stream": true,
            "messages": [{"role": "user", "content": text}]});
        chat_text(&gateway.send(&Request::post("/v1/chat/completions", body.to_string())).expect(200).body)
    };
    // The first half of an answer of this model is thinking, which the plugin takes out.
    assert_eq!(ask("echo-think", "hello out there"), "out there");
    // Long enough for everything that is done in wide steps.
    let long = "wörter, \"quoted\"\n".repeat(500);
    assert_eq!(ask("echo", &long), long);
}
