//! Clients that hold a connection without using it: a head that does not end, an answer that is not taken.
//!
//! Nothing is timed as long as a client does what it should: reads and writes leave marks, and a clock is only looked at
//! when a connection waits with a mark set.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::server::seats::Seat;

/// How long a client may take for what.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// When its first head is due.
    pub(super) first_head_due: Instant,
    /// For each further head, from its first byte on.
    pub(super) head: Duration,
    /// Without taking anything of what it is sent.
    pub(super) stall: Duration,
}

/// What a client does, as its connection sees it.
#[derive(Default)]
pub(super) struct Marks {
    /// Bytes have come since the last request was over.
    has_bytes: AtomicBool,
    /// The last write had to wait.
    is_blocked: AtomicBool,
    /// Writes that did not.
    written: AtomicU32,
}

/// A connection that leaves marks.
pub(super) struct Watched<T> {
    io: T,
    seat: Arc<Seat>,
    marks: Arc<Marks>,
}

/// What a connection is waited for, if somebody should look at the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concern {
    Nothing,
    FirstHead,
    NextHead,
    /// After so many writes.
    Write(u32),
}

/// Looks at the marks, and at the clock where they ask for it.
pub(super) struct Watch {
    seat: Arc<Seat>,
    marks: Arc<Marks>,
    concern: Concern,
    patience: Patience,
}

/// Has a connection watched. The timer that it is polled with must be set to when the first head is due.
pub(super) fn watch<T>(io: T, seat: Arc<Seat>, patience: Patience) -> (Watched<T>, Watch) {
    let marks = Arc::<Marks>::default();
    let watch = Watch { seat: seat.clone(), marks: marks.clone(), concern: Concern::FirstHead, patience };
    (Watched { io, seat, marks }, watch)
}

impl Watch {
    /// A request begins: the bytes so far were its.
    pub(super) fn note_request(marks: &Marks) {
        marks.has_bytes.store(false, Ordering::Relaxed);
    }

    /// Where the connection leaves its marks.
    pub(super) fn marks(&self) -> Arc<Marks> {
        self.marks.clone()
    }

    /// Whether the client is in the middle of a head.
    pub(super) fn is_in_head(&self) -> bool {
        !self.seat.is_busy() && self.marks.has_bytes.load(Ordering::Relaxed)
    }

    /// Ready, with what is to be said of it, when a client has taken too long. To be polled after the connection.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<&'static str> {
        let concern = self.concern();
        if concern != self.concern {
            self.concern = concern;
            match concern {
                Concern::Nothing => {}
                Concern::FirstHead => timer.as_mut().reset(self.patience.first_head_due),
                Concern::NextHead => timer.as_mut().reset(Instant::now() + self.patience.head),
                Concern::Write(_) => timer.as_mut().reset(Instant::now() + self.patience.stall),
            }
        }
        let fault = match concern {
            Concern::Nothing => return Poll::Pending,
            Concern::FirstHead | Concern::NextHead => "no request in time",
            Concern::Write(_) => "the client takes nothing of what it is sent",
        };
        ready!(timer.poll(context));
        Poll::Ready(fault)
    }

    fn concern(&self) -> Concern {
        if self.marks.is_blocked.load(Ordering::Relaxed) {
            Concern::Write(self.marks.written.load(Ordering::Relaxed))
        } else if !self.seat.has_begun.load(Ordering::Relaxed) {
            Concern::FirstHead
        } else if self.is_in_head() {
            Concern::NextHead
        } else {
            Concern::Nothing
        }
    }
}

impl<T> Watched<T> {
    fn note_read(&self) {
        // In HTTP/2 bytes without a request are pings and the like.
        if !self.seat.is_busy() && !self.seat.is_http2.load(Ordering::Relaxed) {
            self.marks.has_bytes.store(true, Ordering::Relaxed);
        }
    }

    fn note_write(&self, polled: &Poll<io::Result<usize>>) {
        self.marks.is_blocked.store(polled.is_pending(), Ordering::Relaxed);
        if polled.is_ready() {
            self.marks.written.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            this.note_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(context, bytes);
        this.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(context, slices);
        this.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_flush(context);
        // What TLS holds back is only known here. A write that waits is not forgotten by it.
        if polled.is_pending() {
            this.marks.is_blocked.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::server::seats::Seats;

    const TIMEOUT: Duration = Duration::from_millis(80);

    /// Watches a connection while `serve` runs on it; says how it was found at fault, and after how long.
    async fn found<F: Future<Output = ()>>(
        serve: impl FnOnce(Watched<DuplexStream>, Arc<Seat>, Arc<Marks>) -> F,
        client: impl AsyncFnOnce(DuplexStream),
    ) -> (&'static str, Duration) {
        let (io, peer) = duplex(64);
        let taking = Arc::new(Seats::new(1)).take().await;
        let began = Instant::now();
        let due = began + TIMEOUT;
        let patience = Patience { first_head_due: due, head: TIMEOUT, stall: TIMEOUT };
        let (watched, mut watch) = watch(io, taking.seat.clone(), patience);
        let mut timer = pin!(tokio::time::sleep_until(due));
        let mut serving = pin!(serve(watched, taking.seat.clone(), watch.marks()));
        let mut asking = pin!(client(peer));
        let mut is_done = false;
        let fault = poll_fn(|context| {
            is_done = is_done || asking.as_mut().poll(context).is_ready();
            let _ = serving.as_mut().poll(context);
            watch.poll(context, timer.as_mut())
        });
        (fault.await, began.elapsed())
    }

    /// Takes one request of five bytes, which lasts `length`, and then whatever comes.
    async fn take_one(mut io: Watched<DuplexStream>, seat: Arc<Seat>, marks: Arc<Marks>, length: Duration) {
        io.read_exact(&mut [0; 5]).await.unwrap();
        Watch::note_request(&marks);
        let running = seat.begin(false);
        tokio::time::sleep(length).await;
        drop(running);
        while io.read_u8().await.is_ok() {}
        std::future::pending().await
    }

    #[tokio::test]
    async fn the_first_head_is_due_from_the_start() {
        let serve = |io, seat, marks| take_one(io, seat, marks, Duration::ZERO);
        let slow = async |mut peer: DuplexStream| {
            for _ in 0..4 {
                peer.write_u8(b'x').await.unwrap();
                tokio::time::sleep(TIMEOUT / 3).await;
            }
        };
        let (fault, after) = found(serve, slow).await;
        assert!(fault == "no request in time" && after >= TIMEOUT, "{fault} after {after:?}");
    }

    #[tokio::test]
    async fn a_further_head_is_due_from_its_first_byte() {
        let serve = |io, seat, marks| take_one(io, seat, marks, TIMEOUT * 2);
        let slow = async |mut peer: DuplexStream| {
            peer.write_all(b"first").await.unwrap();
            // Twice as long it is idle, and nobody minds.
            tokio::time::sleep(TIMEOUT * 4).await;
            for _ in 0..20 {
                peer.write_u8(b'x').await.unwrap();
                tokio::time::sleep(TIMEOUT / 4).await;
            }
        };
        let (fault, after) = found(serve, slow).await;
        assert!(fault == "no request in time" && after >= TIMEOUT * 5, "{fault} after {after:?}");
    }

    #[tokio::test]
    async fn an_answer_that_is_not_taken_is_given_up() {
        let serve = async |mut io: Watched<DuplexStream>, seat: Arc<Seat>, marks: Arc<Marks>| {
            Watch::note_request(&marks);
            let _running = seat.begin(false);
            io.write_all(&[0; 1000]).await.unwrap();
        };
        let slow = async |mut peer: DuplexStream| {
            // Each time that something is taken, there is as much time again.
            for _ in 0..4 {
                tokio::time::sleep(TIMEOUT / 2).await;
                peer.read_exact(&mut [0; 64]).await.unwrap();
            }
            std::future::pending().await
        };
        let (fault, after) = found(serve, slow).await;
        assert!(fault.contains("takes nothing") && after >= TIMEOUT * 3, "{fault} after {after:?}");
    }
}
