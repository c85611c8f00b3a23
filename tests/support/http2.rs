//! A small HTTP/2 client, for what HTTP/1.1 cannot show.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::PATIENCE;
use crate::client::{Answer, End, Head, Request};

/// Sends requests side by side over one connection, by prior knowledge, or by ALPN when there are TLS settings.
///
/// # Panics
/// When the server does not speak HTTP/2 or does not answer.
#[track_caller]
pub fn send(address: SocketAddr, tls: Option<Arc<ClientConfig>>, requests: &[Request]) -> Vec<Answer> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it needs no resources");
    runtime.block_on(async {
        let exchange = async {
            let tcp = TcpStream::connect(address).await.expect("the gateway listens");
            let Some(config) = tls else { return exchange(tcp, "http", requests).await };
            let name = ServerName::try_from("localhost").expect("it is a name");
            let stream =
                tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.expect("TLS works");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()), "HTTP/2 is negotiated");
            exchange(stream, "https", requests).await
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("the gateway answers in time")
    })
}

/// Sends a request by prior knowledge, reads the first piece of its answer and cancels it; the connection stays until
/// `meanwhile` has returned.
///
/// # Panics
/// When the server does not speak HTTP/2 or does not answer.
#[track_caller]
pub fn cancel<T>(address: SocketAddr, request: &Request, meanwhile: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("it needs no resources");
    let request = build("http", request);
    let connection = runtime.block_on(async {
        let tcp = TcpStream::connect(address).await.expect("the gateway listens");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
                .await
                .expect("the gateway speaks HTTP/2");
        tokio::spawn(connection);
        let exchange = async {
            let mut response = sender.send_request(request).await.expect("the gateway answers");
            response.body_mut().frame().await.expect("a first piece").expect("a first piece");
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("the gateway answers in time");
        sender
    });
    let outcome = meanwhile();
    drop(connection);
    runtime.shutdown_background();
    outcome
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    scheme: &str,
    requests: &[Request],
) -> Vec<Answer> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("the gateway speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let mut running = Vec::new();
    for request in requests {
        let mut sender = sender.clone();
        let request = build(scheme, request);
        running.push(tokio::spawn(async move {
            let response = sender.send_request(request).await.expect("the gateway answers");
            read(response).await
        }));
    }
    let mut answers = Vec::new();
    for answer in running {
        answers.push(answer.await.expect("no request panics"));
    }
    connection.abort();
    answers
}

fn build(scheme: &str, request: &Request) -> http::Request<Full<Bytes>> {
    let mut builder = http::Request::builder()
        .method(request.method.as_str())
        .uri(format!("{scheme}://{}{}", request.host, request.target));
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::from(request.body.clone())).expect("the test's request is valid")
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let head = Head { status: parts.status.as_u16(), headers };
    let (mut bytes, mut end) = (Vec::new(), End::Complete);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => end = End::Broken,
        }
    }
    Answer { head, body: bytes, end }
}
