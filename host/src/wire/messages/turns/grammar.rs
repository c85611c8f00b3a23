//! How Anthropic and Google write a message, its parts and what a tool returned.

use std::borrow::Cow;

use crate::wire::json::{Scanner, Text};
use crate::wire::messages::{has_text, message, part_text, quoted};
use crate::wire::{Dialect, Endpoint};

/// Whose words for the parts of a conversation these are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::wire::messages) enum Grammar {
    /// `system`, `messages` with `content`.
    Anthropic,
    /// `systemInstruction`, `contents` with `parts`, names in either spelling.
    Gemini,
}

impl Grammar {
    /// The grammar of an endpoint's requests; none for OpenAI's.
    pub(in crate::wire::messages) fn of(endpoint: Endpoint) -> Option<Self> {
        match endpoint.dialect() {
            Dialect::OpenAi => None,
            Dialect::Anthropic => Some(Self::Anthropic),
            Dialect::Gemini => Some(Self::Gemini),
        }
    }

    /// The member of a message that has its parts.
    pub(super) fn parts(self) -> &'static str {
        match self {
            Self::Anthropic => "content",
            Self::Gemini => "parts",
        }
    }

    /// Writes a text as a part.
    pub(super) fn part(self, text: &str) -> String {
        match self {
            Self::Anthropic => format!(r#"{{"type":"text","text":{}}}"#, quoted(text)),
            Self::Gemini => format!(r#"{{"text":{}}}"#, quoted(text)),
        }
    }

    /// Writes a message.
    pub(super) fn message(self, role: &str, text: &str) -> String {
        match self {
            Self::Anthropic => message(role, &quoted(text)),
            Self::Gemini => {
                let role = if role == "assistant" { "model" } else { role };
                format!(r#"{{"role":{},"parts":[{}]}}"#, quoted(role), self.part(text))
            }
        }
    }

    /// Whether a part is text that is said, and not only thought.
    pub(super) fn is_text(self, part: &str) -> bool {
        has_text(part) && !(self == Self::Gemini && is_thought(part))
    }

    /// Whether a part is the result of a tool.
    pub(super) fn is_result(self, part: &str) -> bool {
        match self {
            Self::Anthropic => is_type(part, &["tool_result"]),
            Self::Gemini => member(part, &RESPONSE).is_some(),
        }
    }

    /// Whether a part has to stand before the text of its message.
    pub(super) fn is_first(self, part: &str) -> bool {
        self.is_result(part)
            || match self {
                Self::Anthropic => is_type(part, &["thinking", "redacted_thinking"]),
                Self::Gemini => is_thought(part),
            }
    }
}

pub(super) const RESPONSE: [&str; 2] = ["functionResponse", "function_response"];

/// The members of a function's response that hold all of it if they are the only one.
///
/// Source: Google, Gemini API reference, FunctionResponse, `response`; `result` is in its guide to function calling; seen
/// 2026-11.
pub(super) const OUTPUTS: [&str; 3] = ["output", "result", "error"];

/// The text of what a function returned; as JSON if it is more than a text.
pub(super) fn response_text(response: &str) -> String {
    match output(response) {
        Some(output) => text_of(output.json),
        None => response.to_owned(),
    }
}

/// The text that is all of a function's response.
pub(super) fn output(response: &str) -> Option<Member<'_>> {
    let mut count = 0;
    let counted = Scanner::new(response.as_bytes()).members(|scanner, _| {
        count += 1;
        scanner.skip().map(drop)
    });
    counted.ok().filter(|()| count == 1)?;
    member(response, &OUTPUTS).filter(|output| output.json.starts_with('"'))
}

/// A member that was looked for.
pub(super) struct Member<'a> {
    /// Which of the names it has.
    pub(super) name: &'static str,
    pub(super) json: &'a str,
}

/// The last member of an object that has one of these names.
pub(super) fn member<'a>(object: &'a str, names: &[&'static str]) -> Option<Member<'a>> {
    let mut found = None;
    let mut scanner = Scanner::new(object.as_bytes());
    let scanned = scanner.members(|scanner, written: Text<'_>| {
        let value = scanner.skip()?;
        if let Some(name) = names.iter().find(|name| written.is(name)) {
            found = Some(Member { name, json: scanner.slice(value) });
        }
        Ok(())
    });
    scanned.ok().and(found)
}

/// The text of a string, or of an object that has one.
pub(super) fn text_of(json: &str) -> String {
    let mut scanner = Scanner::new(json.as_bytes());
    if json.starts_with('"') {
        return string(json).unwrap_or_default().into_owned();
    }
    part_text(&mut scanner).ok().flatten().unwrap_or_default().into_owned()
}

pub(super) fn string(json: &str) -> Option<Cow<'_, str>> {
    Scanner::new(json.as_bytes()).string().ok().map(|text| text.decode())
}

/// Whether a part is of one of these types.
fn is_type(part: &str, types: &[&str]) -> bool {
    let kind = member(part, &["type"]).and_then(|kind| string(kind.json));
    kind.is_some_and(|kind| types.contains(&&*kind))
}

/// Whether a part of Google's is only thought.
fn is_thought(part: &str) -> bool {
    member(part, &["thought"]).is_some_and(|thought| thought.json == "true")
}
