//! Streams: read, written, and written again as they were read.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::chat::{ApiError, Citation, Event, Raw, Signature, StopReason, Usage};
use crate::error::ErrorKind;
use crate::wire::Surface;
use crate::wire::convert::{Asked, StreamConverter};
use crate::wire::sse::{Decoder, EVENT_BYTES_MAX};

use super::{EventDecoder, EventEncoder};

const THINKING_AND_TOOLS: &str = include_str!("../../golden/thinking_and_tools.sse");
const SEARCH_AND_CITATIONS: &str = include_str!("../../golden/search_and_citations.sse");

fn asked() -> Asked {
    Asked {
        model: "claude-sonnet-4-5".into(),
        id: "x1".into(),
        created_unix_s: 0,
        asks_usage: true,
        request: Bytes::new(),
    }
}

fn read(data: &[Value]) -> Vec<Event> {
    let (mut decoder, mut events) = (EventDecoder::new("x1"), Vec::new());
    for data in data {
        decoder.push(data["type"].as_str(), data.to_string().as_bytes(), &mut events).unwrap();
    }
    events
}

fn write(events: &[Event]) -> String {
    let (mut encoder, mut out) = (EventEncoder::new(&asked()), Vec::new());
    events.iter().for_each(|event| encoder.push(event, &mut out));
    String::from_utf8(out).unwrap()
}

/// The data of the events of a stream.
fn data_of(stream: &str) -> Vec<Value> {
    let mut frames = Decoder::new(EVENT_BYTES_MAX);
    frames.push(Bytes::copy_from_slice(stream.as_bytes()));
    let mut data = Vec::new();
    while let Ok(Some(frame)) = frames.next_frame() {
        let fields = frame.fields();
        if let Some(bytes) = &fields.data {
            let value: Value = serde_json::from_slice(bytes).unwrap();
            assert_eq!(fields.event_name(), value["type"].as_str());
            data.push(value);
        }
    }
    data
}

/// Checks the grammar of a stream that may be cut anywhere, and puts its blocks together as the vendor's client does.
fn message_of(stream: &str) -> Result<Vec<Value>, String> {
    let (mut blocks, mut open, mut stage): (Vec<Value>, Option<usize>, _) = (Vec::new(), None, 0);
    let mut inputs = BTreeMap::<usize, String>::new();
    for data in data_of(stream) {
        let kind = data["type"].as_str().unwrap_or_default();
        let index = data["index"].as_u64().map(|index| index as usize);
        match (kind, stage) {
            ("message_start", 0) => stage = 1,
            ("ping", 1) => {}
            ("error", 0 | 1) => stage = 4,
            ("content_block_start", 1) if open.is_none() && index == Some(blocks.len()) => {
                open = index;
                blocks.push(data["content_block"].clone());
            }
            ("content_block_delta", 1) if open.is_some() && open == index => {
                let (at, delta) = (blocks.len() - 1, &data["delta"]);
                let (name, block) =
                    match (delta["type"].as_str().unwrap(), blocks[at]["type"].as_str().unwrap()) {
                        ("text_delta", "text") => ("text", "text"),
                        ("thinking_delta", "thinking") => ("thinking", "thinking"),
                        ("signature_delta", "thinking") => ("signature", "signature"),
                        ("input_json_delta", "tool_use" | "server_tool_use") => {
                            inputs.entry(at).or_default().push_str(delta["partial_json"].as_str().unwrap());
                            continue;
                        }
                        ("citations_delta", "text") => continue,
                        other => return Err(format!("{other:?}")),
                    };
                let whole =
                    format!("{}{}", blocks[at][block].as_str().unwrap(), delta[name].as_str().unwrap());
                blocks[at][block] = whole.into();
            }
            ("content_block_stop", 1) if open.is_some() && open == index => open = None,
            ("message_delta", 1) if open.is_none() => stage = 2,
            ("message_stop", 2) => stage = 3,
            _ => return Err(format!("{kind} {index:?} at stage {stage}, open {open:?}")),
        }
    }
    for (at, input) in inputs {
        blocks[at]["input"] = serde_json::from_str(&input).unwrap_or(Value::String(input));
    }
    Ok(blocks)
}

// parity: 99
#[test]
fn an_upstream_s_stream_is_written_as_it_was_read() {
    // A block begins with what it says, so that a ping right after its beginning comes before it.
    let without_pings =
        |stream: &str| data_of(stream).into_iter().filter(|data| data["type"] != "ping").collect::<Vec<_>>();
    for stream in [THINKING_AND_TOOLS, SEARCH_AND_CITATIONS] {
        let written = write(&read(&data_of(stream)));
        assert_eq!(without_pings(&written), without_pings(stream));
        assert_eq!(data_of(&written).len(), data_of(stream).len());
    }
}

// parity: 99 104 106
#[test]
fn a_stream_is_read_step_by_step() {
    let events = read(&data_of(THINKING_AND_TOOLS));
    let usage =
        Usage { input: 60, output: 1, cached: 30, cache_written: 20, reasoning: 0, is_estimated: false };
    let own = |value: &str| Signature { surface: Surface::Messages, value: value.into() };
    let part_end = Event::PartEnd { choice: 0 };
    let expected = [
        Event::Start {
            id: "msg_01A".into(),
            model: "claude-sonnet-4-5".into(),
            created_unix_s: None,
            usage: Some(usage),
        },
        Event::Ping,
        Event::Thinking { choice: 0, text: "Let me \"think\"\nabout it".into() },
        Event::Signature {
            choice: 0,
            signature: own("EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds"),
        },
        part_end.clone(),
        Event::RedactedThinking { choice: 0, data: own("EmwKAhgBEgy3va3pzix") },
        part_end.clone(),
        Event::Text { choice: 0, text: "Okay, let's check the weather in Zürich".into() },
        Event::Text { choice: 0, text: ":".into() },
        part_end.clone(),
        call(0, "toolu_01T1x", "get_weather"),
        arguments(0, "{\"location\":"),
        arguments(0, " \"Zü"),
        arguments(0, "rich\"}"),
        part_end.clone(),
        call(1, "toolu_01T2x", "get_time"),
        arguments(1, "{}"),
        part_end,
        Event::Finish { choice: 0, reason: StopReason::ToolCalls, stop_sequence: None },
        Event::Usage(Usage { output: 89, reasoning: 40, ..usage }),
        Event::End,
    ];
    assert_eq!(events, expected);
}

fn call(index: u32, id: &str, name: &str) -> Event {
    Event::ToolCall { choice: 0, index, id: id.into(), name: name.into(), signature: None }
}

fn arguments(index: u32, json: &str) -> Event {
    Event::Arguments { choice: 0, index, json: json.into() }
}

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.into() }
}

fn thinking(text: &str) -> Event {
    Event::Thinking { choice: 0, text: text.into() }
}

/// What blocks a client has of these steps.
#[track_caller]
fn check_blocks(events: &[Event], expected: Value) {
    let mut events = events.to_vec();
    events.push(Event::End);
    let stream = write(&events);
    assert_eq!(message_of(&stream).map(Value::from), Ok(expected), "{stream}");
    assert!(stream.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
}

fn tool(id: &str, name: &str, input: Value) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}

// parity: 99 100
#[test]
fn calls_that_take_turns_become_blocks_that_follow_each_other() {
    let said = |text: &str| json!({"type": "text", "text": text});
    check_blocks(
        &[
            call(0, "a", "f"),
            call(1, "b", "g"),
            arguments(0, r#"{"x":"#),
            arguments(1, r#"{"y""#),
            text("t"),
            arguments(0, "1}"),
            arguments(1, ":2}"),
        ],
        json!([tool("a", "f", json!({"x": 1})), tool("b", "g", json!({"y": 2})), said("t")]),
    );
    // Nothing completes the first one; those behind it come all the same.
    check_blocks(
        &[call(0, "a", "f"), arguments(0, "{"), call(1, "b", "g"), arguments(1, "{}"), text("t")],
        json!([tool("a", "f", json!("{")), tool("b", "g", json!({})), said("t")]),
    );
    check_blocks(
        &[call(0, "a", "f"), Event::PartEnd { choice: 0 }, text("t"), call(1, "b", "g")],
        json!([tool("a", "f", json!({})), said("t"), tool("b", "g", json!({}))]),
    );
    // A brace in a text is no end.
    check_blocks(
        &[call(0, "a", "f"), arguments(0, r#"{"x":"}\"#), text("t"), arguments(0, r#""}"}"#)],
        json!([tool("a", "f", json!({"x": "}\"}"})), said("t")]),
    );
}

#[test]
fn a_complete_call_keeps_nothing_waiting() {
    let (mut encoder, mut out) = (EventEncoder::new(&asked()), Vec::new());
    for event in [call(0, "a", "f"), arguments(0, r#"{"x":[1]}"#)] {
        encoder.push(&event, &mut out);
    }
    out.clear();
    encoder.push(&call(1, "b", "g"), &mut out);
    let kinds: Vec<Value> =
        data_of(std::str::from_utf8(&out).unwrap()).into_iter().map(|data| data["type"].clone()).collect();
    assert_eq!(kinds, ["content_block_stop", "content_block_start"]);
}

// parity: 104
#[test]
fn what_another_vendor_signed_is_held_for_it() {
    let gemini = |value: &str| Signature { surface: Surface::Gemini, value: value.into() };
    let signed = Event::ToolCall {
        choice: 0,
        index: 0,
        id: "a".into(),
        name: "f".into(),
        signature: Some(gemini("s2")),
    };
    check_blocks(
        &[
            thinking("h"),
            thinking("m"),
            Event::Signature { choice: 0, signature: gemini("s1") },
            thinking("x"),
            signed,
        ],
        json!([
            {"type": "thinking", "thinking": "hm", "signature": "gemini#s1"},
            {"type": "thinking", "thinking": "x", "signature": ""},
            {"type": "thinking", "thinking": "", "signature": "gemini#s2"},
            tool("a", "f", json!({})),
        ]),
    );
}

// parity: 106
#[test]
fn the_cost_that_comes_after_the_end_is_told() {
    let usage =
        Usage { input: 10, output: 5, cached: 4, cache_written: 0, reasoning: 2, is_estimated: false };
    let events = [
        text("a"),
        Event::Finish { choice: 0, reason: StopReason::Length, stop_sequence: None },
        Event::Usage(usage),
        Event::End,
        Event::End,
    ];
    let data = data_of(&write(&events));
    let expected = json!({
        "type": "message_delta", "delta": {"stop_reason": "max_tokens", "stop_sequence": null},
        "usage": {
            "input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 5,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    });
    assert_eq!(data[data.len() - 2], expected);
    assert_eq!(data[0]["message"]["id"], "msg_x1");
}

/// The reason that a client is given.
#[track_caller]
fn check_reason(events: &[Event], reason: &str, sequence: Value) {
    let mut events = events.to_vec();
    events.push(Event::End);
    let data = data_of(&write(&events));
    assert_eq!(data[data.len() - 2]["delta"], json!({"stop_reason": reason, "stop_sequence": sequence}));
}

// parity: 106
#[test]
fn why_it_ended_is_said_in_this_surface_s_words() {
    let finish = |reason, sequence: Option<&str>| Event::Finish {
        choice: 0,
        reason,
        stop_sequence: sequence.map(str::to_owned),
    };
    check_reason(&[finish(StopReason::Stop, None)], "end_turn", Value::Null);
    check_reason(&[finish(StopReason::Stop, Some("x"))], "stop_sequence", json!("x"));
    check_reason(&[finish(StopReason::Length, None)], "max_tokens", Value::Null);
    check_reason(&[finish(StopReason::ToolCalls, None)], "tool_use", Value::Null);
    check_reason(&[finish(StopReason::ContentFilter, None)], "refusal", Value::Null);
    check_reason(&[finish(StopReason::Other, None)], "end_turn", Value::Null);
    let refusal = Event::Refusal { choice: 0, text: "no".into() };
    check_reason(&[refusal, finish(StopReason::Stop, None)], "refusal", Value::Null);
    check_reason(&[call(0, "a", "f")], "tool_use", Value::Null);
    check_reason(&[], "end_turn", Value::Null);
    // Only the first answer is written, and of its ends the first.
    let second = Event::Finish { choice: 1, reason: StopReason::Length, stop_sequence: None };
    check_reason(
        &[second, finish(StopReason::Stop, None), finish(StopReason::Length, None)],
        "end_turn",
        Value::Null,
    );
}

#[test]
fn a_failure_is_the_last_event() {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let error = ApiError { status, message: "slow".into(), kind: None, code: None, param: None };
    let stream = write(&[text("a"), Event::Failed(error), text("b"), Event::End]);
    let end = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}\n\n";
    assert!(stream.ends_with(end), "{stream}");
    let failed = read(&[json!({"type": "error", "error": {"type": "overloaded_error", "message": "full"}})]);
    let [Event::Failed(error)] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!((error.status.as_u16(), error.message.as_str()), (529, "full"));
}

#[test]
fn a_ping_before_the_beginning_is_a_comment() {
    assert_eq!(write(&[Event::Ping]), ": ping\n\n");
    let stream = write(&[text(""), Event::Ping]);
    assert!(stream.ends_with("event: ping\ndata: {\"type\":\"ping\"}\n\n"));
}

#[test]
fn what_is_held_back_is_bounded() {
    let mut events = vec![call(0, "a", "f"), arguments(0, "{")];
    events.extend((0..9).map(|_| text(&"x".repeat(1 << 20))));
    let stream = write(&events);
    let last = data_of(&stream).pop().unwrap();
    assert_eq!(last["error"]["type"], "api_error");
    assert!(stream.len() < 2000);
}

#[test]
fn events_of_wrong_shapes_are_refused_or_passed_over() {
    let mut decoder = EventDecoder::new("x");
    let mut push = |data: &str| {
        let mut events = Vec::new();
        decoder.push(None, data.as_bytes(), &mut events).map(|()| events).map_err(|error| error.kind)
    };
    for wrong in [
        "",
        "x",
        "[]",
        r#"{"type":7}"#,
        r#"{"type":"content_block_start"}"#,
        r#"{"type":"content_block_delta","delta":1}"#,
    ] {
        assert_eq!(push(wrong), Err(ErrorKind::UpstreamInvalid), "{wrong}");
    }
    assert_eq!(
        push(
            r#"{"type":"content_block_delta","index":18446744073709551615,"delta":{"type":"text_delta","text":"a"}}"#
        ),
        Ok(vec![])
    );
    assert_eq!(push(r#"{"type":"content_block_stop","index":5}"#), Ok(vec![]));
    let news = r#"{"type":"news","index":0}"#;
    assert_eq!(push(news), Ok(vec![Event::Other(Raw::new(news).unwrap())]));
    let start = |index| {
        format!(
            r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"text","text":"a"}}}}"#
        )
    };
    let opened = (0..100).map(|index| push(&start(index))).position(|pushed| pushed.is_err());
    assert_eq!(opened, Some(64));
}

#[test]
fn an_answer_that_breaks_off_without_its_end_is_finished() {
    let start =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}});
    let (mut decoder, mut events) = (EventDecoder::new("x"), Vec::new());
    decoder.push(None, start.to_string().as_bytes(), &mut events).unwrap();
    decoder.finish(&mut events);
    decoder.finish(&mut events);
    let expected = [
        Event::Start { id: "msg_x".into(), model: String::new(), created_unix_s: None, usage: None },
        text("a"),
        Event::PartEnd { choice: 0 },
        Event::Finish { choice: 0, reason: StopReason::Other, stop_sequence: None },
        Event::End,
    ];
    assert_eq!(events, expected);
}

fn event() -> impl Strategy<Value = Event> {
    let word =
        || prop::sample::select(vec!["", "a", "{\"x\":", "1}", "{}", "\"é\\", "]"]).prop_map(str::to_owned);
    let choice = || prop::sample::select(vec![0_u32, 0, 0, 0, 1]);
    let signature = || {
        (0..4_usize, word()).prop_map(|(surface, value)| Signature { surface: Surface::ALL[surface], value })
    };
    let other = prop::sample::select(vec![
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"s","name":"n","input":{}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"pause_turn"}}"#,
        r#"{"type":"message_stop"}"#,
        r#"{"type":"response.created"}"#,
        "7",
    ])
    .prop_map(|json| Event::Other(Raw::new(json).unwrap()));
    prop_oneof![
        4 => (choice(), word()).prop_map(|(choice, text)| Event::Text { choice, text }),
        2 => (choice(), word()).prop_map(|(choice, text)| Event::Thinking { choice, text }),
        1 => (choice(), word()).prop_map(|(choice, text)| Event::Refusal { choice, text }),
        1 => (choice(), signature()).prop_map(|(choice, signature)| Event::Signature { choice, signature }),
        1 => (choice(), signature()).prop_map(|(choice, data)| Event::RedactedThinking { choice, data }),
        3 => (choice(), 0..4_u32, prop::option::of(signature())).prop_map(|(choice, index, signature)| Event::ToolCall {
            choice, index, id: format!("c{index}"), name: "f".into(), signature,
        }),
        6 => (choice(), 0..4_u32, word()).prop_map(|(choice, index, json)| Event::Arguments { choice, index, json }),
        2 => choice().prop_map(|choice| Event::PartEnd { choice }),
        1 => (choice(), word()).prop_map(|(choice, url)| Event::Citation {
            choice, citation: Citation { url: Some(url), ..Citation::default() },
        }),
        1 => Just(Event::Start { id: "msg_9".into(), model: "m".into(), created_unix_s: None, usage: None }),
        1 => choice().prop_map(|choice| Event::Finish { choice, reason: StopReason::Stop, stop_sequence: None }),
        1 => Just(Event::Ping),
        2 => other,
    ]
}

/// An answer in the order in which a reader gives it: what was said, block by block.
fn blocks() -> impl Strategy<Value = Vec<Value>> {
    let block = prop_oneof![
        "[a-z\"é\n]{0,9}".prop_map(|text| json!({"type": "text", "text": text})),
        ("[a-z ]{0,9}", "[a-zA-Z0-9+/]{1,9}").prop_map(|(thinking, signature)| json!({
            "type": "thinking", "thinking": thinking, "signature": signature,
        })),
        "[a-z]{1,9}".prop_map(|data| json!({"type": "redacted_thinking", "data": data})),
        ("[a-z]{1,4}", "[a-z{}\\[\\]\"]{0,6}").prop_map(|(id, value)| tool(&id, "f", json!({ "v": value }))),
        Just(json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}})),
    ];
    prop::collection::vec(block, 0..6)
}

/// The stream of these blocks, their texts cut into pieces.
fn stream_of(blocks: &[Value], piece: usize) -> String {
    let mut stream = String::new();
    let mut put = |data: Value| {
        stream.push_str(&format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()));
    };
    put(
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 3}}}),
    );
    for (index, block) in blocks.iter().enumerate() {
        let mut begun = block.clone();
        let mut pieces = Vec::new();
        for (member, kind, name) in [
            ("text", "text_delta", "text"),
            ("thinking", "thinking_delta", "thinking"),
            ("signature", "signature_delta", "signature"),
            ("input", "input_json_delta", "partial_json"),
        ] {
            let Some(value) = begun.get_mut(member) else { continue };
            let whole =
                if member == "input" { value.to_string() } else { value.as_str().unwrap().to_owned() };
            *value = if member == "input" { json!({}) } else { json!("") };
            let letters: Vec<char> = whole.chars().collect();
            let step = if member == "signature" { letters.len() } else { piece };
            pieces.extend(
                letters
                    .chunks(step)
                    .map(|chunk| json!({"type": kind, name: chunk.iter().collect::<String>()})),
            );
        }
        put(json!({"type": "content_block_start", "index": index, "content_block": begun}));
        pieces.into_iter().for_each(|delta| {
            put(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        });
        put(json!({"type": "content_block_stop", "index": index}));
    }
    put(
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}),
    );
    put(json!({"type": "message_stop"}));
    stream
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // parity: 99
    #[test]
    fn every_beginning_is_one_of_the_grammar(mut events in prop::collection::vec(event(), 0..30), ends in any::<bool>()) {
        let has_end = ends.then(|| events.push(Event::End)).is_some();
        let (mut encoder, mut out) = (EventEncoder::new(&asked()), Vec::new());
        for event in &events {
            encoder.push(event, &mut out);
            let stream = std::str::from_utf8(&out).unwrap();
            prop_assert!(message_of(stream).is_ok(), "{:?} {stream}", message_of(stream));
        }
        prop_assert_eq!(out.ends_with(b"{\"type\":\"message_stop\"}\n\n"), has_end);
    }

    // parity: 100
    #[test]
    fn no_piece_of_a_call_is_lost_whatever_the_order(
        values in prop::collection::vec("[a-z{}\"\\\\]{0,9}", 1..4),
        order in prop::collection::vec((0..4_usize, "[a-z]{1,3}"), 0..40),
    ) {
        let inputs: Vec<Value> = values.iter().map(|value| json!({ "v": value })).collect();
        let mut left: Vec<Vec<char>> = inputs.iter().map(|input| input.to_string().chars().rev().collect()).collect();
        let mut events: Vec<Event> = (0..inputs.len()).map(|index| call(index as u32, "c", &index.to_string())).collect();
        let mut said = String::new();
        for (index, word) in order {
            match left.get_mut(index) {
                Some(left) => events.extend(left.pop().map(|piece| arguments(index as u32, &piece.to_string()))),
                None => {
                    events.push(text(&word));
                    said.push_str(&word);
                }
            }
        }
        for (index, left) in left.into_iter().enumerate() {
            let rest: String = left.into_iter().rev().collect();
            events.push(arguments(index as u32, &rest));
        }
        events.push(Event::End);
        let blocks = message_of(&write(&events)).unwrap();
        let (texts, calls): (Vec<Value>, Vec<Value>) = blocks.into_iter().partition(|block| block["type"] == "text");
        let texts: String = texts.iter().map(|block| block["text"].as_str().unwrap()).collect();
        prop_assert_eq!(texts, said);
        let expected: Vec<Value> =
            inputs.into_iter().enumerate().map(|(index, input)| tool("c", &index.to_string(), input)).collect();
        prop_assert_eq!(calls, expected);
    }

    // parity: 99
    #[test]
    fn any_split_of_the_bytes_gives_the_same_blocks(blocks in blocks(), piece in 1..5_usize, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9)) {
        let stream = stream_of(&blocks, piece);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let mut converter = StreamConverter::new(Surface::Messages, Surface::Messages, &asked());
        let mut out = Vec::new();
        for cut in cuts.windows(2) {
            let piece = Bytes::copy_from_slice(&stream.as_bytes()[cut[0]..cut[1]]);
            converter.push_all(std::iter::once(piece), &mut out).unwrap();
        }
        converter.finish(&mut out);
        prop_assert_eq!(message_of(std::str::from_utf8(&out.concat()).unwrap()), Ok(blocks));
    }

    #[test]
    fn no_bytes_panic(data in prop::collection::vec(any::<u8>(), 0..60), event in prop::option::of("[a-z_]{0,9}")) {
        let mut events = Vec::new();
        let mut decoder = EventDecoder::new("x");
        let _ = decoder.push(event.as_deref(), &data, &mut events);
        decoder.finish(&mut events);
        prop_assert!(matches!(events.last(), Some(Event::End | Event::Failed(_))));
    }

    #[test]
    fn no_event_panics(
        kind in prop::sample::select(vec!["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error", "x"]),
        index in prop::sample::select(vec![json!(0), json!(u64::MAX), json!(-1), json!("a"), Value::Null]),
        inner in prop::sample::select(vec![json!(null), json!(1), json!({}), json!({"type": "text", "text": 1}), json!({"type": "tool_use"}), json!({"type": "text_delta"}), json!({"stop_reason": "x"}), json!({"id": [], "usage": {"input_tokens": -1}})]),
    ) {
        let data = json!({"type": kind, "index": index, "delta": inner, "content_block": inner, "message": inner, "usage": inner, "error": inner});
        let (mut decoder, mut events) = (EventDecoder::new("x"), Vec::new());
        let open = br#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
        decoder.push(None, open, &mut events).unwrap();
        let _ = decoder.push(None, data.to_string().as_bytes(), &mut events);
        decoder.finish(&mut events);
        let stream = write(&events);
        prop_assert!(message_of(&stream).is_ok(), "{stream}");
    }
}

// parity: 109
#[test]
fn arguments_that_are_no_object_are_wrapped_as_in_a_whole_answer() {
    let wrapped = |pieces: &[&str], input: Value| {
        let call = |index, id: &str| Event::ToolCall {
            choice: 0,
            index,
            id: id.into(),
            name: "f".into(),
            signature: None,
        };
        let piece = |json: &&str| Event::Arguments { choice: 0, index: 0, json: (*json).to_owned() };
        let mut events = vec![call(0, "a")];
        events.extend(pieces.iter().map(piece));
        events.extend([call(1, "b"), Event::PartEnd { choice: 0 }, Event::PartEnd { choice: 0 }, Event::End]);
        let content = message_of(&write(&events)).map(Value::from).unwrap();
        assert_eq!(content[0]["input"], input, "{pieces:?}");
    };
    wrapped(&["not", " json"], json!({"arguments": "not json"}));
    wrapped(&[" ", "[1", "]"], json!({"arguments": "[1]"}));
    wrapped(&["7"], json!({"arguments": "7"}));
    wrapped(&[" \n", " {\"a\"", ":1}"], json!({"a": 1}));
    wrapped(&[" "], json!({}));
}
