//! Every key a file may have, as data, and the walk that holds a file against it.
//!
//! A word whose feature has not landed is refused as such, and not as one that nobody knows.

use crate::config::check::values;
use crate::config::diagnostic::Problem;
use crate::config::file::{Key, Node, Plain, Scalar, Span, Value};
use crate::config::state;

/// One key of a mapping.
struct Field {
    name: &'static str,
    shape: Shape,
    state: State,
}

/// Whether a key does something.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Optional,
    Required,
    Ignored,
}

/// What a value must look like.
enum Shape {
    Bool,
    Integer(i64, i64),
    Number(f64, f64),
    Text,
    Texts,
    /// A name, a list of names, or `false`.
    Fallback,
    Duration,
    /// Whole seconds without a unit, as the earlier systems wrote them.
    Seconds,
    Size,
    Percent,
    Rate,
    Address,
    /// One of these words.
    OneOf(&'static [&'static str]),
    Mapping(&'static [Field]),
    List(&'static [Field]),
    /// Text values under names of the operator's choice.
    TextMap,
    /// Mappings under names of the operator's choice.
    Each(&'static [Field]),
    /// A list of names, or text values under names.
    Variables,
    /// `reject` or `skip`, or a mapping of hooks to these.
    Faults,
    /// A mapping, or text holding a JSON object.
    JsonObject,
    /// Items of `retry.on`.
    Failures,
    /// `memory`, or the URL of a Redis server.
    State,
    Anything,
}

const fn key(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, state: State::Optional }
}

const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, state: State::Required }
}

const fn ignored(name: &'static str) -> Field {
    Field { name, shape: Shape::Anything, state: State::Ignored }
}

const COUNT: Shape = Shape::Integer(0, 1_000_000_000_000);
const SMALL: Shape = Shape::Integer(0, 1_000_000);
const ROTATED: Shape = Shape::OneOf(&["monthly", "daily", "never"]);

/// The whole file.
const ROOT: &[Field] = &[
    key("server", Shape::Mapping(SERVER)),
    key("upstreams", Shape::List(UPSTREAM)),
    key("openai_clients", Shape::List(UPSTREAM)),
    key("plugins", Shape::List(PLUGIN)),
    key("routing", Shape::Mapping(ROUTING)),
    key("load_balancing", Shape::Mapping(LOAD_BALANCING)),
    key("retry", Shape::Mapping(RETRY)),
    key("models_cache", Shape::Mapping(MODELS_CACHE)),
    key("error_compat", Shape::OneOf(&["openai", "gpt_api"])),
    key("effort_budgets", Shape::Mapping(EFFORT_BUDGETS)),
    key("thinking_format", THINKING),
    key("log", Shape::Mapping(LOG)),
    key("state", Shape::State),
    key("commit", Shape::Mapping(COMMIT)),
    key("keys", Shape::List(KEY)),
    key("keys_file", Shape::Text),
    key("limits", Shape::Mapping(LIMITS)),
    key("tenants", Shape::List(TENANT)),
    key("audit", Shape::Mapping(AUDIT)),
    key("breaker", Shape::Mapping(BREAKER)),
    key("health_check", Shape::Mapping(HEALTH_CHECK)),
    key("metrics", Shape::Mapping(METRICS)),
    key("otlp", Shape::Mapping(OTLP)),
    key("jwt", Shape::Mapping(JWT)),
    key("prices", Shape::Each(PRICE)),
    ignored("check_config"),
    ignored("performance_test"),
];

const SERVER: &[Field] = &[
    key("listen", Shape::Address),
    key("admin", Shape::Address),
    key("admin_token", Shape::Text),
    key("admin_hosts", Shape::Texts),
    key("request_body_max", Shape::Size),
    key("header_timeout", Shape::Duration),
    key("shutdown_grace", Shape::Duration),
    key("tls", Shape::Mapping(SERVER_TLS)),
    key("connections_max", Shape::Integer(1, 10_000_000)),
    key("buffered_bytes_max", Shape::Size),
    key("keepalive", Shape::Duration),
    key("keepalive_early", Shape::Bool),
    key("cors", Shape::Mapping(CORS)),
    key("compress", Shape::Bool),
    key("upstream_header", Shape::Bool),
    key("cache_dir", Shape::Text),
    key("trusted_proxies", Shape::Texts),
    key("key_secret", Shape::Text),
    key("metrics_on_main", Shape::Bool),
    key("allow_ips", Shape::Texts),
    key("proxy_protocol", Shape::Bool),
];

const SERVER_TLS: &[Field] = &[required("cert", Shape::Text), required("key", Shape::Text)];
const CORS: &[Field] = &[key("origins", Shape::Texts)];

const UPSTREAM: &[Field] = &[
    required("name", Shape::Text),
    required("base_url", Shape::Text),
    key("dialect", Shape::OneOf(&["openai", "anthropic", "gemini"])),
    key("responses", Shape::OneOf(&["native", "chat"])),
    key("api_key", Shape::Text),
    key("auth", Shape::OneOf(&["own", "forward"])),
    key("model_match", Shape::Mapping(MODEL_MATCH)),
    key("models", Shape::TextMap),
    key("priority", SMALL),
    key("fallback", Shape::Fallback),
    key("headers", Shape::TextMap),
    key("extra_body", Shape::JsonObject),
    key("stop", Shape::Texts),
    key("max_tokens", Shape::Integer(1, 1_000_000_000)),
    key("special_prefix", Shape::Text),
    key("thinking_format", THINKING),
    key("timeouts", Shape::Mapping(TIMEOUTS)),
    key("max_in_flight", SMALL),
    key("enabled", Shape::Bool),
    key("default", Shape::Bool),
    key("include_usage", Shape::Bool),
    key("tls", Shape::Mapping(UPSTREAM_TLS)),
    key("clean", Shape::Mapping(CLEAN)),
    key("api_keys", Shape::Texts),
    key("breaker", Shape::Mapping(BREAKER)),
    key("health", Shape::Mapping(HEALTH)),
    key("hedge", Shape::Duration),
];

const THINKING: Shape =
    Shape::OneOf(&["passthrough", "think_tag", "reasoning", "reasoning_content", "strip"]);

const EFFORT_BUDGETS: &[Field] = &[key("low", EFFORT), key("medium", EFFORT), key("high", EFFORT)];
const EFFORT: Shape = Shape::Integer(1, 1_000_000);

const MODEL_MATCH: &[Field] =
    &[key("type", Shape::OneOf(&["keyword", "exact", "prefix"])), required("value", Shape::Texts)];

const TIMEOUTS: &[Field] = &[
    key("connect", Shape::Duration),
    key("first_byte", Shape::Duration),
    key("first_token", Shape::Duration),
    key("idle", Shape::Duration),
    key("total", Shape::Duration),
];

const UPSTREAM_TLS: &[Field] = &[key("ca", Shape::Text), key("insecure", Shape::Bool)];

const CLEAN: &[Field] = &[
    key("trim", Shape::Bool),
    key("drop_empty", Shape::Bool),
    key("merge_user", Shape::Bool),
    key("strip_think", Shape::Bool),
];

const BREAKER: &[Field] = &[
    key("failures", SMALL),
    key("cooldown", Shape::Duration),
    key("cooldown_max", Shape::Duration),
    key("backoff_multiplier", GROWTH),
];

const GROWTH: Shape = Shape::Number(1.0, 1000.0);

const HEALTH: &[Field] = &[required("path", Shape::Text), key("interval", Shape::Duration)];

const HEALTH_CHECK: &[Field] = &[
    key("enabled", Shape::Bool),
    key("failure_threshold", SMALL),
    key("cooldown_seconds", Shape::Seconds),
    key("max_cooldown_seconds", Shape::Seconds),
    key("backoff_multiplier", GROWTH),
];

const STRATEGIES: &[&str] =
    &["deterministic", "voting", "random", "round_robin", "least_in_flight", "failover", "least_connections"];

const ROUTING: &[Field] =
    &[key("strategy", Shape::OneOf(STRATEGIES)), key("priority_mode", Shape::OneOf(&["weight", "rank"]))];

const LOAD_BALANCING: &[Field] = &[key("strategy", Shape::OneOf(STRATEGIES))];

const RETRY: &[Field] = &[
    key("same_upstream", Shape::Integer(0, 100)),
    key("attempts_max", Shape::Integer(1, 1000)),
    key("hops_max", Shape::Integer(0, 100)),
    key("backoff", Shape::Duration),
    key("backoff_max", Shape::Duration),
    key("on", Shape::Failures),
    key("budget", Shape::Percent),
];

const MODELS_CACHE: &[Field] = &[key("ttl", Shape::Duration), key("ttl_seconds", Shape::Seconds)];

const LOG: &[Field] = &[
    key("format", Shape::OneOf(&["text", "json"])),
    key("access", Shape::Bool),
    key("access_format", Shape::OneOf(&["text", "json"])),
    key("dir", Shape::Text),
    key("size_max", Shape::Size),
    key("keep", Shape::Mapping(LOG_KEEP)),
];

const LOG_KEEP: &[Field] = &[key("info", DAYS), key("error", DAYS), key("system", DAYS)];

const DAYS: Shape = Shape::Integer(0, 36_500);

const COMMIT: &[Field] =
    &[key("events_max", SMALL), key("bytes_max", Shape::Size), key("wait_max", Shape::Duration)];

const PLUGIN: &[Field] = &[
    required("name", Shape::Text),
    required("source", Shape::Text),
    key("sha256", Shape::Text),
    key("config", Shape::Anything),
    key("match", Shape::Mapping(PLUGIN_MATCH)),
    key("on_fault", Shape::Faults),
    key("required", Shape::Bool),
    key("limits", Shape::Mapping(PLUGIN_LIMITS)),
    key("instance", Shape::Mapping(INSTANCE)),
    key("allow", Shape::Mapping(ALLOW)),
];

const POLICY: Shape = Shape::OneOf(&["reject", "skip"]);

/// `default`, and the hooks of the contract.
const FAULTS: &[Field] = &[
    key("default", POLICY),
    key("authenticate", POLICY),
    key("on-request", POLICY),
    key("on-route", POLICY),
    key("on-upstream-request", POLICY),
    key("on-response", POLICY),
    key("stream-text", POLICY),
    key("stream-events", POLICY),
    key("on-error", POLICY),
    key("on-complete", POLICY),
    key("on-tick", POLICY),
];

const PLUGIN_MATCH: &[Field] = &[
    key("models", Shape::Texts),
    key("endpoints", Shape::Texts),
    key("keys", Shape::Texts),
    key("streaming", Shape::OneOf(&["any", "only", "never"])),
];

const PLUGIN_LIMITS: &[Field] = &[
    key("memory", Shape::Size),
    key("call_timeout", Shape::Duration),
    key("wait_timeout", Shape::Duration),
    key("init_timeout", Shape::Duration),
    key("instances_max", Shape::Integer(1, 1_000_000)),
    key("artifact_max", Shape::Size),
];

const INSTANCE: &[Field] = &[key("reuse", Shape::Mapping(REUSE))];

const REUSE: &[Field] =
    &[key("uses_max", COUNT), key("memory_max", Shape::Size), key("scope", Shape::OneOf(&["tenant", "any"]))];

const ALLOW: &[Field] = &[
    key("http", Shape::Texts),
    key("env", Shape::Variables),
    key("kv", Shape::Size),
    key("secrets", Shape::Variables),
    key("metrics", Shape::Integer(0, 10_000)),
    key("audit_bodies", Shape::Bool),
    key("credentials", Shape::Bool),
];

const KEY: &[Field] = &[
    required("name", Shape::Text),
    required("hash", Shape::Text),
    key("tenant", Shape::Text),
    key("models", Shape::Texts),
    key("upstreams", Shape::Texts),
    key("endpoints", Shape::Texts),
    key("expires", Shape::Text),
    key("passthrough", Shape::Bool),
    key("allow_ips", Shape::Texts),
    key("limits", Shape::Mapping(QUOTA)),
];

const JWT: &[Field] = &[
    key("issuer", Shape::Text),
    key("audience", Shape::Texts),
    key("secret", Shape::Text),
    key("jwks", Shape::Text),
    key("claims", Shape::Mapping(JWT_CLAIMS)),
    key("leeway", Shape::Duration),
];

const JWT_CLAIMS: &[Field] =
    &[key("caller", Shape::Text), key("tenant", Shape::Text), key("models", Shape::Text)];

const QUOTA: &[Field] = &[
    key("requests", Shape::Rate),
    key("tokens", Shape::Rate),
    key("in_flight", SMALL),
    key("budget", Shape::Mapping(BUDGET)),
];

const LIMITS: &[Field] = &[
    key("requests", Shape::Rate),
    key("tokens", Shape::Rate),
    key("in_flight", SMALL),
    key("budget", Shape::Mapping(BUDGET)),
    key("total", Shape::Mapping(QUOTA)),
    key("queue", SMALL),
    key("queue_timeout", Shape::Duration),
    key("by", Shape::Text),
];

const BUDGET: &[Field] = &[key("day", Shape::Mapping(SPEND)), key("month", Shape::Mapping(SPEND))];
const SPEND: &[Field] = &[key("tokens", COUNT), key("money", MONEY)];
const TENANT: &[Field] =
    &[required("name", Shape::Text), key("upstreams", Shape::Texts), key("limits", Shape::Mapping(QUOTA))];

/// Money for a million tokens of each kind.
const PRICE: &[Field] =
    &[required("input", MONEY), required("output", MONEY), key("cached", MONEY), key("reasoning", MONEY)];

const MONEY: Shape = Shape::Number(0.0, 1e9);

const AUDIT: &[Field] = &[
    key("enabled", Shape::Bool),
    key("path", Shape::Text),
    key("bodies", Shape::OneOf(&["full", "none"])),
    key("body_max", Shape::Size),
    key("queue", COUNT),
    key("queue_bytes", Shape::Size),
    key("on_full", Shape::OneOf(&["block", "drop"])),
    key("rotate", ROTATED),
    key("retention", Shape::Duration),
    key("size_max", Shape::Size),
    key("redact", Shape::Texts),
    key("postgres", Shape::Text),
];

const METRICS: &[Field] = &[key("compat", Shape::Bool)];
const OTLP: &[Field] =
    &[key("endpoint", Shape::Text), key("headers", Shape::TextMap), key("sample", Shape::Percent)];

/// Holds a tree against the schema and reports everything that does not fit.
pub(super) fn walk(root: &Node, problems: &mut Vec<Problem>) {
    mapping(root, root.span, "the file", ROOT, problems);
}

/// Holds the list of a `keys_file` against the schema.
pub(super) fn walk_keys(list: &Node, problems: &mut Vec<Problem>) {
    let file = Key { text: "keys_file".to_owned(), span: list.span };
    shape(&Shape::List(KEY), &file, list, problems);
}

fn mapping(node: &Node, place: Span, name: &str, fields: &[Field], problems: &mut Vec<Problem>) {
    let Value::Mapping(entries) = &node.value else {
        problems.push(mismatch(name, node, "a mapping"));
        return;
    };
    for (key, value) in entries {
        match fields.iter().find(|field| field.name == key.text) {
            Some(field) => entry(field, key, value, problems),
            None => problems.push(unknown(key, name, fields)),
        }
    }
    for field in fields.iter().filter(|field| field.state == State::Required) {
        if node.get(field.name).is_none() {
            let problem = Problem::error(place, format!("`{}` is missing in {name}", field.name));
            problems.push(problem.help(format!("add `{}: …`", field.name)));
        }
    }
}

fn unknown(key: &Key, name: &str, fields: &[Field]) -> Problem {
    let problem = Problem::error(key.span, format!("`{}` is not a key of {name}", key.text.escape_default()));
    match values::nearest(&key.text, fields.iter().map(|field| field.name)) {
        Some(name) => problem.help(format!("did you mean `{name}`?")),
        None => {
            let names: Vec<&str> =
                fields.iter().filter(|field| field.state != State::Ignored).map(|field| field.name).collect();
            problem.help(format!("known are {}", quoted(&names)))
        }
    }
}

fn entry(field: &Field, key: &Key, value: &Node, problems: &mut Vec<Problem>) {
    if field.state == State::Ignored {
        let problem = Problem::warning(key.span, format!("`{}` has no effect", key.text));
        problems.push(problem.help("earlier systems ignored it too; it can be removed"));
        return;
    }
    if value.is_null() {
        return;
    }
    shape(&field.shape, key, value, problems);
}

fn shape(shape: &Shape, key: &Key, node: &Node, problems: &mut Vec<Problem>) {
    let name = key.text.as_str();
    match shape {
        Shape::Anything => {}
        Shape::Mapping(fields) => mapping(node, key.span, &format!("`{name}`"), fields, problems),
        Shape::List(fields) => match &node.value {
            Value::List(items) => {
                let one = format!("one of `{name}`");
                items.iter().for_each(|item| mapping(item, item.span, &one, fields, problems));
            }
            Value::Scalar(_) | Value::Mapping(_) => {
                problems.push(mismatch(&format!("`{name}`"), node, "a list, each item beginning with `- `"))
            }
        },
        Shape::Texts => texts(name, node, problems),
        Shape::Fallback if is_false(node) => {}
        Shape::Fallback => texts(name, node, problems),
        Shape::Failures => failures(name, node, problems),
        Shape::TextMap => match &node.value {
            Value::Mapping(entries) => text_values(entries, problems),
            Value::Scalar(_) | Value::List(_) => {
                problems.push(mismatch(&format!("`{name}`"), node, "a mapping of names to texts"));
            }
        },
        Shape::Each(fields) => match &node.value {
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    mapping(value, key.span, &format!("`{}`", key.text.escape_default()), fields, problems);
                }
            }
            Value::Scalar(_) | Value::List(_) => {
                problems.push(mismatch(&format!("`{name}`"), node, "a mapping of names"));
            }
        },
        Shape::Variables => match &node.value {
            Value::Mapping(entries) => text_values(entries, problems),
            Value::Scalar(_) | Value::List(_) => texts(name, node, problems),
        },
        Shape::Faults => match &node.value {
            Value::Mapping(_) => mapping(node, key.span, &format!("`{name}`"), FAULTS, problems),
            Value::Scalar(_) | Value::List(_) => scalar(&POLICY, name, node, problems),
        },
        Shape::JsonObject => match &node.value {
            // What the text holds is looked at where it is read.
            Value::Mapping(_) | Value::Scalar(_) => {}
            Value::List(_) => {
                problems.push(mismatch(&format!("`{name}`"), node, "a mapping or a JSON object in quotes"));
            }
        },
        Shape::Bool
        | Shape::Integer(..)
        | Shape::Number(..)
        | Shape::Text
        | Shape::Duration
        | Shape::Seconds
        | Shape::Size
        | Shape::Percent
        | Shape::Rate
        | Shape::Address
        | Shape::OneOf(..)
        | Shape::State => scalar(shape, name, node, problems),
    }
}

fn is_false(node: &Node) -> bool {
    node.scalar().is_some_and(|scalar| scalar.plain() == Plain::Bool(false))
}

fn text_values(entries: &[(Key, Node)], problems: &mut Vec<Problem>) {
    entries.iter().for_each(|(key, node)| scalar(&Shape::Text, &key.text, node, problems));
}

fn texts(name: &str, node: &Node, problems: &mut Vec<Problem>) {
    if let Value::Mapping(_) = node.value {
        problems.push(mismatch(&format!("`{name}`"), node, "a text or a list of texts"));
    }
    node.items().iter().for_each(|item| scalar(&Shape::Text, name, item, problems));
}

/// The words of `retry.on`; statuses are numbers beside them.
const FAILURES: &[&str] = &["connect", "timeout", "5xx", "empty", "malformed"];

fn failures(name: &str, node: &Node, problems: &mut Vec<Problem>) {
    let is_failure = |scalar: &Scalar| {
        FAILURES.contains(&scalar.text.as_str())
            || scalar.text.parse().is_ok_and(|status: u16| (400..=599).contains(&status))
    };
    for item in node.items() {
        if !item.scalar().is_some_and(|scalar| scalar.is_unresolved || is_failure(scalar)) {
            let expected = "`connect`, `timeout`, `5xx`, `empty`, `malformed` or a status from 400 to 599";
            problems.push(mismatch(&format!("an item of `{name}`"), item, expected));
        }
    }
    if let Value::Mapping(_) = node.value {
        problems.push(mismatch(&format!("`{name}`"), node, "a list"));
    }
}

/// Checks a single value.
fn scalar(shape: &Shape, name: &str, node: &Node, problems: &mut Vec<Problem>) {
    let quoted_name = format!("`{name}`");
    let Some(scalar) = node.scalar() else {
        problems.push(mismatch(&quoted_name, node, &expected(shape)));
        return;
    };
    if scalar.is_unresolved {
        return;
    }
    let text = scalar.text.as_str();
    let fits = match shape {
        Shape::Bool => matches!(scalar.plain(), Plain::Bool(_)),
        Shape::Integer(from, to) => matches!(scalar.plain(), Plain::Integer(n) if (*from..=*to).contains(&n)),
        Shape::Number(from, to) => match scalar.plain() {
            Plain::Integer(n) => (*from..=*to).contains(&(n as f64)),
            Plain::Float(n) => (*from..=*to).contains(&n),
            Plain::Null | Plain::Bool(_) | Plain::Text => false,
        },
        Shape::Text => !matches!(scalar.plain(), Plain::Bool(_)),
        Shape::Duration => values::duration(text).is_some(),
        Shape::Seconds => matches!(scalar.plain(), Plain::Integer(n) if (0..=1_000_000_000).contains(&n)),
        Shape::Size => values::size(text).is_some(),
        Shape::Percent => values::percent(text).is_some(),
        Shape::Rate => values::rate(text).is_some(),
        Shape::Address => values::address(text).is_some(),
        Shape::OneOf(words) => words.contains(&text),
        Shape::State => {
            // What it is stays unsaid: there may be a password in it.
            if let Err(fault) = state::State::parse(text) {
                let problem = Problem::error(node.span, format!("{quoted_name} is not usable: {fault}"));
                problems
                    .push(problem.help("write `memory`, or a URL such as `redis://:PASSWORD@host:6379/0`"));
            }
            return;
        }
        Shape::Texts
        | Shape::Fallback
        | Shape::Failures
        | Shape::Mapping(_)
        | Shape::List(_)
        | Shape::TextMap
        | Shape::Each(_)
        | Shape::Variables
        | Shape::Faults
        | Shape::JsonObject
        | Shape::Anything => true,
    };
    if !fits {
        problems.push(help_for(shape, scalar, mismatch(&quoted_name, node, &expected(shape))));
    }
}

fn help_for(shape: &Shape, scalar: &Scalar, problem: Problem) -> Problem {
    let is_bare_number = scalar.text.bytes().all(|byte| byte.is_ascii_digit());
    match shape {
        Shape::Duration if is_bare_number => problem.help(format!("add the unit: `{}s`", scalar.shown())),
        Shape::Size
            if scalar.text.ends_with("MB") || scalar.text.ends_with("GB") || scalar.text.ends_with("KB") =>
        {
            problem.help("sizes are powers of two: write `KiB`, `MiB` or `GiB`")
        }
        Shape::Text => problem.help("put it in quotes if the text is meant"),
        Shape::Bool | Shape::Integer(..) | Shape::Number(..) | Shape::Seconds if scalar.is_quoted => {
            problem.help("remove the quotes")
        }
        Shape::OneOf(words) => match values::nearest(&scalar.text, words.iter().copied()) {
            Some(word) if scalar.written.is_none() => problem.help(format!("did you mean `{word}`?")),
            Some(_) | None => problem,
        },
        _ => problem,
    }
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Integer(from, to) => format!("a whole number from {from} to {to}"),
        Shape::Number(from, to) => format!("a number from {from} to {to}"),
        Shape::Duration => "a duration such as `10s`, `100ms`, `5m` or `1h`".to_owned(),
        Shape::Seconds => "a whole number of seconds".to_owned(),
        Shape::Size => "a size such as `64MiB`, `1GiB` or a number of bytes".to_owned(),
        Shape::Percent => "a percentage such as `20%`".to_owned(),
        Shape::Rate => "a rate such as `100/1m`, or `0` for none".to_owned(),
        Shape::Address => "an address and a port such as `127.0.0.1:8000`".to_owned(),
        Shape::OneOf(words) => either(words),
        Shape::State => "`memory` or the URL of a server".to_owned(),
        _ => "a text".to_owned(),
    }
}

fn mismatch(name: &str, node: &Node, expected: &str) -> Problem {
    let found = match &node.value {
        Value::List(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Scalar(_) if node.is_null() => "nothing".to_owned(),
        // A value that comes from the environment may be anything, so the text in the file is shown.
        Value::Scalar(scalar) => format!("`{}`", shortened(scalar.shown())),
    };
    Problem::error(node.span, format!("{name} must be {expected}, not {found}"))
}

fn shortened(text: &str) -> String {
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().count() > 40 { format!("{short}…") } else { short }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn either(names: &[&str]) -> String {
    match names {
        [one] => format!("`{one}`"),
        [first @ .., last] => format!("{} or `{last}`", quoted(first)),
        [] => "nothing".to_owned(),
    }
}
