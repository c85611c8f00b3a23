//! A whole answer, in the hub's words.

use crate::chat::{Extra, Part, StopReason, Usage};
use crate::wire::Surface;

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The surface it came by; what rides along is of it.
    pub surface: Surface,
    /// Its id, as the upstream gave it; empty if it gave none.
    pub id: String,
    /// The model, as the upstream names it.
    pub model: String,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: Option<u64>,
    /// The answers, one for each that was asked for.
    pub choices: Vec<Choice>,
    /// What it cost.
    pub usage: Option<Usage>,
    /// Further members.
    pub extra: Extra,
}

/// One answer of those that were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Its number, from 0.
    pub index: u32,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub stop: Option<StopReason>,
    /// The word that ended it, if one did and the upstream says which.
    pub stop_sequence: Option<String>,
    /// The probabilities of the tokens, if they were asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// Further members.
    pub extra: Extra,
}

/// How likely a token was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprob {
    /// The token's text.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// The most likely tokens in its place.
    pub top: Vec<(String, f64)>,
}
