//! What holds for requests, answers and streams together.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::chat::{
    Choice, Citation, Content, Event, Extra, Part, Raw, Reply, Signature, StopReason, TokenLogprob, Usage,
};
use crate::error::ErrorKind;
use crate::wire::Surface;
use crate::wire::convert::Asked;
use crate::wire::sse::{Decoder, EVENT_BYTES_MAX};
use requests::FULL;

mod requests;
mod streams;

fn asked(request: &str) -> Asked {
    Asked {
        model: "alias".into(),
        id: "X1".into(),
        created_unix_s: 7,
        asks_usage: true,
        request: Bytes::copy_from_slice(request.as_bytes()),
    }
}

fn reply(parts: Vec<Part>, stop: StopReason) -> Reply {
    Reply {
        surface: Surface::Responses,
        id: "resp_1".to_owned(),
        model: "m".to_owned(),
        created_unix_s: Some(9),
        choices: vec![Choice { parts, stop: Some(stop), ..Choice::default() }],
        usage: Some(Usage { input: 9, output: 5, cached: 3, reasoning: 2, ..Usage::default() }),
        extra: Extra::default(),
    }
}

/// The stream that an answer would have been, its texts in pieces of `step` characters.
fn stream(reply: &Reply, step: usize) -> Vec<Event> {
    let choice = 0;
    let mut events = vec![Event::Start {
        id: reply.id.clone(),
        model: reply.model.clone(),
        created_unix_s: reply.created_unix_s,
        usage: None,
    }];
    let pieces = |text: &str| -> Vec<String> {
        let letters: Vec<char> = text.chars().collect();
        letters.chunks(step.max(1)).map(|letters| letters.iter().collect()).collect()
    };
    let mut calls = 0;
    let parts = &reply.choices[0].parts;
    for (number, part) in parts.iter().enumerate() {
        // Some tell the end of every part, and some only where two would be taken for one.
        let is_same =
            |next: &Part| std::mem::discriminant(&next.content) == std::mem::discriminant(&part.content);
        let ends = step.is_multiple_of(2) || parts.get(number + 1).is_some_and(is_same);
        let end = ends.then_some(Event::PartEnd { choice });
        match &part.content {
            Content::Text { text, citations } => {
                events.extend(pieces(text).into_iter().map(|text| Event::Text { choice, text }));
                let cite = |citation: &Citation| Event::Citation { choice, citation: citation.clone() };
                events.extend(citations.iter().map(cite));
                events.extend(end);
            }
            Content::Refusal(text) => {
                events.extend(pieces(text).into_iter().map(|text| Event::Refusal { choice, text }));
                events.extend(end);
            }
            Content::Thinking { text, signature } => {
                events.extend(pieces(text).into_iter().map(|text| Event::Thinking { choice, text }));
                let sealed =
                    |signature: &Signature| Event::Signature { choice, signature: signature.clone() };
                events.extend(signature.as_ref().map(sealed).or(end));
            }
            Content::RedactedThinking(data) => {
                events.push(Event::RedactedThinking { choice, data: data.clone() });
            }
            Content::ToolCall { id, name, arguments, signature } => {
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                events.push(Event::ToolCall { choice, index: calls, id, name, signature });
                let args = pieces(arguments).into_iter();
                events.extend(args.map(|json| Event::Arguments { choice, index: calls, json }));
                events.extend(end);
                calls += 1;
            }
            _ => {}
        }
    }
    events.push(Event::Logprobs { choice, tokens: reply.choices[0].logprobs.clone() });
    let reason = reply.choices[0].stop.unwrap();
    events.push(Event::Finish { choice, reason, stop_sequence: None });
    events.extend(reply.usage.map(Event::Usage));
    events.push(Event::End);
    events
}

fn encode(events: &[Event], request: &str) -> Vec<u8> {
    let mut encoder = EventEncoder::new(&asked(request));
    let mut out = Vec::new();
    for event in events {
        encoder.push(event, &mut out);
    }
    out
}

/// The data of a stream's events; each has its type for a name.
fn data(stream: &[u8]) -> Vec<Value> {
    let mut decoder = Decoder::new(EVENT_BYTES_MAX * 64);
    decoder.push(Bytes::copy_from_slice(stream));
    let mut all = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        let fields = frame.fields();
        let Some(data) = &fields.data else { continue };
        let data: Value = serde_json::from_slice(data).unwrap();
        assert_eq!(fields.event_name(), data["type"].as_str());
        all.push(data);
    }
    assert!(decoder.finish().is_none(), "every event is ended");
    all
}

fn decode(stream: &[u8]) -> Vec<Event> {
    let mut decoder = EventDecoder::new("X1");
    let mut out = Vec::new();
    for data in data(stream) {
        decoder.push(data["type"].as_str(), data.to_string().as_bytes(), &mut out).unwrap();
    }
    decoder.finish(&mut out);
    out
}

/// Puts together what a stream says, as simply as can be.
fn gather(events: &[Event]) -> Reply {
    let mut whole = reply(Vec::new(), StopReason::Other);
    whole.usage = None;
    let choice = &mut whole.choices[0];
    choice.stop = None;
    let mut is_open = false;
    let mut calls = Vec::new();
    for event in events {
        let parts = &mut choice.parts;
        let last = parts.last_mut().filter(|_| is_open).map(|part| &mut part.content);
        is_open = !matches!(
            event,
            Event::PartEnd { .. } | Event::Signature { .. } | Event::RedactedThinking { .. }
        );
        match (event, last) {
            (Event::Text { text: piece, .. }, Some(Content::Text { text, .. })) => text.push_str(piece),
            (Event::Text { text, .. }, _) => parts.push(Part::text(text)),
            (Event::Refusal { text: piece, .. }, Some(Content::Refusal(text))) => text.push_str(piece),
            (Event::Refusal { text, .. }, _) => parts.push(Part::new(Content::Refusal(text.clone()))),
            (Event::Thinking { text: piece, .. }, Some(Content::Thinking { text, .. })) => {
                text.push_str(piece)
            }
            (Event::Thinking { text, .. }, _) => {
                parts.push(Part::new(Content::Thinking { text: text.clone(), signature: None }));
            }
            (Event::Signature { signature: sealed, .. }, Some(Content::Thinking { signature, .. })) => {
                *signature = Some(sealed.clone());
            }
            (Event::Signature { signature, .. }, _) => {
                let signature = Some(signature.clone());
                parts.push(Part::new(Content::Thinking { text: String::new(), signature }));
            }
            (Event::RedactedThinking { data, .. }, _) => {
                parts.push(Part::new(Content::RedactedThinking(data.clone())));
            }
            (Event::ToolCall { id, name, signature, .. }, _) => {
                calls.push(parts.len());
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                parts.push(Part::new(Content::ToolCall { id, name, arguments: String::new(), signature }));
            }
            (Event::Arguments { index, json, .. }, _) => {
                let Content::ToolCall { arguments, .. } = &mut parts[calls[*index as usize]].content else {
                    panic!("a call")
                };
                arguments.push_str(json);
            }
            (Event::Citation { citation, .. }, Some(Content::Text { citations, .. })) => {
                citations.push(citation.clone());
            }
            (Event::Logprobs { tokens, .. }, _) => choice.logprobs.extend(tokens.clone()),
            (Event::Finish { reason, .. }, _) => choice.stop = Some(*reason),
            (Event::Usage(usage), _) => whole.usage = Some(*usage),
            _ => {}
        }
    }
    whole
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé\"\\\\\n😀]{1,12}"
}

fn signature() -> impl Strategy<Value = Signature> {
    let surface = prop::sample::select(Surface::ALL.to_vec());
    (surface, "[A-Za-z0-9+/]{4,12}").prop_map(|(surface, value)| Signature { surface, value })
}

fn part() -> impl Strategy<Value = Part> {
    let call =
        ("[a-z]{1,8}", "[a-z]{1,8}", prop::option::of(signature())).prop_map(|(id, name, signature)| {
            // Only Gemini signs calls.
            let signature = signature.map(|signature| Signature { surface: Surface::Gemini, ..signature });
            Content::ToolCall { id, name, arguments: r#"{"a":"}"}"#.to_owned(), signature }
        });
    prop_oneof![
        text().prop_map(|text| Content::Text { text, citations: Vec::new() }),
        text().prop_map(Content::Refusal),
        (text(), prop::option::of(signature()))
            .prop_map(|(text, signature)| Content::Thinking { text, signature }),
        signature().prop_map(Content::RedactedThinking),
        call,
    ]
    .prop_map(Part::new)
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let stops = prop::sample::select(vec![StopReason::Stop, StopReason::Length, StopReason::ContentFilter]);
    (prop::collection::vec(part(), 0..6), stops).prop_map(|(parts, stop)| {
        let calls = parts.iter().any(|part| matches!(part.content, Content::ToolCall { .. }));
        let stop = if calls && stop == StopReason::Stop { StopReason::ToolCalls } else { stop };
        reply(parts, stop)
    })
}

/// Goes through a stream as the vendors' clients do, and panics where they would fail.
fn follow(events: &[Value]) -> Option<Value> {
    let mut output: Vec<Value> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], json!(number), "numbers have no gaps");
        let kind = event["type"].as_str().unwrap();
        if number == 0 && kind != "error" {
            assert_eq!(kind, "response.created");
        }
        let index = event["output_index"].as_u64().map(|index| index as usize);
        let content = event["content_index"].as_u64().map(|index| index as usize);
        if let (Some(index), Some(id)) = (index, event.get("item_id")) {
            assert_eq!(&output[index]["id"], id);
            assert_ne!(output[index]["is_done"], true, "nothing follows an item that is done");
        }
        match kind {
            "response.output_item.added" => {
                assert_eq!(index, Some(output.len()), "indices have no gaps");
                output.push(event["item"].clone());
            }
            "response.content_part.added" => {
                let parts = output[index.unwrap()]["content"].as_array_mut().unwrap();
                assert_eq!(content, Some(parts.len()));
                parts.push(event["part"].clone());
            }
            "response.reasoning_summary_part.added" => {
                output[index.unwrap()]["summary"].as_array_mut().unwrap().push(event["part"].clone());
            }
            "response.output_text.delta" => {
                append(&mut output[index.unwrap()]["content"][content.unwrap()]["text"], event);
            }
            "response.refusal.delta" => {
                append(&mut output[index.unwrap()]["content"][content.unwrap()]["refusal"], event);
            }
            "response.reasoning_summary_text.delta" => {
                append(&mut output[index.unwrap()]["summary"][0]["text"], event);
            }
            "response.function_call_arguments.delta" => {
                append(&mut output[index.unwrap()]["arguments"], event);
            }
            "response.output_text.annotation.added" => {
                let part = &mut output[index.unwrap()]["content"][content.unwrap()];
                part["annotations"].as_array_mut().unwrap().push(event["annotation"].clone());
            }
            "response.output_text.done" => {
                assert_eq!(output[index.unwrap()]["content"][content.unwrap()]["text"], event["text"]);
            }
            "response.function_call_arguments.done" => {
                assert_eq!(output[index.unwrap()]["arguments"], event["arguments"]);
            }
            "response.output_item.done" => {
                let mut item = event["item"].clone();
                let begun = &mut output[index.unwrap()];
                for name in ["id", "type", "call_id", "name", "arguments", "summary"] {
                    assert_eq!(begun[name], item[name], "{name}");
                }
                item["is_done"] = json!(true);
                *begun = item;
            }
            "response.completed" | "response.incomplete" => {
                assert!(output.iter().all(|item| item["is_done"] == true), "every item is done");
                assert_eq!(number + 1, events.len());
                return Some(event["response"].clone());
            }
            _ => {}
        }
    }
    None
}

fn append(text: &mut Value, event: &Value) {
    *text = json!(format!("{}{}", text.as_str().unwrap(), event["delta"].as_str().unwrap()));
}

proptest! {
    // parity: 98, 99
    #[test]
    fn a_streamed_answer_is_the_whole_one(reply in any_reply(), step in 1..5usize) {
        let streamed = follow(&data(&encode(&stream(&reply, step), "{}"))).unwrap();
        let whole: Value = serde_json::from_slice(&encode_reply(&reply, &asked("{}"))).unwrap();
        prop_assert_eq!(streamed, whole);
    }

    #[test]
    fn an_answer_is_read_as_it_was_written(mut reply in any_reply()) {
        let whole = encode_reply(&reply, &asked("{}"));
        reply.model = "alias".to_owned();
        prop_assert_eq!(decode_reply(&whole, "X1").unwrap(), reply);
    }

    #[test]
    fn a_stream_is_read_as_it_was_written(reply in any_reply(), step in 1..5usize) {
        let read = gather(&decode(&encode(&stream(&reply, step), "{}")));
        prop_assert_eq!(read.choices, reply.choices);
        prop_assert_eq!(read.usage, reply.usage);
    }

    #[test]
    fn a_stream_is_one_of_the_grammar_whatever_the_order_of_its_steps(
        events in any_reply().prop_map(|reply| stream(&reply, 2)).prop_shuffle(),
    ) {
        follow(&data(&encode(&events, "{}")));
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0..400usize) {
        let _ = decode_request(&bytes);
        let _ = decode_reply(&bytes, "X1");
        let _ = EventDecoder::new("X1").push(None, &bytes, &mut Vec::new());
        let _ = EventEncoder::new(&Asked { request: bytes.into(), ..asked("") });
        let request = FULL.as_bytes();
        let _ = decode_request(&request[..cut.min(request.len())]);
    }

    #[test]
    fn wrong_shapes_do_not_panic(at in 0..200usize, wrong in prop::sample::select(vec!["5", "[]", "null", "\"x\"", "{}", "1e99"])) {
        let places: Vec<_> = FULL.match_indices(':').map(|(place, _)| place + 1).collect();
        let place = places[at % places.len()];
        let mut scanner = crate::wire::json::Scanner::new(&FULL.as_bytes()[place..]);
        if let Ok(range) = scanner.skip() {
            let changed = [&FULL[..place], wrong, &FULL[place + range.end..]].concat();
            if let Err(error) = decode_request(changed.as_bytes()) {
                prop_assert_eq!(error.kind, ErrorKind::InvalidRequest);
                prop_assert!(error.param.is_some() || error.message.contains("JSON"), "{}", error.message);
            }
        }
    }
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    let (id, name, arguments) = (id.to_owned(), name.to_owned(), arguments.to_owned());
    Part::new(Content::ToolCall { id, name, arguments, signature: None })
}

/// An answer that has one of everything.
fn full_reply() -> Reply {
    let sealed = |surface, value: &str| Signature { surface, value: value.to_owned() };
    let thinking = Content::Thinking {
        text: "let me\nsee".to_owned(),
        signature: Some(sealed(Surface::Messages, "SIG")),
    };
    let citation =
        Citation { url: Some("https://c".to_owned()), title: Some("C".to_owned()), ..Citation::default() };
    let cited = Content::Text { text: "It rains \"hard\".".to_owned(), citations: vec![citation] };
    let signed = Content::ToolCall {
        id: "c1".to_owned(),
        name: "f".to_owned(),
        arguments: r#"{"a":1}"#.to_owned(),
        signature: Some(sealed(Surface::Gemini, "GSIG")),
    };
    let parts = vec![
        Part::new(thinking),
        Part::new(Content::RedactedThinking(sealed(Surface::Messages, "SECRET"))),
        Part::new(cited),
        Part::new(Content::Refusal("No more.".to_owned())),
        Part::new(signed),
        call("c2", "g", ""),
    ];
    let mut reply = reply(parts, StopReason::ToolCalls);
    let top = vec![("It".to_owned(), -0.25), ("Is".to_owned(), f64::NEG_INFINITY)];
    reply.choices[0].logprobs = vec![TokenLogprob { token: "It".to_owned(), logprob: -0.25, top }];
    reply
}

const TOOLS: &str = "{\"input\":\"a\",\"instructions\":\"be kind\",\"tools\":[\n{\"type\":\"function\",\"name\":\"f\",\"parameters\":{},\"strict\":true}],\"temperature\":0.5,\"text\":{\"verbosity\":\"low\"},\"metadata\":{\"k\":\"v\"}}";

#[test]
fn a_whole_answer_has_everything_that_the_clients_require() {
    let mut reply = full_reply();
    reply.id = "chatcmpl-1".to_owned();
    let whole: Value = serde_json::from_slice(&encode_reply(&reply, &asked(TOOLS))).unwrap();
    let expected = json!({
        "id": "resp_X1", "object": "response", "created_at": 9, "model": "alias", "status": "completed",
        "error": null, "incomplete_details": null,
        "output": [
            {"id": "rs_X1_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "let me\nsee"}], "encrypted_content": "messages#SIG"},
            {"id": "rs_X1_1", "type": "reasoning", "summary": [], "encrypted_content": "messages#redacted:SECRET"},
            {"id": "msg_X1_2", "type": "message", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "It rains \"hard\".",
                 "annotations": [{"type": "url_citation", "start_index": 0, "end_index": 16, "url": "https://c", "title": "C"}],
                 "logprobs": [{"token": "It", "bytes": [73, 116], "logprob": -0.25, "top_logprobs": [
                    {"token": "It", "bytes": [73, 116], "logprob": -0.25}, {"token": "Is", "bytes": [73, 115], "logprob": -9999.0}]}]},
                {"type": "refusal", "refusal": "No more."}]},
            {"id": "rs_X1_3", "type": "reasoning", "summary": [], "encrypted_content": "gemini#GSIG"},
            {"id": "fc_X1_4", "type": "function_call", "status": "completed", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}"},
            {"id": "fc_X1_5", "type": "function_call", "status": "completed", "call_id": "c2", "name": "g", "arguments": "{}"}],
        "background": false, "previous_response_id": null, "store": false,
        "instructions": "be kind", "max_output_tokens": null, "max_tool_calls": null, "metadata": {"k": "v"},
        "parallel_tool_calls": true, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null},
        "safety_identifier": null, "service_tier": "default", "temperature": 0.5, "tool_choice": "auto",
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": true}],
        "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": null,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "usage": {"input_tokens": 9, "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 3},
                  "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14}});
    assert_eq!(whole, expected);
    let streamed = follow(&data(&encode(&stream(&reply, 3), TOOLS))).unwrap();
    assert_eq!(streamed, expected);
}

#[track_caller]
fn check_stop(stop: StopReason, status: &str, details: &Value) {
    let reply = reply(vec![Part::text("a")], stop);
    let whole: Value = serde_json::from_slice(&encode_reply(&reply, &asked("{}"))).unwrap();
    assert_eq!((&whole["status"], &whole["incomplete_details"]), (&json!(status), details));
    assert_eq!(whole["output"][0]["status"], json!(status));
    let events = data(&encode(&stream(&reply, 1), "{}"));
    assert_eq!(events.last().unwrap()["type"], json!(format!("response.{status}")));
    assert_eq!(events.last().unwrap()["response"], whole);
}

// parity: 106
#[test]
fn why_an_answer_ended_is_told() {
    check_stop(StopReason::Stop, "completed", &Value::Null);
    check_stop(StopReason::ToolCalls, "completed", &Value::Null);
    check_stop(StopReason::Other, "completed", &Value::Null);
    check_stop(StopReason::Length, "incomplete", &json!({"reason": "max_output_tokens"}));
    check_stop(StopReason::ContentFilter, "incomplete", &json!({"reason": "content_filter"}));
}

#[test]
fn what_was_cut_off_is_what_was_not_whole() {
    let call = |arguments: &str| {
        let (id, name, arguments) = ("c".to_owned(), "f".to_owned(), arguments.to_owned());
        Part::new(Content::ToolCall { id, name, arguments, signature: None })
    };
    for (arguments, status) in [("{}", "completed"), ("{\"a\":", "incomplete")] {
        for step in [1, 2] {
            let reply = reply(vec![Part::text("a"), call(arguments)], StopReason::Length);
            let whole: Value = serde_json::from_slice(&encode_reply(&reply, &asked("{}"))).unwrap();
            let events = data(&encode(&stream(&reply, step), "{}"));
            let is_done = |event: &&Value| event["type"] == "response.output_item.done";
            let done = events.iter().rev().find(is_done).unwrap();
            assert_eq!(whole["output"][0]["status"], "completed");
            assert_eq!(whole["output"][1]["status"], status);
            assert_eq!(done["item"], whole["output"][1]);
            assert_eq!(events.last().unwrap()["response"], whole);
        }
    }
}
