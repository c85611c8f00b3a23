use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::chat::{Choice, Event, Extra, Part, Reply, StopReason};
use crate::wire::Surface;
use crate::wire::convert::Asked;
use crate::wire::openai::chat::{EventEncoder, encode_reply};
use crate::wire::openai::echo::Completion;
use crate::wire::openai::frame;

const BYTES_MAX: usize = 1 << 20;

/// Assembles a stream that is pushed in these pieces.
fn assemble(endpoint: Endpoint, pieces: &[&[u8]], bytes_max: usize) -> Assembled {
    let mut assembly = Assembly::new(endpoint, bytes_max);
    for piece in pieces {
        assembly.push(piece);
    }
    assembly.finish(None)
}

/// Assembles a stream, cut everywhere in two and into single bytes; and folded at every event.
#[track_caller]
fn whole(endpoint: Endpoint, stream: &str) -> Value {
    let whole = assemble(endpoint, &[stream.as_bytes()], BYTES_MAX);
    for at in 0..=stream.len() {
        let (head, tail) = stream.as_bytes().split_at(at);
        assert_eq!(assemble(endpoint, &[head, tail], BYTES_MAX), whole, "split at {at}");
        let mut assembly = Assembly::new(endpoint, BYTES_MAX);
        assembly.push(head);
        assembly.estimate();
        assembly.push(tail);
        assert_eq!(assembly.finish(None), whole, "folded at {at}");
    }
    let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
    assert_eq!(assemble(endpoint, &bytes, BYTES_MAX), whole, "split everywhere");
    assert!(!whole.is_cut);
    serde_json::from_str(&whole.body).unwrap_or_else(|error| panic!("{error}: {}", whole.body))
}

/// Puts each of `data` in an event.
fn stream(data: &[&str]) -> String {
    data.iter().map(|data| format!("data: {data}\n\n")).collect()
}

#[track_caller]
fn check(endpoint: Endpoint, data: &[&str], expected: Value) {
    assert_eq!(whole(endpoint, &stream(data)), expected);
}

/// Checks what the choices of a chat become.
#[track_caller]
fn check_choices(choices: &[&str], expected: Value) {
    let mut data: Vec<String> =
        choices.iter().map(|choice| format!(r#"{{"id":"x","created":7,"choices":[{choice}]}}"#)).collect();
    data.push("[DONE]".into());
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    let expected = json!({"id": "x", "object": "chat.completion", "created": 7, "choices": expected});
    check(Endpoint::ChatCompletions, &data, expected);
}

/// Checks what the deltas of one choice become, whose `role` and end are of no interest.
#[track_caller]
fn check_message(deltas: &[&str], mut expected: Value) {
    let choices: Vec<String> =
        deltas.iter().map(|delta| format!(r#"{{"index":0,"delta":{delta},"finish_reason":null}}"#)).collect();
    let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
    expected["role"] = json!("assistant");
    check_choices(&choices, json!([{"index": 0, "message": expected, "finish_reason": null}]));
}

#[test]
fn a_chat_becomes_its_whole_answer() {
    check(
        Endpoint::ChatCompletions,
        &[
            r#"{"id":"","object":"","created":0,"model":"","choices":[],"prompt_filter_results":[{"a":1}]}"#,
            r#"{"id":"x","object":"chat.completion.chunk","created":7,"model":"m","service_tier":"default","system_fingerprint":null,"obfuscation":"ab","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}"#,
            r#"{"id":"x","object":"chat.completion.chunk","created":7,"model":"m","service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":"a\n"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
            r#"{"id":"x","object":"chat.completion.chunk","created":7,"model":"m","service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":"\"b\""},"logprobs":null,"finish_reason":null}],"usage":null}"#,
            r#"{"id":"x","object":"chat.completion.chunk","created":7,"model":"m","service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":null}"#,
            r#"{"id":"x","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":3,"n":0.70}}"#,
            "[DONE]",
        ],
        json!({
            "id": "x", "object": "chat.completion", "created": 7, "model": "m", "service_tier": "default",
            "system_fingerprint": "fp", "prompt_filter_results": [{"a": 1}],
            "choices": [{
                "index": 0, "message": {"role": "assistant", "content": "a\n\"b\"", "refusal": null},
                "logprobs": null, "finish_reason": "stop", "stop_reason": null,
            }],
            "usage": {"prompt_tokens": 3, "n": 0.70},
        }),
    );
}

// parity: 141
#[test]
fn thinking_is_kept_under_the_names_the_stream_used() {
    check_message(
        &[r#"{"reasoning":"a"}"#, r#"{"reasoning":"b"}"#, r#"{"content":"c"}"#],
        json!({"reasoning": "ab", "content": "c"}),
    );
    check_message(
        &[r#"{"reasoning":"a","reasoning_content":"a"}"#, r#"{"reasoning":"b","reasoning_content":"b"}"#],
        json!({"reasoning": "ab", "reasoning_content": "ab", "content": null}),
    );
    check_message(
        &[r#"{"content":"a","reasoning_content":null}"#, r#"{"content":"b","reasoning_content":null}"#],
        json!({"content": "ab", "reasoning_content": null}),
    );
    check_message(
        &[
            r#"{"reasoning_details":[{"type":"reasoning.text","text":"a","index":0}]}"#,
            r#"{"reasoning_details":[{"type":"reasoning.text","text":"b","index":0,"signature":"s"}]}"#,
        ],
        json!({
            "reasoning_details": [{"type": "reasoning.text", "text": "ab", "index": 0, "signature": "s"}],
            "content": null,
        }),
    );
    check_message(&[r#"{"refusal":"n"}"#, r#"{"refusal":"o"}"#], json!({"refusal": "no", "content": null}));
}

// parity: 141
#[test]
fn tool_calls_are_merged_whatever_tells_them_apart() {
    let calls = json!([
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]);
    let expected = json!({"content": null, "tool_calls": calls});
    // By index, in parallel.
    check_message(
        &[
            r#"{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}},{"index":1,"function":{"arguments":"}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":":"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"1"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}"#,
        ],
        expected.clone(),
    );
    // Everything with every piece.
    check_message(
        &[
            r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{"}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]}"#,
        ],
        expected.clone(),
    );
    // One index for all, or none.
    for index in [r#""index":0,"#, ""] {
        let first = format!(
            r#"{{"tool_calls":[{{{index}"id":"a","type":"function","function":{{"name":"f","arguments":"{{\"x\":"}}}}]}}"#
        );
        let rest = format!(r#"{{"tool_calls":[{{{index}"id":null,"function":{{"arguments":"1}}"}}}}]}}"#);
        let second = format!(
            r#"{{"tool_calls":[{{{index}"id":"b","type":"function","function":{{"name":"g","arguments":"{{}}"}}}}]}}"#
        );
        check_message(&[&first, &rest, &second], expected.clone());
        // Each in many pieces: what looks like the pieces of the first call is of the second once that has begun.
        let begin = |id: &str, name: &str| {
            format!(
                r#"{{"tool_calls":[{{{index}"id":"{id}","type":"function","function":{{"name":"{name}","arguments":""}}}}]}}"#
            )
        };
        let piece =
            |text: &str| format!(r#"{{"tool_calls":[{{{index}"function":{{"arguments":"{text}"}}}}]}}"#);
        let deltas = [
            begin("a", "f"),
            piece(r#"{\"x\""#),
            piece(":"),
            piece("1}"),
            begin("b", "g"),
            piece("{"),
            piece("}"),
        ];
        check_message(&deltas.each_ref().map(String::as_str), expected.clone());
    }
    check_message(
        &[
            r#"{"content":null,"function_call":{"name":"f","arguments":"{"}}"#,
            r#"{"function_call":{"arguments":"}"}}"#,
        ],
        json!({"content": null, "function_call": {"name": "f", "arguments": "{}"}}),
    );
}

#[test]
fn members_nobody_knows_are_kept() {
    check_message(
        &[
            r#"{"role":"assistant","content":"","x":"a","n":1,"o":{"p":"c","q":1},"list":[1]}"#,
            r#"{"role":"assistant","content":"","x":"b","n":2,"o":{"p":"d"},"list":[2,"y"],"flag":true}"#,
        ],
        json!({"content": "", "x": "ab", "n": 2, "o": {"p": "cd", "q": 1}, "list": [1, 2, "y"], "flag": true}),
    );
    check_message(
        &[
            r#"{"audio":{"id":"a","data":"AAAA","transcript":"h"}}"#,
            r#"{"audio":{"data":"AAA=","transcript":"i"}}"#,
        ],
        json!({"audio": {"id": "a", "data_bytes": 5, "transcript": "hi"}, "content": null}),
    );
}

// parity: 141
#[test]
fn choices_are_told_apart_by_index() {
    check_choices(
        &[
            r#"{"index":1,"delta":{"role":"assistant","content":"b"}},{"delta":{"content":"B"},"index":1}"#,
            r#"{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-0.10}],"refusal":null}}"#,
            r#"{"index":0,"delta":{"content":"A"},"logprobs":{"content":[{"token":"A","logprob":-1}],"refusal":null},"finish_reason":"length"}"#,
            r#"{"index":1,"delta":{"content":"2"},"finish_reason":"stop"}"#,
        ],
        json!([
            {
                "index": 0, "message": {"role": "assistant", "content": "aA"}, "finish_reason": "length",
                "logprobs": {
                    "content": [{"token": "a", "logprob": -0.10}, {"token": "A", "logprob": -1}], "refusal": null,
                },
            },
            {"index": 1, "message": {"role": "assistant", "content": "bB2"}, "finish_reason": "stop"},
        ]),
    );
}

#[test]
fn a_completion_becomes_its_whole_answer() {
    check(
        Endpoint::Completions,
        &[
            r#"{"id":"x","object":"text_completion","model":"m","choices":[{"index":0,"text":"a","logprobs":{"tokens":["a"],"text_offset":[0]},"finish_reason":null}]}"#,
            r#"{"id":"x","object":"text_completion","model":"m","choices":[{"index":0,"text":"b","logprobs":{"tokens":["b"],"text_offset":[1]},"finish_reason":null}]}"#,
            r#"{"id":"x","object":"text_completion","model":"m","choices":[{"index":0,"text":"","finish_reason":"stop"}],"timings":{"prompt_n":1}}"#,
        ],
        json!({
            "id": "x", "object": "text_completion", "model": "m", "timings": {"prompt_n": 1},
            "choices": [{
                "index": 0, "text": "ab", "finish_reason": "stop",
                "logprobs": {"tokens": ["a", "b"], "text_offset": [0, 1]},
            }],
        }),
    );
}

#[test]
fn a_response_is_what_its_last_event_says() {
    for (kind, status) in [("completed", "completed"), ("incomplete", "incomplete"), ("failed", "failed")] {
        let begun = r#"{"type":"response.created","response":{"id":"r","status":"in_progress","output":[],"usage":null,"tools":[1]}}"#;
        let ended = format!(
            r#"{{"type":"response.{kind}","response":{{"id":"r","status":"{status}","error":null,"output":[{{"id":"i"}}],"usage":{{"input_tokens":1}},"tools":[]}}}}"#
        );
        let delta = r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"a"}"#;
        check(
            Endpoint::Responses,
            &[begun, delta, &ended],
            json!({
                "id": "r", "status": status, "error": null, "output": [{"id": "i"}],
                "usage": {"input_tokens": 1}, "tools": [],
            }),
        );
    }
}

#[test]
fn a_response_that_was_cut_has_what_there_was() {
    check(
        Endpoint::Responses,
        &[
            r#"{"type":"response.created","response":{"id":"r","object":"response","status":"in_progress","output":[]}}"#,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"a","type":"reasoning","summary":[],"status":"in_progress"}}"#,
            r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"s"}"#,
            r#"{"type":"response.reasoning_text.delta","output_index":0,"content_index":0,"delta":"t"}"#,
            r#"{"type":"response.output_item.added","output_index":1,"item":{"id":"b","type":"message","role":"assistant","content":[]}}"#,
            r#"{"type":"response.output_text.delta","output_index":1,"content_index":1,"delta":"2"}"#,
            r#"{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"h"}"#,
            r#"{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"i"}"#,
            r#"{"type":"response.output_item.done","output_index":2,"item":{"id":"c","type":"done"}}"#,
            r#"{"type":"response.function_call_arguments.delta","output_index":3,"delta":"{\"x\""}"#,
            r#"{"type":"response.unheard_of","delta":7}"#,
        ],
        json!({
            "id": "r", "object": "response", "status": "incomplete",
            "output": [
                {
                    "id": "a", "type": "reasoning", "status": "incomplete",
                    "summary": [{"type": "summary_text", "text": "s"}],
                    "content": [{"type": "reasoning_text", "text": "t"}],
                },
                {
                    "id": "b", "type": "message", "role": "assistant", "status": "incomplete",
                    "content": [
                        {"type": "output_text", "text": "hi", "annotations": []},
                        {"type": "output_text", "text": "2", "annotations": []},
                    ],
                },
                {"id": "c", "type": "done"},
                {"type": "function_call", "status": "incomplete", "arguments": "{\"x\""},
            ],
        }),
    );
}

#[test]
fn sound_and_pictures_are_their_size() {
    check(
        Endpoint::AudioTranscriptions,
        &[
            r#"{"type":"transcript.text.delta","delta":"a"}"#,
            r#"{"type":"transcript.text.delta","delta":"b"}"#,
        ],
        json!({"text": "ab"}),
    );
    check(
        Endpoint::AudioTranscriptions,
        &[
            r#"{"type":"transcript.text.delta","delta":"a"}"#,
            r#"{"type":"transcript.text.done","text":"a.","usage":{"type":"tokens","input_tokens":1}}"#,
        ],
        json!({"text": "a.", "usage": {"type": "tokens", "input_tokens": 1}}),
    );
    check(
        Endpoint::AudioSpeech,
        &[
            r#"{"type":"speech.audio.delta","audio":"AAAA"}"#,
            r#"{"type":"speech.audio.delta","audio":"AA=="}"#,
            r#"{"type":"speech.audio.done","usage":{"output_tokens":1}}"#,
        ],
        json!({"audio_bytes": 4, "usage": {"output_tokens": 1}}),
    );
    check(
        Endpoint::ImagesGenerations,
        &[
            r#"{"type":"image_generation.partial_image","b64_json":"AAAA","partial_image_index":0}"#,
            r#"{"type":"image_generation.completed","b64_json":"AAAAAAAA","created_at":7,"size":"s","usage":{"total_tokens":1}}"#,
        ],
        json!({
            "partial_images_bytes": 3, "data": [{"b64_json_bytes": 6}], "created": 7, "size": "s",
            "usage": {"total_tokens": 1},
        }),
    );
}

#[test]
fn an_error_stands_beside_what_came_before_it() {
    let error = r#"{"error":{"message":"no"}}"#;
    check(Endpoint::ChatCompletions, &[error], json!({"error": {"message": "no"}}));
    check(
        Endpoint::ChatCompletions,
        &[r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#, error],
        json!({
            "object": "chat.completion", "error": {"message": "no"},
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": null}],
        }),
    );
    check(
        Endpoint::Responses,
        &[
            r#"{"type":"response.created","response":{"id":"r","status":"in_progress"}}"#,
            r#"{"type":"error","code":"c","message":"no"}"#,
        ],
        json!({
            "id": "r", "object": "response", "status": "failed", "output": [],
            "error": {"type": "error", "code": "c", "message": "no"},
        }),
    );
}

// parity: 139
#[test]
fn what_is_not_openais_is_kept_out() {
    let junk = [
        "x",
        "5",
        "\"x\"",
        "null",
        "[]",
        "{",
        "{}",
        r#"{"choices":[1]}"#,
        r#"{"choices":{}}"#,
        r#"{"id":"broken","choices":[{"index":0,"delta":{"content":"b"}}"#,
        r#"{"type":"response.completed","response":5}"#,
        r#"{"type":"response.output_text.delta","delta":5}"#,
        r#"{"type":7,"delta":"x"}"#,
        r#"{"error":null,"usage":7}"#,
    ];
    let data: Vec<&str> = [r#"{"id":"x","choices":[{"delta":{"content":"a"}}]}"#]
        .into_iter()
        .chain(junk)
        .chain([r#"{"id":"x","choices":[7,null,{"index":0,"delta":5},{"index":0,"delta":{"content":"b"}}]}"#])
        .collect();
    check(
        Endpoint::ChatCompletions,
        &data,
        json!({
            "id": "x", "object": "chat.completion",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": null}],
        }),
    );
    // A stream of nothing else is kept by its beginning.
    let only = whole(Endpoint::ChatCompletions, &stream(&junk));
    assert_eq!(only, json!({"events": junk.len(), "text": junk.join("\n")}));
    assert_eq!(whole(Endpoint::Responses, ": ping\n\n"), json!({"events": 0, "text": ""}));
    assert_eq!(whole(Endpoint::Responses, "<html>\n\n"), json!({"events": 0, "text": "<html>"}));
    let long = format!("data: {}\n\n", "x".repeat(2 * SAMPLE_BYTES_MAX));
    let body = assemble(Endpoint::Responses, &[long.as_bytes()], BYTES_MAX).body;
    assert!((SAMPLE_BYTES_MAX..SAMPLE_BYTES_MAX + 100).contains(&body.len()), "{}", body.len());
}

#[test]
fn bytes_that_are_no_text_are_kept_out() {
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n";
    let body = assemble(Endpoint::ChatCompletions, &[stream], BYTES_MAX).body;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["events"], 1);
}

#[test]
fn halves_of_a_character_find_each_other() {
    check_message(&[r#"{"content":"\ud83d"}"#, r#"{"content":"\ude00 \u00e9"}"#], json!({"content": "😀 é"}));
    check_message(&[r#"{"content":"a\ud83d"}"#], json!({"content": "a\u{fffd}"}));
}

#[test]
fn events_that_look_alike_are_still_read() {
    // The text of the second and third would fit between the bytes around that of the first.
    check_message(
        &[
            r#"{"content":"a"}"#,
            r#"{"content":"b","x":"c"}"#,
            r#"{"content":"d\\"}"#,
            r#"{"content":"\\\"e"}"#,
        ],
        json!({"content": "abd\\\\\"e", "x": "c"}),
    );
    let event =
        |text: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}");
    let mixed =
        [event("a"), event("b"), event("c")].join("\r\n\r\n") + "\n\n: x\n\nid: 7\n" + &event("d") + "\n\n";
    let body = whole(Endpoint::ChatCompletions, &mixed);
    assert_eq!(body["choices"][0]["message"]["content"], "abcd");
}

#[test]
fn a_text_that_is_too_long_is_cut_and_its_end_is_kept() {
    let event = |delta: &str, rest: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}{rest}}}]}}\n\n")
    };
    let piece = event(r#"{"content":"0123456789\n\u00e9\ud83d\ude00é"}"#, "");
    let end = event("{}", r#","finish_reason":"stop""#)
        + "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\ndata: [DONE]\n\n";
    let stream = piece.repeat(400) + &end;
    for bytes_max in 1000..1060 {
        let assembled = assemble(Endpoint::ChatCompletions, &[stream.as_bytes()], bytes_max);
        assert!(assembled.is_cut);
        assert!(assembled.body.len() < 2 * bytes_max, "{}", assembled.body.len());
        let body: Value = serde_json::from_str(&assembled.body).unwrap();
        let choice = &body["choices"][0];
        assert_eq!((&choice["finish_reason"], &body["usage"]["prompt_tokens"]), (&json!("stop"), &json!(3)));
        let text = "0123456789\né😀é".repeat(400);
        assert!(text.starts_with(choice["message"]["content"].as_str().unwrap()));
        let single: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(assemble(Endpoint::ChatCompletions, &single, bytes_max), assembled);
    }
    let mut assembly = Assembly::new(Endpoint::ChatCompletions, 1000);
    let mut held_bytes = 0;
    for _ in 0..2000 {
        assembly.push(piece.as_bytes());
        held_bytes = held_bytes.max(assembly.held_bytes());
    }
    assert!(held_bytes < 2 * FOLD_BYTES + 4000, "{held_bytes}");
    // What was left out still counts.
    assert!(assembly.estimate().tokens() >= 2000 * 10 / 4);
}

#[test]
fn an_event_that_is_too_large_is_passed_over() {
    let picture = "A".repeat(EVENT_BYTES_MAX);
    let stream = format!(
        "data: {{\"type\":\"image_generation.partial_image\",\"b64_json\":\"{picture}\"}}\n\n{}",
        stream(&[r#"{"type":"image_generation.completed","b64_json":"AAAA"}"#])
    );
    let assembled = assemble(Endpoint::ImagesGenerations, &[stream.as_bytes()], BYTES_MAX);
    assert!(assembled.is_cut);
    assert_eq!(assembled.body, r#"{"data":[{"b64_json_bytes":3}]}"#);
}

#[test]
fn a_response_larger_than_the_bound_is_put_together_from_its_pieces() {
    let text = "a".repeat(3000);
    let stream = stream(&[
        r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"aaa"}"#,
        &format!(
            r#"{{"type":"response.completed","response":{{"id":"r","status":"completed","output":["{text}"]}}}}"#
        ),
    ]);
    let assembled = assemble(Endpoint::Responses, &[stream.as_bytes()], 2000);
    assert!(assembled.is_cut);
    let body: Value = serde_json::from_str(&assembled.body).unwrap();
    assert_eq!(
        (&body["status"], &body["output"][0]["content"][0]["text"]),
        (&json!("completed"), &json!("aaa"))
    );
}

/// Two answers of the chat API, whole and as a stream.
fn chat(usage: Usage) -> (Bytes, Vec<u8>) {
    let asked = Asked {
        model: "m".into(),
        id: "x".into(),
        created_unix_s: 7,
        asks_usage: false,
        request: Bytes::new(),
    };
    let choice = |index, text: &str| Choice {
        index,
        parts: vec![Part::text(text)],
        stop: Some(StopReason::Stop),
        ..Choice::default()
    };
    let reply = Reply {
        surface: Surface::Chat,
        id: String::new(),
        model: "m".into(),
        created_unix_s: None,
        choices: vec![choice(0, "one two"), choice(1, "three")],
        usage: Some(usage),
        extra: Extra::default(),
    };
    let mut encoder = EventEncoder::new(&asked);
    let mut streamed = Vec::new();
    for (choice, text) in [(0, "one "), (0, "two"), (1, "three")] {
        encoder.push(&Event::Text { choice, text: text.into() }, &mut streamed);
    }
    encoder.push(&Event::End, &mut streamed);
    (encode_reply(&reply, &asked), streamed)
}

/// The same of the completions API.
fn completion(usage: Usage) -> (Bytes, Vec<u8>) {
    let writer = Completion { id: "x".into(), model: "m".into(), created_unix_s: 7 };
    let pieces = [(0, "one "), (0, "two"), (1, "three")].map(|(index, text)| writer.text(index, text));
    let ends = [0, 1].map(|index| writer.finish(index, StopReason::Stop));
    let streamed = [&pieces.concat()[..], &ends.concat(), &writer.done()].concat();
    (writer.reply(&["one two".into(), "three".into()], StopReason::Stop, usage), streamed)
}

// parity: 141
#[test]
fn a_streamed_answer_equals_the_whole_one() {
    let usage =
        Usage { input: 1, output: 2, cached: 3, reasoning: 4, is_estimated: false, ..Usage::default() };
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions] {
        let (answer, streamed) = match endpoint {
            Endpoint::Completions => completion(usage),
            _ => chat(usage),
        };
        let streamed = String::from_utf8(streamed).unwrap();
        let mut expected: Value = serde_json::from_slice(&answer).unwrap();
        let mut assembly = Assembly::new(endpoint, BYTES_MAX);
        assembly.push(streamed.as_bytes());
        let with_usage: Value = serde_json::from_str(&assembly.finish(Some(usage)).body).unwrap();
        assert_eq!(with_usage, expected);
        expected.as_object_mut().unwrap().remove("usage");
        assert_eq!(whole(endpoint, &streamed), expected);
    }
    for (endpoint, answer) in [
        (
            Endpoint::ChatCompletions,
            json!({
                "id": "x", "object": "chat.completion", "created": 7, "model": "m", "service_tier": null,
                "choices": [
                    {
                        "index": 0, "finish_reason": "tool_calls", "logprobs": null,
                        "message": {
                            "role": "assistant", "content": null, "refusal": null,
                            "reasoning": "think", "reasoning_content": "think", "tool_calls": [
                                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                            ],
                        },
                    },
                    {
                        "index": 1, "finish_reason": "stop", "logprobs": null,
                        "message": {"role": "assistant", "content": "two", "refusal": null},
                    },
                ],
                "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
            }),
        ),
        (
            Endpoint::Responses,
            json!({
                "id": "r", "object": "response", "status": "completed", "usage": {"input_tokens": 3},
                "output": [{
                    "id": "i", "type": "message", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": "hi", "annotations": []}],
                }],
            }),
        ),
    ] {
        let events = frame::events(endpoint, answer.to_string().as_bytes(), true).unwrap();
        assert_eq!(whole(endpoint, std::str::from_utf8(&events).unwrap()), answer);
    }
}

#[test]
fn usage_is_put_in_where_the_stream_told_none() {
    let estimated = Usage { input: 1, output: 2, is_estimated: true, ..Usage::default() };
    let finish = |endpoint, data: &str| {
        let mut assembly = Assembly::new(endpoint, BYTES_MAX);
        assembly.push(stream(&[data]).as_bytes());
        serde_json::from_str::<Value>(&assembly.finish(Some(estimated)).body).unwrap()["usage"].clone()
    };
    let chat = finish(Endpoint::ChatCompletions, r#"{"choices":[{"delta":{"content":"a"}}],"usage":null}"#);
    assert_eq!((&chat["total_tokens"], &chat["estimated"]), (&json!(3), &json!(true)));
    let told = finish(Endpoint::ChatCompletions, r#"{"choices":[],"usage":{"total_tokens":9}}"#);
    assert_eq!(told, json!({"total_tokens": 9}));
    let response = finish(Endpoint::Responses, r#"{"type":"response.created","response":{"usage":null}}"#);
    assert_eq!((&response["input_tokens"], &response["output_tokens"]), (&json!(1), &json!(2)));
}

// parity: 160
#[test]
fn the_texts_of_an_answer_are_estimated() {
    let estimate = |endpoint, data: &[&str]| {
        let mut assembly = Assembly::new(endpoint, BYTES_MAX);
        assembly.push(stream(data).as_bytes());
        assembly.estimate().tokens()
    };
    let event = r#"{"choices":[{"index":0,"delta":{"content":"12345678"}}]}"#;
    assert_eq!(estimate(Endpoint::ChatCompletions, &[event, event]), 4);
    let delta = r#"{"type":"response.output_text.delta","output_index":0,"delta":"12345678"}"#;
    assert_eq!(estimate(Endpoint::Responses, &[delta]), 2);
    let done = r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"long id","content":[{"type":"output_text","text":"12345678"}]}}"#;
    assert_eq!(estimate(Endpoint::Responses, &[delta, done]), 2);
    assert_eq!(estimate(Endpoint::Responses, &["x"]), 0);
}

#[test]
fn a_stream_that_has_not_begun_needs_no_memory() {
    let mut assembly = Assembly::new(Endpoint::ChatCompletions, BYTES_MAX);
    assert_eq!(assembly.held_bytes(), 0);
    assembly.push(b"data: {}\n\n");
    assert!(assembly.held_bytes() < 64);
}

proptest! {
    #[test]
    fn any_cut_of_any_bytes_gives_the_same_answer(
        pieces in prop::collection::vec(
            prop_oneof![
                Just(r#"data: {"choices":[{"index":0,"delta":{"content":"a"}}]}"#.as_bytes().to_vec()),
                Just(r#"data: {"choices":[{"index":0,"delta":{"content":"b\n"}}]}"#.as_bytes().to_vec()),
                Just(r#"data: {"choices":[{"index":0,"delta":{"content":"\ud83d"}}]}"#.as_bytes().to_vec()),
                Just(r#"data: {"choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{"}}]}}]}"#.as_bytes().to_vec()),
                Just(r#"data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"}"}},7]}}]}"#.as_bytes().to_vec()),
                Just(r#"data: {"choices":[{"logprobs":{"content":[{"a":1}]},"text":"x"}],"usage":{"prompt_tokens":1}}"#.as_bytes().to_vec()),
                Just(r#"data: {"type":"response.output_text.delta","output_index":0,"delta":"a"}"#.as_bytes().to_vec()),
                Just(r#"data: {"type":"response.output_item.done","output_index":0,"item":{"a":1}}"#.as_bytes().to_vec()),
                Just(r#"data: {"type":"response.completed","response":{"output":[1],"status":"completed"}}"#.as_bytes().to_vec()),
                Just(b"\n\n".to_vec()), Just(b"\n\n".to_vec()), Just(b"\r\n\r\n".to_vec()), Just(b"\"}]".to_vec()),
                prop::collection::vec(any::<u8>(), 0..6),
            ],
            0..24,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        bytes_max in prop_oneof![Just(BYTES_MAX), 0..400usize],
        endpoint in prop_oneof![Just(Endpoint::ChatCompletions), Just(Endpoint::Completions), Just(Endpoint::Responses)],
    ) {
        let input = pieces.concat();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        let whole = assemble(endpoint, &[&input], bytes_max);
        let mut assembly = Assembly::new(endpoint, bytes_max);
        for pair in at.windows(2) {
            assembly.push(&input[pair[0]..pair[1]]);
            assembly.estimate();
        }
        prop_assert_eq!(&assembly.finish(None), &whole);
        prop_assert!(serde_json::from_str::<Value>(&whole.body).is_ok(), "{}", whole.body);
    }

    #[test]
    fn an_event_is_read_alike_whatever_stands_before_it(texts in prop::collection::vec(".{0,12}", 1..12)) {
        // The first is read whole, those after it are compared with it.
        let stream: String = texts
            .iter()
            .map(|text| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]})))
            .collect();
        let body: Value =
            serde_json::from_str(&assemble(Endpoint::ChatCompletions, &[stream.as_bytes()], BYTES_MAX).body).unwrap();
        prop_assert_eq!(&body["choices"][0]["message"]["content"], &json!(texts.concat()));
    }
}
