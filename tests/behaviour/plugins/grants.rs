//! What a plugin may do beyond computing, and what it cannot.

use serde_json::{Value, json};
use witgate_tests::{Reply, Request, Upstream, eventually};

use super::{GRANTS, PROBE, ask, config, described, probe, reload, start, told};

fn quiet() -> Upstream {
    Upstream::always(Reply::chat("hi"))
}

#[test]
fn requests_go_out_to_granted_origins_only() {
    let upstream = quiet();
    let (granted, other) =
        (Upstream::always(Reply::json(200, "\"in\"")), Upstream::always(Reply::json(200, "\"out\"")));
    let grants = GRANTS.replace("http://127.0.0.1:9", &granted.origin());
    let gateway = start(&upstream, &format!("  - {{ name: a, source: {PROBE}, allow: {grants} }}\n"));
    let inside = ask(&gateway, &format!("http {}/check", granted.origin()));
    assert_eq!(inside, json!({"status": 200, "body": "\"in\""}));
    assert_eq!(granted.only().target, "/check");
    for url in [
        format!("{}/check", other.origin()),
        format!("http://localhost:{}/check", granted.address().port()),
        format!("https://127.0.0.1:{}/check", granted.address().port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ] {
        let outside = ask(&gateway, &format!("http {url}"));
        assert!(outside["error"].is_string(), "{url}: {outside}");
    }
    assert_eq!((other.count(), granted.count()), (0, 1));
    assert_eq!(described(&gateway, "a")["http"]["refused"], 4);
}

#[test]
fn a_server_that_is_not_there_is_an_error_and_no_fault() {
    let gateway = start(&quiet(), &probe("a", "{}"));
    let answer = ask(&gateway, "http http://127.0.0.1:9/");
    assert!(answer["error"].is_string(), "{answer}");
    assert_eq!(described(&gateway, "a")["calls"]["on-request"]["faults"], json!({}));
}

#[test]
fn a_server_that_never_answers_is_not_waited_for_beyond_the_bound() {
    let (upstream, silent) = (quiet(), Upstream::always(Reply::silence()));
    let grants = GRANTS.replace("http://127.0.0.1:9", &silent.origin());
    let limits = "limits: { wait_timeout: 100ms }";
    let gateway =
        start(&upstream, &format!("  - {{ name: a, source: {PROBE}, allow: {grants}, {limits} }}\n"));
    let answer = gateway.send(&told(&format!("on-request http {}/", silent.origin()))).expect(500);
    assert_eq!(answer.error_message(), "the plugin `a` failed (wait-timeout)");
    silent.wait_left(0);
    gateway.send(&Request::chat("hi")).expect(200);
}

#[test]
fn a_plugin_sees_the_variables_and_secrets_it_was_granted() {
    let gateway = start(&quiet(), &probe("a", "{}"));
    assert_eq!(ask(&gateway, "env COLOUR"), "red");
    assert_eq!(ask(&gateway, "env HOME"), Value::Null);
    assert_eq!(ask(&gateway, "secret token"), "hidden");
    assert_eq!(ask(&gateway, "secret other"), Value::Null);
    for path in ["/admin/config", "/admin/plugins"] {
        let shown = gateway.send_admin(&Request::get(path)).expect(200);
        assert!(!shown.text().contains("hidden"), "{path}: {}", shown.text());
    }
}

#[test]
fn its_memory_has_a_bound_and_forgets_in_time() {
    let upstream = quiet();
    let gateway = start(&upstream, &(probe("a", "{}") + &probe("b", "{}")));
    assert_eq!(ask(&gateway, "keep short 3 50"), Value::Null);
    eventually("it to be forgotten", || ask(&gateway, "get short").is_null().then_some(()));
    assert_eq!(ask(&gateway, "keep long 3 0"), Value::Null);
    assert_eq!(ask(&gateway, "keep large 70000 0").as_str().map(|error| error.is_empty()), Some(false));
    assert_eq!(ask(&gateway, "get large"), Value::Null);
    assert_eq!([ask(&gateway, "add n"), ask(&gateway, "add n")], [json!({"Ok": 1}), json!({"Ok": 2})]);
    assert_eq!(described(&gateway, "a")["kv"]["refused"], 1);

    // It outlives the plugin's versions, and is nobody else's.
    gateway.rewrite_config(&config(&upstream, &(probe("a", "{ label: new }") + &probe("b", "{ label: b }"))));
    gateway.send_admin(&reload()).expect(200);
    assert_eq!(ask(&gateway, "get long"), "kkk");
    let of_b = gateway.send(&told("only b; on-request get long")).expect(200).json();
    assert_eq!(of_b["came"], Value::Null);
}

#[test]
fn its_series_are_bounded() {
    let gateway = start(&quiet(), &probe("a", "{}"));
    assert_eq!(ask(&gateway, "count 10"), true);
    let metrics = described(&gateway, "a")["metrics"].clone();
    assert_eq!((&metrics["series"], &metrics["dropped"]), (&json!(4), &json!(6)), "{metrics}");
    assert_eq!(metrics["families"][0]["name"], "witgate_plugin_a_seen_total", "{metrics}");
}

#[test]
fn credentials_are_hidden_unless_granted() {
    let secretive =
        [("authorization", "Bearer sk-client"), ("x-api-key", "sk-client"), ("cookie", "sk-client")];
    let mut request = told("on-request headers").header("x-shown", "yes");
    for (name, value) in secretive {
        request = request.header(name, value);
    }
    let upstream = quiet();
    let hidden = start(&upstream, &probe("a", "{}")).send(&request).expect(200);
    assert!(hidden.text().contains("x-shown"), "{}", hidden.text());
    assert!(!hidden.text().contains("sk-client"), "{}", hidden.text());
    let granted = probe("a", "{}").replace("kv: 64KiB", "kv: 64KiB, credentials: true");
    let shown = start(&upstream, &granted).send(&request).expect(200);
    assert!(shown.text().contains("Bearer sk-client"), "{}", shown.text());
}

#[test]
fn its_log_lines_carry_its_name_and_are_limited() {
    let gateway = start(&quiet(), &probe("talker", "{}"));
    ask(&gateway, "log hello");
    let line = eventually("the line", || {
        gateway.stderr().lines().find(|line| line.contains("the probe speaks")).map(str::to_owned)
    });
    assert!(line.contains("WARN") && line.contains("talker") && line.contains("hello"), "{line}");
    for _ in 0..300 {
        ask(&gateway, "log again");
    }
    let dropped = described(&gateway, "talker")["log_lines_dropped"].as_u64().unwrap_or_default();
    assert!(dropped > 0 && dropped < 300, "{dropped}");
}
