//! Real files, read back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::Connection;
use rusqlite::types::Value as Sql;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::filter::NUMBERS;
use super::*;

/// 2026-11-21 00:00:00 UTC, in seconds.
const DAY: i64 = 1_795_219_200;

/// The number of an exchange that began so many seconds after [`DAY`].
fn number(seconds: i64) -> i64 {
    (DAY + seconds) * 1_000_000 * NUMBERS
}

struct Audit {
    folder: TempDir,
}

impl Audit {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.file("record.db")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file as the gateway leaves it.
    fn closed(&self, name: &str, seconds: &[i64]) {
        let connection = create(&self.file(name));
        seconds.iter().for_each(|second| put(&connection, number(*second), &[]));
    }

    #[track_caller]
    fn list(&self, query: &[(&str, &str)]) -> Page {
        list(&self.path(), &Filter::parse(query.iter().copied()).unwrap()).unwrap()
    }

    /// The request ids of what is found.
    #[track_caller]
    fn found(&self, query: &[(&str, &str)]) -> Vec<String> {
        self.list(query).exchanges.iter().map(|row| row.text("request_id").unwrap().to_owned()).collect()
    }
}

fn create(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    schema::create(&connection).unwrap();
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    connection
}

/// Inserts an exchange; its request id is its number unless it is said.
fn put(connection: &Connection, number: i64, columns: &[(&str, Sql)]) {
    let text = |text: &str| Sql::Text(text.to_owned());
    let mut row: Vec<(&str, Sql)> = vec![
        ("id", Sql::Integer(number)),
        ("request_id", Sql::Text(number.to_string())),
        ("started", text("2026-11-21 00:00:00.000000")),
        ("outcome", text("complete")),
    ];
    for zero in ["stream", "estimated", "duration_ms", "gateway_ms", "request_bytes", "response_bytes"] {
        row.push((zero, Sql::Integer(0)));
    }
    row.extend([("request_cut", Sql::Integer(0)), ("response_cut", Sql::Integer(0))]);
    for (name, value) in columns {
        row.retain(|(known, _)| known != name);
        row.push((name, value.clone()));
    }
    let names: Vec<&str> = row.iter().map(|(name, _)| *name).collect();
    let places = vec!["?"; row.len()].join(", ");
    let sql = format!("INSERT INTO exchanges ({}) VALUES ({places})", names.join(", "));
    connection.execute(&sql, params_from_iter(row.iter().map(|(_, value)| value))).unwrap();
}

fn text(text: &str) -> Sql {
    Sql::Text(text.to_owned())
}

fn attempt(connection: &Connection, exchange: i64, number: i64, upstream: &str) {
    let sql = "INSERT INTO attempts (exchange, number, upstream, model, status, began_ms, took_ms) VALUES (?, ?, ?, 'm', 503, 1.5, 2)";
    connection.execute(sql, (exchange, number, upstream)).unwrap();
}

/// Three exchanges, `a`, `b` and `c`, the last the newest.
fn three() -> Audit {
    let audit = Audit::new();
    let connection = create(&audit.path());
    put(
        &connection,
        number(1),
        &[
            ("request_id", text("a")),
            ("model", text("gpt-4o")),
            ("upstream_model", text("gpt-4o-2024")),
            ("upstream", text("one")),
            ("key", text("alice")),
            ("caller", text("alice")),
            ("tenant", text("50%_off'; --")),
            ("ip", text("10.0.0.1")),
            ("endpoint", text("chat.completions")),
            ("status", Sql::Integer(200)),
            ("labels", text(r#"{"team":"red","a:b":"c"}"#)),
            (
                "request",
                text(r#"{"model":"gpt-4o","messages":[{"role":"user","content":"say \"Héllo\" 100%"}]}"#),
            ),
            ("response", text(r#"{"choices":[{"message":{"content":"h\u00e9 there"}}]}"#)),
            ("duration_ms", Sql::Real(5_000.0)),
        ],
    );
    put(
        &connection,
        number(2),
        &[
            ("request_id", text("b")),
            ("model", text("claude")),
            ("upstream", text("two")),
            ("status", Sql::Integer(503)),
            ("outcome", text("failed")),
            ("labels", text("{ not json")),
        ],
    );
    attempt(&connection, number(2), 1, "one");
    attempt(&connection, number(2), 2, "two");
    put(&connection, number(3), &[("request_id", text("c")), ("outcome", text("cancelled"))]);
    audit
}

#[track_caller]
fn check(query: &[(&str, &str)], expected: &str) {
    assert_eq!(three().found(query).join(" "), expected, "{query:?}");
}

#[test]
fn the_newest_come_first() {
    check(&[], "c b a");
    check(&[("limit", "2")], "c b");
}

#[test]
fn a_filter_finds_what_it_says() {
    check(&[("model", "gpt-4o")], "a");
    check(&[("model", "gpt-*")], "a");
    check(&[("model", "*-2024")], "a");
    check(&[("model", "GPT-4o")], "");
    check(&[("key", "alice")], "a");
    check(&[("caller", "al*")], "a");
    check(&[("ip", "10.*")], "a");
    check(&[("endpoint", "chat.completions")], "a");
    check(&[("upstream", "one")], "b a");
    check(&[("upstream", "tw*")], "b");
    check(&[("status", "200")], "a");
    check(&[("status", "5xx")], "b");
    check(&[("status", ">=200")], "b a");
    check(&[("status", "200, 503")], "b a");
    check(&[("outcome", "cancelled")], "c");
    check(&[("id", "b")], "b");
    check(&[("id", &number(2).to_string())], "b");
    check(&[("since", "2026-11-21T00:00:02Z")], "c b");
    check(&[("until", "2026-11-21T00:00:02Z")], "a");
    check(&[("until", "2026-11-21")], "c b a");
    check(&[("until", "2026-11-20")], "");
    check(&[("before", &number(2).to_string())], "a");
    check(&[("model", "gpt*"), ("status", "503")], "");
}

#[test]
fn labels_are_found_by_name_and_value() {
    check(&[("label", "team")], "a");
    check(&[("label", "team:red")], "a");
    check(&[("label", "team:redder")], "");
    check(&[("label", "a:b")], "a");
    check(&[("label", "a:b:c")], "a");
    check(&[("label", "team:red"), ("label", "a:b")], "a");
    check(&[("label", "team:red"), ("label", "other")], "");
    check(&[("label", "red")], "");
}

#[test]
fn text_is_found_in_request_and_answer_however_json_writes_it() {
    check(&[("text", "say \"Héllo\"")], "a");
    check(&[("text", "SAY \\\"h")], "a");
    check(&[("text", "hé there")], "a");
    check(&[("text", "100%")], "a");
    check(&[("text", "1%0")], "");
    check(&[("text", "gpt_4o")], "");
    check(&[("text", "\\")], "a");
}

#[test]
fn what_looks_like_sql_is_only_looked_for() {
    let audit = three();
    let hostile =
        ["' OR 1=1 --", "'; DROP TABLE exchanges; --", "%", "_", "\"", "\\", "a' UNION SELECT 1 --", "[a-z]"];
    for name in Filter::NAMES {
        for value in hostile {
            // What is not refused finds nothing, but where `%` and the like are in a body.
            if let Ok(filter) = Filter::parse([(name, value)]) {
                let found = list(&audit.path(), &filter).unwrap().exchanges.len();
                let is_in_body = name == "text" && ["%", "_", "\"", "\\"].contains(&value);
                assert!(found == 0 || is_in_body, "{name}={value}: {found}");
            }
        }
    }
    assert_eq!(audit.found(&[("tenant", "50%_off'; --")]), ["a"]);
    assert_eq!(audit.found(&[]).len(), 3, "nothing was harmed");
}

#[test]
fn pages_follow_each_other_without_gap_or_overlap() {
    let audit = Audit::new();
    audit.closed("record_202611.db", &(0..10).collect::<Vec<_>>());
    audit.closed("record.db", &(10..25).collect::<Vec<_>>());
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let filter = Filter::default().with_limit(4).with_before(before);
        let page = list(&audit.path(), &filter).unwrap();
        seen.extend(page.exchanges.iter().map(Row::id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<i64> = (0..25).rev().map(number).collect();
    assert_eq!(seen, expected);
    assert_eq!(count(&audit.path(), &Filter::default()), Ok(25));
}

#[test]
fn a_page_that_is_just_full_has_no_next() {
    let page = three().list(&[("limit", "3")]);
    assert_eq!((page.exchanges.len(), page.next), (3, None));
    assert_eq!(three().list(&[("limit", "2")]).next, Some(number(2)));
}

#[test]
fn rows_of_overlapping_files_are_merged() {
    let audit = Audit::new();
    // The month was kept as one file, then by day; some came late.
    audit.closed("record_202611.db", &[0, 4, 8]);
    audit.closed("record_202611_2.db", &[1, 5]);
    audit.closed("record_20261121.db", &[2, 6, 8]);
    audit.closed("record.db", &[3, 7]);
    let expected: Vec<String> = (0..=8).rev().map(|second| number(second).to_string()).collect();
    assert_eq!(audit.found(&[]), expected);
    assert_eq!(audit.found(&[("limit", "3")]), expected[..3]);
}

#[test]
fn rows_of_a_file_that_was_begun_under_another_rotation_are_found() {
    let audit = Audit::new();
    // Kept by month until the 21st, then by day.
    let (fifth, day) = (-16 * 86_400, 86_400);
    audit.closed("record_20261121.db", &[fifth, 0]);
    audit.closed("record.db", &[day]);
    let number_of = |seconds: i64| number(seconds).to_string();
    assert_eq!(audit.found(&[("since", "2026-11-05"), ("until", "2026-11-06")]), [number_of(fifth)]);
    assert_eq!(audit.found(&[("until", "2026-11-21")]), [number_of(0), number_of(fifth)]);
    assert!(whole(&audit.path(), number(fifth)).unwrap().is_some());
    assert_eq!(count(&audit.path(), &Filter::parse([("until", "2026-11-06")]).unwrap()), Ok(1));
}

#[test]
fn only_files_of_the_time_asked_for_are_opened() {
    let audit = three();
    fs::write(audit.file("record_202401.db"), "no database, and long").unwrap();
    let notes = audit.list(&[]).notes;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("record_202401.db` is no SQLite database"), "{notes:?}");
    assert_eq!(audit.list(&[("since", "2026-11-21")]).notes, Vec::<String>::new());
}

#[test]
fn an_earlier_systems_file_is_named_and_left() {
    let audit = three();
    let records = "CREATE TABLE records (id INTEGER PRIMARY KEY, Time TEXT)";
    Connection::open(audit.file("record_202501.db")).unwrap().execute_batch(records).unwrap();
    let page = audit.list(&[]);
    assert_eq!(page.exchanges.len(), 3);
    assert!(
        page.notes[0].contains("record_202501.db` is the audit of an earlier system"),
        "{:?}",
        page.notes
    );
    let live = audit.file("old.db");
    Connection::open(&live).unwrap().execute_batch(records).unwrap();
    let problem = list(&live, &Filter::default()).unwrap_err();
    assert!(problem.contains("has only the table `records`"), "{problem}");
}

#[track_caller]
fn refused(prepare: impl FnOnce(&Path), message: &str) {
    let audit = Audit::new();
    prepare(&audit.path());
    let problem = list(&audit.path(), &Filter::default()).unwrap_err();
    assert!(problem.contains(message), "{problem}");
}

#[test]
fn what_is_no_audit_is_refused() {
    refused(|path| fs::write(path, [b'x'; 4096]).unwrap(), "is no SQLite database");
    refused(|path| fs::create_dir(path).unwrap(), "is not a file");
    refused(
        |path| Connection::open(path).unwrap().execute_batch("CREATE TABLE notes (id)").unwrap(),
        "it has no table `exchanges`",
    );
    refused(
        |path| {
            let newer = "UPDATE meta SET value = '99' WHERE key = 'schema'";
            create(path).execute_batch(newer).unwrap();
        },
        "newer",
    );
}

#[test]
fn what_is_not_there_yet_is_empty() {
    let audit = Audit::new();
    assert!(audit.list(&[]).exchanges.is_empty());
    assert!(list(Path::new("/nowhere/at/all/record.db"), &Filter::default()).unwrap().exchanges.is_empty());
    fs::write(audit.path(), "").unwrap();
    assert!(audit.list(&[]).exchanges.is_empty());
    assert_eq!(get(&audit.path(), "a"), Ok(None));
}

#[test]
fn reading_leaves_no_trace_and_needs_no_permission_to_write() {
    let audit = three();
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(audit.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (before, bytes) = (names(), fs::read(audit.path()).unwrap());
    assert_eq!(before, ["record.db"]);
    audit.list(&[]);
    assert_eq!((names(), fs::read(audit.path()).unwrap()), (before, bytes));
}

#[test]
fn rows_are_read_while_a_writer_has_the_file() {
    let audit = Audit::new();
    let mut writer = create(&audit.path());
    put(&writer, number(1), &[]);
    assert_eq!(audit.found(&[]).len(), 1, "what is only in the log is read");
    let transaction = writer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    put(&transaction, number(2), &[]);
    assert_eq!(audit.found(&[]).len(), 1, "what is not committed is not there, and nobody waits");
    transaction.commit().unwrap();
    assert_eq!(audit.found(&[]).len(), 2);
}

#[test]
fn one_exchange_is_read_whole() {
    let audit = three();
    let value = get(&audit.path(), "a").unwrap().unwrap();
    assert_eq!(value["id"], json!(number(1).to_string()));
    assert_eq!(value["labels"]["team"], "red");
    assert_eq!(value["request"]["messages"][0]["content"], "say \"Héllo\" 100%");
    assert_eq!(value["stream"], false);
    assert_eq!(value["attempts"], json!([]));
    let failed = get(&audit.path(), &number(2).to_string()).unwrap().unwrap();
    assert_eq!(failed["request"], Value::Null);
    assert_eq!(failed["labels"], "{ not json");
    let upstreams: Vec<_> =
        failed["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["upstream"]).collect();
    assert_eq!(upstreams, ["one", "two"]);
    assert_eq!(failed["attempts"][0]["took_ms"], 2.0);
    for id in ["nowhere", "", "0", "-1", "' OR 1=1 --", "99999999999999999999", "12"] {
        assert_eq!(get(&audit.path(), id), Ok(None), "{id}");
    }
    assert!(get(&audit.path(), &"x".repeat(5000)).is_err());
}

#[test]
fn several_with_one_request_id_are_named() {
    let audit = three();
    let connection = Connection::open(audit.path()).unwrap();
    put(&connection, number(9), &[("request_id", text("a"))]);
    let value = get(&audit.path(), "a").unwrap().unwrap();
    assert_eq!(value["id"], json!(number(9).to_string()));
    assert_eq!(value["also"], json!([number(1).to_string()]));
}

#[test]
fn a_request_id_of_digits_is_found_too() {
    let audit = three();
    put(&Connection::open(audit.path()).unwrap(), number(9), &[("request_id", text("12345"))]);
    assert_eq!(find(&audit.path(), "12345").unwrap().len(), 1);
}

#[test]
fn what_ended_lately_is_found_however_long_it_took() {
    let audit = three();
    let ended = |seconds: i64| {
        let time = UNIX_EPOCH + Duration::from_secs((DAY + seconds).unsigned_abs());
        let filter = Filter::default().ended_since(time, Duration::from_secs(3600));
        let page = list(&audit.path(), &filter).unwrap();
        page.exchanges.iter().map(|row| row.text("request_id").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ended(3), ["c", "a"], "`a` took five seconds");
    assert_eq!(ended(6), ["a"]);
    assert_eq!(ended(7), Vec::<String>::new());
}

#[test]
fn a_page_is_json_with_its_columns_in_order() {
    let audit = three();
    let page = serde_json::to_string(&audit.list(&[("id", "a")])).unwrap();
    assert!(page.starts_with(r#"{"exchanges":[{"id":"1838"#), "{page}");
    assert!(page.ends_with(r#"}],"next":null}"#), "{page}");
    let value: Value = serde_json::from_str(&page).unwrap();
    let row = value["exchanges"][0].as_object().unwrap();
    assert_eq!(row.len(), 33);
    assert!(!row.contains_key("request") && !row.contains_key("headers") && !row.contains_key("attempts"));
    let whole = serde_json::to_string(&whole(&audit.path(), number(1)).unwrap().unwrap()).unwrap();
    assert!(whole.contains(r#""request":{"model":"gpt-4o","messages""#), "the order of keys stays: {whole}");
}
