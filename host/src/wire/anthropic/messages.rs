//! Anthropic's Messages between its own words and the hub.

use bytes::Bytes;
use http::StatusCode;

use crate::chat::{ApiError, ChatRequest, Event, Reply, Row};
use crate::error::Result;
use crate::wire::convert::{Asked, Terms};

/// What requests of this surface cannot say, and what is done about it.
pub const TABLE: &[Row] = &[];

/// Reads a request.
pub fn decode_request(body: &[u8]) -> Result<ChatRequest> {
    let _ = body;
    unimplemented!("anthropic helper")
}

/// Writes a request.
pub fn encode_request(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<Bytes> {
    let _ = (request, terms);
    unimplemented!("anthropic helper")
}

/// Reads a whole answer.
pub fn decode_reply(body: &[u8], id: &str) -> Result<Reply> {
    let _ = (body, id);
    unimplemented!("anthropic helper")
}

/// Writes a whole answer.
pub fn encode_reply(reply: &Reply, asked: &Asked) -> Bytes {
    let _ = (reply, asked);
    unimplemented!("anthropic helper")
}

/// Reads an error.
pub fn decode_error(status: StatusCode, body: &[u8]) -> ApiError {
    let _ = (status, body);
    unimplemented!("anthropic helper")
}

/// Writes an error.
pub fn encode_error(error: &ApiError) -> Bytes {
    let _ = error;
    unimplemented!("anthropic helper")
}

/// Reads the events of a stream.
#[derive(Debug)]
pub struct EventDecoder;

impl EventDecoder {
    /// Begins a stream.
    pub fn new(id: &str) -> Self {
        let _ = id;
        unimplemented!("anthropic helper")
    }

    /// Reads one event.
    pub fn push(&mut self, event: Option<&str>, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        let _ = (event, data, out);
        unimplemented!("anthropic helper")
    }

    /// The stream ended, and the answer was whole.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        let _ = out;
        unimplemented!("anthropic helper")
    }
}

/// Writes the events of a stream.
#[derive(Debug)]
pub struct EventEncoder;

impl EventEncoder {
    /// Begins a stream.
    pub fn new(asked: &Asked) -> Self {
        let _ = asked;
        unimplemented!("anthropic helper")
    }

    /// Appends what the client is sent for a step.
    pub fn push(&mut self, event: &Event, out: &mut Vec<u8>) {
        let _ = (event, out);
        unimplemented!("anthropic helper")
    }
}
