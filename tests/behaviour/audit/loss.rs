//! Nothing is lost: in a burst, at the end, and hardly anything when the process is killed.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use witgate_tests::audit::{count, file, rows};
use witgate_tests::{Connection, Gateway, PATIENCE, Request, eventually, now};

use super::ask;

const ECHO: &str = "upstreams: [{ name: one, base_url: 'builtin:echo' }]\n";

/// Sends `each` requests over each of some connections, one after another.
pub(crate) fn burst(gateway: &Gateway, connections: usize, each: usize) {
    let request = ask("m", false);
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut connection = Connection::open(gateway.address());
                for _ in 0..each {
                    connection.send(&request).expect(200);
                }
            });
        }
    });
}

// parity: 143
#[test]
fn twenty_thousand_exchanges_in_a_burst_are_all_recorded() {
    let mut gateway = Gateway::start(ECHO);
    burst(&gateway, 8, 2_500);
    // What is queued is written before the end.
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert_eq!(count(&file(&gateway)), 20_000);
    let attempts = rows(&file(&gateway), "SELECT count(*) AS n FROM attempts");
    assert_eq!(attempts[0]["n"], 20_000);
}

// parity: 135
#[test]
fn the_end_of_the_gateway_loses_no_row() {
    for signal in ["TERM", "INT"] {
        let mut gateway = Gateway::start(ECHO);
        burst(&gateway, 4, 50);
        gateway.signal(signal);
        assert!(gateway.wait_exit().success());
        // Asked before anybody reads it: a reader makes one.
        let leftover = gateway.folder().join("witgate-data/record.db-wal");
        assert!(!leftover.exists(), "the file is closed in an orderly way");
        assert_eq!(count(&file(&gateway)), 200, "{signal}");
    }
}

/// The most that may be lost: what was answered so shortly before the process was killed. It is the batch interval of
/// 5 ms and what a crowded machine adds.
const LAST_MOMENT: Duration = Duration::from_millis(500);

// parity: 143
#[test]
fn a_killed_gateway_leaves_a_sound_file_that_misses_the_last_moment_at_most() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let path = folder.path().join("record.db");
    let config = format!("audit: {{ path: {} }}\n{ECHO}", path.display());
    let mut all_certain = 0;
    for round in 0..30 {
        let before = count(&path);
        let mut gateway = Gateway::start(&config);
        burst(&gateway, 1, 3);
        eventually("the first rows", || (count(&path) >= before + 3).then_some(()));
        // Killed in the middle of a burst, each time after another number of answers.
        let answered = AtomicUsize::new(0);
        let times = thread::scope(|scope| {
            let connections: Vec<_> = (0..4).map(|_| Connection::open(gateway.address())).collect();
            let loads: Vec<_> = connections
                .into_iter()
                .map(|mut connection| {
                    let answered = &answered;
                    scope.spawn(move || {
                        let mut times = Vec::new();
                        let request = ask("m", false).bytes();
                        while connection.try_write(&request).is_ok() && connection.try_head().is_some() {
                            if !connection.rest().0.is_empty() {
                                times.push(now());
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        times
                    })
                })
                .collect();
            // Long enough that some answers are older than the last moment, and each time another while.
            let begun = now();
            let least = LAST_MOMENT + Duration::from_millis(50 + 13 * round);
            eventually("some answers", || {
                (answered.load(Ordering::Relaxed) > 0 && begun.elapsed() > least).then_some(())
            });
            gateway.signal("KILL");
            let killed = now();
            let times: Vec<_> =
                loads.into_iter().flat_map(|load| load.join().expect("no load panics")).collect();
            times.into_iter().map(|time| killed.saturating_duration_since(time)).collect::<Vec<_>>()
        });
        gateway.wait_exit();
        check_sound(&path);
        let certain = times.iter().filter(|age| **age > LAST_MOMENT).count();
        let recorded = count(&path) - before - 3;
        all_certain += certain;
        assert!(recorded >= certain, "round {round}: {recorded} of {certain} certain ones are there");
        assert!(recorded <= times.len() + 4, "round {round}: nothing is there twice");
    }
    assert!(all_certain > 100, "the load was long enough to tell: {all_certain}");
}

#[track_caller]
fn check_sound(path: &Path) {
    let connection = rusqlite::Connection::open(path).expect("the file opens");
    connection.busy_timeout(PATIENCE).expect("a time-out can be set");
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("the file can be checked");
    assert_eq!(verdict, "ok");
}

#[test]
fn a_full_queue_makes_new_exchanges_wait_and_then_refuses_them() {
    let gateway = Gateway::start(&format!("audit: {{ queue: 2 }}\n{ECHO}"));
    let lock = lock(&gateway);
    let start = now();
    let statuses: Vec<u16> = (0..4).map(|_| gateway.send(&ask("m", false)).status()).collect();
    assert!(statuses.contains(&503), "{statuses:?}");
    assert!(start.elapsed() > Duration::from_secs(4), "it waits before it refuses");
    let refused = gateway.send(&ask("m", false)).expect(503);
    assert!(refused.header("retry-after").is_some() && refused.error_message().contains("audit"));
    drop(lock);
    let recorded = statuses.iter().filter(|status| **status == 200).count();
    eventually("all that was answered", || (count(&file(&gateway)) >= recorded).then_some(()));
    gateway.send(&ask("m", false)).expect(200);
}

#[test]
fn a_full_queue_drops_rows_where_that_is_wanted() {
    let gateway = Gateway::start(&format!("audit: {{ queue: 2, on_full: drop }}\n{ECHO}"));
    let lock = lock(&gateway);
    for _ in 0..20 {
        gateway.send(&ask("m", false)).expect(200);
    }
    let state = gateway.send_admin(&Request::get("/stats")).json()["audit"].clone();
    assert!(state["dropped"].as_u64() >= Some(10), "{state}");
    drop(lock);
    eventually("a row", || (count(&file(&gateway)) > 0).then_some(()));
    eventually("the log to say so", || gateway.stderr().contains("dropped").then_some(()));
}

/// Another process that has the file to itself.
pub(super) fn lock(gateway: &Gateway) -> rusqlite::Connection {
    gateway.send(&ask("before", false)).expect(200);
    eventually("the first row", || (count(&file(gateway)) > 0).then_some(()));
    let connection = rusqlite::Connection::open(file(gateway)).expect("the file opens");
    connection.busy_timeout(PATIENCE).expect("a time-out can be set");
    connection.execute_batch("BEGIN IMMEDIATE").expect("nobody writes for long");
    connection
}

#[test]
fn the_queue_and_its_lag_are_visible() {
    let gateway = Gateway::start(ECHO);
    let lock = lock(&gateway);
    for _ in 0..5 {
        gateway.send(&ask("m", false)).expect(200);
    }
    let state = eventually("a queue", || {
        let stats = gateway.send_admin(&Request::get("/stats")).json();
        (stats["audit"]["queued"].as_u64() >= Some(5) && stats["audit"]["lag_ms"].as_f64() > Some(100.0))
            .then_some(stats["audit"].clone())
    });
    assert!(state["queued_bytes"].as_u64() > Some(0), "{state}");
    drop(lock);
    let state = eventually("an empty queue", || {
        let stats = gateway.send_admin(&Request::get("/stats")).json();
        (stats["audit"]["queued"] == 0).then_some(stats["audit"].clone())
    });
    assert_eq!((&state["written"], &state["dropped"], &state["lag_ms"]), (&json!(6), &json!(0), &json!(0.0)));
}
