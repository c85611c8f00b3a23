//! What waits for the arguments of a call to be complete, and whether they are.

use crate::chat::{Event, Signature};

/// What something that is held back costs beside its text, in bytes.
const HELD_BYTES_EACH: usize = 128;

/// Something that waits for a call to be complete.
#[derive(Debug)]
pub(super) enum Held {
    Call { call: Call, json: String, is_complete: bool },
    Event(Event),
}

/// A call that begins.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) index: u32,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) signature: Option<Signature>,
}

impl Held {
    /// About how much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        HELD_BYTES_EACH
            + match self {
                Self::Call { call, json, .. } => call.id.len() + call.name.len() + json.len(),
                Self::Event(
                    Event::Text { text, .. } | Event::Thinking { text, .. } | Event::Refusal { text, .. },
                ) => text.len(),
                Self::Event(Event::Other(raw)) => raw.get().len(),
                Self::Event(Event::Signature { signature, .. }) => signature.value.len(),
                Self::Event(Event::RedactedThinking { data, .. }) => data.value.len(),
                Self::Event(Event::Citation { citation, .. }) => {
                    let texts = [&citation.url, &citation.title, &citation.quoted];
                    let original = citation.original.as_ref().map_or(0, |(_, raw)| raw.get().len());
                    texts.into_iter().flatten().map(String::len).sum::<usize>() + original
                }
                Self::Event(_) => 0,
            }
    }
}

/// What the arguments of a call are, as far as their beginning tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing but white space so far.
    #[default]
    Unknown,
    /// What begins as an object does.
    Object,
    /// Anything else: all of it.
    Other(String),
}

impl Form {
    /// Reads on, and returns what may be written at once; none for what is kept.
    pub(super) fn push<'j>(&mut self, json: &'j str) -> Option<&'j str> {
        match self {
            Self::Object => return Some(json),
            Self::Other(text) => text.push_str(json),
            Self::Unknown => {
                let begun = json.trim_start();
                if begun.starts_with('{') {
                    *self = Self::Object;
                    return Some(begun);
                }
                if !begun.is_empty() {
                    *self = Self::Other(begun.to_owned());
                }
            }
        }
        None
    }
}

/// How far the arguments of a call have come: whether they are a whole object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    depth: u32,
    is_in_string: bool,
    is_escaped: bool,
    has_begun: bool,
}

impl Arguments {
    /// Reads on.
    pub(super) fn push(&mut self, json: &str) {
        for byte in json.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' => {
                    self.is_in_string = !self.is_in_string;
                    self.has_begun = true;
                }
                _ if self.is_in_string => {}
                b'{' | b'[' => {
                    self.depth = self.depth.saturating_add(1);
                    self.has_begun = true;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Whether they are whole: nothing that follows belongs to them.
    pub(super) fn are_complete(&self) -> bool {
        self.has_begun && self.depth == 0 && !self.is_in_string
    }
}
