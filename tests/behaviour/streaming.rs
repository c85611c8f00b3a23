//! Events pass as they come.

use std::io::Write;
use std::time::Duration;

use serde_json::json;
use witgate_tests::client::End;
use witgate_tests::gateway::Launch;
use witgate_tests::sse::{chat_text, data};
use witgate_tests::upstream::reply::{Step, chunk};
use witgate_tests::{Connection, Gate, Gateway, Reply, Request, Upstream, eventually};

/// From the first content on every event waits until the client has read the one before, so one that is held back never
/// arrives.
#[track_caller]
fn check_not_held_back(settings: &str) {
    let gates: Vec<Gate> = (0..5).map(|_| Gate::new()).collect();
    let mut reply = Reply::stream([chunk(&json!({"role": "assistant", "content": "begin "}), None)]);
    for (index, gate) in gates.iter().enumerate() {
        reply = reply.wait(gate).event(&chunk(&json!({"content": format!("word{index} ")}), None));
    }
    let upstream = Upstream::always(reply.event(&chunk(&json!({}), Some("stop"))).event("[DONE]"));
    let gateway =
        Gateway::start(&format!("upstreams:\n  - name: one\n    base_url: {}\n{settings}", upstream.url()));
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    for gate in &gates {
        client.event().expect("the event before the gate has arrived");
        gate.open();
    }
    let (rest, end) = client.rest();
    assert_eq!(end, End::Complete);
    assert!(String::from_utf8_lossy(&rest).contains("[DONE]"));
}

#[test]
fn no_event_is_held_back() {
    check_not_held_back("");
    check_not_held_back("    special_prefix: \"> \"\n");
    check_not_held_back("    thinking_format: reasoning_content\n");
}

// parity: 127
#[test]
fn a_silent_stream_is_kept_alive_by_comments() {
    let gate = Gate::new();
    let upstream = Upstream::always(
        Reply::stream([chunk(&json!({"content": "a"}), None)])
            .wait(&gate)
            .event(&chunk(&json!({}), Some("stop")))
            .event("[DONE]"),
    );
    let config = format!(
        "server: {{ keepalive: 50ms }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    );
    let gateway = Gateway::start(&config);
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    let mut seen = String::new();
    while !seen.contains("\n:") {
        let piece = client.piece().expect("the stream goes on").expect("the stream goes on");
        seen.push_str(&String::from_utf8_lossy(&piece));
    }
    gate.open();
    let (rest, end) = client.rest();
    seen.push_str(&String::from_utf8_lossy(&rest));
    assert_eq!(end, End::Complete);
    assert_eq!(data(seen.as_bytes()).len(), 3, "{seen}");
}

/// A gateway that sends a stream's head, and a comment every 50 ms, before an upstream has answered.
fn early_gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&format!(
        "server: {{ keepalive: 50ms, keepalive_early: true }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ))
}

/// Asks for a stream and reads its head and two comments, which come although the upstream is silent.
#[track_caller]
fn begin_early(gateway: &Gateway) -> Connection {
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    let head = client.head();
    assert_eq!(head.status, 200);
    assert!(
        head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")),
        "{head:?}"
    );
    let mut seen = String::new();
    while seen.matches(": keep-alive\n\n").count() < 2 {
        let piece = client.piece().expect("the stream goes on").expect("the stream goes on");
        seen.push_str(&String::from_utf8_lossy(&piece));
    }
    client
}

// parity: 127
#[test]
fn a_stream_may_begin_before_its_upstream_answers() {
    let gate = Gate::new();
    let upstream = Upstream::always(Reply::chat_stream(&["he", "llo"]).first(Step::Wait(gate.clone())));
    let gateway = early_gateway(&upstream);
    let mut client = begin_early(&gateway);
    gate.open();
    let (rest, end) = client.rest();
    assert_eq!(end, End::Complete);
    assert_eq!(chat_text(&rest), "hello");
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
}

#[test]
fn a_failure_after_an_early_head_is_an_error_event() {
    // The gateway's own words where the upstream said nothing, the upstream's where it did.
    for (reply, code, message) in [
        (
            Reply::new(200).first(Step::Pause(Duration::from_millis(300))).first(Step::Reset),
            json!("upstream_invalid"),
            "the upstream closed the connection before it answered or sent invalid HTTP",
        ),
        (Reply::error(500, "down").first(Step::Pause(Duration::from_millis(300))), json!(null), "down"),
    ] {
        let upstream = Upstream::always(reply);
        let gateway = early_gateway(&upstream);
        let (rest, end) = begin_early(&gateway).rest();
        assert_eq!(end, End::Complete);
        let events = data(&rest);
        let error: serde_json::Value =
            serde_json::from_str(events.last().expect("an error event")).expect("JSON");
        assert_eq!(error["error"]["code"], code, "{error}");
        assert_eq!(error["error"]["message"], message, "{error}");
        assert!(!events.iter().any(|data| data == "[DONE]"), "{events:?}");
        eventually("the log to say so", || gateway.stderr().contains("request failed").then_some(()));
    }
}

#[test]
fn a_failure_before_the_first_comment_keeps_its_status() {
    let upstream = Upstream::always(Reply::error(429, "slow down").header("retry-after", "7"));
    let gateway = Gateway::start(&format!(
        "server: {{ keepalive: 10s, keepalive_early: true }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ));
    let answer = gateway.send(&Request::chat_stream("hi")).expect(429);
    assert_eq!(answer.header("retry-after"), Some("7"));
}

#[test]
fn a_client_that_leaves_an_early_stream_cancels_the_attempt() {
    let upstream = Upstream::always(Reply::silence());
    let gateway = early_gateway(&upstream);
    drop(begin_early(&gateway));
    upstream.wait_left(0);
}

/// A stream that is compressed as a whole and arrives in small pieces.
#[test]
fn a_compressed_stream_is_read_piece_by_piece() {
    let upstream = Upstream::always(Reply::chat_stream(&["he", "llo"]).gzip().split(7));
    let gateway = Gateway::before(&upstream);
    let answer = gateway.send(&Request::chat_stream("hi").header("accept-encoding", "gzip")).expect(200);
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.end, End::Complete);
    assert_eq!(chat_text(&answer.body), "hello");
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
}

/// The upstream compresses and flushes event by event, and waits until the client has read the one before.
#[test]
fn no_event_of_a_compressed_stream_is_held_back() {
    let gates: Vec<Gate> = (0..4).map(|_| Gate::new()).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut pack = |event: &str| {
        encoder.write_all(format!("data: {event}\n\n").as_bytes()).expect("a Vec takes every write");
        encoder.flush().expect("a Vec takes every write");
        std::mem::take(encoder.get_mut())
    };
    let empty = Reply::new(200).header("content-type", "text/event-stream").chunked();
    let mut reply =
        empty.header("content-encoding", "gzip").body(pack(&chunk(&json!({"content": "a"}), None)));
    for gate in &gates {
        reply = reply.wait(gate).body(pack(&chunk(&json!({"content": "b"}), None)));
    }
    reply = reply.body(pack(&chunk(&json!({}), Some("stop")))).body(pack("[DONE]"));
    let upstream = Upstream::always(reply.body(encoder.finish().expect("a Vec takes every write")));
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    for gate in &gates {
        client.event().expect("the event before the gate has arrived");
        gate.open();
    }
    let (rest, end) = client.rest();
    assert_eq!(end, End::Complete);
    assert!(rest.ends_with(b"data: [DONE]\n\n"), "{:?}", String::from_utf8_lossy(&rest));
}

// parity: 118
#[test]
fn a_stream_that_dies_before_its_head_moves_on() {
    let dead = Upstream::always(Reply::new(200).first(Step::Reset));
    let alive = Upstream::always(Reply::chat_stream(&["he", "llo"]));
    let gateway = Gateway::start(&format!(
        "routing: {{ strategy: failover }}\nretry: {{ backoff: 1ms }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n  - {{ name: two, base_url: {} }}\n",
        dead.url(),
        alive.url()
    ));
    let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!(chat_text(&answer.body), "hello");
    assert_eq!(answer.end, End::Complete);
}

// parity: 117
#[test]
fn nothing_is_posted_twice_to_one_upstream() {
    let upstream = Upstream::always(Reply::new(200).first(Step::Reset));
    let gateway = Gateway::before(&upstream);
    gateway.send(&Request::chat("hi")).expect(502);
    assert_eq!(upstream.count(), 1);
}

// parity: 91
#[test]
fn llama_timings_are_counted_as_usage() {
    let timings = r#""timings":{"cache_n":5,"prompt_n":7,"predicted_n":2}"#;
    let last = format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}],{timings}}}"#);
    let whole = format!(
        r#"{{"choices":[{{"index":0,"message":{{"content":"a"}},"finish_reason":"stop"}}],{timings}}}"#
    );
    for (request, reply) in [
        (Request::chat_stream("hi"), Reply::stream([&*last, "[DONE]"])),
        (Request::chat("hi"), Reply::json(200, whole)),
    ] {
        let upstream = Upstream::always(reply);
        let gateway = Launch::default()
            .variable("RUST_LOG", "witgate=debug")
            .start(&format!("upstreams:\n  - {{ name: one, base_url: {} }}\n", upstream.url()));
        gateway.send(&request).expect(200);
        let line = eventually("the request's line", || {
            gateway.stderr().lines().find(|line| line.contains("tokens_in")).map(str::to_owned)
        });
        assert!(line.contains("tokens_in=12 tokens_out=2"), "{line}");
    }
}

#[test]
fn many_streams_at_once_stay_apart() {
    let upstream = Upstream::new(|request| {
        let text = request.json()["messages"][0]["content"].as_str().expect("the test sends text").to_owned();
        Reply::chat_stream(&[&text, "-", &text, "-", &text])
    });
    let gateway = Gateway::before(&upstream);
    std::thread::scope(|scope| {
        for client in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                for round in 0..25 {
                    let word = format!("c{client}r{round}");
                    let answer = gateway.send(&Request::chat_stream(&word)).expect(200);
                    assert_eq!(chat_text(&answer.body), format!("{word}-{word}-{word}"));
                }
            });
        }
    });
}

#[test]
fn the_embedded_default_streams_an_echo() {
    let gateway = Launch::default().start_embedded();
    let body = json!({"model": "echo", "stream": true, "messages": [{"role": "user", "content": "hello brave world"}]});
    let answer = gateway.send(&Request::post("/v1/chat/completions", body.to_string())).expect(200);
    assert_eq!(chat_text(&answer.body), "hello brave world");
    assert!(answer.events().len() > 4, "it is streamed word by word: {}", answer.text());
    eventually("the banner", || gateway.stdout().contains("curl").then_some(()));
}
