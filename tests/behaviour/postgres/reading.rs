//! What was recorded in PostgreSQL, as operators find it again.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use rusqlite::Connection as File;
use serde_json::{Value, json};
use witgate_tests::gateway::command;
use witgate_tests::postgres::Postgres;
use witgate_tests::{Gateway, Reply, Request, Upstream};

use crate::audit_cli::ask;

/// A gateway that has answered three requests: `a`, `b`, which failed, and `c%`, a stream.
struct Recorded {
    gateway: Gateway,
    server: Postgres,
    upstream: Upstream,
}

#[track_caller]
fn recorded() -> Option<Recorded> {
    let server = Postgres::start()?;
    let upstream = Upstream::new(|request| match request.json()["model"].as_str() {
        Some("b") => Reply::error(400, "no"),
        _ => Reply::chat_as_asked(request, &["he", "llo"]),
    });
    let gateway = Gateway::start(&format!(
        "audit: {{ postgres: '{}' }}\nupstreams: [{{ name: one, base_url: {} }}]\n",
        server.url(),
        upstream.url()
    ));
    gateway.send(&ask("a", "first\nquestion é", false)).expect(200);
    gateway.send(&ask("b", "100% \"sure\"", false)).expect(400);
    gateway.send(&ask("c%", "stream", true)).expect(200);
    server.wait(3);
    server.execute(r#"UPDATE exchanges SET labels = '{"pii":"2","risk":"high"}' WHERE model = 'a'"#);
    server.execute(r#"UPDATE exchanges SET labels = 'no JSON' WHERE model = 'b'"#);
    Some(Recorded { gateway, server, upstream })
}

fn audit(gateway: &Gateway, arguments: &[&str]) -> Output {
    let mut command = command();
    command.arg("audit").args(arguments).arg("--config").arg(gateway.config());
    command.output().expect("the binary can be run")
}

/// What a command that succeeds says to standard output and standard error.
#[track_caller]
fn says(gateway: &Gateway, arguments: &[&str]) -> (String, String) {
    let output = audit(gateway, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}\n{error}");
    (out, error)
}

#[track_caller]
fn check(recorded: &Recorded, filter: &[&str], models: &str) {
    let mut arguments = vec!["query", "--format", "jsonl"];
    arguments.extend(filter);
    let (out, _) = says(&recorded.gateway, &arguments);
    let rows = out.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let found: Vec<String> =
        rows.map(|row| row["model"].as_str().expect("it is a text").to_owned()).collect();
    assert_eq!(found.join(" "), models, "{filter:?}");
}

#[test]
fn every_filter_finds_what_it_finds_in_a_file() {
    let Some(recorded) = recorded() else { return };
    check(&recorded, &[], "c% b a");
    check(&recorded, &["--model", "a"], "a");
    check(&recorded, &["--model", "A"], "");
    check(&recorded, &["--model", "c*"], "c%");
    check(&recorded, &["--model", "*%"], "c%");
    check(&recorded, &["--model", "_"], "");
    check(&recorded, &["--upstream", "o*e"], "c% b a");
    check(&recorded, &["--upstream", "two"], "");
    check(&recorded, &["--status", "4xx"], "b");
    check(&recorded, &["--status", "200,>=500"], "c% a");
    check(&recorded, &["--outcome", "refused"], "b");
    check(&recorded, &["--endpoint", "chat.completions", "--ip", "127.0.0.*"], "c% b a");
    check(&recorded, &["--text", "FIRST\nq"], "a");
    check(&recorded, &["--text", "question é"], "a");
    check(&recorded, &["--text", "100% \"sure\""], "b");
    check(&recorded, &["--text", "10_%"], "");
    check(&recorded, &["--label", "pii"], "a");
    check(&recorded, &["--label", "risk:high", "--label", "pii:2"], "a");
    check(&recorded, &["--label", "risk:low"], "");
    check(&recorded, &["--since", "1h", "--until", "2100-01-01"], "c% b a");
    check(&recorded, &["--until", "1h"], "");
    check(&recorded, &["--limit", "1"], "c%");
    check(&recorded, &["--tenant", "x' OR '1'='1"], "");
}

#[test]
fn one_exchange_is_shown_and_pages_follow_each_other() {
    let Some(recorded) = recorded() else { return };
    let (out, _) = says(&recorded.gateway, &["query", "a", "--format", "jsonl"]);
    let row: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!(
        (&row["stream"], &row["status"], &row["labels"]["pii"]),
        (&json!(false), &json!(200), &json!("2"))
    );
    assert_eq!(row["attempts"][0]["upstream"], "one");
    assert_eq!(row["request"]["messages"][0]["content"], "first\nquestion é");
    let by_number = says(&recorded.gateway, &["query", row["id"].as_str().unwrap(), "--format", "jsonl"]);
    assert_eq!(by_number.0, out);
    let (_, error) = says(&recorded.gateway, &["query", "--limit", "2"]);
    let next = error.split('`').nth(1).expect("it says how to go on").to_owned();
    let words: Vec<&str> = next.split(' ').collect();
    check(&recorded, &words, "a");
    let missing = audit(&recorded.gateway, &["query", "nobody"]);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(
        !missing.status.success() && said.contains("there is no exchange `nobody` in `postgres://gate:***@"),
        "{said}"
    );
}

#[test]
fn the_admin_surface_finds_the_same() {
    let Some(Recorded { gateway, server, upstream: _upstream }) = recorded() else { return };
    let ask = |target: &str| gateway.send_admin(&Request::get(target));
    let page = ask("/admin/audit?model=a").expect(200).json();
    assert_eq!(page["exchanges"].as_array().map(Vec::len), Some(1), "{page}");
    let id = page["exchanges"][0]["id"].as_str().unwrap().to_owned();
    let whole = ask(&format!("/admin/audit/{id}")).expect(200).json();
    assert_eq!(whole["attempts"][0]["status"], 200);
    assert_eq!(whole["request"]["model"], "a");
    ask("/admin/audit/nothing").expect(404);
    ask("/admin/audit?colour=red").expect(400);
    drop(server);
    let broken = ask("/admin/audit").expect(500);
    assert!(broken.text().contains("cannot be read"), "{}", broken.text());
}

#[test]
fn an_export_has_everything() {
    let Some(recorded) = recorded() else { return };
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (lines, copy) = (path("all.jsonl"), path("all.db"));
    says(&recorded.gateway, &["export", "--output", &lines]);
    let text = std::fs::read_to_string(&lines).expect("it was written");
    assert_eq!(text.lines().count(), 3);
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).expect("a line is JSON");
    assert_eq!((&last["model"], &last["attempts"][0]["number"]), (&json!("a"), &json!(1)));
    says(&recorded.gateway, &["export", "--format", "sqlite", "--output", &copy]);
    let file = File::open(&copy).expect("it is a database");
    let counts = file.query_row(
        "SELECT (SELECT count(*) FROM exchanges), (SELECT count(*) FROM attempts), (SELECT sum(stream) FROM exchanges)",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    );
    assert_eq!(counts.expect("it has the tables"), (3, 3, 1));
}

#[test]
fn what_ends_is_printed_as_it_ends() {
    let Some(recorded) = recorded() else { return };
    let mut command = command();
    command
        .args(["audit", "tail", "--format", "jsonl", "-n", "1", "--config"])
        .arg(recorded.gateway.config());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary can be run");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut model = || -> Value {
        let line = lines.next().expect("it goes on").expect("it is text");
        serde_json::from_str::<Value>(&line).expect("a line is JSON")["model"].clone()
    };
    assert_eq!(model(), "c%");
    recorded.gateway.send(&ask("d", "new", false)).expect(200);
    assert_eq!(model(), "d");
    child.kill().expect("it runs");
    child.wait().expect("it is our child");
}

#[test]
fn a_stored_request_is_sent_again() {
    let Some(recorded) = recorded() else { return };
    let count = recorded.upstream.count();
    let (out, error) = says(&recorded.gateway, &["replay", "a", "--to", &recorded.gateway.url()]);
    assert!(out.contains("hello") && error.contains("200 OK (was 200)"), "{out}\n{error}");
    assert_eq!(recorded.upstream.count(), count + 1);
    assert_eq!(recorded.upstream.last().json()["messages"][0]["content"], "first\nquestion é");
}

#[test]
fn a_database_without_tables_has_nothing() {
    let Some(server) = Postgres::start() else { return };
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let path = folder.path().join("witgate.yaml");
    let config = super::echo(&server.url(), "");
    std::fs::write(&path, config).expect("the temporary folder is writable");
    let output = command().args(["audit", "query", "--config"]).arg(&path).output().expect("it can be run");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "nothing found\n");
    assert!(server.rows("SELECT * FROM witgate_meta").is_empty(), "who reads makes no tables");
}
