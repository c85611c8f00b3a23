//! Who may call: keys, tokens, and what each of them may do.

mod commands;
mod tokens;

use serde_json::json;
use sha2::{Digest, Sha256};
use witgate_tests::audit::wait;
use witgate_tests::gateway::Launch;
use witgate_tests::{Answer, Gateway, Received, Reply, Request, Upstream, eventually};

/// What the gateways of these tests hash their keys with.
const SECRET: &str = "the secret of these tests";

/// HMAC-SHA256 of a key under [`SECRET`], as the configuration has it. Source: RFC 2104, section 2.
fn hash(key: &str) -> String {
    let padded = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(SECRET.as_bytes()).for_each(|(byte, secret)| *byte ^= secret);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(key).finalize();
    let digest = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hmac-sha256:{digits}")
}

/// A key that has its own name, `sk-NAME`, and these settings.
fn key(name: &str, settings: &str) -> String {
    format!("  - {{ name: {name}, hash: '{}'{settings} }}\n", hash(&format!("sk-{name}")))
}

/// A configuration with these keys and these upstreams, which know a key of their own.
fn config(keys: &[String], upstreams: &[(&str, &Upstream, &str)]) -> String {
    let upstream = |(name, upstream, settings): &(&str, &Upstream, &str)| {
        format!("  - {{ name: {name}, base_url: '{}', api_key: sk-upstream{settings} }}\n", upstream.url())
    };
    let keys = if keys.is_empty() { String::new() } else { format!("keys:\n{}", keys.concat()) };
    format!(
        "server: {{ key_secret: '{SECRET}' }}\n{keys}upstreams:\n{}",
        upstreams.iter().map(upstream).collect::<String>()
    )
}

fn chat(model: &str, key: &str) -> Request {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    Request::post("/v1/chat/completions", body.to_string()).header("authorization", &format!("Bearer {key}"))
}

#[track_caller]
fn refused(answer: Answer, status: u16, part: &str) {
    let answer = answer.expect(status);
    assert!(answer.error_message().contains(part), "{}", answer.text());
    let expected = if status == 401 { ("invalid_api_key", Some("Bearer")) } else { ("forbidden", None) };
    assert_eq!((answer.error_code().as_str(), answer.header("www-authenticate")), expected);
}

// parity: 133
#[test]
fn a_known_key_is_let_in_wherever_it_stands_and_goes_no_further() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["hi"]));
    let gateway = Gateway::start(&config(&[key("a", ", tenant: t")], &[("one", &upstream, "")]));
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let plain = |path: &str| Request::post(path, body.clone());
    let path = "/v1/chat/completions";
    let good = [
        plain(path).header("authorization", "Bearer sk-a"),
        plain(path).header("authorization", "bearer sk-a"),
        plain(path).header("x-api-key", "sk-a"),
        plain(path).header("x-goog-api-key", "sk-a"),
        plain(path).header("api-key", "sk-a"),
        plain(&format!("{path}?key=sk-a")),
        plain(&format!("{path}?a=b&key=sk-a")),
        plain("/chat/completions").header("x-api-key", "sk-a").header("authorization", "Bearer none"),
    ];
    for request in &good {
        gateway.send(request).expect(200);
        let received = upstream.last();
        assert_eq!(received.header("authorization"), Some("Bearer sk-upstream"));
        for header in ["x-api-key", "x-goog-api-key", "api-key", "cookie"] {
            assert_eq!(received.header(header), None, "{header}");
        }
        assert!(!received.target.contains("key="), "{}", received.target);
    }
    for (request, part) in [
        (plain(path), "there is no key"),
        (plain(path).header("authorization", "Basic sk-a"), "there is no key"),
        (plain(path).header("authorization", "Bearer sk-b"), "not known"),
        (plain(path).header("x-api-key", &hash("sk-a")), "not known"),
        (plain(&format!("{path}?key=sk-b")), "not known"),
        (Request::get("/v1/models"), "there is no key"),
        (Request::get("/v1/nothing"), "there is no key"),
    ] {
        refused(gateway.send(&request), 401, part);
    }
    assert_eq!(upstream.count(), good.len());
    let rows = wait(&gateway, good.len() + 7);
    let named = rows.iter().filter(|row| row["key"] == "a" && row["caller"] == "a" && row["tenant"] == "t");
    assert_eq!(named.count(), good.len());
    assert_eq!(rows.iter().filter(|row| row["status"] == 401 && row["key"].is_null()).count(), 7);
    // What is no request for a model asks nobody.
    gateway.send(&Request::get("/healthz")).expect(200);
}

// parity: 133
#[test]
fn a_key_is_good_in_its_time_and_from_its_places() {
    let upstream = Upstream::new(Reply::echo);
    let keys = [
        key("old", ", expires: 2020-01-01"),
        key("new", ", expires: 2999-01-01T00:00:00Z"),
        key("near", ", allow_ips: [127.0.0.0/8, '::1']"),
        key("far", ", allow_ips: [10.0.0.0/8]"),
    ];
    let gateway = Gateway::start(&config(&keys, &[("one", &upstream, "")]));
    gateway.send(&chat("m", "sk-new")).expect(200);
    gateway.send(&chat("m", "sk-near")).expect(200);
    refused(gateway.send(&chat("m", "sk-old")), 401, "expired");
    refused(gateway.send(&chat("m", "sk-far")), 403, "from this address");
    // The record says whose key it was.
    let rows = wait(&gateway, 4);
    let status = |name: &str| rows.iter().find(|row| row["key"] == name).expect(name)["status"].clone();
    assert_eq!((status("old"), status("far")), (json!(401), json!(403)));
    assert_eq!(upstream.count(), 2);
}

// parity: 133
#[test]
fn a_key_is_for_its_endpoints_and_models() {
    let upstream = Upstream::new(Reply::echo);
    let keys = [key("chat", ", endpoints: [chat.completions], models: ['gpt-*']"), key("all", "")];
    let gateway = Gateway::start(&config(&keys, &[("one", &upstream, "")]));
    gateway.send(&chat("gpt-4", "sk-chat")).expect(200);
    refused(gateway.send(&chat("o3", "sk-chat")), 403, "the model `o3`");
    let input = json!({"model": "gpt-4", "input": "x"}).to_string();
    let embed = |key: &str| Request::post("/v1/embeddings", input.clone()).header("x-api-key", key);
    refused(gateway.send(&embed("sk-chat")), 403, "`embeddings`");
    refused(gateway.send(&Request::get("/v1/models").header("api-key", "sk-chat")), 403, "`models`");
    gateway.send(&embed("sk-all")).expect(200);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn what_counts_is_the_model_that_plugins_have_made_of_it() {
    let upstream = Upstream::new(Reply::echo);
    let config = config(&[key("a", ", models: [small]")], &[("one", &upstream, "")]);
    let gateway = Gateway::start(&format!(
        "{config}plugins:\n  - name: rules\n    source: builtin:request-rewrite\n    config:\n      rules:\n        \
         - when: {{ models: [large] }}\n          then: {{ model: small }}\n        \
         - when: {{ models: [tiny] }}\n          then: {{ model: large }}\n          stop: true\n"
    ));
    gateway.send(&chat("small", "sk-a")).expect(200);
    gateway.send(&chat("large", "sk-a")).expect(200);
    assert_eq!(upstream.last().json()["model"], "small");
    refused(gateway.send(&chat("tiny", "sk-a")), 403, "the model `large`");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_fallback_that_the_key_may_not_use_is_passed_over() {
    let broken = Upstream::always(Reply::error(500, "no"));
    let (second, third) = (Upstream::new(Reply::echo), Upstream::new(Reply::echo));
    let keys =
        [key("narrow", ", models: [m, third]"), key("pinned", ", upstreams: [one, three]"), key("all", "")];
    let gateway = Gateway::start(&config(
        &keys,
        &[
            ("one", &broken, ", model_match: { type: exact, value: [m] }, fallback: [second, third]"),
            ("two", &second, ", model_match: { type: exact, value: [second] }"),
            ("three", &third, ", model_match: { type: exact, value: [third] }"),
        ],
    ));
    for (name, upstream) in [("all", "two"), ("narrow", "three"), ("pinned", "three")] {
        let answer = gateway.send(&chat("m", &format!("sk-{name}"))).expect(200);
        assert_eq!(answer.header("x-witgate-upstream"), Some(upstream), "{name}");
    }
    assert_eq!((second.count(), third.count()), (1, 2));
}

// parity: 134
#[test]
fn a_key_is_answered_by_its_upstreams_alone() {
    let (one, two) = (Upstream::new(Reply::echo), Upstream::new(Reply::echo));
    let other = Upstream::new(Reply::echo);
    let keys = [key("first", ", upstreams: [one]"), key("second", ", upstreams: [two]"), key("any", "")];
    let gateway = Gateway::start(&config(
        &keys,
        &[
            ("one", &one, ", model_match: { type: prefix, value: [m] }"),
            ("two", &two, ", model_match: { type: prefix, value: [m] }"),
            ("other", &other, ", model_match: { type: prefix, value: [o] }"),
        ],
    ));
    for number in 0..20 {
        let model = format!("m{number}");
        for (key, upstream) in [("sk-first", "one"), ("sk-second", "two")] {
            let answer = gateway.send(&chat(&model, key)).expect(200);
            assert_eq!(answer.header("x-witgate-upstream"), Some(upstream));
        }
    }
    gateway.send(&chat("o", "sk-any")).expect(200);
    refused(gateway.send(&chat("o", "sk-first")), 403, "no upstream that the key may use");
    gateway.send(&chat("x", "sk-first")).expect(404);
    assert_eq!((one.count(), two.count(), other.count()), (20, 20, 1));
}

// parity: 134
#[test]
fn a_tenants_keys_are_answered_by_its_upstreams() {
    let (one, two) = (Upstream::new(Reply::echo), Upstream::new(Reply::echo));
    let keys = [key("a", ", tenant: t"), key("b", ", tenant: t, upstreams: [one]"), key("c", ", tenant: u")];
    let config = config(&keys, &[("one", &one, ""), ("two", &two, "")]);
    let gateway = Gateway::start(&format!("{config}tenants: [{{ name: t, upstreams: [two] }}]\n"));
    for number in 0..10 {
        gateway.send(&chat(&format!("m{number}"), "sk-a")).expect(200);
    }
    assert_eq!((one.count(), two.count()), (0, 10));
    gateway.send(&chat("m", "sk-b")).expect(200);
    assert_eq!((one.count(), two.count()), (1, 10));
    for number in 0..10 {
        gateway.send(&chat(&format!("m{number}"), "sk-c")).expect(200);
    }
    assert!(one.count() > 1 && two.count() > 10, "a tenant without upstreams has all");
}

// parity: 134
#[test]
fn conversations_of_two_tenants_are_routed_apart() {
    let upstreams: Vec<Upstream> = (0..4).map(|_| Upstream::new(Reply::echo)).collect();
    let names = ["a", "b", "c", "d"];
    let listed: Vec<(&str, &Upstream, &str)> =
        names.iter().zip(&upstreams).map(|(name, upstream)| (*name, upstream, "")).collect();
    let keys = [key("x1", ", tenant: x"), key("x2", ", tenant: x"), key("y", ", tenant: y")];
    let gateway = Gateway::start(&config(&keys, &listed));
    let route = |text: usize, key: &str| {
        let body =
            json!({"model": "m", "messages": [{"role": "user", "content": format!("conversation {text}")}]});
        let request = Request::post("/v1/chat/completions", body.to_string()).header("x-api-key", key);
        gateway.send(&request).expect(200).header("x-witgate-upstream").expect("it is shown").to_owned()
    };
    let mut apart = 0;
    for text in 0..20 {
        let own = route(text, "sk-x1");
        assert_eq!(route(text, "sk-x2"), own, "a tenant's keys share their conversations' places");
        apart += usize::from(route(text, "sk-y") != own);
    }
    // One in four would meet by chance.
    assert!(apart >= 8, "{apart} of 20");
}

// parity: 133
#[test]
fn unknown_paths_are_for_keys_that_may_use_them() {
    let upstream = Upstream::new(Reply::echo);
    let keys =
        [key("a", ""), key("b", ", passthrough: true"), key("c", ", passthrough: true, upstreams: [two]")];
    let upstreams =
        [("one", &upstream, ", default: true"), ("two", &upstream, ", model_match: { value: x }")];
    let gateway = Gateway::start(&config(&keys, &upstreams));
    let files = |key: &str| Request::get("/v1/files").header("api-key", key);
    refused(gateway.send(&files("sk-a")), 403, "that the key may use");
    gateway.send(&files("sk-b")).expect(200);
    refused(gateway.send(&files("sk-c")), 403, "the upstream of this path");
    refused(gateway.send(&files("sk-d")), 401, "not known");
    assert_eq!(upstream.only().target, "/v1/files");
}

fn ids(answer: &Answer) -> Vec<String> {
    let data = answer.json()["data"].as_array().expect("a list has data").clone();
    data.iter().map(|model| model["id"].as_str().expect("a model has an id").to_owned()).collect()
}

#[test]
fn the_list_shows_the_models_that_the_key_may_use() {
    let one = Upstream::always(Reply::models(&["gpt-4", "gpt-4o", "o3"]));
    let two = Upstream::always(Reply::models(&["claude"]));
    let keys = [key("all", ""), key("gpt", ", models: ['gpt-*']"), key("two", ", upstreams: [two]")];
    let upstreams = [
        ("one", &one, ", model_match: { value: [gpt, o3] }"),
        ("two", &two, ", model_match: { value: [claude] }"),
    ];
    let gateway = Gateway::start(&config(&keys, &upstreams));
    let get = |path: &str, key: &str| gateway.send(&Request::get(path).header("api-key", key));
    assert_eq!(ids(&get("/v1/models", "sk-all").expect(200)), ["gpt-4", "gpt-4o", "o3", "claude"]);
    assert_eq!(ids(&get("/v1/models", "sk-gpt").expect(200)), ["gpt-4", "gpt-4o"]);
    assert_eq!(ids(&get("/v1/models", "sk-two").expect(200)), ["claude"]);
    get("/v1/models/o3", "sk-all").expect(200);
    get("/v1/models/o3", "sk-gpt").expect(404);
    get("/v1/models/claude", "sk-two").expect(200);
    // The upstreams are asked once for all of them, and not with a caller's key.
    assert_eq!((one.count(), two.count()), (1, 1));
    assert_eq!(one.last().header("authorization"), Some("Bearer sk-upstream"));
}

#[test]
fn listing_models_reads_the_configuration_again_only_for_who_is_known() {
    let upstream = Upstream::always(Reply::models(&["m"]));
    let keyed = |names: &[&str]| {
        let keys: Vec<String> = names.iter().map(|name| key(name, "")).collect();
        config(&keys, &[("one", &upstream, "")])
    };
    let gateway = Gateway::start(&keyed(&["a"]));
    for _ in 0..3 {
        refused(gateway.send(&Request::get("/v1/models").header("api-key", "sk-b")), 401, "not known");
    }
    gateway.rewrite_config(&keyed(&["a", "b"]));
    gateway.send(&Request::get("/v1/models").header("api-key", "sk-a")).expect(200);
    gateway.send(&Request::get("/v1/models").header("api-key", "sk-b")).expect(200);
}

#[test]
fn a_plugin_may_know_whom_the_gateway_does_not() {
    let upstream = Upstream::new(Reply::echo);
    let sha256: String = Sha256::digest("sk-plugged").iter().map(|byte| format!("{byte:02x}")).collect();
    let gateway = Gateway::start(&format!(
        "{}plugins:\n  - name: door\n    source: builtin:key-auth\n    config:\n      unknown: pass\n      missing: pass\n      \
         keys: [{{ name: plugged, tenant: p, sha256: '{sha256}' }}]\n",
        config(&[key("a", "")], &[("one", &upstream, ", default: true")])
    ));
    gateway.send(&chat("m", "sk-a")).expect(200);
    gateway.send(&chat("m", "sk-plugged")).expect(200);
    refused(gateway.send(&chat("m", "sk-none")), 401, "not known");
    refused(gateway.send(&Request::chat("hi")), 401, "there is no key");
    // What a key must be allowed nobody else is.
    refused(
        gateway.send(&Request::get("/v1/files").header("api-key", "sk-plugged")),
        403,
        "that the key may use",
    );
    let rows = wait(&gateway, 5);
    let callers: Vec<_> = rows.iter().map(|row| row["caller"].as_str().unwrap_or("-")).collect();
    assert_eq!(callers, ["a", "plugged", "-", "-", "plugged"]);
}

#[test]
fn an_upstream_without_a_key_is_not_sent_the_callers() {
    let upstream = Upstream::new(Reply::echo);
    for auth in ["own", "forward"] {
        let config = config(&[key("a", "")], &[("one", &upstream, &format!(", auth: {auth}"))]);
        let gateway = Gateway::start(&config.replace(", api_key: sk-upstream", ""));
        gateway.send(&chat("m", "sk-a")).expect(200);
        assert_eq!(upstream.last().header("authorization"), None);
        gateway.send(&Request::get("/v1/models").header("api-key", "sk-a"));
        assert_eq!(upstream.last().header("authorization"), None);
    }
}

#[test]
fn a_listener_for_others_is_open_without_keys_and_closed_with_them() {
    let upstream = Upstream::new(Reply::echo);
    for (keys, is_open) in [(vec![], true), (vec![key("a", "")], false)] {
        let launch = Launch::default().listening_by_itself().argument("--listen").argument("0.0.0.0:0");
        let gateway = launch.start(&config(&keys, &[("one", &upstream, "")]));
        let ready = gateway.send(&Request::get("/readyz")).expect(200);
        assert_eq!(ready.text() != "ready", is_open, "{}", ready.text());
        let warns = || gateway.stderr().contains("anybody who reaches this address");
        if is_open {
            eventually("a warning", || warns().then_some(()));
        } else {
            assert!(!warns(), "{}", gateway.stderr());
        }
    }
}

// parity: 147
#[test]
fn no_key_is_in_what_the_gateway_keeps_logs_or_tells() {
    let upstream = Upstream::new(Reply::echo);
    let names = ["good", "expired", "elsewhere"];
    let keys = [
        key("good", ", models: [m]"),
        key("expired", ", expires: 2020-01-01"),
        key("elsewhere", ", allow_ips: [10.0.0.1]"),
    ];
    let gateway = Launch::default()
        .variable("RUST_LOG", "witgate=trace")
        .variable("LOG_FULL_TOKEN_ON_ERROR", "true")
        .start(&format!("metrics: {{ compat: true }}\n{}", config(&keys, &[("one", &upstream, "")])));
    let mut sent = 0;
    for name in names {
        for model in ["m", "other"] {
            gateway.send(&chat(model, &format!("sk-{name}")));
            let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}).to_string();
            gateway.send(&Request::post(&format!("/v1/chat/completions?key=sk-{name}"), body));
            sent += 2;
        }
    }
    wait(&gateway, sent);
    let mut found = Vec::new();
    let mut check = |place: &str, text: &str| {
        for name in names {
            let secrets = [format!("sk-{name}"), hash(&format!("sk-{name}")), SECRET.to_owned()];
            found.extend(
                secrets.iter().filter(|key| text.contains(*key)).map(|key| format!("{key} in {place}")),
            );
        }
    };
    for path in ["/metrics", "/stats", "/admin/config", "/admin/upstreams", "/admin/audit?limit=100"] {
        check(path, gateway.send_admin(&Request::get(path)).expect(200).text());
    }
    for entry in std::fs::read_dir(gateway.folder().join("witgate-data")).expect("it has recorded") {
        let path = entry.expect("the folder can be read").path();
        check(
            &path.display().to_string(),
            &String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()),
        );
    }
    check("standard error", &gateway.stderr());
    check("standard output", &gateway.stdout());
    check("a control", "xsk-goodx");
    assert_eq!(found, ["sk-good in a control"]);
    // The names are there to be told.
    assert!(gateway.send_admin(&Request::get("/admin/config")).text().contains("elsewhere"));
}

/// A plugin that knows `sk-plugged`, of the tenant `t`.
fn door() -> String {
    let sha256: String = Sha256::digest("sk-plugged").iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "plugins:\n  - name: door\n    source: builtin:key-auth\n    config:\n      unknown: pass\n      missing: pass\n      \
         keys: [{{ name: plugged, tenant: t, sha256: '{sha256}' }}]\n"
    )
}

// parity: 134
#[test]
fn who_a_plugin_says_is_of_a_tenant_is_answered_by_its_upstreams() {
    let models = |request: &Received, ids: &[&str]| match request.target.ends_with("/models") {
        true => Reply::models(ids),
        false => Reply::echo(request),
    };
    let one = Upstream::new(move |request| models(request, &["a"]));
    let two = Upstream::new(move |request| models(request, &["b"]));
    let config = config(&[key("a", "")], &[("one", &one, ""), ("two", &two, "")]);
    let gateway = Gateway::start(&format!("{config}tenants: [{{ name: t, upstreams: [two] }}]\n{}", door()));
    for number in 0..10 {
        gateway.send(&chat(&format!("m{number}"), "sk-plugged")).expect(200);
    }
    assert_eq!((one.count(), two.count()), (0, 10));
    let list = gateway.send(&Request::get("/v1/models").header("api-key", "sk-plugged")).expect(200);
    assert_eq!(ids(&list), ["b"]);
}

#[test]
fn a_key_is_shown_nothing_of_upstreams_that_it_may_not_use() {
    let one = Upstream::always(Reply::models(&["secret", "both", "one"]));
    let two = Upstream::always(Reply::models(&["two", "both"]));
    let keys = [key("all", ""), key("two", ", upstreams: [two]")];
    let upstreams = [("one", &one, ""), ("two", &two, ", models: { both: other, nick: two }")];
    let gateway = Gateway::start(&config(&keys, &upstreams));
    let get = |path: &str, key: &str| gateway.send(&Request::get(path).header("api-key", key));
    assert_eq!(
        ids(&get("/v1/models", "sk-all").expect(200)),
        ["secret", "both", "one", "two", "nick"],
        "each once"
    );
    assert_eq!(ids(&get("/v1/models", "sk-two").expect(200)), ["two", "both", "nick"]);
    get("/v1/models/secret", "sk-two").expect(404);
    get("/v1/models/one", "sk-two").expect(404);
    get("/v1/models/both", "sk-two").expect(200);
    get("/v1/models/secret", "sk-all").expect(200);
}

// parity: 147
#[test]
fn a_key_that_a_plugin_knows_is_not_logged_either() {
    let upstream = Upstream::new(Reply::echo);
    let config = config(&[key("a", "")], &[("one", &upstream, ", default: true")]);
    let gateway =
        Launch::default().variable("LOG_FULL_TOKEN_ON_ERROR", "true").start(&format!("{config}{}", door()));
    let files = |key: &str| Request::get("/v1/files").header("api-key", key);
    refused(gateway.send(&files("sk-plugged")), 403, "that the key may use");
    refused(gateway.send(&files("sk-nobodys")), 401, "not known");
    // What nobody knows is told, as it was asked for; the line of the other one is there by then.
    eventually("the line of a failure", || gateway.stderr().contains("sk-nobodys").then_some(()));
    assert!(!gateway.stderr().contains("sk-plugged"), "{}", gateway.stderr());
}

#[test]
fn a_plugins_own_answer_is_for_who_may_ask_for_it() {
    let upstream = Upstream::new(Reply::echo);
    let keys =
        [key("narrow", ", models: [small]"), key("seldom", ", limits: { requests: 1/1h }"), key("any", "")];
    let grants = "{ kv: 64KiB, metrics: 4, secrets: { token: hidden }, http: ['http://127.0.0.1:9'], env: { COLOUR: red } }";
    let gateway = Gateway::start(&format!(
        "{}plugins:\n  - {{ name: probe, source: {}, allow: {grants} }}\n",
        config(&keys, &[("one", &upstream, "")]),
        env!("PROBE_WASM")
    ));
    let ask =
        |model: &str, key: &str| gateway.send(&chat(model, key).header("x-probe", "on-request status 201"));
    ask("large", "sk-any").expect(201);
    ask("small", "sk-narrow").expect(201);
    refused(ask("large", "sk-narrow"), 403, "the model `large`");
    ask("small", "sk-seldom").expect(201);
    assert_eq!(ask("small", "sk-seldom").status(), 429);
    assert_eq!(upstream.count(), 0);
}
