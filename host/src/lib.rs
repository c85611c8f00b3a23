//! witgate: a language-model gateway that operators extend with WebAssembly components.

pub mod chat;
pub mod config;
pub mod error;
pub mod wire;

#[cfg_attr(not(test), expect(dead_code, reason = "the module that sends requests is not here yet"))]
mod upstream {
    mod echo;
}
