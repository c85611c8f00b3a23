//! Parts of messages and answers, written.

use crate::chat::{Content, Signature, Source};
use crate::wire::Surface;
use crate::wire::json::{Scanner, quote};
use crate::wire::openai::chat::request::call_id;
use crate::wire::openai::chat::writer::{Members, object};

/// What a text part begins with.
const TEXT: &[u8] = br#"{"type":"text","text":"#;

/// A part that is a text.
pub(super) fn text(text: &str) -> Vec<u8> {
    let mut json = Vec::with_capacity(TEXT.len() + text.len() + 8);
    json.extend_from_slice(TEXT);
    quote(text, &mut json);
    json.push(b'}');
    json
}

/// The JSON string of a part that is a text and nothing else.
pub(super) fn only_text(part: &[u8]) -> Option<&[u8]> {
    let string = part.strip_prefix(TEXT)?.strip_suffix(b"}")?;
    // A member behind the text would begin behind its closing quote.
    let mut scanner = Scanner::new(string);
    (scanner.string().is_ok() && scanner.end().is_ok()).then_some(string)
}

/// A part that is a picture, sound, a file or a video; none if it is something else or by a way that the API has not.
pub(super) fn media(content: &Content) -> Option<Vec<u8>> {
    let mut json = Vec::new();
    match content {
        Content::Image { source, detail } => {
            let url = url(source)?;
            linked("image_url", &url, detail.as_deref(), &mut json);
        }
        Content::Audio { source: Source::Data { media_type, base64 } } => object(&mut json, |members| {
            members.string("type", "input_audio");
            members.object("input_audio", |members| {
                members.string("data", base64);
                members.string("format", audio_format(media_type));
            });
        }),
        Content::File { source, .. } if is_video(media_type(source)) => {
            linked("video_url", &url(source)?, None, &mut json);
        }
        Content::File { source, name } => object(&mut json, |members| {
            members.string("type", "file");
            members.object("file", |members| file(source, name.as_deref(), members));
        }),
        _ => return None,
    }
    Some(json)
}

fn linked(kind: &str, url: &str, detail: Option<&str>, json: &mut Vec<u8>) {
    object(json, |members| {
        members.string("type", kind);
        members.object(kind, |members| {
            members.string("url", url);
            members.string_if("detail", detail);
        });
    });
}

fn file(source: &Source, name: Option<&str>, members: &mut Members<'_>) {
    match source {
        Source::Id(id) => {
            members.string("file_id", id);
            members.string_if("filename", name);
        }
        source => {
            // OpenAI wants a name with data, and reads from its end what it is.
            members.string("filename", name.unwrap_or_else(|| file_name(media_type(source))));
            members.string("file_data", &url(source).unwrap_or_default());
        }
    }
}

fn file_name(media_type: Option<&str>) -> &'static str {
    match media_type.unwrap_or_default() {
        "text/plain" => "file.txt",
        "text/markdown" => "file.md",
        "text/csv" => "file.csv",
        "text/html" => "file.html",
        "application/json" => "file.json",
        _ => "file.pdf",
    }
}

fn url(source: &Source) -> Option<String> {
    match source {
        Source::Url { url, .. } => Some(url.clone()),
        Source::Data { media_type, base64 } => Some(format!("data:{media_type};base64,{base64}")),
        Source::Text(_) | Source::Id(_) => None,
    }
}

fn media_type(source: &Source) -> Option<&str> {
    match source {
        Source::Url { media_type, .. } => media_type.as_deref(),
        Source::Data { media_type, .. } => Some(media_type),
        Source::Text(_) | Source::Id(_) => None,
    }
}

/// Whether a media type is a video's.
pub(super) fn is_video(media_type: Option<&str>) -> bool {
    media_type.is_some_and(|media_type| media_type.starts_with("video/"))
}

/// OpenAI's word for a kind of sound.
fn audio_format(media_type: &str) -> &str {
    match media_type.strip_prefix("audio/").unwrap_or(media_type) {
        "mpeg" => "mp3",
        "x-wav" | "wave" | "vnd.wave" => "wav",
        "mp4" | "x-m4a" => "m4a",
        format => format,
    }
}

/// Writes a call of a tool; with its index where it begins one of a stream. The signature is Google's.
pub(super) fn write_call(
    id: &str,
    name: &str,
    arguments: &str,
    signature: Option<&str>,
    index: Option<usize>,
    out: &mut Vec<u8>,
) {
    object(out, |members| {
        members.plain_if("index", index);
        members.string("id", &call_id(id));
        members.string("type", "function");
        members.object("function", |members| {
            members.string("name", name);
            members.string("arguments", arguments);
        });
        if let Some(signature) = signature {
            members.object("extra_content", |members| {
                members.object("google", |members| members.string("thought_signature", signature));
            });
        }
    });
}

/// A block of thinking with its signature, in LiteLLM's form.
pub(super) fn thinking_block(content: &Content) -> Vec<u8> {
    let mut json = Vec::new();
    match content {
        Content::Thinking { text, signature } => {
            write_thinking_block(text, signature.as_ref(), None, &mut json)
        }
        Content::RedactedThinking(data) => write_redacted_block(data, None, &mut json),
        _ => {}
    }
    json
}

/// As [`thinking_block`], of thinking that can be read; with its index where it is one of a stream.
pub(super) fn write_thinking_block(
    text: &str,
    signature: Option<&Signature>,
    index: Option<usize>,
    out: &mut Vec<u8>,
) {
    object(out, |members| {
        members.plain_if("index", index);
        members.string("type", "thinking");
        members.string("thinking", text);
        if let Some(signature) = signature {
            members.string("signature", &signature.written_for(Surface::Chat));
        }
    });
}

/// As [`thinking_block`], of thinking that cannot be read.
pub(super) fn write_redacted_block(data: &Signature, index: Option<usize>, out: &mut Vec<u8>) {
    object(out, |members| {
        members.plain_if("index", index);
        members.string("type", "redacted_thinking");
        members.string("data", &data.written_for(Surface::Chat));
    });
}
