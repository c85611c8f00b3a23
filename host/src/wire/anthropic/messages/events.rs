//! Streamed answers, as the events that they are sent in.

mod decoder;
mod encoder;
#[cfg(test)]
mod tests;

pub use decoder::EventDecoder;
pub use encoder::EventEncoder;
