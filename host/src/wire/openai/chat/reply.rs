//! A whole answer, read and written.
//!
//! Source: OpenAI API reference, "Create chat completion", "Chat completion object", seen 2026-11.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::chat::{Choice, Citation, Content, Event, Extra, Raw, Reply, Signature, StopReason, TokenLogprob};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::convert::{Asked, ReplyBuilder};
use crate::wire::json::{Scanner, Writer, object, plain};
use crate::wire::openai::chat::events::EventDecoder;
use crate::wire::openai::chat::{part, usage_json};
use crate::wire::{Endpoint, Surface};

/// The members of an answer that the hub has words for.
const KNOWN: [&str; 7] = ["id", "object", "created", "model", "choices", "usage", "error"];

/// Reads a whole answer, as the only event of its stream.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`]: it is not JSON, has no `choices`, or tells an error.
pub fn decode_reply(body: &[u8], id: &str) -> Result<Reply> {
    let extra = extra(body)?;
    let mut events = Vec::new();
    let mut decoder = EventDecoder::new(id);
    decoder.push(None, body, &mut events)?;
    decoder.finish(&mut events);
    // The body has been bounded, and this is no more than what it says.
    let mut reply = ReplyBuilder::new(Surface::Chat, usize::MAX);
    for event in &events {
        if let Event::Failed(error) = event {
            return Err(Error::new(ErrorKind::UpstreamInvalid, error.message.clone()));
        }
        reply.push(event);
    }
    Ok(Reply { extra, ..reply.finish() })
}

/// Reads the members that ride along, and finds out whether it is an answer at all.
fn extra(body: &[u8]) -> Result<Extra> {
    let invalid = |message: String| Error::new(ErrorKind::UpstreamInvalid, message);
    let mut scanner = Scanner::new(body);
    let mut extra = Extra::default();
    let mut is_answer = false;
    let read = scanner.members(|scanner, name| {
        let range = scanner.skip()?;
        let json = scanner.slice(range);
        is_answer |= name.is("choices") && json.starts_with('[');
        // What failed is told by whoever reads the whole of it; a `message` alone is of a server before the upstream.
        is_answer |= name.is("error") || (name.is("object") && json == "\"error\"");
        if !KNOWN.contains(&name.raw()) && json != "null" {
            let raw = Raw::new(json).expect("it has been read as JSON");
            extra.0.push((name.decode().into_owned(), raw));
        }
        Ok(())
    });
    let read = read.and_then(|()| scanner.end());
    read.map_err(|error| invalid(format!("the upstream's answer is not JSON: {}", error.reason)))?;
    if is_answer { Ok(extra) } else { Err(invalid("the upstream's answer has no `choices`".to_owned())) }
}

/// Writes a whole answer.
pub fn encode_reply(reply: &Reply, asked: &Asked) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    object(&mut out, |members| {
        members.string("id", &id(&reply.id, asked));
        members.string("object", "chat.completion");
        members.plain("created", reply.created_unix_s.unwrap_or(asked.created_unix_s));
        members.string("model", &asked.model);
        members.list("choices", &reply.choices, choice);
        if let Some(usage) = reply.usage {
            members.raw("usage", &usage_json(Endpoint::ChatCompletions, usage));
        }
        if reply.surface == Surface::Chat {
            members.extra(&reply.extra);
        }
    });
    out.into()
}

/// The id that a client is told: the upstream's if it is one of a chat's.
pub(super) fn id<'i>(upstream: &'i str, asked: &Asked) -> Cow<'i, str> {
    if upstream.starts_with("chatcmpl-") {
        return Cow::Borrowed(upstream);
    }
    Cow::Owned(format!("chatcmpl-{}", asked.id))
}

/// What a message says, sorted by where it is written.
#[derive(Default)]
struct Said<'r> {
    content: Option<String>,
    /// Those of pages, and where in the content their part is, in characters.
    citations: Vec<(&'r Citation, Range<u64>)>,
    refusal: Option<String>,
    thinking: String,
    /// The parts that are thinking, and whether there is one with a signature.
    blocks: Vec<&'r Content>,
    is_signed: bool,
    calls: Vec<Vec<u8>>,
}

impl<'r> Said<'r> {
    fn of(choice: &'r Choice) -> Self {
        let mut said = Self::default();
        let mut chars = 0;
        for part in &choice.parts {
            match &part.content {
                Content::Text { text, citations } => {
                    said.content.get_or_insert_default().push_str(text);
                    let pages = citations.iter().filter(|citation| citation.url.is_some());
                    let part = chars..chars + text.chars().count() as u64;
                    chars = part.end;
                    said.citations.extend(pages.map(|citation| (citation, part.clone())));
                }
                Content::Thinking { text, signature } => {
                    said.thinking.push_str(text);
                    said.is_signed |= signature.is_some();
                    said.blocks.push(&part.content);
                }
                Content::RedactedThinking(_) => {
                    said.is_signed = true;
                    said.blocks.push(&part.content);
                }
                Content::Refusal(text) => said.refusal.get_or_insert_default().push_str(text),
                Content::ToolCall { id, name, arguments, signature } => {
                    said.calls.push(call(id, name, arguments, signature.as_ref()));
                }
                // The API has no words for these in answers.
                Content::Image { .. }
                | Content::Audio { .. }
                | Content::File { .. }
                | Content::ToolResult { .. }
                | Content::Other(_) => {}
            }
        }
        said
    }

    fn write(&self, members: &mut Writer<&mut Vec<u8>>) {
        members.string("role", "assistant");
        match &self.content {
            Some(text) => members.string("content", text),
            None => members.raw("content", "null"),
        }
        // OpenAI's own answers always have it, and its clients' types count on it.
        match &self.refusal {
            Some(text) => members.string("refusal", text),
            None => members.raw("refusal", "null"),
        }
        if !self.citations.is_empty() {
            members.list("annotations", &self.citations, |(citation, part), out| {
                write_citation(citation, part.clone(), None, out);
            });
        }
        if !self.thinking.is_empty() {
            members.string("reasoning_content", &self.thinking);
        }
        if self.is_signed {
            members.list("thinking_blocks", &self.blocks, |block, out| {
                out.extend_from_slice(&part::thinking_block(block));
            });
        }
        if !self.calls.is_empty() {
            members.list("tool_calls", &self.calls, |call, out| out.extend_from_slice(call));
        }
    }
}

fn call(id: &str, name: &str, arguments: &str, signature: Option<&Signature>) -> Vec<u8> {
    let signature = signature.map(|signature| signature.written_for(Surface::Gemini));
    let mut json = Vec::new();
    part::write_call(id, name, arguments, signature.as_deref(), None, &mut json);
    json
}

fn choice(choice: &Choice, out: &mut Vec<u8>) {
    let said = Said::of(choice);
    // Every answer of this API says why it ended.
    let unsaid = if said.calls.is_empty() { StopReason::Stop } else { StopReason::ToolCalls };
    object(out, |members| {
        members.plain("index", choice.index);
        members.object("message", |members| said.write(members));
        match &choice.logprobs[..] {
            [] => members.raw("logprobs", "null"),
            tokens => write_logprobs(tokens, members.member("logprobs")),
        }
        members.string("finish_reason", choice.stop.unwrap_or(unsaid).openai_name());
        members.string_if("stop_reason", choice.stop_sequence.as_deref());
    });
}

/// Writes an annotation; `part` is where in the whole text the part is that it is about, all of it if it says no more. With
/// its index where it is one of a stream.
pub(super) fn write_citation(citation: &Citation, part: Range<u64>, index: Option<usize>, out: &mut Vec<u8>) {
    let within = |(from, to): (u64, u64)| part.start.saturating_add(from)..part.start.saturating_add(to);
    let stretch = citation.range.map_or_else(|| part.clone(), within);
    let url = citation.url.as_deref().unwrap_or_default();
    object(out, |members| {
        members.plain_if("index", index);
        members.string("type", "url_citation");
        members.object("url_citation", |members| {
            members.plain("start_index", stretch.start);
            members.plain("end_index", stretch.end);
            members.string("title", citation.title.as_deref().unwrap_or(url));
            members.string("url", url);
            members.string_if("content", citation.quoted.as_deref());
        });
    });
}

/// Writes the probabilities of tokens.
pub(super) fn write_logprobs(tokens: &[TokenLogprob], out: &mut Vec<u8>) {
    object(out, |members| {
        members.list("content", tokens, |token, out| {
            object(out, |members| {
                likelihood(&token.token, token.logprob, members);
                members.list("top_logprobs", &token.top, |(token, logprob), out| {
                    object(out, |members| likelihood(token, *logprob, members));
                });
            });
        });
        members.raw("refusal", "null");
    });
}

fn likelihood(token: &str, logprob: f64, members: &mut Writer<&mut Vec<u8>>) {
    members.string("token", token);
    // JSON has no word for the logarithm of nothing; OpenAI writes this for it.
    members.plain("logprob", if logprob.is_finite() { logprob } else { -9999.0 });
    members.list("bytes", token.bytes(), plain);
}
