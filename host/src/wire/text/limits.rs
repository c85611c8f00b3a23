//! What text the plugins may make of an answer.

use crate::chat::{Channel, ChannelSet, TextBatch};
use crate::wire::Endpoint;

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
    if endpoint == Endpoint::Completions && channel != Channel::Content { Err(NO_CHANNEL) } else { Ok(()) }
}
