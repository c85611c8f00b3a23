//! What a configuration says of how much callers may use.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::Glob;

/// How much callers may use, and how long they may wait for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// What each caller may use whose key says nothing else; a tenant's own limits hold beside it, and in its place where
    /// `by` is `tenant`.
    pub each: Quota,
    /// What all callers together may use.
    pub total: Quota,
    /// Who counts as one caller. Default `key`.
    pub by: LimitBy,
    /// How many requests may wait for a place, over all upstreams and callers; zero lets none wait. Default 0.
    pub queue: usize,
    /// How long one may wait. Default 5 s.
    pub queue_timeout: Duration,
}

/// What one party may use; nothing is bounded by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quota {
    /// Requests in a sliding window.
    pub requests: Option<Rate>,
    /// Tokens in a sliding window, of the prompt and of the answer.
    pub tokens: Option<Rate>,
    /// Requests at the same time; zero means no bound.
    pub in_flight: usize,
    /// What may be used up in a day, from midnight to midnight UTC.
    pub day: Spend,
    /// What may be used up in a calendar month, UTC.
    pub month: Spend,
}

/// A count in a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The most there may be in any window; not 0.
    pub count: u64,
    /// The length of the window; not 0.
    pub window: Duration,
}

/// What may be used up in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    /// Tokens, of the prompts and of the answers.
    pub tokens: Option<u64>,
    /// Money by the `prices`, in millionths of their unit.
    pub money: Option<u64>,
}

/// Who counts as one caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LimitBy {
    /// Whoever uses the same key; who uses none counts by the address.
    #[default]
    Key,
    /// Whoever belongs to the same tenant; who belongs to none counts by the key, then by the address.
    Tenant,
    /// Whoever comes from the same address.
    Ip,
    /// Whoever sends the same value in this header; who sends none counts as one more.
    Header(HeaderName),
}

/// A tenant that has a quota or upstreams of its own, over all its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    /// As keys name it.
    pub name: Arc<str>,
    /// The upstreams that may answer those of its keys that name none, and who plugins say belongs to it; none listed means
    /// all.
    pub upstreams: Vec<Arc<str>>,
    /// What its keys together may use.
    pub quota: Quota,
}

/// What a model's tokens cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// The models, by the names that clients use.
    pub models: Glob,
    /// A token of the prompt, in billionths of the unit of money (which is a thousandth of the price for a million).
    pub input: u64,
    /// A token of the prompt that the upstream had cached; as `input` by default.
    pub cached: u64,
    /// A token of the answer.
    pub output: u64,
    /// A token of the answer's reasoning; as `output` by default.
    pub reasoning: u64,
}

impl Quota {
    /// Whether it bounds nothing.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}
