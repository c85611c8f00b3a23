//! OpenAI's Responses between its own words and the hub.
//!
//! Clients speak it to upstreams that do not. An upstream that does is passed through, so that no request is written in it;
//! its answers are read for those who look at them. Its errors are those of the whole dialect, in
//! [`chat`](crate::wire::openai::chat).

mod decoder;
mod encoder;
mod input;
mod output;
mod parts;
mod reply;
mod request;

pub use decoder::EventDecoder;
pub use encoder::{EventEncoder, HELD_BYTES_MAX, error_event};
pub use reply::{decode_reply, encode_reply};
pub use request::decode_request;

#[cfg(test)]
mod tests;
