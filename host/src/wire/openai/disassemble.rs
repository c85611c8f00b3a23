//! A stream that a whole answer could have been: the way back from a record to what an upstream sends.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::wire::Endpoint;
use crate::wire::openai::frame::{content, message};

/// The members of an answer that are different each time, whatever was asked.
///
/// Source: OpenAI API reference, "The chat completion object", "The response object"; Anthropic API reference, "Messages";
/// Google, Gemini API reference, "GenerateContentResponse"; seen 2026-11.
pub const UNIQUE_MEMBERS: [&str; 7] =
    ["id", "created", "created_at", "system_fingerprint", "request_id", "responseId", "createTime"];

/// The most characters of a text in one event.
const PIECE_CHARACTERS: usize = 24;

/// Makes the events of a stream out of a whole answer: each text in small pieces, then why it ended, then the usage.
///
/// None for an endpoint whose streams are of another kind, and for what is no answer of this one.
pub fn stream_of(endpoint: Endpoint, answer: &str) -> Option<Vec<Bytes>> {
    let whole = answer.as_bytes();
    let object = match endpoint {
        Endpoint::ChatCompletions => "chat.completion.chunk",
        Endpoint::Completions => "text_completion",
        Endpoint::Messages => return message::events(whole, |text| pieces(text).collect()),
        Endpoint::GenerateContent => return content::events(whole, |text| pieces(text).collect()),
        _ => return None,
    };
    let Value::Object(mut frame) = serde_json::from_str(answer).ok()? else { return None };
    let Value::Array(choices) = frame.remove("choices")? else { return None };
    let usage = frame.remove("usage").filter(|usage| !usage.is_null());
    frame.insert("object".to_owned(), object.into());
    let mut events = Vec::new();
    for choice in choices {
        let Value::Object(choice) = choice else { return None };
        match endpoint {
            Endpoint::ChatCompletions => chat_choice(&frame, choice, &mut events)?,
            _ => text_choice(&frame, choice, &mut events)?,
        }
    }
    if let Some(usage) = usage {
        let mut event = frame;
        event.insert("choices".to_owned(), json!([]));
        event.insert("usage".to_owned(), usage);
        events.push(line(&Value::Object(event)));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Some(events)
}

fn chat_choice(
    frame: &Map<String, Value>,
    mut choice: Map<String, Value>,
    events: &mut Vec<Bytes>,
) -> Option<()> {
    let Value::Object(mut message) = choice.remove("message")? else { return None };
    let index = choice.remove("index").unwrap_or_else(|| 0.into());
    let finish = choice.remove("finish_reason").unwrap_or_default();
    let mut send = |delta: Value, finish: &Value| {
        events.push(event(frame, json!({ "index": index, "delta": delta, "finish_reason": finish })));
    };
    let role = message.remove("role").unwrap_or_else(|| "assistant".into());
    send(json!({ "role": role }), &Value::Null);
    let content = message.remove("content");
    let calls = message.remove("tool_calls");
    // Thinking comes before the answer. What is no text comes at once.
    for (name, value) in message.into_iter().chain(content.map(|content| ("content".to_owned(), content))) {
        match value {
            Value::String(text) => {
                for piece in pieces(&text) {
                    send(Value::Object(Map::from_iter([(name.clone(), piece.into())])), &Value::Null);
                }
            }
            Value::Null => {}
            other => send(Value::Object(Map::from_iter([(name, other)])), &Value::Null),
        }
    }
    if let Some(Value::Array(calls)) = calls {
        for (place, mut call) in calls.into_iter().enumerate() {
            // In a stream a call says which one of the message it is.
            call.as_object_mut()?.insert("index".to_owned(), place.into());
            send(json!({ "tool_calls": [call] }), &Value::Null);
        }
    }
    send(json!({}), &finish);
    Some(())
}

fn text_choice(
    frame: &Map<String, Value>,
    mut choice: Map<String, Value>,
    events: &mut Vec<Bytes>,
) -> Option<()> {
    let Value::String(text) = choice.remove("text")? else { return None };
    let finish = choice.remove("finish_reason").unwrap_or_default();
    let mut send = |text: &str, finish: &Value| {
        let mut choice = choice.clone();
        choice.insert("text".to_owned(), text.into());
        choice.insert("finish_reason".to_owned(), finish.clone());
        events.push(event(frame, Value::Object(choice)));
    };
    pieces(&text).for_each(|piece| send(piece, &Value::Null));
    send("", &finish);
    Some(())
}

fn event(frame: &Map<String, Value>, choice: Value) -> Bytes {
    let mut event = frame.clone();
    event.insert("choices".to_owned(), Value::Array(vec![choice]));
    line(&Value::Object(event))
}

fn line(event: &Value) -> Bytes {
    Bytes::from(format!("data: {event}\n\n"))
}

/// A text in pieces, together the same.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let at = rest.char_indices().nth(PIECE_CHARACTERS).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(at);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(endpoint: Endpoint, answer: &Value) -> Vec<Value> {
        let events = stream_of(endpoint, &answer.to_string()).unwrap();
        assert_eq!(events.last().unwrap(), "data: [DONE]\n\n");
        let json = |event: &Bytes| {
            let text = str::from_utf8(event).unwrap();
            serde_json::from_str(text.strip_prefix("data: ").unwrap().trim_end()).unwrap()
        };
        events[..events.len() - 1].iter().map(json).collect()
    }

    #[test]
    fn a_chat_answer_comes_as_it_would_have_been_streamed() {
        let answer = json!({
            "id": "x", "object": "chat.completion", "model": "m", "usage": { "prompt_tokens": 1 },
            "choices": [{
                "index": 0, "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant", "content": "hello", "reasoning_content": "hm",
                    "tool_calls": [{ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{}" } }],
                },
            }],
        });
        let events = events(Endpoint::ChatCompletions, &answer);
        let deltas: Vec<String> =
            events.iter().map(|event| event["choices"][0]["delta"].to_string()).collect();
        assert_eq!(
            deltas,
            [
                r#"{"role":"assistant"}"#,
                r#"{"reasoning_content":"hm"}"#,
                r#"{"content":"hello"}"#,
                r#"{"tool_calls":[{"function":{"arguments":"{}","name":"f"},"id":"a","index":0,"type":"function"}]}"#,
                "{}",
                "null",
            ]
        );
        assert_eq!(events[4]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!((&events[5]["usage"]["prompt_tokens"], &events[5]["choices"]), (&json!(1), &json!([])));
        assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk" && event["id"] == "x"));
    }

    #[test]
    fn a_completion_comes_in_pieces() {
        let text = "é".repeat(PIECE_CHARACTERS + 1);
        let answer = json!({ "choices": [{ "index": 0, "text": text, "finish_reason": "stop" }] });
        let events = events(Endpoint::Completions, &answer);
        assert_eq!(events.len(), 3);
        assert_eq!(events[1]["choices"][0], json!({ "index": 0, "text": "é", "finish_reason": null }));
        assert_eq!(events[2]["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn answers_of_other_vendors_come_in_pieces() {
        let text = "é".repeat(PIECE_CHARACTERS + 1);
        let shown = |endpoint, answer: Value| {
            let events = stream_of(endpoint, &answer.to_string()).unwrap();
            events.iter().map(|event| str::from_utf8(event).unwrap().to_owned()).collect::<Vec<String>>()
        };
        let message = json!({ "content": [
            { "type": "text", "text": text },
            { "type": "tool_use", "id": "t", "name": "f", "input": { "x": "a long one, longer than a piece" } },
        ] });
        let events = shown(Endpoint::Messages, message);
        assert_eq!(events.len(), 11, "{events:?}");
        assert!(events[3].ends_with(",\"index\":0,\"type\":\"content_block_delta\"}\n\n"), "{}", events[3]);
        assert!(events[3].contains(r#"{"text":"é","type":"text_delta"}"#), "{}", events[3]);
        let answer =
            json!({ "candidates": [{ "content": { "parts": [{ "text": text }] }, "finishReason": "STOP" }] });
        let events = shown(Endpoint::GenerateContent, answer);
        assert_eq!(events.len(), 2);
        assert!(!events[0].contains("STOP"));
        assert_eq!(
            events[1],
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"é\"}]},\"finishReason\":\"STOP\"}]}\n\n"
        );
        // A text that a signature is of is sent with it.
        let signed = json!({ "candidates": [{ "content": { "parts": [{ "text": text, "thoughtSignature": "s" }] } }] });
        assert_eq!(shown(Endpoint::GenerateContent, signed).len(), 1);
    }

    #[test]
    fn what_is_no_answer_has_no_stream() {
        for answer in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"choices":1}"#,
            r#"{"choices":[1]}"#,
            r#"{"choices":[{}]}"#,
            r#"{"error":{}}"#,
        ] {
            assert_eq!(stream_of(Endpoint::ChatCompletions, answer), None, "{answer}");
            assert_eq!(stream_of(Endpoint::Completions, answer), None, "{answer}");
        }
        assert_eq!(stream_of(Endpoint::Embeddings, r#"{"choices":[]}"#), None);
    }

    proptest! {
        #[test]
        fn pieces_are_the_text(text in "\\PC{0,100}") {
            prop_assert_eq!(pieces(&text).collect::<String>(), text);
        }
    }
}
