//! Upstreams and keys that are left alone for a while, and how much trying again there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use witgate_tests::sse::chat_text;
use witgate_tests::upstream::reply::{Step, chunk};
use witgate_tests::{Connection, Gate, Gateway, Refusing, Reply, Request, Upstream, eventually, now};

/// Upstreams by their names, tried in this order, with more settings for each.
fn config(upstreams: &[(&str, &Upstream, &str)], more: &str) -> String {
    let mut text = format!("routing: {{ strategy: failover }}\n{more}\nupstreams:\n");
    for (name, upstream, settings) in upstreams {
        text += &format!("  - {{ name: {name}, base_url: {}, {settings} }}\n", upstream.url());
    }
    text
}

/// What the admin listener says of an upstream.
#[track_caller]
fn shown(gateway: &Gateway, name: &str) -> Value {
    let all = gateway.send_admin(&Request::get("/admin/upstreams")).expect(200).json();
    let mut all = all["upstreams"].as_array().expect("it is a list").clone().into_iter();
    all.find(|upstream| upstream["name"] == name).expect("it is there")
}

#[track_caller]
fn state(gateway: &Gateway, name: &str) -> String {
    shown(gateway, name)["breaker"]["state"].as_str().expect("it is a word").to_owned()
}

#[track_caller]
fn wait_state(gateway: &Gateway, name: &str, expected: &str) {
    eventually(&format!("`{name}` to be {expected}"), || (state(gateway, name) == expected).then_some(()));
}

/// The sum of a metric's samples whose lines begin like this.
#[track_caller]
fn metric(gateway: &Gateway, start: &str) -> f64 {
    let page = gateway.send_admin(&Request::get("/metrics")).expect(200);
    let lines = page.text().lines().filter(|line| line.starts_with(start));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

fn chat() -> Request {
    Request::chat("hi")
}

// parity: 120, 157
#[test]
fn an_upstream_that_fails_again_and_again_is_passed_over() {
    let (bad, good) = (Upstream::always(Reply::error(500, "no")), Upstream::always(Reply::chat("hello")));
    let gateway = Gateway::start(&config(
        &[("bad", &bad, "priority: 1"), ("good", &good, "priority: 1")],
        "breaker: { failures: 3, cooldown: 60s }",
    ));
    for number in 0..6 {
        gateway.send(&chat()).expect(200);
        assert_eq!(state(&gateway, "bad"), if number < 2 { "closed" } else { "open" });
    }
    assert_eq!((bad.count(), good.count()), (3, 6));
    let breaker = shown(&gateway, "bad")["breaker"].take();
    assert_eq!((&breaker["failures"], &breaker["trips"]), (&json!(0), &json!(1)));
    assert!(breaker["opens_in_ms"].as_u64().is_some_and(|wait| (1..=60_000).contains(&wait)), "{breaker}");
    for (state, value) in [("closed", 0.0), ("half_open", 0.0), ("open", 1.0)] {
        let line = format!("witgate_upstream_breaker_state{{upstream=\"bad\",state=\"{state}\"}}");
        assert_eq!(metric(&gateway, &line), value, "{state}");
    }
    assert_eq!(metric(&gateway, "witgate_upstream_breaker_trips_total{upstream=\"bad\"}"), 1.0);
    let stats = gateway.send_admin(&Request::get("/stats")).expect(200).json();
    assert_eq!(stats["errors"]["circuit_breaker_trips"], 1);
    assert_eq!(
        (&stats["circuit_breaker"]["state"], &stats["circuit_breaker"]["threshold"]),
        (&json!("open"), &json!(3))
    );
    let health = gateway.send(&Request::get("/health")).expect(200).json();
    assert_eq!(
        (&health["upstreams"][0]["breaker"], &health["upstreams"][1]["breaker"]),
        (&json!("open"), &json!("closed"))
    );
}

/// Whether one such answer opens the breaker of a lone upstream.
#[track_caller]
fn check_opens(reply: Reply, status: u16, opens: bool) {
    let upstream = Upstream::always(reply);
    let settings = "timeouts: { first_byte: 100ms, idle: 100ms }, breaker: { failures: 1, cooldown: 60s }";
    let gateway = Gateway::start(&config(&[("one", &upstream, settings)], ""));
    gateway.send(&chat()).expect(status);
    assert_eq!(state(&gateway, "one"), if opens { "open" } else { "closed" });
    gateway.send(&chat()).expect(if opens { 503 } else { status });
}

// parity: 120, 121
#[test]
fn what_an_upstream_does_wrong_opens_it_and_what_a_caller_does_never() {
    check_opens(Reply::error(500, "no"), 500, true);
    check_opens(Reply::error(503, "no"), 503, true);
    check_opens(Reply::silence(), 504, true);
    check_opens(Reply::new(200).header("content-type", "application/json"), 502, true);
    check_opens(Reply::raw("nonsense"), 502, true);
    for status in [400, 401, 403, 404, 408, 413, 422, 429] {
        check_opens(Reply::error(status, "no"), status, false);
    }
}

// parity: 120
#[test]
fn an_upstream_that_is_not_there_opens_it() {
    let gone = Refusing::new();
    let gateway = Gateway::start(&format!(
        "retry: {{ same_upstream: 0 }}\nbreaker: {{ failures: 2, cooldown: 60s }}\nupstreams:\n  - {{ name: one, base_url: \"{}\" }}\n",
        gone.url()
    ));
    for status in [502, 502, 503, 503] {
        gateway.send(&chat()).expect(status);
    }
}

// parity: 121
#[test]
fn a_hundred_refusals_keep_it_closed() {
    let upstream = Upstream::always(Reply::error(422, "no"));
    let gateway = Gateway::before(&upstream);
    for _ in 0..100 {
        gateway.send(&chat()).expect(422);
    }
    assert_eq!(upstream.count(), 100);
    assert_eq!(
        shown(&gateway, "one")["breaker"],
        json!({"state": "closed", "failures": 0, "opens_in_ms": 0, "trips": 0})
    );
}

// parity: 120
#[test]
fn half_open_lets_one_pass_and_a_good_answer_closes_it() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::new(move |request| match request.number {
        0 => Reply::error(500, "no"),
        1 => Reply::chat("hello").first(Step::Wait(held.clone())),
        _ => Reply::chat("hello"),
    });
    let gateway =
        Gateway::start(&config(&[("one", &upstream, "breaker: { failures: 1, cooldown: 100ms }")], ""));
    gateway.send(&chat()).expect(500);
    wait_state(&gateway, "one", "half_open");
    let mut probe = gateway.ask(&chat());
    upstream.wait_requests(2);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let refused = gateway.send(&chat()).expect(503);
                assert_eq!(refused.error_code(), "upstream_unavailable");
                assert!(refused.header("retry-after").is_some());
            });
        }
    });
    assert_eq!(upstream.count(), 2);
    gate.open();
    probe.answer().expect(200);
    assert_eq!(state(&gateway, "one"), "closed");
    gateway.send(&chat()).expect(200);
    assert_eq!(upstream.count(), 3);
}

// parity: 120
#[test]
fn a_probe_whose_client_leaves_is_given_back() {
    let upstream = Upstream::new(|request| match request.number {
        0 => Reply::error(500, "no"),
        1 => Reply::silence(),
        _ => Reply::chat("hello"),
    });
    let gateway =
        Gateway::start(&config(&[("one", &upstream, "breaker: { failures: 1, cooldown: 100ms }")], ""));
    gateway.send(&chat()).expect(500);
    wait_state(&gateway, "one", "half_open");
    let probe = gateway.ask(&chat());
    upstream.wait_requests(2);
    gateway.send(&chat()).expect(503);
    drop(probe);
    upstream.wait_left(1);
    eventually("the next probe", || (gateway.send(&chat()).status() == 200).then_some(()));
    assert_eq!(upstream.count(), 3);
    assert_eq!(state(&gateway, "one"), "closed");
}

// parity: 120
#[test]
fn the_cooldown_grows_to_its_bound() {
    let upstream = Upstream::always(Reply::error(500, "no"));
    let settings = "breaker: { failures: 1, cooldown: 50ms, cooldown_max: 150ms, backoff_multiplier: 2 }";
    let gateway = Gateway::start(&config(&[("one", &upstream, settings)], ""));
    for _ in 0..4 {
        wait_state_not_open(&gateway);
        gateway.send(&chat()).expect(500);
    }
    let rests = || {
        let log = gateway.stderr();
        let after = log.match_indices("rest_ms=").map(|(at, word)| &log[at + word.len()..]);
        let digits = after.map(|text| text.chars().take_while(char::is_ascii_digit).collect::<String>());
        digits.map(|digits| digits.parse().expect("it is a number")).collect::<Vec<u64>>()
    };
    let rests = eventually("four lines", || Some(rests()).filter(|rests| rests.len() == 4));
    assert_eq!(rests, [50, 100, 150, 150]);
}

#[track_caller]
fn wait_state_not_open(gateway: &Gateway) {
    eventually("the cool-down to be over", || (state(gateway, "one") != "open").then_some(()));
}

// parity: 120, 122
#[test]
fn when_all_are_open_the_client_is_told_when_to_come_back() {
    let (one, two) = (Upstream::always(Reply::error(500, "1")), Upstream::always(Reply::error(502, "2")));
    let gateway = Gateway::start(&config(
        &[
            ("one", &one, "breaker: { failures: 1, cooldown: 100s }"),
            ("two", &two, "breaker: { failures: 1, cooldown: 50s }"),
        ],
        "",
    ));
    assert_eq!(gateway.send(&chat()).expect(502).error_message(), "2");
    for request in [chat(), Request::chat_stream("hi")] {
        let refused = gateway.send(&request).expect(503);
        assert_eq!(refused.error_code(), "upstream_unavailable");
        let wait: u64 =
            refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("it is there");
        assert!((30..=50).contains(&wait), "{wait}");
    }
    assert_eq!((one.count(), two.count()), (1, 1));
    eventually("the errors to be counted", || {
        (metric(&gateway, "witgate_errors_total{kind=\"upstream_unavailable\",blame=\"upstream\"}") == 2.0)
            .then_some(())
    });
}

// parity: 112
#[test]
fn a_fallback_is_asked_when_all_candidates_are_open() {
    let (bad, spare) = (Upstream::always(Reply::error(500, "no")), Upstream::always(Reply::chat("hello")));
    let gateway = Gateway::start(&config(
        &[
            ("bad", &bad, "fallback: spare, breaker: { failures: 1, cooldown: 60s }"),
            ("spare", &spare, "model_match: { type: exact, value: [other] }"),
        ],
        "",
    ));
    for _ in 0..3 {
        gateway.send(&chat()).expect(200);
    }
    assert_eq!((bad.count(), spare.count()), (1, 3));
}

// parity: 120
#[test]
fn a_breaker_stays_as_it_is_over_a_reload_unless_the_upstream_moves() {
    let (bad, other) = (Upstream::always(Reply::error(500, "no")), Upstream::always(Reply::chat("hello")));
    let settings = "breaker: { failures: 2, cooldown: 60s }";
    let gateway = Gateway::start(&config(&[("one", &bad, settings)], ""));
    let reload = |text: &str| {
        gateway.rewrite_config(text);
        gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
    };
    gateway.send(&chat()).expect(500);
    reload(&config(&[("one", &bad, "priority: 2, breaker: { failures: 2, cooldown: 60s }")], ""));
    assert_eq!(shown(&gateway, "one")["breaker"]["failures"], 1);
    gateway.send(&chat()).expect(500);
    reload(&config(&[("one", &bad, settings)], "server: { keepalive: 1s }"));
    assert_eq!(state(&gateway, "one"), "open");
    gateway.send(&chat()).expect(503);
    reload(&config(&[("one", &other, settings)], ""));
    gateway.send(&chat()).expect(200);
}

// parity: 120
#[test]
fn a_breaker_that_is_off_never_opens() {
    let upstream = Upstream::always(Reply::error(500, "no"));
    let gateway =
        Gateway::start(&config(&[("one", &upstream, "priority: 1")], "health_check: { enabled: false }"));
    for _ in 0..20 {
        gateway.send(&chat()).expect(500);
    }
    assert_eq!(upstream.count(), 20);
    assert_eq!(state(&gateway, "one"), "closed");
}

// parity: 120
#[test]
fn keys_take_turns_and_one_that_is_refused_rests() {
    for (status, retry_after) in [(401, None), (403, None), (429, Some("60")), (429, None)] {
        let upstream = Upstream::new(move |request| match request.header("authorization") {
            Some("Bearer sk-2") => {
                let refusal = Reply::error(status, "not this key");
                match retry_after {
                    Some(wait) => refusal.header("retry-after", wait),
                    None => refusal,
                }
            }
            Some(_) => Reply::chat("hello"),
            None => Reply::error(400, "no key"),
        });
        let settings = "api_keys: [sk-1, sk-2, sk-3], breaker: { failures: 1, cooldown: 50s }";
        let gateway = Gateway::start(&config(&[("one", &upstream, settings)], ""));
        for _ in 0..9 {
            gateway.send(&chat()).expect(200);
        }
        let used = |key: &str| {
            let bearer = format!("Bearer {key}");
            upstream
                .requests()
                .iter()
                .filter(|request| request.header("authorization") == Some(&bearer))
                .count()
        };
        assert_eq!((used("sk-2"), used("sk-1") + used("sk-3")), (1, 9), "{status}");
        assert!(used("sk-1").abs_diff(used("sk-3")) <= 3, "{} {}", used("sk-1"), used("sk-3"));
        let one = shown(&gateway, "one");
        assert_eq!(one["breaker"]["state"], "closed", "the upstream itself did nothing wrong");
        let keys: Vec<&str> =
            one["keys"].as_array().expect("a list").iter().filter_map(|key| key["state"].as_str()).collect();
        assert_eq!(keys, ["closed", "open", "closed"]);
        let rest = one["keys"][1]["opens_in_ms"].as_u64().expect("a number");
        let expected = if retry_after.is_some() { 50_001..=60_000 } else { 1..=50_000 };
        assert!(expected.contains(&rest), "{rest}");
        assert_eq!(metric(&gateway, "witgate_upstream_keys_resting{upstream=\"one\"}"), 1.0);
        let log = gateway.stderr();
        assert!(!log.contains("sk-"), "{log}");
    }
}

// parity: 120, 122
#[test]
fn when_all_keys_rest_so_does_the_upstream() {
    let limited = Upstream::always(Reply::error(429, "slow down").header("retry-after", "40"));
    let settings = "api_keys: [sk-1, sk-2]";
    let gateway = Gateway::start(&config(&[("one", &limited, settings)], ""));
    let last = gateway.send(&chat()).expect(429);
    assert_eq!((last.error_message().as_str(), last.header("retry-after")), ("slow down", Some("40")));
    assert_eq!(limited.count(), 2, "each key once");
    let refused = gateway.send(&chat()).expect(503);
    let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("it is there");
    assert!((20..=40).contains(&wait), "{wait}");
    assert_eq!(limited.count(), 2);
    let other = Upstream::always(Reply::chat("hello"));
    gateway.rewrite_config(&config(&[("one", &limited, settings), ("two", &other, "priority: 1")], ""));
    gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
    gateway.send(&chat()).expect(200);
    assert_eq!((limited.count(), other.count()), (2, 1), "keys rest over a reload");
}

// parity: 121
#[test]
fn a_request_that_every_key_is_forbidden_is_the_callers_fault() {
    let upstream = Upstream::new(|request| match request.text().contains("forbidden") {
        true => Reply::error(403, "not for you"),
        false => Reply::chat("hello"),
    });
    let gateway = Gateway::start(&config(&[("one", &upstream, "api_keys: [sk-1, sk-2, sk-3]")], ""));
    for _ in 0..3 {
        assert_eq!(gateway.send(&Request::chat("forbidden")).expect(403).error_message(), "not for you");
    }
    assert_eq!(upstream.count(), 9, "each key once for each request");
    let one = shown(&gateway, "one");
    assert!(one["keys"].as_array().expect("a list").iter().all(|key| key["state"] == "closed"), "{one}");
    gateway.send(&chat()).expect(200);
    assert_eq!(upstream.count(), 10);
}

// parity: 120, 122
#[test]
fn an_upstream_that_wants_a_rest_gets_it_if_somebody_else_can_answer() {
    let limited = Upstream::always(Reply::error(429, "slow down").header("retry-after", "1000"));
    let other = Upstream::always(Reply::chat("hello"));
    let one = ("one", &limited, "api_key: sk-1, breaker: { cooldown_max: 60s }");
    let gateway = Gateway::start(&config(&[one, ("two", &other, "priority: 1")], ""));
    for _ in 0..3 {
        gateway.send(&chat()).expect(200);
    }
    assert_eq!((limited.count(), other.count()), (1, 3));
    let rest = shown(&gateway, "one")["breaker"]["opens_in_ms"].as_u64().expect("a number");
    assert!((1..=60_000).contains(&rest), "{rest}");
    let alone = Gateway::start(&config(&[one], ""));
    for _ in 0..3 {
        alone.send(&chat()).expect(429);
    }
    assert_eq!(limited.count(), 4);
}

// parity: 120
#[test]
fn health_checks_open_and_close_it() {
    let is_well = Arc::new(AtomicBool::new(false));
    let seen = is_well.clone();
    let upstream = Upstream::new(move |request| match request.target.as_str() {
        "/up?deep=1" if seen.load(Ordering::Relaxed) => Reply::new(204),
        "/up?deep=1" => Reply::error(503, "no"),
        _ => Reply::chat("hello"),
    });
    let settings = "api_key: sk-1, headers: { x-team: a }, breaker: { failures: 3, cooldown: 60s }";
    let checked = format!("{settings}, health: {{ path: \"/up?deep=1\", interval: 20ms }}");
    let gateway = Gateway::start(&config(&[("one", &upstream, &checked)], ""));
    wait_state(&gateway, "one", "open");
    assert!(upstream.count() >= 3);
    let check = &upstream.requests()[0];
    assert_eq!((check.method.as_str(), check.header("x-team")), ("GET", Some("a")));
    assert_eq!(check.header("authorization"), Some("Bearer sk-1"));
    gateway.send(&chat()).expect(503);
    is_well.store(true, Ordering::Relaxed);
    wait_state(&gateway, "one", "closed");
    gateway.send(&chat()).expect(200);
    // Somebody else who is checked tells that time goes by.
    let clock = Upstream::always(Reply::new(200));
    let ticking =
        ("clock", &clock, "model_match: { type: exact, value: [x] }, health: { path: /, interval: 20ms }");
    gateway.rewrite_config(&config(&[("one", &upstream, settings), ticking], ""));
    gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
    clock.wait_requests(3);
    let before = upstream.count();
    clock.wait_requests(clock.count() + 10);
    assert_eq!(upstream.count(), before, "a check that the configuration dropped goes on");
    gateway.rewrite_config(&config(&[("one", &upstream, &checked), ticking], ""));
    gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
    upstream.wait_requests(before + 3);
}

// parity: 120
#[test]
fn checks_that_do_not_answer_are_bad() {
    let upstream = Upstream::new(|request| match request.target.as_str() {
        "/up" => Reply::silence(),
        _ => Reply::chat("hello"),
    });
    let settings = "breaker: { failures: 2, cooldown: 60s }, health: { path: /up, interval: 30ms }";
    let gateway = Gateway::start(&config(&[("one", &upstream, settings)], ""));
    wait_state(&gateway, "one", "open");
}

/// The further attempts of so many requests that two upstreams fail.
fn further_attempts(budget: &str, requests: usize) -> (usize, Duration, f64) {
    let (one, two) = (Upstream::always(Reply::error(500, "1")), Upstream::always(Reply::error(502, "2")));
    let gateway = Gateway::start(&config(
        &[("one", &one, "priority: 1"), ("two", &two, "priority: 1")],
        &format!("breaker: {{ failures: 0 }}\nretry: {{ budget: {budget} }}"),
    ));
    let started = now();
    let mut seconds = 0;
    for _ in 0..requests {
        let status = gateway.send(&chat()).status();
        assert!([500, 502].contains(&status), "{status}");
        seconds += usize::from(status == 502);
    }
    assert_eq!((one.count(), two.count()), (requests, seconds), "the last failure is the answer");
    (seconds, started.elapsed(), metric(&gateway, "witgate_retries_refused_total"))
}

// parity: 116
#[test]
fn an_outage_is_not_made_worse_by_trying_again() {
    let (further, took, refused) = further_attempts("0%", 300);
    assert!(further >= 100, "{further}: some are always allowed");
    let most = 100.0 * (1.0 + took.as_secs_f64() / 10.0);
    assert!(further as f64 <= most, "{further} in {took:?}");
    assert_eq!(refused, (300 - further) as f64);
    assert_eq!(further_attempts("100%", 300).0, 300);
}

// parity: 121, 122
#[test]
fn what_a_caller_s_own_key_is_refused_for_is_nobody_else_s() {
    for settings in ["auth: forward", "priority: 1"] {
        let limiting = || {
            Upstream::new(|request| match request.header("authorization") {
                Some("Bearer bad") => Reply::error(429, "slow down").header("retry-after", "300"),
                _ => Reply::chat("hello"),
            })
        };
        let (one, two) = (limiting(), limiting());
        let gateway = Gateway::start(&config(&[("one", &one, settings), ("two", &two, settings)], ""));
        let ask = |key: &str| gateway.send(&chat().header("authorization", &format!("Bearer {key}")));
        for _ in 0..2 {
            ask("bad").expect(429);
            ask("good").expect(200);
        }
        assert_eq!((state(&gateway, "one"), state(&gateway, "two")), ("closed".into(), "closed".into()));
    }
}

// parity: 121, 123
#[test]
fn who_uploads_slowly_opens_nothing() {
    let upstream = Upstream::new(|request| match request.target.ends_with("/completions") {
        true => Reply::chat("hello"),
        false => Reply::json(200, "{\"text\":\"hello\"}"),
    });
    let settings = "timeouts: { total: 300ms }, breaker: { failures: 1, cooldown: 60s }";
    let gateway = Gateway::start(&config(&[("one", &upstream, settings)], ""));
    let mut client = Connection::open(gateway.address());
    let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let head = "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 3000000\r\n\r\n";
    client.write(format!("{head}{form}{}", "x".repeat(1 << 20)).as_bytes());
    // The rest never comes.
    assert_eq!(client.answer().expect(408).error_code(), "request_timeout");
    assert_eq!(state(&gateway, "one"), "closed");
    gateway.send(&chat()).expect(200);
}

// parity: 112, 122
#[test]
fn a_fallback_is_somebody_else_who_can_answer() {
    let limited = Upstream::always(Reply::error(429, "slow down").header("retry-after", "120"));
    let spare = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::start(&config(
        &[
            ("one", &limited, "api_key: sk-1, fallback: [spare]"),
            ("spare", &spare, "model_match: { type: exact, value: [other] }"),
        ],
        "",
    ));
    for _ in 0..3 {
        gateway.send(&chat()).expect(200);
    }
    assert_eq!((limited.count(), spare.count()), (1, 3));
}

// parity: 122
#[test]
fn who_has_nobody_else_to_ask_asks_one_that_rests() {
    let limited = Upstream::always(Reply::error(429, "slow down").header("retry-after", "120"));
    let spare = Upstream::new(|_| Reply::chat("hello"));
    let gateway = Gateway::start(&config(
        &[
            ("one", &limited, "api_key: sk-1"),
            ("two", &spare, "model_match: { type: prefix, value: [shared] }"),
        ],
        "",
    ));
    let ask = |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        gateway.send(&Request::post("/v1/chat/completions", body.to_string()))
    };
    ask("shared").expect(200);
    assert_eq!(state(&gateway, "one"), "open");
    ask("shared").expect(200);
    assert_eq!(limited.count(), 1);
    for _ in 0..2 {
        assert_eq!(ask("alone").expect(429).header("retry-after"), Some("120"));
    }
    assert_eq!((limited.count(), spare.count()), (3, 2));
}

// parity: 122
#[test]
fn who_is_busy_for_a_while_is_left_alone_for_it() {
    for status in [503, 529] {
        let busy = Upstream::always(Reply::error(status, "busy").header("retry-after", "120"));
        let other = Upstream::always(Reply::chat("hello"));
        let one = ("one", &busy, "api_key: sk-1, breaker: { failures: 3 }");
        let gateway = Gateway::start(&config(&[one, ("two", &other, "priority: 1")], ""));
        for _ in 0..3 {
            gateway.send(&chat()).expect(200);
        }
        assert_eq!((busy.count(), other.count()), (1, 3), "{status}");
        let alone = Gateway::start(&config(&[one], ""));
        for number in 0..3 {
            alone.send(&chat()).expect(status);
            assert_eq!(state(&alone, "one"), if number < 2 { "closed" } else { "open" }, "{status}");
        }
    }
}

// parity: 120, 125
#[test]
fn streams_that_break_off_open_it_and_clients_that_leave_do_not() {
    let text = || chunk(&json!({"content": "a"}), None);
    let settings = "breaker: { failures: 2, cooldown: 60s }, timeouts: { idle: 300ms }";
    for broken in
        [Reply::stream([text()]).step(Step::Cut), Reply::stream([text()]), Reply::stream([text()]).hang()]
    {
        let upstream = Upstream::always(broken);
        let gateway = Gateway::start(&config(&[("one", &upstream, settings)], ""));
        for _ in 0..2 {
            let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
            assert_eq!(chat_text(&answer.body), "a");
        }
        wait_state(&gateway, "one", "open");
    }
    let told = json!({"error": {"message": "not that", "type": "x", "code": "content_filter"}}).to_string();
    let upstream = Upstream::new(move |request| match request.number {
        0..3 => Reply::stream([text(), told.clone()]),
        3 | 4 => Reply::stream([text()]).hang(),
        _ => Reply::chat("hello"),
    });
    let patient = "breaker: { failures: 2, cooldown: 60s }";
    let gateway = Gateway::start(&config(&[("one", &upstream, patient)], ""));
    for _ in 0..3 {
        gateway.send(&Request::chat_stream("hi")).expect(200);
    }
    for left in [3, 4] {
        let mut client = gateway.ask(&Request::chat_stream("hi"));
        assert_eq!(client.head().status, 200);
        drop(client);
        upstream.wait_left(left);
    }
    assert_eq!(state(&gateway, "one"), "closed");
    gateway.send(&chat()).expect(200);
}

// parity: 116
#[test]
fn one_model_s_outage_leaves_the_others_their_further_attempts() {
    let limited = [(); 2].map(|()| Upstream::always(Reply::error(429, "slow down")));
    let (bad, good) = (Upstream::always(Reply::error(500, "no")), Upstream::always(Reply::chat("hello")));
    let exact = |model: &str| format!("model_match: {{ type: exact, value: [{model}] }}");
    let (x, m) = (exact("x"), exact("m"));
    let gateway = Gateway::start(&config(
        &[("a", &limited[0], &x), ("b", &limited[1], &x), ("c", &bad, &m), ("d", &good, &m)],
        "breaker: { failures: 0 }\nretry: { budget: 0% }",
    ));
    let ask = |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        gateway.send(&Request::post("/v1/chat/completions", body.to_string()))
    };
    let refused = || metric(&gateway, "witgate_retries_refused_total");
    (0..1_000).take_while(|_| refused() == 0.0).for_each(|_| drop(ask("x").expect(429)));
    assert!(refused() > 0.0);
    ask("m").expect(200);
}
