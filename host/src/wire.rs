//! Dialects on the wire.

pub mod openai;
pub mod sse;
