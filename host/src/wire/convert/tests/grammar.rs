//! The grammars of streams, followed as the vendors' clients do.

use std::fmt::Debug;

use bytes::Bytes;
use serde_json::Value;

use crate::wire::sse::{Decoder, EVENT_BYTES_MAX};

/// Follows a stream, and fails where a client of the vendor's would.
pub(super) trait Grammar: Debug + Default {
    /// Takes the next event.
    fn take(&mut self, event: &Value);

    /// Whether the stream is at an end of its grammar.
    fn is_over(&self) -> bool;
}

/// The events in the bytes of a stream, which end with one; each with its type for a name.
#[track_caller]
pub(super) fn events_in(bytes: &[u8]) -> Vec<Value> {
    let mut frames = Decoder::new(EVENT_BYTES_MAX);
    frames.push(Bytes::copy_from_slice(bytes));
    let mut events = Vec::new();
    while let Some(frame) = frames.next_frame().unwrap() {
        let fields = frame.fields();
        let Some(data) = &fields.data else { continue };
        let event: Value = serde_json::from_slice(data).unwrap();
        assert_eq!(fields.event_name(), event["type"].as_str(), "an event is named as its type");
        events.push(event);
    }
    assert_eq!(frames.carried_bytes(), 0, "what is written ends with an event");
    events
}

/// Anthropic's: a start, blocks one after another, a delta of the message, a stop; an error may end it anywhere.
#[derive(Debug, Default)]
pub(super) struct Messages {
    is_begun: bool,
    open: Option<String>,
    blocks: u64,
    has_reason: bool,
    is_over: bool,
}

impl Grammar for Messages {
    fn take(&mut self, event: &Value) {
        let kind = event["type"].as_str().unwrap();
        assert!(!self.is_over, "{kind} follows the end");
        assert!(
            self.is_begun || matches!(kind, "message_start" | "ping" | "error"),
            "{kind} begins a stream"
        );
        match kind {
            "message_start" => {
                assert!(!self.is_begun, "a message starts twice");
                self.is_begun = true;
            }
            "content_block_start" => {
                assert!(self.open.is_none() && !self.has_reason, "{event} does not stand here");
                assert_eq!(event["index"], self.blocks, "indices have no gaps");
                self.open = Some(event["content_block"]["type"].as_str().unwrap().to_owned());
            }
            "content_block_delta" => {
                assert_eq!(event["index"], self.blocks, "a delta is of the open block");
                let block = self.open.as_deref().expect("a block is open");
                let delta = event["delta"]["type"].as_str().unwrap();
                let is_fitting = match delta {
                    "text_delta" | "citations_delta" => block == "text",
                    "thinking_delta" | "signature_delta" => block == "thinking",
                    "input_json_delta" => block == "tool_use",
                    _ => false,
                };
                assert!(is_fitting, "a {delta} is in a block of {block}");
            }
            "content_block_stop" => {
                assert_eq!(event["index"], self.blocks);
                assert!(self.open.take().is_some(), "a block is open");
                self.blocks += 1;
            }
            "message_delta" => {
                assert!(self.open.is_none() && !self.has_reason, "{event} does not stand here");
                assert!(event["delta"]["stop_reason"].is_string());
                assert!(event["usage"]["output_tokens"].is_u64());
                self.has_reason = true;
            }
            "message_stop" => {
                assert!(self.has_reason, "a message has a reason to stop");
                self.is_over = true;
            }
            "error" => {
                assert!(event["error"]["message"].is_string() && event["error"]["type"].is_string());
                self.is_over = true;
            }
            "ping" => {}
            _ => panic!("{kind} is no event of Anthropic's"),
        }
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

/// OpenAI's Responses: items that are begun and done, calls also side by side, parts one after another within them, and the
/// whole at the end.
#[derive(Debug, Default)]
pub(super) struct Responses {
    number: u64,
    items: Vec<Item>,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Item {
    id: Value,
    kind: String,
    parts: u64,
    /// The part that is open: the word its events have in common, and its text.
    part: Option<(&'static str, String)>,
    arguments: String,
    /// The whole of it.
    done: Option<Value>,
}

impl Responses {
    /// The item that an event is of, which is not done.
    fn open(&mut self, event: &Value, id: &Value) -> &mut Item {
        let index = usize::try_from(event["output_index"].as_u64().unwrap()).unwrap();
        let item = self.items.get_mut(index).unwrap_or_else(|| panic!("no item is begun: {event}"));
        assert!(item.done.is_none() && item.id == *id, "the item is another or done: {event}");
        item
    }

    fn item(&mut self, event: &Value) -> &mut Item {
        self.open(event, &event["item_id"])
    }

    /// The open part, whose events have this word in common.
    fn part(&mut self, event: &Value, word: &str) -> &mut String {
        let item = self.item(event);
        let index = event.get("content_index").or_else(|| event.get("summary_index")).unwrap();
        assert_eq!(*index, item.parts, "{event}");
        let (open, text) = item.part.as_mut().expect("a part is open");
        assert_eq!(*open, word, "{event}");
        text
    }

    fn begin_item(&mut self, event: &Value) {
        assert_eq!(event["output_index"], self.items.len() as u64, "indices have no gaps");
        let kind = event["item"]["type"].as_str().unwrap().to_owned();
        // Arguments may still come for a call, whatever has begun since.
        let mut others = self.items.iter().filter(|item| item.done.is_none() && item.kind != "function_call");
        assert!(kind == "function_call" || others.next().is_none(), "an item is begun in another: {event}");
        self.items.push(Item { id: event["item"]["id"].clone(), kind, ..Item::default() });
    }

    fn end_item(&mut self, event: &Value) {
        let item = self.open(event, &event["item"]["id"]);
        assert!(item.part.is_none(), "every part is done before its item: {event}");
        assert_eq!(event["item"]["type"], *item.kind);
        item.done = Some(event["item"].clone());
    }

    fn begin_part(&mut self, event: &Value, word: &'static str, kind: &str) {
        let item = self.item(event);
        assert_eq!(item.kind, kind, "{event}");
        assert!(item.part.is_none(), "a part is begun in another: {event}");
        item.part = Some((word, String::new()));
    }

    fn end_part(&mut self, event: &Value) {
        let item = self.item(event);
        assert!(item.part.take().is_some(), "a part is open: {event}");
        item.parts += 1;
    }

    /// The whole repeats the items. Only it knows the status of one that was cut off with the answer, and the
    /// probabilities that came when their text was done already.
    fn end(&mut self, event: &Value) {
        let mut output = event["response"]["output"].as_array().unwrap().clone();
        assert_eq!(output.len(), self.items.len());
        for (item, whole) in self.items.iter().zip(&mut output) {
            let mut done = item.done.clone().expect("every item is done");
            for item in [&mut done, whole] {
                item.as_object_mut().unwrap().remove("status");
            }
            let parts = whole.get_mut("content").and_then(Value::as_array_mut);
            for (place, part) in parts.into_iter().flatten().enumerate() {
                let streamed = done["content"][place]["logprobs"].as_array().map_or(0, Vec::len);
                if let Some(tokens) = part.get_mut("logprobs").and_then(Value::as_array_mut) {
                    tokens.truncate(streamed);
                }
            }
            assert_eq!(*whole, done, "the whole is what was streamed");
        }
        self.is_over = true;
    }
}

impl Grammar for Responses {
    fn take(&mut self, event: &Value) {
        let kind = event["type"].as_str().unwrap();
        assert!(!self.is_over, "{kind} follows the end");
        assert_eq!(event["sequence_number"], self.number, "numbers have no gaps");
        assert!(self.number > 0 || matches!(kind, "response.created" | "error"), "{kind} begins a stream");
        self.number += 1;
        match kind {
            "response.created" => assert_eq!(self.number, 1, "a response is created twice"),
            "response.in_progress" => assert_eq!(self.number, 2),
            "response.output_item.added" => self.begin_item(event),
            "response.output_item.done" => self.end_item(event),
            "response.content_part.added" => {
                let word = if event["part"]["type"] == "refusal" { "refusal" } else { "text" };
                self.begin_part(event, word, "message");
            }
            "response.reasoning_summary_part.added" => self.begin_part(event, "summary", "reasoning"),
            "response.content_part.done" | "response.reasoning_summary_part.done" => self.end_part(event),
            "response.output_text.delta" => append(self.part(event, "text"), event),
            "response.refusal.delta" => append(self.part(event, "refusal"), event),
            "response.reasoning_summary_text.delta" => append(self.part(event, "summary"), event),
            "response.output_text.done" => assert_eq!(event["text"], *self.part(event, "text")),
            "response.refusal.done" => assert_eq!(event["refusal"], *self.part(event, "refusal")),
            "response.reasoning_summary_text.done" => {
                assert_eq!(event["text"], *self.part(event, "summary"));
            }
            "response.output_text.annotation.added" => {
                self.part(event, "text");
            }
            "response.function_call_arguments.delta" => append(&mut self.item(event).arguments, event),
            "response.function_call_arguments.done" => {
                assert_eq!(event["arguments"], self.item(event).arguments);
            }
            "response.completed" | "response.incomplete" | "response.failed" => self.end(event),
            "error" => {
                assert!(event["message"].is_string());
                self.is_over = true;
            }
            _ => panic!("{kind} is no event of OpenAI's"),
        }
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

fn append(text: &mut String, event: &Value) {
    text.push_str(event["delta"].as_str().unwrap());
}
