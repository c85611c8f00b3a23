//! A client that leaves takes its upstream request with it, in every phase.
//!
//! The promise is 100 ms; the tests print what they measured and fail at a second, because their machine is shared.

use std::time::Duration;

use witgate_tests::upstream::reply::Step;
use witgate_tests::{Connection, Gate, Gateway, Reply, Request, Upstream, http2, now};

const BOUND: Duration = Duration::from_secs(1);

/// Runs `phase` up to where the client is to leave, then measures until the upstream sees it.
#[track_caller]
fn check(phase: &str, reply: Reply, request: &Request, reach: impl FnOnce(&mut Connection)) {
    let upstream = Upstream::always(reply);
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.ask(request);
    upstream.wait_requests(1);
    reach(&mut client);
    let left = now();
    drop(client);
    let took = upstream.wait_left(0).duration_since(left);
    println!("{phase}: the upstream saw the client leave after {took:?}");
    assert!(took < BOUND, "{phase}: {took:?}");
    let after = gateway.send(&Request::get("/healthz"));
    assert_eq!(after.status(), 200);
}

// parity: 128
#[test]
fn cancels_while_waiting_for_the_head() {
    check("waiting for the head", Reply::silence(), &Request::chat("hi"), |_| ());
    check("waiting for a stream's head", Reply::silence(), &Request::chat_stream("hi"), |_| ());
}

// parity: 128
#[test]
fn cancels_in_the_middle_of_a_stream() {
    let reply = Reply::stream([r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#]).hang();
    check("in the middle of a stream", reply, &Request::chat_stream("hi"), |client| {
        assert_eq!(client.head().status, 200);
        assert!(client.event().is_some());
    });
}

// parity: 128
#[test]
fn cancels_in_the_middle_of_a_whole_answer() {
    let sent = Gate::new();
    let reply = Reply::json(200, r#"{"choices":["#).header("content-length", "500").tell(&sent).hang();
    check("in the middle of a whole answer", reply, &Request::chat("hi"), |_| {
        sent.wait_open("half an answer")
    });
}

#[test]
fn cancels_in_the_middle_of_an_answer_that_is_no_json() {
    let reply = Reply::new(200).header("content-type", "audio/mpeg").body("ID3").step(Step::Hang).chunked();
    let request = Request::post("/v1/audio/speech", r#"{"model":"m","input":"x","voice":"v"}"#);
    check("in the middle of a binary answer", reply, &request, |client| {
        assert_eq!(client.head().status, 200);
        assert_eq!(client.piece().expect("it has begun").expect("it has begun"), b"ID3");
    });
}

#[test]
fn no_other_candidate_is_asked_for_a_client_that_left() {
    let first = Upstream::always(Reply::silence());
    let second = Upstream::always(Reply::chat("late"));
    let gateway = Gateway::start(&format!(
        "routing: {{ strategy: failover }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n  - {{ name: two, base_url: {} }}\n",
        first.url(),
        second.url()
    ));
    let client = gateway.ask(&Request::chat("hi"));
    first.wait_requests(1);
    drop(client);
    first.wait_left(0);
    assert_eq!(gateway.send(&Request::get("/healthz")).status(), 200);
    assert_eq!(second.count(), 0);
}

#[test]
fn a_client_that_leaves_while_uploading_takes_nothing_with_it() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::before(&upstream);
    let mut client = Connection::open(gateway.address());
    client.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"model\":");
    drop(client);
    gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn cancelling_one_http2_stream_cancels_its_attempt() {
    let upstream = Upstream::new(|request| match request.number {
        0 => Reply::stream([r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#]).hang(),
        _ => Reply::chat("hello"),
    });
    let gateway = Gateway::before(&upstream);
    http2::cancel(gateway.address(), &Request::chat_stream("hi"), || upstream.wait_left(0));
    gateway.send(&Request::chat("hi")).expect(200);
}

// parity: 128
#[test]
fn a_client_that_leaves_in_the_middle_of_a_streamed_upload_cancels_it() {
    let upstream = Upstream::new(|request| match request.is_complete {
        true => Reply::chat("hello"),
        false => Reply::silence(),
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Connection::open(gateway.address());
    let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    client.write(
        format!("POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 50000000\r\n\r\n{form}")
            .as_bytes(),
    );
    client.write(&vec![b'x'; 1 << 20]);
    upstream.wait("the beginning", |requests| {
        requests.first().filter(|request| request.body.len() > 1000).map(drop)
    });
    let left = now();
    drop(client);
    let took = upstream.wait_left(0).duration_since(left);
    println!("in the middle of an upload: the upstream saw the client leave after {took:?}");
    assert!(took < BOUND, "{took:?}");
    assert!(!upstream.only().is_complete, "what was cut is not passed off as whole");
    gateway.send(&Request::chat("hi")).expect(200);
}
