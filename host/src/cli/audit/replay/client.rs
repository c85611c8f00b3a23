//! One request over one connection.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::UpstreamTls;
use crate::tls::Trust;

/// How long connecting and the handshake may take each.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Where requests are sent.
pub(super) struct Place {
    is_tls: bool,
    authority: Authority,
    /// The path before that of the request, without a slash at the end.
    base_path: String,
    /// Whether it is this machine's own gateway, whose certificate is for another name.
    is_own: bool,
}

impl Place {
    /// Reads a URL such as `http://127.0.0.1:8000`; its path may end with `/v1`.
    ///
    /// # Errors
    ///
    /// A message when it is none.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("`--to {url}`: give a URL like `http://127.0.0.1:8000`");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong()),
        };
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        if uri.query().is_some() {
            return Err(wrong());
        }
        let base_path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { is_tls, authority: authority.clone(), base_path, is_own: false })
    }

    /// The gateway of this machine.
    pub(super) fn own(address: SocketAddr, is_tls: bool) -> Self {
        let authority = address.to_string().parse().expect("an address is an authority");
        Self { is_tls, authority, base_path: String::new(), is_own: true }
    }

    /// Where a request goes here: the base path stands before its own, and `/v1` only once.
    ///
    /// # Errors
    ///
    /// A message when that is no path.
    pub(super) fn uri(&self, target: &str) -> Result<Uri, String> {
        let target = match target.strip_prefix("/v1") {
            Some(rest) if self.base_path.ends_with("/v1") && rest.starts_with('/') => rest,
            _ => target,
        };
        let target = format!("{}{target}", self.base_path);
        target.parse().map_err(|error| format!("the path `{target}` cannot be sent: {error}"))
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    ///
    /// A message when nobody answers.
    pub(super) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let host = HeaderValue::try_from(self.authority.as_str());
        request.headers_mut().insert(header::HOST, host.map_err(|error| format!("`{self}`: {error}"))?);
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = self.authority.port_u16().unwrap_or(if self.is_tls { 443 } else { 80 });
        let connecting = tokio::time::timeout(CONNECT_TIME_MAX, TcpStream::connect((host, port)));
        let stream = connecting.await.map_err(|_| self.lost(&"no connection in time"))?;
        let stream = stream.map_err(|error| self.lost(&error))?;
        if !self.is_tls {
            return self.exchange(stream, request).await;
        }
        // What is sent to an address of this machine does not leave it, whoever's name its certificate has.
        let settings = UpstreamTls { ca: None, is_insecure: self.is_own };
        let mut config = (*Trust::default().client(&settings)?).clone();
        config.alpn_protocols.clear();
        let name = ServerName::try_from(host.to_owned()).map_err(|error| self.lost(&error))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = tokio::time::timeout(CONNECT_TIME_MAX, handshake).await;
        let stream =
            stream.map_err(|_| self.lost(&"no handshake in time"))?.map_err(|error| self.lost(&error))?;
        self.exchange(stream, request).await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, String> {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.lost(&error))?;
        // It ends with the process, or when the answer is over.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &dyn fmt::Display) -> String {
        let hint = if self.is_own { "; is the gateway running? `--to URL` names another one" } else { "" };
        format!("`{self}` does not answer: {error}{hint}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, target: &str, expected: &str) {
        assert_eq!(Place::parse(url).unwrap().uri(target).unwrap(), expected, "{url} {target}");
    }

    #[test]
    fn the_version_stands_once() {
        check("http://a:1", "/v1/models?b=1", "/v1/models?b=1");
        check("http://a/", "/v1/models", "/v1/models");
        check("https://a/v1", "/v1/models", "/v1/models");
        check("https://a/v1/", "/models", "/v1/models");
        check("https://a/base", "/v1/models", "/base/v1/models");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in ["", "127.0.0.1:8000", "ftp://a", "/v1", "http://", "http://user:password@a", "http://a?b"]
        {
            assert!(Place::parse(url).is_err(), "{url}");
        }
    }
}
