//! How a record becomes rows.

use std::borrow::Cow;
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, Statement, ToSql};
use serde_json::{Map, Value, json};

use crate::audit::database::Failure;
use crate::audit::period;
use crate::audit::queue::{Entry, Item};
use crate::audit::record::{Record, Tried};
use crate::chat::StopReason;
use crate::recording::{Answer, Recording};

const EXCHANGE: &str = "INSERT INTO exchanges VALUES \
    (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, \
     ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36)";

const ATTEMPT: &str = "INSERT INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// Labels of the same name are replaced. Whatever else may have become of the column, this does not fail.
const LABELS: &str = "UPDATE exchanges SET labels = \
    json_patch(CASE WHEN json_valid(labels) THEN labels ELSE '{}' END, ?2) WHERE id = ?1";

/// The statements of one transaction.
pub(super) struct Statements<'connection> {
    connection: &'connection Connection,
    exchange: CachedStatement<'connection>,
    attempt: CachedStatement<'connection>,
}

impl<'connection> Statements<'connection> {
    pub(super) fn prepare(connection: &'connection Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            exchange: connection.prepare_cached(EXCHANGE)?,
            attempt: connection.prepare_cached(ATTEMPT)?,
        })
    }

    /// Writes what an entry says.
    pub(super) fn write(&mut self, entry: &Entry) -> Result<(), Failure> {
        match &entry.item {
            Item::Row(record) => {
                self.insert(record)?;
                for (place, tried) in record.attempts.iter().enumerate() {
                    self.insert_attempt(record.number, place as i64 + 1, tried)?;
                }
            }
            Item::Labels { number, labels } => {
                self.connection.execute(LABELS, (number, object(labels)))?;
            }
        }
        Ok(())
    }

    /// Values in the order of the table's columns.
    fn insert(&mut self, record: &Record) -> rusqlite::Result<()> {
        let started = period::started(record.number);
        let last = record.attempts.last();
        let fault = record.fault.as_ref();
        let usage = record.usage;
        let tokens = |count: fn(&crate::chat::Usage) -> u64| usage.as_ref().map(|usage| count(usage) as i64);
        let recording = record.recording.as_deref();
        let request = recording.map_or(Kept::NOTHING, |recording| request(recording, record.request_len));
        let response = recording.map_or(Kept::NOTHING, |recording| response(recording, record.response_len));
        bind(
            &mut self.exchange,
            &[
                &record.number,
                &record.request_id.to_str().unwrap_or("-"),
                &str::from_utf8(&started).unwrap_or_default(),
                &record.caller,
                &record.key,
                &record.tenant,
                &record.client.to_string(),
                &record.method.as_str(),
                &record.target,
                &record.endpoint,
                &record.model,
                &last.map(|tried| &*tried.model),
                &last.map(|tried| &*tried.upstream),
                &record.is_stream,
                &record.status.map(|status| status.as_u16()),
                &record.outcome,
                &fault.map(|fault| &*fault.kind),
                &fault.map(|fault| &*fault.message),
                &record.finish.map(finish),
                &tokens(|usage| usage.input),
                &tokens(|usage| usage.output),
                &tokens(|usage| usage.cached),
                &tokens(|usage| usage.reasoning),
                &usage.is_some_and(|usage| usage.is_estimated),
                &record.first_token.map(ms),
                &ms(record.duration),
                &ms(record.overhead),
                &(record.request_len as i64),
                &(record.response_len as i64),
                &request.is_cut,
                &response.is_cut,
                &(!record.labels.is_empty()).then(|| object(&record.labels)),
                &(!record.plugins.is_empty()).then(|| plugins(record)),
                &recording.map(|recording| &*recording.headers),
                &request.text,
                &response.text,
            ],
        )
    }

    fn insert_attempt(&mut self, exchange: i64, number: i64, tried: &Tried) -> rusqlite::Result<()> {
        let fault = tried.fault.as_ref();
        bind(
            &mut self.attempt,
            &[
                &exchange,
                &number,
                &tried.upstream,
                &tried.model,
                &tried.status.map(|status| status.as_u16()),
                &fault.map(|fault| &*fault.kind),
                &fault.map(|fault| &*fault.message),
                &ms(tried.began),
                &ms(tried.took),
            ],
        )
    }
}

fn bind(statement: &mut Statement<'_>, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
    for (place, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(place + 1, value)?;
    }
    statement.raw_execute()?;
    Ok(())
}

/// A body as it is stored.
struct Kept<'record> {
    text: Option<Cow<'record, str>>,
    is_cut: bool,
}

impl Kept<'_> {
    const NOTHING: Self = Kept { text: None, is_cut: false };
}

fn request(recording: &Recording, len: u64) -> Kept<'_> {
    let Some(body) = &recording.request else { return Kept::NOTHING };
    match text(body, recording.is_request_cut) {
        Some(text) => Kept { text: Some(text.into()), is_cut: recording.is_request_cut },
        None => {
            Kept { text: Some(description(&content_type(&recording.headers), len).into()), is_cut: false }
        }
    }
}

fn response(recording: &Recording, len: u64) -> Kept<'_> {
    let described =
        |content_type: &str| Kept { text: Some(description(content_type, len).into()), is_cut: false };
    match &recording.answer {
        Answer::None => Kept::NOTHING,
        Answer::Other(content_type) => described(content_type),
        // It was put together before it came here, unless that panicked.
        Answer::Events(_) => Kept::NOTHING,
        Answer::Whole(pieces) => {
            let is_cut = recording.is_answer_cut;
            // The record is settled: there is one piece at most.
            let whole = pieces.first().map_or(&b""[..], |piece| piece);
            match text(whole, is_cut) {
                Some(text) => Kept { text: Some(text.into()), is_cut },
                None => described(""),
            }
        }
    }
}

/// A body as text, without the part of a character that a cut left; none if it is not UTF-8.
fn text(body: &[u8], is_cut: bool) -> Option<&str> {
    match simdutf8::compat::from_utf8(body) {
        Ok(text) => Some(text),
        Err(error) if is_cut && error.error_len().is_none() => {
            str::from_utf8(&body[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// What is stored of a body that is not text.
fn description(content_type: &str, len: u64) -> String {
    let content_type = if content_type.is_empty() { Value::Null } else { content_type.into() };
    json!({ "content_type": content_type, "bytes": len }).to_string()
}

/// The type of a request's body, out of its headers as they are stored.
fn content_type(headers: &str) -> String {
    let headers: Map<String, Value> = serde_json::from_str(headers).unwrap_or_default();
    headers.get("content-type").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn object(labels: &[(String, String)]) -> String {
    let pairs = labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    Value::Object(pairs.collect()).to_string()
}

fn plugins(record: &Record) -> String {
    let pairs = record.plugins.iter().map(|(name, took)| (name.to_string(), Value::from(ms(*took))));
    Value::Object(pairs.collect()).to_string()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// OpenAI's words for why an answer ended.
fn finish(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Stop => "stop",
        StopReason::Length => "length",
        StopReason::ToolCalls => "tool_calls",
        StopReason::ContentFilter => "content_filter",
        StopReason::Other => "other",
    }
}
