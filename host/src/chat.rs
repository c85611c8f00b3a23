//! The neutral vocabulary that every dialect is read into and written from.
//!
//! It holds what the gateway itself says or needs to know. An exchange whose two sides speak the same dialect never
//! takes this way: its bytes are forwarded.

use std::borrow::Cow;

/// A chat request as the gateway understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    /// The model's name.
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Whether the answer is to be streamed.
    pub is_stream: bool,
    /// Whether the stream is to end with its usage.
    pub asks_usage: bool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// All of its text; what is not text (images, audio) is left out.
    pub text: String,
}

/// Who speaks in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator's instructions; OpenAI's `system` and `developer`.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// A role this vocabulary has no word for.
    Other,
}

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

/// A step of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The answer begins.
    Start,
    /// A piece of the answer's text.
    Text(String),
    /// A piece of the thinking.
    Reasoning(String),
    /// The answer is at its end, and why.
    Finish(StopReason),
    /// What it cost; comes after the finish.
    Usage(Usage),
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
    /// Tokens of the answer that were thinking.
    pub reasoning: u64,
    /// Whether the gateway counted them because the upstream did not say.
    pub is_estimated: bool,
}
