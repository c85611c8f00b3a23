//! What was recorded of every exchange.

pub(crate) mod query;
mod schema;
