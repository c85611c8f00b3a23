//! OpenAI's dialect.

pub mod thinking;
