//! Two thousand requests and answers that are not what they should be: the gateway stays alive and speaks HTTP.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;
use witgate_tests::upstream::reply::chunk;
use witgate_tests::{Connection, Gateway, PATIENCE, Reply, Request, Upstream};

const SEED: u64 = 0x5eed_0002;
const CASES: u64 = 1000;

/// A small generator (SplitMix64): the same cases on every machine, a single one named by its number.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Tokens that parsers trip over.
const NASTY: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xff\xfe",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"1e999",
    b"-",
    b":",
    b"data: ",
    b"data: [DONE]\n\n",
    b"\n\n",
    b"event: x\n",
    b"null",
    b"true",
    b"content-length: 7\r\n",
    b"content-length: -1\r\n",
    b"transfer-encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"content-encoding: gzip\r\n",
    b"connection: upgrade\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"\x80",
    b"99999999999999999999",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"\"model\":",
    b"\"messages\":5,",
    b"\"usage\":",
    b"\"choices\":[",
    b"<think>",
    b"%2e%2e/",
    b"//",
    b"?key=",
    b" ",
];

fn mutate(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => {
                let end = (at + random.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                bytes.splice(at..at, random.pick(NASTY).iter().copied());
            }
        }
        if bytes.is_empty() {
            bytes.push(b'{');
        }
    }
    bytes
}

fn requests() -> Vec<Vec<u8>> {
    let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nRIFF\r\n--b--\r\n";
    let multipart = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let tools = json!({"model": "m", "stream": true, "stop": ["a"], "max_tokens": 5, "tools": [{"type": "function"}],
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "é\u{1f600}"}]}]});
    vec![
        Request::chat("hi").bytes(),
        Request::post("/v1/chat/completions", tools.to_string()).bytes(),
        Request::post("/completions", r#"{"model":"m","prompt":["a","b"]}"#).bytes(),
        Request::post("/v1/embeddings", r#"{"model":"m","input":[[1,2],[3]]}"#).bytes(),
        Request::post("/v1/rerank", r#"{"model":"m","query":"q","documents":["a"]}"#).bytes(),
        Request::get("/v1/models/m").header("authorization", "Bearer x").bytes(),
        multipart.into_bytes(),
    ]
}

/// Sends bytes and gives everything that comes back until the end of the connection.
fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    // The gateway may answer and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut said = Vec::new();
    // A request that is cut short waits for its rest; the shutdown below tells that there is none.
    for patience in [Duration::from_millis(60), PATIENCE] {
        stream.set_read_timeout(Some(patience)).expect("the time is not zero");
        loop {
            let mut piece = [0; 8192];
            match stream.read(&mut piece) {
                Ok(0) => return said,
                Ok(length) => said.extend_from_slice(&piece[..length]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    break;
                }
                Err(_) => return said,
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    }
    panic!("the gateway keeps a connection whose client is gone")
}

/// Reads every answer in `said`.
///
/// # Panics
/// When one is not valid HTTP.
fn read_answers(said: Vec<u8>) {
    let mut connection = Connection::recorded(said);
    while connection.try_head().is_some() {
        if connection.rest().1 == witgate_tests::client::End::Broken {
            return;
        }
    }
}

fn in_parallel(run: impl Fn(u64, &mut Random) + Sync) {
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let run = &run;
            scope.spawn(move || {
                for case in (worker..CASES).step_by(8) {
                    run(case, &mut Random(SEED.wrapping_add(case << 20)));
                }
            });
        }
    });
}

#[test]
fn malformed_requests_end_nothing_but_themselves() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["he", "llo"]));
    let mut gateway = Gateway::before(&upstream);
    let requests = requests();
    in_parallel(|_, random| {
        let bytes = mutate(random.pick(&requests).clone(), random);
        read_answers(say(gateway.address(), &bytes));
    });
    assert!(gateway.is_running());
    gateway.send(&Request::chat("hi")).expect(200);
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

#[test]
fn malformed_answers_end_nothing_but_themselves() {
    let events: Vec<String> =
        ["he", "llo"].iter().map(|text| chunk(&json!({"content": text}), None)).collect();
    let stream = format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", events[0], events[1]);
    let whole = json!({"choices": [{"message": {"content": "<think>a</think>b"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}});
    let whole = whole.to_string();
    let answers = [
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{stream}"),
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{stream}\r\n0\r\n\r\n",
            stream.len()
        ),
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{whole}",
            whole.len()
        ),
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
    ];
    let upstream = Upstream::new(move |request| {
        let number = request.json()["seed"].as_u64().unwrap_or(u64::MAX);
        if number == u64::MAX {
            return Reply::chat("hello");
        }
        let mut random = Random(SEED ^ number);
        Reply::raw(mutate(random.pick(&answers).clone().into_bytes(), &mut random))
            .split(1 + random.below(200))
    });
    let mut gateway = Gateway::start(&format!(
        "retry: {{ same_upstream: 0 }}\nbreaker: {{ failures: 0 }}\nupstreams:\n  - {{ name: one, base_url: {}, special_prefix: \"> \", thinking_format: reasoning }}\n",
        upstream.url()
    ));
    in_parallel(|case, _| {
        let body = json!({"model": "m", "seed": case, "stream": case % 2 == 0, "messages": [{"role": "user", "content": "hi"}]});
        let mut client = gateway.ask(&Request::post("/v1/chat/completions", body.to_string()));
        let head = client.try_head().unwrap_or_else(|| panic!("case {case}: closed without an answer"));
        assert!(head.status < 600, "case {case}");
        client.rest();
    });
    assert!(gateway.is_running());
    gateway.send(&Request::chat("hi")).expect(200);
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}
