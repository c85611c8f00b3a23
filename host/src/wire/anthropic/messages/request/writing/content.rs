//! The conversation in this surface's turns: people and models take turns, and results of tools come first.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use xxhash_rust::xxh3::xxh3_64;

use crate::chat::{Content, Field, Message, Part, Role, Signature, Source};
use crate::error::{Error, Result};
use crate::wire::Surface;
use crate::wire::anthropic::cache;
use crate::wire::anthropic::messages::block;
use crate::wire::convert::Terms;
use crate::wire::json::Writer;

/// What stands in for the person where a conversation begins with the model.
const BEGINNING: &str = "(The conversation begins.)";

/// A list that is being written.
#[derive(Debug, Default)]
pub(super) struct Blocks(Vec<u8>);

impl Blocks {
    /// Begins an element, which the caller writes.
    pub(super) fn next(&mut self) -> &mut Vec<u8> {
        if !self.0.is_empty() {
            self.0.push(b',');
        }
        &mut self.0
    }

    /// Whether there is no element yet.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a block of text.
    pub(super) fn text(&mut self, text: &str) {
        let mut writer = block::begin("text", self.next());
        writer.string("text", text);
        writer.finish();
    }

    /// Writes the list.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        out.extend_from_slice(&self.0);
        out.push(b']');
    }

    fn append(&mut self, blocks: &Self) {
        if !blocks.is_empty() {
            self.next().extend_from_slice(&blocks.0);
        }
    }
}

/// One turn: what follows each other of the same side is one.
#[derive(Debug, Default)]
struct Turn {
    is_user: bool,
    results: Blocks,
    said: Blocks,
    /// Of the model's: whether thinking came first.
    begins_with_thinking: bool,
}

/// The turns of a conversation.
#[derive(Debug)]
pub(super) struct Turns {
    /// What rides along is of it.
    surface: Surface,
    turns: Vec<Turn>,
}

impl Turns {
    /// No turns yet, of a request of `surface`.
    pub(super) fn new(surface: Surface) -> Self {
        Self { surface, turns: Vec::new() }
    }

    /// Whether nothing was said.
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Adds a message. Nothing may stand behind the text of a last one of the model's, which is then gone on with.
    ///
    /// # Errors
    /// As [`Terms::cannot`].
    pub(super) fn push(&mut self, message: &Message, is_last: bool, terms: &mut Terms<'_>) -> Result<()> {
        let is_user = message.role != Role::Assistant;
        let surface = self.surface;
        let mut turn = Turn { is_user, ..Turn::default() };
        let last = message.parts.len().checked_sub(1).filter(|_| is_last && !is_user);
        for (at, part) in message.parts.iter().enumerate() {
            match &part.content {
                Content::Text { text, citations } if last == Some(at) => {
                    let content =
                        Content::Text { text: text.trim_end().to_owned(), citations: citations.clone() };
                    write_text(&Part { content, ..part.clone() }, surface, &mut turn.said);
                }
                Content::ToolResult { .. } => write_result(part, surface, &mut turn.results, terms)?,
                content => {
                    let is_first = turn.said.is_empty();
                    write_part(part, surface, &mut turn.said, terms)?;
                    let is_thinking =
                        matches!(content, Content::Thinking { .. } | Content::RedactedThinking(_));
                    turn.begins_with_thinking |= is_first && is_thinking && !turn.said.is_empty();
                }
            }
        }
        if turn.results.is_empty() && turn.said.is_empty() {
            return Ok(());
        }
        match self.turns.last_mut().filter(|last| last.is_user == is_user) {
            Some(last) => {
                last.results.append(&turn.results);
                last.said.append(&turn.said);
            }
            None => self.turns.push(turn),
        }
        Ok(())
    }

    /// Adds a turn of the person's.
    pub(super) fn ask(&mut self, said: Blocks) {
        self.turns.push(Turn { is_user: true, said, ..Turn::default() });
    }

    /// Puts a turn of the person's before the model's, if that is the first.
    pub(super) fn begin_with_user(&mut self) {
        if self.turns.first().is_none_or(|first| !first.is_user) {
            let mut said = Blocks::default();
            said.text(BEGINNING);
            self.turns.insert(0, Turn { is_user: true, said, ..Turn::default() });
        }
    }

    /// Whether the model goes on after results with a turn that it had not begun with thinking, as it must if it is to
    /// think within a budget.
    pub(super) fn continues_without_thinking(&self) -> bool {
        match self.turns.as_slice() {
            [.., assistant, results] => !results.results.is_empty() && !assistant.begins_with_thinking,
            _ => false,
        }
    }

    /// Writes the list of messages.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut messages = Blocks::default();
        for turn in &self.turns {
            let mut writer = Writer::new(messages.next());
            writer.string("role", if turn.is_user { "user" } else { "assistant" });
            let content = writer.member("content");
            content.push(b'[');
            content.extend_from_slice(&turn.results.0);
            if !turn.results.is_empty() && !turn.said.is_empty() {
                content.push(b',');
            }
            content.extend_from_slice(&turn.said.0);
            content.push(b']');
            writer.finish();
        }
        messages.write(out);
    }
}

/// Writes a text; blank ones are refused there and say nothing.
pub(super) fn write_text(part: &Part, surface: Surface, out: &mut Blocks) {
    let (Content::Text { text, .. } | Content::Refusal(text)) = &part.content else { return };
    if text.trim().is_empty() {
        return;
    }
    let mut writer = block::begin("text", out.next());
    writer.string("text", text);
    if let Content::Text { citations, .. } = &part.content {
        let own: Vec<_> = citations.iter().filter_map(block::own_citation).map(|raw| raw.get()).collect();
        if !own.is_empty() {
            writer.raw("citations", &format!("[{}]", own.join(",")));
        }
    }
    finish(part, surface, writer);
}

fn write_part(part: &Part, surface: Surface, out: &mut Blocks, terms: &mut Terms<'_>) -> Result<()> {
    match &part.content {
        Content::Text { .. } | Content::Refusal(_) => write_text(part, surface, out),
        Content::Image { source, detail } => {
            if detail.as_deref().is_some_and(|detail| detail != "auto") {
                terms.cannot(Field::ImageDetail)?;
            }
            write_image(part, source, surface, out, terms)?;
        }
        Content::Audio { .. } => terms.cannot(Field::Audio)?,
        Content::File { source, name } => write_file(part, source, name.as_deref(), surface, out, terms)?,
        Content::Thinking { text, signature } => match own(signature.as_ref()) {
            Some(signature) => block::write_thinking(text, signature, out.next()),
            None => terms.cannot(Field::Thinking)?,
        },
        Content::RedactedThinking(data) => match own(Some(data)) {
            Some(data) => block::write_redacted(data, out.next()),
            None => terms.cannot(Field::Thinking)?,
        },
        Content::ToolCall { id, name, arguments, .. } => {
            let mut writer = block::begin("tool_use", out.next());
            writer.string("id", &tool_id(id));
            writer.string("name", name);
            block::write_input(arguments, writer.member("input"));
            finish(part, surface, writer);
        }
        Content::Other(raw) if surface == Surface::Messages => {
            out.next().extend_from_slice(raw.get().as_bytes());
        }
        Content::Other(raw) => terms.unknown_part(raw)?,
        Content::ToolResult { .. } => {
            return Err(Error::invalid("messages", "a result holds another result"));
        }
    }
    Ok(())
}

fn own(signature: Option<&Signature>) -> Option<&str> {
    let own = signature.filter(|signature| signature.surface == Surface::Messages);
    own.map(|signature| signature.value.as_str()).filter(|value| !value.is_empty())
}

fn write_result(part: &Part, surface: Surface, out: &mut Blocks, terms: &mut Terms<'_>) -> Result<()> {
    let Content::ToolResult { id, content, is_error, .. } = &part.content else { return Ok(()) };
    let mut blocks = Blocks::default();
    for part in content {
        write_part(part, surface, &mut blocks, terms)?;
    }
    let mut writer = block::begin("tool_result", out.next());
    writer.string("tool_use_id", &tool_id(id));
    if !blocks.is_empty() {
        blocks.write(writer.member("content"));
    }
    if *is_error {
        writer.plain("is_error", true);
    }
    finish(part, surface, writer);
    Ok(())
}

/// An id of letters that are allowed in ids; another one becomes the same one for a call and its result.
///
/// Source: Anthropic's refusal of others, "String should match pattern '^[a-zA-Z0-9_-]+$'", seen 2026-11.
fn tool_id(id: &str) -> std::borrow::Cow<'_, str> {
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    if !id.is_empty() && id.chars().all(is_allowed) {
        return id.into();
    }
    let letters = id.chars().map(|letter| if is_allowed(letter) { letter } else { '_' });
    // Two ids that differ in other letters only must not become the same.
    format!("{}_{:016x}", letters.collect::<String>(), xxh3_64(id.as_bytes())).into()
}

fn write_image(
    part: &Part,
    source: &Source,
    surface: Surface,
    out: &mut Blocks,
    terms: &mut Terms<'_>,
) -> Result<()> {
    match source {
        Source::Id(_) if surface != Surface::Messages => return terms.cannot(Field::FileId),
        Source::Url { url, .. } if !is_web(url) => return terms.cannot(Field::FileUrl),
        Source::Text(_) => return Err(Error::invalid("messages", "a picture cannot be plain text")),
        Source::Id(_) | Source::Url { .. } | Source::Data { .. } => {}
    }
    let mut writer = block::begin("image", out.next());
    write_source(source, &mut writer);
    finish(part, surface, writer);
    Ok(())
}

fn is_web(url: &str) -> bool {
    ["https://", "http://"]
        .iter()
        .any(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

fn write_source(source: &Source, writer: &mut Writer<&mut Vec<u8>>) {
    let out = writer.member("source");
    match source {
        Source::Url { url, .. } => {
            let mut source = block::begin("url", out);
            source.string("url", url);
            source.finish();
        }
        Source::Data { media_type, base64 } => {
            let mut source = block::begin("base64", out);
            let media_type =
                if media_type.eq_ignore_ascii_case("image/jpg") { "image/jpeg" } else { media_type };
            source.string("media_type", media_type);
            source.string("data", base64);
            source.finish();
        }
        Source::Text(text) => {
            let mut source = block::begin("text", out);
            source.string("media_type", "text/plain");
            source.string("data", text);
            source.finish();
        }
        Source::Id(id) => {
            let mut source = block::begin("file", out);
            source.string("file_id", id);
            source.finish();
        }
    }
}

fn write_file(
    part: &Part,
    source: &Source,
    name: Option<&str>,
    surface: Surface,
    out: &mut Blocks,
    terms: &mut Terms<'_>,
) -> Result<()> {
    let is_picture = |kind: &str| kind.starts_with("image/");
    let text;
    let source = match source {
        Source::Url { media_type: Some(kind), .. } | Source::Data { media_type: kind, .. }
            if is_picture(kind) =>
        {
            return write_image(part, source, surface, out, terms);
        }
        Source::Id(_) if surface != Surface::Messages => return terms.cannot(Field::FileId),
        Source::Url { url, .. } if !is_web(url) => return terms.cannot(Field::FileUrl),
        Source::Data { media_type, base64 } if media_type != "application/pdf" => {
            let Some(plain) = plain_text(media_type, base64) else { return terms.cannot(Field::File) };
            text = Source::Text(plain);
            &text
        }
        // What has no type is taken for what is sent by address most: a PDF, the one document that is fetched.
        Source::Url { media_type: Some(kind), .. } if kind != "application/pdf" => {
            return terms.cannot(Field::File);
        }
        Source::Url { .. } | Source::Data { .. } | Source::Text(_) | Source::Id(_) => source,
    };
    let mut writer = block::begin("document", out.next());
    write_source(source, &mut writer);
    if let Some(name) = name {
        writer.string("title", name);
    }
    finish(part, surface, writer);
    Ok(())
}

/// The text of a document that is one, whatever kind of text.
fn plain_text(media_type: &str, base64: &str) -> Option<String> {
    let kind = media_type.split(';').next().unwrap_or_default().trim();
    let is_text = kind.starts_with("text/")
        || matches!(
            kind,
            "application/json" | "application/xml" | "application/yaml" | "application/javascript"
        );
    String::from_utf8(STANDARD.decode(base64).ok()?).ok().filter(|_| is_text)
}

fn finish(part: &Part, surface: Surface, mut writer: Writer<&mut Vec<u8>>) {
    cache::write(part.cache.as_ref(), &mut writer);
    if surface == Surface::Messages {
        writer.extra(&part.extra);
    }
    writer.finish();
}
