//! What makes a gateway refuse a configuration because of its plugins, and in which words.

use std::path::Path;

use sha2::{Digest, Sha256};
use witgate_tests::gateway::command;

use super::component::{TICKING, component};
use super::{FAULTY, GRANTS, PROBE};

/// What a gateway says that does not start with these plugins.
#[track_caller]
fn refusal(folder: &Path, plugins: &str) -> String {
    refusal_before("{ name: one, base_url: \"http://127.0.0.1:9/v1\" }", folder, plugins)
}

/// What one says that does not start with these plugins before this upstream.
#[track_caller]
fn refusal_before(upstream: &str, folder: &Path, plugins: &str) -> String {
    let file = folder.join("witgate.yaml");
    let text = format!("upstreams:\n  - {upstream}\nplugins:\n{plugins}");
    std::fs::write(&file, text).expect("the temporary folder is writable");
    let mut command = command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"]).arg(file);
    let output = command.output().expect("the binary can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it started:\n{said}");
    said
}

/// Every plugin of these is refused, in one go, each in its own words: its name, its settings, what is said of it.
#[track_caller]
fn check(folder: &Path, cases: &[(&str, &str, &str)]) {
    let plugins: String =
        cases.iter().map(|(name, settings, _)| format!("  - {{ name: {name}, {settings} }}\n")).collect();
    let said = refusal(folder, &plugins);
    for (name, _, message) in cases {
        let mut told = said.split("plugin `").filter(|told| told.starts_with(&format!("{name}`")));
        let told = told.next().unwrap_or_else(|| panic!("nothing is said of `{name}`:\n{said}"));
        assert!(told.contains(message), "no `{message}` in\n{told}");
    }
}

fn file(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("the temporary folder is writable");
    format!("source: {}", path.display())
}

#[test]
fn a_file_that_is_no_plugin_is_refused_in_words_that_help() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let folder = folder.path();
    let whole = std::fs::read(FAULTY).expect("the build script made it");
    let digest: String = Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
    let other = "ab".repeat(32);
    let module = wat::parse_str("(module)").expect("it is one");
    let made = |world: &str| component(TICKING, world, |contract| contract);
    let narrow = TICKING.replace("(param i64)", "(param i32)");
    let narrow = component(&narrow, "export lifecycle; export on-tick;", |contract| {
        contract.replace("tick: func(now-unix-ms: u64)", "tick: func(now-unix-ms: u32)")
    });
    let next = TICKING.replace("@0.1.0", "@0.2.0");
    let next = component(&next, "export lifecycle; export on-tick;", |contract| {
        contract.replace("@0.1.0", "@0.2.0")
    });
    let dreaming = TICKING.replace(
        "#tick\") (param i64)))",
        "#tick\") (param i64))
        (func (export \"witgate:plugin/on-dream@0.1.0#dream\")))",
    );
    let dreaming = component(&dreaming, "export lifecycle; export on-tick; export on-dream;", |contract| {
        contract + "interface on-dream { dream: func(); }"
    });
    let newer = TICKING.replace("(module", "(module (import \"witgate:plugin/log@0.1.0\" \"hush\" (func))");
    let newer = component(&newer, "import log; export lifecycle; export on-tick;", |contract| {
        contract.replace("interface log {", "interface log { hush: func();")
    });
    check(
        folder,
        &[
            (
                "module",
                &file(folder, "module.wasm", &module),
                "it is a core module, not a component: build it for `wasm32-wasip2`",
            ),
            (
                "text",
                &file(folder, "text.wasm", b"export default {}"),
                "it is no WebAssembly: name the `.wasm` file that the build made",
            ),
            ("empty", &file(folder, "empty.wasm", b""), "the file is empty or cut off"),
            (
                "truncated",
                &file(folder, "truncated.wasm", &whole[..whole.len() / 2]),
                "the component is cut off or damaged",
            ),
            ("flipped", &file(folder, "flipped.wasm", &flipped(&whole)), "damaged"),
            (
                "swapped",
                &format!("source: {FAULTY}, sha256: {other}"),
                &format!(
                    "it has the SHA-256 {digest}, not the pinned {other}: look whether the file is the one you meant"
                ),
            ),
            (
                "hookless",
                &file(folder, "hookless.wasm", &made("export lifecycle;")),
                "it exports no hook of `witgate:plugin`: export at least one of authenticate, on-request",
            ),
            (
                "lifeless",
                &file(folder, "lifeless.wasm", &made("export on-tick;")),
                "it does not export `witgate:plugin/lifecycle`: every plugin has to",
            ),
            (
                "narrow",
                &file(folder, "narrow.wasm", &narrow),
                "its export `on-tick` has not the functions and types of `witgate:plugin@0.1.0`",
            ),
            (
                "next",
                &file(folder, "next.wasm", &next),
                "this gateway has `witgate:plugin@0.1.0`: build it with an SDK of version 0.1, or use a gateway that has version 0.2.0",
            ),
            (
                "dreaming",
                &file(folder, "dreaming.wasm", &dreaming),
                "it needs `witgate:plugin/on-dream@0.1.0`, which this gateway (contract 0.1.0) does not have yet: use a newer gateway",
            ),
            (
                "newer",
                &file(folder, "newer.wasm", &newer),
                "it does not fit `witgate:plugin@0.1.0`, or needs a function that a newer gateway has",
            ),
        ],
    );
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let plugins = format!("  - {{ name: large, source: {FAULTY}, limits: {{ artifact_max: 1KiB }} }}\n");
    let said = refusal(folder.path(), &plugins);
    assert!(said.contains("bytes, more than `limits.artifact_max`, 1KiB"), "{said}");
}

/// The same component with the bits of some bytes of its code turned over.
fn flipped(whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let middle = bytes.len() / 3;
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte = !*byte);
    bytes
}

#[test]
fn a_configuration_that_a_plugin_cannot_use_is_refused_with_the_place_of_the_mistake() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let with = |config: &str| format!("source: {FAULTY}, config: {config}");
    check(
        folder.path(),
        &[
            (
                "unknown-key",
                &with("{ fault: {} }"),
                "`config`: Additional properties are not allowed ('fault' was unexpected)",
            ),
            ("unknown-word", &with("{ faults: { on-request: explode } }"), "`config.faults.on-request`: "),
            ("wrong-kind", &with("{ every: often }"), "`config.every`: \"often\" is not of type"),
            ("no-object", &with("12"), "`config`: 12 is not of type"),
            (
                "builtin",
                "source: builtin:think-strip, config: { tags: [{ open: a, close: b }, { open: 1, close: c }] }",
                "`config.tags.1.open`: 1 is not of type \"string\"",
            ),
            (
                "refuses",
                &with("{ faults: { init: refuse } }"),
                "it refuses its configuration: `faults` wants it so",
            ),
            ("panics", &with("{ faults: { init: panic } }"), "it could not be started: panic: "),
            ("says-why", &with("{ faults: { init: panic } }"), "faulty panics at init"),
            (
                "never-returns",
                &format!("{}, limits: {{ init_timeout: 100ms }}", with("{ faults: { init: loop } }")),
                "it could not be started: deadline: it ran longer than 100ms",
            ),
            (
                "sleeps",
                &format!("{}, limits: {{ init_timeout: 100ms }}", with("{ faults: { init: sleep } }")),
                "it could not be started: wait-timeout: it waited for the host longer than 100ms",
            ),
            (
                "greedy",
                &format!("{}, limits: {{ memory: 4MiB }}", with("{ faults: { init: memory } }")),
                "it could not be started: memory: it wanted more memory than it may have",
            ),
        ],
    );
}

#[test]
fn what_a_plugin_wants_and_is_not_granted_is_named_with_the_grant_to_add() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let source = format!("source: {PROBE}");
    check(
        folder.path(),
        &[
            ("http", &source, "it imports `wasi:http/"),
            ("http-says-how", &source, "add `allow: { http: [\"https://host\"] }`"),
            ("kv", &source, "it imports `witgate:plugin/kv@0.1.0`: add `allow: { kv: 1MiB }`"),
            ("metrics", &source, "it imports `witgate:plugin/metrics@0.1.0`: add `allow: { metrics: 20 }`"),
            (
                "secrets",
                &source,
                "it imports `witgate:plugin/secrets@0.1.0`: add `allow: { secrets: [NAME] }`",
            ),
        ],
    );
}

#[test]
fn a_required_plugin_must_not_be_able_to_be_left_out() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let with = |matching: &str| format!("source: {PROBE}, allow: {GRANTS}, required: true{matching}");
    check(
        folder.path(),
        &[(
            "mute",
            &with(", match: { endpoints: [chat.completions, embeddings] }"),
            "`required: true`, but its hook `stream-text` can never run for `embeddings`, whose answers have no text: take that out of `match.endpoints`",
        )],
    );
    let default = "{ name: one, base_url: \"http://127.0.0.1:9/v1\", default: true }";
    let said = refusal_before(default, folder.path(), &format!("  - {{ name: everywhere, {} }}\n", with("")));
    let message = "an upstream takes paths nobody knows (`default: true`), where its hook `stream-text` cannot run: list `match.endpoints`";
    assert!(said.contains(message), "{said}");
}
