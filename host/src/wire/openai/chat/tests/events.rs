//! What the chunks of a stream say, whoever sends them, and what a client is sent.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::chat::{ApiError, Citation, Event, Signature, StopReason, TokenLogprob, Usage};
use crate::error::ErrorKind;
use crate::wire::Surface;
use crate::wire::convert::Asked;
use crate::wire::openai::chat::{EventDecoder, EventEncoder};

/// Reads the data of events.
pub(super) fn read(data: &[&str]) -> Vec<Event> {
    let mut decoder = EventDecoder::new("x");
    let mut events = Vec::new();
    for data in data {
        decoder.push(None, data.as_bytes(), &mut events).unwrap_or_else(|error| panic!("{error}: {data}"));
    }
    decoder.finish(&mut events);
    events
}

/// Reads the deltas of one choice; what they say between the beginning and the end.
#[track_caller]
fn check(deltas: &[&str], expected: &[Event]) {
    let chunk = |delta: &&str| format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{delta}}}]}}"#);
    let chunks: Vec<String> = deltas.iter().map(chunk).collect();
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    let events = read(&chunks);
    let [Event::Start { .. }, said @ .., Event::Finish { .. }, Event::End] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(said, expected);
}

fn said(text: &str) -> Event {
    Event::Text { choice: 0, text: text.into() }
}

fn thought(text: &str) -> Event {
    Event::Thinking { choice: 0, text: text.into() }
}

fn called(index: u32, id: &str, name: &str) -> Event {
    Event::ToolCall { choice: 0, index, id: id.into(), name: name.into(), signature: None }
}

fn arguments(index: u32, json: &str) -> Event {
    Event::Arguments { choice: 0, index, json: json.into() }
}

fn finish(choice: u32, reason: StopReason) -> Event {
    Event::Finish { choice, reason, stop_sequence: None }
}

// parity: 106
#[test]
fn a_stream_begins_once_ends_once_and_tells_its_cost_behind_the_end() {
    let events = read(&[
        r#"{"id":"","model":"","choices":[],"prompt_filter_results":[]}"#,
        r#"{"id":"c","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
        r#"{"id":"c","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}"#,
        r#"{"id":"c","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#,
        r#"{"id":"c","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"late"},"finish_reason":"stop"}]}"#,
        r#"{"id":"c","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":1,"cache_write_tokens":2}}}"#,
        "[DONE]",
        r#"{"choices":[{"index":0,"delta":{"content":"later"}}]}"#,
    ]);
    let usage = Usage { input: 3, output: 4, cached: 1, cache_written: 2, ..Usage::default() };
    assert_eq!(
        events,
        [
            Event::Start { id: "c".into(), model: "m".into(), created_unix_s: Some(7), usage: None },
            said("a"),
            finish(0, StopReason::Length),
            Event::Usage(usage),
            Event::End,
        ]
    );
}

// parity: 104
#[test]
fn thinking_is_read_under_all_its_names_and_once() {
    check(&[r#"{"reasoning_content":"a"}"#, r#"{"content":"b"}"#], &[thought("a"), said("b")]);
    check(&[r#"{"reasoning":"a"}"#], &[thought("a")]);
    check(&[r#"{"reasoning":"a","reasoning_content":"a"}"#], &[thought("a")]);
    let signature = |surface, value: &str| Event::Signature {
        choice: 0,
        signature: Signature { surface, value: value.into() },
    };
    // LiteLLM's pieces, which stand under both names.
    check(
        &[
            r#"{"reasoning_content":"a","thinking_blocks":[{"type":"thinking","thinking":"a","signature":null}]}"#,
            r#"{"reasoning_content":"","thinking_blocks":[{"type":"thinking","thinking":"","signature":"s"}]}"#,
            r#"{"thinking_blocks":[{"type":"redacted_thinking","data":"messages#d"}]}"#,
        ],
        &[
            thought("a"),
            signature(Surface::Chat, "s"),
            Event::RedactedThinking {
                choice: 0,
                data: Signature { surface: Surface::Messages, value: "d".into() },
            },
        ],
    );
    // A block that repeats what came before.
    check(
        &[
            r#"{"reasoning_content":"a"}"#,
            r#"{"thinking_blocks":[{"type":"thinking","thinking":"a","signature":"gemini#s"}]}"#,
        ],
        &[thought("a"), signature(Surface::Gemini, "s")],
    );
    // Mistral's.
    check(
        &[
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}"#,
            r#"{"content":[{"type":"text","text":"c"}]}"#,
        ],
        &[thought("ab"), said("c")],
    );
}

// parity: 100
#[test]
fn calls_are_numbered_without_gaps_whatever_tells_them_apart() {
    let both = [
        called(0, "a", "f"),
        arguments(0, "{\"x\""),
        arguments(0, ":1}"),
        called(1, "b", "g"),
        arguments(1, "{}"),
    ];
    // OpenAI's: an index with every piece, the rest with the first.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]}"#,
        ],
        &both,
    );
    // Everything with every piece, and indices with a gap.
    check(
        &[
            r#"{"tool_calls":[{"index":3,"id":"a","function":{"name":"f","arguments":"{\"x\""}}]}"#,
            r#"{"tool_calls":[{"index":3,"id":"a","function":{"name":"f","arguments":":1}"}}]}"#,
            r#"{"tool_calls":[{"index":7,"id":"b","function":{"name":"g","arguments":"{}"}}]}"#,
        ],
        &both,
    );
    // The same index for all, and later pieces with an empty id.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"","function":{"name":"","arguments":":1}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}]}"#,
        ],
        &both,
    );
    // No index.
    check(
        &[
            r#"{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"x\""}}]}"#,
            r#"{"tool_calls":[{"function":{"arguments":":1}"}}]}"#,
            r#"{"tool_calls":[{"id":"b","function":{"name":"g","arguments":{}}}]}"#,
        ],
        &both,
    );
    // Whole calls without an id each.
    check(
        &[
            r#"{"tool_calls":[{"function":{"name":"f","arguments":"{\"x\":1}"}}]}"#,
            r#"{"tool_calls":[{"function":{"name":"f","arguments":"{\"x\":2}"}}]}"#,
        ],
        &[
            called(0, "call_x_0_0", "f"),
            arguments(0, "{\"x\":1}"),
            called(1, "call_x_0_1", "f"),
            arguments(1, "{\"x\":2}"),
        ],
    );
    // A name in pieces, and no arguments at all.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"get_"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"name":"time","arguments":""}}]}"#,
        ],
        &[called(0, "a", "get_time")],
    );
    // Another id with each piece.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"t-2","function":{"arguments":"{\"x\""}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"t-3","function":{"arguments":":1}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}]}"#,
        ],
        &both,
    );
    check(
        &[
            r#"{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"x\""}}]}"#,
            r#"{"tool_calls":[{"id":"t-2","function":{"arguments":":1}"}}]}"#,
            r#"{"tool_calls":[{"id":"b","function":{"name":"g","arguments":"{}"}}]}"#,
        ],
        &both,
    );
    // Calls without arguments, an index or an id, and an id that another call has.
    check(
        &[
            r#"{"tool_calls":[{"function":{"name":"f"}},{"function":{"name":"g","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"call_x_0_0","function":{"name":"h"}}]}"#,
        ],
        &[called(0, "call_x_0_0", "f"), called(1, "call_x_0_1", "g"), called(2, "call_x_0_2", "h")],
    );
    // The only call of old.
    check(
        &[r#"{"function_call":{"name":"f","arguments":""}}"#, r#"{"function_call":{"arguments":"{}"}}"#],
        &[called(0, "call_x_0_0", "f"), arguments(0, "{}")],
    );
    // Google's signature.
    let signature = Some(Signature { surface: Surface::Chat, value: "g".into() });
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"g"}}}]}"#,
        ],
        &[
            Event::ToolCall { choice: 0, index: 0, id: "a".into(), name: "f".into(), signature },
            arguments(0, "{}"),
        ],
    );
}

// parity: 106
#[test]
fn who_calls_tools_stops_for_them() {
    let reason = |reason: &str| {
        let call =
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}}]}"#;
        let end = format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"{reason}"}}]}}"#);
        read(&[call, &end]).into_iter().find_map(|event| match event {
            Event::Finish { reason, .. } => Some(reason),
            _ => None,
        })
    };
    assert_eq!(reason("stop"), Some(StopReason::ToolCalls));
    assert_eq!(reason(""), Some(StopReason::ToolCalls));
    assert_eq!(reason("function_call"), Some(StopReason::ToolCalls));
    assert_eq!(reason("length"), Some(StopReason::Length));
    assert_eq!(reason("content_filter"), Some(StopReason::ContentFilter));
}

#[test]
fn refusals_citations_and_probabilities_are_told() {
    check(&[r#"{"refusal":"no"}"#], &[Event::Refusal { choice: 0, text: "no".into() }]);
    let events = read(&[
        r#"{"choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation","url_citation":{"url":"u","title":"t","start_index":1,"end_index":2}},{"type":"new"}],"content":"ab"},
            "logprobs":{"content":[{"token":"ab","logprob":-0.5,"bytes":null,"top_logprobs":[{"token":"c","logprob":-1}]}],"refusal":null},
            "finish_reason":"stop","stop_reason":"END"}]}"#,
    ]);
    let [_, text, Event::Citation { citation, .. }, logprobs, finish, _] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(text, &said("ab"));
    assert_eq!((citation.url.as_deref(), citation.range), (Some("u"), Some((1, 2))));
    let token = TokenLogprob { token: "ab".into(), logprob: -0.5, top: vec![("c".into(), -1.0)] };
    assert_eq!(logprobs, &Event::Logprobs { choice: 0, tokens: vec![token] });
    let stop_sequence = Some("END".to_owned());
    assert_eq!(finish, &Event::Finish { choice: 0, reason: StopReason::Stop, stop_sequence });
}

// parity: 100
#[test]
fn a_whole_message_has_each_call_once() {
    let message = |calls: &str| {
        read(&[&format!(r#"{{"choices":[{{"message":{{"tool_calls":[{calls}]}}}}]}}"#)])
            .into_iter()
            .filter(|event| matches!(event, Event::ToolCall { .. } | Event::Arguments { .. }))
            .collect::<Vec<Event>>()
    };
    assert_eq!(
        message(r#"{"function":{"name":"a","arguments":""}},{"function":{"name":"b","arguments":""}}"#),
        [called(0, "call_x_0_0", "a"), called(1, "call_x_0_1", "b")]
    );
    assert_eq!(
        message(
            r#"{"id":"x","index":0,"function":{"name":"a","arguments":"{}"}},{"id":"x","index":0,"function":{"name":"a","arguments":"{}"}}"#
        ),
        [called(0, "x", "a"), arguments(0, "{}"), called(1, "call_x_0_1", "a"), arguments(1, "{}")]
    );
}

#[test]
fn a_stream_without_an_answer_is_a_failure() {
    for data in [r#"{"id":"c","choices":[]}"#, r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, "[DONE]"] {
        let events = read(&[data]);
        let Some(Event::Failed(error)) = events.last() else { panic!("{events:?}") };
        assert_eq!(error.status.as_u16(), 502, "{data}");
    }
}

#[track_caller]
fn check_failure(data: &str, status: u16, message: &str) {
    let events = read(&[r#"{"choices":[{"delta":{"content":"a"}}]}"#, data]);
    let Some(Event::Failed(error)) = events.last() else { panic!("{events:?}") };
    assert_eq!((error.status.as_u16(), error.message.as_str()), (status, message));
}

#[test]
fn an_error_ends_a_stream() {
    check_failure(r#"{"error":{"message":"slow","type":"rate_limit_error","code":429}}"#, 429, "slow");
    check_failure(r#"{"error":"broken"}"#, 502, "broken");
    check_failure(r#"{"object":"error","message":"full","code":503}"#, 503, "full");
}

#[test]
fn what_cannot_be_is_refused_or_passed_over() {
    let push = |data: &str| EventDecoder::new("x").push(None, data.as_bytes(), &mut Vec::new());
    for data in ["{", "", "{}x"] {
        assert_eq!(push(data).unwrap_err().kind, ErrorKind::UpstreamInvalid, "{data}");
    }
    assert_eq!(push(r#"{"choices":[{"index":4294967296}]}"#).unwrap_err().kind, ErrorKind::UpstreamInvalid);
    let many: Vec<String> = (0..129).map(|index| format!(r#"{{"index":{index}}}"#)).collect();
    assert!(push(&format!(r#"{{"choices":[{}]}}"#, many.join(","))).is_err());
    for data in
        ["1", "[]", "null", r#"{"choices":1,"id":2,"usage":3}"#, r#"{"choices":[1,null,{"delta":[]}]}"#]
    {
        assert!(push(data).is_ok(), "{data}");
    }
    check(&[r#"{"content":1,"tool_calls":{},"annotations":"a","refusal":[],"reasoning":{}}"#], &[]);
}

/// A request of a client's.
pub(super) fn asked(asks_usage: bool) -> Asked {
    Asked { model: "m".into(), id: "x".into(), created_unix_s: 7, asks_usage, request: Bytes::new() }
}

/// Writes steps; what a client is sent.
pub(super) fn write(events: &[Event], asks_usage: bool) -> String {
    let mut encoder = EventEncoder::new(&asked(asks_usage));
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.push(event, &mut out));
    String::from_utf8(out).unwrap()
}

/// The chunks of a stream; what is no JSON as a string.
fn chunks(events: &[Event], asks_usage: bool) -> Vec<Value> {
    let stream = write(events, asks_usage);
    let data = stream.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap_or(event));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
}

/// Checks the deltas that steps become, after the one with the role.
#[track_caller]
fn check_deltas(events: &[Event], expected: Value) {
    let chunks = chunks(events, false);
    assert_eq!(
        chunks[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": "", "refusal": null})
    );
    let deltas: Vec<&Value> = chunks[1..].iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    assert_eq!(json!(deltas), expected);
}

#[test]
fn a_chunk_has_everything_that_openais_clients_require() {
    let usage = Usage { input: 1, output: 2, cache_written: 3, ..Usage::default() };
    let start =
        Event::Start { id: "msg_1".into(), model: "claude".into(), created_unix_s: None, usage: Some(usage) };
    let end = Event::Finish { choice: 0, reason: StopReason::Stop, stop_sequence: Some("S".into()) };
    let steps = [start, said("a"), end, Event::End];
    let chunk = |choice: Value| json!({"id": "chatcmpl-x", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]});
    let choice = |delta: Value, reason: Value| json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason});
    let mut last = choice(json!({}), json!("stop"));
    last["stop_reason"] = json!("S");
    let expected = [
        chunk(choice(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null)),
        chunk(choice(json!({"content": "a"}), Value::Null)),
        chunk(last),
        json!("[DONE]"),
    ];
    assert_eq!(chunks(&steps, false), expected);
    // The cost comes behind the end, if the client wants it.
    let with_usage = chunks(&steps, true);
    assert_eq!(with_usage[3]["choices"], json!([]));
    assert_eq!(with_usage[3]["usage"]["prompt_tokens_details"]["cache_write_tokens"], 3);
    assert_eq!(with_usage[4], "[DONE]");
}

// parity: 100
#[test]
fn calls_are_written_with_contiguous_indices_and_arguments_that_can_be_read() {
    let signature = Some(Signature { surface: Surface::Gemini, value: "g".into() });
    let signed = Event::ToolCall { choice: 0, index: 9, id: "b".into(), name: "g".into(), signature };
    check_deltas(
        &[
            called(4, "a", "f"),
            signed,
            arguments(4, "{}"),
            arguments(1, "lost"),
            finish(0, StopReason::ToolCalls),
        ],
        json!([
            {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""},
                "extra_content": {"google": {"thought_signature": "g"}}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
            {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
            {},
        ]),
    );
}

// parity: 104
#[test]
fn a_signature_comes_with_the_thinking_it_proves() {
    let signature = Signature { surface: Surface::Messages, value: "s".into() };
    check_deltas(
        &[
            thought("a"),
            thought("b"),
            Event::Signature { choice: 0, signature: signature.clone() },
            Event::RedactedThinking { choice: 0, data: signature },
            said("c"),
        ],
        json!([
            {"reasoning_content": "a"},
            {"reasoning_content": "b"},
            {"thinking_blocks": [
                {"index": 0, "type": "thinking", "thinking": "ab", "signature": "messages#s"},
                {"index": 1, "type": "redacted_thinking", "data": "messages#s"},
            ]},
            {"content": "c"},
        ]),
    );
    // What comes later has further indices, and what nobody could prove is thinking alone.
    let signature = Signature { surface: Surface::Messages, value: "s".into() };
    let signed = Event::Signature { choice: 0, signature };
    check_deltas(
        &[signed.clone(), called(0, "1", "f"), thought("a"), said("b"), signed, finish(0, StopReason::Stop)],
        json!([
            {"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "", "signature": "messages#s"}]},
            {"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"reasoning_content": "a"},
            {"content": "b"},
            {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
            {"thinking_blocks": [{"index": 1, "type": "thinking", "thinking": "", "signature": "messages#s"}]},
            {},
        ]),
    );
}

#[test]
fn no_more_than_a_bound_is_held() {
    let many = "x".repeat(3 << 20);
    let signature = Signature { surface: Surface::Messages, value: "s".into() };
    let signed = Event::Signature { choice: 0, signature };
    let written =
        chunks(&[thought(&many), thought(&many), signed.clone(), thought("a"), signed, said("b")], false);
    let blocks = &written[4]["choices"][0]["delta"]["thinking_blocks"];
    assert_eq!(
        *blocks,
        json!([{"index": 0, "type": "thinking", "thinking": "a", "signature": "messages#s"}])
    );
}

#[test]
fn citations_come_at_the_end_each_with_its_place_in_the_whole_text() {
    let page = Citation { url: Some("u".into()), range: Some((0, 1)), ..Citation::default() };
    let nowhere = Citation { quoted: Some("q".into()), ..Citation::default() };
    check_deltas(
        &[
            said("é"),
            Event::PartEnd { choice: 0 },
            said("b"),
            Event::Citation { choice: 0, citation: page.clone() },
            Event::Citation { choice: 0, citation: nowhere },
            Event::Citation { choice: 0, citation: Citation { range: None, ..page } },
            said("cd"),
            Event::PartEnd { choice: 0 },
            said("e"),
            finish(0, StopReason::Stop),
        ],
        json!([
            {"content": "é"},
            {"content": "b"},
            {"content": "cd"},
            {"content": "e"},
            {"annotations": [
                {"index": 0, "type": "url_citation", "url_citation": {"start_index": 1, "end_index": 2, "title": "u", "url": "u"}},
                {"index": 1, "type": "url_citation", "url_citation": {"start_index": 1, "end_index": 4, "title": "u", "url": "u"}},
            ]},
            {},
        ]),
    );
}

#[test]
fn any_order_of_steps_ends_as_it_should() {
    let error = ApiError {
        status: http::StatusCode::TOO_MANY_REQUESTS,
        message: "slow".into(),
        kind: Some("RESOURCE_EXHAUSTED".into()),
        code: None,
        param: None,
    };
    let written = chunks(&[said("a"), Event::Ping, Event::Failed(error), said("b"), Event::End], true);
    assert_eq!(written[2], ": ping");
    let expected =
        json!({"error": {"message": "slow", "type": "rate_limit_error", "param": null, "code": null}});
    assert_eq!(written[3..], [expected]);
    // Without a start or an end, and behind the end.
    let other = Event::Text { choice: 3, text: "c".into() };
    let written = chunks(&[other, finish(3, StopReason::Length), said("d"), Event::End, said("e")], false);
    let reasons: Vec<&Value> = written.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert_eq!(json!(reasons), json!([null, null, "length", null, null, "stop", null]));
    assert_eq!(written.last().unwrap(), "[DONE]");
    assert_eq!(chunks(&[Event::End], true), [json!("[DONE]")]);
}
