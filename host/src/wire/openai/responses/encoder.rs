//! The events of a streamed answer, as the Responses API sends them.
//!
//! Every text is sent in pieces and then whole, in up to four events: when its part, its item and the answer are done. So
//! the answer is held while it is written, once and within a bound. Here is which step leads to which events; how these are
//! written is below.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::StatusCode;

use crate::chat::{ApiError, Citation, Event, Signature, StopReason, TokenLogprob, Usage};
use crate::wire::convert::Asked;
use crate::wire::json::quote;
use crate::wire::openai::responses::output::{
    Item, Piece, PieceKind, encrypted, is_annotation, last_text, redacted, write_annotation, write_logprobs,
    write_summary,
};
use crate::wire::openai::responses::reply::Envelope;
use crate::wire::sse;

mod arguments;
mod writing;

pub(super) use arguments::Arguments;
pub use writing::error_event;

/// How much of an answer is held, in bytes. A model's longest answers are a hundredth of that.
pub const HELD_BYTES_MAX: usize = 16 << 20;

/// What an item, a piece or a token is taken to cost beyond its text, in bytes.
const PLACE_BYTES: usize = 256;

/// Writes the events of a stream.
///
/// Source: OpenAI API reference, "Responses", streaming events, and the readers of its clients, seen 2026-11.
#[derive(Debug)]
pub struct EventEncoder {
    asked: Asked,
    /// What response objects repeat; none until the first of them is written.
    envelope: Option<Envelope>,
    /// The number of the next event.
    sequence: u64,
    items: Vec<Item<'static>>,
    /// Which item was last spoken of.
    current: Current,
    /// The calls that are not done, by their index.
    calls: BTreeMap<u32, Call>,
    stop: Option<StopReason>,
    usage: Option<Usage>,
    /// How many more bytes may be held.
    bytes_left: usize,
    is_over: bool,
}

/// What was last spoken of. But for calls, which may take turns, it is what is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    /// Nothing, or something that is done.
    Nothing,
    /// The message that the last item is; whether its last piece is not done.
    Message { is_piece_open: bool },
    /// The thinking that the last item is.
    Reasoning,
    /// A call, by its index.
    Call(u32),
}

/// A call that is not done.
#[derive(Debug)]
struct Call {
    /// Which item it is.
    item: usize,
    arguments: Arguments,
}

impl EventEncoder {
    /// Begins a stream.
    pub fn new(asked: &Asked) -> Self {
        Self {
            asked: asked.clone(),
            envelope: None,
            sequence: 0,
            items: Vec::new(),
            current: Current::Nothing,
            calls: BTreeMap::new(),
            stop: None,
            usage: None,
            bytes_left: HELD_BYTES_MAX,
            is_over: false,
        }
    }

    /// Appends what the client is sent for a step. Of several choices only the first is told; the surface knows no others.
    pub fn push(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.is_over {
            return;
        }
        match event {
            Event::Ping => out.extend_from_slice(&sse::comment("ping")),
            Event::Failed(error) => self.fail(error, out),
            Event::Start { id, created_unix_s, usage, .. } => {
                self.begin(id, *created_unix_s, out);
                self.usage = usage.or(self.usage);
            }
            _ => {
                self.begin("", None, out);
                self.step(event, out);
            }
        }
    }

    fn step(&mut self, event: &Event, out: &mut Vec<u8>) {
        if !self.holds(event) {
            return self.fail(&too_long(), out);
        }
        match event {
            Event::Text { choice: 0, text } => self.say(PieceKind::Text, text, out),
            Event::Refusal { choice: 0, text } => self.say(PieceKind::Refusal, text, out),
            Event::Thinking { choice: 0, text } => self.think(text, out),
            Event::Signature { choice: 0, signature } => self.sign(encrypted(signature), out),
            Event::RedactedThinking { choice: 0, data } => {
                self.close(out);
                self.sign(redacted(data), out);
            }
            Event::ToolCall { choice: 0, index, id, name, signature } => {
                self.call(*index, id, name, signature.as_ref(), out);
            }
            Event::Arguments { choice: 0, index, json } => self.arguments(*index, json, out),
            Event::PartEnd { choice: 0 } => self.end_part(out),
            Event::Citation { choice: 0, citation } => self.cite(citation),
            Event::Logprobs { choice: 0, tokens } => self.weigh(tokens, out),
            Event::Finish { choice: 0, reason, .. } => {
                self.stop = Some(*reason);
                self.close_all(out);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => self.end(out),
            // What is of another choice, or has no words here.
            _ => {}
        }
    }

    /// Counts what a step adds to what is held; false if it is too much.
    fn holds(&mut self, event: &Event) -> bool {
        let bytes = match event {
            Event::Text { text, .. } | Event::Refusal { text, .. } | Event::Thinking { text, .. } => {
                text.len()
            }
            Event::Arguments { json, .. } => json.len(),
            Event::Signature { signature, .. } => signature.value.len(),
            Event::RedactedThinking { data, .. } => data.value.len(),
            Event::ToolCall { id, name, signature, .. } => {
                id.len() + name.len() + signature.as_ref().map_or(0, |signature| signature.value.len())
            }
            Event::Citation { citation, .. } => citation_bytes(citation) + PLACE_BYTES,
            Event::Logprobs { tokens, .. } => tokens.iter().map(token_bytes).sum(),
            _ => 0,
        };
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.unwrap_or_default();
        left.is_some()
    }

    fn say(&mut self, kind: PieceKind, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        self.open_piece(kind, out);
        let Some(Item::Message(pieces)) = self.items.last_mut() else { return };
        let index = pieces.len() - 1;
        pieces[index].text.to_mut().push_str(text);
        self.part_event(kind.delta_event(), index, out, |_, out| {
            out.extend_from_slice(br#","delta":"#);
            quote(text, out);
            if kind == PieceKind::Text {
                out.extend_from_slice(br#","logprobs":[]"#);
            }
        });
    }

    /// Makes the last piece of the last item one of a kind to which text can be added.
    fn open_piece(&mut self, kind: PieceKind, out: &mut Vec<u8>) {
        if self.current == (Current::Message { is_piece_open: true }) {
            let Some(Item::Message(pieces)) = self.items.last() else { return };
            if pieces.last().is_some_and(|piece| piece.kind == kind) {
                return;
            }
            self.close_piece(out);
        }
        if !matches!(self.current, Current::Message { .. }) {
            self.close(out);
            self.add(Item::Message(Vec::new()), out);
        }
        self.current = Current::Message { is_piece_open: true };
        let Some(Item::Message(pieces)) = self.items.last_mut() else { return };
        pieces.push(Piece::new(kind, ""));
        let index = pieces.len() - 1;
        self.bytes_left = self.bytes_left.saturating_sub(PLACE_BYTES);
        self.part_event("response.content_part.added", index, out, |piece, out| {
            out.extend_from_slice(br#","part":"#);
            piece.write(out);
        });
    }

    fn close_piece(&mut self, out: &mut Vec<u8>) {
        let Some(Item::Message(pieces)) = self.items.last() else { return };
        let Some(piece) = pieces.last() else { return };
        let (index, kind, length) = (pieces.len() - 1, piece.kind, piece.length());
        for annotation in 0..piece.citations.len() {
            self.part_event("response.output_text.annotation.added", index, out, |piece, out| {
                out.extend_from_slice(
                    format!(r#","annotation_index":{annotation},"annotation":"#).as_bytes(),
                );
                write_annotation(&piece.citations[annotation], length, out);
            });
        }
        self.part_event(kind.done_event(), index, out, |piece, out| match kind {
            PieceKind::Text => {
                out.extend_from_slice(br#","text":"#);
                quote(&piece.text, out);
                out.extend_from_slice(br#","logprobs":"#);
                write_logprobs(&piece.logprobs, false, out);
            }
            PieceKind::Refusal => {
                out.extend_from_slice(br#","refusal":"#);
                quote(&piece.text, out);
            }
        });
        self.part_event("response.content_part.done", index, out, |piece, out| {
            out.extend_from_slice(br#","part":"#);
            piece.write(out);
        });
        self.current = Current::Message { is_piece_open: false };
    }

    fn think(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        if self.current != Current::Reasoning {
            self.close(out);
            self.add(Item::Reasoning { text: Cow::Borrowed(""), encrypted: None }, out);
            self.current = Current::Reasoning;
            self.summary_event("response.reasoning_summary_part.added", out, |_, out| {
                out.extend_from_slice(br#","part":"#);
                write_summary("", out);
            });
        }
        if let Some(Item::Reasoning { text: whole, .. }) = self.items.last_mut() {
            whole.to_mut().push_str(text);
        }
        self.summary_event("response.reasoning_summary_text.delta", out, |_, out| {
            out.extend_from_slice(br#","delta":"#);
            quote(text, out);
        });
    }

    /// Ends the thinking that goes on with what only its vendor reads; if none does, that is all there is of it.
    fn sign(&mut self, value: Cow<'_, str>, out: &mut Vec<u8>) {
        if self.current != Current::Reasoning {
            self.close(out);
            self.add(Item::Reasoning { text: Cow::Borrowed(""), encrypted: None }, out);
            self.current = Current::Reasoning;
        }
        if let Some(Item::Reasoning { encrypted, .. }) = self.items.last_mut() {
            *encrypted = Some(Cow::Owned(value.into_owned()));
        }
        self.close(out);
    }

    fn close_reasoning(&mut self, out: &mut Vec<u8>) {
        if matches!(self.items.last(), Some(Item::Reasoning { text, .. }) if !text.is_empty()) {
            self.summary_event("response.reasoning_summary_text.done", out, |text, out| {
                out.extend_from_slice(br#","text":"#);
                quote(text, out);
            });
            self.summary_event("response.reasoning_summary_part.done", out, |text, out| {
                out.extend_from_slice(br#","part":"#);
                write_summary(text, out);
            });
        }
        self.done(self.items.len() - 1, out);
    }

    fn call(&mut self, index: u32, id: &str, name: &str, signature: Option<&Signature>, out: &mut Vec<u8>) {
        self.close(out);
        if let Some(signature) = signature {
            self.sign(encrypted(signature), out);
        }
        let call = Call { item: self.items.len(), arguments: Arguments::default() };
        if let Some(earlier) = self.calls.insert(index, call) {
            // Two calls of one number: the first cannot be spoken of any more.
            self.close_call(earlier.item, out);
        }
        let (call_id, name) = (id.to_owned().into(), name.to_owned().into());
        self.add(Item::Call { call_id, name, arguments: Cow::Borrowed("") }, out);
        self.current = Current::Call(index);
    }

    fn arguments(&mut self, index: u32, json: &str, out: &mut Vec<u8>) {
        let Some(call) = self.calls.get_mut(&index) else { return };
        call.arguments.add(json);
        let item = call.item;
        if self.current != Current::Call(index) {
            self.close(out);
            self.current = Current::Call(index);
        }
        if !json.is_empty() {
            self.add_arguments(item, json, out);
        }
    }

    fn add_arguments(&mut self, item: usize, json: &str, out: &mut Vec<u8>) {
        if let Item::Call { arguments, .. } = &mut self.items[item] {
            arguments.to_mut().push_str(json);
        }
        self.item_event("response.function_call_arguments.delta", item, out, |_, out| {
            out.extend_from_slice(br#","delta":"#);
            quote(json, out);
        });
    }

    fn close_call(&mut self, item: usize, out: &mut Vec<u8>) {
        if matches!(&self.items[item], Item::Call { arguments, .. } if arguments.is_empty()) {
            self.add_arguments(item, "{}", out);
        }
        self.item_event("response.function_call_arguments.done", item, out, |item, out| {
            if let Item::Call { name, arguments, .. } = item {
                out.extend_from_slice(br#","name":"#);
                quote(name, out);
                out.extend_from_slice(br#","arguments":"#);
                quote(arguments, out);
            }
        });
        self.done(item, out);
    }

    /// Ends a call whose arguments are complete, so that nothing of it can follow. Calls may take turns, so that another
    /// one stays as it is until its next turn or the end of the answer.
    fn rest_call(&mut self, index: u32, out: &mut Vec<u8>) {
        if self.calls.get(&index).is_some_and(|call| call.arguments.is_whole)
            && let Some(call) = self.calls.remove(&index)
        {
            self.close_call(call.item, out);
        }
    }

    /// Ends what was last spoken of, an item whole.
    fn close(&mut self, out: &mut Vec<u8>) {
        match self.current {
            Current::Nothing => {}
            Current::Message { is_piece_open } => {
                if is_piece_open {
                    self.close_piece(out);
                }
                self.done(self.items.len() - 1, out);
            }
            Current::Reasoning => self.close_reasoning(out),
            Current::Call(index) => self.rest_call(index, out),
        }
        self.current = Current::Nothing;
    }

    /// Ends the part that was last spoken of; further text after it belongs to the same message.
    fn end_part(&mut self, out: &mut Vec<u8>) {
        match self.current {
            Current::Message { is_piece_open: true } => self.close_piece(out),
            Current::Message { is_piece_open: false } => {}
            Current::Nothing | Current::Reasoning | Current::Call(_) => self.close(out),
        }
    }

    fn close_all(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        for call in std::mem::take(&mut self.calls).into_values() {
            self.close_call(call.item, out);
        }
    }

    fn cite(&mut self, citation: &Citation) {
        if let Some(piece) = self.text_piece().filter(|_| is_annotation(citation)) {
            piece.citations.to_mut().push(citation.clone());
        }
    }

    /// Tells how likely the tokens of the text are that was sent last. If that is done already, only the whole answer has
    /// them.
    fn weigh(&mut self, tokens: &[TokenLogprob], out: &mut Vec<u8>) {
        if tokens.is_empty() {
            return;
        }
        let is_open = self.text_piece().is_some();
        if let Some(piece) = last_text(&mut self.items) {
            piece.logprobs.to_mut().extend_from_slice(tokens);
        }
        let Some(Item::Message(pieces)) = self.items.last().filter(|_| is_open) else { return };
        self.part_event(PieceKind::Text.delta_event(), pieces.len() - 1, out, |_, out| {
            out.extend_from_slice(br#","delta":"","logprobs":"#);
            write_logprobs(tokens, false, out);
        });
    }

    /// The text that is being written.
    fn text_piece(&mut self) -> Option<&mut Piece<'static>> {
        if self.current != (Current::Message { is_piece_open: true }) {
            return None;
        }
        let Some(Item::Message(pieces)) = self.items.last_mut() else { return None };
        pieces.last_mut().filter(|piece| piece.kind == PieceKind::Text)
    }
}

impl PieceKind {
    fn delta_event(self) -> &'static str {
        match self {
            Self::Text => "response.output_text.delta",
            Self::Refusal => "response.refusal.delta",
        }
    }

    fn done_event(self) -> &'static str {
        match self {
            Self::Text => "response.output_text.done",
            Self::Refusal => "response.refusal.done",
        }
    }
}

fn citation_bytes(citation: &Citation) -> usize {
    let texts = [&citation.url, &citation.title, &citation.quoted];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    texts + citation.original.as_ref().map_or(0, |(_, raw)| raw.get().len())
}

fn token_bytes(token: &TokenLogprob) -> usize {
    let others: usize = token.top.iter().map(|(other, _)| other.len() + PLACE_BYTES).sum();
    token.token.len() + others + PLACE_BYTES
}

fn too_long() -> ApiError {
    ApiError {
        status: StatusCode::BAD_GATEWAY,
        message: format!("the answer is longer than {HELD_BYTES_MAX} bytes"),
        kind: Some("upstream_error".to_owned()),
        code: Some("upstream_invalid".to_owned()),
        param: None,
    }
}
