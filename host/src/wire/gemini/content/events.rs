//! Streamed answers, both ways. A stream is chunks of the shape of whole answers, and ends without a word.

use crate::chat::{Content, Event, Part, Raw, Signature, StopReason, TokenLogprob, Usage};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::convert::Asked;
use crate::wire::json::{Writer, quote};

use super::citations::{Found, Grounding};
use super::error::encode_error;
use super::parts::{self, Calls, is_object};
use super::reply::{self, Answer, CHOICES_MAX, Candidate, finish_reason, refusal, write_logprobs};
use super::usage;

/// How much of a choice's text is kept to find the places of citations in, in bytes.
const CITED_BYTES_MAX: usize = 1 << 20;

/// How many bytes of arguments are collected for all open calls of a stream.
const ARGUMENTS_BYTES_MAX: usize = 16 << 20;

/// How many calls of a choice may be open.
const CALLS_MAX: usize = 1024;

/// Reads the events of a stream.
#[derive(Debug)]
pub struct EventDecoder {
    calls: Calls,
    choices: Vec<Read>,
    has_started: bool,
    is_over: bool,
    usage: Option<Usage>,
    blocked: Option<String>,
}

/// What was read of a choice.
#[derive(Debug)]
struct Read {
    index: u32,
    calls: u32,
    is_thinking: bool,
    /// The text so far, for citations.
    text: String,
    citations: usize,
    /// Told at the end: some models give a reason with each chunk.
    stop: Option<StopReason>,
}

impl EventDecoder {
    /// Begins a stream.
    pub fn new(id: &str) -> Self {
        Self {
            calls: Calls::of_answer(id),
            choices: Vec::new(),
            has_started: false,
            is_over: false,
            usage: None,
            blocked: None,
        }
    }

    /// Reads one event.
    ///
    /// # Errors
    /// [`UpstreamInvalid`](crate::error::ErrorKind::UpstreamInvalid) when it is no chunk.
    pub fn push(&mut self, _: Option<&str>, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        // Servers that imitate Google's may end as OpenAI's do.
        if self.is_over || data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let answer = Answer::read(data, &mut self.calls)?;
        if let Some(error) = answer.error {
            self.is_over = true;
            out.push(Event::Failed(error));
            return Ok(());
        }
        if !self.has_started {
            self.has_started = true;
            let id = answer.id.unwrap_or_default().into_owned();
            let model = answer.model.unwrap_or_default().into_owned();
            out.push(Event::Start { id, model, created_unix_s: None, usage: answer.usage });
        }
        self.usage = answer.usage.or(self.usage);
        self.blocked = answer.blocked.or_else(|| self.blocked.take());
        for candidate in answer.candidates {
            if let Some(choice) = choice(&mut self.choices, candidate.index) {
                choice.candidate(candidate, out);
            }
        }
        Ok(())
    }

    /// The stream ended, and the answer was whole.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if !self.has_started {
            let (id, model) = (String::new(), String::new());
            out.push(Event::Start { id, model, created_unix_s: None, usage: None });
        }
        if let Some(reason) = self.blocked.take().filter(|_| self.choices.is_empty()) {
            out.push(Event::Refusal { choice: 0, text: refusal(&reason) });
            out.push(finished(0, StopReason::ContentFilter));
        }
        for Read { index, calls, stop, .. } in &self.choices {
            out.push(finished(*index, stop.unwrap_or(StopReason::Other).with_calls(*calls > 0)));
        }
        out.extend(self.usage.map(Event::Usage));
        out.push(Event::End);
    }
}

fn finished(choice: u32, reason: StopReason) -> Event {
    Event::Finish { choice, reason, stop_sequence: None }
}

/// The state of a choice; none if there are too many.
fn choice(choices: &mut Vec<Read>, index: u32) -> Option<&mut Read> {
    let known = choices.iter().position(|choice| choice.index == index);
    if known.is_none() && choices.len() == CHOICES_MAX {
        return None;
    }
    let at = known.unwrap_or_else(|| {
        let text = String::new();
        choices.push(Read { index, calls: 0, is_thinking: false, text, citations: 0, stop: None });
        choices.len() - 1
    });
    choices.get_mut(at)
}

impl Read {
    fn candidate(&mut self, candidate: Candidate, out: &mut Vec<Event>) {
        let Candidate { parts, stop, logprobs, found, .. } = candidate;
        let choice = self.index;
        let mut logprobs = (!logprobs.is_empty()).then_some(Event::Logprobs { choice, tokens: logprobs });
        // Probabilities are of the text: they stand right behind the last of it, before what follows the text.
        let last_text = parts.iter().rposition(|part| matches!(part.content, Content::Text { .. }));
        // So do citations, which may come with nothing but a signature: then they are of the text before it.
        let mut found = Some(found);
        if last_text.is_none() {
            self.cite(found.take().unwrap_or_default(), out);
        }
        for (place, part) in parts.into_iter().enumerate() {
            self.part(part, out);
            if last_text == Some(place) {
                out.extend(logprobs.take());
                self.cite(found.take().unwrap_or_default(), out);
            }
        }
        out.extend(logprobs);
        self.stop = stop.or(self.stop);
    }

    /// Tells the citations that are new: a later chunk may have those of the earlier ones again.
    fn cite(&mut self, found: Vec<Found>, out: &mut Vec<Event>) {
        let known = self.citations.min(found.len());
        self.citations = self.citations.max(found.len());
        let choice = self.index;
        out.extend(found.into_iter().skip(known).map(|found| {
            let citation = found.within(&self.text);
            Event::Citation { choice, citation }
        }));
    }

    fn part(&mut self, part: Part, out: &mut Vec<Event>) {
        let choice = self.index;
        let was_thinking = std::mem::take(&mut self.is_thinking);
        match part.content {
            Content::Text { text, .. } => {
                if self.text.len() + text.len() <= CITED_BYTES_MAX {
                    self.text.push_str(&text);
                }
                out.push(Event::Text { choice, text });
            }
            Content::Thinking { text, signature } => {
                self.is_thinking = signature.is_none();
                if text.is_empty() {
                    // Google's own is of what follows, not of the thoughts before it.
                    let is_own = signature.as_ref().is_some_and(|known| known.surface == Surface::Gemini);
                    out.extend((was_thinking && is_own).then_some(Event::PartEnd { choice }));
                } else {
                    out.push(Event::Thinking { choice, text });
                }
                out.extend(signature.map(|signature| Event::Signature { choice, signature }));
            }
            Content::RedactedThinking(data) => out.push(Event::RedactedThinking { choice, data }),
            Content::Refusal(text) => out.push(Event::Refusal { choice, text }),
            Content::ToolCall { id, name, arguments, signature } => {
                let index = self.calls;
                self.calls = self.calls.saturating_add(1);
                out.push(Event::ToolCall { choice, index, id, name, signature });
                out.push(Event::Arguments { choice, index, json: arguments });
                out.push(Event::PartEnd { choice });
            }
            content => out.extend(other(choice, &content).map(Event::Other)),
        }
    }
}

/// The chunk of a part that the hub has no step for.
fn other(choice: u32, content: &Content) -> Option<Raw> {
    let mut part = Vec::new();
    reply::write_part(content, Surface::Gemini, &mut part).then_some(())?;
    let part = String::from_utf8(part).ok()?;
    let content = format!(r#"{{"parts":[{part}],"role":"model"}}"#);
    Raw::new(format!(r#"{{"candidates":[{{"content":{content},"index":{choice}}}]}}"#))
}

/// Writes the events of a stream.
#[derive(Debug)]
pub struct EventEncoder {
    model: String,
    id: String,
    /// What stands behind the candidate of each chunk.
    tail: Vec<u8>,
    choices: Vec<Written>,
    arguments_bytes: usize,
    usage: Option<Usage>,
}

/// What was written of a choice.
#[derive(Debug, Default)]
struct Written {
    index: u32,
    /// Calls that are not complete, in order.
    calls: Vec<Call>,
    /// The call that was spoken of last, if that was the last thing.
    current: Option<u32>,
    is_thinking: bool,
    /// The text so far, and where in it the current part begins, for citations.
    text: String,
    part_start: usize,
    is_text: bool,
    grounding: Grounding,
    stop: Option<StopReason>,
}

#[derive(Debug)]
struct Call {
    index: u32,
    id: String,
    name: String,
    signature: Option<Signature>,
    arguments: String,
    is_complete: bool,
}

impl EventEncoder {
    /// Begins a stream.
    pub fn new(asked: &Asked) -> Self {
        let mut encoder = Self {
            model: asked.model.as_ref().to_owned(),
            id: asked.id.as_ref().to_owned(),
            tail: Vec::new(),
            choices: Vec::new(),
            arguments_bytes: 0,
            usage: None,
        };
        encoder.set_tail();
        encoder
    }

    fn set_tail(&mut self) {
        self.tail = br#","modelVersion":"#.to_vec();
        quote(&self.model, &mut self.tail);
        self.tail.extend_from_slice(br#","responseId":"#);
        quote(&self.id, &mut self.tail);
        self.tail.extend_from_slice(b"}\n\n");
    }

    /// Appends what the client is sent for a step.
    pub fn push(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, usage, .. } => {
                self.usage = usage.or(self.usage);
                if !id.is_empty() {
                    self.id.clone_from(id);
                    self.set_tail();
                }
            }
            Event::Text { choice, text } => self.text(*choice, text, out),
            Event::Refusal { choice, text } => self.text(*choice, text, out),
            Event::Thinking { choice, text } => {
                let Some(state) = self.enter(*choice, Kind::Thinking, out) else { return };
                state.is_thinking = true;
                self.chunk(*choice, out, |out| parts::write_text(text, true, None, out));
            }
            Event::Signature { choice, signature } => self.signature(*choice, signature, out),
            Event::RedactedThinking { choice, data } => {
                if self.enter(*choice, Kind::Thinking, out).is_some() {
                    self.chunk(*choice, out, |out| parts::write_redacted(data, out));
                }
            }
            Event::ToolCall { choice, index, id, name, signature } => {
                let call = Call {
                    index: *index,
                    id: id.clone(),
                    name: name.clone(),
                    signature: signature.clone(),
                    arguments: String::new(),
                    is_complete: false,
                };
                self.call(*choice, call, out);
            }
            Event::Arguments { choice, index, json } => self.arguments(*choice, *index, json),
            Event::PartEnd { choice } => self.part_end(*choice, out),
            Event::Citation { choice, citation } => {
                if let Some(state) = self.choice(*choice) {
                    let text = state.text.get(state.part_start..).unwrap_or_default();
                    state.grounding.add(citation, text, state.part_start, 0);
                }
            }
            Event::Logprobs { choice, tokens } => self.logprobs(*choice, tokens, out),
            Event::Finish { choice, reason, .. } => {
                self.flush(*choice, Flush::All, out);
                if let Some(state) = self.choice(*choice) {
                    state.stop = Some(*reason);
                }
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            // Google's Python client takes a comment for a chunk; an empty line is nothing to all of them.
            Event::Ping => out.push(b'\n'),
            Event::Other(json) => self.other(json, out),
            Event::Failed(error) => {
                write_data(&encode_error(error), out);
            }
            Event::End => self.end(out),
        }
    }

    /// The state of a choice; none if there are too many.
    fn choice(&mut self, index: u32) -> Option<&mut Written> {
        let known = self.choices.iter().position(|choice| choice.index == index);
        if known.is_none() && self.choices.len() == CHOICES_MAX {
            return None;
        }
        let at = known.unwrap_or_else(|| {
            self.choices.push(Written { index, ..Written::default() });
            self.choices.len() - 1
        });
        self.choices.get_mut(at)
    }

    /// Another part begins or goes on: calls that are whole by now are sent before it.
    fn enter(&mut self, choice: u32, kind: Kind, out: &mut Vec<u8>) -> Option<&mut Written> {
        self.flush(choice, Flush::Whole, out);
        let state = self.choice(choice)?;
        if kind == Kind::Text && !state.is_text {
            state.part_start = state.text.len();
        }
        state.is_text = kind == Kind::Text;
        state.is_thinking = false;
        state.current = None;
        Some(state)
    }

    fn text(&mut self, choice: u32, text: &str, out: &mut Vec<u8>) {
        let Some(state) = self.enter(choice, Kind::Text, out) else { return };
        if state.text.len() + text.len() <= CITED_BYTES_MAX {
            state.text.push_str(text);
        }
        if !text.is_empty() {
            self.chunk(choice, out, |out| parts::write_text(text, false, None, out));
        }
    }

    fn signature(&mut self, choice: u32, signature: &Signature, out: &mut Vec<u8>) {
        let was_thinking = self.choice(choice).is_some_and(|state| state.is_thinking);
        if self.enter(choice, Kind::Thinking, out).is_none() {
            return;
        }
        self.chunk(choice, out, |out| {
            if was_thinking {
                parts::write_text("", true, Some(signature), out);
            } else {
                reply::write_thinking("", Some(signature), out);
            }
        });
    }

    fn call(&mut self, choice: u32, call: Call, out: &mut Vec<u8>) {
        let held = self.choice(choice).map_or(0, |state| state.calls.len());
        if held >= CALLS_MAX {
            self.flush(choice, Flush::All, out);
        }
        let Some(state) = self.choice(choice) else { return };
        state.is_text = false;
        state.is_thinking = false;
        state.current = Some(call.index);
        state.calls.push(call);
    }

    fn arguments(&mut self, choice: u32, index: u32, json: &str) {
        let has_room = self.arguments_bytes + json.len() <= ARGUMENTS_BYTES_MAX;
        let Some(state) = self.choice(choice) else { return };
        state.current = Some(index);
        let call = state.calls.iter_mut().rev().find(|call| call.index == index);
        if let Some(call) = call.filter(|_| has_room) {
            call.arguments.push_str(json);
            self.arguments_bytes += json.len();
        }
    }

    fn part_end(&mut self, choice: u32, out: &mut Vec<u8>) {
        let Some(state) = self.choice(choice) else { return };
        state.is_text = false;
        state.is_thinking = false;
        let Some(current) = state.current.take() else { return };
        let calls = state.calls.iter_mut().filter(|call| call.index == current);
        calls.for_each(|call| call.is_complete = true);
        self.flush(choice, Flush::Complete, out);
    }

    /// Sends calls, never one before those that began before it.
    fn flush(&mut self, choice: u32, which: Flush, out: &mut Vec<u8>) {
        let Some(state) = self.choices.iter_mut().find(|state| state.index == choice) else { return };
        let is_due = |call: &Call| match which {
            Flush::All => true,
            Flush::Whole => call.is_complete || is_object(&call.arguments),
            Flush::Complete => call.is_complete,
        };
        let count = state.calls.iter().take_while(|call| is_due(call)).count();
        if count == 0 {
            return;
        }
        let calls: Vec<_> = state.calls.drain(..count).collect();
        let bytes: usize = calls.iter().map(|call| call.arguments.len()).sum();
        self.arguments_bytes = self.arguments_bytes.saturating_sub(bytes);
        for Call { id, name, arguments, signature, .. } in calls {
            self.chunk(choice, out, |out| {
                parts::write_call(&id, &name, &arguments, signature.as_ref(), out);
            });
        }
    }

    fn logprobs(&mut self, choice: u32, tokens: &[TokenLogprob], out: &mut Vec<u8>) {
        out.extend_from_slice(
            br#"data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"index":"#,
        );
        out.extend_from_slice(choice.to_string().as_bytes());
        out.extend_from_slice(br#","logprobsResult":"#);
        out.append(&mut write_logprobs(tokens));
        out.extend_from_slice(b"}]");
        out.extend_from_slice(&self.tail);
    }

    /// Writes what Google's own stream has said in a way that the hub has no step for; another's is not for this client.
    fn other(&mut self, json: &Raw, out: &mut Vec<u8>) {
        if json.get().starts_with(r#"{"candidates":["#) {
            write_data(json.get().as_bytes(), out);
        }
    }

    /// Writes a chunk with one part.
    fn chunk(&self, choice: u32, out: &mut Vec<u8>, part: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(br#"data: {"candidates":[{"content":{"parts":["#);
        part(out);
        out.extend_from_slice(br#"],"role":"model"},"index":"#);
        if choice == 0 {
            out.push(b'0');
        } else {
            out.extend_from_slice(choice.to_string().as_bytes());
        }
        out.extend_from_slice(b"}]");
        out.extend_from_slice(&self.tail);
    }

    /// Writes the last chunk: why each choice ended, and what it has cost, which some upstreams tell only after that.
    fn end(&mut self, out: &mut Vec<u8>) {
        let indices: Vec<_> = self.choices.iter().map(|state| state.index).collect();
        indices.into_iter().for_each(|choice| self.flush(choice, Flush::All, out));
        if self.choices.is_empty() && self.usage.is_none() {
            return;
        }
        out.extend_from_slice(br#"data: {"candidates":["#);
        for (number, state) in std::mem::take(&mut self.choices).into_iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            let mut candidate = Writer::new(&mut *out);
            // Google's clients take a content without parts for a broken answer.
            candidate.member("content").extend_from_slice(br#"{"parts":[{"text":""}],"role":"model"}"#);
            if let Some(stop) = state.stop {
                candidate.string("finishReason", finish_reason(stop));
            }
            candidate.plain("index", state.index);
            if let Some(mut grounding) = state.grounding.finish() {
                candidate.member("groundingMetadata").append(&mut grounding);
            }
            candidate.finish();
        }
        out.push(b']');
        if let Some(usage) = self.usage {
            out.extend_from_slice(br#","usageMetadata":"#);
            out.append(&mut usage::write(usage));
        }
        out.extend_from_slice(&self.tail);
    }
}

/// What a part is, as far as it matters to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
}

/// Which of the calls are to be sent.
#[derive(Clone, Copy, Debug)]
enum Flush {
    /// Every one, for nothing more can come.
    All,
    /// Those whose arguments are JSON by now.
    Whole,
    /// Those that are said to be complete.
    Complete,
}

fn write_data(json: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests;
