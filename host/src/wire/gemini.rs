//! Google's dialect: the Generative Language API.

pub mod content;
