//! The upstream: canned answers over raw TCP, so that it costs little beside what it feeds.
//!
//! The model chooses the answer: `stream:N:GAP_US:K` streams N events, K of them in one write, with so many microseconds between two writes
//! (0: back to back); any other model gets one chat completion.

use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use crate::message::Message;
use crate::{Result, announce};

/// Serves until the process is killed.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(&listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A peer that leaves in the middle is the usual end of a measurement.
        tokio::spawn(async move { drop(serve_connection(stream).await) });
    }
}

async fn serve_connection(mut stream: TcpStream) -> Result<()> {
    let whole = whole_answer();
    let mut message = Message::default();
    let mut request = Vec::with_capacity(16 * 1024);
    loop {
        request.clear();
        message.reset();
        let mut read = 0;
        while !message.advance(&request[read..])? {
            read = request.len();
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        match Script::of(&request) {
            Some(script) => script.play(&mut stream).await?,
            None => stream.write_all(&whole).await?,
        }
    }
}

/// A stream that was asked for.
struct Script {
    events: usize,
    gap: Duration,
    /// Events in one write.
    batch: usize,
    has_usage: bool,
}

impl Script {
    /// Reads the model of a request; the load writes it first, so that a long prompt need not be searched.
    fn of(request: &[u8]) -> Option<Self> {
        const START: &[u8] = b"\"model\":\"stream:";
        let start = &request[..request.len().min(2048)];
        let name = &start[memmem::find(start, START)? + START.len()..];
        let name = std::str::from_utf8(&name[..memchr::memchr(b'"', name)?]).ok()?;
        let (events, rest) = name.split_once(':')?;
        let (gap_us, batch) = rest.split_once(':')?;
        Some(Self {
            events: events.parse().ok()?,
            gap: Duration::from_micros(gap_us.parse().ok()?),
            batch: batch.parse().ok()?,
            has_usage: memmem::find(request, b"\"include_usage\":true").is_some(),
        })
    }

    async fn play(self, stream: &mut TcpStream) -> Result<()> {
        let batch = chunk(EVENT).repeat(self.batch);
        let mut first = STREAM_HEAD.to_vec();
        first.extend_from_slice(&batch);
        stream.write_all(&first).await?;
        let mut clock = self.clock();
        for _ in 1..self.events / self.batch {
            if let Some(clock) = &mut clock {
                clock.tick().await;
            }
            stream.write_all(&batch).await?;
        }
        let mut last = chunk(FINISH);
        if self.has_usage {
            last.extend_from_slice(&chunk(USAGE));
        }
        last.extend_from_slice(&chunk(DONE));
        last.extend_from_slice(b"0\r\n\r\n");
        Ok(stream.write_all(&last).await?)
    }

    fn clock(&self) -> Option<tokio::time::Interval> {
        let mut clock = (!self.gap.is_zero()).then(|| interval(self.gap))?;
        // The first tick of an interval is at once: the first event has taken it.
        clock.reset();
        // Late events are not made up for: events in bunches would be cheaper than the ones that are measured.
        clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Some(clock)
    }
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

fn whole_answer() -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{WHOLE}",
        WHOLE.len()
    )
    .into_bytes()
}

/// Length of the body a client that did not ask for usage gets for `stream:events:_`.
pub(crate) fn stream_len(events: usize) -> u64 {
    (events * EVENT.len() + FINISH.len() + DONE.len()) as u64
}

/// Length of one event of a stream.
pub(crate) const EVENT_LEN: u64 = EVENT.len() as u64;

/// Length of the same event in Anthropic's words.
pub(crate) const MESSAGES_EVENT_LEN: u64 = MESSAGES_EVENT.len() as u64;

/// Length of the body of an answer that is not streamed.
pub(crate) const WHOLE_LEN: u64 = WHOLE.len() as u64;

const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

macro_rules! event {
    ($rest:literal) => {
        concat!(
            r#"data: {"id":"chatcmpl-BtPsuZ3Kv0mJ2QfXhYw8LrCn","object":"chat.completion.chunk","created":1751790000,"model":"mock","#,
            r#""service_tier":"default","system_fingerprint":"fp_34a54ae93c","#,
            $rest,
            "}\n\n"
        )
    };
}

const EVENT: &str =
    event!(r#""choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]"#);
const MESSAGES_EVENT: &str = concat!(
    "event: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}"#,
    "\n\n"
);
const FINISH: &str = event!(r#""choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]"#);
const USAGE: &str =
    event!(r#""choices":[],"usage":{"prompt_tokens":19,"completion_tokens":100,"total_tokens":119}"#);
const DONE: &str = "data: [DONE]\n\n";

const WHOLE: &str = concat!(
    r#"{"id":"chatcmpl-BtPsuZ3Kv0mJ2QfXhYw8LrCn","object":"chat.completion","created":1751790000,"model":"mock","#,
    r#""choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today? "#,
    r#"If you have a question, ask away, and I will do my best to answer it.","refusal":null,"annotations":[]},"#,
    r#""logprobs":null,"finish_reason":"stop"}],"#,
    r#""usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"#,
    r#""prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"#,
    r#""completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"#,
    r#""service_tier":"default","system_fingerprint":"fp_34a54ae93c"}"#,
);
