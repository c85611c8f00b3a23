//! A tree to a [`Config`]: every problem is reported, not only the first.
//!
//! `schema` says which keys there are and what their values look like, `values` what a single value means. Here the
//! values are read and held against each other. A value that does not fit its schema has been reported by then and
//! is read as if it were absent.

mod breaker;
mod jwt;
pub mod keys;
mod limits;
mod plugin;
mod schema;
mod telemetry;
pub mod values;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::value::RawValue;

use crate::config::defaults::Defaults;
use crate::config::diagnostic::{self, Diagnostic, Problem, SECRET_KEYS};
use crate::config::env::{self, Environment};
use crate::config::file::{Key, Node, Plain, Span, Value};
use crate::config::files::{Digest, Files};
use crate::config::secret::{Secret, is_credential};
use crate::config::{
    Breaker, Clean, Commit, Config, ErrorCompat, KeyHash, Metrics, ModelMatch, Networks, Origin,
    PriorityMode, Retry, RetryOn, Routing, Server, ServerTls, State, Strategy, Target, ThinkingFormat,
    Timeouts, Upstream, UpstreamTls,
};
use crate::wire::Dialect;
use crate::wire::convert::EffortBudgets;

/// What was read, as far as it goes, with all that was found on the way.
pub struct Checked {
    /// The configuration; meaningless when a problem is an error.
    pub config: Config,
    /// Errors and warnings, in no particular order.
    pub problems: Vec<Problem>,
    /// What was found in further files.
    pub found: Vec<Diagnostic>,
    /// Where secrets stand in the text.
    pub hidden: Vec<Span>,
    /// Where `server.admin` stands, for what is only known once the flags have been heard.
    pub admin: Option<Span>,
}

/// Reads the text of a file; `path` is its name, which relative paths in it start from.
///
/// Reads the secrets' files that the text names, and looks whether certificates exist.
///
/// # Errors
/// The text is no YAML at all; everything else is among the problems.
pub fn check(
    text: &str,
    path: &Path,
    environment: &Environment,
    defaults: &Defaults,
) -> Result<Checked, Problem> {
    let mut problems = Vec::new();
    let mut root = crate::config::file::parse(text, &mut problems)?;
    let mut hidden = Vec::new();
    hide_secrets(&root, false, &mut hidden);
    env::expand_tree(&mut root, environment, &mut problems);
    schema::walk(&root, &mut problems);
    let folder = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
    let mut reader = Reader { problems, folder, environment, files: Files::default(), found: Vec::new() };
    let config = reader.config(&root, Origin::File(path.to_owned()), defaults);
    let admin = root.get("server").and_then(|server| server.get("admin")).map(|node| node.span);
    Ok(Checked { config, problems: reader.problems, found: reader.found, hidden, admin })
}

/// Finds what must not be shown: values of secret keys, passwords in URLs, headers that look like credentials.
fn hide_secrets(node: &Node, is_secret: bool, hidden: &mut Vec<Span>) {
    match &node.value {
        Value::Scalar(scalar) => {
            let is_secret = is_secret || has_password(&scalar.text) || looks_like_key(&scalar.text);
            if is_secret && !diagnostic::is_reference(&scalar.text) {
                hidden.push(node.span);
            }
        }
        Value::List(items) => items.iter().for_each(|item| hide_secrets(item, is_secret, hidden)),
        Value::Mapping(entries) => {
            for (key, node) in entries {
                if key.text == "config" {
                    plugin::hide_secrets(node, is_secret, hidden);
                    continue;
                }
                // A list under `secrets` has names in it, a mapping the secrets themselves.
                let is_named = key.text == "secrets" && matches!(node.value, Value::Mapping(_));
                let is_secret = is_secret
                    || is_named
                    || SECRET_KEYS.contains(&key.text.as_str())
                    || is_credential(&key.text)
                    || key.text == "hash"
                        && node.scalar().is_some_and(|hash| KeyHash::parse(&hash.text).is_none());
                hide_secrets(node, is_secret, hidden);
            }
        }
    }
}

/// Whether a text is a URL with a user in it, and so mostly with a password.
fn has_password(text: &str) -> bool {
    // Wherever the `@` is: a password with a `/` in it makes no good URL, but must not be shown for that.
    text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// Whether a text begins as the keys of this gateway and of many services do.
fn looks_like_key(text: &str) -> bool {
    text.starts_with("sk-")
}

/// A key and its value, if it is there.
type Entry<'a> = Option<(&'a Key, &'a Node)>;

struct Reader<'a> {
    problems: Vec<Problem>,
    folder: PathBuf,
    environment: &'a Environment,
    /// The secrets, certificates, keys and plugins.
    files: Files,
    /// What was found in further files.
    found: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn config(&mut self, root: &Node, origin: Origin, defaults: &Defaults) -> Config {
        let thinking_format = text(root, "thinking_format").and_then(thinking).unwrap_or_default();
        let breaker = self.breaker(root, &defaults.breaker);
        let upstreams = self.upstreams(root, thinking_format, &breaker, defaults);
        let plugins = self.plugins(root.get("plugins"));
        let server = self.server(root.get("server"), &defaults.server);
        let limits = self.limits(root.get("limits"), &defaults.limits);
        let audit = self.audit(root.get("audit"), &defaults.audit);
        let tenants = self.tenants(root.get("tenants"), &upstreams);
        let keys = self.keys(root, &upstreams, &tenants, &limits, &audit);
        let jwt = self.jwt(root);
        Config {
            origin,
            origin_digest: Digest::default(),
            files: std::mem::take(&mut self.files),
            server,
            upstreams,
            plugins,
            routing: self.routing(root),
            retry: retry(root.get("retry"), &defaults.retry),
            commit: root.get("commit").map(commit).unwrap_or_default(),
            models_cache_ttl: self.models_cache_ttl(root).unwrap_or(defaults.models_cache_ttl),
            error_compat: match text(root, "error_compat") {
                Some("gpt_api") => ErrorCompat::GptApi,
                _ => ErrorCompat::OpenAi,
            },
            effort_budgets: self.effort_budgets(root.get("effort_budgets")),
            keys,
            jwt,
            state: text(root, "state")
                .and_then(|state| State::parse(state).ok())
                .unwrap_or_else(|| defaults.state.clone()),
            limits,
            tenants,
            prices: self.prices(root.get("prices")),
            audit,
            log: self.log(root.get("log"), &defaults.log),
            metrics: Metrics {
                is_compat: root.get("metrics").and_then(|metrics| flag(metrics, "compat")).unwrap_or(false),
            },
            otlp: root.get("otlp").map(|otlp| self.otlp(otlp)).unwrap_or_default(),
        }
    }

    /// What efforts stand for; each must be more than the one before.
    fn effort_budgets(&mut self, node: Option<&Node>) -> EffortBudgets {
        let defaults = EffortBudgets::default();
        let Some(node) = node else { return defaults };
        let budget = |name, default| integer(node, name).unwrap_or(default);
        let budgets = EffortBudgets {
            low: budget("low", defaults.low),
            medium: budget("medium", defaults.medium),
            high: budget("high", defaults.high),
        };
        if budgets.low >= budgets.medium || budgets.medium >= budgets.high {
            let EffortBudgets { low, medium, high } = budgets;
            let message = format!("the budgets must grow from `low` to `high`, not {low}, {medium}, {high}");
            self.error(node.span, message, "give those that are left out, too, or take the line out");
        }
        budgets
    }

    /// Returns the value of a key that has two spellings, and reports it when both are there.
    fn alias<'a>(&mut self, names: [&str; 2], canonical: Entry<'a>, legacy: Entry<'a>) -> Option<&'a Node> {
        if let (Some((canonical, _)), Some((legacy, _))) = (canonical, legacy) {
            let message = format!("`{}` and `{}` are two spellings of one key", names[1], names[0]);
            let help = format!("keep `{}` on line {} and remove this", names[0], canonical.span.line);
            self.error(legacy.span, message, &help);
        }
        canonical.or(legacy).map(|(_, node)| node)
    }

    fn server(&mut self, node: Option<&Node>, defaults: &Server) -> Server {
        let Some(node) = node else { return defaults.clone() };
        self.server_bounds(node);
        Server {
            listen: text(node, "listen").and_then(values::address).unwrap_or(defaults.listen),
            admin: text(node, "admin").and_then(values::address).unwrap_or(defaults.admin),
            admin_token: node.get("admin_token").and_then(|token| self.secret(token)),
            admin_hosts: texts(node.get("admin_hosts")),
            request_body_max: size(node, "request_body_max").unwrap_or(defaults.request_body_max),
            header_timeout: duration(node, "header_timeout").unwrap_or(defaults.header_timeout),
            shutdown_grace: duration(node, "shutdown_grace").unwrap_or(defaults.shutdown_grace),
            tls: node.get("tls").and_then(|tls| self.server_tls(tls)),
            connections_max: integer(node, "connections_max").unwrap_or(defaults.connections_max),
            trusted_proxies: self.networks(node, "trusted_proxies"),
            proxy_protocol: flag(node, "proxy_protocol").unwrap_or(defaults.proxy_protocol),
            allow_ips: self.networks(node, "allow_ips"),
            buffered_bytes_max: size(node, "buffered_bytes_max").unwrap_or(defaults.buffered_bytes_max),
            keepalive: duration(node, "keepalive").unwrap_or(defaults.keepalive),
            keepalive_early: flag(node, "keepalive_early").unwrap_or(defaults.keepalive_early),
            cors_origins: node.get("cors").map(|cors| self.origins(cors)).unwrap_or_default(),
            compress: flag(node, "compress").unwrap_or(defaults.compress),
            upstream_header: flag(node, "upstream_header").unwrap_or(defaults.upstream_header),
            metrics_on_main: flag(node, "metrics_on_main").unwrap_or(defaults.metrics_on_main),
            cache_dir: match text(node, "cache_dir") {
                Some("") => None,
                Some(path) => Some(self.folder.join(path)),
                None => defaults.cache_dir.clone(),
            },
        }
    }

    /// Reports settings under which no request could ever be answered.
    fn server_bounds(&mut self, node: &Node) {
        if duration(node, "header_timeout").is_some_and(|timeout| timeout.is_zero()) {
            let span = node.get("header_timeout").map_or(node.span, |value| value.span);
            let help = "write a long one such as `1h`, or remove the key for 10 s";
            self.error(span, "`header_timeout` must not be zero", help);
        }
        if size(node, "request_body_max") == Some(0) {
            let span = node.get("request_body_max").map_or(node.span, |value| value.span);
            let help = "write a large one such as `1GiB`, or remove the key for 64 MiB";
            self.error(span, "`request_body_max` must not be zero", help);
        }
        if flag(node, "proxy_protocol") == Some(true)
            && node.get("trusted_proxies").is_none_or(|proxies| proxies.items().is_empty())
        {
            let span = node.get("proxy_protocol").map_or(node.span, |value| value.span);
            let help = "add `trusted_proxies` with the networks that such connections come from";
            self.error(span, "`proxy_protocol` believes nobody without `trusted_proxies`", help);
        }
    }

    /// Networks and single addresses; each that is neither is reported.
    fn networks(&mut self, node: &Node, name: &str) -> Networks {
        let mut networks = Vec::new();
        for item in node.get(name).map(Node::items).unwrap_or_default() {
            let Some(scalar) = item.scalar().filter(|scalar| !scalar.is_unresolved) else { continue };
            match values::network(&scalar.text) {
                Some(network) => networks.push(network),
                None => {
                    let message =
                        format!("`{}` in `{name}` is neither a network nor an address", scalar.shown());
                    self.error(
                        item.span,
                        message,
                        "write it like `10.0.0.0/8`, `192.0.2.7` or `2001:db8::/32`",
                    );
                }
            }
        }
        networks.into_iter().collect()
    }

    fn server_tls(&mut self, node: &Node) -> Option<ServerTls> {
        let cert = node.get("cert").and_then(|cert| self.file(cert));
        let key = node.get("key").and_then(|key| self.file(key));
        Some(ServerTls { cert: cert?, key: key? })
    }

    fn origins(&mut self, cors: &Node) -> Vec<String> {
        for item in cors.get("origins").map(Node::items).unwrap_or_default() {
            let Some(origin) = item.scalar().filter(|origin| !origin.is_unresolved) else { continue };
            if origin.text != "*" && values::base_url(&origin.text).is_err() {
                let message = format!("`{}` is not an origin", origin.shown());
                self.error(item.span, message, "write it like `https://app.example.com`, or `*` for any");
            }
        }
        texts(cors.get("origins"))
    }

    /// A path that must exist, made absolute by the folder of the file.
    fn file(&mut self, node: &Node) -> Option<PathBuf> {
        let scalar = node.scalar().filter(|path| !path.is_unresolved)?;
        let path = self.folder.join(&scalar.text);
        if !path.is_file() {
            let help = "paths are relative to the folder of the configuration file";
            self.error(node.span, format!("there is no file `{}`", scalar.shown()), help);
        }
        // Whoever uses the file reads it after this: a change in between is found, not lost.
        self.files.note(&path, Digest::of_file(&path));
        Some(path)
    }

    /// A secret for a header; an empty one is none.
    fn secret(&mut self, node: &Node) -> Option<Secret> {
        let secret = self.secret_text(node)?;
        if HeaderValue::from_str(&secret).is_err() {
            self.error(
                node.span,
                "a secret must be one line of printable characters",
                "look for a stray line break",
            );
            return None;
        }
        (!secret.is_empty()).then(|| Secret::new(secret))
    }

    /// A secret as it stands or, after `file:`, in a file.
    fn secret_text(&mut self, node: &Node) -> Option<String> {
        let scalar = node.scalar().filter(|secret| !secret.is_unresolved)?;
        let Some(path) = scalar.text.strip_prefix("file:") else { return Some(scalar.text.clone()) };
        match read_secret(&self.folder.join(path), &mut self.files) {
            Ok(secret) => Some(secret),
            Err(fault) => {
                let help = "the file must hold the secret alone and be readable by the gateway";
                self.error(node.span, format!("the secret's file cannot be used: {fault}"), help);
                None
            }
        }
    }

    fn routing(&mut self, root: &Node) -> Routing {
        let canonical = root.get("routing").and_then(|routing| routing.entry("strategy"));
        let legacy = root.get("load_balancing").and_then(|legacy| legacy.entry("strategy"));
        let strategy = self
            .alias(["routing.strategy", "load_balancing.strategy"], canonical, legacy)
            .and_then(Node::scalar);
        Routing {
            strategy: match strategy.map(|strategy| strategy.text.as_str()) {
                Some("voting") => Strategy::Voting,
                Some("random") => Strategy::Random,
                Some("round_robin") => Strategy::RoundRobin,
                Some("least_in_flight" | "least_connections") => Strategy::LeastInFlight,
                Some("failover") => Strategy::Failover,
                _ => Strategy::Deterministic,
            },
            priority_mode: match root.get("routing").and_then(|routing| text(routing, "priority_mode")) {
                Some("rank") => PriorityMode::Rank,
                _ => PriorityMode::Weight,
            },
        }
    }

    fn models_cache_ttl(&mut self, root: &Node) -> Option<Duration> {
        let cache = root.get("models_cache")?;
        self.alias(
            ["models_cache.ttl", "models_cache.ttl_seconds"],
            cache.entry("ttl"),
            cache.entry("ttl_seconds"),
        );
        let legacy = || integer(cache, "ttl_seconds").map(Duration::from_secs);
        duration(cache, "ttl").or_else(legacy)
    }

    fn upstreams(
        &mut self,
        root: &Node,
        thinking: ThinkingFormat,
        breaker: &Breaker,
        defaults: &Defaults,
    ) -> Vec<Upstream> {
        let list = self.alias(
            ["upstreams", "openai_clients"],
            root.entry("upstreams"),
            root.entry("openai_clients"),
        );
        let Some(list) = list else {
            let help = "add an upstream; `base_url: builtin:echo` needs no key and no network";
            self.error(root.span, "there are no `upstreams`", help);
            return Vec::new();
        };
        let Value::List(nodes) = &list.value else { return Vec::new() };
        if nodes.is_empty() {
            self.error(list.span, "`upstreams` is empty", "add one; `base_url: builtin:echo` needs no key");
        }
        let upstreams: Vec<_> =
            nodes.iter().map(|node| self.upstream(node, thinking, breaker, &defaults.timeouts)).collect();
        self.names(nodes);
        self.defaults(nodes);
        self.fallbacks(nodes, &upstreams);
        upstreams
    }

    fn upstream(
        &mut self,
        node: &Node,
        thinking_default: ThinkingFormat,
        breaker: &Breaker,
        timeouts: &Timeouts,
    ) -> Upstream {
        let breaker = self.one_breaker(node.get("breaker"), breaker);
        Upstream {
            name: Arc::from(text(node, "name").unwrap_or_default()),
            target: node.get("base_url").and_then(|url| self.target(url)).unwrap_or(Target::Echo),
            api_key: node.get("api_key").and_then(|key| self.secret(key)),
            api_keys: self.api_keys(node),
            forwards_caller_key: text(node, "auth") == Some("forward"),
            model_match: node.get("model_match").map_or(ModelMatch::Any, |node| self.model_match(node)),
            models: pairs(node.get("models")),
            priority: integer(node, "priority").unwrap_or(1),
            fallback: texts(node.get("fallback").filter(|node| !is_false(node))),
            headers: self.headers(node.get("headers")),
            extra_body: node.get("extra_body").map(|body| self.extra_body(body)).unwrap_or_default(),
            stop: texts(node.get("stop")),
            max_tokens: integer(node, "max_tokens"),
            dialect: text(node, "dialect").and_then(Dialect::labelled).unwrap_or_default(),
            has_responses: text(node, "responses") != Some("chat"),
            special_prefix: text(node, "special_prefix").filter(|prefix| !prefix.is_empty()).map(Arc::from),
            thinking_format: text(node, "thinking_format").and_then(thinking).unwrap_or(thinking_default),
            timeouts: read_timeouts(node.get("timeouts"), timeouts),
            hedge: duration(node, "hedge").unwrap_or_default(),
            max_in_flight: integer(node, "max_in_flight").unwrap_or(0),
            is_enabled: flag(node, "enabled").unwrap_or(true),
            is_default: flag(node, "default").unwrap_or(false),
            include_usage: flag(node, "include_usage").unwrap_or(true),
            tls: node.get("tls").map(|tls| self.upstream_tls(tls)).unwrap_or_default(),
            clean: node.get("clean").map(clean).unwrap_or_default(),
            breaker,
            health: node.get("health").and_then(|health| self.health(health, node, &breaker)),
            found_by: None,
        }
    }

    fn target(&mut self, node: &Node) -> Option<Target> {
        let scalar = node.scalar().filter(|url| !url.is_unresolved)?;
        if let Some(builtin) = scalar.text.strip_prefix("builtin:") {
            if builtin != "echo" {
                let message = format!("there is no built-in upstream `{}`", scalar.shown());
                self.error(node.span, message, "did you mean `builtin:echo`?");
            }
            return Some(Target::Echo);
        }
        match values::base_url(&scalar.text) {
            Ok(uri) => Some(Target::Http(uri)),
            Err((fault, help)) => {
                self.error(node.span, format!("`base_url` {fault}"), help);
                None
            }
        }
    }

    fn model_match(&mut self, node: &Node) -> ModelMatch {
        let values = node.get("value");
        let words = texts(values);
        if let Some(values) = values.filter(|_| words.is_empty()) {
            self.error(
                values.span,
                "`value` is empty, so no model would match",
                "remove `model_match` to take every model",
            );
        }
        for item in values.map(Node::items).unwrap_or_default() {
            if item.scalar().is_some_and(|word| !word.is_unresolved && word.text.is_empty()) {
                self.error(
                    item.span,
                    "a model's name must not be empty",
                    "remove `model_match` to take every model",
                );
            }
        }
        match text(node, "type") {
            Some("exact") => ModelMatch::Exact(words),
            Some("prefix") => ModelMatch::Prefix(
                words.iter().map(|word| word.strip_suffix('*').unwrap_or(word).to_owned()).collect(),
            ),
            _ => ModelMatch::Keyword(words),
        }
    }

    fn headers(&mut self, node: Option<&Node>) -> Vec<(HeaderName, HeaderValue)> {
        let entries = node.map(Node::entries).unwrap_or_default();
        entries.iter().filter_map(|(key, value)| self.header(key, value)).collect()
    }

    fn header(&mut self, key: &Key, node: &Node) -> Option<(HeaderName, HeaderValue)> {
        let Ok(name) = HeaderName::from_bytes(key.text.as_bytes()) else {
            let message = format!("`{}` is not a header's name", key.text.escape_default());
            self.error(key.span, message, "names are letters, digits and `-`");
            return None;
        };
        if let Some(help) = reserved_header(name.as_str()) {
            self.error(key.span, format!("the header `{name}` cannot be set here"), help);
            return None;
        }
        let scalar = node.scalar().filter(|value| !value.is_unresolved)?;
        let Ok(mut value) = HeaderValue::from_str(&scalar.text) else {
            self.error(
                node.span,
                format!("the value of `{name}` is not valid in a header"),
                "use printable characters only",
            );
            return None;
        };
        value.set_sensitive(scalar.written.is_some() || is_credential(name.as_str()));
        Some((name, value))
    }

    fn extra_body(&mut self, node: &Node) -> Vec<(String, String)> {
        let Value::Scalar(scalar) = &node.value else {
            let to_text = |(key, node): &(Key, Node)| {
                let mut json = String::new();
                write_json(node, &mut json);
                (key.text.clone(), json)
            };
            return node.entries().iter().map(to_text).collect();
        };
        if scalar.is_unresolved {
            return Vec::new();
        }
        match serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(&scalar.text) {
            Ok(object) => object.into_iter().map(|(key, value)| (key, value.get().to_owned())).collect(),
            Err(_) => {
                let help = "write a mapping, or a JSON object in single quotes";
                self.error(node.span, "`extra_body` is not a JSON object", help);
                Vec::new()
            }
        }
    }

    fn upstream_tls(&mut self, node: &Node) -> UpstreamTls {
        let ca = node.get("ca").and_then(|ca| self.file(ca));
        UpstreamTls { ca, is_insecure: flag(node, "insecure").unwrap_or(false) }
    }

    fn names(&mut self, nodes: &[Node]) {
        let mut lines = HashMap::new();
        for node in nodes {
            let Some(name) = text(node, "name") else { continue };
            let span = node.get("name").map_or(node.span, |name| name.span);
            if name.is_empty() || name.chars().any(char::is_control) || HeaderValue::from_str(name).is_err() {
                self.error(
                    span,
                    "`name` must be printable and not empty",
                    "it is shown in logs, metrics and headers",
                );
            }
            if let Some(first) = lines.get(name) {
                let shown = node.get("name").and_then(Node::scalar).map_or(name, |name| name.shown());
                let help = format!("the first is on line {first}; names are part of the routing hash");
                self.error(span, format!("the upstream `{shown}` is defined twice"), &help);
            } else {
                lines.insert(name, span.line);
            }
        }
    }

    fn defaults(&mut self, nodes: &[Node]) {
        let mut defaults = nodes.iter().filter(|node| flag(node, "default") == Some(true));
        let first = defaults.next().and_then(|node| node.entry("default")).map(|(key, _)| key.span.line);
        for node in defaults {
            if let (Some((key, _)), Some(line)) = (node.entry("default"), first) {
                let help = format!("the first is on line {line}; unknown paths can go to one only");
                self.error(key.span, "two upstreams are `default: true`", &help);
            }
        }
    }

    fn fallbacks(&mut self, nodes: &[Node], upstreams: &[Upstream]) {
        let known = Known::new(upstreams);
        for node in nodes {
            let Some(fallback) = node.get("fallback").filter(|node| !is_false(node)) else { continue };
            for item in fallback.items() {
                let Some(target) = item.scalar().filter(|target| !target.is_unresolved) else { continue };
                if !known.has(&target.text) {
                    let message = format!(
                        "the fallback `{}` is neither a model that an upstream takes nor an upstream",
                        target.shown()
                    );
                    let names = upstreams.iter().map(|upstream| &*upstream.name);
                    match values::nearest(&target.text, names).filter(|_| target.written.is_none()) {
                        Some(name) => {
                            self.error(item.span, message, &format!("did you mean the upstream `{name}`?"))
                        }
                        None => self.error(
                            item.span,
                            message,
                            "write a model's or an upstream's name, or `false`",
                        ),
                    }
                }
            }
        }
    }

    fn error(&mut self, span: Span, message: impl Into<String>, help: &str) {
        self.problems.push(Problem::error(span, message).help(help));
    }
}

/// The upstreams, and the models they take: names in full are looked up, each pattern is held once.
struct Known<'a> {
    names: HashSet<&'a str>,
    patterns: Vec<&'a ModelMatch>,
}

impl<'a> Known<'a> {
    fn new(upstreams: &'a [Upstream]) -> Self {
        let mut known = Self { names: HashSet::new(), patterns: Vec::new() };
        let mut seen = HashSet::new();
        for upstream in upstreams {
            known.names.insert(&upstream.name);
            known.names.extend(upstream.models.iter().map(|(alias, _)| alias.as_str()));
            match &upstream.model_match {
                ModelMatch::Exact(names) => known.names.extend(names.iter().map(String::as_str)),
                pattern => {
                    if seen.insert(pattern) {
                        known.patterns.push(pattern);
                    }
                }
            }
        }
        known
    }

    /// Whether a name in a `fallback` stands for anything.
    fn has(&self, name: &str) -> bool {
        self.names.contains(name) || self.patterns.iter().any(|pattern| pattern.accepts(name))
    }
}

/// The largest file of a secret, in bytes: more is a wrong path.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

fn read_secret(path: &Path, files: &mut Files) -> Result<String, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > SECRET_BYTES_MAX {
        return Err("it is not a small file".to_owned());
    }
    let secret = fs::read_to_string(path).map_err(|error| error.to_string())?;
    files.note(path, Digest::of(secret.as_bytes()));
    if secret.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(secret.trim().to_owned())
}

/// Why a header cannot be configured; none if it can.
///
/// Source: RFC 9110, section 7.6.1 (hop-by-hop fields), and RFC 9112, section 6 (message length).
fn reserved_header(name: &str) -> Option<&'static str> {
    match name {
        "authorization" => Some("write the credential as `api_key`"),
        "host" => Some("it follows from `base_url`"),
        "content-length" | "transfer-encoding" | "content-encoding" => Some("it follows from the body"),
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "te"
        | "trailer"
        | "upgrade" => Some("it belongs to the connection, not to the request"),
        _ => None,
    }
}

fn retry(node: Option<&Node>, defaults: &Retry) -> Retry {
    let Some(node) = node else { return defaults.clone() };
    let backoff = duration(node, "backoff").unwrap_or(defaults.backoff);
    Retry {
        same_upstream: integer(node, "same_upstream").unwrap_or(defaults.same_upstream),
        attempts_max: integer(node, "attempts_max").unwrap_or(defaults.attempts_max),
        hops_max: integer(node, "hops_max").unwrap_or(defaults.hops_max),
        backoff,
        backoff_max: duration(node, "backoff_max").unwrap_or(defaults.backoff_max).max(backoff),
        budget: text(node, "budget")
            .and_then(values::percent)
            .map_or(defaults.budget, |percent| percent / 100.0),
        on: node.get("on").map_or_else(|| defaults.on.clone(), retry_on),
    }
}

fn retry_on(node: &Node) -> RetryOn {
    let words = texts(Some(node));
    let has = |word: &str| words.iter().any(|known| known == word);
    let mut statuses: Vec<u16> = words.iter().filter_map(|word| word.parse().ok()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    RetryOn {
        connect: has("connect"),
        timeout: has("timeout"),
        server_errors: has("5xx"),
        statuses,
        malformed: has("malformed"),
        empty: has("empty"),
    }
}

fn commit(node: &Node) -> Commit {
    let defaults = Commit::default();
    Commit {
        events_max: integer(node, "events_max").unwrap_or(defaults.events_max),
        bytes_max: size(node, "bytes_max").unwrap_or(defaults.bytes_max),
        wait_max: duration(node, "wait_max").unwrap_or(defaults.wait_max),
    }
}

fn read_timeouts(node: Option<&Node>, defaults: &Timeouts) -> Timeouts {
    let Some(node) = node else { return *defaults };
    let first_byte = duration(node, "first_byte");
    let first_token = || first_byte.map_or(defaults.first_token, Timeouts::first_token_after);
    Timeouts {
        connect: duration(node, "connect").unwrap_or(defaults.connect),
        first_byte: first_byte.unwrap_or(defaults.first_byte),
        first_token: duration(node, "first_token").unwrap_or_else(first_token),
        idle: duration(node, "idle").unwrap_or(defaults.idle),
        total: duration(node, "total").unwrap_or(defaults.total),
    }
}

fn clean(node: &Node) -> Clean {
    Clean {
        trim: flag(node, "trim").unwrap_or(false),
        drop_empty: flag(node, "drop_empty").unwrap_or(false),
        merge_user: flag(node, "merge_user").unwrap_or(false),
        strip_think: flag(node, "strip_think").unwrap_or(false),
    }
}

fn thinking(word: &str) -> Option<ThinkingFormat> {
    match word {
        "passthrough" => Some(ThinkingFormat::Passthrough),
        "think_tag" => Some(ThinkingFormat::ThinkTag),
        "reasoning" => Some(ThinkingFormat::Reasoning),
        "reasoning_content" => Some(ThinkingFormat::ReasoningContent),
        "strip" => Some(ThinkingFormat::Strip),
        _ => None,
    }
}

fn text<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    node.get(name)?.scalar().filter(|scalar| !scalar.is_unresolved).map(|scalar| scalar.text.as_str())
}

fn texts(node: Option<&Node>) -> Vec<String> {
    let items = node.map(Node::items).unwrap_or_default();
    let scalars = items.iter().filter_map(Node::scalar).filter(|scalar| !scalar.is_unresolved);
    scalars.map(|scalar| scalar.text.clone()).collect()
}

fn pairs(node: Option<&Node>) -> Vec<(String, String)> {
    let entries = node.map(Node::entries).unwrap_or_default();
    entries.iter().filter_map(|(key, node)| Some((key.text.clone(), node.scalar()?.text.clone()))).collect()
}

fn flag(node: &Node, name: &str) -> Option<bool> {
    match node.get(name)?.scalar()?.plain() {
        Plain::Bool(flag) => Some(flag),
        Plain::Null | Plain::Integer(_) | Plain::Float(_) | Plain::Text => None,
    }
}

fn integer<T: TryFrom<i64>>(node: &Node, name: &str) -> Option<T> {
    match node.get(name)?.scalar()?.plain() {
        Plain::Integer(number) => T::try_from(number).ok(),
        Plain::Null | Plain::Bool(_) | Plain::Float(_) | Plain::Text => None,
    }
}

fn duration(node: &Node, name: &str) -> Option<Duration> {
    text(node, name).and_then(values::duration)
}

fn size(node: &Node, name: &str) -> Option<u64> {
    text(node, name).and_then(values::size)
}

fn is_false(node: &Node) -> bool {
    node.scalar().is_some_and(|scalar| scalar.plain() == Plain::Bool(false))
}

/// Writes a YAML value as JSON text; a number keeps its text where JSON can read that.
fn write_json(node: &Node, json: &mut String) {
    match &node.value {
        Value::List(items) => {
            json.push('[');
            for (index, item) in items.iter().enumerate() {
                json.push_str(if index == 0 { "" } else { "," });
                write_json(item, json);
            }
            json.push(']');
        }
        Value::Mapping(entries) => {
            json.push('{');
            for (index, (key, node)) in entries.iter().enumerate() {
                json.push_str(if index == 0 { "" } else { "," });
                json.push_str(&quoted(&key.text));
                json.push(':');
                write_json(node, json);
            }
            json.push('}');
        }
        Value::Scalar(scalar) => match scalar.plain() {
            Plain::Null => json.push_str("null"),
            Plain::Bool(flag) => json.push_str(if flag { "true" } else { "false" }),
            Plain::Integer(_) | Plain::Float(_) if is_json(&scalar.text) => json.push_str(&scalar.text),
            Plain::Integer(number) => json.push_str(&number.to_string()),
            Plain::Float(number) => json.push_str(&serde_json::Value::from(number).to_string()),
            Plain::Text => json.push_str(&quoted(&scalar.text)),
        },
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}
