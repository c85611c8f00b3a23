//! How streams of Anthropic's and of Google's are watched.

use proptest::prelude::*;

use super::*;

fn rules(endpoint: Endpoint) -> Rules {
    // What edits answers of OpenAI's does nothing to these.
    Rules {
        endpoint,
        hides_usage: true,
        special_prefix: Some("p".into()),
        thinking: ThinkingFormat::ReasoningContent,
    }
}

struct Run {
    output: Vec<u8>,
    seen: Seen,
    opening: Opening,
    ending: Ending,
}

fn run(endpoint: Endpoint, chunks: &[&[u8]]) -> Run {
    let mut filter = Filter::new(rules(endpoint));
    let mut out = Vec::new();
    for chunk in chunks {
        filter.push(Bytes::copy_from_slice(chunk), &mut out).unwrap();
    }
    let ending = filter.finish(&mut out);
    Run { output: out.concat(), seen: filter.seen, opening: filter.opening, ending }
}

/// A stream goes through as it is and ends so; every cut of it is watched alike.
#[track_caller]
fn check(endpoint: Endpoint, input: &str, ending: Ending) -> Seen {
    let whole = run(endpoint, &[input.as_bytes()]);
    assert_eq!((str::from_utf8(&whole.output).unwrap(), whole.ending), (input, ending));
    let mut cuts: Vec<Vec<&[u8]>> = (0..=input.len())
        .map(|at| input.as_bytes().split_at(at))
        .map(|(head, tail)| vec![head, tail])
        .collect();
    cuts.push(input.as_bytes().chunks(1).collect());
    for cut in cuts {
        let cut = run(endpoint, &cut);
        assert_eq!(
            (cut.output, cut.seen, cut.opening),
            (whole.output.clone(), whole.seen.clone(), whole.opening.clone())
        );
        assert_eq!(cut.ending, ending);
    }
    whole.seen
}

#[track_caller]
fn check_opening(endpoint: Endpoint, input: &str, expected: Opening) {
    assert_eq!(run(endpoint, &[input.as_bytes()]).opening, expected, "{input}");
}

fn event(kind: &str, members: &str) -> String {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{members}}}\n\n")
}

fn start() -> String {
    event(
        "message_start",
        r#","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"cache_read_input_tokens":10,"cache_creation_input_tokens":100,"output_tokens":1}}"#,
    )
}

fn block(block: &str, deltas: &[&str]) -> String {
    let deltas =
        deltas.iter().map(|delta| event("content_block_delta", &format!(r#","index":0,"delta":{delta}"#)));
    event("content_block_start", &format!(r#","index":0,"content_block":{block}"#))
        + &event("ping", "")
        + &deltas.collect::<String>()
        + &event("content_block_stop", r#","index":0"#)
}

fn text() -> String {
    let deltas = [r#"{"type":"text_delta","text":"a"}"#, r#"{"type":"text_delta","text":"\"usage\":{}"}"#];
    block(r#"{"type":"text","text":""}"#, &deltas)
}

fn stop(reason: &str) -> String {
    event(
        "message_delta",
        &format!(
            r#","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":40}}"#
        ),
    )
}

const END: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

const FAILED: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"no"}}"#;

fn failed() -> String {
    format!("event: error\ndata: {FAILED}\n\n")
}

fn usage(output: u64) -> Option<Usage> {
    Some(Usage { input: 113, output, cached: 10, cache_written: 100, ..Usage::default() })
}

// parity: 159
#[test]
fn a_message_is_watched_to_its_end() {
    let input = start() + &text() + &stop("max_tokens") + END;
    let seen = check(Endpoint::Messages, &input, Ending::Complete);
    let expected = Seen {
        events: 8,
        has_content: true,
        finish_reason: Some(StopReason::Length),
        usage: usage(40),
        error: None,
        is_done: true,
    };
    assert_eq!(seen, expected);
    // Without names, with spaces, and without the last blank line.
    let bare: String =
        input.lines().filter(|line| !line.starts_with("event:")).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(check(Endpoint::Messages, &bare, Ending::Complete), expected);
    assert_eq!(check(Endpoint::Messages, &input.replace("\":", "\": "), Ending::Complete), expected);
    let mut filter = Filter::new(rules(Endpoint::Messages));
    let mut out = Vec::new();
    filter.push(Bytes::from(input.trim_end().to_owned()), &mut out).unwrap();
    assert_eq!((filter.finish(&mut out), out.concat()), (Ending::Complete, input.into_bytes()));
}

#[test]
fn untouched_events_of_a_message_are_the_very_bytes_that_came() {
    for (endpoint, input) in [
        (Endpoint::Messages, start() + &text() + &text()),
        (Endpoint::GenerateContent, chunk(r#"{"text":"a"}"#, "", "") + &chunk(r#"{"text":"b"}"#, "", "")),
    ] {
        let mut filter = Filter::new(rules(endpoint));
        let chunk = Bytes::from(input);
        let mut out = Vec::new();
        filter.push(chunk.clone(), &mut out).unwrap();
        assert_eq!((out.len(), out[0].as_ptr(), out[0].len()), (1, chunk.as_ptr(), chunk.len()));
    }
}

// parity: 125
#[test]
fn a_message_without_its_last_event_is_cut() {
    let messages = Endpoint::Messages;
    assert_eq!(check(messages, &start(), Ending::Truncated).usage, usage(1));
    check(messages, "", Ending::Truncated);
    check(messages, &(start() + &text()), Ending::Truncated);
    let seen = check(messages, &(start() + &text() + &stop("end_turn")), Ending::Truncated);
    assert_eq!(seen.finish_reason, Some(StopReason::Stop));
    let seen = check(messages, &(start() + &text() + &failed()), Ending::Truncated);
    assert_eq!((seen.error.as_deref(), seen.is_done), (Some("no"), false));
    // What breaks off in the middle of its JSON is left out.
    let whole = start() + &text();
    let out = run(messages, &[whole.as_bytes(), b"event: message_stop\ndata: {\"ty"]);
    assert_eq!((out.output, out.ending), (whole.into_bytes(), Ending::Truncated));
    check(messages, "data: [DONE]\n\n", Ending::Truncated);
}

// parity: 118
#[test]
fn the_first_that_counts_is_how_a_message_begins() {
    let messages = Endpoint::Messages;
    let begun = |kind: &str| event("content_block_start", &format!(r#","index":0,"content_block":{kind}"#));
    for pending in [
        start(),
        start() + &event("ping", ""),
        start() + &begun(r#"{"type":"text","text":""}"#),
        start() + &begun(r#"{"type":"thinking","thinking":"","signature":""}"#),
        "data: 5\n\n".to_owned(),
    ] {
        check_opening(messages, &pending, Opening::Pending);
    }
    for content in [
        r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#,
        r#"{"type":"redacted_thinking","data":"x"}"#,
        r#"{"type":"server_tool_use","id":"t","name":"f","input":{}}"#,
        r#"{"type":"text","text":"a"}"#,
    ] {
        check_opening(messages, &(start() + &begun(content)), Opening::Answered);
    }
    for delta in [
        r#"{"type":"text_delta","text":"a"}"#,
        r#"{"type":"thinking_delta","thinking":"a"}"#,
        r#"{"type":"signature_delta","signature":"a"}"#,
        r#"{"type":"input_json_delta","partial_json":"{"}"#,
        r#"{"type":"citations_delta","citation":{"a":1}}"#,
    ] {
        let delta = event("content_block_delta", &format!(r#","index":0,"delta":{delta}"#));
        check_opening(messages, &(start() + &delta), Opening::Answered);
    }
    check_opening(messages, &(start() + &stop("end_turn")), Opening::Answered);
    check_opening(messages, &(start() + END), Opening::Answered);
    check_opening(messages, &(start() + &failed() + &text()), Opening::Failed(FAILED.into()));
    check_opening(messages, &(start() + &text() + &failed()), Opening::Answered);
    check_opening(messages, &(start() + "event: error\ndata: {}\n\n"), Opening::Failed("{}".into()));
    check_opening(messages, &(start() + "data: oops\n\n"), Opening::Malformed);
}

fn chunk(part: &str, candidate: &str, members: &str) -> String {
    let content = format!(r#"{{"content":{{"parts":[{part}],"role":"model"}}{candidate},"index":0}}"#);
    format!("data: {{\"candidates\": [{content}]{members},\"modelVersion\":\"m\"}}\r\n\r\n")
}

fn metadata(counts: &str) -> String {
    format!(r#","usageMetadata":{{"promptTokenCount":3,{counts}}}"#)
}

const STOPPED: &str = r#","finishReason":"STOP""#;

// parity: 159
#[test]
fn an_answer_of_googles_is_watched_to_its_end() {
    let gemini = Endpoint::GenerateContent;
    let thought = chunk(r#"{"text":"t","thought":true}"#, "", &metadata(r#""totalTokenCount":3"#));
    let text =
        chunk(r#"{"text":"a \"finishReason\":\"STOP\""}"#, "", &metadata(r#""candidatesTokenCount":1"#));
    let counts = r#""candidatesTokenCount":4,"thoughtsTokenCount":5,"totalTokenCount":12"#;
    let last = chunk(r#"{"text":"","thoughtSignature":"x"}"#, STOPPED, &metadata(counts));
    let input = thought + &text + &last;
    let seen = check(gemini, &input, Ending::Complete);
    let expected = Seen {
        events: 3,
        has_content: true,
        finish_reason: Some(StopReason::Stop),
        usage: Some(Usage { input: 3, output: 9, reasoning: 5, ..Usage::default() }),
        error: None,
        is_done: false,
    };
    assert_eq!(seen, expected);
    let unterminated = input.trim_end();
    let out = run(gemini, &[unterminated.as_bytes()]);
    assert_eq!((out.seen, out.ending), (expected.clone(), Ending::Complete));
    assert_eq!(out.output, [unterminated, "\n\n"].concat().into_bytes());
    let snake = input
        .replace("finishReason\":", "finish_reason\":")
        .replace("usageMetadata", "usage_metadata")
        .replace("promptTokenCount", "prompt_token_count")
        .replace("candidatesTokenCount", "candidates_token_count")
        .replace("thoughtsTokenCount", "thoughts_token_count");
    assert_eq!(check(gemini, &snake, Ending::Complete), expected);
}

#[test]
fn a_function_that_is_called_is_why_an_answer_of_googles_ends() {
    let gemini = Endpoint::GenerateContent;
    let call = r#"{"functionCall":{"name":"f","args":{}}}"#;
    let reason = |input: &str| check(gemini, input, Ending::Complete).finish_reason;
    assert_eq!(reason(&chunk(call, STOPPED, "")), Some(StopReason::ToolCalls));
    let before = chunk(call, "", "") + &chunk(r#"{"text":""}"#, STOPPED, "");
    assert_eq!(reason(&before), Some(StopReason::ToolCalls));
    let limit = chunk(call, r#","finishReason":"MAX_TOKENS""#, "");
    assert_eq!(reason(&limit), Some(StopReason::Length));
}

// parity: 125
#[test]
fn an_answer_of_googles_is_whole_when_every_candidate_has_ended() {
    let gemini = Endpoint::GenerateContent;
    let text = chunk(r#"{"text":"a"}"#, "", "");
    let end = chunk(r#"{"text":"a"}"#, STOPPED, "");
    let second = |chunk: &str| chunk.replace("\"index\":0", "\"index\":1");
    for cut in [
        "",
        &*text,
        &*chunk(r#"{"text":"a"}"#, r#","finishReason":"FINISH_REASON_UNSPECIFIED""#, ""),
        &*(text.clone() + &second(&text) + &end),
        &*(end.clone() + &second(&text)),
        "data: {\"usageMetadata\":{\"promptTokenCount\":3}}\n\n",
        "data: [DONE]\n\n",
    ] {
        check(gemini, cut, Ending::Truncated);
    }
    check(gemini, &(text.clone() + &second(&text) + &end + &second(&end)), Ending::Complete);
    let blocked = "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{\"promptTokenCount\":3}}\n\n";
    let seen = check(gemini, blocked, Ending::Complete);
    assert_eq!((seen.finish_reason, seen.has_content), (Some(StopReason::ContentFilter), false));
    let error = "data: {\"error\":{\"code\":503,\"message\":\"no\",\"status\":\"UNAVAILABLE\"}}\n\n";
    let seen = check(gemini, &(end + error), Ending::Truncated);
    assert_eq!(seen.error.as_deref(), Some("no"));
}

// parity: 118
#[test]
fn the_first_that_counts_is_how_an_answer_of_googles_begins() {
    let gemini = Endpoint::GenerateContent;
    let usage = "data: {\"usageMetadata\":{\"promptTokenCount\":3}}\n\n";
    for pending in
        ["", ": ping\n\n", usage, "data: {}\n\n", &chunk(r#"{"text":""}"#, "", ""), &chunk("", "", "")]
    {
        check_opening(gemini, pending, Opening::Pending);
    }
    for part in [r#"{"text":"a"}"#, r#"{"functionCall":{"name":"f"}}"#, r#"{"text":"a","thought":true}"#] {
        check_opening(gemini, &chunk(part, "", ""), Opening::Answered);
    }
    check_opening(gemini, &chunk("", STOPPED, ""), Opening::Answered);
    let feedback =
        |reason: &str| format!("data: {{\"promptFeedback\":{{\"blockReason\":\"{reason}\"}}}}\n\n");
    check_opening(gemini, &feedback("OTHER"), Opening::Answered);
    check_opening(gemini, &feedback("BLOCKED_REASON_UNSPECIFIED"), Opening::Pending);
    let error = r#"{"error":{"code":503,"message":"no","status":"UNAVAILABLE"}}"#;
    check_opening(gemini, &format!("{usage}data: {error}\n\n"), Opening::Failed(error.into()));
    check_opening(gemini, "data: oops\n\n", Opening::Malformed);
}

#[test]
fn what_makes_no_sense_is_forwarded() {
    let junk = [
        "5",
        "null",
        "[]",
        "{}",
        r#"{"type":7,"delta":8,"message":9,"content_block":[],"usage":"x","error":false,"content":1}"#,
        r#"{"type":"content_block_delta","index":-1,"delta":{"type":7,"text":5,"thinking":null}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":7},"usage":[1]}"#,
        r#"{"candidates":{}}"#,
        r#"{"candidates":[1,null,{"content":5,"finishReason":7,"index":1e99}]}"#,
        r#"{"candidates":[{"content":{"parts":{}}},{"content":{"parts":[1,null]}}],"promptFeedback":7}"#,
        r#"[{"candidates":7}, 8]"#,
    ];
    let input: String = junk.iter().map(|data| format!("data: {data}\n\n")).collect();
    for endpoint in [Endpoint::Messages, Endpoint::GenerateContent] {
        let seen = check(endpoint, &input, Ending::Truncated);
        assert_eq!((seen.events, seen.usage, seen.error), (junk.len() as u64, None, None));
    }
}

proptest! {
    #[test]
    fn any_cut_of_any_bytes_is_watched_alike(
        pieces in prop::collection::vec(
            prop_oneof![
                Just(start()), Just(text()), Just(stop("tool_use")), Just(END.to_owned()), Just(failed()),
                Just(event("ping", "")), Just(chunk(r#"{"text":"a"}"#, "", "")), Just(chunk("", STOPPED, "")),
                Just(chunk("", "", &metadata(r#""totalTokenCount":3"#))),
                Just("data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n".to_owned()),
                prop::sample::select(vec![
                    "data: ", "\n\n", "\n", "\r", "event: content_block_delta\n", "data: {\"type\":\"content_block_delta\"",
                    "{\"candidates\":[", "{\"content\":{\"parts\":[", "\"delta\":{", "\"usage\":{", "}", "]}", "[DONE]", ":",
                ]).prop_map(str::to_owned),
            ].prop_map(String::into_bytes).boxed().prop_union(prop::collection::vec(any::<u8>(), 0..5).boxed()),
            0..14,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        endpoint in prop::sample::select(vec![Endpoint::Messages, Endpoint::GenerateContent]),
    ) {
        let input = pieces.concat();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        let (whole, cut) = (run(endpoint, &[&input]), run(endpoint, &chunks));
        prop_assert_eq!(&cut.output, &whole.output);
        prop_assert_eq!((cut.seen, cut.opening, cut.ending), (whole.seen, whole.opening, whole.ending));
        // All that may lack is an end that broke off, all that may be added is a blank line.
        let shared = whole.output.iter().zip(&input).take_while(|(left, right)| left == right).count();
        prop_assert!(whole.output[shared..].iter().all(|byte| *byte == b'\n'));
    }
}
