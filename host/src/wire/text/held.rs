//! What waits until the plugins have finished.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::chat::{Lane, TextBatch};
use crate::wire::text::event::Body;
use crate::wire::text::lanes::Lanes;
use crate::wire::text::reader::Slot;
use crate::wire::text::response::Piece;

/// Something that goes out when the plugins have finished.
#[derive(Debug)]
pub(super) enum Held {
    /// An event.
    Event(HeldEvent),
    /// Text without an event.
    Text(Lane, String),
}

/// As [`Event`](super::event::Event), on its own.
#[derive(Debug)]
pub(super) struct HeldEvent {
    pub(super) raw: Bytes,
    pub(super) slots: Vec<Slot>,
    /// What the slots are to say, if that was changed.
    pub(super) texts: Option<Vec<String>>,
    pub(super) is_bare: bool,
    pub(super) is_end: bool,
    pub(super) begins: bool,
    pub(super) repeats: Vec<Piece>,
    pub(super) body: Option<Body>,
}

impl Held {
    pub(super) fn event(&self) -> Option<&HeldEvent> {
        match self {
            Self::Event(event) => Some(event),
            Self::Text(..) => None,
        }
    }

    /// Appends its text.
    pub(super) fn texts(&self, into: &mut Texts) {
        match self {
            Self::Text(lane, text) => into.push(*lane, text),
            Self::Event(event) => event.texts(into),
        }
    }

    /// Puts late text where it was waited for.
    pub(super) fn fill(&mut self, late: Option<&TextBatch>) {
        let Self::Event(event) = self else { return };
        for (lane, text) in late.into_iter().flat_map(TextBatch::pieces) {
            event.fill(lane, text);
        }
    }

    /// The event with its text; none if nothing is left to say.
    pub(super) fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Text(..) => None,
            Self::Event(event) => event.into_bytes(),
        }
    }

    /// The event without its text; none if nothing is left to say.
    pub(super) fn into_shell(self) -> Option<Bytes> {
        match self {
            Self::Event(mut event) if !event.slots.is_empty() => {
                event.blank();
                event.into_bytes()
            }
            held => held.into_bytes(),
        }
    }

    /// The event, repeating what the client got.
    pub(super) fn repeated(self, lanes: &Lanes) -> Option<Bytes> {
        match &self {
            Self::Event(HeldEvent { raw, repeats, body: Some(body), .. }) if !repeats.is_empty() => {
                let data = body.data()?;
                Some(body.spliced(lanes.edits(data, repeats)).unwrap_or_else(|| raw.clone()))
            }
            _ => self.into_bytes(),
        }
    }
}

impl HeldEvent {
    /// Appends its text, but for that which can only stand in it.
    pub(super) fn texts(&self, into: &mut Texts) {
        let Some(data) = self.body.as_ref().and_then(Body::data) else { return };
        for (number, slot) in self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_json) {
            match &self.texts {
                Some(texts) => into.push(slot.lane, texts.get(number).map_or("", String::as_str)),
                None => into.push(slot.lane, &slot.text.decode(data)),
            }
        }
    }

    /// Takes away what [`texts`](Self::texts) gives.
    fn blank(&mut self) {
        let Some(data) = self.body.as_ref().and_then(Body::data) else { return };
        let mut now = self.texts.take().unwrap_or_default().into_iter();
        let text = |slot: &Slot| match (slot.is_json, now.next()) {
            (true, now) => now.unwrap_or_else(|| slot.text.decode(data).into_owned()),
            (false, _) => String::new(),
        };
        self.texts = Some(self.slots.iter().map(text).collect());
    }

    /// Whether it waits for text that can only stand in it.
    pub(super) fn lacks(&self, lane: Lane) -> bool {
        let mut slots = self.slots.iter().zip(self.texts.iter().flatten());
        slots.any(|(slot, text)| slot.is_json && slot.lane == lane && text.is_empty())
    }

    /// Puts text where it was waited for.
    fn fill(&mut self, lane: Lane, text: &str) {
        let slots = self.slots.iter().zip(self.texts.iter_mut().flatten());
        for (_, place) in slots.filter(|(slot, _)| slot.is_json && slot.lane == lane) {
            place.push_str(text);
        }
    }

    pub(super) fn into_bytes(self) -> Option<Bytes> {
        let (Some(body), Some(texts)) = (&self.body, &self.texts) else { return Some(self.raw) };
        if self.is_bare && texts.iter().all(String::is_empty) {
            return None;
        }
        Some(body.edited(&self.slots, texts.iter().map(String::as_str)).unwrap_or(self.raw))
    }
}

/// Texts in order; those of one lane that follow each other are one.
#[derive(Debug, Default)]
pub(super) struct Texts(pub(super) Vec<(Lane, String)>);

impl Texts {
    pub(super) fn push(&mut self, lane: Lane, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some((last, texts)) if *last == lane => texts.push_str(text),
            _ => self.0.push((lane, text.to_owned())),
        }
    }
}

/// In the Responses API a text ends before the next begins: what is late stands before the event that ends its own.
pub(super) fn finish_response(
    held: Vec<Held>,
    late: Option<&TextBatch>,
    lanes: &mut Lanes,
    out: &mut Vec<Bytes>,
) {
    if let Some(late) = late {
        for (lane, text) in late.pieces().filter(|(_, text)| !text.is_empty()) {
            lanes.sent(lane, text);
            lanes.mark(lane);
        }
    }
    let mut ends: HashMap<Lane, usize> = HashMap::new();
    let mut end = held.len();
    for (at, event) in held.iter().enumerate().filter_map(|(at, held)| Some((at, held.event()?))) {
        event.repeats.iter().for_each(|piece| {
            ends.entry(piece.lane).or_insert(at);
        });
        end = if event.is_end { end.min(at) } else { end };
    }
    let mut texts: BTreeMap<usize, Texts> = BTreeMap::new();
    for (at, held) in held.iter().enumerate() {
        if let Held::Text(lane, text) = held {
            let at = ends.get(lane).map_or(at, |end| at.min(*end));
            texts.entry(at).or_default().push(*lane, text);
        }
    }
    for (lane, text) in late.into_iter().flat_map(TextBatch::pieces) {
        texts.entry(ends.get(&lane).copied().unwrap_or(end)).or_default().push(lane, text);
    }
    let mut write = |at: usize, out: &mut Vec<Bytes>| {
        let texts = texts.remove(&at).unwrap_or_default();
        out.extend(texts.0.iter().filter_map(|(lane, text)| lanes.event(*lane, text)));
    };
    let count = held.len();
    for (at, held) in held.into_iter().enumerate() {
        write(at, out);
        out.extend(held.repeated(lanes));
    }
    write(count, out);
}
