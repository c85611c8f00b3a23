//! Anthropic's dialect.

pub(super) mod cache;
pub mod count;
pub mod messages;
pub mod models;
