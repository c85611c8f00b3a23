//! Where the text stands in an event, or in a whole answer, of Google's generateContent.
//!
//! An event has the shape of a whole answer: candidates with parts. A plugin sees the parts that are thoughts as
//! reasoning, and the arguments of each function call, which come whole, in a lane of their own.
//!
//! Source: Google, Gemini API reference, "GenerateContentResponse", seen 2026-11.

use std::collections::HashMap;

use crate::chat::{Channel, ChannelSet, Lane, StopReason};
use crate::wire::json::{self, Kind, Scanner, SyntaxError, Text};
use crate::wire::openai::choices::CHOICES_MAX;
use crate::wire::openai::view::{Scan, is_filled, members, string};
use crate::wire::text::reader::{Element, List, Reading, Slot, clamp};

/// What every event of an answer says; it is no reason to keep one that has lost its text.
pub(super) const ENVELOPE: [&str; 4] = ["modelVersion", "responseId", "createTime", "usageMetadata"];

/// How many functions each candidate has called so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls(HashMap<u32, u32>);

/// Reads an answer, or an event of one, and appends its slots. `event` is its number among those that wait.
///
/// # Errors
/// A syntax error anywhere in it; then no slot is added.
pub(super) fn read(
    bytes: &[u8],
    channels: ChannelSet,
    event: usize,
    calls: &mut Calls,
    slots: &mut Vec<Slot>,
) -> Result<Reading, SyntaxError> {
    let known = slots.len();
    let mut walk = Walk { bytes, channels, event, calls, slots, reading: Reading::default() };
    let mut scanner = Scanner::new(bytes);
    let outcome = walk.top(&mut scanner).and_then(|()| scanner.end());
    let reading = walk.reading;
    if outcome.is_err() {
        slots.truncate(known);
    }
    outcome.map(|()| reading)
}

/// One pass.
struct Walk<'a, 's> {
    bytes: &'a [u8],
    channels: ChannelSet,
    event: usize,
    calls: &'s mut Calls,
    slots: &'s mut Vec<Slot>,
    reading: Reading,
}

/// What a part says, in whatever order its members stand.
#[derive(Default)]
struct Part<'a> {
    text: Option<Text<'a>>,
    is_thought: bool,
    call: Option<Call>,
    /// Whether it says anything else.
    has_more: bool,
}

/// A call of a function, or a piece of one.
#[derive(Default)]
struct Call {
    has_name: bool,
    arguments: Option<json::Span>,
}

impl<'a> Walk<'a, '_> {
    fn top(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        members(scanner, |scanner, key| {
            if key.is("candidates") && scanner.peek()? == Kind::Array {
                let mut place = 0;
                return scanner.array(|scanner| {
                    self.candidate(scanner, place)?;
                    place += 1;
                    Ok(())
                });
            }
            let value = scanner.skip()?;
            if is_filled(&self.bytes[value]) {
                self.reading.is_end |= key.is("error");
                self.reading.is_bare &= ENVELOPE.iter().any(|name| key.is(name));
            }
            Ok(())
        })
    }

    fn candidate(&mut self, scanner: &mut Scanner<'a>, place: u32) -> Scan<()> {
        let (slots, lists, tools) = (self.slots.len(), self.reading.lists.len(), self.reading.tools.len());
        let (mut index, mut reason, mut calls) = (place, None, 0);
        members(scanner, |scanner, key| {
            if key.is("content") {
                members(scanner, |scanner, key| self.content(scanner, &key, &mut calls))
            } else if key.is("index") {
                index = scanner.count()?.map_or(place, clamp);
                Ok(())
            } else if key.is("finishReason") || key.is("finish_reason") {
                reason = string(scanner)?.filter(|reason| !reason.is_empty());
                self.reading.is_bare &= reason.is_none();
                Ok(())
            } else {
                self.other(scanner)
            }
        })?;
        let before = self.calls.add(index, calls);
        let number = |lane: &mut Lane| {
            lane.choice = index;
            if lane.channel == Channel::ToolArguments {
                lane.sub_index = lane.sub_index.saturating_add(before);
            }
        };
        self.slots[slots..].iter_mut().for_each(|slot| number(&mut slot.lane));
        self.reading.tools[tools..].iter_mut().for_each(number);
        self.reading.lists[lists..].iter_mut().for_each(|list| list.choice = index);
        let has_calls = before > 0 || calls > 0;
        let stop = reason.and_then(|reason| StopReason::of_gemini(&reason));
        self.note(index, stop.map(|stop| stop.with_calls(has_calls)));
        Ok(())
    }

    fn note(&mut self, index: u32, stop: Option<StopReason>) {
        match 1_u128.checked_shl(index) {
            Some(bit) => {
                self.reading.choices |= bit;
                self.reading.ended |= if stop.is_some() { bit } else { 0 };
            }
            None => self.reading.has_further_choices = true,
        }
        self.reading.stop = self.reading.stop.or(stop);
    }

    fn content(&mut self, scanner: &mut Scanner<'a>, key: &Text<'a>, calls: &mut u32) -> Scan<()> {
        if key.is("role") {
            return scanner.skip().map(drop);
        }
        if !key.is("parts") || scanner.peek()? != Kind::Array {
            return self.other(scanner);
        }
        let mut list = List { choice: 0, start: scanner.position() + 1, elements: Vec::new() };
        scanner.array(|scanner| {
            scanner.peek()?;
            let (start, known) = (scanner.position(), self.slots.len());
            let is_bare = self.part(scanner, calls)?;
            let slot = (is_bare && self.slots.len() > known).then_some(known);
            list.elements.push(Element { range: start..scanner.position(), slot });
            Ok(())
        })?;
        self.reading.lists.push(list);
        Ok(())
    }

    /// Reads a part. Returns whether it says nothing but its slot.
    fn part(&mut self, scanner: &mut Scanner<'a>, calls: &mut u32) -> Scan<bool> {
        let mut part = Part::default();
        members(scanner, |scanner, key| {
            let kind = scanner.peek()?;
            if key.is("text") && kind == Kind::String {
                part.text = Some(scanner.string()?);
            } else if key.is("thought") {
                scanner.skip()?;
                part.is_thought = kind == Kind::True;
            } else if (key.is("functionCall") || key.is("function_call")) && kind == Kind::Object {
                part.call = Some(self.call(scanner)?);
            } else {
                part.has_more |= is_filled(&self.bytes[scanner.skip()?]);
            }
            Ok(())
        })?;
        let mut is_bare = !part.has_more && part.call.is_none();
        if let Some(text) = part.text.filter(|text| !text.raw().is_empty()) {
            let channel = if part.is_thought { Channel::Reasoning } else { Channel::Content };
            is_bare &= self.slot(text.span(), channel, 0, false);
        }
        if let Some(call) = part.call {
            // One that comes in pieces has its name in the first.
            if call.has_name || call.arguments.is_some() {
                self.begin_call(*calls, call.arguments);
                *calls = calls.saturating_add(1);
            }
        }
        self.reading.is_bare &= is_bare;
        Ok(is_bare)
    }

    fn call(&self, scanner: &mut Scanner<'a>) -> Scan<Call> {
        let mut call = Call::default();
        members(scanner, |scanner, key| {
            let kind = scanner.peek()?;
            let value = scanner.skip()?;
            call.has_name |= key.is("name") && is_filled(&self.bytes[value.clone()]);
            if key.is("args") && kind == Kind::Object {
                call.arguments = Some(json::Span::plain(value));
            }
            Ok(())
        })?;
        Ok(call)
    }

    fn begin_call(&mut self, number: u32, arguments: Option<json::Span>) {
        let lane = Lane { choice: 0, sub_index: number, channel: Channel::ToolArguments };
        if self.channels.contains(lane.channel) {
            self.reading.tools.push(lane);
        }
        if let Some(arguments) = arguments {
            self.slot(arguments, lane.channel, number, true);
        }
    }

    /// Takes a text, if its channel is wanted. Returns whether it is.
    fn slot(&mut self, text: json::Span, channel: Channel, sub_index: u32, is_json: bool) -> bool {
        let is_wanted = self.channels.contains(channel);
        if is_wanted {
            let lane = Lane { choice: 0, sub_index, channel };
            self.slots.push(Slot { lane, event: self.event, text, twin: None, is_json });
        }
        is_wanted
    }

    /// Passes over a member that holds no text.
    fn other(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        let value = scanner.skip()?;
        self.reading.is_bare &= !is_filled(&self.bytes[value]);
        Ok(())
    }
}

impl Calls {
    /// Adds calls of a candidate. Returns how many it had; those of candidates that nobody asks for are not counted.
    fn add(&mut self, candidate: u32, calls: u32) -> u32 {
        if candidate as usize >= CHOICES_MAX {
            return 0;
        }
        if calls == 0 {
            return self.0.get(&candidate).copied().unwrap_or(0);
        }
        let count = self.0.entry(candidate).or_default();
        let before = *count;
        *count = count.saturating_add(calls);
        before
    }
}
