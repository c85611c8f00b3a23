//! Text goes through plugins as it is produced, and comes out the same however it arrives.

use std::time::Duration;

use serde_json::{Value, json};
use witgate_tests::client::End;
use witgate_tests::sse::{chat_text, data};
use witgate_tests::upstream::reply::{Step, chunk};
use witgate_tests::{Connection, Gate, Gateway, Reply, Request, Upstream, eventually};

use super::{chat_for, config, notes, probe, start};

/// A text that every plugin for text finds something in, and how a stream parts it: inside tags, an address, a word.
const PIECES: [&str; 7] =
    ["<thi", "nk>pl\u{e4}n</th", "ink>Caf\u{e9}: mail ann@exam", "ple.org", " the col", "our", " red"];

/// The bytes of a stream of these pieces, as short as can be.
fn stream_bytes(pieces: &[&str]) -> Vec<u8> {
    let event = |data: Value| format!("data: {data}\n\n");
    let mut bytes: String = pieces
        .iter()
        .map(|text| event(json!({"choices": [{"index": 0, "delta": {"content": text}}]})))
        .collect();
    bytes.push_str(&event(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})));
    bytes.push_str("data: [DONE]\n\n");
    bytes.into_bytes()
}

/// An upstream that sends a stream in two writes, parted where the header `x-split` says.
fn splitting(pieces: &'static [&'static str]) -> Upstream {
    Upstream::new(move |request| {
        if request.json()["stream"] != true {
            return Reply::chat(&pieces.concat());
        }
        let bytes = stream_bytes(pieces);
        let at = request.header("x-split").and_then(|at| at.parse().ok()).unwrap_or(bytes.len());
        let (head, tail) = bytes.split_at(at);
        let reply = Reply::stream(Vec::<String>::new()).body(head.to_vec());
        reply.step(Step::Pause(Duration::from_millis(1))).body(tail.to_vec())
    })
}

/// All text of one kind of a stream.
fn deltas(body: &[u8], choice: u64, key: &str) -> String {
    let chunks = data(body).into_iter().filter_map(|data| serde_json::from_str::<Value>(&data).ok());
    let of_choice = chunks.flat_map(|chunk| chunk["choices"].as_array().cloned().unwrap_or_default());
    of_choice
        .filter(|part| part["index"] == choice)
        .filter_map(|part| part["delta"][key].as_str().map(str::to_owned))
        .collect()
}

/// A whole answer and a stream parted at every byte come out with this content and this reasoning.
#[track_caller]
fn check_every_split(plugins: &str, content: &str, reasoning: &str) {
    let upstream = splitting(&PIECES);
    let gateway = start(&upstream, plugins);
    let whole = gateway.send(&Request::chat("hi")).expect(200).json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["content"], content);
    assert_eq!(message["reasoning_content"].as_str().unwrap_or_default(), reasoning);
    let splits = stream_bytes(&PIECES).len();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut connection = Connection::open(gateway.address());
                for at in (client..splits).step_by(4) {
                    let request = Request::chat_stream("hi").header("x-split", &at.to_string());
                    let answer = connection.send(&request).expect(200);
                    assert_eq!(chat_text(&answer.body), content, "split at {at}: {}", answer.text());
                    assert_eq!(deltas(&answer.body, 0, "reasoning_content"), reasoning, "split at {at}");
                    assert_eq!(
                        data(&answer.body).last().map(String::as_str),
                        Some("[DONE]"),
                        "split at {at}"
                    );
                }
            });
        }
    });
}

fn builtin(name: &str, config: &str) -> String {
    format!("  - {{ name: {name}, source: \"builtin:{name}\", config: {config} }}\n")
}

#[test]
fn thinking_is_stripped_at_every_byte_split() {
    check_every_split(
        &builtin("think-strip", "{ mode: strip }"),
        "Caf\u{e9}: mail ann@example.org the colour red",
        "",
    );
}

#[test]
fn thinking_is_moved_at_every_byte_split() {
    check_every_split(
        &builtin("think-strip", "{ mode: reasoning }"),
        "Caf\u{e9}: mail ann@example.org the colour red",
        "pl\u{e4}n",
    );
}

#[test]
fn addresses_are_masked_at_every_byte_split() {
    check_every_split(
        &builtin("redact", "{}"),
        "<think>pl\u{e4}n</think>Caf\u{e9}: mail [email] the colour red",
        "",
    );
}

#[test]
fn texts_are_replaced_at_every_byte_split() {
    check_every_split(
        &builtin("response-transform", "{ rules: [{ then: { text: [{ find: colour, replace: color }] } }] }"),
        "<think>pl\u{e4}n</think>Caf\u{e9}: mail ann@example.org the color red",
        "",
    );
}

#[test]
fn three_plugins_in_a_row_agree_at_every_byte_split() {
    let transform = "{ rules: [{ then: { text: [{ find: colour, replace: color }] } }] }";
    check_every_split(
        &(builtin("redact", "{}")
            + &builtin("think-strip", "{}")
            + &builtin("response-transform", transform)),
        "Caf\u{e9}: mail [email] the color red",
        "",
    );
}

#[test]
fn choices_and_tool_calls_are_kept_apart() {
    let delta =
        |choice: u32, delta: Value| json!({"choices": [{"index": choice, "delta": delta}]}).to_string();
    let arguments = |text: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]});
    let finish = |choice: u32, reason: &str| {
        json!({"choices": [{"index": choice, "delta": {}, "finish_reason": reason}]}).to_string()
    };
    let upstream = Upstream::always(Reply::stream([
        delta(0, json!({"content": "<thi"})),
        delta(1, json!({"content": "<think>one"})),
        delta(0, json!({"content": "nk>zero</think>Zero"})),
        delta(0, arguments("{\"a\":\"<think>")),
        delta(1, json!({"content": "</thi"})),
        delta(0, arguments("b\"}")),
        finish(0, "tool_calls"),
        delta(1, json!({"content": "nk>One"})),
        finish(1, "stop"),
        "[DONE]".to_owned(),
    ]));
    let gateway = start(&upstream, &builtin("think-strip", "{}"));
    let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!(
        (deltas(&answer.body, 0, "content"), deltas(&answer.body, 1, "content")),
        ("Zero".to_owned(), "One".to_owned())
    );
    let called: String = data(&answer.body)
        .iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|chunk| {
            chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(called, "{\"a\":\"<think>b\"}");
    let reasons: Vec<Value> = data(&answer.body)
        .iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .map(|chunk| chunk["choices"][0]["finish_reason"].clone())
        .filter(|reason| !reason.is_null())
        .collect();
    assert_eq!(reasons, [json!("tool_calls"), json!("stop")]);
}

#[test]
fn what_is_held_comes_before_the_end() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["held ", "to the ", "end"]));
    let gateway = start(&upstream, &probe("a", "{ text: { does: hold } }"));
    let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
    let events = data(&answer.body);
    assert_eq!(chat_text(&answer.body), "held to the end");
    let place = |part: &str| {
        events
            .iter()
            .position(|data| data.contains(part))
            .unwrap_or_else(|| panic!("no {part} in {events:?}"))
    };
    assert!(place("held") < place("\"stop\""), "{events:?}");
    assert_eq!(events.iter().filter(|data| *data == "[DONE]").count(), 1, "{events:?}");
    let whole = gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(whole.json()["choices"][0]["message"]["content"], "held to the end");
}

#[test]
fn literals_wake_a_sleeper_even_when_split_across_events() {
    let gate = Gate::new();
    let text = |text: &str| chunk(&json!({"content": text}), None);
    let upstream = Upstream::new({
        let gate = gate.clone();
        move |request| match request.json()["stream"] == true {
            true => Reply::stream([text("plain ")])
                .wait(&gate)
                .event(&text("a <"))
                .step(Step::Pause(Duration::from_millis(20)))
                .event(&text("wa"))
                .step(Step::Pause(Duration::from_millis(20)))
                .event(&text("ke> b"))
                .event(&chunk(&json!({}), Some("stop")))
                .event("[DONE]"),
            false => Reply::chat("x"),
        }
    });
    let gateway =
        start(&upstream, &probe("a", "{ text: { wakes: [<wake>], notes_pushes: true }, notes: true }"));
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    assert!(client.event().expect("nothing holds it back").data.contains("plain "));
    gate.open();
    let (rest, end) = client.rest();
    assert_eq!((chat_text(&rest).as_str(), end), ("a <wake> b", End::Complete));
    let pushed: Vec<String> = notes(&gateway)
        .into_iter()
        .filter_map(|line| line.strip_prefix("push ").map(str::to_owned))
        .collect();
    assert!(pushed.concat().contains("<wake>"), "{pushed:?}");
    assert!(!pushed.concat().contains("plain"), "it slept: {pushed:?}");
}

#[test]
fn a_plugin_that_let_go_is_not_called_again() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["one", "two"]));
    let gateway =
        start(&upstream, &probe("a", "{ text: { does: detach, notes_pushes: true }, notes: true }"));
    let plain = Gateway::before(&upstream);
    let stream = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!(stream.body, plain.send(&Request::chat_stream("hi")).expect(200).body);
    let seen = notes(&gateway);
    assert_eq!(seen.iter().filter(|line| line.starts_with("push")).count(), 1, "{seen:?}");
    assert!(!seen.iter().any(|line| line.starts_with("finish")), "{seen:?}");
}

/// What the probe is told of the end of a stream.
#[track_caller]
fn finish_of(gateway: &Gateway, prefix: &str) -> String {
    eventually("the plugin to be told of the end", || {
        notes(gateway).into_iter().find_map(|line| line.strip_prefix(prefix).map(str::to_owned))
    })
}

#[test]
fn the_end_is_told_by_whatever_cause() {
    let begun = || Reply::stream([chunk(&json!({"content": "a"}), None)]);
    let ended = |reason: &str| begun().event(&chunk(&json!({}), Some(reason))).event("[DONE]");
    for (reply, told) in [
        (ended("stop"), "stop"),
        (ended("length"), "length"),
        (ended("tool_calls"), "tool-calls"),
        (ended("content_filter"), "content-filter"),
        (begun().step(Step::Cut), "upstream-error"),
        (begun().hang(), "cancelled"),
    ] {
        let upstream = Upstream::new(move |request| match request.json()["stream"] == true {
            true => reply.clone(),
            false => Reply::chat("x"),
        });
        let settings = "{ label: a, notes: true, events: true, text: { does: nothing } }";
        let gateway = start(&upstream, &probe("a", settings));
        let mut client = gateway.ask(&Request::chat_stream("hi"));
        assert_eq!(client.head().status, 200);
        assert!(client.event().is_some());
        if told != "cancelled" {
            client.rest();
        }
        drop(client);
        assert_eq!(finish_of(&gateway, "finish "), told);
        let events = finish_of(&gateway, "events finish ");
        let is_whole = !["upstream-error", "cancelled"].contains(&told);
        assert_eq!(events, if is_whole { "stop" } else { told }, "{told}");
    }
}

#[test]
fn events_can_be_added_before_the_end() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["a"]));
    let gateway = start(&upstream, &probe("a", "{ label: mark, events: true }"));
    let events = gateway.send(&Request::chat_stream("hi")).expect(200).events();
    assert_eq!(events[events.len() - 2..], ["{\"probe\":\"mark\"}", "[DONE]"], "{events:?}");
    let whole = gateway.send(&Request::chat("hi")).expect(200);
    assert!(!whole.text().contains("mark"), "whole answers have no events");
}

#[test]
fn other_endpoints_with_text_are_transformed_too() {
    let upstream = Upstream::new(|request| match request.target.as_str() {
        "/v1/completions" if request.json()["stream"] == true => Reply::stream([
            r#"{"object":"text_completion","choices":[{"index":0,"text":"<think>a</th"}]}"#,
            r#"{"object":"text_completion","choices":[{"index":0,"text":"ink>b"}]}"#,
            r#"{"object":"text_completion","choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#,
            "[DONE]",
        ]),
        "/v1/completions" => {
            Reply::json(200, r#"{"choices":[{"index":0,"text":"<think>a</think>b","finish_reason":"stop"}]}"#)
        }
        _ => Reply::json(200, r#"{"data":[{"index":0,"embedding":[0.5],"text":"<think>a</think>b"}]}"#),
    });
    let gateway = Gateway::start(&config(&upstream, &builtin("think-strip", "{}")));
    let ask = |path: &str, is_stream: bool| {
        let body = json!({"model": "m", "prompt": "hi", "input": "hi", "stream": is_stream}).to_string();
        gateway.send(&Request::post(path, body)).expect(200)
    };
    assert_eq!(ask("/v1/completions", false).json()["choices"][0]["text"], "b");
    let text: String = ask("/v1/completions", true)
        .events()
        .iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|chunk| chunk["choices"][0]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, "b");
    assert_eq!(ask("/v1/embeddings", false).json()["data"][0]["text"], "<think>a</think>b");
    assert_eq!(gateway.send(&chat_for("m", false)).status(), 200);
}
