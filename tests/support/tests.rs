//! The support is code too: client and upstream against each other, without a gateway.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::client::{Connection, End, Request};
use crate::tls::Certificate;
use crate::upstream::reply::{Framing, Step};
use crate::{Gate, Refusing, Reply, Upstream, http2, sse};

fn ask(upstream: &Upstream, request: &Request) -> crate::Answer {
    Connection::open(upstream.address()).send(request)
}

#[test]
fn what_is_sent_is_recorded() {
    let upstream = Upstream::new(Reply::echo);
    let mut client = Connection::open(upstream.address());
    for text in ["a", "b"] {
        let answer = client.send(&Request::chat(text).header("X-Team", "search")).expect(200);
        assert_eq!(answer.json()["method"], "POST");
    }
    Connection::open(upstream.address()).send(&Request::get("/v1/models?x=1")).expect(200);
    let requests = upstream.requests();
    assert_eq!(requests.iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(requests[1].header("x-team"), Some("search"));
    assert_eq!(requests[1].json()["messages"][0]["content"], "b");
    assert_eq!(requests[2].target, "/v1/models?x=1");
}

#[test]
fn every_framing_and_split_gives_the_same_body() {
    for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
        for size in [1, 3, 1000] {
            let upstream = Upstream::always(Reply::chat_stream(&["he", "llo"]).framed(framing).split(size));
            let answer = ask(&upstream, &Request::chat_stream("hi")).expect(200);
            assert_eq!((sse::chat_text(&answer.body).as_str(), answer.end), ("hello", End::Complete));
        }
    }
}

#[test]
fn cuts_and_resets_are_seen_as_such() {
    for step in [Step::Cut, Step::Reset] {
        let upstream = Upstream::always(Reply::stream(["a"]).step(step).event("b"));
        let answer = ask(&upstream, &Request::chat_stream("hi"));
        assert_eq!(answer.end, End::Broken);
        assert!(!answer.text().contains('b'));
    }
    let upstream = Upstream::always(Reply::new(200).first(Step::Reset));
    let mut client = Connection::open(upstream.address());
    client.write(&Request::chat("hi").bytes());
    assert!(client.try_head().is_none());
}

#[test]
fn nobody_listens_at_a_refusing_address_or_can() {
    let refusing = Refusing::new();
    let refused = TcpStream::connect(refusing.address()).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let taken = TcpListener::bind(refusing.address()).expect_err("the port is taken");
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
}

#[test]
fn departures_are_seen_in_every_phase() {
    for reply in [Reply::silence(), Reply::stream(["a"]).hang(), Reply::stream(["a"]).wait(&Gate::new())] {
        let upstream = Upstream::always(reply);
        let mut client = Connection::open(upstream.address());
        client.write(&Request::chat("hi").bytes());
        upstream.wait_requests(1);
        let left = crate::now();
        drop(client);
        assert!(upstream.wait_left(0).duration_since(left) < Duration::from_secs(1));
    }
}

#[test]
fn gates_hold_what_is_behind_them() {
    let gate = Gate::new();
    let upstream = Upstream::always(Reply::stream(["a"]).wait(&gate).event("b"));
    let mut client = Connection::open(upstream.address());
    client.write(&Request::chat_stream("hi").bytes());
    assert_eq!(client.head().status, 200);
    assert_eq!(client.event().expect("it is sent at once").data, "a");
    assert!(!upstream.only().is_answered);
    gate.open();
    assert_eq!(client.event().expect("the gate is open").data, "b");
    assert_eq!(client.event(), None);
}

#[test]
fn http2_and_tls_work() {
    let certificate = Certificate::new();
    let upstream = Upstream::tls(&certificate, &["h2", "http/1.1"], Reply::echo);
    let requests = [Request::chat("a"), Request::chat("b")];
    for answer in http2::send(upstream.address(), Some(certificate.client(&["h2"])), &requests) {
        assert_eq!(answer.status(), 200);
    }
    let mut client = Connection::open_tls(upstream.address(), certificate.client(&["http/1.1"]));
    client.send(&Request::chat("c")).expect(200);
    let versions: Vec<_> = upstream.requests().iter().map(|request| request.version).collect();
    assert_eq!(versions, ["HTTP/2", "HTTP/2", "HTTP/1.1"]);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn events_are_read_as_a_browser_does() {
    let text = ": ping\n\ndata: a\ndata: b\n\nevent: e\ndata:c\r\n\r\ndata: half";
    let (events, rest) = sse::split(text);
    let event =
        |name: Option<&str>, data: &str| sse::Event { name: name.map(str::to_owned), data: data.to_owned() };
    assert_eq!(events, [event(None, "a\nb"), event(Some("e"), "c")]);
    assert_eq!(rest, "data: half");
}

#[test]
#[should_panic(expected = "not a status line")]
fn what_is_no_http_is_noticed() {
    Connection::recorded(b"nonsense\r\n\r\n".to_vec()).try_head();
}
