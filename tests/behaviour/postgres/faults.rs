//! A server that is down, slow, restarts, refuses: what is acknowledged is there in the end, once.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use witgate_tests::gateway::command;
use witgate_tests::postgres::{PASSWORD, Postgres};
use witgate_tests::tls::Certificate;
use witgate_tests::{Connection, Gateway, PATIENCE, Request, eventually, within};

use super::{ask, burst, echo, stat};

#[test]
fn a_server_that_crashes_under_load_has_every_row_once() {
    let Some(mut server) = Postgres::start() else { return };
    let mut gateway = Gateway::start(&echo(&server.url(), ""));
    let (is_over, answered) = (AtomicBool::new(false), Mutex::new(HashSet::new()));
    thread::scope(|scope| {
        for place in 0..4 {
            let (gateway, is_over, answered) = (&gateway, &is_over, &answered);
            scope.spawn(move || {
                let mut connection = Connection::open(gateway.address());
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("{place}-{number}");
                    connection.send(&ask("m", false).header("x-request-id", &id)).expect(200);
                    answered.lock().unwrap().insert(id);
                }
            });
        }
        for round in 1..=4 {
            let before = server.count();
            eventually("rows to be written", || (server.count() > before + 50).then_some(()));
            server.crash();
            let sent = answered.lock().unwrap().len();
            eventually("more requests", || (answered.lock().unwrap().len() > sent + 50).then_some(()));
            eventually("trouble", || stat(&gateway, "retrying").is_string().then_some(()));
            server.resume();
            eventually(&format!("the end of trouble {round}"), || {
                stat(&gateway, "retrying").is_null().then_some(())
            });
        }
        is_over.store(true, Ordering::Relaxed);
    });
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let rows = server.rows("SELECT request_id, count(*) AS n FROM exchanges GROUP BY request_id");
    let answered = answered.into_inner().unwrap();
    let stored: HashSet<String> =
        rows.iter().map(|row| row["request_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(answered.difference(&stored).count(), 0, "none is lost");
    assert!(rows.iter().all(|row| row["n"] == 1), "none is there twice");
    assert_eq!(server.count(), answered.len());
    let attempts = "SELECT count(*) AS n FROM attempts JOIN exchanges ON exchange = id";
    assert_eq!(server.rows(attempts)[0]["n"], answered.len());
}

/// A folder for what cannot be written, and the configuration of a gateway that uses it.
fn with_folder(url: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let path = folder.path().join("record.db");
    let config = echo(url, &format!(", path: {}", path.display()));
    (folder, config)
}

/// The files of rows that could not be written.
fn put_aside(folder: &tempfile::TempDir) -> usize {
    let files = std::fs::read_dir(folder.path()).expect("it is there");
    let names = files.map(|file| file.expect("it can be listed").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".unwritten-")).count()
}

#[test]
fn rows_for_a_server_that_is_down_at_the_end_are_written_by_the_next_start() {
    let Some(mut server) = Postgres::start() else { return };
    let (folder, config) = with_folder(&server.url());
    let mut gateway = Gateway::start(&config);
    burst(&gateway, 1, 5);
    server.wait(5);
    server.crash();
    burst(&gateway, 2, 300);
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success(), "nothing is lost");
    assert_eq!(put_aside(&folder), 1);
    server.resume();
    assert_eq!(server.count(), 5);
    let gateway = Gateway::start(&config);
    gateway.send(&ask("m", false)).expect(200);
    server.wait(606);
    eventually("the file to go", || (put_aside(&folder) == 0).then_some(()));
    let attempts = "SELECT count(*) AS n FROM attempts JOIN exchanges ON exchange = id";
    assert_eq!((server.count(), &server.rows(attempts)[0]["n"]), (606, &json!(606)));
}

#[test]
fn a_connection_that_hangs_at_the_end_is_made_anew() {
    let Some(server) = Postgres::start() else { return };
    let (folder, config) = with_folder(&server.url());
    let mut gateway = Gateway::start(&config);
    burst(&gateway, 1, 1);
    server.wait(1);
    let rows = server.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'witgate'");
    let signal = |word: &str| {
        let status = std::process::Command::new("kill").args([word, &rows[0]["pid"].to_string()]).status();
        assert!(status.expect("`kill` can be run").success());
    };
    signal("-STOP");
    burst(&gateway, 1, 2);
    gateway.signal("TERM");
    let status = gateway.wait_exit();
    assert_eq!((server.count(), put_aside(&folder)), (3, 0));
    assert!(status.success());
    signal("-CONT");
    eventually("the connections to be closed", || {
        server
            .rows("SELECT 1 FROM pg_stat_activity WHERE application_name = 'witgate'")
            .is_empty()
            .then_some(())
    });
    assert_eq!(server.count(), 3, "what it was asked for first does not double them");
}

#[test]
fn a_table_that_is_locked_for_long_is_trouble_and_ties_up_one_connection() {
    let Some(server) = Postgres::start() else { return };
    let gateway = Gateway::start(&echo(&server.url(), ""));
    burst(&gateway, 1, 1);
    server.wait(1);
    let lock = server.lock("exchanges");
    burst(&gateway, 1, 3);
    within(3 * PATIENCE, "trouble", || stat(&gateway, "retrying").is_string().then_some(()));
    assert!(stat(&gateway, "lag_ms").as_f64() < Some(40e3), "it is told after one try");
    let waiting =
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'witgate' AND wait_event_type = 'Lock'";
    assert!(server.rows(waiting).len() <= 1);
    drop(lock);
    server.wait(4);
    assert_eq!(server.count(), 4);
}

#[test]
fn a_gateway_starts_while_its_server_is_down() {
    let Some(mut server) = Postgres::start() else { return };
    server.crash();
    let gateway = Gateway::start(&echo(&server.url(), ""));
    burst(&gateway, 2, 20);
    eventually("all rows to wait", || (stat(&gateway, "queued") == 40).then_some(()));
    assert!(stat(&gateway, "lag_ms").as_f64() > Some(0.0));
    eventually("a warning", || gateway.stderr().contains("the audit cannot be written yet").then_some(()));
    eventually("the metric", || {
        let metrics = gateway.send_admin(&Request::get("/metrics")).expect(200);
        metrics.text().contains("witgate_audit_retrying 1").then_some(())
    });
    server.resume();
    server.wait(40);
    eventually("the queue to be empty", || (stat(&gateway, "queued") == 0).then_some(()));
    assert_eq!(server.count(), 40);
}

#[test]
fn a_connection_that_broke_while_nobody_used_it_is_no_trouble() {
    let Some(server) = Postgres::start() else { return };
    let gateway = Gateway::start(&echo(&server.url(), ""));
    gateway.send(&ask("m", false)).expect(200);
    server.wait(1);
    server
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'witgate'");
    gateway.send(&ask("m", false)).expect(200);
    server.wait(2);
    assert!(!gateway.stderr().contains("cannot be written"), "{}", gateway.stderr());
}

#[test]
fn a_full_queue_blocks_or_drops() {
    let Some(server) = Postgres::start() else { return };
    let blocking = Gateway::start(&echo(&server.url(), ", queue: 3"));
    blocking.send(&ask("m", false)).expect(200);
    server.wait(1);
    let dropping = Gateway::start(&echo(&server.url(), ", queue: 3, on_full: drop"));
    let lock = server.lock("exchanges");
    burst(&blocking, 1, 3);
    blocking.send(&ask("m", false)).expect(503);
    burst(&dropping, 1, 10);
    assert_eq!(stat(&dropping, "dropped"), 7);
    drop(lock);
    // The refusal has a row, too.
    server.wait(1 + 3 + 1 + 3);
    blocking.send(&ask("m", false)).expect(200);
    server.wait(9);
    assert_eq!(server.count(), 9);
}

#[test]
fn a_row_that_is_refused_for_ever_is_dropped_alone() {
    let Some(server) = Postgres::start() else { return };
    let gateway = Gateway::start(&echo(&server.url(), ""));
    gateway.send(&ask("m", false)).expect(200);
    server.wait(1);
    server.execute("ALTER TABLE exchanges ADD CHECK (model <> 'poison')");
    let lock = server.lock("exchanges");
    for model in ["a", "poison", "b", "poison", "c"] {
        gateway.send(&ask(model, false)).expect(200);
    }
    drop(lock);
    server.wait(4);
    eventually("the queue to be empty", || (stat(&gateway, "queued") == 0).then_some(()));
    assert_eq!(server.count(), 4);
    assert_eq!((stat(&gateway, "written"), stat(&gateway, "dropped")), (json!(4), json!(2)));
    let metrics = gateway.send_admin(&Request::get("/metrics")).expect(200);
    assert!(metrics.text().contains("witgate_audit_rows_dropped_total{reason=\"write\"} 2"));
    assert!(!gateway.stderr().contains("content"), "no row is told: {}", gateway.stderr());
}

#[test]
fn a_text_that_the_server_cannot_hold_is_mended() {
    let Some(server) = Postgres::start() else { return };
    let gateway = Gateway::start(&echo(&server.url(), ""));
    gateway.send(&Request::post("/v1/chat/completions", "{\"model\": \"a\0b\"}"));
    gateway.send(&Request::post("/v1/chat/completions", r#"{"model":"m\u0000","messages":[]}"#));
    gateway.send(&ask("m", false)).expect(200);
    let rows = server.wait(3);
    assert_eq!(rows[0]["request"], "{\"model\": \"a\u{fffd}b\"}");
    assert_eq!(rows[1]["request"], r#"{"model":"m\u0000","messages":[]}"#);
    assert_eq!(stat(&gateway, "dropped"), 0);
}

/// What a gateway says that does not start.
#[track_caller]
fn refusal(config: &str) -> String {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let path = folder.path().join("witgate.yaml");
    std::fs::write(&path, config).expect("the temporary folder is writable");
    let mut command = command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"]).arg(&path);
    let output = command.output().expect("the binary can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(!output.status.success());
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(!said.contains(PASSWORD), "{said}");
    said
}

#[track_caller]
fn refused(config: &str, parts: &[&str]) {
    let said = refusal(config);
    for part in parts {
        assert!(said.contains(part), "{part:?} is in:\n{said}");
    }
}

#[test]
fn what_can_never_work_is_refused_at_the_start() {
    let Some(server) = Postgres::start() else { return };
    let url = server.url();
    refused(&echo(&url.replace(PASSWORD, "wrong"), ""), &["28P01", "`audit.postgres`"]);
    refused(&echo(&url.replace("/audit", "/nothing"), ""), &["3D000", "nothing"]);
    refused(&echo(&url.replace("postgres://", "mysql://"), ""), &["witgate.yaml:1:20", "no URL"]);
    refused(&echo(&format!("{url}?sslmode=perhaps"), ""), &["witgate.yaml:1:20", "`sslmode`"]);
    refused(&echo(&url, ", size_max: 1GiB"), &["`size_max` is not supported together with `postgres`"]);
    server.execute("CREATE TABLE exchanges (rate int)");
    refused(&echo(&url, ""), &["a table `exchanges` of another program"]);
    server.execute(
        "CREATE TABLE witgate_meta (key text PRIMARY KEY, value text); INSERT INTO witgate_meta VALUES ('schema', '99')",
    );
    refused(&echo(&url, ""), &["schema 99, this one knows 1"]);
}

#[test]
fn a_reload_that_names_an_impossible_database_changes_nothing() {
    let Some(server) = Postgres::start() else { return };
    let gateway = Gateway::start("upstreams: [{ name: one, base_url: 'builtin:echo' }]\n");
    let reload = || {
        gateway.send_admin(&Request::post("/admin/reload", "{}").header("content-type", "application/json"))
    };
    gateway.send(&ask("file", false)).expect(200);
    gateway.rewrite_config(&echo(&server.url().replace(PASSWORD, "wrong"), ""));
    assert_ne!(reload().status(), 200);
    gateway.send(&ask("file", false)).expect(200);
    witgate_tests::audit::wait(&gateway, 2);
    gateway.rewrite_config(&echo(&server.url(), ""));
    reload().expect(200);
    gateway.send(&ask("database", false)).expect(200);
    let rows = server.wait(1);
    assert_eq!(rows[0]["model"], "database");
    gateway.rewrite_config("upstreams: [{ name: one, base_url: 'builtin:echo' }]\n");
    reload().expect(200);
    gateway.send(&ask("file", false)).expect(200);
    witgate_tests::audit::wait(&gateway, 3);
    assert_eq!(server.count(), 1);
}

#[test]
fn a_certificate_is_verified_where_tls_is_required() {
    let Some(mut server) = Postgres::start() else { return };
    let (certificate, other) = (Certificate::new(), Certificate::new());
    let url = server.listen_with_tls(&certificate);
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the temporary folder is writable");
        path.display().to_string()
    };
    let (right, wrong) = (file("right.pem", &certificate.cert_pem), file("wrong.pem", &other.cert_pem));
    let mut count = 0;
    for (parameters, is_encrypted) in [
        (format!("sslmode=require&sslrootcert={right}"), true),
        (format!("sslmode=verify-full&sslrootcert={right}"), true),
        ("sslmode=prefer".to_owned(), true),
        ("sslmode=disable".to_owned(), false),
    ] {
        let gateway = Gateway::start(&echo(&format!("{url}?{parameters}"), ""));
        gateway.send(&ask("m", false)).expect(200);
        count += 1;
        server.wait(count);
        let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'witgate'";
        assert_eq!(server.rows(sql), [json!({"ssl": is_encrypted})], "{parameters}");
        drop(gateway);
        eventually("the connection to be closed", || server.rows(sql).is_empty().then_some(()));
    }
    refused(&echo(&format!("{url}?sslmode=require&sslrootcert={wrong}"), ""), &["TLS"]);
    refused(&echo(&format!("{url}?sslmode=require&sslrootcert=nothing.pem"), ""), &["there is no file"]);
}
