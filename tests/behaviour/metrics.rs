//! The page of metrics and `/stats`: what is counted, under which names, and that clients cannot make it grow.

mod page;
mod queries;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use witgate_tests::tool::{is_there, python};
use witgate_tests::upstream::reply::{Step, chunk};
use witgate_tests::{Connection, Gateway, Received, Reply, Request, Upstream, eventually};

use self::page::{Page, page};

/// Breaks where a request is marked.
const FAULTY: &str = env!("FAULTY_WASM");
/// Does what the header `x-probe` of a request says.
const PROBE: &str = env!("PROBE_WASM");
/// What `probe` needs to be loaded.
const GRANTS: &str = "{ kv: 64KiB, metrics: 4, secrets: { token: hidden }, http: [\"http://127.0.0.1:9\"], env: { COLOUR: red } }";

/// A chat request for a model.
fn chat(model: &str, is_stream: bool) -> Request {
    let body = json!({"model": model, "stream": is_stream, "messages": [{"role": "user", "content": "hi"}]});
    Request::post("/v1/chat/completions", body.to_string())
}

/// A stream whose pieces come one by one, and at its end what it cost.
fn slow_stream() -> Reply {
    let piece = |text: &str| chunk(&json!({"content": text}), None);
    let usage = json!({"choices": [], "usage": {
        "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 5},
    }});
    let pause = || Step::Pause(std::time::Duration::from_millis(15));
    Reply::stream([piece("a")])
        .step(pause())
        .event(&piece("b"))
        .step(pause())
        .event(&chunk(&json!({}), Some("stop")))
        .event(&usage.to_string())
        .event("[DONE]")
}

/// What the second upstream answers, by the model.
fn answer(request: &Received) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    match body["model"].as_str() {
        Some("gpt-limited") => Reply::error(429, "slow down"),
        Some("gpt-refused") => Reply::error(400, "no"),
        _ if body["stream"] == true => slow_stream(),
        _ => Reply::chat("hello"),
    }
}

/// Two upstreams, the first of which always fails, and two plugins; `more` is put at the top.
struct Scene {
    bad: Upstream,
    good: Upstream,
}

impl Scene {
    fn new() -> Self {
        Self { bad: Upstream::always(Reply::error(500, "broken")), good: Upstream::new(answer) }
    }

    fn config(&self, more: &str) -> String {
        let probe = format!("{{ name: probe, source: {PROBE}, allow: {GRANTS} }}");
        let faulty = format!(
            "{{ name: faulty, source: {FAULTY}, on_fault: skip, config: {{ faults: {{ on-request: panic }}, only_marked: true }} }}"
        );
        format!(
            "{more}\nrouting: {{ strategy: failover }}\nupstreams:\n  - {{ name: bad, base_url: \"{}\", model_match: {{ type: exact, value: [moving] }} }}\n  - {{ name: good, base_url: \"{}\", model_match: {{ type: keyword, value: [gpt, moving] }}, models: {{ nick: gpt-real }}, max_in_flight: 50 }}\nplugins:\n  - {probe}\n  - {faulty}\n",
            self.bad.url(),
            self.good.url()
        )
    }

    /// One of everything that can happen to a request.
    #[track_caller]
    fn happen(&self, gateway: &Gateway) {
        gateway.send(&chat("nick", false)).expect(200);
        gateway.send(&chat("nick", true)).expect(200);
        gateway.send(&chat("gpt-new", false)).expect(200);
        gateway.send(&chat("moving", false)).expect(200);
        gateway.send(&chat("gpt-limited", false)).expect(429);
        gateway.send(&chat("gpt-refused", false)).expect(400);
        gateway.send(&chat("unheard-of", false)).expect(404);
        gateway.send(&Request::get("/nothing")).expect(404);
        gateway.send(&chat("nick", false).header("x-probe", "on-request reject 422")).expect(422);
        gateway.send(&chat("nick", false).header("x-probe", "on-request count 2")).expect(200);
        gateway.send(&Request::get("/v1/models")).expect(200);
    }
}

/// What a gateway says when so many requests are over.
#[track_caller]
fn settled(gateway: &Gateway, requests: f64) -> Page {
    eventually("every request to be over", || {
        Some(page(gateway)).filter(|page| page.sum("witgate_requests_total", &[]) == requests)
    })
}

// parity: 153, 156, 157
#[test]
fn what_happens_to_requests_is_counted() {
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.config(""));
    scene.happen(&gateway);
    gateway.send(&chat("nick", false).header("x-fault", "panic")).expect(200);
    let mut client = gateway.ask(&chat("gpt-hang", true));
    assert_eq!(client.head().status, 200);
    drop(client);
    let page = settled(&gateway, 13.0);
    let check = |name: &str, labels: &[(&str, &str)], expected: f64| {
        assert_eq!(page.sum(name, labels), expected, "{name} {labels:?}");
    };
    let chat = ("endpoint", "chat.completions");
    let of_requests = |model, upstream, status, outcome, stream, expected| {
        let labels = [
            chat,
            ("model", model),
            ("upstream", upstream),
            ("status", status),
            ("outcome", outcome),
            ("stream", stream),
        ];
        check("witgate_requests_total", &labels, expected);
    };
    of_requests("nick", "good", "200", "complete", "false", 2.0);
    of_requests("nick", "good", "200", "complete", "true", 1.0);
    of_requests("nick", "none", "422", "rejected", "false", 1.0);
    of_requests("nick", "none", "200", "complete", "false", 1.0);
    of_requests("gpt-new", "good", "200", "complete", "false", 1.0);
    of_requests("moving", "good", "200", "complete", "false", 1.0);
    of_requests("other", "good", "429", "failed", "false", 1.0);
    of_requests("other", "good", "400", "refused", "false", 1.0);
    of_requests("other", "none", "404", "refused", "false", 1.0);
    check("witgate_requests_total", &[("endpoint", "other"), ("model", "none"), ("status", "404")], 1.0);
    check("witgate_requests_total", &[("endpoint", "models"), ("outcome", "complete")], 1.0);
    check("witgate_request_duration_seconds_count", &[chat, ("model", "nick"), ("upstream", "good")], 3.0);
    check("witgate_gateway_overhead_seconds_count", &[chat], 11.0);
    check("witgate_time_to_first_token_seconds_count", &[("model", "nick")], 1.0);
    assert!(page.sum("witgate_inter_token_gap_seconds_count", &[("model", "nick")]) >= 1.0);
    assert!(page.sum("witgate_inter_token_gap_seconds_sum", &[("model", "nick")]) >= 0.015);
    check("witgate_tokens_total", &[("kind", "input"), ("model", "nick")], 106.0);
    check("witgate_tokens_total", &[("kind", "output"), ("model", "nick")], 24.0);
    check("witgate_tokens_total", &[("kind", "cached")], 64.0);
    check("witgate_tokens_total", &[("kind", "reasoning")], 5.0);
    check("witgate_request_tokens_bucket", &[("kind", "input"), ("model", "nick"), ("le", "16.0")], 2.0);
    check("witgate_upstream_attempts_total", &[("upstream", "bad"), ("outcome", "server_error")], 1.0);
    check("witgate_upstream_attempts_total", &[("upstream", "good"), ("outcome", "rate_limited")], 1.0);
    check("witgate_upstream_attempts_total", &[("upstream", "good"), ("outcome", "client_error")], 1.0);
    check("witgate_failovers_total", &[("upstream", "bad")], 1.0);
    check("witgate_routing_moves_total", &[("model", "moving"), ("upstream", "good")], 1.0);
    check("witgate_errors_total", &[("kind", "model_not_found"), ("blame", "client")], 1.0);
    check("witgate_errors_total", &[("kind", "unknown_path"), ("blame", "client")], 1.0);
    check("witgate_errors_total", &[("kind", "rejected"), ("blame", "plugin")], 1.0);
    check("witgate_errors_total", &[("kind", "upstream_status"), ("blame", "upstream")], 1.0);
    check("witgate_errors_total", &[("kind", "upstream_refused"), ("blame", "client")], 1.0);
    check("witgate_upstream_condition", &[("upstream", "bad"), ("condition", "failing")], 1.0);
    check("witgate_upstream_in_flight_max", &[("upstream", "good")], 50.0);
    check("witgate_plugin_rejections_total", &[("plugin", "probe"), ("hook", "on-request")], 1.0);
    check(
        "witgate_plugin_faults_total",
        &[("plugin", "faulty"), ("hook", "on-request"), ("kind", "panic")],
        1.0,
    );
    check("witgate_plugin_condition", &[("plugin", "faulty"), ("condition", "healthy")], 1.0);
    check("witgate_plugin_probe_seen_total", &[("plugin", "probe")], 2.0);
    let calls = page.sum("witgate_plugin_calls_total", &[("plugin", "probe"), ("hook", "on-request")]);
    check("witgate_plugin_duration_seconds_count", &[("plugin", "probe"), ("hook", "on-request")], calls);
    check("witgate_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    assert!(page.sum("process_resident_memory_bytes", &[]) > 1e6);
    assert!(page.sum("process_open_fds", &[]) > 5.0);
    let started = page.sum("process_start_time_seconds", &[]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    assert!((now.as_secs_f64() - started).abs() < 300.0, "{started}");
    assert!(page.sum("witgate_connections_open", &[("listener", "admin")]) >= 1.0);
    eventually("the audit to have all of it", || {
        (page::page(&gateway).sum("witgate_audit_rows_written_total", &[]) == 13.0).then_some(())
    });
    let audit = gateway.send_admin(&Request::get("/stats")).expect(200).json()["audit"].clone();
    assert_eq!(
        (&audit["on"], &audit["written"], &audit["dropped"], &audit["retrying"]),
        (&json!(true), &json!(13), &json!(0), &Value::Null)
    );
}

#[test]
fn a_client_that_leaves_is_cancelled() {
    let piece = chunk(&json!({"content": "a"}), None);
    let upstream = Upstream::always(Reply::stream([piece]).hang());
    let gateway = Gateway::before(&upstream);
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert!(client.head().status == 200 && client.event().is_some());
    assert_eq!(page(&gateway).sum("witgate_requests_in_flight", &[]), 1.0);
    assert_eq!(page(&gateway).sum("witgate_upstream_in_flight", &[("upstream", "one")]), 1.0);
    drop(client);
    let labels = [("outcome", "cancelled"), ("status", "200"), ("stream", "true")];
    let page = eventually("the client to be missed", || {
        let page = page(&gateway);
        (page.sum("witgate_requests_total", &labels) == 1.0).then_some(page)
    });
    assert_eq!(page.sum("witgate_errors_total", &[("kind", "cancelled"), ("blame", "client")]), 1.0);
    assert_eq!(page.sum("witgate_requests_in_flight", &[]), 0.0);
}

#[test]
fn who_watches_is_not_in_flight() {
    let gateway = Gateway::start("upstreams: [{ name: echo, base_url: 'builtin:echo' }]\n");
    let request = Request::post("/admin/reload", "{}").header("expect", "100-continue");
    let request = request.host(&gateway.admin().to_string()).bytes();
    let operators = [(); 2].map(|()| {
        let mut operator = TcpStream::connect(gateway.admin()).expect("it listens");
        // Without its body, which the gateway waits for once it says so.
        operator.write_all(&request[..request.len() - 2]).expect("it reads");
        let mut told = [0; 25];
        operator.read_exact(&mut told).expect("it asks for the body");
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        operator
    });
    assert_eq!(page(&gateway).sum("witgate_requests_in_flight", &[]), 0.0);
    let stats = gateway.send_admin(&Request::get("/stats")).expect(200).json();
    assert_eq!(stats["requests"]["active"], 0);
    assert_eq!(gateway.send(&Request::get("/health")).expect(200).json()["active_requests"], 0);
    drop(operators);
}

// parity: 153, 156
#[test]
fn stats_have_the_fields_of_the_python_proxy_and_the_last_minute() {
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.config(""));
    let stats = || gateway.send_admin(&Request::get("/stats")).expect(200).json();
    assert_eq!(stats()["requests"]["total"], 0);
    scene.happen(&gateway);
    let stats = eventually("every request to be over", || {
        Some(stats()).filter(|stats| stats["requests"]["total"] == 11)
    });
    let requests = &stats["requests"];
    assert_eq!(
        (&requests["success"], &requests["error"], &requests["timeout"], &requests["retry"]),
        (&json!(6), &json!(5), &json!(0), &json!(1))
    );
    assert_eq!((&requests["active"], &requests["streaming"]), (&json!(0), &json!(1)));
    assert_eq!(stats["status_codes"], json!({"200": 6, "400": 1, "404": 2, "422": 1, "429": 1}));
    assert_eq!(stats["errors"], json!({"upstream": 2, "circuit_breaker_trips": 0}));
    assert!(stats["latency"]["avg_seconds"].as_f64().is_some_and(|mean| mean > 0.0));
    assert_eq!(stats["tokens"], json!({"input": 109, "output": 26, "cached": 64, "reasoning": 5}));
    let window = &stats["window"];
    assert_eq!(
        (&window["seconds"], &window["requests"], &window["errors"]),
        (&json!(60), &json!(11), &json!(5))
    );
    assert!(window["ttft_seconds"]["p50"].as_f64().is_some_and(|time| time > 0.0));
    assert!(window["requests_per_second"].as_f64().is_some_and(|rate| rate > 0.0));
    let series = window["series"].as_array().expect("it is a list");
    assert_eq!(series.len(), 60);
    let sum = |name: &str| series.iter().filter_map(|second| second[name].as_u64()).sum::<u64>();
    assert_eq!((sum("requests"), sum("tokens")), (11, 26), "tokens are those of answers");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    assert!(series[59]["at"].as_u64().is_some_and(|at| at.abs_diff(now.as_secs()) <= 3), "{}", series[59]);
    gateway.send_admin(&Request::get("/stats?x=1")).expect(400);
}

// parity: 154
#[test]
fn the_earlier_systems_names_are_there_if_they_are_asked_for() {
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.config(""));
    scene.happen(&gateway);
    let is_earlier = |name: &str| !["witgate_", "process_"].iter().any(|own| name.starts_with(own));
    assert!(!settled(&gateway, 11.0).names().iter().any(|name| is_earlier(name)));
    gateway.rewrite_config(&scene.config("metrics: { compat: true }"));
    gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
    let page = page(&gateway);
    let names = page.names();
    let gpt_api = [
        "requests_total",
        "active_requests",
        "success_rate",
        "success_rate_1m",
        "ttft_seconds_bucket",
        "latency_seconds_bucket",
        "tps",
        "rps",
        "tokens_total",
        "token_distribution_bucket",
        "tokens_missing_total",
        "backend_up",
        "failover_total",
        "errors_total",
    ];
    let monitor = [
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "token_usage_total",
        "tokens_by_model",
        "prompt_tokens_total",
        "completion_tokens_total",
        "tokens_total",
        "rate_limit_exceeded_total",
    ];
    let python = [
        "requests_total",
        "requests_success",
        "requests_error",
        "requests_timeout",
        "requests_retry",
        "requests_active",
        "requests_streaming",
        "latency_seconds",
        "upstream_errors_total",
        "circuit_breaker_trips_total",
        "uptime_seconds",
        "response_status",
        "path_requests",
    ];
    let expected = gpt_api.iter().map(|name| format!("gpt_api_{name}"));
    let expected = expected.chain(monitor.iter().map(ToString::to_string));
    for name in expected.chain(python.iter().map(|name| format!("proxy_{name}"))) {
        assert!(names.contains(&name), "{name}");
    }
    let check = |name: &str, labels: &[(&str, &str)], expected: f64| {
        assert_eq!(page.sum(name, labels), expected, "{name} {labels:?}");
    };
    check("gpt_api_requests_total", &[("model", "nick"), ("backend", "good"), ("status", "200")], 2.0);
    check("gpt_api_errors_total", &[("error_type", "rate_limit")], 1.0);
    check("gpt_api_errors_total", &[("error_type", "client_error")], 4.0);
    check("gpt_api_failover_total", &[("model", "moving")], 1.0);
    check("gpt_api_backend_up", &[("backend", "bad")], 0.0);
    check("gpt_api_tokens_total", &[("model", "nick"), ("type", "prompt")], 103.0);
    check("http_requests_total", &[("status", "200")], 6.0);
    check("tokens_total", &[], 135.0);
    check("proxy_requests_total", &[], 11.0);
    check("proxy_response_status", &[("status_code", "404")], 2.0);
    check("proxy_path_requests", &[("path", "chat.completions")], 9.0);
}

#[test]
fn what_the_configuration_drops_leaves_the_page() {
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.config(""));
    scene.happen(&gateway);
    let of = |page: &Page, label: (&str, &str)| page.series().filter(|series| series.has(&[label])).count();
    let before = settled(&gateway, 11.0);
    assert!(of(&before, ("upstream", "bad")) > 0 && of(&before, ("plugin", "probe")) > 0);
    gateway.rewrite_config(&format!(
        "upstreams: [{{ name: good, base_url: \"{}\", model_match: {{ type: keyword, value: [gpt] }} }}]\n",
        scene.good.url()
    ));
    gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
    let after = page(&gateway);
    for gone in [
        ("upstream", "bad"),
        ("plugin", "probe"),
        ("plugin", "faulty"),
        ("model", "moving"),
        ("model", "nick"),
    ] {
        assert_eq!(of(&after, gone), 0, "{gone:?}");
    }
    assert!(of(&after, ("model", "gpt-new")) > 0, "what an upstream still takes stays");
    assert_eq!(after.sum("witgate_reloads_total", &[("result", "ok")]), 1.0);
    gateway.rewrite_config("upstreams: [{ name: good }]\n");
    gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(422);
    let refused = page(&gateway);
    assert_eq!(refused.sum("witgate_reloads_total", &[("result", "failed")]), 1.0);
    assert_eq!(refused.sum("witgate_last_reload_successful", &[]), 0.0);
    let hash = |page: &Page| {
        page.series().find(|series| series.name == "witgate_config_info").map(|info| info.label("hash"))
    };
    assert_ne!(hash(&before), hash(&after));
    assert_eq!(hash(&after), hash(&refused));
    let with_key = |key: &str| {
        gateway.rewrite_config(&format!(
            "upstreams: [{{ name: good, base_url: 'builtin:echo', api_key: {key} }}]\n"
        ));
        gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
        hash(&page(&gateway))
    };
    let first = with_key("sk-first");
    assert_ne!(first, with_key("sk-second"), "a key that is replaced is a change");
    assert_eq!(first, with_key("sk-first"));
}

#[test]
fn the_main_listener_has_the_page_if_it_is_to() {
    let text = "upstreams: [{ name: one, base_url: 'builtin:echo' }]\n";
    let gateway = Gateway::start(text);
    gateway.send(&Request::get("/metrics")).expect(404);
    let gateway = Gateway::start(&format!("server: {{ metrics_on_main: true }}\n{text}"));
    let answer = gateway.send(&Request::get("/metrics")).expect(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    gateway.send(&Request::post("/metrics", "{}")).expect(405);
}

#[test]
fn a_scraper_with_the_token_is_let_in() {
    let gateway = Gateway::start(
        "server: { admin_token: t0ken }\nupstreams: [{ name: one, base_url: 'builtin:echo' }]\n",
    );
    gateway.send_admin(&Request::get("/metrics")).expect(401);
    gateway.send_admin(&Request::get("/metrics").header("authorization", "Bearer t0ken")).expect(200);
}

/// Asks on one connection, many at a time, and reads the answers.
#[track_caller]
fn flood(gateway: &Gateway, requests: impl Iterator<Item = Request>) {
    const AT_ONCE: usize = 50;
    let mut connection = Connection::open(gateway.address());
    let mut requests = requests.peekable();
    while requests.peek().is_some() {
        let batch: Vec<Vec<u8>> = requests.by_ref().take(AT_ONCE).map(|request| request.bytes()).collect();
        connection.write(&batch.concat());
        for _ in &batch {
            let status = connection.answer().status();
            assert!(status == 200 || status == 404, "{status}");
        }
    }
}

// parity: 155
#[test]
fn no_client_makes_the_page_grow() {
    const EACH: u64 = 49_750;
    let gateway = Gateway::start(
        "audit: { enabled: false }\nupstreams: [{ name: one, base_url: 'builtin:echo', model_match: { type: keyword, value: [gpt] } }]\n",
    );
    // Numbers scattered over 64 bits, so that no two names are alike in front or at the end.
    let scattered = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let taken = |from: u64, to: u64| {
        (from..to).map(move |number| chat(&format!("gpt-{:x}", scattered(number)), false))
    };
    // As many names as there is room for, and a few more; and one of each kind of refusal.
    flood(&gateway, taken(0, 250));
    flood(&gateway, [chat("nobody", false), Request::get("/v1/nothing")].into_iter());
    let before = settled(&gateway, 252.0);
    assert_eq!(before.labels("witgate_requests_total", "model").len(), 202, "200 names, other and none");
    std::thread::scope(|scope| {
        let gateway = &gateway;
        scope.spawn(move || {
            flood(
                gateway,
                (0..EACH).map(|number| Request::get(&format!("/v1/{:x}/{number}", scattered(number)))),
            );
        });
        scope.spawn(move || {
            flood(gateway, (0..EACH).map(|number| chat(&format!("{:x}", scattered(number)), false)));
        });
        flood(gateway, taken(250, 750));
    });
    let after = settled(&gateway, 252.0 + 2.0 * EACH as f64 + 500.0);
    let is_new = |name: &String| !before.written().contains(name);
    let new: Vec<String> = after.written().iter().filter(|name| is_new(name)).cloned().collect();
    assert_eq!(new, [""; 0], "{} series before", before.written().len());
}

/// Reads a page as strictly as Prometheus's own library for Python does, and prints how many samples it has.
const STRICT: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as plain
read = strict if sys.argv[1] == 'open' else plain
print(sum(len(family.samples) for family in read(sys.stdin.read())))
";

#[test]
fn both_texts_are_valid() {
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.config("metrics: { compat: true }"));
    scene.happen(&gateway);
    let plain = gateway.send_admin(&Request::get("/metrics")).expect(200);
    let open = gateway
        .send_admin(&Request::get("/metrics").header("accept", "application/openmetrics-text;version=1.0.0"))
        .expect(200);
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.text().ends_with("# EOF\n") && !plain.text().contains("# EOF"));
    if is_there("promtool") {
        let said =
            page::piped(std::process::Command::new("promtool").args(["check", "metrics"]), plain.text());
        assert_eq!(said, "");
    }
    if is_there("python3") {
        let python = python("prometheus-client-0.22.1", &["prometheus-client==0.22.1"]);
        let count = |text: &str, kind: &str| {
            let mut command = std::process::Command::new(&python);
            page::piped(command.args(["-c", STRICT, kind]), text)
                .trim()
                .parse::<usize>()
                .expect("it is a number")
        };
        let lines = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(count(open.text(), "open"), lines(open.text()));
        assert_eq!(count(plain.text(), "plain"), lines(plain.text()));
    }
}
