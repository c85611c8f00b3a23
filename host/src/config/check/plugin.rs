//! The `plugins` of a file.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Reader, duration, flag, has_password, integer, size, text, texts, values, write_json};
use crate::builtin;
use crate::config::diagnostic::{self, Problem, SECRET_KEYS};
use crate::config::file::{Key, Node, Plain, Scalar, Span, Value};
use crate::config::secret::{Secret, is_credential};
use crate::config::{
    Allow, FaultPolicy, Glob, HOOKS, OnFault, Plugin, PluginConfig, PluginLimits, PluginMatch, PluginSource,
    Reuse, ReuseScope, Streaming,
};
use crate::wire::Endpoint;

/// The longest name of a plugin; it is a part of metrics' names.
const NAME_BYTES_MAX: usize = 64;

impl Reader<'_> {
    pub(super) fn plugins(&mut self, list: Option<&Node>) -> Vec<Plugin> {
        let Some(Value::List(nodes)) = list.map(|list| &list.value) else { return Vec::new() };
        self.plugin_names(nodes);
        nodes.iter().map(|node| self.plugin(node)).collect()
    }

    fn plugin(&mut self, node: &Node) -> Plugin {
        let nowhere = || PluginSource::Builtin(String::new());
        let source = node.get("source").and_then(|source| self.plugin_source(source)).unwrap_or_else(nowhere);
        let limits = node.get("limits").map(|limits| self.plugin_limits(limits)).unwrap_or_default();
        self.artifact(node, &source, &limits);
        let plugin = Plugin {
            sha256: node.get("sha256").and_then(|digest| self.sha256(digest)),
            config: node.get("config").map(plugin_config).unwrap_or_default(),
            matching: node.get("match").map(|matching| self.plugin_match(matching)).unwrap_or_default(),
            on_fault: node.get("on_fault").map(on_fault).unwrap_or_default(),
            required: flag(node, "required").unwrap_or(false),
            limits,
            reuse: node
                .get("instance")
                .and_then(|instance| instance.get("reuse"))
                .map(|reuse| self.reuse(reuse))
                .unwrap_or_default(),
            allow: node.get("allow").map(|allow| self.allow(allow)).unwrap_or_default(),
            ..Plugin::new(text(node, "name").unwrap_or_default(), source)
        };
        self.required(node, &plugin);
        plugin
    }

    fn plugin_names(&mut self, nodes: &[Node]) {
        let mut lines = HashMap::new();
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        for (node, name) in nodes.iter().filter_map(|node| Some((node.get("name")?, text(node, "name")?))) {
            let shown = node.scalar().map_or(name, Scalar::shown).escape_debug();
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_plain) {
                let message = format!(
                    "the name of a plugin must be 1 to {NAME_BYTES_MAX} lowercase letters, digits and `-`, not `{shown}`"
                );
                self.error(node.span, message, "write it like `hide-thinking`; metrics are named after it");
            }
            if let Some(first) = lines.get(name) {
                let help = format!("the first is on line {first}; give this one another name");
                self.error(node.span, format!("the plugin `{shown}` is defined twice"), &help);
            } else {
                lines.insert(name, node.span.line);
            }
        }
    }

    fn plugin_source(&mut self, node: &Node) -> Option<PluginSource> {
        let scalar = node.scalar().filter(|source| !source.is_unresolved)?;
        let Some(name) = scalar.text.strip_prefix("builtin:") else {
            return self.file(node).map(PluginSource::File);
        };
        if builtin::component(name).is_none() {
            let message = format!("there is no built-in plugin `{}`", scalar.shown());
            let help = match values::nearest(name, builtin::names()) {
                Some(near) if scalar.written.is_none() => format!("did you mean `builtin:{near}`?"),
                _ => format!("known are {}", listed(builtin::names().map(|name| format!("builtin:{name}")))),
            };
            self.error(node.span, message, &help);
        }
        Some(PluginSource::Builtin(name.to_owned()))
    }

    /// Reports a file that would not be loaded for its size.
    fn artifact(&mut self, node: &Node, source: &PluginSource, limits: &PluginLimits) {
        let PluginSource::File(path) = source else { return };
        let bytes = path.metadata().map_or(0, |metadata| metadata.len());
        if let Some(source) = node.get("source").filter(|_| bytes > limits.artifact_max) {
            let message = format!(
                "the file has {bytes} bytes, more than `limits.artifact_max`, {}",
                shown_size(limits.artifact_max)
            );
            self.error(source.span, message, "raise that if the file is what you meant");
        }
    }

    fn sha256(&mut self, node: &Node) -> Option<[u8; 32]> {
        let scalar = node.scalar().filter(|digest| !digest.is_unresolved)?;
        let digest = digest(&scalar.text);
        if digest.is_none() {
            self.error(node.span, "`sha256` must be 64 hexadecimal digits", "`sha256sum FILE` prints them");
        }
        digest
    }

    fn plugin_match(&mut self, node: &Node) -> PluginMatch {
        let globs = |name| texts(node.get(name)).into_iter().map(Glob::new).collect();
        let endpoints = node.get("endpoints").map(Node::items).unwrap_or_default();
        PluginMatch {
            models: globs("models"),
            keys: globs("keys"),
            endpoints: endpoints.iter().filter_map(|item| self.endpoint(item)).collect(),
            streaming: match text(node, "streaming") {
                Some("only") => Streaming::Only,
                Some("never") => Streaming::Never,
                _ => Streaming::Any,
            },
        }
    }

    pub(super) fn endpoint(&mut self, node: &Node) -> Option<Endpoint> {
        let scalar = node.scalar().filter(|label| !label.is_unresolved)?;
        // What plugins are told is the endpoint's name; the label is what the audit of the earlier systems said.
        let label = if scalar.text == "completions" { Endpoint::Completions.label() } else { &scalar.text };
        let endpoint = Endpoint::ALL.into_iter().find(|endpoint| endpoint.label() == label);
        if endpoint.is_none() {
            let labels = || Endpoint::ALL.into_iter().map(Endpoint::label);
            let help = match values::nearest(label, labels()) {
                Some(near) if scalar.written.is_none() => format!("did you mean `{near}`?"),
                _ => format!("known are {}", listed(labels())),
            };
            let message = format!("`{}` is not an endpoint", scalar.shown().escape_debug());
            self.error(node.span, message, &help);
        }
        endpoint
    }

    /// Reports that a plugin may be left out though it must not.
    fn required(&mut self, node: &Node, plugin: &Plugin) {
        if let Some((key, _)) =
            node.entry("required").filter(|_| plugin.required && plugin.on_fault.skips_any())
        {
            let help =
                "after a fault the exchange would go on without the plugin: remove `required` or the `skip`";
            self.error(key.span, "`required: true` and `skip` in `on_fault` contradict each other", help);
        }
    }

    fn plugin_limits(&mut self, node: &Node) -> PluginLimits {
        let usual = PluginLimits::default();
        let mut timeout = |name, usual| {
            let value = duration(node, name).unwrap_or(usual);
            self.within(node, name, value, &PluginLimits::TIMEOUT, |bound| shown_duration(*bound))
        };
        let call_timeout = timeout("call_timeout", usual.call_timeout);
        let wait_timeout = timeout("wait_timeout", usual.wait_timeout);
        let init_timeout = timeout("init_timeout", usual.init_timeout);
        PluginLimits {
            memory: self.size_within(node, "memory", usual.memory, &PluginLimits::MEMORY),
            call_timeout,
            wait_timeout,
            init_timeout,
            instances_max: integer(node, "instances_max").unwrap_or(usual.instances_max),
            artifact_max: self.size_within(node, "artifact_max", usual.artifact_max, &PluginLimits::ARTIFACT),
        }
    }

    fn reuse(&mut self, node: &Node) -> Reuse {
        let usual = Reuse::default();
        Reuse {
            uses_max: integer(node, "uses_max").unwrap_or(usual.uses_max),
            memory_max: self.size_within(node, "memory_max", usual.memory_max, &PluginLimits::MEMORY),
            scope: match text(node, "scope") {
                Some("any") => ReuseScope::Any,
                _ => ReuseScope::Tenant,
            },
        }
    }

    fn allow(&mut self, node: &Node) -> Allow {
        Allow {
            http: self.plugin_origins(node.get("http")),
            env: self.variables(node.get("env")),
            kv: self.size_within(node, "kv", 0, &(0..=Allow::KV_MAX)),
            secrets: self.secrets(node.get("secrets")),
            metrics: integer(node, "metrics").unwrap_or(0),
            audit_bodies: flag(node, "audit_bodies").unwrap_or(false),
            credentials: flag(node, "credentials").unwrap_or(false),
        }
    }

    fn plugin_origins(&mut self, node: Option<&Node>) -> Vec<String> {
        for item in node.map(Node::items).unwrap_or_default() {
            let Some(origin) = item.scalar().filter(|origin| !origin.is_unresolved) else { continue };
            if let Err((fault, help)) = values::origin(&origin.text) {
                let message = format!("the origin `{}` {fault}", origin.shown().escape_debug());
                self.error(item.span, message, help);
            }
        }
        texts(node)
    }

    /// The variables a plugin sees: those of the environment that are named, or names and values.
    fn variables(&mut self, node: Option<&Node>) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        for (key, value) in node.map(Node::entries).unwrap_or_default() {
            if key.text.is_empty() || key.text.contains(['=', '\0']) {
                self.error(key.span, "this is not a variable's name", "write it like `REGION`");
            }
            if let Some(value) = value.scalar() {
                variables.push((key.text.clone(), value.text.clone()));
            }
        }
        for (name, span) in names(node) {
            if let Some(value) = self.variable(name, span, "allow.env") {
                variables.push((name.to_owned(), value.to_owned()));
            }
        }
        variables
    }

    fn secrets(&mut self, node: Option<&Node>) -> Vec<(String, Secret)> {
        let mut secrets = Vec::new();
        for (key, value) in node.map(Node::entries).unwrap_or_default() {
            if let Some(secret) = self.plugin_secret(key, value) {
                secrets.push((key.text.clone(), Secret::new(secret)));
            }
        }
        for (name, span) in names(node) {
            if let Some(secret) = self.variable(name, span, "allow.secrets") {
                secrets.push((name.to_owned(), Secret::new(secret)));
            }
        }
        secrets
    }

    fn plugin_secret(&mut self, key: &Key, value: &Node) -> Option<String> {
        let secret = self.secret_text(value)?;
        if secret.is_empty() {
            let message = format!("the secret `{}` is empty", key.text.escape_debug());
            self.error(value.span, message, "give it a value, or remove it");
        }
        Some(secret)
    }

    /// The value of a variable of the environment, which must be set.
    fn variable(&mut self, name: &str, span: Span, list: &str) -> Option<&str> {
        let value = self.environment.get(name);
        if value.is_none() {
            let message = format!("the environment variable `{}` is not set", name.escape_debug());
            self.error(span, message, &format!("set it, or take it out of `{list}`"));
        }
        value
    }

    fn size_within(&mut self, node: &Node, name: &str, usual: u64, range: &RangeInclusive<u64>) -> u64 {
        let value = size(node, name).unwrap_or(usual);
        self.within(node, name, value, range, |bound| shown_size(*bound))
    }

    /// Reports a value that is out of its range, and returns it all the same.
    fn within<T: PartialOrd, S: Display>(
        &mut self,
        node: &Node,
        name: &str,
        value: T,
        range: &RangeInclusive<T>,
        shown: impl Fn(&T) -> S,
    ) -> T {
        if let Some((node, scalar)) = node.get(name).and_then(|node| Some((node, node.scalar()?)))
            && !range.contains(&value)
        {
            let (from, to) = (shown(range.start()), shown(range.end()));
            let message =
                format!("`{name}` must be from {from} to {to}, not `{}`", scalar.shown().escape_debug());
            self.problems.push(Problem::error(node.span, message));
        }
        value
    }
}

/// The names of a list; none of a mapping.
fn names(node: Option<&Node>) -> impl Iterator<Item = (&str, Span)> {
    let items = node.map(Node::items).unwrap_or_default();
    items.iter().filter_map(|item| {
        let scalar = item.scalar().filter(|name| !name.is_unresolved)?;
        Some((scalar.text.as_str(), item.span))
    })
}

fn on_fault(node: &Node) -> OnFault {
    let policy = |word: &str| if word == "skip" { FaultPolicy::Skip } else { FaultPolicy::Reject };
    if let Some(word) = node.scalar() {
        return OnFault { default: policy(&word.text), hooks: Vec::new() };
    }
    let of_hook = |hook: &&str| Some(((*hook).to_owned(), policy(text(node, hook)?)));
    OnFault {
        default: text(node, "default").map_or(FaultPolicy::Reject, policy),
        hooks: HOOKS.iter().filter_map(of_hook).collect(),
    }
}

fn plugin_config(node: &Node) -> PluginConfig {
    let (mut json, mut shown) = (String::new(), String::new());
    write_json(node, &mut json);
    write_json(&masked(node, false), &mut shown);
    PluginConfig::new(json, shown)
}

/// Finds what must not be shown of a plugin's configuration as it stands in the file.
pub(super) fn hide_secrets(node: &Node, is_secret: bool, hidden: &mut Vec<Span>) {
    match &node.value {
        Value::Scalar(scalar) => {
            let is_hidden = is_hidden(scalar, is_secret) && !diagnostic::is_reference(&scalar.text);
            hidden.extend(is_hidden.then_some(node.span));
        }
        Value::List(items) => items.iter().for_each(|item| hide_secrets(item, is_secret, hidden)),
        Value::Mapping(entries) => {
            for (key, node) in entries {
                hide_secrets(node, is_secret || names_secret(&key.text), hidden);
            }
        }
    }
}

/// What may be shown of a plugin's configuration: without what came from the environment, passwords in URLs, and texts
/// under names that are those of secrets. Only the plugin knows what else is one.
fn masked(node: &Node, is_secret: bool) -> Node {
    let value = match &node.value {
        Value::Scalar(scalar) if is_hidden(scalar, is_secret) => {
            let text = "***".to_owned();
            Value::Scalar(Scalar { text, written: None, is_quoted: true, is_unresolved: false })
        }
        Value::Scalar(scalar) => Value::Scalar(scalar.clone()),
        Value::List(items) => Value::List(items.iter().map(|item| masked(item, is_secret)).collect()),
        Value::Mapping(entries) => {
            let entry =
                |(key, node): &(Key, Node)| (key.clone(), masked(node, is_secret || names_secret(&key.text)));
            Value::Mapping(entries.iter().map(entry).collect())
        }
    };
    Node { span: node.span, value }
}

fn is_hidden(scalar: &Scalar, is_secret: bool) -> bool {
    scalar.written.is_some() || has_password(&scalar.text) || (is_secret && scalar.plain() == Plain::Text)
}

fn names_secret(key: &str) -> bool {
    const WORDS: &[&str] = &["secret", "token", "password", "passphrase", "apikey", "credential", "private"];
    let lower = key.to_ascii_lowercase();
    SECRET_KEYS.contains(&&*lower) || is_credential(&lower) || WORDS.iter().any(|word| lower.contains(word))
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

fn shown_size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn shown_duration(duration: Duration) -> String {
    match duration.as_millis() {
        milliseconds if milliseconds % 3_600_000 == 0 => format!("{}h", milliseconds / 3_600_000),
        milliseconds => format!("{milliseconds}ms"),
    }
}

fn listed(names: impl Iterator<Item = impl Display>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
