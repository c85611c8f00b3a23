//! The operators' page, in a browser: `tests/page/page.mjs` looks at it while a gateway is under load.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde_json::json;
use witgate_tests::tool::{finish, is_there, once, repository, target_folder};
use witgate_tests::upstream::reply::chunk;
use witgate_tests::{Connection, Gateway, Received, Reply, Request, Upstream};

const PLAYWRIGHT: &str = "1.65.1";
const AXE: &str = "4.14.1";
const CHROMIUM: &str = "chromium";
const TOKEN: &str = "open sesame";
/// A word of the one exchange that is looked for among all the others.
const NEEDLE: &str = "needle-7f3a";
/// The pause between two requests of the load.
const PACE: Duration = Duration::from_millis(20);

#[test]
fn operators_see_and_steer_a_gateway_under_load() {
    if !is_there("node") || !is_there("npm") || !is_there(CHROMIUM) {
        return;
    }
    let (first, spare) = (Upstream::new(answer), Upstream::new(answer_to_all));
    let gateway = Gateway::start(&format!(
        "server: {{ admin_token: {TOKEN} }}\nlog: {{ access: false }}\nrouting: {{ strategy: failover }}\nupstreams:\n  - {{ name: first, base_url: {} }}\n  - {{ name: spare, base_url: {} }}\nplugins:\n  - {{ name: labels, source: builtin:audit-tags, config: {{ tags: [{{ name: team, from: {{ header: x-team }} }}] }} }}\n",
        first.url(),
        spare.url()
    ));
    gateway.send(&needle()).expect(200);
    let packages = packages();
    let load = Load::start(&gateway);
    look(&gateway, &packages);
    drop(load);
}

/// The packages of the script, installed once under the target folder.
fn packages() -> PathBuf {
    let folder = target_folder("sdk-packages", &format!("page-{PLAYWRIGHT}-{AXE}"));
    once(&folder, || {
        std::fs::write(folder.join("package.json"), "{\"private\":true}\n")
            .expect("the target folder is writable");
        let mut install = Command::new("npm");
        install.current_dir(&folder).args(["install", "--no-audit", "--no-fund", "--loglevel", "error"]);
        finish(install.args([format!("playwright-core@{PLAYWRIGHT}"), format!("axe-core@{AXE}")]));
    });
    folder
}

/// Runs the script, which leaves its pictures in `target/screenshots`.
#[track_caller]
fn look(gateway: &Gateway, packages: &Path) {
    let script = packages.join("page.mjs");
    std::fs::copy(repository().join("tests/page/page.mjs"), &script).expect("the target folder is writable");
    let mut node = Command::new("node");
    node.arg(script)
        .env("ADMIN_URL", format!("http://{}", gateway.admin()))
        .env("ADMIN_TOKEN", TOKEN)
        .env("CHROMIUM", program(CHROMIUM))
        .env("NEEDLE", NEEDLE)
        .env("SCREENSHOTS", target_folder("screenshots", ""));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        node.env_remove(name);
    }
    finish(&mut node);
}

/// Where a program is, as the browser's driver wants no name but a path.
#[track_caller]
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is on the path, as it was run before"))
}

/// Asks again and again, in turns for a stream and for a whole answer, until it is dropped.
struct Load {
    stop: Option<Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(gateway: &Gateway) -> Self {
        let address = gateway.address();
        let (stop, stopped) = channel();
        let ask = move || {
            let mut connection = Connection::open(address);
            for number in 0.. {
                let text = format!("question {number}");
                let request =
                    if number % 2 == 0 { Request::chat(&text) } else { Request::chat_stream(&text) };
                connection.send(&request).expect(200);
                if stopped.recv_timeout(PACE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        Self { stop: Some(stop), thread: Some(std::thread::spawn(ask)) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.take();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        // The test may be failing already.
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the load was answered");
    }
}

/// Answers all but the one exchange that is looked for, which has to go on to the next upstream.
fn answer(request: &Received) -> Reply {
    if is_needle(request) { Reply::error(503, "not this one") } else { answer_to_all(request) }
}

fn answer_to_all(request: &Received) -> Reply {
    if is_needle(request) { needle_answer() } else { Reply::chat_as_asked(request, &["so ", "it ", "is"]) }
}

fn is_needle(request: &Received) -> bool {
    String::from_utf8_lossy(&request.body).contains(NEEDLE)
}

/// A conversation with everything in it, and a text that would run if it were taken for a page's source.
fn needle() -> Request {
    let hostile =
        format!("{NEEDLE} <script>window.pwned = 1</script><img src=/pwned onerror=\"window.pwned = 1\">");
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}});
    let body = json!({"model": "m", "stream": true, "temperature": 0.5, "messages": [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": [
            {"type": "text", "text": hostile},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "minus three"},
    ], "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}]});
    Request::post("/v1/chat/completions", body.to_string())
        .header("authorization", "Bearer sk-caller")
        .header("x-request-id", &format!("{NEEDLE}-id"))
        .header("x-team", "blue")
}

fn needle_answer() -> Reply {
    Reply::stream([
        chunk(&json!({"role": "assistant", "reasoning_content": "Thinking about "}), None),
        chunk(&json!({"reasoning_content": "<b>it</b>"}), None),
        chunk(&json!({"content": "The answer is "}), None),
        chunk(&json!({"content": "<i>cold</i>"}), None),
        chunk(&json!({}), Some("stop")),
    ])
    .event("[DONE]")
}
