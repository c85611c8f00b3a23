//! An upstream that mostly answers, and has faults at random: it is killed for a moment, hangs, resets, is slow, refuses, fails, breaks off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::message::Message;
use crate::{Random, Result};

/// How long it lives at least before it is killed, and how much longer at most.
const LIFE: (Duration, u64) = (Duration::from_secs(10), 30_000);
/// How long it is dead.
const DEATH: Duration = Duration::from_secs(1);
/// Of so many requests one has each fault.
const FAULT_SHARE: u64 = 60;
/// Events of a stream.
const EVENTS: u64 = 10;

/// What becomes of one request.
#[derive(Clone, Copy)]
enum Fate {
    Answer,
    Hang,
    Reset,
    Slow,
    Limited,
    Failed,
    Cut,
}

impl Fate {
    fn draw(random: &mut Random) -> Self {
        match random.below(FAULT_SHARE) {
            0 => Self::Hang,
            1 => Self::Reset,
            2 => Self::Slow,
            3 => Self::Limited,
            4 => Self::Failed,
            5 => Self::Cut,
            _ => Self::Answer,
        }
    }
}

/// One upstream; it keeps its address when it is killed.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    random: Random,
}

impl Upstream {
    pub(crate) async fn bind(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self { address: listener.local_addr()?, listener, random: Random::new(seed + 1) })
    }

    /// Lives and dies until it is aborted.
    pub(crate) async fn run(mut self) {
        let connections = Arc::new(AtomicU64::new(0));
        loop {
            let life = LIFE.0 + Duration::from_millis(self.random.below(LIFE.1));
            let mut tasks = JoinSet::new();
            let living = async {
                while let Ok((stream, _)) = self.listener.accept().await {
                    let seed = connections.fetch_add(1, Ordering::Relaxed);
                    // A gateway that leaves is no failure.
                    tasks.spawn(async move { drop(serve(stream, Random::new(seed)).await) });
                    while tasks.try_join_next().is_some() {}
                }
            };
            let _ = tokio::time::timeout(life, living).await;
            let Self { address, listener, random } = self;
            // Every connection breaks, and new ones are refused.
            tasks.shutdown().await;
            drop(listener);
            sleep(DEATH).await;
            let listener = loop {
                // Its port may be somebody else's for a moment.
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => sleep(DEATH).await,
                }
            };
            self = Self { address, listener, random };
        }
    }
}

async fn serve(mut stream: TcpStream, mut random: Random) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 4096];
    loop {
        let mut message = Message::default();
        let mut request = Vec::new();
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..read]);
            if message.advance(&buffer[..read])? {
                break;
            }
        }
        let is_stream = memchr::memmem::find(&request, b"\"stream\":true").is_some();
        match Fate::draw(&mut random) {
            Fate::Answer => answer(&mut stream, is_stream).await?,
            Fate::Slow => {
                sleep(Duration::from_millis(500)).await;
                answer(&mut stream, is_stream).await?;
            }
            // Longer than the gateway's timers; it leaves first.
            Fate::Hang => sleep(Duration::from_secs(60)).await,
            Fate::Reset => return Ok(stream.set_zero_linger()?),
            Fate::Limited => stream.write_all(&whole("429 Too Many Requests", ERROR)).await?,
            Fate::Failed => stream.write_all(&whole("500 Internal Server Error", ERROR)).await?,
            Fate::Cut => {
                stream.write_all(STREAM_HEAD).await?;
                stream.write_all(&chunk(EVENT)).await?;
                return Ok(());
            }
        }
    }
}

async fn answer(stream: &mut TcpStream, is_stream: bool) -> Result<()> {
    if !is_stream {
        return Ok(stream.write_all(&whole("200 OK", WHOLE)).await?);
    }
    stream.write_all(STREAM_HEAD).await?;
    for _ in 0..EVENTS {
        stream.write_all(&chunk(EVENT)).await?;
        sleep(Duration::from_millis(5)).await;
    }
    let end = [chunk(FINISH), chunk("data: [DONE]\n\n"), b"0\r\n\r\n".to_vec()].concat();
    Ok(stream.write_all(&end).await?)
}

fn whole(status: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}")
        .into_bytes()
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const EVENT: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" flat\"}}]}\n\n";
const FINISH: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const WHOLE: &str = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"flat"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#;
const ERROR: &str = r#"{"error":{"message":"not now","type":"api_error"}}"#;
