//! Whole answers.

use bytes::Bytes;

use crate::chat::{Choice, Content, Extra, Part, Raw, Reply, StopReason};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Surface;
use crate::wire::anthropic::messages::block;
use crate::wire::anthropic::messages::usage::{self, Counts};
use crate::wire::convert::Asked;
use crate::wire::json::{Members, Value, Writer, elements};

/// Reads a whole answer; blocks of a wrong shape are passed over.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when it is no object with a list of blocks.
pub fn decode_reply(body: &[u8], id: &str) -> Result<Reply> {
    let invalid =
        || Error::new(ErrorKind::UpstreamInvalid, "the upstream's answer is not a message of Anthropic's");
    let text = std::str::from_utf8(body).map_err(|error| invalid().with_source(error))?;
    let members = Members::of(text).ok_or_else(invalid)?;
    let content = members.get("content").and_then(elements).ok_or_else(invalid)?;
    let text = |name| members.string(name);
    let own_id = text("id").unwrap_or_else(|| message_id(id));
    let (model, reason, stop_sequence) = (text("model"), text("stop_reason"), text("stop_sequence"));
    let _ = (text("type"), text("role"));
    let counts = members.get("usage").and_then(Counts::read);
    let choice = Choice {
        index: 0,
        parts: read_parts(&content),
        stop: reason.as_deref().map(StopReason::of_anthropic),
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
        extra: members.rest(&[]),
    })
}

fn read_parts(blocks: &[&str]) -> Vec<Part> {
    let mut parts: Vec<Part> =
        blocks.iter().filter_map(|block| block::read(&Value::of(block)).ok()).collect();
    parts.retain(|part| !matches!(part.content, Content::ToolResult { .. }));
    parts
}

/// An answer's id as this surface's clients know them.
pub(super) fn message_id(id: &str) -> String {
    if id.starts_with("msg_") { id.to_owned() } else { format!("msg_{id}") }
}

/// Whether a reason comes back as it was from the hub's word for it.
pub(super) fn is_exact(reason: &str) -> bool {
    matches!(reason, "end_turn" | "stop_sequence" | "max_tokens" | "tool_use" | "refusal")
}

/// Keeps a reason in its own word, for clients of this surface.
fn kept_reason(reason: String) -> Extra {
    Extra(vec![("stop_reason".to_owned(), Raw::of(&reason))])
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ending {
    /// Why, if that was said.
    pub(super) reason: Option<StopReason>,
    /// Whether a word of the client's ended it.
    pub(super) has_sequence: bool,
    /// Whether tools were called.
    pub(super) has_calls: bool,
    /// Whether the model refused.
    pub(super) has_refusal: bool,
}

impl Ending {
    /// Why an answer ended, in this surface's words.
    pub(super) fn word(self) -> &'static str {
        match self.reason.unwrap_or(StopReason::Stop) {
            StopReason::Length => "max_tokens",
            StopReason::ToolCalls => "tool_use",
            StopReason::ContentFilter => "refusal",
            StopReason::Stop | StopReason::Other if self.has_refusal => "refusal",
            // A call that the client had asked for by name ends with a plain stop at other vendors.
            StopReason::Stop | StopReason::Other if self.has_calls => "tool_use",
            StopReason::Stop if self.has_sequence => "stop_sequence",
            StopReason::Stop | StopReason::Other => "end_turn",
        }
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
    write_parts(&choice.parts, is_own, writer.member("content"));
    write_stop(choice, is_own, &mut writer);
    usage::write(reply.usage.unwrap_or_default(), writer.member("usage"));
    if is_own {
        writer.extra(&reply.extra);
    }
    writer.finish();
    out.into()
}

fn write_stop(choice: &Choice, is_own: bool, writer: &mut Writer<&mut Vec<u8>>) {
    let kept = choice.extra.0.iter().find(|(name, _)| is_own && name == "stop_reason");
    let has = |is_it: fn(&Content) -> bool| choice.parts.iter().any(|part| is_it(&part.content));
    let ending = Ending {
        reason: choice.stop,
        has_sequence: choice.stop_sequence.is_some(),
        has_calls: has(|content| matches!(content, Content::ToolCall { .. })),
        has_refusal: has(|content| matches!(content, Content::Refusal(_))),
    };
    match kept {
        Some((_, reason)) => writer.raw("stop_reason", reason.get()),
        None => writer.string("stop_reason", ending.word()),
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
                let list = writer.member("citations");
                list.push(b'[');
                list.extend_from_slice(&citations.join(&b','));
                list.push(b']');
            }
            finish(part, is_own, writer);
        }
        Content::Refusal(text) => {
            let mut writer = block::begin("text", out);
            writer.string("text", text);
            writer.finish();
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
            block::write_input(arguments, writer.member("input"));
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

fn finish(part: &Part, is_own: bool, mut writer: Writer<&mut Vec<u8>>) {
    if is_own {
        writer.extra(&part.extra);
    }
    writer.finish();
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::chat::{Citation, Signature, Source, Usage};

    fn asked() -> Asked {
        Asked {
            model: "m".into(),
            id: "x1".into(),
            created_unix_s: 0,
            asks_usage: false,
            request: Bytes::new(),
        }
    }

    fn encode(reply: &Reply) -> Value {
        serde_json::from_slice(&encode_reply(reply, &asked())).unwrap()
    }

    fn reply(parts: Vec<Part>) -> Reply {
        Reply {
            surface: Surface::Chat,
            id: "chatcmpl-1".into(),
            model: "gpt".into(),
            created_unix_s: Some(1),
            choices: vec![Choice { parts, ..Choice::default() }, Choice { index: 1, ..Choice::default() }],
            usage: None,
            extra: Extra(vec![("object".into(), Raw::of(&"chat.completion"))]),
        }
    }

    // parity: 98
    #[test]
    fn an_answer_of_this_surface_is_written_as_it_was_read() {
        let body = json!({
            "id": "msg_01", "type": "message", "role": "assistant", "model": "m",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "text", "text": "a\n", "citations": [{"type": "page_location", "cited_text": "c", "document_index": 0}]},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1.50}, "caller": {"type": "direct"}},
            ],
            "stop_reason": "pause_turn", "stop_sequence": null,
            "usage": {"input_tokens": 1, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3, "output_tokens": 4, "output_tokens_details": {"thinking_tokens": 1}},
            "container": {"id": "c"},
        });
        let read = decode_reply(body.to_string().as_bytes(), "x1").unwrap();
        assert_eq!(encode(&read), body);
        let usage =
            Usage { input: 6, output: 4, cached: 3, cache_written: 2, reasoning: 1, is_estimated: false };
        assert_eq!(read.usage, Some(usage));
    }

    #[track_caller]
    fn check_parts(parts: Vec<Part>, content: Value, stop_reason: &str) {
        let body = encode(&reply(parts));
        assert_eq!((&body["content"], &body["stop_reason"]), (&content, &json!(stop_reason)));
    }

    // parity: 98 104
    #[test]
    fn parts_of_other_surfaces_become_blocks() {
        let gemini = |value: &str| Some(Signature { surface: Surface::Gemini, value: value.into() });
        let call = |arguments: &str, signature| {
            Part::new(Content::ToolCall {
                id: "t".into(),
                name: "f".into(),
                arguments: arguments.into(),
                signature,
            })
        };
        check_parts(vec![Part::text("a")], json!([{"type": "text", "text": "a"}]), "end_turn");
        check_parts(vec![], json!([]), "end_turn");
        check_parts(
            vec![Part::new(Content::Refusal("no".into()))],
            json!([{"type": "text", "text": "no"}]),
            "refusal",
        );
        check_parts(
            vec![
                Part::new(Content::Other(Raw::of(&7))),
                Part::new(Content::Thinking { text: "hm".into(), signature: None }),
                call(r#"{"a": 1}"#, gemini("s")),
                Part::new(Content::Audio { source: Source::Text(String::new()) }),
                call("{", None),
            ],
            json!([
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "thinking", "thinking": "", "signature": "gemini#s"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"arguments": "{"}},
            ]),
            "tool_use",
        );
        let citation = Citation { url: Some("https://a".into()), ..Citation::default() };
        let text = Content::Text { text: "a".into(), citations: vec![Citation::default(), citation.clone()] };
        let written = json!([{"type": "text", "text": "a", "citations": [{
            "type": "web_search_result_location", "cited_text": "", "encrypted_index": "", "title": "https://a", "url": "https://a",
        }]}]);
        check_parts(vec![Part::new(text)], written.clone(), "end_turn");
        // And nobody takes it for one of Anthropic's when it comes back.
        let body = json!({ "content": written }).to_string();
        let back = decode_reply(body.as_bytes(), "").unwrap().choices.remove(0).parts.remove(0);
        let title = Some("https://a".into());
        let citations = vec![Citation { title, quoted: Some(String::new()), ..citation }];
        assert_eq!(back, Part::new(Content::Text { text: "a".into(), citations }));
    }

    // parity: 110
    #[test]
    fn a_client_sees_the_model_it_asked_for_and_an_id_of_this_surface() {
        let body = encode(&reply(vec![]));
        assert_eq!((&body["model"], &body["id"]), (&json!("m"), &json!("msg_x1")));
        assert_eq!(body.get("object"), None);
    }

    #[track_caller]
    fn check_stop(word: &str, stop: StopReason) {
        let body = json!({"content": [], "stop_reason": word}).to_string();
        let read = decode_reply(body.as_bytes(), "").unwrap();
        assert_eq!(read.choices[0].stop, Some(stop));
        assert_eq!(encode(&read)["stop_reason"], word);
    }

    // parity: 106
    #[test]
    fn reasons_are_read_and_kept() {
        check_stop("end_turn", StopReason::Stop);
        check_stop("max_tokens", StopReason::Length);
        check_stop("model_context_window_exceeded", StopReason::Length);
        check_stop("tool_use", StopReason::ToolCalls);
        check_stop("refusal", StopReason::ContentFilter);
        check_stop("pause_turn", StopReason::Other);
        check_stop("news", StopReason::Other);
        let stopped =
            json!({"content": [], "stop_reason": "stop_sequence", "stop_sequence": "x"}).to_string();
        let read = decode_reply(stopped.as_bytes(), "").unwrap();
        assert_eq!(read.choices[0].stop_sequence.as_deref(), Some("x"));
        let written = encode(&read);
        assert_eq!(
            (&written["stop_reason"], &written["stop_sequence"]),
            (&json!("stop_sequence"), &json!("x"))
        );
    }

    #[test]
    fn wrong_shapes_inside_an_answer_are_passed_over() {
        let body = json!({
            "id": 1, "model": [], "stop_reason": 2, "usage": "x",
            "content": [1, {"type": "text"}, {"type": "tool_use", "id": "t"}, {"type": "text", "text": "a"}, {"type": "tool_result", "tool_use_id": "x"}],
        });
        let read = decode_reply(body.to_string().as_bytes(), "x1").unwrap();
        assert_eq!((read.id.as_str(), read.usage), ("msg_x1", None));
        assert_eq!(read.choices[0].parts, [Part::text("a")]);
        for body in ["", "7", "{}", r#"{"content":"a"}"#, "\u{feff}"] {
            assert_eq!(decode_reply(body.as_bytes(), "").unwrap_err().kind, ErrorKind::UpstreamInvalid);
        }
        assert!(decode_reply(&[0xFF], "").is_err());
    }
}
