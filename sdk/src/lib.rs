//! What a witgate plugin is written with: the hooks as traits, their values, and [`export!`].
//!
//! A plugin is a type that implements [`Lifecycle`] and the hooks it wants, and one line, `export!(MyPlugin);`.
//! The words are those of the contract in `wit/plugin.wit`, which is the manual. So far a plugin can have one hook,
//! [`StreamText`].

#[doc(hidden)]
pub mod wit;

/// Makes the crate a component whose hooks are those of the given type: `witgate_sdk::export!(MyPlugin);`.
pub use wit::export;
pub use wit::exports::witgate::plugin::lifecycle::Guest as Lifecycle;
pub use wit::exports::witgate::plugin::stream_text::{
    Action, Guest as StreamText, GuestTransformer, Opened, Transformer, Verdict, Wake,
};
pub use wit::witgate::plugin::exchange::Call;
pub use wit::witgate::plugin::types::{Channel, Finish, Rejection, Span, TextBatch};
