//! What the gateway takes from its environment and its command line.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use witgate_tests::gateway::{Launch, command};
use witgate_tests::upstream::reply::Step;
use witgate_tests::{Gateway, Refusing, Reply, Request, Upstream, Vendor, eventually, now};

fn chat(model: &str) -> Request {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    Request::post("/v1/chat/completions", body.to_string())
}

// parity: 42
#[test]
fn the_earlier_systems_variables_say_where_to_listen() {
    for variables in
        [&[("SERVER_PORT", "0")][..], &[("PORT", "0"), ("HOST", "127.0.0.1")], &[("PROXY_PORT", "0")]]
    {
        let mut launch = Launch::default().listening_by_itself();
        for (name, value) in variables {
            launch = launch.variable(name, value);
        }
        let gateway = launch.start_embedded();
        assert_ne!(gateway.address().port(), 8000);
        gateway.send(&chat("echo")).expect(200);
    }
}

// parity: 42
#[test]
fn the_metrics_port_is_where_the_admin_listener_is() {
    let gateway = Launch::default().admin_by_itself().variable("METRICS_PORT", "0").start_embedded();
    assert_ne!(gateway.admin().port(), 9090);
    assert_ne!(gateway.admin(), gateway.address());
    gateway.send_admin(&Request::get("/admin/config")).expect(200);
}

// parity: 43
#[test]
fn one_variable_is_enough_for_an_upstream() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["hello"]));
    let address = upstream.address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let cases: [&[(&str, &str)]; 3] = [
        &[("UPSTREAM_URL", &upstream.origin())],
        &[("OLLAMA_BASE", &upstream.origin())],
        &[("OPENAI_DOMAIN", &host), ("OPENAI_PORT", &port), ("OPENAI_TLS", "false")],
    ];
    for variables in cases {
        let mut launch = Launch::default();
        for (name, value) in variables {
            launch = launch.variable(name, value);
        }
        let gateway = launch.start_embedded();
        gateway.send(&chat("llama-3")).expect(200);
        assert_eq!(upstream.last().target, "/v1/chat/completions", "{variables:?}");
        assert!(
            gateway.stdout().contains(variables[0].0),
            "the banner says what was found: {}",
            gateway.stdout()
        );
        gateway.send(&chat("echo")).expect(200);
    }
    assert_eq!(upstream.count(), cases.len(), "the echo is still there");
}

// parity: 72
#[test]
fn keys_in_the_environment_add_their_vendors() {
    let vendors = [Vendor::OpenAi, Vendor::Anthropic, Vendor::Gemini].map(Vendor::upstream);
    let gateway = Launch::default()
        .variable("OPENAI_API_KEY", "sk-0")
        .variable("OPENAI_BASE_URL", &vendors[0].url())
        .variable("ANTHROPIC_API_KEY", "sk-1")
        .variable("ANTHROPIC_BASE_URL", &vendors[1].origin())
        .variable("GEMINI_API_KEY", "sk-2")
        .variable("GEMINI_BASE_URL", &vendors[2].origin())
        .start_embedded();
    for (index, model, header, key) in [
        (0, "gpt-4o.plain", "authorization", "Bearer sk-0"),
        (1, "claude-sonnet-4-5.plain", "x-api-key", "sk-1"),
        (2, "gemini-2.5-pro.plain", "x-goog-api-key", "sk-2"),
    ] {
        gateway.send(&chat(model).header("authorization", "Bearer caller")).expect(200);
        assert_eq!(vendors[index].only().header(header), Some(key), "{model}");
    }
    gateway.send(&chat("o1-mini.plain")).expect(200);
    assert_eq!(vendors[0].count(), 2);
    assert!(!gateway.stdout().contains("sk-"), "the banner shows no key");
}

#[test]
fn variables_expand_in_the_configuration() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Launch::default().variable("MY_KEY", "sk-from-env").variable("MY_URL", &upstream.url()).start(
        "upstreams:\n  - name: one\n    base_url: ${MY_URL}\n    api_key: \"${MY_KEY}\"\n    headers: { x-a: \"${MY_UNSET:-default}\" }\n",
    );
    gateway.send(&chat("m")).expect(200);
    let received = upstream.only();
    assert_eq!(received.header("authorization"), Some("Bearer sk-from-env"));
    assert_eq!(received.header("x-a"), Some("default"));
}

/// Starts the embedded default before this upstream with these variables.
fn launch(upstream: &Upstream, variables: &[(&str, &str)]) -> Gateway {
    let launch = Launch::default().variable("UPSTREAM_URL", &upstream.origin());
    variables.iter().fold(launch, |launch, (name, value)| launch.variable(name, value)).start_embedded()
}

// parity: 44
#[test]
fn the_earlier_systems_timers_are_honoured() {
    let silent = Upstream::always(Reply::silence());
    let started = now();
    launch(&silent, &[("TIMEOUT", "1"), ("MAX_RETRIES", "1")]).send(&chat("m")).expect(504);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(silent.count(), 1);
    // A handshake that hangs is a connection that is not made.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    let gateway = Launch::default()
        .variable("UPSTREAM_URL", &url)
        .variable("CONNECT_TIMEOUT", "0.1")
        .variable("MAX_RETRIES", "1")
        .start_embedded();
    let started = now();
    gateway.send(&chat("m")).expect(504);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

// parity: 44
#[test]
fn the_earlier_systems_retries_are_honoured() {
    let refusing = Refusing::new();
    for (retries, attempts) in [("1", "1"), ("3", "3")] {
        let gateway = Launch::default()
            .variable("UPSTREAM_URL", &refusing.origin())
            .variable("MAX_RETRIES", retries)
            .variable("RETRY_DELAY", "0.001")
            .start_embedded();
        let answer = gateway.send(&chat("m")).expect(502);
        assert_eq!(answer.header("x-witgate-attempts"), Some(attempts));
    }
}

// parity: 48
#[test]
fn the_log_is_as_detailed_as_the_environment_says() {
    let upstream = Upstream::always(Reply::new(200).first(Step::Reset));
    for (variables, is_detailed) in [
        (&[("LOG_LEVEL", "DEBUG")][..], true),
        (&[("LOG_LEVEL", "WARNING")], false),
        (&[("RUST_LOG", "witgate=debug")], true),
        (&[("RUST_LOG", "error"), ("LOG_LEVEL", "DEBUG")], false),
        (&[("RUST_LOG", "debug"), ("LOG_LEVEL", "ERROR")], true),
    ] {
        let mut gateway = launch(&upstream, variables);
        gateway.send(&chat("m")).expect(502);
        gateway.signal("TERM");
        gateway.wait_exit();
        // Each attempt that failed is a line for debugging.
        let log = eventually("the log's end", || {
            let log = gateway.stderr();
            (!is_detailed || log.contains("DEBUG")).then_some(log)
        });
        assert_eq!(log.contains("DEBUG"), is_detailed, "{variables:?}: {log}");
    }
}

// parity: 48
#[test]
fn the_grace_period_may_come_from_the_environment() {
    let upstream = Upstream::always(Reply::silence());
    let mut gateway = launch(&upstream, &[("SHUTDOWN_TIMEOUT", "0.1")]);
    let _client = gateway.ask(&chat("m"));
    upstream.wait_requests(1);
    let signalled = now();
    gateway.signal("TERM");
    gateway.wait_exit();
    assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
}

// parity: 48
#[test]
fn variables_without_a_meaning_are_said_to_have_no_effect() {
    let gone = ["LOG_FILE", "METRICS_ENABLED", "REDIS_POOL_SIZE", "DB_ROTATION_CHECK_INTERVAL_SEC"];
    let launch = gone.iter().fold(Launch::default(), |launch, name| launch.variable(name, "1"));
    let gateway = launch.start_embedded();
    gateway.send(&chat("echo")).expect(200);
    for name in gone {
        eventually("a warning", || {
            gateway.stderr().contains(&format!("`{name}` has no effect")).then_some(())
        });
    }
}

// parity: 44, 50
#[test]
fn a_variable_that_cannot_be_read_stops_the_start() {
    for (name, value) in
        [("TIMEOUT", "soon"), ("MAX_RETRIES", "0"), ("SERVER_PORT", "http"), ("LOG_LEVEL", "loud")]
    {
        let output = command().args(["serve"]).env(name, value).output().expect("the binary can be run");
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains(name) && log.contains(value), "{log}");
    }
}

/// The sample in the first Rust system's README.
const SAMPLE_S1: &str = r#"openai_clients:
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

/// The sample in the Python system's README, with plain URLs.
const SAMPLE_S2: &str = r#"openai_clients:
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

// parity: 26, 27, 30, 33
#[test]
fn the_earlier_systems_samples_load_unchanged() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    for (name, text, verdict) in
        [("s1.yaml", SAMPLE_S1, "2 upstreams"), ("s2.yaml", SAMPLE_S2, "3 upstreams")]
    {
        std::fs::write(folder.path().join(name), text).expect("it is writable");
        let keys = [("OPENAI_API_KEY", "sk-1"), ("DEEPSEEK_API_KEY", "sk-2")];
        let check = |keys: &[(&'static str, &'static str)]| {
            let mut command = command();
            command.current_dir(folder.path()).args(["check", "--config", name]).envs(keys.iter().copied());
            command.output().expect("the binary can be run")
        };
        let output = check(&keys);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(verdict), "{said}");
        assert!(output.stderr.is_empty(), "no warning: {}", String::from_utf8_lossy(&output.stderr));
        let without = check(&[]);
        assert_eq!(without.status.success(), name == "s1.yaml", "only the second one needs keys");
        if name == "s2.yaml" {
            assert!(String::from_utf8_lossy(&without.stderr).contains("`DEEPSEEK_API_KEY` is not set"));
        }
    }
}

// parity: 26, 33, 34
#[test]
fn the_earlier_systems_samples_work() {
    let upstream = Upstream::new(|request| match request.json()["model"].as_str() {
        Some("gpt-4") => Reply::error(503, "down"),
        _ => Reply::chat("hello"),
    });
    let here = |sample: &str| {
        ["https://api.openai.com/v1", "https://azure-endpoint.com/v1", "https://api.deepseek.com"]
            .iter()
            .fold(sample.to_owned(), |text, url| text.replace(url, &upstream.url()))
    };
    let gateway = Gateway::start(&here(SAMPLE_S1));
    gateway.send(&chat("gpt-4")).expect(200);
    let models: Vec<_> = upstream.requests().iter().map(|request| request.json()["model"].clone()).collect();
    assert_eq!(models, ["gpt-4", "gpt-4-backup"], "the fallback is asked for the model it knows");
    drop(gateway);
    let gateway = Launch::default()
        .variable("OPENAI_API_KEY", "sk-1")
        .variable("DEEPSEEK_API_KEY", "sk-2")
        .start(&here(SAMPLE_S2));
    let answer = gateway.send(&chat("deepseek-reasoner")).expect(200);
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "<think>hello");
    let received = upstream.last();
    assert_eq!(received.json()["stop"], json!(["<|endoftext|>"]));
    assert_eq!(received.header("authorization"), Some("Bearer sk-2"));
    gateway.send(&chat("gpt-4")).expect(200);
    assert_eq!(upstream.last().json()["model"], "deepseek-chat-fallback");
}

// parity: 49
#[test]
fn flags_of_the_earlier_systems_work() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Launch::default()
        .listening_by_itself()
        .argument("--proxy-port")
        .argument("0")
        .variable("SERVER_PORT", "1")
        .variable("UPSTREAM_URL", &upstream.origin())
        .start_embedded();
    gateway.send(&chat("m")).expect(200);
    let help = command().args(["serve", "--help"]).output().expect("the binary can be run");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for flag in ["--config", "--listen", "--admin", "--proxy-port", "--metrics-port", "--openai-domain"] {
        assert!(help.contains(flag), "{flag} is in:\n{help}");
    }
}

#[test]
fn explain_shows_the_choice() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let config = "upstreams:\n  - { name: one, base_url: \"http://127.0.0.1:9/v1\" }\n  - { name: two, base_url: \"http://127.0.0.1:9/v1\", priority: 3 }\n";
    std::fs::write(folder.path().join("c.yaml"), config).expect("it is writable");
    let request = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    std::fs::write(folder.path().join("r.json"), request).expect("it is writable");
    let explain = |file: &str| {
        let arguments = ["explain", "--config", "c.yaml", "--request", file];
        command().current_dir(folder.path()).args(arguments).output().expect("the binary can be run")
    };
    let output = explain("r.json");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("one") && text.contains("two") && text.contains("anchor"), "{text}");
    assert_eq!(
        text,
        String::from_utf8_lossy(&explain("r.json").stdout),
        "it does not change from run to run"
    );
    assert_eq!(explain("missing.json").status.code(), Some(1));
}

#[test]
fn simulate_shows_what_affinity_is_worth() {
    let trace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/traces/small.jsonl");
    let simulate = |more: &[&str]| {
        let mut command = command();
        command.args(["simulate", "--nodes", "4", "--blocks", "100", "--trace"]).arg(&trace).args(more);
        let output = command.output().expect("the binary can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let document: serde_json::Value = serde_json::from_str(&simulate(&["--json"])).expect("it is JSON");
    let ratio = |strategy: &str| {
        let lines = document["strategies"].as_array().expect("a list of strategies");
        let line = lines.iter().find(|line| line["strategy"] == strategy);
        let line = line.unwrap_or_else(|| panic!("no `{strategy}` in {lines:?}"));
        assert!(line["imbalance"].as_f64().is_some_and(|imbalance| imbalance >= 1.0), "{line}");
        line["hit_ratio"].as_f64().expect("a ratio is a number")
    };
    for strategy in ["random", "round_robin", "least_in_flight"] {
        assert!(ratio("deterministic") > ratio(strategy) + 0.1, "{strategy}: {document}");
    }
    let table = simulate(&[]);
    assert!(
        table.lines().any(|line| line.split_whitespace().eq(["strategy", "hit_ratio", "imbalance"])),
        "{table}"
    );
    for strategy in
        ["infinite", "deterministic", "voting", "random", "round_robin", "least_in_flight", "failover"]
    {
        ratio(strategy);
        assert!(table.contains(strategy), "{strategy} is in:\n{table}");
    }
}
