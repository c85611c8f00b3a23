//! Requests, both ways.

use std::collections::HashMap;

use bytes::Bytes;

use crate::chat::{ChatRequest, Content, Field, Message, Part, Role, Signature, Source};
use crate::error::{Error, Result};
use crate::wire::Surface;
use crate::wire::convert::Terms;
use crate::wire::json::{Cursor, Kind, Writer, cursor};

use super::config;
use super::parts::{self, Calls};
use super::tools;

/// Members that are read in other places than their own.
const KEPT_APART: [&str; 2] = ["generationConfig", "toolConfig"];

/// What names a conversation that only its vendor has.
const STORED: [&str; 4] = ["previous_response_id", "conversation", "container", "cachedContent"];

/// What a call without a signature is sent with to models that insist on one: those calls are another model's, or their
/// client did not keep it.
///
/// Source: Gemini API documentation, "Thought signatures", seen 2026-11.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Reads a request. The model and whether it is streamed are in its path.
///
/// # Errors
/// [`InvalidRequest`](crate::error::ErrorKind::InvalidRequest) with the field.
pub fn decode_request(body: &[u8]) -> Result<ChatRequest> {
    let mut request = ChatRequest::new(Surface::Gemini, "");
    // A stream tells its usage without being asked.
    request.asks_usage = true;
    let mut conversation = Conversation::default();
    let mut system = None;
    let member = |name: &str, value: &mut Cursor<'_, '_>| -> Result<()> {
        match name {
            "contents" => value.one_or_more(|value| conversation.content(value))?,
            "systemInstruction" => system = instructions(value)?,
            "tools" => tools::read(value, &mut request.tools)?,
            "toolConfig" => {
                let rest = tools::read_choice(value, &mut request.tool_choice)?;
                request.extra.0.extend(rest.map(|rest| (name.to_owned(), rest)));
            }
            "generationConfig" => config::read(value, &mut request)?,
            "labels" => request.metadata = Some(tools::raw(value)?),
            "serviceTier" => request.service_tier = Some(value.text()?.to_ascii_lowercase()),
            "model" => {}
            _ => request.extra.0.push((name.to_owned(), tools::raw(value)?)),
        }
        Ok(())
    };
    cursor::read(body, |value| value.members(member))?;
    request.messages = system.into_iter().chain(conversation.messages).collect();
    Ok(request)
}

fn instructions(value: &mut Cursor<'_, '_>) -> Result<Option<Message>> {
    let mut parts = Vec::new();
    let mut calls = Calls::of_conversation();
    // Google's clients take a list of parts for the content that they make of it.
    value.one_or_more(|value| {
        if value.kind() == Some(Kind::String) {
            parts.push(Part::text(value.text()?));
            return Ok(());
        }
        value.members(|name, value| match name {
            "parts" => value.one_or_more(|value| parts::read(value, &mut calls, &mut parts)),
            // A part without a content around it.
            "text" => {
                parts.push(Part::text(value.text()?));
                Ok(())
            }
            _ => Ok(()),
        })
    })?;
    Ok((!parts.is_empty()).then(|| Message::new(Role::System, parts)))
}

/// The contents of a request as they are read.
#[derive(Debug)]
struct Conversation {
    messages: Vec<Message>,
    calls: Calls,
}

impl Default for Conversation {
    fn default() -> Self {
        Self { messages: Vec::new(), calls: Calls::of_conversation() }
    }
}

impl Conversation {
    fn content(&mut self, value: &mut Cursor<'_, '_>) -> Result<()> {
        let (mut role, mut parts) = (Role::User, Vec::new());
        if value.kind() == Some(Kind::String) {
            parts.push(Part::text(value.text()?));
        } else {
            value.members(|name, value| {
                match name {
                    "role" => role = self::role(value)?,
                    "parts" => {
                        value.one_or_more(|value| parts::read(value, &mut self.calls, &mut parts))?;
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        match role {
            Role::Assistant => self.answer(parts),
            _ if parts.iter().any(|part| matches!(part.content, Content::ToolCall { .. })) => {
                let message = "`functionCall` stands in contents of the role `model` only";
                return Err(Error::invalid(format!("{}.parts", value.place()), message));
            }
            _ => self.ask(parts),
        }
        Ok(())
    }

    /// Results come before what is said beside them, because they answer what was said last.
    fn ask(&mut self, parts: Vec<Part>) {
        let is_result = |part: &Part| matches!(part.content, Content::ToolResult { .. });
        let (mut results, said): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_result);
        if !results.is_empty() {
            match self.messages.last_mut().filter(|last| last.role == Role::Tool) {
                Some(last) => last.parts.append(&mut results),
                None => self.messages.push(Message::new(Role::Tool, results)),
            }
        }
        if !said.is_empty() {
            self.messages.push(Message::new(Role::User, said));
        }
    }

    /// Google's clients keep each chunk of a streamed answer as a content of its own; here they are one again.
    fn answer(&mut self, mut parts: Vec<Part>) {
        parts.retain(|part| !matches!(&part.content, Content::Text { text, .. } if text.is_empty()));
        if parts.is_empty() {
            return;
        }
        let Some(last) = self.messages.last_mut().filter(|last| last.role == Role::Assistant) else {
            self.messages.push(Message::new(Role::Assistant, parts));
            return;
        };
        let mut parts = parts.into_iter();
        if let Some(first) = parts.next() {
            let another = continued(last.parts.last_mut(), first);
            last.parts.extend(another);
        }
        last.parts.extend(parts);
    }
}

/// Adds a part to the one it goes on; gives it back if it is another one.
fn continued(last: Option<&mut Part>, part: Part) -> Option<Part> {
    match (last.map(|last| &mut last.content), part.content) {
        (Some(Content::Text { text, .. }), Content::Text { text: more, .. }) => text.push_str(&more),
        (
            Some(Content::Thinking { text, signature: signature @ None }),
            Content::Thinking { text: more, signature: proof },
        ) => {
            text.push_str(&more);
            *signature = proof;
        }
        (_, content) => return Some(Part { content, ..part }),
    }
    None
}

fn role(value: &mut Cursor<'_, '_>) -> Result<Role> {
    match &*value.text()? {
        "user" | "function" | "tool" | "" => Ok(Role::User),
        "model" => Ok(Role::Assistant),
        other => {
            let message = format!("`{}` is `{other}`, it must be `user` or `model`", value.place());
            Err(value.invalid(message))
        }
    }
}

/// Writes a request.
///
/// # Errors
/// As [`Terms::cannot`]; [`InvalidRequest`](crate::error::ErrorKind::InvalidRequest) for a result without its call and for a
/// conversation of nothing.
pub fn encode_request(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<Bytes> {
    let is_own = request.surface == Surface::Gemini;
    let mut contents =
        Contents { is_own, needs_signatures: needs_signatures(&request.model), ..Contents::default() };
    for message in &request.messages {
        contents.message(message, terms)?;
    }
    let mut out = Writer::default();
    contents.finish(&mut out)?;
    tools::write(&request.tools, is_own, terms, &mut out)?;
    let tool_config = config::rest(&request.extra, "toolConfig").filter(|_| is_own);
    tools::write_choice(request.tool_choice.as_ref(), tool_config, &mut out);
    config::write(request, terms, &mut out)?;
    others(request, terms, &mut out)?;
    Ok(out.finish().into())
}

/// Whether a model refuses calls without a signature.
///
/// Source: Gemini API documentation, "Thought signatures": Gemini 3 and later; seen 2026-11.
fn needs_signatures(model: &str) -> bool {
    let version = model.rsplit('/').next().and_then(|name| name.strip_prefix("gemini-"));
    let major = version.and_then(|version| version.split(['.', '-']).next());
    major.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 3)
}

/// What stands beside the conversation.
fn others(request: &ChatRequest, terms: &mut Terms<'_>, out: &mut Writer) -> Result<()> {
    let is_own = request.surface == Surface::Gemini;
    if request.parallel_tool_calls == Some(false) {
        terms.cannot(Field::ParallelToolCalls)?;
    }
    if request.logit_bias.as_ref().is_some_and(|bias| !matches!(bias.get().trim(), "{}" | "null")) {
        terms.cannot(Field::LogitBias)?;
    }
    if request.user.is_some() {
        terms.cannot(Field::User)?;
    }
    match &request.metadata {
        Some(labels) if is_own => out.raw("labels", labels.get()),
        Some(_) => terms.cannot(Field::Metadata)?,
        None => {}
    }
    match request.service_tier.as_deref() {
        None | Some("auto") => {}
        Some(tier @ ("flex" | "priority" | "standard" | "unspecified")) => out.string("serviceTier", tier),
        Some("default" | "standard_only") => out.string("serviceTier", "standard"),
        Some(_) => terms.cannot(Field::ServiceTier)?,
    }
    if request.verbosity.is_some() {
        terms.cannot(Field::Unknown)?;
    }
    for (name, json) in &request.extra.0 {
        if is_own {
            if !KEPT_APART.contains(&&**name) {
                out.raw(name, json.get());
            }
        } else if STORED.contains(&&**name) && json.get() != "null" {
            terms.cannot(Field::StoredConversation)?;
        } else {
            terms.cannot(Field::Unknown)?;
        }
    }
    Ok(())
}

/// The contents of a request as they are written.
#[derive(Debug, Default)]
struct Contents<'r> {
    is_own: bool,
    needs_signatures: bool,
    /// The parts of the system instruction, with commas between them.
    system: Vec<u8>,
    /// Who speaks, and the parts; the same does not speak twice in a row.
    turns: Vec<(&'static str, Vec<u8>)>,
    /// The names of the calls so far, by id.
    calls: HashMap<&'r str, &'r str>,
}

impl<'r> Contents<'r> {
    fn message(&mut self, message: &'r Message, terms: &mut Terms<'_>) -> Result<()> {
        if message.name.is_some() {
            terms.cannot(Field::MessageName)?;
        }
        if !self.is_own && !message.extra.0.is_empty() {
            terms.cannot(Field::Unknown)?;
        }
        if message.role == Role::Developer {
            terms.cannot(Field::Developer)?;
        }
        let role = match message.role {
            Role::System | Role::Developer => {
                if !self.turns.is_empty() {
                    terms.cannot(Field::SystemInside)?;
                }
                let mut out = std::mem::take(&mut self.system);
                let written = self.parts(&message.parts, &mut out, terms);
                self.system = out;
                return written;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "model",
        };
        let mut out = match self.turns.pop() {
            Some((last, parts)) if last == role => parts,
            other => {
                self.turns.extend(other);
                Vec::new()
            }
        };
        self.parts(&message.parts, &mut out, terms)?;
        if !out.is_empty() {
            self.turns.push((role, out));
        }
        Ok(())
    }

    fn parts(&mut self, parts: &'r [Part], out: &mut Vec<u8>, terms: &mut Terms<'_>) -> Result<()> {
        let mut lacks_signature = self.needs_signatures
            && !parts.iter().any(|part| match &part.content {
                Content::ToolCall { signature, .. } => own(signature.as_ref()).is_some(),
                _ => false,
            });
        // A signature without a text is of what follows.
        let mut pending: Option<&Signature> = None;
        for part in parts {
            self.loses(part, terms)?;
            let has_parts = !out.is_empty();
            let start = out.len();
            if has_parts {
                out.push(b',');
            }
            match &part.content {
                Content::Thinking { text, signature } if text.is_empty() => {
                    out.truncate(start);
                    if let Some(signature) = own(signature.as_ref()) {
                        self.flush(pending.replace(signature), out);
                    } else {
                        terms.cannot(Field::Thinking)?;
                    }
                    continue;
                }
                Content::ToolCall { id, name, arguments, signature } => {
                    self.calls.insert(id, name);
                    parts::write_call(id, name, arguments, own(signature.as_ref()), out);
                    let is_signed = own(signature.as_ref()).is_some() || pending.is_some();
                    if std::mem::take(&mut lacks_signature) && !is_signed {
                        let none = Signature { surface: Surface::Gemini, value: NO_SIGNATURE.to_owned() };
                        sign(&none, out);
                    }
                    if own(signature.as_ref()).is_some() {
                        pending = None;
                    }
                }
                _ => self.part(part, out, terms)?,
            }
            let is_written = out.len() > start + usize::from(has_parts);
            if !is_written {
                out.truncate(start);
            } else if let Some(signature) = pending.take() {
                sign(signature, out);
            }
        }
        self.flush(pending, out);
        Ok(())
    }

    /// A signature of nothing else has a part of its own.
    fn flush(&self, signature: Option<&Signature>, out: &mut Vec<u8>) {
        if let Some(signature) = signature {
            if !out.is_empty() {
                out.push(b',');
            }
            parts::write_text("", false, Some(signature), out);
        }
    }

    fn loses(&self, part: &Part, terms: &mut Terms<'_>) -> Result<()> {
        if part.cache.is_some() {
            terms.cannot(Field::CacheControl)?;
        }
        if !self.is_own && !part.extra.0.is_empty() {
            terms.cannot(Field::Unknown)?;
        }
        Ok(())
    }

    /// Appends a part, or nothing if it cannot be said and that is no harm.
    fn part(&self, part: &Part, out: &mut Vec<u8>, terms: &mut Terms<'_>) -> Result<()> {
        match &part.content {
            Content::Text { text, .. } | Content::Refusal(text) => parts::write_text(text, false, None, out),
            Content::Thinking { text, signature } => {
                let signature = own(signature.as_ref());
                if signature.is_none() && !self.is_own {
                    terms.cannot(Field::Thinking)?;
                }
                parts::write_text(text, true, signature, out);
            }
            Content::RedactedThinking(_) => terms.cannot(Field::Thinking)?,
            Content::Image { source, detail } => {
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    terms.cannot(Field::ImageDetail)?;
                }
                media(source, Field::ImageUrl, terms, out)?;
            }
            Content::Audio { source } => media(source, Field::FileUrl, terms, out)?,
            Content::File { source, .. } => media(source, Field::FileUrl, terms, out)?,
            Content::ToolResult { id, name, content, is_error } => {
                self.result(id, name.as_deref(), content, *is_error, out, terms)?;
            }
            Content::Other(json) if self.is_own => out.extend_from_slice(json.get().as_bytes()),
            Content::Other(_) => terms.cannot(Field::Unknown)?,
            Content::ToolCall { id, name, arguments, signature } => {
                parts::write_call(id, name, arguments, own(signature.as_ref()), out);
            }
        }
        Ok(())
    }

    fn result(
        &self,
        id: &str,
        name: Option<&str>,
        content: &[Part],
        is_error: bool,
        out: &mut Vec<u8>,
        terms: &mut Terms<'_>,
    ) -> Result<()> {
        let called = self.calls.get(id).copied();
        let Some(name) = called.or(name) else {
            let message = format!("the result of the tool call `{id}` has no call before it");
            return Err(Error::invalid("messages", message));
        };
        let (mut text, mut others) = (String::new(), Vec::new());
        for part in content {
            match &part.content {
                Content::Text { text: more, .. } => {
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str(more);
                }
                _ => {
                    let start = others.len();
                    others.push(b',');
                    self.part(part, &mut others, terms)?;
                    if others.len() == start + 1 {
                        others.truncate(start);
                    }
                }
            }
        }
        out.extend_from_slice(br#"{"functionResponse":"#);
        let mut response = Writer::new(out);
        response.string("id", id);
        response.string("name", name);
        parts::write_response(&text, is_error, response.member("response"));
        if let Some((_, others)) = others.split_first() {
            let list = response.member("parts");
            list.push(b'[');
            list.extend_from_slice(others);
            list.push(b']');
        }
        response.finish().push(b'}');
        Ok(())
    }

    fn finish(mut self, out: &mut Writer) -> Result<()> {
        if self.turns.is_empty() {
            // Instructions alone are what is asked; contents may not be empty.
            if self.system.is_empty() {
                return Err(Error::invalid(
                    "messages",
                    "the conversation is empty, say something to the model",
                ));
            }
            self.turns.push(("user", std::mem::take(&mut self.system)));
        }
        if !self.system.is_empty() {
            let instruction = out.member("systemInstruction");
            instruction.extend_from_slice(br#"{"parts":["#);
            instruction.append(&mut self.system);
            instruction.extend_from_slice(b"]}");
        }
        let contents = out.member("contents");
        for (index, (role, mut parts)) in self.turns.into_iter().enumerate() {
            contents.extend_from_slice(if index == 0 { b"[" } else { b"," });
            contents.extend_from_slice(br#"{"role":""#);
            contents.extend_from_slice(role.as_bytes());
            contents.extend_from_slice(br#"","parts":["#);
            contents.append(&mut parts);
            contents.extend_from_slice(b"]}");
        }
        contents.push(b']');
        Ok(())
    }
}

/// A signature, if it is of Google's.
fn own(signature: Option<&Signature>) -> Option<&Signature> {
    signature.filter(|signature| signature.surface == Surface::Gemini)
}

/// Adds a signature to the part that was written last.
fn sign(signature: &Signature, out: &mut Vec<u8>) {
    let end = out.pop();
    out.push(b',');
    parts::write_signature(signature, false, out);
    out.extend(end);
}

fn media(source: &Source, by_url: Field, terms: &mut Terms<'_>, out: &mut Vec<u8>) -> Result<()> {
    match source {
        Source::Data { media_type, base64 } => parts::write_data(media_type, base64, out),
        Source::Url { url, media_type } => {
            let media_type = media_type.as_deref().or_else(|| parts::media_type_of(url));
            match media_type {
                Some(media_type) => parts::write_url(media_type, url, out),
                None => terms.cannot(by_url)?,
            }
        }
        Source::Text(text) => parts::write_text(text, false, None, out),
        Source::Id(_) => terms.cannot(Field::FileId)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
