//! The answer that events of Google's amount to.
//!
//! Each event is an answer of its own, with a few parts of each candidate. Texts that follow each other are pieces of one,
//! unless one is thought and the other is not, or has anything else beside it, such as a signature.
//!
//! Source: Google, Gemini API reference, "Generating content", seen 2026-11.

use super::object::{Members, Object, Store, write_text};
use super::{Event, index};
use crate::chat::Usage;
use crate::wire::json::{Kind, Scanner, SyntaxError, Text};
use crate::wire::usage::Estimate;

/// How many candidates an answer, and how many parts a candidate, may have; those after are left out.
const PARTS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Content {
    /// Everything but its candidates and its usage.
    members: Object,
    candidates: Vec<Candidate>,
    /// Whether any event had the list of candidates.
    has_candidates: bool,
}

#[derive(Debug)]
struct Candidate {
    index: u64,
    /// Everything but its parts.
    members: Object,
    /// Everything in its `content` but the parts.
    content: Object,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    /// A text that grows, by its number in the store.
    Text { text: usize, is_thought: bool },
    /// Any other, as it came.
    Json(Box<str>),
}

/// A part as an event has it.
#[derive(Default)]
struct Piece<'a> {
    text: Option<Text<'a>>,
    is_thought: bool,
    has_others: bool,
}

impl Content {
    /// Whether an event is of such an answer.
    pub(super) fn is_in(event: &Event<'_>) -> bool {
        event.get("candidates", Kind::Array).is_some()
            || ["promptFeedback", "usageMetadata"].iter().any(|name| event.get(name, Kind::Object).is_some())
    }

    /// Takes one event.
    pub(super) fn take(&mut self, event: &Event<'_>, store: &mut Store) {
        for member in &event.members {
            match member.name {
                "candidates" if member.kind == Kind::Array => {
                    self.has_candidates = true;
                    store.begin(member.start);
                    let scanned = self.grow(member.json, store);
                    debug_assert!(scanned.is_ok(), "it has been read before");
                }
                "candidates" | "usageMetadata" | "error" => {}
                name => self.members.set(name, member.json, store),
            }
        }
    }

    fn grow(&mut self, candidates: &str, store: &mut Store) -> Result<(), SyntaxError> {
        let mut place = 0;
        let mut scanner = Scanner::new(candidates.as_bytes());
        scanner.array(|scanner| {
            let index = index(scanner.rest()).unwrap_or(place);
            place += 1;
            if scanner.peek()? != Kind::Object {
                return scanner.skip().map(drop);
            }
            match self.candidate(index, store) {
                Some(candidate) => candidate.grow(scanner, store),
                None => scanner.skip().map(drop),
            }
        })
    }

    fn candidate(&mut self, index: u64, store: &mut Store) -> Option<&mut Candidate> {
        let known = self.candidates.iter().position(|candidate| candidate.index == index);
        let is_full = self.candidates.len() == PARTS_MAX;
        if known.is_none() && (is_full || !store.exchange(0, size_of::<Candidate>())) {
            store.set_cut();
            return None;
        }
        let place = known.unwrap_or_else(|| {
            let (members, content) = (Object::default(), Object::default());
            self.candidates.push(Candidate { index, members, content, parts: Vec::new() });
            self.candidates.len() - 1
        });
        self.candidates.get_mut(place)
    }

    /// Adds what is called with what; the texts are in the store.
    pub(super) fn estimate(&self, estimate: &mut Estimate) {
        for part in self.candidates.iter().flat_map(|candidate| &candidate.parts) {
            if let Part::Json(json) = part {
                // It has been read before.
                let _ = estimate.add_value(&mut Scanner::new(json.as_bytes()), false);
            }
        }
    }

    /// Writes the answer's members.
    pub(super) fn write(&mut self, store: &Store, members: &mut Members<'_>) {
        self.candidates.sort_by_key(|candidate| candidate.index);
        if self.has_candidates {
            members.add("candidates", |out| {
                out.push('[');
                for (number, candidate) in self.candidates.iter().enumerate() {
                    if number > 0 {
                        out.push(',');
                    }
                    Members::write(out, |members| candidate.write(store, members));
                }
                out.push(']');
            });
        }
        self.members.write_members(store, members);
    }
}

impl Candidate {
    fn grow(&mut self, scanner: &mut Scanner<'_>, store: &mut Store) -> Result<(), SyntaxError> {
        scanner.members(|scanner, name| {
            if name.is("content") {
                return self.grow_content(scanner, store);
            }
            let range = scanner.skip()?;
            if !name.is("index") {
                self.members.set(name.raw(), scanner.slice(range), store);
            }
            Ok(())
        })
    }

    fn grow_content(&mut self, scanner: &mut Scanner<'_>, store: &mut Store) -> Result<(), SyntaxError> {
        scanner.members(|scanner, name| {
            if name.is("parts") && scanner.peek()? == Kind::Array {
                return scanner.array(|scanner| self.take_part(scanner, store));
            }
            let range = scanner.skip()?;
            if !name.is("parts") {
                self.content.set(name.raw(), scanner.slice(range), store);
            }
            Ok(())
        })
    }

    fn take_part(&mut self, scanner: &mut Scanner<'_>, store: &mut Store) -> Result<(), SyntaxError> {
        let mut piece = Piece::default();
        let kind = scanner.peek()?;
        let start = scanner.position();
        scanner.members(|scanner, name| {
            match (name.raw(), scanner.peek()?) {
                ("text", Kind::String) => piece.text = Some(scanner.string()?),
                ("thought", Kind::True) => {
                    piece.is_thought = true;
                    scanner.skip()?;
                }
                ("thought", Kind::False) => {
                    scanner.skip()?;
                }
                _ => {
                    piece.has_others = true;
                    scanner.skip()?;
                }
            }
            Ok(())
        })?;
        if kind != Kind::Object {
            return Ok(());
        }
        match piece.text.filter(|_| !piece.has_others) {
            Some(text) => self.add_text(&text, piece.is_thought, store),
            None => self.add_json(scanner.slice(start..scanner.position()), store),
        }
        Ok(())
    }

    fn add_text(&mut self, piece: &Text<'_>, is_thought: bool, store: &mut Store) {
        let known = match self.parts.last() {
            Some(Part::Text { text, is_thought: known }) if *known == is_thought => Some(*text),
            _ => None,
        };
        let text = match known {
            Some(text) => text,
            None => {
                store.grew();
                if !self.has_room(0, store) {
                    return;
                }
                let text = store.add_text();
                self.parts.push(Part::Text { text, is_thought });
                text
            }
        };
        store.grow_text(text, piece);
    }

    fn add_json(&mut self, json: &str, store: &mut Store) {
        store.grew();
        if self.has_room(json.len(), store) {
            self.parts.push(Part::Json(json.into()));
        }
    }

    /// Whether there is room for another part of so many bytes.
    fn has_room(&self, bytes: usize, store: &mut Store) -> bool {
        let has_room = self.parts.len() < PARTS_MAX && store.exchange(0, bytes + size_of::<Part>());
        if !has_room {
            store.set_cut();
        }
        has_room
    }

    fn write(&self, store: &Store, members: &mut Members<'_>) {
        members.add("content", |out| {
            Members::write(out, |members| {
                if !self.parts.is_empty() {
                    members.add("parts", |out| self.write_parts(store, out));
                }
                self.content.write_members(store, members);
            });
        });
        self.members.write_members(store, members);
        members.json("index", &self.index.to_string());
    }

    fn write_parts(&self, store: &Store, out: &mut String) {
        out.push('[');
        for (number, part) in self.parts.iter().enumerate() {
            if number > 0 {
                out.push(',');
            }
            match part {
                Part::Json(json) => out.push_str(json),
                Part::Text { text, is_thought } => Members::write(out, |members| {
                    members.add("text", |out| write_text(store.text(*text), out));
                    if *is_thought {
                        members.json("thought", "true");
                    }
                }),
            }
        }
        out.push(']');
    }
}

/// Writes tokens in Google's words.
pub(super) fn usage_json(usage: Usage) -> String {
    let Usage { input, output, cached, reasoning, is_estimated, .. } = usage;
    let (total, candidates) = (usage.total(), output.saturating_sub(reasoning));
    let estimated = if is_estimated { ",\"estimated\":true" } else { "" };
    format!(
        "{{\"promptTokenCount\":{input},\"candidatesTokenCount\":{candidates},\"totalTokenCount\":{total},\
         \"cachedContentTokenCount\":{cached},\"thoughtsTokenCount\":{reasoning}{estimated}}}"
    )
}
