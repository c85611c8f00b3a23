//! One event that waits for what becomes of its text.

use std::ops::Range;

use bytes::Bytes;

use crate::chat::Lane;
use crate::wire::json::{self, Kind, Scanner};
use crate::wire::openai::view::Edit;
use crate::wire::sse::{self, Fields};
use crate::wire::text::messages::Shape;
use crate::wire::text::reader::Slot;
use crate::wire::text::response::Piece;

/// One event as it came.
#[derive(Debug)]
pub(super) struct Event {
    /// How many bytes of the rope it is.
    pub(super) len: usize,
    /// Which of the slots are its own.
    pub(super) slots: Range<usize>,
    /// Whether it has nothing to say without its slots.
    pub(super) is_bare: bool,
    /// The choices in it.
    pub(super) choices: u128,
    pub(super) fate: Fate,
    /// The texts in it that are whole, most of which came before.
    pub(super) repeats: Vec<Piece>,
    /// Whether the answer is at its end.
    pub(super) is_end: bool,
    /// Whether something begins or goes on with it; only in the Responses API.
    pub(super) begins: bool,
    /// What it does to the blocks; only in Anthropic's Messages.
    pub(super) shape: Shape,
    /// There if it has slots or repeats.
    pub(super) body: Option<Body>,
}

/// When an event goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// When its batch is released.
    Pass,
    /// When the plugins have finished.
    Hold,
    /// Never.
    Drop,
}

/// An event's bytes.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) raw: Bytes,
    pub(super) fields: Fields,
}

/// What an event becomes.
pub(super) enum Outcome {
    Same,
    Edited(Bytes),
    Gone,
}

impl Event {
    /// Gives the texts of its slots, which are some of `slots`, as they came.
    pub(super) fn each_text(&self, slots: &[Slot], mut visit: impl FnMut(Lane, &str)) {
        let Some(data) = self.body.as_ref().and_then(Body::data) else { return };
        slots[self.slots.clone()].iter().for_each(|slot| visit(slot.lane, &slot.text.decode(data)));
    }

    /// Whether arguments that have to be whole are not in `texts`, which its slots are to say.
    pub(super) fn lacks_arguments<'t>(
        &self,
        slots: &[Slot],
        mut texts: impl Iterator<Item = &'t str>,
    ) -> bool {
        let mut slots = slots[self.slots.clone()].iter().zip(texts.by_ref());
        slots.any(|(slot, text)| slot.is_json && text.is_empty())
    }

    /// What it becomes when its slots, which are some of `slots`, say `texts`.
    pub(super) fn outcome<'t>(
        &self,
        slots: &[Slot],
        texts: impl Iterator<Item = &'t str> + Clone,
    ) -> Outcome {
        let Some(body) = &self.body else { return Outcome::Same };
        if self.is_bare && self.fate == Fate::Pass && texts.clone().all(str::is_empty) {
            return Outcome::Gone;
        }
        body.edited(&slots[self.slots.clone()], texts).map_or(Outcome::Same, Outcome::Edited)
    }
}

impl Body {
    pub(super) fn data(&self) -> Option<&Bytes> {
        self.fields.data.as_ref()
    }

    /// The event with other texts in its slots; none if they are the same.
    pub(super) fn edited<'t>(&self, slots: &[Slot], texts: impl Iterator<Item = &'t str>) -> Option<Bytes> {
        let data = self.data()?;
        let mut edits = Vec::new();
        for (slot, text) in slots.iter().zip(texts) {
            if slot.text.decode(data) != text {
                slot.edit(text, &mut edits);
            }
        }
        self.spliced(edits)
    }

    /// The event with these edits of its data; none if there are none.
    pub(super) fn spliced(&self, edits: Vec<Edit>) -> Option<Bytes> {
        let data = self.data().filter(|_| !edits.is_empty())?;
        Some(match &self.fields.data_range {
            Some(range) => splice(&self.raw, range.start, edits).into(),
            None => sse::encode(self.fields.event_name(), &splice(data, 0, edits)),
        })
    }
}

impl Slot {
    /// Writes what has to be done for it to say this text.
    pub(super) fn edit(&self, text: &str, edits: &mut Vec<Edit>) {
        if self.is_json {
            edits.push(Edit { range: self.text.range(), text: one_line(text) });
            return;
        }
        let mut escaped = Vec::with_capacity(text.len());
        json::escape(text, &mut escaped);
        if let Some(range) = self.twin.clone() {
            edits.push(Edit { range, text: escaped.clone() });
        }
        edits.push(Edit { range: self.text.range(), text: escaped });
    }
}

/// Whether a text is a JSON object.
pub(super) fn is_object(text: &str) -> bool {
    let mut scanner = Scanner::new(text.as_bytes());
    matches!(scanner.peek(), Ok(Kind::Object)) && scanner.skip().and_then(|_| scanner.end()).is_ok()
}

/// Writes a JSON object without line ends, which would end the line of an event; an empty one for what is none.
fn one_line(text: &str) -> Vec<u8> {
    if !is_object(text) {
        return b"{}".to_vec();
    }
    // Inside of strings they are escaped.
    text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect()
}

/// Makes edits whose ranges count from `origin`.
pub(super) fn splice(bytes: &[u8], origin: usize, mut edits: Vec<Edit>) -> Vec<u8> {
    edits.sort_unstable_by_key(|edit| edit.range.start);
    let added: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut spliced = Vec::with_capacity(bytes.len() + added);
    let mut at = 0;
    for edit in edits {
        spliced.extend_from_slice(&bytes[at..origin + edit.range.start]);
        spliced.extend_from_slice(&edit.text);
        at = origin + edit.range.end;
    }
    spliced.extend_from_slice(&bytes[at..]);
    spliced
}
