//! Where the text stands in an event, or in a whole answer, of the Responses API.
//!
//! A text comes twice and more: in pieces as deltas, then whole in the events that end the text, its part, its item and
//! the response. The lane of a text is the number of the output item and of the part in it.
//!
//! Source: OpenAI API reference, "Responses", "Streaming events", seen 2026-11.

use std::ops::Range;

use crate::chat::{Channel, ChannelSet, Lane, StopReason};
use crate::wire::json::{self, Kind, Scanner, SyntaxError, Text};
use crate::wire::openai::stream::RESPONSE_ENDS;
use crate::wire::openai::view::{Scan, is_filled, members, string};
use crate::wire::text::reader::clamp;

/// The parts of a thinking's summary are numbered from here, so that they are not taken for parts of the thinking.
pub(super) const SUMMARY: u32 = 1 << 16;

/// A text of a wanted channel that is not empty.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) lane: Lane,
    /// Where it stands in the event's data.
    pub(super) text: json::Span,
}

/// What an event says.
#[derive(Debug, Default)]
pub(super) struct ResponseReading {
    /// The text of a wanted channel in it.
    pub(super) pieces: Vec<Piece>,
    /// Whether that is a piece of a text, not all of it.
    pub(super) is_delta: bool,
    /// Whether it says nothing but a piece of a text.
    pub(super) is_bare: bool,
    /// Whether something begins or goes on with it.
    pub(super) begins: bool,
    /// The output item that has ended with it.
    pub(super) ended_item: Option<u32>,
    /// Why the response ended.
    pub(super) stop: Option<StopReason>,
    /// Whether the response has ended with it.
    pub(super) is_end: bool,
    /// The place of the `sequence_number`, and the number.
    pub(super) sequence: Option<(Range<usize>, u64)>,
    /// The place of `logprobs` that are not empty.
    pub(super) logprobs: Option<Range<usize>>,
}

/// What every delta says; it is no reason to keep one that has lost its text.
const ENVELOPE: [&str; 8] = [
    "type",
    "item_id",
    "output_index",
    "content_index",
    "summary_index",
    "sequence_number",
    "obfuscation",
    "delta",
];

/// Reads an event. `name` is what it is if it does not say so itself.
///
/// # Errors
/// A syntax error anywhere in it.
pub(super) fn read_event(
    bytes: &[u8],
    name: Option<&str>,
    channels: ChannelSet,
) -> Result<ResponseReading, SyntaxError> {
    let mut walk = Walk { bytes, channels, reading: ResponseReading { is_bare: true, ..Default::default() } };
    let mut scanner = Scanner::new(bytes);
    walk.event(&mut scanner, name)?;
    scanner.end()?;
    Ok(walk.reading)
}

/// Reads a whole response.
///
/// # Errors
/// A syntax error anywhere in it.
pub(super) fn read_whole(bytes: &[u8], channels: ChannelSet) -> Result<Vec<Piece>, SyntaxError> {
    let mut walk = Walk { bytes, channels, reading: ResponseReading::default() };
    let mut scanner = Scanner::new(bytes);
    walk.response(&mut scanner)?;
    scanner.end()?;
    Ok(walk.reading.pieces)
}

/// One pass.
struct Walk<'a> {
    bytes: &'a [u8],
    channels: ChannelSet,
    reading: ResponseReading,
}

/// What tells which text an event is about, and the text.
#[derive(Default)]
struct Draft<'a> {
    output_index: u32,
    content_index: u32,
    summary_index: u32,
    delta: Option<Text<'a>>,
    whole: Option<Text<'a>>,
    part: Option<(Part, Text<'a>)>,
}

/// What a text is in its item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Text,
    Refusal,
    Reasoning,
    Summary,
    Arguments,
}

impl<'a> Walk<'a> {
    fn event(&mut self, scanner: &mut Scanner<'a>, name: Option<&str>) -> Scan<()> {
        let mut draft = Draft::default();
        let mut kind = None;
        members(scanner, |scanner, key| {
            let is_text = scanner.peek()? == Kind::String;
            if key.is("type") {
                kind = string(scanner)?;
            } else if key.is("output_index") {
                draft.output_index = scanner.count()?.map_or(0, clamp);
            } else if key.is("content_index") {
                draft.content_index = scanner.count()?.map_or(0, clamp);
            } else if key.is("summary_index") {
                draft.summary_index = scanner.count()?.map_or(0, clamp);
            } else if key.is("delta") && is_text {
                draft.delta = Some(scanner.string()?);
            } else if is_text && ["text", "refusal", "arguments"].iter().any(|name| key.is(name)) {
                draft.whole = Some(scanner.string()?);
                self.reading.is_bare = false;
            } else if key.is("part") {
                draft.part = self.part(scanner)?;
                self.reading.is_bare = false;
            } else if key.is("item") {
                self.item(scanner, u32::MAX)?;
                self.reading.is_bare = false;
            } else if key.is("response") {
                self.response(scanner)?;
                self.reading.is_bare = false;
            } else {
                self.other(scanner, &key)?;
            }
            Ok(())
        })?;
        let kind = kind.as_deref().or(name).unwrap_or_default();
        self.reading.is_end = RESPONSE_ENDS.contains(&kind);
        self.reading.begins = kind.ends_with(".added") || kind.ends_with(".delta");
        self.about(&draft, kind);
        Ok(())
    }

    fn other(&mut self, scanner: &mut Scanner<'a>, key: &Text<'a>) -> Scan<()> {
        scanner.peek()?;
        let start = scanner.position();
        if key.is("sequence_number") {
            let sequence = scanner.count()?;
            self.reading.sequence = sequence.map(|sequence| (start..scanner.position(), sequence));
            return Ok(());
        }
        let value = scanner.skip()?;
        if is_filled(&self.bytes[value.clone()]) {
            self.reading.is_bare &= ENVELOPE.iter().any(|name| key.is(name));
            if key.is("logprobs") {
                self.reading.logprobs = Some(value);
            }
        }
        Ok(())
    }

    /// Finds the lane of what was read, which may stand behind it.
    fn about(&mut self, draft: &Draft<'a>, kind: &str) {
        let choice = draft.output_index;
        if kind == "response.output_item.done" {
            self.reading.ended_item = Some(choice);
        }
        for piece in self.reading.pieces.iter_mut().filter(|piece| piece.lane.choice == u32::MAX) {
            piece.lane.choice = choice;
        }
        if let Some((part, text)) = &draft.part {
            self.piece(part.lane(choice, draft), text);
        }
        let kind = kind.strip_prefix("response.").unwrap_or(kind);
        if let (Some(stem), Some(text)) = (kind.strip_suffix(".delta"), &draft.delta) {
            let Some(part) = Part::of_event(stem) else { return };
            self.piece(part.lane(choice, draft), text);
            self.reading.is_delta = !self.reading.pieces.is_empty();
        } else if let (Some(stem), Some(text)) = (kind.strip_suffix(".done"), &draft.whole) {
            let Some(part) = Part::of_event(stem) else { return };
            self.piece(part.lane(choice, draft), text);
        }
    }

    fn response(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        members(scanner, |scanner, key| {
            if key.is("output") && scanner.peek()? == Kind::Array {
                let mut index = 0;
                return scanner.array(|scanner| {
                    self.item(scanner, index)?;
                    index += 1;
                    Ok(())
                });
            }
            if key.is("status") {
                self.reading.stop = string(scanner)?.as_deref().and_then(StopReason::of_status);
                return Ok(());
            }
            scanner.skip().map(drop)
        })
    }

    /// Reads an output item: a message, a thinking or a call.
    fn item(&mut self, scanner: &mut Scanner<'a>, choice: u32) -> Scan<()> {
        // Other tools have arguments, too, but no event that tells them in pieces is read.
        let (mut is_call, mut arguments) = (false, None);
        members(scanner, |scanner, key| {
            if (key.is("content") || key.is("summary")) && scanner.peek()? == Kind::Array {
                return self.parts(scanner, choice);
            }
            if key.is("arguments") && scanner.peek()? == Kind::String {
                arguments = Some(scanner.string()?);
            } else if key.is("type") {
                is_call = string(scanner)?.is_some_and(|kind| kind == "function_call");
            } else {
                scanner.skip()?;
            }
            Ok(())
        })?;
        if let Some(arguments) = arguments.filter(|_| is_call) {
            self.piece(Part::Arguments.lane_at(choice, 0), &arguments);
        }
        Ok(())
    }

    fn parts(&mut self, scanner: &mut Scanner<'a>, choice: u32) -> Scan<()> {
        let mut index = 0;
        scanner.array(|scanner| {
            if let Some((part, text)) = self.part(scanner)? {
                self.piece(part.lane_at(choice, index), &text);
            }
            index += 1;
            Ok(())
        })
    }

    fn part(&mut self, scanner: &mut Scanner<'a>) -> Scan<Option<(Part, Text<'a>)>> {
        let (mut kind, mut text, mut refusal) = (None, None, None);
        members(scanner, |scanner, key| {
            let is_text = scanner.peek()? == Kind::String;
            if key.is("type") {
                kind = string(scanner)?;
            } else if key.is("text") && is_text {
                text = Some(scanner.string()?);
            } else if key.is("refusal") && is_text {
                refusal = Some(scanner.string()?);
            } else {
                scanner.skip()?;
            }
            Ok(())
        })?;
        Ok(match kind.as_deref() {
            Some("output_text" | "text") => text.map(|text| (Part::Text, text)),
            Some("refusal") => refusal.map(|text| (Part::Refusal, text)),
            Some("reasoning_text") => text.map(|text| (Part::Reasoning, text)),
            Some("summary_text") => text.map(|text| (Part::Summary, text)),
            _ => None,
        })
    }

    fn piece(&mut self, lane: Lane, text: &Text<'a>) {
        if !text.raw().is_empty() && self.channels.contains(lane.channel) {
            self.reading.pieces.push(Piece { lane, text: text.span() });
        }
    }
}

impl Part {
    /// Finds it by the name of an event, without its `response.` and its end.
    fn of_event(stem: &str) -> Option<Self> {
        match stem {
            "output_text" => Some(Self::Text),
            "refusal" => Some(Self::Refusal),
            "reasoning_text" => Some(Self::Reasoning),
            "reasoning_summary_text" => Some(Self::Summary),
            "function_call_arguments" => Some(Self::Arguments),
            _ => None,
        }
    }

    fn lane(self, choice: u32, draft: &Draft<'_>) -> Lane {
        self.lane_at(choice, if self == Self::Summary { draft.summary_index } else { draft.content_index })
    }

    fn lane_at(self, choice: u32, index: u32) -> Lane {
        let (channel, sub_index) = match self {
            Self::Text => (Channel::Content, index),
            Self::Refusal => (Channel::Refusal, index),
            Self::Reasoning => (Channel::Reasoning, index),
            Self::Summary => (Channel::Reasoning, index.saturating_add(SUMMARY)),
            Self::Arguments => (Channel::ToolArguments, 0),
        };
        Lane { choice, sub_index, channel }
    }
}
