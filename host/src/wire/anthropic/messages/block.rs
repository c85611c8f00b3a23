//! Content blocks, as they stand in requests and in answers.

use std::borrow::Cow;

use crate::chat::{Citation, Content, Part, Raw, Signature, Source};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::anthropic::cache;
use crate::wire::json::{Kind, Members, Object, Value, Writer};

/// The type of a citation of a page in the network.
const WEB_CITATION: &str = "web_search_result_location";

/// Reads a list of blocks, or the text that stands for a list of one.
///
/// # Errors
/// A block is not of its type's shape.
pub(super) fn read_content(value: &Value<'_, '_>) -> Result<Vec<Part>> {
    read_list(value, read)
}

fn read_list(value: &Value<'_, '_>, read: impl Fn(&Value<'_, '_>) -> Result<Part>) -> Result<Vec<Part>> {
    match value.kind() {
        Kind::String => Ok(vec![Part::text(value.text()?)]),
        Kind::Array => value.each(read),
        _ => Err(value.error("must be a string or a list of content blocks")),
    }
}

/// Reads a block. One of a type that the hub has no word for rides along.
///
/// # Errors
/// It is not of its type's shape.
pub(super) fn read(block: &Value<'_, '_>) -> Result<Part> {
    let (kind, members) = open(block)?;
    if kind != "tool_result" {
        return read_plain(block, &kind, &members);
    }
    let content = tool_result(&members)?;
    let cache = cache::read(&members)?;
    Ok(Part { content, cache, extra: members.rest(&[]) })
}

/// Reads a block of a result, which cannot be a result: nothing here goes deeper than this.
fn read_inner(block: &Value<'_, '_>) -> Result<Part> {
    let (kind, members) = open(block)?;
    if kind == "tool_result" {
        return Err(members.invalid_at("type", "a tool's result cannot hold another one"));
    }
    read_plain(block, &kind, &members)
}

fn open<'a, 'p>(block: &Value<'a, 'p>) -> Result<(Cow<'a, str>, Object<'a, 'p>)> {
    if block.kind() != Kind::Object {
        return Err(block.invalid("a content block must be an object with a `type`"));
    }
    let members = block.object()?;
    let kind = members.need("type")?.text()?;
    Ok((kind, members))
}

fn read_plain(block: &Value<'_, '_>, kind: &str, members: &Object<'_, '_>) -> Result<Part> {
    let content = match kind {
        "text" => text(members)?,
        "image" => Content::Image { source: image_source(members)?, detail: None },
        "document" => match document_source(members)? {
            Some(source) => Content::File { source, name: members.string("title")? },
            None => return Ok(Part::new(Content::Other(block.raw()?))),
        },
        "thinking" => {
            let text = members.string("thinking")?.unwrap_or_default();
            let signature = members.string("signature")?.filter(|signature| !signature.is_empty());
            let signature = signature.map(|signature| Signature::read_from(Surface::Messages, &signature));
            Content::Thinking { text, signature }
        }
        "redacted_thinking" => {
            let data = members.need("data")?.string()?;
            Content::RedactedThinking(Signature::read_from(Surface::Messages, &data))
        }
        "tool_use" => Content::ToolCall {
            id: members.need("id")?.string()?,
            name: members.need("name")?.string()?,
            arguments: input(members)?,
            signature: None,
        },
        _ => return Ok(Part::new(Content::Other(block.raw()?))),
    };
    let cache = cache::read(members)?;
    Ok(Part { content, cache, extra: members.rest(&[]) })
}

/// What a block says that holds others, for surfaces that have no such block: a document made of blocks, and what a search
/// of the client's has found. None for other blocks.
///
/// # Errors
/// A block inside is not of its type's shape.
pub fn plain(block: &Raw) -> Result<Option<Vec<Part>>> {
    let block = Value::of(block.get());
    if block.kind() != Kind::Object {
        return Ok(None);
    }
    let members = block.object()?;
    let title = members.string("title")?;
    let inner = members.object("source").unwrap_or_default();
    let (source, content) = match members.string("type")?.as_deref() {
        Some("document") => (None, inner.as_ref().and_then(|source| source.get("content"))),
        Some("search_result") => (members.string("source")?, members.get("content")),
        _ => return Ok(None),
    };
    let head: Vec<_> = title.into_iter().chain(source).collect();
    let mut parts = Vec::new();
    if !head.is_empty() {
        parts.push(Part::text(head.join("\n")));
    }
    if let Some(content) = content {
        parts.append(&mut read_list(&content, read_inner)?);
    }
    Ok(Some(parts))
}

fn text(members: &Object<'_, '_>) -> Result<Content> {
    let text = members.need("text")?.string()?;
    // A document's `citations` is an object, a text's a list; what is neither says nothing.
    let citations = members.list("citations").unwrap_or_default().into_iter();
    let citations = citations.filter_map(|citation| read_citation(citation.json())).collect();
    Ok(Content::Text { text, citations })
}

fn input(members: &Object<'_, '_>) -> Result<String> {
    match members.get("input") {
        None => Ok("{}".to_owned()),
        Some(input) if input.kind() == Kind::Object => Ok(input.json().to_owned()),
        Some(input) => Err(input.error("must be an object")),
    }
}

fn tool_result(members: &Object<'_, '_>) -> Result<Content> {
    let id = members.need("tool_use_id")?.string()?;
    let is_error = members.boolean("is_error")?.unwrap_or_default();
    let content = match members.get("content") {
        None => Vec::new(),
        Some(content) => read_list(&content, read_inner)?,
    };
    Ok(Content::ToolResult { id, name: None, content, is_error })
}

fn image_source(members: &Object<'_, '_>) -> Result<Source> {
    let source = members.need("source")?.object()?;
    match &*source.need("type")?.text()? {
        "base64" => data(&source),
        "url" => url(&source),
        "file" => Ok(Source::Id(source.need("file_id")?.string()?)),
        _ => Err(source.error_at("type", "must be `base64`, `url` or `file`")),
    }
}

/// Reads where a document is; none if it is made of blocks of its own.
fn document_source(members: &Object<'_, '_>) -> Result<Option<Source>> {
    let source = members.need("source")?.object()?;
    match &*source.need("type")?.text()? {
        "base64" => data(&source).map(Some),
        "url" => url(&source).map(Some),
        "file" => Ok(Some(Source::Id(source.need("file_id")?.string()?))),
        "text" => Ok(Some(Source::Text(source.need("data")?.string()?))),
        "content" => Ok(None),
        _ => Err(source.error_at("type", "must be `base64`, `url`, `file`, `text` or `content`")),
    }
}

fn data(source: &Object<'_, '_>) -> Result<Source> {
    let media_type = source.need("media_type")?.string()?;
    Ok(Source::Data { media_type, base64: source.need("data")?.string()? })
}

fn url(source: &Object<'_, '_>) -> Result<Source> {
    let url = source.need("url")?.string()?;
    let is_web = ["https://", "http://"]
        .iter()
        .any(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    if !is_web {
        let message = "must begin with `https://`; give the bytes themselves as a source of type `base64`";
        return Err(source.error_at("url", message));
    }
    Ok(Source::Url { url, media_type: None })
}

/// Reads a citation; none if it is no object.
pub(super) fn read_citation(citation: &str) -> Option<Citation> {
    let members = Members::of(citation)?;
    let text = |name| members.string(name);
    let url = text("url").or_else(|| text("source").filter(|source| source.starts_with("http")));
    let title = text("title").or_else(|| text("document_title"));
    let quoted = text("cited_text");
    // Written by [`write_citation`] for what another vendor found: no upstream of this surface would take it back.
    let is_foreign = text("type").as_deref() == Some(WEB_CITATION)
        && text("encrypted_index").is_none_or(|index| index.is_empty());
    let original = Raw::new(citation).filter(|_| !is_foreign).map(|raw| (Surface::Messages, raw));
    Some(Citation { url, title, quoted, range: None, original })
}

/// A citation as JSON; none if this surface has no words for it.
pub(super) fn write_citation(citation: &Citation) -> Option<Vec<u8>> {
    if let Some(own) = own_citation(citation) {
        return Some(own.get().as_bytes().to_vec());
    }
    let url = citation.url.as_ref()?;
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.string("type", WEB_CITATION);
    writer.string("cited_text", citation.quoted.as_deref().unwrap_or_default());
    writer.string("encrypted_index", "");
    // Some clients do not read a citation without a title.
    writer.string("title", citation.title.as_ref().unwrap_or(url));
    writer.string("url", url);
    writer.finish();
    Some(out)
}

/// A citation as this surface wrote it; none if another one did.
pub(super) fn own_citation(citation: &Citation) -> Option<&Raw> {
    let (surface, raw) = citation.original.as_ref()?;
    (*surface == Surface::Messages).then_some(raw)
}

/// Begins a block of a type.
pub(super) fn begin<'a>(kind: &str, out: &'a mut Vec<u8>) -> Writer<&'a mut Vec<u8>> {
    let mut writer = Writer::new(out);
    writer.string("type", kind);
    writer
}

/// Writes a thinking block.
pub(super) fn write_thinking(text: &str, signature: &str, out: &mut Vec<u8>) {
    let mut writer = begin("thinking", out);
    writer.string("thinking", text);
    writer.string("signature", signature);
    writer.finish();
}

/// Writes a thinking block that nobody but the vendor can read.
pub(super) fn write_redacted(data: &str, out: &mut Vec<u8>) {
    let mut writer = begin("redacted_thinking", out);
    writer.string("data", data);
    writer.finish();
}

/// A call's arguments as the object that this surface has for them. Models do break off in the middle of one; what they
/// said is kept then, as the text it is.
pub(super) fn write_input(arguments: &str, out: &mut Vec<u8>) {
    let arguments = arguments.trim();
    if arguments.is_empty() {
        out.extend_from_slice(b"{}");
    } else if arguments.starts_with('{') && Members::of(arguments).is_some() {
        out.extend_from_slice(arguments.as_bytes());
    } else {
        let mut writer = Writer::new(out);
        writer.string("arguments", arguments);
        writer.finish();
    }
}
