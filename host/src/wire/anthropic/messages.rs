//! Anthropic's Messages between its own words and the hub.
//!
//! Source: Anthropic, API reference, "Create a Message", "Streaming messages" and "Errors", and the types of its client
//! for Python, 2.12, seen 2026-11.

mod block;
mod error;
mod events;
mod model;
mod reply;
mod request;
mod usage;

pub use block::plain;
pub use error::{decode_error, encode_error};
pub use events::{EventDecoder, EventEncoder};
pub use reply::{decode_reply, encode_reply};
pub use request::{TABLE, decode_request, encode_request};
