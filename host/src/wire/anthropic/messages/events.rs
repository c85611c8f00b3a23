//! Streamed answers, as the events that they are sent in.

mod decoder;
mod encoder;

pub use decoder::EventDecoder;
pub use encoder::EventEncoder;
