//! Sockets: TLS, HTTP/2, pools, bounds on what a client sends.

use witgate_tests::client::{Connection, Request};
use witgate_tests::gateway::Launch;
use witgate_tests::tls::Certificate;
use witgate_tests::upstream::reply::Step;
use witgate_tests::{Gateway, Reply, Upstream, eventually, http2};

fn tls_gateway(certificate: &Certificate, upstream: &Upstream) -> Gateway {
    Launch::default().file("cert.pem", &certificate.cert_pem).file("key.pem", &certificate.key_pem).start(&format!(
        "server: {{ tls: {{ cert: cert.pem, key: key.pem }} }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ))
}

#[test]
fn tls_serves_both_protocols() {
    let certificate = Certificate::new();
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["he", "llo"]));
    let gateway = tls_gateway(&certificate, &upstream);
    assert!(gateway.url().starts_with("https://"));
    for protocols in [&["http/1.1"][..], &[]] {
        let mut client = Connection::open_tls(gateway.address(), certificate.client(protocols));
        client.send(&Request::chat("hi")).expect(200);
        let stream = client.send(&Request::chat_stream("hi")).expect(200);
        assert_eq!(witgate_tests::sse::chat_text(&stream.body), "hello");
    }
    let requests = [Request::chat("hi"), Request::chat_stream("hi")];
    let answers = http2::send(gateway.address(), Some(certificate.client(&["h2"])), &requests);
    assert_eq!(answers.iter().map(witgate_tests::Answer::status).collect::<Vec<_>>(), [200, 200]);
    assert_eq!(witgate_tests::sse::chat_text(&answers[1].body), "hello");
}

#[test]
fn plain_text_on_a_tls_listener_takes_nothing_with_it() {
    let certificate = Certificate::new();
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = tls_gateway(&certificate, &upstream);
    let mut plain = Connection::open(gateway.address());
    plain.write(&Request::chat("hi").bytes());
    assert!(!String::from_utf8_lossy(&plain.wait_closed()).contains("hello"));
    Connection::open_tls(gateway.address(), certificate.client(&[])).send(&Request::chat("hi")).expect(200);
}

#[test]
fn http2_works_by_prior_knowledge() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["he", "llo"]));
    let gateway = Gateway::before(&upstream);
    let requests: Vec<Request> = (0..20).map(|_| Request::chat_stream("hi")).collect();
    for answer in http2::send(gateway.address(), None, &requests) {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("connection"), None);
        assert_eq!(witgate_tests::sse::chat_text(&answer.body), "hello");
    }
}

// parity: 136
#[test]
fn upstream_connections_are_used_again() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["he", "llo"]));
    let gateway = Gateway::before(&upstream);
    for _ in 0..5 {
        gateway.send(&Request::chat("hi")).expect(200);
        gateway.send(&Request::chat_stream("hi")).expect(200);
        gateway.send(&Request::post("/v1/chat/completions", "{")).expect(400);
    }
    assert_eq!((upstream.count(), upstream.connections()), (10, 1));
}

// parity: 117
#[test]
fn a_pooled_connection_that_died_costs_no_request() {
    let upstream =
        Upstream::always(Reply::chat("hello").step(Step::Cut).header("content-length", &chat_length()));
    let gateway = Gateway::before(&upstream);
    for count in 1..=10 {
        gateway.send(&Request::chat("hi")).expect(200);
        assert_eq!(upstream.count(), count, "nothing is sent twice");
        // Only a connection that had died before is promised to cost nothing.
        upstream.wait("the connection's end", |requests| requests.last()?.is_answered.then_some(()));
    }
}

fn chat_length() -> String {
    // The same document that `Reply::chat("hello")` sends.
    let upstream = Upstream::always(Reply::chat("hello"));
    let answer = Connection::open(upstream.address()).send(&Request::chat("hi"));
    answer.body.len().to_string()
}

// parity: 136
#[test]
fn http2_is_spoken_upstream_where_it_is_offered() {
    let certificate = Certificate::new();
    let upstream = Upstream::tls(&certificate, &["h2", "http/1.1"], |request| {
        Reply::chat_as_asked(request, &["he", "llo"])
    });
    let gateway = trusting(&certificate, &upstream);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                gateway.send(&Request::chat("hi")).expect(200);
                let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
                assert_eq!(witgate_tests::sse::chat_text(&answer.body), "hello");
            });
        }
    });
    assert!(upstream.requests().iter().all(|request| request.version == "HTTP/2"));
    assert!(upstream.connections() <= 8, "{} connections", upstream.connections());
    assert_eq!(upstream.count(), 16);
}

#[test]
fn a_client_that_leaves_resets_its_http2_stream_upstream() {
    let certificate = Certificate::new();
    let upstream = Upstream::tls(&certificate, &["h2"], |request| match request.number {
        0 => Reply::stream([r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#]).hang(),
        1 => Reply::silence(),
        _ => Reply::chat("hello"),
    });
    let gateway = trusting(&certificate, &upstream);
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    assert!(client.event().is_some());
    drop(client);
    upstream.wait_left(0);
    let client = gateway.ask(&Request::chat("hi"));
    upstream.wait_requests(2);
    drop(client);
    upstream.wait_left(1);
    gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(upstream.connections(), 1, "only the streams are given up");
}

fn trusting(certificate: &Certificate, upstream: &Upstream) -> Gateway {
    Launch::default().file("ca.pem", &certificate.cert_pem).start(&format!(
        "upstreams:\n  - {{ name: one, base_url: \"{}\", tls: {{ ca: ca.pem }} }}\n",
        upstream.url()
    ))
}

// parity: 137
#[test]
fn upstream_certificates_are_verified() {
    let certificate = Certificate::new();
    let upstream = Upstream::tls(&certificate, &["http/1.1"], |_| Reply::chat("hello"));
    let refusing = Gateway::start(&format!(
        "retry: {{ same_upstream: 0 }}\nupstreams:\n  - {{ name: one, base_url: \"{}\" }}\n",
        upstream.url()
    ));
    let answer = refusing.send(&Request::chat("hi")).expect(502);
    assert!(!answer.text().contains(&upstream.address().to_string()), "{}", answer.text());
    assert_eq!(upstream.count(), 0);
    trusting(&certificate, &upstream).send(&Request::chat("hi")).expect(200);
    let insecure = Gateway::start(&format!(
        "upstreams:\n  - {{ name: one, base_url: \"{}\", tls: {{ insecure: true }} }}\n",
        upstream.url()
    ));
    insecure.send(&Request::chat("hi")).expect(200);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn compressed_answers_can_still_be_edited() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["he", "llo"]).gzip());
    let gateway = Gateway::start(&format!(
        "upstreams:\n  - {{ name: one, base_url: {}, special_prefix: \"> \" }}\n",
        upstream.url()
    ));
    for encoding in ["gzip, br", "identity"] {
        let whole = gateway.send(&Request::chat("hi").header("accept-encoding", encoding)).expect(200);
        assert_eq!(whole.header("content-encoding"), None);
        assert_eq!(whole.json()["choices"][0]["message"]["content"], "> hello");
        let stream =
            gateway.send(&Request::chat_stream("hi").header("accept-encoding", encoding)).expect(200);
        assert_eq!(stream.header("content-encoding"), None);
        assert_eq!(witgate_tests::sse::chat_text(&stream.body), "> hello");
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::start(&format!(
        "server: {{ request_body_max: 1KiB }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ));
    let mut client = Connection::open(gateway.address());
    client.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n");
    let answer = client.answer().expect(413);
    assert_eq!(answer.error_code(), "request_too_large");
    let mut client = Connection::open(gateway.address());
    client.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    client.write(format!("800\r\n{}\r\n", "x".repeat(2048)).as_bytes());
    client.answer().expect(413);
    assert_eq!(upstream.count(), 0);
}

// parity: 95
#[test]
fn ten_megabytes_pass() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::before(&upstream);
    let request = Request::chat(&"x".repeat(10 << 20));
    gateway.send(&request).expect(200);
    assert!(request.bytes().ends_with(&upstream.only().body));
}

#[test]
fn expect_continue_and_pipelining_and_chunked_requests_work() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::before(&upstream);
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let mut client = Connection::open(gateway.address());
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n";
    client.write(format!("{head}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
    client.write(body.as_bytes());
    client.answer().expect(200);
    client.write(
        format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes(),
    );
    client.answer().expect(200);
    client.write(&[Request::chat("one").bytes(), Request::get("/healthz").bytes()].concat());
    client.answer().expect(200);
    assert_eq!(client.answer().expect(200).text(), "OK");
    assert_eq!(upstream.requests()[1].body, body.as_bytes());
}

#[test]
fn garbage_is_400_or_closed() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::before(&upstream);
    for garbage in [
        "\x00\x01\x02\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
    ] {
        let mut client = Connection::open(gateway.address());
        client.write(garbage.as_bytes());
        if let Some(head) = client.try_head() {
            assert_eq!(head.status, 400, "{garbage:?}");
        }
    }
    gateway.send(&Request::chat("hi")).expect(200);
}

#[test]
fn connections_are_bounded() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::start(&format!(
        "server: {{ connections_max: 2 }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ));
    let mut held: Vec<Connection> = (0..2).map(|_| Connection::open(gateway.address())).collect();
    for client in &mut held {
        client.send(&Request::chat("hi")).expect(200);
    }
    let mut third = Connection::open(gateway.address());
    third.write(&Request::chat("hi").bytes());
    held.pop();
    third.answer().expect(200);
    eventually("all three", || (upstream.count() == 3).then_some(()));
}

// parity: 138
#[test]
fn json_is_compressed_for_who_asks_and_streams_never_are() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &[&"long ".repeat(1000)]));
    let gateway = Gateway::start(&format!(
        "server: {{ compress: true }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ));
    let gzip = |request: Request| request.header("accept-encoding", "gzip, deflate, br");
    let plain = gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(plain.header("content-encoding"), None);
    let answer = gateway.send(&gzip(Request::chat("hi"))).expect(200);
    assert_eq!(
        (answer.header("content-encoding"), answer.header("vary")),
        (Some("gzip"), Some("accept-encoding"))
    );
    assert!(answer.body.len() * 10 < plain.body.len(), "{} bytes", answer.body.len());
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut text)
        .expect("it is gzip");
    assert_eq!(text, plain.body);
    let stream = gateway.send(&gzip(Request::chat_stream("hi"))).expect(200);
    assert_eq!(stream.header("content-encoding"), None);
    assert!(stream.text().contains("long"));
    let short = gateway.send(&gzip(Request::get("/healthz"))).expect(200);
    assert_eq!(short.header("content-encoding"), None);
    let silent = Gateway::before(&upstream).send(&gzip(Request::chat("hi"))).expect(200);
    assert_eq!(silent.header("content-encoding"), None, "nobody has asked the operator");
}
