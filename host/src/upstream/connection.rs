//! One connection to an upstream, and the exchange of messages over it.
//!
//! An HTTP/1.1 connection is driven by the task of the exchange that uses it, not by a task of its own: there is no
//! hand-over between tasks for each event, everything that is readable is taken before the client is written to, and
//! dropping the exchange closes the connection at once, which is how a client's departure reaches the upstream.
//! An HTTP/2 connection is shared and has a task.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::upstream::body::RequestBody;

/// A stream of bytes to an upstream.
pub(super) enum Io {
    /// Plain text.
    Plain(TcpStream),
    /// TLS; boxed because it is fifty times as large.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What moves bytes between the socket and an exchange whenever it is polled.
type Driver = Pin<Box<http1::Connection<TokioIo<Io>, RequestBody>>>;

/// A connection that serves one exchange at a time.
pub(super) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    driver: Option<Driver>,
    /// Whether it has served an exchange before.
    pub(super) is_reused: bool,
    /// When it was put back last.
    pub(super) idle_since: Instant,
}

/// Why sending failed.
pub(super) struct SendFailure {
    /// The cause.
    pub(super) error: hyper::Error,
    /// Whether it is certain that not a byte of the request was sent.
    pub(super) is_unsent: bool,
}

impl Http1 {
    /// Prepares a fresh connection.
    pub(super) async fn handshake(io: Io) -> hyper::Result<Self> {
        let (sender, driver) = http1::Builder::new().handshake(TokioIo::new(io)).await?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), is_reused: false, idle_since: Instant::now() })
    }

    /// Whether another request can be sent; notices that the peer has closed.
    pub(super) fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// Dropping the future drops the connection.
    pub(super) async fn send(
        mut self,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Self), SendFailure> {
        let sent = {
            let mut response = pin!(self.sender.try_send_request(request));
            let driver = &mut self.driver;
            poll_fn(|context| {
                // All progress comes from driving the connection, and this task does that, so that nobody needs to
                // be woken but for the socket.
                let mut quiet = Context::from_waker(Waker::noop());
                for waker in [None, Some(context)] {
                    if let Poll::Ready(outcome) = response.as_mut().poll(&mut quiet) {
                        return Poll::Ready(outcome);
                    }
                    drive(driver, waker.unwrap_or(&mut quiet));
                }
                response.as_mut().poll(&mut quiet)
            })
            .await
        };
        match sent {
            Ok(response) => Ok((response, self)),
            Err(mut failure) => {
                let is_unsent = failure.take_message().is_some();
                Err(SendFailure { error: failure.into_error(), is_unsent })
            }
        }
    }

    /// Polls for the next frame of the answer that this connection is delivering.
    pub(super) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut quiet = Context::from_waker(Waker::noop());
        for waker in [None, Some(context)] {
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(&mut quiet) {
                return Poll::Ready(frame);
            }
            drive(&mut self.driver, waker.unwrap_or(&mut quiet));
        }
        Pin::new(body).poll_frame(&mut quiet)
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        drive(&mut self.driver, context);
    }
}

/// Lets the connection make progress; one that has ended is taken away.
fn drive(driver: &mut Option<Driver>, context: &mut Context<'_>) {
    if let Some(connection) = driver
        && connection.as_mut().poll(context).is_ready()
    {
        *driver = None;
    }
}

/// A shared connection.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: http2::SendRequest<RequestBody>,
}

impl Http2 {
    /// Prepares a fresh connection; its task ends when the last clone is dropped or the peer closes.
    pub(super) async fn handshake(io: Io) -> hyper::Result<Self> {
        let (sender, driver) = http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .adaptive_window(true)
            .timer(hyper_util::rt::TokioTimer::new())
            .handshake(TokioIo::new(io))
            .await?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Self { sender })
    }

    /// Whether another request can be sent.
    pub(super) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and waits for the head of the answer; dropping the future resets the stream.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendFailure> {
        self.sender.try_send_request(request).await.map_err(|mut failure| {
            let is_unsent = failure.take_message().is_some();
            SendFailure { error: failure.into_error(), is_unsent }
        })
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Waits for a future with a bound; zero waits without one.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T> + Unpin) -> Option<T> {
    if limit.is_zero() { Some(work.await) } else { tokio::time::timeout(limit, work).await.ok() }
}
