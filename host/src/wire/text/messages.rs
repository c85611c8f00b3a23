//! Where the text stands in an event, or in a whole answer, of Anthropic's Messages.
//!
//! An answer is a list of blocks, which a stream sends one after the other: its start, its text in pieces, its stop. A
//! plugin sees one lane for the content and one for the thinking, whatever the block, and one for the input of each call
//! of a tool of the client's.
//!
//! Source: Anthropic API reference, "Messages", "Streaming messages", seen 2026-11.

use std::borrow::Cow;

use crate::chat::{Channel, ChannelSet, Lane, StopReason};
use crate::wire::json::{self, Kind, Scanner, SyntaxError, Text};
use crate::wire::openai::view::{Scan, is_filled, members, string};
use crate::wire::text::reader::{Element, List, Reading, Slot};

/// What an event does to the blocks of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// A block begins. `has_text` says whether it already has some.
    Start { index: u64, kind: BlockKind, has_text: bool },
    /// It goes on.
    Delta { index: u64 },
    /// It is complete.
    Stop { index: u64 },
    /// Nothing.
    #[default]
    Other,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// Content.
    Text,
    /// Thinking that can be read.
    Thinking,
    /// A call of a tool of the client's, by its number among them.
    Tool(u32),
    /// Anything else.
    Other,
}

/// The blocks that have come, as far as reading the next event needs it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Came {
    /// The block that began last, until it is over.
    block: Option<(u64, BlockKind)>,
    /// How many calls of tools have begun.
    pub(super) tools: u32,
}

/// Reads an event. `name` is what it is if it does not say so itself; `event` is its number among those that wait.
///
/// # Errors
/// A syntax error anywhere in it; then no slot is added.
pub(super) fn read_event(
    bytes: &[u8],
    name: Option<&str>,
    channels: ChannelSet,
    event: usize,
    came: &mut Came,
    slots: &mut Vec<Slot>,
) -> Result<(Reading, Shape), SyntaxError> {
    let mut walk = Walk { bytes, channels, event, slots, reading: Reading::default() };
    let mut scanner = Scanner::new(bytes);
    let mut draft = walk.event(&mut scanner)?;
    scanner.end()?;
    if draft.kind.is_none() {
        draft.kind = name.map(Cow::Borrowed);
    }
    let shape = walk.place(draft, came);
    Ok((walk.reading, shape))
}

/// Reads a whole answer.
///
/// # Errors
/// A syntax error anywhere in it.
pub(super) fn read_whole(
    bytes: &[u8],
    channels: ChannelSet,
    slots: &mut Vec<Slot>,
) -> Result<Reading, SyntaxError> {
    let mut walk = Walk { bytes, channels, event: 0, slots, reading: Reading::default() };
    let mut scanner = Scanner::new(bytes);
    walk.message(&mut scanner)?;
    scanner.end()?;
    Ok(walk.reading)
}

/// One pass.
struct Walk<'a, 's> {
    bytes: &'a [u8],
    channels: ChannelSet,
    event: usize,
    slots: &'s mut Vec<Slot>,
    reading: Reading,
}

/// What an event says, in whatever order its members stand.
#[derive(Default)]
struct Draft<'a> {
    kind: Option<Cow<'a, str>>,
    index: u64,
    /// Its `content_block` or its `delta`.
    block: Block<'a>,
}

/// A block, or a piece of one.
#[derive(Default)]
struct Block<'a> {
    kind: Option<Cow<'a, str>>,
    text: Option<Text<'a>>,
    thinking: Option<Text<'a>>,
    input: Option<json::Span>,
    partial_json: Option<Text<'a>>,
    stop: Option<StopReason>,
    /// Whether it says anything else.
    has_more: bool,
}

impl<'a> Walk<'a, '_> {
    fn event(&mut self, scanner: &mut Scanner<'a>) -> Scan<Draft<'a>> {
        let mut draft = Draft::default();
        members(scanner, |scanner, key| {
            if key.is("type") {
                draft.kind = string(scanner)?;
            } else if key.is("index") {
                draft.index = scanner.count()?.unwrap_or(0);
            } else if key.is("delta") || key.is("content_block") {
                draft.block = self.block(scanner)?;
            } else {
                let value = scanner.skip()?;
                self.reading.is_bare &= !is_filled(&self.bytes[value]);
            }
            Ok(())
        })?;
        Ok(draft)
    }

    fn block(&self, scanner: &mut Scanner<'a>) -> Scan<Block<'a>> {
        let mut block = Block::default();
        members(scanner, |scanner, key| {
            let kind = scanner.peek()?;
            if key.is("type") {
                block.kind = string(scanner)?;
            } else if key.is("text") && kind == Kind::String {
                block.text = Some(scanner.string()?);
            } else if key.is("thinking") && kind == Kind::String {
                block.thinking = Some(scanner.string()?);
            } else if key.is("partial_json") && kind == Kind::String {
                block.partial_json = Some(scanner.string()?);
            } else if key.is("input") && kind == Kind::Object {
                block.input = Some(json::Span::plain(scanner.skip()?));
            } else if key.is("stop_reason") && kind == Kind::String {
                block.stop = string(scanner)?
                    .filter(|reason| !reason.is_empty())
                    .map(|reason| StopReason::of_anthropic(&reason));
            } else {
                block.has_more |= is_filled(&self.bytes[scanner.skip()?]);
            }
            Ok(())
        })?;
        Ok(block)
    }

    /// Finds out what an event is about, and takes its text.
    fn place(&mut self, draft: Draft<'a>, came: &mut Came) -> Shape {
        let Draft { kind, index, block } = draft;
        match kind.as_deref().unwrap_or_default() {
            "content_block_start" => {
                let known = self.slots.len();
                let kind = block.kind(&mut came.tools);
                came.block = Some((index, kind));
                self.begin();
                self.reading.is_bare = false;
                // As a rule the input follows in pieces.
                let is_filled = |input: &json::Span| is_filled(&self.bytes[input.range()]);
                let block = Block { input: block.input.filter(is_filled), ..block };
                self.take_block(&block, kind);
                Shape::Start { index, kind, has_text: self.slots.len() > known }
            }
            "content_block_delta" => {
                self.begin();
                self.take_delta(&block, index, came);
                Shape::Delta { index }
            }
            "content_block_stop" => {
                came.block = came.block.filter(|(known, _)| *known != index);
                Shape::Stop { index }
            }
            "message_start" => {
                self.begin();
                Shape::Other
            }
            "message_delta" => {
                self.begin();
                self.reading.stop = block.stop;
                if block.stop.is_some() {
                    (self.reading.ended, self.reading.is_end) = (1, true);
                }
                Shape::Other
            }
            "message_stop" | "error" => {
                self.reading.is_end = true;
                Shape::Other
            }
            _ => Shape::Other,
        }
    }

    fn begin(&mut self) {
        self.reading.choices = 1;
    }

    fn take_block(&mut self, block: &Block<'a>, kind: BlockKind) {
        match kind {
            BlockKind::Text => self.take_text(block.text.as_ref(), Channel::Content, 0),
            BlockKind::Thinking => self.take_text(block.thinking.as_ref(), Channel::Reasoning, 0),
            BlockKind::Tool(number) => {
                if let Some(input) = block.input {
                    self.slot(input, Channel::ToolArguments, number, true);
                }
            }
            BlockKind::Other => {}
        }
    }

    fn take_delta(&mut self, delta: &Block<'a>, index: u64, came: &Came) {
        self.reading.is_bare &= !delta.has_more;
        match delta.kind.as_deref() {
            Some("text_delta") => self.take_text(delta.text.as_ref(), Channel::Content, 0),
            Some("thinking_delta") => self.take_text(delta.thinking.as_ref(), Channel::Reasoning, 0),
            Some("input_json_delta") => match came.tool(index) {
                Some(number) => {
                    self.take_text(delta.partial_json.as_ref(), Channel::ToolArguments, number);
                }
                None => self.reading.is_bare = false,
            },
            _ => self.reading.is_bare = false,
        }
    }

    fn take_text(&mut self, text: Option<&Text<'a>>, channel: Channel, sub_index: u32) {
        if let Some(text) = text.filter(|text| !text.raw().is_empty()) {
            self.slot(text.span(), channel, sub_index, false);
        }
    }

    fn slot(&mut self, text: json::Span, channel: Channel, sub_index: u32, is_json: bool) {
        if self.channels.contains(channel) {
            let lane = Lane { choice: 0, sub_index, channel };
            self.slots.push(Slot { lane, event: self.event, text, twin: None, is_json });
        } else {
            self.reading.is_bare = false;
        }
    }

    fn message(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        members(scanner, |scanner, key| {
            if key.is("content") && scanner.peek()? == Kind::Array {
                return self.content(scanner);
            }
            if key.is("stop_reason") && scanner.peek()? == Kind::String {
                self.reading.stop = string(scanner)?
                    .filter(|reason| !reason.is_empty())
                    .map(|reason| StopReason::of_anthropic(&reason));
                return Ok(());
            }
            scanner.skip().map(drop)
        })
    }

    fn content(&mut self, scanner: &mut Scanner<'a>) -> Scan<()> {
        self.begin();
        let mut list = List { choice: 0, start: scanner.position() + 1, elements: Vec::new() };
        let mut tools = 0;
        scanner.array(|scanner| {
            scanner.peek()?;
            let (start, known) = (scanner.position(), self.slots.len());
            let block = self.block(scanner)?;
            let kind = block.kind(&mut tools);
            self.take_block(&block, kind);
            if let BlockKind::Tool(sub_index) = kind {
                self.reading.tools.push(Lane { choice: 0, sub_index, channel: Channel::ToolArguments });
            }
            let is_bare = !block.has_more
                && matches!(kind, BlockKind::Text | BlockKind::Thinking)
                && self.slots.len() > known;
            list.elements.push(Element { range: start..scanner.position(), slot: is_bare.then_some(known) });
            Ok(())
        })?;
        self.reading.lists.push(list);
        Ok(())
    }
}

impl Block<'_> {
    /// What it is; a call takes the next number.
    fn kind(&self, tools: &mut u32) -> BlockKind {
        match self.kind.as_deref() {
            Some("text") => BlockKind::Text,
            Some("thinking") => BlockKind::Thinking,
            Some("tool_use") => {
                let number = *tools;
                *tools = tools.saturating_add(1);
                BlockKind::Tool(number)
            }
            _ => BlockKind::Other,
        }
    }
}

impl Came {
    /// The number of the call that a block is, if it is the one that began last.
    fn tool(&self, index: u64) -> Option<u32> {
        match self.block {
            Some((known, BlockKind::Tool(number))) if known == index => Some(number),
            _ => None,
        }
    }
}
