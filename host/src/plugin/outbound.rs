//! `wasi:http` for plugins: requests to the origins of `allow.http`, over the host's own connections.
//!
//! A request is checked twice: its final address against the grant, and the addresses its host's name leads to against
//! what that grant names. The connection goes to an address that was checked, and the name is not resolved again.
//! Everything a guest can cause is an error code of `wasi:http`, never a trap.
//!
//! Connections are not kept, so that a request depends on nothing but itself; TLS sessions are resumed, which is most of
//! what keeping would save.

mod address;
mod body;
mod connection;
mod origin;

use std::future::Future;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

use crate::config::UpstreamTls;
use crate::plugin::logs::{Level, Log};
use crate::plugin::outbound::body::{RequestBody, ResponseBody};
use crate::plugin::outbound::connection::Connection;
use crate::plugin::outbound::origin::{Destination, Host, Scheme};
use crate::tls::Trust;

pub(crate) use crate::plugin::outbound::origin::{Origin, Policy};

/// Bytes of a request's body.
pub(crate) const REQUEST_BODY_BYTES_MAX: u64 = 8 << 20;

/// Bytes of an answer's body, as it comes over the wire: nothing is decompressed.
pub(crate) const RESPONSE_BODY_BYTES_MAX: u64 = 8 << 20;

/// Bytes of a request's path and query.
const TARGET_BYTES_MAX: usize = 8 << 10;

/// Bytes of a request's headers, and of the head of its answer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Bytes of headers in a guest's own collections, with what the host needs around them.
const FIELDS_BYTES_MAX: usize = 128 << 10;

/// Bytes a guest may write to a request's body at once, and as many again while those are sent.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// How long it may take until a connection is there, names and TLS included, if the guest does not ask for less.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long it may take from then until the head of the answer, if the guest does not ask for less.
const FIRST_BYTE_TIME_MAX: Duration = Duration::from_secs(60);

/// How long one piece of the answer may let the next one wait, if the guest does not ask for less.
const BETWEEN_BYTES_TIME_MAX: Duration = Duration::from_secs(30);

/// Requests of one instance at a time; further ones fail.
const INSTANCE_REQUESTS_MAX: usize = 8;

/// Requests of all instances of one plugin at a time; further ones wait as long as for a connection.
const PLUGIN_REQUESTS_MAX: usize = 256;

/// Names one plugin may have resolved at a time. Each takes a thread that cannot be stopped, and upstreams need some too.
const LOOKUPS_MAX: usize = 8;

/// How long one address may take to accept a connection before the next one is tried.
const ADDRESS_TIME_MAX: Duration = Duration::from_secs(3);

/// Addresses that are tried before a host counts as unreachable.
const ADDRESSES_MAX: usize = 8;

/// The name of HTTP/1.1 in the handshake. Source: RFC 7301, section 6.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// One plugin's way out, shared by its instances.
pub(crate) struct Client {
    policy: Policy,
    tls: TlsConnector,
    resolver: Resolver,
    log: Arc<Log>,
    in_flight: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    granted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// One instance's way out: what `wasi:http` calls. The default refuses everything, for plugins without a grant.
#[derive(Default)]
pub(crate) struct Outbound {
    client: Option<Arc<Client>>,
    /// Made with the first request, since most instances never make one.
    in_flight: Option<Arc<Semaphore>>,
}

/// Who turns names into addresses.
pub(crate) enum Resolver {
    /// The system.
    System,
    /// A table.
    #[cfg(test)]
    Table(Vec<(&'static str, Vec<IpAddr>)>),
}

/// What became of the requests of one plugin; those that a guest gave up are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Requests that were in the grant.
    pub(crate) granted: u64,
    /// Requests that were not, by their address or by what it led to.
    pub(crate) refused: u64,
    /// Granted requests that got no answer.
    pub(crate) failed: u64,
}

/// Why there is no answer.
struct Failure {
    /// What the guest learns.
    code: Error,
    /// What the log says beside it.
    reason: String,
    is_refusal: bool,
}

/// How long a guest waits.
#[derive(Clone, Copy)]
struct Patience {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

/// What moves the bytes of a connection; the caller has it polled until the answer is complete.
type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// The answer to a request, and the driver of its connection.
type Answer = (Response<WasiBody>, Driver);

/// Verifies what plugins connect to like any upstream, by the authorities that the machine trusts.
///
/// # Errors
///
/// A message that names what cannot be read.
pub(crate) fn connector(trust: &Trust) -> Result<TlsConnector, String> {
    let mut config = (*trust.client(&UpstreamTls::default())?).clone();
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What `wasi:http` knows about a store, with the bound of its headers.
pub(crate) fn context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(FIELDS_BYTES_MAX);
    context
}

impl Client {
    /// The way out for a plugin with this grant; `log` is told what is refused.
    pub(crate) fn new(policy: Policy, tls: TlsConnector, resolver: Resolver, log: Arc<Log>) -> Arc<Self> {
        Arc::new(Self {
            policy,
            tls,
            resolver,
            log,
            in_flight: Arc::new(Semaphore::new(PLUGIN_REQUESTS_MAX)),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            granted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// What became of the requests so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            granted: self.granted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future closes the connection.
    async fn send(
        &self,
        request: Request<WasiBody>,
        patience: Patience,
        permit: OwnedSemaphorePermit,
    ) -> Result<Answer, Error> {
        let origin = shown_origin(request.uri());
        let answered = match self.policy.check(request.uri()) {
            Ok(destination) => self.exchange(&destination, request, patience, permit).await,
            Err(refusal) => Err(Failure::refusal(Error::HttpRequestDenied, refusal.to_string())),
        };
        answered.inspect(|_| count(&self.granted)).map_err(|failure| self.explain(origin, failure))
    }

    /// Counts and logs a failure, and leaves what the guest learns of it.
    fn explain(&self, origin: String, failure: Failure) -> Error {
        let (level, message) = if failure.is_refusal {
            count(&self.refused);
            (Level::Warn, "outbound request refused")
        } else {
            count(&self.granted);
            count(&self.failed);
            (Level::Debug, "outbound request failed")
        };
        let fields = [("origin".to_owned(), origin), ("reason".to_owned(), failure.reason)];
        self.log.write(level, message, &fields, Instant::now());
        failure.code
    }

    async fn exchange(
        &self,
        destination: &Destination,
        request: Request<WasiBody>,
        patience: Patience,
        permit: OwnedSemaphorePermit,
    ) -> Result<Answer, Failure> {
        let request = prepared(request, destination)?;
        let connected = timeout(patience.connect, self.connect(destination)).await;
        let (connection, permit_of_all) = connected
            .unwrap_or_else(|_| Err(Failure::new(Error::ConnectionTimeout, "no connection in time")))?;
        let (response, driver) = within(patience.first_byte, connection.send(request)).await?;
        if response.body().size_hint().lower() > RESPONSE_BODY_BYTES_MAX {
            let code = Error::HttpResponseBodySize(Some(RESPONSE_BODY_BYTES_MAX));
            return Err(Failure::new(code, "the answer is too long"));
        }
        let response = response.map(|incoming| {
            let permits = [permit, permit_of_all];
            ResponseBody::new(incoming, RESPONSE_BODY_BYTES_MAX, patience.between_bytes, permits)
                .boxed_unsync()
        });
        Ok((response, driver))
    }

    async fn connect(
        &self,
        destination: &Destination,
    ) -> Result<(Connection, OwnedSemaphorePermit), Failure> {
        let permit = acquire(&self.in_flight).await;
        let stream = connection::open(&self.addresses(destination).await?, destination.port).await?;
        let connection = match destination.scheme {
            Scheme::Http => Connection::Plain(stream),
            Scheme::Https => connection::secure(stream, &self.tls, &destination.host).await?,
        };
        Ok((connection, permit))
    }

    /// The addresses of a host that may be connected to, at least one.
    async fn addresses(&self, destination: &Destination) -> Result<Vec<IpAddr>, Failure> {
        let found = match &destination.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolver.resolve(name, &self.lookups).await.map_err(failed_lookup)?,
        };
        let permitted: Vec<_> = found
            .iter()
            .copied()
            .filter(|address| destination.permits(*address))
            .take(ADDRESSES_MAX)
            .collect();
        match found.first() {
            None => Err(failed_lookup(io::Error::from(io::ErrorKind::NotFound))),
            Some(address) if permitted.is_empty() => Err(Failure::refusal(
                Error::DestinationIpProhibited,
                format!(
                    "it leads to `{address}`, which is not public: name the host in `allow.http` without a \
                     wildcard, or the address itself if it is link-local or a metadata service"
                ),
            )),
            Some(_) => Ok(permitted),
        }
    }
}

impl Outbound {
    /// The way out of one instance of the plugin that has this client.
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self { client: Some(client), in_flight: None }
    }

    fn permit(&mut self) -> Result<OwnedSemaphorePermit, Error> {
        let permits = self.in_flight.get_or_insert_with(|| Arc::new(Semaphore::new(INSTANCE_REQUESTS_MAX)));
        permits.clone().try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answer, Error>> + Send> {
        let permit = self.permit();
        let client = self.client.clone();
        Box::new(async move {
            let client = client.ok_or(Error::HttpRequestDenied)?;
            client.send(request, Patience::of(options), permit?).await
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }
}

impl Resolver {
    async fn resolve(&self, name: &str, lookups: &Arc<Semaphore>) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => {
                let permit = acquire(lookups).await;
                let name = name.to_owned();
                // The thread keeps the permit even if nobody waits for it any more.
                let lookup = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    let found = (name.as_str(), 0).to_socket_addrs()?;
                    Ok(found.map(|address| address.ip()).collect())
                });
                lookup.await.map_err(io::Error::other)?
            }
            #[cfg(test)]
            Self::Table(table) => {
                let found = table.iter().find(|(own, _)| *own == name);
                Ok(found.map(|(_, addresses)| addresses.clone()).unwrap_or_default())
            }
        }
    }
}

impl Patience {
    fn of(options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let bounded = |asked: Option<Duration>, max: Duration| asked.map_or(max, |asked| asked.min(max));
        Self {
            connect: bounded(options.connect_timeout, CONNECT_TIME_MAX),
            first_byte: bounded(options.first_byte_timeout, FIRST_BYTE_TIME_MAX),
            between_bytes: bounded(options.between_bytes_timeout, BETWEEN_BYTES_TIME_MAX),
        }
    }
}

impl Failure {
    fn new(code: Error, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), is_refusal: false }
    }

    fn refusal(code: Error, reason: String) -> Self {
        Self { code, reason, is_refusal: true }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

async fn acquire(permits: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    permits.clone().acquire_owned().await.expect("nobody closes it")
}

/// Where a request wants to go, without credentials, for the log.
fn shown_origin(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{}://{host}", uri.scheme_str().unwrap_or_default())
}

/// The request as it goes over the connection: bounded, in origin-form, and for the host that was checked.
fn prepared(request: Request<WasiBody>, destination: &Destination) -> Result<Request<RequestBody>, Failure> {
    let (mut head, body) = request.into_parts();
    if head.method == Method::CONNECT {
        return Err(Failure::new(Error::HttpRequestMethodInvalid, "a tunnel is not a request"));
    }
    head.uri = target(&head.uri)?;
    let authority = HeaderValue::try_from(destination.authority())
        .map_err(|error| Failure::new(Error::HttpRequestUriInvalid, error.to_string()))?;
    head.headers.insert(header::HOST, authority);
    let head_bytes: usize =
        head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if head_bytes > HEAD_BYTES_MAX {
        let code = Error::HttpRequestHeaderSectionSize(u32::try_from(HEAD_BYTES_MAX).ok());
        return Err(Failure::new(code, "the request's headers are too long"));
    }
    if announced(&head.headers) > REQUEST_BODY_BYTES_MAX {
        let code = Error::HttpRequestBodySize(Some(REQUEST_BODY_BYTES_MAX));
        return Err(Failure::new(code, "the request's body is too long"));
    }
    Ok(Request::from_parts(head, RequestBody::new(body, REQUEST_BODY_BYTES_MAX)))
}

/// Path and query alone: an absolute address in the request line could reach another host behind a proxy.
fn target(uri: &Uri) -> Result<Uri, Failure> {
    let written = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if written.len() > TARGET_BYTES_MAX {
        return Err(Failure::new(Error::HttpRequestUriTooLong, "path and query are too long"));
    }
    let rooted = match written.as_bytes().first() {
        Some(b'/') => written.to_owned(),
        Some(b'?') | None => format!("/{written}"),
        Some(_) => {
            return Err(Failure::new(Error::HttpRequestUriInvalid, "the path does not begin with `/`"));
        }
    };
    Uri::builder()
        .path_and_query(rooted)
        .build()
        .map_err(|error| Failure::new(Error::HttpRequestUriInvalid, error.to_string()))
}

/// The length that the guest says its body has. `wasmtime-wasi-http` has checked that it is one number.
fn announced(headers: &HeaderMap) -> u64 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or_default()
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let answered = timeout(limit, Box::pin(work)).await;
    answered.unwrap_or_else(|_| Err(Failure::new(Error::ConnectionReadTimeout, "no answer in time")))
}

fn failed_lookup(error: io::Error) -> Failure {
    let code = Error::DnsError { rcode: Some("the name does not resolve".to_owned()), info_code: None };
    Failure::new(code, error.to_string())
}

#[cfg(test)]
mod tests;
