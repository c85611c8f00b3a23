//! What stands in the columns of a record, whatever the database.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::audit::period;
use crate::audit::record::{Record, Tried};
use crate::chat::StopReason;
use crate::recording::{Answer, Recording};

/// The columns of the table `exchanges`.
pub(super) const EXCHANGE_LEN: usize = 36;
/// The columns of the table `attempts`.
pub(super) const ATTEMPT_LEN: usize = 9;

/// Where the columns stand that tell an exchange from another one of the same number.
const REQUEST_ID: usize = 1;
const DURATION: usize = 25;

/// What stands in one column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Cell<'record> {
    /// Nothing.
    Null,
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(#[serde(with = "exact")] f64),
    /// A text.
    Text(Cow<'record, str>),
}

/// The columns of an exchange that was not written when its gateway ended, and of its attempts.
pub(super) struct Leftover {
    number: i64,
    exchange: [Cell<'static>; EXCHANGE_LEN],
    attempts: Vec<[Cell<'static>; ATTEMPT_LEN]>,
}

/// What becomes a row.
#[derive(Clone, Copy)]
pub(super) enum Row<'item> {
    /// Of an exchange that has ended.
    Fresh(&'item Record),
    /// Of an earlier process.
    Leftover(&'item Leftover),
}

impl Leftover {
    /// None if these are no rows.
    pub(super) fn new(exchange: Vec<Cell<'static>>, attempts: Vec<Vec<Cell<'static>>>) -> Option<Self> {
        let exchange: [Cell<'static>; EXCHANGE_LEN] = exchange.try_into().ok()?;
        let Cell::Integer(number) = exchange[0] else { return None };
        let attempts = attempts.into_iter().map(|attempt| attempt.try_into().ok()).collect::<Option<_>>()?;
        Some(Self { number, exchange, attempts })
    }

    /// The number of the exchange.
    pub(super) fn number(&self) -> i64 {
        self.number
    }

    /// The memory it takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let cells = self.exchange.iter().chain(self.attempts.iter().flatten());
        cells.map(|cell| size_of::<Cell<'_>>() + cell.text().map_or(0, str::len)).sum::<usize>() as u64
    }
}

impl<'item> Row<'item> {
    /// The number of the exchange.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Fresh(record) => record.number,
            Self::Leftover(leftover) => leftover.number,
        }
    }

    /// What tells an exchange from another one of the same number: the id of its request, and how long it took in
    /// milliseconds.
    pub(super) fn identity(self) -> (&'item str, f64) {
        match self {
            Self::Fresh(record) => (record.request_id.to_str().unwrap_or("-"), ms(record.duration)),
            Self::Leftover(leftover) => {
                let Cell::Real(duration) = leftover.exchange[DURATION] else { return ("-", 0.0) };
                (leftover.exchange[REQUEST_ID].text().unwrap_or("-"), duration)
            }
        }
    }

    /// The values of the exchange, in the order of the table's columns.
    pub(super) fn exchange(self) -> [Cell<'item>; EXCHANGE_LEN] {
        match self {
            Self::Fresh(record) => exchange(record),
            Self::Leftover(leftover) => leftover.exchange.each_ref().map(Cell::borrowed),
        }
    }

    /// The values of its attempts.
    pub(super) fn attempts(self) -> impl Iterator<Item = [Cell<'item>; ATTEMPT_LEN]> {
        let (record, leftover) = match self {
            Self::Fresh(record) => (Some(record), None),
            Self::Leftover(leftover) => (None, Some(leftover)),
        };
        let fresh = record.into_iter().flat_map(|record| {
            let tried = record.attempts.iter().zip(1..);
            tried.map(|(tried, number)| attempt(record.number, number, tried))
        });
        let leftover = leftover.into_iter().flat_map(|leftover| &leftover.attempts);
        fresh.chain(leftover.map(|cells| cells.each_ref().map(Cell::borrowed)))
    }
}

impl Cell<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn borrowed(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Flag(flag) => Cell::Flag(*flag),
            Self::Integer(number) => Cell::Integer(*number),
            Self::Real(number) => Cell::Real(*number),
            Self::Text(text) => Cell::Text(Cow::Borrowed(text)),
        }
    }
}

/// Numbers to the last bit, which decimal digits are not read back to; in a list, so that they are no whole numbers.
mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        [number.to_bits()].serialize(serializer)
    }

    pub(super) fn deserialize<'text, D: Deserializer<'text>>(deserializer: D) -> Result<f64, D::Error> {
        <[u64; 1]>::deserialize(deserializer).map(|[bits]| f64::from_bits(bits))
    }
}

/// The values of an exchange, in the order of the table's columns.
fn exchange(record: &Record) -> [Cell<'_>; EXCHANGE_LEN] {
    let started = period::started(record.number);
    let last = record.attempts.last();
    let fault = record.fault.as_ref();
    let usage = record.usage;
    let tokens = |count: fn(&crate::chat::Usage) -> u64| usage.as_ref().map(|usage| count(usage) as i64);
    let recording = record.recording.as_deref();
    let request = recording.map_or(Kept::NOTHING, |recording| request(recording, record.request_len));
    let response = recording.map_or(Kept::NOTHING, |recording| response(recording, record.response_len));
    [
        record.number.into(),
        record.request_id.to_str().unwrap_or("-").into(),
        str::from_utf8(&started).unwrap_or_default().to_owned().into(),
        record.caller.as_deref().into(),
        record.key.as_deref().into(),
        record.tenant.as_deref().into(),
        record.client.to_string().into(),
        record.method.as_str().into(),
        record.target.as_str().into(),
        record.endpoint.into(),
        record.model.as_deref().into(),
        last.map(|tried| &*tried.model).into(),
        last.map(|tried| &*tried.upstream).into(),
        record.is_stream.into(),
        record.status.map(|status| i64::from(status.as_u16())).into(),
        record.outcome.into(),
        fault.map(|fault| &*fault.kind).into(),
        fault.map(|fault| &*fault.message).into(),
        record.finish.map(finish).into(),
        tokens(|usage| usage.input).into(),
        tokens(|usage| usage.output).into(),
        tokens(|usage| usage.cached).into(),
        tokens(|usage| usage.reasoning).into(),
        usage.is_some_and(|usage| usage.is_estimated).into(),
        record.first_token.map(ms).into(),
        ms(record.duration).into(),
        ms(record.overhead).into(),
        (record.request_len as i64).into(),
        (record.response_len as i64).into(),
        request.is_cut.into(),
        response.is_cut.into(),
        (!record.labels.is_empty()).then(|| object(&record.labels)).into(),
        (!record.plugins.is_empty()).then(|| plugins(record)).into(),
        recording.map(|recording| &*recording.headers).into(),
        request.text.into(),
        response.text.into(),
    ]
}

/// The values of the attempt of this number, which count from 1, in the order of the table's columns.
fn attempt(exchange: i64, number: i64, tried: &Tried) -> [Cell<'_>; ATTEMPT_LEN] {
    let fault = tried.fault.as_ref();
    [
        exchange.into(),
        number.into(),
        (&*tried.upstream).into(),
        (&*tried.model).into(),
        tried.status.map(|status| i64::from(status.as_u16())).into(),
        fault.map(|fault| &*fault.kind).into(),
        fault.map(|fault| &*fault.message).into(),
        ms(tried.began).into(),
        ms(tried.took).into(),
    ]
}

/// Labels as JSON; the last of each name counts.
pub(super) fn object(labels: &[(String, String)]) -> String {
    let pairs = labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    Value::Object(pairs.collect()).to_string()
}

impl From<bool> for Cell<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<f64> for Cell<'_> {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl<'record> From<&'record str> for Cell<'record> {
    fn from(text: &'record str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl<'record> From<Cow<'record, str>> for Cell<'record> {
    fn from(text: Cow<'record, str>) -> Self {
        Self::Text(text)
    }
}

impl<'record, T: Into<Self>> From<Option<T>> for Cell<'record> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
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

fn plugins(record: &Record) -> String {
    let pairs = record.plugins.iter().map(|(name, took)| (name.to_string(), Value::from(ms(*took))));
    Value::Object(pairs.collect()).to_string()
}

/// A time in milliseconds.
pub(super) fn ms(time: Duration) -> f64 {
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
