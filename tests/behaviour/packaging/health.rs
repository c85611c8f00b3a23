//! `witgate health`.

use std::net::TcpListener;
use std::process::Output;

use serde_json::json;
use witgate_tests::gateway::{Launch, command};
use witgate_tests::upstream::reply::chunk;
use witgate_tests::{Gate, Gateway, PATIENCE, Refusing, Reply, Request, Upstream, eventually, now};

const ECHO: &str = "upstreams:\n  - { name: echo, base_url: \"builtin:echo\" }\n";

fn health(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let output = command().current_dir(folder.path()).arg("health").args(arguments).output();
    output.expect("the binary can be run")
}

/// It says yes in this line.
#[track_caller]
fn check_ready(output: &Output, line: &str) {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{line}\n"));
    assert!(output.stderr.is_empty(), "{output:?}");
}

/// It says no in one line that has this text.
#[track_caller]
fn check_not(output: &Output, text: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(text) && said.lines().count() == 1, "{text:?} is in {said:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

fn ready_url(gateway: &Gateway) -> String {
    format!("http://{}/readyz", gateway.admin())
}

#[test]
fn a_ready_gateway_is_healthy() {
    let gateway = Gateway::start(ECHO);
    check_ready(&health(&["--url", &ready_url(&gateway)]), "ready");
    check_ready(&health(&["--url", &format!("http://{}", gateway.admin())]), "ready");
    check_ready(&health(&["--url", &format!("{}/healthz", gateway.url())]), "OK");
    check_ready(&health(&["--url", &format!("http://localhost:{}/readyz", gateway.admin().port())]), "ready");
    check_not(&health(&["--url", &format!("{}/nothing", gateway.url())]), "404");
}

#[test]
fn the_configuration_says_where_to_ask() {
    let gateway = Gateway::start(ECHO);
    let port = gateway.admin().port().to_string();
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("witgate.yaml");
    let path = file.to_str().expect("its name is UTF-8");
    let text = format!("server: {{ admin: \"0.0.0.0:{port}\", admin_token: t }}\n{ECHO}");
    std::fs::write(&file, text).expect("the temporary folder is writable");
    check_ready(&health(&["--config", path]), "ready");
    let run = |name: &str, value: &str| {
        let output = command().arg("health").current_dir(folder.path()).env(name, value).output();
        output.expect("the binary can be run")
    };
    check_ready(&run("WITGATE_CONFIG", path), "ready");
    check_ready(&run("NOTHING", ""), "ready");
    // The file is refused now, and the gateway that runs does not care.
    std::fs::write(&file, "upstreams: none of them").expect("the temporary folder is writable");
    check_ready(&run("METRICS_PORT", &port), "ready");
}

#[test]
fn a_gateway_on_all_addresses_is_found_on_loopback() {
    let launch = Launch::default().admin_by_itself().argument("--admin").argument("0.0.0.0:0");
    let gateway = launch.start(&format!("server: {{ admin_token: secret }}\n{ECHO}"));
    check_ready(&health(&["--url", &format!("http://127.0.0.1:{}/readyz", gateway.admin().port())]), "ready");
}

#[test]
fn a_gateway_without_an_upstream_is_not_healthy() {
    let gateway =
        Gateway::start("upstreams:\n  - { name: echo, base_url: \"builtin:echo\", enabled: false }\n");
    check_not(&health(&["--url", &ready_url(&gateway)]), "503 Service Unavailable: no upstream is enabled");
}

#[test]
fn a_gateway_that_drains_is_not_healthy() {
    let gate = Gate::new();
    let upstream =
        Upstream::always(Reply::stream([chunk(&json!({"content": "a"}), None)]).wait(&gate).event("[DONE]"));
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    gateway.signal("TERM");
    let url = ready_url(&gateway);
    let output = eventually("the drain", || {
        let output = health(&["--url", &url]);
        (!output.status.success()).then_some(output)
    });
    check_not(&output, "draining");
    gate.open();
}

#[test]
fn nobody_there_is_not_healthy() {
    let refusing = Refusing::new();
    check_not(&health(&["--url", &format!("{}/readyz", refusing.origin())]), "cannot connect");
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    let start = now();
    check_not(&health(&["--url", &format!("http://{address}/readyz")]), "no answer within 2 s");
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn what_cannot_be_asked_is_said() {
    check_not(&health(&["--url", "https://127.0.0.1:9090/readyz"]), "`https` is not spoken");
    let output = health(&["--url", "not a url"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("c.yaml");
    std::fs::write(&file, format!("server: {{ admin: \"127.0.0.1:0\" }}\n{ECHO}")).expect("it is writable");
    check_not(&health(&["--config", file.to_str().expect("its name is UTF-8")]), "name it with `--url`");
}
