//! The events of a stream, read; and a whole answer as the only one of its stream.

use std::borrow::Cow;

use bytes::Bytes;

use crate::chat::{ApiError, Event, Signature, StopReason, TokenLogprob};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Surface;
use crate::wire::json::{Kind, Scanner};
use crate::wire::openai::chat::error::decode_error;
use crate::wire::openai::chat::events::delta::{Call, Delta, Said};
use crate::wire::openai::failure::Failure;
use crate::wire::openai::view::{Scan, string};
use crate::wire::usage;

mod delta;

/// How many answers a stream may have.
///
/// Source: OpenAI API reference, "Create chat completion", `n`, seen 2026-11.
const CHOICES_MAX: usize = 128;

/// How many tools an answer may call.
const CALLS_MAX: usize = 1024;

/// How long the name of a tool may be that comes in pieces, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// Reads the events of a stream.
#[derive(Debug)]
pub struct EventDecoder {
    /// For ids of calls that the upstream gives none.
    id: String,
    is_begun: bool,
    is_over: bool,
    choices: Vec<Choice>,
}

/// What is known of one of the answers.
#[derive(Debug, Default)]
struct Choice {
    index: u32,
    is_finished: bool,
    /// Whether its thinking comes as text, so that what blocks repeat of it is passed over.
    has_thinking: bool,
    calls: Vec<KnownCall>,
}

/// A call that has been seen.
#[derive(Debug)]
struct KnownCall {
    /// The upstream's index for it.
    index: Option<u64>,
    id: String,
    name: String,
    signature: Option<Signature>,
    /// Whether it has been told of: only once its name is complete, which comes in pieces from some.
    is_told: bool,
}

impl EventDecoder {
    /// Begins a stream.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), is_begun: false, is_over: false, choices: Vec::new() }
    }

    /// Reads one event.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`]: it is not JSON, or there is more in it than there can be.
    pub fn push(&mut self, event: Option<&str>, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        if self.is_over {
            return Ok(());
        }
        if data.trim_ascii() == b"[DONE]" {
            self.finish(out);
            return Ok(());
        }
        let chunk = Chunk::of(data).map_err(|error| {
            let message = format!("an event of the upstream's stream is not JSON: {}", error.reason);
            Error::new(ErrorKind::UpstreamInvalid, message)
        })?;
        if chunk.is_error || event == Some("error") {
            self.is_over = true;
            out.push(Event::Failed(failure(data)));
            return Ok(());
        }
        self.chunk(chunk, data, out)
    }

    /// The stream ended, and the answer was whole; one without any choice is none.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if self.choices.is_empty() {
            // An answer that is none would look like one that says nothing.
            let message = "the upstream's stream ended without an answer";
            out.push(Event::Failed(ApiError::of(&Error::new(ErrorKind::UpstreamInvalid, message))));
            return;
        }
        for choice in &mut self.choices {
            choice.finish(StopReason::Stop, None, out);
        }
        out.push(Event::End);
    }

    fn begin(&mut self, id: String, model: String, created_unix_s: Option<u64>, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.is_begun, true) {
            out.push(Event::Start { id, model, created_unix_s, usage: None });
        }
    }

    fn chunk(&mut self, chunk: Chunk<'_>, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        // Azure's first one says nothing but what its filters think of the prompt.
        if !self.is_begun && (!chunk.id.is_empty() || !chunk.choices.is_empty() || chunk.has_usage) {
            self.begin(chunk.id.into_owned(), chunk.model.into_owned(), chunk.created, out);
        }
        for (place, piece) in chunk.choices.into_iter().enumerate() {
            let place = u64::try_from(place).unwrap_or(u64::MAX);
            let index = u32::try_from(piece.index.unwrap_or(place)).map_err(|_| too_many("choices"))?;
            self.piece(index, piece, out)?;
        }
        if chunk.has_usage
            && let Some(usage) = usage::of(data)
        {
            out.push(Event::Usage(usage));
        }
        Ok(())
    }

    fn piece(&mut self, index: u32, piece: Piece<'_>, out: &mut Vec<Event>) -> Result<()> {
        let known = self.choices.iter().position(|choice| choice.index == index);
        let place = match known {
            Some(place) => place,
            None if self.choices.len() == CHOICES_MAX => return Err(too_many("choices")),
            None => {
                self.choices.push(Choice { index, ..Choice::default() });
                self.choices.len() - 1
            }
        };
        let choice = &mut self.choices[place];
        if choice.is_finished {
            // Some say why they ended once more, in other words; nothing is said behind the end.
            return Ok(());
        }
        choice.said(piece.delta, &self.id, out)?;
        if !piece.logprobs.is_empty() {
            out.push(Event::Logprobs { choice: index, tokens: piece.logprobs });
        }
        if let Some(reason) = piece.finish_reason {
            choice.finish(reason, piece.stop_sequence, out);
        }
        Ok(())
    }
}

impl Choice {
    fn said(&mut self, delta: Delta<'_>, stream: &str, out: &mut Vec<Event>) -> Result<()> {
        let choice = self.index;
        self.thought(&delta, out);
        for said in delta.said {
            out.push(match said {
                Said::Thinking(text) => Event::Thinking { choice, text },
                Said::Text(text) => Event::Text { choice, text },
            });
        }
        out.extend(delta.citations.into_iter().map(|citation| Event::Citation { choice, citation }));
        let refusal = delta.refusal.filter(|text| !text.is_empty());
        out.extend(refusal.map(|text| Event::Refusal { choice, text: text.into_owned() }));
        for call in delta.calls {
            // A whole message has each call once, whatever stands in it for an index or an id.
            let known = if delta.is_whole { None } else { self.known(&call) };
            self.call(call, known, stream, out)?;
        }
        Ok(())
    }

    /// Tells the thinking. A whole answer's blocks hold what its text repeats; a stream's text comes first, and the block
    /// with all of it and the signature at its end.
    fn thought(&mut self, delta: &Delta<'_>, out: &mut Vec<Event>) {
        let choice = self.index;
        let has_blocks = delta.blocks.iter().any(|block| block.has_text());
        let is_of_blocks = delta.is_whole && has_blocks;
        let text = delta.thinking.as_deref().filter(|text| !text.is_empty() && !is_of_blocks);
        if let Some(text) = text {
            self.has_thinking = true;
            out.push(Event::Thinking { choice, text: text.to_owned() });
        }
        for block in &delta.blocks {
            block.tell(choice, self.has_thinking, delta.is_whole, out);
        }
    }

    /// Takes a piece of the call in a place of the list, or the first one of another.
    fn call(
        &mut self,
        call: Call<'_>,
        known: Option<usize>,
        stream: &str,
        out: &mut Vec<Event>,
    ) -> Result<()> {
        let place = match known {
            Some(place) => place,
            None if self.calls.len() == CALLS_MAX => return Err(too_many("tool calls")),
            None => {
                self.tell_calls(out);
                let number = self.calls.len();
                // Clients find results by the id, so that no two calls can have the same.
                let id = call.said_id().filter(|id| self.calls.iter().all(|known| known.id != *id));
                let id = id.map_or_else(|| format!("call_{stream}_{}_{number}", self.index), str::to_owned);
                let (index, name, signature) = (call.index, String::new(), None);
                self.calls.push(KnownCall { index, id, name, signature, is_told: false });
                number
            }
        };
        let known = &mut self.calls[place];
        if !known.is_told {
            // Some upstreams send the name whole with every piece.
            let name = call.name.as_deref().filter(|name| *name != known.name);
            let name = name.filter(|name| known.name.len() + name.len() <= NAME_BYTES_MAX);
            known.name.push_str(name.unwrap_or_default());
            let signature = call.signature.as_deref().filter(|text| !text.is_empty());
            let signature = signature.map(|text| Signature::read_from(Surface::Chat, text));
            known.signature = signature.or_else(|| known.signature.take());
        }
        let arguments = call.arguments.filter(|json| !json.is_empty());
        if let Some(json) = arguments {
            self.tell_call(place, out);
            let index = u32::try_from(place).map_err(|_| too_many("tool calls"))?;
            out.push(Event::Arguments { choice: self.index, index, json: json.into_owned() });
        }
        Ok(())
    }

    /// Finds the call that a piece is of. Some upstreams send no index, or the same one for all calls, and tell them apart
    /// by their ids; others send an id with the first piece only, or another one with each; and some send neither, and each
    /// call whole. The first piece of a call has its name, whoever sends it.
    fn known(&self, call: &Call<'_>) -> Option<usize> {
        let name = call.name.as_deref().filter(|name| !name.is_empty());
        match (call.index, call.said_id()) {
            (Some(index), id) => {
                let is_at = |known: &KnownCall| known.index == Some(index);
                let last = self.calls.iter().rposition(is_at)?;
                let Some(id) = id else { return Some(last) };
                let same = self.calls.iter().rposition(|known| is_at(known) && known.id == id);
                let known = &self.calls[last];
                let begins = name.is_some_and(|name| known.is_told || known.name != name);
                same.or_else(|| (!begins).then_some(last))
            }
            (None, Some(id)) => {
                let same = self.calls.iter().rposition(|known| known.id == id);
                let last = self.calls.len().checked_sub(1).filter(|_| name.is_none());
                same.or(last)
            }
            (None, None) => {
                let last = self.calls.len().checked_sub(1)?;
                let has_name = self.calls[last].is_told || !self.calls[last].name.is_empty();
                (name.is_none() || !has_name).then_some(last)
            }
        }
    }

    fn tell_calls(&mut self, out: &mut Vec<Event>) {
        (0..self.calls.len()).for_each(|place| self.tell_call(place, out));
    }

    fn tell_call(&mut self, place: usize, out: &mut Vec<Event>) {
        let choice = self.index;
        let call = &mut self.calls[place];
        if !std::mem::replace(&mut call.is_told, true) {
            let (id, name) = (call.id.clone(), std::mem::take(&mut call.name));
            let index = u32::try_from(place).expect("calls are bounded far below this");
            out.push(Event::ToolCall { choice, index, id, name, signature: call.signature.take() });
        }
    }

    fn finish(&mut self, reason: StopReason, stop_sequence: Option<String>, out: &mut Vec<Event>) {
        if self.is_finished {
            return;
        }
        self.tell_calls(out);
        self.is_finished = true;
        // Some say `stop` although they call tools, which clients would not carry out then.
        let calls_tools = reason == StopReason::Stop && !self.calls.is_empty();
        let reason = if calls_tools { StopReason::ToolCalls } else { reason };
        out.push(Event::Finish { choice: self.index, reason, stop_sequence });
    }
}

fn too_many(what: &str) -> Error {
    Error::new(ErrorKind::UpstreamInvalid, format!("the upstream's answer has too many {what}"))
}

/// Reads an error that stands where an event should.
fn failure(data: &[u8]) -> ApiError {
    let failure = Failure::of(&Bytes::copy_from_slice(data));
    decode_error(failure.status, &failure.body)
}

/// A chunk of a stream, or a whole answer.
#[derive(Debug, Default)]
struct Chunk<'a> {
    id: Cow<'a, str>,
    model: Cow<'a, str>,
    created: Option<u64>,
    choices: Vec<Piece<'a>>,
    has_usage: bool,
    is_error: bool,
}

/// What a chunk says of one answer.
#[derive(Debug, Default)]
struct Piece<'a> {
    index: Option<u64>,
    delta: Delta<'a>,
    logprobs: Vec<TokenLogprob>,
    finish_reason: Option<StopReason>,
    /// The word that ended the answer, which vLLM gives.
    stop_sequence: Option<String>,
}

impl<'a> Chunk<'a> {
    fn of(data: &'a [u8]) -> Scan<Self> {
        let mut chunk = Self::default();
        let mut scanner = Scanner::new(data);
        scanner.members(|scanner, name| {
            match name.raw() {
                "id" => chunk.id = string(scanner)?.unwrap_or_default(),
                "model" => chunk.model = string(scanner)?.unwrap_or_default(),
                "created" => chunk.created = scanner.count()?,
                "choices" => chunk.choices = elements(scanner, Piece::read)?,
                "usage" | "timings" => {
                    chunk.has_usage |= scanner.peek()? == Kind::Object;
                    scanner.skip()?;
                }
                "error" => {
                    chunk.is_error |= scanner.peek()? != Kind::Null;
                    scanner.skip()?;
                }
                "object" => chunk.is_error |= string(scanner)?.as_deref() == Some("error"),
                _ => return scanner.skip().map(drop),
            }
            Ok(())
        })?;
        scanner.end()?;
        Ok(chunk)
    }
}

impl<'a> Piece<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Scan<Self> {
        let mut piece = Self::default();
        scanner.members(|scanner, name| {
            match name.raw() {
                "index" => piece.index = scanner.count()?,
                "delta" => piece.delta = Delta::read(scanner)?,
                "message" => piece.delta = Delta { is_whole: true, ..Delta::read(scanner)? },
                "logprobs" => piece.logprobs = delta::logprobs(scanner)?,
                "finish_reason" => {
                    let reason = string(scanner)?.filter(|reason| !reason.is_empty());
                    piece.finish_reason = reason.map(|reason| StopReason::of_openai(&reason));
                }
                "stop_reason" => piece.stop_sequence = string(scanner)?.map(|word| word.into_owned()),
                _ => return scanner.skip().map(drop),
            }
            Ok(())
        })?;
        Ok(piece)
    }
}

/// Reads each element of a list; anything else is passed over.
fn elements<'a, T>(
    scanner: &mut Scanner<'a>,
    mut read: impl FnMut(&mut Scanner<'a>) -> Scan<T>,
) -> Scan<Vec<T>> {
    let mut elements = Vec::new();
    if scanner.peek()? == Kind::Array {
        scanner.array(|scanner| {
            elements.push(read(scanner)?);
            Ok(())
        })?;
    } else {
        scanner.skip()?;
    }
    Ok(elements)
}
