//! OpenAI's dialect.

pub mod answer;
pub mod stream;
pub mod thinking;
pub mod view;
