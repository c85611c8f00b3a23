//! Whole answers that a plugin gives itself.

use crate::SyntheticResponse;

impl SyntheticResponse {
    /// Makes an answer with this status, no header and no body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Makes an answer of 200 with a JSON document, in the client's dialect.
    pub fn json(document: impl Into<Vec<u8>>) -> Self {
        Self::new(200).body(document)
    }

    /// Adds a header; `content-type` is `application/json` unless one is added.
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
}
