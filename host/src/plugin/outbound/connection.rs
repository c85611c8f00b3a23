//! One connection of a plugin's request: to an address that was checked, for one exchange.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

use crate::plugin::outbound::body::RequestBody;
use crate::plugin::outbound::origin::Host;
use crate::plugin::outbound::{ADDRESS_TIME_MAX, Driver, Failure, HEAD_BYTES_MAX};

/// A fresh connection.
pub(super) enum Connection {
    /// Plain text.
    Plain(TcpStream),
    /// TLS; boxed because it is fifty times as large.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to the first address that answers.
pub(super) async fn open(addresses: &[IpAddr], port: u16) -> Result<TcpStream, Failure> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        let connected = timeout(ADDRESS_TIME_MAX, TcpStream::connect(SocketAddr::new(*address, port))).await;
        match connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
            Ok(stream) => {
                // Only a matter of speed.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    let code = match last.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        _ => Error::DestinationUnavailable,
    };
    Err(Failure::new(code, last.to_string()))
}

/// Begins TLS with the host, whose certificate is verified for its name or address.
pub(super) async fn secure(
    stream: TcpStream,
    connector: &TlsConnector,
    host: &Host,
) -> Result<Connection, Failure> {
    let name = server_name(host)?;
    let stream = Box::pin(connector.connect(name, stream)).await.map_err(failed_handshake)?;
    Ok(Connection::Tls(Box::new(stream)))
}

impl Connection {
    /// Sends the one request of this connection and waits for the head of the answer.
    pub(super) async fn send(
        self,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Driver), Failure> {
        match self {
            Self::Plain(stream) => perform(stream, request).await,
            Self::Tls(stream) => perform(*stream, request).await,
        }
    }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, Failure> {
    match host {
        Host::Address(address) => Ok(ServerName::from(*address)),
        Host::Name(name) => ServerName::try_from(name.clone())
            .map_err(|error| Failure::new(Error::TlsCertificateError, error.to_string())),
    }
}

/// Sends a request over a fresh connection and drives it until the head of the answer is there.
async fn perform<S>(stream: S, request: Request<RequestBody>) -> Result<(Response<Incoming>, Driver), Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, mut connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed_exchange(&error))?;
    let mut response = pin!(sender.send_request(request));
    // How the connection ended, if it did before there was an answer: it knows the cause better than the answer does.
    let mut end = None;
    let answered = loop {
        tokio::select! {
            biased;
            answered = &mut response => break answered,
            ended = &mut connection, if end.is_none() => end = Some(ended),
        }
    };
    match (answered, end) {
        (Ok(response), Some(_)) => Ok((response, Box::new(async { Ok(()) }))),
        (Ok(response), None) => Ok((response, Box::new(drive(connection)))),
        (Err(_), Some(Err(error))) | (Err(error), _) => Err(failed_exchange(&error)),
    }
}

/// Moves bytes until the answer is complete. What goes wrong on the way shows in the body.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) -> Result<(), Error> {
    let _ = connection.await;
    Ok(())
}

fn failed_handshake(error: io::Error) -> Failure {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let code = match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    };
    Failure::new(code, error.to_string())
}

fn failed_exchange(error: &hyper::Error) -> Failure {
    let reason = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    Failure::new(code_of(error), reason)
}

/// What a guest learns of a failure of the HTTP library.
pub(super) fn code_of(error: &hyper::Error) -> Error {
    if let Some(Error::HttpRequestBodySize(bytes_max)) =
        error.source().and_then(|source| source.downcast_ref())
    {
        return Error::HttpRequestBodySize(*bytes_max);
    }
    if error.is_parse_too_large() {
        return Error::HttpResponseHeaderSectionSize(u32::try_from(HEAD_BYTES_MAX).ok());
    }
    let broken = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    match broken {
        Some(io::ErrorKind::UnexpectedEof) => Error::HttpResponseIncomplete,
        // What the library's decoder of chunks says.
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Error::HttpProtocolError,
        Some(_) => Error::ConnectionTerminated,
        None if error.is_incomplete_message() => Error::HttpResponseIncomplete,
        None if error.is_closed() || error.is_canceled() => Error::ConnectionTerminated,
        None => Error::HttpProtocolError,
    }
}
