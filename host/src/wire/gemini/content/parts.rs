//! Parts of contents, both ways.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use crate::chat::{Content, Part, Raw, Signature, Source};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::json::{Cursor, Kind, Scanner, compact, cursor, quote};

/// What holds arguments that are no JSON object, which is what Google's have to be.
pub(super) const RAW_ARGUMENTS: &str = "raw_arguments";

/// What stands before redacted thinking in the place of another vendor's signature; no vendor's begins with it.
const REDACTED: char = '#';

/// Google's clients write the alphabet for URLs, with padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// The calls of a conversation or an answer: finds or makes their ids.
#[derive(Debug)]
pub(super) struct Calls {
    /// What ids begin with that the upstream or client did not give.
    prefix: String,
    count: u32,
    /// Those that have begun, in order: id and name; none once the result came.
    begun: Vec<Option<(String, String)>>,
    /// Where in `begun` the calls of an id and those of a name are, in order. Some have their result by now.
    by_id: HashMap<String, VecDeque<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
}

impl Calls {
    /// Of a conversation, in which the same call has the same id each time it is sent.
    pub(super) fn of_conversation() -> Self {
        Self::with_prefix("call_".to_owned())
    }

    /// Of an answer, whose ids are not those of another one.
    pub(super) fn of_answer(id: &str) -> Self {
        Self::with_prefix(format!("call_{id}_"))
    }

    fn with_prefix(prefix: String) -> Self {
        let (by_id, by_name) = (HashMap::new(), HashMap::new());
        Self { prefix, count: 0, begun: Vec::new(), by_id, by_name }
    }

    /// The id of a call: its own, or one by its number.
    pub(super) fn id(&mut self, own: Option<String>) -> String {
        let number = self.count;
        self.count = self.count.saturating_add(1);
        own.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("{}{number}", self.prefix))
    }

    /// Notes a call, for its result. A client may send very many of both, so they are found and not looked for.
    fn begin(&mut self, id: &str, name: &str) {
        let place = self.begun.len();
        self.begun.push(Some((id.to_owned(), name.to_owned())));
        self.by_id.entry(id.to_owned()).or_default().push_back(place);
        self.by_name.entry(name.to_owned()).or_default().push_back(place);
    }

    /// The call that a result is of: that of its id, else the first of its name without a result.
    fn answered(&mut self, id: Option<&str>, name: &str) -> Option<(String, String)> {
        let by_id = id.and_then(|id| first(self.by_id.get_mut(id)?, &mut self.begun));
        by_id.or_else(|| first(self.by_name.get_mut(name)?, &mut self.begun))
    }
}

/// Takes the first of these calls that has no result yet.
fn first(places: &mut VecDeque<usize>, begun: &mut [Option<(String, String)>]) -> Option<(String, String)> {
    std::iter::from_fn(|| places.pop_front()).find_map(|place| begun.get_mut(place)?.take())
}

/// The members of a part.
#[derive(Default)]
struct Members<'a> {
    text: Option<Cow<'a, str>>,
    is_thought: bool,
    signature: Option<Signature>,
    /// Whether the signature is thinking that only its vendor can read.
    is_redacted: bool,
    media: Option<Content>,
    call: Option<Call>,
    result: Option<Content>,
    detail: Option<&'static str>,
    is_other: bool,
}

struct Call {
    id: Option<String>,
    name: String,
    arguments: String,
}

/// Reads parts where no tools are called, and appends what they say.
pub fn read_all(value: &mut Cursor<'_, '_>, out: &mut Vec<Part>) -> Result<()> {
    let mut calls = Calls::of_conversation();
    value.one_or_more(|value| read(value, &mut calls, out))
}

/// Reads a part of a request or an answer, and appends what it says; a text by itself is one, too.
pub(super) fn read(value: &mut Cursor<'_, '_>, calls: &mut Calls, out: &mut Vec<Part>) -> Result<()> {
    if value.kind() == Some(Kind::String) {
        out.push(Part::text(value.text()?));
        return Ok(());
    }
    let mut members = Members::default();
    value.members(|name, value| member(name, value, calls, &mut members))?;
    let Members { text, is_thought, signature, is_redacted, media, call, result, detail, is_other } = members;
    let mut push = |content| out.push(Part::new(content));
    if let Some(Call { id, name, arguments }) = call {
        let id = calls.id(id);
        calls.begin(&id, &name);
        push(Content::ToolCall { id, name, arguments, signature });
        return Ok(());
    }
    if let Some(signature) = signature {
        if is_redacted {
            push(Content::RedactedThinking(signature));
        } else if is_thought {
            let text = text.unwrap_or_default().into_owned();
            push(Content::Thinking { text, signature: Some(signature) });
            return Ok(());
        } else {
            push(Content::Thinking { text: String::new(), signature: Some(signature) });
        }
        // The text of a signature alone says nothing.
        if text.as_deref() == Some("") {
            return Ok(());
        }
    }
    match (text, media, result) {
        (Some(text), _, _) if is_thought => {
            push(Content::Thinking { text: text.into_owned(), signature: None })
        }
        (Some(text), _, _) => push(Content::Text { text: text.into_owned(), citations: Vec::new() }),
        (None, Some(Content::Image { source, .. }), _) => {
            push(Content::Image { source, detail: detail.map(str::to_owned) });
        }
        (None, Some(content), _) | (None, None, Some(content)) => push(content),
        (None, None, None) if is_other => {
            push(Content::Other(Raw::new(value.was()).expect("it was read as an object")));
        }
        (None, None, None) => {}
    }
    Ok(())
}

fn member<'a>(
    name: &str,
    value: &mut Cursor<'a, '_>,
    calls: &mut Calls,
    members: &mut Members<'a>,
) -> Result<()> {
    match name {
        "text" => members.text = Some(value.text()?),
        "thought" => members.is_thought = value.flag()?,
        "thoughtSignature" => {
            let (signature, is_redacted) = signature(&value.text()?);
            members.signature = Some(signature);
            members.is_redacted = is_redacted;
        }
        "inlineData" => members.media = inline(value)?,
        "fileData" => members.media = file(value)?,
        "functionCall" => members.call = call(value)?,
        "functionResponse" => members.result = Some(result(value, calls)?),
        "mediaResolution" => members.detail = detail(value)?,
        "executableCode" | "codeExecutionResult" | "toolCall" | "toolResponse" => members.is_other = true,
        _ => {}
    }
    Ok(())
}

fn inline(value: &mut Cursor<'_, '_>) -> Result<Option<Content>> {
    let (mut media_type, mut data, mut name) = (String::new(), None, None);
    value.members(|key, value| {
        match key {
            "mimeType" => media_type = value.text()?.into_owned(),
            "data" => data = Some(standard(&value.text()?)),
            "displayName" => name = Some(value.text()?.into_owned()),
            _ => {}
        }
        Ok(())
    })?;
    let Some(base64) = data else { return Err(value.must_be("an object with `data` and `mimeType`")) };
    if media_type.is_empty() {
        return Err(value.must_be("an object with `data` and `mimeType`"));
    }
    let kind = media_type.clone();
    Ok(Some(media(&kind, Source::Data { media_type, base64 }, name)))
}

fn file(value: &mut Cursor<'_, '_>) -> Result<Option<Content>> {
    let (mut media_type, mut url, mut name) = (None, None, None);
    value.members(|key, value| {
        match key {
            "mimeType" => media_type = Some(value.text()?.into_owned()),
            "fileUri" => url = Some(value.text()?.into_owned()),
            "displayName" => name = Some(value.text()?.into_owned()),
            _ => {}
        }
        Ok(())
    })?;
    let Some(url) = url.filter(|url| !url.is_empty()) else {
        return Err(value.must_be("an object with `fileUri`"));
    };
    let kind = media_type.clone().or_else(|| media_type_of(&url).map(str::to_owned)).unwrap_or_default();
    Ok(Some(media(&kind, Source::Url { url, media_type }, name)))
}

/// The part for bytes of a type.
fn media(media_type: &str, source: Source, name: Option<String>) -> Content {
    match media_type.split('/').next() {
        Some("image") => Content::Image { source, detail: None },
        Some("audio") => Content::Audio { source },
        _ => Content::File { source, name },
    }
}

fn call(value: &mut Cursor<'_, '_>) -> Result<Option<Call>> {
    let (mut id, mut name, mut arguments) = (None, None, None);
    value.members(|key, value| {
        match key {
            "id" => id = Some(value.text()?.into_owned()),
            "name" => name = Some(value.text()?.into_owned()),
            "args" if value.kind() == Some(Kind::Object) => arguments = Some(compact(value.json()?)),
            "args" => return Err(value.must_be("an object")),
            _ => {}
        }
        Ok(())
    })?;
    let Some(name) = name else { return Err(value.must_be("an object with `name`")) };
    Ok(Some(Call { id, name, arguments: arguments.unwrap_or_else(|| "{}".to_owned()) }))
}

fn result(value: &mut Cursor<'_, '_>, calls: &mut Calls) -> Result<Content> {
    let (mut id, mut name, mut response, mut media) =
        (None, String::new(), (String::new(), false), Vec::new());
    value.members(|key, value| {
        match key {
            "id" => id = Some(value.text()?.into_owned()).filter(|id| !id.is_empty()),
            "name" => name = value.text()?.into_owned(),
            "response" => response = told(value)?,
            "parts" => {
                read_all(value, &mut media)?;
                if media.iter().any(|part| is_of_a_turn(&part.content)) {
                    return Err(value.must_be("a list of `inlineData` and `fileData`"));
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    let Some((id, name)) = calls.answered(id.as_deref(), &name) else {
        let call = id
            .map_or_else(|| format!("named `{name}`"), |id| format!("with the id `{id}` or named `{name}`"));
        let place = value.place();
        return Err(value
            .invalid(format!("`{place}` is the result of no call: put a `functionCall` {call} before it")));
    };
    let (text, is_error) = response;
    let mut content = vec![Part::text(text)];
    content.append(&mut media);
    Ok(Content::ToolResult { id, name: Some(name), content, is_error })
}

/// Whether a part is something that a model or a client does, which no tool's result can hold.
fn is_of_a_turn(content: &Content) -> bool {
    matches!(
        content,
        Content::ToolCall { .. }
            | Content::ToolResult { .. }
            | Content::Thinking { .. }
            | Content::RedactedThinking(_)
    )
}

/// What a result says, and whether it is an error: the text under the one key that Google has for it, otherwise the JSON.
///
/// Source: Gemini API reference, "FunctionResponse": `output` and `error`; Google's clients write `result`.
fn told(value: &mut Cursor<'_, '_>) -> Result<(String, bool)> {
    if value.kind() == Some(Kind::String) {
        return Ok((value.text()?.into_owned(), false));
    }
    let json = value.json()?;
    Ok(wrapped(json).unwrap_or_else(|| (compact(json), false)))
}

/// The text of an object that has nothing but a text under one of the keys for it, and whether the key is that of errors.
fn wrapped(json: &str) -> Option<(String, bool)> {
    let (mut count, mut text) = (0, None);
    let read = cursor::read(json.as_bytes(), |value| {
        value.members(|key, value| {
            count += 1;
            if matches!(key, "output" | "result" | "error") && value.kind() == Some(Kind::String) {
                text = Some((value.text()?.into_owned(), key == "error"));
            }
            Ok(())
        })
    });
    text.filter(|_| count == 1 && read.is_ok())
}

fn detail(value: &mut Cursor<'_, '_>) -> Result<Option<&'static str>> {
    let mut level = None;
    let mut read = |value: &mut Cursor<'_, '_>| -> Result<()> {
        level = match &*value.text()? {
            "MEDIA_RESOLUTION_LOW" => Some("low"),
            "MEDIA_RESOLUTION_HIGH" | "MEDIA_RESOLUTION_ULTRA_HIGH" => Some("high"),
            _ => None,
        };
        Ok(())
    };
    if value.kind() == Some(Kind::String) {
        read(value)?;
    } else {
        value.members(|name, value| if name == "level" { read(value) } else { Ok(()) })?;
    }
    Ok(level)
}

/// Reads a signature, and whether it is thinking that only its vendor can read.
///
/// Google's clients take signatures for base64 and decode them, so another vendor's is in base64 as a whole.
fn signature(text: &str) -> (Signature, bool) {
    let foreign = lenient(text).and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|inner| {
        let signature = Signature::read_from(Surface::Gemini, &inner);
        (signature.surface != Surface::Gemini).then_some(signature)
    });
    match foreign {
        Some(Signature { surface, value }) => match value.strip_prefix(REDACTED) {
            Some(data) => (Signature { surface, value: data.to_owned() }, true),
            None => (Signature { surface, value }, false),
        },
        // A client of another dialect may have held it for Google.
        None => (Signature { surface: Surface::Gemini, value: text.to_owned() }, false),
    }
}

/// Whether a signature, as it stands in a request, is another vendor's.
pub fn is_foreign_signature(text: &str) -> bool {
    signature(text).0.surface != Surface::Gemini
}

fn lenient(base64: &str) -> Option<Vec<u8>> {
    let alphabet = if base64.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode(base64).ok()
}

/// Base64 as the other vendors take it. What is none stays as it is, for the upstream to refuse.
fn standard(base64: &str) -> String {
    let mut standard = base64.replace('-', "+").replace('_', "/");
    if !standard.len().is_multiple_of(4) && !standard.ends_with('=') {
        standard.extend(std::iter::repeat_n('=', 4 - standard.len() % 4));
    }
    standard
}

/// Writes `"thoughtSignature":…`.
pub(super) fn write_signature(signature: &Signature, is_redacted: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(br#""thoughtSignature":"#);
    if signature.surface == Surface::Gemini {
        quote(&signature.value, out);
        return;
    }
    let mark = if is_redacted { String::from(REDACTED) } else { String::new() };
    let whole = Signature { surface: signature.surface, value: mark + &signature.value };
    quote(&STANDARD.encode(whole.written_for(Surface::Gemini).as_bytes()), out);
}

/// Writes a part with a text, and with a signature if there is one.
pub(super) fn write_text(text: &str, is_thought: bool, signature: Option<&Signature>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"text":"#);
    quote(text, out);
    if is_thought {
        out.extend_from_slice(br#","thought":true"#);
    }
    if let Some(signature) = signature {
        out.push(b',');
        write_signature(signature, false, out);
    }
    out.push(b'}');
}

/// Writes a part with thinking that only its vendor can read.
pub(super) fn write_redacted(data: &Signature, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"text":"","thought":true,"#);
    write_signature(data, true, out);
    out.push(b'}');
}

/// Writes a part with a call of a tool.
pub(super) fn write_call(
    id: &str,
    name: &str,
    arguments: &str,
    signature: Option<&Signature>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(br#"{"functionCall":{"id":"#);
    quote(id, out);
    out.extend_from_slice(br#","name":"#);
    quote(name, out);
    out.extend_from_slice(br#","args":"#);
    write_arguments(arguments, out);
    out.push(b'}');
    if let Some(signature) = signature {
        out.push(b',');
        write_signature(signature, false, out);
    }
    out.push(b'}');
}

/// Writes arguments, which are to be an object: nothing is an empty one, and what is no object stands in one as a text,
/// since leaving it out would tell the reader of a call that was not made.
fn write_arguments(arguments: &str, out: &mut Vec<u8>) {
    if is_object(arguments) {
        out.extend_from_slice(arguments.trim().as_bytes());
    } else if arguments.trim().is_empty() {
        out.extend_from_slice(b"{}");
    } else {
        out.push(b'{');
        quote(RAW_ARGUMENTS, out);
        out.push(b':');
        quote(arguments, out);
        out.push(b'}');
    }
}

/// Whether a text is one JSON object.
pub(super) fn is_object(text: &str) -> bool {
    let mut scanner = Scanner::new(text.as_bytes());
    scanner.peek() == Ok(Kind::Object) && scanner.skip().and_then(|_| scanner.end()).is_ok()
}

/// Writes what a tool has returned, as an object: one as it is, unless it looks like a text in one.
pub(super) fn write_response(text: &str, is_error: bool, out: &mut Vec<u8>) {
    if !is_error && is_object(text) && wrapped(text).is_none() {
        out.extend_from_slice(text.trim().as_bytes());
        return;
    }
    out.extend_from_slice(if is_error { br#"{"error":"# } else { br#"{"output":"# });
    quote(text, out);
    out.push(b'}');
}

/// Writes a part with bytes. Names are for another API of Google's.
pub(super) fn write_data(media_type: &str, base64: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"inlineData":{"mimeType":"#);
    quote(media_type, out);
    out.extend_from_slice(br#","data":"#);
    quote(base64, out);
    out.extend_from_slice(b"}}");
}

/// Writes a part with bytes that are somewhere else.
pub(super) fn write_url(media_type: &str, url: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"fileData":{"mimeType":"#);
    quote(media_type, out);
    out.extend_from_slice(br#","fileUri":"#);
    quote(url, out);
    out.extend_from_slice(b"}}");
}

/// The type of what a URL leads to, by the ending of its path.
///
/// Source: Gemini API documentation, the types that models take ("Image", "Document", "Audio" and "Video understanding"),
/// seen 2026-11.
pub(super) fn media_type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    let known = match &*ending.to_ascii_lowercase() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "csv" => "text/csv",
        "xml" => "text/xml",
        "json" => "application/json",
        "wav" => "audio/wav",
        "mp3" => "audio/mp3",
        "aiff" | "aif" => "audio/aiff",
        "aac" => "audio/aac",
        "ogg" => "audio/ogg",
        "flac" => "audio/flac",
        "mp4" => "video/mp4",
        "mpeg" | "mpg" => "video/mpeg",
        "mov" => "video/quicktime",
        "webm" => "video/webm",
        _ => return None,
    };
    Some(known)
}
