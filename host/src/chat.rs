//! The neutral vocabulary: what every dialect's requests and answers have in common.

use std::borrow::Cow;

/// What of a request identifies its conversation; `wire` fills it from the client's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt<'a> {
    /// What the conversation's KV cache begins with, in order: tools (raw JSON), system texts, the first user text;
    /// the first 2 KiB of a completion's prompt; the whole input of embeddings and the like.
    pub prefix: Vec<Cow<'a, [u8]>>,
    /// The decoded text of each user message, only for the `voting` strategy and empty otherwise.
    pub users: Vec<Cow<'a, str>>,
}
