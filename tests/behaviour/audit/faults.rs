//! What goes wrong with the file: the gateway goes on, says so, and mends itself.

use std::fs;
use std::process::Command;

use witgate_tests::audit::{count, file, rows};
use witgate_tests::gateway::Launch;
use witgate_tests::{Gateway, PATIENCE, eventually};

use super::ask;
use super::loss::lock;

const ECHO: &str = "upstreams: [{ name: one, base_url: 'builtin:echo' }]\n";

// parity: 144
#[test]
fn a_file_that_was_removed_is_made_again() {
    let gateway = Gateway::start(ECHO);
    gateway.send(&ask("m", false)).expect(200);
    eventually("a row", || (count(&file(&gateway)) == 1).then_some(()));
    fs::remove_file(file(&gateway)).expect("it is there");
    for _ in 0..3 {
        gateway.send(&ask("m", false)).expect(200);
    }
    eventually("the rows after it", || (count(&file(&gateway)) == 3).then_some(()));
    fs::remove_dir_all(gateway.folder().join("witgate-data")).expect("it is there");
    gateway.send(&ask("m", false)).expect(200);
    eventually("the row after that", || (count(&file(&gateway)) == 1).then_some(()));
}

// parity: 144
#[test]
fn a_file_that_is_locked_is_waited_for() {
    let gateway = Gateway::start(ECHO);
    let lock = lock(&gateway);
    for _ in 0..10 {
        gateway.send(&ask("m", false)).expect(200);
    }
    drop(lock);
    eventually("all rows", || (count(&file(&gateway)) == 11).then_some(()));
}

/// The files of rows that could not be written, beside a gateway's audit.
fn put_aside(gateway: &Gateway) -> Vec<String> {
    let files = fs::read_dir(gateway.folder().join("witgate-data")).expect("it is there");
    let names = files.map(|file| file.expect("it can be listed").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".unwritten-")).collect()
}

#[test]
fn rows_of_a_file_that_is_locked_to_the_end_are_written_by_the_next_start() {
    let mut gateway = Gateway::start(ECHO);
    let lock = lock(&gateway);
    for _ in 0..10 {
        gateway.send(&ask("m", false)).expect(200);
    }
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success(), "nothing is lost");
    assert_eq!(put_aside(&gateway).len(), 1);
    drop(lock);
    let next = Gateway::start(&format!("audit: {{ path: {} }}\n{ECHO}", file(&gateway).display()));
    eventually("all rows", || (count(&file(&gateway)) == 11).then_some(()));
    eventually("the file to go", || put_aside(&gateway).is_empty().then_some(()));
    let attempts =
        rows(&file(&gateway), "SELECT count(*) AS n FROM attempts JOIN exchanges ON exchange = id");
    assert_eq!(attempts[0]["n"], 11);
    drop(next);
}

#[test]
fn a_gateway_that_loses_rows_at_its_end_says_so() {
    let mut gateway = Gateway::start(ECHO);
    gateway.send(&ask("m", false)).expect(200);
    eventually("a row", || (count(&file(&gateway)) == 1).then_some(()));
    let folder = gateway.folder().join("witgate-data");
    fs::remove_dir_all(&folder).expect("it is there");
    fs::write(&folder, "").expect("the temporary folder is writable");
    gateway.send(&ask("m", false)).expect(200);
    gateway.signal("TERM");
    assert_eq!(gateway.wait_exit_within(3 * PATIENCE).code(), Some(1));
    assert!(gateway.stderr().contains("1 rows of the audit are lost"), "{}", gateway.stderr());
}

/// Runs until no more can be written, and gives room then.
fn check_full_disk(on_full: &str) -> Gateway {
    // A limit on the size of files is what a full disk is to one process. Blocks of 512 bytes.
    let gateway = Launch::default()
        .after("trap '' XFSZ; ulimit -S -f 600")
        .start(&format!("audit: {{ on_full: {on_full}, queue: 500 }}\n{ECHO}"));
    let body = "x".repeat(4_000);
    for _ in 0..120 {
        let request = witgate_tests::Request::chat(&body);
        gateway.send(&request).expect(200);
    }
    let told =
        || gateway.stderr().lines().filter(|line| line.contains("audit") && line.contains("WARN")).count();
    eventually("a warning", || (told() > 0).then_some(()));
    assert!(count(&file(&gateway)) < 120);
    assert!(told() < 10, "it is told once and not for each row: {}", gateway.stderr());
    let room = Command::new("prlimit")
        .args(["--pid", &gateway.id().to_string(), "--fsize=unlimited:"])
        .status()
        .expect("`prlimit` can be run");
    assert!(room.success());
    gateway
}

#[test]
fn a_full_disk_loses_nothing_and_is_recovered_from() {
    let gateway = check_full_disk("block");
    eventually("all rows", || (count(&file(&gateway)) == 120).then_some(()));
    gateway.send(&ask("m", false)).expect(200);
    eventually("the next row", || (count(&file(&gateway)) == 121).then_some(()));
    let verdict = rows(&file(&gateway), "PRAGMA integrity_check");
    assert_eq!(verdict[0]["integrity_check"], "ok");
}

#[test]
fn a_full_disk_is_recovered_from_where_rows_may_be_dropped() {
    let gateway = check_full_disk("drop");
    gateway.send(&ask("last", false)).expect(200);
    eventually("the last row", || {
        let last = rows(&file(&gateway), "SELECT model FROM exchanges ORDER BY id DESC LIMIT 1").pop()?;
        (last["model"] == "last").then_some(())
    });
}

// parity: 145
#[test]
fn rows_of_an_earlier_month_are_moved_away_at_the_start() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let path = folder.path().join("record.db");
    let config = format!("audit: {{ path: {} }}\n{ECHO}", path.display());
    let mut gateway = Gateway::start(&config);
    gateway.send(&ask("old", false)).expect(200);
    eventually("a row", || (count(&path) == 1).then_some(()));
    gateway.signal("TERM");
    gateway.wait_exit();
    // As if it had been written in another month.
    let connection = rusqlite::Connection::open(&path).expect("the file opens");
    let us = 1_706_745_600_000_000_i64 - 1;
    connection
        .execute("UPDATE exchanges SET id = ?1, started = '2024-01-31 23:59:59.999999'", [us * 1024])
        .expect("rows can be changed");
    connection.execute("UPDATE attempts SET exchange = ?1", [us * 1024]).expect("rows can be changed");
    connection.execute("UPDATE meta SET value = '202401' WHERE key = 'period'", []).expect("it has a period");
    drop(connection);
    let gateway = Gateway::start(&config);
    gateway.send(&ask("new", false)).expect(200);
    eventually("the new row", || (count(&path) == 1).then_some(()));
    assert_eq!(rows(&path, "SELECT model FROM exchanges")[0]["model"], "new");
    let closed = folder.path().join("record_202401.db");
    // Asked before anybody reads it: a reader makes one.
    assert!(!folder.path().join("record_202401.db-wal").exists());
    assert_eq!(rows(&closed, "SELECT model FROM exchanges")[0]["model"], "old");
}
