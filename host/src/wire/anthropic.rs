//! Anthropic's dialect.

pub mod count;
pub mod messages;
pub mod models;
mod object;
