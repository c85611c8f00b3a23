//! `witgate audit` as an operator uses it, on what real gateways have recorded.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;
use serde_json::{Value, json};
use witgate_tests::audit::{file, wait};
use witgate_tests::gateway::command;
use witgate_tests::upstream::reply::chunk;
use witgate_tests::{Gateway, Refusing, Reply, Request, Upstream, eventually};

/// Runs `witgate audit` on a file.
fn audit(db: &Path, arguments: &[&str]) -> Output {
    audit_command(db, arguments).output().expect("the binary can be run")
}

fn audit_command(db: &Path, arguments: &[&str]) -> Command {
    let mut command = command();
    command.arg("audit").args(arguments).arg("--db").arg(db);
    command
}

/// What a command that succeeds says to standard output and standard error.
#[track_caller]
fn says(output: &Output) -> (String, String) {
    let (out, error) = both(output);
    assert!(output.status.success(), "{}\n{out}\n{error}", output.status);
    (out, error)
}

fn both(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn refuses(db: &Path, arguments: &[&str], code: i32, part: &str) {
    let output = audit(db, arguments);
    let (out, error) = both(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{error}");
    assert!(error.contains(part), "{arguments:?}: {error}");
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is in:\n{text}");
    }
}

/// A gateway that has answered three requests: `a`, `b`, which failed, and `c`, a stream.
struct Recorded {
    gateway: Gateway,
    db: PathBuf,
    upstream: Upstream,
}

pub(crate) fn ask(model: &str, text: &str, is_stream: bool) -> Request {
    let body =
        json!({ "model": model, "stream": is_stream, "messages": [{ "role": "user", "content": text }] });
    Request::post("/v1/chat/completions", body.to_string()).header("x-request-id", model)
}

#[track_caller]
fn recorded() -> Recorded {
    let upstream = Upstream::new(|request| match request.json()["model"].as_str() {
        Some("b") => Reply::error(400, "no \u{1b}[31mred"),
        _ => Reply::chat_as_asked(request, &["he", "llo"]),
    });
    let gateway = Gateway::before(&upstream);
    gateway.send(&ask("a", "first\nquestion", false)).expect(200);
    gateway.send(&ask("b", "100% \"sure\"", false)).expect(400);
    gateway.send(&ask("c", "stream", true)).expect(200);
    wait(&gateway, 3);
    let db = file(&gateway);
    Recorded { gateway, db, upstream }
}

/// The request ids that a query finds.
#[track_caller]
fn found(db: &Path, arguments: &[&str]) -> String {
    let arguments = [&["query", "--format", "jsonl"], arguments].concat();
    let (out, _) = says(&audit(db, &arguments));
    let ids = out.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
    ids.map(|row| row["request_id"].as_str().unwrap_or("?").to_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_happened_is_found_while_the_gateway_runs() {
    let Recorded { db, gateway, upstream: _upstream } = recorded();
    assert_eq!(found(&db, &[]), "c b a");
    assert_eq!(found(&db, &["--model", "a"]), "a");
    assert_eq!(found(&db, &["--status", ">=400"]), "b");
    assert_eq!(found(&db, &["--outcome", "complete", "--since", "1h"]), "c a");
    assert_eq!(found(&db, &["--text", "100% \"SURE\""]), "b");
    assert_eq!(found(&db, &["--upstream", "on*", "--limit", "1"]), "c");
    assert_eq!(found(&db, &["--ip", "127.0.0.1", "--endpoint", "chat.completions"]), "c b a");
    let (table, _) = says(&audit(&db, &["query"]));
    assert_eq!(table.lines().count(), 4, "{table}");
    has(&table, &["id ", "status", "outcome", "chat.completions", "400"]);
    // The configuration says where the record is; its path counts from the working folder.
    let mut configured = command();
    configured.current_dir(gateway.folder()).args(["audit", "query", "--config", "witgate.yaml"]);
    assert_eq!(says(&configured.output().expect("the binary can be run")).0, table);
}

#[test]
fn nothing_found_is_no_failure() {
    let Recorded { db, gateway: _gateway, upstream: _upstream } = recorded();
    let (out, error) = says(&audit(&db, &["query", "--model", "nobody"]));
    assert_eq!((&*out, &*error), ("", "nothing found\n"));
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let mut fresh = command();
    fresh.current_dir(folder.path()).args(["audit", "query"]);
    has(&says(&fresh.output().expect("the binary can be run")).1, &["is not there", "nothing found"]);
    refuses(&folder.path().join("mistyped.db"), &["query"], 1, "there is no file");
}

#[test]
fn pages_follow_each_other() {
    let Recorded { db, gateway: _gateway, upstream: _upstream } = recorded();
    let (_, error) = says(&audit(&db, &["query", "--limit", "2"]));
    let next = error.split('`').nth(1).expect("it says how to go on").to_owned();
    let words: Vec<&str> = next.split(' ').collect();
    assert_eq!(found(&db, &words), "a");
}

#[test]
fn comma_separated_values_have_a_head_and_no_formula() {
    let Recorded { gateway, db, upstream: _upstream } = recorded();
    gateway.send(&ask("=1+1", "x", false)).expect(200);
    wait(&gateway, 4);
    let (out, _) = says(&audit(&db, &["query", "--format", "csv", "--full"]));
    let mut lines = out.lines();
    has(
        lines.next().expect("a head line"),
        &["id,request_id,started,", ",headers,request,response,attempts"],
    );
    has(lines.next().expect("the newest"), &[",'=1+1,"]);
    assert!(!out.contains(",=1+1"), "{out}");
}

#[test]
fn one_exchange_can_be_read() {
    let Recorded { db, gateway: _gateway, upstream: _upstream } = recorded();
    let (out, _) = says(&audit(&db, &["query", "a"]));
    has(
        &out,
        &[
            "exchange ",
            "request id  a",
            "complete, status 200",
            "upstream    one",
            "POST /v1/chat/completions",
        ],
    );
    has(
        &out,
        &[
            "attempts\n  1. one, model a, status 200",
            "content: |\n        first\n        question",
            "content: hello",
        ],
    );
    assert!(!out.contains("\nheaders\n"), "{out}");
    has(&says(&audit(&db, &["query", "a", "--full"])).0, &["\nheaders\n", "x-request-id: a"]);
    let (out, _) = says(&audit(&db, &["query", "a", "--format", "jsonl"]));
    let row: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!(row["request"]["messages"][0]["content"], "first\nquestion");
    let number = row["id"].as_str().expect("the number is text").to_owned();
    has(&says(&audit(&db, &["query", &number])).0, &["request id  a"]);
    refuses(&db, &["query", "nobody"], 1, "there is no exchange `nobody`");
    refuses(&db, &["query", "a", "--model", "a"], 2, "leave the filters out");
}

#[test]
fn several_exchanges_of_one_request_id_are_listed() {
    let Recorded { gateway, db, upstream: _upstream } = recorded();
    gateway.send(&ask("a", "again", false)).expect(200);
    wait(&gateway, 4);
    let (out, error) = says(&audit(&db, &["query", "a"]));
    assert_eq!(out.lines().count(), 3, "{out}");
    has(&error, &["2 exchanges have this request id"]);
    refuses(&db, &["replay", "a"], 1, "2 exchanges have the request id `a`; give the number of one");
}

#[test]
fn stored_text_never_commands_the_terminal() {
    let Recorded { gateway, db, upstream: _upstream } = recorded();
    gateway.send(&ask("\u{9b}2J\u{202e}", "\u{1b}]0;title\u{7}\u{9b}31m", false)).expect(200);
    wait(&gateway, 4);
    let treacherous = ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}'];
    for arguments in [
        &["query"][..],
        &["query", "--full"],
        &["query", "--format", "csv", "--full"],
        &["query", "--format", "jsonl", "--full"],
        &["query", "b"],
        &["query", "nobody\u{1b}[31m"],
    ] {
        let (out, error) = both(&audit(&db, arguments));
        assert!(!out.contains(treacherous) && !error.contains(treacherous), "{arguments:?}:\n{out}\n{error}");
    }
    has(&says(&audit(&db, &["query", "--full"])).0, &["\\u{1b}]0;title\\u{7}\\u{9b}31m"]);
}

#[test]
fn what_looks_like_sql_is_only_looked_for() {
    let Recorded { db, gateway: _gateway, upstream: _upstream } = recorded();
    for value in ["' OR 1=1 --", "x'; DROP TABLE exchanges; --", "\"", "%", "_", "*'*"] {
        for flag in
            ["--model", "--key", "--caller", "--tenant", "--ip", "--upstream", "--endpoint", "--label"]
        {
            assert_eq!(found(&db, &[flag, value]), "", "{flag} {value}");
        }
        for flag in ["--status", "--outcome", "--since", "--until", "--limit", "--before"] {
            refuses(&db, &["query", flag, value], 2, "give ");
        }
        refuses(&db, &["query", value], 1, "there is no exchange");
        // The text may be there; that nothing else happens is enough.
        found(&db, &["--text", value]);
    }
    for (flag, value) in [("--limit", "0"), ("--limit", "10001"), ("--limit", "99999999999999999999")] {
        refuses(&db, &["query", flag, value], 2, "give a number from 1 to 10000");
    }
    refuses(&db, &["query", "--since", "1h", "--until", "2h"], 2, "`since` is after `until`");
    assert_eq!(found(&db, &[]), "c b a", "nothing was harmed");
}

#[test]
fn a_reader_that_has_seen_enough_may_leave() {
    let Recorded { gateway, db, upstream: _upstream } = recorded();
    let long = "x".repeat(300_000);
    gateway.send(&ask("a", &long, false)).expect(200);
    wait(&gateway, 4);
    let mut child = audit_command(&db, &["query", "--full", "--format", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be run");
    let mut first = [0; 1];
    child.stdout.take().expect("it is piped").read_exact(&mut first).expect("there is something");
    let output = child.wait_with_output().expect("it is our child");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn an_earlier_systems_record_is_named_and_left() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let db = folder.path().join("record.db");
    let records = "CREATE TABLE records (id INTEGER PRIMARY KEY, Time TEXT)";
    Connection::open(&db)
        .and_then(|connection| connection.execute_batch(records))
        .expect("a file can be made");
    refuses(&db, &["query"], 1, "is the audit of an earlier system");
    let before = fs::read(&db).expect("it is readable");
    refuses(&db, &["export", "--output", "x.jsonl"], 1, "is the audit of an earlier system");
    assert_eq!(fs::read(&db).expect("it is readable"), before);
}

#[test]
fn tail_follows_what_ends_and_survives_a_rotation() {
    let Recorded { mut gateway, db, upstream } = recorded();
    let mut child = audit_command(&db, &["tail", "--format", "jsonl", "-n", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary can be run");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut next = || {
        let line = lines.next().expect("there is another line").expect("it is text");
        let row: Value = serde_json::from_str(&line).expect("it is JSON");
        row["request_id"].as_str().expect("it has an id").to_owned()
    };
    assert_eq!(next(), "c");
    gateway.send(&ask("d", "x", false)).expect(200);
    assert_eq!(next(), "d");
    gateway.signal("TERM");
    gateway.wait_exit();
    let month = rows_month(&db);
    fs::rename(&db, db.with_file_name(format!("record_{month}.db"))).expect("the folder is writable");
    let later = Gateway::start(&format!(
        "upstreams:\n  - name: one\n    base_url: {}\naudit: {{ path: {} }}\n",
        upstream.url(),
        db.display()
    ));
    later.send(&ask("e", "x", false)).expect(200);
    assert_eq!(next(), "e", "nothing twice, nothing lost");
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .expect("`kill` can be run")
            .success()
    );
    assert_eq!(child.wait().expect("it is our child").code(), Some(130));
    assert_eq!(found(&db, &[]), "e d c b a");
}

/// The digits of the month that the rows of a file are of.
fn rows_month(db: &Path) -> String {
    let connection = Connection::open(db).expect("it can be opened");
    let sql = "SELECT replace(substr(max(started), 1, 7), '-', '') FROM exchanges";
    connection.query_row(sql, [], |row| row.get(0)).expect("it has rows")
}

#[test]
fn an_export_has_everything() {
    let Recorded { db, gateway: _gateway, upstream: _upstream } = recorded();
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let path = |name: &str| folder.path().join(name);
    let export = |name: &str, format: &str, further: &[&str]| {
        let output = path(name);
        let arguments = ["export", "--format", format, "--output", output.to_str().expect("it is text")];
        says(&audit(&db, &[&arguments, further].concat())).1
    };
    has(&export("all.jsonl", "jsonl", &[]), &["3 exchanges written"]);
    let rows = fs::read_to_string(path("all.jsonl")).expect("it is text");
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2]["request"]["messages"][0]["content"], "first\nquestion");
    assert_eq!(rows[2]["attempts"][0]["upstream"], "one");

    export("all.jsonl.gz", "jsonl", &["--model", "a"]);
    let mut text = String::new();
    let compressed = fs::File::open(path("all.jsonl.gz")).expect("it is there");
    flate2::read::GzDecoder::new(compressed).read_to_string(&mut text).expect("it is gzip");
    assert_eq!(text.lines().count(), 1);

    export("all.csv", "csv", &[]);
    let text = fs::read_to_string(path("all.csv")).expect("it is text");
    has(&text, &["id,request_id,started,", "first\\nquestion", ",\"[{\"\"number\"\":1,"]);

    export("all.db", "sqlite", &[]);
    assert_eq!(found(&path("all.db"), &[]), "c b a");
    let connection = Connection::open(path("all.db")).expect("it is a database");
    let sql = "SELECT (SELECT count(*) FROM attempts), (SELECT count(*) FROM records), (SELECT length(response) > 9 FROM exchanges WHERE request_id = 'a')";
    let counts = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    assert_eq!(counts, Ok((3, 3, true)));
    drop(connection);
    // What was there is replaced as a whole, and nothing is left beside it.
    export("all.db", "sqlite", &["--model", "a"]);
    assert_eq!(found(&path("all.db"), &[]), "a");
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .expect("it is a folder")
        .map(|entry| entry.expect("it is there").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["all.csv", "all.db", "all.jsonl", "all.jsonl.gz"]);
    refuses(&db, &["export", "--format", "sqlite", "--output", "x.gz"], 2, "leave `.gz` out");
    refuses(&db, &["export", "--output", "/nowhere/x.jsonl"], 1, "cannot be written");
    refuses(&db, &["export", "--output", folder.path().to_str().expect("it is text")], 1, "is a folder");
}

/// A record of `count` exchanges without a gateway, each with a request of some 1000 bytes.
fn many(folder: &Path, count: u32) -> PathBuf {
    let Recorded { db, gateway: _gateway, upstream: _upstream } = recorded();
    let path = folder.join("many.db");
    let output = path.to_str().expect("it is text");
    says(&audit(&db, &["export", "--format", "sqlite", "--model", "a", "--output", output]));
    let sql = format!(
        "BEGIN; WITH RECURSIVE numbers (number) AS (SELECT 2 UNION ALL SELECT number + 1 FROM numbers WHERE number < {count}) \
         INSERT INTO exchanges (id, request_id, started, stream, outcome, estimated, duration_ms, gateway_ms, \
         request_bytes, response_bytes, request_cut, response_cut, request) \
         SELECT id + number, 'copy', started, 0, 'complete', 0, 0, 0, 0, 0, 0, 0, hex(zeroblob(500)) \
         FROM exchanges, numbers WHERE request_id = 'a'; COMMIT"
    );
    Connection::open(&path)
        .and_then(|connection| connection.execute_batch(&sql))
        .expect("the copies can be written");
    path
}

#[test]
fn what_cannot_be_read_is_said_however_late_it_is_met() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let db = many(folder.path(), 40);
    let output = folder.path().join("all.jsonl");
    let export = ["export", "--output", output.to_str().expect("it is text")];
    has(&says(&audit(&db, &export)).1, &["40 exchanges written"]);
    for name in ["many_202001.db", "many_202002.db"] {
        fs::write(folder.path().join(name), "x".repeat(5000)).expect("the temporary folder is writable");
    }
    let exported = audit(&db, &export);
    let (_, error) = both(&exported);
    assert_eq!(exported.status.code(), Some(1), "{error}");
    has(&error, &["40 exchanges written", "the export is incomplete"]);
    for error in [error, says(&audit(&db, &["query", "--full"])).1] {
        for name in ["many_202001.db", "many_202002.db"] {
            assert_eq!(error.matches(name).count(), 1, "{error}");
        }
    }
    let lines = fs::read_to_string(&output).expect("it is text").lines().count();
    assert_eq!(lines, 40, "what can be read is there");
    // What is not asked for is not missed.
    says(&audit(&db, &[&export[..], &["--since", "2026-01-01"]].concat()));
}

#[test]
fn an_export_that_is_interrupted_leaves_nothing() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let db = many(folder.path(), 30_000);
    let target = folder.path().join("target");
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        fs::create_dir(&target).expect("the temporary folder is writable");
        let output = target.join("all.csv");
        let mut child = audit_command(
            &db,
            &["export", "--format", "csv", "--output", output.to_str().expect("it is text")],
        )
        .spawn()
        .expect("the binary can be run");
        let is_empty = || fs::read_dir(&target).expect("it is a folder").next().is_none();
        eventually("the export to begin", || (!is_empty()).then_some(()));
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(killed.expect("`kill` can be run").success());
        assert_eq!(child.wait().expect("it is our child").code(), Some(code));
        assert!(is_empty());
        fs::remove_dir(&target).expect("it is empty");
    }
}

#[test]
fn a_reload_refuses_a_record_that_cannot_be_used() {
    let Recorded { gateway, db, upstream } = recorded();
    fs::write(gateway.folder().join("plain"), "").expect("the folder is writable");
    let text = |more: &str| format!("upstreams:\n  - name: one\n    base_url: {}\n{more}", upstream.url());
    gateway.rewrite_config(&text("    headers: { x-new: a }\naudit: { path: plain/record.db }\n"));
    let refused = gateway.send_admin(&Request::post("/admin/reload", "{}"));
    assert_ne!(refused.head.status, 200);
    has(&String::from_utf8_lossy(&refused.body), &["the audit cannot use", "plain/record.db", "audit.path"]);
    gateway.send(&ask("d", "x", false)).expect(200);
    wait(&gateway, 4);
    assert_eq!(found(&db, &[]), "d c b a");
    let last = upstream.requests().pop().expect("it was asked");
    assert_eq!(last.header("x-new"), None, "nothing of that configuration is in use");
}

// parity: 149
#[test]
fn a_stored_request_is_sent_again() {
    let Recorded { gateway, db, upstream } = recorded();
    let before = upstream.count();
    let (out, error) = says(&audit(&db, &["replay", "a", "--to", &gateway.url()]));
    assert_eq!(upstream.count(), before + 1);
    let requests = upstream.requests();
    assert_eq!(requests[before].json(), requests[0].json());
    let answer: Value = serde_json::from_str(&out).expect("the answer is printed");
    assert_eq!(answer["choices"][0]["message"]["content"], "hello");
    has(
        &error,
        &["request: POST http://127.0.0.1:", "answer: 200 OK (was 200)", "the answer is the stored one"],
    );
}

#[test]
fn a_stream_is_streamed_again() {
    let Recorded { gateway, db, upstream: _upstream } = recorded();
    let (out, error) = says(&audit(&db, &["replay", "c", "--to", &gateway.url()]));
    has(&out, &["data: {", "data: [DONE]"]);
    has(&error, &["the answer is the stored one"]);
}

#[test]
fn a_different_answer_is_shown_as_a_difference() {
    let Recorded { db, gateway: _gateway, upstream: _upstream } = recorded();
    let other = Upstream::always(Reply::chat("bonjour"));
    let (_, error) = says(&audit(&db, &["replay", "a", "--to", &other.url(), "--key", "sk-again"]));
    has(&error, &["--- stored\n+++ now\n", "-      content: hello", "+      content: bonjour"]);
    assert_eq!(other.only().header("authorization"), Some("Bearer sk-again"));
    assert!(!error.contains("sk-again"), "{error}");
    // The host, the connection and the old request's id are not the new one's.
    assert_eq!(other.only().header("x-request-id"), None);
}

#[test]
fn the_key_of_a_replay_need_not_stand_on_the_command_line() {
    let Recorded { db, gateway: _gateway, upstream: _upstream } = recorded();
    let other = Upstream::always(Reply::chat("x"));
    let sent = |arguments: &[&str]| {
        let before = other.count();
        let mut command = audit_command(&db, &[&["replay", "a", "--to", &other.url()], arguments].concat());
        command.env("WITGATE_REPLAY_KEY", "sk-variable");
        says(&command.output().expect("the binary can be run"));
        other.requests()[before].header("authorization").map(str::to_owned)
    };
    assert_eq!(sent(&[]).as_deref(), Some("Bearer sk-variable"));
    assert_eq!(sent(&["--key", "sk-argument"]).as_deref(), Some("Bearer sk-argument"));
}

#[test]
fn what_was_not_stored_cannot_be_sent_again() {
    let upstream = Upstream::new(|request| match request.header("content-type") {
        Some("application/json") => Reply::chat_as_asked(request, &["x"]),
        _ => Reply::json(200, "{}"),
    });
    let start = |settings: &str| {
        Gateway::start(&format!(
            "upstreams:\n  - name: one\n    base_url: {}\naudit: {{ {settings} }}\n",
            upstream.url()
        ))
    };
    for (settings, why) in [("bodies: none", "`audit.bodies` was `none`"), ("body_max: 20", "was cut")] {
        let gateway = start(settings);
        gateway.send(&ask("a", "hi", false)).expect(200);
        wait(&gateway, 1);
        refuses(&file(&gateway), &["replay", "a", "--to", &gateway.url()], 1, why);
    }
    let gateway = start("enabled: true");
    let form = "--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nw\r\n--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\u{0}\r\n--x--\r\n";
    let request = Request::new("POST", "/v1/audio/transcriptions")
        .header("content-type", "multipart/form-data; boundary=x")
        .header("x-request-id", "form")
        .with_body(form);
    gateway.send(&request);
    wait(&gateway, 1);
    refuses(&file(&gateway), &["replay", "form", "--to", &gateway.url()], 1, "it cannot be sent again");
    refuses(&file(&gateway), &["replay", "nobody"], 1, "there is no exchange `nobody`");
    refuses(&file(&gateway), &["replay", "form", "--to", "nonsense"], 2, "give a URL");
}

#[test]
fn nobody_there_is_said() {
    let Recorded { db, gateway: _gateway, upstream: _upstream } = recorded();
    let refusing = Refusing::new();
    refuses(&db, &["replay", "a", "--to", &refusing.origin()], 1, "does not answer");
}

#[test]
fn other_plugins_are_tried_on_what_was_stored() {
    let thinking = "<think>hm</think>hello";
    let upstream = Upstream::new(move |request| Reply::chat_as_asked(request, &[thinking]));
    let gateway = Gateway::before(&upstream);
    gateway.send(&ask("a", "hi", false)).expect(200);
    gateway.send(&ask("c", "hi", true)).expect(200);
    wait(&gateway, 2);
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file_of = |name: &str, plugins: &str| {
        let path = folder.path().join(name);
        // The upstream is never asked.
        let text = format!(
            "upstreams: [{{ name: far, base_url: \"https://far.invalid/v1\", api_key: k }}]\nplugins:\n{plugins}"
        );
        fs::write(&path, text).expect("the temporary folder is writable");
        path.to_str().expect("it is text").to_owned()
    };
    let plugins = file_of(
        "plugins.yaml",
        "  - { name: think, source: \"builtin:think-strip\" }\n  - name: rewrite\n    source: builtin:request-rewrite\n    config: { rules: [ { then: { set: { /temperature: 0.5 } } } ] }\n",
    );
    let before = upstream.count();
    for id in ["a", "c"] {
        let (out, error) = says(&audit(&file(&gateway), &["replay", id, "--plugins", &plugins]));
        has(&out, &["--- request without plugins\n+++ request with plugins\n", "+temperature: 0.5"]);
        has(
            &out,
            &[
                "--- answer without plugins\n+++ answer with plugins\n",
                "<think>hm</think>hello",
                "content: hello",
            ],
        );
        assert!(!error.contains("panicked"), "{error}");
    }
    assert_eq!(upstream.count(), before, "nothing is sent");
    let none = file_of("none.yaml", "  []\n");
    refuses(&file(&gateway), &["replay", "a", "--plugins", &none], 1, "has no plugins");
    refuses(&file(&gateway), &["replay", "a", "--plugins", "/nowhere.yaml"], 1, "cannot be read");
}

#[test]
fn a_long_exchange_is_followed_when_it_ends() {
    let gate = witgate_tests::Gate::new();
    let held = gate.clone();
    let upstream = Upstream::new(move |request| match request.json()["stream"].as_bool() {
        Some(true) => Reply::stream([chunk(&json!({"content": "a"}), None)])
            .wait(&held)
            .event(&chunk(&json!({}), Some("stop")))
            .event("[DONE]"),
        _ => Reply::chat("x"),
    });
    let gateway = Gateway::before(&upstream);
    let mut slow = gateway.ask(&ask("slow", "x", true));
    assert_eq!(slow.head().status, 200);
    gateway.send(&ask("quick", "x", false)).expect(200);
    wait(&gateway, 1);
    let mut child = audit_command(&file(&gateway), &["tail"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary can be run");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut next = || lines.next().expect("there is another line").expect("it is text");
    has(&next(), &["id ", "model"]);
    has(&next(), &["quick"]);
    gate.open();
    slow.rest();
    has(&next(), &["slow"]);
    // It ends by itself when nobody reads any more.
    drop(lines);
    eventually("tail to notice", || {
        gateway.send(&ask("more", "x", false)).expect(200);
        child.try_wait().expect("it is our child")
    });
}
