//! Listeners, connections and their bounds, TLS, and the drain at the end.

mod proxy_header;
mod seats;
mod watch;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin;
use crate::compression::Compressed;
use crate::config::Networks;
use crate::gateway::Gateway;
use crate::metrics::Listener;
use crate::server::seats::{SeatedBody, Seats, Taking};
use crate::server::watch::{Patience, Watch};
use crate::stream::Body;

/// How long a connection may be idle between two requests.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(75);
/// The pause after a failed accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most headers of a request.
///
/// Source: hyper, which has room for as many set aside on the stack, and refuses more over HTTP/1.
const HEADERS_MAX: usize = 100;
/// How long a connection that was asked to leave may stay without a request that runs. Over HTTP/2 its client has to say that
/// it has heard.
const LEAVE_MAX: Duration = Duration::from_secs(1);
/// Streams that one HTTP/2 connection may have open at once.
const HTTP2_STREAMS_MAX: u32 = 256;
/// Streams of an HTTP/2 connection that its client may have reset before they were looked at, and streams that its faults may
/// have had reset; beyond, the connection is closed (CVE-2023-44487 and its kin).
const HTTP2_RESETS_MAX: usize = 64;
/// How long a client may take nothing of what it is sent.
///
/// Source: nginx, `send_timeout`, whose default it is.
const WRITE_STALL_MAX: Duration = Duration::from_secs(60);
/// How long the answer to a ping over HTTP/2 may take.
const HTTP2_PING_MAX: Duration = Duration::from_secs(20);

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
    let seats = Arc::new(Seats::new(gateway.snapshots.current().config.server.connections_max));
    loop {
        let accepted = tokio::select! {
            () = stop.drain.cancelled() => return,
            accepted = accept(&listener, &seats) => accepted,
        };
        let (stream, peer, taking) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (gateway, stop) = (gateway.clone(), stop.clone());
        tasks.spawn(async move {
            let _connected = gateway.activity.metrics.connected(surface.listener());
            if let Err(error) = connection(stream, peer, taking, surface, gateway, stop).await {
                tracing::debug!(error, "connection ended");
            }
        });
    }
}

async fn accept(listener: &TcpListener, seats: &Arc<Seats>) -> io::Result<(TcpStream, IpAddr, Taking)> {
    let (stream, peer) = listener.accept().await?;
    // Events are small and must not wait for each other's acknowledgement.
    stream.set_nodelay(true)?;
    // Accepted before there is a place for it: only now is it known that somebody needs one.
    Ok((stream, peer.ip(), seats.take().await))
}

/// Serves one connection; the first head, the PROXY header, TLS and the choice of a version included, is due within
/// `header_timeout`.
async fn connection(
    mut stream: TcpStream,
    peer: IpAddr,
    taking: Taking,
    surface: Surface,
    gateway: Arc<Gateway>,
    stop: Stop,
) -> Result<(), String> {
    // Not held: a connection may last for hours, and the plugins of an old configuration with it.
    let snapshot = gateway.snapshots.current();
    let server = &snapshot.config.server;
    let due = Due { at: Instant::now() + server.header_timeout, further: server.header_timeout };
    let is_main = surface == Surface::Main;
    let believed = (is_main && server.proxy_protocol).then(|| server.trusted_proxies.clone());
    let tls = snapshot.tls.clone().filter(|_| is_main);
    drop(snapshot);
    // Both are boxed, so that connections without them do not hold room for what they need.
    let (client, taking) = match believed {
        None => (peer, taking),
        Some(believed) => Box::pin(announced(&mut stream, peer, taking, believed, due)).await?,
    };
    match tls {
        None => requests(stream, client, taking, surface, gateway, stop, due).await,
        Some(config) => {
            let serving = async {
                let (stream, taking) = secured(config, stream, taking, due).await?;
                requests(stream, client, taking, surface, gateway, stop, due).await
            };
            Box::pin(serving).await
        }
    }
}

/// When heads have to be there.
#[derive(Clone, Copy)]
struct Due {
    /// The first one.
    at: Instant,
    /// A further one, from its first byte on.
    further: Duration,
}

/// Does what has to be done before there are requests, unless it takes too long or the place is needed.
async fn in_time<T>(
    mut taking: Taking,
    due: Due,
    what: &str,
    work: impl Future<Output = Result<T, String>>,
) -> Result<(T, Taking), String> {
    let done = tokio::select! {
        biased;
        done = tokio::time::timeout_at(due.at, work) => done,
        Ok(()) = &mut taking.leave => return Err(format!("{what} was broken off to make room")),
    };
    done.map_err(|_| format!("{what} took too long"))?.map(|done| (done, taking))
}

/// Reads the PROXY header; the client is whom it names, or else the peer.
async fn announced(
    stream: &mut TcpStream,
    peer: IpAddr,
    taking: Taking,
    believed: Networks,
    due: Due,
) -> Result<(IpAddr, Taking), String> {
    if !believed.contains(peer) {
        return Err(format!("`{peer}` is none of the trusted proxies"));
    }
    let (named, taking) = in_time(taking, due, "the PROXY header", proxy_header::read(stream)).await?;
    Ok((named.unwrap_or(peer), taking))
}

async fn secured(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    taking: Taking,
    due: Due,
) -> Result<(TlsStream<TcpStream>, Taking), String> {
    let accepting =
        async { TlsAcceptor::from(config).accept(stream).await.map_err(|error| error.to_string()) };
    in_time(taking, due, "the TLS handshake", accepting).await
}

async fn requests(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: IpAddr,
    mut taking: Taking,
    surface: Surface,
    gateway: Arc<Gateway>,
    stop: Stop,
    due: Due,
) -> Result<(), String> {
    let seat = taking.seat.clone();
    let patience = Patience { first_head_due: due.at, head: due.further, stall: WRITE_STALL_MAX };
    let (io, mut watch) = watch::watch(io, seat.clone(), patience);
    let marks = watch.marks();
    let service = service_fn(|request: Request<Incoming>| {
        Watch::note_request(&marks);
        let running = seat.begin(request.version() == Version::HTTP_2);
        let gateway = gateway.clone();
        // Boxed, so that an idle connection and one that streams its answer hold nothing of it.
        Box::pin(async move {
            // HTTP/2 itself only bounds the bytes of them.
            let answer = if request.headers().len() > HEADERS_MAX {
                too_many_headers()
            } else {
                answer(surface, gateway, request, client).await
            };
            let answer = Compressed::of(answer).map(|body| SeatedBody::new(body, running));
            Ok::<Response<SeatedBody>, Infallible>(answer)
        })
    });
    let builder = builder();
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut timer = pin!(tokio::time::sleep_until(due.at));
    let (mut is_draining, mut is_cut_off) = (false, false);
    let mut leave_by = None;
    loop {
        tokio::select! {
            biased;
            ended = serving.as_mut() => return ended.map_err(|error| error.to_string()),
            fault = poll_fn(|context| watch.poll(context, timer.as_mut())) => return Err(fault.to_owned()),
            Ok(()) = &mut taking.leave, if leave_by.is_none() => {
                if watch.is_in_head() {
                    return Err("a head was broken off to make room".to_owned());
                }
                leave_by = Some(Instant::now() + LEAVE_MAX);
                serving.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep_until(leave_by.unwrap_or(due.at)), if leave_by.is_some() => {
                if !seat.is_busy() {
                    return Err("an idle connection was closed to make room".to_owned());
                }
                leave_by = Some(Instant::now() + LEAVE_MAX);
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

fn too_many_headers() -> Response<Body> {
    let mut answer = Response::new(Body::from_bytes(Bytes::new()));
    *answer.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    answer
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Covers the wait between requests too, which is why it is not `header_timeout`; that is `watch`'s.
        .header_read_timeout(KEEP_ALIVE_MAX)
        // `HEADERS_MAX` is its default; set, it would cost an allocation for each request.
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEP_ALIVE_MAX))
        .keep_alive_timeout(HTTP2_PING_MAX)
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
        .max_local_error_reset_streams(HTTP2_RESETS_MAX)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    builder
}
