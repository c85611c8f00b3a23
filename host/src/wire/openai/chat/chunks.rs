//! The events of a stream, written as chunks.
//!
//! Source: OpenAI API reference, "Create chat completion", "Chat completion chunk object"; for `reasoning_content` DeepSeek,
//! "Thinking Mode", for `thinking_blocks` LiteLLM, "Reasoning content"; all seen 2026-11.

use crate::chat::{Event, Signature, StopReason, Usage};
use crate::wire::convert::Asked;
use crate::wire::json::{plain, quote};
use crate::wire::openai::chat::chunks::held::Held;
use crate::wire::openai::chat::{encode_error, part, reply, usage_json};
use crate::wire::{Endpoint, Surface};

mod held;

/// What stands behind the delta of a chunk that neither ends its answer nor has probabilities.
const TAIL: &[u8] = b"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";

/// Writes the events of a stream.
#[derive(Debug)]
pub struct EventEncoder {
    asked: Asked,
    /// Everything of a chunk before its first choice.
    head: Vec<u8>,
    choices: Vec<Choice>,
    usage: Option<Usage>,
    is_over: bool,
}

/// What has been written of one of the answers.
#[derive(Debug, Default)]
struct Choice {
    index: u32,
    is_finished: bool,
    held: Held,
    calls: Vec<Call>,
}

/// A call that has begun; its place in the list is the client's index for it.
#[derive(Debug)]
struct Call {
    index: u32,
    has_arguments: bool,
}

impl EventEncoder {
    /// Begins a stream.
    pub fn new(asked: &Asked) -> Self {
        let asked = asked.clone();
        let head = head("", asked.created_unix_s, &asked);
        Self { asked, head, choices: Vec::new(), usage: None, is_over: false }
    }

    /// Appends what the client is sent for a step.
    pub fn push(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.is_over {
            return;
        }
        match event {
            Event::Start { id, created_unix_s, usage, .. } => {
                if self.choices.is_empty() {
                    self.head = head(id, created_unix_s.unwrap_or(self.asked.created_unix_s), &self.asked);
                }
                self.usage = usage.or(self.usage);
                self.choice(0, out);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            Event::Other(_) => {}
            Event::Failed(error) => {
                self.is_over = true;
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(&encode_error(error));
                out.extend_from_slice(b"\n\n");
            }
            Event::End => self.end(out),
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
            | Event::Finish { choice, .. } => {
                let place = self.choice(*choice, out);
                self.choices[place].push(&self.head, event, out);
            }
        }
    }

    /// Finds an answer; one that is new begins with its role.
    fn choice(&mut self, index: u32, out: &mut Vec<u8>) -> usize {
        if let Some(place) = self.choices.iter().position(|choice| choice.index == index) {
            return place;
        }
        let choice = Choice { index, ..Choice::default() };
        choice.delta(&self.head, br#""role":"assistant","content":"","refusal":null"#, out);
        self.choices.push(choice);
        self.choices.len() - 1
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.is_over = true;
        for choice in &mut self.choices {
            choice.finish(&self.head, StopReason::Stop, None, out);
        }
        if let Some(usage) = self.usage.filter(|_| self.asked.asks_usage) {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            out.extend_from_slice(usage_json(Endpoint::ChatCompletions, usage).as_bytes());
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// Everything of a chunk before its first choice.
fn head(id: &str, created_unix_s: u64, asked: &Asked) -> Vec<u8> {
    let mut head = Vec::with_capacity(160);
    head.extend_from_slice(b"data: {\"id\":");
    quote(&reply::id(id, asked), &mut head);
    head.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
    plain(created_unix_s, &mut head);
    head.extend_from_slice(b",\"model\":");
    quote(&asked.model, &mut head);
    head.extend_from_slice(b",\"choices\":[");
    head
}

impl Choice {
    fn push(&mut self, head: &[u8], event: &Event, out: &mut Vec<u8>) {
        match event {
            // Nothing follows the reason of the end.
            _ if self.is_finished => {}
            Event::Text { text, .. } => {
                self.blocks(head, out);
                self.held.text(text);
                self.text(head, b"\"content\":", text, out);
            }
            Event::Thinking { text, .. } => {
                self.held.think(text);
                self.text(head, b"\"reasoning_content\":", text, out);
            }
            Event::Refusal { text, .. } => {
                self.blocks(head, out);
                self.held.end_part();
                self.text(head, b"\"refusal\":", text, out);
            }
            // With the thinking that it is of, so that a client holds a whole block, however it collects them.
            Event::Signature { signature, .. } => self.held.sign(signature),
            Event::RedactedThinking { data, .. } => self.held.redacted(data),
            Event::ToolCall { index, id, name, signature, .. } => {
                self.blocks(head, out);
                self.held.end_part();
                self.call(head, *index, id, name, signature.as_ref(), out);
            }
            Event::Arguments { index, json, .. } => self.arguments(head, *index, json, out),
            Event::PartEnd { .. } => self.held.end_part(),
            Event::Citation { citation, .. } => self.held.cite(citation),
            Event::Logprobs { tokens, .. } => {
                self.begin(head, out);
                out.extend_from_slice(b"},\"logprobs\":");
                reply::write_logprobs(tokens, out);
                out.extend_from_slice(b",\"finish_reason\":null}]}\n\n");
            }
            Event::Finish { reason, stop_sequence, .. } => {
                self.finish(head, *reason, stop_sequence.as_deref(), out);
            }
            // Not of one answer.
            Event::Start { .. }
            | Event::Usage(_)
            | Event::Ping
            | Event::Other(_)
            | Event::Failed(_)
            | Event::End => {}
        }
    }

    /// Writes a chunk up to the members of its delta.
    fn begin(&self, head: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(head);
        out.extend_from_slice(b"{\"index\":");
        plain(self.index, out);
        out.extend_from_slice(b",\"delta\":{");
    }

    fn delta(&self, head: &[u8], members: &[u8], out: &mut Vec<u8>) {
        self.begin(head, out);
        out.extend_from_slice(members);
        out.extend_from_slice(TAIL);
    }

    fn text(&self, head: &[u8], name: &[u8], text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        self.begin(head, out);
        out.extend_from_slice(name);
        quote(text, out);
        out.extend_from_slice(TAIL);
    }

    /// Sends the blocks of thinking, before anything else is said.
    fn blocks(&mut self, head: &[u8], out: &mut Vec<u8>) {
        if self.held.has_thinking() {
            let blocks = self.held.take_blocks();
            self.list(head, b"\"thinking_blocks\":", blocks, out);
        }
    }

    fn list(&self, head: &[u8], name: &[u8], list: Option<Vec<u8>>, out: &mut Vec<u8>) {
        if let Some(list) = list {
            self.begin(head, out);
            out.extend_from_slice(name);
            out.extend_from_slice(&list);
            out.extend_from_slice(TAIL);
        }
    }

    fn call(
        &mut self,
        head: &[u8],
        index: u32,
        id: &str,
        name: &str,
        signature: Option<&Signature>,
        out: &mut Vec<u8>,
    ) {
        if self.calls.iter().any(|call| call.index == index) {
            return;
        }
        let place = self.calls.len();
        self.calls.push(Call { index, has_arguments: false });
        let signature = signature.map(|signature| signature.written_for(Surface::Gemini));
        self.begin(head, out);
        out.extend_from_slice(b"\"tool_calls\":[");
        part::write_call(id, name, "", signature.as_deref(), Some(place), out);
        out.push(b']');
        out.extend_from_slice(TAIL);
    }

    fn arguments(&mut self, head: &[u8], index: u32, json: &str, out: &mut Vec<u8>) {
        let known = self.calls.iter().position(|call| call.index == index);
        let Some(place) = known.filter(|_| !json.is_empty()) else { return };
        self.calls[place].has_arguments = true;
        self.begin(head, out);
        out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
        plain(place, out);
        out.extend_from_slice(b",\"function\":{\"arguments\":");
        quote(json, out);
        out.extend_from_slice(b"}}]");
        out.extend_from_slice(TAIL);
    }

    fn finish(&mut self, head: &[u8], reason: StopReason, stop_sequence: Option<&str>, out: &mut Vec<u8>) {
        if self.is_finished {
            return;
        }
        // Clients parse the arguments of every call.
        let bare: Vec<u32> =
            self.calls.iter().filter(|call| !call.has_arguments).map(|call| call.index).collect();
        bare.into_iter().for_each(|index| self.arguments(head, index, "{}", out));
        self.blocks(head, out);
        let annotations = self.held.take_annotations();
        self.list(head, b"\"annotations\":", annotations, out);
        self.is_finished = true;
        self.begin(head, out);
        out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":");
        quote(reason.openai_name(), out);
        if let Some(word) = stop_sequence {
            out.extend_from_slice(b",\"stop_reason\":");
            quote(word, out);
        }
        out.extend_from_slice(b"}]}\n\n");
    }
}
