//! Events pass as they come.

use serde_json::json;
use witgate_tests::client::End;
use witgate_tests::upstream::reply::chunk;
use witgate_tests::{Gate, Gateway, Reply, Request, Upstream, eventually};

/// Every event waits until the client has read the one before, so one that is held back never arrives.
#[track_caller]
fn check_not_held_back(settings: &str) {
    let gates: Vec<Gate> = (0..5).map(|_| Gate::new()).collect();
    let mut reply = Reply::stream([chunk(&json!({"role": "assistant", "content": ""}), None)]);
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
    assert_eq!(witgate_tests::sse::data(seen.as_bytes()).len(), 3, "{seen}");
}

// parity: 118
#[test]
fn a_stream_that_dies_before_its_head_moves_on() {
    let dead = Upstream::always(Reply::new(200).first(witgate_tests::upstream::reply::Step::Reset));
    let alive = Upstream::always(Reply::chat_stream(&["he", "llo"]));
    let gateway = Gateway::start(&format!(
        "routing: {{ strategy: failover }}\nretry: {{ backoff: 1ms }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n  - {{ name: two, base_url: {} }}\n",
        dead.url(),
        alive.url()
    ));
    let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!(witgate_tests::sse::chat_text(&answer.body), "hello");
    assert_eq!(answer.end, End::Complete);
}

// parity: 117
#[test]
fn nothing_is_posted_twice_to_one_upstream() {
    let upstream = Upstream::always(Reply::new(200).first(witgate_tests::upstream::reply::Step::Reset));
    let gateway = Gateway::before(&upstream);
    gateway.send(&Request::chat("hi")).expect(502);
    assert_eq!(upstream.count(), 1);
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
                    assert_eq!(witgate_tests::sse::chat_text(&answer.body), format!("{word}-{word}-{word}"));
                }
            });
        }
    });
}

#[test]
fn the_embedded_default_streams_an_echo() {
    let gateway = witgate_tests::gateway::Launch::default().start_embedded();
    let body = json!({"model": "echo", "stream": true, "messages": [{"role": "user", "content": "hello brave world"}]});
    let answer = gateway.send(&Request::post("/v1/chat/completions", body.to_string())).expect(200);
    assert_eq!(witgate_tests::sse::chat_text(&answer.body), "hello brave world");
    assert!(answer.events().len() > 4, "it is streamed word by word: {}", answer.text());
    eventually("the banner", || gateway.stdout().contains("curl").then_some(()));
}
