//! What holds where a file says nothing, and what the environment may say about it.
//!
//! Besides the built-in values these are the variables of the earlier systems, so that their start scripts keep
//! working. A file beats them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use crate::config::check::values;
use crate::config::diagnostic::Diagnostic;
use crate::config::env::Environment;
use crate::config::{
    Audit, Breaker, LimitBy, Limits, Log, Networks, Rate, Retry, RetryOn, Server, State, Timeouts,
};

/// The values of everything that a file leaves out.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// The listeners and their bounds.
    pub server: Server,
    /// The timers of an upstream.
    pub timeouts: Timeouts,
    /// When an upstream that fails is left alone.
    pub breaker: Breaker,
    /// When another attempt is made.
    pub retry: Retry,
    /// How long a list of models is kept.
    pub models_cache_ttl: Duration,
    /// Where what several gateways share is kept.
    pub state: State,
    /// How much callers may use.
    pub limits: Limits,
    /// The record of every exchange.
    pub audit: Audit,
    /// The log.
    pub log: Log,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            server: Server {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
                admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
                admin_token: None,
                admin_hosts: Vec::new(),
                request_body_max: 64 << 20,
                header_timeout: Duration::from_secs(10),
                shutdown_grace: Duration::from_secs(30),
                tls: None,
                connections_max: 20_000,
                trusted_proxies: Networks::default(),
                proxy_protocol: false,
                allow_ips: Networks::default(),
                buffered_bytes_max: 1 << 30,
                keepalive: Duration::from_secs(15),
                keepalive_early: false,
                cors_origins: Vec::new(),
                compress: false,
                upstream_header: true,
                metrics_on_main: false,
                cache_dir: None,
            },
            timeouts: Timeouts {
                connect: Duration::from_secs(10),
                first_byte: Duration::from_secs(60),
                first_token: Timeouts::FIRST_TOKEN,
                idle: Duration::from_secs(60),
                total: Duration::ZERO,
            },
            breaker: Breaker::default(),
            retry: Retry {
                same_upstream: 1,
                attempts_max: 8,
                hops_max: 4,
                backoff: Duration::from_millis(100),
                backoff_max: Duration::from_secs(2),
                budget: 0.2,
                on: RetryOn {
                    connect: true,
                    timeout: true,
                    server_errors: true,
                    statuses: vec![408, 429],
                    malformed: true,
                    empty: true,
                },
            },
            models_cache_ttl: Duration::from_secs(600),
            state: State::Memory,
            limits: Limits { queue_timeout: Duration::from_secs(5), ..Limits::default() },
            audit: Audit::default(),
            log: Log::default(),
        }
    }
}

impl Defaults {
    /// The built-in values under the earlier systems' variables; what is wrong with those is added to `found`.
    pub fn from_environment(environment: &Environment, found: &mut Vec<Diagnostic>) -> Self {
        let mut defaults = Self::default();
        let mut variables = Variables { environment, found };
        variables.listen(&mut defaults.server);
        if let Some(seconds) = variables.seconds("SHUTDOWN_TIMEOUT") {
            defaults.server.shutdown_grace = seconds;
        }
        if let Some(seconds) = variables.seconds("CONNECT_TIMEOUT") {
            defaults.timeouts.connect = seconds;
        }
        // There it was the longest silence of the upstream, before the answer and within it.
        if let Some(seconds) = variables.seconds("TIMEOUT") {
            defaults.timeouts.first_byte = seconds;
            defaults.timeouts.first_token = Timeouts::first_token_after(seconds);
            defaults.timeouts.idle = seconds;
        }
        variables.retry(&mut defaults.retry);
        variables.breaker(&mut defaults.breaker);
        defaults.server.cache_dir = cache_dir(environment);
        variables.request_limits(&mut defaults.limits);
        variables.token_limits(&mut defaults.limits);
        variables.state(&mut defaults.state);
        variables.audit(&mut defaults.audit);
        variables.log(&mut defaults.log);
        variables.gone();
        defaults
    }
}

struct Variables<'a> {
    environment: &'a Environment,
    found: &'a mut Vec<Diagnostic>,
}

impl Variables<'_> {
    fn listen(&mut self, server: &mut Server) {
        let ports: Vec<_> =
            ["SERVER_PORT", "PORT", "PROXY_PORT"].into_iter().filter_map(|name| self.port(name)).collect();
        if let Some(port) = ports.first() {
            server.listen.set_port(*port);
        }
        if let Some(ip) = self.parse("HOST", "an IP address such as `0.0.0.0`", host) {
            server.listen.set_ip(ip);
        }
        if let Some(port) = self.port("METRICS_PORT") {
            server.admin.set_port(port);
        }
    }

    /// `MAX_RETRIES` counted all attempts, and there was one upstream to make them at.
    fn retry(&mut self, retry: &mut Retry) {
        let count = |text: &str| text.parse().ok().filter(|count| (1..=1000).contains(count));
        if let Some(attempts) = self.parse("MAX_RETRIES", "a number of attempts from 1 to 1000", count) {
            retry.attempts_max = attempts;
            retry.same_upstream = attempts - 1;
        }
        if let Some(pause) = self.seconds("RETRY_DELAY") {
            retry.backoff = pause;
            retry.backoff_max = retry.backoff_max.max(pause);
        }
    }

    /// The Python proxy bounded the requests of each address, by default 100 in 60 s; here only if one of its variables is
    /// set.
    fn request_limits(&mut self, limits: &mut Limits) {
        let is_on = self.parse("RATE_LIMIT_ENABLED", "`true` or `false`", flag);
        let count = self.parse("RATE_LIMIT_REQUESTS", "a number of requests from 1", positive);
        let window = self.parse("RATE_LIMIT_WINDOW", "a number of seconds over 0", window_seconds);
        let is_named = is_on.is_some() || count.is_some() || window.is_some();
        if is_named && is_on.unwrap_or(true) {
            let window = window.unwrap_or(Duration::from_secs(60));
            limits.each.requests = Some(Rate { count: count.unwrap_or(100), window });
            limits.by = LimitBy::Ip;
        }
    }

    /// Proxy Monitor bounded the tokens of each user, whom a header names, in a window of minutes.
    fn token_limits(&mut self, limits: &mut Limits) {
        let is_on = self.parse("ENABLE_RATE_LIMITING", "`true` or `false`", flag);
        let minutes = self.parse("RATE_LIMIT_WINDOW_MIN", "a number of minutes from 1", minutes);
        let count = self.parse("MAX_TOKENS", "a number of tokens from 1", positive);
        let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).ok();
        let header = self.parse("USER_HEADER", "the name of a header", name);
        if is_on != Some(true) {
            return;
        }
        if limits.each.requests.is_some() {
            let message =
                "`ENABLE_RATE_LIMITING` has the requests of `RATE_LIMIT_REQUESTS` counted by header, too";
            let help = "unset the variables of one of the two, or write `limits` into a file";
            self.found.push(Diagnostic::warning("environment", message).help(help));
        }
        let window = minutes.unwrap_or(Duration::from_secs(3600));
        limits.each.tokens = Some(Rate { count: count.unwrap_or(1000), window });
        limits.by = LimitBy::Header(header.unwrap_or(HeaderName::from_static("user")));
    }

    /// There was one breaker for the one upstream, and its cool-down did not grow.
    fn breaker(&mut self, breaker: &mut Breaker) {
        let count = |text: &str| text.parse().ok().filter(|count| (1..=1_000_000).contains(count));
        if let Some(failures) = self.parse("CIRCUIT_BREAKER_THRESHOLD", "a number from 1 to 1000000", count) {
            breaker.failures = failures;
        }
        let seconds = |text: &str| values::seconds(text).filter(|seconds| !seconds.is_zero());
        if let Some(cooldown) = self.parse("CIRCUIT_BREAKER_TIMEOUT", "a number of seconds above 0", seconds)
        {
            breaker.cooldown = cooldown;
            breaker.cooldown_max = breaker.cooldown_max.max(cooldown);
        }
        if self.parse("CIRCUIT_BREAKER_ENABLED", "`true` or `false`", flag) == Some(false) {
            breaker.failures = 0;
        }
    }

    /// What is wrong with `REDIS_URL` is said without it: there may be a password in it.
    fn state(&mut self, state: &mut State) {
        let Some(url) = self.environment.filled("REDIS_URL") else { return };
        match State::parse(url) {
            Ok(read) => *state = read,
            Err(fault) => {
                let found = Diagnostic::error("environment", format!("`REDIS_URL` is not usable: {fault}"));
                self.found.push(found.help("correct or unset the variable"));
            }
        }
    }

    /// `RECD_PATH` was the URL of a database.
    fn audit(&mut self, audit: &mut Audit) {
        let path = |url: &str| {
            let path = url.strip_prefix("sqlite:").unwrap_or(url);
            Some(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
        };
        if let Some(path) = self.parse("RECD_PATH", "the path of a file", path) {
            audit.path = path;
        }
    }

    fn log(&mut self, log: &mut Log) {
        self.parse("LOG_LEVEL", "`debug`, `info`, `warning` or `error`", level);
        if let Some(is_access) = self.parse("REQUEST_LOG_ENABLED", "`true` or `false`", flag) {
            log.is_access = is_access;
        }
        self.parse(FULL_TOKEN, "`true` or `false`", flag);
    }

    fn gone(&mut self) {
        for (name, help) in GONE.iter().filter(|(name, _)| self.environment.filled(name).is_some()) {
            let message = format!("`{name}` has no effect");
            self.found.push(Diagnostic::warning("environment", message).help(*help));
        }
    }

    fn port(&mut self, name: &str) -> Option<u16> {
        self.parse(name, "a port from 0 to 65535", |text| text.parse().ok())
    }

    fn seconds(&mut self, name: &str) -> Option<Duration> {
        self.parse(name, "a number of seconds", values::seconds)
    }

    fn parse<T>(&mut self, name: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.environment.filled(name)?;
        let parsed = parse(text);
        if parsed.is_none() {
            self.found.push(malformed(name, text, expected));
        }
        parsed
    }
}

/// What is said about a variable that cannot be read.
pub(super) fn malformed(name: &str, text: &str, expected: &str) -> Diagnostic {
    let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    Diagnostic::error("environment", format!("`{name}` must be {expected}, not `{shown}`"))
        .help("correct or unset the variable")
}

/// The user's folder for what can be made again.
///
/// Source: XDG Base Directory Specification 0.8, `XDG_CACHE_HOME`; a relative path in it counts as unset.
fn cache_dir(environment: &Environment) -> Option<PathBuf> {
    let absolute = |name| environment.filled(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(folder.join("witgate"))
}

fn host(text: &str) -> Option<IpAddr> {
    if text == "localhost" { Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { text.parse().ok() }
}

fn positive(text: &str) -> Option<u64> {
    text.parse().ok().filter(|count| *count > 0)
}

/// A window in seconds, which have a thousandth at least.
fn window_seconds(text: &str) -> Option<Duration> {
    values::seconds(text).filter(|window| window.as_millis() > 0)
}

fn minutes(text: &str) -> Option<Duration> {
    positive(text).filter(|minutes| *minutes <= 1_000_000).map(|minutes| Duration::from_secs(minutes * 60))
}

/// The variables of the earlier systems that have no meaning here, and what to do instead.
const GONE: &[(&str, &str)] = &[
    ("LOG_FILE", "set `log.dir` to a folder of log files"),
    ("REDIS_POOL_SIZE", "one connection to the server carries everything"),
    ("METRICS_ENABLED", "metrics are on the admin listener, which others do not reach"),
    ("DB_ROTATION_CHECK_INTERVAL_SEC", "rows go to a file by their own time; see `audit.rotate`"),
];

/// Asks for the token of a request that failed to be logged.
const FULL_TOKEN: &str = "LOG_FULL_TOKEN_ON_ERROR";

/// Whether the log is to show the tokens of requests that fail: `LOG_FULL_TOKEN_ON_ERROR`, by default not.
pub fn logs_full_token(environment: &Environment) -> bool {
    environment.filled(FULL_TOKEN).and_then(flag).unwrap_or(false)
}

/// The filter of the log: `RUST_LOG` in its own syntax, else `LOG_LEVEL`, else `info`.
pub fn log_filter(environment: &Environment) -> String {
    let by_level = || environment.filled("LOG_LEVEL").and_then(level);
    match environment.filled("RUST_LOG") {
        Some(filter) => filter.to_owned(),
        None => by_level().unwrap_or("info").to_owned(),
    }
}

/// A switch by the words that the earlier systems took.
fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The level by the names that Python's and Rust's loggers use.
fn level(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Some("trace"),
        "debug" => Some("debug"),
        "info" => Some("info"),
        "warn" | "warning" => Some("warn"),
        "error" | "critical" | "fatal" => Some("error"),
        "off" => Some("off"),
        _ => None,
    }
}
