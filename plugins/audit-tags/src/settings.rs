//! What an operator writes.

use std::collections::BTreeMap;

use serde::Deserialize;
use witgate_sdk::Config;

/// The labels that exchanges get.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The labels. Of several with one name, the last that has a value counts.
    pub(crate) tags: Vec<Tag>,
    /// Exchanges that take longer, in milliseconds, get the label `slow: true`.
    pub(crate) slow_ms: Option<u64>,
    /// Exchanges whose first content takes longer, in milliseconds, get the label `slow_first_token: true`.
    pub(crate) slow_first_token_ms: Option<u64>,
}

/// One label: where its value comes from and what is made of it.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tag {
    /// The label's name.
    pub(crate) name: String,
    /// Where its value comes from.
    pub(crate) from: Source,
    /// What values become; one that is not listed stays as it is, or becomes `other`.
    #[serde(default)]
    pub(crate) map: BTreeMap<String, String>,
    /// What values become that `map` does not list.
    #[serde(default)]
    pub(crate) other: Option<String>,
    /// Names for ranges of a number, lowest first: the first band counts whose bound the number is below.
    #[serde(default)]
    pub(crate) bands: Vec<Band>,
    /// The value when there is none; without it there is no label then.
    #[serde(default)]
    pub(crate) default: Option<String>,
    /// The length in bytes at which a value is cut off, from 1 to 4096.
    #[serde(default = "bytes_max")]
    #[config(minimum = 1, maximum = 4096)]
    pub(crate) max: usize,
}

fn bytes_max() -> usize {
    200
}

/// A range of numbers and its name.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Band {
    /// Numbers below this one are in the band; left out in the last band: all the others.
    #[serde(default)]
    pub(crate) below: Option<f64>,
    /// The label's value.
    pub(crate) value: String,
}

/// Where a value comes from.
#[derive(Config, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// A header of the request, by name; never one that carries a credential.
    Header(String),
    /// A value of the request's body, by JSON Pointer; an object or an array as JSON.
    Pointer(String),
    /// Always this text.
    Const(String),
    /// The caller's tenant.
    Tenant,
    /// The model the client named.
    Model,
    /// The operation, such as `chat.completions`.
    Operation,
    /// `true` if the client asked for a stream, otherwise `false`.
    Stream,
    /// The upstream that answered.
    Upstream,
    /// The HTTP status the client was sent.
    Status,
    /// How the answer ended: `stop`, `length`, `tool_calls`, `content_filter`, `cancelled` or `upstream_error`.
    Finish,
    /// Tokens of the prompt.
    PromptTokens,
    /// Tokens of the answer.
    CompletionTokens,
    /// Tokens of the answer that were thinking.
    ReasoningTokens,
    /// Tokens of the prompt that came from a cache.
    CachedPromptTokens,
    /// Tokens of prompt and answer.
    TotalTokens,
    /// Milliseconds from the beginning to the end.
    TotalMs,
    /// Milliseconds from the beginning to the first content.
    FirstTokenMs,
}
