//! The items of a request's `input`, read into the turns of a conversation.
//!
//! A turn of the model is several items here: what it thought, what it said and each of its calls. They become one message
//! again, and so do the results that follow one another.

use std::collections::HashSet;

use crate::chat::{CacheControl, Content, Message, Part, Role, Source};
use crate::error::Result;
use crate::wire::json::{Kind, Object, Value};
use crate::wire::openai::responses::output::REASONING_PREFIX;
use crate::wire::openai::responses::parts::{attach, citations, thinking};

/// What every item that was in an answer has and what means nothing to anybody else.
const OF_ANSWERS: [&str; 3] = ["id", "status", "phase"];

/// Items without which a conversation goes on as well: the answer that they led to follows them.
const NOTES: [&str; 5] = [
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_list_tools",
];

/// Reads the items of `input`, which is an array, and appends them to a conversation.
///
/// # Errors
/// As [`decode_request`](super::decode_request).
pub(super) fn read(input: &Value<'_, '_>, messages: &mut Vec<Message>) -> Result<()> {
    let mut reader = Reader { messages, calls: HashSet::new() };
    input.each(|item| reader.item(item)).map(drop)
}

struct Reader<'m> {
    messages: &'m mut Vec<Message>,
    /// The ids of the calls so far.
    calls: HashSet<String>,
}

impl Reader<'_> {
    fn item(&mut self, item: &Value<'_, '_>) -> Result<()> {
        let fields = &item.object()?;
        let kind = fields.string("type")?;
        match kind.as_deref() {
            Some("message") => self.message(fields),
            None if fields.has("role") => self.message(fields),
            Some("function_call") => self.call(fields),
            Some("function_call_output") => self.result(fields),
            Some("reasoning") => self.reasoning(fields),
            Some("item_reference") => reference(fields),
            None if fields.has("id") => reference(fields),
            None => Err(fields.error_at("type", "is missing")),
            // What the vendor did on the way to its answer; the answer was made with it.
            Some(kind) if NOTES.contains(&kind) => {
                self.push(Role::Assistant, Part::new(Content::Other(item.raw()?)));
                Ok(())
            }
            Some(kind) => {
                let what = format!("is `{kind}`, which only OpenAI has; the upstream knows functions alone");
                Err(fields.error_at("type", &what))
            }
        }
    }

    fn message(&mut self, fields: &Object<'_, '_>) -> Result<()> {
        let parts = content(&fields.need("content")?)?;
        let role = match &*fields.need("role")?.string()? {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => return Err(fields.error_at("role", "must be `system`, `developer`, `user` or `assistant`")),
        };
        let extra = fields.rest(&OF_ANSWERS);
        match self.messages.last_mut() {
            Some(last) if role == Role::Assistant && last.role == role => {
                last.parts.extend(parts);
                last.extra.0.extend(extra.0);
            }
            _ => self.messages.push(Message { extra, ..Message::new(role, parts) }),
        }
        Ok(())
    }

    fn call(&mut self, fields: &Object<'_, '_>) -> Result<()> {
        let id = fields.need("call_id")?.string()?;
        let name = fields.need("name")?.string()?;
        let arguments = fields.string("arguments")?.filter(|json| !json.trim().is_empty());
        let arguments = arguments.unwrap_or_else(|| "{}".to_owned());
        if serde_json::from_str::<serde::de::IgnoredAny>(&arguments).is_err() {
            return Err(fields.error_at("arguments", "must be JSON text"));
        }
        self.calls.insert(id.clone());
        let mut part = Part::new(Content::ToolCall { id, name, arguments, signature: None });
        part.extra = fields.rest(&OF_ANSWERS);
        self.push(Role::Assistant, part);
        Ok(())
    }

    fn result(&mut self, fields: &Object<'_, '_>) -> Result<()> {
        let id = fields.need("call_id")?.string()?;
        if !self.calls.contains(&id) {
            let what = format!("is `{id}`, but no `function_call` before it has this `call_id`");
            return Err(fields.error_at("call_id", &what));
        }
        let name = fields.string("name")?;
        let content = content(&fields.need("output")?)?;
        let mut part = Part::new(Content::ToolResult { id, name, content, is_error: false });
        part.extra = fields.rest(&OF_ANSWERS);
        self.push(Role::Tool, part);
        Ok(())
    }

    fn reasoning(&mut self, fields: &Object<'_, '_>) -> Result<()> {
        let mut texts = texts(fields, "content")?;
        let summary = self::texts(fields, "summary")?;
        if texts.is_empty() {
            texts = summary;
        }
        let encrypted = fields.string("encrypted_content")?;
        if let Some(content) = thinking(texts.join("\n\n"), encrypted.as_deref()) {
            let extra = fields.rest(&OF_ANSWERS);
            self.push(Role::Assistant, Part { extra, ..Part::new(content) });
        }
        Ok(())
    }

    /// Appends a part to the turn of a role, which begins with it if another one spoke last.
    fn push(&mut self, role: Role, part: Part) {
        match self.messages.last_mut() {
            Some(last) if last.role == role && role != Role::User => attach(&mut last.parts, part),
            _ => self.messages.push(Message::new(role, vec![part])),
        }
    }
}

/// Looks at a reference to an item of an earlier answer. One to thinking is passed over, for a conversation goes on without
/// it; some clients refer to thinking that way and send everything else.
fn reference(fields: &Object<'_, '_>) -> Result<()> {
    let is_thinking = fields.string("id")?.is_some_and(|id| id.starts_with(REASONING_PREFIX));
    let what = "refers to an item that is not in the request, and the upstream keeps none; \
                send the item itself, as clients do with `store` false";
    if is_thinking { Ok(()) } else { Err(fields.error_at("id", what)) }
}

/// The texts of the parts of a reasoning item.
fn texts(fields: &Object<'_, '_>, name: &str) -> Result<Vec<String>> {
    let Some(parts) = fields.get(name) else { return Ok(Vec::new()) };
    parts.each(|part| part.object()?.need("text")?.string())
}

/// A text, or a list of parts.
fn content(value: &Value<'_, '_>) -> Result<Vec<Part>> {
    match value.kind() {
        Kind::String => Ok(vec![Part::text(value.text()?)]),
        Kind::Array => value.each(part),
        _ => Err(value.error("must be a string or a list")),
    }
}

fn part(value: &Value<'_, '_>) -> Result<Part> {
    let fields = &value.object()?;
    let content = match &*fields.need("type")?.text()? {
        "input_text" | "text" => {
            Content::Text { text: fields.need("text")?.string()?, citations: Vec::new() }
        }
        "output_text" => output_text(fields)?,
        "refusal" => Content::Refusal(fields.need("refusal")?.string()?),
        "input_image" => image(fields)?,
        "input_file" => file(fields)?,
        "input_audio" => audio(fields)?,
        _ => return Ok(Part::new(Content::Other(value.raw()?))),
    };
    let cache = fields.object("prompt_cache_breakpoint")?.map(|mark| cache(&mark)).transpose()?;
    Ok(Part { content, cache, extra: fields.rest(&[]) })
}

fn output_text(fields: &Object<'_, '_>) -> Result<Content> {
    let text = fields.need("text")?.string()?;
    let annotations = fields.list("annotations")?;
    let _ = fields.get("logprobs");
    Ok(Content::Text { text, citations: citations(annotations.iter().map(Value::json)) })
}

/// A mark for the cache. OpenAI keeps for 30 minutes or 12 hours, and the hub's longest word is an hour.
fn cache(fields: &Object<'_, '_>) -> Result<CacheControl> {
    Ok(CacheControl { ttl: fields.string("ttl")?.map(|_| "1h".to_owned()) })
}

fn image(fields: &Object<'_, '_>) -> Result<Content> {
    let detail = fields.string("detail")?;
    let (url, id) = (fields.string("image_url")?, fields.string("file_id")?);
    let source = match (url, id) {
        (Some(url), _) => located(url).ok_or_else(|| fields.error_at("image_url", NEITHER))?,
        (None, Some(id)) => Source::Id(id),
        (None, None) => return Err(fields.error_at("image_url", "is missing")),
    };
    Ok(Content::Image { source, detail })
}

/// What is wrong with what should be a place.
const NEITHER: &str = "must be a URL that begins with `http://` or `https://`, or a data URI in base64";

/// What a URL or a data URI points to.
fn located(url: String) -> Option<Source> {
    if let Some((media_type, base64)) = data_uri(&url) {
        return Some(Source::Data { media_type: media_type.to_owned(), base64: base64.to_owned() });
    }
    let scheme = url.split_once("://")?.0;
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    is_web.then_some(Source::Url { url, media_type: None })
}

/// The media type and the base64 of a data URI.
///
/// Source: RFC 2397.
fn data_uri(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_at_checked(5)?;
    let (head, base64) = rest.split_once(',').filter(|_| scheme.eq_ignore_ascii_case("data:"))?;
    let head = head.strip_suffix(";base64")?;
    let media_type = head.split(';').next().filter(|kind| !kind.is_empty()).unwrap_or("text/plain");
    Some((media_type, base64))
}

fn file(fields: &Object<'_, '_>) -> Result<Content> {
    let name = fields.string("filename")?;
    let (data, url, id) =
        (fields.string("file_data")?, fields.string("file_url")?, fields.string("file_id")?);
    let source = match (data, url, id) {
        (Some(data), ..) => match data_uri(&data) {
            Some((media_type, base64)) => {
                Source::Data { media_type: media_type.to_owned(), base64: base64.to_owned() }
            }
            // OpenAI takes the plain base64 too and goes by the name.
            None if !data.contains(',') => {
                Source::Data { media_type: media_type(name.as_deref()).to_owned(), base64: data }
            }
            None => return Err(fields.error_at("file_data", "must be base64 or a data URI in base64")),
        },
        (None, Some(url), _) => located(url).ok_or_else(|| fields.error_at("file_url", NEITHER))?,
        (None, None, Some(id)) => Source::Id(id),
        (None, None, None) => return Err(fields.error_at("file_data", "is missing")),
    };
    Ok(Content::File { source, name })
}

/// The media type of a file by its name; a PDF if that says nothing, because that is what nearly all are.
fn media_type(name: Option<&str>) -> &'static str {
    let extension = name.and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "txt" | "log" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        "xml" => "application/xml",
        _ => "application/pdf",
    }
}

fn audio(fields: &Object<'_, '_>) -> Result<Content> {
    let value = fields.need("input_audio")?;
    let audio = value.object()?;
    let (base64, format) = (audio.need("data")?.string()?, audio.need("format")?.string()?);
    let media_type = format!("audio/{format}");
    Ok(Content::Audio { source: Source::Data { media_type, base64 } })
}
