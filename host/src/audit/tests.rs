//! The audit against real files.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use super::*;
use crate::audit::database::{self, Database, Failure};
use crate::audit::files::Files;
use crate::audit::period::number_at;
use crate::audit::record::{Fault, Record, Tried};
use crate::chat::{StopReason, Usage};
use crate::config::Rotation;
use crate::recording::{Answer, Recording};

/// Long enough for a crowded machine; nothing waits so long that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the clock of `never` has done so, which it does once.
static CLOCK_PANICKED: AtomicBool = AtomicBool::new(false);

/// An audit in a folder of its own.
struct Subject {
    folder: TempDir,
    settings: config::Audit,
    audit: Audit,
    runtime: tokio::runtime::Runtime,
}

impl Subject {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut config::Audit)) -> Self {
        // Before any row, so that no period is over by the clock alone.
        Self::at("1970-01-01", change)
    }

    /// One whose clock stands still.
    fn at(today: &'static str, change: impl FnOnce(&mut config::Audit)) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), today, change)
    }

    fn in_folder(folder: TempDir, today: &'static str, change: impl FnOnce(&mut config::Audit)) -> Self {
        let mut settings =
            config::Audit { path: folder.path().join("data/record.db"), ..config::Audit::default() };
        change(&mut settings);
        let clock = match today {
            "1970-01-01" => || UNIX_EPOCH,
            "2026-11-21" => || time("2026-11-21"),
            "2026-12-01" => || time("2026-12-01"),
            "never" => || {
                assert!(CLOCK_PANICKED.swap(true, Relaxed), "there is no such day");
                UNIX_EPOCH
            },
            other => panic!("no test has asked for {other} yet"),
        };
        let audit = Audit::start_with(&settings, clock).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { folder, settings, audit, runtime }
    }

    fn put(&self, record: Record) {
        self.audit.put(Item::Row(Box::new(record)), None);
    }

    fn put_at(&self, times: &[&str]) {
        for time in times {
            self.put(record(number_at(time)));
        }
    }

    /// Has everything written and the files closed.
    #[track_caller]
    fn flush(&self) {
        assert_eq!(self.runtime.block_on(self.audit.flush(PATIENCE)), 0, "{:?}", self.audit.state());
    }

    #[track_caller]
    fn wait(&self, what: &str, mut is_so: impl FnMut(State) -> bool) {
        let start = Instant::now();
        while !is_so(self.audit.state()) {
            assert!(start.elapsed() < PATIENCE, "{what}: {:?}", self.audit.state());
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn file(&self) -> &Path {
        &self.settings.path
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.file().with_file_name(name)
    }

    /// The names of the databases and how many rows each has.
    fn files(&self) -> Vec<(String, i64)> {
        let mut files: Vec<_> = fs::read_dir(self.file().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".db"))
            .map(|name| {
                let rows = count(&self.beside(&name));
                (name, rows)
            })
            .collect();
        files.sort();
        files
    }
}

fn time(text: &str) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(number_at(text).div_euclid(1024) as u64)
}

fn record(number: i64) -> Record {
    Record {
        number,
        request_id: HeaderValue::from_str(&format!("id-{number}")).unwrap(),
        caller: None,
        key: None,
        tenant: None,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        method: Method::POST,
        target: "/v1/chat/completions".to_owned(),
        endpoint: "chat.completions",
        model: Some("gpt-4o".into()),
        is_stream: false,
        status: Some(StatusCode::OK),
        outcome: "complete",
        fault: None,
        finish: Some(StopReason::Stop),
        usage: Some(Usage { input: 10, output: 20, ..Usage::default() }),
        first_token: None,
        duration: Duration::from_millis(1500),
        overhead: Duration::from_micros(250),
        request_len: 11,
        response_len: 12,
        labels: Vec::new(),
        plugins: Vec::new(),
        recording: None,
        attempts: vec![Tried {
            upstream: "one".into(),
            model: "gpt-4o-mini".into(),
            status: Some(StatusCode::OK),
            fault: None,
            began: Duration::from_millis(1),
            took: Duration::from_millis(1400),
        }],
    }
}

fn recording(request: &[u8], answer: Answer) -> Box<Recording> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("a/b"))]);
    let mut recording = Recording::begin(&headers, &[], Some(1 << 20));
    recording.note_request(&Bytes::copy_from_slice(request));
    recording.answer = answer;
    Box::new(recording)
}

fn count(file: &Path) -> i64 {
    query(file, "SELECT count(*) FROM exchanges")
}

#[track_caller]
fn query<T: rusqlite::types::FromSql>(file: &Path, sql: &str) -> T {
    let connection = Connection::open(file).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

#[test]
fn a_row_has_every_fact_in_its_column() {
    // parity: 142
    let subject = Subject::new();
    let number = number_at("2026-11-21 16:16:00.123456") + 7;
    let fault = || Fault { kind: "upstream_timeout".to_owned(), message: "too slow: really".to_owned() };
    subject.put(Record {
        caller: Some("ann".to_owned()),
        key: Some("key-1".into()),
        tenant: Some("team".into()),
        is_stream: true,
        outcome: "failed",
        fault: Some(fault()),
        usage: Some(Usage {
            input: 1,
            output: 2,
            cached: 3,
            reasoning: 4,
            is_estimated: true,
            ..Usage::default()
        }),
        first_token: Some(Duration::from_millis(80)),
        labels: vec![("team".to_owned(), "\"a\"".to_owned())],
        plugins: vec![("redact".into(), Duration::from_micros(1250))],
        recording: Some(recording(b"{}", Answer::Whole(vec!["a".into(), "b".into()]))),
        attempts: vec![
            Tried { fault: Some(fault()), status: None, ..record(0).attempts.remove(0) },
            record(0).attempts.remove(0),
        ],
        ..record(number)
    });
    subject.flush();
    let connection = Connection::open(subject.file()).unwrap();
    let expected = [
        ("id", Value::Integer(number)),
        ("request_id", text(&format!("id-{number}"))),
        ("started", text("2026-11-21 16:16:00.123456")),
        ("caller", text("ann")),
        ("key", text("key-1")),
        ("tenant", text("team")),
        ("ip", text("127.0.0.1")),
        ("method", text("POST")),
        ("path", text("/v1/chat/completions")),
        ("endpoint", text("chat.completions")),
        ("model", text("gpt-4o")),
        ("upstream_model", text("gpt-4o-mini")),
        ("upstream", text("one")),
        ("stream", Value::Integer(1)),
        ("status", Value::Integer(200)),
        ("outcome", text("failed")),
        ("error_kind", text("upstream_timeout")),
        ("error", text("too slow: really")),
        ("finish", text("stop")),
        ("input_tokens", Value::Integer(1)),
        ("output_tokens", Value::Integer(2)),
        ("cached_tokens", Value::Integer(3)),
        ("reasoning_tokens", Value::Integer(4)),
        ("estimated", Value::Integer(1)),
        ("ttft_ms", Value::Real(80.0)),
        ("duration_ms", Value::Real(1500.0)),
        ("gateway_ms", Value::Real(0.25)),
        ("request_bytes", Value::Integer(11)),
        ("response_bytes", Value::Integer(12)),
        ("request_cut", Value::Integer(0)),
        ("response_cut", Value::Integer(0)),
        ("labels", text(r#"{"team":"\"a\""}"#)),
        ("plugins", text(r#"{"redact":1.25}"#)),
        ("headers", text(r#"{"content-type":"a/b"}"#)),
        ("request", text("{}")),
        ("response", text("ab")),
    ];
    let sql = "SELECT * FROM exchanges";
    let row: Vec<(String, Value)> = connection
        .query_row(sql, [], |row| {
            (0..row.as_ref().column_count())
                .map(|place| Ok((row.as_ref().column_name(place)?.to_owned(), row.get(place)?)))
                .collect()
        })
        .unwrap();
    assert_eq!(row.len(), expected.len());
    for ((name, value), (expected_name, expected)) in row.iter().zip(&expected) {
        assert_eq!((&**name, value), (*expected_name, expected));
    }
    let attempts: Vec<String> = connection
        .prepare("SELECT concat_ws('|', exchange, number, upstream, model, status, error_kind, error, began_ms, took_ms) FROM attempts")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        attempts,
        [
            format!("{number}|1|one|gpt-4o-mini|upstream_timeout|too slow: really|1.0|1400.0"),
            format!("{number}|2|one|gpt-4o-mini|200|1.0|1400.0")
        ]
    );
    let old: String = query(
        subject.file(),
        "SELECT concat_ws('|', id, Time, IP, Model, Type, CompletionTokens, PromptTokens, TotalTokens, Tool, \
         Multimodal, Headers, Request, Response) FROM records",
    );
    assert_eq!(
        old,
        format!(
            "{number}|2026-11-21 16:16:00.123456|127.0.0.1|gpt-4o-mini|chat.completions|2|1|3|0|0|\
             {{\"content-type\":\"a/b\"}}|{{}}|ab"
        )
    );
}

#[test]
fn what_is_not_known_is_null() {
    let subject = Subject::new();
    subject.put(Record {
        usage: None,
        status: None,
        finish: None,
        model: None,
        attempts: Vec::new(),
        ..record(1024)
    });
    subject.flush();
    let nulls = "caller, key, tenant, model, upstream_model, upstream, status, error_kind, error, finish, \
                 input_tokens, output_tokens, cached_tokens, reasoning_tokens, ttft_ms, labels, plugins, headers, \
                 request, response";
    assert_eq!(
        query::<Option<Value>>(subject.file(), &format!("SELECT coalesce({nulls}) FROM exchanges")),
        None
    );
    assert_eq!(query::<i64>(subject.file(), "SELECT TotalTokens FROM records"), 0);
}

#[track_caller]
fn check_bodies(recording: Recording, request: Option<&str>, response: Option<&str>, cut: (bool, bool)) {
    let subject = Subject::new();
    subject.put(Record { recording: Some(Box::new(recording)), ..record(1024) });
    subject.flush();
    let stored =
        |column: &str| query::<Option<String>>(subject.file(), &format!("SELECT {column} FROM exchanges"));
    let is_cut = |column: &str| query::<bool>(subject.file(), &format!("SELECT {column} FROM exchanges"));
    assert_eq!((stored("request").as_deref(), stored("response").as_deref()), (request, response));
    assert_eq!((is_cut("request_cut"), is_cut("response_cut")), cut);
}

#[test]
fn bodies_are_stored_as_text_or_described() {
    let whole = |pieces: &[&'static [u8]]| {
        Answer::Whole(pieces.iter().map(|piece| Bytes::from_static(piece)).collect())
    };
    let cut = |request: &'static [u8], answer: Answer| {
        let mut recording = *recording(request, answer);
        (recording.is_request_cut, recording.is_answer_cut) = (true, true);
        recording
    };
    check_bodies(*recording(b"a", Answer::None), Some("a"), None, (false, false));
    check_bodies(*recording(b"", whole(&[])), Some(""), Some(""), (false, false));
    check_bodies(*recording(b"a", whole(&[b"\xc3", b"\xa9"])), Some("a"), Some("é"), (false, false));
    check_bodies(cut(b"a\xc3", whole(&[b"b\xe2\x82"])), Some("a"), Some("b"), (true, true));
    check_bodies(
        *recording(b"\xff", Answer::Other("audio/mpeg".to_owned())),
        Some(r#"{"bytes":11,"content_type":"a/b"}"#),
        Some(r#"{"bytes":12,"content_type":"audio/mpeg"}"#),
        (false, false),
    );
    // Broken in the middle: not a character that was cut.
    check_bodies(
        cut(b"a\xc3b", whole(&[b"\xff"])),
        Some(r#"{"bytes":11,"content_type":"a/b"}"#),
        Some(r#"{"bytes":12,"content_type":null}"#),
        (false, false),
    );
    let mut none = Recording::begin(&HeaderMap::new(), &[], None);
    none.note_request(&Bytes::from_static(b"a"));
    none.forgo_bodies();
    check_bodies(none, None, None, (false, false));
}

#[test]
fn a_burst_is_written_whole_and_at_once() {
    // parity: 143
    let subject = Subject::new();
    let first = number_at("2026-11-21");
    for number in 0..5000 {
        subject.put(record(first + number));
    }
    subject.flush();
    assert_eq!(subject.files(), [("record.db".to_owned(), 5000)]);
    assert_eq!(query::<i64>(subject.file(), "SELECT count(*) FROM attempts"), 5000);
    assert_eq!(query::<String>(subject.file(), "PRAGMA integrity_check"), "ok");
    assert_eq!(query::<String>(subject.file(), "PRAGMA journal_mode"), "wal");
    let state = subject.audit.state();
    assert_eq!((state.written, state.dropped, state.lost, state.queued), (5000, 0, 0, 0));
    assert_eq!((state.queued_bytes, state.lag), (0, Duration::ZERO));
}

#[test]
fn a_row_is_there_without_being_asked_for() {
    let subject = Subject::new();
    subject.put(record(number_at("2026-11-21")));
    subject.wait("the row", |state| state.written == 1);
    // Another connection sees it while the writer has the file open.
    assert_eq!(count(subject.file()), 1);
}

#[test]
fn with_block_new_exchanges_wait_for_room() {
    // parity: 143
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let settings = config::Audit { queue: 2, ..config::Audit::default() };
        // Nobody writes, so that nothing becomes free by itself.
        let audit = Audit::with(&settings);
        let first = audit.admit().await.unwrap();
        let second = audit.admit().await.unwrap();
        assert!(first.is_some() && second.is_some());
        let refused = audit.wait_for_room(Duration::from_millis(5)).await.err().unwrap();
        assert_eq!((refused.kind, refused.retry_after), (ErrorKind::Overloaded, Some(ADMIT_MAX)));
        let wait = || audit.wait_for_room(PATIENCE);
        let free = async {
            drop((first, second));
        };
        let (third, fourth, ()) = tokio::join!(wait(), wait(), free);
        assert!(third.is_ok() && fourth.is_ok(), "both waiters are told of two places");
    });
}

#[test]
fn with_block_the_bytes_that_wait_count_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let settings = config::Audit { queue_bytes: 1000, ..config::Audit::default() };
        let audit = Audit::with(&settings);
        let places = [audit.admit().await.unwrap(), audit.admit().await.unwrap()];
        for place in places {
            // What was admitted may end, however large it is.
            let target = "x".repeat(2000);
            audit.put(Item::Row(Box::new(Record { target, ..record(1) })), place);
        }
        assert!(audit.wait_for_room(Duration::from_millis(5)).await.is_err());
        let mut taken = Vec::new();
        let waiters = async { tokio::join!(audit.wait_for_room(PATIENCE), audit.wait_for_room(PATIENCE)) };
        let writer = async {
            audit.shared.queue.take(&mut taken, Duration::ZERO);
            taken.clear();
        };
        let ((first, second), ()) = tokio::join!(waiters, writer);
        assert!(first.is_ok() && second.is_ok());
    });
}

#[test]
fn every_text_of_a_row_counts() {
    type Change = fn(&mut Record, &str);
    let bytes = |change: Change| {
        let [short, long] = [1, 100_001].map(|len| {
            let mut record = record(1);
            record.fault = Some(Fault { kind: String::new(), message: String::new() });
            change(&mut record, &"x".repeat(len));
            record.bytes()
        });
        long - short
    };
    let texts: [Change; 10] = [
        |record, text| record.model = Some(text.into()),
        |record, text| record.caller = Some(text.to_owned()),
        |record, text| record.key = Some(text.into()),
        |record, text| record.tenant = Some(text.into()),
        |record, text| record.target = text.to_owned(),
        |record, text| record.request_id = HeaderValue::from_str(text).unwrap(),
        |record, text| record.labels = vec![("a".to_owned(), text.to_owned())],
        |record, text| record.plugins = vec![(text.into(), Duration::ZERO)],
        |record, text| record.fault = Some(Fault { kind: String::new(), message: text.to_owned() }),
        |record, text| record.attempts[0].model = text.into(),
    ];
    for (place, text) in texts.into_iter().enumerate() {
        assert_eq!(bytes(text), 100_000, "text {place}");
    }
}

#[test]
fn what_nobody_asked_room_for_is_bounded_too() {
    let audit = Audit::with(&config::Audit { queue: 10, ..config::Audit::default() });
    for number in 0..50 {
        audit.put(Item::Row(Box::new(record(number))), None);
    }
    let state = audit.state();
    assert_eq!((state.queued, state.dropped), (20, 30));
}

#[test]
fn with_drop_a_full_queue_drops_and_counts() {
    // parity: 143
    let settings = config::Audit { queue: 10, on_full: OnFull::Drop, ..config::Audit::default() };
    let audit = Audit::with(&settings);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(audit.admit()).unwrap().is_none());
    for number in 0..50 {
        audit.put(Item::Row(Box::new(record(number))), None);
    }
    let state = audit.state();
    assert_eq!((state.queued, state.dropped), (10, 40));
}

#[test]
fn one_that_is_off_records_nothing() {
    let audit = Audit::off();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert!(!audit.is_on() && runtime.block_on(audit.admit()).unwrap().is_none());
    audit.add_labels(1, vec![("a".to_owned(), "b".to_owned())]);
    assert_eq!(audit.state().queued, 0);
    assert_eq!(runtime.block_on(audit.flush(PATIENCE)), 0);
}

#[test]
fn labels_found_later_are_merged() {
    let subject = Subject::new();
    let label = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let number = number_at("2026-11-21");
    subject.put(Record { labels: label("a", "1"), ..record(number) });
    subject.put(record(number + 1));
    subject.audit.add_labels(number, label("b", "2"));
    subject.flush();
    subject.audit.add_labels(number, label("a", "3"));
    subject.audit.add_labels(number + 1, label("c", "4"));
    subject.audit.add_labels(number + 2, label("nobody", "5"));
    subject.flush();
    let sql = "SELECT group_concat(labels, ' ' ORDER BY id) FROM exchanges";
    assert_eq!(query::<String>(subject.file(), sql), r#"{"a":"3","b":"2"} {"c":"4"}"#);
    assert_eq!(subject.audit.state().written, 2);
}

#[track_caller]
fn check_rotation(rotate: Rotation, flushes: &[&[&str]], expected: &[(&str, i64)]) {
    let subject = Subject::with(|settings| settings.rotate = rotate);
    for times in flushes {
        subject.put_at(times);
        subject.flush();
    }
    let expected: Vec<(String, i64)> =
        expected.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect();
    assert_eq!(subject.files(), expected, "{flushes:?}");
}

#[test]
fn a_row_goes_into_the_file_of_its_period() {
    // parity: 145
    let (october, november) = ("2026-10-31 23:59:59.999999", "2026-11-01 00:00:00.000000");
    check_rotation(Rotation::Monthly, &[&[october]], &[("record.db", 1)]);
    check_rotation(
        Rotation::Monthly,
        &[&[october], &[november]],
        &[("record.db", 1), ("record_202610.db", 1)],
    );
    // In one batch.
    check_rotation(Rotation::Monthly, &[&[november, october]], &[("record.db", 1), ("record_202610.db", 1)]);
    // An exchange that began before the end of the month and ended after it.
    check_rotation(
        Rotation::Monthly,
        &[&[october], &[november], &["2026-10-31 23:00:00"], &["2026-11-02"]],
        &[("record.db", 2), ("record_202610.db", 2)],
    );
    // A period whose file was never made.
    check_rotation(
        Rotation::Monthly,
        &[&[november], &["2026-09-01"]],
        &[("record.db", 1), ("record_202609.db", 1)],
    );
    check_rotation(
        Rotation::Monthly,
        &[&["2026-08-01"], &["2026-11-01"], &["2027-01-01"]],
        &[("record.db", 1), ("record_202608.db", 1), ("record_202611.db", 1)],
    );
    check_rotation(
        Rotation::Daily,
        &[&["2026-11-20"], &["2026-11-21", "2026-11-21 23:00:00"]],
        &[("record.db", 2), ("record_20261120.db", 1)],
    );
    check_rotation(
        Rotation::Never,
        &[&["2026-01-01"], &["2027-11-21"], &["2026-01-01 01:00:00"]],
        &[("record.db", 3)],
    );
}

#[test]
fn what_was_recorded_is_found_after_another_rotation() {
    let subject = Subject::with(|settings| settings.rotate = Rotation::Monthly);
    let early = number_at("2026-11-05");
    subject.put_at(&["2026-11-05", "2026-11-20"]);
    subject.flush();
    let settings = config::Audit { rotate: Rotation::Daily, ..subject.settings.clone() };
    subject.audit.configure(&settings).unwrap();
    subject.put_at(&["2026-11-21"]);
    subject.flush();
    assert_eq!(subject.files(), [("record.db".to_owned(), 1), ("record_20261120.db".to_owned(), 2)]);
    assert!(query::whole(subject.file(), early).unwrap().is_some());
}

#[test]
fn no_row_is_lost_where_a_busy_month_ends() {
    // parity: 145
    let subject = Subject::with(|settings| settings.rotate = Rotation::Monthly);
    let boundary = number_at("2026-11-01");
    // Both months in every batch, in no order, while somebody reads.
    let reader = Connection::open(subject.file()).unwrap();
    for number in 0..4000_i64 {
        subject.put(record(boundary + (number * 2657) % 4000 - 2000));
        if number % 500 == 0 {
            reader.query_row("SELECT count(*) FROM exchanges", [], |_| Ok(())).unwrap();
            subject.wait("some rows", |state| state.written >= number as u64 / 2);
        }
    }
    subject.flush();
    assert_eq!(count(subject.file()), 2000);
    assert_eq!(count(&subject.beside("record_202610.db")), 2000);
    for file in [subject.file(), &subject.beside("record_202610.db")] {
        assert_eq!(query::<String>(file, "PRAGMA integrity_check"), "ok");
    }
    assert_eq!(query::<i64>(subject.file(), "SELECT min(id) FROM exchanges"), boundary);
    assert_eq!(subject.audit.state().rotations, 1);
}

#[test]
fn a_reader_does_not_hold_up_the_end_of_a_month() {
    // parity: 145
    let subject = Subject::new();
    subject.put_at(&["2026-10-01", "2026-10-02"]);
    subject.wait("October", |state| state.written == 2);
    let reader = Connection::open(subject.file()).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let rows = |reader: &Connection| {
        reader.query_row("SELECT count(*) FROM exchanges", [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(rows(&reader), Ok(2));
    subject.put_at(&["2026-10-03", "2026-11-01"]);
    subject.wait("November", |state| state.written == 4);
    assert_eq!(rows(&reader), Ok(2), "its view of the file has not changed");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(rows(&reader), Ok(3));
    drop(reader);
    subject.flush();
    assert_eq!(subject.files(), [("record.db".to_owned(), 1), ("record_202610.db".to_owned(), 3)]);
    // The log that the reader held is put into its file when there is time.
    Files::default().absorb_logs(&subject.settings);
    assert!(!database::has_log(&subject.beside("record_202610.db")));
    assert_eq!(count(&subject.beside("record_202610.db")), 3);
}

#[test]
fn a_name_that_is_taken_gets_a_number() {
    // parity: 145
    let subject = Subject::new();
    subject.put_at(&["2026-10-01"]);
    subject.flush();
    // What an earlier gateway has left there.
    let taken = Connection::open(subject.beside("record_202610.db")).unwrap();
    taken.execute_batch("CREATE TABLE records (id INTEGER PRIMARY KEY)").unwrap();
    drop(taken);
    fs::write(subject.beside("record_202610_2.db"), "not a database").unwrap();
    subject.put_at(&["2026-11-01"]);
    subject.flush();
    subject.put_at(&["2026-10-02"]);
    subject.flush();
    assert_eq!(count(&subject.beside("record_202610_3.db")), 2);
    assert_eq!(fs::read(subject.beside("record_202610_2.db")).unwrap(), b"not a database");
    assert_eq!(query::<i64>(&subject.beside("record_202610.db"), "SELECT count(*) FROM records"), 0);
}

#[test]
fn a_month_that_ended_meanwhile_is_closed_at_the_start() {
    // parity: 145
    let subject = Subject::new();
    subject.put_at(&["2026-11-21"]);
    subject.flush();
    let Subject { folder, audit, .. } = subject;
    drop(audit);
    let subject = Subject::in_folder(folder, "2026-12-01", |_| {});
    subject.wait("a rotation", |state| state.rotations == 1);
    subject.flush();
    assert_eq!(subject.files(), [("record.db".to_owned(), 0), ("record_202611.db".to_owned(), 1)]);
}

#[test]
fn a_late_row_goes_past_an_empty_live_file() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::in_folder(folder, "2026-12-01", |_| {});
    subject.put_at(&["2026-11-21"]);
    subject.flush();
    subject.put_at(&["2026-12-01", "2026-11-22"]);
    subject.flush();
    assert_eq!(subject.files(), [("record.db".to_owned(), 1), ("record_202611.db".to_owned(), 2)]);
    assert_eq!(subject.audit.state().rotations, 0);
}

#[test]
fn a_closed_file_that_cannot_be_written_holds_up_nobody() {
    let subject = Subject::new();
    subject.put_at(&["2026-10-01", "2026-11-01"]);
    subject.flush();
    let backup = Connection::open(subject.beside("record_202610.db")).unwrap();
    backup.execute_batch("BEGIN IMMEDIATE").unwrap();
    subject.put_at(&["2026-10-02", "2026-11-02"]);
    subject.wait("the late row", |state| state.written == 4);
    subject.flush();
    assert_eq!(subject.audit.state().failures, 0);
    drop(backup);
    let files = [("record.db", 2), ("record_202610.db", 1), ("record_202610_2.db", 1)];
    assert_eq!(subject.files(), files.map(|(name, rows)| (name.to_owned(), rows)));
}

#[test]
fn a_damaged_closed_file_leaves_the_live_one_in_its_place() {
    let subject = Subject::new();
    subject.put_at(&["2026-10-01", "2026-11-01"]);
    subject.flush();
    let closed = subject.beside("record_202610.db");
    // Its tables can be read, but a page that has to be written cannot.
    let root: i64 = query(&closed, "SELECT rootpage FROM sqlite_schema WHERE name = 'exchanges'");
    let mut bytes = fs::read(&closed).unwrap();
    let page = schema::PAGE_BYTES as usize;
    let start = (usize::try_from(root).unwrap() - 1) * page;
    bytes[start..start + page].fill(0xa5);
    fs::write(&closed, bytes).unwrap();
    subject.put_at(&["2026-10-02", "2026-11-02"]);
    subject.flush();
    assert_eq!(count(subject.file()), 2);
    assert!(!subject.beside("record.corrupt-1.db").exists());
    let aside = fs::exists(subject.beside("record_202610.corrupt-1.db")).unwrap();
    assert_eq!((aside, count(&closed)), (true, 1));
}

#[test]
fn labels_reach_a_row_in_a_closed_file() {
    let subject = Subject::new();
    subject.put_at(&["2026-10-01", "2026-11-01"]);
    subject.audit.add_labels(number_at("2026-10-01"), vec![("a".to_owned(), "b".to_owned())]);
    subject.flush();
    let labels: String = query(&subject.beside("record_202610.db"), "SELECT labels FROM exchanges");
    assert_eq!(labels, r#"{"a":"b"}"#);
}

/// Puts a row, breaks something, puts another one, and sees that it is written once what was broken is mended.
#[track_caller]
fn check_healing(damage: impl FnOnce(&Subject) -> Box<dyn FnOnce(&Subject)>, kept: i64) {
    let subject = Subject::new();
    subject.put_at(&["2026-11-01"]);
    subject.wait("the first row", |state| state.written == 1);
    let mend = damage(&subject);
    subject.put_at(&["2026-11-02"]);
    mend(&subject);
    subject.wait("the second row", |state| state.written == 2);
    assert_eq!(subject.audit.state().retrying, None);
    subject.flush();
    assert_eq!(count(subject.file()), kept);
    assert_eq!(query::<String>(subject.file(), "PRAGMA integrity_check"), "ok");
}

fn wait_for_trouble(subject: &Subject) {
    subject.wait("trouble", |state| state.retrying.is_some() && state.failures > 1 && state.queued == 1);
}

#[test]
fn it_heals_when_the_file_is_gone() {
    // parity: 144
    let nothing = || -> Box<dyn FnOnce(&Subject)> { Box::new(|_| {}) };
    check_healing(
        |subject| {
            fs::remove_file(subject.file()).unwrap();
            nothing()
        },
        1,
    );
    check_healing(
        |subject| {
            fs::remove_dir_all(subject.file().parent().unwrap()).unwrap();
            nothing()
        },
        1,
    );
    check_healing(
        |subject| {
            fs::rename(subject.file(), subject.beside("taken.db")).unwrap();
            nothing()
        },
        1,
    );
}

#[test]
fn it_heals_when_the_folder_is_not_one_for_a_while() {
    // parity: 144
    check_healing(
        |subject| {
            let folder = subject.file().parent().unwrap().to_owned();
            fs::remove_dir_all(&folder).unwrap();
            fs::write(&folder, "").unwrap();
            Box::new(move |subject| {
                wait_for_trouble(subject);
                fs::remove_file(&folder).unwrap();
            })
        },
        1,
    );
}

#[test]
fn it_heals_when_the_file_was_locked() {
    // parity: 144
    check_healing(
        |subject| {
            let other = Connection::open(subject.file()).unwrap();
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            Box::new(move |subject| {
                wait_for_trouble(subject);
                drop(other);
            })
        },
        2,
    );
}

#[test]
fn it_heals_when_a_folder_had_the_name_of_the_file() {
    // parity: 144
    check_healing(
        |subject| {
            // It cannot be opened for writing, whoever asks.
            fs::rename(subject.file(), subject.beside("kept")).unwrap();
            fs::create_dir(subject.file()).unwrap();
            Box::new(|subject| {
                wait_for_trouble(subject);
                fs::remove_dir(subject.file()).unwrap();
                fs::rename(subject.beside("kept"), subject.file()).unwrap();
            })
        },
        2,
    );
}

#[test]
fn a_damaged_file_is_put_aside() {
    let subject = Subject::new();
    subject.put_at(&["2026-11-01"]);
    subject.flush();
    for (round, garbage) in
        ["not a database, but long enough to be read as the head of one".repeat(200), "x".repeat(100)]
            .into_iter()
            .enumerate()
    {
        fs::write(subject.file(), &garbage).unwrap();
        subject.put_at(&["2026-11-02"]);
        subject.flush();
        assert_eq!(count(subject.file()), 1);
        let aside = subject.beside(&format!("record.corrupt-{}.db", round + 1));
        assert_eq!(fs::read_to_string(aside).unwrap(), garbage);
    }
    assert_eq!(subject.audit.state().quarantined, 2);
}

#[test]
fn a_file_damaged_in_the_middle_is_put_aside() {
    let subject = Subject::new();
    let first = number_at("2026-11-01");
    for number in 0..2000 {
        subject.put(record(first + number));
    }
    subject.flush();
    let mut bytes = fs::read(subject.file()).unwrap();
    // All but the page with the tables' names.
    bytes[schema::PAGE_BYTES as usize..].fill(0xa5);
    fs::write(subject.file(), bytes).unwrap();
    for number in 2000..2010 {
        subject.put(record(first + number));
    }
    subject.flush();
    assert_eq!(count(subject.file()), 10);
    assert!(subject.beside("record.corrupt-1.db").exists());
}

#[test]
fn a_bad_row_does_not_hold_up_the_others() {
    let subject = Subject::new();
    let first = number_at("2026-11-01");
    // Another exchange of the same number.
    subject.put(Record { duration: Duration::from_millis(1), ..record(first + 300) });
    subject.flush();
    for number in 0..600 {
        subject.put(record(first + number));
    }
    subject.flush();
    let state = subject.audit.state();
    assert_eq!((count(subject.file()), state.written, state.lost, state.failures), (600, 600, 1, 0));
}

#[test]
fn it_survives_a_panic() {
    let subject = Subject::at("never", |_| {});
    subject.wait("the panic", |_| CLOCK_PANICKED.load(Relaxed));
    subject.put_at(&["2026-11-01"]);
    subject.flush();
    assert_eq!(count(subject.file()), 1);
}

/// The files of rows that were put aside.
fn put_aside(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_str().unwrap().contains(".unwritten-")).collect()
}

#[test]
fn what_cannot_be_written_by_the_end_is_taken_up_by_the_next_start_once() {
    let subject = Subject::new();
    let label = |name: &str| vec![(name.to_owned(), "x".to_owned())];
    subject.put_at(&["2026-11-01"]);
    subject.wait("the first row", |state| state.written == 1);
    let other = Connection::open(subject.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let request = Some(recording(b"\"hi\n\"", Answer::None));
    let duration = Duration::from_nanos(1_234_567_891);
    let second = number_at("2026-11-02");
    subject.put(Record { recording: request, duration, ..record(second) });
    subject.audit.add_labels(second, label("late"));
    subject.audit.add_labels(number_at("2026-11-01"), label("later"));
    subject.put_at(&["2026-10-03"]);
    assert_eq!(subject.runtime.block_on(subject.audit.flush(Duration::from_millis(50))), 0);
    drop(other);
    let Subject { mut folder, audit, .. } = subject;
    drop(audit);
    let data = folder.path().join("data");
    let [file] = &put_aside(&data)[..] else { panic!("{:?}", put_aside(&data)) };
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    let lines = fs::read(file).unwrap();
    for _ in 0..2 {
        // The second time as if the process had been killed before it removed the file.
        fs::write(file, &lines).unwrap();
        let subject = Subject::in_folder(folder, "1970-01-01", |_| {});
        subject.wait("the file to go", |_| put_aside(&data).is_empty());
        subject.flush();
        assert_eq!(subject.files(), [("record.db".to_owned(), 2), ("record_202610.db".to_owned(), 1)]);
        assert_eq!(query::<i64>(subject.file(), "SELECT count(*) FROM attempts"), 2);
        let row = "FROM exchanges WHERE request LIKE '%hi%'";
        assert_eq!(query::<String>(subject.file(), &format!("SELECT request {row}")), "\"hi\n\"");
        assert_eq!(query::<f64>(subject.file(), &format!("SELECT duration_ms {row}")), cells::ms(duration));
        assert_eq!(query::<String>(subject.file(), &format!("SELECT labels {row}")), r#"{"late":"x"}"#);
        let first = "SELECT labels FROM exchanges WHERE labels LIKE '%later%'";
        assert_eq!(query::<String>(subject.file(), first), r#"{"later":"x"}"#);
        assert_eq!(subject.audit.state().lost, 0);
        let Subject { folder: again, audit, .. } = subject;
        drop(audit);
        folder = again;
    }
}

#[test]
fn lines_that_cannot_be_understood_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(
        data.join("record.unwritten-7.jsonl"),
        "{\"row\":\n{\"labels\":{\"number\":1,\"labels\":[]}}\n",
    )
    .unwrap();
    let subject = Subject::in_folder(folder, "1970-01-01", |_| {});
    let damaged = data.join("record.unwritten-7.jsonl.damaged");
    subject.wait("the file to be put away", |_| put_aside(&data) == [damaged.clone()]);
    subject.put_at(&["2026-11-01"]);
    subject.flush();
    assert_eq!(count(subject.file()), 1);
}

#[test]
fn what_cannot_be_put_aside_either_is_counted() {
    let subject = Subject::new();
    subject.put_at(&["2026-11-01"]);
    subject.wait("the first row", |state| state.written == 1);
    let other = Connection::open(subject.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let number = number_at("2026-11-02");
    let part = subject.beside(&format!("record.unwritten-{number}.jsonl.part"));
    fs::create_dir(&part).unwrap();
    subject.put_at(&["2026-11-02", "2026-11-03"]);
    assert_eq!(subject.runtime.block_on(subject.audit.flush(Duration::from_millis(50))), 2);
    drop(other);
    subject.flush();
    assert_eq!(count(subject.file()), 3);
}

#[track_caller]
fn check_refused(settings: &config::Audit, expected: &str) {
    let refused = Audit::start(settings).err().unwrap();
    assert!(refused.contains(expected) && refused.contains("audit.path"), "{refused}");
    assert!(refused.contains(&settings.path.display().to_string()), "{refused}");
}

#[test]
fn somebody_elses_file_is_never_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.db");
    for (sql, expected) in [
        ("CREATE TABLE records (id INTEGER PRIMARY KEY)", "earlier gateway"),
        ("CREATE TABLE notes (id INTEGER PRIMARY KEY)", "another program"),
    ] {
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(&path).unwrap();
        let settings =
            config::Audit { path: path.clone(), on_full: OnFull::Drop, ..config::Audit::default() };
        check_refused(&settings, expected);
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn only_one_gateway_writes_to_a_file() {
    let subject = Subject::new();
    check_refused(&subject.settings, "in use by another gateway");
    subject.flush();
    Audit::start(&subject.settings).unwrap();
}

#[test]
fn with_drop_it_starts_without_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data"), "").unwrap();
    let mut settings =
        config::Audit { path: folder.path().join("data/record.db"), ..config::Audit::default() };
    let refused = Audit::start(&settings).err().unwrap();
    assert!(refused.contains("data"), "{refused}");
    assert!(
        refused.contains("in `audit.path`") && refused.contains("audit: { enabled: false }"),
        "{refused}"
    );
    settings.on_full = OnFull::Drop;
    Audit::start(&settings).unwrap();
}

#[test]
fn settings_are_taken_over() {
    let subject = Subject::with(|settings| settings.is_enabled = false);
    assert!(!subject.file().exists());
    let mut settings = config::Audit { is_enabled: true, ..subject.settings.clone() };
    subject.audit.configure(&settings).unwrap();
    subject.put_at(&["2026-11-01"]);
    subject.wait("the first row", |state| state.written == 1);
    settings.path = subject.beside("other.db");
    subject.audit.configure(&settings).unwrap();
    subject.put_at(&["2026-11-02"]);
    subject.wait("the second row", |state| state.written == 2);
    assert_eq!((count(subject.file()), count(&settings.path)), (1, 1));
    settings.is_enabled = false;
    subject.audit.configure(&settings).unwrap();
    // The file is given up when it is not needed any more.
    let start = Instant::now();
    while Audit::start(&config::Audit { is_enabled: true, ..settings.clone() }).is_err() {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_path_that_cannot_be_used_is_not_taken_over() {
    let subject = Subject::new();
    let foreign = subject.beside("notes.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE notes (id)").unwrap();
    let other = Subject::new();
    let change = |path: &Path, on_full: OnFull| {
        let settings = config::Audit { path: path.to_owned(), on_full, ..subject.settings.clone() };
        subject.audit.configure(&settings)
    };
    for (path, expected) in [
        (&*foreign, "another program"),
        (other.file(), "in use by another gateway"),
        (&foreign.join("record.db"), "cannot be made"),
    ] {
        let refused = change(path, OnFull::Block).unwrap_err();
        assert!(refused.contains(expected) && refused.contains("`audit.path`"), "{refused}");
        assert!(refused.contains(&path.display().to_string()), "{refused}");
    }
    assert!(change(&foreign, OnFull::Drop).is_err());
    assert_eq!(subject.audit.settings().path, subject.settings.path);
    // With `drop` it may get better, as at the start.
    change(&foreign.join("record.db"), OnFull::Drop).unwrap();
    // Its own file by another name is not another gateway's.
    let same = subject.file().with_file_name("../data/record.db");
    subject.audit.configure(&subject.settings).unwrap();
    subject.put_at(&["2026-11-01"]);
    subject.wait("the row", |state| state.written == 1);
    change(&same, OnFull::Block).unwrap();
}

#[test]
fn rows_and_files_that_are_too_old_are_removed() {
    // parity: 146
    let day = Duration::from_secs(86_400);
    let subject = Subject::new();
    subject.put_at(&["2026-08-01", "2026-09-30", "2026-10-31"]);
    for number in 0..1000 {
        subject.put(record(number_at("2026-11-05") + number));
    }
    subject.put_at(&["2026-11-20"]);
    subject.flush();
    // Not ours, though it looks like it.
    fs::write(subject.beside("record_202401.db"), "").unwrap();
    let mut settings = subject.settings.clone();
    let Subject { folder, audit, .. } = subject;
    drop(audit);
    settings.retention = day * 30;
    let subject = Subject::in_folder(folder, "2026-11-21", |now| now.retention = day * 30);
    subject.wait("two files less", |_| !subject.beside("record_202609.db").exists());
    subject.flush();
    assert!(!subject.beside("record_202608.db").exists());
    assert!(subject.beside("record_202401.db").exists());
    // Its last day is less than thirty days ago.
    assert_eq!(count(&subject.beside("record_202610.db")), 1);
    assert_eq!(count(subject.file()), 1001);
    let Subject { folder, audit, .. } = subject;
    drop(audit);
    let subject = Subject::in_folder(folder, "2026-11-21", |now| now.retention = day * 10);
    subject.wait("fewer rows", |_| count(&subject.settings.path) == 1);
    assert_eq!(query::<i64>(subject.file(), "SELECT count(*) FROM attempts"), 1);
    assert_eq!(query::<i64>(subject.file(), "SELECT min(id) FROM exchanges"), number_at("2026-11-20"));
}

#[test]
fn all_files_together_stay_within_their_bound() {
    // parity: 146
    let size_max = 4 << 20;
    let subject = Subject::with(|settings| settings.size_max = size_max);
    let row = |number: i64| Record {
        recording: Some(recording(&[b'x'; 3000], Answer::Whole(vec![Bytes::from(vec![b'y'; 3000])]))),
        ..record(number)
    };
    let november = number_at("2026-11-01");
    for number in 0..100 {
        subject.put(row(number_at("2026-10-01") + number));
    }
    for number in 0..3000 {
        subject.put(row(november + number));
        if number % 100 == 99 {
            subject.wait("what was put", |state| state.queued == 0);
        }
    }
    let size = || {
        let closed = database::bytes(&subject.beside("record_202610.db"));
        closed + fs::metadata(subject.file()).unwrap().len()
    };
    subject.wait("a small file", |_| size() <= size_max);
    subject.flush();
    assert!(!subject.beside("record_202610.db").exists(), "the oldest go first");
    assert!(database::bytes(subject.file()) <= size_max);
    let left = count(subject.file());
    assert!((100..1000).contains(&left), "{left} rows are left");
    let newest: i64 = query(subject.file(), "SELECT max(id) FROM exchanges");
    assert_eq!(newest, november + 2999);
    assert_eq!(query::<String>(subject.file(), "PRAGMA integrity_check"), "ok");
}

#[test]
fn a_long_log_removes_no_closed_file() {
    let subject = Subject::new();
    let row =
        |number: i64| Record { recording: Some(recording(&[b'x'; 50_000], Answer::None)), ..record(number) };
    for number in 0..20 {
        subject.put(row(number_at("2026-10-01") + number));
    }
    subject.put_at(&["2026-11-01"]);
    subject.wait("both months", |state| state.written == 21);
    // A reader keeps the log from being emptied.
    let reader = Connection::open(subject.file()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM exchanges").unwrap();
    for number in 0..100 {
        subject.put(row(number_at("2026-11-02") + number));
        subject.wait("the row", |state| state.queued == 0);
    }
    let closed = subject.beside("record_202610.db");
    let file = |path: &Path| fs::metadata(path).unwrap().len();
    let files = file(subject.file()) + file(&closed);
    let settings = config::Audit { size_max: (files + (2 << 20)) * 16 / 15, ..subject.settings.clone() };
    assert!(database::bytes(subject.file()) > settings.size_max, "the log is long");
    let mut nobody = Files::default();
    retention::enforce(&mut nobody, &settings, UNIX_EPOCH).unwrap();
    assert!(closed.exists());
    let too_small = config::Audit { size_max: file(&closed), ..settings };
    retention::enforce(&mut nobody, &too_small, UNIX_EPOCH).unwrap();
    assert!(!closed.exists());
    drop(reader);
}

#[test]
fn the_log_of_a_reader_that_has_left_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("record.db")).unwrap();
    let limit = database.connection().query_row("PRAGMA journal_size_limit", [], |row| row.get::<_, i64>(0));
    assert_eq!(limit, Ok(64 << 20));
}

#[test]
fn a_full_disk_is_nothing_that_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = Database::open(&folder.path().join("record.db")).unwrap();
    let pages: i64 = database.connection().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let limit = |database: &Database, pages: i64| {
        database.connection().query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    };
    limit(&database, pages);
    let queue = Queue::new();
    let settings = config::Audit::default();
    let body = || recording(&[b'x'; 100_000], Answer::None);
    for number in 0..10 {
        let place = queue.enter(&settings).unwrap();
        queue.push(Item::Row(Box::new(Record { recording: Some(body()), ..record(number) })), place);
    }
    let mut batch = Vec::new();
    queue.take(&mut batch, Duration::ZERO);
    assert!(matches!(database.write(&batch), Err(Failure::Blocked(reason)) if reason.contains("full")));
    assert_eq!(database.newest().unwrap(), None, "a batch is written whole or not at all");
    limit(&database, 1 << 20);
    database.write(&batch).unwrap();
    assert_eq!(database.newest().unwrap(), Some(9));
}
