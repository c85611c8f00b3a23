//! A plugin that breaks: how that is classed, what the client sees, and that nobody else notices.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use witgate_tests::client::End;
use witgate_tests::sse::{chat_text, data};
use witgate_tests::upstream::reply::chunk;
use witgate_tests::{Connection, Gate, Gateway, Reply, Request, Upstream, eventually};

use super::component::{MUMBLING, component};
use super::{chat_for, config, described, faulty, reload, start};

/// What an answer is broken with, and how that is classed: the point, the fault, its kind, the hook it counts for.
const CASES: [(&str, &str, &str, &str); 21] = [
    ("on-request", "panic", "panic", "on-request"),
    ("on-request", "trap", "trap", "on-request"),
    ("on-request", "loop", "deadline", "on-request"),
    ("on-request", "sleep", "wait-timeout", "on-request"),
    ("on-request", "memory", "memory", "on-request"),
    ("on-request", "large", "host-call", "on-request"),
    ("on-request", "status99", "invalid-output", "on-request"),
    ("on-request", "status200", "invalid-output", "on-request"),
    ("on-request", "header", "invalid-output", "on-request"),
    ("answer", "panic", "invalid-output", "on-request"),
    ("on-route", "panic", "panic", "on-route"),
    ("on-upstream-request", "panic", "panic", "on-upstream-request"),
    ("on-response", "panic", "panic", "on-response"),
    ("on-response", "loop", "deadline", "on-response"),
    ("stream-text", "panic", "panic", "stream-text"),
    ("push", "panic", "panic", "stream-text"),
    ("push", "large", "invalid-output", "stream-text"),
    ("push", "spans", "invalid-output", "stream-text"),
    ("push", "cut", "invalid-output", "stream-text"),
    ("push", "status99", "invalid-output", "stream-text"),
    ("finish", "panic", "panic", "stream-text"),
];

/// A plugin for each case, which sees the requests for the model of the same name.
fn plugins_for_cases(on_fault: &str) -> String {
    let plugin = |(point, fault, _, _): &(&str, &str, &str, &str)| {
        let name = format!("{point}-{fault}");
        // What computes on a busy machine is not to be taken for something that waits.
        let wait = if *fault == "sleep" { "50ms" } else { "10s" };
        let limits = format!("{{ call_timeout: 150ms, wait_timeout: {wait}, memory: 4MiB }}");
        let settings = format!(
            "config: {{ faults: {{ {point}: {fault} }} }}, match: {{ models: [{name}] }}, on_fault: {on_fault}, limits: {limits}"
        );
        faulty(&name, &settings)
    };
    CASES.iter().map(plugin).collect()
}

/// How often a plugin broke, by kind.
fn faults(gateway: &Gateway, name: &str, hook: &str) -> Value {
    described(gateway, name)["calls"][hook]["faults"].clone()
}

fn chatty() -> Upstream {
    Upstream::new(|request| Reply::chat_as_asked(request, &["un", "harmed"]))
}

#[test]
fn every_fault_is_classed_and_ends_the_exchange_where_it_is_to_be_rejected() {
    let upstream = chatty();
    let gateway = start(&upstream, &plugins_for_cases("reject"));
    for (point, fault, kind, hook) in CASES {
        let name = format!("{point}-{fault}");
        let answer = gateway.send(&chat_for(&name, false));
        let expected = json!({"error": {
            "message": format!("the plugin `{name}` failed ({kind})"),
            "type": "api_error", "param": null, "code": "plugin_error",
        }});
        assert_eq!((answer.status(), answer.json()), (500, expected), "{name}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(faults(&gateway, &name, hook), json!({kind: 1}), "{name}");
    }
    let refused_before =
        CASES.iter().filter(|(.., hook)| ["on-request", "on-route", "on-upstream-request"].contains(hook));
    assert_eq!(upstream.count(), CASES.len() - refused_before.count(), "what is refused before goes nowhere");
    eventually("the log to have the plugin's own words", || {
        gateway.stderr().contains("faulty panics at on-request").then_some(())
    });
    assert_eq!(
        gateway.send(&chat_for("good", false)).expect(200).json()["choices"][0]["message"]["content"],
        "unharmed"
    );
}

#[test]
fn a_fault_that_is_skipped_leaves_the_exchange_as_if_there_were_no_plugin() {
    let upstream = chatty();
    let gateway = start(&upstream, &plugins_for_cases("skip"));
    for (point, fault, kind, hook) in CASES {
        let name = format!("{point}-{fault}");
        let whole = gateway.send(&chat_for(&name, false)).expect(200);
        assert_eq!(whole.json()["choices"][0]["message"]["content"], "unharmed", "{name}");
        if hook == "on-request" {
            let seen = upstream.last();
            assert_eq!(
                seen.json(),
                serde_json::from_slice::<Value>(&chat_body(&name)).expect("it is JSON"),
                "{name}"
            );
            assert_eq!(seen.header("x-touched"), None, "{name}");
        }
        let stream = gateway.send(&chat_for(&name, true)).expect(200);
        assert_eq!(chat_text(&stream.body), "unharmed", "{name}");
        assert_eq!(data(&stream.body).last().map(String::as_str), Some("[DONE]"), "{name}");
        let count = faults(&gateway, &name, hook)[kind].as_u64().unwrap_or_default();
        assert_eq!(count, 2, "{name}: {}", described(&gateway, &name));
    }
}

fn chat_body(model: &str) -> Vec<u8> {
    let body = json!({"model": model, "stream": false, "messages": [{"role": "user", "content": "hi"}]});
    body.to_string().into_bytes()
}

#[test]
fn a_fault_after_the_first_byte_ends_a_stream_with_an_error_event() {
    let upstream = chatty();
    let gateway = start(&upstream, &plugins_for_cases("reject"));
    for name in ["push-panic", "push-spans", "finish-panic"] {
        let answer = gateway.send(&chat_for(name, true)).expect(200);
        assert_eq!(answer.end, End::Complete, "{name}");
        let events = data(&answer.body);
        let error: Value = serde_json::from_str(
            events.iter().rev().find(|data| *data != "[DONE]").expect("there is an event"),
        )
        .expect("it is JSON");
        assert_eq!(error["error"]["code"], "plugin_error", "{name}: {events:?}");
        let text = chat_text(&answer.body);
        assert!(
            "unharmed".starts_with(&text) && (name == "finish-panic" || text.is_empty()),
            "{name}: {text}"
        );
        let hook = faults(&gateway, name, "stream-text");
        assert_eq!(hook.as_object().map(|kinds| kinds.len()), Some(1), "it breaks once: {hook}");
    }
}

#[test]
fn what_had_passed_before_a_fault_stays_and_what_follows_depends_on_the_operator() {
    for (on_fault, text, has_error) in [("reject", "one ", true), ("skip", "one two three", false)] {
        let gates = [Gate::new(), Gate::new()];
        let delta = |text: &str| chunk(&json!({"content": text}), None);
        let upstream = Upstream::always(
            Reply::stream([delta("one ")])
                .wait(&gates[0])
                .event(&delta("two "))
                .wait(&gates[1])
                .event(&delta("three"))
                .event(&chunk(&json!({}), Some("stop")))
                .event("[DONE]"),
        );
        let settings = format!("on_fault: {on_fault}, config: {{ faults: {{ push: panic }}, every: 2 }}");
        let gateway = start(&upstream, &faulty("second", &settings));
        let mut client = gateway.ask(&Request::chat_stream("hi"));
        assert_eq!(client.head().status, 200);
        let first = client.event().expect("the first push is good").data;
        gates.iter().for_each(Gate::open);
        let (rest, end) = client.rest();
        let all = [format!("data: {first}\n\n").as_bytes(), &rest].concat();
        assert_eq!((chat_text(&all).as_str(), end), (text, End::Complete), "{on_fault}");
        assert_eq!(String::from_utf8_lossy(&rest).contains("plugin_error"), has_error, "{on_fault}");
        assert_eq!(faults(&gateway, "second", "stream-text"), json!({"panic": 1}), "{on_fault}");
    }
}

#[test]
fn faults_of_events_and_of_callers_are_classed_too() {
    let upstream = chatty();
    let settings = |config: &str| format!("config: {{ faults: {config}, only_marked: true }}");
    let plugins = faulty("events", &settings("{ events: large }"))
        + &faulty("callers", &settings("{ authenticate: panic }"));
    let gateway = start(&upstream, &plugins);
    let marked = |request: Request, fault: &str| gateway.send(&request.header("x-fault", fault));

    let answer = marked(Request::chat("hi"), "panic").expect(500);
    assert_eq!(answer.error_message(), "the plugin `callers` failed (panic)");
    assert_eq!(faults(&gateway, "callers", "authenticate"), json!({"panic": 1}));
    assert_eq!(upstream.count(), 0);

    // The callers' plugin is content with what only streams can do.
    gateway.send(&Request::chat_stream("hi")).expect(200);
}

#[test]
fn faults_of_events_end_the_stream() {
    for (fault, kind) in [("large", "invalid-output"), ("header", "invalid-output"), ("panic", "panic")] {
        let upstream = chatty();
        let gateway =
            start(&upstream, &faulty("events", &format!("config: {{ faults: {{ events: {fault} }} }}")));
        let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
        assert!(answer.text().contains("plugin_error"), "{fault}: {}", answer.text());
        assert_eq!(chat_text(&answer.body), "", "{fault}");
        assert_eq!(faults(&gateway, "events", "stream-events"), json!({kind: 1}), "{fault}");
    }
}

#[test]
fn text_that_is_no_utf_8_is_a_fault() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("mumbling.wasm");
    let made = component(MUMBLING, "export lifecycle; export authenticate;", |contract| contract);
    std::fs::write(&file, made).expect("the temporary folder is writable");
    let upstream = chatty();
    let gateway = start(&upstream, &format!("  - {{ name: mumbling, source: {} }}\n", file.display()));
    let answer = gateway.send(&Request::chat("hi")).expect(500);
    assert_eq!(answer.error_message(), "the plugin `mumbling` failed (invalid-output)");
    eventually("the log to say why", || gateway.stderr().contains("utf-8").then_some(()));
}

#[test]
fn a_refusal_is_no_fault() {
    let upstream = chatty();
    let points = ["on-request", "on-upstream-request", "on-response", "push"];
    let plugin = |point: &&str| {
        faulty(point, &format!("match: {{ models: [{point}] }}, config: {{ faults: {{ {point}: reject }} }}"))
    };
    let gateway = start(&upstream, &points.iter().map(plugin).collect::<String>());
    for point in points {
        let status = if point == "push" { 451 } else { 403 };
        let answer = gateway.send(&chat_for(point, false)).expect(status);
        assert_eq!(
            (answer.error_code(), answer.error_message()),
            ("refused".to_owned(), "faulty refuses".to_owned())
        );
        let hook = if point == "push" { "stream-text" } else { point };
        let counts = described(&gateway, point)["calls"][hook].clone();
        assert_eq!((&counts["rejections"], &counts["faults"]), (&json!(1), &json!({})), "{point}: {counts}");
    }
    // After the head there is nothing but an event to say it with.
    let stream = gateway.send(&chat_for("push", true)).expect(200);
    let events = data(&stream.body);
    assert!(events.iter().any(|data| data.contains("faulty refuses")), "{events:?}");
    assert_eq!(chat_text(&stream.body), "");
}

#[test]
fn a_thousand_faulty_calls_among_ten_thousand_good_ones_harm_no_good_one() {
    const CLIENTS: usize = 8;
    const CALLS: usize = 11_000;
    const KINDS: [&str; 5] = ["panic", "trap", "status99", "header", "large"];
    let upstream =
        Upstream::new(|request| Reply::chat(request.json()["messages"][0]["content"].as_str().unwrap_or("")));
    let gateway = start(
        &upstream,
        &faulty("sometimes", "config: { faults: { on-request: panic }, only_marked: true }"),
    );
    let (next, good, broken) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = Connection::open(gateway.address());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CALLS {
                        return;
                    }
                    let text = format!("call {number}");
                    let mut request = Request::chat(&text);
                    // Every eleventh, so that the plugin is never quarantined.
                    let is_faulty = number % 11 == 10;
                    if is_faulty {
                        request = request.header("x-fault", KINDS[number / 11 % KINDS.len()]);
                    }
                    let answer = connection.send(&request);
                    if is_faulty {
                        assert_eq!(answer.expect(500).error_code(), "plugin_error");
                        broken.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let answer = answer.expect(200);
                        assert_eq!(answer.json()["choices"][0]["message"]["content"], text);
                        good.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!((good.into_inner(), broken.into_inner()), (10_000, 1_000));
    let seen = described(&gateway, "sometimes");
    let counts = &seen["calls"]["on-request"];
    assert_eq!(counts["faults"], json!({"panic": 200, "trap": 200, "invalid-output": 400, "host-call": 200}));
    assert_eq!((&seen["condition"], &counts["skipped"]), (&json!("healthy"), &json!(0)));
    assert_eq!(upstream.count(), 10_000, "every good call went on, and no other");
}

#[test]
fn a_plugin_that_keeps_breaking_is_quarantined_until_it_is_another() {
    let upstream = chatty();
    let broken = |on_fault: &str| {
        faulty("broken", &format!("on_fault: {on_fault}, config: {{ faults: {{ on-request: panic }} }}"))
    };
    let gateway = start(&upstream, &broken("reject"));
    for _ in 0..5 {
        assert_eq!(gateway.send(&Request::chat("hi")).expect(500).error_code(), "plugin_error");
    }
    let answer = gateway.send(&Request::chat("hi")).expect(503);
    assert_eq!(answer.error_code(), "plugin_quarantined");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let seen = described(&gateway, "broken");
    assert_eq!(seen["condition"], "quarantined");
    assert_eq!(seen["calls"]["on-request"]["faults"], json!({"panic": 5}), "it is not called any more");
    eventually("the log to say so", || gateway.stderr().contains("pause_s=5").then_some(()));

    // Another configuration is another version, with a clean record.
    gateway.rewrite_config(&config(&upstream, &broken("skip")));
    gateway.send_admin(&reload()).expect(200);
    for _ in 0..8 {
        gateway.send(&Request::chat("hi")).expect(200);
    }
    let seen = described(&gateway, "broken");
    assert_eq!(seen["condition"], "quarantined");
    assert_eq!(seen["calls"]["on-request"]["faults"], json!({"panic": 10}), "passed over, not called");

    gateway.rewrite_config(&config(&upstream, &faulty("broken", "config: {}")));
    gateway.send_admin(&reload()).expect(200);
    gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(upstream.last().header("x-touched"), Some("by faulty"));
    assert_eq!(described(&gateway, "broken")["condition"], "healthy");
}
