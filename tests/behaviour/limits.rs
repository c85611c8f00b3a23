//! Limits: as many as are allowed and no more, counted by what was really used, over restarts, and told to clients.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use witgate_tests::client::Answer;
use witgate_tests::gateway::Launch;
use witgate_tests::upstream::reply::{Step, chunk};
use witgate_tests::{Connection, Gate, Gateway, Reply, Request, Upstream, eventually};

fn config(upstream: &Upstream, settings: &str) -> String {
    format!("{settings}\nupstreams:\n  - {{ name: one, base_url: {} }}\n", upstream.url())
}

fn gateway(upstream: &Upstream, settings: &str) -> Gateway {
    Gateway::start(&config(upstream, settings))
}

/// A chat request whose answer may have one token, and whose prompt has one.
fn small(stream: bool) -> Request {
    let body = json!({
        "model": "m", "stream": stream, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}],
    });
    Request::post("/v1/chat/completions", body.to_string())
}

/// What is used of one meter; none while nothing is counted there.
fn used(gateway: &Gateway, party: &str, counts: &str) -> Option<f64> {
    let limits = gateway.send_admin(&Request::get("/admin/limits")).expect(200).json();
    let parties = limits["parties"].as_array().expect("there is a list").clone();
    let meters = parties.into_iter().find(|known| known["party"] == party)?["meters"].clone();
    let meter =
        meters.as_array().expect("there is a list").iter().find(|meter| meter["counts"] == counts)?.clone();
    meter["used"].as_f64()
}

/// Waits until so much is used: an exchange may end a moment after its client has the answer.
#[track_caller]
fn wait_used(gateway: &Gateway, party: &str, counts: &str, expected: f64) {
    let mut last = None;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the claim to be settled", || {
            last = used(gateway, party, counts);
            (last.unwrap_or(0.0) == expected).then_some(())
        });
    }));
    assert!(found.is_ok(), "{party} has used {last:?} {counts}, not {expected}");
}

#[track_caller]
fn check_refused(answer: &Answer, kind: &str, code: &str) {
    assert_eq!(answer.status(), 429, "{}", answer.text());
    let error = answer.json()["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!(kind), &json!(code)), "{error}");
    let wait: u64 =
        answer.header("retry-after").expect("it says when to come again").parse().expect("in seconds");
    assert!(wait >= 1, "{wait}");
}

/// The sum of a metric's samples whose line has all of these parts.
fn metric(gateway: &Gateway, name: &str, parts: &[&str]) -> f64 {
    let page = gateway.send_admin(&Request::get("/metrics")).expect(200);
    let samples = page.text().lines().filter(|line| line.starts_with(name));
    let fitting = samples.filter(|line| parts.iter().all(|part| line.contains(part)));
    fitting.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

// parity: 129
#[test]
fn the_hundred_and_first_call_is_refused() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "limits: { requests: 100/1h, by: ip }");
    let mut connection = Connection::open(gateway.address());
    for left in (0..100).rev() {
        let answer = connection.send(&Request::chat("hi")).expect(200);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("100"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(&*left.to_string()));
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None);
    }
    let refused = connection.send(&Request::chat("hi"));
    check_refused(&refused, "requests", "rate_limit_exceeded");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let wait: u64 = refused.header("retry-after").unwrap_or_default().parse().unwrap_or_default();
    assert!((3500..=3660).contains(&wait), "{wait}");
    let reset = refused.header("x-ratelimit-reset-requests").expect("it is told").to_owned();
    assert!(reset.starts_with("1h") && reset.ends_with('s') || reset.starts_with("59m"), "{reset}");
    assert!(
        refused.error_message().contains("your limit is 100 requests in 1h0m0s"),
        "{}",
        refused.error_message()
    );
    assert_eq!(upstream.count(), 100);
    let refused =
        metric(&gateway, "witgate_limit_refusals_total", &["limit=\"requests\"", "scope=\"caller\""]);
    assert_eq!(refused, 1.0);
    let stats = gateway.send_admin(&Request::get("/stats")).expect(200).json();
    assert_eq!(stats["limits"]["refused"]["requests"], 1);
}

// parity: 129
#[test]
fn many_at_once_get_no_more_than_is_allowed() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "limits: { requests: 50/1h }");
    let taken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connection = Connection::open(gateway.address());
                for _ in 0..20 {
                    let status = connection.send(&Request::chat("hi")).status();
                    assert!([200, 429].contains(&status), "{status}");
                    taken.fetch_add(usize::from(status == 200), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!((taken.into_inner(), upstream.count()), (50, 50));
}

// parity: 130
#[test]
fn whole_answers_and_streams_are_charged_by_what_they_used() {
    let usage = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":10,"total_tokens":40}}"#;
    let upstream = Upstream::new(move |request| match request.json()["stream"] == true {
        true => Reply::stream([chunk(&json!({"content": "hello"}), Some("stop")), usage.to_owned()])
            .event("[DONE]"),
        false => Reply::chat("hello"),
    });
    let gateway = gateway(&upstream, "limits: { tokens: 100/1h, by: 'header:user' }");
    let ada = |stream| small(stream).header("user", "ada");
    // Each whole answer has 5 tokens by its usage, and 2 are claimed for it.
    let answer = gateway.send(&ada(false)).expect(200);
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("100"));
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some("98"));
    wait_used(&gateway, "header:ada", "tokens", 5.0);
    gateway.send(&ada(true)).expect(200);
    wait_used(&gateway, "header:ada", "tokens", 45.0);
    gateway.send(&ada(true)).expect(200);
    wait_used(&gateway, "header:ada", "tokens", 85.0);
    gateway.send(&ada(true)).expect(200);
    wait_used(&gateway, "header:ada", "tokens", 125.0);
    let refused = gateway.send(&ada(false));
    check_refused(&refused, "tokens", "rate_limit_exceeded");
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("0"));
    assert_eq!(upstream.count(), 4);
    // Others have theirs, and those without a name one together.
    gateway.send(&small(false).header("user", "bob")).expect(200);
    gateway.send(&small(false)).expect(200);
    wait_used(&gateway, "header:bob", "tokens", 5.0);
    wait_used(&gateway, "header:", "tokens", 5.0);
}

// parity: 130
#[test]
fn a_stream_that_is_cut_is_charged_for_what_there_was_of_it() {
    for audit in ["", "audit: { enabled: false }\n"] {
        let text = "a word or two of it ".repeat(20);
        let cut = Reply::stream([chunk(&json!({"content": text}), None)]).step(Step::Cut);
        let upstream = Upstream::always(cut);
        let gateway = gateway(&upstream, &format!("{audit}limits: {{ tokens: 10000/1h }}"));
        let mut connection = gateway.ask(&Request::chat_stream("hi"));
        connection.head();
        connection.rest();
        // A hundred for the text and one for the prompt; 257 were claimed.
        wait_used(&gateway, "ip:127.0.0.1", "tokens", 101.0);
    }
}

// parity: 130
#[test]
fn a_client_that_leaves_pays_for_what_it_was_sent() {
    let text = "a word or two of it ".repeat(20);
    let upstream = Upstream::always(Reply::stream([chunk(&json!({"content": text}), None)]).hang());
    let gateway = gateway(&upstream, "limits: { tokens: 10000/1h }");
    let mut connection = gateway.ask(&Request::chat_stream("hi"));
    connection.head();
    connection.event().expect("there is one");
    drop(connection);
    wait_used(&gateway, "ip:127.0.0.1", "tokens", 101.0);
}

#[test]
fn what_no_upstream_answered_costs_no_tokens() {
    let upstream = Upstream::always(Reply::error(500, "down"));
    let gateway = gateway(&upstream, "limits: { tokens: 1000/1h, requests: 1000/1h }");
    gateway.send(&Request::chat("hi")).expect(500);
    gateway.send(&Request::post("/v1/chat/completions", "{")).expect(400);
    wait_used(&gateway, "ip:127.0.0.1", "tokens", 0.0);
    // What cannot be read was a request all the same.
    assert_eq!(used(&gateway, "ip:127.0.0.1", "requests"), Some(2.0));
}

#[test]
fn an_upload_counts_before_it_is_there() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "limits: { in_flight: 1, requests: 2/1h, by: 'header:user' }");
    let by = |user: &str| Request::chat("hi").header("user", user);
    let upload = by("ada").bytes();
    let (part, rest) = upload.split_at(upload.len() - 1);
    let mut uploading = Connection::open(gateway.address());
    uploading.write(part);
    eventually("the upload to count", || {
        let limits = gateway.send_admin(&Request::get("/admin/limits")).expect(200).json();
        let parties = limits["parties"].as_array().expect("there is a list").clone();
        parties.iter().any(|party| party["party"] == "header:ada" && party["in_flight"] == 1).then_some(())
    });
    // One more may not even begin, and nobody else is held up.
    let mut second = Connection::open(gateway.address());
    second.write(part);
    check_refused(&second.answer(), "requests", "rate_limit_exceeded");
    gateway.send(&by("bob")).expect(200);
    uploading.write(rest);
    uploading.answer().expect(200);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn who_may_make_no_more_requests_need_not_upload_them() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "limits: { requests: 1/1h }");
    gateway.send(&Request::chat("hi")).expect(200);
    let request = Request::chat("hi").bytes();
    let mut connection = Connection::open(gateway.address());
    connection.write(&request[..request.len() - 1]);
    check_refused(&connection.answer(), "requests", "rate_limit_exceeded");
}

#[test]
fn callers_are_told_apart_by_headers_that_go_no_further() {
    let upstream = Upstream::always(Reply::chat("hello"));
    for name in ["x-forwarded-user", "x-api-key", "authorization", "cookie", "cf-connecting-ip"] {
        let gateway = gateway(&upstream, &format!("limits: {{ requests: 2/1h, by: 'header:{name}' }}"));
        let status = |value: &str, request: Request| gateway.send(&request.header(name, value)).status();
        for (value, expected) in [("a", 200), ("b", 200), ("a", 200), ("a", 429), ("b", 200), ("c", 200)] {
            assert_eq!(status(value, Request::chat("hi")), expected, "{name}: {value}");
        }
        assert_eq!(status("b", Request::get("/v1/models")), 429, "lists count for the same: {name}");
        assert_eq!(upstream.last().header(name), None);
    }
}

#[test]
fn a_prompt_that_no_window_has_room_for_is_refused() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "limits: { tokens: 100/1h }");
    let refused = gateway.send(&Request::chat(&"word ".repeat(100)));
    check_refused(&refused, "tokens", "rate_limit_exceeded");
    assert!(refused.error_message().contains("too large"), "{}", refused.error_message());
    // An answer that could be longer than that may well be shorter.
    gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_budget_of_money_is_used_up_by_price() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let settings = "metrics: { compat: true }
limits: { budget: { day: { money: 20 }, month: { tokens: 1000000 } } }
prices: { dear-*: { input: 1000000, output: 2000000 }, 'm': { input: 1000000, output: 2000000 }, '*': { input: 0, output: 0 } }";
    let gateway = gateway(&upstream, settings);
    // Three tokens of a prompt at 1 and two of an answer at 2; 3 are claimed for them.
    for expected in [7.0, 14.0, 21.0] {
        let answer = gateway.send(&small(false)).expect(200);
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("1000000"));
        wait_used(&gateway, "ip:127.0.0.1", "money", expected);
    }
    let refused = gateway.send(&small(false));
    check_refused(&refused, "insufficient_quota", "insufficient_quota");
    let wait: u64 = refused.header("retry-after").unwrap_or_default().parse().unwrap_or_default();
    assert!(wait <= 86_400, "{wait}");
    assert!(
        refused.error_message().contains("your budget of money for this day"),
        "{}",
        refused.error_message()
    );
    assert_eq!(metric(&gateway, "witgate_cost_total", &["upstream=\"one\""]), 21.0);
    assert_eq!(metric(&gateway, "witgate_limit_refusals_total", &["limit=\"money_budget\""]), 1.0);
    assert_eq!(metric(&gateway, "rate_limit_exceeded_total", &[]), 1.0);
    assert_eq!(
        metric(&gateway, "witgate_errors_total", &["kind=\"insufficient_quota\"", "blame=\"client\""]),
        1.0
    );
}

#[test]
fn all_callers_together_have_a_limit() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway =
        gateway(&upstream, "limits: { by: 'header:user', requests: 2/1h, total: { requests: 3/1h } }");
    let from = |user| gateway.send(&Request::chat("hi").header("user", user));
    from("a").expect(200);
    from("a").expect(200);
    let own = from("a");
    check_refused(&own, "requests", "rate_limit_exceeded");
    assert!(own.error_message().contains("your limit is 2"), "{}", own.error_message());
    // What was refused has taken nothing of the rest.
    let last = from("b").expect(200);
    assert_eq!(last.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(last.header("x-ratelimit-limit-requests"), Some("3"));
    let total = from("b");
    check_refused(&total, "requests", "rate_limit_exceeded");
    assert!(total.error_message().contains("the gateway's limit is 3"), "{}", total.error_message());
    assert_eq!(metric(&gateway, "witgate_limit_refusals_total", &["scope=\"total\""]), 1.0);
}

#[test]
fn lists_and_unknown_paths_count_as_requests() {
    let upstream = Upstream::new(|request| match request.target.ends_with("/models") {
        true => Reply::models(&["m"]),
        false => Reply::json(200, "{}"),
    });
    let gateway = Gateway::start(&format!(
        "limits: {{ requests: 2/1h, tokens: 1/1h, budget: {{ day: {{ tokens: 1 }} }} }}
upstreams:\n  - {{ name: one, base_url: {}, default: true }}\n",
        upstream.url()
    ));
    let list = gateway.send(&Request::get("/v1/models")).expect(200);
    assert_eq!(list.header("x-ratelimit-remaining-requests"), Some("1"));
    gateway.send(&Request::get("/v1/files")).expect(200);
    for path in ["/v1/models", "/v1/files"] {
        check_refused(&gateway.send(&Request::get(path)), "requests", "rate_limit_exceeded");
    }
    // What is no request for a model is not limited.
    gateway.send(&Request::get("/healthz")).expect(200);
}

#[test]
fn a_caller_runs_no_more_at_once_than_it_may() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::new(move |_| Reply::chat("hello").first(Step::Wait(behind.clone())));
    let gateway = gateway(&upstream, "limits: { in_flight: 2, by: 'header:user' }");
    let ada = Request::chat("hi").header("user", "ada");
    let mut running: Vec<_> = (0..2).map(|_| gateway.ask(&ada)).collect();
    upstream.wait_requests(2);
    let refused = gateway.send(&ada);
    check_refused(&refused, "requests", "rate_limit_exceeded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(metric(&gateway, "witgate_limit_refusals_total", &["limit=\"in_flight\""]), 1.0);
    // Who leaves gives its place back; which of the two the upstream got first is not known.
    running.pop();
    upstream.wait("one of them to leave", |requests| {
        requests.iter().any(|request| request.left.is_some()).then_some(())
    });
    gate.open();
    running[0].answer().expect(200);
    eventually("the places to be free", || (gateway.send(&ada).status() == 200).then_some(()));
}

#[test]
fn one_after_the_other_never_meets_itself() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["hello", " there"]));
    let gateway = gateway(&upstream, "limits: { in_flight: 1 }");
    let mut connection = Connection::open(gateway.address());
    for number in 0..60 {
        let request = if number % 2 == 0 { Request::chat("hi") } else { Request::chat_stream("hi") };
        connection.send(&request).expect(200);
    }
}

#[test]
fn an_upstreams_own_limits_are_told_unless_there_are_some_here() {
    let upstream = Upstream::always(
        Reply::chat("hello")
            .header("x-ratelimit-remaining-tokens", "7")
            .header("x-ratelimit-limit-requests", "8"),
    );
    let open = gateway(&upstream, "");
    let answer = open.send(&Request::chat("hi")).expect(200);
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some("7"));
    let limited = gateway(&upstream, "limits: { requests: 5/1h }");
    let answer = limited.send(&Request::chat("hi")).expect(200);
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), None);
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("5"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("4"));
}

#[test]
fn a_reload_keeps_what_was_used_and_takes_new_bounds() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&upstream, "limits: { requests: 2/1h }");
    let reload = |settings: &str| {
        gateway.rewrite_config(&config(&upstream, settings));
        gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
    };
    gateway.send(&Request::chat("hi")).expect(200);
    gateway.send(&Request::chat("hi")).expect(200);
    reload("limits: { requests: 3/1h }");
    gateway.send(&Request::chat("hi")).expect(200);
    check_refused(&gateway.send(&Request::chat("hi")), "requests", "rate_limit_exceeded");
    reload("");
    let free = gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(free.header("x-ratelimit-limit-requests"), None);
}

/// A gateway's settings with the counts in a folder of the test's.
fn kept_in(folder: &std::path::Path, settings: &str) -> String {
    format!("audit: {{ enabled: false, path: {}/record.db }}\n{settings}", folder.display())
}

#[test]
fn a_restart_keeps_what_was_used() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let settings = kept_in(
        folder.path(),
        "limits: { requests: 5/1h, budget: { day: { tokens: 1000 }, month: { tokens: 1000 } } }",
    );
    let mut first = gateway(&upstream, &settings);
    for _ in 0..3 {
        first.send(&small(false)).expect(200);
    }
    first.signal("TERM");
    assert!(first.wait_exit().success());
    let second = gateway(&upstream, &settings);
    wait_used(&second, "ip:127.0.0.1", "requests", 3.0);
    wait_used(&second, "ip:127.0.0.1", "tokens", 15.0);
    let answer = second.send(&small(false)).expect(200);
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("1"));
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some("983"));
}

#[test]
fn after_a_kill_little_is_lost() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let settings = kept_in(folder.path(), "limits: { requests: 5/1h }");
    let mut first = gateway(&upstream, &settings);
    for _ in 0..3 {
        first.send(&Request::chat("hi")).expect(200);
    }
    // What is older than an interval is in the file.
    let file = folder.path().join("witgate-limits.json");
    eventually("the counts to be written", || {
        let counts: Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
        let slots = counts["meters"][0]["slots"].as_array()?.clone();
        let sum: u64 = slots.iter().filter_map(|slot| slot[1].as_u64()).sum();
        (sum == 3).then_some(())
    });
    first.signal("KILL");
    first.wait_exit();
    let second = gateway(&upstream, &settings);
    second.send(&Request::chat("hi")).expect(200);
    second.send(&Request::chat("hi")).expect(200);
    check_refused(&second.send(&Request::chat("hi")), "requests", "rate_limit_exceeded");
}

#[test]
fn a_damaged_file_is_put_aside() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    std::fs::write(folder.path().join("witgate-limits.json"), "{\"version\":1,").expect("it is writable");
    let gateway = gateway(&upstream, &kept_in(folder.path(), "limits: { requests: 5/1h }"));
    gateway.send(&Request::chat("hi")).expect(200);
    eventually("a warning", || gateway.stderr().contains("counting begins anew").then_some(()));
    let aside = std::fs::read_to_string(folder.path().join("witgate-limits.json.damaged"));
    assert_eq!(aside.expect("it is there"), "{\"version\":1,");
}

// parity: 45
#[test]
fn the_earlier_systems_variables_are_limits() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let launch = |variables: &[(&str, &str)]| {
        let launch = Launch::default();
        let launch = variables.iter().fold(launch, |launch, (name, value)| launch.variable(name, value));
        launch.start(&config(&upstream, ""))
    };
    let requests = launch(&[("RATE_LIMIT_REQUESTS", "2"), ("RATE_LIMIT_WINDOW", "3600")]);
    requests.send(&Request::chat("hi")).expect(200);
    requests.send(&Request::chat("hi").header("user", "ada")).expect(200);
    check_refused(&requests.send(&Request::chat("hi")), "requests", "rate_limit_exceeded");

    let tokens = launch(&[
        ("ENABLE_RATE_LIMITING", "true"),
        ("RATE_LIMIT_WINDOW_MIN", "30"),
        ("MAX_TOKENS", "8"),
        ("USER_HEADER", "x-person"),
    ]);
    let ada = small(false).header("x-person", "ada");
    tokens.send(&ada).expect(200);
    wait_used(&tokens, "header:ada", "tokens", 5.0);
    tokens.send(&ada).expect(200);
    wait_used(&tokens, "header:ada", "tokens", 10.0);
    let refused = tokens.send(&ada);
    check_refused(&refused, "tokens", "rate_limit_exceeded");
    assert!(refused.error_message().contains("8 tokens in 30m0s"), "{}", refused.error_message());

    for off in [&[("RATE_LIMIT_ENABLED", "false"), ("RATE_LIMIT_REQUESTS", "1")][..], &[("MAX_TOKENS", "1")]]
    {
        let open = launch(off);
        for _ in 0..3 {
            open.send(&Request::chat("hi")).expect(200);
        }
    }
}
