//! Content blocks, as they stand in requests and in answers.

use serde_json::value::RawValue;

use crate::chat::{Citation, Content, Part, Raw, Signature, Source};
use crate::error::{Error, Result};
use crate::wire::Surface;
use crate::wire::anthropic::object::{Members, missing, within, wrong};
use crate::wire::json::Writer;

/// The type of a citation of a page in the network.
const WEB_CITATION: &str = "web_search_result_location";

/// Reads a list of blocks, or the text that stands for a list of one.
///
/// # Errors
/// A block is not of its type's shape; the field is named from `name`.
pub(super) fn read_content(name: &'static str, value: &RawValue) -> Result<Vec<Part>> {
    read_list(name, value, read)
}

fn read_list(
    name: &'static str,
    value: &RawValue,
    read: impl Fn(&RawValue) -> Result<Part>,
) -> Result<Vec<Part>> {
    if value.get().starts_with('"') {
        let text: String =
            serde_json::from_str(value.get()).map_err(|_| wrong(name, "a string of Unicode"))?;
        return Ok(vec![Part::text(text)]);
    }
    let blocks: Vec<&RawValue> =
        serde_json::from_str(value.get()).map_err(|_| wrong(name, "a string or a list of content blocks"))?;
    let parts = blocks.into_iter().enumerate();
    parts.map(|(at, block)| read(block).map_err(|error| within(format!("{name}[{at}]"), error))).collect()
}

/// Reads a block. One of a type that the hub has no word for rides along.
///
/// # Errors
/// It is not of its type's shape.
pub(super) fn read(block: &RawValue) -> Result<Part> {
    let (kind, mut members) = open(block)?;
    if kind != "tool_result" {
        return read_plain(block, &kind, members);
    }
    let content = tool_result(&mut members)?;
    let cache = members.cache_control()?;
    Ok(Part { content, cache, extra: members.rest() })
}

/// Reads a block of a result, which cannot be a result: nothing here goes deeper than this.
fn read_inner(block: &RawValue) -> Result<Part> {
    let (kind, members) = open(block)?;
    if kind == "tool_result" {
        return Err(Error::invalid("type", "a tool's result cannot hold another one"));
    }
    read_plain(block, &kind, members)
}

fn open(block: &RawValue) -> Result<(String, Members<'_>)> {
    let Some(mut members) = Members::read(block.get()) else {
        return Err(Error::invalid("", "a content block must be an object with a `type`"));
    };
    Ok((members.required_string("type")?, members))
}

fn read_plain(block: &RawValue, kind: &str, mut members: Members<'_>) -> Result<Part> {
    let content = match kind {
        "text" => text(&mut members)?,
        "image" => Content::Image { source: image_source(&mut members)?, detail: None },
        "document" => match document_source(&mut members)? {
            Some(source) => Content::File { source, name: members.string("title")? },
            None => return Ok(Part::new(Content::Other(Raw::of(&block)))),
        },
        "thinking" => {
            let text = members.string("thinking")?.unwrap_or_default();
            let signature = members.string("signature")?.filter(|signature| !signature.is_empty());
            let signature = signature.map(|signature| Signature::read_from(Surface::Messages, &signature));
            Content::Thinking { text, signature }
        }
        "redacted_thinking" => {
            let data = members.required_string("data")?;
            Content::RedactedThinking(Signature::read_from(Surface::Messages, &data))
        }
        "tool_use" => Content::ToolCall {
            id: members.required_string("id")?,
            name: members.required_string("name")?,
            arguments: input(&mut members)?,
            signature: None,
        },
        _ => return Ok(Part::new(Content::Other(Raw::of(&block)))),
    };
    let cache = members.cache_control()?;
    Ok(Part { content, cache, extra: members.rest() })
}

/// What a block says that holds others, for surfaces that have no such block: a document made of blocks, and what a search
/// of the client's has found. None for other blocks.
///
/// # Errors
/// A block inside is not of its type's shape.
pub fn plain(block: &Raw) -> Result<Option<Vec<Part>>> {
    let Some(mut members) = Members::read(block.get()) else { return Ok(None) };
    let title = members.string("title")?;
    let (source, content) = match members.string("type")?.as_deref() {
        Some("document") => (None, members.object("source")?.and_then(|mut source| source.take("content"))),
        Some("search_result") => (members.string("source")?, members.take("content")),
        _ => return Ok(None),
    };
    let head: Vec<_> = title.into_iter().chain(source).collect();
    let mut parts = Vec::new();
    if !head.is_empty() {
        parts.push(Part::text(head.join("\n")));
    }
    if let Some(content) = content {
        parts.append(&mut read_list("content", content, read_inner)?);
    }
    Ok(Some(parts))
}

fn text(members: &mut Members<'_>) -> Result<Content> {
    let text = members.required_string("text")?;
    // A document's `citations` is an object, a text's a list; what is neither says nothing.
    let citations = members.take("citations").and_then(|list| serde_json::from_str(list.get()).ok());
    let citations: Vec<&RawValue> = citations.unwrap_or_default();
    Ok(Content::Text { text, citations: citations.into_iter().filter_map(read_citation).collect() })
}

fn input(members: &mut Members<'_>) -> Result<String> {
    match members.take("input") {
        None => Ok("{}".to_owned()),
        Some(input) if input.get().starts_with('{') => Ok(input.get().to_owned()),
        Some(_) => Err(wrong("input", "an object")),
    }
}

fn tool_result(members: &mut Members<'_>) -> Result<Content> {
    let id = members.required_string("tool_use_id")?;
    let is_error = members.boolean("is_error")?.unwrap_or_default();
    let content = match members.take("content") {
        None => Vec::new(),
        Some(content) => read_list("content", content, read_inner)?,
    };
    Ok(Content::ToolResult { id, name: None, content, is_error })
}

fn image_source(members: &mut Members<'_>) -> Result<Source> {
    let mut source = members.object("source")?.ok_or_else(|| missing("source"))?;
    let read = source.required_string("type").and_then(|kind| match kind.as_str() {
        "base64" => data(&mut source).map(Some),
        "url" => url(&mut source).map(Some),
        "file" => source.required_string("file_id").map(|id| Some(Source::Id(id))),
        _ => Err(wrong("type", "`base64`, `url` or `file`")),
    });
    read.map_err(|error| within("source", error))?.ok_or_else(|| missing("source"))
}

/// Reads where a document is; none if it is made of blocks of its own.
fn document_source(members: &mut Members<'_>) -> Result<Option<Source>> {
    let mut source = members.object("source")?.ok_or_else(|| missing("source"))?;
    let read = source.required_string("type").and_then(|kind| match kind.as_str() {
        "base64" => data(&mut source).map(Some),
        "url" => url(&mut source).map(Some),
        "file" => source.required_string("file_id").map(|id| Some(Source::Id(id))),
        "text" => source.required_string("data").map(|text| Some(Source::Text(text))),
        "content" => Ok(None),
        _ => Err(wrong("type", "`base64`, `url`, `file`, `text` or `content`")),
    });
    read.map_err(|error| within("source", error))
}

fn data(source: &mut Members<'_>) -> Result<Source> {
    let media_type = source.required_string("media_type")?;
    Ok(Source::Data { media_type, base64: source.required_string("data")? })
}

fn url(source: &mut Members<'_>) -> Result<Source> {
    let url = source.required_string("url")?;
    let is_web = ["https://", "http://"]
        .iter()
        .any(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    if !is_web {
        let message =
            "`url` must begin with `https://`; give the bytes themselves as a source of type `base64`";
        return Err(Error::invalid("url", message));
    }
    Ok(Source::Url { url, media_type: None })
}

/// Reads a citation; none if it is no object.
pub(super) fn read_citation(citation: &RawValue) -> Option<Citation> {
    let mut members = Members::read(citation.get())?;
    let mut text = |name| members.string(name).ok().flatten();
    let url = text("url").or_else(|| text("source").filter(|source| source.starts_with("http")));
    let title = text("title").or_else(|| text("document_title"));
    let quoted = text("cited_text");
    // Written by [`write_citation`] for what another vendor found: no upstream of this surface would take it back.
    let is_foreign = text("type").as_deref() == Some(WEB_CITATION)
        && text("encrypted_index").is_none_or(|index| index.is_empty());
    let original = (!is_foreign).then(|| (Surface::Messages, Raw::of(&citation)));
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
    } else if arguments.starts_with('{') && serde_json::from_str::<&RawValue>(arguments).is_ok() {
        out.extend_from_slice(arguments.as_bytes());
    } else {
        let mut writer = Writer::new(out);
        writer.string("arguments", arguments);
        writer.finish();
    }
}
