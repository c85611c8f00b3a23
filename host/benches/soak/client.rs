//! The clients: each asks whole and streamed in turn, sometimes leaves in the middle, and takes whatever comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::message::Message;
use crate::{Random, Result};

/// The longest pause between two requests of a client.
const PAUSE_MS_MAX: u64 = 40;
/// How long an answer may take, retries of the gateway included.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// One in so many requests is left in the middle.
const LEAVES: u64 = 30;

/// What came of all requests.
#[derive(Default)]
pub(crate) struct Tally {
    complete: AtomicU64,
    failed: AtomicU64,
    broken: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    /// Whole answers with status 200.
    pub(crate) complete: u64,
    /// Whole answers with another status.
    pub(crate) failed: u64,
    /// No whole answer.
    pub(crate) broken: u64,
}

impl Tally {
    pub(crate) fn sums(&self) -> Sums {
        Sums {
            complete: self.complete.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            broken: self.broken.load(Ordering::Relaxed),
        }
    }
}

impl Sums {
    pub(crate) fn answers(self) -> u64 {
        self.complete + self.failed
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            complete: self.complete - earlier.complete,
            failed: self.failed - earlier.failed,
            broken: self.broken - earlier.broken,
        }
    }
}

/// Asks until it is aborted.
pub(crate) async fn ask_on(gateway: SocketAddr, seed: u64, tally: Arc<Tally>) {
    let mut random = Random::new(seed + 1000);
    let mut kept = None;
    loop {
        sleep(Duration::from_millis(random.below(PAUSE_MS_MAX))).await;
        if random.below(LEAVES) == 0 {
            // Counted as nothing: the client knows that it left.
            kept = None;
            let _ = leave(gateway, &mut random).await;
            continue;
        }
        let counted = match timeout(ANSWER_MAX, ask(gateway, &mut kept, &mut random)).await {
            Ok(Ok(200)) => &tally.complete,
            Ok(Ok(_)) => &tally.failed,
            Ok(Err(_)) | Err(_) => {
                kept = None;
                &tally.broken
            }
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }
}

async fn ask(gateway: SocketAddr, kept: &mut Option<TcpStream>, random: &mut Random) -> Result<u16> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(gateway).await?,
    };
    stream.set_nodelay(true)?;
    stream.write_all(&request(random)).await?;
    let (mut message, mut buffer) = (Message::default(), vec![0; 4096]);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err("the connection ended before the answer did".into());
        }
        if message.advance(&buffer[..read])? {
            break;
        }
    }
    let status = message.head().get(9..12).and_then(|status| std::str::from_utf8(status).ok()).unwrap_or("");
    let status = status.parse()?;
    *kept = Some(stream);
    Ok(status)
}

/// Asks and is gone before the answer's end.
async fn leave(gateway: SocketAddr, random: &mut Random) -> Result<()> {
    let mut stream = TcpStream::connect(gateway).await?;
    stream.write_all(&request(random)).await?;
    sleep(Duration::from_millis(random.below(100))).await;
    Ok(())
}

fn request(random: &mut Random) -> Vec<u8> {
    let is_stream = random.below(2) == 0;
    let text = "What is flat and stays flat? ".repeat(1 + random.below(100) as usize);
    let body =
        format!(r#"{{"model":"m","stream":{is_stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
