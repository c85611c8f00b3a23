//! Where the text stands in an event, or in a whole answer, and what else is in it.
//!
//! One pass over the JSON. Only strings of the wanted channels become slots; what else there is decides whether an event
//! may go when its text has gone.
//!
//! Source: OpenAI API reference, "Chat", "Completions", seen 2026-11; DeepSeek's and vLLM's `reasoning_content`,
//! OpenRouter's `reasoning`, their API references, seen 2026-11.

use std::ops::Range;

use crate::chat::{Channel, ChannelSet, Lane, StopReason};
use crate::wire::json::{self, Kind, Scanner, SyntaxError, Text};
use crate::wire::openai::view::{Scan, is_filled, members, string};

/// One text of a wanted channel that is not empty.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Which text it is a piece of.
    pub(super) lane: Lane,
    /// The number of its event among those that wait.
    pub(super) event: usize,
    /// Where it stands in the event's data.
    pub(super) text: json::Span,
    /// Where the same text stands once more: some upstreams send the thinking under both of its names.
    pub(super) twin: Option<Range<usize>>,
    /// Whether it is a JSON object as it stands, not a string.
    pub(super) is_json: bool,
}

/// What an event says besides its text.
#[derive(Debug)]
pub(super) struct Reading {
    /// The choices in it, one bit for each index below [`CHOICES_MAX`](super::CHOICES_MAX).
    pub(super) choices: u128,
    /// Those of them that have ended with it.
    pub(super) ended: u128,
    /// Whether it has a choice that has no bit.
    pub(super) has_further_choices: bool,
    /// Why a choice has ended.
    pub(super) stop: Option<StopReason>,
    /// Whether the answer has come to its end with it.
    pub(super) is_end: bool,
    /// Whether something begins or goes on with it; only in the Responses API.
    pub(super) begins: bool,
    /// Whether it says nothing but its slots and what every event says.
    pub(super) is_bare: bool,
    /// The names the thinking has in it.
    pub(super) thinking: ThinkingNames,
    /// The tool calls in it, if their arguments are wanted.
    pub(super) tools: Vec<Lane>,
    /// Whether a function call is in the form that came before tool calls.
    pub(super) is_legacy_call: bool,
    /// Where text could be put that is not there now; only of whole answers.
    pub(super) places: Vec<Place>,
    /// The messages; only of whole answers.
    pub(super) messages: Vec<Opening>,
    /// The lists of blocks or parts, of the dialects that have them.
    pub(super) lists: Vec<List>,
}

/// Under which names an upstream sends the thinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ThinkingNames {
    /// `reasoning_content`
    pub(super) has_long: bool,
    /// `reasoning`
    pub(super) has_short: bool,
}

/// A text that is empty or null.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) lane: Lane,
    /// Where the value stands.
    pub(super) value: Range<usize>,
}

/// Where a message begins.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) choice: u32,
    /// Where its first member stands or would stand.
    pub(super) at: usize,
    pub(super) is_empty: bool,
}

/// A list of the blocks or parts of an answer.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) choice: u32,
    /// Where its first element stands or would stand.
    pub(super) start: usize,
    pub(super) elements: Vec<Element>,
}

/// One element of a list.
#[derive(Clone, Debug)]
pub(super) struct Element {
    /// Where it stands.
    pub(super) range: Range<usize>,
    /// The number of the slot that is all it has to say, among those that were read.
    pub(super) slot: Option<usize>,
}

/// What every event of an answer says; it is no reason to keep one that has lost its text.
pub(super) const ENVELOPE: [&str; 7] =
    ["id", "object", "created", "model", "system_fingerprint", "service_tier", "provider"];

/// Reads what a client would take for an answer's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) channels: ChannelSet,
    /// Whether what is read is a whole answer, not an event.
    pub(super) is_whole: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            choices: 0,
            ended: 0,
            has_further_choices: false,
            stop: None,
            is_end: false,
            begins: false,
            is_bare: true,
            thinking: ThinkingNames::default(),
            tools: Vec::new(),
            is_legacy_call: false,
            places: Vec::new(),
            messages: Vec::new(),
            lists: Vec::new(),
        }
    }
}

impl Reader {
    /// Reads an answer with choices, or an event of one, and appends its slots.
    ///
    /// # Errors
    /// A syntax error anywhere in it; then no slot is added.
    pub(super) fn read(
        self,
        bytes: &[u8],
        event: usize,
        slots: &mut Vec<Slot>,
    ) -> Result<Reading, SyntaxError> {
        let known = slots.len();
        let mut walk = Walk { reader: self, bytes, event, slots, reading: Reading::default() };
        let mut scanner = Scanner::new(bytes);
        let outcome = walk.top(&mut scanner).and_then(|()| scanner.end());
        let reading = walk.reading;
        if outcome.is_err() {
            slots.truncate(known);
        }
        outcome.map(|()| reading)
    }
}

impl Reading {
    /// Whether it has any choice.
    pub(super) fn has_choices(&self) -> bool {
        self.choices != 0 || self.has_further_choices
    }
}

/// One pass.
struct Walk<'a, 's> {
    reader: Reader,
    bytes: &'a [u8],
    event: usize,
    slots: &'s mut Vec<Slot>,
    reading: Reading,
}

/// How much was known before a part of the document was read.
#[derive(Clone, Copy)]
struct Known {
    slots: usize,
    places: usize,
    tools: usize,
    messages: usize,
}

impl<'a> Walk<'a, '_> {
    fn top(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        members(scanner, |scanner, key| {
            if key.is("choices") {
                return self.choices(scanner);
            }
            let value = scanner.skip()?;
            if is_filled(&self.bytes[value]) {
                self.reading.is_end |= key.is("error");
                self.reading.is_bare &= key.is("obfuscation") || ENVELOPE.iter().any(|name| key.is(name));
            }
            Ok(())
        })
    }

    fn choices(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        if scanner.peek()? != Kind::Array {
            return scanner.skip().map(drop);
        }
        let mut place = 0;
        scanner.array(|scanner| {
            self.choice(scanner, place)?;
            place += 1;
            Ok(())
        })
    }

    fn choice(&mut self, scanner: &mut Scanner<'a>, place: u32) -> Scan<()> {
        let known = self.known();
        let (mut index, mut has_ended) = (place, false);
        members(scanner, |scanner, key| {
            if key.is("delta") || key.is("message") {
                self.message(scanner)
            } else if key.is("text") {
                self.string(scanner, Channel::Content, 0)
            } else if key.is("index") {
                index = scanner.count()?.map_or(place, clamp);
                Ok(())
            } else if key.is("finish_reason") {
                // Some upstreams write an empty reason until there is one.
                if let Some(reason) = string(scanner)?.filter(|reason| !reason.is_empty()) {
                    has_ended = true;
                    self.reading.stop = self.reading.stop.or_else(|| Some(StopReason::of_openai(&reason)));
                    self.reading.is_bare = false;
                }
                Ok(())
            } else {
                self.other(scanner)
            }
        })?;
        self.number_choice(known, index);
        match 1_u128.checked_shl(index) {
            Some(bit) => {
                self.reading.choices |= bit;
                self.reading.ended |= if has_ended { bit } else { 0 };
            }
            None => self.reading.has_further_choices = true,
        }
        Ok(())
    }

    fn known(&self) -> Known {
        Known {
            slots: self.slots.len(),
            places: self.reading.places.len(),
            tools: self.reading.tools.len(),
            messages: self.reading.messages.len(),
        }
    }

    /// Gives what was read of a choice its number, which may stand behind it.
    fn number_choice(&mut self, known: Known, index: u32) {
        let reading = &mut self.reading;
        self.slots[known.slots..].iter_mut().for_each(|slot| slot.lane.choice = index);
        reading.places[known.places..].iter_mut().for_each(|place| place.lane.choice = index);
        reading.tools[known.tools..].iter_mut().for_each(|lane| lane.choice = index);
        reading.messages[known.messages..].iter_mut().for_each(|opening| opening.choice = index);
    }

    fn message(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        if scanner.peek()? != Kind::Object {
            return self.other(scanner);
        }
        let at = scanner.position() + 1;
        let mut is_empty = true;
        let mut thinking = None;
        members(scanner, |scanner, key| {
            is_empty = false;
            if key.is("content") {
                self.content(scanner)
            } else if key.is("reasoning_content") {
                let is_there = self.thinking(scanner, &mut thinking)?;
                self.reading.thinking.has_long |= is_there;
                Ok(())
            } else if key.is("reasoning") {
                let is_there = self.thinking(scanner, &mut thinking)?;
                self.reading.thinking.has_short |= is_there;
                Ok(())
            } else if key.is("refusal") {
                self.string(scanner, Channel::Refusal, 0)
            } else if key.is("tool_calls") {
                self.tool_calls(scanner)
            } else if key.is("function_call") {
                self.reading.is_legacy_call |= scanner.peek()? == Kind::Object;
                self.function(scanner, 0)
            } else {
                self.other(scanner)
            }
        })?;
        if self.reader.is_whole {
            self.reading.messages.push(Opening { choice: 0, at, is_empty });
        }
        Ok(())
    }

    /// Reads the content, which may be a list of parts.
    fn content(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        if scanner.peek()? != Kind::Array {
            return self.string(scanner, Channel::Content, 0);
        }
        scanner.array(|scanner| {
            self.reading.is_bare = false;
            self.part(scanner)
        })
    }

    fn part(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        let (mut text, mut refusal, mut is_text) = (None, None, false);
        members(scanner, |scanner, key| {
            if key.is("text") && scanner.peek()? == Kind::String {
                text = Some(scanner.string()?);
            } else if key.is("refusal") && scanner.peek()? == Kind::String {
                refusal = Some(scanner.string()?);
            } else if key.is("type") {
                is_text = string(scanner)?.is_some_and(|kind| kind == "text" || kind == "output_text");
            } else {
                scanner.skip()?;
            }
            Ok(())
        })?;
        if let Some(text) = text.filter(|text: &Text<'_>| is_text && !text.raw().is_empty()) {
            self.slot(&text, Channel::Content, 0);
        }
        if let Some(refusal) = refusal.filter(|refusal: &Text<'_>| !refusal.raw().is_empty()) {
            self.slot(&refusal, Channel::Refusal, 0);
        }
        Ok(())
    }

    /// Reads the thinking under one of its names. `first` is the slot of the other name, once that was read. Returns
    /// whether there is any.
    fn thinking(&mut self, scanner: &mut Scanner<'a>, first: &mut Option<(usize, Text<'a>)>) -> Scan<bool> {
        if scanner.peek()? != Kind::String {
            self.string(scanner, Channel::Reasoning, 0)?;
            return Ok(false);
        }
        let at = self.slots.len();
        let text = scanner.string()?;
        self.text(&text, Channel::Reasoning, 0);
        if self.slots.len() > at {
            match first {
                Some((first, other)) if other.raw() == text.raw() || other.decode() == text.decode() => {
                    self.slots.truncate(at);
                    self.slots[*first].twin = Some(text.range());
                }
                _ => *first = Some((at, text)),
            }
        }
        let is_there = !text.raw().is_empty();
        Ok(is_there)
    }

    fn tool_calls(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        if scanner.peek()? != Kind::Array {
            return self.other(scanner);
        }
        let mut place = 0;
        scanner.array(|scanner| {
            let known = self.known();
            let mut index = place;
            place += 1;
            members(scanner, |scanner, key| {
                if key.is("function") {
                    self.function(scanner, 0)
                } else if key.is("index") {
                    index = scanner.count()?.map_or(index, clamp);
                    Ok(())
                } else if key.is("type") {
                    scanner.skip().map(drop)
                } else {
                    self.other(scanner)
                }
            })?;
            self.slots[known.slots..].iter_mut().for_each(|slot| slot.lane.sub_index = index);
            self.reading.places[known.places..].iter_mut().for_each(|place| place.lane.sub_index = index);
            self.reading.tools[known.tools..].iter_mut().for_each(|lane| lane.sub_index = index);
            Ok(())
        })
    }

    /// Reads a called function: its name and its arguments.
    fn function(&mut self, scanner: &mut Scanner<'a>, sub_index: u32) -> Scan<()> {
        if scanner.peek()? != Kind::Object {
            return self.other(scanner);
        }
        if self.reader.channels.contains(Channel::ToolArguments) {
            self.reading.tools.push(Lane { choice: 0, sub_index, channel: Channel::ToolArguments });
        }
        members(scanner, |scanner, key| {
            if key.is("arguments") {
                self.string(scanner, Channel::ToolArguments, sub_index)
            } else {
                self.other(scanner)
            }
        })
    }

    /// Reads a member that holds text, if it is a string.
    fn string(&mut self, scanner: &mut Scanner<'a>, channel: Channel, sub_index: u32) -> Scan<()> {
        match scanner.peek()? {
            Kind::String => {
                let text = scanner.string()?;
                self.text(&text, channel, sub_index);
                Ok(())
            }
            Kind::Null => {
                let value = scanner.skip()?;
                self.place(channel, sub_index, value);
                Ok(())
            }
            _ => self.other(scanner),
        }
    }

    fn text(&mut self, text: &Text<'a>, channel: Channel, sub_index: u32) {
        if text.raw().is_empty() {
            let range = text.range();
            self.place(channel, sub_index, range.start - 1..range.end + 1);
        } else {
            self.slot(text, channel, sub_index);
        }
    }

    fn slot(&mut self, text: &Text<'a>, channel: Channel, sub_index: u32) {
        if !self.reader.channels.contains(channel) {
            self.reading.is_bare = false;
            return;
        }
        let lane = Lane { choice: 0, sub_index, channel };
        self.slots.push(Slot { lane, event: self.event, text: text.span(), twin: None, is_json: false });
    }

    fn place(&mut self, channel: Channel, sub_index: u32, value: Range<usize>) {
        if self.reader.is_whole {
            self.reading.places.push(Place { lane: Lane { choice: 0, sub_index, channel }, value });
        }
    }

    /// Passes over a member that holds no text.
    fn other(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        let value = scanner.skip()?;
        self.reading.is_bare &= !is_filled(&self.bytes[value]);
        Ok(())
    }
}

/// An index fit for a span; OpenAI's own are small.
pub(super) fn clamp(index: u64) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
