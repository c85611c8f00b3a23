//! A plugin, and the hooks that see a request or an answer as a whole.

use crate::{AuditRecord, Call, Candidate, Config, Failure, Head, Principal, Rejection, SyntheticResponse};

/// A plugin: made from its configuration, once for each instance, before any hook.
///
/// Unless the operator says otherwise every exchange has an instance of its own, so `new` should be cheap.
///
/// ```
/// use witgate_sdk::{Config, Plugin};
///
/// /// What the operator writes under `config`.
/// #[derive(Config, serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     /// The longest prompt, in characters.
///     #[config(minimum = 1)]
///     characters_max: usize,
/// }
///
/// struct Limit {
///     characters_max: usize,
/// }
///
/// impl Plugin for Limit {
///     type Config = Settings;
///     fn new(config: Settings) -> Result<Self, String> {
///         match config.characters_max {
///             0 => Err("`characters_max` is 0: nobody could ask anything".to_owned()),
///             characters_max => Ok(Self { characters_max }),
///         }
///     }
/// }
/// ```
pub trait Plugin: Sized + 'static {
    /// What the operator writes under `config`; `()` for nothing.
    type Config: Config;

    /// Makes the plugin.
    ///
    /// # Errors
    ///
    /// A message for the operator, which refuses the plugin: lowercase, names in backticks, what to change.
    fn new(config: Self::Config) -> Result<Self, String>;
}

/// Says who is calling, before the body is read.
///
/// ```
/// use witgate_sdk::{Authenticate, Head, Principal, Rejection};
///
/// struct Internal;
/// # impl witgate_sdk::Plugin for Internal {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
/// # }
///
/// impl Authenticate for Internal {
///     fn authenticate(&self, head: &Head) -> Result<Option<Principal>, Rejection> {
///         match head.header("x-internal") {
///             Some("batch") => Ok(Some(Principal::new("batch").tenant("internal"))),
///             Some(_) => Err(Rejection::new(401, "invalid_api_key", "nobody has this name")),
///             None => Ok(None),
///         }
///     }
/// }
/// ```
pub trait Authenticate: Plugin {
    /// Names the caller. `None` passes: not this plugin's kind of credential, the next one is asked.
    ///
    /// # Errors
    ///
    /// Refuses the request.
    fn authenticate(&self, head: &Head) -> Result<Option<Principal>, Rejection>;
}

/// Sees a request after it was read and before an upstream is chosen.
///
/// ```
/// use witgate_sdk::{Call, Flow, OnRequest, Rejection};
///
/// struct NoTools;
///
/// impl OnRequest for NoTools {
///     fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
///         if call.get("/tools").is_some() {
///             return Err(Rejection::new(400, "tools_forbidden", "tools are switched off here"));
///         }
///         call.tag("tools", "none");
///         Ok(Flow::Next)
///     }
/// }
/// # impl witgate_sdk::Plugin for NoTools {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
/// # }
/// ```
pub trait OnRequest: Plugin {
    /// Sees the request. Edits of `call` count when the hook returns `Ok`.
    ///
    /// # Errors
    ///
    /// Refuses the request.
    fn on_request(&self, call: &Call) -> Result<Flow, Rejection>;
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes on, with the edits.
    Next,
    /// This is the answer; no upstream is asked.
    Respond(SyntheticResponse),
}

/// Sees the upstreams that could answer, when they are ranked.
///
/// ```
/// use witgate_sdk::{Call, Candidate, Hint, OnRoute, Rejection};
///
/// struct Cheapest;
///
/// impl OnRoute for Cheapest {
///     fn on_route(&self, _: &Call, candidates: &[Candidate]) -> Result<Hint, Rejection> {
///         let known = candidates.iter().filter_map(|c| Some((c.cost_micro_usd_per_mtok?, &c.id)));
///         Ok(known.min().map_or(Hint::NoOpinion, |(_, id)| Hint::Prefer(vec![id.clone()])))
///     }
/// }
/// # impl witgate_sdk::Plugin for Cheapest {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
/// # }
/// ```
pub trait OnRoute: Plugin {
    /// Sees the candidates, best first.
    ///
    /// # Errors
    ///
    /// Refuses the request.
    fn on_route(&self, call: &Call, candidates: &[Candidate]) -> Result<Hint, Rejection>;
}

/// What a plugin thinks of the candidates; each is named by its `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing.
    NoOpinion,
    /// These first, in this order, then the others.
    Prefer(Vec<String>),
    /// These and no others, in the order they were ranked.
    Only(Vec<String>),
    /// All but these.
    Exclude(Vec<String>),
}

/// Sees, before each attempt, the request as this upstream would get it.
///
/// ```
/// use witgate_sdk::{Call, OnUpstreamRequest, Rejection, UpstreamFlow};
///
/// struct EuropeOnly;
///
/// impl OnUpstreamRequest for EuropeOnly {
///     fn on_upstream_request(&self, call: &Call) -> Result<UpstreamFlow, Rejection> {
///         let is_european = call.upstream().is_some_and(|name| name.starts_with("eu-"));
///         Ok(if is_european { UpstreamFlow::Next } else { UpstreamFlow::SkipUpstream })
///     }
/// }
/// # impl witgate_sdk::Plugin for EuropeOnly {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
/// # }
/// ```
pub trait OnUpstreamRequest: Plugin {
    /// Sees the request to the upstream, in its dialect.
    ///
    /// # Errors
    ///
    /// Refuses the request.
    fn on_upstream_request(&self, call: &Call) -> Result<UpstreamFlow, Rejection>;
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFlow {
    /// It is made, with the edits.
    Next,
    /// It is not made; the next candidate is tried.
    SkipUpstream,
}

/// Sees an upstream's answer: a whole one, or the head of a stream, whose document is empty.
///
/// ```
/// use witgate_sdk::{Call, OnResponse, Rejection, ResponseFlow};
///
/// struct Anonymous;
///
/// impl OnResponse for Anonymous {
///     fn on_response(&self, call: &Call, status: u16) -> Result<ResponseFlow, Rejection> {
///         if status == 529 {
///             return Ok(ResponseFlow::Retry("overloaded".to_owned()));
///         }
///         call.remove("/system_fingerprint")?;
///         call.remove_header("openai-organization")?;
///         Ok(ResponseFlow::Next)
///     }
/// }
/// # impl witgate_sdk::Plugin for Anonymous {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
/// # }
/// ```
pub trait OnResponse: Plugin {
    /// Sees the answer and its status.
    ///
    /// # Errors
    ///
    /// The client is sent a refusal instead.
    fn on_response(&self, call: &Call, status: u16) -> Result<ResponseFlow, Rejection>;
}

/// What becomes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseFlow {
    /// It is passed on, with the edits.
    Next,
    /// This is sent instead.
    Respond(SyntheticResponse),
    /// The next candidate is tried; the text says why, for the log.
    Retry(String),
}

/// Sees that an attempt failed, and that the exchange did.
///
/// ```
/// use witgate_sdk::{Call, ErrorFlow, Failure, OnError, Rejection};
///
/// struct Spare;
///
/// impl OnError for Spare {
///     fn on_error(&self, _: &Call, failure: &Failure) -> Result<ErrorFlow, Rejection> {
///         Ok(match failure.code.as_str() {
///             "context_length_exceeded" => ErrorFlow::Fallback("long-context".to_owned()),
///             _ => ErrorFlow::Next,
///         })
///     }
/// }
/// # impl witgate_sdk::Plugin for Spare {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
/// # }
/// ```
pub trait OnError: Plugin {
    /// Sees the failure.
    ///
    /// # Errors
    ///
    /// The client is sent this refusal.
    fn on_error(&self, call: &Call, failure: &Failure) -> Result<ErrorFlow, Rejection>;
}

/// What becomes of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorFlow {
    /// What would happen anyway.
    Next,
    /// The next candidate is tried, though the configuration would not.
    Retry,
    /// This upstream or model is tried next.
    Fallback(String),
    /// This is the answer.
    Respond(SyntheticResponse),
}

/// Sees exchanges when they are over: in batches, off the request's path, on one long-lived instance.
///
/// ```
/// use witgate_sdk::{AuditRecord, Labels, OnComplete};
///
/// struct Slow;
///
/// impl OnComplete for Slow {
///     fn on_complete(&self, batch: Vec<AuditRecord>) -> Result<Vec<(String, Labels)>, String> {
///         let slow = batch.into_iter().filter(|record| record.total_us > 10_000_000);
///         Ok(slow.map(|record| (record.id, vec![("slow".to_owned(), "true".to_owned())])).collect())
///     }
/// }
/// # impl witgate_sdk::Plugin for Slow {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
/// # }
/// ```
pub trait OnComplete: Plugin {
    /// Takes a batch, at least once, and returns labels by exchange id, which are added to the audit.
    ///
    /// # Errors
    ///
    /// Asks for the batch again, at most three times; the message is for the log.
    fn on_complete(&self, batch: Vec<AuditRecord>) -> Result<Vec<(String, Labels)>, String>;
}

/// Labels of an exchange, names and values.
pub type Labels = Vec<(String, String)>;

/// Is called once a second, on the same long-lived instance as [`OnComplete`].
///
/// ```
/// use std::cell::Cell;
/// use witgate_sdk::OnTick;
///
/// struct Clock {
///     now_unix_ms: Cell<u64>,
/// }
///
/// impl OnTick for Clock {
///     fn on_tick(&self, now_unix_ms: u64) {
///         self.now_unix_ms.set(now_unix_ms);
///     }
/// }
/// # impl witgate_sdk::Plugin for Clock {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self { now_unix_ms: Cell::new(0) }) }
/// # }
/// ```
pub trait OnTick: Plugin {
    /// Takes the time, in milliseconds since 1970.
    fn on_tick(&self, now_unix_ms: u64);
}

impl Head {
    /// Returns the first header of this name, in any spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }
}

impl Principal {
    /// Makes a caller of this name, without a tenant, a key or tags.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), tenant: None, key: None, tags: Vec::new() }
    }

    /// Sets its tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Sets the name of the key it used.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }
}
