//! The text of an answer that comes in one piece.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;

use crate::chat::{Channel, ChannelSet, Lane, StopReason, TextBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Endpoint;
use crate::wire::json;
use crate::wire::text::envelope::{Style, write_member};
use crate::wire::text::limits::{Budget, NO_CHOICE, NO_PART, NO_TOOL_CALL, check_channel, readable};
use crate::wire::text::plan::Plan;
use crate::wire::text::reader::{Opening, Place, Reader, Reading, Slot};
use crate::wire::text::response::{self, Piece};
use crate::wire::openai::view::Edit;

/// The text of one whole answer: what [`TextStream`](super::TextStream) is for a streamed one, by the same rules.
#[derive(Debug)]
pub struct WholeText {
    endpoint: Endpoint,
    body: Bytes,
    slots: Vec<Slot>,
    reading: Reading,
}

impl WholeText {
    /// Reads an answer. `channels` are those that any plugin wants.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`] when the body is not JSON.
    pub fn of(body: &Bytes, endpoint: Endpoint, channels: ChannelSet) -> Result<Self> {
        let mut slots = Vec::new();
        let channels = readable(endpoint, channels);
        let reading = if endpoint == Endpoint::Responses {
            response::read_whole(body, channels).map(|pieces| {
                let slot = |Piece { lane, text }| Slot { lane, event: 0, text, twin: None };
                slots = pieces.into_iter().map(slot).collect();
                Reading::default()
            })
        } else {
            Reader { channels, is_whole: true }.read(body, 0, &mut slots)
        };
        let reading = reading.map_err(|error| {
            Error::new(ErrorKind::UpstreamInvalid, "the upstream's answer is not valid JSON")
                .with_source(error.reason)
        })?;
        Ok(Self { endpoint, body: body.clone(), slots, reading })
    }

    /// All of its text; empty if it has none of the wanted channels.
    pub fn batch(&self) -> TextBatch {
        let mut batch = TextBatch::default();
        for slot in &self.slots {
            batch.push(slot.lane, &slot.text.decode(&self.body));
        }
        batch
    }

    /// Whether it has no text and nothing that could have any.
    pub fn is_mute(&self) -> bool {
        self.slots.is_empty() && self.reading.choices == 0 && !self.reading.has_further_choices
    }

    /// Why the answer ended, if it says so.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.reading.stop
    }

    /// Checks a batch that a plugin wants to be sent.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn validate(&self, batch: &TextBatch) -> Result<(), &'static str> {
        batch.check()?;
        let came = self.slots.iter().map(|slot| slot.text.range().len() as u64).sum();
        Budget { came, sent: 0 }.check(batch)?;
        if self.endpoint == Endpoint::Responses {
            return self.validate_parts(batch);
        }
        let choices: HashSet<u32> = self.choices().collect();
        let tools: HashSet<&Lane> = self.reading.tools.iter().collect();
        for (lane, _) in batch.pieces().filter(|(_, text)| !text.is_empty()) {
            if !choices.contains(&lane.choice) {
                return Err(NO_CHOICE);
            }
            check_channel(self.endpoint, lane.channel)?;
            if lane.channel == Channel::ToolArguments && !tools.contains(&lane) {
                return Err(NO_TOOL_CALL);
            }
        }
        Ok(())
    }

    /// Text of a response can only stand where there is some.
    fn validate_parts(&self, batch: &TextBatch) -> Result<(), &'static str> {
        let lanes: HashSet<Lane> = self.slots.iter().map(|slot| slot.lane).collect();
        let mut filled = batch.pieces().filter(|(_, text)| !text.is_empty());
        if filled.all(|(lane, _)| lanes.contains(&lane)) { Ok(()) } else { Err(NO_PART) }
    }

    /// The choices that text can be put into.
    fn choices(&self) -> impl Iterator<Item = u32> {
        let openings = self.reading.messages.iter().map(|opening| opening.choice);
        let places = self.reading.places.iter().map(|place| place.lane.choice);
        let slots = self.slots.iter().map(|slot| slot.lane.choice);
        openings.chain(places).chain(slots)
    }

    /// Writes the answer with the text the plugins made of the batch, and what they still had at the end. The very body
    /// if there is neither.
    pub fn write(&self, changed: Option<&TextBatch>, late: Option<&TextBatch>) -> Vec<Bytes> {
        let plan = changed.map(|changed| Plan::of(&self.slots, changed)).unwrap_or_default();
        let piece = |range: &Range<usize>| changed.map_or("", |changed| changed.slice(range.clone()));
        let mut now: Vec<Option<String>> =
            plan.texts.iter().map(|range| Some(piece(range).to_owned())).collect();
        now.resize(self.slots.len(), None);
        let extras = plan.extras.iter().map(|extra| (extra.lane, piece(&extra.text)));
        let late = late.into_iter().flat_map(TextBatch::pieces);
        let added = self.append(extras.chain(late), &mut now);
        let mut edits = self.edits(&now);
        self.add(&added, &mut edits);
        if edits.is_empty() { vec![self.body.clone()] } else { Edit::apply(edits, &self.body) }
    }

    /// Adds texts at the end of their lanes. Returns those of lanes that have no slot.
    fn append<'t>(
        &self,
        texts: impl Iterator<Item = (Lane, &'t str)>,
        now: &mut [Option<String>],
    ) -> BTreeMap<Lane, String> {
        let mut added: BTreeMap<Lane, String> = BTreeMap::new();
        let mut texts = texts.filter(|(_, text)| !text.is_empty()).peekable();
        if texts.peek().is_none() {
            return added;
        }
        let last: HashMap<Lane, usize> = self.slots.iter().map(|slot| slot.lane).zip(0..).collect();
        for (lane, text) in texts {
            let Some(last) = last.get(&lane) else {
                added.entry(lane).or_default().push_str(text);
                continue;
            };
            let old = || self.slots[*last].text.decode(&self.body).into_owned();
            now[*last].get_or_insert_with(old).push_str(text);
        }
        added
    }

    /// What has to be done for the slots to say what they are to say now.
    fn edits(&self, now: &[Option<String>]) -> Vec<Edit> {
        let mut edits = Vec::new();
        for (slot, text) in self.slots.iter().zip(now) {
            if let Some(text) = text.as_ref().filter(|text| slot.text.decode(&self.body) != **text) {
                slot.edit(text, &mut edits);
            }
        }
        edits
    }

    /// Puts text where there was none: into an empty member if there is one, otherwise into a new one.
    fn add(&self, added: &BTreeMap<Lane, String>, edits: &mut Vec<Edit>) {
        if added.is_empty() {
            return;
        }
        let places: HashMap<Lane, &Place> =
            self.reading.places.iter().map(|place| (place.lane, place)).collect();
        let openings: HashMap<u32, &Opening> =
            self.reading.messages.iter().map(|opening| (opening.choice, opening)).collect();
        let style = Style { thinking: self.reading.thinking, is_legacy_call: self.reading.is_legacy_call };
        let mut opened: Option<u32> = None;
        for (lane, text) in added {
            let mut written = Vec::with_capacity(text.len() + 32);
            if let Some(place) = places.get(lane) {
                json::quote(text, &mut written);
                edits.push(Edit { range: place.value.clone(), text: written });
            } else if let Some(opening) = openings.get(&lane.choice) {
                // In an empty message a comma stands only between the new members.
                if opening.is_empty && opened.replace(lane.choice) == Some(lane.choice) {
                    written.push(b',');
                }
                write_member(*lane, text, style, &mut written);
                if !opening.is_empty {
                    written.push(b',');
                }
                edits.push(Edit { range: opening.at..opening.at, text: written });
            }
        }
    }
}
