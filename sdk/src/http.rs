//! Requests to other servers; needs `allow.http` with their origins, and the feature `http`.
//!
//! A hook waits for the answer, and the exchange with it: set a [`Request::timeout`] below the operator's
//! `wait_timeout`. Redirects are not followed: a new request is checked anew.
//!
//! ```
//! use std::time::Duration;
//! use witgate_sdk::http;
//!
//! /// Asks a guard whether a prompt may pass.
//! fn is_allowed(prompt: &str) -> Result<bool, http::Error> {
//!     let response = http::Request::post("https://guard.example/v1/check")
//!         .header("content-type", "text/plain")
//!         .timeout(Duration::from_millis(200))
//!         .body(prompt)
//!         .send()?;
//!     Ok(response.status == 200 && response.text() == "yes")
//! }
//! ```

#[cfg(target_family = "wasm")]
mod wasi;

use std::fmt;
use std::time::Duration;

use crate::Rejection;
#[cfg(not(target_family = "wasm"))]
use crate::testkit::host::http as host;
#[cfg(target_family = "wasm")]
use wasi as host;

/// How many bytes of an answer's body are read; a longer one is [`Error::TooLarge`].
pub const RESPONSE_BYTES_MAX: usize = 8 << 20;

/// Sends a GET request and reads the answer.
///
/// # Errors
///
/// See [`Error`]. An answer of any status is none.
pub fn get(url: impl Into<String>) -> Result<Response, Error> {
    Request::get(url).send()
}

/// A request to another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// An absolute URL, `http` or `https`.
    pub url: String,
    /// The headers; `host` and `content-length` are added.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long to wait for the connection, for the answer, and between two pieces of its body, each. `None`: as long as
    /// the host does.
    pub timeout: Option<Duration>,
}

impl Request {
    /// Makes a request without headers and body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout: None }
    }

    /// Makes a GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Makes a POST request.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a value as JSON, and `content-type`.
    ///
    /// # Errors
    ///
    /// The value is no JSON, e.g. a map whose keys are no strings.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Result<Self, Error> {
        let json = serde_json::to_vec(value).map_err(|error| Error::Request(error.to_string()))?;
        Ok(self.header("content-type", "application/json").body(json))
    }

    /// Sets how long to wait for the connection, for the answer, and between two pieces of its body, each.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// See [`Error`]. An answer of any status is none.
    pub fn send(&self) -> Result<Response, Error> {
        let target = Target::of(&self.url)?;
        host::send(self, &target)
    }
}

/// The answer of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers, names in lowercase; values that are no UTF-8 are left out.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Makes an answer, for tests.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// Returns the first header of this name, in any spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }

    /// Returns the body as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// Says where it is no JSON of this type.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Response(error.to_string()))
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The URL, a header or the body is none.
    Request(String),
    /// The operator does not grant this origin.
    Denied,
    /// Nothing came in time.
    Timeout,
    /// The answer is larger than [`RESPONSE_BYTES_MAX`], or than the host allows.
    TooLarge,
    /// The server cannot be reached.
    Connect(String),
    /// The answer broke off or is not what was expected.
    Response(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(reason) => write!(f, "the request is wrong: {reason}"),
            Self::Denied => f.write_str("the request is not granted: add its origin to `allow.http`"),
            Self::Timeout => f.write_str("the request timed out"),
            Self::TooLarge => f.write_str("the answer is too large"),
            Self::Connect(reason) => write!(f, "the server cannot be reached: {reason}"),
            Self::Response(reason) => write!(f, "the answer is wrong: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self::from(error.to_string())
    }
}

/// For [`Plugin::new`](crate::Plugin::new) and [`OnComplete`](crate::OnComplete).
impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

/// A URL in the parts that `wasi:http` wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    is_tls: bool,
    authority: &'a str,
    path_and_query: String,
}

impl<'a> Target<'a> {
    fn of(url: &'a str) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Request(format!("`{url}` {what}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("is no absolute URL"))?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(wrong("is neither `http` nor `https`")),
        };
        if rest.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(wrong("has a blank or a control character: percent-encode it"));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains('@') {
            return Err(wrong("has no host, or a name and password before it"));
        }
        let path_and_query = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { is_tls, authority, path_and_query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, is_tls: bool, authority: &str, path_and_query: &str) {
        let path_and_query = path_and_query.to_owned();
        assert_eq!(Target::of(url), Ok(Target { is_tls, authority, path_and_query }));
    }

    #[test]
    fn a_url_is_taken_apart() {
        check("https://a.example", true, "a.example", "/");
        check("HTTP://a.example:8080/b?c=d#e", false, "a.example:8080", "/b?c=d");
        check("http://[::1]:80?c", false, "[::1]:80", "/?c");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        for (url, expected) in [
            ("a.example/b", "`a.example/b` is no absolute URL"),
            ("ftp://a", "`ftp://a` is neither `http` nor `https`"),
            ("http://", "`http://` has no host, or a name and password before it"),
            ("http://u:p@a", "`http://u:p@a` has no host, or a name and password before it"),
            ("http://a/ b", "`http://a/ b` has a blank or a control character: percent-encode it"),
        ] {
            assert_eq!(Target::of(url), Err(Error::Request(expected.to_owned())));
        }
    }
}
