//! What a witgate plugin is written with.
//!
//! A plugin is a type that implements [`Plugin`] and the hooks it wants, and one line, [`export!`]:
//!
//! ```
//! use witgate_sdk::{Call, Flow, OnRequest, Plugin, Rejection, export};
//!
//! struct Cold;
//!
//! impl Plugin for Cold {
//!     type Config = ();
//!     fn new(_: ()) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//! }
//!
//! impl OnRequest for Cold {
//!     fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
//!         if call.get("/temperature").is_none() {
//!             call.set("/temperature", "0.2")?;
//!         }
//!         Ok(Flow::Next)
//!     }
//! }
//!
//! export!(Cold: OnRequest);
//! # fn main() {}
//! ```
//!
//! The words are those of the contract in `wit/plugin.wit`, which says what the host promises. A plugin runs natively
//! in `cargo test` with the kit in `testkit`.
//!
//! # Features
//!
//! - `json` (default): configurations other than `()` and values by serde. A plugin that uses neither does not pay.
//! - `http`: requests to other servers.
#![deny(missing_docs)]

// `export!` and the derive name this crate by its outer name; so do this crate's own tests.
extern crate self as witgate_sdk;

mod call;
#[cfg(target_family = "wasm")]
mod component;
mod config;
mod event;
pub mod glob;
#[doc(hidden)]
pub mod glue;
mod hook;
#[cfg(feature = "http")]
pub mod http;
pub mod kv;
mod lanes;
pub mod log;
pub mod metrics;
mod rejection;
mod response;
pub mod secrets;
#[cfg(not(target_family = "wasm"))]
pub mod testkit;
mod text;
#[doc(hidden)]
pub mod wit;

pub use witgate_sdk_macros::{Config, export};

pub use call::Call;
pub use config::{Config, Schema};
pub use event::{EventAction, EventStream, StreamEvents};
pub use hook::{
    Authenticate, ErrorFlow, Flow, Hint, Labels, OnComplete, OnError, OnRequest, OnResponse, OnRoute, OnTick,
    OnUpstreamRequest, Plugin, ResponseFlow, UpstreamFlow,
};
pub use lanes::{Lanes, Out, TextFilter};
pub use rejection::Rejection;
pub use text::{Opened, StreamText, TextAction, TextStream, Verdict};
pub use wit::exports::witgate::plugin::authenticate::{Head, Principal};
pub use wit::exports::witgate::plugin::on_complete::AuditRecord;
pub use wit::exports::witgate::plugin::on_error::Failure;
pub use wit::exports::witgate::plugin::on_route::Candidate;
pub use wit::exports::witgate::plugin::stream_text::Wake;
pub use wit::witgate::plugin::exchange::Message;
pub use wit::witgate::plugin::types::{Channel, Finish, Span, SseEvent, SyntheticResponse, TextBatch, Usage};

/// Compiles the examples of the page that authors read first.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
