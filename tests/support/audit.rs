//! The audit of a gateway under test, read as an operator would: from SQLite.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value, json};

use crate::{Gateway, eventually};

/// Where a gateway that says nothing about it has its audit.
pub fn file(gateway: &Gateway) -> PathBuf {
    gateway.folder().join("witgate-data/record.db")
}

/// The rows that a statement gives, each an object of its columns; none while there is no file or no table.
///
/// # Panics
/// When the statement is wrong.
#[track_caller]
pub fn rows(path: &Path, sql: &str) -> Vec<Value> {
    let Ok(connection) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
        return Vec::new();
    };
    connection.busy_timeout(crate::PATIENCE).expect("a time-out can be set");
    let mut statement = match connection.prepare(sql) {
        Ok(statement) => statement,
        // It has just been made, or is being renamed.
        Err(error) if error.to_string().contains("no such table") => return Vec::new(),
        Err(error) if error.to_string().contains("unable to open") => return Vec::new(),
        Err(error) => panic!("{sql}: {error}"),
    };
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let read = statement.query_map([], |row| {
        let mut object = Map::new();
        for (place, name) in names.iter().enumerate() {
            object.insert(name.clone(), value(row.get_ref(place)?));
        }
        Ok(Value::Object(object))
    });
    read.and_then(Iterator::collect).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) => json!(number),
        ValueRef::Text(text) | ValueRef::Blob(text) => json!(String::from_utf8_lossy(text)),
    }
}

/// How many exchanges are in a file.
#[track_caller]
pub fn count(path: &Path) -> usize {
    let rows = rows(path, "SELECT count(*) AS n FROM exchanges");
    rows.first().and_then(|row| row["n"].as_u64()).map_or(0, |count| count as usize)
}

/// Waits until a gateway has recorded so many exchanges.
#[track_caller]
pub fn wait(gateway: &Gateway, count: usize) -> Vec<Value> {
    eventually(&format!("{count} rows"), || {
        let rows = rows(&file(gateway), "SELECT * FROM exchanges ORDER BY id");
        (rows.len() >= count).then_some(rows)
    })
}

/// Waits for the row of the one exchange that a gateway has had.
#[track_caller]
pub fn only(gateway: &Gateway) -> Value {
    let mut rows = wait(gateway, 1);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

/// A column that holds JSON.
#[track_caller]
pub fn parsed(row: &Value, column: &str) -> Value {
    let text = row[column].as_str().unwrap_or_else(|| panic!("`{column}` is no text in {row}"));
    serde_json::from_str(text).unwrap_or_else(|error| panic!("`{column}`: {error}: {text}"))
}
