//! How spans reach a collector: OTLP over HTTP, by the SDK's exporter and a client of our own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::config::{Otlp, UpstreamTls};
use crate::tls::Trust;

/// Where collectors take spans, below the configured address. Source: OTLP 1.9, "OTLP/HTTP Request".
const PATH: &str = "/v1/traces";
/// The type of what is sent; the exporter is built with this form alone. Source: OTLP 1.9, "Binary Protobuf Encoding".
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
/// How long one request to the collector may take.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a batch is tried again before it is given up.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(10);
/// The longest answer of a collector that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Failures are reported at most this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Spans that wait for the collector, and what became of those that do not any more.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Spans that wait.
    pub(super) waiting: AtomicUsize,
    /// Spans that never arrived, ever.
    pub(super) lost: AtomicU64,
}

/// Makes the exporter for a collector; it runs requests on this runtime, wherever it is called.
///
/// # Errors
///
/// A message when the address or the machine's certificates cannot be used.
pub(super) fn exporter(
    endpoint: &Uri,
    settings: &Otlp,
    resource: &Resource,
    backlog: Arc<Backlog>,
) -> Result<Reporting, String> {
    let peer = Arc::new(Peer::new(endpoint, settings)?);
    let client = Client { peer, runtime: Handle::current() };
    let base = endpoint.to_string();
    let base = base.trim_end_matches('/');
    let address = if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") };
    let mut inner = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(address)
        .with_timeout(EXPORT_TIME_MAX)
        .build()
        .map_err(|error| format!("spans cannot be sent to `{endpoint}`: {error}"))?;
    inner.set_resource(resource);
    Ok(Reporting { inner, backlog, told: Mutex::default() })
}

/// An exporter that says now and then what it could not deliver.
#[derive(Debug)]
pub(super) struct Reporting {
    inner: opentelemetry_otlp::SpanExporter,
    backlog: Arc<Backlog>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    /// How many lost spans were told of.
    lost: u64,
}

impl SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.inner.export(batch).await;
        self.backlog.waiting.fetch_sub(count, Ordering::Relaxed);
        if result.is_err() {
            self.backlog.lost.fetch_add(count as u64, Ordering::Relaxed);
        }
        self.report(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl Reporting {
    fn report(&self, result: &OTelSdkResult) {
        let mut told = self.told.lock().expect("no code panics while it holds this lock");
        let lost = self.backlog.lost.load(Ordering::Relaxed);
        let is_due = told.at.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
        if lost == told.lost || !is_due {
            return;
        }
        let error = result.as_ref().err().map(ToString::to_string);
        tracing::warn!(lost = lost - told.lost, error, "spans did not reach the collector");
        *told = Told { at: Some(Instant::now()), lost };
    }
}

/// Sends a request over a connection of its own. There is a request a second at most but under load, when batches are
/// large enough for a handshake not to matter.
struct Client {
    peer: Arc<Peer>,
    runtime: Handle,
}

/// Where the collector is.
struct Peer {
    host: String,
    port: u16,
    /// Every header of a request but the length of its body.
    headers: HeaderMap,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Peer {
    fn new(endpoint: &Uri, settings: &Otlp) -> Result<Self, String> {
        let authority: &Authority =
            endpoint.authority().ok_or_else(|| format!("`{endpoint}` names no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_tls = endpoint.scheme_str() == Some("https");
        let tls = is_tls.then(|| secured(&host)).transpose()?;
        let place = HeaderValue::try_from(authority.as_str())
            .map_err(|_| format!("`{endpoint}` names no usable host"))?;
        let mut headers: HeaderMap = settings.headers.iter().cloned().collect();
        headers.insert(CONTENT_TYPE, PROTOBUF);
        headers.insert(HOST, place);
        let port = endpoint.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self { host, port, headers, tls })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        match &self.tls {
            None => self.exchange(stream, request).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut head, body) = request.into_parts();
        // The exporter adds headers that the environment names, and prefers them: they may be meant for somebody else.
        head.headers = self.headers.clone();
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        // HTTP/1.1 names the place in `Host`, and only the path in the request line.
        if let Some(path) = head.uri.path_and_query() {
            head.uri = Uri::from(path.clone());
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answered = async {
            let (head, body) =
                sender.send_request(Request::from_parts(head, Full::new(body))).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        let driven = async {
            // How it ended shows in the answer.
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            answer = answered => answer,
            () = driven => Err("the connection to the collector broke".into()),
        }
    }
}

fn secured(host: &str) -> Result<(TlsConnector, ServerName<'static>), String> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("`{host}` is not a name that a certificate can be verified for"))?;
    let mut config = ClientConfig::clone(&*Trust::default().client(&UpstreamTls::default())?);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsConnector::from(Arc::new(config)), name))
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Client({}:{})", self.peer.host, self.peer.port)
    }
}

impl HttpClient for Client {
    // What `async_trait` makes of the trait's method, written out.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let peer = self.peer.clone();
        // The SDK calls from a thread of its own that drives no sockets. Whoever stops the export drops the handle, and
        // the request ends by its own bound.
        let sent = self.runtime.spawn(async move {
            match tokio::time::timeout(REQUEST_TIME_MAX, peer.send(request)).await {
                Ok(answer) => answer,
                Err(_) => Err("the collector did not answer in time".into()),
            }
        });
        Box::pin(async move { sent.await? })
    }
}
