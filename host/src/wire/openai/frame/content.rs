//! A whole answer of Google's as the events of its stream.
//!
//! An event has the shape of a whole answer, so that one event is as good as many.
//!
//! Source: Google, Gemini API reference, "Generating content", seen 2026-11.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::wire::sse;

/// Writes an answer, or the list of what a stream was, as events; `pieces` cuts a text into those that are sent one by
/// one. An answer of several candidates comes in one event.
///
/// None when it has not the shape of an answer.
pub(in crate::wire::openai) fn events(
    answer: &[u8],
    pieces: impl Fn(&str) -> Vec<&str>,
) -> Option<Vec<Bytes>> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    match answer {
        Value::Array(answers) if !answers.is_empty() => {
            answers.iter().map(|answer| is_answer(answer).then(|| event(answer))).collect()
        }
        Value::Object(ref members) if is_answer(&answer) => Some(pieced(members, pieces)),
        _ => None,
    }
}

fn is_answer(answer: &Value) -> bool {
    answer.get("candidates").is_some_and(Value::is_array)
        || ["promptFeedback", "usageMetadata"]
            .iter()
            .any(|name| answer.get(name).is_some_and(Value::is_object))
}

fn event(answer: &Value) -> Bytes {
    sse::encode(None, answer.to_string().as_bytes())
}

/// Sends the parts of the one candidate one after the other, texts in pieces, and everything else with the last.
fn pieced(answer: &Map<String, Value>, pieces: impl Fn(&str) -> Vec<&str>) -> Vec<Bytes> {
    let whole = || vec![sse::encode(None, json!(answer).to_string().as_bytes())];
    let Some([candidate]) = answer.get("candidates").and_then(Value::as_array).map(Vec::as_slice) else {
        return whole();
    };
    let parts = candidate.pointer("/content/parts").and_then(Value::as_array);
    let sent: Vec<Value> = parts.into_iter().flatten().flat_map(|part| cut(part, &pieces)).collect();
    let Some((last, before)) = sent.split_last() else { return whole() };
    let role = candidate.pointer("/content/role").cloned().unwrap_or_else(|| json!("model"));
    let content = |part: &Value| json!({ "parts": [part], "role": role });
    let named = |name: &str| Some((name.to_owned(), answer.get(name)?.clone()));
    let frame: Map<String, Value> = ["modelVersion", "responseId"].into_iter().filter_map(named).collect();
    let mut events = Vec::with_capacity(sent.len());
    for part in before {
        let mut said = json!({ "content": content(part) });
        if let Some(index) = candidate.get("index") {
            said["index"] = index.clone();
        }
        let mut members = frame.clone();
        members.insert("candidates".to_owned(), json!([said]));
        events.push(event(&Value::Object(members)));
    }
    let mut end = candidate.clone();
    end["content"]["parts"] = json!([last]);
    let mut members = answer.clone();
    members.insert("candidates".to_owned(), json!([end]));
    events.push(event(&Value::Object(members)));
    events
}

/// A part in pieces, if it is nothing but text, or thinking.
fn cut(part: &Value, pieces: impl Fn(&str) -> Vec<&str>) -> Vec<Value> {
    let is_text = |part: &Map<String, Value>| part.keys().all(|name| name == "text" || name == "thought");
    let text = part.get("text").and_then(Value::as_str).filter(|_| part.as_object().is_some_and(is_text));
    let pieces = text.map(pieces).unwrap_or_default();
    if pieces.is_empty() {
        return vec![part.clone()];
    }
    let with_text = |piece: &str| {
        let mut part = part.clone();
        part["text"] = json!(piece);
        part
    };
    pieces.into_iter().map(with_text).collect()
}
