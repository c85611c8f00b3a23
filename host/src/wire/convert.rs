//! From one surface to another: a client's request for an upstream that speaks another dialect, and its answer back.
//!
//! Everything goes by way of the hub ([`chat`](crate::chat)): what one surface is read into is what the other is written
//! from. Here is only who takes part; the words are in the modules of the dialects.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::chat::{Action, ApiError, ChatRequest, Event, Extra, Field, Raw, Reply, Row};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::anthropic::messages;
use crate::wire::gemini::content;
use crate::wire::json::{Kind, Scanner};
use crate::wire::openai::{chat, responses};
use crate::wire::request::Request;
use crate::wire::sse::{Decoder, EVENT_BYTES_MAX, Fields, Oversize};
use crate::wire::{Dialect, Surface};

mod embeddings;
pub mod other;
#[cfg(test)]
mod tests;

mod explain;
mod material;
mod reply;

pub use explain::{explain, markdown};
pub use reply::{ReplyBuilder, events_of};

/// How many tokens an effort stands for, where one side has words and the other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffortBudgets {
    /// `low`; up to here a budget is low.
    pub low: u64,
    /// `medium`; above `low` and up to `high` a budget is medium.
    pub medium: u64,
    /// `high`; above it a budget is high.
    pub high: u64,
}

/// The budgets of the earlier converters that users come from.
impl Default for EffortBudgets {
    fn default() -> Self {
        Self { low: 2048, medium: 8192, high: 16384 }
    }
}

/// What a request is written for, and what of it could not be said there.
#[derive(Debug)]
pub struct Terms<'a> {
    /// What the client speaks.
    pub client: Surface,
    /// What the upstream speaks.
    pub target: Surface,
    /// The upstream's name, for messages.
    pub upstream: &'a str,
    /// The most tokens of an answer if the request does not say, where the target must be told.
    pub max_tokens_default: u64,
    /// What efforts stand for.
    pub budgets: EffortBudgets,
    /// What was left out or replaced by the nearest thing, each once.
    pub losses: Vec<Field>,
    /// The names behind [`Field::Unknown`] there, each once, and no more than [`UNKNOWN_NAMES_MAX`].
    pub unknown: Vec<String>,
}

/// How many names of what was left out are told, of those that only clients know.
pub const UNKNOWN_NAMES_MAX: usize = 8;
/// How long such a name may be, in bytes.
const UNKNOWN_NAME_BYTES_MAX: usize = 64;

impl Terms<'_> {
    /// Does about something that the target cannot say what the target's table has for it: notes it, or refuses.
    ///
    /// # Errors
    /// [`ErrorKind::Inexpressible`], which names the client's field and the upstream, where the row says
    /// [`Action::Refuse`].
    ///
    /// # Panics
    /// When the table has no row for it: whoever writes a dialect writes its table.
    pub fn cannot(&mut self, field: Field) -> Result<()> {
        let row = table(self.target).iter().find(|row| row.field == field);
        let row = row.unwrap_or_else(|| panic!("the table of {} lacks {field:?}", self.target.label()));
        if row.action == Action::Refuse {
            let name = field.name(self.client).unwrap_or("the request");
            let message =
                format!("`{name}` cannot be expressed for the upstream `{}`: {}", self.upstream, row.how);
            return Err(Error { param: Some(name.into()), ..Error::new(ErrorKind::Inexpressible, message) });
        }
        if !self.losses.contains(&field) {
            self.losses.push(field);
        }
        Ok(())
    }

    /// As [`cannot`](Self::cannot) with [`Field::Unknown`], for members of these names, if there are any.
    ///
    /// # Errors
    /// As there.
    pub fn unknown<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) -> Result<()> {
        for name in names {
            self.cannot(Field::Unknown)?;
            self.note_unknown(name);
        }
        Ok(())
    }

    /// The same for the members that ride along with something.
    ///
    /// # Errors
    /// As there.
    pub fn unknown_extra(&mut self, extra: &Extra) -> Result<()> {
        self.unknown(extra.0.iter().map(|(name, _)| name.as_str()))
    }

    /// The same for a part of a message: its name is its `type`, or its first member where it has none.
    ///
    /// # Errors
    /// As there.
    pub fn unknown_part(&mut self, json: &Raw) -> Result<()> {
        self.cannot(Field::Unknown)?;
        if let Some(name) = kind_of(json.get()) {
            self.note_unknown(&name);
        }
        Ok(())
    }

    /// Keeps a name that may stand in a header's list; the others are in [`losses`](Self::losses) all the same.
    fn note_unknown(&mut self, name: &str) {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
        let is_named = (1..=UNKNOWN_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_word);
        let is_new = !self.unknown.iter().any(|known| known == name);
        if is_named && is_new && self.unknown.len() < UNKNOWN_NAMES_MAX {
            self.unknown.push(name.to_owned());
        }
    }
}

fn kind_of(json: &str) -> Option<Cow<'_, str>> {
    let (mut kind, mut first) = (None, None);
    let mut scanner = Scanner::new(json.as_bytes());
    let read = scanner.object(|scanner, key| {
        if key.is("type") && scanner.peek()? == Kind::String {
            kind = Some(scanner.string()?.decode());
            return Ok(());
        }
        first.get_or_insert(key);
        scanner.skip().map(drop)
    });
    read.ok()?;
    kind.or_else(|| first.map(|key| key.decode()))
}

/// What is done about everything that a surface cannot say. Upstreams are not asked in the Responses API by conversion, so
/// its table is empty.
pub fn table(target: Surface) -> &'static [Row] {
    match target {
        Surface::Chat => chat::TABLE,
        Surface::Responses => &[],
        Surface::Messages => messages::TABLE,
        Surface::Gemini => content::TABLE,
    }
}

/// What has to be known of a request to write the answer to it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The model, by the name the client uses; the answer names it so.
    pub model: Arc<str>,
    /// Letters and digits that no other exchange has, for ids that the upstream does not give.
    pub id: Arc<str>,
    /// When the request was made, in seconds since 1970.
    pub created_unix_s: u64,
    /// Whether the client wants the usage of a stream.
    pub asks_usage: bool,
    /// The client's request, which answers of the Responses API repeat a part of.
    pub request: Bytes,
}

/// Reads a request of a surface. `model` and `is_stream` are those of the path where the surface has them there.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the field: an unknown role, a result without its call, a picture that is neither a URL
/// nor data, a wrong type.
pub fn decode_request(surface: Surface, request: &Request) -> Result<ChatRequest> {
    let body = &request.body()[..];
    let mut chat = match surface {
        Surface::Chat => chat::decode_request(body),
        Surface::Responses => responses::decode_request(body),
        Surface::Messages => messages::decode_request(body),
        Surface::Gemini => content::decode_request(body),
    }?;
    request.model().clone_into(&mut chat.model);
    chat.is_stream = request.is_stream();
    chat.asks_usage |= request.asks_usage();
    Ok(chat)
}

/// Writes a request for an upstream.
///
/// # Errors
/// As [`Terms::cannot`].
pub fn encode_request(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<Bytes> {
    let plain = material::plain(request, terms)?;
    let request = &*plain;
    match terms.target {
        Surface::Chat | Surface::Responses => chat::encode_request(request, terms),
        Surface::Messages => messages::encode_request(request, terms),
        Surface::Gemini => content::encode_request(request, terms),
    }
}

/// Reads a whole answer. `id` is as [`Asked::id`].
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when it is not of the surface's shape.
pub fn decode_reply(surface: Surface, body: &[u8], id: &str) -> Result<Reply> {
    match surface {
        Surface::Chat => chat::decode_reply(body, id),
        Surface::Responses => responses::decode_reply(body, id),
        Surface::Messages => messages::decode_reply(body, id),
        Surface::Gemini => content::decode_reply(body, id),
    }
}

/// Writes a whole answer for a client.
pub fn encode_reply(surface: Surface, reply: &Reply, asked: &Asked) -> Bytes {
    match surface {
        Surface::Chat => chat::encode_reply(reply, asked),
        Surface::Responses => responses::encode_reply(reply, asked),
        Surface::Messages => messages::encode_reply(reply, asked),
        Surface::Gemini => content::encode_reply(reply, asked),
    }
}

/// Writes a whole answer as the stream that it would have been, for a client that asked for one.
pub fn stream_of(client: Surface, reply: &Reply, asked: &Asked) -> Bytes {
    let mut encoder = EventEncoder::new(client, asked);
    let mut out = Vec::with_capacity(4096);
    events_of(reply).iter().for_each(|event| encoder.push(event, &mut out));
    out.into()
}

/// Reads an error that an upstream answered with, whatever its body is.
pub fn decode_error(dialect: Dialect, status: StatusCode, body: &[u8]) -> ApiError {
    match dialect {
        Dialect::OpenAi => chat::decode_error(status, body),
        Dialect::Anthropic => messages::decode_error(status, body),
        Dialect::Gemini => content::decode_error(status, body),
    }
}

/// Writes an error for a client, as a body.
pub fn encode_error(dialect: Dialect, error: &ApiError) -> Bytes {
    match dialect {
        Dialect::OpenAi => chat::encode_error(error),
        Dialect::Anthropic => messages::encode_error(error),
        Dialect::Gemini => content::encode_error(error),
    }
}

/// Reads the events of a stream, one after another.
#[derive(Debug)]
pub enum EventDecoder {
    /// OpenAI's chunks.
    Chat(chat::EventDecoder),
    /// OpenAI's Responses.
    Responses(responses::EventDecoder),
    /// Anthropic's.
    Messages(messages::EventDecoder),
    /// Google's.
    Gemini(content::EventDecoder),
}

impl EventDecoder {
    /// Begins a stream; `id` is as [`Asked::id`].
    pub fn new(surface: Surface, id: &str) -> Self {
        match surface {
            Surface::Chat => Self::Chat(chat::EventDecoder::new(id)),
            Surface::Responses => Self::Responses(responses::EventDecoder::new(id)),
            Surface::Messages => Self::Messages(messages::EventDecoder::new(id)),
            Surface::Gemini => Self::Gemini(content::EventDecoder::new(id)),
        }
    }

    /// Reads one event, by its name and data, and appends what it says.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`] when the data is not of the surface's shape.
    pub fn push(&mut self, event: Option<&str>, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        match self {
            Self::Chat(decoder) => decoder.push(event, data, out),
            Self::Responses(decoder) => decoder.push(event, data, out),
            Self::Messages(decoder) => decoder.push(event, data, out),
            Self::Gemini(decoder) => decoder.push(event, data, out),
        }
    }

    /// The stream ended, and the answer was whole: appends what it had not said yet, at least [`Event::End`] if that has
    /// not been.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        match self {
            Self::Chat(decoder) => decoder.finish(out),
            Self::Responses(decoder) => decoder.finish(out),
            Self::Messages(decoder) => decoder.finish(out),
            Self::Gemini(decoder) => decoder.finish(out),
        }
    }
}

/// Writes the events of a stream, each as the bytes that a client gets.
#[derive(Debug)]
pub enum EventEncoder {
    /// OpenAI's chunks.
    Chat(chat::EventEncoder),
    /// OpenAI's Responses.
    Responses(Box<responses::EventEncoder>),
    /// Anthropic's.
    Messages(messages::EventEncoder),
    /// Google's.
    Gemini(content::EventEncoder),
}

impl EventEncoder {
    /// Begins a stream.
    pub fn new(surface: Surface, asked: &Asked) -> Self {
        match surface {
            Surface::Chat => Self::Chat(chat::EventEncoder::new(asked)),
            Surface::Responses => Self::Responses(Box::new(responses::EventEncoder::new(asked))),
            Surface::Messages => Self::Messages(messages::EventEncoder::new(asked)),
            Surface::Gemini => Self::Gemini(content::EventEncoder::new(asked)),
        }
    }

    /// Appends what the client is sent for a step; at every point what was written is a beginning of the grammar.
    pub fn push(&mut self, event: &Event, out: &mut Vec<u8>) {
        match self {
            Self::Chat(encoder) => encoder.push(event, out),
            Self::Responses(encoder) => encoder.push(event, out),
            Self::Messages(encoder) => encoder.push(event, out),
            Self::Gemini(encoder) => encoder.push(event, out),
        }
    }
}

/// Turns the stream of an upstream into that of a client.
#[derive(Debug)]
pub struct StreamConverter {
    frames: Decoder,
    decoder: EventDecoder,
    encoder: EventEncoder,
    /// Kept for its memory.
    events: Vec<Event>,
    is_over: bool,
}

impl StreamConverter {
    /// Begins a stream from an upstream's surface to a client's.
    pub fn new(upstream: Surface, client: Surface, asked: &Asked) -> Self {
        Self {
            frames: Decoder::new(EVENT_BYTES_MAX),
            decoder: EventDecoder::new(upstream, &asked.id),
            encoder: EventEncoder::new(client, asked),
            events: Vec::new(),
            is_over: false,
        }
    }

    /// Takes one piece of the upstream's stream; as [`push_all`](Self::push_all).
    ///
    /// # Errors
    /// As there.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<()> {
        self.push_all(std::iter::once(chunk), out)
    }

    /// Takes bytes of the upstream's stream, cut anywhere, and appends what the client is sent, in one piece.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`] for an event that cannot be read; what came before it is in `out`.
    pub fn push_all(&mut self, chunks: impl Iterator<Item = Bytes>, out: &mut Vec<Bytes>) -> Result<()> {
        let mut written = Vec::new();
        let mut outcome = Ok(());
        for chunk in chunks {
            self.frames.push(chunk);
            outcome = outcome.and_then(|()| self.frames(&mut written));
        }
        out.extend((!written.is_empty()).then(|| Bytes::from(written)));
        outcome
    }

    fn frames(&mut self, written: &mut Vec<u8>) -> Result<()> {
        loop {
            let frame = match self.frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(Oversize) => {
                    let message =
                        format!("an event of the upstream's stream is larger than {EVENT_BYTES_MAX} bytes");
                    return Err(Error::new(ErrorKind::UpstreamInvalid, message));
                }
            };
            self.frame(&frame.fields(), &frame.raw, written)?;
        }
    }

    fn frame(&mut self, fields: &Fields, raw: &Bytes, written: &mut Vec<u8>) -> Result<()> {
        let Some(data) = &fields.data else {
            // A comment keeps a connection alive; not every client takes one.
            if raw.starts_with(b":") && !matches!(self.encoder, EventEncoder::Gemini(_)) {
                written.extend_from_slice(raw);
            }
            return Ok(());
        };
        let read = self.decoder.push(fields.event_name(), data, &mut self.events);
        self.write(written);
        read
    }

    fn write(&mut self, written: &mut Vec<u8>) {
        for event in self.events.drain(..) {
            // Nothing can follow the end, and whoever sent more of it has said it all.
            if !self.is_over {
                self.is_over = matches!(event, Event::End | Event::Failed(_));
                self.encoder.push(&event, written);
            }
        }
    }

    /// The upstream ended its stream, and the answer was whole: appends the end of it in the client's grammar.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        let mut written = Vec::new();
        self.decoder.finish(&mut self.events);
        self.write(&mut written);
        out.extend((!written.is_empty()).then(|| Bytes::from(written)));
    }

    /// Whether the client has been sent the end, or an error.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Writes an error that ends the stream; nothing if one was told already.
    pub fn fail(&mut self, error: ApiError) -> Bytes {
        let mut written = Vec::new();
        self.events.clear();
        self.events.push(Event::Failed(error));
        self.write(&mut written);
        written.into()
    }
}
