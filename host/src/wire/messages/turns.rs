//! The turns in requests of Anthropic's and Google's dialects: instructions apart, then messages of parts.
//!
//! What a tool returned stands among the parts of a person's message there. Here each result is a turn of its own, before
//! what else the message has, as if it were a chat.

use std::borrow::Cow;

use bytes::Bytes;

use super::texts::content_text;
use super::{elements, has_text, into_text, message, missing, part_text, quoted, with_text};
use crate::chat::Turn;
use crate::wire::document::Document;
use crate::wire::json::{Scanner, Text};
use crate::wire::{Dialect, Endpoint};

/// Whose words for the parts of a conversation these are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Grammar {
    /// `system`, `messages` with `content`.
    Anthropic,
    /// `systemInstruction`, `contents` with `parts`, names in either spelling.
    Gemini,
}

impl Grammar {
    /// The grammar of an endpoint's requests; none for OpenAI's.
    pub(super) fn of(endpoint: Endpoint) -> Option<Self> {
        match endpoint.dialect() {
            Dialect::OpenAi => None,
            Dialect::Anthropic => Some(Self::Anthropic),
            Dialect::Gemini => Some(Self::Gemini),
        }
    }

    /// The member of a message that has its parts.
    fn parts(self) -> &'static str {
        match self {
            Self::Anthropic => "content",
            Self::Gemini => "parts",
        }
    }

    /// Writes a text as a part.
    fn part(self, text: &str) -> String {
        match self {
            Self::Anthropic => format!(r#"{{"type":"text","text":{}}}"#, quoted(text)),
            Self::Gemini => format!(r#"{{"text":{}}}"#, quoted(text)),
        }
    }

    /// Writes a message.
    fn message(self, role: &str, text: &str) -> String {
        match self {
            Self::Anthropic => message(role, &quoted(text)),
            Self::Gemini => {
                let role = if role == "assistant" { "model" } else { role };
                format!(r#"{{"role":{},"parts":[{}]}}"#, quoted(role), self.part(text))
            }
        }
    }

    /// Whether a part is text that is said, and not only thought.
    fn is_text(self, part: &str) -> bool {
        has_text(part) && !(self == Self::Gemini && is_thought(part))
    }

    /// Whether a part is the result of a tool.
    fn is_result(self, part: &str) -> bool {
        match self {
            Self::Anthropic => is_type(part, &["tool_result"]),
            Self::Gemini => member(part, &RESPONSE).is_some(),
        }
    }

    /// Whether a part has to stand before the text of its message.
    fn is_first(self, part: &str) -> bool {
        self.is_result(part)
            || match self {
                Self::Anthropic => is_type(part, &["thinking", "redacted_thinking"]),
                Self::Gemini => is_thought(part),
            }
    }
}

const RESPONSE: [&str; 2] = ["functionResponse", "function_response"];

/// The members of a function's response that hold all of it if they are the only one.
///
/// Source: Google, Gemini API reference, FunctionResponse, `response`; `result` is in its guide to function calling; seen
/// 2026-11.
const OUTPUTS: [&str; 3] = ["output", "result", "error"];

/// As [`messages`](super::messages).
pub(super) fn messages(grammar: Grammar, endpoint: Endpoint, document: &Document) -> Vec<Turn> {
    let turn = |place: Place| Turn { role: place.role, text: place.text };
    Conversation::read(grammar, endpoint, document).places.into_iter().map(turn).collect()
}

/// As [`set_message`](super::set_message).
pub(super) fn set_message(
    grammar: Grammar,
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
    text: &str,
) -> Result<(), String> {
    let conversation = Conversation::read(grammar, endpoint, document);
    let Place { pointer, seat, .. } = conversation.place(index)?;
    match seat {
        Seat::Text => document.set(pointer, &quoted(text)),
        Seat::Part => document.set(&format!("{pointer}/text"), &quoted(text)),
        Seat::Message | Seat::Rest => set_content(grammar, document, pointer, text),
        Seat::Result if grammar == Grammar::Anthropic => set_content(grammar, document, pointer, text),
        Seat::Result => set_response(document, pointer, text),
    }
}

/// As [`insert_message`](super::insert_message).
pub(super) fn insert_message(
    grammar: Grammar,
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
    role: &str,
    text: &str,
) -> Result<(), String> {
    let conversation = Conversation::read(grammar, endpoint, document);
    let instructions = conversation.places.iter().filter(|place| place.is_instruction).count();
    if index > conversation.places.len() {
        return Err(missing(index, conversation.places.len()));
    }
    let Some(list) = conversation.list.clone() else {
        return Err(format!("`{}` has no conversation, nothing can be inserted", endpoint.label()));
    };
    match role {
        "" => Err("a message needs a role".to_owned()),
        "tool" => Err(format!("a `tool` message needs more than a text; set `{list}/-` to the whole of it")),
        "system" if index <= instructions => {
            let at = conversation.places[..instructions].get(index).map_or(usize::MAX, |place| place.at);
            let pointer = conversation.instructions.clone();
            insert_instruction(grammar, document, &pointer, at, text)
        }
        _ if index < instructions => Err(format!(
            "the `system` messages come before all others here; insert at {instructions} or behind it"
        )),
        "system" if grammar == Grammar::Gemini => Err(format!(
            "a `system` message comes before all others here; insert at {instructions} or before it"
        )),
        _ => {
            let list_json = conversation.with_message(document, index, &grammar.message(role, text))?;
            document.set(&list, &list_json)
        }
    }
}

/// As [`remove_message`](super::remove_message).
pub(super) fn remove_message(
    grammar: Grammar,
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
) -> Result<(), String> {
    let conversation = Conversation::read(grammar, endpoint, document);
    let place = conversation.place(index)?;
    if place.seat != Seat::Rest {
        return document.remove(&place.whole).map(drop);
    }
    let pointer = format!("{}/{}", place.pointer, grammar.parts());
    let parts = document.get(&pointer).ok().flatten().unwrap_or("[]");
    let kept = filtered(parts, |_, part| grammar.is_result(part))?;
    document.set(&pointer, &kept)
}

/// The turns of a request, and where others can be put.
struct Conversation {
    grammar: Grammar,
    /// The pointer of the instructions.
    instructions: String,
    /// The pointer of the list of messages, if there is one.
    list: Option<String>,
    places: Vec<Place>,
}

/// One turn and where it stands.
struct Place {
    role: String,
    text: String,
    is_instruction: bool,
    /// Which element it is of the list of instructions or messages, or which message it is a part of.
    at: usize,
    /// The pointer of what is edited.
    pointer: String,
    /// The pointer of what goes when it is removed.
    whole: String,
    seat: Seat,
}

/// What a turn is in the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seat {
    /// A string.
    Text,
    /// An object with a `text`.
    Part,
    /// A message with a role.
    Message,
    /// What a message has besides results.
    Rest,
    /// A result among the parts of a message.
    Result,
}

impl Conversation {
    fn read(grammar: Grammar, endpoint: Endpoint, document: &Document) -> Self {
        let root = document.get("").ok().flatten().unwrap_or_default();
        let mut conversation = Self { grammar, instructions: String::new(), list: None, places: Vec::new() };
        match endpoint {
            Endpoint::EmbedContent => {
                if let Some(content) = member(root, &["content"]) {
                    conversation.push_message(content.json, 0, "/content".into(), "/content".into());
                }
            }
            Endpoint::BatchEmbedContents => conversation.push_requests(root),
            Endpoint::CountContentTokens => {
                let inner = member(root, &["generateContentRequest", "generate_content_request"])
                    .filter(|inner| inner.json.starts_with('{'));
                match inner {
                    Some(inner) => conversation.push_all(inner.json, &format!("/{}", inner.name)),
                    None => conversation.push_all(root, ""),
                }
            }
            _ => conversation.push_all(root, ""),
        }
        conversation
    }

    fn place(&self, index: usize) -> Result<&Place, String> {
        self.places.get(index).ok_or_else(|| missing(index, self.places.len()))
    }

    /// Reads the instructions and messages of the request that stands at a pointer.
    fn push_all(&mut self, request: &str, base: &str) {
        let (instructions, list): (&[&'static str], _) = match self.grammar {
            Grammar::Anthropic => (&["system"], "messages"),
            Grammar::Gemini => (&["systemInstruction", "system_instruction"], "contents"),
        };
        let found = member(request, instructions);
        self.instructions = format!("{base}/{}", found.as_ref().map_or(instructions[0], |found| found.name));
        if let Some(found) = found {
            self.push_instructions(found.json);
        }
        let list_pointer = format!("{base}/{list}");
        if let Some(found) = member(request, &[list]) {
            self.push_messages(found.json, &list_pointer);
        }
        self.list = Some(list_pointer);
    }

    fn push_instructions(&mut self, json: &str) {
        let pointer = self.instructions.clone();
        match json.as_bytes().first() {
            Some(b'"') => self.push_instruction(json, 0, pointer.clone(), pointer),
            Some(b'[') if self.grammar == Grammar::Anthropic => self.push_texts(json, &pointer, &pointer),
            Some(b'{') if self.grammar == Grammar::Gemini => {
                let Some(parts) = member(json, &["parts"]) else { return };
                let list = format!("{pointer}/parts");
                match parts.json.as_bytes().first() {
                    Some(b'[') => self.push_texts(parts.json, &list, &pointer),
                    Some(b'{') if has_text(parts.json) => {
                        self.push_instruction(parts.json, 0, list, pointer);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Reads the texts of a list; with the last of it goes the whole.
    fn push_texts(&mut self, json: &str, list: &str, whole: &str) {
        let parts = elements(json);
        let is_alone = parts.len() == 1;
        for (at, part) in parts.into_iter().enumerate().filter(|(_, part)| has_text(part)) {
            let pointer = format!("{list}/{at}");
            let whole = if is_alone { whole.to_owned() } else { pointer.clone() };
            self.push_instruction(part, at, pointer, whole);
        }
    }

    fn push_instruction(&mut self, json: &str, at: usize, pointer: String, whole: String) {
        let seat = if json.starts_with('"') { Seat::Text } else { Seat::Part };
        let role = "system".to_owned();
        self.places.push(Place { role, text: text_of(json), is_instruction: true, at, pointer, whole, seat });
    }

    /// Reads the list of messages; Google also takes one alone, and texts.
    fn push_messages(&mut self, json: &str, pointer: &str) {
        if json.starts_with('[') {
            for (at, json) in elements(json).into_iter().enumerate() {
                let pointer = format!("{pointer}/{at}");
                self.push_message(json, at, pointer.clone(), pointer);
            }
        } else if self.grammar == Grammar::Gemini {
            self.push_message(json, 0, pointer.to_owned(), pointer.to_owned());
        }
    }

    /// Reads the contents of several requests for embeddings.
    fn push_requests(&mut self, root: &str) {
        let requests = member(root, &["requests"]).filter(|requests| requests.json.starts_with('['));
        let requests = requests.map_or_else(Vec::new, |requests| elements(requests.json));
        for (at, request) in requests.into_iter().enumerate() {
            if let Some(content) = member(request, &["content"]) {
                let whole = format!("/requests/{at}");
                self.push_message(content.json, at, format!("{whole}/content"), whole);
            }
        }
    }

    fn push_message(&mut self, json: &str, at: usize, pointer: String, whole: String) {
        match json.as_bytes().first() {
            Some(b'{') => {}
            Some(b'"') if self.grammar == Grammar::Gemini => {
                let role = "user".to_owned();
                let (text, seat) = (text_of(json), Seat::Text);
                self.places.push(Place { role, text, is_instruction: false, at, pointer, whole, seat });
                return;
            }
            _ => return,
        }
        let parts = member(json, &[self.grammar.parts()]).map_or("null", |parts| parts.json);
        let blocks = if parts.starts_with('[') { elements(parts) } else { Vec::new() };
        let is_result: Vec<bool> = blocks.iter().map(|block| self.grammar.is_result(block)).collect();
        let results = is_result.iter().filter(|is_result| **is_result).count();
        for (index, block) in blocks.iter().enumerate().filter(|(index, _)| is_result[*index]) {
            let pointer = format!("{pointer}/{}/{index}", self.grammar.parts());
            let whole = if blocks.len() == 1 { whole.clone() } else { pointer.clone() };
            let (role, text) = ("tool".to_owned(), self.result_text(block));
            let seat = Seat::Result;
            self.places.push(Place { role, text, is_instruction: false, at, pointer, whole, seat });
        }
        if results > 0 && results == blocks.len() {
            return;
        }
        let seat = if results > 0 { Seat::Rest } else { Seat::Message };
        let text = match parts.as_bytes().first() {
            Some(b'[') => blocks
                .iter()
                .filter(|block| self.grammar.is_text(block))
                .map(|block| text_of(block))
                .collect(),
            Some(b'"') => text_of(parts),
            Some(b'{') if self.grammar == Grammar::Gemini => text_of(parts),
            _ => String::new(),
        };
        let role = self.role(json);
        self.places.push(Place { role, text, is_instruction: false, at, pointer, whole, seat });
    }

    fn role(&self, json: &str) -> String {
        let role = member(json, &["role"]).and_then(|role| string(role.json));
        match (self.grammar, role.as_deref()) {
            (Grammar::Gemini, Some("model")) => "assistant".to_owned(),
            (Grammar::Gemini, Some("function")) => "tool".to_owned(),
            (Grammar::Gemini, None) => "user".to_owned(),
            _ => role.unwrap_or_default().into_owned(),
        }
    }

    fn result_text(&self, block: &str) -> String {
        match self.grammar {
            Grammar::Anthropic => content_text(&mut Scanner::new(block.as_bytes())).unwrap_or_default(),
            Grammar::Gemini => {
                let response = member(block, &RESPONSE).and_then(|found| member(found.json, &["response"]));
                response.map_or_else(String::new, |response| response_text(response.json))
            }
        }
    }

    /// Returns the list of messages with one more, before the turn at `index` or at its end.
    fn with_message(&self, document: &Document, index: usize, item: &str) -> Result<String, String> {
        let pointer = self.list.as_deref().unwrap_or_default();
        let value = document.get(pointer).ok().flatten().unwrap_or("null");
        let array = match value.as_bytes().first() {
            Some(b'[') => value.to_owned(),
            Some(b'n') => "[]".to_owned(),
            Some(b'{') if self.grammar == Grammar::Gemini => format!("[{value}]"),
            Some(b'"') if self.grammar == Grammar::Gemini => {
                format!("[{}]", self.grammar.message("user", &text_of(value)))
            }
            _ => {
                let name = pointer.rsplit('/').next().unwrap_or_default();
                return Err(format!("`{name}` is no list, nothing can be inserted"));
            }
        };
        let mut list = Document::trusted(Bytes::from(array));
        let Some(next) = self.places.get(index) else {
            list.insert(usize::MAX, item.as_bytes());
            return into_text(list);
        };
        let same = |place: &&Place| !place.is_instruction && place.at == next.at;
        let before = self.places[..index].iter().rev().take_while(same).count();
        if before == 0 {
            list.insert(next.at, item.as_bytes());
            return into_text(list);
        }
        let whole = list.get(&format!("/{}", next.at)).ok().flatten().unwrap_or("{}").to_owned();
        let (first, second) = self.cut(&whole, before)?;
        list.set(&format!("/{}", next.at), &second)?;
        list.insert(next.at, format!("{first},{item}").as_bytes());
        into_text(list)
    }

    /// Cuts a message behind so many of its results.
    fn cut(&self, message: &str, results: usize) -> Result<(String, String), String> {
        let name = self.grammar.parts();
        let parts = member(message, &[name]).map_or("[]", |parts| parts.json);
        let is_result = |(_, part): &(usize, &str)| self.grammar.is_result(part);
        let first: Vec<usize> = elements(parts)
            .into_iter()
            .enumerate()
            .filter(is_result)
            .map(|(at, _)| at)
            .take(results)
            .collect();
        let half = |is_first: bool| {
            let mut half = Document::trusted(Bytes::copy_from_slice(message.as_bytes()));
            let parts = filtered(parts, |at, _| first.contains(&at) == is_first)?;
            half.set(&format!("/{name}"), &parts)?;
            into_text(half)
        };
        Ok((half(true)?, half(false)?))
    }
}

/// Sets the text of a message's or a result's content.
fn set_content(grammar: Grammar, document: &mut Document, at: &str, text: &str) -> Result<(), String> {
    let pointer = format!("{at}/{}", grammar.parts());
    let content = document.get(&pointer).ok().flatten().unwrap_or("null");
    let content = match (content.as_bytes().first(), grammar) {
        (Some(b'['), _) => {
            let is_text = |part: &str| grammar.is_text(part);
            with_text(content, text, &grammar.part(text), is_text, |part| grammar.is_first(part))?
        }
        (Some(b'{'), Grammar::Gemini) if has_text(content) => {
            return document.set(&format!("{pointer}/text"), &quoted(text));
        }
        (Some(b'{'), Grammar::Gemini) => format!("[{},{content}]", grammar.part(text)),
        (_, Grammar::Gemini) => format!("[{}]", grammar.part(text)),
        (_, Grammar::Anthropic) => quoted(text),
    };
    document.set(&pointer, &content)
}

/// Sets what a function returned: the text that is there, or the whole of it, which is an object.
fn set_response(document: &mut Document, part: &str, text: &str) -> Result<(), String> {
    let json = document.get(part).ok().flatten().unwrap_or("{}");
    let name = member(json, &RESPONSE).map_or(RESPONSE[0], |response| response.name);
    let pointer = format!("{part}/{name}/response");
    let response = document.get(&pointer).ok().flatten().unwrap_or("null");
    if let Some(output) = output(response).map(|output| output.name) {
        return document.set(&format!("{pointer}/{output}"), &quoted(text));
    }
    let is_object = text.starts_with('{') && Document::new(Bytes::copy_from_slice(text.as_bytes())).is_ok();
    if is_object && response_text(text) == text {
        return document.set(&pointer, text);
    }
    document.set(&pointer, &format!(r#"{{"{}":{}}}"#, OUTPUTS[0], quoted(text)))
}

/// The text of what a function returned; as JSON if it is more than a text.
fn response_text(response: &str) -> String {
    match output(response) {
        Some(output) => text_of(output.json),
        None => response.to_owned(),
    }
}

/// The text that is all of a function's response.
fn output(response: &str) -> Option<Member<'_>> {
    let mut count = 0;
    let counted = Scanner::new(response.as_bytes()).members(|scanner, _| {
        count += 1;
        scanner.skip().map(drop)
    });
    counted.ok().filter(|()| count == 1)?;
    member(response, &OUTPUTS).filter(|output| output.json.starts_with('"'))
}

/// Puts a text among the instructions, before the element `at` of their list or at its end.
fn insert_instruction(
    grammar: Grammar,
    document: &mut Document,
    pointer: &str,
    at: usize,
    text: &str,
) -> Result<(), String> {
    let value = document.get(pointer).ok().flatten().unwrap_or("null");
    let new = grammar.part(text);
    let own = |json: &str| grammar.part(&text_of(json));
    let with_own = |json: &str| if at == 0 { format!("[{new},{json}]") } else { format!("[{json},{new}]") };
    let instructions = match (value.as_bytes().first(), grammar) {
        (Some(b'n'), Grammar::Anthropic) => quoted(text),
        (Some(b'n'), Grammar::Gemini) => format!(r#"{{"parts":[{new}]}}"#),
        (Some(b'"'), Grammar::Anthropic) => with_own(&own(value)),
        (Some(b'"'), Grammar::Gemini) => format!(r#"{{"parts":{}}}"#, with_own(&own(value))),
        (Some(b'['), Grammar::Anthropic) => with_element(value, at, &new)?,
        (Some(b'{'), Grammar::Gemini) => {
            let parts = member(value, &["parts"]).map_or("null", |parts| parts.json);
            let parts = match parts.as_bytes().first() {
                Some(b'[') => with_element(parts, at, &new)?,
                Some(b'{') => with_own(parts),
                _ => format!("[{new}]"),
            };
            return document.set(&format!("{pointer}/parts"), &parts);
        }
        _ => {
            let name = pointer.rsplit('/').next().unwrap_or_default();
            return Err(format!("`{name}` is no list, nothing can be inserted"));
        }
    };
    document.set(pointer, &instructions)
}

/// Returns an array with one more element.
fn with_element(array: &str, at: usize, element: &str) -> Result<String, String> {
    let mut list = Document::trusted(Bytes::copy_from_slice(array.as_bytes()));
    list.insert(at, element.as_bytes());
    into_text(list)
}

/// Returns an array with those of its elements that are to be kept.
fn filtered(array: &str, is_kept: impl Fn(usize, &str) -> bool) -> Result<String, String> {
    let kept: Vec<bool> =
        elements(array).into_iter().enumerate().map(|(at, part)| is_kept(at, part)).collect();
    let mut list = Document::trusted(Bytes::copy_from_slice(array.as_bytes()));
    list.remove_elements(|at| !kept[at]);
    into_text(list)
}

/// A member that was looked for.
struct Member<'a> {
    /// Which of the names it has.
    name: &'static str,
    json: &'a str,
}

/// The last member of an object that has one of these names.
fn member<'a>(object: &'a str, names: &[&'static str]) -> Option<Member<'a>> {
    let mut found = None;
    let mut scanner = Scanner::new(object.as_bytes());
    let scanned = scanner.members(|scanner, written: Text<'_>| {
        let value = scanner.skip()?;
        if let Some(name) = names.iter().find(|name| written.is(name)) {
            found = Some(Member { name, json: scanner.slice(value) });
        }
        Ok(())
    });
    scanned.ok().and(found)
}

/// The text of a string, or of an object that has one.
fn text_of(json: &str) -> String {
    let mut scanner = Scanner::new(json.as_bytes());
    if json.starts_with('"') {
        return string(json).unwrap_or_default().into_owned();
    }
    part_text(&mut scanner).ok().flatten().unwrap_or_default().into_owned()
}

fn string(json: &str) -> Option<Cow<'_, str>> {
    Scanner::new(json.as_bytes()).string().ok().map(|text| text.decode())
}

/// Whether a part is of one of these types.
fn is_type(part: &str, types: &[&str]) -> bool {
    let kind = member(part, &["type"]).and_then(|kind| string(kind.json));
    kind.is_some_and(|kind| types.contains(&&*kind))
}

/// Whether a part of Google's is only thought.
fn is_thought(part: &str) -> bool {
    member(part, &["thought"]).is_some_and(|thought| thought.json == "true")
}
