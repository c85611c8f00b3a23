//! What text the plugins may make of an answer.

use std::collections::HashSet;

use crate::chat::{Channel, ChannelSet, Lane, TextBatch};
use crate::wire::Endpoint;
use crate::wire::text::event::is_object;

/// How many bytes of events may be held that follow what ends an answer: 8 MiB. An answer has a handful of them.
pub const HELD_BYTES_MAX: usize = 8 << 20;

/// How much more text than twice what came the plugins may make of an answer: 64 KiB.
pub const ADDED_BYTES_MAX: u64 = 64 << 10;

/// How much text came, and how much was made of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    pub(super) came: u64,
    pub(super) sent: u64,
}

impl Budget {
    /// Whether so much more text may be sent.
    pub(super) fn check(self, batch: &TextBatch) -> Result<(), &'static str> {
        let sent = self.sent.saturating_add(batch.text.len() as u64);
        if sent > self.came.saturating_mul(2).saturating_add(ADDED_BYTES_MAX) {
            Err(TOO_MUCH)
        } else {
            Ok(())
        }
    }
}

pub(super) const NO_CHOICE: &str = "a text batch has text for a choice that the answer does not have";
pub(super) const NO_CHANNEL: &str =
    "a text batch has text for a channel that the answers of this endpoint do not have";
pub(super) const NO_PART: &str = "a text batch has text for an item or part that the response does not have";
pub(super) const NO_TOOL_CALL: &str =
    "a text batch has arguments for a tool call that the answer does not have";
pub(super) const CALL_OVER: &str =
    "a text batch has arguments for a tool call that is complete, or that the answer does not have";
pub(super) const NOT_WHOLE: &str =
    "the arguments of a tool call have to be one JSON object, given at once and in one place";
pub(super) const TOO_MUCH: &str = "there is more than twice the text that the upstream sent, and 64 KiB";
pub(super) const HELD_TOO_MUCH: &str = "the upstream sent more than 8 MiB after the end of its answer";

/// The channels among these that the answers of an endpoint can have.
pub(super) fn readable(endpoint: Endpoint, channels: ChannelSet) -> ChannelSet {
    let all = [Channel::Content, Channel::Reasoning, Channel::Refusal, Channel::ToolArguments];
    all.into_iter()
        .filter(|channel| channels.contains(*channel) && check_channel(endpoint, *channel).is_ok())
        .collect()
}

pub(super) fn check_channel(endpoint: Endpoint, channel: Channel) -> Result<(), &'static str> {
    let is_there = match endpoint {
        Endpoint::Completions => channel == Channel::Content,
        // They say why the model refuses outside of the text, if at all.
        Endpoint::Messages | Endpoint::GenerateContent => channel != Channel::Refusal,
        _ => true,
    };
    if is_there { Ok(()) } else { Err(NO_CHANNEL) }
}

/// Checks arguments that have to be whole: those of each call are one JSON object in one place, and `awaits` says
/// whether there is a place for them.
pub(super) fn check_objects(batch: &TextBatch, awaits: impl Fn(Lane) -> bool) -> Result<(), &'static str> {
    let mut runs: Vec<(Lane, String)> = Vec::new();
    let mut before = None;
    for (lane, text) in batch.pieces().filter(|(_, text)| !text.is_empty()) {
        let is_run = before.replace(lane) == Some(lane);
        if lane.channel != Channel::ToolArguments {
            continue;
        }
        match runs.last_mut().filter(|_| is_run) {
            Some((_, run)) => run.push_str(text),
            None => runs.push((lane, text.to_owned())),
        }
    }
    let lanes: HashSet<Lane> = runs.iter().map(|(lane, _)| *lane).collect();
    if lanes.len() < runs.len() || !runs.iter().all(|(_, run)| is_object(run)) {
        return Err(NOT_WHOLE);
    }
    if runs.iter().all(|(lane, _)| awaits(*lane)) { Ok(()) } else { Err(CALL_OVER) }
}
