//! A whole answer as the stream it would have been, for clients that asked for one.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::wire::Endpoint;
use crate::wire::sse;

pub(super) mod content;
pub(super) mod message;
mod response;

/// Writes a whole answer as events. `with_usage` says whether the client asked for the usage of its stream; streams of
/// Anthropic's, Google's and of the Responses API always tell it.
///
/// None when the answer has not the shape that the endpoint's answers have, or the endpoint's are not streamed.
///
/// Source: OpenAI API reference, "Chat Completions" and "Responses", the chunk objects and streaming events; the other
/// vendors' are named where theirs are written; seen 2026-11.
pub fn events(endpoint: Endpoint, body: &[u8], with_usage: bool) -> Option<Bytes> {
    match endpoint {
        Endpoint::Messages => return message::events(body, whole).map(|events| events.concat().into()),
        Endpoint::GenerateContent => {
            return content::events(body, whole).map(|events| events.concat().into());
        }
        _ => {}
    }
    let Ok(Value::Object(answer)) = serde_json::from_slice(body) else { return None };
    let mut out = Vec::new();
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => {
            chunks(endpoint, answer, with_usage, &mut out)?;
            put(&mut out, None, "[DONE]");
        }
        Endpoint::Responses => response::events(answer, &mut out)?,
        _ => return None,
    }
    Some(out.into())
}

/// A text in one piece; in none if it is empty.
fn whole(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { vec![text] }
}

fn put(out: &mut Vec<u8>, event: Option<&str>, data: &str) {
    out.extend_from_slice(&sse::encode(event, data.as_bytes()));
}

/// Each choice in two chunks, what it says and why it ends, and the usage at the end.
fn chunks(
    endpoint: Endpoint,
    mut answer: Map<String, Value>,
    with_usage: bool,
    out: &mut Vec<u8>,
) -> Option<()> {
    let Some(Value::Array(choices)) = answer.remove("choices") else { return None };
    let usage = answer.remove("usage");
    if endpoint == Endpoint::ChatCompletions {
        answer.insert("object".to_owned(), json!("chat.completion.chunk"));
    }
    let mut chunk = |choices: Value, usage: Option<&Value>| {
        let mut chunk = answer.clone();
        chunk.insert("choices".to_owned(), choices);
        chunk.extend(usage.map(|usage| ("usage".to_owned(), usage.clone())));
        put(out, None, &Value::Object(chunk).to_string());
    };
    for (number, choice) in choices.into_iter().enumerate() {
        let Value::Object(mut choice) = choice else { return None };
        let index = choice.remove("index").unwrap_or_else(|| json!(number));
        let reason = choice.remove("finish_reason").unwrap_or_else(|| json!("stop"));
        let mut said = Map::from_iter([("index".to_owned(), index.clone())]);
        let mut end = said.clone();
        if endpoint == Endpoint::ChatCompletions {
            let Some(Value::Object(message)) = choice.remove("message") else { return None };
            said.insert("delta".to_owned(), Value::Object(delta(message)));
            end.insert("delta".to_owned(), json!({}));
        } else {
            said.insert("text".to_owned(), choice.remove("text")?);
            end.insert("text".to_owned(), json!(""));
        }
        said.extend(choice);
        said.insert("finish_reason".to_owned(), Value::Null);
        end.insert("finish_reason".to_owned(), reason);
        chunk(json!([said]), None);
        chunk(json!([end]), None);
    }
    if with_usage && let Some(usage) = &usage {
        chunk(json!([]), Some(usage));
    }
    Some(())
}

/// A message as one delta: the same members, tool calls with their index.
fn delta(mut message: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        for (index, call) in calls.iter_mut().enumerate() {
            if let Value::Object(call) = call {
                call.entry("index").or_insert_with(|| json!(index));
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(events: &[u8]) -> Vec<Value> {
        let text = std::str::from_utf8(events).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    #[test]
    fn a_chat_answer_becomes_its_chunks() {
        let body = br#"{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi","tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"total_tokens":3}}"#;
        let events = events(Endpoint::ChatCompletions, body, true).unwrap();
        assert!(events.ends_with(b"data: [DONE]\n\n"));
        let all = data(&events);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0]["object"], "chat.completion.chunk");
        assert_eq!(all[0]["choices"][0]["delta"]["content"], "hi");
        assert_eq!(all[0]["choices"][0]["delta"]["tool_calls"][0]["index"], 0);
        assert_eq!(all[0]["choices"][0]["finish_reason"], Value::Null);
        assert_eq!(all[1]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(all[2]["usage"]["total_tokens"], 3);
        assert_eq!(all[2]["choices"], json!([]));
        let without = self::events(Endpoint::ChatCompletions, body, false).unwrap();
        assert_eq!(data(&without).len(), 2);
    }

    #[test]
    fn a_completion_becomes_its_chunks() {
        let body =
            br#"{"id":"1","object":"text_completion","choices":[{"text":"hi","finish_reason":"length"}]}"#;
        let all = data(&events(Endpoint::Completions, body, true).unwrap());
        assert_eq!(all[0]["choices"][0]["text"], "hi");
        assert_eq!(all[1]["choices"][0]["finish_reason"], "length");
        assert_eq!(all[1]["choices"][0]["index"], 0);
    }

    #[test]
    fn a_response_becomes_its_events() {
        let body = br#"{"id":"r","object":"response","status":"completed","output":[{"id":"m","type":"message","role":"assistant","content":[{"type":"output_text","text":"hi","annotations":[]}]}]}"#;
        let all = data(&events(Endpoint::Responses, body, true).unwrap());
        let kinds: Vec<&str> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                "response.output_text.delta",
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.completed",
            ]
        );
        assert!(all.iter().any(|event| event["delta"] == "hi"));
        assert_eq!(
            all.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect::<Vec<_>>(),
            (0..all.len() as u64).collect::<Vec<_>>()
        );
    }

    /// What an item of an answer becomes: its events, without what is the same in all.
    #[track_caller]
    fn check_item(item: Value, begun: Value, expected: &[(&str, Value)]) {
        let body = json!({"id": "r", "status": "incomplete", "output": [item], "usage": {"total_tokens": 3}});
        let mut all = data(&events(Endpoint::Responses, body.to_string().as_bytes(), true).unwrap());
        assert_eq!(all.pop().unwrap()["type"], "response.incomplete");
        assert_eq!(all.pop().unwrap()["item"], item);
        for first in all.drain(..2) {
            assert_eq!(
                first["response"],
                json!({"id": "r", "status": "in_progress", "output": [], "usage": null})
            );
        }
        assert_eq!(all.remove(0)["item"], begun);
        let rest: Vec<(String, Value)> = all
            .into_iter()
            .map(|mut event| {
                let members = event.as_object_mut().unwrap();
                let kind = members.remove("type").unwrap().as_str().unwrap().to_owned();
                assert_eq!(
                    (members.remove("item_id"), members.remove("output_index")),
                    (Some(json!("i")), Some(json!(0)))
                );
                members.remove("sequence_number");
                (kind, event)
            })
            .collect();
        let expected: Vec<(String, Value)> =
            expected.iter().map(|(kind, event)| (format!("response.{kind}"), event.clone())).collect();
        assert_eq!(rest, expected);
    }

    #[test]
    fn an_item_begins_empty_and_says_the_rest_later() {
        check_item(
            json!({"id": "i", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"}),
            json!({"id": "i", "type": "function_call", "call_id": "c", "name": "f", "arguments": "", "status": "in_progress"}),
            &[
                ("function_call_arguments.delta", json!({"delta": "{}"})),
                ("function_call_arguments.done", json!({"name": "f", "arguments": "{}"})),
            ],
        );
        let part = json!({"type": "summary_text", "text": "hm"});
        check_item(
            json!({"id": "i", "type": "reasoning", "summary": [part], "encrypted_content": "e"}),
            json!({"id": "i", "type": "reasoning", "summary": []}),
            &[
                (
                    "reasoning_summary_part.added",
                    json!({"summary_index": 0, "part": {"type": "summary_text", "text": ""}}),
                ),
                ("reasoning_summary_text.delta", json!({"summary_index": 0, "delta": "hm"})),
                ("reasoning_summary_text.done", json!({"summary_index": 0, "text": "hm"})),
                ("reasoning_summary_part.done", json!({"summary_index": 0, "part": part})),
            ],
        );
        let part = json!({"type": "refusal", "refusal": "no"});
        check_item(
            json!({"id": "i", "type": "message", "role": "assistant", "content": [part], "status": "completed"}),
            json!({"id": "i", "type": "message", "role": "assistant", "content": [], "status": "in_progress"}),
            &[
                (
                    "content_part.added",
                    json!({"content_index": 0, "part": {"type": "refusal", "refusal": ""}}),
                ),
                ("refusal.delta", json!({"content_index": 0, "delta": "no"})),
                ("refusal.done", json!({"content_index": 0, "refusal": "no"})),
                ("content_part.done", json!({"content_index": 0, "part": part})),
            ],
        );
        let part = json!({"type": "output_text", "text": "hi", "annotations": [{"url": "u"}]});
        check_item(
            json!({"id": "i", "type": "message", "content": [part]}),
            json!({"id": "i", "type": "message", "content": [], "status": "in_progress"}),
            &[
                (
                    "content_part.added",
                    json!({"content_index": 0, "part": {"type": "output_text", "text": "", "annotations": []}}),
                ),
                ("output_text.delta", json!({"content_index": 0, "delta": "hi", "logprobs": []})),
                (
                    "output_text.annotation.added",
                    json!({"content_index": 0, "annotation_index": 0, "annotation": {"url": "u"}}),
                ),
                ("output_text.done", json!({"content_index": 0, "text": "hi", "logprobs": []})),
                ("content_part.done", json!({"content_index": 0, "part": part})),
            ],
        );
        check_item(
            json!({"id": "i", "type": "mcp_list_tools"}),
            json!({"id": "i", "type": "mcp_list_tools", "status": "in_progress"}),
            &[],
        );
    }

    /// What a block of Anthropic's becomes: its beginning, its deltas and its end, without what is the same in all.
    #[track_caller]
    fn check_block(block: Value, begun: Value, deltas: Value) {
        let body = json!({"id": "msg_1", "content": [{"type": "text", "text": "x"}, block]}).to_string();
        let mut all = data(&events(Endpoint::Messages, body.as_bytes(), false).unwrap());
        all.retain(|event| event["index"] == 1);
        assert_eq!(all.remove(0), json!({"type": "content_block_start", "index": 1, "content_block": begun}));
        assert_eq!(all.pop(), Some(json!({"type": "content_block_stop", "index": 1})));
        assert!(all.iter().all(|event| event["type"] == "content_block_delta"));
        assert_eq!(all.into_iter().map(|mut event| event["delta"].take()).collect::<Value>(), deltas);
    }

    #[test]
    fn a_block_begins_empty_and_says_the_rest_later() {
        check_block(
            json!({"type": "text", "text": "hi", "citations": [{"url": "u"}, {"url": "v"}]}),
            json!({"type": "text", "text": "", "citations": []}),
            json!([
                {"type": "text_delta", "text": "hi"},
                {"type": "citations_delta", "citation": {"url": "u"}},
                {"type": "citations_delta", "citation": {"url": "v"}},
            ]),
        );
        check_block(
            json!({"type": "text", "text": "", "citations": null}),
            json!({"type": "text", "text": "", "citations": null}),
            json!([]),
        );
        check_block(
            json!({"type": "thinking", "thinking": "hm", "signature": "s"}),
            json!({"type": "thinking", "thinking": "", "signature": ""}),
            json!([
                {"type": "thinking_delta", "thinking": "hm"},
                {"type": "signature_delta", "signature": "s"},
            ]),
        );
        for kind in ["tool_use", "server_tool_use"] {
            check_block(
                json!({"type": kind, "id": "t", "name": "f", "input": {"x": [1]}}),
                json!({"type": kind, "id": "t", "name": "f", "input": {}}),
                json!([{"type": "input_json_delta", "partial_json": "{\"x\":[1]}"}]),
            );
        }
        let redacted = json!({"type": "redacted_thinking", "data": "d"});
        check_block(redacted.clone(), redacted, json!([]));
        let odd = json!({"type": "text", "text": 7});
        check_block(odd.clone(), odd, json!([]));
    }

    #[test]
    fn what_a_tool_is_called_with_is_not_rewritten() {
        let input = r#"{"b": 0.70, "a": 18446744073709551616}"#;
        let body = format!(r#"{{"content":[{{"type":"tool_use","id":"t","name":"f","input":{input}}}]}}"#);
        let all = data(&events(Endpoint::Messages, body.as_bytes(), false).unwrap());
        assert_eq!(all[2]["delta"]["partial_json"], input);
    }

    #[test]
    fn a_message_becomes_its_events() {
        let body = br#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":"stop_sequence","stop_sequence":"x","usage":{"input_tokens":3,"output_tokens":4}}"#;
        let events = events(Endpoint::Messages, body, false).unwrap();
        let expected = [
            r#"event: message_start
data: {"message":{"content":[],"id":"msg_1","model":"m","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message","usage":{"input_tokens":3,"output_tokens":0}},"type":"message_start"}"#,
            r#"event: message_delta
data: {"delta":{"stop_reason":"stop_sequence","stop_sequence":"x"},"type":"message_delta","usage":{"input_tokens":3,"output_tokens":4}}"#,
            "event: message_stop\ndata: {\"type\":\"message_stop\"}",
        ];
        assert_eq!(events, expected.map(|event| format!("{event}\n\n")).concat());
        // What a plugin's answer lacks is there all the same.
        let all = data(&self::events(Endpoint::Messages, br#"{"content":[]}"#, false).unwrap());
        let message = json!({
            "type": "message", "role": "assistant", "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        });
        assert_eq!(all[0]["message"], message);
        assert_eq!((&all[1]["delta"], &all[1]["usage"]), (&json!({}), &json!({"output_tokens": 0})));
    }

    #[test]
    fn an_answer_of_googles_becomes_events_of_its_shape() {
        let gemini = Endpoint::GenerateContent;
        let answer = json!({
            "candidates": [{
                "content": {"parts": [{"text": "t", "thought": true}, {"text": "a"}, {"functionCall": {"name": "f"}}], "role": "model"},
                "finishReason": "STOP", "index": 0, "safetyRatings": [],
            }],
            "usageMetadata": {"promptTokenCount": 3}, "modelVersion": "m", "responseId": "r",
        });
        let all = data(&events(gemini, answer.to_string().as_bytes(), false).unwrap());
        let said = |part: Value| {
            json!({
                "candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}],
                "modelVersion": "m", "responseId": "r",
            })
        };
        assert_eq!(all[..2], [said(json!({"text": "t", "thought": true})), said(json!({"text": "a"}))]);
        let mut last = answer.clone();
        last["candidates"][0]["content"]["parts"] = json!([{"functionCall": {"name": "f"}}]);
        assert_eq!(all[2..], [last]);
        for whole in [
            json!({"promptFeedback": {"blockReason": "SAFETY"}}),
            json!({"candidates": [{"finishReason": "SAFETY"}]}),
            json!({"candidates": [7]}),
            json!({"candidates": [{"content": {"parts": [{"text": "a"}]}}, {"content": {"parts": [{"text": "b"}]}}]}),
        ] {
            assert_eq!(
                data(&events(gemini, whole.to_string().as_bytes(), false).unwrap()),
                std::slice::from_ref(&whole)
            );
            let list = json!([whole, answer]);
            let list_events = data(&events(gemini, list.to_string().as_bytes(), false).unwrap());
            assert_eq!(json!(list_events), list);
        }
    }

    #[test]
    fn what_has_not_the_shape_stays_as_it_is() {
        for body in [&b"{}"[..], b"[]", b"x", br#"{"choices":1}"#, br#"{"choices":[{}]}"#] {
            assert_eq!(events(Endpoint::ChatCompletions, body, true), None);
        }
        assert_eq!(events(Endpoint::Embeddings, b"{\"choices\":[]}", true), None);
        for body in [&b"{}"[..], b"[]", b"[{}]", b"[7]", b"x", br#"{"content":1}"#, br#"{"candidates":1}"#] {
            assert_eq!(events(Endpoint::Messages, body, true), None);
            assert_eq!(events(Endpoint::GenerateContent, body, true), None);
        }
    }
}
