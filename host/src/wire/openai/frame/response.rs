//! A whole answer of the Responses API as the events of its stream.
//!
//! Source: OpenAI API reference, "Responses", streaming events, seen 2026-11.

use serde_json::{Map, Value, json};

use crate::wire::sse;

/// Members of an item that are told after it has begun, in events of their own or when it is over.
const TOLD_LATER: [&str; 6] = ["content", "summary", "arguments", "input", "encrypted_content", "result"];

/// Writes an answer as events; none when it has not the shape of one.
pub(super) fn events(answer: Map<String, Value>, out: &mut Vec<u8>) -> Option<()> {
    let items = answer.get("output")?.as_array()?;
    let mut events = Events { sequence: 0, out };
    let mut begun = answer.clone();
    begun.insert("status".to_owned(), json!("in_progress"));
    begun.insert("output".to_owned(), json!([]));
    for (name, value) in &mut begun {
        if matches!(name.as_str(), "usage" | "incomplete_details" | "completed_at") {
            *value = Value::Null;
        }
    }
    for kind in ["created", "in_progress"] {
        events.send(kind, [], json!({ "response": begun }));
    }
    for (index, item) in items.iter().enumerate() {
        events.send("output_item.added", [], json!({ "output_index": index, "item": begun_item(item) }));
        let id = item.get("id").cloned().unwrap_or_else(|| json!(format!("item_{index}")));
        events.item(item, [("item_id", id), ("output_index", json!(index))]);
        events.send("output_item.done", [], json!({ "output_index": index, "item": item }));
    }
    let is_incomplete = answer.get("status").is_some_and(|status| status == "incomplete");
    let last = if is_incomplete { "incomplete" } else { "completed" };
    events.send(last, [], json!({ "response": answer }));
    Some(())
}

/// An item before anything of it is said.
fn begun_item(item: &Value) -> Value {
    let Value::Object(item) = item else { return item.clone() };
    let mut begun = item.clone();
    begun.retain(|name, value| !TOLD_LATER.contains(&name.as_str()) || empty(value).is_some());
    for name in TOLD_LATER {
        if let Some(value) = begun.get_mut(name) {
            *value = empty(value).unwrap_or_default();
        }
    }
    // Thinking has no status, and what is encrypted of it no beginning.
    begun.remove("encrypted_content");
    if item.get("type").is_none_or(|kind| kind != "reasoning") {
        begun.insert("status".to_owned(), json!("in_progress"));
    }
    Value::Object(begun)
}

fn empty(value: &Value) -> Option<Value> {
    match value {
        Value::Array(_) => Some(json!([])),
        Value::String(_) => Some(json!("")),
        _ => None,
    }
}

struct Events<'o> {
    sequence: u64,
    out: &'o mut Vec<u8>,
}

impl Events<'_> {
    /// Sends an event; `place` says what it is about.
    fn send<'p>(&mut self, kind: &str, place: impl IntoIterator<Item = (&'p str, Value)>, members: Value) {
        let kind = format!("response.{kind}");
        let mut data = Map::from_iter([
            ("type".to_owned(), json!(kind)),
            ("sequence_number".to_owned(), json!(self.sequence)),
        ]);
        data.extend(place.into_iter().map(|(name, value)| (name.to_owned(), value)));
        if let Value::Object(members) = members {
            data.extend(members);
        }
        self.sequence += 1;
        self.out.extend_from_slice(&sse::encode(Some(&kind), Value::Object(data).to_string().as_bytes()));
    }

    /// What is told of an item between its beginning and its end.
    fn item(&mut self, item: &Value, place: [(&str, Value); 2]) {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let parts =
            |name: &str| item.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        match text("type") {
            Some("function_call") => {
                if let Some(arguments) = text("arguments") {
                    let members = json!({ "delta": arguments });
                    self.send("function_call_arguments.delta", place.clone(), members);
                    let members = json!({ "name": item.get("name"), "arguments": arguments });
                    self.send("function_call_arguments.done", place, members);
                }
            }
            Some("custom_tool_call") => {
                if let Some(input) = text("input") {
                    self.send("custom_tool_call_input.delta", place.clone(), json!({ "delta": input }));
                    self.send("custom_tool_call_input.done", place, json!({ "input": input }));
                }
            }
            kind => {
                let is_thinking = kind == Some("reasoning");
                for (index, part) in parts("summary").iter().enumerate() {
                    self.part(
                        "reasoning_summary_part",
                        "reasoning_summary_text",
                        "summary_index",
                        index,
                        part,
                        &place,
                    );
                }
                for (index, part) in parts("content").iter().enumerate() {
                    let texts = match part.get("type").and_then(Value::as_str) {
                        _ if is_thinking => "reasoning_text",
                        Some("refusal") => "refusal",
                        _ => "output_text",
                    };
                    self.part("content_part", texts, "content_index", index, part, &place);
                }
            }
        }
    }

    /// A part: it begins empty, its text comes in one piece, then where that is from, and the whole of it.
    fn part(
        &mut self,
        parts: &str,
        texts: &str,
        index_name: &str,
        index: usize,
        part: &Value,
        item: &[(&str, Value); 2],
    ) {
        let [id, output] = item.clone();
        let place = [id, output, (index_name, json!(index))];
        let name = if texts == "refusal" { "refusal" } else { "text" };
        let mut begun = part.clone();
        for name in [name, "annotations", "logprobs"] {
            if let Some(value) = begun.get_mut(name) {
                *value = empty(value).unwrap_or_default();
            }
        }
        self.send(&format!("{parts}.added"), place.clone(), json!({ "part": begun }));
        if let Some(text) = part.get(name).and_then(Value::as_str) {
            let (mut delta, mut done) = (json!({ "delta": text }), json!({ name: text }));
            if texts == "output_text" {
                let logprobs = part.get("logprobs").cloned().unwrap_or_else(|| json!([]));
                (delta["logprobs"], done["logprobs"]) = (logprobs.clone(), logprobs);
            }
            self.send(&format!("{texts}.delta"), place.clone(), delta);
            let annotations = part.get("annotations").and_then(Value::as_array);
            for (index, annotation) in annotations.into_iter().flatten().enumerate() {
                let members = json!({ "annotation_index": index, "annotation": annotation });
                self.send("output_text.annotation.added", place.clone(), members);
            }
            self.send(&format!("{texts}.done"), place.clone(), done);
        }
        self.send(&format!("{parts}.done"), place, json!({ "part": part }));
    }
}
