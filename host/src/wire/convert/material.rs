//! What the person and the tools give to the model, where only the client's vendor has a word for it.
//!
//! What of the model's own turns is unknown elsewhere can be left out: it is the history of tools that a vendor ran. What
//! the model is to work with cannot: without it the answer would be another one.

use std::borrow::Cow;

use crate::chat::{ChatRequest, Content, Field, Part, Raw, Role};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::anthropic::messages;
use crate::wire::json::cursor;

use super::Terms;

/// The request without what only its own surface has a word for: as plain texts and pictures, where it consists of them.
///
/// # Errors
/// As [`Terms::cannot`] for content, servers of tools and forms of answers that the target does not have.
pub(super) fn plain<'r>(request: &'r ChatRequest, terms: &mut Terms<'_>) -> Result<Cow<'r, ChatRequest>> {
    if request.surface == terms.target {
        return Ok(Cow::Borrowed(request));
    }
    others(request, terms)?;
    let is_given = |role| matches!(role, Role::User | Role::Tool);
    let mut given = request.messages.iter().filter(|message| is_given(message.role));
    if !given.any(|message| message.parts.iter().any(has_other)) {
        return Ok(Cow::Borrowed(request));
    }
    let mut request = request.clone();
    let surface = request.surface;
    for message in request.messages.iter_mut().filter(|message| is_given(message.role)) {
        message.parts = plain_parts(std::mem::take(&mut message.parts), surface, terms)?;
    }
    Ok(Cow::Owned(request))
}

fn has_other(part: &Part) -> bool {
    match &part.content {
        Content::Other(_) => true,
        Content::ToolResult { content, .. } => content.iter().any(has_other),
        _ => false,
    }
}

fn plain_parts(parts: Vec<Part>, surface: Surface, terms: &mut Terms<'_>) -> Result<Vec<Part>> {
    let mut plain = Vec::with_capacity(parts.len());
    for mut part in parts {
        match &mut part.content {
            Content::Other(raw) => {
                match if surface == Surface::Messages { messages::plain(raw)? } else { None } {
                    // Blocks inside may be of a kind of their own, but hold no others.
                    Some(inner) if inner.iter().any(has_other) => terms.cannot(Field::ContentKind)?,
                    Some(mut inner) => plain.append(&mut inner),
                    None => terms.cannot(Field::ContentKind)?,
                }
                continue;
            }
            Content::ToolResult { content, .. } => {
                *content = plain_parts(std::mem::take(content), surface, terms)?;
            }
            _ => {}
        }
        plain.push(part);
    }
    Ok(plain)
}

/// Checks the members for tools that the vendor calls, and for answers that are no texts.
fn others(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<()> {
    for (name, json) in &request.extra.0 {
        let is_asked = match (request.surface, name.as_str()) {
            (Surface::Messages, "mcp_servers") if !matches!(json.get(), "[]" | "null") => {
                terms.cannot(Field::VendorTool)?;
                false
            }
            (Surface::Chat, "modalities") => names_other_than_text(json),
            (Surface::Gemini, "generationConfig") => has_other_modalities(json),
            _ => false,
        };
        if is_asked {
            terms.cannot(Field::Modalities)?;
        }
    }
    Ok(())
}

fn names_other_than_text(json: &Raw) -> bool {
    let mut names = Vec::new();
    // What is no list of words is nothing that a vendor would understand.
    let read = cursor::read(json.get().as_bytes(), |value| {
        names = value.texts()?;
        Ok(())
    });
    read.is_ok() && names.iter().any(|name| !name.eq_ignore_ascii_case("text"))
}

fn has_other_modalities(config: &Raw) -> bool {
    let mut modalities = None;
    let read = cursor::read(config.get().as_bytes(), |value| {
        value.members(|name, value| {
            if name == "responseModalities" {
                modalities = Raw::new(value.json()?);
            }
            Ok(())
        })
    });
    read.is_ok() && modalities.as_ref().is_some_and(names_other_than_text)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::super::tests::{request_of, terms};
    use super::super::{decode_request, encode_request};
    use super::*;
    use crate::error::ErrorKind;

    fn asked(client: Surface, target: Surface, body: &Value) -> Result<Value> {
        let request = decode_request(client, &request_of(client, Bytes::from(body.to_string())))?;
        let written = encode_request(&request, &mut terms(client, target))?;
        Ok(serde_json::from_slice(&written).unwrap())
    }

    fn said(content: Value) -> Value {
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]})
    }

    // parity: 99
    #[test]
    fn documents_and_finds_of_blocks_are_sent_as_their_texts() {
        let document = json!({"type": "document", "title": "t", "source": {"type": "content", "content": "the secret is 42"}});
        let found = json!({"type": "search_result", "title": "t", "source": "https://a", "content": [{"type": "text", "text": "b"}]});
        for target in [Surface::Chat, Surface::Gemini] {
            let written =
                asked(Surface::Messages, target, &said(json!([document, found]))).unwrap().to_string();
            for text in ["the secret is 42", "https://a"] {
                assert!(written.contains(text), "{written}");
            }
        }
        let called = json!({"model": "m", "max_tokens": 9, "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "i", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "i", "content": [found]}]},
        ]});
        let written = asked(Surface::Messages, Surface::Gemini, &called).unwrap();
        let output = written.pointer("/contents/2/parts/0/functionResponse/response/output");
        assert_eq!(output, Some(&json!("t\nhttps://a\nb")));
    }

    #[track_caller]
    fn check_refused(client: Surface, target: Surface, body: &Value, param: &str) {
        let error = asked(client, target, body).unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Inexpressible, Some(param)));
    }

    // parity: 103
    #[test]
    fn what_the_model_is_to_work_with_is_not_left_out() {
        let kind = "messages[].content[].type";
        let upload = json!([{"type": "container_upload", "file_id": "f"}]);
        for target in [Surface::Chat, Surface::Gemini] {
            check_refused(Surface::Messages, target, &said(upload.clone()), kind);
        }
        check_refused(Surface::Chat, Surface::Messages, &said(json!([{"type": "new"}])), kind);
        let servers = json!({"model": "m", "max_tokens": 9, "mcp_servers": [{"name": "s"}], "messages": [{"role": "user", "content": "a"}]});
        check_refused(Surface::Messages, Surface::Chat, &servers, "tools[].type");
        let spoken = |modality| json!({"contents": "a", "generationConfig": {"responseModalities": ["TEXT", modality]}});
        check_refused(
            Surface::Gemini,
            Surface::Chat,
            &spoken("AUDIO"),
            "generationConfig.responseModalities",
        );
        assert!(asked(Surface::Gemini, Surface::Chat, &spoken("TEXT")).is_ok());
    }
}
