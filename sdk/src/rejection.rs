//! A deliberate no.

use std::fmt;

/// A deliberate no, which the host renders in the shape of errors that the client's dialect has.
///
/// It is policy and no fault. A status outside 400 to 599 or an invalid header is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status, 400 to 599.
    pub status: u16,
    /// A code for machines, e.g. `content_policy_violation`.
    pub code: String,
    /// A text for the caller.
    pub message: String,
    /// Further headers of the answer; ignored once the head was sent.
    pub headers: Vec<(String, String)>,
}

impl Rejection {
    /// Makes a rejection without further headers.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), headers: Vec::new() }
    }

    /// Adds a header, e.g. `retry-after`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: {}", self.status, self.code, self.message)
    }
}

impl std::error::Error for Rejection {}

/// Makes what a method of [`Call`](crate::Call) found wrong a rejection with 500 `plugin_error`, so that `?` passes it
/// on.
impl From<String> for Rejection {
    fn from(message: String) -> Self {
        Self::new(500, "plugin_error", message)
    }
}

/// The same for a text of the plugin's own.
impl From<&str> for Rejection {
    fn from(message: &str) -> Self {
        Self::from(message.to_owned())
    }
}

#[cfg(target_family = "wasm")]
impl From<Rejection> for crate::wit::witgate::plugin::types::Rejection {
    fn from(rejection: Rejection) -> Self {
        let Rejection { status, code, message, headers } = rejection;
        Self { status, code, message, headers }
    }
}
