//! The neutral vocabulary of requests and answers, the same for every dialect.

use std::borrow::Cow;

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
