//! Listeners, connections and their bounds, TLS, and the drain at the end.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin;
use crate::gateway::Gateway;
use crate::metrics::Listener;
use crate::stream::Body;

/// How long a connection may be idle between two requests.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(75);
/// The pause after a failed accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Streams that one HTTP/2 connection may have open at once.
const HTTP2_STREAMS_MAX: u32 = 256;

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    /// The clients' side.
    Main,
    /// The operators' side.
    Admin,
}

impl Surface {
    /// Its name in metrics.
    fn listener(self) -> Listener {
        match self {
            Self::Main => Listener::Main,
            Self::Admin => Listener::Admin,
        }
    }
}

/// How connections are told to end.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// No new connections or requests; what runs may end.
    pub(crate) drain: CancellationToken,
    /// What still runs is to end now.
    pub(crate) cut_off: CancellationToken,
}

/// Opens a listener.
///
/// # Errors
///
/// A message that says what is in the way and what to change.
pub(crate) async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "`{address}` is taken by another program; stop it or choose another address with `{setting}`"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("`{address}` is no address of this machine; choose another one with `{setting}`")
        }
        _ => format!("cannot listen on `{address}`: {error}; choose another address with `{setting}`"),
    })
}

/// Accepts connections until it is told to drain; then tells those that are open to finish.
///
/// Every connection is a task of `tasks`, so that the caller can wait for them.
pub(crate) async fn serve(
    listener: TcpListener,
    surface: Surface,
    gateway: Arc<Gateway>,
    tasks: TaskTracker,
    stop: Stop,
) {
    let connections_max = gateway.snapshots.current().config.server.connections_max;
    let permits = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
    loop {
        let accepted = tokio::select! {
            () = stop.drain.cancelled() => return,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, client, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (gateway, stop) = (gateway.clone(), stop.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let _connected = gateway.activity.metrics.connected(surface.listener());
            if let Err(error) = connection(stream, client, surface, gateway, stop).await {
                tracing::debug!(error, "connection ended");
            }
        });
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, client) = listener.accept().await?;
    // Events are small and must not wait for each other's acknowledgement.
    stream.set_nodelay(true)?;
    Ok((stream, client.ip(), permit))
}

/// Serves one connection; the first head, TLS and the choice of a version included, is due within `header_timeout`.
async fn connection(
    stream: TcpStream,
    client: IpAddr,
    surface: Surface,
    gateway: Arc<Gateway>,
    stop: Stop,
) -> Result<(), String> {
    // Not held: a connection may last for hours, and the plugins of an old configuration with it.
    let (header_timeout, tls) = {
        let snapshot = gateway.snapshots.current();
        (snapshot.config.server.header_timeout, snapshot.tls.clone())
    };
    let due = Instant::now() + header_timeout;
    match tls.filter(|_| surface == Surface::Main) {
        None => requests(stream, client, surface, gateway, stop, due).await,
        // Boxed, so that connections in plain text do not hold room for it.
        Some(config) => Box::pin(secured(config, stream, client, surface, gateway, stop, due)).await,
    }
}

async fn secured(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    client: IpAddr,
    surface: Surface,
    gateway: Arc<Gateway>,
    stop: Stop,
    due: Instant,
) -> Result<(), String> {
    let accepting = TlsAcceptor::from(config).accept(stream);
    let stream = tokio::time::timeout_at(due, accepting)
        .await
        .map_err(|_| "the TLS handshake took too long".to_owned())?
        .map_err(|error| error.to_string())?;
    requests(stream, client, surface, gateway, stop, due).await
}

async fn requests(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: IpAddr,
    surface: Surface,
    gateway: Arc<Gateway>,
    stop: Stop,
    due: Instant,
) -> Result<(), String> {
    let has_begun = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        has_begun.store(true, Ordering::Relaxed);
        let gateway = gateway.clone();
        // Boxed, so that an idle connection and one that streams its answer hold nothing of it.
        Box::pin(
            async move { Ok::<Response<Body>, Infallible>(answer(surface, gateway, request, client).await) },
        )
    });
    let builder = builder();
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut first_head = pin!(tokio::time::sleep_until(due));
    let (mut is_first_head_due, mut is_draining, mut is_cut_off) = (true, false, false);
    loop {
        tokio::select! {
            biased;
            ended = serving.as_mut() => return ended.map_err(|error| error.to_string()),
            () = &mut first_head, if is_first_head_due => {
                is_first_head_due = false;
                if !has_begun.load(Ordering::Relaxed) {
                    return Err("no request in time".to_owned());
                }
            }
            () = stop.drain.cancelled(), if !is_draining => {
                is_draining = true;
                serving.as_mut().graceful_shutdown();
            }
            // The streams that are still running notice when they are polled, which the next turn does.
            () = stop.cut_off.cancelled(), if is_draining && !is_cut_off => is_cut_off = true,
        }
    }
}

async fn answer(
    surface: Surface,
    gateway: Arc<Gateway>,
    request: Request<Incoming>,
    client: IpAddr,
) -> Response<Body> {
    match surface {
        Surface::Main => gateway.handle(request, client).await,
        Surface::Admin => Box::pin(admin::handle(&gateway, request, client)).await,
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Covers the wait between requests too, which is why it is not `header_timeout`.
        .header_read_timeout(KEEP_ALIVE_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEP_ALIVE_MAX))
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    builder
}
