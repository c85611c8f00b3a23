//! The checked configuration: what the gateway may rely on.
//!
//! Text becomes a spanned tree (`file`), `${…}` is expanded in its scalars (`env`), the tree is checked as a whole so
//! that every problem is reported at once (`check`, `diagnostic`), and what is left is this: no string that still
//! has to be looked up, parsed or trusted. This module knows no socket and no clock.

mod breaker;
pub mod check;
pub mod defaults;
pub mod diagnostic;
pub mod embedded;
pub mod env;
pub mod file;
pub mod files;
mod keys;
mod limits;
mod networks;
mod plugin;
mod postgres;
pub mod redacted;
pub mod secret;
mod state;
mod telemetry;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use crate::config::check::Checked;
use crate::config::check::keys::Places;
use crate::config::defaults::Defaults;
use crate::config::diagnostic::{Diagnostic, Diagnostics, Problem, Severity};
use crate::config::env::Environment;
use crate::config::file::{FILE_BYTES_MAX, Span};
use crate::config::files::{Digest, Files};
use crate::config::secret::Secret;
use crate::wire::Dialect;
use crate::wire::convert::EffortBudgets;

pub use breaker::{Breaker, Health};
#[cfg(test)]
pub(crate) use keys::comparisons;
pub use keys::{Account, Jwt, JwtClaims, JwtKey, JwtKeyKind, Key, KeyHash, Keys};
pub use limits::{LimitBy, Limits, Price, Quota, Rate, Spend, Tenant};
pub use networks::Networks;
pub use plugin::{
    Allow, FaultPolicy, Glob, HOOKS, OnFault, Plugin, PluginConfig, PluginLimits, PluginMatch, PluginSource,
    Reuse, ReuseScope, Streaming,
};
pub use postgres::{Postgres, PostgresFault, PostgresTls};
pub use state::State;
pub use telemetry::{Audit, Log, LogFormat, LogKeep, Metrics, OnFull, Otlp, Rotation};

/// What a configuration is loaded from, once at the start and again at every reload.
#[derive(Clone, Debug)]
pub struct Input {
    /// The file, or the embedded default.
    pub origin: Origin,
    /// The environment of the process.
    pub environment: Environment,
    /// The flags.
    pub overrides: Overrides,
}

impl Input {
    /// Loads it; see [`load`].
    ///
    /// # Errors
    /// See [`load`].
    pub fn load(&self) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
        load(&self.origin, &self.environment, &self.overrides)
    }
}

/// Decides where the configuration comes from: the flag, else `WITGATE_CONFIG`, else `./witgate.yaml`, else the embedded
/// default.
pub fn locate(flag: Option<&Path>, environment: &Environment) -> Origin {
    let implied = Path::new("./witgate.yaml");
    match (flag, environment.filled("WITGATE_CONFIG")) {
        (Some(path), _) => Origin::File(path.to_owned()),
        (None, Some(path)) => Origin::File(path.into()),
        (None, None) if implied.exists() => Origin::File("witgate.yaml".into()),
        (None, None) => Origin::Embedded,
    }
}

/// Loads a configuration: the file, or the embedded default, under the environment and the flags.
///
/// The second value are the warnings.
///
/// # Errors
/// Everything that is wrong with it, and the warnings.
pub fn load(
    origin: &Origin,
    environment: &Environment,
    overrides: &Overrides,
) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
    match origin {
        Origin::File(path) => {
            let text = read(path)?;
            let (mut config, warnings) = load_text(&text, path, environment, overrides)?;
            config.origin_digest = Digest::of(text.as_bytes());
            Ok((config, warnings))
        }
        Origin::Embedded => load_embedded(environment, overrides),
    }
}

/// Loads a configuration from the text of a file that has been read already.
///
/// # Errors
/// See [`load`].
pub fn load_text(
    text: &str,
    path: &Path,
    environment: &Environment,
    overrides: &Overrides,
) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
    let name = path.display().to_string();
    let mut found = Vec::new();
    let defaults = Defaults::from_environment(environment, &mut found);
    let render = |problems, hidden: &[Span]| diagnostic::render(&name, text, problems, hidden);
    let Checked { mut config, problems, hidden, admin, found: elsewhere } =
        check::check(text, path, environment, &defaults).map_err(|problem| Diagnostics {
            all: found.iter().cloned().chain(render(vec![problem], &[])).collect(),
        })?;
    found.extend(render(problems, &hidden));
    found.extend(elsewhere);
    if overrides.names_openai() {
        let message = "`--openai-domain`, `--openai-port` and `--openai-tls` have no effect beside a file";
        found.push(Diagnostic::warning("command line", message).help("write an upstream into the file"));
    }
    overrides.apply(&mut config.server);
    for (message, help) in listeners(&config.server) {
        found.extend(match admin.filter(|_| overrides.admin.is_none()) {
            Some(span) => render(vec![Problem::error(span, message).help(help)], &hidden),
            None => vec![Diagnostic::error("command line or environment", message).help(help)],
        });
    }
    conclude(config, found)
}

fn load_embedded(
    environment: &Environment,
    overrides: &Overrides,
) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
    let mut found = Vec::new();
    let defaults = Defaults::from_environment(environment, &mut found);
    let mut config = embedded::config(environment, overrides, defaults, &mut found);
    overrides.apply(&mut config.server);
    let faults = listeners(&config.server);
    found.extend(
        faults
            .into_iter()
            .map(|(message, help)| Diagnostic::error("command line or environment", message).help(help)),
    );
    conclude(config, found)
}

/// Finds where a configuration keeps its keys, whatever else is wrong with it.
///
/// # Errors
/// The file cannot be read or is no YAML, or the places cannot be used.
pub fn key_places(origin: &Origin, environment: &Environment) -> Result<Places, Diagnostics> {
    let mut found = Vec::new();
    let defaults = Defaults::from_environment(environment, &mut found);
    let Origin::File(path) = origin else { return Ok(check::keys::places_without_file(&defaults)) };
    let text = read(path)?;
    let name = path.display().to_string();
    check::keys::places(&text, path, environment, &defaults)
        .map_err(|problems| Diagnostics { all: diagnostic::render(&name, &text, problems, &[]) })
}

/// Finds what is only known when file, environment and flags have been heard: what is wrong, and the way out.
fn listeners(server: &Server) -> Vec<(String, &'static str)> {
    let mut faults = Vec::new();
    if !server.admin.ip().to_canonical().is_loopback() && server.admin_token.is_none() {
        let message = format!("the admin listener `{}` can be reached from other machines", server.admin);
        faults.push((message, "set `server.admin_token`, or listen on 127.0.0.1"));
    }
    if server.listen == server.admin && server.listen.port() != 0 {
        faults.push((
            format!("both listeners are at `{}`", server.listen),
            "give `server.admin` a port of its own",
        ));
    }
    faults
}

fn conclude(config: Config, found: Vec<Diagnostic>) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
    let is_refused = found.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    if is_refused { Err(Diagnostics { all: found }) } else { Ok((config, found)) }
}

fn read(path: &Path) -> Result<String, Diagnostic> {
    let name = || path.display().to_string();
    let mut bytes = Vec::new();
    // A byte beyond the bound is enough to know; the parser says the rest.
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)).map_err(
        |error| {
            Diagnostic::error(name(), format!("cannot be read: {error}")).help("name a file with `--config`")
        },
    )?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Diagnostic::error(name(), "the file is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Diagnostic::error(name(), format!("byte {at} is not UTF-8")).help("save the file as UTF-8")
    })
}

/// What flags say; they beat the file and the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The main listener.
    pub listen: Option<SocketAddr>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
    /// The main listener's port alone; `listen` beats it.
    pub proxy_port: Option<u16>,
    /// The admin listener's port alone; `admin` beats it.
    pub metrics_port: Option<u16>,
    /// The host of the embedded default's OpenAI upstream.
    pub openai_domain: Option<String>,
    /// The port of that.
    pub openai_port: Option<u16>,
    /// Whether that speaks TLS.
    pub openai_tls: Option<bool>,
}

impl Overrides {
    fn apply(&self, server: &mut Server) {
        if let Some(port) = self.proxy_port {
            server.listen.set_port(port);
        }
        if let Some(port) = self.metrics_port {
            server.admin.set_port(port);
        }
        server.listen = self.listen.unwrap_or(server.listen);
        server.admin = self.admin.unwrap_or(server.admin);
    }

    /// Whether any flag is about the OpenAI upstream.
    fn names_openai(&self) -> bool {
        self.openai_domain.is_some() || self.openai_port.is_some() || self.openai_tls.is_some()
    }
}

/// Everything one configuration says, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where it came from.
    pub origin: Origin,
    /// What the origin held when this was read from it; that of no file unless [`load`] has read one.
    pub origin_digest: Digest,
    /// The other files it depends on, secrets and certificates, and what they held.
    pub files: Files,
    /// The listeners and their bounds.
    pub server: Server,
    /// The upstreams, in the order of the file; an index into this list names an upstream everywhere.
    pub upstreams: Vec<Upstream>,
    /// The plugins, in the order of the file.
    pub plugins: Vec<Plugin>,
    /// How an upstream is chosen.
    pub routing: Routing,
    /// When another attempt is made.
    pub retry: Retry,
    /// How long a stream is held back.
    pub commit: Commit,
    /// How long a list of models is kept; zero turns the cache off. Default 600 s.
    pub models_cache_ttl: Duration,
    /// The shape of error bodies. Default `openai`.
    pub error_compat: ErrorCompat,
    /// How many tokens of thinking an effort stands for, between dialects. Default 2048, 8192 and 16384.
    pub effort_budgets: EffortBudgets,
    /// The gateway's own keys; none leaves it open unless there is `jwt`.
    pub keys: Option<Keys>,
    /// The tokens of others that are taken for keys.
    pub jwt: Option<Jwt>,
    /// Where what several gateways share is kept.
    pub state: State,
    /// How much callers may use.
    pub limits: Limits,
    /// The tenants with quotas of their own.
    pub tenants: Vec<Tenant>,
    /// What models cost; the first that fits a model holds.
    pub prices: Vec<Price>,
    /// The record of every exchange.
    pub audit: Audit,
    /// The log.
    pub log: Log,
    /// What metrics are told.
    pub metrics: Metrics,
    /// The export of traces.
    pub otlp: Otlp,
}

impl Config {
    /// All files it was read from, the origin included, and what they held.
    pub fn sources(&self) -> Files {
        let mut files = self.files.clone();
        if let Origin::File(path) = &self.origin {
            files.note(path, self.origin_digest);
        }
        files
    }

    /// A number that tells one configuration from another: it follows from all that the files hold, secrets included,
    /// wherever they are. What the environment and the command line add counts only where there is no file.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match &self.origin {
            Origin::File(_) => self.origin_digest.hash(&mut hasher),
            Origin::Embedded => self.redacted().to_string().hash(&mut hasher),
        }
        self.files.digests().for_each(|digest| digest.hash(&mut hasher));
        hasher.finish()
    }

    /// Whether both say the same, however their files word it.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        *self == Self { origin_digest: self.origin_digest, ..other.clone() }
    }

    /// Whether callers have to say who they are: there are keys, or there is a file for them, or tokens are taken.
    pub fn is_guarded(&self) -> bool {
        self.keys.is_some() || self.jwt.is_some()
    }

    /// Whether anybody who reaches the main listener could spend the upstreams' keys.
    pub fn is_open_to_anybody(&self) -> bool {
        let has_keys = self.upstreams.iter().any(|upstream| upstream.keys().next().is_some());
        has_keys && !self.is_guarded() && !self.server.listen.ip().to_canonical().is_loopback()
    }
}

/// Where a configuration came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, which is watched for changes.
    File(PathBuf),
    /// The embedded default and what the environment offers.
    Embedded,
}

/// The listeners and what they bear.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The main listener. Default 127.0.0.1:8000; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The admin listener. Default 127.0.0.1:9090.
    pub admin: SocketAddr,
    /// Bearer token of the admin listener; required when that is not on loopback.
    pub admin_token: Option<Secret>,
    /// Further `Host` values the admin listener answers to.
    pub admin_hosts: Vec<String>,
    /// The largest request body, in bytes; not 0. Default 64 MiB.
    pub request_body_max: u64,
    /// From accept to the end of the request's head, TLS included; not 0. Default 10 s.
    pub header_timeout: Duration,
    /// How long running exchanges may go on after SIGTERM. Default 30 s.
    pub shutdown_grace: Duration,
    /// Certificate and key; none means plain text.
    pub tls: Option<ServerTls>,
    /// The most connections held at once. Default 20,000.
    pub connections_max: usize,
    /// The proxies that are believed what they say of their clients' addresses. Default none.
    pub trusted_proxies: Networks,
    /// Whether connections to the main listener begin with a header of the PROXY protocol. Default false.
    pub proxy_protocol: bool,
    /// The clients that are let in, by their addresses; none listed means all. Default none.
    pub allow_ips: Networks,
    /// The most bytes of bodies held in memory at once, over all exchanges. Default 1 GiB.
    pub buffered_bytes_max: u64,
    /// The silence after which a stream's client is sent an SSE comment; zero means never. Default 15 s.
    pub keepalive: Duration,
    /// Whether such comments may be sent before the upstream has answered. Default false.
    pub keepalive_early: bool,
    /// Origins that browsers may call from; `*` for any. Default none.
    pub cors_origins: Vec<String>,
    /// Whether answers in JSON are compressed for clients that take gzip. Default false: it costs more time than all else
    /// that is done for a request.
    pub compress: bool,
    /// Whether answers carry `x-witgate-upstream`. Default true.
    pub upstream_header: bool,
    /// Whether the main listener answers `/metrics`, too. Default false.
    pub metrics_on_main: bool,
    /// The folder of compiled plugins; none keeps no compiled code. Default `witgate` in the user's cache folder.
    pub cache_dir: Option<PathBuf>,
}

impl Server {
    /// Whether a client may ask anything, by where it is.
    pub fn lets_in(&self, client: IpAddr) -> bool {
        self.allow_ips.is_empty() || self.allow_ips.contains(client)
    }
}

/// The files of the main listener's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// PEM certificate chain.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// One remote service that answers requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its name: unique, part of the routing hash, shown in logs and metrics.
    pub name: Arc<str>,
    /// Where it is.
    pub target: Target,
    /// Its key; none sends no credential unless `forwards_caller_key`.
    pub api_key: Option<Secret>,
    /// Several keys that take turns, instead of `api_key`; those that are refused rest.
    pub api_keys: Vec<Secret>,
    /// `auth: forward`: the caller's credential is sent on when there is no `api_key`.
    pub forwards_caller_key: bool,
    /// The models it takes, besides those in `models`.
    pub model_match: ModelMatch,
    /// Name the client uses, name the upstream knows.
    pub models: Vec<(String, String)>,
    /// Weight, or rank under `priority_mode: rank`. Default 1; weight 0 is used only when nothing else is left.
    pub priority: u32,
    /// Models or upstreams to go on with when every candidate has failed.
    pub fallback: Vec<String>,
    /// Headers added to every request sent to it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Top-level keys added to a JSON body that lacks them: the key, and its value as JSON text.
    pub extra_body: Vec<(String, String)>,
    /// Stop words put before the request's own.
    pub stop: Vec<String>,
    /// Whose conventions it follows. Default OpenAI's.
    pub dialect: Dialect,
    /// Whether it has OpenAI's Responses API; if not, requests for that are converted to chats. Default true.
    pub has_responses: bool,
    /// Upper bound of `max_tokens` and `max_completion_tokens`; sent as `max_tokens` when the request has neither.
    pub max_tokens: Option<u64>,
    /// Text put before the first content of every answer.
    pub special_prefix: Option<Arc<str>>,
    /// Where the thinking of an answer goes. Default: the top-level `thinking_format`.
    pub thinking_format: ThinkingFormat,
    /// Its timers.
    pub timeouts: Timeouts,
    /// After how long without content from it the next candidate is asked, too; zero means never. Default 0 s.
    pub hedge: Duration,
    /// The most exchanges at once; zero means no bound.
    pub max_in_flight: usize,
    /// Whether it takes part at all. Default true.
    pub is_enabled: bool,
    /// Whether unknown paths are passed to it. At most one upstream.
    pub is_default: bool,
    /// Whether streams are asked for usage. Default true.
    pub include_usage: bool,
    /// How its certificate is verified.
    pub tls: UpstreamTls,
    /// What is tidied in chat messages before they are sent.
    pub clean: Clean,
    /// When it is left alone because it fails. Default: the top-level `breaker`.
    pub breaker: Breaker,
    /// The checks that no client asked for. Default none.
    pub health: Option<Health>,
    /// The variable or flag that brought it into the embedded default; none for an upstream of a file.
    pub found_by: Option<&'static str>,
}

impl Upstream {
    /// Its own keys, at most one of them unless they take turns.
    pub fn keys(&self) -> impl Iterator<Item = &Secret> {
        self.api_key.iter().chain(&self.api_keys)
    }

    /// Whether it takes a model, by the name that the client uses: `model_match` takes it, or it is an alias here.
    pub fn accepts(&self, model: &str) -> bool {
        self.model_match.accepts(model) || self.models.iter().any(|(alias, _)| alias == model)
    }

    /// The same, of a name that is borrowed.
    pub fn model_there_of<'a>(&'a self, model: &'a str) -> &'a str {
        self.models.iter().find(|(name, _)| name == model).map_or(model, |(_, there)| there)
    }

    /// The name it knows a model by that the client calls so.
    pub fn model_there(&self, model: &Arc<str>) -> Arc<str> {
        let alias = self.models.iter().find(|(name, _)| **name == **model);
        alias.map_or_else(|| model.clone(), |(_, there)| Arc::from(&**there))
    }
}

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A base URL such as `https://api.openai.com/v1`, without a trailing slash.
    Http(Uri),
    /// `builtin:echo`: answers in this process, repeating the last user text.
    Echo,
}

/// Which models an upstream takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModelMatch {
    /// The model equals one of these.
    Exact(Vec<String>),
    /// The model contains one of these (case-sensitive; the default type, as in the earlier systems).
    Keyword(Vec<String>),
    /// The model begins with one of these; a trailing `*` in the file is dropped.
    Prefix(Vec<String>),
    /// Every model: the upstream has no `model_match`.
    Any,
}

impl ModelMatch {
    /// Whether the upstream takes a model, by the name that the client uses.
    pub fn accepts(&self, model: &str) -> bool {
        match self {
            Self::Exact(names) => names.iter().any(|name| name == model),
            Self::Keyword(words) => words.iter().any(|word| model.contains(word.as_str())),
            Self::Prefix(prefixes) => prefixes.iter().any(|prefix| model.starts_with(prefix.as_str())),
            Self::Any => true,
        }
    }
}

/// Where the thinking of an answer goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThinkingFormat {
    /// It stays as the upstream sent it.
    #[default]
    Passthrough,
    /// Into `<think>…</think>` at the start of the content.
    ThinkTag,
    /// Into the field `reasoning`.
    Reasoning,
    /// Into the field `reasoning_content`.
    ReasoningContent,
    /// Away.
    Strip,
}

/// The timers of one upstream; zero means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// DNS, TCP and TLS. Default 10 s.
    pub connect: Duration,
    /// From the request sent to the head of the answer. Default 60 s.
    pub first_byte: Duration,
    /// From the request sent to the first content of a stream. Default 120 s, or `first_byte` where that allows more.
    pub first_token: Duration,
    /// Between two reads of the answer. Default 60 s.
    pub idle: Duration,
    /// The whole attempt. Default none.
    pub total: Duration,
}

impl Timeouts {
    /// The default of `first_token`.
    pub(crate) const FIRST_TOKEN: Duration = Duration::from_secs(120);

    /// The default of `first_token` where `first_byte` was set: who allows the head more time means the answer, too.
    pub(crate) fn first_token_after(first_byte: Duration) -> Duration {
        if first_byte.is_zero() { first_byte } else { Self::FIRST_TOKEN.max(first_byte) }
    }
}

/// How an upstream's certificate is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// A PEM file of further authorities to trust.
    pub ca: Option<PathBuf>,
    /// Verifies nothing. Only for tests and trusted networks.
    pub is_insecure: bool,
}

/// What is tidied in chat messages before they are sent; everything is off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clean {
    /// White space at both ends of texts.
    pub trim: bool,
    /// Messages without content, tool calls or reasoning.
    pub drop_empty: bool,
    /// Consecutive user messages become one, their texts joined by a newline.
    pub merge_user: bool,
    /// `<think>…</think>` in assistant messages.
    pub strip_think: bool,
}

/// How an upstream is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The strategy. Default `deterministic`.
    pub strategy: Strategy,
    /// What `priority` means. Default `weight`.
    pub priority_mode: PriorityMode,
}

/// The six ways to order candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Weighted rendezvous hashing of the conversation's anchor.
    #[default]
    Deterministic,
    /// The earlier systems' multi-anchor vote.
    Voting,
    /// Weighted random order.
    Random,
    /// Taking turns, by weight.
    RoundRobin,
    /// Fewest running exchanges per weight first.
    LeastInFlight,
    /// Configuration order.
    Failover,
}

impl Strategy {
    /// Its word in a configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deterministic => "deterministic",
            Self::Voting => "voting",
            Self::Random => "random",
            Self::RoundRobin => "round_robin",
            Self::LeastInFlight => "least_in_flight",
            Self::Failover => "failover",
        }
    }
}

/// What an upstream's `priority` means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriorityMode {
    /// Its share of the traffic.
    #[default]
    Weight,
    /// Its tier: the smallest goes first, equal ones share evenly.
    Rank,
}

/// When another attempt is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Further tries at one upstream, only where nothing was sent. Default 1.
    pub same_upstream: u32,
    /// Attempts of one exchange, all upstreams together. Default 8.
    pub attempts_max: u32,
    /// Fallback hops of one exchange. Default 4.
    pub hops_max: u32,
    /// The pause before the first retry of the same upstream; doubled each time, with jitter. Default 100 ms.
    pub backoff: Duration,
    /// The longest such pause. Default 2 s.
    pub backoff_max: Duration,
    /// The most retries and failovers as a part of the first attempts of the last seconds; 1 means no bound. Default 0.2.
    pub budget: f64,
    /// What counts as a failure that another attempt may mend.
    pub on: RetryOn,
}

/// How long a stream is held back because it has no content yet, so that another candidate can still be tried. At the
/// first bound that is reached it is handed over as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Events with data. Default 64; zero hands it over at its head.
    pub events_max: u64,
    /// Bytes. Default 256 KiB.
    pub bytes_max: u64,
    /// Time since its head. Default zero: none but the timers of the upstream.
    pub wait_max: Duration,
}

impl Default for Commit {
    fn default() -> Self {
        Self { events_max: 64, bytes_max: 256 << 10, wait_max: Duration::ZERO }
    }
}

/// The failures after which the next candidate is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// DNS, TCP or TLS. Default true.
    pub connect: bool,
    /// No head of an answer, or no content, in time. Default true.
    pub timeout: bool,
    /// Any status from 500 on. Default true.
    pub server_errors: bool,
    /// Single statuses. Default 408 and 429.
    pub statuses: Vec<u16>,
    /// An answer that breaks off or is not what its content type says. Default true.
    pub malformed: bool,
    /// A successful answer without any content. Default true.
    pub empty: bool,
}

/// The shape of error bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorCompat {
    /// OpenAI's nested object.
    #[default]
    OpenAi,
    /// The same with GPT_API's top-level `error_type`, and its 422 for an unknown model.
    GptApi,
}
