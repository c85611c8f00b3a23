//! What the configuration says of one plugin: which component, where it runs, and what it may do.

use std::fmt;
use std::ops::{Deref, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::secret::Secret;
use crate::wire::Endpoint;

/// One plugin; the plugins run in the order of the file on the way in, in reverse on the way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// Its name: unique, shown in logs, metrics and errors. Lowercase letters, digits and `-`.
    pub name: Arc<str>,
    /// Which component it is.
    pub source: PluginSource,
    /// The SHA-256 of the component, if it is pinned.
    pub sha256: Option<[u8; 32]>,
    /// What the plugin's `init` is given. Default `{}`.
    pub config: PluginConfig,
    /// Which exchanges it takes part in. Default all.
    pub matching: PluginMatch,
    /// What becomes of an exchange when the plugin breaks. Default `reject`, for every hook.
    pub on_fault: OnFault,
    /// Whether a configuration is refused in which a hook of it could be left out where it matches. Default false.
    pub required: bool,
    /// What one of its instances may use.
    pub limits: PluginLimits,
    /// When an instance serves more than one exchange. Default never.
    pub reuse: Reuse,
    /// What it may do beyond computing. Default nothing.
    pub allow: Allow,
}

impl Plugin {
    /// A plugin about which the configuration says no more than this.
    pub fn new(name: impl Into<Arc<str>>, source: PluginSource) -> Self {
        Self {
            name: name.into(),
            source,
            sha256: None,
            config: PluginConfig::default(),
            matching: PluginMatch::default(),
            on_fault: OnFault::default(),
            required: false,
            limits: PluginLimits::default(),
            reuse: Reuse::default(),
            allow: Allow::default(),
        }
    }
}

/// Where a component comes from; shown as it is written in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// `builtin:<name>`: it is part of this program, see [`crate::builtin`].
    Builtin(String),
    /// A file, which is watched for changes.
    File(PathBuf),
}

impl fmt::Display for PluginSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => write!(formatter, "builtin:{name}"),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

/// A plugin's own configuration as JSON text, which it derefs to.
#[derive(Clone, PartialEq, Eq)]
pub struct PluginConfig {
    json: String,
    shown: String,
}

impl PluginConfig {
    /// Takes JSON text, and the same for people: with `***` where a secret stands.
    pub fn new(json: impl Into<String>, shown: impl Into<String>) -> Self {
        Self { json: json.into(), shown: shown.into() }
    }

    /// The JSON text without its secrets.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

impl Default for PluginConfig {
    fn default() -> Self {
        Self::new("{}", "{}")
    }
}

impl Deref for PluginConfig {
    type Target = str;

    fn deref(&self) -> &str {
        &self.json
    }
}

impl fmt::Debug for PluginConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

/// Which exchanges a plugin takes part in: those that fit all four. An empty list is fit by everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginMatch {
    /// The model by the name that the client uses.
    pub models: Vec<Glob>,
    /// The endpoint. A path that no endpoint knows fits the empty list only.
    pub endpoints: Vec<Endpoint>,
    /// The name of the key that the caller used. Without a key the caller fits the empty list only.
    pub keys: Vec<Glob>,
    /// Whether the client asked for a stream.
    pub streaming: Streaming,
}

impl PluginMatch {
    /// Whether an exchange fits.
    pub fn takes(&self, endpoint: Option<Endpoint>, model: &str, key: Option<&str>, is_stream: bool) -> bool {
        let is_fit = |globs: &[Glob], text: Option<&str>| {
            globs.is_empty() || text.is_some_and(|text| globs.iter().any(|glob| glob.matches(text)))
        };
        self.takes_endpoint(endpoint)
            && self.streaming.takes(is_stream)
            && is_fit(&self.models, Some(model))
            && is_fit(&self.keys, key)
    }

    /// Whether an endpoint fits, which is all that is known before the body was read.
    pub fn takes_endpoint(&self, endpoint: Option<Endpoint>) -> bool {
        self.endpoints.is_empty() || endpoint.is_some_and(|endpoint| self.endpoints.contains(&endpoint))
    }
}

/// Whether a plugin takes part in streams and in whole answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streaming {
    /// In both.
    #[default]
    Any,
    /// In streams only.
    Only,
    /// In whole answers only.
    Never,
}

impl Streaming {
    /// Its word in a configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Only => "only",
            Self::Never => "never",
        }
    }

    fn takes(self, is_stream: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Only => is_stream,
            Self::Never => !is_stream,
        }
    }
}

/// A pattern in which `*` stands for any text, the empty one too. Letters must be written alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Takes a pattern; every text is one.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern stands for `text`.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut text) = text.strip_prefix(first) else { return false };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        for piece in middle.split('*') {
            let Some(at) = text.find(piece) else { return false };
            text = &text[at + piece.len()..];
        }
        text.ends_with(last)
    }
}

/// What becomes of an exchange when a plugin breaks in one of its hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnFault {
    /// For the hooks that are not named below.
    pub default: FaultPolicy,
    /// For single hooks, by the names in [`HOOKS`].
    pub hooks: Vec<(String, FaultPolicy)>,
}

impl OnFault {
    /// Whether the exchange goes on without the plugin when its hook of this name breaks.
    pub fn skips(&self, hook: &str) -> bool {
        let named = self.hooks.iter().find(|(name, _)| name == hook);
        named.map_or(self.default, |(_, policy)| *policy) == FaultPolicy::Skip
    }

    /// Whether there is a hook whose fault is passed over.
    pub fn skips_any(&self) -> bool {
        HOOKS.iter().any(|hook| self.skips(hook))
    }
}

/// What a fault means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaultPolicy {
    /// The client is sent an error.
    #[default]
    Reject,
    /// The exchange goes on without the plugin.
    Skip,
}

impl FaultPolicy {
    /// Its word in a configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Skip => "skip",
        }
    }
}

/// The hooks by the names of their interfaces.
///
/// Source: `wit/plugin.wit`, world `all-hooks`.
pub const HOOKS: &[&str] = &[
    "authenticate",
    "on-request",
    "on-route",
    "on-upstream-request",
    "on-response",
    "stream-text",
    "stream-events",
    "on-error",
    "on-complete",
    "on-tick",
];

/// What one instance of a plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginLimits {
    /// All its memories together, in bytes: 64 KiB to 1 GiB. Default 32 MiB.
    pub memory: u64,
    /// How long one hook may run, what it waits for not counted; not 0. Default 250 ms.
    pub call_timeout: Duration,
    /// How long one hook may wait for the host; not 0. Default 5 s.
    pub wait_timeout: Duration,
    /// How long `init` may take, running and waiting; not 0. Default 5 s.
    pub init_timeout: Duration,
    /// The most instances at once; not 0. Default 16,384.
    pub instances_max: u32,
    /// The largest component, in bytes. Default 64 MiB.
    pub artifact_max: u64,
}

impl PluginLimits {
    /// What [`memory`](Self::memory) may be: a page of WebAssembly at least.
    pub const MEMORY: RangeInclusive<u64> = 64 << 10..=1 << 30;
    /// What the three timeouts may be.
    pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3_600);
    /// What [`artifact_max`](Self::artifact_max) may be.
    pub const ARTIFACT: RangeInclusive<u64> = 1 << 10..=1 << 30;
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            memory: 32 << 20,
            call_timeout: Duration::from_millis(250),
            wait_timeout: Duration::from_secs(5),
            init_timeout: Duration::from_secs(5),
            instances_max: 16_384,
            artifact_max: 64 << 20,
        }
    }
}

/// When an instance serves more than one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// How many exchanges it serves; 0, the default, gives every exchange an instance of its own.
    pub uses_max: u64,
    /// With more memory than this, in bytes, it is not used again; at most 1 GiB. Default 16 MiB.
    pub memory_max: u64,
    /// Whose exchanges share an instance. Default those of one tenant.
    pub scope: ReuseScope,
}

impl Default for Reuse {
    fn default() -> Self {
        Self { uses_max: 0, memory_max: 16 << 20, scope: ReuseScope::default() }
    }
}

/// Whose exchanges share an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReuseScope {
    /// Those of one tenant.
    #[default]
    Tenant,
    /// Anybody's: what the plugin keeps in memory goes from one tenant to the next.
    Any,
}

impl ReuseScope {
    /// Its word in a configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Any => "any",
        }
    }
}

/// What a plugin may do beyond computing; nothing by default.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// The origins it may send requests to: `https://host`, `http://host:8080`, `https://*.example.com`.
    pub http: Vec<String>,
    /// The variables it sees as its environment: names and values.
    pub env: Vec<(String, String)>,
    /// The bytes of its memory in the gateway, `kv`; at most 1 GiB. 0 is none.
    pub kv: u64,
    /// The secrets it may ask for by name.
    pub secrets: Vec<(String, Secret)>,
    /// The series of its own metrics; at most 10,000. 0 is none.
    pub metrics: u32,
    /// Whether `on-complete` is given the bodies of requests and answers.
    pub audit_bodies: bool,
    /// Whether it sees the headers that hold credentials.
    pub credentials: bool,
}

impl Allow {
    /// The most bytes of [`kv`](Self::kv).
    pub const KV_MAX: u64 = 1 << 30;
}

impl fmt::Debug for Allow {
    /// Shows variables by name alone: their values may be secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { http, env, kv, secrets, metrics, audit_bodies, credentials } = self;
        let env: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
        formatter
            .debug_struct("Allow")
            .field("http", http)
            .field("env", &env)
            .field("kv", kv)
            .field("secrets", secrets)
            .field("metrics", metrics)
            .field("audit_bodies", audit_bodies)
            .field("credentials", credentials)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let glob = Glob::new(pattern);
        for text in matching {
            assert!(glob.matches(text), "{text}");
        }
        for text in others {
            assert!(!glob.matches(text), "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        check("gpt-4", &["gpt-4"], &["gpt-4o", "GPT-4", ""]);
        check("gpt-*", &["gpt-", "gpt-4"], &["gpt", "x-gpt-4"]);
        check("*-mini", &["-mini", "o4-mini"], &["mini", "o4-mini-x"]);
        check("a*b*c", &["abc", "aXbXc", "abbc", "abcbc"], &["acb", "ab", "abcd"]);
        check("*", &["", "a/b"], &[]);
        check("**", &["", "a"], &[]);
        check("a*a", &["aa", "aba"], &["a"]);
        check("", &[""], &["a"]);
        check("*é*", &["é", "né!"], &["e"]);
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_fills_its_stars(pieces in prop::collection::vec("[ab]{0,3}", 1..5), fill in "[abc]{0,4}") {
            prop_assert!(Glob::new(pieces.join("*")).matches(&pieces.join(&fill)));
        }

        #[test]
        fn a_pattern_means_what_a_slow_search_says(pattern in "[ab*]{0,6}", text in "[ab]{0,6}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
                    Some((first, rest)) => text.first() == Some(first) && slow(rest, &text[1..]),
                }
            }
            let expected = slow(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Glob::new(pattern).matches(&text), expected);
        }
    }

    #[test]
    fn an_exchange_must_fit_every_list_that_is_not_empty() {
        let glob = |pattern: &str| vec![Glob::new(pattern)];
        let all = PluginMatch::default();
        assert!(
            all.takes(None, "", None, true) && all.takes(Some(Endpoint::Responses), "m", Some("k"), false)
        );
        let some = PluginMatch {
            models: glob("gpt-*"),
            endpoints: vec![Endpoint::ChatCompletions],
            keys: glob("team-*"),
            streaming: Streaming::Only,
        };
        let chat = Some(Endpoint::ChatCompletions);
        assert!(some.takes(chat, "gpt-4", Some("team-a"), true));
        assert!(!some.takes(chat, "gpt-4", Some("team-a"), false));
        assert!(!some.takes(chat, "gpt-4", Some("other"), true));
        assert!(!some.takes(chat, "gpt-4", None, true));
        assert!(!some.takes(chat, "o3", Some("team-a"), true));
        assert!(!some.takes(Some(Endpoint::Completions), "gpt-4", Some("team-a"), true));
        assert!(!some.takes_endpoint(None) && some.takes_endpoint(chat));
        assert!(!PluginMatch { streaming: Streaming::Never, ..all }.takes(chat, "m", None, true));
    }

    #[test]
    fn a_hook_that_is_named_has_its_own_policy() {
        let hooks = vec![("on-complete".to_owned(), FaultPolicy::Skip)];
        let on_fault = OnFault { default: FaultPolicy::Reject, hooks };
        assert!(on_fault.skips("on-complete") && on_fault.skips_any() && !on_fault.skips("on-request"));
        assert!(!OnFault::default().skips_any());
    }
}
