//! The text of an answer, taken out of its events for the plugins and put back.
//!
//! Whoever drives it pushes bytes, shows the batch to the plugins, and releases: what nobody changed goes out as the very
//! bytes that came, what was changed is spliced into the events it came in, and text that has no event gets one. What
//! ends an answer is held until the plugins have finished, so that text they withheld stands before it.

use std::collections::HashSet;

use bytes::Bytes;

use crate::chat::{Channel, ChannelSet, Lane, StopReason, TextBatch};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Endpoint;
use crate::wire::openai::choices::CHOICES_MAX;
use crate::wire::sse::{Decoder, EVENT_BYTES_MAX};
use crate::wire::text::blocks::{Blocks, Step};
use crate::wire::text::content::Calls;
use crate::wire::text::envelope::{Envelope, Style};
use crate::wire::text::event::{Event, Fate, Outcome};
use crate::wire::text::held::{Held, HeldEvent, Texts};
use crate::wire::text::lanes::Lanes;
use crate::wire::text::limits::{
    Budget, CALL_OVER, NO_CHOICE, NO_PART, NO_TOOL_CALL, check_channel, readable,
};
use crate::wire::text::plan::Plan;
use crate::wire::text::reader::{Reader, Slot};
use crate::wire::text::rope::Rope;

mod blocks;
mod content;
mod envelope;
mod event;
mod held;
mod intake;
mod lanes;
mod limits;
mod messages;
mod plan;
mod reader;
mod response;
mod rope;
mod whole;

pub use lanes::RESPONSE_TEXT_BYTES_MAX;
pub use limits::{ADDED_BYTES_MAX, HELD_BYTES_MAX};
pub use whole::WholeText;

/// How many tool calls of one answer are told apart.
const TOOL_CALLS_MAX: usize = 1024;

const DONE: &[u8] = b"[DONE]";

/// The text of one streamed answer.
///
/// The order of calls: [`push`](Self::push), then, if the plugins let it wait, [`hold_from`](Self::hold_from), then
/// [`release`](Self::release); once [`is_ended`](Self::is_ended), or after [`end`](Self::end) and its release,
/// [`finish`](Self::finish).
///
/// When nothing is changed the client gets the very bytes in the very order, but for one thing: what ends a choice
/// stands behind text of other choices that comes after it. How Anthropic's blocks change with their text is in `blocks`.
#[derive(Debug)]
pub struct TextStream {
    endpoint: Endpoint,
    reader: Reader,
    decoder: Decoder,
    /// The bytes of all events in the queue, and of one whose end is missing.
    bytes: Rope,
    /// The events that wait for a release.
    queue: Vec<Event>,
    /// The texts of the queue, in order.
    slots: Vec<Slot>,
    /// How many events the next release lets go.
    due: usize,
    /// What follows the end of a choice.
    held: Vec<Held>,
    held_bytes: usize,
    /// The choices of the held events.
    held_choices: u128,
    phase: Phase,
    choices: ChoiceBits,
    stop: Option<StopReason>,
    envelope: Option<Envelope>,
    style: Style,
    tools: HashSet<Lane>,
    /// There for the Responses API, whose events repeat the text.
    lanes: Option<Lanes>,
    /// There for Anthropic's Messages, whose texts stand in blocks.
    blocks: Option<Box<Blocks>>,
    /// The calls of functions so far; only of Google's answers.
    calls: Calls,
    budget: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Text is expected.
    Open,
    /// What ends a choice is held.
    Holding,
    /// The answer is at its end.
    Ended,
    /// The plugins have finished.
    Finished,
}

/// The choices that have been in events, one bit for each index.
#[derive(Clone, Copy, Debug, Default)]
struct ChoiceBits {
    begun: u128,
    ended: u128,
    /// Whether there was one without a bit.
    has_further: bool,
}

impl TextStream {
    /// Starts before the first event. `channels` are those that any plugin wants.
    pub fn new(endpoint: Endpoint, channels: ChannelSet) -> Self {
        Self {
            endpoint,
            reader: Reader { channels: readable(endpoint, channels), is_whole: false },
            // An event that was edited on its way here may have grown.
            decoder: Decoder::new(2 * EVENT_BYTES_MAX),
            bytes: Rope::default(),
            queue: Vec::new(),
            slots: Vec::new(),
            due: 0,
            held: Vec::new(),
            held_bytes: 0,
            held_choices: 0,
            phase: Phase::Open,
            choices: ChoiceBits::default(),
            stop: None,
            envelope: None,
            style: Style::default(),
            tools: HashSet::new(),
            lanes: (endpoint == Endpoint::Responses).then(Lanes::default),
            blocks: (endpoint == Endpoint::Messages).then(Box::default),
            calls: Calls::default(),
            budget: Budget::default(),
        }
    }

    /// Takes the bytes that are ready. Returns the text of the events that are whole, together with what was held by
    /// [`hold_from`](Self::hold_from); none if there is no text. Either way [`release`](Self::release) is next.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`] for an event that is too large, and for more than [`HELD_BYTES_MAX`] behind the end
    /// of the answer.
    pub fn push(&mut self, pieces: &mut Vec<Bytes>) -> Result<Option<TextBatch>> {
        let known = self.queue.len();
        for piece in pieces.drain(..) {
            self.bytes.push(piece.clone());
            self.decoder.push(piece);
            while let Some(frame) = self.decoder.next_frame().map_err(|_| oversize())? {
                self.take(&frame)?;
            }
        }
        Ok(if self.queue.len() == known { None } else { self.batch() })
    }

    /// There are no more bytes. Returns the text that is left, as [`push`](Self::push) does.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn end(&mut self) -> Result<Option<TextBatch>> {
        if let Some(frame) = self.decoder.finish() {
            let len = frame.raw.len();
            let frame = if frame.is_terminated() { frame } else { frame.terminated() };
            self.bytes.push(frame.raw.slice(len..));
            self.take(&frame)?;
        }
        if self.phase != Phase::Finished {
            self.phase = Phase::Ended;
        }
        Ok(self.batch())
    }

    /// Whether the answer is at its end and [`finish`](Self::finish) is due, once what was pushed is released.
    pub fn is_ended(&self) -> bool {
        self.phase >= Phase::Ended
    }

    /// Whether [`finish`](Self::finish) was called.
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Whether no more text of a choice is expected, so that nothing of it needs to wait.
    pub fn is_settled(&self, choice: u32) -> bool {
        self.is_ended() || is_in(self.choices.ended, choice)
    }

    /// Why the answer ended, once an event has said so.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.stop
    }

    /// Keeps the event of a span and all that follow: their text comes again, at the front of the next batch. Cuts the
    /// batch to what is released now, and returns how many spans that is: an event with several spans stays whole.
    pub fn hold_from(&mut self, span: usize, batch: &mut TextBatch) -> usize {
        let Some(slot) = self.slots.get(span) else { return batch.spans.len() };
        self.due = slot.event;
        let spans = self.slots.partition_point(|slot| slot.event < self.due);
        batch.truncate(spans);
        spans
    }

    /// Checks a batch that a plugin wants to be sent, now or at the end.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn validate(&self, batch: &TextBatch) -> Result<(), &'static str> {
        batch.check()?;
        self.budget.check(batch)?;
        if self.endpoint == Endpoint::GenerateContent {
            limits::check_objects(batch, |lane| self.awaits(lane))?;
        }
        batch.pieces().try_for_each(
            |(lane, text)| {
                if text.is_empty() { Ok(()) } else { self.check_lane(lane) }
            },
        )
    }

    fn check_lane(&self, lane: Lane) -> Result<(), &'static str> {
        if let Some(lanes) = &self.lanes {
            return if lanes.has(lane) { Ok(()) } else { Err(NO_PART) };
        }
        let is_known = match 1_u128.checked_shl(lane.choice) {
            Some(bit) => self.choices.begun & bit != 0,
            None => self.choices.has_further,
        };
        if !is_known {
            return Err(NO_CHOICE);
        }
        check_channel(self.endpoint, lane.channel)?;
        if let Some(blocks) = self.blocks.as_ref().filter(|_| lane.channel == Channel::ToolArguments) {
            return if blocks.takes_arguments(lane.sub_index) { Ok(()) } else { Err(CALL_OVER) };
        }
        if lane.channel == Channel::ToolArguments
            && self.tools.len() < TOOL_CALLS_MAX
            && !self.tools.contains(&lane)
        {
            return Err(NO_TOOL_CALL);
        }
        Ok(())
    }

    /// Whether arguments that have to be whole can be put where they came, because their event is here.
    fn awaits(&self, lane: Lane) -> bool {
        let is_due = |slot: &Slot| slot.is_json && slot.lane == lane && slot.event < self.due;
        self.slots.iter().any(is_due)
            || self.held.iter().filter_map(Held::event).any(|event| event.lacks(lane))
    }

    /// Lets the batch taken last go, and appends what the client is sent. Without a change that is the very bytes.
    /// `changed` is a batch that was found [valid](Self::validate).
    pub fn release(&mut self, changed: Option<&TextBatch>, out: &mut Vec<Bytes>) {
        let due = std::mem::take(&mut self.due);
        if due == 0 {
            return;
        }
        let cut = self.slots.partition_point(|slot| slot.event < due);
        let kept_slots = self.slots.split_off(cut);
        let mut slots = std::mem::replace(&mut self.slots, kept_slots);
        let kept = self.queue.split_off(due);
        let mut events = std::mem::replace(&mut self.queue, kept);
        for event in &mut self.queue {
            event.slots = event.slots.start - cut..event.slots.end - cut;
        }
        self.slots.iter_mut().for_each(|slot| slot.event -= due);
        match changed {
            None => self.pass(&mut events, &slots, out),
            Some(changed) => self.rewrite(&mut events, &slots, changed, out),
        }
        self.bytes.flush(out);
        self.let_go(out);
        if let Some(blocks) = &mut self.blocks {
            blocks.go_on(out);
        }
        // What is empty now is used again.
        slots.clear();
        if self.queue.is_empty() {
            (self.queue, self.slots) = (events, slots);
        }
    }

    fn pass(&mut self, events: &mut Vec<Event>, slots: &[Slot], out: &mut Vec<Bytes>) {
        self.budget.sent += slots.iter().map(|slot| slot.text.range().len() as u64).sum::<u64>();
        if let Some(lanes) = &mut self.lanes {
            let mut pass = |lane, text: &str| {
                lanes.came(lane, text);
                lanes.sent(lane, text);
            };
            events.iter().for_each(|event| event.each_text(slots, &mut pass));
        }
        if let Some(blocks) = &mut self.blocks {
            let mut pass = |lane, text: &str| {
                blocks.came(lane, text);
                blocks.sent(lane, text);
            };
            events.iter().for_each(|event| event.each_text(slots, &mut pass));
        }
        for event in events.drain(..) {
            match event.fate {
                Fate::Pass => self.pass_one(&event, out),
                Fate::Hold => self.hold(event, slots, None, out),
                Fate::Drop => self.bytes.skip(event.len, out),
            }
        }
    }

    /// Lets an event go as it came, as far as its place among the blocks allows it.
    fn pass_one(&mut self, event: &Event, out: &mut Vec<Bytes>) {
        let Some(blocks) = self.blocks.as_mut().filter(|blocks| !blocks.lets_pass(event.shape)) else {
            return self.bytes.pass(event.len);
        };
        let bytes = self.bytes.take(event.len, out);
        blocks.push(Step::Event { bytes, shape: event.shape, is_emptied: false }, out);
    }

    /// Sends an event with other text.
    fn send(&mut self, event: &Event, bytes: Bytes, is_emptied: bool, out: &mut Vec<Bytes>) {
        self.bytes.skip(event.len, out);
        match &mut self.blocks {
            Some(blocks) => blocks.push(Step::Event { bytes, shape: event.shape, is_emptied }, out),
            None => out.push(bytes),
        }
    }

    /// Leaves an event out.
    fn omit(&mut self, event: &Event, out: &mut Vec<Bytes>) {
        self.bytes.skip(event.len, out);
        if let Some(blocks) = &mut self.blocks {
            blocks.push(Step::Gone(event.shape), out);
        }
    }

    fn rewrite(
        &mut self,
        events: &mut Vec<Event>,
        slots: &[Slot],
        changed: &TextBatch,
        out: &mut Vec<Bytes>,
    ) {
        self.budget.sent += changed.text.len() as u64;
        let plan = Plan::of(slots, changed);
        if let Some(lanes) = &mut self.lanes {
            changed.pieces().for_each(|(lane, text)| lanes.sent(lane, text));
            plan.extras.iter().for_each(|extra| lanes.mark(extra.lane));
            let mut texts = plan.texts.iter().map(|range| changed.slice(range.clone()));
            let mut mark = |lane, text: &str| {
                lanes.came(lane, text);
                if texts.next() != Some(text) {
                    lanes.mark(lane);
                }
            };
            events.iter().for_each(|event| event.each_text(slots, &mut mark));
        }
        if let Some(blocks) = &mut self.blocks {
            changed.pieces().for_each(|(lane, text)| blocks.sent(lane, text));
            events.iter().for_each(|event| event.each_text(slots, |lane, text| blocks.came(lane, text)));
        }
        let mut extras = plan.extras.iter().peekable();
        for (number, event) in events.drain(..).enumerate() {
            let texts = || plan.texts[event.slots.clone()].iter().map(|range| changed.slice(range.clone()));
            let outcome = event.outcome(slots, texts());
            let is_emptied = texts().all(str::is_empty);
            // Text that left an event which stays, because it has the role for example, is better read after it.
            let is_shell = event.fate == Fate::Pass && matches!(outcome, Outcome::Edited(_)) && is_emptied;
            let mut put = |stream: &mut Self, out: &mut Vec<Bytes>| {
                while let Some(extra) = extras.next_if(|extra| extra.before <= number) {
                    stream.put(extra.lane, changed.slice(extra.text.clone()), out);
                }
            };
            if !is_shell {
                put(self, out);
            }
            match (event.fate, outcome) {
                (Fate::Pass, Outcome::Same) => self.pass_one(&event, out),
                (Fate::Pass, Outcome::Edited(_))
                    if self.blocks.is_none() && event.lacks_arguments(slots, texts()) =>
                {
                    // They have to be whole, and there may be more of them at the end.
                    self.phase = self.phase.max(Phase::Holding);
                    self.held_bytes += event.len;
                    let texts = texts().map(str::to_owned).collect();
                    self.hold(event, slots, Some(texts), out);
                }
                (Fate::Pass, Outcome::Edited(bytes)) => self.send(&event, bytes, is_emptied, out),
                (Fate::Hold, Outcome::Same) => self.hold(event, slots, None, out),
                (Fate::Hold, Outcome::Edited(_)) => {
                    let texts = texts().map(str::to_owned).collect();
                    self.hold(event, slots, Some(texts), out);
                }
                (_, Outcome::Gone) | (Fate::Drop, _) => self.omit(&event, out),
            }
            if is_shell {
                put(self, out);
            }
        }
        for extra in extras {
            self.put(extra.lane, changed.slice(extra.text.clone()), out);
        }
    }

    /// In the Responses API one text follows the other. What ended the one is let go when something else begins, if all
    /// that came of the one was sent: then no plugin withholds text that belongs before its end.
    fn let_go(&mut self, out: &mut Vec<Bytes>) {
        let Some(lanes) = self.lanes.as_ref().filter(|_| self.phase == Phase::Holding) else { return };
        let begins = |held: &Held| held.event().is_some_and(|event| event.begins);
        let Some(last) = self.held.iter().rposition(begins).filter(|_| self.queue.is_empty()) else { return };
        let can_go = |held: &Held| match held {
            Held::Event(event) => event.repeats.iter().all(|piece| lanes.is_even(piece.lane)),
            Held::Text(..) => false,
        };
        if !self.held[..last].iter().all(can_go) {
            return;
        }
        out.extend(self.held.drain(..=last).filter_map(|held| held.repeated(lanes)));
        let ends_text = |held: &Held| held.event().is_none_or(|event| !event.repeats.is_empty());
        if !self.held.iter().any(ends_text) {
            out.extend(self.held.drain(..).filter_map(|held| held.repeated(lanes)));
            self.phase = Phase::Open;
        }
        self.held_bytes = self.held.iter().filter_map(Held::event).map(|event| event.raw.len()).sum();
    }

    /// Gives text an event of its own, at once or, if its choice has ended, when the plugins have finished.
    fn put(&mut self, lane: Lane, text: &str, out: &mut Vec<Bytes>) {
        if let Some(blocks) = &mut self.blocks {
            self.bytes.flush(out);
            return blocks.push(Step::Text(lane, text.to_owned()), out);
        }
        // In the Responses API all that follows is held, so that the order stays.
        let is_held = self.lanes.is_some() && !self.held.is_empty();
        if is_held || is_in(self.held_choices, lane.choice) {
            self.held.push(Held::Text(lane, text.to_owned()));
        } else {
            self.write(lane, text, out);
        }
    }

    fn write(&mut self, lane: Lane, text: &str, out: &mut Vec<Bytes>) {
        self.bytes.flush(out);
        // Google's come whole, with their event.
        if self.endpoint == Endpoint::GenerateContent && lane.channel == Channel::ToolArguments {
            return;
        }
        if let Some(lanes) = &self.lanes {
            out.extend(lanes.event(lane, text));
            return;
        }
        // There is an envelope once there was text: both come with choices.
        out.extend(self.envelope.as_ref().map(|envelope| envelope.event(lane, text, self.style)));
    }

    fn hold(&mut self, event: Event, slots: &[Slot], texts: Option<Vec<String>>, out: &mut Vec<Bytes>) {
        self.held_choices |= event.choices;
        let raw = self.bytes.take(event.len, out);
        let slots = slots[event.slots].to_vec();
        let Event { is_bare, is_end, begins, repeats, body, .. } = event;
        self.held.push(Held::Event(HeldEvent { raw, slots, texts, is_bare, is_end, begins, repeats, body }));
    }

    /// The plugins have finished: appends the text they still had, then what was held. What was not released before goes
    /// as it is. `late` is a batch that was found [valid](Self::validate).
    pub fn finish(&mut self, late: Option<&TextBatch>, out: &mut Vec<Bytes>) {
        self.due = self.queue.len();
        self.release(None, out);
        self.phase = Phase::Finished;
        let mut held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let late = late.filter(|late| !late.is_empty());
        if let Some(blocks) = &mut self.blocks {
            blocks.finish(late, out);
            return out.extend(held.into_iter().filter_map(Held::into_bytes));
        }
        if let Some(lanes) = &mut self.lanes {
            return held::finish_response(held, late, lanes, out);
        }
        if late.is_none() && !held.iter().any(|held| matches!(held, Held::Text(..))) {
            out.extend(held.into_iter().filter_map(Held::into_bytes));
            return;
        }
        held.iter_mut().for_each(|held| held.fill(late));
        // All text stands before all that ends something: so its order is kept.
        let mut texts = Texts::default();
        held.iter().for_each(|held| held.texts(&mut texts));
        late.into_iter().flat_map(TextBatch::pieces).for_each(|(lane, text)| texts.push(lane, text));
        texts.0.iter().for_each(|(lane, text)| self.write(*lane, text, out));
        out.extend(held.into_iter().filter_map(Held::into_shell));
    }

    /// Whether later events repeat text that was changed, or are numbered otherwise, so that they must go on passing
    /// through here even when no plugin wants to see them.
    pub fn must_repeat(&self) -> bool {
        self.lanes.as_ref().is_some_and(Lanes::are_changed)
            || self.blocks.as_ref().is_some_and(|blocks| blocks.are_renumbered())
    }

    /// No plugin wants text any more: appends all that waits, as it is. What follows can go without passing through here,
    /// unless it [must repeat](Self::must_repeat) text.
    pub fn leave(mut self, out: &mut Vec<Bytes>) {
        self.finish(None, out);
        self.bytes.flush_all(out);
    }

    /// The text of all events that wait; releases all of them unless somebody holds some.
    fn batch(&mut self) -> Option<TextBatch> {
        self.due = self.queue.len();
        if self.slots.is_empty() {
            return None;
        }
        let bytes = self.slots.iter().map(|slot| slot.text.range().len()).sum();
        let mut batch =
            TextBatch { text: String::with_capacity(bytes), spans: Vec::with_capacity(self.slots.len()) };
        self.queue.iter().for_each(|event| event.each_text(&self.slots, |lane, text| batch.push(lane, text)));
        Some(batch)
    }
}

/// Whether the bit of a choice is set.
fn is_in(bits: u128, choice: u32) -> bool {
    (choice as usize) < CHOICES_MAX && bits >> choice & 1 == 1
}

fn oversize() -> Error {
    let message = format!("the upstream sent an event of more than {EVENT_BYTES_MAX} bytes");
    Error::new(ErrorKind::UpstreamInvalid, message)
}

#[cfg(test)]
mod tests;
