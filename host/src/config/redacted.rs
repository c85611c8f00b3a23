//! The effective configuration as JSON, without its secrets.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::config::{
    Audit, Config, ErrorCompat, Glob, Jwt, Key, LimitBy, Limits, ModelMatch, Networks, OnFault, Origin,
    Plugin, Price, PriorityMode, Quota, Rate, RetryOn, Spend, Target, ThinkingFormat, Upstream,
};

/// The most keys that are shown.
const KEYS_SHOWN_MAX: usize = 1000;

impl Config {
    /// The effective configuration by the keys of the file; secrets are `***`, durations are in milliseconds.
    pub fn redacted(&self) -> Value {
        let server = &self.server;
        json!({
            "origin": match &self.origin {
                Origin::File(path) => path.display().to_string(),
                Origin::Embedded => "embedded".to_owned(),
            },
            "server": {
                "listen": server.listen.to_string(),
                "admin": server.admin.to_string(),
                "admin_token": server.admin_token.as_ref().map(|_| "***"),
                "admin_hosts": server.admin_hosts,
                "request_body_max": server.request_body_max,
                "header_timeout_ms": milliseconds(server.header_timeout),
                "shutdown_grace_ms": milliseconds(server.shutdown_grace),
                "tls": server.tls.as_ref().map(|tls| json!({ "cert": tls.cert, "key": tls.key })),
                "connections_max": server.connections_max,
                "trusted_proxies": networks(&server.trusted_proxies),
                "proxy_protocol": server.proxy_protocol,
                "allow_ips": networks(&server.allow_ips),
                "buffered_bytes_max": server.buffered_bytes_max,
                "keepalive_ms": milliseconds(server.keepalive),
                "keepalive_early": server.keepalive_early,
                "cors": { "origins": server.cors_origins },
                "compress": server.compress,
                "upstream_header": server.upstream_header,
                "metrics_on_main": server.metrics_on_main,
                "cache_dir": server.cache_dir,
                "key_secret": self.keys.as_ref().and_then(|keys| keys.secret.as_ref()).map(|_| "***"),
            },
            "upstreams": self.upstreams.iter().map(upstream).collect::<Vec<_>>(),
            "plugins": self.plugins.iter().map(plugin).collect::<Vec<_>>(),
            "routing": {
                "strategy": self.routing.strategy.name(),
                "priority_mode": match self.routing.priority_mode {
                    PriorityMode::Weight => "weight",
                    PriorityMode::Rank => "rank",
                },
            },
            "retry": {
                "same_upstream": self.retry.same_upstream,
                "attempts_max": self.retry.attempts_max,
                "hops_max": self.retry.hops_max,
                "backoff_ms": milliseconds(self.retry.backoff),
                "backoff_max_ms": milliseconds(self.retry.backoff_max),
                "budget": self.retry.budget,
                "on": failures(&self.retry.on),
            },
            "commit": {
                "events_max": self.commit.events_max,
                "bytes_max": self.commit.bytes_max,
                "wait_max_ms": milliseconds(self.commit.wait_max),
            },
            "models_cache": { "ttl_ms": milliseconds(self.models_cache_ttl) },
            "effort_budgets": {
                "low": self.effort_budgets.low,
                "medium": self.effort_budgets.medium,
                "high": self.effort_budgets.high,
            },
            "error_compat": match self.error_compat {
                ErrorCompat::OpenAi => "openai",
                ErrorCompat::GptApi => "gpt_api",
            },
            "keys": self.keys.iter().flat_map(|keys| keys.all.iter().take(KEYS_SHOWN_MAX)).map(key).collect::<Vec<_>>(),
            "keys_count": self.keys.as_ref().map_or(0, |keys| keys.all.len()),
            "keys_file": self.keys.as_ref().and_then(|keys| keys.file.as_ref()),
            "jwt": self.jwt.as_ref().map(jwt),
            "state": self.state.shown(),
            "limits": limits(&self.limits),
            "tenants": self.tenants.iter().map(|tenant| json!({ "name": &*tenant.name, "upstreams": names(&tenant.upstreams), "limits": quota(&tenant.quota) })).collect::<Vec<_>>(),
            "prices": self.prices.iter().map(price).collect::<serde_json::Map<_, _>>(),
            "audit": audit(&self.audit),
            "log": {
                "format": self.log.format.name(),
                "access": self.log.is_access,
                "access_format": self.log.access_format.name(),
                "dir": self.log.dir,
                "size_max": self.log.size_max,
                "keep": {
                    "info": self.log.keep.info,
                    "error": self.log.keep.error,
                    "system": self.log.keep.system,
                },
            },
            "metrics": { "compat": self.metrics.is_compat },
            "otlp": {
                "endpoint": self.otlp.endpoint.as_ref().map(ToString::to_string),
                "headers": self.otlp.headers.iter().map(header).collect::<serde_json::Map<_, _>>(),
                "sample": self.otlp.sample,
            },
        })
    }
}

fn networks(networks: &Networks) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}

fn names(names: &[Arc<str>]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

fn key(key: &Key) -> Value {
    let account = &key.account;
    let expires =
        account.expires.and_then(|end| end.duration_since(UNIX_EPOCH).ok()).map(|end| end.as_secs());
    json!({
        "name": &*account.name,
        "hash": "***",
        "tenant": account.tenant.as_deref(),
        "models": account.models.iter().map(Glob::as_str).collect::<Vec<_>>(),
        "endpoints": account.endpoints.iter().map(|endpoint| endpoint.label()).collect::<Vec<_>>(),
        "upstreams": names(&account.upstreams),
        "passthrough": account.may_pass_through,
        "expires_unix_s": expires,
        "allow_ips": account.allow_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "limits": account.quota.as_ref().map(quota),
    })
}

fn jwt(jwt: &Jwt) -> Value {
    json!({
        "issuer": jwt.issuer,
        "audience": jwt.audiences,
        "secret": jwt.jwks.is_none().then_some("***"),
        "jwks": jwt.jwks,
        "claims": { "caller": jwt.claims.caller, "tenant": jwt.claims.tenant, "models": jwt.claims.models },
        "leeway_ms": milliseconds(jwt.leeway),
    })
}

fn limits(limits: &Limits) -> Value {
    let mut value = quota(&limits.each);
    value["total"] = quota(&limits.total);
    value["queue"] = json!(limits.queue);
    value["queue_timeout_ms"] = json!(milliseconds(limits.queue_timeout));
    value["by"] = match &limits.by {
        LimitBy::Key => json!("key"),
        LimitBy::Tenant => json!("tenant"),
        LimitBy::Ip => json!("ip"),
        LimitBy::Header(name) => json!(format!("header:{name}")),
    };
    value
}

/// What one party may use.
pub(crate) fn quota(quota: &Quota) -> Value {
    let rate = |rate: Option<Rate>| {
        rate.map(|rate| json!({ "count": rate.count, "window_ms": milliseconds(rate.window) }))
    };
    let spend = |spend: Spend| json!({ "tokens": spend.tokens, "money": spend.money.map(|money| money as f64 / 1e6) });
    json!({
        "requests": rate(quota.requests),
        "tokens": rate(quota.tokens),
        "in_flight": quota.in_flight,
        "budget": { "day": spend(quota.day), "month": spend(quota.month) },
    })
}

fn price(price: &Price) -> (String, Value) {
    let million = |token: u64| token as f64 / 1e3;
    let prices = json!({
        "input": million(price.input),
        "cached": million(price.cached),
        "output": million(price.output),
        "reasoning": million(price.reasoning),
    });
    (price.models.as_str().to_owned(), prices)
}

fn audit(audit: &Audit) -> Value {
    json!({
        "enabled": audit.is_enabled,
        "path": audit.path,
        "bodies": if audit.keeps_bodies { "full" } else { "none" },
        "body_max": audit.body_max,
        "queue": audit.queue,
        "queue_bytes": audit.queue_bytes,
        "on_full": audit.on_full.name(),
        "rotate": audit.rotate.name(),
        "retention_ms": milliseconds(audit.retention),
        "size_max": audit.size_max,
        "redact": audit.redact.iter().map(http::HeaderName::as_str).collect::<Vec<_>>(),
        "postgres": audit.postgres.as_ref().map(ToString::to_string),
    })
}

/// A header as it may be shown.
fn header((name, value): &(http::HeaderName, http::HeaderValue)) -> (String, Value) {
    // A value from the environment or under a credential's name was marked when it was read.
    let shown = if value.is_sensitive() { "***" } else { value.to_str().unwrap_or("***") };
    (name.as_str().to_owned(), shown.into())
}

fn upstream(upstream: &Upstream) -> Value {
    json!({
        "name": &*upstream.name,
        "found_by": upstream.found_by,
        "base_url": match &upstream.target {
            Target::Http(uri) => uri.to_string(),
            Target::Echo => "builtin:echo".to_owned(),
        },
        "api_key": upstream.api_key.as_ref().map(|_| "***"),
        "api_keys": vec!["***"; upstream.api_keys.len()],
        "auth": if upstream.forwards_caller_key { "forward" } else { "own" },
        "model_match": model_match(&upstream.model_match),
        "models": upstream.models.iter().map(|(from, to)| (from.clone(), to.as_str().into())).collect::<serde_json::Map<_, _>>(),
        "priority": upstream.priority,
        "fallback": upstream.fallback,
        "headers": upstream.headers.iter().map(header).collect::<serde_json::Map<_, _>>(),
        "extra_body": upstream.extra_body.iter().map(|(key, text)| (key.clone(), parsed(text))).collect::<serde_json::Map<_, _>>(),
        "stop": upstream.stop,
        "max_tokens": upstream.max_tokens,
        "special_prefix": upstream.special_prefix.as_deref(),
        "thinking_format": thinking_format(upstream.thinking_format),
        "timeouts": {
            "connect_ms": milliseconds(upstream.timeouts.connect),
            "first_byte_ms": milliseconds(upstream.timeouts.first_byte),
            "first_token_ms": milliseconds(upstream.timeouts.first_token),
            "idle_ms": milliseconds(upstream.timeouts.idle),
            "total_ms": milliseconds(upstream.timeouts.total),
        },
        "hedge_ms": milliseconds(upstream.hedge),
        "max_in_flight": upstream.max_in_flight,
        "enabled": upstream.is_enabled,
        "default": upstream.is_default,
        "include_usage": upstream.include_usage,
        "dialect": upstream.dialect.label(),
        "responses": if upstream.has_responses { "native" } else { "chat" },
        "tls": { "ca": upstream.tls.ca, "insecure": upstream.tls.is_insecure },
        "clean": {
            "trim": upstream.clean.trim,
            "drop_empty": upstream.clean.drop_empty,
            "merge_user": upstream.clean.merge_user,
            "strip_think": upstream.clean.strip_think,
        },
        "breaker": {
            "failures": upstream.breaker.failures,
            "cooldown_ms": milliseconds(upstream.breaker.cooldown),
            "cooldown_max_ms": milliseconds(upstream.breaker.cooldown_max),
            "backoff_multiplier": upstream.breaker.backoff_multiplier,
        },
        "health": upstream.health.as_ref().map(|health| json!({
            "path": health.path,
            "interval_ms": milliseconds(health.interval),
        })),
    })
}

fn plugin(plugin: &Plugin) -> Value {
    let Plugin { matching, limits, reuse, allow, .. } = plugin;
    let globs = |globs: &[Glob]| globs.iter().map(|glob| glob.as_str().to_owned()).collect::<Vec<_>>();
    let digest = |digest: [u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    json!({
        "name": &*plugin.name,
        "source": plugin.source.to_string(),
        "sha256": plugin.sha256.map(digest),
        "config": parsed(plugin.config.shown()),
        "match": {
            "models": globs(&matching.models),
            "endpoints": matching.endpoints.iter().map(|endpoint| endpoint.label()).collect::<Vec<_>>(),
            "keys": globs(&matching.keys),
            "streaming": matching.streaming.name(),
        },
        "on_fault": on_fault(&plugin.on_fault),
        "required": plugin.required,
        "limits": {
            "memory": limits.memory,
            "call_timeout_ms": milliseconds(limits.call_timeout),
            "wait_timeout_ms": milliseconds(limits.wait_timeout),
            "init_timeout_ms": milliseconds(limits.init_timeout),
            "instances_max": limits.instances_max,
            "artifact_max": limits.artifact_max,
        },
        "instance": {
            "reuse": {
                "uses_max": reuse.uses_max,
                "memory_max": reuse.memory_max,
                "scope": reuse.scope.name(),
            },
        },
        "allow": {
            "http": allow.http,
            "env": allow.env.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            "kv": allow.kv,
            "secrets": allow.secrets.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            "metrics": allow.metrics,
            "audit_bodies": allow.audit_bodies,
            "credentials": allow.credentials,
        },
    })
}

fn on_fault(on_fault: &OnFault) -> Value {
    let policies = std::iter::once(("default", on_fault.default))
        .chain(on_fault.hooks.iter().map(|(hook, policy)| (hook.as_str(), *policy)));
    policies
        .map(|(hook, policy)| (hook.to_owned(), policy.name().into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn model_match(model_match: &ModelMatch) -> Value {
    match model_match {
        ModelMatch::Exact(models) => json!({ "type": "exact", "value": models }),
        ModelMatch::Keyword(words) => json!({ "type": "keyword", "value": words }),
        ModelMatch::Prefix(prefixes) => json!({ "type": "prefix", "value": prefixes }),
        ModelMatch::Any => Value::Null,
    }
}

fn thinking_format(format: ThinkingFormat) -> &'static str {
    match format {
        ThinkingFormat::Passthrough => "passthrough",
        ThinkingFormat::ThinkTag => "think_tag",
        ThinkingFormat::Reasoning => "reasoning",
        ThinkingFormat::ReasoningContent => "reasoning_content",
        ThinkingFormat::Strip => "strip",
    }
}

fn failures(on: &RetryOn) -> Vec<Value> {
    let words = [
        (on.connect, "connect"),
        (on.timeout, "timeout"),
        (on.server_errors, "5xx"),
        (on.empty, "empty"),
        (on.malformed, "malformed"),
    ];
    let words = words.into_iter().filter(|(is_on, _)| *is_on).map(|(_, word)| word.into());
    words.chain(on.statuses.iter().map(|&status| status.into())).collect()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
