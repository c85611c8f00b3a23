//! Start-up failures and the end.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;
use witgate_tests::client::End;
use witgate_tests::gateway::command;
use witgate_tests::upstream::reply::chunk;
use witgate_tests::{Gate, Gateway, Reply, Request, Upstream, eventually, now};

fn stream_behind(gate: &Gate) -> Upstream {
    Upstream::always(
        Reply::stream([chunk(&json!({"content": "a"}), None)])
            .wait(gate)
            .event(&chunk(&json!({}), Some("stop")))
            .event("[DONE]"),
    )
}

#[track_caller]
fn wait_refused(gateway: &Gateway) {
    eventually("the listener to close", || TcpStream::connect(gateway.address()).err());
}

// parity: 135
#[test]
fn a_signal_drains_running_streams() {
    for signal in ["TERM", "INT"] {
        let gate = Gate::new();
        let upstream = stream_behind(&gate);
        let mut gateway = Gateway::before(&upstream);
        let mut client = gateway.ask(&Request::chat_stream("hi"));
        assert_eq!(client.head().status, 200);
        assert!(client.event().is_some());
        gateway.signal(signal);
        wait_refused(&gateway);
        assert!(gateway.is_running(), "it waits for the stream");
        gate.open();
        let (rest, end) = client.rest();
        assert!(String::from_utf8_lossy(&rest).contains("[DONE]"));
        assert_eq!(end, End::Complete);
        drop(client);
        assert!(gateway.wait_exit().success(), "{signal}");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let upstream = stream_behind(&Gate::new());
    let mut gateway = Gateway::before(&upstream);
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    gateway.signal("TERM");
    wait_refused(&gateway);
    let second = now();
    gateway.signal("TERM");
    gateway.wait_exit();
    assert!(second.elapsed() < Duration::from_secs(3), "{:?}", second.elapsed());
}

#[test]
fn the_grace_period_bounds_the_drain() {
    let upstream = stream_behind(&Gate::new());
    let mut gateway = Gateway::start(&format!(
        "server: {{ shutdown_grace: 200ms }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ));
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    let signalled = now();
    gateway.signal("TERM");
    gateway.wait_exit();
    assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let mut gateway = Gateway::before(&upstream);
    let mut client = witgate_tests::Connection::open(gateway.address());
    client.send(&Request::chat("hi")).expect(200);
    let signalled = now();
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
}

// parity: 50
#[test]
fn a_taken_port_is_said_clearly() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let output = command()
        .current_dir(folder.path())
        .args(["serve", "--listen", &address, "--admin", "127.0.0.1:0"])
        .output()
        .expect("the binary can be run");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains(&address), "it names the address: {log}");
    assert!(log.contains("in use") || log.contains("taken"), "it says why: {log}");
    assert!(log.contains("--listen"), "it says what to change: {log}");
}

// parity: 50, 51
#[test]
fn a_bad_configuration_stops_the_start() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    std::fs::write(folder.path().join("bad.yaml"), "upstreams:\n  - nam: x\n").expect("it is writable");
    let output = command()
        .current_dir(folder.path())
        .args(["serve", "--config", "bad.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .output()
        .expect("the binary can be run");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("bad.yaml:2:5"), "{log}");
}

#[test]
fn a_search_that_is_held_up_does_not_hold_up_the_end() {
    let config = "upstreams: [{ name: echo, base_url: 'builtin:echo' }]\naudit: { path: data/record.db }\n";
    let mut gateway = Gateway::start(config);
    let folder = gateway.folder().join("data");
    // Each of them is waited for some seconds, because somebody else has it.
    let locks: Vec<Connection> =
        (1..=12).map(|month| lock(&folder.join(format!("record_2024{month:02}.db")))).collect();
    let mut client = witgate_tests::Connection::open(gateway.admin());
    let search = Request::get("/admin/audit?text=foo").host(&gateway.admin().to_string());
    client.write(&search.bytes());
    eventually("the search to be held up", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.id())).expect("it runs");
        let mut paths = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        paths.find(|path| path.to_string_lossy().contains("record_2024"))
    });
    let told = now();
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    drop((client, locks));
}

/// Makes a closed file of an audit that nobody else can read.
#[track_caller]
fn lock(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("the folder is there");
    let sql = "CREATE TABLE exchanges (id INTEGER PRIMARY KEY); BEGIN EXCLUSIVE";
    connection.execute_batch(sql).expect("nobody else has it");
    // What lies beside a file that is in use.
    std::fs::write(path.with_extension("db-wal"), "").expect("the folder is writable");
    connection
}
