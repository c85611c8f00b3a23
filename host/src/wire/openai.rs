//! OpenAI's dialect.

pub mod answer;
pub mod chat;
pub mod stream;
pub mod thinking;
pub mod view;
