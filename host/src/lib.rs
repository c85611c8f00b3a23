//! witgate: a language-model gateway that operators extend with WebAssembly components.

pub mod chat;
pub mod config;
pub mod error;
pub mod wire;
