//! The load: keep-alive connections that write prepared bytes and check every answer, at as little cost as may be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Result;
use crate::message::Message;
use crate::mock;

/// What every connection of a load asks, and the length of the right answer.
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// None: any length.
    answer_len: Option<u64>,
    /// The length of an event of its answer.
    event_len: u64,
}

impl Request {
    /// A chat of one message, answered whole; `body_len` is about the length of its JSON.
    pub(crate) fn chat(body_len: usize) -> Self {
        let line = "The quick brown fox jumps over the lazy dog and wonders what a tokenizer costs.\\n";
        let prompt = line.repeat(body_len.div_ceil(line.len()) - 1);
        let messages = format!(
            r#"[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{prompt}"}}]"#
        );
        Self::post(
            &format!(r#"{{"model":"mock","messages":{messages},"temperature":0.70}}"#),
            mock::WHOLE_LEN,
        )
    }

    /// The chat of [`chat`](Self::chat) in Anthropic's words.
    pub(crate) fn messages(body_len: usize) -> Self {
        let line = "The quick brown fox jumps over the lazy dog and wonders what a tokenizer costs.\\n";
        let prompt = line.repeat(body_len.div_ceil(line.len()) - 1);
        let body = format!(
            r#"{{"model":"mock","max_tokens":1024,"system":"You are a helpful assistant.","messages":[{{"role":"user","content":"{prompt}"}}],"temperature":0.70}}"#
        );
        Self::post_to("/v1/messages", &body, 0).of_any_length()
    }

    /// The stream of [`stream`](Self::stream) without gaps in Anthropic's words.
    pub(crate) fn messages_stream(events: usize) -> Self {
        let messages = r#"[{"role":"user","content":"Count, please."}]"#;
        let body = format!(
            r#"{{"model":"stream:{events}:0:1","max_tokens":1024,"messages":{messages},"stream":true}}"#
        );
        let request = Self::post_to("/v1/messages", &body, 0).of_any_length();
        Self { event_len: mock::MESSAGES_EVENT_LEN, ..request }
    }

    /// A short chat, answered with so many events with a gap between two of them.
    pub(crate) fn stream(events: usize, gap: Duration) -> Self {
        Self::batches(events, 1, gap)
    }

    /// A short chat, answered with so many events, `batch` of them at once with a gap behind.
    pub(crate) fn batches(events: usize, batch: usize, gap: Duration) -> Self {
        let model = format!("stream:{events}:{}:{batch}", gap.as_micros());
        let messages = r#"[{"role":"user","content":"Count, please."}]"#;
        Self::post(
            &format!(r#"{{"model":"{model}","messages":{messages},"stream":true}}"#),
            mock::stream_len(events),
        )
    }

    fn post(body: &str, answer_len: u64) -> Self {
        Self::post_to("/v1/chat/completions", body, answer_len)
    }

    fn post_to(path: &str, body: &str, answer_len: u64) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: */*\r\n"
        );
        Self {
            bytes: format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes(),
            answer_len: Some(answer_len),
            event_len: mock::EVENT_LEN,
        }
    }

    /// Has one more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let end = memmem::find(&self.bytes, b"\r\n").expect("a request has lines") + 2;
        self.bytes.splice(end..end, format!("{name}: {value}\r\n").into_bytes());
        self
    }

    /// Takes answers of any length; their events cannot be counted.
    pub(crate) fn of_any_length(mut self) -> Self {
        self.answer_len = None;
        self
    }
}

/// Connections that ask again and again until they are told to stop.
pub(crate) struct Load {
    progress: Arc<Progress>,
    connections: JoinSet<Result<()>>,
    event_len: f64,
}

#[derive(Default)]
struct Progress {
    answers: AtomicU64,
    body_bytes: AtomicU64,
    is_last: AtomicBool,
}

/// What a load has received.
#[derive(Clone, Copy)]
pub(crate) struct Received {
    pub(crate) answers: u64,
    pub(crate) events: f64,
}

impl Load {
    /// Opens the connections evenly over `ramp` and starts to ask.
    pub(crate) fn start(address: SocketAddr, request: Request, connections: u32, ramp: Duration) -> Self {
        let event_len = request.event_len as f64;
        let (request, progress) = (Arc::new(request), Arc::<Progress>::default());
        let mut tasks = JoinSet::new();
        for index in 0..connections {
            let (request, progress) = (request.clone(), progress.clone());
            tasks.spawn(async move {
                sleep(ramp * index / connections).await;
                repeat(&mut Connection::open(address).await?, &request, &progress).await
            });
        }
        Self { progress, connections: tasks, event_len }
    }

    pub(crate) fn received(&self) -> Received {
        let body_bytes = self.progress.body_bytes.load(Ordering::Relaxed);
        Received {
            answers: self.progress.answers.load(Ordering::Relaxed),
            events: body_bytes as f64 / self.event_len,
        }
    }

    /// Makes the answer each connection is at its last; each has at least one.
    pub(crate) fn wind_down(&self) {
        self.progress.is_last.store(true, Ordering::Relaxed);
    }

    /// Waits for the last answers, and tells what was received in all.
    ///
    /// # Errors
    ///
    /// An answer had another status than 200, the wrong length, or did not come.
    pub(crate) async fn finish(mut self) -> Result<Received> {
        self.wind_down();
        loop {
            let ended = timeout(SILENCE_MAX, self.connections.join_next()).await;
            match ended.map_err(|_| "answers did not come to an end")? {
                Some(connection) => connection??,
                None => return Ok(self.received()),
            }
        }
    }
}

async fn repeat(connection: &mut Connection, request: &Request, progress: &Progress) -> Result<()> {
    loop {
        let count = |len| {
            progress.body_bytes.fetch_add(len, Ordering::Relaxed);
        };
        connection.exchange(request, count).await?;
        progress.answers.fetch_add(1, Ordering::Relaxed);
        if progress.is_last.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

/// How long an answer may take to end.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Times of one exchange, in microseconds from before its request was written.
pub(crate) struct Times {
    pub(crate) first_event_us: f64,
    pub(crate) complete_us: f64,
}

/// Asks over one connection for about `length` and returns the times of each exchange.
pub(crate) async fn time(address: SocketAddr, request: &Request, length: Duration) -> Result<Vec<Times>> {
    let mut connection = Connection::open(address).await?;
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < length {
        times.push(timeout(SILENCE_MAX, connection.exchange(request, |_| ())).await??);
    }
    Ok(times)
}

/// Connections whose answers have begun and stay open; dropping them closes them.
pub(crate) async fn hold(address: SocketAddr, request: &Request, connections: u32) -> Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection::open(address).await?;
        timeout(SILENCE_MAX, connection.begin(request)).await??;
        held.push(connection.stream);
    }
    Ok(held)
}

/// What became of the requests of a flood: how long each answer took, in microseconds.
#[derive(Default)]
pub(crate) struct Flood {
    /// Those with status 200.
    pub(crate) admitted_us: Vec<f64>,
    /// Those with status 503.
    pub(crate) refused_us: Vec<f64>,
}

/// Asks over so many connections for about `length`, each with a pause after every answer, and takes 503 for an answer.
pub(crate) async fn flood(
    address: SocketAddr,
    request: Request,
    connections: u32,
    pause: Duration,
    length: Duration,
) -> Result<Flood> {
    let (request, end) = (Arc::new(request), Instant::now() + length);
    let mut tasks = JoinSet::new();
    for index in 0..connections {
        let request = request.clone();
        tasks.spawn(async move {
            // Spread over a pause, so that they do not come all at once again and again.
            sleep(pause * index / connections).await;
            let mut connection = Connection::open(address).await?;
            let mut flood = Flood::default();
            while Instant::now() < end {
                match timeout(SILENCE_MAX, connection.ask(&request)).await?? {
                    (200, us) => flood.admitted_us.push(us),
                    (503, us) => flood.refused_us.push(us),
                    (status, _) => return Err(format!("an answer was {status}").into()),
                }
                sleep(pause).await;
            }
            Result::Ok(flood)
        });
    }
    let mut all = Flood::default();
    while let Some(ended) = tasks.join_next().await {
        let flood = ended??;
        all.admitted_us.extend(flood.admitted_us);
        all.refused_us.extend(flood.refused_us);
    }
    Ok(all)
}

struct Connection {
    stream: TcpStream,
    message: Message,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, message: Message::default(), buffer: vec![0; 16 * 1024] })
    }

    /// Sends the request and reads the answer to its end; `progress` is told of body bytes as they come.
    async fn exchange(&mut self, request: &Request, mut progress: impl FnMut(u64)) -> Result<Times> {
        let start = Instant::now();
        self.send(request).await?;
        let mut first_event_us = None;
        let mut seen = 0;
        loop {
            let is_complete = self.read().await?;
            let body_len = self.message.body_len();
            if body_len >= mock::EVENT_LEN.min(request.answer_len.unwrap_or(u64::MAX)) {
                first_event_us.get_or_insert_with(|| microseconds(start.elapsed()));
            }
            progress(body_len - seen);
            seen = body_len;
            if is_complete {
                break;
            }
        }
        if let Some(answer_len) = request.answer_len.filter(|answer_len| *answer_len != seen) {
            return Err(format!("an answer had {seen} bytes instead of {answer_len}").into());
        }
        let complete_us = microseconds(start.elapsed());
        Ok(Times { first_event_us: first_event_us.unwrap_or(complete_us), complete_us })
    }

    /// Sends the request and reads the first event.
    async fn begin(&mut self, request: &Request) -> Result<()> {
        self.send(request).await?;
        while self.message.body_len() < mock::EVENT_LEN {
            if self.read().await? {
                return Err("a stream ended that should have been held".into());
            }
        }
        Ok(())
    }

    /// Sends the request and reads the answer to its end, whatever it is; gives its status and how long it took, in
    /// microseconds.
    async fn ask(&mut self, request: &Request) -> Result<(u16, f64)> {
        let start = Instant::now();
        self.send(request).await?;
        while !self.receive().await?.0 {}
        let status = self.message.head().get(9..12).and_then(|status| std::str::from_utf8(status).ok());
        let status = status.and_then(|status| status.parse().ok()).ok_or("an answer without a status")?;
        Ok((status, microseconds(start.elapsed())))
    }

    async fn send(&mut self, request: &Request) -> Result<()> {
        self.message.reset();
        Ok(self.stream.write_all(&request.bytes).await?)
    }

    /// Reads what there is; true at the end of the answer.
    async fn read(&mut self) -> Result<bool> {
        let (is_complete, count) = self.receive().await?;
        let head = self.message.head();
        if !head.is_empty() && !head.starts_with(b"HTTP/1.1 200 ") {
            let shown = [head, &self.buffer[..count]].concat();
            return Err(format!("an answer was not 200: {}", String::from_utf8_lossy(&shown)).into());
        }
        Ok(is_complete)
    }

    /// Reads what there is, of any status: whether that is the end of the answer, and how many bytes it was.
    async fn receive(&mut self) -> Result<(bool, usize)> {
        let count = self.stream.read(&mut self.buffer).await?;
        if count == 0 {
            return Err("a connection was closed before its answer was complete".into());
        }
        Ok((self.message.advance(&self.buffer[..count])?, count))
    }
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
