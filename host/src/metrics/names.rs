//! The values of labels: bounded, whatever clients send.
//!
//! A model's name is a label if the configuration names it: an alias, an exact match, a fallback. Other names, which only
//! a keyword or a prefix matches, become one when an upstream has answered 2xx for them, at most [`MODELS_MAX`] of them and
//! none longer than [`MODEL_BYTES_MAX`]; the rest is `other`. Upstreams are those of the configuration. A name that the
//! configuration drops is `other` from then on, and its series leave the page.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{self, Config, ModelMatch};
use crate::error::{ErrorKind, Timer};
use crate::exchange::Attempt;

/// The most names of models that are learned from traffic.
pub(crate) const MODELS_MAX: usize = 200;
/// The longest name of a model that is learned, in bytes.
const MODEL_BYTES_MAX: usize = 128;
/// What is not known.
pub(crate) const OTHER: &str = "other";
/// What there is none of.
pub(crate) const NONE: &str = "none";

/// A name of a model or an upstream, as a number that no other name ever has.
pub(crate) type Id = u32;

const OTHER_ID: Id = 0;
const NONE_ID: Id = 1;

/// The names that are labels under one configuration.
pub(crate) struct Names {
    models: HashMap<Arc<str>, Id>,
    learned: usize,
    upstreams: HashMap<Arc<str>, Known>,
    /// Where attempts at upstreams are counted that the configuration has dropped.
    other: Known,
    /// Which upstreams there are, to know the models that they take.
    settings: Vec<(ModelMatch, Vec<String>)>,
    next: Id,
}

/// An upstream that is known.
#[derive(Clone)]
pub(crate) struct Known {
    /// Its number.
    pub(crate) id: Id,
    /// What is counted of it.
    pub(crate) counts: Arc<UpstreamCounts>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            models: HashMap::from([(OTHER.into(), OTHER_ID), (NONE.into(), NONE_ID)]),
            learned: 0,
            upstreams: HashMap::new(),
            other: Known { id: OTHER_ID, counts: Arc::default() },
            settings: Vec::new(),
            next: NONE_ID + 1,
        }
    }
}

impl Names {
    /// The names under another configuration. What stays keeps its number, its counts, and, if it was learned and an
    /// upstream still takes it, its place.
    pub(crate) fn under(&self, config: &Config) -> Self {
        let mut names = Self { other: self.other.clone(), next: self.next, ..Self::default() };
        names.settings = config.upstreams.iter().map(wants).collect();
        for upstream in &config.upstreams {
            let known = self.upstreams.get(&upstream.name).cloned();
            let known = known.unwrap_or_else(|| Known { id: names.fresh(), counts: Arc::default() });
            names.upstreams.insert(upstream.name.clone(), known);
            for model in named(upstream) {
                names.keep(model, self);
            }
        }
        // A fallback may be an upstream's name, which is no model's; it does no harm among them.
        for model in self.models.keys() {
            if !names.models.contains_key(model) && names.learned < MODELS_MAX && names.is_taken(model) {
                names.learned += 1;
                names.keep(model, self);
            }
        }
        names
    }

    /// The same names and one that was learned from an exchange; none if it is not to be learned.
    pub(crate) fn learning(&self, model: &str) -> Option<Self> {
        if !self.may_learn(model) || self.models.contains_key(model) {
            return None;
        }
        let mut names = Self {
            models: self.models.clone(),
            learned: self.learned + 1,
            upstreams: self.upstreams.clone(),
            other: self.other.clone(),
            settings: self.settings.clone(),
            next: self.next,
        };
        let id = names.fresh();
        names.models.insert(model.into(), id);
        Some(names)
    }

    /// Whether there is room to learn a name.
    pub(crate) fn may_learn(&self, model: &str) -> bool {
        self.learned < MODELS_MAX && (1..=MODEL_BYTES_MAX).contains(&model.len())
    }

    /// The number of a model's name, and whether it is one of those that are known.
    pub(crate) fn model(&self, model: Option<&str>) -> (Id, bool) {
        match model {
            None => (NONE_ID, true),
            Some(model) => self.models.get(model).map_or((OTHER_ID, false), |id| (*id, true)),
        }
    }

    /// An upstream by its name.
    pub(crate) fn upstream(&self, name: &str) -> &Known {
        self.upstreams.get(name).unwrap_or(&self.other)
    }

    /// The number of an upstream, or of none.
    pub(crate) fn upstream_id(&self, known: Option<&Known>) -> Id {
        known.map_or(NONE_ID, |known| known.id)
    }

    /// All upstreams by their names; that of the dropped ones if anything was counted there.
    pub(crate) fn upstreams(&self) -> Vec<(&str, &UpstreamCounts)> {
        let mut all: Vec<(&str, &UpstreamCounts)> =
            self.upstreams.iter().map(|(name, known)| (&**name, &*known.counts)).collect();
        if self.other.counts.attempts() > 0 {
            all.push((OTHER, &self.other.counts));
        }
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// The names of all models, by number.
    pub(crate) fn models_by_id(&self) -> HashMap<Id, &str> {
        self.models.iter().map(|(name, id)| (*id, &**name)).collect()
    }

    /// The names of all upstreams, by number.
    pub(crate) fn upstreams_by_id(&self) -> HashMap<Id, &str> {
        let known = self.upstreams.iter().map(|(name, known)| (known.id, &**name));
        known.chain([(OTHER_ID, OTHER), (NONE_ID, NONE)]).collect()
    }

    fn keep(&mut self, model: &str, before: &Self) {
        if self.models.contains_key(model) {
            return;
        }
        let id = before.models.get(model).copied().unwrap_or_else(|| self.fresh());
        self.models.insert(model.into(), id);
    }

    fn is_taken(&self, model: &str) -> bool {
        let takes = |(matched, aliases): &(ModelMatch, Vec<String>)| {
            matched.accepts(model) || aliases.iter().any(|alias| alias == model)
        };
        self.settings.iter().any(takes)
    }

    fn fresh(&mut self) -> Id {
        self.next += 1;
        self.next - 1
    }
}

fn wants(upstream: &config::Upstream) -> (ModelMatch, Vec<String>) {
    (upstream.model_match.clone(), upstream.models.iter().map(|(alias, _)| alias.clone()).collect())
}

/// The models that an upstream's settings name.
fn named(upstream: &config::Upstream) -> impl Iterator<Item = &str> {
    let exact: &[String] = match &upstream.model_match {
        ModelMatch::Exact(names) => names,
        ModelMatch::Keyword(_) | ModelMatch::Prefix(_) | ModelMatch::Any => &[],
    };
    let aliases = upstream.models.iter().map(|(alias, _)| alias.as_str());
    exact.iter().map(String::as_str).chain(aliases).chain(upstream.fallback.iter().map(String::as_str))
}

/// What is counted of the attempts at one upstream.
#[derive(Debug, Default)]
pub(crate) struct UpstreamCounts {
    by_outcome: [AtomicU64; OUTCOMES.len()],
    /// Times that a request went on from here to another upstream.
    pub(crate) failovers: AtomicU64,
    /// Times that a request was sent here again.
    pub(crate) retries: AtomicU64,
}

/// What an attempt can come to.
const OUTCOMES: [&str; 15] = [
    "ok",
    "client_error",
    "rate_limited",
    "server_error",
    "unreachable",
    "connect_timeout",
    "first_byte_timeout",
    "first_token_timeout",
    "idle_timeout",
    "total_timeout",
    "invalid",
    "empty",
    "cancelled",
    "client_fault",
    "other",
];

/// Those of [`OUTCOMES`] that are the upstream's failures.
const FAILURES: std::ops::RangeInclusive<usize> = 2..=11;

impl UpstreamCounts {
    /// Counts an attempt.
    pub(crate) fn count(&self, attempt: &Attempt) {
        self.by_outcome[outcome(attempt)].fetch_add(1, Ordering::Relaxed);
    }

    /// How many attempts came to what.
    pub(crate) fn by_outcome(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.into_iter().zip(self.by_outcome.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// All attempts.
    pub(crate) fn attempts(&self) -> u64 {
        self.by_outcome().map(|(_, count)| count).sum()
    }
}

/// Whether an attempt is a failure of the upstream's.
pub(crate) fn is_failure(attempt: &Attempt) -> bool {
    FAILURES.contains(&outcome(attempt))
}

fn outcome(attempt: &Attempt) -> usize {
    match (attempt.status.map(|status| status.as_u16()), attempt.error.as_ref().map(|error| &error.kind)) {
        (_, Some(ErrorKind::UpstreamUnreachable)) => 4,
        (_, Some(ErrorKind::UpstreamTimeout(timer) | ErrorKind::StreamBroken(Some(timer)))) => match timer {
            Timer::Connect => 5,
            Timer::FirstByte => 6,
            Timer::FirstToken => 7,
            Timer::Idle => 8,
            Timer::Total => 9,
        },
        (_, Some(ErrorKind::UpstreamInvalid | ErrorKind::StreamBroken(None))) => 10,
        (_, Some(ErrorKind::UpstreamEmpty)) => 11,
        (_, Some(ErrorKind::Cancelled)) | (None, None) => 12,
        // What the client did wrong while its body was passed on.
        (_, Some(ErrorKind::InvalidRequest | ErrorKind::RequestTooLarge | ErrorKind::RequestTimeout)) => 13,
        (_, Some(_)) => 14,
        (Some(429), None) => 2,
        (Some(500..), None) => 3,
        (Some(400..), None) => 1,
        (Some(_), None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::config::env::Environment;
    use crate::config::{Overrides, load_text};
    use crate::error::Error;

    fn config(upstreams: &str) -> Config {
        let text = format!("upstreams: [{upstreams}]\n");
        load_text(&text, "w.yaml".as_ref(), &Environment::default(), &Overrides::default()).unwrap().0
    }

    const ONE: &str = "{ name: one, base_url: 'http://a', model_match: { type: keyword, value: gpt }, models: { nick: gpt-4o } }";
    const TWO: &str = "{ name: two, base_url: 'http://a', model_match: { type: exact, value: exact-1 }, fallback: [rescue, one] }";

    const RESCUE: &str = "{ name: rescue, base_url: 'http://a' }";

    // parity: 155
    #[test]
    fn only_names_of_the_configuration_are_labels() {
        let names = Names::default().under(&config(&format!("{ONE}, {TWO}, {RESCUE}")));
        for model in ["nick", "exact-1", "rescue", "other", "none"] {
            assert!(names.model(Some(model)).1, "{model}");
        }
        for model in ["gpt-4o", "gpt", "", "unheard-of"] {
            assert_eq!(names.model(Some(model)), (OTHER_ID, false), "{model}");
        }
        assert_eq!(names.model(None), (NONE_ID, true));
        assert_eq!(names.upstream("nobody").id, OTHER_ID);
        let known: Vec<&str> = names.upstreams().into_iter().map(|(name, _)| name).collect();
        assert_eq!(known, ["one", "rescue", "two"]);
    }

    // parity: 155
    #[test]
    fn what_is_learned_is_bounded() {
        let mut names = Names::default().under(&config(ONE));
        assert!(names.learning(&"x".repeat(MODEL_BYTES_MAX + 1)).is_none());
        assert!(names.learning("").is_none() && names.learning("nick").is_none());
        for number in 0..MODELS_MAX {
            names = names.learning(&format!("gpt-{number}")).expect("there is room");
        }
        assert!(names.learning("gpt-x").is_none());
        let ids: std::collections::HashSet<Id> = names.models.values().copied().collect();
        assert_eq!(ids.len(), MODELS_MAX + 3);
    }

    #[test]
    fn what_stays_keeps_its_number_and_what_goes_is_other() {
        let before = Names::default().under(&config(&format!("{ONE}, {TWO}, {RESCUE}")));
        let before = before.learning("gpt-4o").and_then(|names| names.learning("strange")).unwrap();
        let after = before.under(&config(ONE));
        assert_eq!(after.upstream("one").id, before.upstream("one").id);
        assert_eq!(after.model(Some("gpt-4o")), before.model(Some("gpt-4o")));
        assert_eq!(after.model(Some("strange")), (OTHER_ID, false), "no upstream takes it any more");
        assert_eq!(after.model(Some("exact-1")), (OTHER_ID, false));
        assert_eq!(after.upstream("two").id, OTHER_ID);
        assert_eq!(after.learned, 1);
        let again = after.under(&config(&format!("{ONE}, {TWO}, {RESCUE}")));
        assert_ne!(again.upstream("two").id, before.upstream("two").id, "a number is never used again");
    }

    #[track_caller]
    fn check_outcome(status: Option<u16>, error: Option<ErrorKind>, expected: &str, failed: bool) {
        let attempt = Attempt {
            upstream: "a".into(),
            model: "m".into(),
            began: Duration::ZERO,
            status: status.map(|status| StatusCode::from_u16(status).unwrap()),
            error: error.map(|kind| Error::new(kind, "")),
            took: Duration::ZERO,
        };
        assert_eq!((OUTCOMES[outcome(&attempt)], is_failure(&attempt)), (expected, failed));
    }

    #[test]
    fn attempts_are_told_apart() {
        check_outcome(Some(200), None, "ok", false);
        check_outcome(Some(302), None, "ok", false);
        check_outcome(Some(404), None, "client_error", false);
        check_outcome(Some(429), None, "rate_limited", true);
        check_outcome(Some(503), None, "server_error", true);
        check_outcome(None, None, "cancelled", false);
        check_outcome(None, Some(ErrorKind::UpstreamUnreachable), "unreachable", true);
        for (timer, expected) in [
            (Timer::Connect, "connect_timeout"),
            (Timer::FirstByte, "first_byte_timeout"),
            (Timer::FirstToken, "first_token_timeout"),
            (Timer::Idle, "idle_timeout"),
            (Timer::Total, "total_timeout"),
        ] {
            check_outcome(None, Some(ErrorKind::UpstreamTimeout(timer)), expected, true);
        }
        check_outcome(Some(200), Some(ErrorKind::UpstreamInvalid), "invalid", true);
        check_outcome(Some(200), Some(ErrorKind::UpstreamEmpty), "empty", true);
        check_outcome(None, Some(ErrorKind::RequestTimeout), "client_fault", false);
        check_outcome(None, Some(ErrorKind::Internal), "other", false);
    }
}
