//! Google's dialect: the Generative Language API.

pub mod content;
pub mod models;
pub(super) mod object;
mod schema;
pub(super) mod value;
