//! The plugins that are part of the program, in front of traffic, streamed and whole.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use witgate_tests::sse::chat_text;
use witgate_tests::{Answer, Gateway, Reply, Request, Upstream, eventually};

use super::{notes, probe, start};

fn builtin(name: &str, config: &str) -> String {
    format!("  - {{ name: {name}, source: \"builtin:{name}\", config: {config} }}\n")
}

fn saying(text: &'static str) -> Upstream {
    Upstream::new(move |request| {
        let pieces: Vec<&str> = text.split_inclusive(' ').collect();
        Reply::chat_as_asked(request, &pieces)
    })
}

/// The text that a client reads, whole and streamed, and those answers.
#[track_caller]
fn read(gateway: &Gateway, text: &str) -> (String, String, [Answer; 2]) {
    let whole = gateway.send(&Request::chat(text)).expect(200);
    let stream = gateway.send(&Request::chat_stream(text)).expect(200);
    let content = whole.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
    (content, chat_text(&stream.body), [whole, stream])
}

#[test]
fn think_strip_hides_thinking() {
    let upstream = saying("<think>hidden plan</think> The answer");
    let gateway = start(&upstream, &builtin("think-strip", "{}"));
    let (whole, stream, answers) = read(&gateway, "hi");
    assert_eq!((whole.as_str(), stream.as_str()), ("The answer", "The answer"));
    assert!(answers.iter().all(|answer| !answer.text().contains("hidden")));
}

#[test]
fn request_rewrite_edits_what_goes_out() {
    let upstream = saying("fine");
    let rules = "{ rules: [{ when: { models: [m] }, then: { system: { replace: Be brief. }, set: { /temperature: 0.25 }, default: { /top_p: 0.5 }, model: other, headers: { set: { x-team: search } }, tag: { rule: first } } }, { when: { headers: { x-mood: bad } }, then: { reject: { status: 422, code: bad_mood, message: smile } } }] }";
    let gateway = start(&upstream, &builtin("request-rewrite", rules));
    for request in [Request::chat("hi"), Request::chat_stream("hi")] {
        gateway.send(&request).expect(200);
        let sent = upstream.last();
        let body = sent.json();
        assert_eq!(body["messages"][0], json!({"role": "system", "content": "Be brief."}));
        assert_eq!(
            (&body["temperature"], &body["top_p"], &body["model"]),
            (&json!(0.25), &json!(0.5), &json!("other"))
        );
        assert_eq!(sent.header("x-team"), Some("search"));
        let refused = gateway.send(&request.header("x-mood", "bad")).expect(422);
        assert_eq!((refused.error_code().as_str(), refused.error_message().as_str()), ("bad_mood", "smile"));
    }
    assert_eq!(upstream.count(), 2);
}

#[test]
fn response_transform_edits_fields_headers_and_text() {
    let upstream = saying("the colour of it");
    let rules = "{ rules: [{ then: { set: { /model: house }, remove: [/usage, /created], text: [{ find: colour, replace: color }], headers: { set: { x-served-by: house } } } }] }";
    let gateway = start(&upstream, &builtin("response-transform", rules));
    let (whole, stream, answers) = read(&gateway, "hi");
    assert_eq!((whole.as_str(), stream.as_str()), ("the color of it", "the color of it"));
    assert!(answers.iter().all(|answer| answer.header("x-served-by") == Some("house")));
    assert_eq!(answers[0].json()["model"], "house");
    assert_eq!((answers[0].json().get("usage"), answers[0].json().get("created")), (None, None));
    let chunks: Vec<Value> =
        answers[1].events().iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
    assert!(!chunks.is_empty() && chunks.iter().all(|chunk| chunk["model"] == "house"), "{chunks:?}");
    assert!(chunks.iter().all(|chunk| chunk.get("created").is_none()), "{chunks:?}");
}

#[test]
fn redact_masks_both_directions() {
    let upstream = saying("write to bob@example.org or pay with 4111 1111 1111 1111 now");
    let gateway = start(&upstream, &builtin("redact", "{}"));
    let (whole, stream, _) = read(&gateway, "I am ann@example.org");
    let expected = "write to [email] or pay with [card] now";
    assert_eq!((whole.as_str(), stream.as_str()), (expected, expected));
    for request in upstream.requests() {
        assert_eq!(request.json()["messages"][0]["content"], "I am [email]");
    }
    let gateway = start(&upstream, &builtin("redact", "{ action: reject }"));
    for request in [Request::chat("I am ann@example.org"), Request::chat_stream("I am ann@example.org")] {
        assert_eq!(gateway.send(&request).expect(400).error_code(), "content_policy_violation");
    }
}

#[test]
fn audit_tags_label_exchanges() {
    let upstream = saying("fine");
    let tags = "{ tags: [{ name: team, from: { header: x-team } }, { name: size, from: completion_tokens, bands: [{ below: 10, value: small }, { value: large }] }] }";
    // The probe shows what labels an exchange has at its end.
    let gateway = start(&upstream, &(builtin("audit-tags", tags) + &probe("a", "{ notes: true }")));
    for request in [Request::chat("hi"), Request::chat_stream("hi")] {
        gateway.send(&request.header("x-team", "search")).expect(200);
    }
    let records = eventually("the records", || {
        let records: Vec<String> = notes(&gateway)
            .into_iter()
            .filter(|line| line.starts_with("record ") && line.contains("team=search"))
            .collect();
        (records.len() == 2).then_some(records)
    });
    assert!(records.iter().all(|line| line.contains("[team=search")), "{records:?}");
    eventually("the label that is known at the end", || {
        let rows = witgate_tests::audit::wait(&gateway, 2);
        let labels = rows.iter().filter(|row| row["labels"].is_string());
        let labels = labels.map(|row| witgate_tests::audit::parsed(row, "labels"));
        let is_small = |labels: &Value| labels["team"] == "search" && labels["size"] == "small";
        (labels.filter(is_small).count() == 2).then_some(())
    });
}

#[test]
fn key_auth_lets_callers_in_by_key() {
    let upstream = saying("fine");
    let hash: String = Sha256::digest(b"sk-alice").iter().map(|byte| format!("{byte:02x}")).collect();
    let keys = format!("{{ keys: [{{ name: alice, sha256: {hash}, tenant: team-a }}] }}");
    let plugins = builtin("key-auth", &keys)
        + &probe("a", "{ label: alice }").replace("allow:", "match: { keys: [alice] }, allow:");
    let gateway = start(&upstream, &plugins);
    for request in [Request::chat("hi"), Request::chat_stream("hi")] {
        for wrong in [request.clone(), request.clone().header("authorization", "Bearer sk-mallory")] {
            let refused = gateway.send(&wrong).expect(401);
            assert_eq!(refused.error_code(), "invalid_api_key");
        }
        gateway.send(&request.header("authorization", "Bearer sk-alice")).expect(200);
        let sent = upstream.last();
        assert_eq!(sent.header("authorization"), None, "the key is the gateway's and stays here");
        assert_eq!(sent.header("x-trace-request"), Some("alice"), "the plugin of this key takes part");
    }
    assert_eq!(upstream.count(), 2);
}
