//! What happens to the stream of an answer on its way to the client, of whatever dialect the upstream's is.
//!
//! Most events go through untouched, as the very bytes that came: a search for a few words tells which ones have to be
//! looked into. Edits are spliced into the event they concern, and what is not edited stays byte for byte, even when
//! it is no valid JSON. Only answers of OpenAI's dialect are edited; the others are watched.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::chat::{StopReason, Usage};
use crate::config::ThinkingFormat;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Endpoint;
use crate::wire::json;
use crate::wire::openai::choices::{CHOICES_MAX, Choices, INDEX};
use crate::wire::openai::thinking::{Converter, Parts};
use crate::wire::openai::view::{Edit, Field, Message, View};
use crate::wire::sse::{self, Decoder, EVENT_BYTES_MAX, Fields, Frame, Oversize};
use crate::wire::usage::Counts;

/// What is to be done to an answer.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What was asked; decides what an answer looks like.
    pub endpoint: Endpoint,
    /// Whether the client did not ask for the usage of its stream, and so is not shown it.
    pub hides_usage: bool,
    /// Text put before the first content of every choice.
    pub special_prefix: Option<Arc<str>>,
    /// Where the thinking goes; chat only.
    pub thinking: ThinkingFormat,
}

/// What an answer has said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How many events with data the upstream sent.
    pub events: u64,
    /// Whether there was anything a client waits for: text, thinking, tool calls.
    pub has_content: bool,
    /// Why the answer ended, once it has.
    pub finish_reason: Option<StopReason>,
    /// The tokens, as the upstream counted them.
    pub usage: Option<Usage>,
    /// The message of an error inside the stream.
    pub error: Option<String>,
    /// Whether the upstream sent `[DONE]` or, in the Responses API and in Anthropic's, the event that ends the answer.
    /// Google has none.
    pub is_done: bool,
}

/// How a stream begins: the first thing in it that a client waits for, or what came instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Opening {
    /// Neither has come yet.
    #[default]
    Pending,
    /// Content, or the end of an answer that has none.
    Answered,
    /// An error; the data of its event.
    Failed(Bytes),
    /// An event whose data is not JSON.
    Malformed,
}

/// How a stream ended that the upstream closed in an orderly way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The answer is whole.
    Complete,
    /// Something is missing; the client must be told.
    Truncated,
}

/// Watches and edits the stream of one answer.
#[derive(Debug)]
pub struct Filter {
    rules: Rules,
    decoder: Decoder,
    seen: Seen,
    opening: Opening,
    /// The special prefix as JSON string text.
    prefix: Option<Arc<[u8]>>,
    choices: Choices,
    /// One converter for each choice seen, if choices are edited at all.
    converters: Vec<(u64, Converter)>,
    /// The last event with choices: the envelope for text that is still held when the stream ends.
    envelope: Option<Bytes>,
    has_usage: bool,
    /// The tokens of an answer that tells them in parts.
    counts: Counts,
    /// Whether an answer of Google's has called a function.
    has_call: bool,
}

impl Rules {
    /// The thinking format, as far as the endpoint's answers can have thinking.
    pub fn thinking_format(&self) -> ThinkingFormat {
        if self.endpoint == Endpoint::ChatCompletions { self.thinking } else { ThinkingFormat::Passthrough }
    }

    /// Whether answers have `choices` and their streams end with `[DONE]`.
    fn has_choices(&self) -> bool {
        matches!(self.endpoint, Endpoint::ChatCompletions | Endpoint::Completions)
    }

    /// Whether the text of choices may have to be edited.
    pub fn edits_choices(&self) -> bool {
        self.has_choices()
            && (self.special_prefix.is_some() || self.thinking_format() != ThinkingFormat::Passthrough)
    }

    /// The special prefix as JSON string text.
    pub fn prefix_text(&self) -> Option<Arc<[u8]>> {
        let prefix = self.special_prefix.as_deref().filter(|prefix| !prefix.is_empty())?;
        let mut text = Vec::with_capacity(prefix.len());
        json::escape(prefix, &mut text);
        Some(text.into())
    }
}

impl Filter {
    /// Makes the filter of one stream.
    pub fn new(rules: Rules) -> Self {
        Self {
            prefix: rules.prefix_text(),
            rules,
            decoder: Decoder::new(EVENT_BYTES_MAX),
            seen: Seen::default(),
            opening: Opening::Pending,
            choices: Choices::default(),
            converters: Vec::new(),
            envelope: None,
            has_usage: false,
            counts: Counts::default(),
            has_call: false,
        }
    }

    /// What the answer has said so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// How the stream begins, as far as it has come.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// Takes bytes as they came from upstream and appends what the client is sent. Whole events that need no edit
    /// go out as one piece of the very bytes; an event whose end is missing waits for it.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`] for an event over [`EVENT_BYTES_MAX`]; what came before it is in `out`.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<()> {
        let mut carried = self.decoder.carried_bytes();
        self.decoder.push(chunk.clone());
        let mut run = Run { chunk, start: 0, end: 0 };
        loop {
            let frame = match self.decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(Oversize) => {
                    run.flush(out);
                    return Err(oversize());
                }
            };
            let from_chunk = frame.raw.len() - carried;
            match self.frame(&frame) {
                None if carried == 0 => run.end += from_chunk,
                edited => {
                    run.flush(out);
                    out.extend(edited.unwrap_or_else(|| vec![frame.raw]));
                    run.skip(from_chunk);
                }
            }
            carried = 0;
        }
        run.flush(out);
        Ok(())
    }

    /// The upstream ended the stream in an orderly way: appends what is left, with its blank line if that lacks. A
    /// missing `[DONE]` is added only if the answer had come to its end, since a cut must not look like success; to
    /// streams of the other grammars nothing is.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) -> Ending {
        let is_whole = self.finish_frame(out);
        if !self.seen.is_done {
            out.extend(self.flush());
        }
        if !is_whole {
            return Ending::Truncated;
        }
        if self.seen.is_done {
            return Ending::Complete;
        }
        match self.rules.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions if self.has_ended() => {
                out.push(sse::encode(None, DONE));
                Ending::Complete
            }
            // Nothing but its last words tells that an answer of Google's is over.
            Endpoint::GenerateContent if self.has_ended() => Ending::Complete,
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::GenerateContent => Ending::Truncated,
            _ => Ending::Complete,
        }
    }

    /// Whether every choice has come to its end, and no error came.
    fn has_ended(&self) -> bool {
        self.seen.finish_reason.is_some() && self.choices.are_ended() && self.seen.error.is_none()
    }

    /// Delivers an event without its blank line, where the upstream has ended its stream. Returns false if it breaks off
    /// in the middle of its JSON; nobody could read that, so it is left out.
    pub fn finish_frame(&mut self, out: &mut Vec<Bytes>) -> bool {
        let Some(frame) = self.decoder.finish() else { return true };
        if frame.is_terminated() {
            out.extend(self.frame(&frame).unwrap_or_else(|| vec![frame.raw]));
            return true;
        }
        let data = frame.fields().data;
        if data.as_ref().is_some_and(|data| data.starts_with(b"{") && View::of(data).is_err()) {
            return false;
        }
        if data.is_some() || frame.raw.starts_with(b":") {
            let frame = frame.terminated();
            out.extend(self.frame(&frame).unwrap_or_else(|| vec![frame.raw]));
        }
        true
    }

    /// Watches one frame. Returns what is sent instead of it; none if it goes as it is.
    fn frame(&mut self, frame: &Frame) -> Option<Vec<Bytes>> {
        if self.rules.has_choices() && !self.must_read(&frame.raw) {
            self.seen.events += u64::from(frame.raw.starts_with(b"data:") || frame.fields().data.is_some());
            return None;
        }
        if self.rules.endpoint == Endpoint::Messages && self.seen.has_content && is_piece(&frame.raw) {
            self.seen.events += 1;
            return None;
        }
        let fields = frame.fields();
        let data = fields.data.as_ref()?;
        self.seen.events += 1;
        if &data[..] == DONE && !matches!(self.rules.endpoint, Endpoint::Messages | Endpoint::GenerateContent)
        {
            self.seen.is_done = true;
            let mut held = self.flush();
            return (!held.is_empty()).then(|| {
                held.push(frame.raw.clone());
                held
            });
        }
        match self.rules.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => {}
            Endpoint::Messages | Endpoint::GenerateContent => {
                self.watch_foreign(&fields, data);
                return None;
            }
            _ => {
                self.watch_other(&fields, data);
                return None;
            }
        }
        let Ok(view) = View::of(data) else {
            self.note_malformed(data);
            return None;
        };
        self.watch(&view);
        self.note_opening(&fields, data, &view);
        if let Some(range) = &fields.data_range {
            self.choices.learn(&view, data, range.start);
        }
        self.edit(frame, &fields, data, &view)
    }

    /// Whether a frame of an answer with choices has to be looked into.
    fn must_read(&self, raw: &[u8]) -> bool {
        !self.seen.has_content
            || (self.rules.edits_choices() && !self.is_settled(raw))
            || may_be_done(raw)
            || NEEDLES.iter().any(|needle| needle.is_in(raw))
            || FINISH_REASON.nulls(raw).is_none_or(|count| self.choices.may_begin(raw, count))
    }

    /// Whether no edit is possible any more: it is the one choice most answers have, its converter lets everything
    /// through, and the frame has no thinking field.
    fn is_settled(&self, raw: &[u8]) -> bool {
        let [(0, converter)] = &self.converters[..] else { return false };
        converter.is_settled()
            && !THINKING_NEEDLES.iter().any(|needle| needle.is_in(raw))
            && is_first_choice(raw)
    }

    fn watch(&mut self, view: &View<'_>) {
        self.choices.watch(view);
        self.seen.has_content |= view.has_content();
        self.has_call |= view.has_call;
        let reason = view.finish_reason().or(self.seen.finish_reason);
        self.seen.finish_reason = reason.map(|reason| reason.with_calls(self.has_call));
        if let Some(usage) = view.usage {
            self.has_usage = true;
            self.seen.usage = Some(usage);
        } else if !self.has_usage {
            self.seen.usage = view.timings.or(self.seen.usage);
        }
        if let Some(error) = &view.error {
            self.seen.error = Some(error.clone());
        }
    }

    /// Watches an answer of Anthropic's or Google's.
    fn watch_foreign(&mut self, fields: &Fields, data: &[u8]) {
        let Ok(view) = View::at(self.rules.endpoint, data) else { return self.note_malformed(data) };
        self.watch(&view);
        self.counts.update(view.counts);
        self.seen.usage = self.counts.usage();
        if self.rules.endpoint == Endpoint::Messages {
            let kind = view.kind.as_ref().map(|kind| kind.as_bytes());
            self.seen.is_done |= kind.or(fields.event.as_deref()) == Some(MESSAGE_END);
        }
        self.note_opening(fields, data, &view);
    }

    /// Watches an answer without choices: only its first event and those that name what they look for are read.
    fn watch_other(&mut self, fields: &Fields, data: &[u8]) {
        let is_end = |kind: &[u8]| {
            self.rules.endpoint == Endpoint::Responses
                && RESPONSE_ENDS.iter().any(|end| end.as_bytes() == kind)
        };
        self.seen.is_done |= fields.event.as_ref().is_some_and(|event| is_end(event));
        let names_end =
            || RESPONSE_ENDS.iter().any(|end| memchr::memmem::find(data, end.as_bytes()).is_some());
        let may_end = self.rules.endpoint == Endpoint::Responses && fields.event.is_none() && names_end();
        if self.seen.has_content
            && !may_end
            && !may_be_done(data)
            && !FINISH_REASON.is_in(data)
            && !NEEDLES.iter().any(|needle| needle.is_in(data))
        {
            return;
        }
        let Ok(view) = View::at(self.rules.endpoint, data) else { return self.note_malformed(data) };
        self.watch(&view);
        self.seen.has_content |= self.rules.endpoint != Endpoint::Responses && view.error.is_none();
        self.seen.is_done |= view.kind.as_ref().is_some_and(|kind| {
            self.rules.endpoint == Endpoint::Responses && RESPONSE_ENDS.contains(&kind.as_ref())
        });
        self.note_opening(fields, data, &view);
    }

    /// Notes what an event makes of a stream that had nothing to tell yet.
    fn note_opening(&mut self, fields: &Fields, data: &[u8], view: &View<'_>) {
        if self.opening != Opening::Pending {
            return;
        }
        if view.has_content() {
            self.opening = Opening::Answered;
        } else if view.error.is_some() || fields.event.as_deref() == Some(b"error") {
            self.opening = Opening::Failed(Bytes::copy_from_slice(data));
        } else if self.seen.has_content || self.seen.finish_reason.is_some() || self.seen.is_done {
            self.opening = Opening::Answered;
        }
    }

    /// Notes an event that is not JSON. Empty data is none: some upstreams keep a connection alive with it.
    fn note_malformed(&mut self, data: &[u8]) {
        if self.opening == Opening::Pending && !data.trim_ascii().is_empty() {
            self.opening = Opening::Malformed;
        }
    }

    fn edit(&mut self, frame: &Frame, fields: &Fields, data: &Bytes, view: &View<'_>) -> Option<Vec<Bytes>> {
        let hidden = view.usage_range.clone().filter(|_| self.rules.hides_usage);
        if hidden.is_some() && view.choices.is_empty() && view.error.is_none() {
            return Some(Vec::new());
        }
        let mut edits = Vec::new();
        let mut before = Vec::new();
        if self.rules.edits_choices() {
            let is_hollow = self.edit_choices(fields, data, view, &mut edits, &mut before);
            let tells_usage = view.usage_range.is_some() && hidden.is_none();
            if is_hollow && !tells_usage && view.error.is_none() {
                return Some(before);
            }
        }
        edits.extend(hidden.map(|range| Edit { range, text: Vec::new() }));
        if edits.is_empty() && before.is_empty() {
            return None;
        }
        before.push(if edits.is_empty() { frame.raw.clone() } else { write(frame, fields, data, edits) });
        Some(before)
    }

    /// Converts every choice of an event. Returns whether nothing is left in it to tell the client.
    fn edit_choices(
        &mut self,
        fields: &Fields,
        data: &Bytes,
        view: &View<'_>,
        edits: &mut Vec<Edit>,
        before: &mut Vec<Bytes>,
    ) -> bool {
        let format = self.rules.thinking_format();
        let target = Field::of_format(format);
        let mut is_hollow = !view.choices.is_empty();
        for choice in &view.choices {
            let is_last = choice.finish_reason.is_some();
            let Some(converter) = self.converter(choice.index) else {
                is_hollow = false;
                continue;
            };
            let mut parts = Parts::default();
            let mut edit = choice.convert(data, format, converter, is_last, &mut parts);
            let envelope = Envelope { data, view, index: choice.index };
            if edit.is_some() && !parts.thinking.is_empty() && !parts.answer.is_empty() {
                // A client that reads either the one or the other of an event would lose half of it.
                let thinking = Parts { thinking: std::mem::take(&mut parts.thinking), answer: Vec::new() };
                before.push(sse::encode(fields.event_name(), &envelope.write(target, &thinking)));
                edit = choice.message.as_ref().map(|message| Edit {
                    range: message.range.clone(),
                    text: message.rewritten(data, target, &parts),
                });
            } else if choice.message.is_none() && choice.text.is_none() && parts != Parts::default() {
                before.push(sse::encode(fields.event_name(), &envelope.write(target, &parts)));
            }
            let is_empty = parts == Parts::default();
            is_hollow &=
                edit.is_some() && is_empty && !is_last && choice.message.as_ref().is_some_and(has_only_text);
            edits.extend(edit);
        }
        if format != ThinkingFormat::Passthrough && !view.choices.is_empty() {
            self.envelope = Some(data.clone());
        }
        is_hollow
    }

    fn converter(&mut self, index: u64) -> Option<&mut Converter> {
        if let Some(at) = self.converters.iter().position(|(known, _)| *known == index) {
            return Some(&mut self.converters[at].1);
        }
        if self.converters.len() == CHOICES_MAX {
            return None;
        }
        let converter = Converter::new(self.rules.thinking_format(), self.prefix.clone());
        self.converters.push((index, converter));
        self.converters.last_mut().map(|(_, converter)| converter)
    }

    /// Gives what converters still hold, in events of their own.
    fn flush(&mut self) -> Vec<Bytes> {
        let Some(data) = self.envelope.take() else { return Vec::new() };
        let Ok(view) = View::of(&data) else { return Vec::new() };
        let target = Field::of_format(self.rules.thinking_format());
        let mut events = Vec::new();
        for (index, converter) in &mut self.converters {
            let mut parts = Parts::default();
            converter.finish(&mut parts);
            if parts != Parts::default() {
                let envelope = Envelope { data: &data, view: &view, index: *index };
                events.push(sse::encode(None, &envelope.write(target, &parts)));
            }
        }
        events
    }
}

const DONE: &[u8] = b"[DONE]";

/// Source: OpenAI API reference, "Responses", "Streaming", seen 2026-11.
pub(in crate::wire) const RESPONSE_ENDS: [&str; 4] =
    ["response.completed", "response.failed", "response.incomplete", "error"];

/// The type of the event that ends a message.
///
/// Source: Anthropic API reference, "Streaming messages", seen 2026-11.
const MESSAGE_END: &[u8] = b"message_stop";

/// Whether a frame is a piece of a message's block, about which nothing but that is of interest, once there is content.
fn is_piece(raw: &[u8]) -> bool {
    let data = raw.strip_prefix(b"event: content_block_delta\n").unwrap_or(raw);
    data.starts_with(b"data: {\"type\":\"content_block_delta\"")
        || data.starts_with(b"data: {\"type\": \"content_block_delta\"")
}

/// The name of a member that tells that an event has to be looked into, unless it is null. In a JSON string the
/// quotes would be escaped, so a hit nearly always is the member itself.
struct Needle(Finder<'static>);

static NEEDLES: LazyLock<[Needle; 3]> =
    LazyLock::new(|| ["\"usage\"", "\"error\"", "\"timings\""].map(|name| Needle(Finder::new(name))));

static FINISH_REASON: LazyLock<Needle> = LazyLock::new(|| Needle(Finder::new("\"finish_reason\"")));

static THINKING_NEEDLES: LazyLock<[Needle; 2]> =
    LazyLock::new(|| ["\"reasoning\"", "\"reasoning_content\""].map(|name| Needle(Finder::new(name))));

impl Needle {
    fn is_in(&self, bytes: &[u8]) -> bool {
        self.nulls(bytes).is_none()
    }

    /// Counts the members of this name; none if one of them is not null.
    fn nulls(&self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        let mut count = 0;
        while let Some(at) = self.0.find(rest) {
            rest = &rest[at + self.0.needle().len()..];
            if !is_null(rest) {
                return None;
            }
            count += 1;
        }
        Some(count)
    }
}

/// Whether a frame may be the one that says `[DONE]`. It is short, or ends so when comments make it long.
fn may_be_done(raw: &[u8]) -> bool {
    const SHORT: usize = 96;
    raw.len() < SHORT || raw.trim_ascii_end().ends_with(DONE)
}

/// Whether every index in a frame is 0, and there is one.
fn is_first_choice(raw: &[u8]) -> bool {
    let mut indexes = INDEX.find_iter(raw).map(|at| value(&raw[at + INDEX.needle().len()..])).peekable();
    indexes.peek().is_some() && indexes.all(|value| matches!(value, [b'0', b',' | b'}' | b' ', ..]))
}

/// What follows a member's name, from the value on; empty if no value follows.
fn value(rest: &[u8]) -> &[u8] {
    rest.trim_ascii_start().strip_prefix(b":").map_or(&[], <[u8]>::trim_ascii_start)
}

/// Whether what follows a member's name is a null.
fn is_null(rest: &[u8]) -> bool {
    value(rest).starts_with(b"null")
}

/// A stretch of a chunk that is forwarded as it is.
struct Run {
    chunk: Bytes,
    start: usize,
    end: usize,
}

impl Run {
    fn flush(&mut self, out: &mut Vec<Bytes>) {
        let run = self.start..self.end;
        self.start = self.end;
        if run.len() == self.chunk.len() {
            out.extend(Some(std::mem::take(&mut self.chunk)).filter(|chunk| !chunk.is_empty()));
        } else if !run.is_empty() {
            out.push(self.chunk.slice(run));
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.end += bytes;
        self.start = self.end;
    }
}

/// An event whose `id`, `model` and the like another event is to share.
struct Envelope<'a> {
    data: &'a Bytes,
    view: &'a View<'a>,
    index: u64,
}

impl Envelope<'_> {
    /// Writes an event with these parts for one choice and nothing else.
    fn write(&self, target: Option<Field>, parts: &Parts) -> Vec<u8> {
        let choice = self.view.choices.iter().find(|choice| choice.index == self.index);
        let role = choice
            .and_then(|choice| choice.message.as_ref()?.member(Field::Role))
            .map_or(&b""[..], |role| &self.data[role.range.clone()]);
        let mut list = format!("[{{\"index\":{},\"delta\":{{", self.index).into_bytes();
        let thinking = target.and_then(Field::name).filter(|_| !parts.thinking.is_empty());
        let answer = Some("content").filter(|_| !parts.answer.is_empty());
        let texts = [(thinking, &parts.thinking), (answer, &parts.answer)];
        list.extend_from_slice(role);
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name?, text))) {
            if !list.ends_with(b"{") {
                list.push(b',');
            }
            list.extend_from_slice(format!("\"{name}\":\"").as_bytes());
            list.extend_from_slice(text);
            list.push(b'"');
        }
        list.extend_from_slice(b"},\"finish_reason\":null}]");
        let choices = self.view.choices_range.clone().map(|range| Edit { range, text: list });
        let usage = self.view.usage_range.clone().map(|range| Edit { range, text: Vec::new() });
        Edit::apply(choices.into_iter().chain(usage).collect(), self.data).concat()
    }
}

/// Whether a delta has nothing but its text to say.
fn has_only_text(message: &Message<'_>) -> bool {
    message.members.iter().all(|member| match member.field {
        Field::Content | Field::Reasoning | Field::ReasoningContent => true,
        Field::Role | Field::Other => !member.is_filled,
    })
}

/// Writes a frame with edited data.
fn write(frame: &Frame, fields: &Fields, data: &Bytes, edits: Vec<Edit>) -> Bytes {
    let edited = Edit::apply(edits, data).concat();
    match &fields.data_range {
        Some(range) => [&frame.raw[..range.start], &edited, &frame.raw[range.end..]].concat().into(),
        None => sse::encode(fields.event_name(), &edited),
    }
}

fn oversize() -> Error {
    let message = format!("the upstream sent an event of more than {EVENT_BYTES_MAX} bytes");
    Error::new(ErrorKind::UpstreamInvalid, message)
}

#[cfg(test)]
mod vendors;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::openai::answer;

    fn rules(hides_usage: bool, prefix: &str, thinking: ThinkingFormat) -> Rules {
        let special_prefix = (!prefix.is_empty()).then(|| prefix.into());
        Rules { endpoint: Endpoint::ChatCompletions, hides_usage, special_prefix, thinking }
    }

    fn run(rules: Rules, chunks: &[&[u8]]) -> (String, Seen, Ending) {
        let mut filter = Filter::new(rules);
        let mut out = Vec::new();
        for chunk in chunks {
            filter.push(Bytes::copy_from_slice(chunk), &mut out).unwrap();
        }
        let ending = filter.finish(&mut out);
        (String::from_utf8_lossy(&out.concat()).into_owned(), filter.seen, ending)
    }

    /// Every cut in two, and into single bytes, gives the same.
    #[track_caller]
    fn check(rules: &Rules, input: &str, expected: &str, ending: Ending) -> Seen {
        let whole = run(rules.clone(), &[input.as_bytes()]);
        assert_eq!((whole.0.as_str(), whole.2), (expected, ending));
        for at in 0..=input.len() {
            let (head, tail) = input.as_bytes().split_at(at);
            assert_eq!(run(rules.clone(), &[head, tail]), whole, "split at {at}");
        }
        let single: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
        assert_eq!(run(rules.clone(), &single), whole, "split everywhere");
        whole.1
    }

    /// Writes events of one choice from deltas, in the usual envelope.
    fn events(deltas: &[&str]) -> String {
        deltas.iter().map(|delta| event(delta, "null")).collect()
    }

    fn event(delta: &str, finish_reason: &str) -> String {
        let choice = format!(r#"{{"index":0,"delta":{delta},"finish_reason":{finish_reason}}}"#);
        format!("data: {{\"id\":\"x\",\"choices\":[{choice}]}}\n\n")
    }

    fn end() -> String {
        event("{}", "\"stop\"") + "data: [DONE]\n\n"
    }

    #[track_caller]
    fn check_deltas(rules: &Rules, deltas: &[&str], expected: &[&str]) {
        check(rules, &(events(deltas) + &end()), &(events(expected) + &end()), Ending::Complete);
    }

    #[test]
    fn events_that_need_nothing_go_through_as_they_came() {
        let passthrough = rules(true, "", ThinkingFormat::Passthrough);
        let input = format!(
            ": ping\n\ndata:{{\"choices\":[], \"usage\": null}}\r\n\r\nid: 7\ndata: {{\"n\":0.70,\ndata: \"m\":1}}\n\n{}{}",
            events(&[r#"{"role":"assistant","content":""}"#, r#"{"content":"\u00e9 \"usage\":{}"}"#]),
            end(),
        );
        let seen = check(&passthrough, &input, &input, Ending::Complete);
        assert_eq!(seen.events, 6);
        assert!(seen.has_content && seen.is_done);
        assert_eq!(seen.finish_reason, Some(StopReason::Stop));
    }

    #[test]
    fn untouched_events_of_one_chunk_are_the_very_bytes_that_came() {
        let mut filter = Filter::new(rules(true, "", ThinkingFormat::Passthrough));
        let chunk = Bytes::from(events(&[r#"{"content":"a"}"#, r#"{"content":"b"}"#]));
        let mut out = Vec::new();
        filter.push(chunk.clone(), &mut out).unwrap();
        assert_eq!((out.len(), out[0].as_ptr(), out[0].len()), (1, chunk.as_ptr(), chunk.len()));
    }

    #[test]
    fn malformed_events_are_forwarded() {
        // parity: 139
        let deltas = [
            "x",
            "5",
            "\"x\"",
            "null",
            "[]",
            "{",
            r#"{"choices":[1]}"#,
            r#"{"choices":{}}"#,
            r#"{"choices":[{"delta":5,"finish_reason":7}]}"#,
            r#"{"choices":[{"index":-1,"delta":{"content":1}}]}"#,
            r#"{"usage":"x","error":false}"#,
            r#"{"choices":[{"index":1e99,"delta":{"content":null}}]}"#,
        ];
        let input: String = deltas.iter().map(|data| format!("data: {data}\n\n")).collect();
        for format in [ThinkingFormat::Passthrough, ThinkingFormat::Strip, ThinkingFormat::ThinkTag] {
            let seen = check(&rules(false, "p", format), &input, &input, Ending::Truncated);
            assert_eq!(seen.events, 12);
        }
        let bytes = b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n";
        let mut out = Vec::new();
        Filter::new(rules(true, "p", ThinkingFormat::Strip))
            .push(Bytes::from_static(bytes), &mut out)
            .unwrap();
        assert_eq!(out.concat(), bytes);
    }

    #[test]
    fn usage_is_recorded_and_hidden_from_who_did_not_ask() {
        // parity: 90, 92
        let (hides, shows) = (true, false);
        let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":4}"#;
        let expected = Some(Usage { input: 3, output: 4, ..Usage::default() });
        let head = events(&[r#"{"content":"a"}"#]);
        let last = format!("data: {{\"id\":1,\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n");
        let finish = event("{}", "\"length\"");
        let input = format!("{head}{finish}{last}");
        let passthrough = ThinkingFormat::Passthrough;
        let seen = check(&rules(shows, "", passthrough), &input, &input, Ending::Complete);
        assert_eq!((seen.usage, seen.finish_reason), (expected, Some(StopReason::Length)));
        let hidden = format!("{head}{finish}data: [DONE]\n\n");
        let seen = check(&rules(hides, "", passthrough), &input, &hidden, Ending::Complete);
        assert_eq!(seen.usage, expected);
        let beside = input.replace("\"choices\":[{", &format!("{usage},\"choices\":[{{"));
        check(&rules(hides, "", passthrough), &beside, &hidden, Ending::Complete);
    }

    #[test]
    fn timings_are_usage_where_there_is_no_other() {
        // parity: 91
        let timings = r#"{"choices":[],"timings":{"prompt_n":3,"predicted_n":4}}"#;
        let input = format!("data: {timings}\n\n{}", end());
        let seen = check(&rules(true, "", ThinkingFormat::Passthrough), &input, &input, Ending::Complete);
        assert_eq!(seen.usage, Some(Usage { input: 3, output: 4, ..Usage::default() }));
        let input = format!("data: {{\"usage\":{{\"prompt_tokens\":9}}}}\n\n{input}");
        let seen = check(&rules(false, "", ThinkingFormat::Passthrough), &input, &input, Ending::Complete);
        assert_eq!(seen.usage.map(|usage| usage.input), Some(9));
    }

    /// How a stream begins, whole and at every cut in two.
    #[track_caller]
    fn check_opening(endpoint: Endpoint, input: &str, expected: Opening) {
        let rules = Rules { endpoint, ..rules(true, "", ThinkingFormat::Passthrough) };
        for at in 0..=input.len() {
            let mut filter = Filter::new(rules.clone());
            for piece in [&input[..at], &input[at..]] {
                filter.push(Bytes::copy_from_slice(piece.as_bytes()), &mut Vec::new()).unwrap();
            }
            filter.finish_frame(&mut Vec::new());
            assert_eq!(*filter.opening(), expected, "split at {at}");
        }
    }

    // parity: 118
    #[test]
    fn the_first_that_counts_is_how_a_stream_begins() {
        let chat = Endpoint::ChatCompletions;
        let role = event(r#"{"role":"assistant","content":""}"#, "null");
        let text = event(r#"{"content":"a"}"#, "null");
        let error = r#"{"error":{"message":"no"}}"#;
        let failed = format!("data: {error}\n\n");
        let failure = || Opening::Failed(Bytes::from(error));
        for pending in ["", ": ping\n\n", "data: [DONE]\n\n", "data:\n\n", "data: 5\n\n", &*role] {
            check_opening(chat, pending, Opening::Pending);
        }
        check_opening(chat, &text, Opening::Answered);
        check_opening(chat, &format!("{role}{text}"), Opening::Answered);
        check_opening(chat, &format!("{role}{}", event("{}", "\"stop\"")), Opening::Answered);
        check_opening(chat, text.trim_end(), Opening::Answered);
        check_opening(chat, &event(r#"{"tool_calls":[{"index":0}]}"#, "null"), Opening::Answered);
        check_opening(chat, &event(r#"{"reasoning":"a"}"#, "null"), Opening::Answered);
        check_opening(chat, &failed, failure());
        check_opening(chat, &format!("{role}{failed}{text}"), failure());
        check_opening(chat, &format!("{text}{failed}"), Opening::Answered);
        check_opening(chat, &format!("event: error\ndata: {{}}\n\n{text}"), Opening::Failed("{}".into()));
        check_opening(chat, &format!("{role}data: oops\n\n{text}"), Opening::Malformed);
        check_opening(chat, &format!("{text}data: oops\n\n"), Opening::Answered);
        let typed = |kind: &str, more: &str| format!("data: {{\"type\":\"{kind}\"{more}}}\n\n");
        let created = typed("response.created", ",\"response\":{\"status\":\"in_progress\"}");
        let delta = typed("response.output_text.delta", ",\"delta\":\"a\"");
        check_opening(Endpoint::Responses, &created, Opening::Pending);
        check_opening(Endpoint::Responses, &format!("{created}{delta}"), Opening::Answered);
        let done = typed("response.completed", ",\"response\":{\"status\":\"completed\"}");
        check_opening(Endpoint::Responses, &format!("{created}{done}"), Opening::Answered);
        let broken = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"x"}}}"#;
        let input = format!("{created}data: {broken}\n\n{delta}");
        check_opening(Endpoint::Responses, &input, Opening::Failed(broken.into()));
        check_opening(Endpoint::AudioSpeech, "data: {\"a\":1}\n\n", Opening::Answered);
    }

    #[test]
    fn a_missing_done_is_added_only_to_a_finished_answer() {
        // parity: 125, 126
        let passthrough = rules(true, "", ThinkingFormat::Passthrough);
        let head = events(&[r#"{"content":"a"}"#]);
        let finished = head.clone() + &event("{}", "\"stop\"");
        let done = format!("{finished}data: [DONE]\n\n");
        check(&passthrough, &finished, &done, Ending::Complete);
        check(&passthrough, finished.trim_end(), &done, Ending::Complete);
        check(&passthrough, done.trim_end(), &done, Ending::Complete);
        check(&passthrough, &head, &head, Ending::Truncated);
        check(&passthrough, "", "", Ending::Truncated);
        check(&passthrough, &format!("{head}data: {{\"choices\":[{{\"de"), &head, Ending::Truncated);
        check(&passthrough, &format!("{finished}data: {{\"us"), &finished, Ending::Truncated);
        let failed = format!("{head}data: {{\"error\":{{\"message\":\"no\"}}}}\n\n");
        let seen = check(&passthrough, &failed, &failed, Ending::Truncated);
        assert_eq!(seen.error.as_deref(), Some("no"));
        let failed = event(r#"{"content":"a"}"#, "\"error\"") + &failed;
        check(&passthrough, &failed, &failed, Ending::Truncated);
    }

    #[test]
    fn a_done_is_added_only_when_every_choice_has_ended() {
        let passthrough = rules(true, "", ThinkingFormat::Passthrough);
        let choice = |index: usize, text: &str, reason: &str| {
            format!(r#"{{"index":{index},"delta":{{"content":"{text}"}},"finish_reason":{reason}}}"#)
        };
        // Long enough to be no end, so that only what it names can be why an event is looked into.
        let id = "x".repeat(96);
        let event =
            |choices: &[String]| format!("data: {{\"id\":\"{id}\",\"choices\":[{}]}}\n\n", choices.join(","));
        let [zero, one] = [0, 1].map(|index| event(&[choice(index, "a", "null")]));
        let [zero_end, one_end] = [0, 1].map(|index| event(&[choice(index, "", "\"stop\"")]));
        let both = event(&[choice(0, "a", "null"), choice(1, "a", "null")]);
        let spaced = one.replace(':', ": ");
        let bare = one.replace(",\"finish_reason\":null", "");
        let bare_both = both.replace(",\"finish_reason\":null", "");
        let last = one.replace("\"index\":1,", "").replace(":null}", ":null,\"index\":1}");
        for second in [&one, &both, &spaced, &bare, &bare_both, &last] {
            let cut = format!("{zero}{zero}{second}{zero}{zero_end}");
            check(&passthrough, &cut, &cut, Ending::Truncated);
            let whole = cut.clone() + &one_end;
            check(&passthrough, &whole, &(whole.clone() + "data: [DONE]\n\n"), Ending::Complete);
        }
        // The index of a tool call is none of a choice.
        let call = zero.replace(r#""content":"a""#, r#""tool_calls":[{"index":1}]"#);
        for call in [&call, &call.replace(",\"finish_reason\":null", "")] {
            let whole = format!("{zero}{call}{call}{zero_end}");
            check(&passthrough, &whole, &(whole.clone() + "data: [DONE]\n\n"), Ending::Complete);
        }
    }

    #[test]
    fn a_done_behind_a_long_comment_is_seen() {
        let head = events(&[r#"{"content":"a"}"#]);
        let input = format!("{head}: {}\ndata: [DONE]\n\n", "x".repeat(200));
        check(&rules(true, "", ThinkingFormat::Passthrough), &input, &input, Ending::Complete);
    }

    #[test]
    fn a_response_is_whole_when_its_last_event_was_there() {
        let endpoint = Endpoint::Responses;
        let rules = Rules { endpoint, ..rules(true, "p", ThinkingFormat::Strip) };
        let text = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n";
        let last = "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"usage\":{\"input_tokens\":3}}}\n\n";
        let seen = check(&rules, &format!("{text}{last}"), &format!("{text}{last}"), Ending::Complete);
        assert_eq!(seen.usage.map(|usage| usage.input), Some(3));
        assert_eq!((seen.has_content, seen.finish_reason), (true, Some(StopReason::Stop)));
        check(&rules, text, text, Ending::Truncated);
        let named = "event: error\ndata: {\"type\":\"error\",\"message\":\"no\"}\n\n";
        let seen = check(&rules, named, named, Ending::Complete);
        assert_eq!(seen.error.as_deref(), Some("no"));
        let rules = Rules { endpoint: Endpoint::AudioSpeech, ..rules };
        check(&rules, "data: {\"a\":1}\n\n", "data: {\"a\":1}\n\n", Ending::Complete);
    }

    #[test]
    fn the_prefix_comes_once_before_the_first_content_of_every_choice() {
        // parity: 86
        check_deltas(
            &rules(true, "<t>\n", ThinkingFormat::Passthrough),
            &[r#"{"role":"assistant","content":""}"#, r#"{"content": "a"}"#, r#"{"content":"b"}"#],
            &[r#"{"role":"assistant","content":""}"#, r#"{"content": "<t>\na"}"#, r#"{"content":"b"}"#],
        );
        let two = |zero: &str, one: &str| {
            format!(
                "data: {{\"choices\":[{{\"index\":1,\"text\":\"{one}\"}},{{\"index\":0,\"text\":\"{zero}\"}}]}}\n\n"
            )
        };
        let rules = Rules { endpoint: Endpoint::Completions, ..rules(true, "p", ThinkingFormat::Strip) };
        let input = two("", "a") + &two("b", "c") + &two("d", "e");
        check(&rules, &input, &(two("", "pa") + &two("pb", "c") + &two("d", "e")), Ending::Truncated);
    }

    #[test]
    fn what_comes_late_is_edited_after_all() {
        let strip = rules(true, "", ThinkingFormat::Strip);
        let late =
            [r#"{"content":"a"}"#, r#"{"reasoning":"b"}"#, r#"{"content":"c","reasoning_content":null}"#];
        check_deltas(&strip, &late, &[late[0], late[2]]);
        let second = |text: &str| {
            format!(
                "data: {{\"id\":\"{}\",\"choices\":[{{\"index\": 1,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n",
                "long enough to be no end".repeat(4),
            )
        };
        let first = events(&[late[0], late[0]]);
        let input = format!("{first}{}{first}", second("x"));
        let prefixed = events(&[r#"{"content":"pa"}"#, late[0]]);
        let expected = format!("{prefixed}{}{first}", second("px"));
        check(&rules(true, "p", ThinkingFormat::Passthrough), &input, &expected, Ending::Truncated);
    }

    #[test]
    fn an_empty_chunk_sends_nothing() {
        let mut out = Vec::new();
        Filter::new(rules(true, "", ThinkingFormat::Passthrough)).push(Bytes::new(), &mut out).unwrap();
        assert!(out.is_empty());
    }

    #[test]
    fn tags_become_a_field_and_one_event_becomes_two_where_both_meet() {
        // parity: 85
        let reasoning = rules(true, "", ThinkingFormat::Reasoning);
        check_deltas(
            &reasoning,
            &[
                r#"{"role":"assistant","content":"<thi"}"#,
                r#"{"content":"nk>a</th"}"#,
                r#"{"content":"ink>b"}"#,
            ],
            &[
                r#"{"role":"assistant","content":""}"#,
                r#"{"reasoning":"a","content":""}"#,
                r#"{"content":"b"}"#,
            ],
        );
        check_deltas(
            &reasoning,
            &[r#"{"content":"<think>"}"#, r#"{"content":"a</think>b"}"#, r#"{"content":"c"}"#],
            &[r#"{"reasoning":"a"}"#, r#"{"content":"b"}"#, r#"{"content":"c"}"#],
        );
        check_deltas(
            &rules(true, "", ThinkingFormat::Strip),
            &[r#"{"content":"<think>a"}"#, r#"{"content":"b"}"#, r#"{"content":"</think>c"}"#],
            &[r#"{"content":"c"}"#],
        );
        check_deltas(
            &rules(true, "<think>", ThinkingFormat::ReasoningContent),
            &[r#"{"content":"a"}"#, r#"{"content":"</think>b"}"#],
            &[r#"{"reasoning_content":"a","content":""}"#, r#"{"content":"b"}"#],
        );
    }

    #[test]
    fn fields_become_tags_or_another_field() {
        let input =
            [r#"{"content":null,"reasoning_content":"a"}"#, r#"{"content":"b","reasoning_content":null}"#];
        check_deltas(&rules(true, "", ThinkingFormat::ReasoningContent), &input, &input);
        check_deltas(
            &rules(true, "", ThinkingFormat::ThinkTag),
            &input,
            &[r#"{"content":"<think>a"}"#, r#"{"content":"</think>b","reasoning_content":null}"#],
        );
        check_deltas(
            &rules(true, "", ThinkingFormat::Reasoning),
            &input,
            &[r#"{"reasoning":"a","content":null}"#, r#"{"content":"b","reasoning_content":null}"#],
        );
        check_deltas(&rules(true, "", ThinkingFormat::Strip), &input, &input[1..]);
    }

    #[test]
    fn what_is_held_back_comes_before_the_end() {
        let reasoning = rules(true, "", ThinkingFormat::Reasoning);
        let held = events(&[r#"{"content":"<think>a</th"}"#]);
        let sent = events(&[r#"{"reasoning":"a","content":""}"#]);
        let flushed = events(&[r#"{"reasoning":"</th"}"#]);
        let finish = |delta: &str| event(delta, "\"stop\"") + "data: [DONE]\n\n";
        let expected = sent.clone() + &finish(r#"{"reasoning":"</th"}"#);
        check(&reasoning, &(held.clone() + &end()), &expected, Ending::Complete);
        let done = "data: [DONE]\n\n";
        check(&reasoning, &format!("{held}{done}"), &format!("{sent}{flushed}{done}"), Ending::Complete);
        check(&reasoning, &held, &(sent + &flushed), Ending::Truncated);
        check(
            &rules(true, "", ThinkingFormat::ThinkTag),
            &(events(&[r#"{"reasoning":"a"}"#]) + &end()),
            &(events(&[r#"{"content":"<think>a"}"#]) + &finish(r#"{"content":"</think>"}"#)),
            Ending::Complete,
        );
    }

    #[test]
    fn an_event_over_the_bound_is_refused_after_what_came_before() {
        let mut filter = Filter::new(rules(true, "", ThinkingFormat::Passthrough));
        let head = events(&[r#"{"content":"a"}"#]);
        let mut out = Vec::new();
        let chunk = head.clone() + "data: " + &"x".repeat(EVENT_BYTES_MAX);
        let error = filter.push(chunk.into(), &mut out).unwrap_err();
        assert_eq!((error.kind, out.concat()), (ErrorKind::UpstreamInvalid, head.into_bytes()));
    }

    /// Joins the texts of a streamed answer: thinking under each name, and content.
    fn join(stream: &str) -> [String; 3] {
        let mut joined = [const { String::new() }; 3];
        for line in stream.lines().filter_map(|line| line.strip_prefix("data: {")) {
            let value: serde_json::Value = serde_json::from_str(&format!("{{{line}")).unwrap();
            for (name, text) in ["reasoning", "reasoning_content", "content"].iter().zip(&mut joined) {
                text.push_str(value["choices"][0]["delta"][name].as_str().unwrap_or_default());
            }
        }
        joined
    }

    proptest! {
        #[test]
        fn a_streamed_answer_is_the_whole_one_at_every_cut(
            pieces in prop::collection::vec(
                prop::sample::select(vec!["<think>", "</think>", "<", "</", "think>", " ", "\n", "a", "\u{e9}\""]),
                0..12,
            ),
            thinking in prop::collection::vec(prop::sample::select(vec!["r", "</think>", "\u{1f600}"]), 0..3),
            field in prop::sample::select(vec!["reasoning", "reasoning_content"]),
            prefix in prop::sample::select(vec!["", "<think>", "p"]),
            format in prop::sample::select(vec![
                ThinkingFormat::Passthrough, ThinkingFormat::ThinkTag, ThinkingFormat::Reasoning,
                ThinkingFormat::ReasoningContent, ThinkingFormat::Strip,
            ]),
            is_ended in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let rules = rules(true, prefix, format);
            let delta = |name: &str, text: &str| serde_json::json!({ name: text }).to_string();
            let mut stream: String = thinking.iter().map(|text| event(&delta(field, text), "null")).collect();
            stream.extend(pieces.iter().map(|text| event(&delta("content", text), "null")));
            stream.push_str(if is_ended { "data: [DONE]\n\n" } else { "" });
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
            let streamed = join(&run(rules.clone(), &chunks).0);

            let message = serde_json::json!({ field: thinking.concat(), "content": pieces.concat() });
            let body = serde_json::json!({ "choices": [{ "message": message }] }).to_string();
            let answer = answer::rewrite(&body.into(), &rules).unwrap().segments.concat();
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            let message = &answer["choices"][0]["message"];
            let whole = ["reasoning", "reasoning_content", "content"]
                .map(|name| message[name].as_str().unwrap_or_default().to_owned());
            prop_assert_eq!(streamed, whole);
        }

        #[test]
        fn nothing_panics(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(vec![
                        "data: ", "\n\n", "\n", "{\"choices\":[", "{\"index\":0,", "\"delta\":{", "\"content\":\"",
                        "<think>", "\"}", "}]}", "\"usage\":{}", ",", "\"finish_reason\":\"stop\"", "[DONE]", "\\",
                    ]).prop_map(|piece: &str| piece.as_bytes().to_vec()),
                    prop::collection::vec(any::<u8>(), 0..4),
                ],
                0..24,
            ),
        ) {
            for format in [ThinkingFormat::Reasoning, ThinkingFormat::Strip, ThinkingFormat::ThinkTag] {
                let mut filter = Filter::new(rules(true, "p", format));
                let mut out = Vec::new();
                filter.push(pieces.concat().into(), &mut out).unwrap();
                filter.finish(&mut out);
            }
        }
    }
}
