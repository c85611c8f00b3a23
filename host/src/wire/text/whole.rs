//! The text of an answer that comes in one piece.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;

use crate::chat::{Channel, ChannelSet, Lane, StopReason, TextBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Endpoint;
use crate::wire::json;
use crate::wire::openai::view::Edit;
use crate::wire::text::content::{self, Calls};
use crate::wire::text::envelope::{Style, write_block, write_member, write_part};
use crate::wire::text::limits::{
    Budget, NO_CHOICE, NO_PART, NO_TOOL_CALL, check_channel, check_objects, readable,
};
use crate::wire::text::messages;
use crate::wire::text::plan::Plan;
use crate::wire::text::reader::{Element, List, Opening, Place, Reader, Reading, Slot};
use crate::wire::text::response::{self, Piece};

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
    /// [`ErrorKind::UpstreamInvalid`] when the body is not a JSON object: text that stands in another form would pass unseen.
    pub fn of(body: &Bytes, endpoint: Endpoint, channels: ChannelSet) -> Result<Self> {
        let mut slots = Vec::new();
        let channels = readable(endpoint, channels);
        let reading = if endpoint == Endpoint::Responses {
            response::read_whole(body, channels).map(|pieces| {
                let slot = |Piece { lane, text }| Slot { lane, event: 0, text, twin: None, is_json: false };
                slots = pieces.into_iter().map(slot).collect();
                Reading::default()
            })
        } else {
            match endpoint {
                Endpoint::Messages => messages::read_whole(body, channels, &mut slots),
                Endpoint::GenerateContent => {
                    content::read(body, channels, 0, &mut Calls::default(), &mut slots)
                }
                _ => Reader { channels, is_whole: true }.read(body, 0, &mut slots),
            }
        };
        let reading = reading.map_err(|error| {
            Error::new(ErrorKind::UpstreamInvalid, "the upstream's answer is not valid JSON")
                .with_source(error.reason)
        })?;
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Error::new(ErrorKind::UpstreamInvalid, "the upstream's answer is not a JSON object"));
        }
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
        if matches!(self.endpoint, Endpoint::Messages | Endpoint::GenerateContent) {
            let has = |lane| self.slots.iter().any(|slot| slot.is_json && slot.lane == lane);
            check_objects(batch, has)?;
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
        let lists = self.reading.lists.iter().map(|list| list.choice);
        openings.chain(places).chain(slots).chain(lists)
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
        let left_out = self.left_out(&now, &added);
        let mut edits = self.edits(&now, &left_out);
        self.add(&added, &mut edits);
        self.reading.lists.iter().for_each(|list| self.edit_list(list, &left_out, &added, &mut edits));
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
            let slot = &self.slots[*last];
            if slot.is_json {
                // It is whole: the last word counts.
                now[*last] = Some(text.to_owned());
                continue;
            }
            let old = || slot.text.decode(&self.body).into_owned();
            now[*last].get_or_insert_with(old).push_str(text);
        }
        added
    }

    /// What has to be done for the slots to say what they are to say now.
    fn edits(&self, now: &[Option<String>], left_out: &HashSet<usize>) -> Vec<Edit> {
        let mut edits = Vec::new();
        for (number, (slot, text)) in self.slots.iter().zip(now).enumerate() {
            if left_out.contains(&number) {
                continue;
            }
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

    /// The slots whose elements are left out of their lists, because they have lost all they had to say. A list that
    /// would be empty keeps the last.
    fn left_out(&self, now: &[Option<String>], added: &BTreeMap<Lane, String>) -> HashSet<usize> {
        let is_emptied = |slot: &usize| now.get(*slot).and_then(Option::as_deref).is_some_and(str::is_empty);
        let mut left_out = HashSet::new();
        for list in &self.reading.lists {
            let mut gone: Vec<usize> =
                list.elements.iter().filter_map(|element| element.slot).filter(is_emptied).collect();
            if gone.len() == list.elements.len() && !added.keys().any(|lane| lane.choice == list.choice) {
                gone.pop();
            }
            left_out.extend(gone);
        }
        left_out
    }

    /// Leaves elements out of a list, and adds elements for texts that have none: thinking before the others, content
    /// behind them.
    fn edit_list(
        &self,
        list: &List,
        left_out: &HashSet<usize>,
        added: &BTreeMap<Lane, String>,
        edits: &mut Vec<Edit>,
    ) {
        let is_kept = |element: &Element| element.slot.is_none_or(|slot| !left_out.contains(&slot));
        let has_kept = list.elements.iter().any(is_kept);
        let added = |channel| {
            let lane = Lane { choice: list.choice, sub_index: 0, channel };
            added.get(&lane).map(|text| self.element(lane, text))
        };
        let (thinking, content) = (added(Channel::Reasoning), added(Channel::Content));
        let start = list.elements.first().map_or(list.start, |element| element.range.start);
        let end = list.elements.last().map_or(list.start, |element| element.range.end);
        let has_more = has_kept || thinking.is_some();
        edits.extend(thinking.map(|mut text| {
            text.extend_from_slice(if has_kept { b"," } else { b"" });
            Edit { range: start..start, text }
        }));
        edits.extend(gaps(list, is_kept).into_iter().map(|range| Edit { range, text: Vec::new() }));
        edits.extend(content.map(|text| {
            let comma: &[u8] = if has_more { b"," } else { b"" };
            Edit { range: end..end, text: [comma, &text].concat() }
        }));
    }

    /// Writes an element of a list with this text.
    fn element(&self, lane: Lane, text: &str) -> Vec<u8> {
        let mut written = Vec::with_capacity(text.len() + 64);
        if self.endpoint == Endpoint::Messages {
            write_block(lane, text, &mut written);
        } else {
            write_part(lane, text, &mut written);
        }
        written
    }
}

/// What has to go of a list, so that only some of its elements are left, with one comma between two.
fn gaps(list: &List, is_kept: impl Fn(&Element) -> bool) -> Vec<Range<usize>> {
    let mut gaps = Vec::new();
    let (mut gap, mut before): (Option<Range<usize>>, Option<usize>) = (None, None);
    for element in &list.elements {
        let Range { start, end } = element.range.clone();
        if !is_kept(element) {
            let from = gap.map_or_else(|| before.unwrap_or(start), |gap| gap.start);
            gap = Some(from..end);
            continue;
        }
        // The comma before an element goes with those before it only if none of them is left.
        let until = |gap: Range<usize>| gap.start..if before.is_some() { gap.end } else { start };
        gaps.extend(gap.take().map(until));
        before = Some(end);
    }
    gaps.extend(gap);
    gaps
}
