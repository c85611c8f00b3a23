//! The blocks of a streamed answer of Anthropic's Messages, as the client gets them.
//!
//! One block follows the other, and only the one that is open takes text. Text that belongs elsewhere gets a block of
//! its own, and from then on the blocks of the upstream have other numbers. A block for text begins with its first text,
//! so that one that lost all of its own leaves none that is empty: clients send those back, and the vendor refuses them.
//! The end of a text waits for what comes next, so that text a plugin withheld still finds its block; the end of a call
//! waits, with all that follows, while arguments of it are withheld.
//!
//! Source: Anthropic API reference, "Streaming messages", "Event types", seen 2026-11.

use std::collections::HashMap;

use bytes::Bytes;

use crate::chat::{Channel, Lane, TextBatch};
use crate::wire::json::{self, Scanner};
use crate::wire::openai::view::{Edit, members};
use crate::wire::sse::{self, Decoder};
use crate::wire::text::event::splice;
use crate::wire::text::lanes::Digest;
use crate::wire::text::messages::{BlockKind, Came, Shape};

/// The blocks of one answer.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// What has come, for reading the next event.
    pub(super) came: Came,
    /// The block of the upstream that began last, until it is over.
    source: Option<Source>,
    /// The block that the client has open.
    open: Option<Open>,
    /// The number of the next block that the client gets.
    next: u64,
    /// Whether a block was added or left out, so that those that follow have other numbers than the upstream's.
    is_renumbered: bool,
    /// Text that waits for the end of a block that takes none.
    deferred: Vec<(Lane, String)>,
    /// What waits because arguments of a call that is over are withheld.
    stuck: Vec<Step>,
    is_stuck: bool,
    stuck_bytes: usize,
    /// What came and what was sent of the arguments of calls that are not over.
    arguments: HashMap<u32, [Digest; 2]>,
    /// How many calls are over.
    calls_over: u32,
    /// Whether the client has got any block.
    has_begun: bool,
    is_finishing: bool,
}

/// A step of what the client gets.
#[derive(Debug)]
pub(super) enum Step {
    /// An event. `is_emptied` says whether it has lost all of its text, and was not left out.
    Event { bytes: Bytes, shape: Shape, is_emptied: bool },
    /// An event that was left out because its text has gone.
    Gone(Shape),
    /// Text without an event.
    Text(Lane, String),
}

/// A block of the upstream.
#[derive(Debug)]
struct Source {
    index: u64,
    kind: BlockKind,
    /// Its beginning, until it has something to say.
    start: Option<Bytes>,
    /// What came behind the beginning and waits with it.
    between: Vec<Bytes>,
    /// Its end, while late text may come before it.
    stop: Option<Bytes>,
    /// What came behind the end and waits with it.
    behind: Vec<Bytes>,
    /// How many bytes wait with the beginning and the end.
    waiting_bytes: usize,
    /// Whether it has lost text.
    is_emptied: bool,
}

/// A block that the client has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    index: u64,
    kind: BlockKind,
    /// Whether it stands for the source, not for text of a plugin's.
    is_source: bool,
}

impl Blocks {
    /// Whether an event that nobody changed can go as it is, without being told of.
    pub(super) fn lets_pass(&self, shape: Shape) -> bool {
        let Some(source) = self.source.as_ref().filter(|_| !self.is_stuck) else {
            return !self.is_stuck && shape == Shape::Other;
        };
        match shape {
            Shape::Delta { index } => {
                let is_at = |open: Open| open.is_source && open.index == index;
                index == source.index && source.stop.is_none() && self.open.is_some_and(is_at)
            }
            Shape::Other => source.start.is_none() && source.stop.is_none(),
            Shape::Start { .. } | Shape::Stop { .. } => false,
        }
    }

    /// Whether a call takes arguments: it has come, and the client has not been told that it is over.
    pub(super) fn takes_arguments(&self, number: u32) -> bool {
        (self.calls_over..self.came.tools).contains(&number)
    }

    /// Whether the blocks of the upstream have other numbers for the client, or will have.
    pub(super) fn are_renumbered(&self) -> bool {
        let goes = |source: &Source| source.start.is_some() && source.stop.is_some() && source.is_emptied;
        self.is_renumbered
            || self.is_stuck
            || !self.deferred.is_empty()
            || self.source.as_ref().is_some_and(goes)
    }

    /// How many bytes wait, for arguments that are withheld or for something that a block has to say.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.stuck_bytes + self.source.as_ref().map_or(0, |source| source.waiting_bytes)
    }

    /// Notes text that came, and that a plugin has seen.
    pub(super) fn came(&mut self, lane: Lane, text: &str) {
        self.note(lane, text, 0);
    }

    /// Notes text that the client gets.
    pub(super) fn sent(&mut self, lane: Lane, text: &str) {
        self.note(lane, text, 1);
    }

    fn note(&mut self, lane: Lane, text: &str, side: usize) {
        if lane.channel == Channel::ToolArguments && self.takes_arguments(lane.sub_index) {
            self.arguments.entry(lane.sub_index).or_default()[side].add(text);
        }
    }

    /// Takes a step, and appends what the client is sent.
    pub(super) fn push(&mut self, step: Step, out: &mut Vec<Bytes>) {
        if self.is_stuck {
            return self.put_off(step);
        }
        match step {
            Step::Event { bytes, shape, is_emptied } => match shape {
                Shape::Start { index, kind, has_text } => {
                    self.begin(bytes, index, kind, is_emptied, out);
                    if has_text && !is_emptied || matches!(kind, BlockKind::Tool(_) | BlockKind::Other) {
                        self.speak(out);
                        self.flush_deferred(out);
                    }
                }
                Shape::Delta { index } if self.is_at(index) => {
                    let index = self.speak(out);
                    out.push(renumbered(bytes, index));
                }
                Shape::Stop { index } if self.is_at(index) => self.stop(bytes, shape, out),
                // What is about another block than the one that is open is the upstream's own affair.
                Shape::Delta { .. } | Shape::Stop { .. } => out.push(bytes),
                Shape::Other => self.pass(bytes, out),
            },
            Step::Gone(Shape::Delta { index }) if self.is_at(index) => {
                self.source.iter_mut().for_each(|source| source.is_emptied = true);
            }
            Step::Gone(_) => {}
            Step::Text(lane, text) => self.text(lane, &text, out),
        }
    }

    /// What a plugin withheld may have come by now: goes on if it has.
    pub(super) fn go_on(&mut self, out: &mut Vec<Bytes>) {
        let tool = self.source.as_ref().and_then(Source::tool);
        if self.is_stuck && !tool.is_some_and(|number| self.is_withheld(number)) {
            self.release(out);
        }
    }

    /// The plugins have finished: appends the text they still had, and all that waits.
    pub(super) fn finish(&mut self, late: Option<&TextBatch>, out: &mut Vec<Bytes>) {
        self.is_finishing = true;
        let mut late: Vec<(Lane, &str)> = late.into_iter().flat_map(TextBatch::pieces).collect();
        late.retain(|(_, text)| !text.is_empty());
        if self.is_stuck {
            let arguments = late.iter().filter(|(lane, _)| lane.channel == Channel::ToolArguments);
            arguments.for_each(|(lane, text)| self.put_off(Step::Text(*lane, (*text).to_owned())));
            late.retain(|(lane, _)| lane.channel != Channel::ToolArguments);
            self.release(out);
        }
        // What belongs to the block that is open comes first.
        let kind = self.source.as_ref().map(|source| source.kind);
        late.sort_by_key(|(lane, _)| Some(BlockKind::of(*lane)) != kind);
        late.iter().for_each(|(lane, text)| self.text(*lane, text, out));
        self.settle(out);
        self.close_own(out);
    }

    fn is_at(&self, index: u64) -> bool {
        self.source.as_ref().is_some_and(|source| source.index == index && source.stop.is_none())
    }

    fn is_withheld(&self, number: u32) -> bool {
        !self.is_finishing && self.arguments.get(&number).is_some_and(|[came, sent]| came != sent)
    }

    fn put_off(&mut self, step: Step) {
        let at = match &step {
            Step::Text(lane, _) if lane.channel == Channel::ToolArguments => self.stop_of(lane.sub_index),
            Step::Text(..) | Step::Event { .. } | Step::Gone(_) => None,
        };
        self.stuck_bytes += step.len();
        self.stuck.insert(at.unwrap_or(self.stuck.len()), step);
    }

    /// Where among what waits a call is over.
    fn stop_of(&self, number: u32) -> Option<usize> {
        let begun = self.stuck.iter().find_map(|step| match step {
            Step::Event { shape: Shape::Start { index, kind: BlockKind::Tool(known), .. }, .. } => {
                (*known == number).then_some(*index)
            }
            _ => None,
        });
        let open = self.source.as_ref().filter(|source| source.tool() == Some(number));
        let wanted = open.map(|source| source.index).or(begun)?;
        self.stuck.iter().position(|step| match step {
            Step::Event { shape: Shape::Stop { index }, .. } => *index == wanted,
            _ => false,
        })
    }

    /// Lets go of what waited.
    fn release(&mut self, out: &mut Vec<Bytes>) {
        self.is_stuck = false;
        self.stuck_bytes = 0;
        for step in std::mem::take(&mut self.stuck) {
            self.push(step, out);
        }
    }

    /// A block of the upstream begins.
    fn begin(&mut self, start: Bytes, index: u64, kind: BlockKind, is_emptied: bool, out: &mut Vec<Bytes>) {
        self.settle(out);
        if !self.is_renumbered {
            self.next = index;
        }
        let (between, behind) = (Vec::new(), Vec::new());
        self.source = Some(Source {
            index,
            kind,
            start: Some(start),
            between,
            stop: None,
            behind,
            waiting_bytes: 0,
            is_emptied,
        });
    }

    /// A block of the upstream is over, if nothing is to come before its end.
    fn stop(&mut self, bytes: Bytes, shape: Shape, out: &mut Vec<Bytes>) {
        let Some(source) = &mut self.source else { return };
        if source.kind == BlockKind::Text {
            source.stop = Some(bytes);
        } else if source.tool().is_some_and(|number| self.is_withheld(number)) {
            self.is_stuck = true;
            self.put_off(Step::Event { bytes, shape, is_emptied: false });
        } else {
            self.close(bytes, out);
        }
    }

    /// An event that is about no block keeps its place.
    fn pass(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) {
        let waits = |source: &&mut Source| source.stop.is_some() || source.start.is_some();
        let Some(source) = self.source.as_mut().filter(waits) else { return out.push(bytes) };
        source.waiting_bytes += bytes.len();
        if source.stop.is_some() { source.behind.push(bytes) } else { source.between.push(bytes) }
    }

    /// The source has something to say: opens its block for the client, if it is not. Returns its number there.
    fn speak(&mut self, out: &mut Vec<Bytes>) -> u64 {
        if let Some(open) = self.open.filter(|open| open.is_source) {
            return open.index;
        }
        self.close_own(out);
        let index = self.take_number();
        let Some(source) = &mut self.source else { return index };
        match source.start.take() {
            Some(start) => {
                out.push(if source.index == index { start } else { renumbered(start, index) });
                out.append(&mut source.between);
                source.waiting_bytes = source.behind.iter().map(Bytes::len).sum();
            }
            // A plugin's text came between.
            None => {
                self.is_renumbered = true;
                out.push(start_event(index, source.kind));
            }
        }
        self.open = Some(Open { index, kind: source.kind, is_source: true });
        index
    }

    fn take_number(&mut self) -> u64 {
        self.has_begun = true;
        let index = self.next;
        self.next = index.saturating_add(1);
        index
    }

    /// Writes the end of the source's block, if the client has it open; one that lost its text may not have been begun.
    fn close(&mut self, stop: Bytes, out: &mut Vec<Bytes>) {
        let Some(source) = &self.source else { return };
        // An answer should not be without any block.
        let is_only = self.is_finishing && !self.has_begun;
        if source.start.is_some() {
            if source.is_emptied && !is_only {
                self.is_renumbered = true;
            } else {
                self.speak(out);
            }
        }
        if let Some(open) = self.open.filter(|open| open.is_source) {
            out.push(renumbered(stop, open.index));
            self.open = None;
        }
        self.leave_source(out);
    }

    fn leave_source(&mut self, out: &mut Vec<Bytes>) {
        let Some(source) = self.source.take() else { return };
        out.extend(source.between);
        out.extend(source.behind);
        if let BlockKind::Tool(number) = source.kind {
            self.calls_over = number.saturating_add(1);
            self.arguments.remove(&number);
        }
        self.flush_deferred(out);
    }

    /// Nothing more comes of the source.
    fn settle(&mut self, out: &mut Vec<Bytes>) {
        let Some(source) = &mut self.source else { return };
        if let Some(stop) = source.stop.take() {
            return self.close(stop, out);
        }
        // The upstream did not end it, and neither does the gateway.
        if source.start.is_some() {
            self.speak(out);
        }
        self.open = self.open.filter(|open| !open.is_source);
        self.leave_source(out);
    }

    /// Ends a block of a plugin's text.
    fn close_own(&mut self, out: &mut Vec<Bytes>) {
        if let Some(open) = self.open.take_if(|open| !open.is_source) {
            out.push(stop_event(open.index));
        }
    }

    fn flush_deferred(&mut self, out: &mut Vec<Bytes>) {
        for (lane, text) in std::mem::take(&mut self.deferred) {
            self.text(lane, &text, out);
        }
    }

    /// Writes text without an event, into the block that it belongs to if that is open, otherwise into one of its own.
    fn text(&mut self, lane: Lane, text: &str, out: &mut Vec<Bytes>) {
        let kind = BlockKind::of(lane);
        match &self.source {
            Some(source) if source.kind == kind => {
                let index = self.speak(out);
                out.push(delta_event(index, kind, text));
            }
            // It has come, as whoever calls has checked, but the client does not have it open yet.
            _ if matches!(kind, BlockKind::Tool(_)) => {
                if self.takes_arguments(lane.sub_index) && !self.is_finishing {
                    self.deferred.push((lane, text.to_owned()));
                }
            }
            Some(source) if matches!(source.kind, BlockKind::Tool(_) | BlockKind::Other) => {
                self.deferred.push((lane, text.to_owned()));
            }
            Some(_) | None => {
                let index = self.own_block(kind, out);
                out.push(delta_event(index, kind, text));
            }
        }
    }

    /// Opens a block for a plugin's text, if there is none of its kind. Returns its number.
    fn own_block(&mut self, kind: BlockKind, out: &mut Vec<Bytes>) -> u64 {
        if self.source.as_ref().is_some_and(|source| source.stop.is_some()) {
            self.settle(out);
        }
        match self.open {
            Some(open) if !open.is_source && open.kind == kind => return open.index,
            Some(open) => {
                out.push(stop_event(open.index));
                self.open = None;
            }
            None => {}
        }
        self.is_renumbered = true;
        let index = self.take_number();
        out.push(start_event(index, kind));
        self.open = Some(Open { index, kind, is_source: false });
        index
    }
}

impl BlockKind {
    /// The kind of block that a lane's text stands in.
    fn of(lane: Lane) -> Self {
        match lane.channel {
            Channel::Content | Channel::Refusal => Self::Text,
            Channel::Reasoning => Self::Thinking,
            Channel::ToolArguments => Self::Tool(lane.sub_index),
        }
    }
}

impl Source {
    fn tool(&self) -> Option<u32> {
        match self.kind {
            BlockKind::Tool(number) => Some(number),
            BlockKind::Text | BlockKind::Thinking | BlockKind::Other => None,
        }
    }
}

impl Step {
    fn len(&self) -> usize {
        match self {
            Self::Event { bytes, .. } => bytes.len(),
            Self::Gone(_) => 0,
            Self::Text(_, text) => text.len(),
        }
    }
}

fn start_event(index: u64, kind: BlockKind) -> Bytes {
    let block = match kind {
        BlockKind::Thinking => r#"{"type":"thinking","thinking":"","signature":""}"#,
        BlockKind::Text | BlockKind::Tool(_) | BlockKind::Other => r#"{"type":"text","text":""}"#,
    };
    let data = format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#);
    sse::encode(Some("content_block_start"), data.as_bytes())
}

fn delta_event(index: u64, kind: BlockKind, text: &str) -> Bytes {
    let (name, member) = match kind {
        BlockKind::Thinking => ("thinking_delta", "thinking"),
        BlockKind::Tool(_) => ("input_json_delta", "partial_json"),
        BlockKind::Text | BlockKind::Other => ("text_delta", "text"),
    };
    let head =
        format!(r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"{name}","{member}":"#);
    let mut data = head.into_bytes();
    json::quote(text, &mut data);
    data.extend_from_slice(b"}}");
    sse::encode(Some("content_block_delta"), &data)
}

fn stop_event(index: u64) -> Bytes {
    let data = format!(r#"{{"type":"content_block_stop","index":{index}}}"#);
    sse::encode(Some("content_block_stop"), data.as_bytes())
}

/// Gives an event about a block another number; itself if it has that already, or none.
fn renumbered(bytes: Bytes, index: u64) -> Bytes {
    let mut decoder = Decoder::new(usize::MAX);
    decoder.push(bytes.clone());
    let frame = decoder.next_frame().ok().flatten().or_else(|| decoder.finish());
    let Some(fields) = frame.map(|frame| frame.fields()) else { return bytes };
    let Some(data) = &fields.data else { return bytes };
    let mut edits = Vec::new();
    // Whoever calls has read the event before.
    let _ = members(&mut Scanner::new(data), |scanner, key| {
        if !key.is("index") {
            return scanner.skip().map(drop);
        }
        scanner.peek()?;
        let start = scanner.position();
        if scanner.count()? != Some(index) {
            edits.push(Edit { range: start..scanner.position(), text: index.to_string().into_bytes() });
        }
        Ok(())
    });
    if edits.is_empty() {
        return bytes;
    }
    match &fields.data_range {
        Some(range) => splice(&bytes, range.start, edits).into(),
        None => sse::encode(fields.event_name(), &splice(data, 0, edits)),
    }
}
