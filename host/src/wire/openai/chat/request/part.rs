//! The parts of a message, read.

use crate::chat::{Content, Part, Source};
use crate::error::Result;
use crate::wire::anthropic::cache;
use crate::wire::json::{Kind, Object, Value};
use crate::wire::openai::chat::request::extra_of;

/// Reads a part of a message.
pub(super) fn part(value: &Value<'_, '_>) -> Result<Part> {
    if value.kind() == Kind::String {
        return Ok(Part::text(value.string()?));
    }
    let part = value.object()?;
    let kind = part.need("type")?.string()?;
    let (content, member) = match &*kind {
        // The Responses API's words are what its users leave in by mistake, and no server minds.
        "text" | "input_text" | "output_text" => {
            let text = part.need("text")?.string()?;
            (Content::Text { text, citations: Vec::new() }, "text")
        }
        "refusal" => (Content::Refusal(part.need("refusal")?.string()?), "refusal"),
        "image_url" => (image(&part.need("image_url")?)?, "image_url"),
        "input_audio" => (audio(&part.need("input_audio")?.object()?)?, "input_audio"),
        "file" => (file(&part.need("file")?.object()?)?, "file"),
        "video_url" => (video(&part.need("video_url")?)?, "video_url"),
        _ => (Content::Other(value.raw()?), ""),
    };
    let extra = if member.is_empty() { Default::default() } else { extra_of(&part, &[member]) };
    Ok(Part { content, cache: cache::read(&part)?, extra })
}

fn image(value: &Value<'_, '_>) -> Result<Content> {
    if value.kind() == Kind::String {
        return Ok(Content::Image { source: linked(value, "a picture")?, detail: None });
    }
    let image = value.object()?;
    let source = linked(&image.need("url")?, "a picture")?;
    Ok(Content::Image { source, detail: image.string("detail")? })
}

/// vLLM's and OpenRouter's part for a video.
fn video(value: &Value<'_, '_>) -> Result<Content> {
    let source = match value.kind() {
        Kind::String => linked(value, "a video")?,
        _ => linked(&value.object()?.need("url")?, "a video")?,
    };
    let source = match source {
        Source::Url { url, media_type: None } => Source::Url { url, media_type: Some("video/mp4".into()) },
        source => source,
    };
    Ok(Content::File { source, name: None })
}

fn audio(audio: &Object<'_, '_>) -> Result<Content> {
    let base64 = audio.need("data")?.string()?;
    let format = audio.need("format")?.string()?;
    Ok(Content::Audio { source: Source::Data { media_type: format!("audio/{format}"), base64 } })
}

fn file(file: &Object<'_, '_>) -> Result<Content> {
    let name = file.string("filename")?;
    let media_type = file.string("format")?;
    let source = match (file.get("file_data"), file.get("file_id")) {
        (Some(data), _) => file_data(&data, name.as_deref(), media_type)?,
        (None, Some(id)) => {
            let id = id.string()?;
            // LiteLLM's users give a URL so.
            if is_web(&id) { Source::Url { url: id, media_type } } else { Source::Id(id) }
        }
        (None, None) => return Err(file.error("needs `file_data` or `file_id`")),
    };
    Ok(Content::File { source, name })
}

/// Data, with or without what a data URI has before it; OpenRouter's users give a URL, too.
fn file_data(value: &Value<'_, '_>, name: Option<&str>, media_type: Option<String>) -> Result<Source> {
    let text = value.text()?;
    if is_web(&text) || starts_with(&text, "data:") {
        return linked(value, "a file");
    }
    let media_type = media_type.unwrap_or_else(|| media_type_of(name.unwrap_or_default()).to_owned());
    Ok(Source::Data { media_type, base64: text.into_owned() })
}

/// What a file is by the end of its name; a PDF if that does not say.
fn media_type_of(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "txt" | "log" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => "application/pdf",
    }
}

/// A URL, or data in a URI.
fn linked(value: &Value<'_, '_>, what: &str) -> Result<Source> {
    let text = value.text()?;
    if is_web(&text) {
        return Ok(Source::Url { url: text.into_owned(), media_type: None });
    }
    let data = text.split_once(',').filter(|_| starts_with(&text, "data:"));
    let Some((head, base64)) = data else {
        return Err(value.error(format!("must be {what} by an `https:` or `http:` URL, or in a `data:` URI")));
    };
    let Some(head) = head["data:".len()..].strip_suffix(";base64") else {
        return Err(value.error("must have its data in base64, as in `data:image/png;base64,…`"));
    };
    let media_type = head.split(';').next().unwrap_or_default().trim();
    if !media_type.contains('/') {
        return Err(value.error("must say what its data is, as in `data:image/png;base64,…`"));
    }
    Ok(Source::Data { media_type: media_type.to_ascii_lowercase(), base64: base64.to_owned() })
}

fn is_web(text: &str) -> bool {
    starts_with(text, "https://") || starts_with(text, "http://")
}

/// Whether a text begins with letters, in whichever case.
fn starts_with(text: &str, letters: &str) -> bool {
    text.as_bytes().get(..letters.len()).is_some_and(|head| head.eq_ignore_ascii_case(letters.as_bytes()))
}
