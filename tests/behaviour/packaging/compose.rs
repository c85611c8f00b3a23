//! `compose.yaml` and what it mounts.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use witgate_tests::Request;
use witgate_tests::gateway::{Launch, command};
use witgate_tests::tool::{finish, is_there};

use super::{STOP_SECONDS_MIN, read, repository, texts, yaml};

const CONFIG: &str = "config/container/witgate.yaml";
const TOKEN: (&str, &str) = ("WITGATE_ADMIN_TOKEN", "of-the-operators");

#[track_caller]
fn seconds(text: &Value) -> u64 {
    let text = text.as_str().expect("a duration is a text");
    text.strip_suffix('s')
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{text} is in seconds"))
}

// parity: 161, 162
#[test]
fn the_gateways_service_is_locked_down_and_checked() {
    if !is_there("python3") {
        return;
    }
    let compose = yaml("compose.yaml");
    let gateway = &compose["services"]["witgate"];
    assert_eq!(gateway["profiles"], Value::Null, "it runs under every profile");
    assert_eq!(gateway["healthcheck"]["test"], json!(["CMD", "witgate", "health"]));
    assert_eq!(gateway["read_only"], true);
    assert_eq!(gateway["cap_drop"], json!(["ALL"]));
    assert_eq!(gateway["security_opt"], json!(["no-new-privileges:true"]));
    assert!(read("Dockerfile").contains(&format!("USER {}\n", gateway["user"].as_str().expect("a text"))));
    assert_eq!(gateway["restart"], "unless-stopped");
    assert!(seconds(&gateway["stop_grace_period"]) >= STOP_SECONDS_MIN);
    for port in texts(&gateway["ports"]) {
        assert!(
            port.starts_with("127.0.0.1:"),
            "{port}: opening it to other machines is the operator's decision"
        );
    }
    // Compose cannot write a secret into a container that is read-only.
    assert_eq!(gateway["secrets"], Value::Null);
}

// parity: 162
#[test]
fn monitoring_is_a_profile_with_prometheus_and_grafana() {
    if !is_there("python3") {
        return;
    }
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().expect("a mapping of services");
    let monitoring: BTreeSet<&str> = services
        .iter()
        .filter(|(_, service)| service["profiles"] == json!(["monitoring"]))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(monitoring, BTreeSet::from(["grafana", "prometheus"]));
    for name in monitoring {
        let service = &services[name];
        let (_, version) =
            service["image"].as_str().and_then(|image| image.split_once(':')).expect("a version");
        assert_ne!(version, "latest");
        assert!(texts(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
        assert_eq!(service["secrets"], json!(["admin_token"]), "{name}");
    }
    assert_eq!(compose["secrets"]["admin_token"]["environment"], TOKEN.0);
    let named: BTreeSet<&str> =
        compose["volumes"].as_object().expect("a mapping of volumes").keys().map(String::as_str).collect();
    for (name, service) in services {
        for volume in texts(&service["volumes"]) {
            let source = volume.split(':').next().unwrap_or_default();
            match source.strip_prefix("./") {
                Some(file) => {
                    assert!(volume.ends_with(":ro"), "{name}: {volume}");
                    assert!(repository().join(file).exists(), "{name}: {file} is not there");
                }
                None => assert!(named.contains(source), "{name}: {volume}"),
            }
        }
    }
}

/// Compose itself, where it is installed.
#[test]
fn compose_understands_its_file() {
    let compose = ["compose", "-f", "compose.yaml", "--profile", "monitoring", "config"];
    let there = Command::new("docker").args(["compose", "version"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("skipped: docker compose not found");
        return;
    }
    let docker = |token: &str| {
        let mut docker = Command::new("docker");
        docker.current_dir(repository()).args(compose).env(TOKEN.0, token);
        docker
    };
    assert!(finish(&mut docker(TOKEN.1)).contains("prom/prometheus"));
    let refused = docker("").output().expect("docker can be run");
    assert!(!refused.status.success(), "the token is required");
}

/// The configuration that Compose mounts, on ports of the test.
#[test]
fn the_mounted_configuration_serves() {
    let launch = Launch::default().variable(TOKEN.0, TOKEN.1).variable("OPENAI_API_KEY", "");
    let gateway = launch.start(&read(CONFIG));
    let body = json!({"model": "echo", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    gateway.send(&Request::post("/v1/chat/completions", body)).expect(200);
    gateway.send_admin(&Request::get("/admin/config")).expect(401);
    let bearer = format!("Bearer {}", TOKEN.1);
    gateway.send_admin(&Request::get("/admin/config").header("authorization", &bearer)).expect(200);
}

#[test]
fn the_mounted_configuration_is_without_a_warning_and_wants_its_token() {
    let check = |token: Option<&str>| {
        let mut command = command();
        command.current_dir(repository()).args(["check", "--config", CONFIG]);
        command.envs(token.map(|token| (TOKEN.0, token)));
        command.output().expect("the binary can be run")
    };
    let output = check(Some(TOKEN.1));
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for token in [None, Some("")] {
        let output = check(token);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

// parity: 162
#[test]
fn prometheus_asks_under_a_name_that_the_gateway_answers_to() {
    if !is_there("python3") {
        return;
    }
    let prometheus = yaml("config/monitoring/prometheus.yml");
    let job = &prometheus["scrape_configs"][0];
    assert_eq!(job["authorization"]["credentials_file"], "/run/secrets/admin_token");
    let config = yaml(CONFIG);
    let known = texts(&config["server"]["admin_hosts"]);
    let targets = texts(&job["static_configs"][0]["targets"]);
    assert_eq!(targets.len(), 1);
    assert!(known.contains(&targets[0]), "{targets:?} is in {known:?}");
    assert_eq!(config["server"]["admin"], "0.0.0.0:9090", "and there it listens");
    let compose = yaml("compose.yaml");
    let mounted = texts(&compose["services"]["prometheus"]["volumes"]);
    for file in texts(&prometheus["rule_files"]) {
        assert!(mounted.iter().any(|volume| volume.split(':').nth(1) == Some(file)), "{file} is mounted");
    }
}

// parity: 162
#[test]
fn prometheus_accepts_its_configuration() {
    if !is_there("promtool") {
        return;
    }
    // The files it names are in the container.
    let mut promtool = Command::new("promtool");
    promtool.current_dir(repository()).args(["check", "config", "--syntax-only"]);
    finish(promtool.arg("config/monitoring/prometheus.yml"));
}

// parity: 162
#[test]
fn grafana_finds_prometheus_and_the_dashboard() {
    if !is_there("python3") {
        return;
    }
    let folder = "config/monitoring/grafana/provisioning";
    let sources = yaml(&format!("{folder}/datasources/prometheus.yml"));
    let source = &sources["datasources"][0];
    assert_eq!((&source["type"], &source["isDefault"]), (&json!("prometheus"), &json!(true)));
    let compose = yaml("compose.yaml");
    let host = source["url"].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL");
    let service = host.split(':').next().unwrap_or_default();
    assert!(compose["services"].get(service).is_some(), "{host}");
    let providers = yaml(&format!("{folder}/dashboards/witgate.yml"));
    let path = providers["providers"][0]["options"]["path"].as_str().expect("a text");
    let mounted = texts(&compose["services"]["grafana"]["volumes"]);
    assert!(mounted.iter().any(|volume| volume.contains(&format!("dashboard.json:{path}/"))), "{mounted:?}");
    assert!(
        mounted.iter().any(|volume| volume.starts_with(&format!("./{folder}:/etc/grafana/provisioning")))
    );
    assert!(Duration::from_secs(seconds(&source["jsonData"]["timeInterval"])) >= Duration::from_secs(1));
}
