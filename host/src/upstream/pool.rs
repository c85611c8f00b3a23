//! The way to one upstream: new connections, idle ones, and the answers that come over them.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::config::{Target, UpstreamTls};
use crate::error::{Error, ErrorKind, Result, Source, Timer};
use crate::tls::{self, Trust};
use crate::upstream::body::{RequestBody, Rest};
use crate::upstream::connection::{Http1, Http2, Io, SendFailure, within};
use crate::upstream::local::{self, LocalBody};

/// Idle HTTP/1.1 connections kept for one upstream; more are closed when they become idle.
const IDLE_MAX: usize = 1024;
/// How long an idle connection is kept. Shorter than what common servers and load balancers allow (60 s and more);
/// those that close sooner are noticed when the connection is taken.
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// The way to one upstream.
pub(super) struct Pool {
    place: Place,
    /// Idle HTTP/1.1 connections, the one used last at the end.
    idle: Mutex<Vec<Http1>>,
    /// The shared HTTP/2 connection, once the upstream has chosen that protocol.
    shared: Mutex<Option<Http2>>,
}

enum Place {
    Remote { authority: Authority, host: String, port: u16, tls: Option<Tls> },
    Echo,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// The head of an answer and where its body comes from.
pub(crate) struct Answer {
    /// Status and headers.
    pub(crate) head: http::response::Parts,
    /// The body.
    pub(crate) body: AnswerBody,
    /// When the request was sent; of one that is passed on while it arrives, when it was answered.
    pub(crate) sent: Instant,
}

/// How long the steps up to the head of an answer may take; zero means no bound.
#[derive(Clone, Copy)]
pub(super) struct Timers {
    /// DNS, TCP and TLS.
    pub(super) connect: Duration,
    /// From the request sent to the head.
    pub(super) head: Duration,
    /// Whose bound that is.
    pub(super) head_timer: Timer,
}

/// The body of an answer; dropping it before its end cancels the upstream's work.
pub(crate) struct AnswerBody(Delivery);

enum Delivery {
    /// Over a connection of its own, which goes back to the pool at the end and is gone here then.
    Http1 { body: Incoming, connection: Option<Box<Http1>>, pool: Arc<Pool> },
    /// One stream of a shared connection.
    Http2(Incoming),
    /// From this process.
    Local(LocalBody),
}

enum Connected {
    Http1(Http1),
    Http2(Http2),
}

impl Pool {
    pub(super) fn new(target: &Target, tls: &UpstreamTls, trust: &Trust) -> Result<Self, String> {
        let place = match target {
            Target::Echo => Place::Echo,
            Target::Http(base) => Place::remote(base, tls, trust)?,
        };
        Ok(Self { place, idle: Mutex::default(), shared: Mutex::default() })
    }

    /// Sends a request, over an idle connection if there is one, and waits for the head of the answer.
    ///
    /// A request that met a connection which its peer had just closed is sent again only if not a byte of it had
    /// been written; `make` makes it anew then. Dropping the future cancels the request.
    ///
    /// # Errors
    ///
    /// `UpstreamUnreachable` when no connection could be made, `UpstreamTimeout` when that or the head took too long,
    /// `UpstreamInvalid` when the answer is not HTTP or the connection broke.
    pub(super) async fn send(
        self: &Arc<Self>,
        make: impl Fn() -> Request<RequestBody>,
        timers: Timers,
    ) -> Result<Answer> {
        let Place::Remote { .. } = self.place else {
            return Ok(local::respond(make()).await);
        };
        loop {
            let kept = self.take();
            let was_kept = kept.is_some();
            let connected = match kept {
                Some(connected) => connected,
                // Boxed like everything on this path that most requests pass by: what a future may hold, all hold.
                None => within(timers.connect, Box::pin(self.connect()))
                    .await
                    .unwrap_or_else(|| Err(Timer::Connect.error()))?,
            };
            let is_shared = matches!(&connected, Connected::Http2(_));
            let request = make();
            let rest = request.body().rest();
            let exchange = pin!(self.exchange(connected, request));
            let sent = match rest {
                None => within(timers.head, exchange).await,
                Some(rest) => once_sent(rest, timers.head, exchange).await,
            };
            let failure = match sent {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(failure)) => failure,
                None => {
                    if is_shared {
                        // It may be dead; the next request finds out on one of its own.
                        *self.shared() = None;
                    }
                    return Err(timers.head_timer.error());
                }
            };
            if !failure.is_unsent {
                let message = "the upstream closed the connection before it answered or sent invalid HTTP";
                return Err(Error::new(ErrorKind::UpstreamInvalid, message).with_source(failure.error));
            }
            // Each turn takes a connection out of the pool, so that this ends.
            if !was_kept {
                return Err(unreachable("the upstream closed the connection").with_source(failure.error));
            }
        }
    }

    async fn exchange(
        self: &Arc<Self>,
        connected: Connected,
        request: Request<RequestBody>,
    ) -> Result<Answer, SendFailure> {
        let began = request.body().rest().is_none().then(Instant::now);
        let sent = || began.unwrap_or_else(Instant::now);
        match connected {
            Connected::Http1(connection) => {
                let (response, connection) = connection.send(request).await?;
                let (head, body) = response.into_parts();
                let connection = Some(Box::new(connection));
                Ok(Answer {
                    head,
                    body: AnswerBody(Delivery::Http1 { body, connection, pool: self.clone() }),
                    sent: sent(),
                })
            }
            Connected::Http2(mut connection) => {
                let response = connection.send(self.with_authority(request)).await?;
                let (head, body) = Response::into_parts(response);
                Ok(Answer { head, body: AnswerBody(Delivery::Http2(body)), sent: sent() })
            }
        }
    }

    /// HTTP/2 has scheme and authority in pseudo-headers of their own, which hyper takes from the address.
    fn with_authority(&self, request: Request<RequestBody>) -> Request<RequestBody> {
        let (mut head, body) = request.into_parts();
        if let (Place::Remote { authority, .. }, Some(path)) = (&self.place, head.uri.path_and_query()) {
            head.headers.remove(header::HOST);
            let address = Uri::builder().scheme(Scheme::HTTPS).authority(authority.clone());
            head.uri = address.path_and_query(path.clone()).build().expect("its parts are valid");
        }
        Request::from_parts(head, body)
    }

    fn take(&self) -> Option<Connected> {
        {
            let mut shared = self.shared();
            *shared = shared.take().filter(Http2::is_usable);
            if let Some(shared) = &*shared {
                return Some(Connected::Http2(shared.clone()));
            }
        }
        loop {
            let mut connection = self.idle().pop()?;
            if connection.idle_since.elapsed() < IDLE_TIME_MAX && connection.is_usable() {
                return Some(Connected::Http1(connection));
            }
        }
    }

    fn put_back(&self, mut connection: Http1) {
        if !connection.is_usable() {
            return;
        }
        connection.is_reused = true;
        connection.idle_since = Instant::now();
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    pub(super) fn prune(&self) {
        // Dropped outside the lock: closing may take a system call.
        let _stale: Vec<Http1> = {
            let mut idle = self.idle();
            let fresh = idle.partition_point(|connection| connection.idle_since.elapsed() >= IDLE_TIME_MAX);
            idle.drain(..fresh).collect()
        };
    }

    async fn connect(&self) -> Result<Connected> {
        let Place::Remote { host, port, tls, .. } = &self.place else {
            return Err(Error::new(ErrorKind::Internal, "the echo upstream has no connections"));
        };
        let stream = open(host, *port).await?;
        let Some(tls) = tls else {
            let connection = Http1::handshake(Io::Plain(stream)).await;
            return connection.map(Connected::Http1).map_err(failed_handshake);
        };
        let stream =
            tls.connector.connect(tls.name.clone(), stream).await.map_err(|error| {
                unreachable("the TLS handshake with the upstream failed").with_source(error)
            })?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::ALPN_HTTP2);
        let io = Io::Tls(Box::new(stream));
        if !is_http2 {
            return Http1::handshake(io).await.map(Connected::Http1).map_err(failed_handshake);
        }
        let connection = Http2::handshake(io).await.map_err(failed_handshake)?;
        *self.shared() = Some(connection.clone());
        Ok(Connected::Http2(connection))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Http1>> {
        self.idle.lock().expect("no code panics while it holds this lock")
    }

    fn shared(&self) -> MutexGuard<'_, Option<Http2>> {
        self.shared.lock().expect("no code panics while it holds this lock")
    }
}

impl Place {
    fn remote(base: &Uri, tls: &UpstreamTls, trust: &Trust) -> Result<Self, String> {
        let authority = authority(base).ok_or_else(|| format!("`{base}` names no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_tls = base.scheme_str() == Some("https");
        let port = base.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = if is_tls {
            let name = ServerName::try_from(host.clone())
                .map_err(|_| format!("`{host}` is not a name that a certificate can be verified for"))?;
            Some(Tls { connector: TlsConnector::from(trust.client(tls)?), name })
        } else {
            None
        };
        Ok(Self::Remote { authority, host, port, tls })
    }
}

/// Waits for an answer with a bound that counts from when the client has sent all of its body.
async fn once_sent<T>(rest: Rest, limit: Duration, exchange: impl Future<Output = T> + Unpin) -> Option<T> {
    let too_long = async {
        rest.over().await;
        if limit.is_zero() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        biased;
        answer = exchange => Some(answer),
        () = too_long => None,
    }
}

/// Connects to the first address that answers.
async fn open(host: &str, port: u16) -> Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| unreachable("the upstream's name cannot be resolved").with_source(error))?
        .collect();
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(|error| {
                    unreachable("the connection to the upstream broke").with_source(error)
                })?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    let mut error = unreachable("the upstream cannot be reached");
    error.source = last.map(Source::from);
    Err(error)
}

fn unreachable(message: &str) -> Error {
    Error::new(ErrorKind::UpstreamUnreachable, message)
}

fn failed_handshake(error: hyper::Error) -> Error {
    unreachable("the connection to the upstream broke").with_source(error)
}

/// Host and port of a base URL, as `Host` names them.
pub(super) fn authority(base: &Uri) -> Option<Authority> {
    let authority = base.authority()?;
    let without_user = authority.as_str().rsplit('@').next()?;
    without_user.parse().ok()
}

impl AnswerBody {
    /// A body from this process.
    pub(super) fn local(body: LocalBody) -> Self {
        Self(Delivery::Local(body))
    }

    /// Whether everything has been delivered.
    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.0 {
            Delivery::Http1 { body, .. } | Delivery::Http2(body) => body.is_end_stream(),
            Delivery::Local(_) => false,
        }
    }

    /// The length that is still to come, if the upstream announced one.
    pub(crate) fn len_announced(&self) -> Option<u64> {
        match &self.0 {
            Delivery::Http1 { body, .. } | Delivery::Http2(body) => body.size_hint().exact(),
            Delivery::Local(_) => None,
        }
    }

    /// Polls for the next bytes; trailers are passed over.
    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
        loop {
            let frame = match &mut self.0 {
                Delivery::Http1 { body, connection, .. } => match connection {
                    Some(connection) => connection.poll_frame(body, context),
                    None => Poll::Ready(None),
                },
                Delivery::Http2(body) => Pin::new(body).poll_frame(context),
                Delivery::Local(pieces) => return pieces.poll_next(context).map(|data| data.map(Ok)),
            };
            match ready!(frame) {
                Some(Ok(frame)) => {
                    if let Ok(data) = Frame::into_data(frame) {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.release();
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// Gives the connection back when the answer is over.
    fn release(&mut self) {
        if let Delivery::Http1 { connection, pool, .. } = &mut self.0
            && let Some(connection) = connection.take()
        {
            pool.put_back(*connection);
        }
    }
}
