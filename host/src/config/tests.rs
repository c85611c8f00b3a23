//! What users get wrong, what the earlier systems' users bring along, and what no input may do.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use crate::config::check::values;
use crate::config::defaults::{log_filter, logs_full_token};
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::env::{Environment, ExpandFault, expand};
use crate::config::secret::Secret;
use crate::config::{
    Breaker, Commit, Config, FaultPolicy, HOOKS, Health, LimitBy, Log, LogFormat, LogKeep, ModelMatch,
    Networks, Origin, Overrides, Plugin, PluginConfig, PluginSource, PriorityMode, Rate, ReuseScope, Spend,
    State, Strategy, Streaming, Target, load, load_text, locate,
};
use crate::wire::convert::EffortBudgets;
use crate::wire::{Dialect, Endpoint};

const UPSTREAM: &str = "upstreams:\n  - name: a\n    base_url: http://a\n";

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().copied().collect()
}

fn read(text: &str, pairs: &[(&str, &str)]) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
    load_text(text, Path::new("c.yaml"), &environment(pairs), &Overrides::default())
}

#[track_caller]
fn accepted(text: &str, pairs: &[(&str, &str)]) -> Config {
    match read(text, pairs) {
        Ok((config, warnings)) if warnings.is_empty() => config,
        Ok((_, warnings)) => panic!("{}", Diagnostics { all: warnings }),
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

/// The diagnostics of a text, exactly, behind a first line break.
#[track_caller]
fn refused(text: &str, expected: &str) {
    match read(text, &[("SECRET", "hunter2")]) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(diagnostics) => assert_eq!(format!("\n{diagnostics}"), expected),
    }
}

/// The same for lines behind an upstream of three lines, `a`.
#[track_caller]
fn refused_after_upstream(text: &str, expected: &str) {
    refused(&format!("{UPSTREAM}{text}"), expected);
}

// parity: 51
#[test]
fn text_that_is_no_usable_yaml_is_refused_at_its_place() {
    refused(
        "server: {listen: [",
        r"
c.yaml:2:1: this is not YAML: while parsing a node, did not find expected node content
  = check the indentation and the quotes on this line and the one before
",
    );
    refused(
        "server:\n\tlisten: x",
        r"
c.yaml:2:2: this is not YAML: tabs disallowed within this context (block indentation)
  |  listen: x
  |  ^
  = check the indentation and the quotes on this line and the one before
",
    );
    refused_after_upstream(
        "---\nupstreams:\n  - name: a\n    base_url: http://a",
        r"
c.yaml:4:1: a second document begins here
  | ---
  | ^^^
  = keep one document per file
",
    );
    refused_after_upstream(
        "    name: b",
        r"
c.yaml:4:5: `name` is written twice
  |     name: b
  |     ^^^^
  = remove this one or the one on line 2
",
    );
    refused(
        "upstreams: &a [*a]",
        r"
c.yaml:1:16: this alias stands inside its own anchor
  | upstreams: &a [*a]
  |                ^^
",
    );
}

#[test]
fn a_variable_that_breaks_a_flow_mapping_is_to_be_quoted() {
    refused(
        "server: { admin_token: ${SECRET} }",
        r"
c.yaml:1:25: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'
  | server: { admin_token: ${SECRET} }
  |                         ^
  = put `${…}` in quotes inside of `{…}` and `[…]`
",
    );
}

#[test]
fn an_unknown_or_missing_key_names_what_is_known() {
    refused_after_upstream(
        "routnig: { strategy: random }",
        r"
c.yaml:4:1: `routnig` is not a key of the file
  | routnig: { strategy: random }
  | ^^^^^^^
  = did you mean `routing`?
",
    );
    refused_after_upstream(
        "models_cache: { banana: 1 }",
        r"
c.yaml:4:17: `banana` is not a key of `models_cache`
  | models_cache: { banana: 1 }
  |                 ^^^^^^
  = known are `ttl`, `ttl_seconds`
",
    );
    refused(
        "server: { listen: 127.0.0.1:1 }",
        r"
c.yaml:1:1: there are no `upstreams`
  | server: { listen: 127.0.0.1:1 }
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = add an upstream; `base_url: builtin:echo` needs no key and no network
",
    );
    refused(
        "upstreams: []",
        r"
c.yaml:1:12: `upstreams` is empty
  | upstreams: []
  |            ^^
  = add one; `base_url: builtin:echo` needs no key
",
    );
    refused(
        "upstreams: { a: http://a }",
        r"
c.yaml:1:12: `upstreams` must be a list, each item beginning with `- `, not a mapping
  | upstreams: { a: http://a }
  |            ^^^^^^^^^^^^^^^
",
    );
    refused(
        "upstreams:\n  - name: a",
        r"
c.yaml:2:5: `base_url` is missing in one of `upstreams`
  |   - name: a
  |     ^^^^^^^
  = add `base_url: …`
",
    );
    refused(
        "server: { listen: x, admin: y }\nupstreams:\n  - { nam: a, base_url: http://a }",
        r"
c.yaml:1:19: `listen` must be an address and a port such as `127.0.0.1:8000`, not `x`
  | server: { listen: x, admin: y }
  |                   ^
c.yaml:1:29: `admin` must be an address and a port such as `127.0.0.1:8000`, not `y`
  | server: { listen: x, admin: y }
  |                             ^
c.yaml:3:5: `name` is missing in one of `upstreams`
  |   - { nam: a, base_url: http://a }
  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = add `name: …`
c.yaml:3:7: `nam` is not a key of one of `upstreams`
  |   - { nam: a, base_url: http://a }
  |       ^^^
  = did you mean `name`?
",
    );
}

#[test]
fn a_base_url_must_be_one() {
    refused(
        "upstreams:\n  - { name: a, base_url: localhost:11434 }",
        r"
c.yaml:2:26: `base_url` must begin with `http://` or `https://`
  |   - { name: a, base_url: localhost:11434 }
  |                          ^^^^^^^^^^^^^^^
  = write it like `https://api.openai.com/v1`
",
    );
    refused(
        "upstreams:\n  - name: a\n    base_url: \"[https://a/v1](https://a/v1)\"",
        r##"
c.yaml:3:15: `base_url` is not a URL
  |     base_url: "[https://a/v1](https://a/v1)"
  |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = this is a Markdown link; write the URL alone
"##,
    );
    refused(
        "upstreams:\n  - name: a\n    base_url: [https://a/v1](https://a/v1)",
        r"
c.yaml:3:29: this is not YAML: while parsing a block mapping, did not find expected key
  |     base_url: [https://a/v1](https://a/v1)
  |                             ^
  = this is a Markdown link; write the URL alone
",
    );
    refused(
        "upstreams:\n  - { name: a, base_url: \"http://user:hunter2@a\" }",
        r"
c.yaml:2:26: `base_url` must not hold a user or password
  |   - { name: a, base_url: *********************** }
  |                          ^^^^^^^^^^^^^^^^^^^^^^^
  = write the credential as `api_key`
",
    );
    refused(
        "upstreams:\n  - { name: a, base_url: https://a/v1/chat/completions }",
        r"
c.yaml:2:26: `base_url` is the address of one endpoint
  |   - { name: a, base_url: https://a/v1/chat/completions }
  |                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = end it before the endpoint's path, mostly at `/v1`
",
    );
    refused(
        "upstreams:\n  - { name: a, base_url: builtin:eco }",
        r"
c.yaml:2:26: there is no built-in upstream `builtin:eco`
  |   - { name: a, base_url: builtin:eco }
  |                          ^^^^^^^^^^^
  = did you mean `builtin:echo`?
",
    );
}

#[test]
fn names_defaults_and_fallbacks_must_fit_each_other() {
    refused_after_upstream(
        "  - { name: a, base_url: http://b }",
        r"
c.yaml:4:13: the upstream `a` is defined twice
  |   - { name: a, base_url: http://b }
  |             ^
  = the first is on line 2; names are part of the routing hash
",
    );
    refused_after_upstream(
        "    default: true\n  - { name: b, base_url: http://b, default: true }",
        r"
c.yaml:5:36: two upstreams are `default: true`
  |   - { name: b, base_url: http://b, default: true }
  |                                    ^^^^^^^
  = the first is on line 4; unknown paths can go to one only
",
    );
    refused_after_upstream(
        "    model_match: { value: [x] }\n    fallback: azure_backup\n  - { name: azure_bakup, base_url: http://b, model_match: { value: [y] } }",
        r"
c.yaml:5:15: the fallback `azure_backup` is neither a model that an upstream takes nor an upstream
  |     fallback: azure_backup
  |               ^^^^^^^^^^^^
  = did you mean the upstream `azure_bakup`?
",
    );
}

#[test]
fn a_value_that_does_not_fit_says_what_would() {
    refused_after_upstream(
        "    model_match: { type: keywrod, value: [x] }",
        r"
c.yaml:4:26: `type` must be `keyword`, `exact` or `prefix`, not `keywrod`
  |     model_match: { type: keywrod, value: [x] }
  |                          ^^^^^^^
  = did you mean `keyword`?
",
    );
    refused_after_upstream(
        "    model_match: { value: [] }",
        r"
c.yaml:4:27: `value` is empty, so no model would match
  |     model_match: { value: [] }
  |                           ^^
  = remove `model_match` to take every model
",
    );
    refused_after_upstream(
        "    timeouts: { connect: 10 }",
        r"
c.yaml:4:26: `connect` must be a duration such as `10s`, `100ms`, `5m` or `1h`, not `10`
  |     timeouts: { connect: 10 }
  |                          ^^
  = add the unit: `10s`
",
    );
    refused_after_upstream(
        "server: { request_body_max: 64MB }",
        r"
c.yaml:4:29: `request_body_max` must be a size such as `64MiB`, `1GiB` or a number of bytes, not `64MB`
  | server: { request_body_max: 64MB }
  |                             ^^^^
  = sizes are powers of two: write `KiB`, `MiB` or `GiB`
",
    );
    refused_after_upstream(
        "    priority: \"10\"",
        r##"
c.yaml:4:15: `priority` must be a whole number from 0 to 1000000, not `10`
  |     priority: "10"
  |               ^^^^
  = remove the quotes
"##,
    );
    refused_after_upstream(
        "    priority: -1",
        r"
c.yaml:4:15: `priority` must be a whole number from 0 to 1000000, not `-1`
  |     priority: -1
  |               ^^
",
    );
    refused_after_upstream(
        "    enabled: yes",
        r"
c.yaml:4:14: `enabled` must be `true` or `false`, not `yes`
  |     enabled: yes
  |              ^^^
",
    );
    refused_after_upstream(
        "    special_prefix: true",
        r"
c.yaml:4:21: `special_prefix` must be a text, not `true`
  |     special_prefix: true
  |                     ^^^^
  = put it in quotes if the text is meant
",
    );
    refused_after_upstream(
        "    extra_body: '{\"a\": '",
        r##"
c.yaml:4:17: `extra_body` is not a JSON object
  |     extra_body: '{"a": '
  |                 ^^^^^^^^
  = write a mapping, or a JSON object in single quotes
"##,
    );
    refused_after_upstream(
        "retry: { on: [connect, 200] }",
        r"
c.yaml:4:24: an item of `on` must be `connect`, `timeout`, `5xx`, `empty`, `malformed` or a status from 400 to 599, not `200`
  | retry: { on: [connect, 200] }
  |                        ^^^
",
    );
    refused_after_upstream(
        "server: { listen: 8000 }",
        r"
c.yaml:4:19: `listen` must be an address and a port such as `127.0.0.1:8000`, not `8000`
  | server: { listen: 8000 }
  |                   ^^^^
",
    );
    refused_after_upstream(
        "server: { cors: { origins: [app.example.com] } }",
        r"
c.yaml:4:29: `app.example.com` is not an origin
  | server: { cors: { origins: [app.example.com] } }
  |                             ^^^^^^^^^^^^^^^
  = write it like `https://app.example.com`, or `*` for any
",
    );
    refused_after_upstream(
        "server: { tls: { cert: a.pem, key: b.pem } }",
        r"
c.yaml:4:24: there is no file `a.pem`
  | server: { tls: { cert: a.pem, key: b.pem } }
  |                        ^^^^^
  = paths are relative to the folder of the configuration file
c.yaml:4:36: there is no file `b.pem`
  | server: { tls: { cert: a.pem, key: b.pem } }
  |                                    ^^^^^
  = paths are relative to the folder of the configuration file
",
    );
    refused_after_upstream(
        "check_config: { enabled: true }\nrouting: { strategy: nope }",
        r"
c.yaml:4:1: warning: `check_config` has no effect
  | check_config: { enabled: true }
  | ^^^^^^^^^^^^
  = earlier systems ignored it too; it can be removed
c.yaml:5:22: `strategy` must be `deterministic`, `voting`, `random`, `round_robin`, `least_in_flight`, `failover` or `least_connections`, not `nope`
  | routing: { strategy: nope }
  |                      ^^^^
",
    );
}

#[test]
fn headers_that_are_not_the_operators_are_refused() {
    refused_after_upstream(
        "    headers: { Authorization: Bearer sk-1 }",
        r"
c.yaml:4:16: the header `authorization` cannot be set here
  |     headers: { Authorization: *********** }
  |                ^^^^^^^^^^^^^
  = write the credential as `api_key`
",
    );
    refused_after_upstream(
        "    headers: { connection: close }",
        r"
c.yaml:4:16: the header `connection` cannot be set here
  |     headers: { connection: close }
  |                ^^^^^^^^^^
  = it belongs to the connection, not to the request
",
    );
    refused_after_upstream(
        "    headers: { \"x y\": z }",
        r##"
c.yaml:4:16: `x y` is not a header's name
  |     headers: { "x y": z }
  |                ^^^^^
  = names are letters, digits and `-`
"##,
    );
}

#[test]
fn expansion_names_what_is_missing_and_shows_no_value() {
    refused_after_upstream(
        "    api_key: ${NOPE}",
        r"
c.yaml:4:14: the environment variable `NOPE` is not set
  |     api_key: ${NOPE}
  |              ^^^^^^^
  = set it, or give a default: `${NOPE:-…}`
",
    );
    refused_after_upstream(
        "    api_key: ${NOPE",
        r"
c.yaml:4:14: `${` has no closing `}`
  |     api_key: ${NOPE
  |              ^^^^^^
  = close it, or write `$${` for the characters themselves
",
    );
    refused_after_upstream(
        "    priority: ${SECRET}",
        r"
c.yaml:4:15: `priority` must be a whole number from 0 to 1000000, not `${SECRET}`
  |     priority: ${SECRET}
  |               ^^^^^^^^^
",
    );
}

#[test]
fn words_that_mean_nothing_are_refused() {
    refused_after_upstream(
        "    dialect: antropic",
        r"
c.yaml:4:14: `dialect` must be `openai`, `anthropic` or `gemini`, not `antropic`
  |     dialect: antropic
  |              ^^^^^^^^
  = did you mean `anthropic`?
",
    );
    refused_after_upstream(
        "effort_budgets: { low: 9000 }",
        r"
c.yaml:4:17: the budgets must grow from `low` to `high`, not 9000, 8192, 16384
  | effort_budgets: { low: 9000 }
  |                 ^^^^^^^^^^^^^
  = give those that are left out, too, or take the line out
",
    );
    refused_after_upstream(
        "state: rediss://:p/w@h",
        r"
c.yaml:4:8: `state` is not usable: its host, its port or the number of its database cannot be read
  | state: ***************
  |        ^^^^^^^^^^^^^^^
  = write `memory`, or a URL such as `redis://:PASSWORD@host:6379/0`
",
    );
}

// parity: 104
#[test]
fn the_dialects_of_upstreams_are_read() {
    let config = accepted(
        "effort_budgets:\n  low: ${LOW:-1000}\nupstreams:\n  - { name: a, base_url: \"https://a\", dialect: anthropic }\n  \
         - { name: b, base_url: \"https://b/v1\", responses: chat }\n",
        &[("LOW", "1500")],
    );
    assert_eq!(config.effort_budgets, EffortBudgets { low: 1500, ..EffortBudgets::default() });
    let [a, b] = &config.upstreams[..] else { panic!("there are two upstreams") };
    assert_eq!((a.dialect, a.has_responses), (Dialect::Anthropic, true));
    assert_eq!((b.dialect, b.has_responses), (Dialect::OpenAi, false));
}

// parity: 120
#[test]
fn breakers_are_read_from_the_top_down() {
    let config = accepted(
        &format!(
            "breaker: {{ failures: 3, cooldown: 1s }}\n{UPSTREAM}  - name: b\n    base_url: https://b\n    \
             breaker: {{ cooldown: 10m, backoff_multiplier: 1.5 }}\n"
        ),
        &[("CIRCUIT_BREAKER_TIMEOUT", "7"), ("CIRCUIT_BREAKER_THRESHOLD", "9")],
    );
    let seconds = Duration::from_secs;
    let top =
        Breaker { failures: 3, cooldown: seconds(1), cooldown_max: seconds(300), backoff_multiplier: 2.0 };
    assert_eq!(config.upstreams[0].breaker, top);
    let own = Breaker { cooldown: seconds(600), cooldown_max: seconds(600), backoff_multiplier: 1.5, ..top };
    assert_eq!(config.upstreams[1].breaker, own);
    assert_eq!(accepted(UPSTREAM, &[]).upstreams[0].breaker, Breaker::default());
}

// parity: 48
#[test]
fn the_python_proxys_variables_set_breakers() {
    let breaker = |pairs: &[(&str, &str)]| accepted(UPSTREAM, pairs).upstreams[0].breaker;
    let set = breaker(&[("CIRCUIT_BREAKER_THRESHOLD", "9"), ("CIRCUIT_BREAKER_TIMEOUT", "400.5")]);
    let cooldown = Duration::from_millis(400_500);
    assert_eq!(set, Breaker { failures: 9, cooldown, cooldown_max: cooldown, ..Breaker::default() });
    assert!(!breaker(&[("CIRCUIT_BREAKER_ENABLED", "false")]).is_on());
    assert!(breaker(&[("CIRCUIT_BREAKER_ENABLED", "true")]).is_on());
    let text = format!("{UPSTREAM}    breaker: {{ failures: 2 }}\n");
    assert_eq!(accepted(&text, &[("CIRCUIT_BREAKER_ENABLED", "0")]).upstreams[0].breaker.failures, 2);
    assert_eq!(embedded(&[("CIRCUIT_BREAKER_THRESHOLD", "9")]).upstreams[0].breaker.failures, 9);
}

// parity: 41
#[test]
fn health_check_is_an_earlier_spelling_of_breaker() {
    let legacy = "health_check: { enabled: true, failure_threshold: 3, cooldown_seconds: 20, \
                  max_cooldown_seconds: 200, backoff_multiplier: 3 }";
    let breaker = accepted(&format!("{UPSTREAM}{legacy}"), &[]).upstreams[0].breaker;
    let seconds = Duration::from_secs;
    let expected =
        Breaker { failures: 3, cooldown: seconds(20), cooldown_max: seconds(200), backoff_multiplier: 3.0 };
    assert_eq!(breaker, expected);
    let off = accepted(&format!("{UPSTREAM}health_check: {{ enabled: false }}"), &[]);
    assert!(!off.upstreams[0].breaker.is_on());
    refused_after_upstream(
        "breaker: { cooldown: 1s }\nhealth_check: { cooldown_seconds: 1 }",
        r"
c.yaml:5:17: `health_check.cooldown_seconds` and `breaker.cooldown` are two spellings of one key
  | health_check: { cooldown_seconds: 1 }
  |                 ^^^^^^^^^^^^^^^^
  = keep `breaker.cooldown` on line 4 and remove this
",
    );
}

#[test]
fn what_a_breaker_cannot_be_is_refused() {
    refused_after_upstream(
        "    breaker: { cooldown: 0s }",
        r"
c.yaml:4:26: `cooldown` must not be zero
  |     breaker: { cooldown: 0s }
  |                          ^^
  = write `failures: 0` for no breaker
",
    );
    refused_after_upstream(
        "    breaker: { failures: 0 }\n    health: { path: /health }",
        r"
c.yaml:5:13: `health` has no effect without a breaker
  |     health: { path: /health }
  |             ^^^^^^^^^^^^^^^^^
  = remove it, or give `breaker.failures` a number above 0
",
    );
    refused_after_upstream(
        "    health: { path: health, interval: 0s }",
        r"
c.yaml:4:21: `path` is not a path
  |     health: { path: health, interval: 0s }
  |                     ^^^^^^
  = write it from the host's root, like `/health`
c.yaml:4:39: `interval` must not be zero
  |     health: { path: health, interval: 0s }
  |                                       ^^
  = remove `health` for no checks
",
    );
    let health =
        accepted(&format!("{UPSTREAM}    health: {{ path: \"/up?x=1\" }}"), &[]).upstreams[0].health.clone();
    assert_eq!(health, Some(Health { path: "/up?x=1".to_owned(), interval: Duration::from_secs(10) }));
}

#[test]
fn several_keys_are_several_and_different() {
    let pairs = [("ONE", "sk-1"), ("NONE", "")];
    let config = accepted(&format!("{UPSTREAM}    api_keys: [\"${{ONE}}\", \"${{NONE}}\", sk-2]"), &pairs);
    let keys: Vec<&str> = config.upstreams[0].keys().map(|key| key.expose()).collect();
    assert_eq!(keys, ["sk-1", "sk-2"]);
    let shown = config.redacted().to_string();
    assert!(shown.contains(r#""api_keys":["***","***"]"#) && !shown.contains("sk-"), "{shown}");
    refused_after_upstream(
        "    api_keys: []",
        r"
c.yaml:4:15: `api_keys` is empty
  |     api_keys: []
  |               ^^
  = write at least one key, or remove it
",
    );
    refused_after_upstream(
        "    api_key: sk-1\n    api_keys: [sk-2, sk-2]",
        r"
c.yaml:4:5: `api_key` and `api_keys` cannot both be there
  |     api_key: ****
  |     ^^^^^^^
  = keep `api_keys` on line 5 and remove this
c.yaml:5:22: a key is there twice
  |     api_keys: [****, ****]
  |                      ^^^^
  = remove one of them
",
    );
}

#[test]
fn the_budget_of_retries_is_a_percentage() {
    assert_eq!(accepted(UPSTREAM, &[]).retry.budget, 0.2);
    assert_eq!(accepted(&format!("{UPSTREAM}retry: {{ budget: 50% }}"), &[]).retry.budget, 0.5);
    assert_eq!(accepted(&format!("{UPSTREAM}retry: {{ budget: 100% }}"), &[]).retry.budget, 1.0);
    assert!(read(&format!("{UPSTREAM}retry: {{ budget: 0.2 }}"), &[]).is_err());
}

#[test]
fn two_spellings_of_one_key_are_refused() {
    refused_after_upstream(
        "openai_clients:\n  - { name: b, base_url: http://b }",
        r"
c.yaml:4:1: `openai_clients` and `upstreams` are two spellings of one key
  | openai_clients:
  | ^^^^^^^^^^^^^^
  = keep `upstreams` on line 1 and remove this
",
    );
    refused_after_upstream(
        "routing: { strategy: random }\nload_balancing: { strategy: least_connections }",
        r"
c.yaml:5:19: `load_balancing.strategy` and `routing.strategy` are two spellings of one key
  | load_balancing: { strategy: least_connections }
  |                   ^^^^^^^^
  = keep `routing.strategy` on line 4 and remove this
",
    );
    refused_after_upstream(
        "models_cache: { ttl: 1s, ttl_seconds: 1 }",
        r"
c.yaml:4:26: `models_cache.ttl_seconds` and `models_cache.ttl` are two spellings of one key
  | models_cache: { ttl: 1s, ttl_seconds: 1 }
  |                          ^^^^^^^^^^^
  = keep `models_cache.ttl` on line 4 and remove this
",
    );
}

#[test]
fn listeners_must_be_safe_and_apart() {
    refused_after_upstream(
        "server:\n  admin: 0.0.0.0:9090",
        r"
c.yaml:5:10: the admin listener `0.0.0.0:9090` can be reached from other machines
  |   admin: 0.0.0.0:9090
  |          ^^^^^^^^^^^^
  = set `server.admin_token`, or listen on 127.0.0.1
",
    );
    refused_after_upstream(
        "server: { listen: 127.0.0.1:1, admin: 127.0.0.1:1 }",
        r"
c.yaml:4:39: both listeners are at `127.0.0.1:1`
  | server: { listen: 127.0.0.1:1, admin: 127.0.0.1:1 }
  |                                       ^^^^^^^^^^^
  = give `server.admin` a port of its own
",
    );
}

#[test]
fn secrets_are_blanked_out_wherever_they_stand() {
    refused(
        "upstreams:\n  - { name: a, base_url: x, api_key: sk-secret }",
        r"
c.yaml:2:26: `base_url` must begin with `http://` or `https://`
  |   - { name: a, base_url: x, api_key: ********* }
  |                          ^
  = write it like `https://api.openai.com/v1`
",
    );
    refused_after_upstream(
        "    api_keys: [sk-1, sk-1]",
        r"
c.yaml:4:22: a key is there twice
  |     api_keys: [****, ****]
  |                      ^^^^
  = remove one of them
",
    );
    refused(
        "upstreams:\n  - name: a\n    api_key: \"sk-secret",
        r##"
c.yaml:3:14: this is not YAML: while scanning a quoted scalar, found unexpected end of stream
  |     api_key: "*********
  |              ^
  = check the indentation and the quotes on this line and the one before
"##,
    );
    refused_after_upstream(
        "    api_key: file:nowhere",
        r"
c.yaml:4:14: the secret's file cannot be used: No such file or directory (os error 2)
  |     api_key: file:nowhere
  |              ^^^^^^^^^^^^
  = the file must hold the secret alone and be readable by the gateway
",
    );
}

// parity: 26, 33
#[test]
fn the_sample_of_the_rust_system_loads_unchanged() {
    let text = r#"openai_clients:
  - name: "primary_gpt4"
    api_key: "sk-xxxx"
    base_url: "https://api.openai.com/v1"
    model_match:
      type: "keyword"
      value: ["gpt-4"]
    priority: 10
    fallback: "azure_backup"

  - name: "azure_backup"
    api_key: "azure-key"
    base_url: "https://azure-endpoint.com/v1"
    model_match:
      type: "exact"
      value: ["gpt-4-backup"]
    priority: 1
"#;
    let config = accepted(text, &[]);
    let primary = &config.upstreams[0];
    assert_eq!(primary.target, Target::Http("https://api.openai.com/v1".parse().unwrap()));
    assert_eq!(primary.api_key.as_ref().map(|key| key.expose()), Some("sk-xxxx"));
    assert_eq!(primary.model_match, ModelMatch::Keyword(vec!["gpt-4".to_owned()]));
    assert_eq!((primary.priority, &*primary.fallback), (10, &["azure_backup".to_owned()][..]));
    assert_eq!(config.upstreams[1].model_match, ModelMatch::Exact(vec!["gpt-4-backup".to_owned()]));
}

// parity: 26, 27, 33, 34
#[test]
fn the_sample_of_the_python_system_loads_unchanged() {
    let text = r#"openai_clients:
  - name: "official_openai"
    api_key: "${OPENAI_API_KEY}"
    base_url: "https://api.openai.com/v1"
    priority: 1
    model_match:
      type: "keyword"
      value: ["gpt-4", "gpt-3.5-turbo"]
    fallback: "deepseek-chat-fallback"
  - name: "deepseek_api"
    api_key: "${DEEPSEEK_API_KEY}"
    base_url: "https://api.deepseek.com"
    priority: 2
    model_match:
      type: "exact"
      value: ["deepseek-chat", "deepseek-reasoner"]
    special_prefix: "<think>"
    stop: ["<|endoftext|>"]
  - name: "deepseek_api_fallback_client"
    api_key: "${DEEPSEEK_API_KEY}"
    base_url: "https://api.deepseek.com"
    priority: 999
    model_match:
      type: "exact"
      value: ["deepseek-chat-fallback"]
    fallback: False
"#;
    let config = accepted(text, &[("OPENAI_API_KEY", "sk-1"), ("DEEPSEEK_API_KEY", "sk-2")]);
    assert_eq!(config.upstreams[0].fallback, ["deepseek-chat-fallback"]);
    assert_eq!(config.upstreams[1].api_key.as_ref().map(|key| key.expose()), Some("sk-2"));
    assert_eq!(config.upstreams[1].special_prefix.as_deref(), Some("<think>"));
    assert_eq!(config.upstreams[1].stop, ["<|endoftext|>"]);
    assert!(config.upstreams[2].fallback.is_empty());
    assert_eq!(config.upstreams[2].priority, 999);
}

// parity: 38, 39, 41
#[test]
fn the_earlier_systems_other_spellings_are_understood() {
    let text = format!(
        "{UPSTREAM}load_balancing: {{ strategy: least_connections }}\nmodels_cache: {{ ttl_seconds: 0 }}\n\
         check_config: {{ enabled: true }}\nperformance_test: [1]\n"
    );
    let (config, warnings) = read(&text, &[]).unwrap();
    assert_eq!(config.routing.strategy, Strategy::LeastInFlight);
    assert_eq!(config.models_cache_ttl, Duration::ZERO);
    assert_eq!(warnings.len(), 2);
}

// parity: 28, 30, 31
#[test]
fn what_an_upstream_leaves_out_has_the_documented_default() {
    let config = accepted(&format!("{UPSTREAM}    api_key: \"\"\n    model_match: {{ value: x }}\n"), &[]);
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.api_key, None);
    assert_eq!(upstream.priority, 1);
    assert_eq!(upstream.model_match, ModelMatch::Keyword(vec!["x".to_owned()]));
    assert_eq!(accepted(UPSTREAM, &[]).upstreams[0].model_match, ModelMatch::Any);
}

// parity: 33
#[test]
fn every_form_of_fallback_is_accepted() {
    for (written, read) in [
        ("a", vec!["a"]),
        ("[a, some-model]", vec!["a", "some-model"]),
        ("false", vec![]),
        ("False", vec![]),
        ("null", vec![]),
        ("[]", vec![]),
    ] {
        assert_eq!(
            accepted(&format!("{UPSTREAM}    fallback: {written}\n"), &[]).upstreams[0].fallback,
            read
        );
    }
}

#[test]
fn mutual_fallbacks_are_legal() {
    let text = "upstreams:\n\
                - { name: a, base_url: http://a, model_match: { value: x }, fallback: y }\n\
                - { name: b, base_url: http://b, model_match: { value: y }, fallback: x }\n";
    accepted(text, &[]);
}

// parity: 34, 36
#[test]
fn stop_and_extra_body_have_two_forms() {
    let of = |lines: &str| accepted(&format!("{UPSTREAM}{lines}"), &[]).upstreams.remove(0);
    assert_eq!(of("    stop: end\n").stop, ["end"]);
    assert_eq!(of("    stop: [a, b]\n").stop, ["a", "b"]);
    let pairs = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "{\"c\":[true,null]}".to_owned())];
    assert_eq!(of("    extra_body: { a: 1, b: { c: [true, null] } }\n").extra_body, pairs);
    assert_eq!(of("    extra_body: '{\"a\": 1, \"b\":{\"c\":[true,null]}}'\n").extra_body, pairs);
}

#[test]
fn a_number_in_extra_body_keeps_its_text() {
    let of = |body: &str| {
        accepted(&format!("{UPSTREAM}    extra_body: {body}\n"), &[]).upstreams.remove(0).extra_body
    };
    for text in ["0.70", "1e-7", "9007199254740993", "123456789012345678901234567890"] {
        assert_eq!(of(&format!("{{ n: {text} }}")), [("n".to_owned(), text.to_owned())]);
        assert_eq!(of(&format!("'{{\"n\": {text}}}'")), [("n".to_owned(), text.to_owned())]);
    }
}

// parity: 73
#[test]
fn a_trailing_star_of_a_prefix_is_dropped() {
    let text = format!("{UPSTREAM}    model_match: {{ type: prefix, value: [gpt-*, o1] }}\n");
    assert_eq!(
        accepted(&text, &[]).upstreams[0].model_match,
        ModelMatch::Prefix(vec!["gpt-".to_owned(), "o1".to_owned()])
    );
}

#[test]
fn anchors_and_merge_keys_repeat_what_they_name() {
    let text = "upstreams:\n\
                - &first { name: a, base_url: http://a, timeouts: { connect: 1s }, priority: 3 }\n\
                - { <<: *first, name: b, priority: 4 }\n";
    let config = accepted(text, &[]);
    assert_eq!(config.upstreams[1].timeouts.connect, Duration::from_secs(1));
    assert_eq!((&*config.upstreams[1].name, config.upstreams[1].priority), ("b", 4));
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let diagnostics = read(&text, &[]).unwrap_err().to_string();
    assert!(diagnostics.contains("too many values"), "{diagnostics}");
}

#[test]
fn nesting_is_bounded() {
    let diagnostics = read(&"[".repeat(200), &[]).unwrap_err().to_string();
    assert!(diagnostics.contains("nests deeper than 32 levels"), "{diagnostics}");
}

// parity: 27
#[test]
fn variables_expand_inside_values() {
    let set = environment(&[("A", "1"), ("EMPTY", "")]);
    let expands =
        |text: &str, expected: &str| assert_eq!(expand(text, &set).as_deref(), Ok(expected), "{text}");
    expands("x${A}y${A}", "x1y1");
    expands("${NOPE:-d}", "d");
    expands("${EMPTY:-d}", "d");
    expands("${NOPE:-}", "");
    expands("${EMPTY}", "");
    expands("$${A}", "${A}");
    expands("$A {A} $", "$A {A} $");
    assert_eq!(expand("${NOPE}", &set), Err(ExpandFault::Unset("NOPE".to_owned())));
    assert_eq!(expand("${A", &set), Err(ExpandFault::Unclosed));
    assert_eq!(expand("${}", &set), Err(ExpandFault::Name(String::new())));
    assert_eq!(expand("${1A}", &set), Err(ExpandFault::Name("1A".to_owned())));
}

#[test]
fn an_unquoted_expansion_is_typed_again_and_a_quoted_one_stays_text() {
    let plain = format!("{UPSTREAM}    priority: ${{P}}\n    enabled: ${{E}}\n");
    let config = accepted(&plain, &[("P", "7"), ("E", "false")]);
    assert_eq!((config.upstreams[0].priority, config.upstreams[0].is_enabled), (7, false));
    assert!(read(&format!("{UPSTREAM}    priority: \"${{P}}\"\n"), &[("P", "7")]).is_err());
    let quoted = format!("{UPSTREAM}    special_prefix: \"${{P}}\"\n");
    assert_eq!(accepted(&quoted, &[("P", "true")]).upstreams[0].special_prefix.as_deref(), Some("true"));
}

#[test]
fn a_secret_may_stand_in_a_file_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "sk-1\n").unwrap();
    let path = folder.path().join("c.yaml");
    std::fs::write(&path, format!("{UPSTREAM}    api_key: file:key\n")).unwrap();
    let (config, _) = load(&Origin::File(path), &Environment::default(), &Overrides::default()).unwrap();
    assert_eq!(config.upstreams[0].api_key.as_ref().map(|key| key.expose()), Some("sk-1"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let origin = Origin::File("/nowhere/c.yaml".into());
    let diagnostics = load(&origin, &Environment::default(), &Overrides::default()).unwrap_err().to_string();
    assert!(diagnostics.starts_with("/nowhere/c.yaml: cannot be read: "), "{diagnostics}");
}

#[test]
fn a_file_that_is_too_large_or_not_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        load(&Origin::File(path.clone()), &Environment::default(), &Overrides::default())
            .unwrap_err()
            .all
            .remove(0)
    };
    assert_eq!(refused(&vec![b'#'; (1 << 20) + 1]).message, "the file is larger than 1 MiB");
    assert_eq!(refused(b"a: \xff").message, "byte 3 is not UTF-8");
}

// parity: 35
#[test]
fn the_database_of_the_audit_is_a_url_whose_password_is_not_shown() {
    refused_after_upstream(
        "audit: { postgres: mysql://u:hunter@h/db }",
        r"
c.yaml:4:20: `postgres` is no URL of a PostgreSQL database
  | audit: { postgres: ********************* }
  |                    ^^^^^^^^^^^^^^^^^^^^^
  = write it like `postgres://user:password@host:5432/database?sslmode=require`
",
    );
    refused_after_upstream(
        "audit: { postgres: host=h password=hunter }",
        r"
c.yaml:4:20: `postgres` is no URL of a PostgreSQL database
  | audit: { postgres: ********************** }
  |                    ^^^^^^^^^^^^^^^^^^^^^^
  = write it like `postgres://user:password@host:5432/database?sslmode=require`
",
    );
    refused_after_upstream(
        "audit: { postgres: \"postgres://h/db?sslmode=require&sslrootcert=no.pem\", size_max: 1GiB }",
        r#"
c.yaml:4:20: `sslrootcert` of `postgres`: there is no file `no.pem`
  | audit: { postgres: ****************************************************, size_max: 1GiB }
  |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = paths are relative to the folder of the configuration file
c.yaml:4:84: `size_max` is not supported together with `postgres`
  | audit: { postgres: ****************************************************, size_max: 1GiB }
  |                                                                                    ^^^^
  = remove it, and bound the record with `retention`
"#,
    );
    let config = accepted(
        &format!("{UPSTREAM}audit: {{ postgres: '${{DB}}' }}\n"),
        &[("DB", "postgres://u:hunter@h/db")],
    );
    assert_eq!(config.redacted()["audit"]["postgres"], "postgres://u:***@h:5432/db");
    assert!(!format!("{config:?}").contains("hunter"));
    let config = accepted(&format!("{UPSTREAM}audit: {{ postgres: '${{DB:-}}' }}\n"), &[]);
    assert_eq!(config.audit.postgres, None);
}

#[test]
fn the_effective_configuration_shows_no_secret() {
    let text = format!(
        "server: {{ admin_token: hunter1 }}\n{UPSTREAM}    api_key: hunter2\n    \
         headers: {{ x-team: search, x-api-key: hunter3, x-other: \"${{OTHER}}\" }}\n"
    );
    let config = accepted(&text, &[("OTHER", "hunter4")]);
    let shown = config.redacted().to_string();
    assert!(shown.contains("search") && !shown.contains("hunter"), "{shown}");
    assert!(!format!("{config:?}").contains("hunter"));
}

#[track_caller]
fn embedded(pairs: &[(&str, &str)]) -> Config {
    let (config, warnings) = load(&Origin::Embedded, &environment(pairs), &Overrides::default()).unwrap();
    assert_eq!(warnings, []);
    config
}

#[test]
fn the_embedded_default_needs_nothing() {
    let config = embedded(&[]);
    assert_eq!(config.server.listen, "127.0.0.1:8000".parse().unwrap());
    assert_eq!(config.upstreams.len(), 1);
    assert_eq!(config.upstreams[0].target, Target::Echo);
}

/// The upstream that an embedded default asks first for a model, and its base URL.
#[track_caller]
fn first(config: &Config, model: &str) -> (String, String) {
    assert_eq!(config.routing.priority_mode, PriorityMode::Rank);
    let candidates = config.upstreams.iter().filter(|upstream| upstream.model_match.accepts(model));
    let first = candidates.min_by_key(|upstream| upstream.priority).unwrap();
    match &first.target {
        Target::Http(uri) => (first.name.to_string(), uri.to_string()),
        Target::Echo => (first.name.to_string(), "builtin:echo".to_owned()),
    }
}

// parity: 72
#[test]
fn each_cloud_gets_the_models_that_are_its_own() {
    let config = embedded(&[
        ("OPENAI_API_KEY", "1"),
        ("ANTHROPIC_API_KEY", "2"),
        ("GEMINI_API_KEY", "3"),
        ("OLLAMA_BASE", "http://o:11434"),
    ]);
    let asked = |model: &str| first(&config, model);
    assert_eq!(asked("gpt-4o"), ("openai".into(), "https://api.openai.com/v1".into()));
    assert_eq!(asked("o1-mini"), ("openai".into(), "https://api.openai.com/v1".into()));
    assert_eq!(asked("claude-3-opus"), ("anthropic".into(), "https://api.anthropic.com/v1".into()));
    assert_eq!(
        asked("gemini-2.0"),
        ("gemini".into(), "https://generativelanguage.googleapis.com/v1beta".into())
    );
    assert_eq!(asked("qwen2.5-coder:7b"), ("ollama".into(), "http://o:11434/v1".into()));
    assert_eq!(asked("echo"), ("echo".into(), "builtin:echo".into()));
}

// parity: 43
#[test]
fn one_variable_makes_a_gateway() {
    let upstream = |pairs: &[(&str, &str)]| first(&embedded(pairs), "any").1;
    assert_eq!(upstream(&[("UPSTREAM_URL", "http://u:8000")]), "http://u:8000/v1");
    assert_eq!(upstream(&[("UPSTREAM_URL", "http://u:8000/api")]), "http://u:8000/api");
    assert_eq!(upstream(&[("OLLAMA_BASE", "http://o:11434/")]), "http://o:11434/v1");
    assert_eq!(upstream(&[("OPENAI_DOMAIN", "d")]), "https://d/v1");
    assert_eq!(
        upstream(&[("OPENAI_DOMAIN", "d"), ("OPENAI_PORT", "81"), ("OPENAI_TLS", "false")]),
        "http://d:81/v1"
    );
    assert!(embedded(&[("UPSTREAM_URL", "http://u")]).upstreams[1].is_default);
}

// parity: 42
#[test]
fn the_earlier_systems_ports_are_heard() {
    let listen = |pairs: &[(&str, &str)]| embedded(pairs).server.listen.to_string();
    assert_eq!(listen(&[("SERVER_PORT", "1"), ("PORT", "2"), ("PROXY_PORT", "3")]), "127.0.0.1:1");
    assert_eq!(listen(&[("PORT", "2"), ("PROXY_PORT", "3")]), "127.0.0.1:2");
    assert_eq!(listen(&[("PROXY_PORT", "3"), ("HOST", "0.0.0.0")]), "0.0.0.0:3");
    assert_eq!(embedded(&[("METRICS_PORT", "4")]).server.admin.to_string(), "127.0.0.1:4");
}

// parity: 44, 48
#[test]
fn the_earlier_systems_timers_are_heard() {
    let variables = [
        ("TIMEOUT", "300"),
        ("CONNECT_TIMEOUT", "1.5"),
        ("MAX_RETRIES", "3"),
        ("RETRY_DELAY", "5"),
        ("SHUTDOWN_TIMEOUT", "7"),
    ];
    let config = accepted(UPSTREAM, &variables);
    let timeouts = config.upstreams[0].timeouts;
    assert_eq!((timeouts.first_byte, timeouts.idle), (Duration::from_secs(300), Duration::from_secs(300)));
    assert_eq!(timeouts.connect, Duration::from_millis(1500));
    assert_eq!((config.retry.attempts_max, config.retry.same_upstream), (3, 2));
    assert_eq!(
        (config.retry.backoff, config.retry.backoff_max),
        (Duration::from_secs(5), Duration::from_secs(5))
    );
    assert_eq!(config.server.shutdown_grace, Duration::from_secs(7));
}

#[test]
fn a_file_beats_the_environment_and_flags_beat_both() {
    let text = format!("server: {{ listen: 127.0.0.1:1 }}\n{UPSTREAM}");
    assert_eq!(accepted(&text, &[("PORT", "2")]).server.listen.port(), 1);
    let overrides = Overrides { proxy_port: Some(3), ..Overrides::default() };
    let (config, _) =
        load_text(&text, Path::new("c.yaml"), &environment(&[("PORT", "2")]), &overrides).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:3");
    let overrides = Overrides { admin: Some("0.0.0.0:1".parse().unwrap()), ..Overrides::default() };
    assert!(load_text(&text, Path::new("c.yaml"), &Environment::default(), &overrides).is_err());
}

#[test]
fn a_malformed_variable_is_named() {
    for (name, value) in [
        ("PORT", "http"),
        ("HOST", "example.com"),
        ("METRICS_PORT", "70000"),
        ("TIMEOUT", "soon"),
        ("MAX_RETRIES", "0"),
        ("RETRY_DELAY", "-1"),
        ("LOG_LEVEL", "loud"),
        ("REQUEST_LOG_ENABLED", "maybe"),
        ("LOG_FULL_TOKEN_ON_ERROR", "sometimes"),
        ("UPSTREAM_URL", "localhost:8000"),
        ("OPENAI_PORT", "x"),
        ("OPENAI_TLS", "perhaps"),
        ("OPENAI_API_KEY", "a\nb"),
    ] {
        let result = load(&Origin::Embedded, &environment(&[(name, value)]), &Overrides::default());
        let diagnostics = result.expect_err(name).to_string();
        assert!(diagnostics.starts_with(&format!("environment: `{name}` ")), "{diagnostics}");
        assert_eq!(diagnostics.matches("environment:").count(), 1, "{diagnostics}");
    }
}

// parity: 45
#[test]
fn the_shared_state_is_where_the_file_or_else_the_environment_says() {
    let redis = |url: &str| State::Redis(Secret::new(url));
    let variables = [("REDIS_URL", "redis://:pw@r")];
    let state = |further: &str, variables: &[(&str, &str)]| {
        let (config, warnings) = read(&format!("{UPSTREAM}{further}"), variables).unwrap();
        assert_eq!(warnings, []);
        assert!(!config.redacted().to_string().contains("pw"));
        config.state
    };
    assert_eq!(state("", &[]), State::Memory);
    assert_eq!(state("", &variables), redis("redis://:pw@r"));
    assert_eq!(state("state: memory\n", &variables), State::Memory);
    assert_eq!(state("state: redis://:pw@f/2\n", &variables), redis("redis://:pw@f/2"));
    assert_eq!(state("state: rediss://${H}\n", &[("H", "h")]), redis("rediss://h"));
}

#[test]
fn a_redis_url_that_cannot_be_read_is_refused_without_being_shown() {
    let diagnostics = read(UPSTREAM, &[("REDIS_URL", "redis://:pw@h/x")]).unwrap_err().to_string();
    assert_eq!(
        diagnostics,
        "environment: `REDIS_URL` is not usable: its host, its port or the number of its database cannot be read\n  = correct or unset the variable\n"
    );
}

// parity: 45
#[test]
fn the_size_of_a_pool_is_heard_and_has_no_effect() {
    let (_, warnings) = read(UPSTREAM, &[("REDIS_POOL_SIZE", "5")]).unwrap();
    assert_eq!(
        Diagnostics { all: warnings }.to_string(),
        "environment: warning: `REDIS_POOL_SIZE` has no effect\n  = one connection to the server carries everything\n"
    );
}

// parity: 48
#[test]
fn the_log_filter_prefers_the_more_precise_variable() {
    assert_eq!(log_filter(&environment(&[])), "info");
    assert_eq!(log_filter(&environment(&[("LOG_LEVEL", "WARNING")])), "warn");
    assert_eq!(
        log_filter(&environment(&[("LOG_LEVEL", "DEBUG"), ("RUST_LOG", "witgate=trace")])),
        "witgate=trace"
    );
}

// parity: 148
#[test]
fn tokens_are_logged_only_where_somebody_asks_for_it() {
    for (value, is_asked) in
        [("1", true), ("TRUE", true), ("yes", true), ("on", true), ("0", false), ("", false)]
    {
        let environment = environment(&[("LOG_FULL_TOKEN_ON_ERROR", value)]);
        assert_eq!(logs_full_token(&environment), is_asked, "{value}");
    }
    assert!(!logs_full_token(&environment(&[])));
}

// parity: 48, 150
#[test]
fn the_access_log_is_as_the_file_says_or_the_variable() {
    let log =
        |text: &str, variables: &[(&str, &str)]| read(&format!("{UPSTREAM}{text}"), variables).unwrap().0.log;
    assert_eq!(log("", &[]), Log::default());
    assert!(!log("", &[("REQUEST_LOG_ENABLED", "false")]).is_access);
    assert!(log("log: { access: true }\n", &[("REQUEST_LOG_ENABLED", "false")]).is_access);
    let json = log("log: { format: json }\n", &[]);
    assert_eq!((json.format, json.access_format), (LogFormat::Json, LogFormat::Json));
    let mixed = log("log: { format: json, access_format: text }\n", &[]);
    assert_eq!((mixed.format, mixed.access_format), (LogFormat::Json, LogFormat::Text));
    let files = log("log: { dir: logs, size_max: 1MiB, keep: { error: 0 } }\n", &[]);
    assert_eq!(files.dir.as_deref(), Some(Path::new("logs")));
    assert_eq!((files.size_max, files.keep), (1 << 20, LogKeep { error: 0, ..LogKeep::default() }));
    assert_eq!(log("log: { dir: '' }\n", &[]).dir, None);
}

#[test]
fn what_is_wrong_with_the_log_is_said() {
    refused_after_upstream(
        "log: { keep: { info: -1, warn: 3 } }",
        r"
c.yaml:4:22: `info` must be a whole number from 0 to 36500, not `-1`
  | log: { keep: { info: -1, warn: 3 } }
  |                      ^^
c.yaml:4:26: `warn` is not a key of `keep`
  | log: { keep: { info: -1, warn: 3 } }
  |                          ^^^^
  = known are `info`, `error`, `system`
",
    );
}

#[test]
fn the_flag_names_the_file_before_the_variable_does() {
    let set = environment(&[("WITGATE_CONFIG", "b.yaml")]);
    assert_eq!(locate(Some(Path::new("a.yaml")), &set), Origin::File("a.yaml".into()));
    assert_eq!(locate(None, &set), Origin::File("b.yaml".into()));
}

#[test]
fn durations_and_sizes_have_units() {
    assert_eq!(values::duration("100ms"), Some(Duration::from_millis(100)));
    assert_eq!(values::duration("5m"), Some(Duration::from_secs(300)));
    assert_eq!(values::duration("1h"), Some(Duration::from_secs(3600)));
    assert_eq!(values::duration("10"), None);
    assert_eq!(values::duration("99999999999h"), None);
    assert_eq!(values::size("512KiB"), Some(512 << 10));
    assert_eq!(values::size("1GiB"), Some(1 << 30));
    assert_eq!(values::size("17"), Some(17));
    assert_eq!(values::size("1MB"), None);
    assert_eq!(values::size("99999999999TiB"), None);
    assert_eq!(values::percent("20%"), Some(20.0));
    assert_eq!(values::rate("100/1m"), Some((100, Duration::from_secs(60))));
}

/// Every file of `config/`, which is what users copy from.
fn shipped() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

#[test]
fn every_shipped_file_loads_without_a_warning() {
    let set = environment(&[("OPENAI_API_KEY", "1"), ("SECONDARY_API_KEY", "2")]);
    assert!(shipped().len() >= 4);
    for path in shipped() {
        let (_, warnings) =
            load(&Origin::File(path), &set, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(warnings, []);
    }
}

#[test]
fn how_long_a_stream_is_held_back_is_read() {
    let text = "upstreams:\n  - { name: a, base_url: 'http://a', hedge: 2s, timeouts: { first_byte: 300s } }\n\
                \x20 - { name: b, base_url: 'http://b', timeouts: { first_byte: 0s } }\n\
                \x20 - { name: c, base_url: 'http://c', timeouts: { first_token: 5s } }\n\
                commit: { events_max: 0, bytes_max: 1KiB, wait_max: 3s }\n";
    let config = accepted(text, &[]);
    let commit = Commit { events_max: 0, bytes_max: 1024, wait_max: Duration::from_secs(3) };
    assert_eq!((config.commit, config.upstreams[0].hedge), (commit, Duration::from_secs(2)));
    // Who allows the head more time than the first token has by default means the first token, too.
    let seconds: Vec<u64> = config.upstreams.iter().map(|one| one.timeouts.first_token.as_secs()).collect();
    assert_eq!(seconds, [300, 0, 5]);
}

#[test]
fn the_reference_shows_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/config.yaml");
    let reference = accepted(&std::fs::read_to_string(path).unwrap(), &[]);
    let minimal = accepted(UPSTREAM, &[]);
    assert_eq!(reference.server, minimal.server);
    assert_eq!(reference.routing, minimal.routing);
    assert_eq!(reference.retry, minimal.retry);
    assert_eq!(reference.limits, minimal.limits);
    assert_eq!(reference.commit, minimal.commit);
    assert_eq!(reference.upstreams[0].hedge, minimal.upstreams[0].hedge);
    assert_eq!(reference.models_cache_ttl, minimal.models_cache_ttl);
    assert_eq!(reference.audit, minimal.audit);
    assert_eq!(reference.log, minimal.log);
    assert_eq!((reference.metrics, reference.otlp), (minimal.metrics, minimal.otlp));
    assert_eq!(reference.upstreams[0].timeouts, minimal.upstreams[0].timeouts);
    assert_eq!(reference.upstreams[0].clean, minimal.upstreams[0].clean);
    assert_eq!(reference.upstreams[0].breaker, minimal.upstreams[0].breaker);
    let [plugin] = &reference.plugins[..] else { panic!("one plugin as an example") };
    let config = PluginConfig::new(r#"{"mode":"strip"}"#, r#"{"mode":"strip"}"#);
    let source = PluginSource::Builtin("think-strip".to_owned());
    assert_eq!(*plugin, Plugin { config, ..Plugin::new("hide-thinking", source) });
}

fn reference() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/config.yaml")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_panics(text in "[ -~\n\t\u{0}é\u{feff}]{0,200}") {
        let _ = read(&text, &[]).map_err(|diagnostics| diagnostics.to_string());
    }

    #[test]
    fn no_yaml_like_text_panics(words in prop::collection::vec(prop::sample::select(vec![
        "upstreams", "server", "name", "- ", ": ", ":", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ",", "\"", "'", "|", ">",
        "&a ", "*a", "<<: ", "${", "}", "?", "!!str ", "!x ", "%", "---\n", "...\n", "# ", "api_key", "0", "~", "é", "\r\n",
    ]), 0..60)) {
        let _ = read(&words.concat(), &[]).map_err(|diagnostics| diagnostics.to_string());
    }

    #[test]
    fn no_mutation_of_the_reference_panics(
        at in any::<prop::sample::Index>(),
        length in 0usize..40,
        inserted in "[ -~\n]{0,8}",
    ) {
        let mut characters: Vec<char> = reference().chars().collect();
        let from = at.index(characters.len());
        let to = (from + length).min(characters.len());
        characters.splice(from..to, inserted.chars());
        let text: String = characters.into_iter().collect();
        let _ = read(&text, &[]).map_err(|diagnostics| diagnostics.to_string());
    }

    #[test]
    fn expansion_leaves_text_without_braces_alone(text in "[^{]{0,50}") {
        prop_assert_eq!(expand(&text, &Environment::default()), Ok(text));
    }
}

#[test]
fn an_alias_is_a_model_that_the_upstream_takes() {
    let text = "upstreams:
  - name: a
    base_url: http://a
    model_match: { type: exact, value: [served] }
    models: { fast: served }
  - name: b
    base_url: http://b
    model_match: { value: [other] }
    fallback: [fast]
";
    let config = accepted(text, &[]);
    let takes = |model| config.upstreams.iter().map(|upstream| upstream.accepts(model)).collect::<Vec<_>>();
    assert_eq!(takes("fast"), [true, false]);
    assert_eq!(takes("served"), [true, false]);
    assert_eq!(takes("faster"), [false, false]);
}

#[test]
fn bounds_that_would_refuse_every_request_are_refused() {
    refused_after_upstream(
        "server: { header_timeout: 0s, request_body_max: 0 }",
        r"
c.yaml:4:27: `header_timeout` must not be zero
  | server: { header_timeout: 0s, request_body_max: 0 }
  |                           ^^
  = write a long one such as `1h`, or remove the key for 10 s
c.yaml:4:49: `request_body_max` must not be zero
  | server: { header_timeout: 0s, request_body_max: 0 }
  |                                                 ^
  = write a large one such as `1GiB`, or remove the key for 64 MiB
",
    );
}

#[test]
fn names_on_one_line_are_held_against_each_other_too() {
    refused(
        "upstreams: [{name: a, base_url: http://a}, {name: a, base_url: http://b}]",
        r"
c.yaml:1:51: the upstream `a` is defined twice
  | upstreams: [{name: a, base_url: http://a}, {name: a, base_url: http://b}]
  |                                                   ^
  = the first is on line 1; names are part of the routing hash
",
    );
}

#[test]
fn a_change_of_any_file_since_it_was_read_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    let (key, ca) = (folder.path().join("key"), folder.path().join("ca.pem"));
    let text = format!("{UPSTREAM}    api_key: file:key\n    tls: {{ ca: ca.pem }}\n");
    let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    let load = || load(&Origin::File(path.clone()), &environment(&[]), &Overrides::default()).unwrap().0;
    write(&path, &text);
    write(&key, "one");
    write(&ca, "one");
    let first = load();
    assert_eq!(first.sources().look(), first.sources());

    write(&path, &format!("{text}# a comment\n"));
    assert_ne!(first.sources().look(), first.sources());
    let second = load();
    assert_eq!(second.sources().look(), second.sources());
    assert!(second.says_the_same_as(&first));
    assert_ne!(second.fingerprint(), first.fingerprint());

    for file in [&key, &ca] {
        let before = load();
        write(file, "two");
        assert_ne!(before.sources().look(), before.sources());
        assert!(!load().says_the_same_as(&before));
        assert_ne!(load().fingerprint(), before.fingerprint());
        write(file, "one");
        assert_eq!(load().fingerprint(), before.fingerprint());
    }
    let before = load();
    std::fs::remove_file(&ca).unwrap();
    assert_ne!(before.sources().look(), before.sources());
}

const PLUGIN: &str = "plugins:\n  - name: p\n    source: builtin:think-strip\n";

/// The plugin of these lines behind those of `PLUGIN`.
#[track_caller]
fn plugin(lines: &str, pairs: &[(&str, &str)]) -> Plugin {
    accepted(&format!("{UPSTREAM}{PLUGIN}{lines}"), pairs).plugins.remove(0)
}

/// The diagnostics of lines from the seventh line on, behind an upstream and a plugin.
#[track_caller]
fn refused_after_plugin(lines: &str, expected: &str) {
    refused_after_upstream(&format!("{PLUGIN}{lines}"), expected);
}

#[test]
fn a_plugin_needs_no_more_than_a_name_and_a_source() {
    assert_eq!(plugin("", &[]), Plugin::new("p", PluginSource::Builtin("think-strip".to_owned())));
    assert!(accepted(UPSTREAM, &[]).plugins.is_empty());
    assert_eq!(embedded(&[]).plugins[0].source.to_string(), "builtin:think-strip");
}

#[test]
fn everything_a_plugin_may_say_is_read() {
    let lines = format!(
        "    sha256: {}
    match: {{ models: [\"gpt-*\"], endpoints: [chat.completions, completions], keys: team-a, streaming: only }}
    on_fault: {{ default: skip, on-request: reject }}
    limits: {{ memory: 64MiB, call_timeout: 1s, wait_timeout: 2s, init_timeout: 3s, instances_max: 4, artifact_max: 5MiB }}
    instance: {{ reuse: {{ uses_max: 1000, memory_max: 1MiB, scope: any }} }}
    allow:
      http: [\"https://dlp.internal:8443\", \"https://*.example.com\"]
      env: [REGION]
      kv: 1MiB
      secrets: [KEY]
      metrics: 20
      audit_bodies: true
      credentials: true
",
        "0123456789abcdefABCDEF".repeat(3).split_at(64).0
    );
    let plugin = plugin(&lines, &[("REGION", "eu"), ("KEY", "line one\nline two")]);
    assert_eq!(plugin.sha256.map(|digest| (digest[0], digest[31])), Some((0x01, 0xCD)));
    assert_eq!(plugin.matching.models[0].as_str(), "gpt-*");
    assert_eq!(plugin.matching.endpoints, [Endpoint::ChatCompletions, Endpoint::Completions]);
    assert_eq!(plugin.matching.keys[0].as_str(), "team-a");
    assert_eq!(plugin.matching.streaming, Streaming::Only);
    assert!(plugin.on_fault.skips("on-tick") && !plugin.on_fault.skips("on-request"));
    assert_eq!(plugin.limits.memory, 64 << 20);
    let seconds = [plugin.limits.call_timeout, plugin.limits.wait_timeout, plugin.limits.init_timeout];
    assert_eq!(seconds.map(|timeout| timeout.as_secs()), [1, 2, 3]);
    assert_eq!((plugin.limits.instances_max, plugin.limits.artifact_max), (4, 5 << 20));
    assert_eq!((plugin.reuse.uses_max, plugin.reuse.memory_max), (1000, 1 << 20));
    assert_eq!(plugin.reuse.scope, ReuseScope::Any);
    assert_eq!(plugin.allow.http, ["https://dlp.internal:8443", "https://*.example.com"]);
    assert_eq!(plugin.allow.env, [("REGION".to_owned(), "eu".to_owned())]);
    assert_eq!(plugin.allow.secrets[0].0, "KEY");
    assert_eq!(plugin.allow.secrets[0].1.expose(), "line one\nline two");
    assert_eq!((plugin.allow.kv, plugin.allow.metrics), (1 << 20, 20));
    assert!(plugin.allow.audit_bodies && plugin.allow.credentials);
}

#[test]
fn faults_can_be_told_apart_by_hook() {
    assert_eq!(plugin("    on_fault: skip\n", &[]).on_fault.default, FaultPolicy::Skip);
    for hook in HOOKS {
        let on_fault = plugin(&format!("    on_fault: {{ {hook}: skip }}\n"), &[]).on_fault;
        assert!(HOOKS.iter().all(|other| on_fault.skips(other) == (other == hook)), "{hook}");
    }
    refused_after_plugin(
        "    on_fault: { on-reqest: skip, default: ignore }",
        r"
c.yaml:7:17: `on-reqest` is not a key of `on_fault`
  |     on_fault: { on-reqest: skip, default: ignore }
  |                 ^^^^^^^^^
  = did you mean `on-request`?
c.yaml:7:43: `default` must be `reject` or `skip`, not `ignore`
  |     on_fault: { on-reqest: skip, default: ignore }
  |                                           ^^^^^^
",
    );
    refused_after_plugin(
        "    on_fault: [skip]",
        r"
c.yaml:7:15: `on_fault` must be `reject` or `skip`, not a list
  |     on_fault: [skip]
  |               ^^^^^^
",
    );
    refused_after_plugin(
        "    required: true\n    on_fault: { on-complete: skip }",
        r"
c.yaml:7:5: `required: true` and `skip` in `on_fault` contradict each other
  |     required: true
  |     ^^^^^^^^
  = after a fault the exchange would go on without the plugin: remove `required` or the `skip`
",
    );
    assert!(plugin("    required: true\n    on_fault: { default: reject }\n", &[]).required);
}

#[test]
fn a_plugins_name_and_source_must_be_known() {
    refused_after_upstream(
        "plugins:\n  - { name: Hide_it, source: builtin:think-srtip }\n  - { name: a, source: builtin:x }\n  - { name: a }",
        r"
c.yaml:5:13: the name of a plugin must be 1 to 64 lowercase letters, digits and `-`, not `Hide_it`
  |   - { name: Hide_it, source: builtin:think-srtip }
  |             ^^^^^^^
  = write it like `hide-thinking`; metrics are named after it
c.yaml:5:30: there is no built-in plugin `builtin:think-srtip`
  |   - { name: Hide_it, source: builtin:think-srtip }
  |                              ^^^^^^^^^^^^^^^^^^^
  = did you mean `builtin:think-strip`?
c.yaml:6:24: there is no built-in plugin `builtin:x`
  |   - { name: a, source: builtin:x }
  |                        ^^^^^^^^^
  = known are BUILTINS
c.yaml:7:5: `source` is missing in one of `plugins`
  |   - { name: a }
  |     ^^^^^^^^^^^
  = add `source: …`
c.yaml:7:13: the plugin `a` is defined twice
  |   - { name: a }
  |             ^
  = the first is on line 6; give this one another name
"
        .replace("BUILTINS", &builtins())
        .as_str(),
    );
    refused_after_upstream(
        "plugins: { name: a }",
        r"
c.yaml:4:10: `plugins` must be a list, each item beginning with `- `, not a mapping
  | plugins: { name: a }
  |          ^^^^^^^^^^^
",
    );
}

fn builtins() -> String {
    crate::builtin::names().map(|name| format!("`builtin:{name}`")).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_plugins_file_is_looked_for_beside_the_configuration_and_watched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    let file = folder.path().join("p.wasm");
    let load = |lines: &str| {
        let text = format!("{UPSTREAM}plugins:\n  - name: p\n    source: p.wasm\n{lines}");
        std::fs::write(&path, text).unwrap();
        load(&Origin::File(path.clone()), &environment(&[]), &Overrides::default()).map(|(config, _)| config)
    };
    let missing = load("").unwrap_err().to_string();
    assert!(missing.contains("c.yaml:6:13: there is no file `p.wasm`"), "{missing}");

    std::fs::write(&file, vec![0; 2048]).unwrap();
    let config = load("").unwrap();
    assert_eq!(config.plugins[0].source, PluginSource::File(file.clone()));
    assert_eq!(config.sources().look(), config.sources());
    std::fs::write(&file, vec![1; 2048]).unwrap();
    assert_ne!(config.sources().look(), config.sources());
    assert!(!load("").unwrap().says_the_same_as(&config));

    let large = load("    limits: { artifact_max: 1KiB }\n").unwrap_err().to_string();
    assert!(
        large.contains("c.yaml:6:13: the file has 2048 bytes, more than `limits.artifact_max`, 1KiB"),
        "{large}"
    );
}

#[test]
fn a_large_file_that_was_replaced_by_one_like_it_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("c.yaml"), folder.path().join("p.wasm"));
    std::fs::write(&path, format!("{UPSTREAM}plugins:\n  - {{ name: p, source: p.wasm }}\n")).unwrap();
    std::fs::write(&file, vec![0; 2 << 20]).unwrap();
    let (config, _) = load(&Origin::File(path), &environment(&[]), &Overrides::default()).unwrap();
    assert_eq!(config.sources().look(), config.sources());
    let other = folder.path().join("other");
    std::fs::write(&other, vec![1; 2 << 20]).unwrap();
    std::fs::rename(&other, &file).unwrap();
    assert_ne!(config.sources().look(), config.sources());
}

#[test]
fn a_plugins_configuration_becomes_json() {
    let json = |lines: &str, pairs: &[(&str, &str)]| plugin(lines, pairs).config.to_string();
    assert_eq!(json("", &[]), "{}");
    assert_eq!(json("    config: null\n", &[]), "{}");
    assert_eq!(
        json(
            "    config: { a: [1, 0.70, -1e3, true, null, ~, \"1\", yes], b: { \"c d\": \"é\\n\" } }\n",
            &[]
        ),
        r#"{"a":[1,0.70,-1e3,true,null,null,"1","yes"],"b":{"c d":"é\n"}}"#
    );
    assert_eq!(json("    config:\n      n: \"${N}\"\n      m: ${N}\n", &[("N", "5")]), r#"{"n":"5","m":5}"#);
    assert_eq!(json("    config: [a]\n", &[]), r#"["a"]"#);
    refused_after_plugin(
        "    config: { key: \"${NOT_SET}\" }",
        r##"
c.yaml:7:20: the environment variable `NOT_SET` is not set
  |     config: { key: "${NOT_SET}" }
  |                    ^^^^^^^^^^^^
  = set it, or give a default: `${NOT_SET:-…}`
"##,
    );
}

#[test]
fn nothing_shows_a_plugins_secrets() {
    let lines = "    config: { mode: visible, a: [\"${A}\"], b: { x: \"x${B:-hunter3}\" }, api_key: hunter4, \
                 Auth_Token: [hunter5], max_tokens: 7, url: \"http://u:hunter6@a/\" }\n    \
                 allow: { env: [A], secrets: { ONE: hunter7, TWO: \"${A}\" } }\n";
    let text = format!("{UPSTREAM}{PLUGIN}{lines}");
    let config = accepted(&text, &[("A", "hunter1")]);
    assert_eq!(config.plugins[0].allow.secrets[1].1.expose(), "hunter1");
    assert!(config.plugins[0].config.contains("hunter3"));
    let shown = config.redacted().to_string();
    assert!(shown.contains("visible") && shown.contains(r#""max_tokens":7"#), "{shown}");
    assert!(shown.contains("ONE") && !shown.contains("hunter"), "{shown}");
    assert!(!format!("{config:?}").contains("hunter"));
}

#[test]
fn secrets_and_variables_of_a_plugin_are_names_or_pairs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "one\ntwo\n").unwrap();
    let lines = format!(
        "    allow: {{ secrets: {{ KEY: \"file:{}\" }}, env: {{ REGION: eu }} }}\n",
        folder.path().join("key").display()
    );
    let allow = plugin(&lines, &[]).allow;
    assert_eq!(allow.secrets[0].1.expose(), "one\ntwo");
    assert_eq!(allow.env, [("REGION".to_owned(), "eu".to_owned())]);
    refused_after_plugin(
        "    allow:\n      secrets: [SECRET, NOT_SET]\n      env: NOT_SET",
        r"
c.yaml:8:25: the environment variable `NOT_SET` is not set
  |       secrets: [SECRET, NOT_SET]
  |                         ^^^^^^^
  = set it, or take it out of `allow.secrets`
c.yaml:9:12: the environment variable `NOT_SET` is not set
  |       env: NOT_SET
  |            ^^^^^^^
  = set it, or take it out of `allow.env`
",
    );
    refused_after_plugin(
        "    allow:\n      secrets: { A: \"\", B: hunter2, C: true }\n      env: { A=B: c }",
        r##"
c.yaml:8:21: the secret `A` is empty
  |       secrets: { A: **, B: *******, C: **** }
  |                     ^^
  = give it a value, or remove it
c.yaml:8:40: `C` must be a text, not `true`
  |       secrets: { A: **, B: *******, C: **** }
  |                                        ^^^^
  = put it in quotes if the text is meant
c.yaml:9:14: this is not a variable's name
  |       env: { A=B: c }
  |              ^^^
  = write it like `REGION`
"##,
    );
}

#[test]
fn a_plugins_bounds_say_what_they_may_be() {
    refused_after_plugin(
        "    limits: { memory: 2GiB, call_timeout: 0s, wait_timeout: 2h, instances_max: 0, artifact_max: 1 }
    instance: { reuse: { memory_max: 1KiB, scope: all } }
    allow: { kv: 2GiB, metrics: 10001 }
    sha256: abc",
        r"
c.yaml:7:23: `memory` must be from 64KiB to 1GiB, not `2GiB`
  |     limits: { memory: 2GiB, call_timeout: 0s, wait_timeout: 2h, instances_max: 0, artifact_max: 1 }
  |                       ^^^^
c.yaml:7:43: `call_timeout` must be from 1ms to 1h, not `0s`
  |     limits: { memory: 2GiB, call_timeout: 0s, wait_timeout: 2h, instances_max: 0, artifact_max: 1 }
  |                                           ^^
c.yaml:7:61: `wait_timeout` must be from 1ms to 1h, not `2h`
  |     limits: { memory: 2GiB, call_timeout: 0s, wait_timeout: 2h, instances_max: 0, artifact_max: 1 }
  |                                                             ^^
c.yaml:7:80: `instances_max` must be a whole number from 1 to 1000000, not `0`
  |     limits: { memory: 2GiB, call_timeout: 0s, wait_timeout: 2h, instances_max: 0, artifact_max: 1 }
  |                                                                                ^
c.yaml:7:97: `artifact_max` must be from 1KiB to 1GiB, not `1`
  |     limits: { memory: 2GiB, call_timeout: 0s, wait_timeout: 2h, instances_max: 0, artifact_max: 1 }
  |                                                                                                 ^
c.yaml:8:38: `memory_max` must be from 64KiB to 1GiB, not `1KiB`
  |     instance: { reuse: { memory_max: 1KiB, scope: all } }
  |                                      ^^^^
c.yaml:8:51: `scope` must be `tenant` or `any`, not `all`
  |     instance: { reuse: { memory_max: 1KiB, scope: all } }
  |                                                   ^^^
c.yaml:9:18: `kv` must be from 0 to 1GiB, not `2GiB`
  |     allow: { kv: 2GiB, metrics: 10001 }
  |                  ^^^^
c.yaml:9:33: `metrics` must be a whole number from 0 to 10000, not `10001`
  |     allow: { kv: 2GiB, metrics: 10001 }
  |                                 ^^^^^
c.yaml:10:13: `sha256` must be 64 hexadecimal digits
  |     sha256: abc
  |             ^^^
  = `sha256sum FILE` prints them
",
    );
}

#[test]
fn what_a_plugin_matches_must_exist() {
    let labels: Vec<String> =
        Endpoint::ALL.iter().map(|endpoint| format!("`{}`", endpoint.label())).collect();
    refused_after_plugin(
        "    match: { endpoints: [chat.completion, pictures], streaming: yes }",
        &r"
c.yaml:7:26: `chat.completion` is not an endpoint
  |     match: { endpoints: [chat.completion, pictures], streaming: yes }
  |                          ^^^^^^^^^^^^^^^
  = did you mean `chat.completions`?
c.yaml:7:43: `pictures` is not an endpoint
  |     match: { endpoints: [chat.completion, pictures], streaming: yes }
  |                                           ^^^^^^^^
  = known are LABELS
c.yaml:7:65: `streaming` must be `any`, `only` or `never`, not `yes`
  |     match: { endpoints: [chat.completion, pictures], streaming: yes }
  |                                                                 ^^^
"
        .replace("LABELS", &labels.join(", ")),
    );
}

#[test]
fn an_origin_of_a_plugin_is_scheme_host_and_port() {
    for origin in [
        "https://dlp.internal:8443",
        "HTTP://localhost:1",
        "https://*.example.com",
        "https://example.com.",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "http://[::1]",
        "http://my_host",
    ] {
        assert_eq!(values::origin(origin), Ok(()), "{origin}");
    }
    for (origin, fault) in [
        ("example.com", "has no scheme"),
        ("", "has no scheme"),
        ("ftp://example.com", "must begin with `http://` or `https://`"),
        ("https://example.com/", "goes on behind its host"),
        ("https://example.com?a", "goes on behind its host"),
        ("https://a@example.com", "must not hold a user or password"),
        ("https://", "has no usable host"),
        ("https://*", "is every host"),
        ("https://*.", "has no usable host"),
        ("https://a.*.com", "has no usable host"),
        ("https://*a.com", "has no usable host"),
        ("https://a..b", "has no usable host"),
        ("https://münchen.de", "has no usable host"),
        ("https://a:1:2", "has no usable host"),
        ("https://*.[::1]", "has no usable host"),
        ("https://*.10.0.0.1", "has a host that ends in a number"),
        ("https://127.1", "has a host that ends in a number"),
        ("https://0x7f.0X1", "has a host that ends in a number"),
        ("https://a:0", "has no usable port"),
        ("https://a:65536", "has no usable port"),
        ("https://a:+1", "has no usable port"),
        ("https://a:", "has no usable port"),
        ("https://[::1", "has no usable host"),
        ("https://[x]", "has no IPv6 address in its brackets"),
    ] {
        assert_eq!(values::origin(origin).map_err(|(fault, _)| fault), Err(fault), "{origin}");
    }
    refused_after_plugin(
        "    allow: { http: [dlp.internal, \"https://dlp.internal/v1\"] }",
        r##"
c.yaml:7:21: the origin `dlp.internal` has no scheme
  |     allow: { http: [dlp.internal, "https://dlp.internal/v1"] }
  |                     ^^^^^^^^^^^^
  = write it like `https://dlp.internal:8443`
c.yaml:7:35: the origin `https://dlp.internal/v1` goes on behind its host
  |     allow: { http: [dlp.internal, "https://dlp.internal/v1"] }
  |                                   ^^^^^^^^^^^^^^^^^^^^^^^^^
  = end it after the host or port
"##,
    );
}

#[test]
fn compiled_plugins_are_kept_in_the_users_cache_folder() {
    let folder =
        |text: &str, pairs: &[(&str, &str)]| accepted(&format!("{UPSTREAM}{text}"), pairs).server.cache_dir;
    assert_eq!(folder("", &[]), None);
    assert_eq!(folder("", &[("HOME", "/home/u")]), Some("/home/u/.cache/witgate".into()));
    let both = [("HOME", "/home/u"), ("XDG_CACHE_HOME", "/cache")];
    assert_eq!(folder("", &both), Some("/cache/witgate".into()));
    assert_eq!(folder("", &[("HOME", "/h"), ("XDG_CACHE_HOME", "c")]), Some("/h/.cache/witgate".into()));
    assert_eq!(folder("server: { cache_dir: /var/c }\n", &both), Some("/var/c".into()));
    assert_eq!(folder("server: { cache_dir: c }\n", &both), Some("c".into()));
    assert_eq!(folder("server: { cache_dir: \"\" }\n", &both), None);
}

#[track_caller]
fn check_network(text: &str, network: Option<&str>) {
    assert_eq!(values::network(text).map(|network| network.to_string()).as_deref(), network, "{text}");
}

#[test]
fn a_network_is_an_address_with_a_prefix_or_without() {
    check_network("10.0.0.0/8", Some("10.0.0.0/8"));
    check_network("10.1.2.3/8", Some("10.0.0.0/8"));
    check_network("192.0.2.7", Some("192.0.2.7/32"));
    check_network("2001:db8::/32", Some("2001:db8::/32"));
    check_network("::1", Some("::1/128"));
    check_network("0.0.0.0/0", Some("0.0.0.0/0"));
    check_network("::ffff:192.0.2.7", Some("192.0.2.7/32"));
    check_network("::ffff:10.0.0.0/104", Some("10.0.0.0/8"));
    check_network("::/0", Some("::/0"));
    for text in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.256", "localhost", "*", "::1/129", "10.0.0.0/", "1"] {
        check_network(text, None);
    }
}

#[test]
fn networks_of_clients_and_proxies_are_read_and_wrong_ones_named() {
    let text = format!(
        "{UPSTREAM}server: {{ trusted_proxies: 10.0.0.0/8, allow_ips: [192.0.2.7, \"2001:db8::/32\"], proxy_protocol: true }}\n"
    );
    let server = accepted(&text, &[]).server;
    let written = |networks: &Networks| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(written(&server.trusted_proxies), ["10.0.0.0/8"]);
    assert_eq!(written(&server.allow_ips), ["192.0.2.7/32", "2001:db8::/32"]);
    assert!(server.proxy_protocol);
    for (client, is_let_in) in
        [("192.0.2.7", true), ("::ffff:192.0.2.7", true), ("2001:db8::9", true), ("192.0.2.8", false)]
    {
        assert_eq!(server.lets_in(client.parse().unwrap()), is_let_in, "{client}");
    }
    refused_after_upstream(
        "server: { allow_ips: [10.0.0.0/8, 10.0.0.256] }",
        r"
c.yaml:4:35: `10.0.0.256` in `allow_ips` is neither a network nor an address
  | server: { allow_ips: [10.0.0.0/8, 10.0.0.256] }
  |                                   ^^^^^^^^^^
  = write it like `10.0.0.0/8`, `192.0.2.7` or `2001:db8::/32`
",
    );
    refused_after_upstream(
        "server: { proxy_protocol: true, trusted_proxies: [] }",
        r"
c.yaml:4:27: `proxy_protocol` believes nobody without `trusted_proxies`
  | server: { proxy_protocol: true, trusted_proxies: [] }
  |                           ^^^^
  = add `trusted_proxies` with the networks that such connections come from
",
    );
    refused_after_upstream(
        "server: { trusted_proxies: [proxy.internal] }",
        r"
c.yaml:4:29: `proxy.internal` in `trusted_proxies` is neither a network nor an address
  | server: { trusted_proxies: [proxy.internal] }
  |                             ^^^^^^^^^^^^^^
  = write it like `10.0.0.0/8`, `192.0.2.7` or `2001:db8::/32`
",
    );
}

#[test]
fn limits_are_read_as_they_are_written() {
    let text = format!(
        "{UPSTREAM}limits:
  requests: 100/1m
  tokens: 5000/1h
  in_flight: 4
  budget: {{ day: {{ tokens: 9, money: 1.5 }}, month: {{ money: 20 }} }}
  by: 'header:User'
  total: {{ requests: 7/1s }}
tenants: [{{ name: t, limits: {{ tokens: 3/1s }} }}]
prices:
  gpt-*: {{ input: 2.5, output: 10, cached: 1.25 }}
  '*': {{ input: 0, output: 0.4, reasoning: 1 }}
"
    );
    let config = accepted(&text, &[]);
    let limits = &config.limits;
    let minute = Duration::from_secs(60);
    assert_eq!(limits.each.requests, Some(Rate { count: 100, window: minute }));
    assert_eq!(limits.each.tokens, Some(Rate { count: 5000, window: 60 * minute }));
    assert_eq!(limits.each.in_flight, 4);
    assert_eq!(limits.each.day, Spend { tokens: Some(9), money: Some(1_500_000) });
    assert_eq!(limits.each.month, Spend { tokens: None, money: Some(20_000_000) });
    assert_eq!(limits.by, LimitBy::Header("user".parse().unwrap()));
    assert_eq!(limits.total.requests, Some(Rate { count: 7, window: Duration::from_secs(1) }));
    assert_eq!(limits.total.tokens, None, "all callers together are not bounded as each is");
    assert_eq!((&*config.tenants[0].name, config.tenants[0].quota.tokens.unwrap().count), ("t", 3));
    let prices: Vec<_> = config
        .prices
        .iter()
        .map(|price| (price.models.as_str(), price.input, price.cached, price.output, price.reasoning))
        .collect();
    assert_eq!(prices, [("gpt-*", 2_500, 1_250, 10_000, 10_000), ("*", 0, 0, 400, 1_000)]);
    let shown = config.redacted();
    assert_eq!(shown["limits"]["budget"]["day"]["money"], 1.5);
    assert_eq!(shown["prices"]["gpt-*"]["cached"], 1.25);
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    refused_after_upstream(
        "limits: { requests: 0/1m, by: colour }\ntenants: [{ name: t }, { name: t }]\n",
        r"
c.yaml:4:21: `requests` allows nothing
  | limits: { requests: 0/1m, by: colour }
  |                     ^^^^
  = write `0` for no bound; whom nothing is allowed is better left out of `keys`
c.yaml:4:31: `by` must be `key`, `tenant`, `ip` or `header:NAME`, not `colour`
  | limits: { requests: 0/1m, by: colour }
  |                               ^^^^^^
  = write for example `header:user`
c.yaml:5:32: the tenant `t` is defined twice
  | tenants: [{ name: t }, { name: t }]
  |                                ^
  = the first is on line 5; keep one of them
",
    );
}

#[track_caller]
fn check_environment(
    pairs: &[(&str, &str)],
    requests: Option<(u64, u64)>,
    tokens: Option<(u64, u64)>,
    by: &LimitBy,
) {
    let limits = accepted(UPSTREAM, pairs).limits;
    let rate = |rate: Option<Rate>| rate.map(|rate| (rate.count, rate.window.as_secs()));
    assert_eq!((rate(limits.each.requests), rate(limits.each.tokens)), (requests, tokens), "{pairs:?}");
    assert_eq!(&limits.by, by, "{pairs:?}");
}

// parity: 45
#[test]
fn the_earlier_systems_limits_come_from_the_environment() {
    let user = |name: &str| LimitBy::Header(name.parse().unwrap());
    check_environment(&[], None, None, &LimitBy::Key);
    check_environment(&[("RATE_LIMIT_ENABLED", "true")], Some((100, 60)), None, &LimitBy::Ip);
    check_environment(&[("RATE_LIMIT_REQUESTS", "5")], Some((5, 60)), None, &LimitBy::Ip);
    check_environment(&[("RATE_LIMIT_WINDOW", "10")], Some((100, 10)), None, &LimitBy::Ip);
    check_environment(
        &[("RATE_LIMIT_REQUESTS", "5"), ("RATE_LIMIT_ENABLED", "no")],
        None,
        None,
        &LimitBy::Key,
    );
    check_environment(&[("ENABLE_RATE_LIMITING", "true")], None, Some((1000, 3600)), &user("user"));
    check_environment(
        &[
            ("ENABLE_RATE_LIMITING", "1"),
            ("MAX_TOKENS", "7"),
            ("RATE_LIMIT_WINDOW_MIN", "2"),
            ("USER_HEADER", "X-Who"),
        ],
        None,
        Some((7, 120)),
        &user("x-who"),
    );
    check_environment(&[("MAX_TOKENS", "7"), ("USER_HEADER", "x")], None, None, &LimitBy::Key);
    let both = [("RATE_LIMIT_REQUESTS", "5"), ("ENABLE_RATE_LIMITING", "true")];
    let (config, warnings) = read(UPSTREAM, &both).unwrap();
    assert_eq!((config.limits.by, warnings.len()), (user("user"), 1));
    let file = format!("{UPSTREAM}limits: {{ requests: 0, tokens: 9/1s, by: ip }}\n");
    let limits = read(&file, &both).unwrap().0.limits;
    assert_eq!((limits.each.requests, limits.each.tokens.map(|rate| rate.count)), (None, Some(9)));
    for (name, value) in [
        ("RATE_LIMIT_REQUESTS", "0"),
        ("RATE_LIMIT_WINDOW", "0"),
        ("RATE_LIMIT_ENABLED", "maybe"),
        ("MAX_TOKENS", "many"),
        ("RATE_LIMIT_WINDOW_MIN", "0"),
        ("USER_HEADER", "a b"),
    ] {
        let problems = read(UPSTREAM, &[(name, value)]).unwrap_err().to_string();
        assert!(problems.contains(name) && problems.contains(value), "{problems}");
    }
}
