//! Google's dialect: the Generative Language API.

pub mod content;
pub mod models;
mod schema;
