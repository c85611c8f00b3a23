//! One exchange as it was stored, and how it is written as JSON.

use std::ops::Range;

use rusqlite::Connection;
use rusqlite::types::Value;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;

/// A column, and what its values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name in the table and in JSON.
    pub(crate) name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Text or a number.
    Plain,
    /// A number that a reader without 64-bit integers would spoil: text in JSON.
    Number,
    /// Yes or no.
    Flag,
    /// JSON, or text if it is none.
    Document,
}

const fn plain(name: &'static str) -> Column {
    Column { name, kind: Kind::Plain }
}

const fn flag(name: &'static str) -> Column {
    Column { name, kind: Kind::Flag }
}

const fn document(name: &'static str) -> Column {
    Column { name, kind: Kind::Document }
}

/// The columns of `exchanges`, in the order of the table.
const EXCHANGE: [Column; 36] = [
    Column { name: "id", kind: Kind::Number },
    plain("request_id"),
    plain("started"),
    plain("caller"),
    plain("key"),
    plain("tenant"),
    plain("ip"),
    plain("method"),
    plain("path"),
    plain("endpoint"),
    plain("model"),
    plain("upstream_model"),
    plain("upstream"),
    flag("stream"),
    plain("status"),
    plain("outcome"),
    plain("error_kind"),
    plain("error"),
    plain("finish"),
    plain("input_tokens"),
    plain("output_tokens"),
    plain("cached_tokens"),
    plain("reasoning_tokens"),
    flag("estimated"),
    plain("ttft_ms"),
    plain("duration_ms"),
    plain("gateway_ms"),
    plain("request_bytes"),
    plain("response_bytes"),
    flag("request_cut"),
    flag("response_cut"),
    document("labels"),
    document("plugins"),
    document("headers"),
    document("request"),
    document("response"),
];

/// The columns of `attempts` but the exchange.
const ATTEMPT: [Column; 8] = [
    plain("number"),
    plain("upstream"),
    plain("model"),
    plain("status"),
    plain("error_kind"),
    plain("error"),
    plain("began_ms"),
    plain("took_ms"),
];

/// How much of a row is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything but headers, bodies and attempts.
    Summary,
    /// Everything.
    Whole,
}

impl Extent {
    /// The columns that are read.
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Self::Summary => &EXCHANGE[..33],
            Self::Whole => &EXCHANGE,
        }
    }

    /// Their names, as a statement has them.
    pub(in crate::audit) fn sql(self) -> String {
        names(self.columns())
    }
}

/// Columns as a statement has them. They are fixed, and none is a word of SQL that would need quotes but `key`, which
/// SQLite and PostgreSQL take as a name.
fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

/// One exchange.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// One value a column of its extent.
    values: Vec<Value>,
    extent: Extent,
    /// Its attempts in order; none where they were not read.
    attempts: Vec<Attempt>,
}

/// One try at one upstream: a value for each of its columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attempt(Vec<Value>);

impl Row {
    /// Takes a row of a statement that selects the columns of the extent.
    pub(super) fn read(row: &rusqlite::Row<'_>, extent: Extent) -> rusqlite::Result<Self> {
        let values = (0..extent.columns().len()).map(|at| row.get(at)).collect::<rusqlite::Result<_>>()?;
        Ok(Self::of(values, extent))
    }

    /// Takes the values of the columns of the extent, in order.
    pub(in crate::audit) fn of(values: Vec<Value>, extent: Extent) -> Self {
        Self { values, extent, attempts: Vec::new() }
    }

    /// Takes what was read of its attempts.
    pub(in crate::audit) fn set_attempts(&mut self, attempts: Vec<Attempt>) {
        self.attempts = attempts;
    }

    /// Reads what else belongs to it.
    pub(super) fn read_attempts(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let columns = Attempt::sql();
        let sql = format!("SELECT {columns} FROM attempts WHERE exchange = ? ORDER BY number");
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map([self.id()], |row| {
            (0..ATTEMPT.len()).map(|at| row.get(at)).collect::<rusqlite::Result<_>>().map(Attempt)
        })?;
        self.attempts = rows.collect::<rusqlite::Result<_>>()?;
        Ok(())
    }

    /// The exchange's number.
    pub(crate) fn id(&self) -> i64 {
        self.integer("id").unwrap_or_default()
    }

    /// A value; null if the column was not read.
    pub(crate) fn value(&self, name: &str) -> &Value {
        let at = self.extent.columns().iter().position(|column| column.name == name);
        at.and_then(|at| self.values.get(at)).unwrap_or(&Value::Null)
    }

    /// A text; none if it is null or no text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.value(name) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number.
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// A number.
    pub(crate) fn real(&self, name: &str) -> Option<f64> {
        match self.value(name) {
            Value::Real(number) => Some(*number),
            Value::Integer(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// Whether a flag is set.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.integer(name) == Some(1)
    }

    /// The values of its columns, in order.
    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    /// Its attempts, if they were read.
    pub(crate) fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// How much of it was read.
    pub(crate) fn extent(&self) -> Extent {
        self.extent
    }
}

impl Attempt {
    /// The columns of its values.
    pub(crate) const COLUMNS: [Column; 8] = ATTEMPT;

    /// Takes a value for each of its columns, in order.
    pub(in crate::audit) fn of(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// The names of its columns, as a statement has them.
    pub(in crate::audit) fn sql() -> String {
        names(&ATTEMPT)
    }

    /// The values of its columns, in order.
    pub(crate) fn values(&self) -> &[Value] {
        &self.0
    }
}

/// When an exchange began, in microseconds since 1970, by its number.
pub(crate) fn began(id: i64) -> i64 {
    id / super::filter::NUMBERS
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let columns = self.extent.columns();
        let mut map = serializer.serialize_map(None)?;
        // Bodies come last, behind the attempts.
        let bodies = columns.iter().position(|column| column.name == "headers").unwrap_or(columns.len());
        let entries = |range: Range<usize>, map: &mut S::SerializeMap| {
            for (column, value) in columns[range.clone()].iter().zip(&self.values[range]) {
                map.serialize_entry(column.name, &Cell(column.kind, value))?;
            }
            Ok(())
        };
        entries(0..bodies, &mut map)?;
        if self.extent == Extent::Whole {
            map.serialize_entry("attempts", &Attempts(&self.attempts))?;
        }
        entries(bodies..columns.len(), &mut map)?;
        map.end()
    }
}

impl Serialize for Attempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(ATTEMPT.len()))?;
        for (column, value) in ATTEMPT.iter().zip(&self.0) {
            map.serialize_entry(column.name, &Cell(column.kind, value))?;
        }
        map.end()
    }
}

struct Attempts<'a>(&'a [Attempt]);

impl Serialize for Attempts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for attempt in self.0 {
            list.serialize_element(attempt)?;
        }
        list.end()
    }
}

/// A value as its column means it.
struct Cell<'a>(Kind, &'a Value);

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0, self.1) {
            (Kind::Flag, Value::Integer(number)) => serializer.serialize_bool(*number != 0),
            (Kind::Number, Value::Integer(number)) => serializer.collect_str(number),
            (Kind::Document, Value::Text(text)) => serialize_document(text, serializer),
            (_, Value::Null) => serializer.serialize_none(),
            (_, Value::Integer(number)) => serializer.serialize_i64(*number),
            (_, Value::Real(number)) => serializer.serialize_f64(*number),
            (_, Value::Text(text)) => serializer.serialize_str(text),
            (_, Value::Blob(bytes)) => serializer.collect_str(&String::from_utf8_lossy(bytes)),
        }
    }
}

/// JSON text stays as it is, key order and digits included, but in one line: line breaks in JSON are never part of a
/// string.
fn serialize_document<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let line;
    let text = if text.contains(['\n', '\r']) {
        line = text.replace(['\n', '\r'], " ");
        &line
    } else {
        text
    };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(document) => document.serialize(serializer),
        Err(_) => serializer.serialize_str(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, value: Value, expected: &str) {
        assert_eq!(serde_json::to_string(&Cell(kind, &value)).unwrap(), expected);
    }

    #[test]
    fn a_value_is_what_its_column_means() {
        let text = |text: &str| Value::Text(text.to_owned());
        check(Kind::Number, Value::Integer(i64::MAX), "\"9223372036854775807\"");
        check(Kind::Flag, Value::Integer(1), "true");
        check(Kind::Flag, Value::Null, "null");
        check(Kind::Plain, Value::Real(1.5), "1.5");
        check(Kind::Plain, text("{}"), "\"{}\"");
        check(
            Kind::Document,
            text(r#"{"b":1.0,"a":12345678901234567890}"#),
            r#"{"b":1.0,"a":12345678901234567890}"#,
        );
        check(Kind::Document, text("{\r\n \"a\": \"\\n\"}\n"), r#"{   "a": "\n"}"#);
        check(Kind::Document, text("{\"a\": \"cut"), r#""{\"a\": \"cut""#);
        check(Kind::Plain, Value::Blob(vec![0x61, 0xff]), "\"a\u{fffd}\"");
    }

    #[test]
    fn a_summary_is_without_what_is_long() {
        let names: Vec<_> = Extent::Summary.columns().iter().map(|column| column.name).collect();
        assert_eq!(names.last(), Some(&"plugins"));
        assert!(Extent::Whole.sql().ends_with("plugins, headers, request, response"));
    }
}
