//! What a file says of breakers and health checks.

use std::time::Duration;

use super::{Reader, duration, flag, integer, text};
use crate::config::file::{Node, Plain};
use crate::config::secret::Secret;
use crate::config::{Breaker, Health};

/// How often an upstream is checked where the file does not say.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(10);

impl Reader<'_> {
    /// The breaker of every upstream that has none of its own: `breaker`, or the earlier systems' `health_check`.
    pub(super) fn breaker(&mut self, root: &Node, defaults: &Breaker) -> Breaker {
        let (own, legacy) = (root.get("breaker"), root.get("health_check"));
        let Some(legacy) = legacy else { return self.one_breaker(own, defaults) };
        for (name, before) in [
            ("failures", "failure_threshold"),
            ("cooldown", "cooldown_seconds"),
            ("cooldown_max", "max_cooldown_seconds"),
            ("backoff_multiplier", "backoff_multiplier"),
        ] {
            let canonical = own.and_then(|own| own.entry(name));
            let names = [&*format!("breaker.{name}"), &*format!("health_check.{before}")];
            self.alias(names, canonical, legacy.entry(before));
        }
        let seconds = |name| integer(legacy, name).map(Duration::from_secs);
        let mut breaker = Breaker {
            failures: integer(legacy, "failure_threshold").unwrap_or(defaults.failures),
            cooldown: seconds("cooldown_seconds").unwrap_or(defaults.cooldown),
            cooldown_max: seconds("max_cooldown_seconds").unwrap_or(defaults.cooldown_max),
            backoff_multiplier: number(legacy, "backoff_multiplier").unwrap_or(defaults.backoff_multiplier),
        };
        if flag(legacy, "enabled") == Some(false) {
            if let Some((key, _)) = own.and_then(|own| own.entry("failures")) {
                let help = "remove `health_check.enabled`; `failures: 0` says the same";
                self.error(key.span, "`failures` has no effect beside `health_check.enabled: false`", help);
            }
            breaker.failures = 0;
        }
        self.one_breaker(own, &breaker)
    }

    /// One block of `breaker` over what holds without it.
    pub(super) fn one_breaker(&mut self, node: Option<&Node>, defaults: &Breaker) -> Breaker {
        let read = |name| node.and_then(|node| duration(node, name));
        let cooldown = read("cooldown").unwrap_or(defaults.cooldown);
        if let Some(value) = node.and_then(|node| node.get("cooldown")).filter(|_| cooldown.is_zero()) {
            self.error(value.span, "`cooldown` must not be zero", "write `failures: 0` for no breaker");
        }
        Breaker {
            failures: node.and_then(|node| integer(node, "failures")).unwrap_or(defaults.failures),
            cooldown,
            cooldown_max: read("cooldown_max").unwrap_or(defaults.cooldown_max).max(cooldown),
            backoff_multiplier: node
                .and_then(|node| number(node, "backoff_multiplier"))
                .unwrap_or(defaults.backoff_multiplier),
        }
    }

    /// The checks of one upstream.
    pub(super) fn health(&mut self, node: &Node, upstream: &Node, breaker: &Breaker) -> Option<Health> {
        let path = text(node, "path").unwrap_or_default();
        if let Some(value) =
            node.get("path").filter(|value| value.scalar().is_some_and(|path| !path.is_unresolved))
            && !is_path(path)
        {
            self.error(value.span, "`path` is not a path", "write it from the host's root, like `/health`");
        }
        let interval = duration(node, "interval").unwrap_or(INTERVAL_DEFAULT);
        if let Some(value) = node.get("interval").filter(|_| interval.is_zero()) {
            self.error(value.span, "`interval` must not be zero", "remove `health` for no checks");
        }
        if text(upstream, "base_url").is_some_and(|url| url.starts_with("builtin:")) {
            self.error(node.span, "a built-in upstream needs no `health`", "remove it");
        } else if !breaker.is_on() {
            let help = "remove it, or give `breaker.failures` a number above 0";
            self.error(node.span, "`health` has no effect without a breaker", help);
        }
        Some(Health { path: path.to_owned(), interval })
    }

    /// The keys in `api_keys`; one that is empty, as a variable may be, is none.
    pub(super) fn api_keys(&mut self, upstream: &Node) -> Vec<Secret> {
        let Some((key, list)) = upstream.entry("api_keys") else { return Vec::new() };
        if let Some((other, _)) = upstream.entry("api_key") {
            let help = format!("keep `api_keys` on line {} and remove this", key.span.line);
            self.error(other.span, "`api_key` and `api_keys` cannot both be there", &help);
        }
        if list.items().is_empty() {
            self.error(list.span, "`api_keys` is empty", "write at least one key, or remove it");
        }
        let mut keys = Vec::new();
        for item in list.items() {
            let Some(secret) = self.secret(item) else { continue };
            if keys.contains(&secret) {
                self.error(item.span, "a key is there twice", "remove one of them");
            } else {
                keys.push(secret);
            }
        }
        keys
    }
}

/// Whether a text can be the path of a request, with or without a query.
fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains('#') && text.parse::<http::uri::PathAndQuery>().is_ok()
}

fn number(node: &Node, name: &str) -> Option<f64> {
    match node.get(name)?.scalar()?.plain() {
        Plain::Integer(number) => Some(number as f64),
        Plain::Float(number) => Some(number),
        Plain::Null | Plain::Bool(_) | Plain::Text => None,
    }
}
