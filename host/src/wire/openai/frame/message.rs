//! A whole message of Anthropic's as the events of its stream.
//!
//! Source: Anthropic API reference, "Streaming messages", seen 2026-11.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::wire::sse;

/// Writes a message as events; `pieces` cuts a text into those that are sent one by one.
///
/// None when it has not the shape of a message.
pub(in crate::wire::openai) fn events(
    message: &[u8],
    pieces: impl Fn(&str) -> Vec<&str>,
) -> Option<Vec<Bytes>> {
    let Inputs { content: inputs } = serde_json::from_slice(message).ok()?;
    let Value::Object(mut message) = serde_json::from_slice(message).ok()? else { return None };
    let Some(Value::Array(blocks)) = message.remove("content") else { return None };
    let mut events = Events { list: Vec::new(), pieces };
    let usage = message.get("usage").filter(|usage| usage.is_object()).cloned();
    let ends = ENDS.map(|name| (name, message.remove(name)));
    events.begin(message);
    for (index, (block, Input { input })) in blocks.into_iter().zip(inputs).enumerate() {
        let Value::Object(block) = block else { return None };
        events.block(index, block, input.map(RawValue::get));
    }
    let told = ends.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let delta: Map<String, Value> = told.collect();
    let usage = usage.unwrap_or_else(|| json!({ "output_tokens": 0 }));
    events.send("message_delta", json!({ "delta": delta, "usage": usage }));
    events.send("message_stop", json!({}));
    Some(events.list)
}

/// What is known of a message only when it is over, in the order of the event that tells it.
const ENDS: [&str; 4] = ["stop_reason", "stop_sequence", "stop_details", "container"];

/// What the tools of a message are called with, as it was written: a number or an order of members is not to change.
#[derive(Deserialize)]
struct Inputs<'a> {
    #[serde(borrow)]
    content: Vec<Input<'a>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

struct Events<F> {
    list: Vec<Bytes>,
    pieces: F,
}

impl<F: Fn(&str) -> Vec<&str>> Events<F> {
    fn send(&mut self, kind: &str, members: Value) {
        let mut data = json!({ "type": kind });
        if let (Value::Object(data), Value::Object(members)) = (&mut data, members) {
            data.extend(members);
        }
        self.list.push(sse::encode(Some(kind), data.to_string().as_bytes()));
    }

    /// The message before anything is said; of its cost only the prompt's is known then.
    fn begin(&mut self, mut message: Map<String, Value>) {
        message.entry("type").or_insert_with(|| json!("message"));
        message.entry("role").or_insert_with(|| json!("assistant"));
        message.insert("content".to_owned(), json!([]));
        message.insert("stop_reason".to_owned(), Value::Null);
        message.insert("stop_sequence".to_owned(), Value::Null);
        let usage = message.entry("usage").or_insert_with(|| json!({ "input_tokens": 0 }));
        if let Value::Object(usage) = usage {
            usage.insert("output_tokens".to_owned(), json!(0));
        }
        self.send("message_start", json!({ "message": message }));
    }

    /// A block: what it says comes in pieces after it has begun, all else with its beginning.
    fn block(&mut self, index: usize, mut block: Map<String, Value>, input: Option<&str>) {
        let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
        let deltas = match kind {
            "text" => {
                let text = take(&mut block, "text", json!(""));
                let citations = take(&mut block, "citations", json!([]));
                let mut deltas = self.texts("text_delta", "text", text);
                if let Some(Value::Array(citations)) = citations {
                    let delta = |citation| json!({ "type": "citations_delta", "citation": citation });
                    deltas.extend(citations.into_iter().map(delta));
                }
                deltas
            }
            "thinking" => {
                let thinking = take(&mut block, "thinking", json!(""));
                let signature = take(&mut block, "signature", json!(""));
                let mut deltas = self.texts("thinking_delta", "thinking", thinking);
                let signature = signature.filter(|signature| signature != "");
                deltas
                    .extend(signature.map(|value| json!({ "type": "signature_delta", "signature": value })));
                deltas
            }
            _ => {
                let input = take(&mut block, "input", json!({})).and(input).map(|input| json!(input));
                self.texts("input_json_delta", "partial_json", input)
            }
        };
        self.put(index, block, deltas);
    }

    fn texts(&self, kind: &str, member: &str, text: Option<Value>) -> Vec<Value> {
        let Some(Value::String(text)) = text else { return Vec::new() };
        let delta = |piece: &str| {
            let members = [("type".to_owned(), json!(kind)), (member.to_owned(), json!(piece))];
            Value::Object(Map::from_iter(members))
        };
        (self.pieces)(&text).into_iter().map(delta).collect()
    }

    fn put(&mut self, index: usize, block: Map<String, Value>, deltas: Vec<Value>) {
        self.send("content_block_start", json!({ "index": index, "content_block": block }));
        for delta in deltas {
            self.send("content_block_delta", json!({ "index": index, "delta": delta }));
        }
        self.send("content_block_stop", json!({ "index": index }));
    }
}

/// Takes a member out of a block, if it is of the kind of what stands there instead until it is said.
fn take(block: &mut Map<String, Value>, name: &str, empty: Value) -> Option<Value> {
    let value = block.get_mut(name)?;
    let is_alike = std::mem::discriminant(value) == std::mem::discriminant(&empty);
    is_alike.then(|| std::mem::replace(value, empty))
}
