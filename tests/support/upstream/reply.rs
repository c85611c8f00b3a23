//! What a scripted upstream answers: a head, and a body in steps.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::upstream::Received;

/// A door that a test opens; a reply can wait behind it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed one.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets everything pass, from now on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open.
    #[track_caller]
    pub fn wait_open(&self, what: &str) {
        crate::eventually(what, || self.0.borrow().then_some(()));
    }

    pub(super) async fn passed(&self) {
        let mut seen = self.0.subscribe();
        // An error would say that the sender is gone, and `self` holds it.
        let _ = seen.wait_for(|is_open| *is_open).await;
    }
}

/// One thing an upstream does while it answers.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends bytes, in one write.
    Bytes(Bytes),
    /// Waits.
    Pause(Duration),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Opens a gate, so that the test knows how far the answer is.
    Tell(Gate),
    /// Closes the connection here, whatever was promised.
    Cut,
    /// Resets the connection here (RST).
    Reset,
    /// Does nothing until the peer leaves.
    Hang,
}

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By `content-length`.
    Length,
    /// By chunks.
    Chunked,
    /// By closing the connection.
    Close,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) before: Vec<Step>,
    /// None sends the body's bytes as they are: they are the whole answer.
    pub(crate) head: Option<(u16, Vec<(String, String)>)>,
    pub(super) framing: Framing,
    pub(crate) body: Vec<Step>,
    pub(super) closes: bool,
}

impl Reply {
    /// An empty answer.
    pub fn new(status: u16) -> Self {
        Self {
            before: Vec::new(),
            head: Some((status, Vec::new())),
            framing: Framing::Length,
            body: Vec::new(),
            closes: false,
        }
    }

    /// Bytes that are sent as they are, head included; the connection is closed after them.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { head: None, framing: Framing::Close, closes: true, ..Self::new(200) }.body(bytes)
    }

    /// A JSON answer with a `content-length`.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status).header("content-type", "application/json").body(body)
    }

    /// An event stream, one write for each event's data, without any end mark of its own.
    pub fn stream<T: AsRef<str>>(data: impl IntoIterator<Item = T>) -> Self {
        let empty = Self::new(200).header("content-type", "text/event-stream").chunked();
        data.into_iter().fold(empty, |reply, data| reply.event(data.as_ref()))
    }

    /// A whole chat answer.
    pub fn chat(text: &str) -> Self {
        Self::json(
            200,
            json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            })
            .to_string(),
        )
    }

    /// A chat stream of these texts, with a finish reason and `[DONE]`, without usage.
    pub fn chat_stream(texts: &[&str]) -> Self {
        let deltas = texts.iter().map(|text| chunk(&json!({"content": text}), None));
        Self::stream(deltas).event(&chunk(&json!({}), Some("stop"))).event("[DONE]")
    }

    /// The answer to a chat request: whole or streamed as it asks for.
    pub fn chat_as_asked(request: &Received, texts: &[&str]) -> Self {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        if body["stream"] == true { Self::chat_stream(texts) } else { Self::chat(&texts.concat()) }
    }

    /// A list of models.
    pub fn models(ids: &[&str]) -> Self {
        let data: Vec<_> =
            ids.iter().map(|id| json!({"id": id, "object": "model", "owned_by": "test"})).collect();
        Self::json(200, json!({"object": "list", "data": data}).to_string())
    }

    /// An error as OpenAI writes it.
    pub fn error(status: u16, message: &str) -> Self {
        Self::json(
            status,
            json!({"error": {"message": message, "type": "upstream", "param": null, "code": null}})
                .to_string(),
        )
    }

    /// An answer that holds what was asked: method, target, headers and the body as text.
    pub fn echo(request: &Received) -> Self {
        Self::json(
            200,
            json!({
                "method": request.method, "target": request.target, "headers": request.headers,
                "body": String::from_utf8_lossy(&request.body),
            })
            .to_string(),
        )
    }

    /// Replaces the status.
    pub fn status(mut self, status: u16) -> Self {
        if let Some((known, _)) = &mut self.head {
            *known = status;
        }
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Some((_, headers)) = &mut self.head {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Adds a piece of the body, sent in one write.
    pub fn body(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Bytes(bytes.into()))
    }

    /// Adds an event with this data.
    pub fn event(self, data: &str) -> Self {
        self.body(format!("data: {data}\n\n"))
    }

    /// Adds something to do in the body.
    pub fn step(mut self, step: Step) -> Self {
        self.body.push(step);
        self
    }

    /// Adds something to do before the head.
    pub fn first(mut self, step: Step) -> Self {
        self.before.push(step);
        self
    }

    /// Waits for the gate, here in the body.
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Opens the gate, here in the body.
    pub fn tell(self, gate: &Gate) -> Self {
        self.step(Step::Tell(gate.clone()))
    }

    /// Goes silent, here in the body.
    pub fn hang(self) -> Self {
        self.step(Step::Hang)
    }

    /// Never answers.
    pub fn silence() -> Self {
        Self::new(200).first(Step::Hang)
    }

    /// Sends the body in chunks.
    pub fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Marks the body's end in this way.
    pub fn framed(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Closes the connection after the answer and says so.
    pub fn closing(mut self) -> Self {
        self.closes = true;
        self.header("connection", "close")
    }

    /// Compresses the body as it stands into one piece.
    pub fn gzip(mut self) -> Self {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for step in self.body.drain(..) {
            if let Step::Bytes(bytes) = step {
                encoder.write_all(&bytes).expect("a Vec takes every write");
            }
        }
        let packed = encoder.finish().expect("a Vec takes every write");
        self.header("content-encoding", "gzip").body(packed)
    }

    /// Sends the body's bytes in pieces of `size`, each in a write of its own.
    pub fn split(mut self, size: usize) -> Self {
        let steps = std::mem::take(&mut self.body);
        for step in steps {
            match step {
                Step::Bytes(bytes) => {
                    self.body
                        .extend(bytes.chunks(size).map(|piece| Step::Bytes(Bytes::copy_from_slice(piece))));
                }
                other => self.body.push(other),
            }
        }
        self
    }

    pub(super) fn body_bytes(&self) -> usize {
        let length = |step: &Step| if let Step::Bytes(bytes) = step { bytes.len() } else { 0 };
        self.body.iter().map(length).sum()
    }

    /// The head as HTTP/1.1 writes it; empty for a raw reply.
    pub(super) fn head_bytes(&self) -> Bytes {
        let Some((status, headers)) = &self.head else { return Bytes::new() };
        let reason = http::StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Status"));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        match self.framing {
            Framing::Length if *status != 204 && !has_length => {
                head.push_str(&format!("content-length: {}\r\n", self.body_bytes()));
            }
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
            Framing::Length | Framing::Close => {}
        }
        head.push_str("\r\n");
        head.into()
    }
}

/// One chunk of a chat stream.
pub fn chunk(delta: &Value, finish_reason: Option<&str>) -> String {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    })
    .to_string()
}
