//! The messages of a conversation, read.

use std::collections::HashSet;

use crate::chat::{CacheControl, Content, Extra, Message, Part, Role, Signature};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::anthropic::cache;
use crate::wire::json::{Kind, Object, Value};
use crate::wire::openai::chat::request::part;

/// Reads the conversation.
pub(super) fn messages(list: &Value<'_, '_>) -> Result<Vec<Message>> {
    let mut conversation = Conversation::default();
    list.each(|message| conversation.push(&message.object()?))?;
    Ok(conversation.messages)
}

/// What was said so far.
#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
    /// The ids of all calls.
    calls: HashSet<String>,
    /// Name and id of the last call of the time when there was one at a time, without an id.
    function_call: Option<(String, String)>,
    /// How many messages have been read.
    count: usize,
}

impl Conversation {
    fn push(&mut self, message: &Object<'_, '_>) -> Result<()> {
        let role = message.need("role")?;
        self.count += 1;
        match &*role.string()? {
            "system" => self.said(Role::System, message),
            "developer" => self.said(Role::Developer, message),
            "user" => self.said(Role::User, message),
            "assistant" => self.answered(message),
            "tool" => self.returned(message),
            "function" => self.function_returned(message),
            _ => Err(role.error("must be `system`, `developer`, `user`, `assistant` or `tool`")),
        }
    }

    fn said(&mut self, role: Role, message: &Object<'_, '_>) -> Result<()> {
        let parts = marked(content(message)?, cache::read(message)?);
        let name = message.string("name")?;
        let extra = message.rest(&["role", "content", "name", "cache_control"]);
        self.messages.push(Message { role, parts, name, extra });
        Ok(())
    }

    fn answered(&mut self, message: &Object<'_, '_>) -> Result<()> {
        const READ: [&str; 10] = [
            "role",
            "content",
            "name",
            "cache_control",
            "refusal",
            "tool_calls",
            "function_call",
            "reasoning_content",
            "reasoning",
            "thinking_blocks",
        ];
        let mut parts = thinking(message)?;
        parts.append(&mut marked(content(message)?, cache::read(message)?));
        let refusal = message.string("refusal")?.filter(|text| !text.is_empty());
        parts.extend(refusal.map(|text| Part::new(Content::Refusal(text))));
        if let Some(calls) = message.get("tool_calls") {
            parts.append(&mut calls.each(|call| self.call(call))?);
        }
        if let Some(call) = message.get("function_call") {
            parts.push(self.function_call(&call.object()?)?);
        }
        let name = message.string("name")?;
        self.messages.push(Message { role: Role::Assistant, parts, name, extra: message.rest(&READ) });
        Ok(())
    }

    fn call(&mut self, value: &Value<'_, '_>) -> Result<Part> {
        let call = value.object()?;
        let id = call.need("id")?.string()?;
        self.calls.insert(id.clone());
        if !matches!(call.string("type")?.as_deref(), Some("function" | "") | None) {
            return Ok(Part::new(Content::Other(value.raw()?)));
        }
        let function = call.need("function")?.object()?;
        let name = function.need("name")?.string()?;
        let arguments = arguments(&function)?;
        let signature = thought_signature(&call)?;
        let extra = call.rest(&["id", "type", "function", "index", "extra_content"]);
        Ok(Part { content: Content::ToolCall { id, name, arguments, signature }, cache: None, extra })
    }

    fn function_call(&mut self, function: &Object<'_, '_>) -> Result<Part> {
        let name = function.need("name")?.string()?;
        let id = format!("call_{}", self.count);
        self.function_call = Some((name.clone(), id.clone()));
        let arguments = arguments(function)?;
        Ok(Part::new(Content::ToolCall { id, name, arguments, signature: None }))
    }

    fn returned(&mut self, message: &Object<'_, '_>) -> Result<()> {
        let value = message.need("tool_call_id")?;
        let id = value.string()?;
        if !self.calls.contains(&id) {
            return Err(value.error("names no call of an assistant's message before it"));
        }
        let name = message.string("name")?;
        let extra = message.rest(&["role", "content", "name", "cache_control", "tool_call_id"]);
        self.result(id, name, message, extra)
    }

    fn function_returned(&mut self, message: &Object<'_, '_>) -> Result<()> {
        let value = message.need("name")?;
        let name = value.string()?;
        let call = self.function_call.as_ref().filter(|(called, _)| *called == name);
        let Some((_, id)) = call else {
            return Err(value.error("names no function that an assistant's message before it calls"));
        };
        let extra = message.rest(&["role", "content", "name", "cache_control"]);
        self.result(id.clone(), Some(name), message, extra)
    }

    /// Adds a result to those that came just before it.
    fn result(
        &mut self,
        id: String,
        name: Option<String>,
        message: &Object<'_, '_>,
        extra: Extra,
    ) -> Result<()> {
        let content = Content::ToolResult { id, name, content: content(message)?, is_error: false };
        let part = Part { content, cache: cache::read(message)?, extra };
        match self.messages.last_mut() {
            Some(last) if last.role == Role::Tool => last.parts.push(part),
            _ => self.messages.push(Message::new(Role::Tool, vec![part])),
        }
        Ok(())
    }
}

/// The content of a message: a text, a list of parts, or nothing.
fn content(message: &Object<'_, '_>) -> Result<Vec<Part>> {
    let Some(value) = message.get("content") else { return Ok(Vec::new()) };
    match value.kind() {
        Kind::String => {
            let text = value.string()?;
            Ok(if text.is_empty() { Vec::new() } else { vec![Part::text(text)] })
        }
        Kind::Array => value.each(part::part),
        _ => Err(value.error("must be a string or a list of parts")),
    }
}

/// Moves the mark of a message to its last part.
fn marked(mut parts: Vec<Part>, mark: Option<CacheControl>) -> Vec<Part> {
    if let (Some(last), Some(mark)) = (parts.last_mut(), mark) {
        last.cache.get_or_insert(mark);
    }
    parts
}

/// The arguments of a call; some clients send the object instead of its text.
fn arguments(function: &Object<'_, '_>) -> Result<String> {
    let Some(value) = function.get("arguments") else { return Ok("{}".to_owned()) };
    match value.kind() {
        Kind::Object => Ok(value.json().to_owned()),
        _ => value.string().map(|text| if text.trim().is_empty() { "{}".to_owned() } else { text }),
    }
}

/// Google's signature of a call, where its own OpenAI API has it.
///
/// Source: Google, "Thought signatures", "OpenAI compatibility", seen 2026-11.
fn thought_signature(call: &Object<'_, '_>) -> Result<Option<Signature>> {
    let Some(extra) = call.get("extra_content") else { return Ok(None) };
    let extra = extra.object()?;
    let Some(google) = extra.get("google") else { return Ok(None) };
    let text = google.object()?.string("thought_signature")?;
    Ok(text.map(|text| Signature::read_from(Surface::Gemini, &text)))
}

/// The thinking: in blocks where they are kept, otherwise as plain text.
fn thinking(message: &Object<'_, '_>) -> Result<Vec<Part>> {
    if let Some(blocks) = message.get("thinking_blocks") {
        let parts = blocks.each(|block| thinking_block(&block.object()?))?;
        if !parts.is_empty() {
            return Ok(parts);
        }
    }
    let text = message.string("reasoning_content")?.or(message.string("reasoning")?);
    let text = text.filter(|text| !text.is_empty());
    let part = |text| Part::new(Content::Thinking { text, signature: None });
    Ok(text.map(part).into_iter().collect())
}

fn thinking_block(block: &Object<'_, '_>) -> Result<Part> {
    let signature = |text: String| Signature::read_from(Surface::Chat, &text);
    let content = match &*block.need("type")?.string()? {
        "thinking" => Content::Thinking {
            text: block.string("thinking")?.unwrap_or_default(),
            signature: block.string("signature")?.filter(|text| !text.is_empty()).map(signature),
        },
        "redacted_thinking" => Content::RedactedThinking(signature(block.need("data")?.string()?)),
        _ => return Err(block.error_at("type", "must be `thinking` or `redacted_thinking`")),
    };
    Ok(Part { content, cache: cache::read(block)?, extra: Extra::default() })
}
