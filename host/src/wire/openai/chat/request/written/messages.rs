//! The messages of a request, written for an upstream.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_128;

use crate::chat::{Content, Extra, Field, Message, Part, Role, Source};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::convert::Terms;
use crate::wire::json::{Writer, list, object, quote};
use crate::wire::openai::chat::part;

/// How long the id of a call may be.
///
/// Source: OpenAI's API, "string too long. Expected a string with maximum length 40", seen 2026-11.
const CALL_ID_BYTES_MAX: usize = 40;

/// The content of a result that is a picture or a document.
const SHOWN_BELOW: &str = "The result follows in the next message of the user's.";

/// The messages written so far.
pub(super) struct Messages {
    surface: Surface,
    out: Vec<u8>,
    /// Pictures and documents of results, each as a part, until all results that came together are written.
    media: Vec<Vec<u8>>,
}

impl Messages {
    pub(super) fn new(surface: Surface) -> Self {
        Self { surface, out: b"[".to_vec(), media: Vec::new() }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.out.push(b']');
        self.out
    }

    pub(super) fn push(&mut self, message: &Message, terms: &mut Terms<'_>) -> Result<()> {
        if message.role != Role::Tool {
            self.flush();
        }
        match message.role {
            Role::System => self.said("system", message, terms),
            Role::Developer => {
                terms.cannot(Field::Developer)?;
                self.said("system", message, terms)
            }
            Role::User => self.said("user", message, terms),
            Role::Assistant => self.answered(message, terms),
            Role::Tool => message.parts.iter().try_for_each(|part| self.returned(part, terms)),
        }
    }

    fn message(&mut self, role: &str, write: impl FnOnce(&mut Writer<&mut Vec<u8>>)) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        object(&mut self.out, |members| {
            members.string("role", role);
            write(members);
        });
    }

    fn said(&mut self, role: &str, message: &Message, terms: &mut Terms<'_>) -> Result<()> {
        let content = self.content(&message.parts, terms)?;
        let extra = self.extra(&message.extra, terms)?;
        if content.is_empty() && !message.parts.is_empty() {
            // Many servers refuse a turn without content, and models answer to it.
            return Ok(());
        }
        self.message(role, |members| {
            content.write(members.member("content"));
            members.string_if("name", message.name.as_deref());
            members.extra(&extra);
        });
        Ok(())
    }

    fn answered(&mut self, message: &Message, terms: &mut Terms<'_>) -> Result<()> {
        let mut said = Vec::new();
        let (mut blocks, mut calls) = (Vec::new(), Vec::new());
        let mut refusal: Option<String> = None;
        for part in &message.parts {
            match &part.content {
                Content::ToolCall { id, name, arguments, signature } => {
                    // An upstream of this kind has signed it only if it said so itself.
                    let own = signature.as_ref().filter(|signature| signature.surface == Surface::Chat);
                    let own = own.map(|signature| &*signature.value);
                    let mut call = Vec::new();
                    part::write_call(id, name, arguments, own, None, &mut call);
                    calls.push(call);
                }
                Content::Thinking { signature: Some(signature), .. }
                | Content::RedactedThinking(signature)
                    if signature.surface == Surface::Chat =>
                {
                    blocks.push(part::thinking_block(&part.content));
                }
                Content::Thinking { .. } | Content::RedactedThinking(_) => terms.cannot(Field::Thinking)?,
                Content::Refusal(text) => refusal.get_or_insert_default().push_str(text),
                Content::Other(json) if self.surface == Surface::Chat && is_call(json.get()) => {
                    calls.push(json.get().as_bytes().to_vec());
                }
                Content::Text { .. } | Content::Other(_) => said.push(part),
                // No server takes these from the model; they are its own, and it has seen them.
                Content::Image { .. }
                | Content::Audio { .. }
                | Content::File { .. }
                | Content::ToolResult { .. } => terms.cannot(Field::Unknown)?,
            }
        }
        let content = self.content(said, terms)?;
        let extra = self.extra(&message.extra, terms)?;
        let says_nothing = content.is_empty() && refusal.is_none() && calls.is_empty() && blocks.is_empty();
        if says_nothing && !message.parts.is_empty() {
            return Ok(());
        }
        self.message("assistant", |members| {
            if content.is_empty() && (!calls.is_empty() || refusal.is_some()) {
                members.raw("content", "null");
            } else {
                content.write(members.member("content"));
            }
            members.string_if("refusal", refusal.as_deref());
            members.string_if("name", message.name.as_deref());
            if !blocks.is_empty() {
                members.list("thinking_blocks", blocks, |block, out| out.extend_from_slice(&block));
            }
            if !calls.is_empty() {
                members.list("tool_calls", calls, |call, out| out.extend_from_slice(&call));
            }
            members.extra(&extra);
        });
        Ok(())
    }

    fn returned(&mut self, part: &Part, terms: &mut Terms<'_>) -> Result<()> {
        let Content::ToolResult { id, name, content, is_error } = &part.content else {
            return terms.cannot(Field::Unknown);
        };
        if *is_error {
            terms.cannot(Field::ToolResultError)?;
        }
        if part.cache.is_some() {
            terms.cannot(Field::CacheControl)?;
        }
        let (media, said): (Vec<&Part>, Vec<&Part>) = content.iter().partition(|part| {
            matches!(part.content, Content::Image { .. } | Content::Audio { .. } | Content::File { .. })
        });
        if !media.is_empty() {
            terms.cannot(Field::ToolResultMedia)?;
            let shown = self.content(media, terms)?;
            self.media.extend(shown.0);
        }
        let mut said = self.content(said, terms)?;
        if said.is_empty() && !self.media.is_empty() {
            said = Written(vec![part::text(SHOWN_BELOW)]);
        }
        let (extra, surface) = (self.extra(&part.extra, terms)?, self.surface);
        self.message("tool", |members| {
            members.string("tool_call_id", &call_id(id));
            // OpenAI itself has no such member; some servers of its dialect do, and a client that knows one sends it.
            members.string_if("name", name.as_deref().filter(|_| surface == Surface::Chat));
            said.write(members.member("content"));
            members.extra(&extra);
        });
        Ok(())
    }

    /// Shows the pictures and documents of results, which tool messages cannot hold, behind them.
    fn flush(&mut self) {
        let media = std::mem::take(&mut self.media);
        if !media.is_empty() {
            self.message("user", |members| Written(media).write(members.member("content")));
        }
    }

    fn extra(&self, extra: &Extra, terms: &mut Terms<'_>) -> Result<Extra> {
        if self.surface == Surface::Chat || extra.0.is_empty() {
            return Ok(extra.clone());
        }
        terms.unknown_extra(extra)?;
        Ok(Extra::default())
    }

    fn content<'m>(
        &self,
        parts: impl IntoIterator<Item = &'m Part>,
        terms: &mut Terms<'_>,
    ) -> Result<Written> {
        let mut written = Vec::new();
        for part in parts {
            if part.cache.is_some() {
                terms.cannot(Field::CacheControl)?;
            }
            let extra = self.extra(&part.extra, terms)?;
            match self.part(&part.content, terms)? {
                Some(mut json) if !extra.0.is_empty() => {
                    json.pop();
                    for (name, value) in &extra.0 {
                        json.push(b',');
                        quote(name, &mut json);
                        json.push(b':');
                        json.extend_from_slice(value.get().as_bytes());
                    }
                    json.push(b'}');
                    written.push(json);
                }
                json => written.extend(json),
            }
        }
        Ok(Written(written))
    }

    /// A part of a message; none if it is left out.
    fn part(&self, content: &Content, terms: &mut Terms<'_>) -> Result<Option<Vec<u8>>> {
        let source = match content {
            Content::Text { text, .. } => return Ok(Some(part::text(text))),
            Content::Refusal(text) => return Ok(Some(part::text(text))),
            Content::Image { source, .. } | Content::Audio { source } | Content::File { source, .. } => {
                source
            }
            Content::Other(json) if self.surface == Surface::Chat => {
                return Ok(Some(json.get().as_bytes().to_vec()));
            }
            Content::Thinking { .. } | Content::RedactedThinking(_) => {
                return terms.cannot(Field::Thinking).map(|()| None);
            }
            Content::Other(json) => return terms.unknown_part(json).map(|()| None),
            Content::ToolCall { .. } | Content::ToolResult { .. } => {
                return terms.cannot(Field::Unknown).map(|()| None);
            }
        };
        if let Source::Text(text) = source {
            terms.cannot(Field::File)?;
            return Ok(Some(part::text(text)));
        }
        let is_id = matches!(source, Source::Id(_));
        let is_of_openai = matches!(self.surface, Surface::Chat | Surface::Responses);
        match content {
            // Uploads are known to their vendor alone, and pictures by id to the Responses API.
            Content::Image { .. } | Content::Audio { .. } if is_id => terms.cannot(Field::FileId)?,
            Content::File { .. } if is_id && !is_of_openai => terms.cannot(Field::FileId)?,
            Content::Audio { source: Source::Url { .. } } => terms.cannot(Field::Audio)?,
            Content::File { source: Source::Url { media_type, .. }, .. }
                if !part::is_video(media_type.as_deref()) =>
            {
                terms.cannot(Field::FileUrl)?;
            }
            _ => {}
        }
        Ok(part::media(content))
    }
}

/// The parts of a message, as they are written.
struct Written(Vec<Vec<u8>>);

impl Written {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes one plain text as a string, as every server takes it, and everything else as a list.
    fn write(&self, out: &mut Vec<u8>) {
        match &self.0[..] {
            [] => quote("", out),
            [only] => match part::only_text(only) {
                Some(text) => out.extend_from_slice(text),
                None => list(out, &self.0, |part, out| out.extend_from_slice(part)),
            },
            parts => list(out, parts, |part, out| out.extend_from_slice(part)),
        }
    }
}

/// Whether what rode along is a call, of a custom tool.
fn is_call(json: &str) -> bool {
    json.contains("\"custom\"")
}

/// The id of a call as OpenAI takes it: a longer one becomes one that depends on it alone, so that calls and results still
/// find each other.
pub(in crate::wire::openai::chat) fn call_id(id: &str) -> Cow<'_, str> {
    if id.len() <= CALL_ID_BYTES_MAX {
        return Cow::Borrowed(id);
    }
    Cow::Owned(format!("call_{:032x}", xxh3_128(id.as_bytes())))
}
