//! Plugins in front of traffic: the test plugins of `tests/plugins`, and those that are part of the program.

mod audit;
mod component;
mod faults;
mod first_party;
mod grants;
mod order;
mod refused;
mod reuse;
mod swap;
mod text;

use serde_json::Value;
use witgate_tests::{Gateway, Request, Upstream};

/// Breaks where its configuration says.
const FAULTY: &str = env!("FAULTY_WASM");
/// Shows what it sees, and does what the header `x-probe` of a request says.
const PROBE: &str = env!("PROBE_WASM");
/// What `probe` needs to be loaded.
const GRANTS: &str = "{ kv: 64KiB, metrics: 4, secrets: { token: hidden }, http: [\"http://127.0.0.1:9\"], env: { COLOUR: red } }";

/// An entry of `plugins` for the probe; its `config` is YAML in one line.
fn probe(name: &str, config: &str) -> String {
    format!("  - {{ name: {name}, source: {PROBE}, allow: {GRANTS}, config: {config} }}\n")
}

/// An entry for `faulty` with these settings, YAML in one line.
fn faulty(name: &str, settings: &str) -> String {
    format!("  - {{ name: {name}, source: {FAULTY}, {settings} }}\n")
}

/// A configuration with one upstream, `one`.
fn config(upstream: &Upstream, plugins: &str) -> String {
    format!("upstreams:\n  - {{ name: one, base_url: {} }}\nplugins:\n{plugins}", upstream.url())
}

/// A gateway before that upstream.
#[track_caller]
fn start(upstream: &Upstream, plugins: &str) -> Gateway {
    Gateway::start(&config(upstream, plugins))
}

/// A chat request with commands for the probe.
fn told(commands: &str) -> Request {
    Request::chat("hi").header("x-probe", commands)
}

/// Has the probe do something in `on-request`; what came of it.
#[track_caller]
fn ask(gateway: &Gateway, command: &str) -> Value {
    gateway.send(&told(&format!("on-request {command}"))).expect(200).json()["came"].clone()
}

/// The lines that the probe noted.
#[track_caller]
fn notes(gateway: &Gateway) -> Vec<String> {
    ask(gateway, "get log").as_str().unwrap_or_default().lines().map(str::to_owned).collect()
}

/// What `/admin/plugins` says.
#[track_caller]
fn admin(gateway: &Gateway) -> Value {
    gateway.send_admin(&Request::get("/admin/plugins")).expect(200).json()
}

/// What it says of one plugin.
#[track_caller]
fn described(gateway: &Gateway, name: &str) -> Value {
    let all = admin(gateway);
    let plugins = all["plugins"].as_array().expect("it lists the plugins");
    plugins
        .iter()
        .find(|plugin| plugin["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {all}"))
        .clone()
}

/// Has the configuration and the plugins read again.
fn reload() -> Request {
    Request::post("/admin/plugins/reload", "{}")
}

/// A chat request for a model.
fn chat_for(model: &str, is_stream: bool) -> Request {
    let body = serde_json::json!({
        "model": model, "stream": is_stream, "messages": [{"role": "user", "content": "hi"}],
    });
    Request::post("/v1/chat/completions", body.to_string())
}
