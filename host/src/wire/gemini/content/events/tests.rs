use bytes::Bytes;
use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::chat::{ApiError, Citation};
use crate::wire::convert::StreamConverter;

fn asked() -> Asked {
    Asked { model: "m".into(), id: "x1".into(), created_unix_s: 0, asks_usage: true, request: Bytes::new() }
}

fn decoded(chunks: &[&str]) -> Vec<Event> {
    let (mut decoder, mut events) = (EventDecoder::new("x1"), Vec::new());
    for chunk in chunks {
        decoder.push(None, chunk.as_bytes(), &mut events).unwrap();
    }
    decoder.finish(&mut events);
    events
}

/// A candidate of these parts.
fn chunk(parts: &str, rest: &str) -> String {
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{parts}],"role":"model"}},"index":0{rest}}}],"responseId":"r"}}"#
    )
}

fn start() -> Event {
    Event::Start { id: "r".into(), model: String::new(), created_unix_s: None, usage: None }
}

fn text(text: &str) -> Event {
    Event::Text { choice: 0, text: text.into() }
}

fn thinking(text: &str) -> Event {
    Event::Thinking { choice: 0, text: text.into() }
}

fn signature(surface: Surface, value: &str) -> Event {
    Event::Signature { choice: 0, signature: Signature { surface, value: value.into() } }
}

fn call(index: u32, id: &str) -> Event {
    Event::ToolCall { choice: 0, index, id: id.into(), name: "f".into(), signature: None }
}

fn arguments(index: u32, json: &str) -> Event {
    Event::Arguments { choice: 0, index, json: json.into() }
}

const PART_END: Event = Event::PartEnd { choice: 0 };

fn finish(reason: StopReason) -> Event {
    finished(0, reason)
}

#[track_caller]
fn check_read(chunks: &[(&str, &str)], expected: Vec<Event>) {
    let chunks: Vec<_> = chunks.iter().map(|(parts, rest)| chunk(parts, rest)).collect();
    let chunks: Vec<_> = chunks.iter().map(String::as_str).collect();
    let expected: Vec<_> = [start()].into_iter().chain(expected).chain([Event::End]).collect();
    assert_eq!(decoded(&chunks), expected);
}

// parity: 99, 106
#[test]
fn chunks_are_steps() {
    const STOP: &str = r#","finishReason":"STOP""#;
    check_read(
        &[(r#"{"text":"a"}"#, ""), (r#"{"text":"b"}"#, STOP)],
        vec![text("a"), text("b"), finish(StopReason::Stop)],
    );
    // Each chunk of some models has a reason.
    check_read(
        &[(r#"{"text":"a"}"#, STOP), (r#"{"text":"b"}"#, r#","finishReason":"MAX_TOKENS""#), ("", "")],
        vec![text("a"), text("b"), finish(StopReason::Length)],
    );
    check_read(
        &[
            (r#"{"text":"t","thought":true}"#, ""),
            (r#"{"text":"a","thoughtSignature":"s"}"#, ""),
            (r#"{"text":""}"#, STOP),
        ],
        vec![thinking("t"), PART_END, signature(Surface::Gemini, "s"), text("a"), finish(StopReason::Stop)],
    );
    check_read(
        &[(r#"{"functionCall":{"name":"f","args":{"a":1}}},{"functionCall":{"id":"i","name":"f"}}"#, STOP)],
        vec![
            call(0, "call_x1_0"),
            arguments(0, r#"{"a":1}"#),
            PART_END,
            call(1, "i"),
            arguments(1, "{}"),
            PART_END,
            finish(StopReason::ToolCalls),
        ],
    );
    check_read(&[("", r#","finishReason":"SAFETY""#)], vec![finish(StopReason::ContentFilter)]);
}

#[test]
fn usage_is_told_at_both_ends() {
    let usage = |output| Usage { input: 3, output, ..Usage::default() };
    let events = decoded(&[
        r#"{"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3},"modelVersion":"v"}"#,
        r#"{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2}}"#,
    ]);
    let start =
        Event::Start { id: String::new(), model: "v".into(), created_unix_s: None, usage: Some(usage(0)) };
    assert_eq!(events, [start, Event::Usage(usage(2)), Event::End]);
}

#[test]
fn a_blocked_prompt_is_a_refusal() {
    let events = decoded(&[r#"{"promptFeedback":{"blockReason":"SAFETY"},"responseId":"r"}"#]);
    let refusal = Event::Refusal { choice: 0, text: refusal("SAFETY") };
    assert_eq!(events, [start(), refusal, finish(StopReason::ContentFilter), Event::End]);
}

#[test]
fn an_error_ends_a_stream() {
    let error = r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#;
    let failed = Event::Failed(ApiError {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: "m".into(),
        kind: Some("UNAVAILABLE".into()),
        code: None,
        param: None,
    });
    assert_eq!(decoded(&[error, "nothing more is read"]), [failed]);
    assert_eq!(decoded(&["[DONE]"]).last(), Some(&Event::End));
}

#[test]
fn a_citation_is_about_the_text_so_far() {
    const GROUNDING: &str = r#","groundingMetadata":{"groundingChunks":[{"web":{"uri":"u"}}],"groundingSupports":[
        {"segment":{"startIndex":2,"endIndex":4},"groundingChunkIndices":[0]}]}"#;
    let (first, last) = (chunk(r#"{"text":"é"}"#, ""), chunk(r#"{"text":"bc"}"#, GROUNDING));
    let events = decoded(&[&first, &last, &last.replace(r#"{"text":"bc"}"#, "")]);
    let citations = events.iter().filter_map(|event| match event {
        Event::Citation { citation, .. } => Some((citation.url.as_deref(), citation.range)),
        _ => None,
    });
    assert_eq!(citations.collect::<Vec<_>>(), [(Some("u"), Some((1, 3)))]);
}

#[test]
fn a_citation_stands_behind_its_text_and_before_what_follows() {
    const GROUNDING: &str = r#","groundingMetadata":{"groundingChunks":[{"web":{"uri":"u"}}],"groundingSupports":[
        {"segment":{"endIndex":1},"groundingChunkIndices":[0]}]}"#;
    let cited = |events: &[Event]| {
        let place = events.iter().position(|event| matches!(event, Event::Citation { .. })).unwrap();
        (events[place - 1].clone(), events[place + 1].clone())
    };
    let signed = r#"{"text":"","thoughtSignature":"s"}"#;
    let events = decoded(&[&chunk(r#"{"text":"a"}"#, ""), &chunk(signed, GROUNDING)]);
    assert_eq!(cited(&events), (text("a"), signature(Surface::Gemini, "s")));
    let events = decoded(&[&chunk(&format!(r#"{{"text":"a"}},{signed}"#), GROUNDING)]);
    assert_eq!(cited(&events), (text("a"), signature(Surface::Gemini, "s")));
}

fn encoded(events: &[Event]) -> String {
    let (mut encoder, mut out) = (EventEncoder::new(&asked()), Vec::new());
    events.iter().for_each(|event| encoder.push(event, &mut out));
    String::from_utf8(out).unwrap()
}

/// The steps read of what was written.
fn again(events: &[Event]) -> Vec<Event> {
    let written = encoded(events);
    let chunks: Vec<_> = written.split("\n\n").filter(|chunk| !chunk.is_empty()).collect();
    let chunks: Vec<_> = chunks.iter().map(|chunk| chunk.trim().strip_prefix("data: ").unwrap()).collect();
    decoded(&chunks)
}

fn begin() -> Event {
    Event::Start { id: "r".into(), model: "m".into(), created_unix_s: None, usage: None }
}

// parity: 99
#[test]
fn steps_are_chunks() {
    let usage = Usage { input: 3, output: 2, ..Usage::default() };
    let events = [begin(), text("a"), Event::Ping, finish(StopReason::Stop), Event::Usage(usage), Event::End];
    assert_eq!(
        encoded(&events),
        concat!(
            r#"data: {"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"},"index":0}],"modelVersion":"m","responseId":"r"}"#,
            "\n\n\n",
            r#"data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5},"modelVersion":"m","responseId":"r"}"#,
            "\n\n",
        )
    );
    assert_eq!(encoded(&[Event::End]), "");
}

#[track_caller]
fn check_written(events: Vec<Event>, expected: Vec<Event>) {
    let whole = |events: Vec<Event>| -> Vec<_> {
        [begin()].into_iter().chain(events).chain([finish(StopReason::ToolCalls), Event::End]).collect()
    };
    let read = again(&whole(events));
    let expected: Vec<_> = whole(expected);
    let known = |event: &Event| !matches!(event, Event::Finish { .. });
    let (read, expected): (Vec<_>, Vec<_>) =
        (read.into_iter().filter(known).collect(), expected.into_iter().filter(known).collect());
    assert_eq!(read, expected);
}

// parity: 99, 100
#[test]
fn calls_are_sent_whole_and_in_order() {
    let whole = |index, id, json| [call(index, id), arguments(index, json), PART_END];
    let both = || [whole(0, "i", r#"{"a":1}"#), whole(1, "j", r#"{"b":2}"#)].concat();
    // In pieces, with and without a word for the end.
    check_written(
        vec![call(0, "i"), arguments(0, "{\"a\""), arguments(0, ":1}"), PART_END],
        whole(0, "i", r#"{"a":1}"#).into(),
    );
    check_written(
        vec![call(0, "i"), arguments(0, "{\"a\""), arguments(0, ":1}")],
        whole(0, "i", r#"{"a":1}"#).into(),
    );
    // In turns.
    check_written(
        vec![
            call(0, "i"),
            call(1, "j"),
            arguments(1, "{\"b\""),
            arguments(0, "{\"a\""),
            arguments(1, ":2}"),
            PART_END,
            arguments(0, ":1}"),
            PART_END,
        ],
        both(),
    );
    // A text between them does not cut a call that is not whole.
    check_written(
        vec![
            call(0, "i"),
            arguments(0, "{\"a\":"),
            text("x"),
            arguments(0, "1}"),
            call(1, "j"),
            arguments(1, r#"{"b":2}"#),
        ],
        [vec![text("x")], both()].concat(),
    );
    check_written(
        vec![call(0, "i"), arguments(0, r#"{"a":1}"#), text("x")],
        [whole(0, "i", r#"{"a":1}"#).as_slice(), &[text("x")]].concat(),
    );
    check_written(vec![call(0, "i")], whole(0, "i", "{}").into());
    check_written(
        vec![call(0, "i"), arguments(0, "{\"a\":"), PART_END],
        whole(0, "i", r#"{"raw_arguments":"{\"a\":"}"#).into(),
    );
}

#[test]
fn another_vendors_thinking_comes_back() {
    let redacted = Event::RedactedThinking {
        choice: 0,
        data: Signature { surface: Surface::Messages, value: "d".into() },
    };
    let events = vec![
        thinking("a"),
        thinking("b"),
        signature(Surface::Messages, "s"),
        redacted,
        signature(Surface::Responses, "alone"),
        text("c"),
        signature(Surface::Gemini, "own"),
        text("d"),
    ];
    check_written(events.clone(), events);
}

#[test]
fn googles_own_words_pass() {
    let image = chunk(r#"{"inlineData":{"mimeType":"image/png","data":"AA=="}}"#, "");
    let events = decoded(&[&image]);
    let is_other = |event: &Event| matches!(event, Event::Other(_));
    assert_eq!(events.iter().filter(|event| is_other(event)).count(), 1);
    assert_eq!(
        again(&events).iter().find(|event| is_other(event)),
        events.iter().find(|event| is_other(event))
    );
    let foreign = Event::Other(Raw::new(r#"{"type":"content_block_start"}"#).unwrap());
    assert_eq!(encoded(&[foreign]), "");
}

#[test]
fn a_failure_is_an_error_of_googles() {
    let error = ApiError {
        status: StatusCode::BAD_GATEWAY,
        message: "m".into(),
        kind: None,
        code: None,
        param: None,
    };
    assert_eq!(
        encoded(&[begin(), Event::Failed(error)]),
        "data: {\"error\":{\"code\":502,\"message\":\"m\",\"status\":\"UNAVAILABLE\"}}\n\n"
    );
}

#[test]
fn citations_and_probabilities_come_back() {
    let citation = Citation { url: Some("u".into()), range: Some((1, 2)), ..Citation::default() };
    let tokens = vec![TokenLogprob { token: "b".into(), logprob: -0.25, top: vec![("c".into(), -2.0)] }];
    let events = [
        begin(),
        text("aé"),
        Event::Citation { choice: 0, citation: citation.clone() },
        Event::Logprobs { choice: 0, tokens: tokens.clone() },
        finish(StopReason::Stop),
        Event::End,
    ];
    let read = again(&events);
    assert!(read.contains(&Event::Logprobs { choice: 0, tokens }));
    let found = read.iter().find_map(|event| match event {
        Event::Citation { citation, .. } => Some(Citation { original: None, ..citation.clone() }),
        _ => None,
    });
    assert_eq!(found, Some(citation));
}

/// Everything that a client of Google's is sent for a stream of Google's, cut at these places.
fn converted(stream: &str, cuts: &[prop::sample::Index]) -> Vec<u8> {
    let mut converter = StreamConverter::new(Surface::Gemini, Surface::Gemini, &asked());
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    let mut out = Vec::new();
    for piece in places.windows(2) {
        let piece = Bytes::copy_from_slice(&stream.as_bytes()[piece[0]..piece[1]]);
        converter.push_all(std::iter::once(piece), &mut out).unwrap();
    }
    converter.finish(&mut out);
    out.concat()
}

fn step() -> impl Strategy<Value = Event> {
    let word = || "[a-z\"\\\\{}é]{0,4}";
    let choice = || 0..3_u32;
    prop_oneof![
        (choice(), word()).prop_map(|(choice, text)| Event::Text { choice, text }),
        (choice(), word()).prop_map(|(choice, text)| Event::Thinking { choice, text }),
        (choice(), word()).prop_map(|(choice, value)| Event::Signature {
            choice,
            signature: Signature { surface: Surface::Messages, value }
        }),
        (choice(), 0..3_u32, word()).prop_map(|(choice, index, id)| Event::ToolCall {
            choice,
            index,
            id: id.clone(),
            name: id,
            signature: None
        }),
        (choice(), 0..3_u32, word()).prop_map(|(choice, index, json)| Event::Arguments {
            choice,
            index,
            json
        }),
        choice().prop_map(|choice| Event::PartEnd { choice }),
        choice().prop_map(|choice| finished(choice, StopReason::Stop)),
        (choice(), any::<u64>(), any::<u64>()).prop_map(|(choice, start, end)| Event::Citation {
            choice,
            citation: Citation { url: Some("u".into()), range: Some((start, end)), ..Citation::default() }
        }),
        Just(Event::Ping),
        Just(Event::End),
        Just(begin()),
    ]
}

proptest! {
    // parity: 99
    #[test]
    fn any_split_gives_the_same(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let chunks = [
            chunk(r#"{"text":"thé","thought":true}"#, ""),
            chunk(r#"{"text":"a\u00e9"},{"functionCall":{"name":"f","args":{"a":"b"}},"thoughtSignature":"s"}"#, ""),
            chunk(r#"{"text":""}"#, r#","finishReason":"STOP""#),
        ];
        let stream: String = chunks.iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect();
        prop_assert_eq!(converted(&stream, &cuts), converted(&stream, &[]));
    }

    #[test]
    fn any_order_of_steps_is_written_as_chunks(steps in prop::collection::vec(step(), 0..24)) {
        let (mut encoder, mut out) = (EventEncoder::new(&asked()), Vec::new());
        steps.iter().for_each(|step| encoder.push(step, &mut out));
        let written = String::from_utf8(out).unwrap();
        let mut decoder = EventDecoder::new("x1");
        let mut read = Vec::new();
        for line in written.lines().filter(|line| !line.is_empty()) {
            decoder.push(None, line.strip_prefix("data: ").unwrap().as_bytes(), &mut read).unwrap();
        }
    }

    #[test]
    fn no_data_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..64), cuts in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\",:0-9a-z]"), 0..4)) {
        let mut data = chunk(r#"{"text":"a","thoughtSignature":"A"},{"functionCall":{"name":"f","args":{}}}"#,
            r#","groundingMetadata":{"groundingChunks":[{"web":{"uri":"u"}}],"groundingSupports":[{"segment":{"endIndex":4},"groundingChunkIndices":[0]}]},"logprobsResult":{"chosenCandidates":[{"token":"a"}]}"#).into_bytes();
        for (at, byte) in cuts {
            let at = at.index(data.len());
            data[at] = byte.as_bytes()[0];
        }
        let (mut decoder, mut events) = (EventDecoder::new("x1"), Vec::new());
        let _ = decoder.push(None, &bytes, &mut events);
        let _ = decoder.push(None, &data, &mut events);
        decoder.finish(&mut events);
        prop_assert_eq!(events.iter().filter(|event| matches!(event, Event::Start { .. })).count() <= 1, true);
    }
}

// parity: 101
#[test]
fn a_call_that_is_too_large_ends_the_stream_with_an_error() {
    let piece = "x".repeat(1 << 20);
    let mut events = vec![begin(), call(0, "c"), arguments(0, r#"{"a":""#)];
    events.extend((0..18).map(|_| arguments(0, &piece)));
    events.extend([arguments(0, r#"END"}"#), finish(StopReason::ToolCalls), Event::End]);
    let written = encoded(&events);
    assert!(
        written.contains(r#""code":502"#) && !written.contains("functionCall"),
        "{} bytes",
        written.len()
    );
    let calls = (0..=u32::try_from(CALLS_MAX).unwrap()).map(|index| call(index, "c"));
    let written = encoded(&[begin()].into_iter().chain(calls).chain([Event::End]).collect::<Vec<_>>());
    assert!(written.contains(r#""code":502"#) && !written.contains("functionCall"));
}

// parity: 106
#[test]
fn what_breaks_off_is_an_error_and_no_end() {
    let broken = r#"{"candidates":[{"content":{"parts":[{"text":"Let me"}]},"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"print(f("}]}"#;
    let mut out = Vec::new();
    let error = EventDecoder::new("x1").push(None, broken.as_bytes(), &mut out).unwrap_err();
    let message = "the upstream's model broke off: MALFORMED_FUNCTION_CALL: print(f(";
    assert_eq!((error.kind, &*error.message), (crate::error::ErrorKind::UpstreamInvalid, message));
    assert_eq!(out[1..], [text("Let me")]);
    let error = reply::decode_reply(broken.as_bytes(), "x1").unwrap_err();
    assert_eq!((error.kind, &*error.message), (crate::error::ErrorKind::UpstreamInvalid, message));
    // Of several answers the others are whole.
    let one_of = r#"{"candidates":[{"finishReason":"MALFORMED_RESPONSE"},{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}"#;
    assert_eq!(reply::decode_reply(one_of.as_bytes(), "x1").unwrap().choices.len(), 2);
}
