//! The events that the gateway makes itself, because a text has no event it could stand in.

use bytes::Bytes;

use crate::chat::{Channel, Lane};
use crate::wire::Endpoint;
use crate::wire::json::{self, Scanner};
use crate::wire::openai::view::{is_filled, members};
use crate::wire::text::reader::{ENVELOPE, Reading, ThinkingNames};

/// What all events of an answer with choices have in common.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// An event up to its choices: `data: {"id":"x",…,`.
    head: Vec<u8>,
    endpoint: Endpoint,
}

impl Envelope {
    /// Takes it from an event's data; its usage and what only this event says stays there.
    pub(super) fn of(data: &[u8], endpoint: Endpoint) -> Self {
        let names: &[&str] =
            if endpoint == Endpoint::GenerateContent { &CONTENT_ENVELOPE } else { &ENVELOPE };
        let mut head = b"data: {".to_vec();
        // A syntax error ends the envelope early; whoever calls has read the event before.
        let _ = members(&mut Scanner::new(data), |scanner, key| {
            let start = key.range().start - 1;
            let value = scanner.skip()?;
            if is_filled(&data[value.clone()]) && names.iter().any(|name| key.is(name)) {
                // Line ends between the two would end the line of the event.
                head.extend(data[start..value.end].iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
                head.push(b',');
            }
            Ok(())
        });
        Self { head, endpoint }
    }

    /// Writes an event with this text and nothing else.
    pub(super) fn event(&self, lane: Lane, text: &str, style: Style) -> Bytes {
        let mut event = Vec::with_capacity(self.head.len() + text.len() + 128);
        event.extend_from_slice(&self.head);
        if self.endpoint == Endpoint::GenerateContent {
            event.extend_from_slice(b"\"candidates\":[{\"content\":{\"parts\":[");
            write_part(lane, text, &mut event);
            let tail = format!("],\"role\":\"model\"}},\"index\":{}}}]}}\n\n", lane.choice);
            event.extend_from_slice(tail.as_bytes());
            return event.into();
        }
        event.extend_from_slice(format!("\"choices\":[{{\"index\":{},", lane.choice).as_bytes());
        if self.endpoint == Endpoint::ChatCompletions {
            event.extend_from_slice(b"\"delta\":{");
            write_member(lane, text, style, &mut event);
            event.push(b'}');
        } else {
            event.extend_from_slice(b"\"text\":");
            json::quote(text, &mut event);
        }
        event.extend_from_slice(b",\"finish_reason\":null}]}\n\n");
        event.into()
    }
}

/// What events of Google's are given of it; what has been used is said with the end.
const CONTENT_ENVELOPE: [&str; 3] = ["modelVersion", "responseId", "createTime"];

/// How an upstream says what can be said in several ways.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// The names of the thinking.
    pub(super) thinking: ThinkingNames,
    /// Whether a function call has the form that came before tool calls.
    pub(super) is_legacy_call: bool,
}

impl Style {
    /// Learns from an event how the upstream says it.
    pub(super) fn watch(&mut self, reading: &Reading) {
        if reading.thinking != ThinkingNames::default() {
            self.thinking = reading.thinking;
        }
        if !reading.tools.is_empty() {
            self.is_legacy_call = reading.is_legacy_call;
        }
    }
}

/// Writes the members of a message or delta that hold a text.
pub(super) fn write_member(lane: Lane, text: &str, style: Style, into: &mut Vec<u8>) {
    let mut write = |before: &str, after: &str| {
        into.extend_from_slice(before.as_bytes());
        json::quote(text, into);
        into.extend_from_slice(after.as_bytes());
    };
    match lane.channel {
        Channel::Content => write("\"content\":", ""),
        Channel::Refusal => write("\"refusal\":", ""),
        Channel::Reasoning => match style.thinking {
            ThinkingNames { has_long: true, has_short: true } => {
                write("\"reasoning_content\":", ",");
                write("\"reasoning\":", "");
            }
            ThinkingNames { has_long: false, has_short: true } => write("\"reasoning\":", ""),
            ThinkingNames { has_short: false, .. } => write("\"reasoning_content\":", ""),
        },
        Channel::ToolArguments if style.is_legacy_call => write("\"function_call\":{\"arguments\":", "}"),
        Channel::ToolArguments => {
            let before =
                format!("\"tool_calls\":[{{\"index\":{},\"function\":{{\"arguments\":", lane.sub_index);
            write(&before, "}}]");
        }
    }
}

/// Writes a part of Google's that holds a text.
pub(super) fn write_part(lane: Lane, text: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(b"{\"text\":");
    json::quote(text, into);
    into.extend_from_slice(if lane.channel == Channel::Reasoning { b",\"thought\":true}" } else { b"}" });
}

/// Writes a whole block of Anthropic's that holds a text.
pub(super) fn write_block(lane: Lane, text: &str, into: &mut Vec<u8>) {
    let is_thinking = lane.channel == Channel::Reasoning;
    let (before, after): (&[u8], &[u8]) = if is_thinking {
        (b"{\"type\":\"thinking\",\"thinking\":", b",\"signature\":\"\"}")
    } else {
        (b"{\"type\":\"text\",\"text\":", b"}")
    };
    into.extend_from_slice(before);
    json::quote(text, into);
    into.extend_from_slice(after);
}
