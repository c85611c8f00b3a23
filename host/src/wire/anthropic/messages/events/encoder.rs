//! A client's events, written: at every point a beginning of the grammar.
//!
//! Blocks follow each other and are numbered without gaps. What cannot be written while a call's arguments are not
//! complete is held back until they are: only then may another block begin, and no piece comes too late.

use std::collections::VecDeque;
use std::sync::Arc;

use http::StatusCode;

use crate::chat::{ApiError, Citation, Event, Raw, Signature, StopReason, Usage};
use crate::wire::Surface;
use crate::wire::anthropic::messages::reply::Ending;
use crate::wire::anthropic::messages::{block, error, reply, usage};
use crate::wire::convert::Asked;
use crate::wire::json::{Members, Writer, quote};

use super::held::{Arguments, Call, Held};

/// How much may be held back, in bytes.
const HELD_BYTES_MAX: usize = 8 << 20;

/// Writes the events of a stream.
#[derive(Debug)]
pub struct EventEncoder {
    model: Arc<str>,
    id: Arc<str>,
    progress: Progress,
    open: Open,
    /// The number of the block that is open, or of the next one.
    number: u32,
    held: VecDeque<Held>,
    held_bytes: usize,
    last: Last,
    usage: Usage,
    finish: Option<(StopReason, Option<String>)>,
    /// The last event but one in an upstream's own words.
    delta: Option<Raw>,
    has_calls: bool,
    has_refusal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Started,
    Over,
}

/// The block that is open.
#[derive(Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    Text,
    Thinking,
    Call {
        index: u32,
        arguments: Arguments,
    },
    /// One of the upstream's own, by the number that it has there.
    Other(u64),
}

/// What was spoken of last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Call(u32),
    Other,
}

impl EventEncoder {
    /// Begins a stream.
    pub fn new(asked: &Asked) -> Self {
        Self {
            model: asked.model.clone(),
            id: asked.id.clone(),
            progress: Progress::Waiting,
            open: Open::Nothing,
            number: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            last: Last::Other,
            usage: Usage::default(),
            finish: None,
            delta: None,
            has_calls: false,
            has_refusal: false,
        }
    }

    /// Appends what the client is sent for a step.
    pub fn push(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.progress == Progress::Over || choice_of(event).is_some_and(|choice| choice != 0) {
            return;
        }
        match event {
            Event::Start { id, usage, .. } => {
                self.usage = usage.unwrap_or(self.usage);
                self.start(id, out);
            }
            Event::Usage(usage) => self.usage = *usage,
            Event::Ping => self.ping(out),
            Event::Failed(error) => self.fail(error, out),
            Event::End => self.end(out),
            Event::Finish { reason, stop_sequence, .. } => {
                self.start("", out);
                self.release_all(out);
                self.finish.get_or_insert_with(|| (*reason, stop_sequence.clone()));
            }
            Event::ToolCall { index, id, name, signature, .. } => {
                self.start("", out);
                let (id, name) = (id.clone(), name.clone());
                self.call(Call { index: *index, id, name, signature: signature.clone() }, out);
            }
            Event::Arguments { index, json, .. } => {
                self.last = Last::Call(*index);
                self.arguments(*index, json, out);
            }
            Event::PartEnd { .. } => self.part_end(out),
            Event::Text { .. }
            | Event::Thinking { .. }
            | Event::Signature { .. }
            | Event::RedactedThinking { .. }
            | Event::Refusal { .. }
            | Event::Citation { .. }
            | Event::Other(_) => {
                self.start("", out);
                self.last = Last::Other;
                if self.is_free() { self.say(event, out) } else { self.hold(Held::Event(event.clone()), out) }
            }
            Event::Logprobs { .. } => {}
        }
    }

    /// Begins the message, if it has not.
    fn start(&mut self, id: &str, out: &mut Vec<u8>) {
        if self.progress != Progress::Waiting {
            return;
        }
        self.progress = Progress::Started;
        let id = if id.starts_with("msg_") { id.to_owned() } else { reply::message_id(&self.id) };
        let mut data = Data::begin("message_start", out);
        let mut message = Writer::new(data.writer().member("message"));
        message.string("id", &id);
        message.string("type", "message");
        message.string("role", "assistant");
        message.string("model", &self.model);
        message.raw("content", "[]");
        message.raw("stop_reason", "null");
        message.raw("stop_sequence", "null");
        usage::write(self.usage, message.member("usage"));
        message.finish();
        data.end();
    }

    /// Before the message has begun only a comment is not too early.
    fn ping(&self, out: &mut Vec<u8>) {
        match self.progress {
            Progress::Waiting => out.extend_from_slice(b": ping\n\n"),
            _ => Data::begin("ping", out).end(),
        }
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        self.progress = Progress::Over;
        self.held = VecDeque::new();
        out.extend_from_slice(b"event: error\ndata: ");
        out.extend_from_slice(&error::encode_error(error));
        out.extend_from_slice(b"\n\n");
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start("", out);
        self.release_all(out);
        let mut data = Data::begin("message_delta", out);
        match self.delta.take().as_ref().and_then(|raw| Members::of(raw.get())) {
            Some(own) => {
                let _ = (own.get("type"), own.get("usage"));
                data.writer().extra(&own.rest(&[]));
            }
            None => self.write_stop(data.writer()),
        }
        usage::write(self.usage, data.writer().member("usage"));
        data.end();
        Data::begin("message_stop", out).end();
        self.progress = Progress::Over;
    }

    fn write_stop(&mut self, writer: &mut Writer<&mut Vec<u8>>) {
        let (reason, sequence) = self.finish.take().unzip();
        let sequence = sequence.flatten();
        let ending = Ending {
            reason,
            has_sequence: sequence.is_some(),
            has_calls: self.has_calls,
            has_refusal: self.has_refusal,
        };
        let mut delta = Writer::new(writer.member("delta"));
        delta.string("stop_reason", ending.word());
        match sequence {
            Some(sequence) => delta.string("stop_sequence", &sequence),
            None => delta.raw("stop_sequence", "null"),
        }
        delta.finish();
    }

    /// Whether another block may begin, or the open one go on, without anything coming too late.
    fn is_free(&self) -> bool {
        self.held.is_empty()
            && match &self.open {
                Open::Call { arguments, .. } => arguments.are_complete(),
                Open::Nothing | Open::Text | Open::Thinking | Open::Other(_) => true,
            }
    }

    /// Holds something back; fails when that is too much.
    fn hold(&mut self, held: Held, out: &mut Vec<u8>) {
        self.grow(held.bytes(), out);
        if self.progress != Progress::Over {
            self.held.push_back(held);
        }
    }

    fn grow(&mut self, bytes: usize, out: &mut Vec<u8>) {
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        if self.held_bytes > HELD_BYTES_MAX {
            let message =
                "the arguments of a call did not end, and what follows is too much to wait with".to_owned();
            let status = StatusCode::BAD_GATEWAY;
            self.fail(&ApiError { status, message, kind: None, code: None, param: None }, out);
        }
    }

    fn call(&mut self, call: Call, out: &mut Vec<u8>) {
        self.last = Last::Call(call.index);
        self.has_calls = true;
        if self.is_free() {
            self.begin_call(call, out);
        } else {
            self.hold(Held::Call { call, json: String::new(), is_complete: false }, out);
        }
    }

    fn begin_call(&mut self, call: Call, out: &mut Vec<u8>) {
        self.close(out);
        if let Some(signature) = &call.signature {
            self.thinking("", out);
            self.signature(signature, out);
        }
        let mut data = self.begin_block(out);
        let mut tool = block::begin("tool_use", data.writer().member("content_block"));
        tool.string("id", &call.id);
        tool.string("name", &call.name);
        tool.raw("input", "{}");
        tool.finish();
        data.end();
        self.open = Open::Call { index: call.index, arguments: Arguments::default() };
    }

    fn arguments(&mut self, index: u32, json: &str, out: &mut Vec<u8>) {
        if json.is_empty() {
            return;
        }
        match &mut self.open {
            Open::Call { index: own, arguments } if *own == index => {
                arguments.push(json);
                self.delta("input_json_delta", "partial_json", json, out);
                if !self.held.is_empty() {
                    self.release(out);
                }
            }
            _ => {
                let is_it = |held: &&mut Held| matches!(held, Held::Call { call, .. } if call.index == index);
                if let Some(Held::Call { json: held, .. }) = self.held.iter_mut().find(is_it) {
                    held.push_str(json);
                    self.grow(json.len(), out);
                }
            }
        }
    }

    fn part_end(&mut self, out: &mut Vec<u8>) {
        if self.held.is_empty() {
            self.close(out);
            return;
        }
        match self.last {
            Last::Call(index) if matches!(&self.open, Open::Call { index: own, .. } if *own == index) => {
                self.close(out);
                self.release(out);
            }
            Last::Call(index) => {
                for held in &mut self.held {
                    if let Held::Call { call, is_complete, .. } = held {
                        *is_complete |= call.index == index;
                    }
                }
            }
            Last::Other => self.hold(Held::Event(Event::PartEnd { choice: 0 }), out),
        }
    }

    /// Writes what was held back, up to a call that is not complete.
    fn release(&mut self, out: &mut Vec<u8>) {
        loop {
            if matches!(&self.open, Open::Call { arguments, .. } if !arguments.are_complete()) {
                return;
            }
            let Some(held) = self.held.pop_front() else { return };
            self.held_bytes = self.held_bytes.saturating_sub(held.bytes());
            match held {
                Held::Event(Event::PartEnd { .. }) => self.close(out),
                Held::Event(event) => self.say(&event, out),
                Held::Call { call, json, is_complete } => {
                    self.begin_call(call, out);
                    if let Open::Call { arguments, .. } = &mut self.open
                        && !json.is_empty()
                    {
                        arguments.push(&json);
                        self.delta("input_json_delta", "partial_json", &json, out);
                    }
                    if is_complete {
                        self.close(out);
                    }
                }
            }
        }
    }

    /// Writes all that was held back: nothing follows that could complete a call.
    fn release_all(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        while !self.held.is_empty() {
            self.release(out);
            self.close(out);
        }
    }

    /// Writes what is neither a call nor a part of one.
    fn say(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Text { text, .. } => self.text(text, out),
            Event::Refusal { text, .. } => {
                self.has_refusal = true;
                self.text(text, out);
            }
            Event::Thinking { text, .. } => self.thinking(text, out),
            Event::Signature { signature, .. } => self.signature(signature, out),
            Event::RedactedThinking { data, .. } => self.redacted(data, out),
            Event::Citation { citation, .. } => self.citation(citation, out),
            Event::Other(raw) => self.other(raw, out),
            Event::Start { .. }
            | Event::ToolCall { .. }
            | Event::Arguments { .. }
            | Event::PartEnd { .. }
            | Event::Logprobs { .. }
            | Event::Finish { .. }
            | Event::Usage(_)
            | Event::Ping
            | Event::Failed(_)
            | Event::End => {}
        }
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        self.open_text(out);
        if !text.is_empty() {
            self.delta("text_delta", "text", text, out);
        }
    }

    fn open_text(&mut self, out: &mut Vec<u8>) {
        if self.open != Open::Text {
            self.close(out);
            self.open_with(Open::Text, r#"{"type":"text","text":""}"#, out);
        }
    }

    fn thinking(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.open != Open::Thinking {
            self.close(out);
            self.open_with(Open::Thinking, r#"{"type":"thinking","thinking":"","signature":""}"#, out);
        }
        if !text.is_empty() {
            self.delta("thinking_delta", "thinking", text, out);
        }
    }

    fn signature(&mut self, signature: &Signature, out: &mut Vec<u8>) {
        self.thinking("", out);
        self.delta("signature_delta", "signature", &signature.written_for(Surface::Messages), out);
        self.close(out);
    }

    fn redacted(&mut self, data: &Signature, out: &mut Vec<u8>) {
        self.close(out);
        let mut event = self.begin_block(out);
        block::write_redacted(&data.written_for(Surface::Messages), event.writer().member("content_block"));
        event.end();
        self.stop_block(out);
    }

    fn citation(&mut self, citation: &Citation, out: &mut Vec<u8>) {
        let Some(json) = block::write_citation(citation) else { return };
        self.open_text(out);
        let mut data = Data::begin("content_block_delta", out);
        data.writer().plain("index", self.number);
        let mut delta = block::begin("citations_delta", data.writer().member("delta"));
        delta.member("citation").extend_from_slice(&json);
        delta.finish();
        data.end();
    }

    /// Writes an event that only this surface has, if it is one: blocks of its own, and the end in its own words.
    fn other(&mut self, raw: &Raw, out: &mut Vec<u8>) {
        let Some(members) = Members::of(raw.get()) else { return };
        let kind = members.string("type").unwrap_or_default();
        let index = members.count("index").unwrap_or_default();
        match kind.as_str() {
            "message_delta" => self.delta = Some(raw.clone()),
            "content_block_start" => {
                self.close(out);
                self.write_other(&kind, members, out);
                self.open = Open::Other(index);
            }
            "content_block_delta" if self.open == Open::Other(index) => self.write_other(&kind, members, out),
            "content_block_stop" if self.open == Open::Other(index) => self.close(out),
            _ => {}
        }
    }

    /// Writes an event with the number that its block has here.
    fn write_other(&self, kind: &str, members: Members<'_>, out: &mut Vec<u8>) {
        let mut data = Data::begin(kind, out);
        data.writer().plain("index", self.number);
        data.writer().extra(&members.rest(&[]));
        data.end();
    }

    fn begin_block<'o>(&self, out: &'o mut Vec<u8>) -> Data<'o> {
        let mut data = Data::begin("content_block_start", out);
        data.writer().plain("index", self.number);
        data
    }

    fn open_with(&mut self, open: Open, block: &str, out: &mut Vec<u8>) {
        let mut data = self.begin_block(out);
        data.writer().raw("content_block", block);
        data.end();
        self.open = open;
    }

    /// Writes a piece of the open block. Nothing is written oftener, so the bytes are put together by hand.
    fn delta(&self, kind: &str, name: &str, text: &str, out: &mut Vec<u8>) {
        out.reserve(text.len() + 160);
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        push_number(self.number, out);
        out.extend_from_slice(b",\"delta\":{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        quote(text, out);
        out.extend_from_slice(b"}}\n\n");
    }

    /// Ends the open block, if there is one.
    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open != Open::Nothing {
            self.open = Open::Nothing;
            self.stop_block(out);
        }
    }

    fn stop_block(&mut self, out: &mut Vec<u8>) {
        let mut data = Data::begin("content_block_stop", out);
        data.writer().plain("index", self.number);
        data.end();
        self.number = self.number.saturating_add(1);
    }
}

/// Which of several answers an event is of; none if it is of no one.
fn choice_of(event: &Event) -> Option<u32> {
    match event {
        Event::Text { choice, .. }
        | Event::Thinking { choice, .. }
        | Event::Signature { choice, .. }
        | Event::RedactedThinking { choice, .. }
        | Event::Refusal { choice, .. }
        | Event::ToolCall { choice, .. }
        | Event::Arguments { choice, .. }
        | Event::PartEnd { choice }
        | Event::Citation { choice, .. }
        | Event::Logprobs { choice, .. }
        | Event::Finish { choice, .. } => Some(*choice),
        Event::Start { .. }
        | Event::Usage(_)
        | Event::Ping
        | Event::Other(_)
        | Event::Failed(_)
        | Event::End => None,
    }
}

fn push_number(number: u32, out: &mut Vec<u8>) {
    if number < 10 {
        out.push(b'0' + number as u8);
    } else {
        out.extend_from_slice(number.to_string().as_bytes());
    }
}

/// An event that is being written, named as its data's `type`.
struct Data<'a>(Writer<&'a mut Vec<u8>>);

impl<'a> Data<'a> {
    fn begin(kind: &str, out: &'a mut Vec<u8>) -> Self {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        Self(block::begin(kind, out))
    }

    fn writer(&mut self) -> &mut Writer<&'a mut Vec<u8>> {
        &mut self.0
    }

    fn end(self) {
        self.0.finish().extend_from_slice(b"\n\n");
    }
}
