//! What operators see and change on the admin listener, and what it refuses.

use serde_json::{Value, json};
use witgate_tests::client::End;
use witgate_tests::{Answer, Connection, Gate, Gateway, Reply, Request, Upstream};

/// Two upstreams that take every model, the first of which is first in line.
fn two(upstreams: &[Upstream; 2]) -> String {
    format!(
        "routing: {{ strategy: failover }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n  - {{ name: two/é, base_url: {} }}\n",
        upstreams[0].url(),
        upstreams[1].url()
    )
}

fn echoes() -> [Upstream; 2] {
    [Upstream::new(Reply::echo), Upstream::new(Reply::echo)]
}

#[track_caller]
fn adjust(gateway: &Gateway, name: &str, change: &Value) -> Value {
    let request = Request::post(&format!("/admin/upstreams/{name}"), change.to_string());
    gateway.send_admin(&request).expect(200).json()
}

#[track_caller]
fn get(gateway: &Gateway, target: &str) -> Value {
    gateway.send_admin(&Request::get(target)).expect(200).json()
}

/// How many of ten chats each upstream gets.
#[track_caller]
fn shares(gateway: &Gateway, upstreams: &[Upstream; 2]) -> [usize; 2] {
    let before = upstreams.each_ref().map(Upstream::count);
    for number in 0..10 {
        gateway.send(&Request::chat(&format!("chat {number}"))).expect(200);
    }
    let after = upstreams.each_ref().map(Upstream::count);
    [after[0] - before[0], after[1] - before[1]]
}

// parity: 74
#[test]
fn an_upstream_is_switched_off_and_on_while_the_gateway_runs() {
    let upstreams = echoes();
    let gateway = Gateway::start(&two(&upstreams));
    assert_eq!(shares(&gateway, &upstreams), [10, 0]);
    let off = adjust(&gateway, "one", &json!({"enabled": false}));
    assert_eq!(
        (&off["name"], &off["enabled"], &off["overridden"]),
        (&json!("one"), &json!(false), &json!(true))
    );
    assert_eq!(shares(&gateway, &upstreams), [0, 10]);
    let on = adjust(&gateway, "one", &json!({"enabled": true}));
    assert_eq!((&on["enabled"], &on["overridden"]), (&json!(true), &json!(true)));
    assert_eq!(shares(&gateway, &upstreams), [10, 0]);
    let back = adjust(&gateway, "one", &json!({"enabled": null}));
    assert_eq!((&back["enabled"], &back["overridden"]), (&json!(true), &json!(false)));
    assert_eq!(upstreams.each_ref().map(Upstream::connections), [1, 1], "connections are kept");
}

// parity: 74
#[test]
fn a_weight_of_zero_drains_and_null_brings_back() {
    let upstreams = echoes();
    let text = two(&upstreams)
        .replace("failover", "deterministic")
        .replace("name: one,", "name: one, priority: 1000000,");
    let gateway = Gateway::start(&text);
    assert_eq!(shares(&gateway, &upstreams), [10, 0]);
    let drained = adjust(&gateway, "one", &json!({"weight": 0}));
    assert_eq!((&drained["weight"], &drained["priority"]), (&json!(0), &json!(1_000_000)));
    assert_eq!(shares(&gateway, &upstreams), [0, 10]);
    let back = adjust(&gateway, "one", &json!({"weight": null}));
    assert_eq!((&back["weight"], &back["overridden"]), (&json!(1_000_000), &json!(false)));
    assert_eq!(shares(&gateway, &upstreams), [10, 0]);
}

#[test]
fn what_was_changed_stays_over_reloads_until_it_is_given_back() {
    let upstreams = echoes();
    let gateway = Gateway::start(&two(&upstreams));
    adjust(&gateway, "one", &json!({"enabled": false, "weight": 7}));
    let reload = |text: &str| {
        gateway.rewrite_config(text);
        let answer = gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200).json();
        assert_eq!(answer, json!({"ok": true, "changed": true}));
    };
    // One upstream is the same in the new file, the other is not.
    reload(&format!("models_cache: {{ ttl: 1s }}\n{}", two(&upstreams)));
    let shown = get(&gateway, "/admin/upstreams");
    let of = |index: usize| shown["upstreams"][index].clone();
    assert_eq!(
        (&of(0)["enabled"], &of(0)["weight"], &of(0)["overridden"]),
        (&json!(false), &json!(7), &json!(true))
    );
    assert_eq!(of(1)["overridden"], json!(false));
    reload(&two(&upstreams).replace("name: one,", "name: one, priority: 3, headers: { x-a: b },"));
    assert_eq!(shares(&gateway, &upstreams), [0, 10]);
    let back = adjust(&gateway, "one", &json!({"enabled": null, "weight": null}));
    assert_eq!(
        (&back["enabled"], &back["weight"], &back["overridden"]),
        (&json!(true), &json!(3), &json!(false))
    );
    assert_eq!(shares(&gateway, &upstreams), [10, 0]);
    let requests = upstreams[0].requests();
    assert_eq!(requests.last().and_then(|request| request.header("x-a")), Some("b"), "the new file counts");
}

#[test]
fn what_runs_on_a_disabled_upstream_goes_on() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::new(move |request| match request.number {
        0 => Reply::stream([r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#])
            .wait(&behind)
            .event("[DONE]"),
        _ => Reply::echo(request),
    });
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    assert!(client.event().is_some());
    let off = adjust(&gateway, "one", &json!({"enabled": false}));
    assert_eq!(off["in_flight"], json!(1));
    gateway.send(&Request::chat("new")).expect(404);
    gate.open();
    let (rest, end) = client.rest();
    assert!(String::from_utf8_lossy(&rest).contains("[DONE]"));
    assert_eq!(end, End::Complete);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn health_readiness_and_the_list_of_models_follow() {
    let gateway = Gateway::start(
        "upstreams:\n  - { name: one, base_url: 'builtin:echo', model_match: { type: exact, value: [m] } }\n",
    );
    let ids =
        || gateway.send(&Request::get("/v1/models")).expect(200).json()["data"].as_array().map(Vec::len);
    assert_eq!(ids(), Some(1));
    adjust(&gateway, "one", &json!({"enabled": false}));
    assert_eq!(ids(), Some(0));
    let ready = gateway.send(&Request::get("/readyz")).expect(503);
    assert_eq!(ready.text(), "no upstream is enabled");
    gateway.send_admin(&Request::get("/readyz")).expect(503);
    let health = gateway.send(&Request::get("/health")).expect(200).json();
    assert_eq!(health["upstreams"][0]["enabled"], json!(false));
    adjust(&gateway, "one", &json!({"enabled": null}));
    gateway.send(&Request::get("/readyz")).expect(200);
    assert_eq!(ids(), Some(1));
}

#[test]
fn upstreams_are_shown_with_what_they_did() {
    let upstream = Upstream::new(|request| match request.number {
        0 => Reply::error(500, "no"),
        _ => Reply::echo(request),
    });
    let gateway = Gateway::start(&format!(
        "retry: {{ attempts_max: 1 }}\nupstreams:\n  - {{ name: one, base_url: {}, max_in_flight: 9, model_match: {{ type: prefix, value: [m, n] }} }}\n",
        upstream.url()
    ));
    let expected = |condition: &str, requests: u64, failures: u64| {
        json!({
            "name": "one", "base_url": upstream.url(), "dialect": "openai",
            "match": {"type": "prefix", "value": ["m", "n"]},
            "priority": 1, "weight": 1, "enabled": true, "overridden": false,
            "condition": condition, "keys": [],
            "breaker": {"state": "closed", "failures": u64::from(condition == "failing"), "opens_in_ms": 0, "trips": 0},
            "in_flight": 0, "max_in_flight": 9, "waiting": 0, "requests": requests, "failures": failures,
        })
    };
    let shown = || {
        let mut shown = get(&gateway, "/admin/upstreams")["upstreams"][0].take();
        let latency = shown.as_object_mut().and_then(|fields| fields.remove("latency_ms"));
        (shown, latency.expect("it is there"))
    };
    assert_eq!(shown(), (expected("unknown", 0, 0), Value::Null));
    gateway.send(&Request::chat("a")).expect(500);
    assert_eq!(shown().0, expected("failing", 1, 1));
    gateway.send(&Request::chat("b")).expect(200);
    let (one, latency) = shown();
    assert_eq!(one, expected("healthy", 2, 1));
    assert!(latency.as_f64().is_some_and(|latency| latency > 0.0));
}

#[test]
fn a_name_may_hold_what_a_path_cannot() {
    let upstreams = echoes();
    let gateway = Gateway::start(&two(&upstreams));
    assert_eq!(adjust(&gateway, "two%2F%c3%a9", &json!({"weight": 5}))["weight"], json!(5));
    let post = |target: &str| gateway.send_admin(&Request::post(target, r#"{"enabled":false}"#));
    assert!(post("/admin/upstreams/three").expect(404).error_message().contains("`three`"));
    post("/admin/upstreams/").expect(404);
    post("/admin/upstreams/two/x").expect(404);
    post("/admin/upstreams/%ff").expect(400);
    post("/admin/upstreams/one?enabled=false").expect(400);
    assert_eq!(shares(&gateway, &upstreams), [10, 0]);
}

#[test]
fn a_change_that_makes_no_sense_is_refused_by_name() {
    let upstreams = echoes();
    let gateway = Gateway::start(&two(&upstreams));
    for (body, word) in [
        (r#"{"enabled":1}"#, "`enabled`"),
        (r#"{"weight":"3"}"#, "`weight`"),
        (r#"{"enabled":false,"wieght":3}"#, "`wieght`"),
        ("{}", "`enabled` or `weight`"),
        ("", "`enabled` or `weight`"),
        ("[]", "object"),
        ("{", "JSON"),
    ] {
        let answer = gateway.send_admin(&Request::post("/admin/upstreams/one", body)).expect(400);
        assert!(answer.error_message().contains(word), "{body}: {}", answer.text());
    }
    let unknown = gateway.send_admin(&Request::post("/admin/reload", r#"{"force":true}"#)).expect(400);
    assert!(unknown.error_message().contains("`force`"));
    assert_eq!(shares(&gateway, &upstreams), [10, 0]);
}

#[test]
fn a_body_over_its_bound_is_not_read() {
    let gateway = Gateway::start("upstreams: [{ name: one, base_url: 'builtin:echo' }]\n");
    let send = |target: &str, announced: usize| {
        let mut connection = Connection::open(gateway.admin());
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {announced}\r\n\r\n",
            gateway.admin()
        );
        connection.write(head.as_bytes());
        connection.answer().status()
    };
    assert_eq!(send("/admin/upstreams/one", (64 << 10) + 1), 413);
    assert_eq!(send("/admin/explain", (1 << 20) + 1), 413);
    // Without a length it is counted.
    let mut connection = Connection::open(gateway.admin());
    let head = format!(
        "POST /admin/upstreams/one HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n10001\r\n",
        gateway.admin()
    );
    connection.write(head.as_bytes());
    // The gateway may have answered and closed before all of it is sent.
    let _ = connection.try_write(&[b' '; 0x10001]);
    assert_eq!(connection.answer().status(), 413);
}

#[test]
fn an_explanation_says_where_the_request_then_goes() {
    let upstreams = echoes();
    let text = two(&upstreams).replace("failover", "deterministic");
    let gateway = Gateway::start(&format!(
        "{text}  - {{ name: other, base_url: 'builtin:echo', model_match: {{ type: exact, value: [x] }} }}\n"
    ));
    let names = ["one", "two/é"];
    for number in 0..10 {
        let request = Request::chat(&format!("chat {number}"));
        let explained = get(&gateway, &format!("/admin/explain?model=m&text=chat+{number}"));
        let posted = Request::post(
            "/admin/explain",
            json!({"model": "m", "messages": [{"role": "user", "content": format!("chat {number}")}]})
                .to_string(),
        );
        assert_eq!(gateway.send_admin(&posted).expect(200).json(), explained);
        let before = upstreams.each_ref().map(Upstream::count);
        gateway.send(&request).expect(200);
        let went =
            (0..2).find(|index| upstreams[*index].count() > before[*index]).expect("it went somewhere");
        assert_eq!(explained["choice"], json!(names[went]), "{explained}");
        assert_eq!(explained["candidates"][0]["upstream"], json!(names[went]));
        assert_eq!(explained["strategy"], json!("deterministic"));
        assert!(explained["anchor"].is_string());
        assert_eq!(
            explained["others"],
            json!([{"upstream": "other", "reason": "it does not take this model"}])
        );
    }
    let drawn = get(&gateway, "/admin/explain?model=m");
    assert_eq!(drawn["no_anchor"], json!("there is no text, so that every request is a draw"));
    adjust(&gateway, "one", &json!({"enabled": false}));
    let explained = get(&gateway, "/admin/explain?model=m&text=hi");
    assert_eq!(explained["choice"], json!("two/é"));
    assert_eq!(explained["no_anchor"], json!("the choice does not depend on the text"));
    assert_eq!(explained["others"][0], json!({"upstream": "one", "reason": "it is disabled"}));
    let refused = |target: &str, word: &str| {
        let answer = gateway.send_admin(&Request::get(target)).expect(400);
        assert!(answer.error_message().contains(word), "{}", answer.text());
    };
    refused("/admin/explain?text=a", "`model`");
    refused("/admin/explain?model=a&modle=b", "`modle`");
    refused("/admin/explain?model=a&model=b", "twice");
    refused("/admin/explain?model=%zz", "percent-encoded");
    let nothing = gateway.send_admin(&Request::post("/admin/explain", r#"{"model":"m"}"#)).expect(400);
    assert!(nothing.error_message().contains("`messages`"));
}

#[test]
fn an_explanation_takes_no_turn() {
    let upstreams = echoes();
    let gateway = Gateway::start(&two(&upstreams).replace("failover", "round_robin"));
    for _ in 0..10 {
        gateway.send(&Request::chat("hi")).expect(200);
        get(&gateway, "/admin/explain?model=m&text=hi");
    }
    assert_eq!(upstreams.each_ref().map(Upstream::count), [5, 5]);
}

/// Every path, with a method that it has and one that it has not.
const ROUTES: [(&str, &str, &str); 18] = [
    ("/", "GET", "POST"),
    ("/page.js", "GET", "DELETE"),
    ("/page.css", "GET", "PUT"),
    ("/healthz", "GET", "POST"),
    ("/readyz", "GET", "POST"),
    ("/stats", "GET", "POST"),
    ("/metrics", "GET", "POST"),
    ("/admin/config", "GET", "POST"),
    ("/admin/reload", "POST", "GET"),
    ("/admin/upstreams", "GET", "DELETE"),
    ("/admin/upstreams/one", "POST", "GET"),
    ("/admin/plugins", "GET", "POST"),
    ("/admin/plugins/reload", "POST", "GET"),
    ("/admin/limits", "GET", "POST"),
    ("/admin/audit?limit=1", "GET", "POST"),
    ("/admin/explain?model=m", "GET", "PUT"),
    ("/admin/explain", "POST", "PATCH"),
    ("/admin/openapi.json", "GET", "POST"),
];

/// Those that go without a token.
const OPEN: [&str; 5] = ["/", "/page.js", "/page.css", "/healthz", "/readyz"];

/// A request that a route of [`ROUTES`] takes.
fn valid(method: &str, target: &str) -> Request {
    match (method, target.split('?').next().unwrap_or_default()) {
        ("POST", "/admin/upstreams/one") => Request::post(target, r#"{"weight":null}"#),
        ("POST", "/admin/explain") => Request::post(target, r#"{"model":"m","prompt":"p"}"#),
        ("POST", _) => Request::post(target, "{}"),
        _ => Request::new(method, target),
    }
}

#[test]
fn every_route_knows_its_methods_and_says_no_more_than_it_must() {
    let gateway = Gateway::start("upstreams: [{ name: one, base_url: 'builtin:echo' }]\n");
    for (target, method, wrong) in ROUTES {
        let answer = gateway.send_admin(&valid(method, target)).expect(200);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{target}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{target}");
        if target.starts_with("/admin/") {
            assert_eq!(answer.header("content-type"), Some("application/json"), "{target}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{target}");
        }
        let refused =
            gateway.send_admin(&valid(wrong, target).header("origin", "http://evil.example")).expect(405);
        let allowed = refused.header("allow").expect("it says what is allowed").to_owned();
        assert!(allowed.split(", ").any(|allowed| allowed == method), "{target}: {allowed}");
        assert_eq!(refused.header("cache-control"), Some("no-store"));
        if method == "GET" {
            let mut connection = Connection::open(gateway.admin());
            connection.write(&Request::new("HEAD", target).host(&gateway.admin().to_string()).bytes());
            assert_eq!(connection.head().status, 200, "HEAD {target}");
            connection.shut_write();
            assert_eq!(connection.wait_closed(), b"", "HEAD {target} has no body");
        }
        if !OPEN.contains(&target) {
            let unknown = format!("{target}{}colour=red", if target.contains('?') { '&' } else { '?' });
            let answer = gateway.send_admin(&valid(method, &unknown)).expect(400);
            assert!(answer.error_message().contains("`colour`"), "{target}");
        }
    }
    gateway.send_admin(&Request::get("/admin")).expect(404);
    gateway.send_admin(&Request::get("/admin/config/")).expect(404);
    gateway.send_admin(&Request::get("/v1/models")).expect(404);
}

#[test]
fn strangers_and_foreign_pages_are_refused_everywhere() {
    let gateway = Gateway::start("upstreams: [{ name: one, base_url: 'builtin:echo' }]\n");
    let own = gateway.admin().to_string();
    let ask = |request: &Request| Connection::open(gateway.admin()).send(request).status();
    for (target, method, _) in ROUTES {
        let request = valid(method, target);
        assert_eq!(ask(&request.clone().host("evil.example")), 421, "{target}");
        assert_eq!(
            ask(&request.clone().host(&format!("localhost:{}", gateway.admin().port()))),
            200,
            "{target}"
        );
        if method == "POST" {
            let foreign = request.clone().host(&own).header("origin", "https://evil.example");
            assert_eq!(ask(&foreign), 403, "{target}");
            let same = request.clone().host(&own).header("origin", &format!("http://{own}"));
            assert_eq!(ask(&same), 200, "{target}");
            for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
                let form = Request::new("POST", target).host(&own).header("content-type", content_type);
                assert_eq!(ask(&form), 400, "{target} {content_type}");
            }
            assert_eq!(ask(&Request::new("POST", target).host(&own)), 400, "{target} without a type");
        }
    }
}

#[test]
fn with_a_token_only_probes_go_without_it() {
    let gateway = Gateway::start(
        "server: { admin_token: t0ken }\nupstreams: [{ name: one, base_url: 'builtin:echo' }]\n",
    );
    let status = |answer: Answer| (answer.status(), answer.header("www-authenticate").map(str::to_owned));
    for (target, method, wrong) in ROUTES {
        let is_open = OPEN.contains(&target);
        let request = valid(method, target);
        let expected = if is_open { (200, None) } else { (401, Some("Bearer".to_owned())) };
        assert_eq!(status(gateway.send_admin(&request)), expected, "{target}");
        for header in ["Bearer t0kem", "Bearer", "Basic t0ken", "t0ken"] {
            let answer = gateway.send_admin(&request.clone().header("authorization", header));
            assert_eq!(status(answer), expected, "{target} {header}");
        }
        let with_token = request.header("authorization", "Bearer t0ken");
        gateway.send_admin(&with_token).expect(200);
        if !is_open {
            gateway.send_admin(&Request::new(wrong, target)).expect(401);
        }
    }
    gateway.send_admin(&Request::get("/admin/secret")).expect(401);
    gateway.send_admin(&Request::get("/admin/config?token=t0ken")).expect(401);
    let config = gateway.send_admin(&Request::get("/admin/config").header("authorization", "Bearer t0ken"));
    assert!(!config.expect(200).text().contains("t0ken"));
    assert!(!gateway.stderr().contains("t0ken"));
}

#[test]
fn searches_of_the_audit_are_checked_and_off_when_it_is_off() {
    let on = Gateway::start("upstreams: [{ name: one, base_url: 'builtin:echo' }]\n");
    let refused = |target: &str, word: &str| {
        let answer = on.send_admin(&Request::get(target)).expect(400);
        assert!(answer.error_message().contains(word), "{target}: {}", answer.text());
    };
    refused("/admin/audit?limit=0", "`limit`");
    refused("/admin/audit?since=yesterday", "`since`");
    refused("/admin/audit?outcome=good", "`outcome`");
    refused("/admin/audit?model=%zz", "percent-encoded");
    refused("/admin/audit/1?full=yes", "`full`");
    assert_eq!(on.send_admin(&Request::get("/admin/audit/nothing")).expect(404).error_code(), "unknown_path");
    let off =
        Gateway::start("audit: { enabled: false }\nupstreams: [{ name: one, base_url: 'builtin:echo' }]\n");
    for target in ["/admin/audit", "/admin/audit/1"] {
        let answer = off.send_admin(&Request::get(target)).expect(404);
        assert!(answer.error_message().contains("`audit.enabled`"), "{}", answer.text());
    }
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let gateway = Gateway::start("upstreams: [{ name: one, base_url: 'builtin:echo' }]\n");
    let mut connection = Connection::open(gateway.admin());
    let head = format!(
        "POST /admin/upstreams/one HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{",
        gateway.admin()
    );
    connection.write(head.as_bytes());
    assert_eq!(connection.answer().status(), 408);
}

#[test]
fn changes_under_load_fail_no_request() {
    let upstreams = echoes();
    let gateway = Gateway::start(&two(&upstreams));
    std::thread::scope(|scope| {
        let load = || (0..200).for_each(|_| drop(gateway.send(&Request::chat("load")).expect(200)));
        let clients = [scope.spawn(load), scope.spawn(load)];
        for number in (0..).take_while(|_| !clients.iter().all(|client| client.is_finished())) {
            let is_enabled = if number % 2 == 0 { json!(false) } else { Value::Null };
            adjust(&gateway, "one", &json!({"enabled": is_enabled, "weight": number}));
        }
    });
    assert!(upstreams.iter().all(|upstream| upstream.count() > 0), "both had their turns");
}
