use super::*;
use crate::chat::Citation;

fn asked() -> Asked {
    Asked {
        model: "alias".into(),
        id: "x1".into(),
        created_unix_s: 0,
        asks_usage: false,
        request: Bytes::new(),
    }
}

#[track_caller]
fn check_choice(candidate: &str, stop: Option<StopReason>, parts: &[Content]) {
    let body = format!(r#"{{"candidates":[{candidate}],"modelVersion":"m","responseId":"r"}}"#);
    let reply = decode_reply(body.as_bytes(), "x1").unwrap();
    assert_eq!((&*reply.model, &*reply.id), ("m", "r"));
    let [choice] = &reply.choices[..] else { panic!("{} choices", reply.choices.len()) };
    let contents: Vec<_> = choice.parts.iter().map(|part| part.content.clone()).collect();
    assert_eq!((choice.stop, &*contents), (stop, parts));
}

fn text(text: &str) -> Content {
    Content::Text { text: text.into(), citations: Vec::new() }
}

fn call(id: &str, arguments: &str, signature: Option<&str>) -> Content {
    let signature = signature.map(|value| Signature { surface: Surface::Gemini, value: value.into() });
    Content::ToolCall { id: id.into(), name: "f".into(), arguments: arguments.into(), signature }
}

// parity: 98, 100
#[test]
fn a_candidate_is_a_choice() {
    check_choice(
        r#"{"content":{"role":"model","parts":[{"text":"t","thought":true},{"text":"a"},{"text":""}]},"finishReason":"STOP"}"#,
        Some(StopReason::Stop),
        &[Content::Thinking { text: "t".into(), signature: None }, text("a")],
    );
    check_choice(
        r#"{"finishReason":"STOP","content":{"parts":[
            {"functionCall":{"name":"f","args":{"a": 1}},"thoughtSignature":"s+/="},{"functionCall":{"id":"i","name":"f"}}]}}"#,
        Some(StopReason::ToolCalls),
        &[call("call_x1_0", r#"{"a":1}"#, Some("s+/=")), call("i", "{}", None)],
    );
    check_choice(
        r#"{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"AA=="}}]}}"#,
        None,
        &[Content::Image {
            source: Source::Data { media_type: "image/png".into(), base64: "AA==".into() },
            detail: None,
        }],
    );
    check_choice(
        r#"{"finishReason":"MAX_TOKENS","content":{"role":"model"}}"#,
        Some(StopReason::Length),
        &[],
    );
}

// parity: 106
#[test]
fn every_reason_has_its_word() {
    for reason in [StopReason::Stop, StopReason::Length, StopReason::ContentFilter, StopReason::Other] {
        assert_eq!(StopReason::of_gemini(finish_reason(reason)), Some(reason));
    }
}

// parity: 106
#[test]
fn a_blocked_prompt_is_a_refusal() {
    let body =
        br#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":4}}"#;
    let reply = decode_reply(body, "x1").unwrap();
    let [choice] = &reply.choices[..] else { panic!() };
    assert_eq!(choice.stop, Some(StopReason::ContentFilter));
    let refusal = "the upstream did not answer this prompt: PROHIBITED_CONTENT";
    assert_eq!(choice.parts, [Part::new(Content::Refusal(refusal.into()))]);
    assert_eq!(reply.usage.map(|usage| usage.input), Some(4));
}

#[test]
fn pages_are_cited_at_characters() {
    let body = r#"{"candidates":[{"content":{"parts":[{"text":"t","thought":true},{"text":"aé bc"}]},
        "groundingMetadata":{"groundingChunks":[{"web":{"uri":"u","title":"n"}},{"image":{}}],
            "groundingSupports":[{"segment":{"startIndex":1,"endIndex":3,"partIndex":1},"groundingChunkIndices":[0,1,9]}]},
        "citationMetadata":{"citations":[{"endIndex":4,"uri":"v"},{"startIndex":2,"endIndex":4}]}}]}"#;
    let reply = decode_reply(body.as_bytes(), "x1").unwrap();
    let Content::Text { citations, .. } = &reply.choices[0].parts[1].content else { panic!() };
    let told =
        citations.iter().map(|Citation { url, title, range, .. }| (url.as_deref(), title.as_deref(), *range));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (Some("u"), Some("n"), Some((1, 2))),
            (Some("v"), None, Some((0, 3))),
            // In the middle of a character.
            (None, None, None),
        ]
    );
}

#[track_caller]
fn check_invalid(body: &str, reason: &str) {
    let error = decode_reply(body.as_bytes(), "x1").unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamInvalid);
    assert_eq!((&*error.message, error.param), (reason, None));
}

#[test]
fn what_is_no_answer_is_the_upstreams_fault() {
    check_invalid("{}", "the upstream's answer has no `candidates`");
    check_invalid("[]", "the upstream's answer is not valid: `the document` must be an object");
    check_invalid(
        r#"{"candidates":[{"content":{"parts":[{"text":{}}]}}]}"#,
        "the upstream's answer is not valid: `candidates[0].content.parts[0].text` must be a string",
    );
    check_invalid(
        r#"{"candidates":[{"index":4294967296}]}"#,
        "the upstream's answer is not valid: `candidates[0].index` must be the number of a candidate",
    );
    check_invalid(r#"{"error":{"code":500,"message":"m"}}"#, "the upstream answered with an error: m");
    let many = vec!["{}"; CHOICES_MAX + 1].join(",");
    check_invalid(
        &format!(r#"{{"candidates":[{many}]}}"#),
        "the upstream's answer is not valid: there are more than 128 candidates",
    );
}

fn reply(choices: Vec<Choice>) -> Reply {
    let usage = Usage { input: 5, output: 7, cached: 1, reasoning: 2, ..Usage::default() };
    Reply {
        surface: Surface::Gemini,
        id: "r".into(),
        model: "alias".into(),
        created_unix_s: None,
        choices,
        usage: Some(usage),
        extra: Extra::default(),
    }
}

// parity: 98, 110
#[test]
fn an_answer_is_read_as_it_is_written() {
    let foreign = |value: &str| Some(Signature { surface: Surface::Messages, value: value.into() });
    let own = || Some(Signature { surface: Surface::Gemini, value: "s-_".into() });
    let parts = [
        Content::Thinking { text: "t".into(), signature: foreign("a#b+/=") },
        Content::RedactedThinking(foreign("data").unwrap()),
        Content::Thinking { text: String::new(), signature: own() },
        text("a\n\"b\""),
        call("i", r#"{"a":[1,"é"]}"#, Some("s")),
        Content::Image {
            source: Source::Data { media_type: "image/png".into(), base64: "AA==".into() },
            detail: None,
        },
    ];
    let logprobs = vec![TokenLogprob { token: "a".into(), logprob: -0.5, top: vec![("b".into(), -1.0)] }];
    let first = Choice {
        parts: parts.into_iter().map(Part::new).collect(),
        stop: Some(StopReason::ToolCalls),
        logprobs,
        ..Choice::default()
    };
    let second = Choice { index: 1, stop: Some(StopReason::Length), ..Choice::default() };
    let reply = reply(vec![first, second]);
    let written = encode_reply(&Reply { model: "upstream's".into(), ..reply.clone() }, &asked());
    assert_eq!(decode_reply(&written, "x1").unwrap(), reply);
}

// parity: 98, 106
#[test]
fn an_answer_has_what_googles_clients_require() {
    let choice = Choice { stop: Some(StopReason::Stop), ..Choice::default() };
    let reply = Reply { id: String::new(), usage: None, ..reply(vec![choice]) };
    assert_eq!(
        encode_reply(&reply, &asked()),
        r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],"modelVersion":"alias","responseId":"x1"}"#
    );
}

#[test]
fn citations_are_written_at_bytes() {
    let citation = |url: &str, range| Citation { url: Some(url.into()), range, ..Citation::default() };
    let citations = vec![citation("u", Some((1, 2))), citation("v", None), citation("u", Some((0, 99)))];
    let part = Part::new(Content::Text { text: "aé".into(), citations });
    let choice = Choice { parts: vec![part], ..Choice::default() };
    let written = encode_reply(&Reply { surface: Surface::Chat, ..reply(vec![choice]) }, &asked());
    let written = String::from_utf8_lossy(&written);
    let expected = r#""groundingMetadata":{"groundingChunks":[{"web":{"uri":"u"}},{"web":{"uri":"v"}}],"groundingSupports":[{"segment":{"startIndex":1,"endIndex":3,"text":"é"},"groundingChunkIndices":[0]},{"segment":{"startIndex":0,"endIndex":3,"text":"aé"},"groundingChunkIndices":[0]}]}"#;
    assert!(written.contains(expected), "{written}");
}
