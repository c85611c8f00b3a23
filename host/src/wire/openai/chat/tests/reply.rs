//! Whole answers and errors.

use http::StatusCode;
use serde_json::{Value, json};

use super::events::asked;
use crate::chat::{
    ApiError, Choice, Citation, Content, Extra, Part, Raw, Reply, Signature, StopReason, TokenLogprob, Usage,
};
use crate::error::ErrorKind;
use crate::wire::Surface;
use crate::wire::openai::chat::{decode_error, decode_reply, encode_error, encode_reply};

/// An answer with one choice of these parts.
fn reply(parts: Vec<Content>) -> Reply {
    let parts = parts.into_iter().map(Part::new).collect();
    let choice = Choice { parts, stop: Some(StopReason::Stop), ..Choice::default() };
    Reply {
        surface: Surface::Messages,
        id: "msg_1".into(),
        model: "claude".into(),
        created_unix_s: None,
        choices: vec![choice],
        usage: None,
        extra: Extra::default(),
    }
}

fn text(text: &str, citations: Vec<Citation>) -> Content {
    Content::Text { text: text.into(), citations }
}

#[track_caller]
fn check_message(parts: Vec<Content>, expected: Value) {
    let body: Value = serde_json::from_slice(&encode_reply(&reply(parts), &asked(false))).unwrap();
    assert_eq!(body["choices"][0]["message"], expected);
}

#[test]
fn an_answer_has_everything_that_openais_clients_require() {
    let mut answer = reply(vec![text("a", vec![])]);
    answer.choices[0].logprobs =
        vec![TokenLogprob { token: "é".into(), logprob: f64::NEG_INFINITY, top: vec![("b".into(), -1.5)] }];
    answer.choices.push(Choice { index: 1, ..Choice::default() });
    answer.usage = Some(Usage { input: 1, output: 2, cached: 3, reasoning: 4, ..Usage::default() });
    // What rides along of another surface stays behind.
    answer.extra.0.push(("container".into(), Raw::new("{}").unwrap()));
    let body: Value = serde_json::from_slice(&encode_reply(&answer, &asked(false))).unwrap();
    let expected = json!({
        "id": "chatcmpl-x", "object": "chat.completion", "created": 7, "model": "m",
        "choices": [
            {
                "index": 0, "message": {"role": "assistant", "content": "a", "refusal": null},
                "logprobs": {
                    "content": [{
                        "token": "é", "logprob": -9999, "bytes": [195, 169],
                        "top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": [98]}],
                    }],
                    "refusal": null,
                },
                "finish_reason": "stop",
            },
            {"index": 1, "message": {"role": "assistant", "content": null, "refusal": null}, "logprobs": null, "finish_reason": "stop"},
        ],
        "usage": {
            "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 4},
        },
    });
    assert_eq!(body, expected);
}

// parity: 100, 104
#[test]
fn every_part_of_an_answer_has_its_member() {
    let signature = |surface, value: &str| Signature { surface, value: value.into() };
    let page = Citation {
        url: Some("u".into()),
        title: Some("t".into()),
        range: Some((0, 2)),
        ..Citation::default()
    };
    check_message(
        vec![
            Content::Thinking { text: "p".into(), signature: Some(signature(Surface::Messages, "s")) },
            Content::RedactedThinking(signature(Surface::Messages, "d")),
            text("é", vec![]),
            text("bc", vec![page.clone(), Citation::default(), Citation { range: None, ..page }]),
            Content::Refusal("no".into()),
            Content::ToolCall {
                id: "1".into(),
                name: "f".into(),
                arguments: "{}".into(),
                signature: Some(signature(Surface::Messages, "g")),
            },
        ],
        json!({
            "role": "assistant", "content": "ébc", "refusal": "no", "reasoning_content": "p",
            "annotations": [
                {"type": "url_citation", "url_citation": {"start_index": 1, "end_index": 3, "title": "t", "url": "u"}},
                {"type": "url_citation", "url_citation": {"start_index": 1, "end_index": 3, "title": "t", "url": "u"}},
            ],
            "thinking_blocks": [
                {"type": "thinking", "thinking": "p", "signature": "messages#s"},
                {"type": "redacted_thinking", "data": "messages#d"},
            ],
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"},
                "extra_content": {"google": {"thought_signature": "messages#g"}}}],
        }),
    );
    check_message(
        vec![Content::Thinking { text: "p".into(), signature: None }],
        json!({"role": "assistant", "content": null, "refusal": null, "reasoning_content": "p"}),
    );
}

// parity: 104, 106
#[test]
fn an_answer_is_read_whoever_gave_it() {
    let body = r#"{"id":"c","object":"chat.completion","created":7,"model":"m","system_fingerprint":"fp","service_tier":null,
        "choices":[{"index":0,"message":{"role":"assistant","content":"a","refusal":null,"reasoning_content":"pq",
            "thinking_blocks":[{"type":"thinking","thinking":"p"},{"type":"thinking","thinking":"q","signature":"s"}],
            "tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":"stop"},
            {"message":{"content":"b","function_call":{"name":"f","arguments":"{}"}},"finish_reason":"function_call"}],
        "usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
    let reply = decode_reply(body.as_bytes(), "x").unwrap();
    assert_eq!((reply.id.as_str(), reply.model.as_str(), reply.created_unix_s), ("c", "m", Some(7)));
    assert_eq!(reply.extra.0, [("system_fingerprint".to_owned(), Raw::new("\"fp\"").unwrap())]);
    assert_eq!(reply.usage, Some(Usage { input: 3, output: 4, ..Usage::default() }));
    let said: Vec<Content> = reply.choices[0].parts.iter().map(|part| part.content.clone()).collect();
    let call = |id: &str| Content::ToolCall {
        id: id.into(),
        name: "f".into(),
        arguments: "{}".into(),
        signature: None,
    };
    let signature = Some(Signature { surface: Surface::Chat, value: "s".into() });
    assert_eq!(
        said,
        [
            Content::Thinking { text: "p".into(), signature: None },
            Content::Thinking { text: "q".into(), signature },
            text("a", vec![]),
            call("1"),
        ]
    );
    assert_eq!(reply.choices[0].stop, Some(StopReason::ToolCalls));
    assert_eq!((reply.choices[1].index, &reply.choices[1].parts[1].content), (1, &call("call_x_1_0")));
}

#[track_caller]
fn check_invalid(body: &str, message: &str) {
    let error = decode_reply(body.as_bytes(), "x").unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamInvalid);
    assert!(error.message.contains(message), "{error}");
}

#[test]
fn what_is_no_answer_is_refused() {
    check_invalid("<html>", "not JSON");
    check_invalid("", "not JSON");
    check_invalid("{}", "no `choices`");
    check_invalid(r#"{"choices":null}"#, "no `choices`");
    check_invalid(r#"{"error":{"message":"broken"}}"#, "broken");
    check_invalid(r#"{"object":"error","message":"full","code":503}"#, "full");
    check_invalid(r#"{"message":"Internal failure","code":500}"#, "no `choices`");
    check_invalid(r#"{"id":"c","choices":[]}"#, "without an answer");
}

#[track_caller]
fn check_error(body: &str, expected: [Option<&str>; 4]) {
    let ApiError { status, message, kind, code, param } =
        decode_error(StatusCode::BAD_REQUEST, body.as_bytes());
    let found = [Some(message.as_str()), kind.as_deref(), code.as_deref(), param.as_deref()];
    assert_eq!((status, found), (StatusCode::BAD_REQUEST, expected));
}

// parity: 107
#[test]
fn every_form_of_error_is_read() {
    check_error(
        r#"{"error":{"message":"m","type":"t","param":"p","code":"c"}}"#,
        [Some("m"), Some("t"), Some("c"), Some("p")],
    );
    check_error(
        r#"{"error":{"message":"m","type":null,"param":null,"code":429}}"#,
        [Some("m"), None, Some("429"), None],
    );
    check_error(r#"{"error":"m"}"#, [Some("m"), None, None, None]);
    check_error(
        r#"{"object":"error","message":"m","type":"t","code":400}"#,
        [Some("m"), Some("t"), Some("400"), None],
    );
    check_error(r#"{"detail":"m"}"#, [Some("m"), None, None, None]);
    check_error(r#"{"detail":[{"msg":"m"}]}"#, [Some(r#"[{"msg":"m"}]"#), None, None, None]);
    check_error(r#"[{"error":{"code":400,"message":"m"}}]"#, [Some("m"), None, Some("400"), None]);
    check_error("<html>no</html>", [Some("<html>no</html>"), None, None, None]);
    check_error("", [Some("the upstream answered 400 Bad Request"), None, None, None]);
    check_error("{}", [Some("{}"), None, None, None]);
    let long = decode_error(StatusCode::BAD_GATEWAY, "é".repeat(1000).as_bytes());
    assert_eq!(long.message.chars().count(), 200);
}

#[test]
fn an_error_is_written_in_openais_words() {
    let mut error = ApiError {
        status: StatusCode::UNAUTHORIZED,
        message: "say \"who\"".into(),
        kind: Some("UNAUTHENTICATED".into()),
        code: Some("c".into()),
        param: Some("p".into()),
    };
    let expected =
        r#"{"error":{"message":"say \"who\"","type":"authentication_error","param":"p","code":"c"}}"#;
    assert_eq!(encode_error(&error), expected);
    error.kind = Some("not_found_error".into());
    assert!(
        encode_error(&error).starts_with(br#"{"error":{"message":"say \"who\"","type":"not_found_error""#)
    );
}
