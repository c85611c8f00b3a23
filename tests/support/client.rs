//! A blocking HTTP/1.1 client that hides nothing: it sends the bytes it is told and says how an answer ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::PATIENCE;
use crate::sse::{self, Event};

/// A request to be written.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: "gateway.test".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST of JSON.
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", target) }.header("content-type", "application/json")
    }

    /// A chat request for model `m` with this user text.
    pub fn chat(text: &str) -> Self {
        Self::post(
            "/v1/chat/completions",
            serde_json::json!({"model": "m", "messages": [{"role": "user", "content": text}]}).to_string(),
        )
    }

    /// The same, to be streamed.
    pub fn chat_stream(text: &str) -> Self {
        Self::post(
            "/v1/chat/completions",
            serde_json::json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": text}]})
                .to_string(),
        )
    }

    /// Gives it a body of any type.
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the Host header.
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// The bytes that are sent: with a `content-length` when there is a body.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.host).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !self.body.is_empty() || self.method == "POST" {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// The headers in order; names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// How an answer's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As its framing promised.
    Complete,
    /// The connection broke before.
    Broken,
}

/// An answer read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status and headers.
    pub head: Head,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// How it ended.
    pub end: End,
}

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The error message of an OpenAI error body.
    #[track_caller]
    pub fn error_message(&self) -> String {
        let json = self.json();
        json["error"]["message"].as_str().unwrap_or_else(|| panic!("no error message in {json}")).to_owned()
    }

    /// The error code of an OpenAI error body.
    #[track_caller]
    pub fn error_code(&self) -> String {
        let json = self.json();
        json["error"]["code"].as_str().unwrap_or_else(|| panic!("no error code in {json}")).to_owned()
    }

    /// The data of its events.
    #[track_caller]
    pub fn events(&self) -> Vec<String> {
        sse::data(&self.body)
    }

    /// Checks the status; the body is shown when it differs.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.head.status, status, "{:?}: {}", self.head, String::from_utf8_lossy(&self.body));
        self
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// What was received already.
    Recorded,
}

/// What is left of a body.
enum Body {
    Length(u64),
    Chunks,
    UntilClose,
    Done,
}

/// One connection to a gateway.
pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    body: Body,
    events: String,
}

impl Connection {
    /// Connects.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the gateway listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("the time is not zero");
        Self { stream: Stream::Plain(stream), buffer: Vec::new(), body: Body::Done, events: String::new() }
    }

    /// Connects with TLS, as to `localhost`.
    #[track_caller]
    pub fn open_tls(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        Self::open_tls_after(address, config, |_| ())
    }

    /// The same, but sends something before.
    #[track_caller]
    pub fn open_tls_after(
        address: SocketAddr,
        config: Arc<ClientConfig>,
        first: impl FnOnce(&mut TcpStream),
    ) -> Self {
        let mut plain = Self::open(address);
        if let Stream::Plain(stream) = &mut plain.stream {
            first(stream);
        }
        let name = ServerName::try_from("localhost").expect("it is a name");
        let session = ClientConnection::new(config, name).expect("the settings are valid");
        if let Stream::Plain(stream) = plain.stream {
            plain.stream = Stream::Tls(Box::new(StreamOwned::new(session, stream)));
        }
        plain
    }

    /// Reads answers from bytes that were received before.
    pub fn recorded(bytes: Vec<u8>) -> Self {
        Self { stream: Stream::Recorded, buffer: bytes, body: Body::Done, events: String::new() }
    }

    /// Sends bytes.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).expect("the gateway reads");
    }

    /// Sends bytes, if the gateway still takes them.
    pub fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Stream::Recorded => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Says that nothing more will be sent.
    pub fn shut_write(&self) {
        let tcp = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
            Stream::Recorded => return,
        };
        // The gateway may have closed first.
        let _ = tcp.shutdown(Shutdown::Write);
    }

    /// Sends a request and reads the whole answer.
    #[track_caller]
    pub fn send(&mut self, request: &Request) -> Answer {
        self.write(&request.bytes());
        self.answer()
    }

    /// Reads more into the buffer; false at the end of the connection.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut piece),
            Stream::Tls(stream) => stream.read(&mut piece),
            Stream::Recorded => Ok(0),
        };
        match read {
            Ok(length) => {
                self.buffer.extend_from_slice(&piece[..length]);
                length > 0
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!(
                    "the gateway sent nothing for {PATIENCE:?}; so far: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                )
            }
            Err(_) => false,
        }
    }

    /// Waits for the end of the connection; gives what was sent before it.
    #[track_caller]
    pub fn wait_closed(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads the head of an answer; interim answers (1xx) are passed over.
    ///
    /// # Panics
    /// When it is not valid HTTP.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        self.try_head().expect("the gateway answers before it closes")
    }

    /// Reads the head of an answer; none when the gateway closes without a byte.
    #[track_caller]
    pub fn try_head(&mut self) -> Option<Head> {
        loop {
            let end = loop {
                if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break end + 4;
                }
                if !self.fill() {
                    let got = String::from_utf8_lossy(&self.buffer);
                    assert!(got.is_empty(), "the connection ends inside a head: {got:?}");
                    return None;
                }
            };
            let bytes: Vec<u8> = self.buffer.drain(..end).collect();
            let head = parse_head(&bytes);
            if head.status < 200 {
                continue;
            }
            self.body = framing(&head);
            return Some(head);
        }
    }

    /// Reads the next piece of the body as it arrives; none at its end.
    ///
    /// # Errors
    /// `End::Broken` when the connection ends before the body does.
    #[track_caller]
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, End> {
        match self.body {
            Body::Done => Ok(None),
            Body::Length(0) => {
                self.body = Body::Done;
                Ok(None)
            }
            Body::Length(left) => {
                if self.buffer.is_empty() && !self.fill() {
                    return Err(End::Broken);
                }
                let length = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.body = Body::Length(left - length as u64);
                Ok(Some(self.buffer.drain(..length).collect()))
            }
            Body::UntilClose => {
                if self.buffer.is_empty() && !self.fill() {
                    self.body = Body::Done;
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.buffer)))
            }
            Body::Chunks => self.chunk(),
        }
    }

    #[track_caller]
    fn chunk(&mut self) -> Result<Option<Vec<u8>>, End> {
        let line_end = self.until(|buffer| buffer.windows(2).position(|window| window == b"\r\n"))?;
        let line = String::from_utf8_lossy(&self.buffer[..line_end]).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("not a chunk's size: {line:?}"));
        let start = line_end + 2;
        self.until(|buffer| (buffer.len() >= start + size + 2).then_some(0))?;
        assert_eq!(&self.buffer[start + size..start + size + 2], b"\r\n", "a chunk ends with a line break");
        let piece = self.buffer[start..start + size].to_vec();
        self.buffer.drain(..start + size + 2);
        if size == 0 {
            self.body = Body::Done;
            return Ok(None);
        }
        Ok(Some(piece))
    }

    #[track_caller]
    fn until(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> Result<usize, End> {
        loop {
            if let Some(found) = found(&self.buffer) {
                return Ok(found);
            }
            if !self.fill() {
                return Err(End::Broken);
            }
        }
    }

    /// Reads the next event of a stream as it arrives; none at its end, whole or not.
    #[track_caller]
    pub fn event(&mut self) -> Option<Event> {
        loop {
            let (events, _) = sse::split(&self.events);
            if let Some(event) = events.into_iter().next() {
                let end = self.events.find("\n\n").expect("the gateway ends events with an empty line") + 2;
                self.events.drain(..end);
                return Some(event);
            }
            let piece = self.piece().ok().flatten()?;
            self.events.push_str(std::str::from_utf8(&piece).expect("test events are ASCII"));
        }
    }

    /// Reads what is left of the body.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let mut body = Vec::new();
        loop {
            match self.piece() {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return (body, End::Complete),
                Err(end) => return (body, end),
            }
        }
    }

    /// Reads a whole answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let head = self.head();
        let (body, end) = self.rest();
        Answer { head, body, end }
    }

    /// Reads a whole answer to a HEAD request.
    #[track_caller]
    pub fn answer_to_head(&mut self) -> Head {
        let head = self.head();
        self.body = Body::Done;
        head
    }
}

#[track_caller]
fn parse_head(bytes: &[u8]) -> Head {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| status_line.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3))
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Head { status, headers: lines.filter(|line| !line.is_empty()).map(header).collect() }
}

#[track_caller]
fn framing(head: &Head) -> Body {
    if head.status == 204 || head.status == 304 {
        return Body::Done;
    }
    if head.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        return Body::Chunks;
    }
    match head.header("content-length") {
        Some(length) => Body::Length(length.parse().unwrap_or_else(|_| panic!("not a length: {length:?}"))),
        None => Body::UntilClose,
    }
}
