//! The scripted upstream: a server of our own that records what it got and answers what the test says.
//!
//! HTTP/1.1 is written by hand, because a test has to say where a write ends, where a connection breaks and what a
//! broken server sends; HTTP/2 is hyper's.

mod http1;
mod http2;
pub mod reply;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::upstream::reply::Reply;
use crate::{PATIENCE, now};

/// One request as an upstream received it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its place among all requests of this upstream, from 0.
    pub number: usize,
    /// The connection it came on, from 0.
    pub connection: usize,
    /// `HTTP/1.1` or `HTTP/2`.
    pub version: &'static str,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The headers in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// As much of the body as has arrived.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub is_complete: bool,
    /// When the peer went away before the answer's end.
    pub left: Option<Instant>,
    /// Whether the answer has been sent to its end, the connection's where it closes that.
    pub is_answered: bool,
}

impl Received {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }
}

type Script = dyn Fn(&Received) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: Vec<Received>,
    connections: usize,
}

/// A scripted upstream; it stops when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    is_tls: bool,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Upstream {
    /// Starts one that answers each request with what `script` says, over HTTP/1.1.
    pub fn new(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0)), Box::new(script), None)
    }

    /// Starts one where another has been: as a server that was killed comes back.
    pub fn again(address: SocketAddr, script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(address, Box::new(script), None)
    }

    /// Starts one that always gives the same answer.
    pub fn always(reply: Reply) -> Self {
        Self::new(move |_| reply.clone())
    }

    /// Starts one that answers its n-th request with the n-th reply, and with the last one from there on.
    pub fn sequence(replies: Vec<Reply>) -> Self {
        assert!(!replies.is_empty(), "a script needs a reply");
        Self::new(move |request| replies[request.number.min(replies.len() - 1)].clone())
    }

    /// Starts one with TLS that offers `protocols` by ALPN; `h2` among them gives HTTP/2.
    pub fn tls(
        certificate: &crate::tls::Certificate,
        protocols: &[&str],
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let acceptor = TlsAcceptor::from(certificate.server(protocols));
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0)), Box::new(script), Some(acceptor))
    }

    fn start(address: SocketAddr, script: Box<Script>, tls: Option<TlsAcceptor>) -> Self {
        let shared = Arc::new(Shared { script, state: Mutex::default(), changed: Condvar::new() });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime needs no more than a thread");
        // The one that was there before may still be about to close.
        let listener = crate::eventually(&format!("{address} to be free"), || {
            runtime.block_on(TcpListener::bind(address)).ok()
        });
        let address = listener.local_addr().expect("a bound socket has an address");
        let is_tls = tls.is_some();
        runtime.spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, is_tls, shared, runtime: Some(runtime) }
    }

    /// Its base URL as a configuration names it, with `/v1`.
    pub fn url(&self) -> String {
        format!("{}/v1", self.origin())
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has received so far.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.lock().requests.clone()
    }

    /// How many requests it has received so far.
    pub fn count(&self) -> usize {
        self.shared.lock().requests.len()
    }

    /// How many connections it has accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// The only request it has received.
    #[track_caller]
    pub fn only(&self) -> Received {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "requests received: {requests:#?}");
        requests.into_iter().next().expect("there is one")
    }

    /// The latest request.
    #[track_caller]
    pub fn last(&self) -> Received {
        self.requests().pop().expect("a request has been received")
    }

    /// Waits until `look` finds something in what was received.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&[Received]) -> Option<T>) -> T {
        let start = now();
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = look(&state.requests) {
                return found;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited {PATIENCE:?} for {what}; received: {:#?}",
                state.requests
            );
            let (next, _) = self
                .shared
                .changed
                .wait_timeout(state, Duration::from_millis(200))
                .expect("no test panics while it holds the lock");
            state = next;
        }
    }

    /// Waits until `count` requests have arrived with their bodies.
    #[track_caller]
    pub fn wait_requests(&self, count: usize) {
        self.wait(&format!("{count} requests"), |requests| {
            (requests.iter().filter(|request| request.is_complete).count() >= count).then_some(())
        });
    }

    /// Waits until the peer of request `number` has left before its answer's end; says when.
    #[track_caller]
    pub fn wait_left(&self, number: usize) -> Instant {
        self.wait("the peer to leave", |requests| requests.get(number).and_then(|request| request.left))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the lock")
    }

    fn begin(&self, mut request: Received) -> usize {
        let mut state = self.lock();
        request.number = state.requests.len();
        state.requests.push(request);
        self.changed.notify_all();
        state.requests.len() - 1
    }

    fn update(&self, number: usize, change: impl FnOnce(&mut Received)) {
        change(&mut self.lock().requests[number]);
        self.changed.notify_all();
    }

    fn reply_to(&self, number: usize) -> Reply {
        let request = self.lock().requests[number].clone();
        (self.script)(&request)
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        let connection = {
            let mut state = shared.lock();
            state.connections += 1;
            state.connections - 1
        };
        tokio::spawn(async move {
            // A peer that leaves at once is no failure of the upstream.
            let _ = stream.set_nodelay(true);
            let Some(tls) = tls else { return http1::serve(Wire::Plain(stream), connection, shared).await };
            let Ok(stream) = tls.accept(stream).await else { return };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let wire = Wire::Tls(Box::new(stream));
            if is_http2 {
                http2::serve(wire, connection, shared).await;
            } else {
                http1::serve(wire, connection, shared).await;
            }
        });
    }
}

/// A connection, plain or encrypted, that can be reset.
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Closes with RST instead of FIN.
    fn reset(self) {
        let tcp = match &self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // If the peer has gone already there is nothing left to reset.
        let _ = tcp.set_zero_linger();
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
