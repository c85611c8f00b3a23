//! The texts in requests of OpenAI's dialect: messages, prompts, inputs, queries.

use std::borrow::Cow;

use bytes::Bytes;

use super::{elements, has_text, into_text, message, missing, part_text, quoted, with_text};
use crate::chat::Turn;
use crate::wire::Endpoint;
use crate::wire::document::Document;
use crate::wire::json::{Kind, Scanner, SyntaxError};

/// As [`messages`](super::messages).
pub(super) fn messages(endpoint: Endpoint, document: &Document) -> Vec<Turn> {
    let turn = |place: Place<'_>| Turn { text: place.text(), role: place.role.into_owned() };
    places(endpoint, document).into_iter().map(turn).collect()
}

/// As [`set_message`](super::set_message).
pub(super) fn set_message(
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
    text: &str,
) -> Result<(), String> {
    let places = places(endpoint, document);
    let place = places.get(index).ok_or_else(|| missing(index, places.len()))?;
    let pointer = place.pointer();
    match place.seat {
        Seat::Text => document.set(&pointer, &quoted(text)),
        Seat::Part => document.set(&format!("{pointer}/text"), &quoted(text)),
        Seat::Message => {
            let pointer = format!("{pointer}/content");
            let content = match document.get(&pointer) {
                Ok(Some(parts)) if parts.starts_with('[') => {
                    let part =
                        format!(r#"{{"type":"{}","text":{}}}"#, place.part_type(endpoint), quoted(text));
                    with_text(parts, text, &part, has_text, |_| false)?
                }
                _ => quoted(text),
            };
            document.set(&pointer, &content)
        }
    }
}

/// As [`insert_message`](super::insert_message).
pub(super) fn insert_message(
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
    role: &str,
    text: &str,
) -> Result<(), String> {
    let places = places(endpoint, document);
    if index > places.len() {
        return Err(missing(index, places.len()));
    }
    let next = places.get(index);
    let home = match next.or_else(|| places.last()) {
        _ if endpoint == Endpoint::Responses => "input",
        Some(neighbour) => neighbour.home,
        None => homes(endpoint).first().ok_or_else(|| format!("`{}` has no messages", endpoint.label()))?,
    };
    let is_part = places.iter().any(|place| place.home == home && place.seat == Seat::Part);
    let mut items = item(endpoint, home, role, text, is_part)?;
    let instructions = next.filter(|next| next.home == "instructions");
    if let Some(instructions) = instructions {
        items = format!("{items},{}", message("system", instructions.json));
    }
    let is_moved = instructions.is_some();
    let at = next.map_or(usize::MAX, |next| next.element.unwrap_or(0));
    let list = with_items(endpoint, home, document, at, &items)?;
    document.set(&format!("/{home}"), &list)?;
    if is_moved {
        document.remove("/instructions")?;
    }
    Ok(())
}

/// As [`remove_message`](super::remove_message).
pub(super) fn remove_message(
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
) -> Result<(), String> {
    let places = places(endpoint, document);
    let place = places.get(index).ok_or_else(|| missing(index, places.len()))?;
    document.remove(&place.pointer()).map(drop)
}

/// One message and where it stands.
struct Place<'a> {
    /// The top-level member it is in.
    home: &'static str,
    /// Which element of that, if it is a list.
    element: Option<usize>,
    role: Cow<'a, str>,
    seat: Seat,
    /// Its JSON text.
    json: &'a str,
}

/// What a message is in the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seat {
    /// A string.
    Text,
    /// An object with a `text`.
    Part,
    /// An object with a `role` and a `content`.
    Message,
}

impl Place<'_> {
    fn pointer(&self) -> String {
        match self.element {
            Some(element) => format!("/{}/{element}", self.home),
            None => format!("/{}", self.home),
        }
    }

    fn text(&self) -> String {
        let mut scanner = Scanner::new(self.json.as_bytes());
        let text = match self.seat {
            Seat::Text => scanner.string().map(|text| text.decode().into_owned()),
            Seat::Part => part_text(&mut scanner).map(|text| text.unwrap_or_default().into_owned()),
            Seat::Message => content_text(&mut scanner),
        };
        text.unwrap_or_default()
    }

    /// What a text part of this message is called.
    fn part_type(&self, endpoint: Endpoint) -> &'static str {
        match endpoint {
            Endpoint::Responses if self.role == "assistant" => "output_text",
            Endpoint::Responses => "input_text",
            _ => "text",
        }
    }
}

/// The top-level members that hold an endpoint's texts, in the order of the conversation.
fn homes(endpoint: Endpoint) -> &'static [&'static str] {
    match endpoint {
        Endpoint::ChatCompletions => &["messages"],
        Endpoint::Responses => &["instructions", "input"],
        Endpoint::Completions | Endpoint::ImagesGenerations => &["prompt"],
        Endpoint::Embeddings | Endpoint::Classify => &["input", "messages"],
        Endpoint::Moderations | Endpoint::AudioSpeech => &["input"],
        Endpoint::Rerank => &["query", "documents"],
        Endpoint::Score => &["text_1", "queries", "text_2", "documents", "items"],
        Endpoint::AudioTranscriptions
        | Endpoint::AudioTranslations
        | Endpoint::ImagesEdits
        | Endpoint::ImagesVariations
        // These have their turns elsewhere.
        | Endpoint::Messages
        | Endpoint::CountMessageTokens
        | Endpoint::GenerateContent
        | Endpoint::CountContentTokens
        | Endpoint::EmbedContent
        | Endpoint::BatchEmbedContents
        | Endpoint::Models
        | Endpoint::Model => &[],
    }
}

/// Whether the items of a member are messages with roles, and not bare texts.
fn has_roles(endpoint: Endpoint, home: &str) -> bool {
    home == "messages" || (endpoint == Endpoint::Responses && home == "input")
}

fn places(endpoint: Endpoint, document: &Document) -> Vec<Place<'_>> {
    let mut places = Vec::new();
    for home in homes(endpoint) {
        let Ok(Some(json)) = document.get(&format!("/{home}")) else { continue };
        let has_roles = has_roles(endpoint, home);
        match json.as_bytes().first() {
            Some(b'"') if *home != "messages" => {
                let role = Cow::Borrowed(if *home == "instructions" { "system" } else { "user" });
                places.push(Place { home, element: None, role, seat: Seat::Text, json });
            }
            Some(b'[') if *home != "instructions" => {
                let elements = elements(json).into_iter().enumerate();
                places.extend(elements.filter_map(|(element, json)| {
                    let (role, seat) =
                        if has_roles { message_role(endpoint, json)? } else { text_seat(json)? };
                    Some(Place { home, element: Some(element), role, seat, json })
                }));
            }
            _ => {}
        }
    }
    places
}

/// Reads who speaks in an item of a conversation; none if it is not a message.
fn message_role(endpoint: Endpoint, json: &str) -> Option<(Cow<'_, str>, Seat)> {
    let (mut role, mut kind) = (None, None);
    let mut scanner = Scanner::new(json.as_bytes());
    let scanned = scanner.object(|scanner, name| {
        let is_string = scanner.peek()? == Kind::String;
        let kept = match () {
            () if name.is("role") => &mut role,
            () if name.is("type") => &mut kind,
            () => return scanner.skip().map(drop),
        };
        if is_string {
            *kept = Some(scanner.string()?.decode());
            return Ok(());
        }
        *kept = None;
        scanner.skip().map(drop)
    });
    scanned.ok()?;
    let role = match (role.as_deref(), endpoint) {
        (None, Endpoint::Responses) => return None,
        (Some("developer"), _) => Cow::Borrowed("system"),
        (Some("function"), _) => Cow::Borrowed("tool"),
        _ => role.unwrap_or_default(),
    };
    let is_message = endpoint != Endpoint::Responses || kind.is_none_or(|kind| kind == "message");
    is_message.then_some((role, Seat::Message))
}

/// Tells what an item of a list of texts is; none if it is a token, a picture or the like.
fn text_seat(json: &str) -> Option<(Cow<'_, str>, Seat)> {
    let seat = match json.as_bytes().first() {
        Some(b'"') => Seat::Text,
        _ if has_text(json) => Seat::Part,
        _ => return None,
    };
    Some((Cow::Borrowed("user"), seat))
}

/// Reads the text of a message's `content`.
pub(super) fn content_text(scanner: &mut Scanner<'_>) -> Result<String, SyntaxError> {
    let mut content = String::new();
    scanner.object(|scanner, name| {
        if !name.is("content") {
            return scanner.skip().map(drop);
        }
        content.clear();
        match scanner.peek()? {
            Kind::String => content.push_str(&scanner.string()?.decode()),
            Kind::Array => scanner.array(|scanner| {
                if scanner.peek()? != Kind::Object {
                    return scanner.skip().map(drop);
                }
                content.push_str(&part_text(scanner)?.unwrap_or_default());
                Ok(())
            })?,
            _ => {
                scanner.skip()?;
            }
        }
        Ok(())
    })?;
    Ok(content)
}

/// Writes an item for a list of messages or texts.
fn item(endpoint: Endpoint, home: &str, role: &str, text: &str, is_part: bool) -> Result<String, String> {
    match role {
        "" => Err("a message needs a role".to_owned()),
        "tool" if has_roles(endpoint, home) => {
            Err(format!("a `tool` message needs more than a text; set `/{home}/-` to the whole of it"))
        }
        _ if has_roles(endpoint, home) => Ok(message(role, &quoted(text))),
        "user" if is_part && home == "input" => Ok(format!(r#"{{"type":"text","text":{}}}"#, quoted(text))),
        "user" if is_part => Ok(format!(r#"{{"text":{}}}"#, quoted(text))),
        "user" => Ok(quoted(text)),
        _ => Err(format!("`{home}` has no roles; every message of it is of `user`")),
    }
}

/// Returns the value of the member `home` with `items` before its element `at`, or at its end.
fn with_items(
    endpoint: Endpoint,
    home: &str,
    document: &Document,
    at: usize,
    items: &str,
) -> Result<String, String> {
    let value = document.get(&format!("/{home}")).ok().flatten().unwrap_or("null");
    let has_roles = has_roles(endpoint, home);
    match value.as_bytes().first() {
        Some(b'n') if has_roles => Ok(format!("[{items}]")),
        Some(b'n') => Ok(items.to_owned()),
        Some(b'"') if matches!(home, "prompt" | "input") => {
            let own = if has_roles { message("user", value) } else { value.to_owned() };
            Ok(if at == 0 { format!("[{items},{own}]") } else { format!("[{own},{items}]") })
        }
        Some(b'[') if !has_roles && elements(value).into_iter().any(is_token) => {
            Err(format!("`{home}` holds tokens, a text cannot be put beside them"))
        }
        Some(b'[') => {
            let mut list = Document::trusted(Bytes::copy_from_slice(value.as_bytes()));
            list.insert(at, items.as_bytes());
            into_text(list)
        }
        _ => Err(format!("`{home}` is no list, nothing can be inserted")),
    }
}

/// Whether an item of a prompt is a token or a list of them.
fn is_token(json: &str) -> bool {
    json.starts_with(|first: char| matches!(first, '[' | '-' | '0'..='9'))
}
