//! The configuration of a gateway that was given no file: an echo, and what the environment offers.

use std::time::Duration;

use http::Uri;

use crate::config::check::values;
use crate::config::defaults::{Defaults, malformed};
use crate::config::diagnostic::Diagnostic;
use crate::config::env::Environment;
use crate::config::files::{Digest, Files};
use crate::config::secret::Secret;
use crate::config::{
    Clean, Commit, Config, ErrorCompat, Glob, Metrics, ModelMatch, Origin, Otlp, Overrides, Plugin,
    PluginSource, PriorityMode, Routing, Strategy, Target, ThinkingFormat, Upstream, UpstreamTls,
};
use crate::wire::Dialect;
use crate::wire::convert::EffortBudgets;

/// Builds the embedded default; what is wrong with the variables it reads is added to `found`.
///
/// `priority` is a rank here: who is known to have a model goes before who takes any, so that a cloud's key and a
/// local server do not share one model's traffic.
pub fn config(
    environment: &Environment,
    overrides: &Overrides,
    defaults: Defaults,
    found: &mut Vec<Diagnostic>,
) -> Config {
    let mut offer = Offer { environment, overrides, defaults: &defaults, found, upstreams: Vec::new() };
    offer.echo();
    offer.openai();
    offer.anthropic();
    offer.gemini();
    offer.catch_alls();
    let upstreams = offer.upstreams;
    Config {
        origin: Origin::Embedded,
        origin_digest: Digest::default(),
        files: Files::default(),
        server: defaults.server,
        upstreams,
        plugins: vec![hide_thinking()],
        routing: Routing { strategy: Strategy::Deterministic, priority_mode: PriorityMode::Rank },
        retry: defaults.retry,
        commit: Commit::default(),
        models_cache_ttl: defaults.models_cache_ttl,
        error_compat: ErrorCompat::OpenAi,
        effort_budgets: EffortBudgets::default(),
        keys: None,
        jwt: None,
        state: defaults.state,
        limits: defaults.limits,
        tenants: Vec::new(),
        prices: Vec::new(),
        audit: defaults.audit,
        log: defaults.log,
        metrics: Metrics::default(),
        otlp: Otlp::default(),
    }
}

/// The plugin that shows what plugins do: `echo-think` wraps a part of its answers in think tags.
fn hide_thinking() -> Plugin {
    let mut plugin = Plugin::new("hide-thinking", PluginSource::Builtin("think-strip".to_owned()));
    plugin.matching.models = vec![Glob::new("echo-think")];
    plugin
}

struct Offer<'a> {
    environment: &'a Environment,
    overrides: &'a Overrides,
    defaults: &'a Defaults,
    found: &'a mut Vec<Diagnostic>,
    upstreams: Vec<Upstream>,
}

/// How the names of OpenAI's models begin.
///
/// Source: OpenAI, "Models" (platform.openai.com/docs/models).
const OPENAI_MODELS: &[&str] = &[
    "gpt-",
    "chatgpt-",
    "o1",
    "o3",
    "o4",
    "text-embedding-",
    "text-moderation-",
    "omni-moderation-",
    "tts-",
    "whisper-",
    "dall-e-",
    "codex-",
    "computer-use-",
    "davinci-",
    "babbage-",
    "sora-",
    "ft:",
];

impl Offer<'_> {
    fn echo(&mut self) {
        let models = ["echo", "echo-think"].map(str::to_owned).to_vec();
        self.add("echo", "always there", Target::Echo, ModelMatch::Exact(models), None);
    }

    /// OpenAI by its key; when `OPENAI_DOMAIN` or its kin name somebody else, that is one of the catch-alls.
    fn openai(&mut self) {
        if self.names_domain() {
            return;
        }
        if let Some(key) = self.secret("OPENAI_API_KEY") {
            let base = self.base("OPENAI_BASE_URL", "https://api.openai.com/v1");
            self.vendor("openai", Dialect::OpenAi, "OPENAI_API_KEY", base, OPENAI_MODELS, key);
        }
    }

    fn anthropic(&mut self) {
        if let Some(key) = self.secret("ANTHROPIC_API_KEY") {
            let base = self.base("ANTHROPIC_BASE_URL", "https://api.anthropic.com/v1");
            let dialect = Dialect::Anthropic;
            self.vendor("anthropic", dialect, "ANTHROPIC_API_KEY", base, &["claude"], key);
        }
    }

    fn gemini(&mut self) {
        if let Some(key) = self.secret("GEMINI_API_KEY") {
            let base = self.base("GEMINI_BASE_URL", "https://generativelanguage.googleapis.com/v1beta");
            self.vendor("gemini", Dialect::Gemini, "GEMINI_API_KEY", base, &["gemini"], key);
        }
    }

    /// Those that take any model, each a rank behind the one before.
    fn catch_alls(&mut self) {
        let mut rank = 2;
        if let Some(base) = self.with_v1("UPSTREAM_URL") {
            let upstream = self.add("upstream", "UPSTREAM_URL", base, ModelMatch::Any, None);
            (upstream.priority, upstream.is_default) = (rank, true);
            rank += 1;
        }
        if let Some(base) = self.openai_domain() {
            let key = self.secret("OPENAI_API_KEY");
            let found_by = if self.overrides.names_openai() { "--openai-domain" } else { "OPENAI_DOMAIN" };
            self.add("openai", found_by, base, ModelMatch::Any, key).priority = rank;
            rank += 1;
        }
        if let Some(base) = self.with_v1("OLLAMA_BASE") {
            self.add("ollama", "OLLAMA_BASE", base, ModelMatch::Any, None).priority = rank;
        }
    }

    fn vendor(
        &mut self,
        name: &str,
        dialect: Dialect,
        found_by: &'static str,
        base: Option<Target>,
        prefixes: &[&str],
        key: Secret,
    ) {
        let prefixes = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        if let Some(base) = base {
            self.add(name, found_by, base, ModelMatch::Prefix(prefixes), Some(key)).dialect = dialect;
        }
    }

    fn add(
        &mut self,
        name: &str,
        found_by: &'static str,
        target: Target,
        model_match: ModelMatch,
        api_key: Option<Secret>,
    ) -> &mut Upstream {
        self.upstreams.push(Upstream {
            name: name.into(),
            target,
            api_key,
            api_keys: Vec::new(),
            forwards_caller_key: false,
            model_match,
            models: Vec::new(),
            priority: 1,
            fallback: Vec::new(),
            headers: Vec::new(),
            extra_body: Vec::new(),
            stop: Vec::new(),
            max_tokens: None,
            special_prefix: None,
            thinking_format: ThinkingFormat::Passthrough,
            timeouts: self.defaults.timeouts,
            hedge: Duration::ZERO,
            max_in_flight: 0,
            is_enabled: true,
            is_default: false,
            include_usage: true,
            dialect: Dialect::OpenAi,
            has_responses: true,
            tls: UpstreamTls::default(),
            clean: Clean::default(),
            breaker: self.defaults.breaker,
            health: None,
            found_by: Some(found_by),
        });
        self.upstreams.last_mut().expect("one was just pushed")
    }

    fn secret(&mut self, name: &str) -> Option<Secret> {
        let secret = self.environment.filled(name)?;
        if http::HeaderValue::from_str(secret).is_err() {
            let message = format!("`{name}` must be one line of printable characters");
            self.found.push(Diagnostic::error("environment", message).help("look for a stray line break"));
            return None;
        }
        Some(Secret::new(secret))
    }

    fn base(&mut self, name: &str, default: &'static str) -> Option<Target> {
        match self.environment.filled(name) {
            None => Some(Target::Http(Uri::from_static(default))),
            Some(text) => self.url(name, text).map(Target::Http),
        }
    }

    /// A URL to which `/v1` is added when it has no path.
    fn with_v1(&mut self, name: &str) -> Option<Target> {
        let text = self.environment.filled(name)?;
        let uri = self.url(name, text)?;
        if uri.path() != "/" {
            return Some(Target::Http(uri));
        }
        let text = format!("{}/v1", uri.to_string().trim_end_matches('/'));
        self.url(name, &text).map(Target::Http)
    }

    fn url(&mut self, name: &str, text: &str) -> Option<Uri> {
        match values::base_url(text) {
            Ok(uri) => Some(uri),
            Err((fault, help)) => {
                // The URL itself may hold a password.
                self.found.push(Diagnostic::error("environment", format!("`{name}` {fault}")).help(help));
                None
            }
        }
    }

    fn names_domain(&self) -> bool {
        let variables = ["OPENAI_DOMAIN", "OPENAI_PORT", "OPENAI_TLS"];
        self.overrides.names_openai() || variables.iter().any(|name| self.environment.filled(name).is_some())
    }

    /// The base URL by `OPENAI_DOMAIN`, `OPENAI_PORT` and `OPENAI_TLS` or their flags; none when none is given.
    fn openai_domain(&mut self) -> Option<Target> {
        if !self.names_domain() {
            return None;
        }
        let variable = |name| self.environment.filled(name);
        let (domain, port, tls) =
            (variable("OPENAI_DOMAIN"), variable("OPENAI_PORT"), variable("OPENAI_TLS"));
        let domain = self.overrides.openai_domain.as_deref().or(domain).unwrap_or("api.openai.com");
        let port = match (self.overrides.openai_port, port) {
            (Some(port), _) => port,
            (None, Some(text)) => {
                self.read("OPENAI_PORT", text, "a port from 1 to 65535", |text| text.parse().ok())?
            }
            (None, None) => 443,
        };
        let has_tls = match (self.overrides.openai_tls, tls) {
            (Some(has_tls), _) => has_tls,
            (None, Some(text)) => self.read("OPENAI_TLS", text, "`true` or `false`", boolean)?,
            (None, None) => true,
        };
        let scheme = if has_tls { "https" } else { "http" };
        let is_usual = port == if has_tls { 443 } else { 80 };
        let port = if is_usual { String::new() } else { format!(":{port}") };
        self.url("OPENAI_DOMAIN", &format!("{scheme}://{domain}{port}/v1")).map(Target::Http)
    }

    fn read<T>(
        &mut self,
        name: &str,
        text: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let parsed = parse(text);
        if parsed.is_none() {
            self.found.push(malformed(name, text, expected));
        }
        parsed
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}
