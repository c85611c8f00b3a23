//! Where the turns of a request stand.

use super::grammar::{Grammar, RESPONSE, member, response_text, string, text_of};
use crate::wire::Endpoint;
use crate::wire::document::Document;
use crate::wire::json::Scanner;
use crate::wire::messages::texts::content_text;
use crate::wire::messages::{elements, has_text, missing};

/// The turns of a request, and where others can be put.
pub(super) struct Conversation {
    pub(super) grammar: Grammar,
    /// The pointer of the instructions.
    pub(super) instructions: String,
    /// The pointer of the list of messages, if there is one.
    pub(super) list: Option<String>,
    pub(super) places: Vec<Place>,
}

/// One turn and where it stands.
pub(super) struct Place {
    pub(super) role: String,
    pub(super) text: String,
    pub(super) is_instruction: bool,
    /// Which element it is of the list of instructions or messages, or which message it is a part of.
    pub(super) at: usize,
    /// The pointer of what is edited.
    pub(super) pointer: String,
    /// The pointer of what goes when it is removed.
    pub(super) whole: String,
    pub(super) seat: Seat,
}

/// What a turn is in the document.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
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
    pub(super) fn read(grammar: Grammar, endpoint: Endpoint, document: &Document) -> Self {
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

    pub(super) fn place(&self, index: usize) -> Result<&Place, String> {
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
}
