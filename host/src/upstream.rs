//! One configured upstream: where it is, how it is reached, and what is going on with it.

mod body;
pub(crate) mod breaker;
pub(crate) mod commit;
mod connection;
pub(crate) mod dispatch;
pub(crate) mod echo;
pub(crate) mod health;
mod hedge;
mod inflate;
pub(crate) mod job;
mod keys;
pub(crate) mod leave;
mod local;
mod pool;
pub(crate) mod reply;
pub(crate) mod retries;
mod translation;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

pub(crate) use crate::limit::queue::Place as InFlight;
pub(crate) use crate::upstream::body::{RequestBody, Rest, UPLOAD_IDLE_MAX, broken_off, too_slow};
pub(crate) use crate::upstream::pool::{Answer, AnswerBody};

use crate::config;
use crate::config::secret::Secret;
use crate::limit::queue::Places;
use crate::tls::Trust;
use crate::upstream::breaker::{Breaker, Standing};
use crate::upstream::keys::Keys;
use crate::upstream::pool::Pool;
use crate::wire::Dialect;

/// An upstream as one configuration describes it.
pub(crate) struct Upstream {
    /// What holds for it: what the configuration says, and over that what an operator said since.
    pub(crate) settings: config::Upstream,
    /// What an operator said at run time; carried over by name when the configuration changes.
    pub(crate) adjustment: Adjustment,
    /// What outlives a change of the configuration.
    pub(crate) state: Arc<State>,
    /// Whether it is asked at all for now; kept by the next configuration if the address stays the same.
    pub(crate) breaker: Arc<Breaker>,
    /// What requests to it carry as its dialect wants it, if it has keys.
    keys: Arc<Keys>,
    /// What requests to it carry as `Host`.
    host: HeaderValue,
    /// The path of its base URL, without a trailing slash.
    base_path: String,
    /// The way there; kept by the next configuration if the address and the verification stay the same.
    pool: Arc<Pool>,
}

/// What an operator says of an upstream at run time. It beats the file until it is taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Adjustment {
    /// Instead of `enabled`; none leaves it to the file.
    pub(crate) is_enabled: Option<bool>,
    /// Instead of `priority`; none leaves it to the file.
    pub(crate) priority: Option<u32>,
}

/// What is known of an upstream from the traffic; carried over by name when the configuration changes.
#[derive(Default)]
pub(crate) struct State {
    /// How many exchanges may run at it, and how many do, each until the last byte has been handed on.
    pub(crate) places: Arc<Places>,
    has_answered: AtomicBool,
    is_failing: AtomicBool,
    latency_us: AtomicU64,
    attempts: AtomicU64,
    failures: AtomicU64,
}

/// What the last attempts at an upstream came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nobody has asked it yet.
    Unknown,
    /// It answered the last attempt.
    Healthy,
    /// It failed the last attempt.
    Failing,
}

impl Upstream {
    /// Builds an upstream, taking over what `before` (the same name in the configuration before) has that still fits.
    ///
    /// `settings` are the file's, with the adjustment of `before` on top already.
    ///
    /// # Errors
    ///
    /// A message when a certificate authority's file cannot be read.
    pub(crate) fn new(
        settings: config::Upstream,
        before: Option<&Self>,
        trust: &Trust,
    ) -> Result<Self, String> {
        // A file of authorities may have changed though its name has not.
        let is_same_place = |before: &&Self| {
            before.settings.target == settings.target
                && before.settings.tls == settings.tls
                && settings.tls.ca.is_none()
        };
        let is_there_still = |before: &&Self| before.settings.target == settings.target;
        let breaker = before.filter(is_there_still).map(|before| before.breaker.clone()).unwrap_or_default();
        let pool = match before.filter(is_same_place) {
            Some(before) => before.pool.clone(),
            None => Arc::new(Pool::new(&settings.target, &settings.tls, trust)?),
        };
        let state = before.map_or_else(Arc::default, |before| before.state.clone());
        let (host, base_path) = match &settings.target {
            config::Target::Http(base) => {
                let authority = pool::authority(base).map(|authority| authority.to_string());
                let path = base.path().trim_end_matches('/');
                let path = if path.is_empty() { settings.dialect.base_path() } else { path };
                (authority.unwrap_or_default(), path.to_owned())
            }
            config::Target::Echo => ("localhost".to_owned(), String::new()),
        };
        let host =
            HeaderValue::try_from(host).map_err(|_| "its host is not a valid header value".to_owned())?;
        let known = before.filter(is_there_still).map(|before| &*before.keys);
        let keys = Arc::new(Keys::new(&settings, known)?);
        let adjustment = before.map_or_else(Adjustment::default, |before| before.adjustment);
        Ok(Self { settings, adjustment, state, breaker, keys, host, base_path, pool })
    }

    /// The same upstream with another adjustment of what the file says of it.
    pub(crate) fn adjusted(&self, file: &config::Upstream, adjustment: Adjustment) -> Self {
        Self {
            settings: adjustment.applied_to(file),
            adjustment,
            state: self.state.clone(),
            breaker: self.breaker.clone(),
            keys: self.keys.clone(),
            host: self.host.clone(),
            base_path: self.base_path.clone(),
            pool: self.pool.clone(),
        }
    }

    /// Takes one place, unless `max_in_flight` are taken or somebody waits for one.
    pub(crate) fn enter(&self) -> Option<InFlight> {
        self.state.places.enter()
    }

    /// How its breaker stands.
    pub(crate) fn breaker_standing(&self) -> Standing {
        self.breaker.standing(&self.settings.breaker)
    }

    /// How its keys stand, in the order of the configuration; nothing where it has not several.
    pub(crate) fn key_standings(&self) -> Vec<Standing> {
        self.keys.standings()
    }

    /// Closes the connections that have been idle for too long.
    pub(crate) fn prune(&self) {
        self.pool.prune();
    }
}

/// The header in which upstreams of a dialect take a key.
///
/// Source: the vendors' API references, "Authentication", seen 2026-11.
fn credential_header(dialect: Dialect) -> HeaderName {
    match dialect {
        Dialect::OpenAi => AUTHORIZATION,
        Dialect::Anthropic => HeaderName::from_static("x-api-key"),
        Dialect::Gemini => HeaderName::from_static("x-goog-api-key"),
    }
}

/// A key as that header carries it, marked so that nothing prints it and HTTP/2 does not put it into its table.
fn credential(dialect: Dialect, key: &Secret) -> Result<HeaderValue, String> {
    let scheme = if dialect == Dialect::OpenAi { "Bearer " } else { "" };
    let mut value = HeaderValue::try_from(format!("{scheme}{}", key.expose()))
        .map_err(|_| "the key holds characters that a header cannot carry".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Says of a request what upstreams of a dialect want to be told: the version of the API, unless the client said one.
///
/// Source: Anthropic, API reference, "Versions", seen 2026-11.
fn state_version(dialect: Dialect, headers: &mut HeaderMap) {
    if dialect == Dialect::Anthropic {
        headers.entry("anthropic-version").or_insert(HeaderValue::from_static("2023-06-01"));
    }
}

impl Adjustment {
    /// What holds where the file says this.
    pub(crate) fn applied_to(self, file: &config::Upstream) -> config::Upstream {
        config::Upstream {
            is_enabled: self.is_enabled.unwrap_or(file.is_enabled),
            priority: self.priority.unwrap_or(file.priority),
            ..file.clone()
        }
    }
}

impl Condition {
    /// The word for it on the admin listener.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Failing => "failing",
        }
    }
}

impl State {
    /// How many exchanges are running.
    pub(crate) fn in_flight(&self) -> usize {
        self.places.taken()
    }

    /// Notes that an attempt begins.
    pub(crate) fn asked(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the head of an answer and how long it took.
    pub(crate) fn answered(&self, latency: Duration) {
        self.latency_us.store(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.is_failing.store(false, Ordering::Relaxed);
        self.has_answered.store(true, Ordering::Relaxed);
    }

    /// Notes a failed attempt.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.is_failing.store(true, Ordering::Relaxed);
    }

    /// What the last attempt came to.
    pub(crate) fn condition(&self) -> Condition {
        if self.is_failing.load(Ordering::Relaxed) {
            Condition::Failing
        } else if self.has_answered.load(Ordering::Relaxed) {
            Condition::Healthy
        } else {
            Condition::Unknown
        }
    }

    /// How many attempts there were.
    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// How many attempts failed by its fault.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How long the last answer's head took.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.load(Ordering::Relaxed))
    }
}
