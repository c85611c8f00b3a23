//! What streams say, and what cannot be an answer.

use super::*;
use crate::chat::ApiError;

#[test]
fn calls_may_take_turns() {
    let begin = |index, id: &str| Event::ToolCall {
        choice: 0,
        index,
        id: id.to_owned(),
        name: "f".to_owned(),
        signature: None,
    };
    let piece = |index, json: &str| Event::Arguments { choice: 0, index, json: json.to_owned() };
    let events = [
        begin(0, "a"),
        piece(0, "{\"x\":"),
        begin(1, "b"),
        piece(1, "{\"y\":"),
        Event::PartEnd { choice: 0 },
        piece(0, "1}"),
        piece(1, "2}"),
        Event::Text { choice: 0, text: "so".to_owned() },
        Event::End,
    ];
    let events = data(&encode(&events, "{}"));
    let answer = follow(&events).unwrap();
    assert_eq!(answer["output"][0]["arguments"], json!("{\"x\":1}"));
    assert_eq!(answer["output"][1]["arguments"], json!("{\"y\":2}"));
    assert_eq!(answer["output"][2]["content"][0]["text"], json!("so"));
}

#[test]
fn a_call_is_done_as_soon_as_its_arguments_are() {
    let events = [
        Event::ToolCall { choice: 0, index: 0, id: "a".into(), name: "f".into(), signature: None },
        Event::Arguments { choice: 0, index: 0, json: r#"{"x":"\"}"#.into() },
        Event::Arguments { choice: 0, index: 0, json: r#"{"}"#.into() },
        Event::PartEnd { choice: 0 },
    ];
    let events = data(&encode(&events, "{}"));
    assert_eq!(events.last().unwrap()["type"], json!("response.output_item.done"));
    assert_eq!(events.last().unwrap()["item"]["arguments"], json!(r#"{"x":"\"}{"}"#));
}

#[test]
fn a_failure_is_an_error_that_the_clients_raise() {
    let error = ApiError {
        status: http::StatusCode::BAD_GATEWAY,
        message: "broke".to_owned(),
        kind: Some("upstream_error".to_owned()),
        code: Some("upstream_stream_broken".to_owned()),
        param: None,
    };
    let steps = [Event::Text { choice: 0, text: "a".to_owned() }, Event::Failed(error.clone()), Event::End];
    let events = data(&encode(&steps, "{}"));
    let last = events.last().unwrap();
    assert_eq!(
        *last,
        json!({"type": "error", "sequence_number": 5, "code": "upstream_stream_broken", "param": null, "message": "broke",
               "error": {"type": "upstream_error", "code": "upstream_stream_broken", "param": null, "message": "broke"}})
    );
    let mut out = Vec::new();
    EventDecoder::new("X1").push(Some("error"), last.to_string().as_bytes(), &mut out).unwrap();
    assert_eq!(out, [Event::Failed(error)]);
}

#[test]
fn an_answer_that_cannot_be_held_is_an_error() {
    let piece = Event::Text { choice: 0, text: "a".repeat(1 << 20) };
    let mut encoder = EventEncoder::new(&asked("{}"));
    let mut out = Vec::new();
    for _ in 0..HELD_BYTES_MAX >> 20 {
        out.clear();
        encoder.push(&piece, &mut out);
    }
    assert_eq!(data(&out)[0]["error"]["message"], json!("the answer is longer than 16777216 bytes"));
    out.clear();
    encoder.push(&Event::End, &mut out);
    assert_eq!(out, b"");
}

#[track_caller]
fn check_failed(data: &str, status: u16, message: &str) {
    let mut out = Vec::new();
    EventDecoder::new("X1").push(None, data.as_bytes(), &mut out).unwrap();
    let [Event::Failed(error)] = &out[..] else { panic!("one error: {out:?}") };
    assert_eq!((error.status.as_u16(), &*error.message), (status, message));
}

#[test]
fn every_shape_of_an_error_is_read() {
    check_failed(r#"{"type":"error","code":"rate_limit_exceeded","message":"slow"}"#, 429, "slow");
    check_failed(
        r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"oh"}}}"#,
        500,
        "oh",
    );
    check_failed(r#"{"error":{"message":"no","type":"x"}}"#, 502, "no");
    check_failed(r#"{"error":"plain"}"#, 502, "plain");
    check_failed(r#"{"type":"error","message":5}"#, 502, "the upstream failed in the middle of its answer");
}

#[test]
fn an_answer_that_comes_only_at_the_end_is_read() {
    let whole = encode_reply(&full_reply(), &asked("{}"));
    let last =
        format!(r#"{{"type":"response.completed","response":{}}}"#, std::str::from_utf8(&whole).unwrap());
    let mut out = Vec::new();
    EventDecoder::new("X1").push(None, last.as_bytes(), &mut out).unwrap();
    let (mut read, mut expected) = (gather(&out), decode_reply(&whole, "X1").unwrap());
    expected.choices[0].logprobs.clear();
    read.choices[0].logprobs.clear();
    assert_eq!(read.choices, expected.choices);
}

#[test]
fn a_summary_of_several_parts_is_one_text() {
    let item = r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"a"},{"type":"summary_text","text":"b"}]}"#;
    let whole = decode_reply(format!(r#"{{"output":[{item}]}}"#).as_bytes(), "X1").unwrap();
    let thinking = Part::new(Content::Thinking { text: "a\n\nb".to_owned(), signature: None });
    assert_eq!(whole.choices[0].parts, std::slice::from_ref(&thinking));
    let mut decoder = EventDecoder::new("X1");
    let mut out = Vec::new();
    for data in [
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","summary":[]}}"#,
        r#"{"type":"response.reasoning_summary_part.added","output_index":0,"summary_index":0,"part":{}}"#,
        r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"a"}"#,
        r#"{"type":"response.reasoning_summary_part.added","output_index":0,"summary_index":1,"part":{}}"#,
        r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":1,"delta":"b"}"#,
        &format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{item}}}"#),
    ] {
        decoder.push(None, data.as_bytes(), &mut out).unwrap();
    }
    assert_eq!(gather(&out).choices[0].parts, [thinking]);
}

#[test]
fn too_many_items_are_refused() {
    let mut decoder = EventDecoder::new("X1");
    let mut out = Vec::new();
    let read = (0..5000u64).try_for_each(|index| {
        let data = format!(
            r#"{{"type":"response.output_item.added","output_index":{},"item":{{"type":"message"}}}}"#,
            u64::MAX - index
        );
        decoder.push(None, data.as_bytes(), &mut out)
    });
    assert_eq!(read.unwrap_err().kind, ErrorKind::UpstreamInvalid);
}

#[test]
fn an_answer_without_output_is_invalid() {
    for body in ["", "[]", "{}", r#"{"output":5}"#, r#"{"output":[],"error":{"message":"no"}}"#] {
        assert_eq!(decode_reply(body.as_bytes(), "X1").unwrap_err().kind, ErrorKind::UpstreamInvalid);
    }
}

#[test]
fn many_short_parts_are_bounded_too() {
    let mut encoder = EventEncoder::new(&asked("{}"));
    let mut out = Vec::new();
    let told = (0..HELD_BYTES_MAX).find(|_| {
        out.clear();
        encoder.push(&Event::Text { choice: 0, text: "a".to_owned() }, &mut out);
        encoder.push(&Event::PartEnd { choice: 0 }, &mut out);
        out.starts_with(b"event: error")
    });
    assert!(told.is_some_and(|told| told < 1 << 16));
}
