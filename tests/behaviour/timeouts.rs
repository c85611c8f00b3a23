//! Every timer of an upstream, and those of the listener.

use std::time::Duration;

use serde_json::json;
use witgate_tests::client::End;
use witgate_tests::upstream::reply::chunk;
use witgate_tests::{Connection, Gateway, Reply, Request, Upstream, now};

fn gateway(upstream: &Upstream, timeouts: &str) -> Gateway {
    Gateway::start(&format!(
        "upstreams:\n  - {{ name: one, base_url: {}, timeouts: {{ {timeouts} }} }}\n",
        upstream.url()
    ))
}

// parity: 123
#[test]
fn first_byte_ends_a_silent_attempt() {
    let upstream = Upstream::always(Reply::silence());
    let gateway = gateway(&upstream, "first_byte: 100ms");
    let answer = gateway.send(&Request::chat("hi")).expect(504);
    assert_eq!(answer.error_code(), "upstream_timeout");
    upstream.wait_left(0);
}

// parity: 123
#[test]
fn idle_ends_a_stalled_stream_with_an_error_event() {
    let upstream = Upstream::always(Reply::stream([chunk(&json!({"content": "a"}), None)]).hang());
    let gateway = gateway(&upstream, "idle: 100ms");
    let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
    let events = answer.events();
    assert_eq!(events.len(), 2, "{}", answer.text());
    let error: serde_json::Value = serde_json::from_str(&events[1]).expect("the error is JSON");
    assert!(error["error"]["message"].is_string(), "{error}");
    assert_eq!(answer.end, End::Complete);
    upstream.wait_left(0);
}

// parity: 123
#[test]
fn idle_ends_a_stalled_whole_answer() {
    let upstream = Upstream::always(Reply::json(200, "{").header("content-length", "100").hang());
    let gateway = gateway(&upstream, "idle: 100ms");
    gateway.send(&Request::chat("hi")).expect(504);
    upstream.wait_left(0);
}

// parity: 123
#[test]
fn total_ends_a_stream_that_never_stalls() {
    let events = std::iter::repeat_n(chunk(&json!({"content": "a"}), None), 400);
    let mut reply = Reply::stream(std::iter::empty::<&str>());
    for event in events {
        reply =
            reply.event(&event).step(witgate_tests::upstream::reply::Step::Pause(Duration::from_millis(10)));
    }
    let upstream = Upstream::always(reply);
    let gateway = gateway(&upstream, "total: 300ms, idle: 10s");
    let started = now();
    let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(!answer.text().contains("[DONE]"));
    assert!(answer.events().last().expect("there are events").contains("error"));
    upstream.wait_left(0);
}

// parity: 123
#[test]
fn connect_covers_a_tls_handshake_that_hangs() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let gateway = Gateway::start(&format!(
        "retry: {{ same_upstream: 0 }}\nupstreams:\n  - {{ name: one, base_url: \"https://{address}/v1\", timeouts: {{ connect: 100ms }} }}\n"
    ));
    let answer = gateway.send(&Request::chat("hi"));
    assert!([502, 504].contains(&answer.status()), "{}", answer.text());
    drop(listener);
}

#[test]
fn slow_heads_are_closed() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let config = format!(
        "server: {{ header_timeout: 150ms }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    );
    let gateway = Gateway::start(&config);
    for start in ["", "G", "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-le"] {
        let started = now();
        let mut client = Connection::open(gateway.address());
        client.write(start.as_bytes());
        let said = client.wait_closed();
        assert!(started.elapsed() < Duration::from_secs(5), "{start:?}: {:?}", started.elapsed());
        assert!(!String::from_utf8_lossy(&said).contains("200 OK"), "{start:?}");
    }
    gateway.send(&Request::chat("hi")).expect(200);
}

#[test]
fn a_slow_body_is_no_slow_head() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let config = format!(
        "server: {{ header_timeout: 150ms }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    );
    let gateway = Gateway::start(&config);
    let body = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let mut client = Connection::open(gateway.address());
    client.write(
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len())
            .as_bytes(),
    );
    // Twice the header timeout in all: the time is what is tested.
    for piece in body.chunks(body.len().div_ceil(6)) {
        std::thread::sleep(Duration::from_millis(50));
        client.write(piece);
    }
    client.answer().expect(200);
}
