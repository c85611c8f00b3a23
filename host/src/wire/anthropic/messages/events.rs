//! Streamed answers, as the events that they are sent in.

mod decoder;
mod encoder;
mod held;
#[cfg(test)]
mod tests;

pub use decoder::EventDecoder;
pub use encoder::EventEncoder;
