//! What the gateway takes from its environment and its command line.

use serde_json::json;
use witgate_tests::gateway::{Launch, command};
use witgate_tests::{Reply, Request, Upstream};

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
    let vendors: Vec<Upstream> = (0..3).map(|_| Upstream::always(Reply::chat("hello"))).collect();
    let gateway = Launch::default()
        .variable("OPENAI_API_KEY", "sk-0")
        .variable("OPENAI_BASE_URL", &vendors[0].url())
        .variable("ANTHROPIC_API_KEY", "sk-1")
        .variable("ANTHROPIC_BASE_URL", &vendors[1].url())
        .variable("GEMINI_API_KEY", "sk-2")
        .variable("GEMINI_BASE_URL", &vendors[2].url())
        .start_embedded();
    for (index, model) in ["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro"].iter().enumerate() {
        gateway.send(&chat(model).header("authorization", "Bearer caller")).expect(200);
        assert_eq!(
            vendors[index].only().header("authorization"),
            Some(&*format!("Bearer sk-{index}")),
            "{model}"
        );
    }
    gateway.send(&chat("o1-mini")).expect(200);
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

// parity: 44
#[test]
fn the_earlier_systems_timers_and_retries_are_honoured() {
    let upstream = Upstream::always(Reply::silence());
    let gateway = Launch::default()
        .variable("UPSTREAM_URL", &upstream.origin())
        .variable("TIMEOUT", "1")
        .variable("MAX_RETRIES", "1")
        .start_embedded();
    gateway.send(&chat("m")).expect(504);
    assert_eq!(upstream.count(), 1);
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
fn simulate_prints_every_strategy() {
    let trace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/traces/small.jsonl");
    let output = command()
        .args(["simulate", "--nodes", "4", "--blocks", "100", "--trace"])
        .arg(trace)
        .output()
        .expect("the binary can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for strategy in ["deterministic", "voting", "random", "round_robin", "least_in_flight", "failover"] {
        assert!(text.contains(strategy), "{strategy} is in:\n{text}");
    }
}
