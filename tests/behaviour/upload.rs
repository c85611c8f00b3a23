//! Big forms are streamed, not collected.

use witgate_tests::{Connection, Gateway, Reply, Upstream, now};

const BOUNDARY: &str = "----boundary7f3c";

fn part(name: &str, more: &str, body: &str) -> String {
    format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{body}")
}

/// The form in two halves around `size` bytes of audio.
fn form(model: &str) -> (String, String) {
    let start = format!(
        "{}\r\n{}\r\n{}",
        part("model", "", model),
        part("response_format", "", "srt"),
        part("file", "; filename=\"speech \u{e9}.wav\"\r\nContent-Type: audio/wav", "")
    );
    (start, format!("\r\n--{BOUNDARY}--\r\n"))
}

fn audio(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[track_caller]
fn upload(gateway: &Gateway, upstream: &Upstream, size: usize) -> witgate_tests::Answer {
    let ((start, end), audio) = (form("whisper"), audio(size));
    let length = start.len() + audio.len() + end.len();
    let mut client = Connection::open(gateway.address());
    let head = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\ncontent-length: {length}\r\n\r\n{start}"
    );
    client.write(head.as_bytes());
    let (first, rest) = audio.split_at(1 << 20);
    client.write(first);
    let seen = now();
    upstream.wait("the upload's beginning, before its end has been sent", |requests| {
        requests.first().filter(|request| request.body.len() > 64 << 10).map(|_| ())
    });
    println!("the upstream had the beginning after {:?}", seen.elapsed());
    client.write(rest);
    client.write(end.as_bytes());
    client.answer()
}

fn srt() -> Reply {
    Reply::new(200)
        .header("content-type", "application/x-subrip")
        .body("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
}

// parity: 5
#[test]
fn twenty_megabytes_reach_the_upstream_while_they_arrive() {
    let upstream = Upstream::always(srt());
    let gateway = Gateway::before(&upstream);
    let answer = upload(&gateway, &upstream, 20 << 20).expect(200);
    assert_eq!(answer.header("content-type"), Some("application/x-subrip"));
    assert!(answer.text().starts_with("1\n00:00"));
    let received = upstream.only();
    assert_eq!(received.header("content-type"), Some(&*format!("multipart/form-data; boundary={BOUNDARY}")));
    let (start, end) = form("whisper");
    assert!(
        received.body == [start.as_bytes(), &audio(20 << 20), end.as_bytes()].concat(),
        "every byte arrives"
    );
}

// parity: 5, 93
#[test]
fn an_alias_is_rewritten_in_a_streamed_form() {
    let upstream = Upstream::always(srt());
    let gateway = Gateway::start(&format!(
        "upstreams:\n  - {{ name: one, base_url: {}, models: {{ whisper: \"org/whisper-large-v3\" }} }}\n",
        upstream.url()
    ));
    upload(&gateway, &upstream, 4 << 20).expect(200);
    let (start, end) = form("org/whisper-large-v3");
    assert!(upstream.only().body == [start.as_bytes(), &audio(4 << 20), end.as_bytes()].concat());
}

// parity: 5
#[test]
fn a_model_after_the_file_is_found_too() {
    let upstream = Upstream::always(srt());
    let gateway = Gateway::start(&format!(
        "upstreams:\n  - {{ name: one, base_url: {}, models: {{ whisper: other }} }}\n",
        upstream.url()
    ));
    let form = |model: &str| {
        let file = "x".repeat(3 << 20);
        format!(
            "{}\r\n{}\r\n--{BOUNDARY}--\r\n",
            part("file", "; filename=a", &file),
            part("model", "", model)
        )
    };
    let request = witgate_tests::Request::post("/v1/audio/translations", form("whisper"));
    let bytes = String::from_utf8(request.bytes()).expect("the form is text");
    let bytes = bytes.replacen("application/json", &format!("multipart/form-data; boundary={BOUNDARY}"), 1);
    let mut client = Connection::open(gateway.address());
    client.write(bytes.as_bytes());
    client.answer().expect(200);
    assert!(upstream.only().body == form("other").as_bytes());
}
