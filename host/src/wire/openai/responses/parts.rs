//! The items of an answer's `output`, read into the parts of the hub.

use serde::Deserialize;

use crate::chat::{Citation, Content, Part, Raw, Signature, Source, TokenLogprob};
use crate::wire::Surface;
use crate::wire::json::{Members, elements};

/// Stands before what only another vendor can read of its thinking, so that it is not taken for the signature of thinking
/// that was not told. No vendor's base64 begins so.
pub(super) const REDACTED: &str = "redacted:";

/// What a reasoning item says: its text, and what stands in its `encrypted_content`. None if it says nothing.
pub(super) fn thinking(text: String, encrypted: Option<&str>) -> Option<Content> {
    let Some(encrypted) = encrypted.filter(|encrypted| !encrypted.is_empty()) else {
        return (!text.is_empty()).then_some(Content::Thinking { text, signature: None });
    };
    let signature = Signature::read_from(Surface::Responses, encrypted);
    if text.is_empty() {
        if signature.surface == Surface::Responses {
            return Some(Content::RedactedThinking(signature));
        }
        if let Some(value) = signature.value.strip_prefix(REDACTED) {
            return Some(Content::RedactedThinking(Signature { value: value.to_owned(), ..signature }));
        }
    }
    Some(Content::Thinking { text, signature: Some(signature) })
}

/// Appends a part. Gemini signs calls and not the thinking before them; there is no place for that in a call here, so that
/// it stood in a reasoning item of its own.
pub(super) fn attach(parts: &mut Vec<Part>, mut part: Part) {
    if let Content::ToolCall { signature, .. } = &mut part.content
        && let Some(Content::Thinking { text, signature: Some(before) }) =
            parts.last().map(|part| &part.content)
        && text.is_empty()
        && before.surface == Surface::Gemini
    {
        *signature = Some(before.clone());
        parts.pop();
    }
    parts.push(part);
}

/// Reads an item and appends its parts; wrong shapes are passed over.
pub(super) fn read(json: &str, parts: &mut Vec<Part>) {
    let Some(item) = Members::of(json) else { return };
    match item.text("type").as_deref() {
        Some("message") => parts.extend(item.list("content").into_iter().filter_map(said)),
        Some("reasoning") => {
            let text = thought(&item);
            parts.extend(thinking(text, item.text("encrypted_content").as_deref()).map(Part::new));
        }
        Some("function_call") => {
            if let Some(call) = call(&item) {
                attach(parts, Part::new(call));
            }
        }
        Some("image_generation_call") => parts.extend(picture(&item).map(Part::new)),
        Some(_) => parts.extend(Raw::new(json).map(|raw| Part::new(Content::Other(raw)))),
        None => {}
    }
}

/// A part of a message.
fn said(json: &str) -> Option<Part> {
    let part = Members::of(json)?;
    let content = match &*part.text("type")? {
        "output_text" => {
            let text = part.text("text")?.into_owned();
            Content::Text { text, citations: citations(part.list("annotations")) }
        }
        "refusal" => Content::Refusal(part.text("refusal")?.into_owned()),
        _ => Content::Other(Raw::new(json)?),
    };
    Some(Part::new(content))
}

/// The text of a reasoning item: the thinking itself where it is told, else its summary.
pub(super) fn thought(item: &Members<'_>) -> String {
    let texts = |name| -> Vec<String> {
        let texts = item.list(name).into_iter();
        texts.filter_map(|json| Some(Members::of(json)?.text("text")?.into_owned())).collect()
    };
    let content = texts("content");
    if content.is_empty() { texts("summary").join("\n\n") } else { content.join("\n\n") }
}

fn call(item: &Members<'_>) -> Option<Content> {
    let name = item.text("name")?.into_owned();
    let id = item.text("call_id").or_else(|| item.text("id"))?.into_owned();
    let arguments = item.text("arguments").filter(|json| !json.is_empty());
    let arguments = arguments.map_or_else(|| "{}".to_owned(), |json| json.into_owned());
    Some(Content::ToolCall { id, name, arguments, signature: None })
}

fn picture(item: &Members<'_>) -> Option<Content> {
    let base64 = item.text("result")?.into_owned();
    let format = item.text("output_format");
    let media_type = format!("image/{}", format.as_deref().unwrap_or("png"));
    Some(Content::Image { source: Source::Data { media_type, base64 }, detail: None })
}

/// Reads annotations.
pub(super) fn citations<'a>(annotations: impl IntoIterator<Item = &'a str>) -> Vec<Citation> {
    annotations.into_iter().filter_map(citation).collect()
}

/// Reads an annotation; what is no object is none.
pub(super) fn citation(json: &str) -> Option<Citation> {
    let annotation = Members::of(json)?;
    let original = Some((Surface::Responses, Raw::new(json)?));
    if annotation.text("type").as_deref() != Some("url_citation") {
        return Some(Citation { original, ..Citation::default() });
    }
    Some(Citation {
        url: annotation.text("url").map(|url| url.into_owned()),
        title: annotation.text("title").map(|title| title.into_owned()),
        quoted: None,
        range: annotation.count("start_index").zip(annotation.count("end_index")),
        original,
    })
}

/// How likely a token was, as it is written here.
#[derive(Deserialize)]
struct Token {
    token: String,
    logprob: f64,
    #[serde(default)]
    top_logprobs: Vec<Alternative>,
}

/// A token that could have stood there.
#[derive(Deserialize)]
struct Alternative {
    #[serde(default)]
    token: String,
    #[serde(default)]
    logprob: f64,
}

/// Reads the probabilities of tokens; wrong shapes are passed over.
pub(super) fn logprobs(json: &str) -> Vec<TokenLogprob> {
    let tokens = elements(json).unwrap_or_default().into_iter();
    let read = |json| {
        let Token { token, logprob, top_logprobs } = serde_json::from_str(json).ok()?;
        let top = top_logprobs.into_iter().map(|other| (other.token, other.logprob)).collect();
        Some(TokenLogprob { token, logprob, top })
    };
    tokens.filter_map(read).collect()
}
