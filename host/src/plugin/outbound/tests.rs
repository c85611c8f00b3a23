use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::Full;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::Pollable as _;
use wasmtime_wasi_http::WasiHttpCtxView;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{
    self, ErrorCode, HostFields, HostFutureIncomingResponse, HostIncomingResponse as _, HostOutgoingRequest,
};

use super::*;

/// A server on loopback that gives every request the same answer, and keeps what it was sent.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn plain(answer: impl Into<Vec<u8>>) -> Self {
        Self::start(answer.into(), None).await
    }

    async fn start(answer: Vec<u8>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = heard.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => serve(stream, &answer, &kept).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => serve(stream, &answer, &kept).await,
                        Err(_) => continue,
                    },
                }
            }
        });
        Self { port, heard, task }
    }

    fn heard(&self) -> String {
        String::from_utf8(self.heard.lock().unwrap().clone()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a head, answers, and reads on until the client has closed, so that a test need not wait for anything.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8], heard: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 64 << 10];
    let mut is_answered = false;
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        let is_head_complete = {
            let mut heard = heard.lock().unwrap();
            heard.extend_from_slice(&buffer[..len]);
            heard.windows(4).any(|window| window == b"\r\n\r\n")
        };
        if is_head_complete && !is_answered {
            is_answered = true;
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

fn log() -> Arc<Log> {
    Arc::new(Log::new("test", Instant::now()))
}

fn trusting(roots: RootCertStore) -> TlsConnector {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    TlsConnector::from(Arc::new(config))
}

fn client(origins: &[&str], table: &[(&'static str, &str)]) -> Arc<Client> {
    let policy = Policy::new(origins.iter().map(|origin| origin.parse().unwrap()).collect());
    let table = table.iter().map(|(name, address)| (*name, vec![address.parse().unwrap()])).collect();
    Client::new(policy, trusting(RootCertStore::empty()), Resolver::Table(table), log())
}

fn body(bytes: impl Into<Bytes>) -> WasiBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn get(uri: &str) -> Request<WasiBody> {
    Request::get(uri).body(body("")).unwrap()
}

/// Sends as `wasi:http` does: the driver is a task of its own.
async fn send(outbound: &mut Outbound, request: Request<WasiBody>) -> Result<Response<WasiBody>, Error> {
    send_with(outbound, request, None).await
}

async fn send_with(
    outbound: &mut Outbound,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<Response<WasiBody>, Error> {
    let sent = outbound.send_request(request, options, Box::new(async { Ok(()) }));
    let (response, driver) = Box::into_pin(sent).await?;
    tokio::spawn(Box::into_pin(driver));
    Ok(response)
}

async fn text(response: Response<WasiBody>) -> Result<String, Error> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_granted_origin_answers() {
    let server = Server::plain(HELLO).await;
    let origin = format!("http://127.0.0.1:{}", server.port);
    let client = client(&[&origin], &[]);
    let mut outbound = Outbound::new(client.clone());
    let request = Request::post(format!("{origin}/a?b")).header("x-a", "1").body(body("ping")).unwrap();
    let response = send(&mut outbound, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await.unwrap(), "hello");
    let heard = server.heard();
    assert!(heard.starts_with("POST /a?b HTTP/1.1\r\n") && heard.ends_with("\r\n\r\nping"), "{heard}");
    assert!(heard.contains(&format!("host: 127.0.0.1:{}\r\n", server.port)), "{heard}");
    assert_eq!(client.usage(), Usage { granted: 1, refused: 0, failed: 0 });
}

#[tokio::test]
async fn what_is_not_granted_meets_no_server() {
    let server = Server::plain(HELLO).await;
    let elsewhere = Server::plain(HELLO).await;
    let client = client(&[&format!("http://127.0.0.1:{}", elsewhere.port)], &[]);
    let mut outbound = Outbound::new(client.clone());
    let port = server.port;
    for uri in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{}@127.0.0.1:{port}/", elsewhere.port),
        format!("http://[::1]:{}/", elsewhere.port),
    ] {
        let refused = send(&mut outbound, get(&uri)).await;
        assert!(matches!(refused, Err(Error::HttpRequestDenied)), "{uri}");
    }
    assert_eq!((server.heard(), elsewhere.heard()), (String::new(), String::new()));
    assert_eq!(client.usage(), Usage { granted: 0, refused: 5, failed: 0 });
}

#[tokio::test]
async fn without_a_grant_everything_is_refused() {
    let refused = send(&mut Outbound::default(), get("https://example.com/")).await;
    assert!(matches!(refused, Err(Error::HttpRequestDenied)));
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_unless_the_grant_names_it() {
    let server = Server::plain(HELLO).await;
    let wild = format!("http://*.example.com:{}", server.port);
    let uri = format!("http://A.example.com.:{}/", server.port);
    let table = [("a.example.com", "127.0.0.1")];
    let mut outbound = Outbound::new(client(&[&wild], &table));
    assert!(matches!(send(&mut outbound, get(&uri)).await, Err(Error::DestinationIpProhibited)));
    assert_eq!(server.heard(), "");
    let exact = format!("http://a.example.com:{}", server.port);
    let mut outbound = Outbound::new(client(&[&wild, &exact], &table));
    let response = send(&mut outbound, get(&uri)).await.unwrap();
    assert_eq!(text(response).await.unwrap(), "hello");
    // The host is named in its one spelling, whatever the guest wrote.
    assert!(server.heard().contains(&format!("host: a.example.com:{}\r\n", server.port)));
}

#[tokio::test]
async fn a_name_that_leads_to_metadata_is_refused_even_if_the_grant_names_it() {
    let table = [("metadata.example", "169.254.169.254"), ("mapped.example", "::ffff:169.254.169.254")];
    let client = client(&["http://metadata.example", "http://mapped.example"], &table);
    for uri in ["http://metadata.example/", "http://mapped.example/"] {
        let refused = send(&mut Outbound::new(client.clone()), get(uri)).await;
        assert!(matches!(refused, Err(Error::DestinationIpProhibited)), "{uri}");
    }
    assert_eq!(client.usage().refused, 2);
}

#[tokio::test]
async fn of_several_addresses_only_permitted_ones_are_tried() {
    let server = Server::plain(HELLO).await;
    let origin = format!("http://a.example:{}", server.port);
    let addresses = vec!["169.254.169.254".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let resolver = Resolver::Table(vec![("a.example", addresses)]);
    let policy = Policy::new(vec![origin.parse().unwrap()]);
    let client = Client::new(policy, trusting(RootCertStore::empty()), resolver, log());
    let response = send(&mut Outbound::new(client), get(&origin)).await.unwrap();
    assert_eq!(text(response).await.unwrap(), "hello");
}

#[tokio::test]
async fn the_system_resolves_what_is_named() {
    let server = Server::plain(HELLO).await;
    let origin = format!("http://localhost:{}", server.port);
    let policy = Policy::new(vec![origin.parse().unwrap()]);
    let client = Client::new(policy, trusting(RootCertStore::empty()), Resolver::System, log());
    let response = send(&mut Outbound::new(client), get(&origin)).await.unwrap();
    assert_eq!(text(response).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_an_error_of_names() {
    let failed = send(&mut Outbound::new(client(&["http://a.example"], &[])), get("http://a.example/")).await;
    assert!(matches!(failed, Err(Error::DnsError { .. })));
}

#[tokio::test]
async fn a_redirect_is_the_guests_own_affair() {
    let server =
        Server::plain("HTTP/1.1 302 Found\r\nlocation: http://a.example/\r\ncontent-length: 0\r\n\r\n").await;
    let origin = format!("http://127.0.0.1:{}", server.port);
    let response = send(&mut Outbound::new(client(&[&origin], &[])), get(&origin)).await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(response.headers()["location"], "http://a.example/");
}

#[track_caller]
fn check_target(uri: &str, expected: Option<&str>) {
    let made = target(&uri.parse().unwrap()).ok().map(|uri| uri.to_string());
    assert_eq!(made.as_deref(), expected);
}

#[test]
fn the_request_line_holds_a_path_and_no_host() {
    check_target("http://a.example", Some("/"));
    check_target("http://a.example/b?c", Some("/b?c"));
    check_target("http://a.example?c", Some("/?c"));
    check_target("http://a.example//b.example/", Some("//b.example/"));
    check_target("http://a.example/http://b.example/", Some("/http://b.example/"));
    check_target("*", None);
    check_target(&format!("http://a.example/{}", "x".repeat(TARGET_BYTES_MAX)), None);
}

#[tokio::test]
async fn a_request_over_its_bounds_is_refused_before_anything_is_sent() {
    let server = Server::plain(HELLO).await;
    let origin = format!("http://127.0.0.1:{}", server.port);
    let client = client(&[&origin], &[]);
    let mut outbound = Outbound::new(client.clone());
    let tunnel = Request::connect(&origin).body(body("")).unwrap();
    assert!(matches!(send(&mut outbound, tunnel).await, Err(Error::HttpRequestMethodInvalid)));
    let header = Request::get(&origin).header("x-a", "a".repeat(HEAD_BYTES_MAX)).body(body("")).unwrap();
    assert!(matches!(send(&mut outbound, header).await, Err(Error::HttpRequestHeaderSectionSize(_))));
    let length = (REQUEST_BODY_BYTES_MAX + 1).to_string();
    let announced = Request::post(&origin).header("content-length", length).body(body("")).unwrap();
    assert!(matches!(send(&mut outbound, announced).await, Err(Error::HttpRequestBodySize(_))));
    assert_eq!(server.heard(), "");
    assert_eq!(client.usage(), Usage { granted: 3, refused: 0, failed: 3 });
}

/// A body whose length nobody announced.
struct Pieces(usize);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or_default();
        Poll::Ready(left.map(|_| Ok(Frame::data(Bytes::from(vec![0; 1 << 20])))))
    }
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_breaks_the_request() {
    let server = Server::plain("").await;
    let origin = format!("http://127.0.0.1:{}", server.port);
    let request = Request::post(&origin).body(Pieces(9).boxed_unsync()).unwrap();
    let failed = send(&mut Outbound::new(client(&[&origin], &[])), request).await;
    assert!(matches!(failed, Err(Error::HttpRequestBodySize(Some(REQUEST_BODY_BYTES_MAX)))));
}

/// What the guest learns when the server answers this, or the text.
async fn learned(answer: impl Into<Vec<u8>>) -> Result<String, Error> {
    let server = Server::plain(answer).await;
    let origin = format!("http://127.0.0.1:{}", server.port);
    let mut outbound = Outbound::new(client(&[&origin], &[]));
    text(send(&mut outbound, get(&origin)).await?).await
}

#[tokio::test]
async fn an_answer_may_be_as_long_as_its_bound_and_no_longer() {
    let chunk = |len: usize| {
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{len:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(len)
        )
    };
    let max = RESPONSE_BODY_BYTES_MAX as usize;
    assert_eq!(learned(chunk(max)).await.unwrap().len(), max);
    assert!(matches!(
        learned(chunk(max + 1)).await,
        Err(Error::HttpResponseBodySize(Some(RESPONSE_BODY_BYTES_MAX)))
    ));
    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", max + 1);
    assert!(matches!(
        learned(announced).await,
        Err(Error::HttpResponseBodySize(Some(RESPONSE_BODY_BYTES_MAX)))
    ));
}

#[tokio::test]
async fn an_answer_that_is_no_http_has_a_code() {
    assert!(matches!(learned("hello\r\n\r\n").await, Err(Error::HttpProtocolError)));
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnumber\r\n";
    assert!(matches!(learned(chunks).await, Err(Error::HttpProtocolError)));
    let head = format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "a".repeat(2 * HEAD_BYTES_MAX));
    assert!(matches!(learned(head).await, Err(Error::HttpResponseHeaderSectionSize(_))));
    let headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-a: b\r\n".repeat(1000));
    assert!(matches!(learned(headers).await, Err(Error::HttpResponseHeaderSectionSize(_))));
}

/// A server that answers this and closes at once.
async fn closing(answer: &'static str) -> Result<String, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    });
    let mut outbound = Outbound::new(client(&[&origin], &[]));
    let response = send(&mut outbound, get(&origin)).await;
    task.await.unwrap();
    text(response?).await
}

#[tokio::test]
async fn an_answer_that_breaks_off_has_a_code() {
    assert!(matches!(closing("").await, Err(Error::HttpResponseIncomplete)));
    let broken = closing("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await;
    assert!(matches!(broken, Err(Error::HttpResponseIncomplete)), "{broken:?}");
    assert_eq!(closing("HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_closed_port_has_a_code() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = client(&[&origin], &[]);
    let failed = send(&mut Outbound::new(client.clone()), get(&origin)).await;
    assert!(matches!(failed, Err(Error::ConnectionRefused)));
    assert_eq!(client.usage(), Usage { granted: 1, refused: 0, failed: 1 });
}

#[tokio::test]
async fn a_guest_is_not_kept_waiting_longer_than_it_asked() {
    let short = Some(Duration::from_millis(20));
    let options = |first_byte_timeout, between_bytes_timeout| {
        Some(RequestOptions { connect_timeout: None, first_byte_timeout, between_bytes_timeout })
    };
    let silent = Server::plain("").await;
    let origin = format!("http://127.0.0.1:{}", silent.port);
    let mut outbound = Outbound::new(client(&[&origin], &[]));
    let failed = send_with(&mut outbound, get(&origin), options(short, None)).await;
    assert!(matches!(failed, Err(Error::ConnectionReadTimeout)));

    let halting = Server::plain("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await;
    let origin = format!("http://127.0.0.1:{}", halting.port);
    let mut outbound = Outbound::new(client(&[&origin], &[]));
    let response = send_with(&mut outbound, get(&origin), options(None, short)).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
    assert!(matches!(body.frame().await, Some(Err(Error::ConnectionReadTimeout))));
    assert!(body.frame().await.is_none());
}

#[test]
fn a_guest_cannot_ask_for_more_patience_than_there_is() {
    let long = Some(Duration::MAX);
    let asked =
        RequestOptions { connect_timeout: long, first_byte_timeout: long, between_bytes_timeout: long };
    let patience = Patience::of(Some(asked));
    assert_eq!(patience.connect, CONNECT_TIME_MAX);
    assert_eq!(patience.first_byte, FIRST_BYTE_TIME_MAX);
    assert_eq!(patience.between_bytes, BETWEEN_BYTES_TIME_MAX);
}

#[tokio::test]
async fn an_instance_has_a_bounded_number_of_requests_in_flight() {
    let server = Server::plain("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
    let origin = format!("http://127.0.0.1:{}", server.port);
    let client = client(&[&origin], &[]);
    let mut outbound = Outbound::new(client.clone());
    let mut waiting: Vec<_> = (0..INSTANCE_REQUESTS_MAX)
        .map(|_| outbound.send_request(get(&origin), None, Box::new(async { Ok(()) })))
        .collect();
    let refused = send(&mut outbound, get(&origin)).await;
    assert!(matches!(refused, Err(Error::ConnectionLimitReached)));
    // Another instance has its own, and a request that is given up or answered makes room for the next one.
    send(&mut Outbound::new(client.clone()), get(&origin)).await.unwrap();
    waiting.pop();
    let response = send(&mut outbound, get(&origin)).await.unwrap();
    assert!(matches!(send(&mut outbound, get(&origin)).await, Err(Error::ConnectionLimitReached)));
    drop(response);
    send(&mut outbound, get(&origin)).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_verified_for_the_host() {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let server = Server::start(HELLO.into(), Some(TlsAcceptor::from(Arc::new(config)))).await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let origins: Vec<Origin> = ["a.example", "b.example", "127.0.0.1"]
        .iter()
        .map(|host| format!("https://{host}:{}", server.port).parse().unwrap())
        .collect();
    let ask = async |roots: &RootCertStore, host: &str| {
        let table = ["a.example", "b.example"].map(|name| (name, vec!["127.0.0.1".parse().unwrap()]));
        let policy = Policy::new(origins.clone());
        let client = Client::new(policy, trusting(roots.clone()), Resolver::Table(table.into()), log());
        let uri = format!("https://{host}:{}/", server.port);
        text(send(&mut Outbound::new(client), get(&uri)).await?).await
    };
    assert_eq!(ask(&roots, "a.example").await.unwrap(), "hello");
    assert_eq!(ask(&roots, "127.0.0.1").await.unwrap(), "hello");
    assert!(matches!(ask(&roots, "b.example").await, Err(Error::TlsCertificateError)));
    assert!(matches!(ask(&RootCertStore::empty(), "a.example").await, Err(Error::TlsCertificateError)));
}

#[tokio::test]
async fn a_server_without_tls_has_a_code() {
    let server = Server::plain("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let origin = format!("https://127.0.0.1:{}", server.port);
    let options =
        RequestOptions { connect_timeout: Some(Duration::from_millis(20)), ..RequestOptions::default() };
    let failed = send_with(&mut Outbound::new(client(&[&origin], &[])), get(&origin), Some(options)).await;
    assert!(matches!(failed, Err(Error::ConnectionTimeout)));
}

#[test]
fn the_machines_authorities_are_trusted() {
    assert!(connector(&Trust::default()).is_ok());
}

#[track_caller]
fn check_shown(uri: &str, shown: &str) {
    assert_eq!(shown_origin(&uri.parse().unwrap()), shown);
}

#[test]
fn the_log_shows_no_password() {
    check_shown("http://user:password@a.example:80/x?token=1", "http://a.example:80");
    check_shown("/x", "://");
}

/// What a guest reads that asks `wasi:http` for this: the status, or the code.
async fn guest_reads(client: Arc<Client>, port: u16, path: &str) -> Result<u16, ErrorCode> {
    let mut table = ResourceTable::new();
    let mut outbound = Outbound::new(client);
    let mut context = context();
    let mut view = WasiHttpCtxView { hooks: &mut outbound, table: &mut table, ctx: &mut context };
    let fields = HostFields::new(&mut view).unwrap();
    let request = HostOutgoingRequest::new(&mut view, fields).unwrap();
    let own = |request: &Resource<_>| Resource::new_own(request.rep());
    view.set_scheme(own(&request), Some(types::Scheme::Http)).unwrap().unwrap();
    view.set_authority(own(&request), Some(format!("127.0.0.1:{port}"))).unwrap().unwrap();
    if view.set_path_with_query(own(&request), Some(path.to_owned())).unwrap().is_err() {
        return Err(ErrorCode::HttpRequestUriInvalid);
    }
    let future = view.handle(request, None).map_err(|error| error.downcast().unwrap())?;
    view.table.get_mut(&future).unwrap().ready().await;
    let response = HostFutureIncomingResponse::get(&mut view, future).unwrap().unwrap().unwrap()?;
    Ok(view.status(response).unwrap())
}

#[tokio::test]
async fn a_guest_reads_codes_and_never_traps() {
    let server = Server::plain(HELLO).await;
    let granted = client(&[&format!("http://127.0.0.1:{}", server.port)], &[]);
    assert_eq!(guest_reads(granted.clone(), server.port, "/").await.unwrap(), 200);
    assert_eq!(guest_reads(granted.clone(), server.port, "?a").await.unwrap(), 200);
    let absolute = guest_reads(granted, server.port, "http://a.example/").await;
    assert!(matches!(absolute, Err(ErrorCode::HttpRequestUriInvalid)));
    let refused = guest_reads(client(&[], &[]), server.port, "/").await;
    assert!(matches!(refused, Err(ErrorCode::HttpRequestDenied)));
}
