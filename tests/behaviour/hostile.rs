//! Clients that mean harm. After each attack the gateway answers as before, and its memory and its descriptors are what
//! they were.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use witgate_tests::upstream::reply::chunk;
use witgate_tests::{Connection, Gate, Gateway, Reply, Request, Upstream, eventually, http2, now};

/// How much more memory a gateway may have after an attack: what its allocator keeps, and what its caches hold.
const GROWTH_BYTES_MAX: u64 = 48 << 20;
/// How many more descriptors: connections to the upstream that are kept, files of the audit.
const DESCRIPTORS_MORE_MAX: usize = 16;
/// How long somebody else may wait for an answer while an attack is on; generous, because test machines are loaded.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Connections of one attack.
const CONNECTIONS: usize = 150;

/// Runs an attack on a gateway with these settings.
#[track_caller]
fn check(server: &str, attack: impl FnOnce(&Gateway)) {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::start(&format!(
        "server: {{ {server} }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ));
    for _ in 0..10 {
        gateway.send(&Request::chat("hi")).expect(200);
    }
    let (resident, descriptors) = (gateway.resident_bytes(), gateway.descriptors());
    attack(&gateway);
    gateway.send(&Request::chat("hi")).expect(200);
    eventually("the descriptors to be closed", || {
        (gateway.descriptors() <= descriptors + DESCRIPTORS_MORE_MAX).then_some(())
    });
    eventually("the memory to be free", || {
        (gateway.resident_bytes() <= resident + GROWTH_BYTES_MAX).then_some(())
    });
    assert_eq!(upstream.count(), 11, "no attack reaches the upstream");
}

/// Connections that have each been written these bytes.
fn started(gateway: &Gateway, bytes: &[u8]) -> Vec<Connection> {
    let open = |_| {
        let mut client = Connection::open(gateway.address());
        client.write(bytes);
        client
    };
    (0..CONNECTIONS).map(open).collect()
}

#[test]
fn heads_that_do_not_end_are_closed() {
    check("header_timeout: 500ms", |gateway| {
        let began = now();
        let mut held = started(gateway, b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: ");
        gateway.send(&Request::get("/healthz")).expect(200);
        for client in &mut held {
            // A byte now and then does not help.
            let _ = client.try_write(b"a");
            assert!(!String::from_utf8_lossy(&client.wait_closed()).contains("200 OK"));
        }
        assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
    });
}

#[test]
fn a_further_head_is_due_from_its_first_byte_on() {
    check("header_timeout: 500ms", |gateway| {
        let mut slow = Connection::open(gateway.address());
        let mut idle = Connection::open(gateway.address());
        for client in [&mut slow, &mut idle] {
            client.send(&Request::get("/healthz")).expect(200);
        }
        let began = now();
        slow.write(b"GET /healthz HT");
        slow.wait_closed();
        assert!((Duration::from_millis(450)..WAIT_MAX).contains(&began.elapsed()), "{:?}", began.elapsed());
        // Who has not begun one has as long as before.
        idle.send(&Request::get("/healthz")).expect(200);
    });
}

#[test]
fn bodies_that_do_not_end_hold_up_nobody() {
    check("header_timeout: 500ms", |gateway| {
        let head =
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{\"model\":";
        let held = started(gateway, head.as_bytes());
        let began = now();
        gateway.send(&Request::get("/healthz")).expect(200);
        assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
        drop(held);
    });
}

#[test]
fn huge_heads_are_refused() {
    const HEAD_BYTES_MAX: usize = 64 << 10;
    const HEADERS_MAX: usize = 100;
    check("header_timeout: 10s", |gateway| {
        // As much as is too much and not a byte more: what is not read would have the answer thrown away with the connection.
        let filled = |head: &str| format!("{head}{}", "a".repeat(HEAD_BYTES_MAX - head.len()));
        let with_headers = |count| format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x-a: b\r\n".repeat(count));
        for (head, statuses) in [
            (filled("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: "), &[431][..]),
            (filled("GET /"), &[414, 431]),
            (with_headers(HEADERS_MAX + 1), &[431]),
        ] {
            let mut client = Connection::open(gateway.address());
            client.write(head.as_bytes());
            let answer = client.head();
            assert!(statuses.contains(&answer.status), "{answer:?}");
        }
        for head in [format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)), with_headers(100_000)] {
            let mut client = Connection::open(gateway.address());
            // It is closed before the end of it, often without an answer that could be read.
            let _ = client.try_write(head.as_bytes());
            assert!(client.try_head().is_none_or(|answer| matches!(answer.status, 414 | 431)));
        }
        let numbered = |count| {
            (0..count).fold(Request::get("/healthz"), |request, n| request.header(&format!("x-{n}"), "b"))
        };
        gateway.send(&numbered(HEADERS_MAX - 10)).expect(200);
        let asked = [numbered(HEADERS_MAX - 10), numbered(HEADERS_MAX + 1), numbered(1500)];
        let statuses: Vec<_> =
            http2::send(gateway.address(), None, &asked).iter().map(|answer| answer.status()).collect();
        assert_eq!(statuses, [200, 431, 431]);
    });
}

#[test]
fn a_flood_of_silent_connections_makes_room_for_who_asks() {
    check("connections_max: 40, header_timeout: 10m", |gateway| {
        let flood: Vec<TcpStream> =
            (0..CONNECTIONS).map(|_| TcpStream::connect(gateway.address()).expect("it listens")).collect();
        for _ in 0..5 {
            let began = now();
            gateway.send(&Request::get("/healthz")).expect(200);
            assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
        }
        // Their own half is still open; nothing of them is held any more.
        drop(flood);
    });
}

#[test]
fn a_flood_of_begun_heads_makes_room_for_who_asks() {
    check("connections_max: 40, header_timeout: 10m", |gateway| {
        let held = started(gateway, b"POST /v1/chat/comp");
        let began = now();
        gateway.send(&Request::get("/healthz")).expect(200);
        assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
        drop(held);
    });
}

#[test]
fn a_flood_of_connections_ends_no_stream() {
    let gate = Gate::new();
    let upstream = Upstream::always(
        Reply::stream([chunk(&json!({"content": "a"}), None)])
            .wait(&gate)
            .event(&chunk(&json!({}), Some("stop")))
            .event("[DONE]"),
    );
    let gateway = Gateway::start(&format!(
        "server: {{ connections_max: 20 }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
        upstream.url()
    ));
    let mut streams: Vec<Connection> = (0..10).map(|_| gateway.ask(&Request::chat_stream("hi"))).collect();
    for stream in &mut streams {
        assert_eq!(stream.head().status, 200);
        assert!(stream.event().is_some());
    }
    let flood: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(gateway.address()).expect("it listens")).collect();
    gateway.send(&Request::get("/healthz")).expect(200);
    gate.open();
    for stream in &mut streams {
        let (rest, _) = stream.rest();
        assert!(String::from_utf8_lossy(&rest).contains("[DONE]"));
    }
    drop(flood);
}

#[test]
fn idle_connections_cost_little_and_keep_working() {
    const BYTES_EACH_MAX: u64 = 64 << 10;
    check("header_timeout: 10s", |gateway| {
        let before = gateway.resident_bytes();
        let mut held: Vec<Connection> =
            (0..CONNECTIONS).map(|_| Connection::open(gateway.address())).collect();
        for client in &mut held {
            client.send(&Request::get("/healthz")).expect(200);
        }
        let each = gateway.resident_bytes().saturating_sub(before) / CONNECTIONS as u64;
        println!("an idle connection holds {each} bytes");
        assert!(each <= BYTES_EACH_MAX, "{each}");
        for client in &mut held {
            client.send(&Request::get("/healthz")).expect(200);
        }
    });
}

/// A frame of HTTP/2.
///
/// Source: RFC 9113, section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("frames are small").to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a POST as HPACK without a table of its own. Source: RFC 7541, section 6 and appendix A.
fn head_block() -> Vec<u8> {
    let path = b"/v1/chat/completions";
    let len = u8::try_from(path.len()).expect("it is short");
    [&[0x83, 0x86, 0x01, 1, b'x', 0x04, len][..], path].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// Opens a connection of HTTP/2 and writes these pieces as far as the gateway takes them; says whether it gave up first.
fn flood(gateway: &Gateway, pieces: impl Iterator<Item = Vec<u8>>) -> bool {
    let mut stream = TcpStream::connect(gateway.address()).expect("it listens");
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("the time is not zero");
    let mut reader = stream.try_clone().expect("there are descriptors");
    // Whatever it says is read, so that only the attack itself is in its way.
    let reading = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = reader.read_to_end(&mut said);
        said
    });
    let mut was_closed = stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).is_err();
    for piece in pieces {
        if stream.write_all(&piece).is_err() {
            was_closed = true;
            break;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    reading.join().expect("it only reads");
    was_closed
}

/// A connection of HTTP/2 that has had the answer to one request, and says nothing from then on.
fn fallen_silent(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).expect("it listens");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("the time is not zero");
    // `GET /healthz` with the authority `x`.
    let block = [&[0x82, 0x86, 0x01, 1, b'x', 0x04, 8][..], b"/healthz"].concat();
    let asked = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &asked].concat()).expect("it reads");
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("it answers");
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).expect("frames are whole");
        if head[3] == DATA && head[4] & END_STREAM != 0 {
            return stream;
        }
    }
}

#[test]
fn silent_clients_of_http2_make_room_for_who_asks() {
    check("connections_max: 4", |gateway| {
        for _ in 0..2 {
            let held: Vec<TcpStream> = (0..4).map(|_| fallen_silent(gateway)).collect();
            let began = now();
            gateway.send(&Request::get("/healthz")).expect(200);
            assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
            drop(held);
        }
    });
}

#[test]
fn a_rapid_reset_over_http2_is_survived() {
    check("header_timeout: 10s", |gateway| {
        let block = head_block();
        let reset = |n: u32| {
            [frame(HEADERS, END_HEADERS, 2 * n + 1, &block), frame(RST_STREAM, 0, 2 * n + 1, &CANCEL)]
                .concat()
        };
        flood(gateway, (0..200).map(|batch| (0..50).flat_map(|n| reset(batch * 50 + n)).collect()));
    });
}

#[test]
fn a_head_without_end_over_http2_is_closed() {
    check("header_timeout: 10s", |gateway| {
        let first = frame(HEADERS, 0, 1, &head_block());
        // Literal headers `a: bbb…` of a length that fits a frame.
        let more = frame(CONTINUATION, 0, 1, &[&[0, 1, b'a', 100][..], &[b'b'; 100]].concat().repeat(100));
        let was_closed = flood(gateway, std::iter::once(first).chain(std::iter::repeat_n(more, 10_000)));
        assert!(was_closed, "a hundred megabytes of headers are not taken");
    });
}

#[test]
fn empty_parts_of_a_head_over_http2_are_bounded() {
    check("header_timeout: 10s", |gateway| {
        let first = frame(HEADERS, 0, 1, &head_block());
        let empty = frame(CONTINUATION, 0, 1, &[]).repeat(1000);
        let was_closed = flood(gateway, std::iter::once(first).chain(std::iter::repeat_n(empty, 1000)));
        assert!(was_closed, "a million parts are not taken");
    });
}

#[test]
fn floods_of_pings_and_settings_over_http2_are_survived() {
    for flooded in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        check("header_timeout: 10s", |gateway| {
            flood(gateway, std::iter::repeat_n(flooded.repeat(500), 100));
        });
    }
}
