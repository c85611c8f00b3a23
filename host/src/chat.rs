//! The hub: the neutral vocabulary that every dialect is read into and written from.
//!
//! A request, a whole answer and the steps of a streamed one, in the gateway's own words and not in a vendor's. Each dialect
//! is read into them and written from them, so that a further one costs its own reading and writing and nothing else.
//! What the hub has no word for rides along as it came, with the name of the surface it is of; only that surface is
//! written it again. An exchange whose two sides speak the same dialect never takes this way: its bytes are forwarded.

use std::borrow::Cow;

mod event;
mod field;
mod reply;
mod request;
mod text;

pub use event::{ApiError, Event};
pub use field::{Action, Field, Row};
pub use reply::{Choice, Reply, TokenLogprob};
pub use request::{
    CacheControl, ChatRequest, Citation, Content, Effort, Extra, Format, Function, Level, Message, Part, Raw,
    Reasoning, Role, Signature, Source, Tool, ToolChoice,
};
pub use text::{Channel, ChannelSet, Lane, Span, TextBatch};

/// One turn of a conversation as plugins see it, where a role may be any word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user`, `assistant`, `tool`, or the dialect's own word.
    pub role: String,
    /// All of its text; what is not text is left out.
    pub text: String,
}

/// What of a request identifies its conversation; borrowed from the request wherever it can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt<'a> {
    /// What the KV cache of the conversation begins with, in order: tools, system texts, the first user message; the
    /// beginning of a completion's prompt; the whole input of embeddings and the like. Texts are in one canonical
    /// form whatever serialiser wrote them; empty when the request has nothing to tell conversations apart by.
    pub prefix: Vec<Cow<'a, [u8]>>,
    /// The text of each user message, in order; filled only when asked for.
    pub users: Vec<Cow<'a, str>>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model was done, or met a stop word.
    Stop,
    /// A limit of tokens was reached.
    Length,
    /// The model calls tools.
    ToolCalls,
    /// The upstream's filter stepped in.
    ContentFilter,
    /// A reason this vocabulary has no word for.
    Other,
}

/// Tokens of one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: u64,
    /// Tokens of the answer, thinking included.
    pub output: u64,
    /// Tokens of the prompt that were taken from a cache.
    pub cached: u64,
    /// Tokens of the prompt that were written to a cache, where that is counted apart.
    pub cache_written: u64,
    /// Tokens of the answer that were thinking.
    pub reasoning: u64,
    /// Whether the gateway counted them because the upstream did not say.
    pub is_estimated: bool,
}

impl Usage {
    /// All tokens, of the prompt and of the answer.
    pub fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}
