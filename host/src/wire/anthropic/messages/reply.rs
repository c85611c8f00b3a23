//! Whole answers.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::chat::{Choice, Content, Extra, Part, Raw, Reply, StopReason};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Surface;
use crate::wire::anthropic::messages::block;
use crate::wire::anthropic::messages::usage::{self, Counts};
use crate::wire::anthropic::object::{Members, Writer};
use crate::wire::convert::Asked;

/// Reads a whole answer; blocks of a wrong shape are passed over.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when it is no object with a list of blocks.
pub fn decode_reply(body: &[u8], id: &str) -> Result<Reply> {
    let invalid =
        || Error::new(ErrorKind::UpstreamInvalid, "the upstream's answer is not a message of Anthropic's");
    let text = std::str::from_utf8(body).map_err(|error| invalid().with_source(error))?;
    let mut members = Members::read(text).ok_or_else(invalid)?;
    let content = members.list("content").ok().flatten().ok_or_else(invalid)?;
    let mut text = |name| members.string(name).ok().flatten();
    let own_id = text("id").unwrap_or_else(|| message_id(id));
    let (model, reason, stop_sequence) = (text("model"), text("stop_reason"), text("stop_sequence"));
    let _ = (text("type"), text("role"));
    let counts = members.take("usage").and_then(|usage| Counts::read(usage.get()));
    let choice = Choice {
        index: 0,
        parts: read_parts(&content),
        stop: reason.as_deref().map(read_stop),
        stop_sequence,
        logprobs: Vec::new(),
        extra: reason.filter(|reason| !is_exact(reason)).map(kept_reason).unwrap_or_default(),
    };
    Ok(Reply {
        surface: Surface::Messages,
        id: own_id,
        model: model.unwrap_or_default(),
        created_unix_s: None,
        choices: vec![choice],
        usage: counts.map(Counts::usage),
        extra: members.rest(),
    })
}

fn read_parts(blocks: &[&RawValue]) -> Vec<Part> {
    let mut parts: Vec<Part> = blocks.iter().filter_map(|block| block::read(block).ok()).collect();
    parts.retain(|part| !matches!(part.content, Content::ToolResult { .. }));
    parts
}

/// An answer's id as this surface's clients know them.
pub(super) fn message_id(id: &str) -> String {
    if id.starts_with("msg_") { id.to_owned() } else { format!("msg_{id}") }
}

/// Reads why an answer ended.
pub(super) fn read_stop(reason: &str) -> StopReason {
    match reason {
        "end_turn" | "stop_sequence" => StopReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "tool_use" => StopReason::ToolCalls,
        "refusal" => StopReason::ContentFilter,
        _ => StopReason::Other,
    }
}

/// Whether a reason comes back as it was from the hub's word for it.
pub(super) fn is_exact(reason: &str) -> bool {
    matches!(reason, "end_turn" | "stop_sequence" | "max_tokens" | "tool_use" | "refusal")
}

/// Keeps a reason in its own word, for clients of this surface.
fn kept_reason(reason: String) -> Extra {
    Extra(vec![("stop_reason".to_owned(), Raw::of(&reason))])
}

/// Why an answer ended, in this surface's words.
pub(super) fn stop_word(stop: StopReason, has_sequence: bool, has_refusal: bool) -> &'static str {
    match stop {
        StopReason::Stop | StopReason::Other if has_refusal => "refusal",
        StopReason::Stop if has_sequence => "stop_sequence",
        StopReason::Stop | StopReason::Other => "end_turn",
        StopReason::Length => "max_tokens",
        StopReason::ToolCalls => "tool_use",
        StopReason::ContentFilter => "refusal",
    }
}

/// Writes a whole answer: the first of those there are, for this surface's clients ask for one.
pub fn encode_reply(reply: &Reply, asked: &Asked) -> Bytes {
    let is_own = reply.surface == Surface::Messages;
    let nothing = Choice::default();
    let choice = reply.choices.first().unwrap_or(&nothing);
    let mut out = Vec::with_capacity(1024);
    let mut writer = Writer::new(&mut out);
    let id = if reply.id.starts_with("msg_") { reply.id.clone() } else { message_id(&asked.id) };
    writer.string("id", &id);
    writer.string("type", "message");
    writer.string("role", "assistant");
    writer.string("model", &asked.model);
    write_parts(&choice.parts, is_own, writer.key("content"));
    write_stop(choice, is_own, &mut writer);
    usage::write(reply.usage.unwrap_or_default(), writer.key("usage"));
    if is_own {
        writer.extra(&reply.extra);
    }
    writer.end();
    out.into()
}

fn write_stop(choice: &Choice, is_own: bool, writer: &mut Writer<'_>) {
    let kept = choice.extra.0.iter().find(|(name, _)| is_own && name == "stop_reason");
    match (kept, choice.stop) {
        (Some((_, reason)), _) => writer.raw("stop_reason", reason.get()),
        (None, stop) => {
            let has_refusal = choice.parts.iter().any(|part| matches!(part.content, Content::Refusal(_)));
            let stop = stop.unwrap_or(StopReason::Stop);
            writer.string("stop_reason", stop_word(stop, choice.stop_sequence.is_some(), has_refusal));
        }
    }
    match &choice.stop_sequence {
        Some(sequence) => writer.string("stop_sequence", sequence),
        None => writer.raw("stop_sequence", "null"),
    }
}

fn write_parts(parts: &[Part], is_own: bool, out: &mut Vec<u8>) {
    out.push(b'[');
    let start = out.len();
    for part in parts {
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        let at = out.len();
        write_part(part, is_own, out);
        if out.len() == at {
            out.truncate(before);
        }
    }
    out.push(b']');
}

/// Writes a part as blocks; nothing if an answer of this surface has no such block.
fn write_part(part: &Part, is_own: bool, out: &mut Vec<u8>) {
    match &part.content {
        Content::Text { text, citations } => {
            let mut writer = block::begin("text", out);
            writer.string("text", text);
            let citations: Vec<_> = citations.iter().filter_map(block::write_citation).collect();
            if !citations.is_empty() {
                let list = writer.key("citations");
                list.push(b'[');
                list.extend_from_slice(&citations.join(&b','));
                list.push(b']');
            }
            finish(part, is_own, writer);
        }
        Content::Refusal(text) => {
            let mut writer = block::begin("text", out);
            writer.string("text", text);
            writer.end();
        }
        Content::Thinking { text, signature } => {
            let signature = signature.as_ref().map(|signature| signature.written_for(Surface::Messages));
            block::write_thinking(text, signature.as_deref().unwrap_or_default(), out);
        }
        Content::RedactedThinking(data) => {
            block::write_redacted(&data.written_for(Surface::Messages), out);
        }
        Content::ToolCall { id, name, arguments, signature } => {
            if let Some(signature) = signature {
                block::write_thinking("", &signature.written_for(Surface::Messages), out);
                out.push(b',');
            }
            let mut writer = block::begin("tool_use", out);
            writer.string("id", id);
            writer.string("name", name);
            block::write_input(arguments, writer.key("input"));
            finish(part, is_own, writer);
        }
        Content::Other(raw) if is_own => out.extend_from_slice(raw.get().as_bytes()),
        Content::Other(_)
        | Content::Image { .. }
        | Content::Audio { .. }
        | Content::File { .. }
        | Content::ToolResult { .. } => {}
    }
}

fn finish(part: &Part, is_own: bool, mut writer: Writer<'_>) {
    if is_own {
        writer.extra(&part.extra);
    }
    writer.end();
}
