//! What stands before the gateway: proxies that say where a client is, who is let in, pages of other origins.

use serde_json::json;
use witgate_tests::audit;
use witgate_tests::gateway::Launch;
use witgate_tests::tls::Certificate;
use witgate_tests::{Connection, Gateway, Reply, Request, Upstream};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x12\x67\0\x50";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn gateway(upstream: &Upstream, server: &str) -> Gateway {
    Gateway::start(&format!(
        "server: {{ {server} }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ))
}

/// Where the gateway took each of its clients to be.
#[track_caller]
fn clients(gateway: &Gateway, count: usize) -> Vec<String> {
    let rows = audit::wait(gateway, count);
    rows.iter().map(|row| row["ip"].as_str().unwrap_or("none").to_owned()).collect()
}

// parity: 132
#[test]
fn a_made_up_forwarding_header_is_ignored() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "trusted_proxies: [10.0.0.0/8]");
    let claims = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "6.6.6.6, 10.0.0.1"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
    ];
    for (name, value) in claims {
        gateway.send(&Request::chat("hi").header(name, value)).expect(200);
    }
    assert_eq!(clients(&gateway, claims.len()), ["127.0.0.1"; 4]);
}

// parity: 132
#[test]
fn a_trusted_proxy_is_believed_and_its_client_is_not() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]");
    let honest = [
        Request::chat("hi").header("x-forwarded-for", "6.6.6.6, 192.0.2.1"),
        Request::chat("hi")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-for", "192.0.2.1, 10.1.1.1"),
        Request::chat("hi").header("forwarded", "for=6.6.6.6, for=\"192.0.2.1:4711\";proto=https"),
        Request::chat("hi").header("x-forwarded-for", "[::ffff:192.0.2.1]:80"),
    ];
    for request in &honest {
        gateway.send(request).expect(200);
    }
    gateway.send(&Request::chat("hi").header("x-forwarded-for", "192.0.2.1, unknown")).expect(200);
    let found = clients(&gateway, 5);
    assert_eq!((&found[..4], found[4].as_str()), (&["192.0.2.1"; 4].map(str::to_owned)[..], "127.0.0.1"));
}

#[test]
fn an_upstream_is_not_told_where_a_client_is() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "trusted_proxies: [127.0.0.0/8]");
    let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-real-ip"];
    let request = names.iter().fold(Request::chat("hi"), |request, name| request.header(name, "192.0.2.1"));
    gateway.send(&request).expect(200);
    let sent = upstream.only();
    assert!(names.iter().all(|name| sent.header(name).is_none()), "{:?}", sent.headers);
    assert!(!format!("{:?}", sent.headers).contains("192.0.2.1"), "{:?}", sent.headers);
}

#[test]
fn a_proxy_header_names_the_client() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "proxy_protocol: true, trusted_proxies: [127.0.0.1]");
    for header in [V1, V2, V2_LOCAL, b"PROXY UNKNOWN\r\n"] {
        let mut client = Connection::open(gateway.address());
        // The request follows at once, so that whoever reads too far would have a part of it.
        client.write(&[header, &Request::chat("hi").bytes()].concat());
        client.answer().expect(200);
        client.send(&Request::chat("again").header("x-forwarded-for", "6.6.6.6")).expect(200);
    }
    let named = ["192.0.2.1", "192.0.2.1"];
    // Where a header names nobody the client is the proxy itself, which is believed.
    let peer = ["127.0.0.1", "6.6.6.6"];
    assert_eq!(clients(&gateway, 8), [named, named, peer, peer].concat());
}

#[test]
fn a_proxy_header_may_come_in_pieces_and_before_tls() {
    let certificate = Certificate::new();
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Launch::default()
        .file("cert.pem", &certificate.cert_pem)
        .file("key.pem", &certificate.key_pem)
        .start(&format!(
            "server: {{ proxy_protocol: true, trusted_proxies: 127.0.0.1, tls: {{ cert: cert.pem, key: key.pem }} }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
            upstream.url()
        ));
    for header in [V1, V2] {
        let config = certificate.client(&[]);
        let mut client = Connection::open_tls_after(gateway.address(), config, |tcp| {
            use std::io::Write;
            for byte in header {
                tcp.write_all(&[*byte]).expect("the gateway reads");
            }
        });
        client.send(&Request::chat("hi")).expect(200);
    }
    assert_eq!(clients(&gateway, 2), ["192.0.2.1"; 2]);
}

#[test]
fn a_connection_without_a_proxy_header_is_closed() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let open =
        gateway(&upstream, "proxy_protocol: true, trusted_proxies: [127.0.0.1], header_timeout: 300ms");
    let long = b"PROXY UNKNOWN ".repeat(20);
    for start in [&b""[..], b"PROXY TCP4 192.", b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 a b c d\r\n", &long] {
        let mut client = Connection::open(open.address());
        client.write(start);
        assert_eq!(client.wait_closed(), b"", "{}", start.escape_ascii());
    }
    let closed = gateway(&upstream, "proxy_protocol: true, trusted_proxies: [10.0.0.0/8]");
    let mut client = Connection::open(closed.address());
    // It may be closed before the whole of it is written.
    let _ = client.try_write(&[V1, &Request::chat("hi").bytes()].concat());
    assert_eq!(client.wait_closed(), b"");
    assert_eq!(upstream.count(), 0);
    // The operators' listener has no such header.
    open.send_admin(&Request::get("/metrics")).expect(200);
}

#[test]
fn who_a_proxy_header_names_may_be_a_proxy_too() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "proxy_protocol: true, trusted_proxies: [127.0.0.1, 192.0.2.1]");
    let mut client = Connection::open(gateway.address());
    client.write(V1);
    client.send(&Request::chat("hi").header("x-forwarded-for", "6.6.6.6, 198.51.100.7")).expect(200);
    assert_eq!(clients(&gateway, 1), ["198.51.100.7"]);
}

// parity: 133
#[test]
fn who_is_not_let_in_gets_403_and_is_recorded() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "allow_ips: [192.0.2.0/24], trusted_proxies: [127.0.0.1]");
    let answer = gateway.send(&Request::chat("hi")).expect(403);
    assert_eq!(answer.error_code(), "forbidden");
    // Nothing of a body is waited for.
    let mut client = Connection::open(gateway.address());
    client.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n");
    client.answer().expect(403);
    for page in ["/", "/health", "/readyz", "/v1/models", "/v1/nothing"] {
        gateway.send(&Request::get(page)).expect(403);
    }
    gateway.send(&Request::get("/healthz")).expect(200);
    gateway.send(&Request::chat("hi").header("x-forwarded-for", "192.0.2.1, 198.51.100.7")).expect(403);
    assert_eq!(upstream.count(), 0);
    gateway.send(&Request::chat("hi").header("x-forwarded-for", "198.51.100.7, 192.0.2.1")).expect(200);
    let rows = audit::wait(&gateway, 9);
    let refused: Vec<_> = rows.iter().filter(|row| row["outcome"] == "refused").collect();
    assert_eq!((rows.len(), refused.len()), (9, 8));
    assert!(
        refused.iter().all(|row| row["status"] == 403 && row["error_kind"] == "forbidden"),
        "{refused:?}"
    );
    assert_eq!(refused[7]["ip"], "198.51.100.7");
}

#[test]
fn who_is_let_in_can_change_without_a_restart() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let config = |allowed: &str| {
        format!(
            "server: {{ allow_ips: {allowed} }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
            upstream.url()
        )
    };
    let gateway = Gateway::start(&config("[127.0.0.0/8]"));
    let mut kept = Connection::open(gateway.address());
    kept.send(&Request::chat("hi")).expect(200);
    gateway.rewrite_config(&config("[192.0.2.0/24]"));
    witgate_tests::eventually("the new list", || {
        (gateway.send(&Request::chat("hi")).status() == 403).then_some(())
    });
    kept.send(&Request::chat("hi")).expect(403);
}

// parity: 24
#[test]
fn a_browsers_question_needs_no_key_and_pages_can_read_refusals() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::start(&format!(
        "server: {{ cors: {{ origins: [\"https://app.example\"] }} }}\n\
         plugins: [{{ name: keys, source: 'builtin:key-auth', config: {{ keys: [{{ name: alice, sha256: '2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90' }}] }} }}]\n\
         upstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ));
    let asked = Request::new("OPTIONS", "/v1/chat/completions")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization");
    let leave = gateway.send(&asked).expect(204);
    assert_eq!(leave.header("access-control-allow-headers"), Some("authorization"));
    let page = |request: Request| request.header("origin", "https://app.example");
    let refused = gateway.send(&page(Request::chat("hi"))).expect(401);
    let served = gateway.send(&page(Request::chat("hi")).header("authorization", "Bearer alice")).expect(200);
    for answer in [leave, refused, served] {
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
        // All headers may be read, those of limits among them; cookies are never sent, so nothing is allowed with them.
        assert_eq!(answer.header("access-control-expose-headers"), Some("*"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    let foreign = gateway.send(&Request::chat("hi").header("origin", "https://evil.example")).expect(401);
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    assert_eq!(upstream.count(), 1);
    assert_eq!(upstream.only().json()["messages"], json!([{"role": "user", "content": "hi"}]));
}
