//! witgate: a language-model gateway that operators extend with WebAssembly components.

pub mod builtin;
pub mod config;
pub mod error;
